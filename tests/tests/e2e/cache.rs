//! Answers that are given again without the agent: what HTTP allows, and nothing else.

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::{Answer, Server};

/// Answers with the number of requests that it had, and with the headers that the query names.
const AGENT: &str = r#"
import http.server, os, threading, urllib.parse
count = 0
released = threading.Event()
class Agent(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        global count
        url = urllib.parse.urlparse(self.path)
        given = urllib.parse.parse_qsl(url.query)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if url.path != "/ping":
            count += 1
        etag = dict(given).get("etag")
        same = etag is not None and etag in self.headers.get("if-none-match", "")
        if url.path == "/release":
            released.set()
        number = count
        if "hold" in dict(given):
            released.wait()
        bare = same and "bare" in dict(given)
        body = b"" if same else ("x" * int(dict(given).get("pad", 0)) + str(number)).encode()
        self.send_response(304 if same else int(dict(given).get("code", 200)))
        for name, value in given:
            if name not in ("n", "pad", "code", "hold", "bare") and not bare:
                self.send_header(name, value)
        if not same:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"#;

struct House {
    server: Server,
}

impl House {
    async fn new(cache: Value) -> Self {
        let server = Server::start().await;
        let house = Self { server };
        house.deploy(cache, 0).await;
        house
    }

    async fn deploy(&self, cache: Value, number: u32) {
        let mut spec = json!({
            "name": "a", "command": ["python3", "-c", AGENT],
            "env": { "NUMBER": number.to_string() }, "calls": {},
        });
        if !cache.is_null() {
            spec["calls"]["cache"] = cache;
        }
        self.server.deploy_spec(spec).await;
    }

    async fn get(&self, target: &str, headers: &[(&'static str, &str)]) -> Answer {
        let client = &self.server.client;
        let path = format!("/agents/a{target}");
        let mut request = client.request(Method::GET, &path, "");
        // The key goes another way: this one is the agent's affair.
        let key = HeaderValue::try_from(&client.key).expect("a key");
        request.headers_mut().remove("authorization");
        request.headers_mut().insert("skep-api-key", key);
        for (name, value) in headers {
            let value = HeaderValue::try_from(*value).expect("a value");
            request.headers_mut().append(*name, value);
        }
        client.send(request).await.expect("an answer")
    }

    /// Asks twice; tells whether the agent was asked the second time too.
    async fn asked_twice(&self, target: &str, headers: &[(&'static str, &str)]) -> bool {
        let first = self.get(target, headers).await;
        self.get(target, headers).await.text() != first.text()
    }
}

#[tokio::test]
async fn what_is_fresh_is_given_again_and_says_so() {
    let house = House::new(json!({})).await;
    let first = house.get("/x?cache-control=max-age=60", &[]).await;
    assert_eq!(first.header("cache-status"), "skep; fwd=uri-miss; stored");
    let again = house.get("/x?cache-control=max-age=60", &[]).await;
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(again.header("cache-status"), "skep; hit");
    assert!(!again.header("age").is_empty());
    assert!(
        again.header("date").ends_with("GMT"),
        "{}",
        again.header("date")
    );
    // The body's length and kind are those of the answer.
    assert_eq!(
        again.header("content-length"),
        first.header("content-length")
    );
    let large = house
        .get("/large?cache-control=max-age=60&pad=200000", &[])
        .await;
    let again = house
        .get("/large?cache-control=max-age=60&pad=200000", &[])
        .await;
    assert!(again.body == large.body && again.body.len() > 200_000);
}

#[tokio::test]
async fn nothing_is_kept_that_must_not_be() {
    let house = House::new(json!({})).await;
    let fresh = "cache-control=max-age=60";
    for (target, headers) in [
        ("/1", vec![]),
        ("/2?cache-control=no-store", vec![]),
        ("/3?cache-control=private,max-age=60", vec![]),
        ("/4?cache-control=max-age=0", vec![]),
        (&*format!("/5?{fresh}&vary=*"), vec![]),
        (&*format!("/6?{fresh}&set-cookie=a=b"), vec![]),
        (
            &*format!("/7?{fresh}"),
            vec![("authorization", "Bearer mine")],
        ),
        (&*format!("/8?{fresh}"), vec![("cookie", "a=b")]),
        (&*format!("/9?{fresh}"), vec![("range", "bytes=0-1")]),
        (
            &*format!("/10?{fresh}"),
            vec![("cache-control", "no-store")],
        ),
        (
            &*format!("/11?{fresh}"),
            vec![("cache-control", "no-cache")],
        ),
        (&*format!("/12?{fresh}&code=500"), vec![]),
        (&*format!("/13?{fresh}&pad=1100000"), vec![]),
    ] {
        assert!(
            house.asked_twice(target, &headers).await,
            "{target} {headers:?}"
        );
    }
    for (target, headers) in [
        (
            "/14?cache-control=public,max-age=60",
            vec![("cookie", "a=b")],
        ),
        (
            "/15?cache-control=public,max-age=60",
            vec![("authorization", "Bearer mine")],
        ),
        (&*format!("/16?{fresh}&code=404"), vec![]),
    ] {
        assert!(
            !house.asked_twice(target, &headers).await,
            "{target} {headers:?}"
        );
    }
    let none = house
        .get("/17", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(none.status, 504);
    // What differs by a header is kept apart.
    let target = format!("/18?{fresh}&vary=accept-language");
    let english = house
        .get(&target, &[("accept-language", "en")])
        .await
        .text();
    let german = house
        .get(&target, &[("accept-language", "de")])
        .await
        .text();
    assert_ne!(english, german);
    for (language, text) in [("en", english), ("de", german)] {
        let again = house.get(&target, &[("accept-language", language)]).await;
        assert_eq!(again.text(), text, "{language}");
    }
}

#[tokio::test]
async fn what_is_stale_is_confirmed() {
    let house = House::new(json!({})).await;
    let target = "/x?cache-control=no-cache&etag=%22one%22";
    let first = house.get(target, &[]).await;
    let again = house.get(target, &[]).await;
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(
        again.header("cache-status"),
        "skep; fwd=stale; fwd-status=304"
    );
    // A client that has it is told so, by the cache or by the agent.
    let known = house.get(target, &[("if-none-match", "\"one\"")]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let target = "/y?cache-control=max-age=60&etag=%22two%22";
    house.get(target, &[]).await;
    let known = house
        .get(target, &[("if-none-match", "\"zero\", W/\"two\"")])
        .await;
    assert_eq!(
        (known.status, known.header("cache-status")),
        (304, "skep; hit")
    );
}

#[tokio::test]
async fn a_confirmation_that_says_nothing_is_of_what_was_asked_about() {
    let house = House::new(json!({})).await;
    let target = "/x?cache-control=no-cache&etag=%22one%22&bare=1";
    let first = house.get(target, &[]).await;
    for wanted in [None, Some("\"other\"")] {
        let headers: Vec<_> = wanted
            .map(|tag| ("if-none-match", tag))
            .into_iter()
            .collect();
        let again = house.get(target, &headers).await;
        assert_eq!(
            (again.status, again.text()),
            (200, first.text()),
            "{wanted:?}"
        );
    }
    let known = house.get(target, &[("if-none-match", "\"one\"")]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
}

#[tokio::test]
async fn headers_of_several_lines_count_with_all_of_them() {
    let house = House::new(json!({})).await;
    let fresh = "cache-control=max-age=60";
    let target = format!("/1?{fresh}&vary=accept-language");
    let one = [("accept-language", "de"), ("accept-language", "fr")];
    let other = [("accept-language", "de"), ("accept-language", "it")];
    let first = house.get(&target, &one).await.text();
    assert_ne!(house.get(&target, &other).await.text(), first);
    assert_eq!(house.get(&target, &one).await.text(), first);
    let target = format!("/2?{fresh}&link=%3Ca%3E&link=%3Cb%3E");
    house.get(&target, &[]).await;
    assert_eq!(house.get(&target, &[]).await.header("link"), "<a>, <b>");
    let target = "/3?cache-control=public,max-age=60&set-cookie=a=b&set-cookie=c=d";
    assert!(house.asked_twice(target, &[]).await);
    // Agents hear from Skep who asks, not from the client.
    let target = format!("/4?{fresh}&vary=x-forwarded-for");
    assert!(house.asked_twice(&target, &[]).await);
    // What no clock counts to.
    let target = format!("/5?{fresh}&etag=%22one%22&age=18446744073709551615");
    assert_eq!(house.get(&target, &[]).await.header("age"), "2147483648");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_on_its_way_when_it_changed_is_not_kept() {
    let house = House::new(json!({ "ttl": "1h" })).await;
    let (server, target) = (&house.server, "/x?hold=1");
    let held = house.get(target, &[]);
    let change = async {
        skep_tests::eventually("a request that waits", async || {
            let asked = house.get("/count?cache-control=no-store", &[]).await;
            (asked.text() != "1").then_some(())
        })
        .await;
        assert_eq!(
            server
                .post("a", target.trim_end_matches("hold=1"), "")
                .await
                .status,
            200
        );
        let path = "/api/v1/agents/a/cache";
        let purge = server.client.request(Method::DELETE, path, "");
        assert_eq!(
            server.client.send(purge).await.expect("an answer").status,
            200
        );
        assert_eq!(server.post("a", "/release", "").await.status, 200);
    };
    let (old, ()) = tokio::join!(held, change);
    assert_ne!(house.get(target, &[]).await.text(), old.text());
}

#[tokio::test]
async fn it_goes_with_a_change_a_deployment_and_by_tag() {
    let house = House::new(json!({ "ttl": "1h" })).await;
    let first = house.get("/x", &[]).await;
    assert_eq!(house.get("/x", &[]).await.text(), first.text());
    let changed = house.server.post("a", "/x", "").await;
    assert_eq!(changed.status, 200);
    assert_ne!(house.get("/x", &[]).await.text(), first.text());

    for tag in ["red", "red,%20blue", "blue"] {
        house
            .get(&format!("/{}?cache-tag={tag}", tag.len()), &[])
            .await;
    }
    let forget = async |query: &str| {
        let path = format!("/api/v1/agents/a/cache{query}");
        let request = house.server.client.request(Method::DELETE, &path, "");
        house.server.client.send(request).await.expect("an answer")
    };
    assert_eq!(forget("?tag=red").await.json()["answers"], 2);
    assert_eq!(forget("?tag=red").await.json()["answers"], 0);
    assert_eq!(forget("").await.json()["answers"], 2, "/x and /4");
    assert_eq!(forget("?tags=red").await.status, 400);

    // The new revision counts from one again, and nothing of the old one is said.
    house.get("/z?pad=3", &[]).await;
    house.deploy(json!({ "ttl": "1h" }), 1).await;
    let settled = skep_tests::eventually("one revision", async || {
        let agent = house.server.agent("a").await;
        let all = agent["instances"].as_array()?.len() == 1;
        (all && agent["rollout"]["state"] == "done").then_some(())
    });
    settled.await;
    assert_eq!(house.get("/z?pad=3", &[]).await.text(), "xxx1");
}

#[tokio::test]
async fn private_answers_are_kept_apart_by_who_asks() {
    let house = House::new(json!({ "by": ["authorization"] })).await;
    let target = "/x?cache-control=private,max-age=60";
    let (mine, yours) = ("Bearer mine", "Bearer yours");
    let first = house.get(target, &[("authorization", mine)]).await.text();
    let second = house.get(target, &[("authorization", yours)]).await.text();
    assert_ne!(first, second);
    for (who, text) in [(mine, first), (yours, second)] {
        assert_eq!(
            house.get(target, &[("authorization", who)]).await.text(),
            text
        );
    }
}

#[tokio::test]
async fn it_is_bounded_and_off_by_default() {
    let house = House::new(json!({ "ttl": "1h", "size": "64KiB" })).await;
    for number in 0..20 {
        house.get(&format!("/{number}?pad=10000"), &[]).await;
    }
    // The last ones are there, the first ones are not.
    assert!(!house.asked_twice("/19?pad=10000", &[]).await);
    let gone = house.get("/0?pad=10000", &[]).await;
    assert_eq!(gone.header("cache-status"), "skep; fwd=uri-miss; stored");
    // What they hear and say counts, not the bodies alone.
    let long = "x".repeat(8_000);
    for number in 20..40 {
        house
            .get(&format!("/{number}"), &[("x-long", &*long)])
            .await;
    }
    let gone = house.get("/20", &[("x-long", &*long)]).await;
    assert_eq!(gone.header("cache-status"), "skep; fwd=uri-miss; stored");
    house.deploy(Value::Null, 1).await;
    skep_tests::eventually("no cache", async || {
        let twice = house.asked_twice("/x?cache-control=max-age=60", &[]).await;
        twice.then_some(())
    })
    .await;
    let wrong = json!({ "name": "b", "command": ["x"], "calls": { "cache": { "size": "much" } } });
    let refused = house
        .server
        .client
        .post_json("/api/v1/agents", &wrong)
        .await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("cache.size"), "{}", refused.text());
}
