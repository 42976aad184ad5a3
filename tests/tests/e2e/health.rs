//! Readiness and liveness apart.

use serde_json::json;
use skep_tests::{Server, eventually};

/// Is ready and lives as its last orders say: `POST /ready` and `POST /live` with a status.
const AGENT: &str = r#"
import http.server, os
said = {"/ready": 200, "/live": 200}
class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(said.get(self.path, 404))
        self.send_header("content-length", "0")
        self.end_headers()
    def do_POST(self):
        size = int(self.headers.get("content-length", 0))
        said[self.path] = int(self.rfile.read(size))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"#;

#[tokio::test]
async fn what_is_not_ready_and_lives_is_left_alone() {
    let server = Server::start().await;
    server
        .deploy_spec(json!({
            "name": "a", "command": ["python3", "-c", AGENT],
            "health": { "path": "/ready", "live": "/live", "interval": "100ms", "failures": 2 },
        }))
        .await;
    let first = server.agent("a").await["instances"][0]["id"].clone();
    let answer = server.post("a", "/ready", "503").await;
    assert_eq!(answer.status, 200);
    let misses = async || {
        let agent = server.agent("a").await;
        assert_eq!(agent["instances"][0]["id"], first, "{agent}");
        let probe = &agent["instances"][0]["probe"];
        (agent["state"] == "unready").then(|| probe["misses"].as_u64().unwrap_or(0))
    };
    // Far more misses than would restart it.
    eventually("misses", async || (misses().await? > 12).then_some(())).await;
    // It says itself that it does not live: nobody can tell it so over the door now.
    let agent = server.agent("a").await;
    let port = agent["instances"][0]["port"].as_u64().expect("a port");
    let dead = std::process::Command::new("python3")
        .args([
            "-c",
            "import sys, urllib.request as r; r.urlopen(sys.argv[1], b'503')",
        ])
        .arg(format!("http://127.0.0.1:{port}/live"))
        .status();
    assert!(dead.expect("python runs").success());
    eventually("another instance", async || {
        let agent = server.agent("a").await;
        (agent["state"] == "ready" && agent["instances"][0]["id"] != first).then_some(())
    })
    .await;
}
