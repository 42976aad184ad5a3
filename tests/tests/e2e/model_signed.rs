//! Models of Amazon Bedrock, asked by requests that are signed with a key of AWS. AWS' own library looks at the signatures.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use skep_tests::{Server, Setup};

use crate::models::{CHAT, chat, put};

const ACCESS: &str = "AKIDEXAMPLE";
const SECRET: &str = "marked/secret+key";
const SESSION: &str = "marked-session";
const REGION: &str = "eu-central-1";

struct Bedrock {
    child: Child,
    url: String,
}

impl Bedrock {
    fn start() -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/sdks/aws/bedrock.py");
        let mut child = Command::new("python3")
            .args([program, ACCESS, SECRET, SESSION, REGION])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install it first: cargo xtask set-up test");
        let mut line = String::new();
        let told = child.stdout.take().expect("its output");
        BufReader::new(told).read_line(&mut line).expect("its port");
        let url = format!("http://127.0.0.1:{}/openai/v1", line.trim());
        Self { child, url }
    }
}

impl Drop for Bedrock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_signed_as_aws_wants_them() {
    let bedrock = Bedrock::start();
    let setup = Setup {
        env: vec![("SKEP_OUTGOING_ALLOW".to_owned(), "127.0.0.0/8".to_owned())],
        ..Setup::default()
    };
    let server = Server::start_with(setup).await;
    let key = |secret: &str| {
        let key = json!({
            "Version": 1, "AccessKeyId": ACCESS, "SecretAccessKey": secret, "SessionToken": SESSION, "Region": REGION,
        });
        key.to_string()
    };
    for (name, value) in [
        ("aws/good", key(SECRET)),
        ("aws/bad", key("marked-other")),
        ("aws/none", "{\"marked".to_owned()),
    ] {
        let secret = json!({ "name": name, "value": value });
        let made = server.client.post_json("/api/v1/secrets", &secret).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let provider = async |secret: &str| {
        let provider = json!({ "kind": "bedrock", "url": bedrock.url, "secrets": [secret] });
        let put = put(&server.client, "providers/bedrock", &provider).await;
        assert_eq!(put.0, 200, "{}", put.1);
    };
    let model = "bedrock/openai.gpt-oss-120b-1:0";
    let ask = async || {
        server
            .client
            .post(CHAT, chat(model, false).to_string())
            .await
    };
    provider("aws/good").await;
    let said = ask().await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert!(said.text().contains("signed"), "{}", said.text());
    // A path and a query that AWS wants encoded once more.
    let one = server
        .client
        .get("/llm/openai/v1/models/openai.gpt-oss-120b-1:0?b=%20x&a")
        .await;
    assert_eq!(one.status, 200, "{}", one.text());
    let checked = server
        .client
        .post("/api/v1/models/providers/bedrock/check", "")
        .await;
    assert!(
        checked.text().contains("openai.gpt-oss"),
        "{}",
        checked.text()
    );
    // Another's key does not do, and one that is none goes nowhere.
    provider("aws/bad").await;
    assert_eq!(ask().await.status, 403);
    provider("aws/none").await;
    let said = ask().await;
    assert_eq!(said.status, 503, "{}", said.text());
    let log = server.log();
    assert!(log.contains("aws configure export-credentials"), "{log}");
    for told in [said.text(), server.log()] {
        assert!(!told.contains("marked"), "{told}");
    }
}
