//! Agents whose answers are no HTTP, or could be understood in two ways: such an answer is none,
//! it is not stored as one, and it never becomes the next call's.

use std::fs;

use http::Method;
use serde_json::json;
use skep_tests::{Answer, Server, eventually};

/// What becomes of what the agent says.
enum Want {
    /// It is an answer with this status and body.
    Answer(u16, &'static str),
    /// It is none.
    Nothing,
}

use Want::{Answer as Said, Nothing};

const HELLO: Want = Said(200, "hello");

const OK: &str = "HTTP/1.1 200 OK\r\n";
const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";

async fn server(idle: &str) -> Server {
    let server = Server::start().await;
    let calls = json!({ "attempts": 1, "idle_timeout": idle });
    server.deploy_raw("a", calls).await;
    server
}

/// A recorded call that makes the agent say this, and the next one.
async fn recorded(server: &Server, what: &str, target: &str, bytes: &str, want: &Want) {
    let path = format!("/agents/a{target}");
    let request = server.client.request(Method::POST, &path, bytes.to_owned());
    // Of an answer that is shown as it comes, the end tells that it is not whole.
    let sent = server.client.send(request).await;
    let calls = server.client.get("/api/v1/calls?limit=1").await.json();
    let id = calls["items"][0]["id"].as_str().expect("a call").to_owned();
    let stored = server
        .client
        .get(&format!("/api/v1/calls/{id}/response"))
        .await;
    match want {
        Said(status, body) => {
            let answer = sent.unwrap_or_else(|error| panic!("{what}: {error}"));
            for answer in [answer, stored] {
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (*status, *body),
                    "{what}"
                );
            }
        }
        Nothing => {
            if let Ok(answer) = sent {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (502, "call-dead"),
                    "{what}"
                );
            }
            assert_eq!(
                (stored.status, stored.code().as_str()),
                (502, "call-dead"),
                "{what}"
            );
            assert_eq!(server.call(&id).await["state"], "dead", "{what}");
        }
    }
    clean(server, what).await;
}

/// The same of a request that passes through.
async fn passed(server: &Server, what: &str, target: &str, bytes: &str, want: &Want) {
    let path = format!("/agents/a{target}");
    let request = server.client.request(Method::GET, &path, bytes.to_owned());
    match (want, server.client.send(request).await) {
        (Said(status, body), Ok(answer)) => {
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (*status, *body),
                "{what}"
            );
        }
        (Said(..), Err(error)) => panic!("{what}: {error}"),
        (Nothing, Ok(answer)) => {
            let said = (answer.status, answer.code());
            assert_eq!(said, (502, "agent-unreachable".to_owned()), "{what}");
        }
        // It was passed on as far as it went, and does not look whole.
        (Nothing, Err(_)) => {}
    }
    clean(server, what).await;
}

/// The calls that follow have their own answers.
async fn clean(server: &Server, what: &str) {
    let is_own = |answer: &Answer| {
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "/after"),
            "{what}: the next"
        );
    };
    let next = server.post("a", "/after", "").await;
    is_own(&next);
    assert_eq!(server.call(&next.call()).await["attempts"], 1, "{what}");
    is_own(&server.client.get("/agents/a/after").await);
}

async fn both(server: &Server, what: &str, target: &str, bytes: &str, want: Want) {
    recorded(server, what, target, bytes, &want).await;
    passed(server, what, target, bytes, &want).await;
}

#[tokio::test]
async fn an_answer_has_one_length() {
    let server = server("30s").await;
    for (what, fields, want) in [
        ("a length", "content-length: 5", HELLO),
        (
            "twice the same",
            "content-length: 5\r\ncontent-length: 5",
            HELLO,
        ),
        ("a list of one", "content-length: 5, 5", HELLO),
        (
            "two lengths",
            "content-length: 5\r\ncontent-length: 6",
            Nothing,
        ),
        ("a list", "content-length: 5, 6", Nothing),
        ("negative", "content-length: -5", Nothing),
        ("a sign", "content-length: +5", Nothing),
        ("overflow", "content-length: 18446744073709551621", Nothing),
        (
            "no chunks",
            "content-length: 5\r\ntransfer-encoding: chunked",
            Nothing,
        ),
    ] {
        let bytes = format!("{OK}{fields}\r\n\r\nhello");
        both(&server, what, "/say", &bytes, want).await;
    }
}

#[tokio::test]
async fn the_only_transfer_coding_of_an_answer_is_chunked() {
    let server = server("30s").await;
    let chunked = "transfer-encoding: chunked";
    for (what, fields, want) in [
        ("chunked", chunked, HELLO),
        (
            "beside a short length",
            &format!("content-length: 3\r\n{chunked}"),
            HELLO,
        ),
        (
            "beside a long length",
            &format!("{chunked}\r\ncontent-length: 99"),
            HELLO,
        ),
        ("with another", "transfer-encoding: gzip, chunked", Nothing),
        ("unknown", "transfer-encoding: xchunked", Nothing),
        (
            "not the last",
            "transfer-encoding: chunked, identity",
            Nothing,
        ),
        ("two lines", &format!("{chunked}\r\n{chunked}"), Nothing),
    ] {
        let bytes = format!("{OK}{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        both(&server, what, "/say", &bytes, want).await;
    }
    let old = format!("HTTP/1.0 200 OK\r\n{chunked}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    both(&server, "of HTTP/1.0", "/say", &old, Nothing).await;
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let server = server("30s").await;
    let chunks = |text: &str| format!("{OK}transfer-encoding: chunked\r\n\r\n{text}");
    let long = "x".repeat(20_000);
    for (what, bytes, want) in [
        ("up to the end", format!("{OK}\r\nhello"), HELLO),
        (
            "of HTTP/1.0",
            "HTTP/1.0 200 OK\r\n\r\nhello".to_owned(),
            HELLO,
        ),
        ("nothing", String::new(), Nothing),
        (
            "half a head",
            "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
            Nothing,
        ),
        (
            "half a body",
            format!("{OK}content-length: 10\r\n\r\nhello"),
            Nothing,
        ),
        ("no last chunk", chunks("5\r\nhello\r\n"), Nothing),
        ("half a chunk", chunks("9\r\nhello"), Nothing),
        (
            "no end of the trailers",
            chunks("5\r\nhello\r\n0\r\nx-a: b\r\n"),
            Nothing,
        ),
        (
            "a size that is none",
            chunks("5g\r\nhello\r\n0\r\n\r\n"),
            Nothing,
        ),
        (
            "a size that is too large",
            chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"),
            Nothing,
        ),
        (
            "long extensions",
            chunks(&format!("5;{long}\r\nhello\r\n0\r\n\r\n")),
            Nothing,
        ),
    ] {
        both(&server, what, "/say?end", &bytes, want).await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_no_answer() {
    let server = server("30s").await;
    let head = |line: &str| format!("{line}\r\ncontent-length: 5\r\n\r\nhello");
    let field = |field: &str| format!("{OK}{field}\r\ncontent-length: 5\r\n\r\nhello");
    let long = "x".repeat(1 << 20);
    for (what, bytes, want) in [
        ("no head", "hello".to_owned(), Nothing),
        ("HTTP/2 by name", head("HTTP/2 200 OK"), Nothing),
        ("two digits", head("HTTP/1.1 20 OK"), Nothing),
        ("under the statuses", head("HTTP/1.1 099 OK"), Nothing),
        (
            "a status that nobody knows",
            head("HTTP/1.1 299 Odd"),
            Said(299, "hello"),
        ),
        ("folded", field("x-a: b\r\n c"), Nothing),
        ("a control character", field("x-a: b\x01c"), Nothing),
        ("CR in a value", field("x-a: b\rc"), Nothing),
        ("a space before the colon", field("x-a : b"), Nothing),
        ("no colon", field("x-a"), Nothing),
        ("many fields", field(&"x-a: b\r\n".repeat(200)), Nothing),
        ("a long field", field(&format!("x-a: {long}")), Nothing),
        (
            "another protocol",
            format!("HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{POISON}"),
            Nothing,
        ),
        (
            "a body on the way",
            format!("HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nhello{POISON}"),
            Nothing,
        ),
        (
            "five thousand on the way",
            format!(
                "{}{}",
                "HTTP/1.1 103 Early\r\nx-a: b\r\n\r\n".repeat(5000),
                head("HTTP/1.1 200 OK")
            ),
            HELLO,
        ),
    ] {
        both(&server, what, "/say", &bytes, want).await;
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_not_the_next_one() {
    let server = server("30s").await;
    let hello = format!("{OK}content-length: 5\r\n\r\nhello");
    for (what, bytes, want) in [
        ("an answer more", format!("{hello}{POISON}"), HELLO),
        ("bytes more", format!("{hello}!"), HELLO),
        ("a line more", format!("{hello}\r\n"), HELLO),
        (
            "behind chunks",
            format!("{OK}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{POISON}"),
            Said(200, ""),
        ),
        (
            "behind 204",
            format!("HTTP/1.1 204 No\r\n\r\n{POISON}"),
            Said(204, ""),
        ),
        (
            "a body of 204",
            "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
            Said(204, ""),
        ),
        (
            "chunks of 204",
            "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .to_owned(),
            Said(204, ""),
        ),
        (
            "a body of 304",
            "HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
            Said(304, ""),
        ),
    ] {
        both(&server, what, "/say", &bytes, want).await;
    }
}

#[tokio::test]
async fn what_comes_late_is_not_the_next_answer() {
    let server = server("30s").await;
    let bytes = format!("{OK}content-length: 5\r\n\r\nhello\0{POISON}");
    let (go, said) = (server.home("a").join("go"), server.home("a").join("said"));
    for (number, method) in [Method::POST, Method::GET, Method::POST, Method::GET]
        .into_iter()
        .enumerate()
    {
        let request = server
            .client
            .request(method, "/agents/a/say", bytes.clone());
        let answer = server.client.send(request).await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        // The connection waits for the next call by now.
        fs::write(&go, "").expect("a file");
        eventually("the late answer", async || said.exists().then_some(())).await;
        clean(&server, &format!("round {number}")).await;
        fs::remove_file(&go).expect("it was there");
        fs::remove_file(&said).expect("it was there");
    }
}

#[tokio::test]
async fn a_head_alone_has_one_length_too() {
    let server = server("30s").await;
    for (what, fields, status, length) in [
        ("a length", "content-length: 5", 200, "5"),
        ("a list of one", "content-length: 5, 5", 200, "5"),
        (
            "twice the same",
            "content-length: 5\r\ncontent-length: 5",
            200,
            "5",
        ),
        (
            "beside chunks",
            "content-length: 5\r\ntransfer-encoding: chunked",
            200,
            "",
        ),
        (
            "two lengths",
            "content-length: 5\r\ncontent-length: 6",
            502,
            "",
        ),
        ("a sign", "content-length: +5", 502, ""),
        ("a body all the same", "content-length: 44", 200, "44"),
    ] {
        let bytes = format!("{OK}{fields}\r\n\r\n{POISON}");
        let request = server.client.request(Method::HEAD, "/agents/a/say", bytes);
        let answer = server.client.send(request).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, status, "{what}");
        if status == 200 {
            assert_eq!(answer.header("content-length"), length, "{what}");
        }
        clean(&server, what).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_always_on_the_way_is_silence() {
    let server = server("300ms").await;
    let bytes = "HTTP/1.1 100 Continue\r\n\r\n".to_owned();
    recorded(&server, "recorded", "/say?again", &bytes, &Nothing).await;
    let request = server
        .client
        .request(Method::GET, "/agents/a/say?again", bytes);
    let answer = server.client.send(request).await.expect("an answer");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "agent-timeout")
    );
    clean(&server, "passed").await;
}
