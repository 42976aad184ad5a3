//! Requests that two readers could understand in two ways: what the door takes, the agent hears as
//! the door understood it, and what follows on the connection is never a part of it.
//!
//! Every row is followed by a second, well-formed request in the same breath.

use serde_json::json;
use skep_tests::{Server, Wire};

/// What becomes of a row.
#[derive(Debug)]
enum Want {
    /// The agent hears this request line and body; the second request is answered too.
    Heard(&'static str, &'static str),
    /// The agent hears it, and the connection ends behind its answer.
    HeardLast(&'static str, &'static str),
    /// It is refused with this status and problem; the second request is answered.
    Refused(u16, &'static str),
    /// It is refused, and the connection ends. The parser's own refusals name no problem.
    Ended(u16, &'static str),
}

use Want::{Ended, Heard, HeardLast, Refused};

const OWN: &str = "host: x\r\nskep-api-key: KEY\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST /agents/a/first HTTP/1.1\r\n{OWN}{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    at("/agents/a/first", fields)
}

fn at(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{OWN}{fields}\r\n")
}

/// In chunks, announced so.
fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

async fn server() -> Server {
    let server = Server::start().await;
    server.deploy_raw("a", json!({ "attempts": 1 })).await;
    server
}

/// What the agent heard since then, as request line and body.
fn since(server: &Server, before: usize) -> Vec<(String, String)> {
    let pair = |heard: &serde_json::Value| {
        let head = heard["head"].as_str().unwrap_or_default();
        let line = head.lines().next().unwrap_or_default().to_owned();
        (line, heard["body"].as_str().unwrap_or_default().to_owned())
    };
    server.heard("a")[before..].iter().map(pair).collect()
}

async fn check(server: &Server, what: &str, row: &str, want: Want) {
    let before = server.heard("a").len();
    let second = format!("GET /agents/a/second HTTP/1.1\r\n{OWN}connection: close\r\n\r\n");
    let text = format!("{row}{second}").replace("KEY", &server.client.key);
    let mut wire = Wire::open(server).await;
    wire.say(text.as_bytes()).await;
    let first = wire
        .answer()
        .await
        .unwrap_or_else(|| panic!("{what}: no answer"));
    let (status, code, lines, goes_on) = match want {
        Heard(line, body) => (200, "", Some((line, body)), true),
        HeardLast(line, body) => (200, "", Some((line, body)), false),
        Refused(status, code) => (status, code, None, true),
        Ended(status, code) => (status, code, None, false),
    };
    let problem: serde_json::Value = serde_json::from_str(&first.body).unwrap_or_default();
    let said = (first.status, problem["code"].as_str().unwrap_or_default());
    assert_eq!(said, (status, code), "{what}: {}", first.head);
    let mut heard: Vec<_> = lines.into_iter().collect();
    if goes_on {
        let second = wire
            .answer()
            .await
            .unwrap_or_else(|| panic!("{what}: no second answer"));
        assert_eq!(
            (second.status, second.body.as_str()),
            (200, "/second"),
            "{what}"
        );
        heard.push(("GET /second HTTP/1.1", ""));
    }
    assert_eq!(wire.rest().await, b"", "{what}: there was more");
    let heard = heard
        .into_iter()
        .map(|(line, body)| (line.to_owned(), body.to_owned()));
    assert_eq!(since(server, before), heard.collect::<Vec<_>>(), "{what}");
    let after = server.client.get("/agents/a/after").await;
    assert_eq!(
        (after.status, after.text().as_str()),
        (200, "/after"),
        "{what}"
    );
}

const FIRST: &str = "POST /first HTTP/1.1";
const PASSED: &str = "GET /first HTTP/1.1";
/// A recorded request reaches the agent whole.
const HELLO: Want = Heard(FIRST, "hello");
/// The parser refuses it.
const PARSER: Want = Ended(400, "");
/// We do.
const BAD: Want = Ended(400, "bad-request");

#[tokio::test]
async fn a_body_has_one_length() {
    let server = server().await;
    let length = |fields: &str| post(fields, "hello");
    for (what, row, want) in [
        ("a length", length("content-length: 5\r\n"), HELLO),
        (
            "twice the same",
            length("content-length: 5\r\ncontent-length: 5\r\n"),
            HELLO,
        ),
        (
            "two lengths",
            length("content-length: 5\r\ncontent-length: 6\r\n"),
            PARSER,
        ),
        ("a list", length("content-length: 5, 6\r\n"), PARSER),
        ("a sign", length("content-length: +5\r\n"), PARSER),
        ("negative", length("content-length: -5\r\n"), PARSER),
        ("hexadecimal", length("content-length: 0x5\r\n"), PARSER),
        (
            "overflow",
            length("content-length: 18446744073709551621\r\n"),
            PARSER,
        ),
        ("empty", length("content-length: \r\n"), PARSER),
        (
            "named as hop by hop",
            length("connection: content-length\r\ncontent-length: 5\r\n"),
            HELLO,
        ),
        (
            "another name",
            length("transfer_encoding: chunked\r\ncontent-length: 5\r\n"),
            HELLO,
        ),
        (
            "of a GET",
            get("content-length: 5\r\n") + "hello",
            Heard(PASSED, "hello"),
        ),
    ] {
        check(&server, what, &row, want).await;
    }
    // Chunks count, and nothing behind them is read (RFC 9112 section 6.1).
    let smuggled = "GET /agents/a/smuggled HTTP/1.1\r\n\r\n";
    for (what, fields, body, heard) in [
        (
            "length, then chunks",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
            "",
        ),
        (
            "chunks, then length",
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
    ] {
        let row = post(fields, &format!("{body}{smuggled}"));
        check(&server, what, &row, HeardLast(FIRST, heard)).await;
    }
}

#[tokio::test]
async fn the_only_transfer_coding_is_chunked() {
    let server = server().await;
    let good = "5\r\nhello\r\n0\r\n\r\n";
    let coded = |field: &str| post(&format!("transfer-encoding{field}\r\n"), good);
    for (what, field, want) in [
        ("chunked", ": chunked", HELLO),
        ("in capitals", ": Chunked ", HELLO),
        ("a tab before", ":\tchunked", HELLO),
        (
            "named as hop by hop",
            ": chunked\r\nconnection: transfer-encoding",
            HELLO,
        ),
        ("a vertical tab", ": \x0bchunked", PARSER),
        ("not the last", ": chunked, identity", PARSER),
        (
            "not the last line",
            ": chunked\r\ntransfer-encoding: identity",
            PARSER,
        ),
        ("unknown", ": xchunked", PARSER),
        ("quoted", ": \"chunked\"", PARSER),
        ("a parameter", ": chunked;q=1", PARSER),
        ("a space before the colon", " : chunked", PARSER),
        ("folded", ":\r\n chunked", PARSER),
        ("with another", ": gzip, chunked", BAD),
        ("with identity", ": identity, chunked", BAD),
        ("twice", ": chunked, chunked", BAD),
        ("two lines", ": chunked\r\ntransfer-encoding: chunked", BAD),
    ] {
        check(&server, what, &coded(field), want).await;
    }
    let passed = get("transfer-encoding: chunked\r\n") + good;
    check(&server, "of a GET", &passed, Heard(PASSED, "hello")).await;
    let old = coded(": chunked").replacen("HTTP/1.1", "HTTP/1.0", 1);
    check(&server, "of HTTP/1.0", &old, PARSER).await;
}

#[tokio::test]
async fn chunks_that_are_none_end_the_connection() {
    let server = server().await;
    let long = "x".repeat(20_000);
    for (what, body) in [
        ("overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("negative", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("no hexadecimal", "5g\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("bare line feeds", "5\nhello\n0\n\n"),
        (
            "a bare line feed in an extension",
            "5;a\nhello\r\n0\r\n\r\n",
        ),
        ("more than the size", "5\r\nhello!\r\n0\r\n\r\n"),
        (
            "a trailer without a colon",
            "5\r\nhello\r\n0\r\nnonsense\r\n\r\n",
        ),
        (
            "long extensions",
            &format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        ),
    ] {
        check(&server, what, &chunked(body), BAD).await;
        // Not recorded, and still not the agent's fault. It may have heard the half of it.
        let before = server.heard("a").len();
        let text = format!("{}{body}", get("transfer-encoding: chunked\r\n"));
        let mut wire = Wire::open(&server).await;
        wire.say(text.replace("KEY", &server.client.key).as_bytes())
            .await;
        let passed = wire.answer().await.expect("an answer");
        assert!(
            passed.status == 400 && passed.body.contains("bad-request"),
            "{what}: {passed:?}"
        );
        assert_eq!(wire.rest().await, b"", "{what}");
        assert_eq!(since(&server, before), [], "{what}");
    }
    for (what, body) in [
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("a space behind the size", "5 \r\nhello\r\n0\r\n\r\n"),
        (
            "framing in trailers",
            "5\r\nhello\r\n0\r\ncontent-length: 9\r\nhost: y\r\n\r\n",
        ),
    ] {
        check(&server, what, &chunked(body), HELLO).await;
    }
}

#[tokio::test]
async fn fields_are_what_they_say() {
    let server = server().await;
    for (what, field) in [
        ("folded", "x-a: b\r\n c: d"),
        ("NUL in a value", "x-a: b\0c"),
        ("CR in a value", "x-a: b\rx-c: d"),
        ("NUL in a name", "x-\0: b"),
        ("a space before the colon", "x-a : b"),
        ("no colon", "x-a"),
        ("no name", ": b"),
    ] {
        check(&server, what, &get(&format!("{field}\r\n")), PARSER).await;
    }
    let plain = get("");
    for (what, row, want) in [
        (
            "folded at the start",
            plain.replace("host:", " host:"),
            PARSER,
        ),
        (
            "another version",
            plain.replace("HTTP/1.1", "HTTP/1.2"),
            PARSER,
        ),
        (
            "HTTP/2 by name",
            plain.replace("HTTP/1.1", "HTTP/2.0"),
            PARSER,
        ),
        ("no version", plain.replace(" HTTP/1.1", ""), PARSER),
        ("two spaces", plain.replace(" HTTP", "  HTTP"), PARSER),
        (
            "bare line feeds",
            plain.replace("\r\n", "\n"),
            Heard(PASSED, ""),
        ),
        (
            "empty lines before",
            format!("\r\n\r\n{plain}"),
            Heard(PASSED, ""),
        ),
    ] {
        check(&server, what, &row, want).await;
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let server = server().await;
    let plain = get("");
    for (what, row) in [
        ("two hosts", get("host: y\r\n")),
        ("twice the same host", get("host: x\r\n")),
        ("no host", plain.replace("host: x\r\n", "")),
        (
            "a host that is none",
            plain.replace("host: x", "host: x/y z"),
        ),
        ("a user in the host", plain.replace("host: x", "host: y@x")),
        ("two at once", plain.replace("host: x", "host: x, y")),
    ] {
        check(&server, what, &row, BAD).await;
    }
}

/// The value of a field of the request that the agent heard last.
fn last(server: &Server, name: &str) -> Vec<String> {
    let heard = server.heard("a");
    let head = heard
        .last()
        .and_then(|it| it["head"].as_str())
        .unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let of_name = fields.filter(|(field, _)| *field == name);
    of_name.map(|(_, value)| value.to_owned()).collect()
}

#[tokio::test]
async fn the_agent_hears_the_host_that_is_meant() {
    let server = server().await;
    let own = server.address();
    for (what, row, host) in [
        ("a host", get(""), "x"),
        (
            "an absolute form",
            at(&format!("http://{own}/agents/a/first"), ""),
            &own[..],
        ),
        (
            "a user in it",
            at(&format!("http://u:p@{own}/agents/a/first"), ""),
            &own[..],
        ),
        ("named as hop by hop", get("connection: host\r\n"), "x"),
    ] {
        let mut wire = Wire::open(&server).await;
        wire.say(row.replace("KEY", &server.client.key).as_bytes())
            .await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "/first"),
            "{what}"
        );
        assert_eq!(last(&server, "host"), [host], "{what}");
    }
}

#[tokio::test]
async fn a_target_reaches_the_agent_that_it_names_or_none() {
    let server = server().await;
    let of_agent = || Refused(404, "agent-not-found");
    let of_nothing = || Refused(404, "not-found");
    let of_proxy = || Ended(407, "proxy-unauthorized");
    for (target, want) in [
        ("/agents/a/x/../y", Heard("GET /x/../y HTTP/1.1", "")),
        ("/agents/a/../b/x", Heard("GET /../b/x HTTP/1.1", "")),
        ("/agents/a//x", Heard("GET //x HTTP/1.1", "")),
        (
            "/agents/a/%2e%2e%2fb",
            Heard("GET /%2e%2e%2fb HTTP/1.1", ""),
        ),
        ("/agents/a/%00%0d%0ax: y", PARSER),
        (
            "/agents/a/%00%0d%0ax:y",
            Heard("GET /%00%0d%0ax:y HTTP/1.1", ""),
        ),
        (
            "/agents/a?x=/agents/b",
            Heard("GET /?x=/agents/b HTTP/1.1", ""),
        ),
        // A whole URL of somewhere else is for the proxy, which no key of Skep opens.
        ("http://y/agents/a/x", of_proxy()),
        ("http://y//agents/a/x", of_proxy()),
        ("http://u:p@y/agents/a/x", of_proxy()),
        ("//agents/a/x", of_nothing()),
        ("/x/../agents/a/x", of_nothing()),
        ("/./agents/a/x", of_nothing()),
        ("/agents%2fa/x", of_nothing()),
        ("/AGENTS/a/x", of_nothing()),
        ("/agents", of_nothing()),
        ("y:80", of_nothing()),
        ("*", of_nothing()),
        ("/agents/", of_agent()),
        ("/agents//a/x", of_agent()),
        ("/agents/../agents/a/x", of_agent()),
        ("/agents/../api/v1/agents", of_agent()),
        ("/agents/a%2fx", of_agent()),
        ("/agents/%61/x", of_agent()),
        ("/agents/a%00/x", of_agent()),
        ("/agents/a\\x", of_agent()),
        ("/agents/A/x", of_agent()),
    ] {
        check(&server, target, &at(target, ""), want).await;
    }
}

#[tokio::test]
async fn a_head_has_bounds_and_no_method_opens_a_tunnel() {
    let server = server().await;
    let long = "x".repeat(70_000);
    let many = "x-a: b\r\n".repeat(200);
    let by = |method: &str, target: &str| at(target, "").replacen("GET", method, 1);
    for (what, row, want) in [
        (
            "a long target",
            at(&format!("/agents/a/{long}"), ""),
            Ended(431, ""),
        ),
        (
            "a long value",
            get(&format!("x-a: {long}\r\n")),
            Ended(431, ""),
        ),
        (
            "a long name",
            get(&format!("{long}: x\r\n")),
            Ended(431, ""),
        ),
        ("many fields", get(&many), Ended(431, "")),
        (
            "CONNECT",
            by("CONNECT", "y:80"),
            Ended(407, "proxy-unauthorized"),
        ),
        (
            "CONNECT to an agent",
            by("CONNECT", "/agents/a/first"),
            Ended(405, "method-not-allowed"),
        ),
        (
            "CONNECT in full",
            by("CONNECT", "http://y/agents/a/x"),
            Ended(405, "method-not-allowed"),
        ),
        (
            "TRACE",
            by("TRACE", "/agents/a/first"),
            Heard("TRACE /first HTTP/1.1", ""),
        ),
        (
            "TRACE of our own",
            by("TRACE", "/api/v1/agents"),
            Refused(405, "method-not-allowed"),
        ),
        (
            "a method that nobody knows",
            by("FOO", "/agents/a/first"),
            Heard("FOO /first HTTP/1.1", ""),
        ),
        (
            "a method that is none",
            by("G(T", "/agents/a/first"),
            PARSER,
        ),
        (
            "HTTP/2 as an upgrade",
            get(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
            ),
            Heard(PASSED, ""),
        ),
    ] {
        check(&server, what, &row, want).await;
        assert_eq!(last(&server, "upgrade"), [""; 0], "{what}");
    }
}

#[tokio::test]
async fn requests_in_one_breath_are_answered_in_turn() {
    let server = server().await;
    let inner = "GET /agents/a/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let sized = post(&format!("content-length: {}\r\n", inner.len()), inner);
    let chunks = chunked(&format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
    let mut wire = Wire::open(&server).await;
    let text = format!("{sized}{chunks}{}{sized}", get(""));
    wire.say(text.replace("KEY", &server.client.key).as_bytes())
        .await;
    for _ in 0..4 {
        let answer = wire.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "/first"));
    }
    let heard = since(&server, 0);
    let whole = (FIRST.to_owned(), inner.to_owned());
    let passed = (PASSED.to_owned(), String::new());
    assert_eq!(heard, [whole.clone(), whole.clone(), passed, whole]);
}
