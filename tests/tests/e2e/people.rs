//! People: how they come in, what a session is worth, and to whom.

use std::path::Path;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::{Answer, Client, Server};

use crate::cli::{command, skep};

pub(crate) const PASSWORD: &str = "correct horse battery";

/// Nobody, who shows nothing.
fn stranger(server: &Server) -> Client {
    Client::new(&server.client.url, "")
}

/// Lets a person into the workspace of this client.
pub(crate) async fn join(client: &Client, email: &str, role: &str) -> Value {
    let wish = json!({ "email": email, "role": role });
    let invited = client.post_json("/api/v1/invitations", &wish).await;
    assert_eq!(invited.status, 201, "{}", invited.text());
    let secret = invited.json()["secret"].clone();
    let wish = json!({ "secret": secret, "name": "Ada", "password": PASSWORD });
    let nobody = Client::new(&client.url, "");
    let joined = nobody.post_json("/api/v1/invitations/accept", &wish).await;
    assert_eq!(joined.status, 201, "{}", joined.text());
    joined.json()
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> Answer {
    let mut request = client.request(method, path, body.to_owned());
    if client.key.is_empty() {
        request.headers_mut().remove("authorization");
    }
    let all = request.headers_mut();
    all.insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a value");
        all.append(HeaderName::from_static(name), value);
    }
    client.send(request).await.expect("an answer")
}

async fn login(server: &Server, body: &Value, headers: &[(&'static str, &str)]) -> Answer {
    let nobody = stranger(server);
    let path = "/api/v1/sessions";
    send(&nobody, Method::POST, path, headers, &body.to_string()).await
}

/// The cookies that an answer sets, by their names.
fn cookies(answer: &Answer) -> Vec<(String, String)> {
    let all = answer.headers.get_all("set-cookie").iter();
    let texts = all.map(|value| value.to_str().expect("text"));
    texts
        .map(|text| {
            for part in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(text.contains(part), "{text}");
            }
            assert!(!text.contains("Domain"), "{text}");
            let pair = text.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a pair");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn session_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    let all = cookies(answer);
    let found = all.iter().find(|(name, _)| name == "__Host-skep-session");
    let (name, value) = found.expect("a session");
    format!("{name}={value}")
}

#[tokio::test]
async fn a_person_comes_by_invitation_and_is_known_by_the_cookie() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    join(&server.client, "Ada@Example.com", "member").await;
    let answer = login(
        &server,
        &json!({ "email": "ada@example.com", "password": PASSWORD }),
        &[],
    )
    .await;
    let cookie = session_of(&answer);
    // A page cannot read it, and the answer does not hold it either.
    assert!(answer.json()["token"].is_null(), "{}", answer.text());
    assert!(
        !answer.text().contains("skep_session_"),
        "{}",
        answer.text()
    );
    let nobody = stranger(&server);
    let own = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let me = send(&nobody, Method::GET, "/api/v1/me", &own, "")
        .await
        .json();
    assert_eq!(
        (&me["kind"], &me["role"], &me["email"], &me["workspace"]),
        (
            &json!("User"),
            &json!("member"),
            &json!("ada@example.com"),
            &json!("default")
        )
    );
    // She works as her role may, and no further.
    let called = send(&nobody, Method::POST, "/agents/a/echo", &own, "1").await;
    assert_eq!(called.status, 200, "{}", called.text());
    assert!(called.header("content-security-policy").contains("sandbox"));
    let heard = called.text();
    assert!(heard.contains("sec-fetch-site"), "{heard}");
    for secret in ["skep-session", "skep_session_", "skep-device"] {
        assert!(
            !heard.contains(secret),
            "an agent sees no cookie of ours: {heard}"
        );
    }
    let refused = send(&nobody, Method::GET, "/api/v1/keys", &own, "").await;
    assert_eq!(refused.status, 403);
    // The log says that it was her.
    let log = crate::audit::whole(&server);
    let call = log.iter().find(|it| it["action"] == "agent:call");
    let call = call.expect("an entry");
    assert_eq!(call["principal"], json!({ "kind": "User", "id": me["id"] }));
    assert!(log.iter().any(|it| it["action"] == "session:create"));
    assert!(log.iter().any(|it| it["action"] == "invitation:accept"));
    // Out is out.
    let out = send(
        &nobody,
        Method::DELETE,
        "/api/v1/sessions/current",
        &own,
        "",
    )
    .await;
    assert_eq!(out.status, 204, "{}", out.text());
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    let gone = send(&nobody, Method::GET, "/api/v1/me", &own, "").await;
    assert_eq!(gone.status, 401);
}

#[tokio::test]
async fn a_session_that_somebody_planted_is_not_taken_over() {
    let server = Server::start().await;
    join(&server.client, "ada@example.com", "member").await;
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let planted = format!("__Host-skep-session=skep_session_{}", "x".repeat(46));
    let first = login(&server, &body, &[("cookie", &planted)]).await;
    let first = session_of(&first);
    assert_ne!(first, planted);
    let nobody = stranger(&server);
    let know = async |cookie: &str| {
        let answer = send(
            &nobody,
            Method::GET,
            "/api/v1/me",
            &[("cookie", cookie)],
            "",
        )
        .await;
        answer.status
    };
    assert_eq!((know(&planted).await, know(&first).await), (401, 200));
    // Who logs in again has another session, and the one before ends.
    let second = login(&server, &body, &[("cookie", &first)]).await;
    let second = session_of(&second);
    assert_ne!(first, second);
    assert_eq!((know(&first).await, know(&second).await), (401, 200));
    // Who loses the role loses the way in at once, with the session still there.
    let users = server.client.get("/api/v1/users").await.json();
    let id = users["items"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/users/{id}");
    let removed = send(&server.client, Method::DELETE, &path, &[], "").await;
    assert_eq!(removed.status, 204, "{}", removed.text());
    assert_eq!(know(&second).await, 401);
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_a_session() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    join(&server.client, "ada@example.com", "owner").await;
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let cookie = session_of(&login(&server, &body, &[]).await);
    let nobody = stranger(&server);
    let cross = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "cross-site"),
    ];
    let evil = [
        ("cookie", cookie.as_str()),
        ("origin", "https://evil.example"),
    ];
    let silent = [("cookie", cookie.as_str())];
    let same_site = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-site")];
    for how in [&cross[..], &evil, &silent, &same_site] {
        for (method, path) in [
            (Method::POST, "/api/v1/agents/a/stop"),
            (Method::DELETE, "/api/v1/agents/a"),
            (Method::POST, "/agents/a/work"),
            // Nobody knows what an agent does with a GET.
            (Method::GET, "/agents/a/work"),
            (Method::POST, "/api/v1/keys"),
        ] {
            let refused = send(&nobody, method.clone(), path, how, "{}").await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (403, "cross-site"),
                "{method} {path} {how:?}"
            );
        }
    }
    assert_eq!(server.agent("a").await["state"], "ready");
    assert!(server.executed("a").is_empty());
    // Nor can they log somebody in as somebody else.
    for how in [&cross[1..], &evil[1..], &same_site[1..]] {
        let refused = login(&server, &body, how).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "cross-site")
        );
    }
    // A key is not sent by browsers on their own.
    let with_key = send(
        &server.client,
        Method::POST,
        "/api/v1/agents/a/stop",
        &evil[1..],
        "",
    )
    .await;
    assert_eq!(with_key.status, 200, "{}", with_key.text());
    let own = server.client.url.clone();
    let fine = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    let started = send(&nobody, Method::POST, "/api/v1/agents/a/start", &fine, "").await;
    assert_eq!(started.status, 200, "{}", started.text());
}

#[tokio::test]
async fn who_guesses_a_password_is_slowed_down_and_learns_nothing() {
    let server = Server::start().await;
    join(&server.client, "ada@example.com", "member").await;
    let known = json!({ "email": "ada@example.com", "password": "wrong horse battery" });
    let unknown = json!({ "email": "bob@example.com", "password": "wrong horse battery" });
    let (one, other) = (
        login(&server, &known, &[]).await,
        login(&server, &unknown, &[]).await,
    );
    let strip = |answer: &Answer| {
        let mut said = answer.json();
        said["request_id"] = Value::Null;
        (answer.status, said)
    };
    assert_eq!(strip(&one), strip(&other));
    assert_eq!((one.status, one.code().as_str()), (401, "login-failed"));
    let mut limited = None;
    for _ in 0..8 {
        let answer = login(&server, &known, &[]).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let limited = limited.expect("it is slowed down");
    assert_eq!(limited.code(), "rate-limited");
    assert!(
        limited
            .header("retry-after")
            .parse::<u64>()
            .expect("seconds")
            >= 1
    );
    // Somebody else is not.
    join(&server.client, "eve@example.com", "viewer").await;
    let fine = json!({ "email": "eve@example.com", "password": PASSWORD });
    assert_eq!(login(&server, &fine, &[]).await.status, 201);
    // It is written down, without what was tried.
    let log = crate::audit::whole(&server);
    let failed = |it: &&Value| it["action"] == "session:create" && it["decision"] == "deny";
    assert!(log.iter().any(|it| failed(&it)), "{log:?}");
    let all = serde_json::to_string(&log).expect("JSON");
    assert!(
        !all.contains("wrong horse") && !all.contains("bob@"),
        "{all}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workspaces_and_people_on_the_command_line() {
    let server = Server::start().await;
    let files = server.data().join("own");
    std::fs::create_dir_all(&files).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = files.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let made = skep(&server, &["workspaces", "create", "red"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let red = file("red.key", &made.out);
    let as_red = |args: &[&str]| skep(&server, &[&["--api-key-file", &red], args].concat());
    let who = as_red(&["whoami"]);
    assert!(
        who.out.contains("workspace red") && who.out.contains("role owner"),
        "{}",
        who.out
    );
    let invited = as_red(&["users", "invite", "ada@example.com", "--role", "admin"]);
    assert_eq!(invited.code, Some(0), "{}", invited.err);
    let invitation = file("invitation", &invited.out);
    let password = file("password", PASSWORD);
    let flags = [
        "--invitation-file",
        &invitation,
        "--password-file",
        &password,
    ];
    let joined = skep(
        &server,
        &[&["users", "join", "--name", "Ada"], &flags[..]].concat(),
    );
    assert!(
        joined.out.contains("Ada is in, as admin"),
        "{}{}",
        joined.out,
        joined.err
    );
    she_logs_in_and_out(&server, &files.join("home"), &password);
    // Without agents a workspace goes, and its key with it.
    let removed = as_red(&["workspaces", "remove", "red", "--yes"]);
    assert_eq!(removed.code, Some(0), "{}", removed.err);
    assert_eq!(as_red(&["whoami"]).code, Some(4));
    let again = skep(&server, &["workspaces", "create", "red"]);
    assert!(again.err.contains("taken"), "{}", again.err);
}

/// She is who she is from then on.
fn she_logs_in_and_out(server: &Server, home: &Path, password: &str) {
    let as_ada = |args: &[&str]| {
        let mut command = command(server, args);
        let output = command
            .env("XDG_CONFIG_HOME", home)
            .output()
            .expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (out, err) = as_ada(&["login", "ada@example.com", "--password-file", password]);
    assert!(out.contains("Logged in to red as admin"), "{out}{err}");
    let (out, err) = as_ada(&["whoami", "-o", "json"]);
    let me: Value = serde_json::from_str(&out).expect(&err);
    assert_eq!(
        (&me["email"], &me["workspace"]),
        (&json!("ada@example.com"), &json!("red"))
    );
    let (out, _) = as_ada(&["workspaces", "list", "-o", "name"]);
    assert_eq!(out.trim(), "red", "she sees no other");
    let (_, err) = as_ada(&["--workspace", "default", "list"]);
    assert!(
        err.contains("unauthorized") || err.contains("API key"),
        "{err}"
    );
    let (out, _) = as_ada(&["account", "sessions", "-o", "name"]);
    assert_eq!(out.lines().count(), 1);
    let (out, err) = as_ada(&["logout"]);
    assert!(out.contains("Logged out"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_belongs_to_a_removed_workspace_alone_is_forgotten_with_it() {
    let server = Server::start().await;
    let key = |name: &str| {
        let made = skep(&server, &["workspaces", "create", name]);
        Client::new(&server.client.url, made.out.trim())
    };
    let (red, blue) = (key("red"), key("blue"));
    let only = join(&red, "only@red.example", "member").await;
    join(&red, "both@red.example", "member").await;
    let wish = json!({ "email": "both@red.example", "role": "viewer" });
    let invited = blue.post_json("/api/v1/invitations", &wish).await.json();
    let wish = json!({ "secret": invited["secret"], "password": PASSWORD });
    let joined = stranger(&server)
        .post_json("/api/v1/invitations/accept", &wish)
        .await;
    assert_eq!(joined.status, 201, "{}", joined.text());
    let token = async |email: &str| {
        let wish = json!({ "email": email, "password": PASSWORD, "token": true });
        stranger(&server).post_json("/api/v1/sessions", &wish).await
    };
    let begun = token("only@red.example").await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let session = begun.json()["token"].as_str().expect("a token").to_owned();
    let gone = send(&red, Method::DELETE, "/api/v1/workspaces/red", &[], "").await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    // At once nobody is in; then the account goes, too, and the address is free.
    let session = Client::new(&server.client.url, &session);
    assert_ne!(session.get("/api/v1/me").await.status, 200);
    skep_tests::eventually("the account is forgotten", async || {
        // Who has an account joins with its password alone.
        let again = server.log().contains("alone is forgotten");
        again.then_some(())
    })
    .await;
    assert_eq!(token("only@red.example").await.status, 401);
    assert_eq!(token("both@red.example").await.status, 201);
    let new = join(&blue, "only@red.example", "member").await;
    assert_ne!(new, only, "somebody new");
    assert_eq!(token("only@red.example").await.status, 201);
    let listed = blue.get("/api/v1/users").await.json();
    assert_eq!(
        listed["items"].as_array().map(Vec::len),
        Some(2),
        "{listed}"
    );
}
