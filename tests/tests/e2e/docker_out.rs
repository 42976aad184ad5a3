//! The way out of containers: models, the API and the web through Skep, as for agents that are local processes, and nothing
//! else of this machine. They need Docker Engine (`cargo xtask set-up` starts it) and fail without one.

use std::net::TcpListener;

use serde_json::json;
use skep_tests::{Server, Setup, Upstream};

use crate::cli::command;
use crate::docker::{Image, Traces, docker};
use crate::models::put;
use crate::web::{House, KEY, bearer};

/// A line of the shell in the agent's container.
fn run(server: &Server, line: &str) -> (Option<i32>, String, String) {
    let key = std::fs::read_to_string(server.data().join("admin.key")).expect("a key");
    let mut command = command(server, &["exec", "a", "--", "/bin/sh", "-c", line]);
    let said = command.env("SKEP_API_KEY", key.trim()).output();
    let said = said.expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (said.status.code(), text(&said.stdout), text(&said.stderr))
}

/// Lines of the shell by which an agent asks a model, and this server who it is.
const MODEL: &str = "curl -sS --max-time 30 -H \"Authorization: Bearer $OPENAI_API_KEY\" \
    -H 'Content-Type: application/json' -d '{\"model\":\"plain\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}' \
    \"$OPENAI_BASE_URL/chat/completions\"";
const ME: &str =
    "curl -sS --max-time 30 -H \"Authorization: Bearer $SKEP_TOKEN\" \"$SKEP_URL/api/v1/me\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_asks_models_and_the_web_and_holds_no_key() {
    let image = Image::with_programs("out", &["/bin/sh", "/usr/bin/curl"]);
    // A port of its own: that of a server which listens at any does not come again.
    let mut house = House::start_with(&[("SKEP_DOCKER_PORT", "7540")]).await;
    let _traces = Traces(house.server.data());
    let upstream = Upstream::start().await;
    let secret = json!({ "name": "keys/upstream", "value": upstream.key });
    let made = house.server.client.post_json("/api/v1/secrets", &secret);
    assert_eq!(made.await.status, 201);
    let url = format!("{}/v1", upstream.url);
    let provider = json!({ "kind": "openai", "url": url, "secrets": ["keys/upstream"] });
    let (status, text) = put(&house.server.client, "providers/openai", &provider).await;
    assert_eq!(status, 200, "{text}");
    let rule = json!({ "host": house.host.name, "credential": bearer() });
    house.allow("api", rule).await;
    house.server.deploy_spec(image.spec("a")).await;

    let (code, out, error) = run(&house.server, MODEL);
    assert!(
        code == Some(0) && out.contains("\"choices\""),
        "{out} {error}"
    );
    nobody_else_comes_in(&house.server, &image);
    let web = format!("curl -sS --max-time 30 {}/echo", house.host.url);
    let (code, out, error) = run(&house.server, &web);
    assert!(
        code == Some(0) && out.contains("Bearer ***"),
        "{out} {error}"
    );
    let last = house.host.last();
    assert_eq!(last["headers"]["authorization"], format!("Bearer {KEY}"));
    let (_, out, _) = run(
        &house.server,
        "set; while read -r line; do echo \"$line\"; done < \"$SSL_CERT_FILE\"",
    );
    assert!(out.contains("BEGIN CERTIFICATE") && out.contains("SKEP_URL="));
    assert!(!out.contains(KEY) && !out.contains(&upstream.key), "{out}");
    let (_, out, error) = run(&house.server, ME);
    assert!(out.contains("\"Agent\""), "{out} {error}");

    // Another server takes the container over, which finds it at the same address.
    let before = house.server.agent("a").await["instance"]["id"].clone();
    house.server.kill();
    house.server.restart_as_it_was().await;
    house.server.wait_state("a", "ready").await;
    let after = house.server.agent("a").await["instance"]["id"].clone();
    assert_eq!(before, after, "it runs still");
    let (code, out, error) = run(&house.server, ME);
    assert!(
        code == Some(0) && out.contains("\"Agent\""),
        "{out} {error}"
    );
    assert!(house.server.terminate(), "{}", house.server.log());
}

/// Neither this machine itself nor a container of somebody else comes in by the door for agents.
fn nobody_else_comes_in(server: &Server, image: &Image) {
    let (_, url, _) = run(server, "echo \"$SKEP_URL\"");
    let address = url.trim().trim_start_matches("http://").to_owned();
    assert!(address.ends_with(":7540"), "{url}");
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "--max-time", "10"]);
    let said = command.arg(format!("http://{address}/ping")).output();
    let said = said.expect("curl runs");
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && said.stdout.is_empty(), "{error}");
    assert!(!error.contains("timed out"), "{error}");
    let line = format!("curl -sS --max-time 10 http://{address}/ping; echo $?");
    let words = [
        "run",
        "--rm",
        "--entrypoint",
        "/bin/sh",
        &image.0,
        "-c",
        &line,
    ];
    let told = docker(&words);
    assert_eq!(told.split_whitespace().last(), Some("7"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_reaches_nothing_else_of_this_machine() {
    let image = Image::with_programs("walls", &["/bin/sh", "/usr/bin/curl"]);
    // Whether Skep listens everywhere or on loopback alone.
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let setup = Setup {
            listen: Some(listen.to_owned()),
            env: vec![("SKEP_LISTEN_PLAINTEXT".to_owned(), "true".to_owned())],
            ..Setup::default()
        };
        let mut server = Server::start_with(setup).await;
        let _traces = Traces(server.data());
        server.deploy_spec(image.spec("a")).await;
        let (code, out, error) = run(&server, ME);
        assert!(
            code == Some(0) && out.contains("\"Agent\""),
            "{listen}: {out} {error}"
        );
        let other = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = other.local_addr().expect("it is so").port();
        let line = format!(
            "host=${{SKEP_URL#http://}}; host=${{host%%:*}}; \
             curl -sS --max-time 2 http://$host:{port}/; echo $?; \
             curl -sS --max-time 2 http://169.254.169.254/; echo $?"
        );
        let (_, out, error) = run(&server, &line);
        let codes: Vec<&str> = out.split_whitespace().collect();
        assert!(
            matches!(codes[..], ["28", "7" | "28"]),
            "{listen}: {out} {error}"
        );
        other.set_nonblocking(true).expect("it is so");
        assert!(other.accept().is_err(), "nobody came");
        let id = std::fs::read_to_string(server.data().join("docker.id")).expect("it is so");
        let network = docker(&["network", "inspect", &format!("skep-{id}")]);
        assert!(network.contains("\"Internal\": true"), "{network}");
        assert!(server.terminate(), "{}", server.log());
    }
}
