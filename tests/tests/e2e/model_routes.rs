//! Routes to models: who answers in the place of a name, who is asked again, who is left alone, and how models did.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Answer, eventually};

use crate::models::{CHAT, House, chat, put};
use crate::policy::set;

const GOOD: &str = "good+say=hello";

async fn route(house: &House, name: &str, route: Value) {
    let (status, said) = put(&house.server.client, &format!("routes/{name}"), &route).await;
    assert_eq!(status, 200, "{said}");
}

fn of(model: &str) -> String {
    format!("openai/{model}")
}

async fn ask(house: &House, model: &str) -> Answer {
    let client = &house.server.client;
    client.post_json(CHAT, &chat(model, false)).await
}

async fn asked(house: &House, model: &str) -> usize {
    house.upstream.seen(model).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_again_and_again_is_left_alone() {
    let house = House::start().await;
    let bad = "bad+fail=503";
    let models = json!({ "models": [{ "model": of(bad) }, { "model": of(GOOD) }] });
    route(&house, "fast", models).await;
    for stream in [false, true, false, true, false, true, false, true] {
        let client = &house.server.client;
        let said = client.post_json(CHAT, &chat("fast", stream)).await;
        assert_eq!(said.status, 200, "{}", said.text());
        assert_eq!(said.header("skep-model"), of(GOOD));
    }
    // Five times in a row, and nobody asks it for a while.
    assert_eq!(asked(&house, bad).await, 5);
    assert_eq!(asked(&house, GOOD).await, 8);
    let routes = house.server.client.get("/api/v1/models/routes").await;
    let models = routes.json()["items"][0]["models"].clone();
    assert_eq!(models[0]["failures"], 5, "{models}");
    assert!(models[0]["resting_until"].is_string(), "{models}");
    assert!(models[1]["first_ms"].is_u64(), "{models}");
    // Who asks for it alone is not refused: nobody else could answer.
    assert_eq!(ask(&house, bad).await.status, 503);
    assert_eq!(asked(&house, bad).await, 6);
    let told = house.server.client.get("/api/v1/models/performance").await;
    let items = told.json()["items"].as_array().cloned().expect("a list");
    let counts: Vec<Value> = items
        .iter()
        .map(|it| json!([it["model"], it["requests"], it["failed"]]))
        .collect();
    assert_eq!(counts, [json!([bad, 6, 6]), json!([GOOD, 8, 0])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_asked_again_as_often_as_its_route_says() {
    let house = House::start().await;
    for (name, model, status) in [
        ("once-more", "shaky+fail=500x1", 200),
        ("too-often", "broken+fail=500x2", 500),
    ] {
        let wanted = json!({ "tries": 2, "models": [{ "model": of(model) }] });
        route(&house, name, wanted).await;
        let said = ask(&house, name).await;
        assert_eq!(said.status, status, "{}", said.text());
        assert_eq!(asked(&house, model).await, 2, "{model}");
    }
    // Who wants to be asked again in a minute is not waited for.
    let later = "later+fail=429+after=60";
    let wanted = json!({ "tries": 3, "models": [{ "model": of(later) }, { "model": of(GOOD) }] });
    route(&house, "patient", wanted).await;
    assert_eq!(ask(&house, "patient").await.status, 200);
    assert_eq!(asked(&house, later).await, 1);
    // What is the client's own fault is nobody's to try again.
    let wrong = "wrong+fail=400";
    let wanted = json!({ "tries": 3, "models": [{ "model": of(wrong) }, { "model": of(GOOD) }] });
    route(&house, "fault", wanted).await;
    assert_eq!(ask(&house, "fault").await.status, 400);
    assert_eq!(asked(&house, wrong).await, 1);
    let usage = house.usage().await;
    let shaky = usage["items"].as_array().expect("a list").iter();
    let shaky = shaky.clone().find(|it| it["model"] == "shaky+fail=500x1");
    let shaky = shaky.expect("it is there");
    assert_eq!(
        (&shaky["requests"], &shaky["failed"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_stays_with_its_model() {
    let house = House::start().await;
    let other = "other+say=hello";
    let wanted = json!({ "pick": "weighted", "models": [
        { "model": of(GOOD), "weight": 1 }, { "model": of(other), "weight": 1 },
    ] });
    route(&house, "trial", wanted).await;
    let mut seen = BTreeSet::new();
    for thread in 0..24 {
        let mut of_thread = BTreeSet::new();
        for _ in 0..2 {
            let client = &house.server.client;
            let body = chat("trial", false).to_string();
            let mut request = client.request(Method::POST, CHAT, body);
            let value = format!("thread-{thread}").parse().expect("a header");
            request.headers_mut().insert("skep-thread", value);
            let said = client.send(request).await.expect("an answer");
            assert_eq!(said.status, 200, "{}", said.text());
            of_thread.insert(said.header("skep-model").to_owned());
        }
        assert_eq!(of_thread.len(), 1, "{of_thread:?}");
        seen.append(&mut of_thread);
    }
    assert_eq!(seen, BTreeSet::from([of(GOOD), of(other)]));
    // The thread is nobody's business but Skep's.
    let headers = house.upstream.seen(GOOD).await[0]["headers"].to_string();
    assert!(!headers.contains("thread-"), "{headers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_decide_about_who_answers() {
    let house = House::start().await;
    let first = "first+say=hello";
    let wanted = json!({ "models": [{ "model": of(first) }, { "model": of(GOOD) }] });
    route(&house, "fast", wanted).await;
    let forbids = "forbid (principal, action == Skep::Action::\"model:use\", resource) \
        when { resource.name like \"first*\" };";
    set(&house.server, forbids).await;
    let said = ask(&house, "fast").await;
    assert_eq!(
        (said.status, said.header("skep-model")),
        (200, &of(GOOD)[..])
    );
    let wanted = json!({ "models": [{ "model": of(first) }] });
    route(&house, "fast", wanted).await;
    assert_eq!(ask(&house, "fast").await.status, 403);
    assert_eq!(asked(&house, first).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_taken_is_set_aside() {
    let house = House::start().await;
    let client = &house.server.client;
    let secret = json!({ "name": "keys/ended", "value": "sk-ended-0123456789" });
    assert_eq!(
        client.post_json("/api/v1/secrets", &secret).await.status,
        201
    );
    let provider = json!({
        "kind": "openai", "url": format!("{}/v1", house.upstream.url),
        "secrets": ["keys/ended", "keys/upstream"],
    });
    let (status, said) = put(client, "providers/two", &provider).await;
    assert_eq!(status, 200, "{said}");
    for _ in 0..6 {
        let said = ask(&house, "two/counted+as=keys").await;
        assert_eq!(said.status, 200, "{}", said.text());
    }
    // It was shown once, whoever asked first.
    let usage = house.usage().await;
    let used = usage["items"].as_array().expect("a list").iter();
    let used = used.clone().find(|it| it["provider"] == "two");
    let used = used.expect("it is there");
    assert_eq!((&used["requests"], &used["failed"]), (&json!(7), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_cannot_be_says_why() {
    let house = House::start().await;
    let client = &house.server.client;
    for (wanted, field) in [
        (json!({ "models": [] }), "models"),
        (json!({ "models": [{ "model": "gpt" }] }), "models"),
        (
            json!({ "pick": "best", "models": [{ "model": "a/b" }] }),
            "pick",
        ),
        (
            json!({ "tries": 9, "models": [{ "model": "a/b" }] }),
            "tries",
        ),
    ] {
        let (status, said) = put(client, "routes/x", &wanted).await;
        assert!(
            status == 400 && said.contains(&format!("`{field}`")),
            "{said}"
        );
    }
    let wanted = json!({ "models": [{ "model": "nobody/x" }] });
    route(&house, "empty", wanted).await;
    let said = ask(&house, "empty").await;
    assert_eq!(said.code(), "model-not-found", "{}", said.text());
    assert!(said.text().contains("route `empty`"), "{}", said.text());
    let gone = client.request(Method::DELETE, "/api/v1/models/routes/empty", String::new());
    assert_eq!(client.send(gone).await.expect("an answer").status, 204);
    let gone = client.request(Method::DELETE, "/api/v1/models/routes/empty", String::new());
    assert_eq!(client.send(gone).await.expect("an answer").status, 404);
}

/// The versions of a route: number, what it went back to, and its model.
async fn versions(house: &House, name: &str) -> Value {
    let path = format!("/api/v1/models/routes/{name}/versions");
    let told = house.server.client.get(&path).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let all = told.json()["items"].as_array().cloned().expect("a list");
    let one = |it: &Value| {
        json!([
            it["version"],
            it["back_to"],
            it["route"]["models"][0]["model"]
        ])
    };
    all.iter().map(one).collect()
}

async fn events(house: &House, kind: &str) -> Vec<String> {
    let told = house.server.client.get("/api/v1/events").await.json();
    let all = told["items"].as_array().cloned().expect("a list");
    let of_kind = all
        .iter()
        .map(Value::to_string)
        .filter(|it| it.contains(kind));
    of_kind.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_goes_back_to_its_version_before() {
    let house = House::start().await;
    let client = &house.server.client;
    let models = [GOOD, "better+say=hello", "best+say=hello"].map(of);
    for model in &models {
        route(&house, "fast", json!({ "models": [{ "model": model }] })).await;
    }
    assert_eq!(ask(&house, "fast").await.header("skep-model"), models[2]);
    let back = "/api/v1/models/routes/fast/rollback";
    for model in [&models[1], &models[0]] {
        let said = client.post_json(back, &json!({})).await;
        assert_eq!(said.status, 200, "{}", said.text());
        assert_eq!(ask(&house, "fast").await.header("skep-model"), *model);
    }
    let none = client.post_json(back, &json!({})).await;
    assert_eq!(none.status, 404, "{}", none.text());
    let all = versions(&house, "fast").await;
    assert_eq!(
        all,
        json!([
            [5, 1, models[0]],
            [4, 2, models[1]],
            [3, null, models[2]],
            [2, null, models[1]],
            [1, null, models[0]]
        ])
    );
    let gone = client.request(Method::DELETE, "/api/v1/models/routes/fast", String::new());
    assert_eq!(client.send(gone).await.expect("an answer").status, 204);
    assert_eq!(client.post_json(back, &json!({})).await.status, 404);
    for (rollback, why) in [
        (json!({ "after": 4, "failures": 1 }), "`rollback.after`"),
        (json!({ "after": 10 }), "`rollback.after`"),
        (
            json!({ "after": 10, "failures": 100 }),
            "`rollback.failures`",
        ),
        (json!({ "after": 10, "score": 101 }), "`rollback.score`"),
    ] {
        let wrong = json!({ "models": [{ "model": of(GOOD) }], "rollback": rollback });
        let (status, said) = put(client, "routes/fast", &wrong).await;
        assert_eq!(status, 400, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_badly_goes_by_itself() {
    let house = House::start().await;
    let client = &house.server.client;
    // It fails too often.
    let bad = "bad+fail=500";
    route(
        &house,
        "shaky",
        json!({ "models": [{ "model": of(GOOD) }] }),
    )
    .await;
    let rollback = json!({ "after": 5, "failures": 20 });
    route(
        &house,
        "shaky",
        json!({ "models": [{ "model": of(bad) }], "rollback": rollback }),
    )
    .await;
    // It is found to be bad.
    let dull = "dull+say=hm";
    route(&house, "dull", json!({ "models": [{ "model": of(GOOD) }] })).await;
    let rollback = json!({ "after": 5, "score": 50 });
    route(
        &house,
        "dull",
        json!({ "models": [{ "model": of(dull) }], "rollback": rollback }),
    )
    .await;
    for _ in 0..5 {
        assert_eq!(ask(&house, "shaky").await.status, 500);
        let said = ask(&house, "dull").await;
        let score = json!({ "exchange": said.header("skep-exchange"), "score": 0.4 });
        let scored = client.post_json("/api/v1/models/scores", &score).await;
        assert_eq!(scored.status, 204, "{}", scored.text());
    }
    for name in ["shaky", "dull"] {
        eventually("the version before", async || {
            let newest = versions(&house, name).await[0].clone();
            (newest == json!([3, 1, of(GOOD)])).then_some(())
        })
        .await;
        assert_eq!(ask(&house, name).await.header("skep-model"), of(GOOD));
    }
    let told = events(&house, "route.rolled-back").await;
    assert_eq!(told.len(), 2, "{told:?}");
    let all = told.join("");
    assert!(all.contains("5 of 5 exchanges came to nothing"), "{all}");
    assert!(all.contains("5 scores are 40 of 100"), "{all}");
    let entries = client.get("/api/v1/audit/entries?limit=200").await.text();
    assert_eq!(entries.matches("rolled-back").count(), 2, "{entries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_so_much_of_a_budget_is_spent() {
    let house = House::start().await;
    let client = &house.server.client;
    let budget =
        json!({ "of": "workspace", "window": "total", "tokens": 100_000, "alerts": [1, 2, 99] });
    let (status, said) = put(client, "budgets/all", &budget).await;
    assert_eq!(status, 200, "{said}");
    // 1,500 tokens, then 3,000.
    for parts in [1, 2] {
        assert_eq!(
            ask(&house, "large+say=x+prompt=1500+tokens=1").await.status,
            200
        );
        eventually("what is told", async || {
            (events(&house, "budget.threshold").await.len() == parts).then_some(())
        })
        .await;
    }
    let told = events(&house, "budget.threshold").await.join("");
    assert!(
        told.contains("1 of 100 of the budget all") && told.contains("2 of 100"),
        "{told}"
    );
    for alerts in [json!([0]), json!([101]), json!([50, 20]), json!([5, 5])] {
        let wrong = json!({ "of": "workspace", "window": "day", "tokens": 10, "alerts": alerts });
        let (status, said) = put(client, "budgets/wrong", &wrong).await;
        assert_eq!(status, 400, "{said}");
        assert!(said.contains("`alerts`"), "{said}");
    }
}
