//! Skep as a client: the client half of the protocol's conformance suite runs its servers behind Skep.

use skep_tests::mcp::client_conformance;

use crate::mcp::start;

/// What a client of the protocol can that Skep is not: it shows keys of the vault, and asks no authorization server.
const OAUTH: &str = "auth/";

/// All scenarios of both revisions pass by a way, but those of OAuth and these.
async fn passes(way: &str, others: &[(&str, &str)]) {
    let server = start().await;
    for revision in ["2025-11-25", "2026-07-28"] {
        let scores = client_conformance(&server.client, way, revision).await;
        let passed = |score: &str| {
            let is_clean = score.contains(" 0 failed") && !score.contains("warning");
            is_clean && !score.starts_with("0 passed")
        };
        let all = scores.iter();
        let (oauth, rest): (Vec<_>, Vec<_>) = all.partition(|(name, _)| name.starts_with(OAUTH));
        assert!(oauth.len() > 10, "{scores:?}");
        let own = oauth.iter().filter(|(_, score)| passed(score));
        assert_eq!(own.count(), 0, "{way} {revision}: {oauth:?}");
        let failed = rest.iter().filter(|(_, score)| !passed(score));
        let failed: Vec<&str> = failed.map(|(name, _)| name.as_str()).collect();
        let expected = others.iter().filter(|(of, _)| *of == revision);
        let expected: Vec<&str> = expected.map(|(_, name)| *name).collect();
        assert_eq!(failed, expected, "{way} {revision}: {rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_the_suite_are_used_at_their_own_doors() {
    passes("one", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_the_suite_are_used_at_the_door_to_all() {
    // What a tool asks of its user within a session does not pass there.
    let asks = ("2025-11-25", "elicitation-sep1034-client-defaults");
    passes("all", &[asks]).await;
}
