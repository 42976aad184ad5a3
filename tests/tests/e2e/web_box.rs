//! What an agent can find of a secret that Skep puts into its requests: nothing, in its environment, its memory, its
//! files, or what it says and hears.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;
use skep_tests::{Host, packages};

use crate::web::{House, KEY, bearer};

/// The key in the ways in which somebody may write it.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = KEY.bytes().map(|it| format!("{it:02x}")).collect();
    let wide: Vec<u8> = KEY.bytes().flat_map(|it| [it, 0]).collect();
    let base64 = [STANDARD.encode(KEY), URL_SAFE.encode(KEY)];
    // Its middle as well: no half of it is anywhere.
    let mut all = vec![
        KEY.as_bytes().to_vec(),
        KEY.as_bytes()[3..20].to_vec(),
        hex.into_bytes(),
        wide,
    ];
    all.extend(base64.map(|it| it.as_bytes()[..24].to_vec()));
    all
}

fn finds(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|it| it == form)
}

fn assert_clean(what: &str, bytes: &[u8]) {
    for form in forms() {
        assert!(!finds(bytes, &form), "the key is in {what}");
    }
}

/// All that a process can read of its own memory.
fn memory(pid: u64) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let mut file = fs::File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if !rights.starts_with("rw") {
            continue;
        }
        let ends = range.split_once('-').expect("a range");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        let (from, to) = (number(ends.0), number(ends.1));
        let mut part = vec![0; usize::try_from(to - from).expect("a size")];
        if file.seek(SeekFrom::Start(from)).is_ok() && file.read_exact(&mut part).is_ok() {
            all.extend(part);
        }
    }
    all
}

/// The files below a folder.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => {
                found.push((
                    path.display().to_string(),
                    fs::read(&path).unwrap_or_default(),
                ));
            }
            _ => {}
        }
    }
}

/// A process and those that it began.
fn family(pid: u64) -> Vec<u64> {
    let mut all = vec![pid];
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|it| it.parse().ok()) {
        all.extend(family(child));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_nowhere_where_its_agent_is() {
    let house = House::start().await;
    house
        .allow(
            "api",
            json!({ "host": house.host.name, "credential": bearer() }),
        )
        .await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks/web/python/agent.py");
    let python = packages("web/python").join(".venv/bin/python");
    let spec = json!({
        "name": "asker", "command": [python, "-c", fs::read_to_string(script).expect("a script")],
        "env": { "API_KEY": "${secret:keys/web}", "TARGET": house.host.url },
        "volumes": [{ "source": packages("web"), "read_only": true }],
    });
    house.server.deploy_spec(spec).await;
    for path in ["/echo", "/split", "/echo?again"] {
        let said = house
            .server
            .client
            .get(&format!("/agents/asker/ask{path}"))
            .await;
        assert_eq!(said.status, 200, "{}", said.text());
        assert!(said.text().contains("***"), "{}", said.text());
        assert_clean("what it answers", &said.body);
    }
    // Its calls had the key each time.
    let heard = house.host.heard();
    assert_eq!(heard.len(), 3);
    assert!(
        heard
            .iter()
            .all(|it| it["headers"]["authorization"] == format!("Bearer {KEY}"))
    );
    let agent = house.server.agent("asker").await;
    let pid = agent["instances"][0]["pid"].as_u64().expect("a pid");
    let placeholder = {
        let environ = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
        let text = String::from_utf8_lossy(&environ).into_owned();
        let all = text
            .split('\0')
            .find_map(|it| it.strip_prefix("API_KEY=").map(str::to_owned));
        all.expect("its placeholder")
    };
    assert!(placeholder.starts_with("lse_"));
    let mut seen = false;
    for pid in family(pid) {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert_clean("its environment", &environ);
        let memory = memory(pid);
        assert_clean("its memory", &memory);
        // This looks where it should: the placeholder and the answers are there.
        seen |= finds(&memory, placeholder.as_bytes())
            && finds(&memory, "*".repeat(KEY.len()).as_bytes());
    }
    assert!(seen, "its memory was not looked at");
    let mut all = Vec::new();
    let homes = house.server.home("asker");
    files(homes.parent().expect("a folder"), &mut all);
    assert!(
        all.iter().any(|(path, _)| path.ends_with("seen.txt")),
        "{all:?}"
    );
    for (path, bytes) in &all {
        assert_clean(path, bytes);
    }
    // Nor is it anywhere in the server's own folder in the open.
    let mut all = Vec::new();
    files(&house.server.data(), &mut all);
    for (path, bytes) in &all {
        assert_clean(path, bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_in_nothing_that_passes_between_agent_and_skep() {
    let house = House::start().await;
    let plain = Host::start("127.0.0.4", None, "").await;
    house
        .allow(
            "plain",
            json!({ "host": plain.url, "credential": bearer() }),
        )
        .await;
    house.agent(json!({})).await;
    let token = house.variable("SKEP_TOKEN");
    let shown = STANDARD.encode(format!("agent:{token}"));
    let mut wire = house.wire().await;
    for path in ["/echo", "/split", "/away"] {
        let last = if path == "/away" {
            "connection: close\r\n"
        } else {
            ""
        };
        let text = format!(
            "GET {}{path} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic {shown}\r\n{last}\r\n",
            plain.url
        );
        wire.say(text.as_bytes()).await;
    }
    // Every byte that comes, as it comes.
    let all = wire.rest().await;
    assert_clean("what passes", &all);
    let text = String::from_utf8_lossy(&all);
    assert!(
        text.contains("Bearer ***") && text.contains("[DONE]") && text.contains("302"),
        "{text}"
    );
    assert_eq!(plain.heard().len(), 3);
    assert!(
        plain
            .heard()
            .iter()
            .all(|it| it["headers"]["authorization"] == format!("Bearer {KEY}"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_told_the_way_when_there_is_one() {
    let house = House::start().await;
    house.agent(json!({})).await;
    for name in [
        "HTTP_PROXY",
        "https_proxy",
        "SSL_CERT_FILE",
        "NODE_USE_ENV_PROXY",
    ] {
        assert_eq!(house.variable(name), "", "{name}");
    }
    house
        .allow(
            "api",
            json!({ "host": house.host.name, "credential": bearer() }),
        )
        .await;
    house
        .agent(json!({ "NODE_EXTRA_CA_CERTS": "/own.pem", "NUMBER": "1" }))
        .await;
    let address = house.server.address();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        let value = house.variable(name);
        assert!(
            value.starts_with("http://agent:skep_token_")
                && value.ends_with(&format!("@{address}")),
            "{value}"
        );
    }
    assert_eq!(house.variable("NO_PROXY"), "localhost,127.0.0.1,::1");
    assert_eq!(house.variable("NODE_USE_ENV_PROXY"), "1");
    assert_eq!(house.variable("NODE_EXTRA_CA_CERTS"), "/own.pem");
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "DENO_CERT",
    ] {
        let (code, out, error) = house.run(&["sh", "-c", &format!("cat \"${name}\"")]);
        assert_eq!(code, Some(0), "{error}");
        let count = out.matches("BEGIN CERTIFICATE").count();
        assert!(count > 50, "{name}: {count} certificates");
    }
    // Skep's own doors are reached straight, and also by who goes to the proxy for them.
    let line = "curl -sS -H \"Authorization: Bearer $SKEP_TOKEN\" \"$SKEP_URL/api/v1/me\"; \
        curl -sS --noproxy '' -H \"Authorization: Bearer $SKEP_TOKEN\" \"$SKEP_URL/api/v1/me\"";
    let (_, out, error) = house.run(&["sh", "-c", line]);
    assert_eq!(
        out.matches("\"kind\":\"agent\"").count() + out.matches("\"Agent\"").count(),
        2,
        "{out} {error}"
    );
    // Who says it itself is left alone.
    house
        .agent(json!({ "https_proxy": "http://mine:1", "NUMBER": "2" }))
        .await;
    assert_eq!(house.variable("https_proxy"), "http://mine:1");
    for name in ["HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"] {
        assert_eq!(house.variable(name), "", "{name}");
    }
}
