//! Contracts: what is sent to each store is what its documentation says, and what it answers is understood.
//!
//! The stores here are small servers that keep to the documented API and check what comes in. AWS is tested
//! against moto in the end-to-end tests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Method, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::*;

/// A request as a store sees it.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|it| it.to_str().ok());
        value.unwrap_or_default()
    }
}

/// Serves requests with a function; gives the address.
pub(crate) async fn serve(
    answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let asked = Asked {
                        method: head.method,
                        path: head.uri.path().to_owned(),
                        query: head.uri.query().unwrap_or_default().to_owned(),
                        headers: head.headers,
                        body: serde_json::from_slice(&body).unwrap_or_else(|_| {
                            Value::String(String::from_utf8_lossy(&body).into_owned())
                        }),
                    };
                    let (status, body) = answer(&asked);
                    let body = Full::new(Bytes::from(body.to_string()));
                    let mut response = Response::new(body);
                    *response.status_mut() = status.try_into().unwrap();
                    if status == 307 {
                        let elsewhere = ::http::HeaderValue::from_static("http://127.0.0.2:1/");
                        response.headers_mut().insert("location", elsewhere);
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

pub(crate) fn open(address: &str, env: &[(&str, &str)]) -> Result<Source, SourceError> {
    let find = |name: &str| env.iter().find(|(it, _)| *it == name);
    let variable = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
    Source::of(address, &variable, None).map(|found| found.expect("an address of a store"))
}

pub(crate) fn told(entries: &[Entry]) -> Vec<(String, String)> {
    let text = |it: &Entry| String::from_utf8(it.value.to_vec()).unwrap();
    entries
        .iter()
        .map(|it| (it.name.clone(), text(it)))
        .collect()
}

pub(crate) fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().map(own).collect()
}

/// The versions of each secret of a KV engine; a version without fields is a deleted one.
type Engine = BTreeMap<String, Vec<Option<Value>>>;

/// KV version 2 mounted at `secret` in the namespace `team`, as developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
/// has it.
fn kv(engine: &Mutex<Engine>, asked: &Asked) -> (u16, Value) {
    let errors = |status, text: &str| (status, json!({ "errors": [text] }));
    if asked.header("x-vault-request") != "true" || asked.header("x-vault-namespace") != "team" {
        return errors(400, "a header is missing");
    }
    if asked.path == "/v1/auth/approle/login" && asked.method == Method::POST {
        let right = asked.body == json!({ "role_id": "role", "secret_id": "hidden" });
        return match right {
            true => (200, json!({ "auth": { "client_token": "the-token" } })),
            false => errors(400, "invalid role or secret ID"),
        };
    }
    if asked.header("x-vault-token") != "the-token" {
        return errors(403, "permission denied");
    }
    let mut engine = engine.lock().unwrap();
    if let Some(folder) = asked.path.strip_prefix("/v1/secret/metadata/") {
        assert_eq!(
            (&asked.method, asked.query.as_str()),
            (&Method::GET, "list=true")
        );
        return listed(&engine, folder);
    }
    match asked.path.strip_prefix("/v1/secret/data/") {
        Some(path) if asked.method == Method::GET => held(&engine, path, &asked.query),
        Some(path) => {
            assert_eq!(asked.header("content-type"), "application/json");
            let versions = engine.entry(path.to_owned()).or_default();
            if asked.body["options"]["cas"] != json!(versions.len()) {
                return errors(
                    400,
                    "check-and-set parameter did not match the current version",
                );
            }
            versions.push(Some(asked.body["data"].clone()));
            (200, json!({ "data": { "version": versions.len() } }))
        }
        None => errors(404, "no handler for route"),
    }
}

fn listed(engine: &Engine, folder: &str) -> (u16, Value) {
    let folder = match folder {
        "" => String::new(),
        _ => format!("{folder}/"),
    };
    let below = engine.keys().filter_map(|it| it.strip_prefix(&folder));
    let mut keys: Vec<String> = below
        .map(|it| {
            it.split_inclusive('/')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    keys.dedup();
    match keys.is_empty() {
        true => (404, json!({ "errors": [] })),
        false => (200, json!({ "data": { "keys": keys } })),
    }
}

fn held(engine: &Engine, path: &str, query: &str) -> (u16, Value) {
    let versions = engine.get(path).map(Vec::as_slice).unwrap_or_default();
    let version = query
        .strip_prefix("version=")
        .map(|it| it.parse::<usize>().unwrap());
    let version = version.unwrap_or(versions.len());
    let Some(fields) = version.checked_sub(1).and_then(|at| versions.get(at)) else {
        return (404, json!({ "errors": [] }));
    };
    // One that is deleted answers 404, and tells its version.
    let (status, deleted) = match fields {
        Some(_) => (200, ""),
        None => (404, "2026-01-01T00:00:00Z"),
    };
    let metadata = json!({ "version": version, "deletion_time": deleted, "destroyed": false });
    (
        status,
        json!({ "data": { "data": fields, "metadata": metadata } }),
    )
}

fn engine() -> Arc<Mutex<Engine>> {
    let fields = |value: Value| Some(value);
    Arc::new(Mutex::new(BTreeMap::from([
        ("app".to_owned(), vec![fields(json!({ "top": "zero" }))]),
        (
            "app/db".to_owned(),
            vec![
                fields(json!({ "password": "old" })),
                fields(json!({ "password": "new", "port": 5432, "list": [1] })),
            ],
        ),
        (
            "app/gone".to_owned(),
            vec![fields(json!({ "a": "b" })), None],
        ),
        (
            "app/in/deep".to_owned(),
            vec![fields(json!({ "key with space": "x" }))],
        ),
        ("other".to_owned(), vec![fields(json!({ "not": "mine" }))]),
    ])))
}

#[tokio::test]
async fn vault_is_read_as_its_api_says() {
    let engine = engine();
    let store = engine.clone();
    let url = serve(move |asked| kv(&store, asked)).await;
    let env = [
        ("VAULT_ADDR", url.as_str()),
        ("VAULT_TOKEN", "the-token"),
        ("VAULT_NAMESPACE", "team"),
    ];
    let found = open("vault:secret/app", &env)
        .unwrap()
        .read()
        .await
        .unwrap();
    let expected = [
        ("db/list", "[1]"),
        ("db/password", "new"),
        ("db/port", "5432"),
        ("in/deep/key with space", "x"),
        ("top", "zero"),
    ];
    assert_eq!(told(&found), pairs(&expected));
    let old = open("bao:secret/app/db?version=1", &env).unwrap();
    assert_eq!(
        told(&old.read().await.unwrap()),
        pairs(&[("password", "old")])
    );
    let all = open("vault:secret", &env).unwrap().read().await.unwrap();
    assert_eq!(all.len(), 6);
    // A role instead of a token, and OpenBao's names of the variables.
    let env = [
        ("BAO_ADDR", url.as_str()),
        ("BAO_ROLE_ID", "role"),
        ("BAO_SECRET_ID", "hidden"),
        ("BAO_NAMESPACE", "team"),
    ];
    let other = open("bao:secret//other", &env)
        .unwrap()
        .read()
        .await
        .unwrap();
    assert_eq!(told(&other), pairs(&[("not", "mine")]));
    let missing = open("vault:secret/nothing", &env).unwrap().read().await;
    assert!(
        matches!(missing, Err(SourceError::Missing(_))),
        "{missing:?}"
    );
    let wrong = [
        &env[..3],
        &[("BAO_SECRET_ID", "wrong"), ("VAULT_TOKEN", "x")],
    ]
    .concat();
    let said = open("vault:secret/app", &wrong)
        .unwrap()
        .read()
        .await
        .unwrap_err();
    assert_eq!(said.to_string(), "the store said 400: a header is missing");
    let wrong = [
        &env[..1],
        &[("VAULT_TOKEN", "x"), ("VAULT_NAMESPACE", "team")],
    ]
    .concat();
    let said = open("vault:secret/app", &wrong)
        .unwrap()
        .read()
        .await
        .unwrap_err();
    assert_eq!(said.to_string(), "the store said 403: permission denied");
}

/// One secret at a time, by a role whose token is kept until it is refused.
#[tokio::test]
async fn one_secret_is_asked_for_with_a_token_that_is_kept() {
    let engine = engine();
    let state = Arc::new(Mutex::new((0, "first".to_owned())));
    let held = state.clone();
    let url = serve(move |asked| {
        let mut asked = asked.clone();
        let mut held = held.lock().unwrap();
        if asked.path.ends_with("/login") {
            held.0 += 1;
            let auth = json!({ "client_token": held.1, "lease_duration": 3600 });
            return (200, json!({ "auth": auth }));
        }
        if asked.header("x-vault-token") == held.1 {
            asked
                .headers
                .insert("x-vault-token", "the-token".parse().unwrap());
        }
        kv(&engine, &asked)
    })
    .await;
    let env = [
        ("VAULT_ADDR", url.as_str()),
        ("VAULT_ROLE_ID", "role"),
        ("VAULT_SECRET_ID", "hidden"),
        ("VAULT_NAMESPACE", "team"),
    ];
    let Source::Vault(mut store) = open("vault:secret/app", &env).unwrap() else {
        unreachable!()
    };
    let get = async |store: &vault::Vault, name: &str| {
        let value = store.get(name).await?;
        Ok(value.map(|it| String::from_utf8(it.to_vec()).unwrap()))
    };
    let is = |value: Result<Option<String>, SourceError>, expected: &str| {
        assert_eq!(value.unwrap().as_deref(), Some(expected));
    };
    is(get(&store, "db/password").await, "new");
    is(get(&store, "top").await, "zero");
    for none in ["db/none", "none/password", "gone/a", "db"] {
        assert_eq!(get(&store, none).await.unwrap(), None, "{none}");
    }
    assert_eq!(state.lock().unwrap().0, 1, "logins");
    // A no to who has just logged in is a no; to who did so long ago it may be their token's end.
    "second".clone_into(&mut state.lock().unwrap().1);
    let said = get(&store, "db/port").await.unwrap_err();
    assert!(
        matches!(said, SourceError::Refused { status: 403, .. }),
        "{said}"
    );
    assert_eq!(state.lock().unwrap().0, 1, "logins");
    store.fresh = std::time::Duration::ZERO;
    is(get(&store, "db/port").await, "5432");
    assert_eq!(state.lock().unwrap().0, 2, "logins");
}

#[tokio::test]
async fn what_is_out_of_reach_is_not_connected_to() {
    let url = serve(|_| panic!("it was asked")).await;
    let named = url.replace("127.0.0.1", "localhost");
    let reach: Reach = Arc::new(|it| !it.is_loopback());
    for base in [url, named] {
        let env = [("VAULT_ADDR", base.as_str()), ("VAULT_TOKEN", "t")];
        let find = |name: &str| env.iter().find(|(it, _)| *it == name);
        let variable = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        let said = match Source::of("vault:a/b", &variable, Some(&reach)) {
            Ok(store) => store.unwrap().read().await.map(|_| ()),
            Err(error) => Err(error),
        };
        let said = said.unwrap_err().to_string();
        assert!(said.contains("outgoing.allow"), "{said}");
    }
}

#[tokio::test]
async fn vault_is_written_with_check_and_set() {
    let engine = engine();
    let store = engine.clone();
    // Somebody else writes between the look and the write, once.
    let between = Arc::new(Mutex::new(false));
    let meddle = between.clone();
    let url = serve(move |asked| {
        if asked.method == Method::POST && std::mem::take(&mut *meddle.lock().unwrap()) {
            let mut engine = store.lock().unwrap();
            let versions = engine.get_mut("app/db").unwrap();
            versions.push(Some(json!({ "theirs": "kept" })));
        }
        kv(&store, asked)
    })
    .await;
    let env = [
        ("VAULT_ADDR", url.as_str()),
        ("VAULT_TOKEN", "the-token"),
        ("VAULT_NAMESPACE", "team"),
    ];
    let app = open("vault:secret/app", &env).unwrap();
    let entries = [
        Entry::new("db/password", "newer"),
        Entry::new("db/port", "5432"),
        Entry::new("new/one", "1"),
        Entry::new("gone/a", "again"),
        Entry::new("more", "x"),
    ];
    let before = format!("{:?}", engine.lock().unwrap());
    let said = app.write(&entries, Conflict::Fail).await.unwrap_err();
    assert!(
        matches!(&said, SourceError::There(names) if *names == ["db/password"]),
        "{said}"
    );
    assert_eq!(format!("{:?}", engine.lock().unwrap()), before);
    let done = app.write(&entries[..2], Conflict::Skip).await.unwrap();
    assert_eq!(done["db/password"], Outcome::Skipped);
    assert_eq!(format!("{:?}", engine.lock().unwrap()), before);
    let done = app.write(&entries, Conflict::Replace).await.unwrap();
    let outcomes: Vec<&str> = done.values().map(|it| it.as_str()).collect();
    assert_eq!(
        outcomes,
        ["updated", "unchanged", "created", "created", "created"]
    );
    {
        let engine = engine.lock().unwrap();
        // The other fields of the secret stay.
        let fields = json!({ "password": "newer", "port": 5432, "list": [1] });
        assert_eq!(engine["app/db"][2], Some(fields));
        assert_eq!(engine["app/gone"][2], Some(json!({ "a": "again" })));
        assert_eq!(engine["app/new"], [Some(json!({ "one": "1" }))]);
        assert_eq!(
            engine["app"][1],
            Some(json!({ "top": "zero", "more": "x" }))
        );
    }
    *between.lock().unwrap() = true;
    let said = app
        .write(&[Entry::new("db/password", "last")], Conflict::Replace)
        .await;
    assert!(matches!(said, Err(SourceError::Changed(_))), "{said:?}");
    let kept = engine.lock().unwrap()["app/db"].last().cloned().unwrap();
    assert_eq!(kept, Some(json!({ "theirs": "kept" })));
    let bytes = [Entry::new("a/b", vec![0xff])];
    assert!(matches!(
        app.write(&bytes, Conflict::Fail).await,
        Err(SourceError::Name { .. })
    ));
    let root = open("vault:secret", &env).unwrap();
    let said = root
        .write(&[Entry::new("alone", "x")], Conflict::Fail)
        .await;
    assert!(matches!(said, Err(SourceError::Name { .. })), "{said:?}");
}

#[tokio::test]
async fn what_a_store_does_wrong_is_told_without_what_was_sent() {
    let url = serve(|asked| match asked.path.as_str() {
        "/v1/a/data/x" => (307, json!({})),
        "/v1/b/data/x" => (200, json!({ "data": { "not": "kv 2" } })),
        "/v1/c/data/x" => (500, json!({ "errors": ["x".repeat(1_000)] })),
        "/v1/d/data/x" => (200, json!({ "x": "y".repeat(9 << 20) })),
        _ => (404, json!({ "errors": [] })),
    })
    .await;
    let env = [("VAULT_ADDR", url.as_str()), ("VAULT_TOKEN", "the-token")];
    for (address, told) in [
        ("vault:a/x", "where credentials do not go"),
        ("vault:b/x", "it is no secret of KV version 2"),
        ("vault:c/x", "the store said 500: xxx"),
        ("vault:d/x", "length limit exceeded"),
    ] {
        let said = open(address, &env)
            .unwrap()
            .read()
            .await
            .unwrap_err()
            .to_string();
        assert!(said.contains(told) && said.len() < 500, "{address}: {said}");
        assert!(!said.contains("the-token"), "{said}");
    }
    let nobody = [("VAULT_ADDR", "http://127.0.0.1:1"), ("VAULT_TOKEN", "x")];
    let said = open("vault:a/x", &nobody)
        .unwrap()
        .read()
        .await
        .unwrap_err();
    assert!(matches!(said, SourceError::Network { .. }), "{said}");
}

#[test]
fn what_is_missing_is_told_before_anything_is_sent() {
    let none = |_: &str| None;
    for address in ["vault:secret/x", "aws:x"] {
        let said = Source::of(address, &none, None);
        assert!(matches!(said, Err(SourceError::Unset(_))), "{address}");
    }
    for file in ["x.json", "-", "C:/x", "https://example.com/x"] {
        assert!(matches!(Source::of(file, &none, None), Ok(None)), "{file}");
    }
    let with = |address: &'static str| {
        move |name: &str| Some(if name.ends_with("ADDR") { address } else { "x" }.to_owned())
    };
    let said = Source::of("vault:a/b", &with("http://vault.example.com:8200"), None);
    assert!(matches!(said, Err(SourceError::Open(_))));
    let said = Source::of("vault:a/b", &with("vault.example.com"), None);
    assert!(matches!(said, Err(SourceError::Address(..))));
    for wrong in [
        "vault:",
        "vault:/x",
        "vault:a/../b",
        "vault:a?version=1",
        "vault:a/b?version=x",
    ] {
        let said = Source::of(wrong, &with("http://127.0.0.1:1"), None);
        assert!(matches!(said, Err(SourceError::Address(..))), "{wrong}");
    }
}

/// AWS KMS as docs.aws.amazon.com/kms/latest/APIReference has it; moto does the same in the end-to-end tests.
#[tokio::test]
async fn aws_kms_is_asked_as_its_api_says() {
    const KEY: &str = "arn:aws:kms:eu-west-3:1:key/abc";
    let url = serve(|asked| {
        assert_eq!(asked.header("content-type"), "application/x-amz-json-1.1");
        // The region of the key counts, not the one of the environment.
        let signed = asked.header("authorization");
        assert!(signed.contains("/eu-west-3/kms/aws4_request"), "{signed}");
        assert_eq!(asked.body["KeyId"], KEY);
        match asked.header("x-amz-target") {
            "TrentService.Encrypt" => {
                assert_eq!(asked.body["EncryptionContext"], json!({ "skep": "here" }));
                (
                    200,
                    json!({ "KeyId": KEY, "CiphertextBlob": asked.body["Plaintext"] }),
                )
            }
            "TrentService.Decrypt" if asked.body["EncryptionContext"]["skep"] == "here" => (
                200,
                json!({ "KeyId": KEY, "Plaintext": asked.body["CiphertextBlob"] }),
            ),
            "TrentService.Decrypt" if asked.body["EncryptionContext"]["skep"] == "fast" => {
                let said = json!({ "__type": "ThrottlingException", "message": "Rate exceeded" });
                (400, said)
            }
            "TrentService.Decrypt" if asked.body["EncryptionContext"]["skep"] == "mine" => (
                400,
                json!({ "__type": "AccessDeniedException", "Message": "not for you" }),
            ),
            _ => (400, json!({ "__type": "InvalidCiphertextException" })),
        }
    })
    .await;
    let variable = |name: &str| match name {
        "AWS_ENDPOINT_URL_KMS" => Some(url.clone()),
        "AWS_REGION" => Some("eu-central-1".to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("x".to_owned()),
        _ => None,
    };
    let key = Kms::of(&format!("aws:{KEY}"), &variable).unwrap();
    let cipher = key.encrypt(b"abc", "here").await.unwrap();
    assert_eq!(key.decrypt(&cipher, "here").await.unwrap()[..], *b"abc");
    let said = key.decrypt(&cipher, "there").await;
    assert!(matches!(said, Err(SourceError::NotOurs)), "{said:?}");
    let said = key.decrypt(&cipher, "fast").await.unwrap_err();
    assert!(said.is_passing(), "{said}");
    let said = key.decrypt(&cipher, "mine").await.unwrap_err();
    assert_eq!(said.to_string(), "the store said 400: not for you");
    assert!(!said.is_passing());
    for wrong in ["", "aws", "aws:", "aws:a b", "vault:x", "AWS:x"] {
        let said = Kms::check(wrong);
        assert!(matches!(said, Err(SourceError::Address(..))), "{said:?}");
    }
    // A key does not say where credentials go.
    let said = Kms::of("aws:arn:aws:kms:evil.example.com/:1:key/x", &variable).err();
    let said = said.expect("it is refused").to_string();
    assert_eq!(said, "AWS_REGION is no region of AWS");
    let said = Kms::of("aws:abc", &|_| None).err();
    assert!(matches!(said, Some(SourceError::Unset(_))), "{said:?}");
}
