//! Logging in at a provider: at a real one, at one that lies, and by somebody who tries to come in as another.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use skep_tests::issuer::base64;
use skep_tests::provider::{Browser, Liar, Lies, Provider, query};
use skep_tests::{Answer, Client, Server, Setup, eventually};
use tempfile::TempDir;

use crate::cli::command;
use crate::people::{PASSWORD, join};

const SECRET: &str = "s3cret of+the/client & more";
const SESSION: &str = "__Host-skep-session";
const TRUSTED: &str = "trusted_for = [\"example.com\"]";

/// A server that knows a provider by the name `corp`, with more of its terms.
async fn server(issuer: &str, algorithm: &str, terms: &str) -> (Server, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("providers.toml");
    write(&path, issuer, algorithm, terms);
    let env = ("SKEP_AUTH_PROVIDERS".to_owned(), path.display().to_string());
    let secret = ("CORP_SECRET".to_owned(), SECRET.to_owned());
    let setup = Setup {
        env: vec![env, secret],
        ..Setup::default()
    };
    (Server::start_with(setup).await, folder)
}

fn write(path: &Path, issuer: &str, algorithm: &str, terms: &str) {
    let text = format!(
        "[[provider]]\nname = \"corp\"\nlabel = \"Corp\"\nissuer = \"{issuer}\"\n\
         client_id = \"skep\"\nclient_secret_variable = \"CORP_SECRET\"\n\
         algorithms = [\"{algorithm}\"]\n{terms}\n"
    );
    fs::write(path, text).expect("a file");
}

/// A real provider, and a server that knows it.
async fn real(terms: &str) -> (Provider, Server, TempDir) {
    let mut provider = Provider::start().await;
    let (server, folder) = server(&provider.issuer, "RS256", terms).await;
    provider.know("skep", SECRET, &callback(&server)).await;
    (provider, server, folder)
}

fn callback(server: &Server) -> String {
    format!("{}/api/v1/callback/corp", server.client.url)
}

fn begin(server: &Server, more: &str) -> String {
    format!("{}/api/v1/login/corp{more}", server.client.url)
}

/// Logs in at the provider; tells where the browser is sent then, which it does not open.
async fn come_back(server: &Server, browser: &Browser, account: &str, more: &str) -> String {
    let from = browser.sent(&begin(server, more)).await;
    browser
        .through(&from, Some(account), &callback(server))
        .await
}

/// The whole way.
async fn log_in(server: &Server, browser: &Browser, account: &str) -> Answer {
    let back = come_back(server, browser, account, "").await;
    browser.open(&back).await
}

/// As whom the session of a browser counts.
async fn me(server: &Server, browser: &Browser) -> Option<Value> {
    let answer = browser
        .open(&format!("{}/api/v1/me", server.client.url))
        .await;
    (answer.status == 200).then(|| answer.json())
}

fn is_refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert!(!answer.text().contains("error_description"), "{what}");
    let cookies = answer.headers.get_all("set-cookie").iter();
    let mut texts = cookies.filter_map(|it| it.to_str().ok());
    assert!(!texts.any(|it| it.starts_with(SESSION)), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_at_a_provider_makes_a_session() {
    let (_provider, server, _folder) = real(TRUSTED).await;
    join(&server.client, "ada@example.com", "member").await;
    let listed = Client::new(&server.client.url, "")
        .get("/api/v1/providers")
        .await;
    assert_eq!(
        listed.json()["items"],
        json!([{ "name": "corp", "label": "Corp", "login": begin(&server, "") }])
    );
    let browser = Browser::default();
    let planted = format!("skep_session_{}", "x".repeat(46));
    browser.plant(&server.client.url, SESSION, &planted);
    let back = come_back(&server, &browser, "ada@example.com", "?to=/api/v1/me%3Fx=1").await;
    let answer = browser.open(&back).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/api/v1/me?x=1"),
        "{}",
        answer.text()
    );
    let session = browser
        .cookie(&server.client.url, SESSION)
        .expect("a session");
    assert_ne!(
        session, planted,
        "nobody chooses a session for somebody else"
    );
    let who = me(&server, &browser).await.expect("she is in");
    assert_eq!(
        (&who["email"], &who["role"]),
        (&json!("ada@example.com"), &json!("member"))
    );
    // The same way back again leads nowhere, here or in another browser, and the session goes on.
    is_refused(&browser.open(&back).await, 401, "a replayed way back");
    is_refused(
        &Browser::default().open(&back).await,
        401,
        "in another browser",
    );
    assert!(me(&server, &browser).await.is_some());
    // Who comes again has another session, and the one before ends.
    let answer = log_in(&server, &browser, "ada@example.com").await;
    assert!(
        answer.status == 200 && answer.text().contains("You are logged in"),
        "{}",
        answer.text()
    );
    let second = browser
        .cookie(&server.client.url, SESSION)
        .expect("a session");
    assert_ne!(second, session);
    let stale = Browser::default();
    stale.plant(&server.client.url, SESSION, &session);
    assert!(me(&server, &stale).await.is_none());
    written_down(&server, &back, &session);
    // It is her only way in now, whoever had a password for the account before.
    let links = browser
        .open(&format!("{}/api/v1/me/links", server.client.url))
        .await
        .json();
    assert_eq!(links["items"][0]["provider"], "corp", "{links}");
    let id = links["items"][0]["id"].as_str().expect("an id");
    let as_ada = Client::new(&server.client.url, &second);
    let path = format!("/api/v1/me/links/{id}/drop");
    let kept = as_ada.post_json(&path, &json!({})).await;
    assert_eq!((kept.status, kept.code().as_str()), (409, "last-way-in"));
    assert!(me(&server, &browser).await.is_some());
}

/// It is all written down, and no secret is anywhere.
fn written_down(server: &Server, back: &str, session: &str) {
    let log = crate::audit::whole(server);
    let told = |what: &str| {
        let mut all = log.iter();
        all.any(|it| it["action"] == "session:create" && it["change"]["what"] == what)
    };
    assert!(told("linked to corp") && told("logged in"), "{log:?}");
    let refused = |it: &Value| it["action"] == "session:create" && it["decision"] == "deny";
    assert!(log.iter().any(refused), "{log:?}");
    let code = query(back, "code").expect("a code");
    let all = format!(
        "{}{}",
        server.log(),
        serde_json::to_string(&log).expect("JSON")
    );
    for secret in [code.as_str(), SECRET, session, "skep_flow_"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_browser_that_began_a_login_ends_it() {
    let (_provider, server, _folder) = real(TRUSTED).await;
    join(&server.client, "ada@example.com", "owner").await;
    let account = "ada@example.com";
    // Eve logs in as herself and gives the link to somebody: it logs nobody in as Eve.
    let (eve, victim) = (Browser::default(), Browser::default());
    let back = come_back(&server, &eve, account, "").await;
    is_refused(&victim.open(&back).await, 401, "another browser");
    // So it is when the other browser has a login of its own on its way.
    victim.sent(&begin(&server, "")).await;
    is_refused(&victim.open(&back).await, 401, "another login");
    // It counts on for who began it.
    assert_eq!(eve.open(&back).await.status, 200);
    // Whatever else is changed on the way leads nowhere, and what is left of it counts no more.
    let state = query(&back, "state").expect("a state");
    type Change = fn(&str, &str) -> String;
    let changes: [(&str, Change); 5] = [
        ("state", |back, other| {
            let own = query(back, "state").expect("a state");
            back.replace(&own, other)
        }),
        ("no state", |back, _| back.replace("state=", "was=")),
        ("issuer", |back, _| back.replace("iss=http", "iss=https")),
        ("no issuer", |back, _| back.replace("&iss=", "&was=")),
        ("code", |back, _| back.replace("code=", "code=x")),
    ];
    for (what, change) in changes {
        let browser = Browser::default();
        let back = come_back(&server, &browser, account, "").await;
        let changed = change(&back, &state);
        assert_ne!(changed, back, "{what}");
        is_refused(&browser.open(&changed).await, 401, what);
        let kept = what.contains("state");
        let answer = browser.open(&back).await;
        assert_eq!(answer.status == 200, kept, "{what}: {}", answer.text());
    }
    // A code that was used already, or was stolen, counts for no other login.
    let old = query(&back, "code").expect("a code");
    for code in [old, {
        let unused = come_back(&server, &Browser::default(), account, "").await;
        query(&unused, "code").expect("a code")
    }] {
        let browser = Browser::default();
        let back = come_back(&server, &browser, account, "").await;
        let own = query(&back, "code").expect("a code");
        is_refused(
            &browser.open(&back.replace(&own, &code)).await,
            401,
            "another code",
        );
        assert!(me(&server, &browser).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_makes_nobody_of_an_account() {
    let (_provider, server, folder) = real("").await;
    join(&server.client, "ada@example.com", "owner").await;
    let refuse = async |account: &str, why: &str| {
        let browser = Browser::default();
        is_refused(&log_in(&server, &browser, account).await, 403, why);
        assert!(me(&server, &browser).await.is_none(), "{why}");
    };
    refuse("ada@example.com", "a provider that is not trusted").await;
    refuse("eve@example.com", "nobody knows her").await;
    // Somebody who says no.
    let browser = Browser::default();
    let from = browser.sent(&begin(&server, "")).await;
    let back = browser.through(&from, None, &callback(&server)).await;
    assert_eq!(query(&back, "error").as_deref(), Some("access_denied"));
    let answer = browser.open(&back).await;
    is_refused(&answer, 401, "no");
    assert!(answer.text().contains("<h1>"), "{}", answer.text());
    // The file is read again when it changes.
    let issuer = fs::read_to_string(folder.path().join("providers.toml")).expect("a file");
    let issuer = issuer.split('"').nth(5).expect("an issuer").to_owned();
    let more = "trusted_for = [\"example.com\"]\n\
                join = { workspace = \"default\", role = \"viewer\" }";
    write(
        &folder.path().join("providers.toml"),
        &issuer,
        "RS256",
        more,
    );
    eventually("the new terms", async || {
        let browser = Browser::default();
        (log_in(&server, &browser, "ada@example.com").await.status == 200).then_some(())
    })
    .await;
    refuse(
        "unverified:ada@example.com",
        "an address that is not verified",
    )
    .await;
    refuse("nobody", "an account without one").await;
    // Who is new comes in as it is said, with no password.
    let browser = Browser::default();
    assert_eq!(
        log_in(&server, &browser, "new@elsewhere.example")
            .await
            .status,
        200
    );
    let who = me(&server, &browser).await.expect("somebody");
    assert_eq!(
        (&who["role"], &who["email"]),
        (&json!("viewer"), &json!("new@elsewhere.example"))
    );
    let session = browser
        .cookie(&server.client.url, SESSION)
        .expect("a session");
    let as_new = Client::new(&server.client.url, &session);
    let links = as_new.get("/api/v1/me/links").await.json();
    let path = format!(
        "/api/v1/me/links/{}/drop",
        links["items"][0]["id"].as_str().expect("an id")
    );
    let kept = as_new.post_json(&path, &json!({})).await;
    assert_eq!((kept.status, kept.code().as_str()), (409, "last-way-in"));
    // Removed is removed: the session ends, and the account is nobody's.
    let id = who["id"].as_str().expect("an id");
    let gone = server
        .client
        .request(Method::DELETE, &format!("/api/v1/users/{id}"), "");
    assert_eq!(
        server.client.send(gone).await.expect("an answer").status,
        204
    );
    assert!(me(&server, &browser).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_leads_nowhere_else() {
    let liar = Liar::start().await;
    let (server, _folder) = server(&liar.issuer, "ES256", TRUSTED).await;
    let browser = Browser::default();
    for to in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "\\/evil.example",
        "evil",
        "",
        "/a%0d%0aSet-Cookie:%20x=y",
        "/%09/evil.example",
        "javascript:alert(1)",
    ] {
        let answer = browser.open(&begin(&server, &format!("?to={to}"))).await;
        assert_eq!(answer.status, 400, "{to}: {}", answer.header("location"));
    }
    for (path, status) in [
        ("?to=/&to=/", 400),
        ("?next=/", 400),
        ("?challenge=short", 400),
        ("?workspace=No%20Name", 400),
        ("x", 404),
    ] {
        assert_eq!(
            browser.open(&begin(&server, path)).await.status,
            status,
            "{path}"
        );
    }
    // The cookie is for this host alone and no script's, and what stands in the URL does not tell it.
    let answer = browser.open(&begin(&server, "?to=/fine")).await;
    let (cookie, to) = (answer.header("set-cookie"), answer.header("location"));
    for part in [
        "__Host-skep-flow=",
        "; Secure",
        "; HttpOnly",
        "; SameSite=Lax",
        "Max-Age=600",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let kept = browser
        .cookie(&server.client.url, "__Host-skep-flow")
        .expect("a flow");
    assert!(!to.contains(&kept));
    assert_eq!(query(to, "code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(query(to, "redirect_uri"), Some(callback(&server)));
    // Whoever begins without end is slowed down.
    let mut last = answer.status;
    for _ in 0..60 {
        last = browser.open(&begin(&server, "")).await.status;
    }
    assert_eq!(last, 429);
}

/// Begins a login at a liar, which answers the code so; tells what comes of it.
async fn told(
    server: &Server,
    liar: &Liar,
    token: impl FnOnce(&str) -> Value,
) -> (Browser, Answer) {
    let browser = Browser::default();
    let to = browser.sent(&begin(server, "")).await;
    let of = |name: &str| query(&to, name).expect("a part");
    liar.say("/token", &token(&of("nonce")));
    let back = format!(
        "{}?code=c&state={}&iss={}",
        callback(server),
        of("state"),
        liar.issuer
    );
    let answer = browser.open(&back).await;
    (browser, answer)
}

/// A token by no key, that says that it is signed so.
fn unsigned(liar: &Liar, nonce: &str, alg: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a time").as_secs();
    let claims = json!({
        "iss": liar.issuer, "aud": "skep", "sub": "ada", "exp": now + 600, "iat": now,
        "nonce": nonce, "email": "ada@example.com", "email_verified": true,
    });
    let part = |it: &Value| base64(it.to_string().as_bytes());
    let header = json!({ "alg": alg, "kid": "k1" });
    format!("{}.{}.{}", part(&header), part(&claims), base64(b"x"))
}

/// What is right is let in at once, whatever was wrong before.
async fn is_right(server: &Server, liar: &Liar, after: &str) -> Browser {
    let right = |nonce: &str| json!({ "id_token": liar.token(nonce, &json!({})) });
    let (browser, answer) = told(server, liar, right).await;
    assert_eq!(answer.status, 200, "after {after}: {}", answer.text());
    assert!(me(server, &browser).await.is_some());
    browser
}

/// What is wrong is refused, for this reason and no other.
async fn is_wrong(
    (server, liar): (&Server, &Liar),
    (what, reason, status): (&str, &str, u16),
    lie: impl FnOnce(&str) -> Value,
) {
    let (browser, answer) = told(server, liar, lie).await;
    is_refused(&answer, status, what);
    assert!(me(server, &browser).await.is_none(), "{what}");
    let log = server.log();
    let mut lines = log.lines().rev();
    let last = lines.find(|line| line.contains("a login at a provider was refused"));
    let last = last.expect("a line");
    let said = last.contains(&format!("\"reason\":\"{reason}\""));
    assert!(said, "{what} is {reason}: {last}");
    is_right(server, liar, what).await;
}

/// Claims that an ID token does not have, with why.
fn wrong_claims(other: &Liar) -> Vec<(&'static str, &'static str, Value)> {
    let later = 9_999_999_999_u64;
    vec![
        ("another nonce", "nonce", json!({ "nonce": "x" })),
        ("no nonce", "nonce", json!({ "nonce": null })),
        ("for another", "audience", json!({ "aud": "other" })),
        (
            "for several",
            "audience",
            json!({ "aud": ["skep", "other"] }),
        ),
        ("another party", "audience", json!({ "azp": "other" })),
        ("of another", "issuer", json!({ "iss": other.issuer })),
        ("too old", "expired", json!({ "exp": 1000 })),
        ("made long ago", "expired", json!({ "iat": 1000 })),
        ("made later", "early", json!({ "iat": later })),
        ("no time", "claims", json!({ "iat": null })),
        ("no subject", "claims", json!({ "sub": null })),
        (
            "another access token",
            "access-token",
            json!({ "at_hash": "AAAA" }),
        ),
        ("unverified", "domain", json!({ "email_verified": false })),
        (
            "verified is no word",
            "domain",
            json!({ "email_verified": 1 }),
        ),
        (
            "another domain",
            "domain",
            json!({ "email": "ada@evil.example" }),
        ),
        (
            "below it",
            "domain",
            json!({ "email": "ada@x.example.com" }),
        ),
        (
            "two of them",
            "domain",
            json!({ "email": "a@evil.example@example.com" }),
        ),
    ]
}

/// Who goes on with what is wrong is slowed down, and the provider is not asked for them.
async fn slowed_down(server: &Server, liar: &Liar) {
    let mut last = 0;
    for _ in 0..6 {
        let (_, answer) = told(server, liar, |_| json!({ "error": "raw text" })).await;
        last = answer.status;
    }
    assert_eq!(last, 429);
    for raw in ["raw", "eyJ"] {
        assert!(!server.log().contains(raw), "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_not_right_logs_nobody_in() {
    let (liar, other) = (Liar::start().await, Liar::start().await);
    let terms = format!("{TRUSTED}\ndomains = [\"example.com\"]");
    let (server, _folder) = server(&liar.issuer, "ES256", &terms).await;
    join(&server.client, "ada@example.com", "owner").await;
    is_right(&server, &liar, "nothing").await;
    let (path, form) = liar.asked().pop().expect("a question");
    assert_eq!(path, "/token");
    for part in ["grant_type=authorization_code", "code=c", "code_verifier="] {
        assert!(form.contains(part), "{form}");
    }
    let it = (&server, &liar);
    for (what, reason, changes) in wrong_claims(&other) {
        let status = if reason == "domain" { 403 } else { 401 };
        is_wrong(
            it,
            (what, reason, status),
            |nonce| json!({ "id_token": liar.token(nonce, &changes) }),
        )
        .await;
    }
    for alg in ["none", "HS256", "RS256"] {
        is_wrong(
            it,
            (alg, "algorithm", 401),
            |nonce| json!({ "id_token": unsigned(&liar, nonce, alg) }),
        )
        .await;
    }
    is_wrong(
        it,
        ("no signature", "signature", 401),
        |nonce| json!({ "id_token": unsigned(&liar, nonce, "ES256") }),
    )
    .await;
    is_wrong(
        it,
        ("signed by another", "signature", 401),
        |nonce| json!({ "id_token": other.token(nonce, &json!({ "iss": liar.issuer })) }),
    )
    .await;
    is_wrong(
        it,
        ("no token", "answer", 401),
        |_| json!({ "access_token": "a" }),
    )
    .await;
    slowed_down(&server, &liar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_says_of_a_person_is_of_that_person() {
    let liar = Liar::start().await;
    let (server, _folder) = server(&liar.issuer, "ES256", TRUSTED).await;
    join(&server.client, "ada@example.com", "member").await;
    let token = |nonce: &str| {
        let token = liar.token(nonce, &json!({ "email_verified": null }));
        json!({ "id_token": token, "access_token": "access" })
    };
    // The ID token says an address, and not that it is verified.
    let (_, answer) = told(&server, &liar, token).await;
    is_refused(&answer, 403, "not verified");
    let without = |nonce: &str| {
        let token = liar.keys.token(
            "k1",
            &json!({
                "iss": liar.issuer, "aud": "skep", "sub": "ada", "nonce": nonce,
            }),
        );
        json!({ "id_token": token, "access_token": "access" })
    };
    for (what, said, status) in [
        (
            "another person",
            json!({ "sub": "eve", "email": "ada@example.com", "email_verified": true }),
            401,
        ),
        (
            "nobody",
            json!({ "email": "ada@example.com", "email_verified": true }),
            401,
        ),
        (
            "unverified",
            json!({ "sub": "ada", "email": "ada@example.com" }),
            403,
        ),
        (
            "the person",
            json!({ "sub": "ada", "email": "ada@example.com", "email_verified": true }),
            200,
        ),
    ] {
        liar.say("/me", &said);
        let (_, answer) = told(&server, &liar, without).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_harms_nobody() {
    let liar = Liar::start().await;
    let (server, _folder) = server(&liar.issuer, "ES256", TRUSTED).await;
    join(&server.client, "ada@example.com", "member").await;
    let itself = |name: &str, value: Value| {
        let mut said = liar.itself();
        said[name] = value;
        Lies::This(200, said.to_string())
    };
    let at = "/.well-known/openid-configuration";
    for lie in [
        Lies::This(500, "down".to_owned()),
        Lies::This(200, "<html>".to_owned()),
        Lies::Endless,
        itself("issuer", json!("https://another.example")),
        itself("token_endpoint", json!("ftp://x/")),
        itself("token_endpoint", json!("http://10.0.0.1/token")),
        itself("code_challenge_methods_supported", json!(["plain"])),
        Lies::Silent,
    ] {
        let what = format!("{lie:?}");
        liar.lie(at, lie);
        let asked = liar.asked().len();
        // It is not asked again at once: the failure before is over first.
        eventually(&what, async || {
            let answer = Browser::default().open(&begin(&server, "")).await;
            assert_eq!(answer.status, 503, "{what}");
            (liar.asked().len() > asked).then_some(())
        })
        .await;
    }
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let checks = health["checks"].as_array().cloned().unwrap_or_default();
    let of = checks.iter().find(|it| it["name"] == "provider:corp");
    assert_eq!(of.expect("a check")["status"], "degraded", "{health}");
    // It is there again, and then fails where codes are taken.
    liar.say(at, &liar.itself());
    eventually("the provider", async || {
        let answer = Browser::default().open(&begin(&server, "")).await;
        (answer.status == 303).then_some(())
    })
    .await;
    for lie in [
        Lies::This(500, "down".to_owned()),
        Lies::This(302, String::new()),
        Lies::Endless,
        Lies::Silent,
    ] {
        let browser = Browser::default();
        let to = browser.sent(&begin(&server, "")).await;
        let state = query(&to, "state").expect("a state");
        liar.lie("/token", lie.clone());
        let back = format!(
            "{}?code=c&state={state}&iss={}",
            callback(&server),
            liar.issuer
        );
        is_refused(&browser.open(&back).await, 503, &format!("{lie:?}"));
    }
    // Passwords work all the time.
    let wish = json!({ "email": "ada@example.com", "password": PASSWORD });
    let nobody = Client::new(&server.client.url, "");
    assert_eq!(
        nobody.post_json("/api/v1/sessions", &wish).await.status,
        201
    );
}

/// What the CLI says to who has this folder of configuration.
fn as_somebody(server: &Server, home: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = command(server, args).env("XDG_CONFIG_HOME", home).output();
    let output = output.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What the CLI says when its browser does this with the URL that it prints.
async fn by_browser(
    server: &Server,
    home: &Path,
    args: &[&str],
    account: &str,
    change: impl Fn(&str) -> String,
) -> (Option<i32>, String, String) {
    let mut child = command(server, args)
        .env("XDG_CONFIG_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut err = BufReader::new(child.stderr.take().expect("its errors"));
    let (mut said, mut url) = (String::new(), String::new());
    while url.is_empty() {
        let mut line = String::new();
        let read = err.read_line(&mut line).expect("a line");
        assert!(read > 0, "{said}");
        if line.trim().starts_with("http") {
            line.trim().clone_into(&mut url);
        }
        said.push_str(&line);
    }
    let browser = Browser::default();
    let from = browser.sent(&url).await;
    let back = browser
        .through(&from, Some(account), &callback(server))
        .await;
    let page = browser.open(&back).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(
        browser.cookie(&server.client.url, SESSION).is_none(),
        "the browser is not logged in"
    );
    let page = page.text();
    let (_, code) = page.split_once("<code>").expect("a code");
    let code = code.split('<').next().unwrap_or_default();
    let line = format!("{}\n", change(code));
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(line.as_bytes())
        .expect("it reads");
    err.read_to_string(&mut said).expect("text");
    let output = child.wait_with_output().expect("it ends");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), out, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_by_a_browser_on_any_machine() {
    let (_provider, server, _folder) = real("").await;
    let files = server.data().join("own");
    fs::create_dir_all(&files).expect("a folder");
    let wish = json!({ "email": "ada@example.com", "role": "member" });
    let invited = server
        .client
        .post_json("/api/v1/invitations", &wish)
        .await
        .json();
    let invitation = files.join("invitation");
    fs::write(&invitation, invited["secret"].as_str().expect("a text")).expect("a file");
    let invitation = invitation.display().to_string();
    let home = files.join("home");
    let same = |code: &str| code.to_lowercase();
    let ada = "ada@example.com";
    // Somebody else's account does not take the invitation, and it counts on.
    let joining = ["users", "join", "--invitation-file", &invitation, "--sso"];
    let (code, _, err) = by_browser(&server, &home, &joining, "eve@example.com", same).await;
    assert!(
        code == Some(4) && err.contains("nobody here has this account"),
        "{code:?} {err}"
    );
    let (code, out, err) = by_browser(&server, &home, &joining, ada, same).await;
    assert!(
        code == Some(0) && out.contains("is in, as member"),
        "{out}{err}"
    );
    // A code that is another one lets nobody in.
    let login = ["login", "--sso", "corp"];
    let other = |_: &str| "ABCD-EFGH".to_owned();
    let (code, _, err) = by_browser(&server, &home, &login, ada, other).await;
    assert!(
        code == Some(4) && err.contains("the code is wrong"),
        "{code:?} {err}"
    );
    let (code, out, err) = by_browser(&server, &home, &login, ada, same).await;
    assert!(
        code == Some(0) && out.contains("Logged in to default as member"),
        "{out}{err}"
    );
    let as_ada = |args: &[&str]| as_somebody(&server, &home, args);
    let (_, out, err) = as_ada(&["whoami"]);
    assert!(out.contains(ada), "{out}{err}");
    with_another_link(&server, &home).await;
    // Without a terminal, and told not to ask, it says so.
    let (code, _, err) = as_ada(&["--no-input", "login", "--sso"]);
    assert!(code == Some(2) && err.contains("browser"), "{code:?} {err}");
}

/// The link is her last way in; with another one the first may go.
async fn with_another_link(server: &Server, home: &Path) {
    let (ada, login) = ("ada@example.com", ["login", "--sso", "corp"]);
    let same = |code: &str| code.to_lowercase();
    let as_ada = |args: &[&str]| as_somebody(server, home, args);
    let (_, out, err) = as_ada(&["account", "links", "-o", "name"]);
    let first = out.trim().to_owned();
    assert!(first.starts_with("lnk_"), "{out}{err}");
    let (_, _, err) = as_ada(&["account", "unlink", &first]);
    assert!(err.contains("last way in"), "{err}");
    let link = ["account", "link"];
    let (code, out, err) = by_browser(server, home, &link, "ada@private.example", same).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, _, err) = by_browser(server, home, &link, ada, same).await;
    assert!(
        code == Some(1) && err.contains("linked already"),
        "{code:?} {err}"
    );
    // It ends the session that began by it: she comes in by the other.
    let (code, _, err) = as_ada(&["account", "unlink", &first]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(as_ada(&["whoami"]).0, Some(4));
    let private = "ada@private.example";
    let (code, out, err) = by_browser(server, home, &login, private, same).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (_, out, _) = as_ada(&["whoami"]);
    assert!(out.contains(ada), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_begun_at_one_server_ends_at_another() {
    let postgres = skep_tests::postgres::Postgres::start();
    let mut provider = Provider::start().await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("providers.toml");
    write(&path, &provider.issuer, "RS256", TRUSTED);
    let with = |setup: Setup| {
        let more = [
            ("SKEP_AUTH_PROVIDERS".to_owned(), path.display().to_string()),
            ("CORP_SECRET".to_owned(), SECRET.to_owned()),
        ];
        let env = setup.env.into_iter().chain(more).collect();
        Setup { env, ..setup }
    };
    let one = Server::start_with(with(crate::postgres::on(&postgres))).await;
    provider.know("skep", SECRET, &callback(&one)).await;
    // Browsers reach both by the name of the first.
    let text = fs::read_to_string(&path).expect("a file");
    fs::write(&path, format!("url = \"{}\"\n{text}", one.client.url)).expect("a file");
    let two = Server::start_with(with(Setup {
        key: Some(one.client.key.clone()),
        ..crate::postgres::on(&postgres)
    }))
    .await;
    join(&one.client, "ada@example.com", "member").await;
    let browser = Browser::default();
    let back = come_back(&one, &browser, "ada@example.com", "").await;
    let flow = "__Host-skep-flow";
    let kept = browser.cookie(&one.client.url, flow).expect("a flow");
    browser.plant(&two.client.url, flow, &kept);
    let there = back.replace(&one.client.url, &two.client.url);
    let answer = browser.open(&there).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // It counts at both, and the login is over at both.
    let session = browser.cookie(&two.client.url, SESSION).expect("a session");
    for server in [&one, &two] {
        let me = Client::new(&server.client.url, &session)
            .get("/api/v1/me")
            .await;
        assert_eq!(me.json()["email"], "ada@example.com", "{}", me.text());
    }
    is_refused(
        &browser.open(&back).await,
        401,
        "a second time, at the first",
    );
    // The last way in stays, on this engine too.
    let as_ada = Client::new(&one.client.url, &session);
    let links = as_ada.get("/api/v1/me/links").await.json();
    let id = links["items"][0]["id"].as_str().expect("an id");
    let path = format!("/api/v1/me/links/{id}/drop");
    let kept = as_ada.post_json(&path, &json!({})).await;
    assert_eq!((kept.status, kept.code().as_str()), (409, "last-way-in"));
}
