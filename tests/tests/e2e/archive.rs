//! An agent that is taken to another server with its data.

use std::fs;
use std::os::unix::fs::MetadataExt;

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Server, agent_binary};
use tempfile::TempDir;

use crate::cli::skep;

/// An agent that adds a line to its home and to its volume with each start.
fn spec() -> Value {
    let agent = agent_binary();
    let script = "umask 077; echo line >> \"$HOME/kept\"; echo line >> \"$SKEP_VOLUME_NOTES/kept\"; \
                  ln -sf kept \"$HOME/link\"; exec \"$AGENT\"";
    json!({
        "name": "a", "command": ["sh", "-c", script], "env": { "AGENT": agent },
        "volumes": [{ "source": agent, "read_only": true }, { "source": "notes" }],
        "labels": { "team": "blue" },
    })
}

fn lines(path: &std::path::Path) -> usize {
    fs::read_to_string(path).expect("a file").lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_to_another_server_with_its_data() {
    let (from, to) = (Server::start().await, Server::start().await);
    from.deploy_spec(spec()).await;
    let work = TempDir::new().expect("a folder");
    let file = work.path().join("a.agent.tar");
    let file = file.to_str().expect("text");

    // Its files may change while it runs.
    let refused = skep(&from, &["export", "a", "--with-data", "--file", file]);
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(refused.err.contains("skep stop"), "{}", refused.err);
    let live = work.path().join("live.tar");
    let live = live.to_str().expect("text");
    let taken = skep(
        &from,
        &["export", "a", "--with-data", "--file", live, "--live"],
    );
    assert_eq!(taken.code, Some(0), "{}", taken.err);

    assert_eq!(skep(&from, &["stop", "a"]).code, Some(0));
    let taken = skep(&from, &["export", "a", "--with-data", "--file", file]);
    assert_eq!(taken.code, Some(0), "{}", taken.err);
    let again = skep(&from, &["export", "a", "--with-data", "--file", file]);
    assert!(again.err.contains("is there already"), "{}", again.err);
    // Any tool reads it.
    let listed = std::process::Command::new("tar")
        .args(["-tf", file])
        .output();
    let listed = String::from_utf8(listed.expect("tar runs").stdout).expect("text");
    let names: Vec<&str> = listed.lines().collect();
    for name in [
        "agent.json",
        "home/kept",
        "home/link",
        "volumes/notes/kept",
        "end.json",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }

    let made = skep(&to, &["import", file]);
    assert_eq!(made.code, Some(0), "{} {}", made.out, made.err);
    let agent = to.agent("a").await;
    assert_eq!(
        (&agent["state"], &agent["spec"]["labels"]["team"]),
        (&json!("ready"), &json!("blue"))
    );
    // What came with it was there when it started, and it is its own.
    let kept = to.data().join("agents/default/a/home/kept");
    assert_eq!(lines(&kept), 2);
    assert_eq!(lines(&to.data().join("volumes/default/notes/kept")), 2);
    assert_eq!(fs::metadata(&kept).expect("a file").mode() & 0o777, 0o600);
    let link = fs::read_link(kept.with_file_name("link")).expect("a link");
    assert_eq!(link.to_str(), Some("kept"));
    assert_eq!(to.post("a", "/work", "x").await.status, 200);

    // Nothing is taken over.
    let refused = skep(&to, &["import", file]);
    assert!(refused.err.contains("is there already"), "{}", refused.err);
    let refused = skep(&to, &["import", file, "--name", "b"]);
    assert!(refused.err.contains("volumes/notes"), "{}", refused.err);
    assert_eq!(to.client.get("/api/v1/agents/b").await.status, 404);
    assert!(!to.data().join("agents/default/b").exists());
    assert_eq!(lines(&to.data().join("volumes/default/notes/kept")), 2);

    assert_eq!(skep(&to, &["remove", "a", "--yes"]).code, Some(0));
    fs::remove_dir_all(to.data().join("volumes/default/notes")).expect("a folder");
    let made = skep(&to, &["import", file, "--name", "b", "--stopped"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert_eq!(to.agent("b").await["state"], "stopped");
    assert_eq!(lines(&to.data().join("agents/default/b/home/kept")), 1);
    assert_eq!(skep(&to, &["start", "b"]).code, Some(0));
    assert_eq!(to.post("b", "/work", "x").await.status, 200);
    let left = fs::read_dir(to.data().join("imports"))
        .expect("a folder")
        .count();
    assert_eq!(left, 0, "nothing is left of what was laid out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_in_is_told() {
    let server = Server::start().await;
    let work = TempDir::new().expect("a folder");
    let file = work.path().join("stack.yaml");
    fs::write(&file, "apiVersion: skep/v1\n").expect("a file");
    let refused = skep(&server, &["import", file.to_str().expect("text")]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.contains("not the archive of an agent"),
        "{}",
        refused.err
    );

    server.deploy_spec(spec()).await;
    let archive = server
        .client
        .get("/api/v1/agents/a/archive?live=true")
        .await;
    let whole = archive.body.clone();
    let at = "/api/v1/agents/b/archive";
    for cut in [0, 100, 2_000, whole.len() / 2] {
        let answer = server.client.request(Method::PUT, at, whole.slice(..cut));
        let answer = server.client.send(answer).await.expect("an answer");
        assert_eq!(answer.status, 400, "{cut}: {}", answer.text());
    }
    // A volume that its specification does not name.
    let text = String::from_utf8_lossy(&whole).replacen("\"notes\"", "\"other\"", 1);
    let answer = server.client.request(Method::PUT, at, text);
    let answer = server.client.send(answer).await.expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("volumes/notes"), "{}", answer.text());
    assert_eq!(server.client.get("/api/v1/agents/b").await.status, 404);
    let left = fs::read_dir(server.data().join("imports"))
        .expect("a folder")
        .count();
    assert_eq!(left, 0);
}
