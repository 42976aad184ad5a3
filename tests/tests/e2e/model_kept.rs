//! What is kept of exchanges with models: answers that are given again, what people can look at, what another attempt of a
//! call gets again; and what does not go out.

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Answer, eventually};

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};
use crate::models::{CHAT, House, chat, put};

/// A model that says something.
const SAYS: &str = "says+say=hello+prompt=10+tokens=3";

on_each_engine!(
    the_same_request_is_answered_once,
    each_text_has_a_vector_that_is_kept,
    a_question_that_means_the_same_gets_the_same_answer,
    what_happens_ends_the_time_of_answers,
    what_people_look_at_is_encrypted_and_their_looking_is_written_down,
);

async fn set(house: &House, whose: &str, settings: Value) {
    let (status, said) = put(
        &house.server.client,
        &format!("settings/{whose}"),
        &settings,
    )
    .await;
    assert_eq!(status, 200, "{said}");
}

async fn ask(house: &House, body: &Value, headers: &[(&'static str, &str)]) -> Answer {
    let client = &house.server.client;
    let mut request = client.request(Method::POST, CHAT, body.to_string());
    for (name, value) in headers {
        let value = value.parse().expect("a header");
        request.headers_mut().insert(*name, value);
    }
    client.send(request).await.expect("an answer")
}

async fn kept(house: &House) -> Vec<Value> {
    let told = house.server.client.get("/api/v1/models/exchanges").await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["items"].as_array().cloned().expect("a list")
}

/// Waits until so many exchanges are kept.
async fn has_kept(house: &House, count: usize) {
    eventually("what is kept", async || {
        (kept(house).await.len() == count).then_some(())
    })
    .await;
}

async fn forget(house: &House, which: Value) {
    let client = &house.server.client;
    let said = client.post_json("/api/v1/models/forget", &which).await;
    assert_eq!(said.status, 204, "{}", said.text());
}

async fn asked(house: &House) -> usize {
    house.upstream.seen(SAYS).await.len()
}

/// An answer is given again as it was, stream or not, over restarts, until it is forgotten; and costs nothing.
async fn the_same_request_is_answered_once(engine: Engine) {
    let mut house = House::start_on(&engine).await;
    set(&house, "*", json!({ "cache_s": 3600 })).await;
    for (times, stream) in [(1, false), (2, true)] {
        let body = chat(SAYS, stream);
        let first = ask(&house, &body, &[("skep-cache", "tag=tests")]).await;
        assert_eq!((first.status, first.header("skep-cache")), (200, "miss"));
        has_kept(&house, times).await;
        for _ in 0..2 {
            let again = ask(&house, &body, &[]).await;
            assert_eq!((again.status, again.header("skep-cache")), (200, "hit"));
            assert_eq!(again.header("skep-model"), format!("openai/{SAYS}"));
            assert!(!again.header("age").is_empty());
            assert_eq!(again.header("content-type"), first.header("content-type"));
            assert_eq!(again.text(), first.text());
        }
        assert_eq!(asked(&house).await, times);
    }
    // Hits are counted, with nothing used.
    let usage = house.usage().await;
    assert_eq!(usage["month"]["cost"], usage["cost"]);
    let items = usage["items"].as_array().expect("a list").clone();
    let line = items.iter().find(|it| it["model"] == SAYS).expect("a line");
    let counts = ["requests", "kept", "output"].map(|name| line[name].clone());
    assert_eq!(counts, [json!(6), json!(4), json!(6)]);
    house.server.kill();
    house.server.restart_as_it_was().await;
    let body = chat(SAYS, false);
    let again = ask(&house, &body, &[]).await;
    assert_eq!(again.header("skep-cache"), "hit");
    // Who wants a fresh one gets it, and who wants nothing kept.
    let fresh = ask(&house, &body, &[("skep-cache", "no-cache")]).await;
    assert_eq!(fresh.header("skep-cache"), "miss");
    assert_eq!(asked(&house).await, 3);
    forget(&house, json!({ "tag": "others" })).await;
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "hit");
    forget(&house, json!({})).await;
    assert!(kept(&house).await.is_empty());
    let after = ask(&house, &body, &[("skep-cache", "no-store")]).await;
    assert_eq!((after.status, asked(&house).await), (200, 4));
    let after = ask(&house, &body, &[]).await;
    assert_eq!(after.header("skep-cache"), "miss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_request_or_a_failure_is_not_answered_so() {
    let house = House::start().await;
    set(&house, "*", json!({ "cache_s": 3600 })).await;
    let body = chat(SAYS, false);
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "miss");
    has_kept(&house, 1).await;
    let mut other = body.clone();
    other["temperature"] = json!(0.5);
    assert_eq!(ask(&house, &other, &[]).await.header("skep-cache"), "miss");
    // What a provider may answer differently to.
    let beta = [("openai-beta", "assistants=v2")];
    assert_eq!(ask(&house, &body, &beta).await.header("skep-cache"), "miss");
    // What says nothing of what is asked.
    let sdk = [
        ("user-agent", "another/1"),
        ("x-stainless-retry-count", "1"),
    ];
    assert_eq!(ask(&house, &body, &sdk).await.header("skep-cache"), "hit");
    // A failure, and half an answer, are nobody's answer again.
    for model in ["bad+fail=500", "half+cut=1+tokens=5"] {
        let stream = model.starts_with("half");
        for _ in 0..2 {
            let client = &house.server.client;
            let request = client.request(Method::POST, CHAT, chat(model, stream).to_string());
            // Its end is an error.
            let _ = client.send(request).await;
        }
        assert_eq!(house.upstream.seen(model).await.len(), 2, "{model}");
    }
    has_kept(&house, 3).await;
    // Who administers says never.
    set(&house, "*", json!({ "cache_s": 0 })).await;
    let wishes = [("skep-cache", "max-age=60")];
    let said = ask(&house, &body, &wishes).await;
    assert_eq!((said.status, said.header("skep-cache")), (200, ""));
    let wrong = ask(&house, &body, &[("skep-cache", "always")]).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("max-age=SECONDS"), "{}", wrong.text());
}

/// A model that embeds, and what it embeds as.
const VECTORS: &str = "embedding+as=vectors";

async fn embed(house: &House, texts: Value, headers: &[(&'static str, &str)]) -> Answer {
    let body = json!({ "model": VECTORS, "input": texts }).to_string();
    let client = &house.server.client;
    let mut request = client.request(Method::POST, "/llm/openai/v1/embeddings", body);
    for (name, value) in headers {
        let value = value.parse().expect("a header");
        request.headers_mut().insert(*name, value);
    }
    let said = client.send(request).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.text());
    said
}

/// The texts that the provider was asked about, request by request.
async fn embedded(house: &House) -> Vec<Value> {
    let seen = house.upstream.seen(VECTORS).await.into_iter();
    seen.map(|it| it["body"]["input"].clone()).collect()
}

/// Of several texts, each vector is kept by itself; the provider is asked about the others alone.
async fn each_text_has_a_vector_that_is_kept(engine: Engine) {
    let house = House::start_on(&engine).await;
    // What each is without anything kept.
    let (one, two) = (json!(["a", "b"]), json!(["c", "b", "d", "a"]));
    let plain = embed(&house, two.clone(), &[]).await.json();
    set(&house, "*", json!({ "cache_s": 3600 })).await;
    let first = embed(&house, one.clone(), &[("skep-cache", "tag=docs")]).await;
    assert_eq!(first.header("skep-cache"), "miss");
    // Another order, and it is known.
    let whole = eventually("both vectors are kept", async || {
        let again = embed(&house, json!(["b", "a"]), &[]).await;
        (again.header("skep-cache") == "hit").then_some(again)
    })
    .await;
    let vector = |said: &Value, nth: usize| said["data"][nth]["embedding"].clone();
    let (first, whole) = (first.json(), whole.json());
    assert_eq!(
        [vector(&whole, 0), vector(&whole, 1)],
        [vector(&first, 1), vector(&first, 0)]
    );
    assert_eq!(
        [&whole["data"][0]["index"], &whole["data"][1]["index"]],
        [0, 1]
    );
    assert_eq!(whole["usage"]["total_tokens"], 0);
    let before = embedded(&house).await.len();
    let some = embed(&house, two.clone(), &[]).await;
    assert_eq!(some.header("skep-cache"), "partial");
    assert_eq!(some.json()["data"], plain["data"]);
    let asked = embedded(&house).await;
    assert_eq!(asked[before..], [json!(["c", "d"])]);
    eventually("all four are kept", async || {
        let again = embed(&house, two.clone(), &[]).await;
        (again.header("skep-cache") == "hit").then_some(())
    })
    .await;
    // They are no exchanges that anybody could look at.
    assert!(kept(&house).await.is_empty());
    // Tokens are no text, other dimensions are another request, and who wants it fresh is not given what is kept.
    let tokens = embed(&house, json!([[97], [98]]), &[]).await;
    assert_eq!(tokens.header("skep-cache"), "miss");
    let fresh = embed(&house, one.clone(), &[("skep-cache", "no-cache")]).await;
    assert_eq!(fresh.header("skep-cache"), "miss");
    assert_eq!(embedded(&house).await.last(), Some(&one));
    // What was answered just now, and is kept a moment later, is forgotten, too.
    forget(&house, json!({ "model": format!("openai/{VECTORS}") })).await;
    let after = embed(&house, one, &[]).await;
    assert_eq!(after.header("skep-cache"), "miss");
}

/// What is asked in other words gets the answer that was given, where all else is the same and it is near enough.
async fn a_question_that_means_the_same_gets_the_same_answer(engine: Engine) {
    let house = House::start_on(&engine).await;
    let similar = json!({ "model": format!("openai/{VECTORS}"), "least": 0.8 });
    set(&house, "*", json!({ "cache_s": 3600, "similar": similar })).await;
    let question = |text: &str| {
        let mut body = chat(SAYS, false);
        body["messages"] = json!([
            { "role": "system", "content": "You answer." },
            { "role": "user", "content": text },
        ]);
        body
    };
    let first = "how do I bring the agent of yesterday back to life";
    let other = "how do I bring the agent from yesterday back to life";
    let said = ask(&house, &question(first), &[]).await;
    assert_eq!((said.status, said.header("skep-cache")), (200, "miss"));
    has_kept_chats(&house, 1).await;
    let near = ask(&house, &question(other), &[]).await;
    assert_eq!((near.status, near.header("skep-cache")), (200, "similar"));
    assert_eq!(near.text(), said.text());
    let nearness: f64 = near.header("skep-nearness").parse().expect("a number");
    assert!((0.8..1.0).contains(&nearness), "{nearness}");
    assert_eq!((asked(&house).await, embedded(&house).await.len()), (1, 2));
    // Its vectors are exchanges like others, and cost.
    let usage = house.usage().await;
    let items = usage["items"].as_array().expect("a list").clone();
    let line = items
        .iter()
        .find(|it| it["model"] == VECTORS)
        .expect("a line");
    assert_eq!(line["requests"], 2);
    // Another question, another instruction, another model, and who wants an answer to this question alone.
    let far = ask(&house, &question("what does an agent cost"), &[]).await;
    assert_eq!(far.header("skep-cache"), "miss");
    let mut instructed = question(other);
    instructed["messages"][0]["content"] = json!("You answer in verse.");
    assert_eq!(
        ask(&house, &instructed, &[]).await.header("skep-cache"),
        "miss"
    );
    let mut longer = question(other);
    longer["max_tokens"] = json!(7);
    assert_eq!(ask(&house, &longer, &[]).await.header("skep-cache"), "miss");
    let exact = ask(&house, &question(other), &[("skep-cache", "exact")]).await;
    assert_eq!(exact.header("skep-cache"), "miss");
    // What is forgotten answers nobody.
    forget(&house, json!({})).await;
    let third = question("how do I bring my agent of yesterday back to life");
    assert_eq!(ask(&house, &third, &[]).await.header("skep-cache"), "miss");
    // A model that is not there is no reason not to answer.
    let gone = json!({ "model": "openai/gone+fail=500", "least": 0.8 });
    set(&house, "*", json!({ "cache_s": 3600, "similar": gone })).await;
    let said = ask(&house, &question("and without vectors"), &[]).await;
    assert_eq!((said.status, said.header("skep-cache")), (200, "miss"));
    for wrong in [
        json!({ "model": "embedding", "least": 0.9 }),
        json!({ "model": "a/b", "least": 0.2 }),
    ] {
        let (status, said) = put(
            &house.server.client,
            "settings/*",
            &json!({ "similar": wrong }),
        )
        .await;
        assert_eq!(status, 400, "{said}");
        assert!(said.to_string().contains("`similar`"), "{said}");
    }
}

/// Waits until so many answers of the model that says something are kept.
async fn has_kept_chats(house: &House, count: usize) {
    let model = json!(format!("openai/{SAYS}"));
    eventually("what is kept", async || {
        let all = kept(house).await;
        let chats = all.iter().filter(|it| it["model"] == model).count();
        (chats == count).then_some(())
    })
    .await;
}

/// What a file asks is there for the SDKs that ask the same, however both write it; and is not paid again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_file_asks_is_there_before_anybody_asks() {
    let house = House::start().await;
    let question = "wie heißt du?";
    let lines = [
        json!({ "custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": SAYS, "max_tokens": 100, "messages": [{ "role": "user", "content": question }],
        } }),
        json!({ "custom_id": "b", "params": {
            "model": SAYS, "max_tokens": 100, "messages": [{ "role": "user", "content": question }],
        } }),
        json!({ "custom_id": "c", "url": "/v1/embeddings", "body": { "model": "bad+fail=400", "input": "x" } }),
    ];
    // As another program would write it: spaces between, and nothing but ASCII.
    let spaced = |line: &Value| {
        line.to_string()
            .replace("\":", "\" : ")
            .replace('ß', "\\u00df")
    };
    let text: Vec<String> = lines.iter().map(spaced).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("questions.jsonl");
    std::fs::write(&file, text.join("\n")).expect("it is written");
    let file = file.to_str().expect("its path");
    // Anthropic's SDK names a version of the API, and another version may answer differently.
    house.told(("python", "warmed.py"), &[SAYS, "?"]).await;
    let seen = house.upstream.seen(SAYS).await;
    let version = seen.last().expect("a request")["headers"]["anthropic-version"].clone();
    let version = format!(
        "anthropic-version: {}",
        version.as_str().expect("a version")
    );
    let before = seen.len();
    // Nothing is kept, so nothing more than the first is paid.
    let off = skep(&house.server, &["models", "warm", file]);
    assert_eq!(off.code, Some(1), "{}", off.err);
    assert!(off.err.contains("skep models set --cache"), "{}", off.err);
    assert_eq!(asked(&house).await, before + 1);
    set(&house, "*", json!({ "cache_s": 3600 })).await;
    let warm = [
        "models",
        "warm",
        file,
        "--tag",
        "faq",
        "--at-once",
        "2",
        "--header",
        &version,
    ];
    let first = skep(&house.server, &warm);
    assert_eq!(
        (first.code, first.out.trim()),
        (Some(1), "2 asked, 0 known already, 1 failed.")
    );
    assert!(first.err.contains("c: 400"), "{}", first.err);
    has_kept(&house, 2).await;
    let again = skep(&house.server, &warm);
    assert_eq!(again.out.trim(), "0 asked, 2 known already, 1 failed.");
    let told = house.told(("python", "warmed.py"), &[SAYS, question]).await;
    let hit = json!(["hit", "hello hello hello"]);
    assert_eq!(told, json!([hit, hit]));
    assert_eq!(asked(&house).await, before + 3);
    std::fs::write(file, "{\"url\": \"/v1/x\"}").expect("it is written");
    let odd = skep(&house.server, &warm);
    assert_eq!(odd.code, Some(2), "{}", odd.err);
    assert!(odd.err.contains("line 1: "), "{}", odd.err);
}

/// After an event of a kind that is named, no answer from before is given again.
async fn what_happens_ends_the_time_of_answers(engine: Engine) {
    let mut house = House::start_on(&engine).await;
    let settings = json!({ "cache_s": 3600, "forget_on": ["agent.deployed", "security"] });
    set(&house, "*", settings).await;
    let body = chat(SAYS, false);
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "miss");
    has_kept(&house, 1).await;
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "hit");
    house.server.deploy("docs", json!({})).await;
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "miss");
    has_kept(&house, 2).await;
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "hit");
    // What was said before the server ended is known after it, too.
    house.server.deploy("others", json!({})).await;
    house.server.kill();
    house.server.restart_as_it_was().await;
    assert_eq!(ask(&house, &body, &[]).await.header("skep-cache"), "miss");
    let (status, said) = put(
        &house.server.client,
        "settings/*",
        &json!({ "forget_on": ["agent.odd"] }),
    )
    .await;
    assert_eq!(status, 400, "{said}");
    assert!(said.to_string().contains("agent.odd"), "{said}");
}

/// An exchange is kept whole, encrypted, and shown to who may see it, after that was written down.
async fn what_people_look_at_is_encrypted_and_their_looking_is_written_down(engine: Engine) {
    let mut house = House::start_on(&engine).await;
    set(&house, "*", json!({ "record_days": 30 })).await;
    // It says what was said.
    let model = "echo+prompt=10";
    let mut body = chat(model, true);
    body["messages"][0]["content"] = json!("asked-51c2d8");
    let said = ask(&house, &body, &[]).await;
    assert_eq!((said.status, said.header("skep-cache")), (200, ""));
    let bad = ask(&house, &chat("bad+fail=400", false), &[]).await;
    assert_eq!(bad.status, 400);
    has_kept(&house, 2).await;
    let all = kept(&house).await;
    assert_eq!(
        (&all[0]["outcome"], &all[1]["outcome"]),
        (&json!("400"), &json!("200"))
    );
    assert_eq!(all[1]["model"], json!(format!("openai/{model}")));
    assert!(said.text().contains("asked-51c2d8"), "{}", said.text());
    let id = all[1]["id"].as_str().expect("an id").to_owned();
    let client = &house.server.client;
    let path = format!("/api/v1/models/exchanges/{id}");
    let shown = client.get(&path).await.json();
    assert_eq!(shown["answer"], json!(said.text()));
    assert_eq!(shown["asked"], json!(body.to_string()));
    assert_eq!(shown["target"], "POST /v1/chat/completions");
    let entries = client
        .get("/api/v1/audit/entries?action=model:reveal")
        .await
        .json();
    let entry = &entries["items"][0]["entry"];
    assert!(entry.to_string().contains(&id), "{entries}");
    house.server.kill();
    assert!(!engine.has(&house.server, "asked-51c2d8"));
    house.server.restart_as_it_was().await;
    let client = &house.server.client;
    assert_eq!(client.get(&path).await.json()["asked"], shown["asked"]);
    let remove = client.request(Method::DELETE, &path, String::new());
    let removed = client.send(remove).await.expect("an answer");
    assert_eq!(removed.status, 204, "{}", removed.text());
    assert_eq!(client.get(&path).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_attempt_of_a_call_gets_the_same_answers() {
    let house = House::start().await;
    set(&house, "*", json!({ "replay": true })).await;
    let call = "call_01920000000070008000000000000001";
    let headers = |attempt| [("skep-call-id", call), ("skep-attempt", attempt)];
    let body = chat("say+tokens=3", false);
    let other = chat("say+tokens=4", false);
    let mut first = Vec::new();
    for body in [&body, &other, &body] {
        let said = ask(&house, body, &headers("1")).await;
        assert_eq!((said.status, said.header("skep-cache")), (200, ""));
        first.push(said.text());
    }
    has_kept(&house, 3).await;
    // The second time that it asks the same gets what came the second time.
    for (place, body) in [(1, &other), (0, &body), (2, &body)] {
        let said = ask(&house, body, &headers("2")).await;
        assert_eq!((said.status, said.header("skep-cache")), (200, "replay"));
        assert_eq!(said.text(), first[place]);
    }
    // It goes on from there.
    let further = ask(&house, &body, &headers("2")).await;
    assert_eq!(further.header("skep-cache"), "");
    // Nor is it another call's.
    let another = [("skep-call-id", "call_2"), ("skep-attempt", "2")];
    assert_eq!(ask(&house, &body, &another).await.header("skep-cache"), "");
    assert_eq!(house.upstream.seen("say+tokens=3").await.len(), 4);
    // What failed and was asked again counts once.
    let shaky = chat("shaky+fail=500x1", false);
    assert_eq!(ask(&house, &shaky, &headers("1")).await.status, 500);
    assert_eq!(ask(&house, &shaky, &headers("1")).await.status, 200);
    has_kept(&house, 6).await;
    let again = ask(&house, &shaky, &headers("2")).await;
    assert_eq!(again.header("skep-cache"), "replay");
    assert_eq!(house.upstream.seen("say+tokens=4").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_checked_says_what_is_wrong() {
    let house = House::start().await;
    let client = &house.server.client;
    let secret = json!({ "name": "keys/wrong", "value": "sk-wrong" });
    let made = client.post_json("/api/v1/secrets", &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let keys = json!(["keys/upstream", "keys/wrong"]);
    for (name, kind, base, header) in [
        ("openai", "openai", "/v1", "authorization"),
        ("claude", "anthropic", "", "x-api-key"),
        ("gemini", "google", "", "x-goog-api-key"),
        ("azure", "azure", "/v1", "api-key"),
        ("bedrock", "bedrock", "/v1", "authorization"),
    ] {
        let url = format!("{}{base}", house.upstream.url);
        let provider = json!({ "kind": kind, "url": url, "secrets": keys });
        let (status, said) = put(client, &format!("providers/{name}"), &provider).await;
        assert_eq!(status, 200, "{said}");
        let path = format!("/api/v1/models/providers/{name}/check");
        let told = client.post_json(&path, &json!({})).await.json();
        let works: Vec<&Value> = told["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|it| &it["works"])
            .collect();
        assert_eq!(works, [&json!(true), &json!(false)], "{kind}: {told}");
        let trouble = told["keys"][1]["trouble"].as_str().expect("a reason");
        assert!(trouble.contains("does not take the key"), "{kind}: {told}");
        assert!(
            !told["models"].as_array().expect("models").is_empty(),
            "{kind}: {told}"
        );
        let seen = house.upstream.seen("-").await;
        let seen = seen.last().expect("a request").to_string();
        assert!(seen.contains(header), "{kind}: {seen}");
    }
    let gone = json!({ "kind": "compatible", "url": "http://127.0.0.1:1/v1" });
    put(client, "providers/gone", &gone).await;
    let path = "/api/v1/models/providers/gone/check";
    let told = client.post_json(path, &json!({})).await.json();
    assert_eq!(told["keys"][0]["works"], false, "{told}");
    let trouble = told["keys"][0]["trouble"].as_str().expect("a reason");
    assert!(trouble.contains("cannot be reached"), "{trouble}");
    let none = client
        .post_json("/api/v1/models/providers/none/check", &json!({}))
        .await;
    assert_eq!(none.status, 404);
    for kind in ["azure", "bedrock"] {
        let (status, said) = put(
            client,
            "providers/x",
            &json!({ "kind": kind, "secrets": keys }),
        )
        .await;
        assert_eq!(status, 400);
        assert!(said.contains("/openai/v1"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temperature_is_that_of_the_settings_where_a_request_says_none() {
    let house = House::start().await;
    set(&house, "*", json!({ "temperature": 0.7 })).await;
    set(&house, "ada", json!({ "temperature": 0.1 })).await;
    let mut own = chat(SAYS, false);
    own["temperature"] = json!(0);
    for body in [&own, &chat(SAYS, false)] {
        let said = ask(&house, body, &[]).await;
        assert_eq!(said.status, 200, "{}", said.text());
    }
    let seen = house.upstream.seen(SAYS).await;
    assert_eq!(seen[0]["raw"], own.to_string());
    let raw = seen[1]["raw"].as_str().expect("a text");
    let without = raw.replacen("\"temperature\":0.7,", "", 1);
    assert_eq!(without, chat(SAYS, false).to_string(), "{raw}");
    assert_ne!(without, raw);
    // A list of models is asked as before.
    let models = house.server.client.get("/llm/openai/v1/models").await;
    assert_eq!(models.status, 200, "{}", models.text());
    let wrong = json!({ "temperature": 2.1 });
    let (status, said) = put(&house.server.client, "settings/*", &wrong).await;
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("`temperature`"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_settings_hold_back_does_not_go_out() {
    let house = House::start().await;
    let settings = json!({
        "models": ["openai/good*"], "model": "good+say=ok", "most_output": 200, "most_body": 4000, "leaks": "block",
    });
    set(&house, "*", settings).await;
    let said = ask(&house, &chat("default", false), &[]).await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(said.header("skep-model"), "openai/good+say=ok");
    let with = |field: &str, value: Value| {
        let mut body = chat("good+say=ok", false);
        body[field] = value;
        body
    };
    let message = |text: String| with("messages", json!([{ "role": "user", "content": text }]));
    let token = format!("my token is ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    for (body, status, told) in [
        (chat("bad+fail=500", false), 403, "none of the models"),
        (with("max_tokens", json!(201)), 403, "201 tokens"),
        (message("x".repeat(4_000)), 413, "4000 bytes"),
        (message(token), 403, "github-token"),
    ] {
        let said = ask(&house, &body, &[]).await;
        assert_eq!(said.status, status, "{}", said.text());
        assert!(said.text().contains(told), "{}", said.text());
        assert!(!said.text().contains("ghp_"), "{}", said.text());
    }
    assert_eq!(house.upstream.counts().await.requests, 1);
    // An agent has settings of its own; everybody else's stay.
    set(&house, "ada", json!({ "models": ["*"] })).await;
    let wrong = put(
        &house.server.client,
        "settings/*",
        &json!({ "leaks": "perhaps" }),
    )
    .await;
    assert_eq!(wrong.0, 400, "{}", wrong.1);
    // Who was refused stands in the log.
    eventually("a refusal in the log", async || {
        let path = "/api/v1/audit/entries?action=model:use";
        let told = house.server.client.get(path).await;
        told.text().contains("held-back").then_some(())
    })
    .await;
}
