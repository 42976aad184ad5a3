//! Manifests from the command line: deployed, compared, checked, written again.

use std::fs;
use std::path::Path;

use serde_json::Value;
use skep_tests::Server;

use crate::cli::skep;

fn json(out: &str) -> Value {
    serde_json::from_str(out).expect("pure JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_of_the_examples_is_deployed_once() {
    let server = Server::start().await;
    let file = "examples/stack.yaml";
    let valid = skep(&server, &["validate", "-f", file]);
    assert_eq!(
        (valid.code, valid.out.as_str()),
        (
            Some(0),
            "examples/stack.yaml is valid: morning, evening, front."
        )
    );
    let dry = skep(&server, &["deploy", "-f", file, "--dry-run"]);
    assert!(dry.out.contains("+ morning is new"), "{}", dry.out);
    assert_eq!(skep(&server, &["diff", "-f", file]).code, Some(1));
    assert_eq!(skep(&server, &["list", "-o", "name"]).out, "");

    let deploy = skep(&server, &["deploy", "-f", file]);
    assert_eq!(
        (deploy.code, deploy.out.as_str()),
        (Some(0), "3 agents are deployed."),
        "{}",
        deploy.err
    );
    assert_eq!(
        deploy.err,
        "morning is deployed and ready.\nevening is deployed and ready.\n\
         front is deployed and ready."
    );
    let answer = server.post("front", "/greet", r#"{"name":"you"}"#).await;
    assert_eq!(answer.status, 200);

    let same = skep(&server, &["diff", "-f", file]);
    assert_eq!(
        (same.code, same.out.lines().count()),
        (Some(0), 3),
        "{}",
        same.out
    );
    let again = skep(&server, &["-o", "json", "deploy", "-f", file]);
    let agents = json(&again.out);
    let revisions: Vec<_> = (0..3).map(|at| agents[at]["revision"].clone()).collect();
    assert_eq!(revisions, [1, 1, 1], "applying twice changes nothing");

    // What is exported and deployed elsewhere is the same.
    let exported = skep_raw(&server, &["export"]);
    let copy = server.data().join("exported.yaml");
    fs::write(&copy, &exported).expect("a file");
    let diff = skep(&server, &["diff", "-f", &copy.to_string_lossy()]);
    assert_eq!(diff.code, Some(0), "{}", diff.out);
}

fn skep_raw(server: &Server, args: &[&str]) -> Vec<u8> {
    let output = crate::cli::command(server, args).output();
    output.expect("the binary runs").stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_change_is_shown_and_what_is_missing_is_told() {
    let server = Server::start().await;
    // The data folder is no place for an agent.
    let folder = tempfile::tempdir().expect("a folder");
    let deploy = |text: &str, words: &[&str]| {
        let file = folder.path().join("agent.yaml");
        fs::write(&file, text).expect("a file");
        let file = file.to_string_lossy().into_owned();
        skep(&server, &[words, &["-f", &file]].concat())
    };
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agents/hello/agent.py");
    let base = format!("name: a\ncommand: [python3, {}]\n", agent.display());
    assert_eq!(deploy(&base, &["deploy"]).code, Some(0));
    let changed = format!("{base}env:\n  A: b\nreplicas: 2\n");
    let diff = deploy(&changed, &["diff"]);
    assert_eq!(
        (diff.code, diff.out.as_str()),
        (Some(1), "~ a changes\n+ env.A: \"b\"\n+ replicas: 2")
    );
    let bad = deploy(&format!("{base}replica: 2\n"), &["validate"]);
    assert_eq!(bad.code, Some(2));
    assert!(
        bad.err.contains("line 3 column 1: unknown field `replica`")
            && bad.err.contains("hint: Did you mean `replicas`?"),
        "{}",
        bad.err
    );
    let lonely = deploy(&format!("{base}depends_on: [b]\n"), &["deploy"]);
    assert_eq!(lonely.code, Some(1));
    assert!(
        lonely.err.contains("a depends on b, which is not there"),
        "{}",
        lonely.err
    );
    let many = format!("{base}---\nname: b\ncommand: [x]\n");
    assert_eq!(deploy(&many, &["deploy", "--attempts", "2"]).code, Some(2));
}
