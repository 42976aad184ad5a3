//! Google Secret Manager (API v1), by an access token. Names there have letters, digits, `_` and `-`: `/` of a name is
//! `--` there.

use std::collections::BTreeMap;

use ::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_exchange::Entry;
use zeroize::Zeroizing;

use crate::http::{Answer, Http};
use crate::{
    Conflict, MOST_SECRETS, Outcome, Reach, SourceError, Variable, escaped, fate, refuse, within,
};

const BASE: &str = "https://secretmanager.googleapis.com";
const KMS_BASE: &str = "https://cloudkms.googleapis.com";
const UNSET: &str = "who asks Google is not said: set CLOUDSDK_AUTH_ACCESS_TOKEN, which `gcloud auth \
                     print-access-token` prints";

/// The secrets of a project.
pub struct Google {
    http: Http,
    bearer: Zeroizing<String>,
    project: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    secrets: Vec<Named>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Accessed {
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: String,
}

fn there(name: &str) -> Result<String, SourceError> {
    let out = name.replace('/', "--");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    // What could not be told apart when it is read again.
    let odd = name.contains("--") || name.contains("-/") || name.contains("/-");
    match out.len() <= 255 && out.chars().all(fits) && !odd {
        true => Ok(out),
        false => Err(SourceError::Name {
            name: name.to_owned(),
            why: "up to 255 letters, digits, `_` and single `-`",
        }),
    }
}

impl Google {
    pub(crate) fn of(
        project: &str,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
        if project.is_empty() || !project.chars().all(fits) {
            let address = format!("gcp:{project}");
            return Err(SourceError::Address(address, "write gcp:PROJECT"));
        }
        let own = || BASE.to_owned();
        let base = variable("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER").unwrap_or_else(own);
        let token = variable("CLOUDSDK_AUTH_ACCESS_TOKEN").ok_or(SourceError::Unset(UNSET))?;
        Ok(Self {
            http: Http::new(&base, None, reach)?,
            bearer: Zeroizing::new(format!("Bearer {token}")),
            project: project.to_owned(),
        })
    }

    async fn ask(
        &self,
        method: Method,
        rest: &str,
        body: Option<Value>,
    ) -> Result<Answer, SourceError> {
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let path = format!("/v1/projects/{}/secrets{rest}", escaped(&self.project));
        let body = body.map(|it| it.to_string().into_bytes());
        self.http
            .ask(method, &path, &headers, body.unwrap_or_default())
            .await
    }

    /// The newest value, and whether there is such a secret at all.
    async fn value(&self, name: &str) -> Result<(Option<Zeroizing<Vec<u8>>>, bool), SourceError> {
        let rest = format!("/{}/versions/latest:access", escaped(name));
        let answer = self.ask(Method::GET, &rest, None).await?;
        if answer.status == 404 {
            // Of a secret without a version it is said the same.
            let known = self
                .ask(Method::GET, &format!("/{}", escaped(name)), None)
                .await?;
            return match known.status {
                404 => Ok((None, false)),
                _ => known.json::<Value>().map(|_| (None, true)),
            };
        }
        let data = answer.json::<Accessed>()?.payload.data;
        let bytes = STANDARD.decode(data);
        let bytes = bytes.map_err(|_| SourceError::Answer("a value is no base64"))?;
        Ok((Some(Zeroizing::new(bytes)), true))
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        Ok(self.value(&there(name)?).await?.0)
    }

    pub(crate) async fn read(&self) -> Result<Vec<Entry>, SourceError> {
        let mut names = Vec::new();
        let mut query = "?pageSize=100".to_owned();
        loop {
            let page: Listed = self.ask(Method::GET, &query, None).await?.json()?;
            let last = page
                .secrets
                .iter()
                .filter_map(|it| it.name.rsplit('/').next());
            names.extend(last.map(str::to_owned));
            if names.len() > MOST_SECRETS {
                return Err(SourceError::TooMany);
            }
            match page.next_page_token.filter(|it| !it.is_empty()) {
                Some(token) => query = format!("?pageSize=100&pageToken={}", escaped(&token)),
                None => break,
            }
        }
        let mut out = Vec::new();
        for name in names {
            if let (Some(value), _) = self.value(&name).await? {
                out.push(Entry::new(name.replace("--", "/"), value.to_vec()));
                within(&out)?;
            }
        }
        match out.is_empty() {
            true => Err(SourceError::Missing(format!("gcp:{}", self.project))),
            false => Ok(out),
        }
    }

    pub(crate) async fn write(
        &self,
        entries: &[Entry],
        conflict: Conflict,
    ) -> Result<BTreeMap<String, Outcome>, SourceError> {
        let mut outcomes = BTreeMap::new();
        let mut wanted = Vec::with_capacity(entries.len());
        for entry in entries {
            let name = there(&entry.name)?;
            let (value, known) = self.value(&name).await?;
            let outcome = fate(value.as_ref().map(|it| &it[..]), entry, conflict);
            outcomes.insert(entry.name.clone(), outcome);
            if matches!(outcome, Outcome::Created | Outcome::Updated) {
                wanted.push((entry, name, known));
            }
        }
        refuse(&outcomes, conflict)?;
        for (written, (entry, name, known)) in wanted.into_iter().enumerate() {
            self.put(entry, &name, known)
                .await
                .map_err(|error| error.after(written, &entry.name))?;
        }
        Ok(outcomes)
    }

    async fn put(&self, entry: &Entry, name: &str, known: bool) -> Result<(), SourceError> {
        if !known {
            let body = json!({ "replication": { "automatic": {} } });
            let made = self
                .ask(Method::POST, &format!("?secretId={name}"), Some(body))
                .await?;
            if made.status == 409 {
                return Err(SourceError::Changed(entry.name.clone()));
            }
            made.json::<Value>()?;
        }
        let body = json!({ "payload": { "data": STANDARD.encode(&entry.value[..]) } });
        let added = self
            .ask(Method::POST, &format!("/{name}:addVersion"), Some(body))
            .await?;
        added.json::<Value>().map(drop)
    }
}

/// A key of Google Cloud KMS (API v1).
pub(crate) struct GoogleKey {
    http: Http,
    bearer: Zeroizing<String>,
    name: String,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Zeroizing<String>,
}

impl GoogleKey {
    /// Whether it is `projects/…/locations/…/keyRings/…/cryptoKeys/…`.
    pub(crate) fn is_name(name: &str) -> bool {
        let parts: Vec<&str> = name.split('/').collect();
        let fits = |part: &str| {
            let odd = |c: char| !(c.is_ascii_alphanumeric() || "-_.:".contains(c));
            !part.is_empty() && !part.contains(odd) && part != "." && part != ".."
        };
        let words = ["projects", "locations", "keyRings", "cryptoKeys"];
        parts.len() == 8
            && parts.iter().all(|part| fits(part))
            && parts.iter().step_by(2).eq(words.iter())
    }

    pub(crate) fn of(name: &str, variable: Variable<'_>) -> Result<Self, SourceError> {
        let base = variable("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS");
        let base = base.unwrap_or_else(|| KMS_BASE.to_owned());
        let token = variable("CLOUDSDK_AUTH_ACCESS_TOKEN").ok_or(SourceError::Unset(UNSET))?;
        Ok(Self {
            http: Http::new(&base, None, None)?,
            bearer: Zeroizing::new(format!("Bearer {token}")),
            name: name.to_owned(),
        })
    }

    async fn ask(&self, what: &str, body: &Value) -> Result<Answer, SourceError> {
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let path = format!("/v1/{}:{what}", self.name);
        let body = body.to_string().into_bytes();
        self.http.ask(Method::POST, &path, &headers, body).await
    }

    pub(crate) async fn encrypt(
        &self,
        plain: &[u8],
        context: &str,
    ) -> Result<Vec<u8>, SourceError> {
        let plain = Zeroizing::new(STANDARD.encode(plain));
        let body = json!({
            "plaintext": plain.as_str(),
            "additionalAuthenticatedData": STANDARD.encode(context),
        });
        let answer = self.ask("encrypt", &body).await?;
        let cipher = answer.json::<Encrypted>()?.ciphertext;
        Ok(crate::kms::bytes(&cipher)?.to_vec())
    }

    pub(crate) async fn decrypt(
        &self,
        cipher: &[u8],
        context: &str,
    ) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let body = json!({
            "ciphertext": STANDARD.encode(cipher),
            "additionalAuthenticatedData": STANDARD.encode(context),
        });
        let answer = self.ask("decrypt", &body).await?;
        if answer.status == 400 {
            return Err(SourceError::NotOurs);
        }
        crate::kms::bytes(&answer.json::<Decrypted>()?.plaintext)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::tests::{Asked, open, pairs, serve, told};

    type Project = BTreeMap<String, Vec<String>>;

    /// A project as cloud.google.com/secret-manager/docs/reference/rest has it, one secret a page.
    fn answer(held: &Mutex<Project>, asked: &Asked) -> (u16, Value) {
        let no = || {
            (
                404,
                json!({ "error": { "code": 404, "message": "no", "status": "NOT_FOUND" } }),
            )
        };
        if asked.header("authorization") != "Bearer the-token" {
            return (401, json!({ "error": { "code": 401, "message": "who?" } }));
        }
        let mut held = held.lock().unwrap();
        let rest = asked
            .path
            .strip_prefix("/v1/projects/mine/secrets")
            .unwrap();
        match (&asked.method, rest) {
            (&Method::GET, "") => {
                let at: usize = asked
                    .query
                    .split_once("pageToken=")
                    .map_or(0, |(_, it)| it.parse().unwrap());
                let name = held.keys().nth(at).unwrap();
                let next = if at + 1 < held.len() {
                    (at + 1).to_string()
                } else {
                    String::new()
                };
                let name = format!("projects/1/secrets/{name}");
                (
                    200,
                    json!({ "secrets": [{ "name": name }], "nextPageToken": next }),
                )
            }
            (&Method::POST, "") => {
                assert_eq!(asked.body, json!({ "replication": { "automatic": {} } }));
                let name = asked.query.strip_prefix("secretId=").unwrap().to_owned();
                match held.insert(name, Vec::new()) {
                    None => (200, json!({})),
                    Some(_) => (409, json!({ "error": { "message": "there" } })),
                }
            }
            (&Method::POST, rest) => {
                let name = rest[1..].strip_suffix(":addVersion").unwrap();
                let data = asked.body["payload"]["data"].as_str().unwrap().to_owned();
                held.get_mut(name).unwrap().push(data);
                (200, json!({ "name": "x/versions/1" }))
            }
            (_, rest) => {
                let access = rest[1..].strip_suffix("/versions/latest:access");
                let known = held.get(access.unwrap_or(&rest[1..]));
                match (access, known, known.and_then(|it| it.last())) {
                    (Some(_), _, Some(data)) => (200, json!({ "payload": { "data": data } })),
                    (None, Some(_), _) => (200, json!({ "name": "x" })),
                    _ => no(),
                }
            }
        }
    }

    #[tokio::test]
    async fn google_is_read_and_written_as_its_api_says() {
        let value = |text: &str| vec![STANDARD.encode(text)];
        let held = BTreeMap::from([
            ("db--password".to_owned(), value("one")),
            ("empty".to_owned(), Vec::new()),
        ]);
        let held = Arc::new(Mutex::new(held));
        let store = held.clone();
        let url = serve(move |asked| answer(&store, asked)).await;
        let env = [
            (
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER",
                url.as_str(),
            ),
            ("CLOUDSDK_AUTH_ACCESS_TOKEN", "the-token"),
        ];
        let source = open("gcp:mine", &env).unwrap();
        let one = source.get("db/password").await.unwrap();
        assert_eq!(one.unwrap().as_slice(), b"one");
        assert_eq!(source.get("empty").await.unwrap(), None);
        let found = source.read().await.unwrap();
        assert_eq!(told(&found), pairs(&[("db/password", "one")]));
        let entries = [
            Entry::new("db/password", "new"),
            Entry::new("empty", "full"),
            Entry::new("a/b_c", vec![0xff]),
        ];
        let said = source.write(&entries, Conflict::Fail).await.unwrap_err();
        assert!(matches!(said, SourceError::There(_)), "{said}");
        assert_eq!(held.lock().unwrap().len(), 2);
        source.write(&entries, Conflict::Replace).await.unwrap();
        let held = held.lock().unwrap().clone();
        assert_eq!(held["db--password"].last(), value("new").last());
        assert_eq!(held["empty"], value("full"));
        assert_eq!(held["a--b_c"], [STANDARD.encode([0xff])]);
        let wrong = [env[0], ("CLOUDSDK_AUTH_ACCESS_TOKEN", "other")];
        let said = open("gcp:mine", &wrong).unwrap().read().await.unwrap_err();
        assert_eq!(said.to_string(), "the store said 401: who?");
    }

    /// A key as cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys has it. What is
    /// "encrypted" here stands behind what is authenticated.
    #[tokio::test]
    async fn keys_of_google_encrypt_under_a_context() {
        const NAME: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/seal";
        let url = serve(|asked| {
            if asked.header("authorization") != "Bearer the-token" {
                return (401, json!({ "error": { "code": 401, "message": "who?" } }));
            }
            let field = |name: &str| {
                let text = asked.body[name].as_str().unwrap();
                String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
            };
            let bound = format!("{}|", field("additionalAuthenticatedData"));
            let what = asked.path.strip_prefix(&format!("/v1/{NAME}:"));
            match (&asked.method, what) {
                (&Method::POST, Some("encrypt")) => {
                    let cipher = STANDARD.encode(bound + &field("plaintext"));
                    (200, json!({ "name": NAME, "ciphertext": cipher }))
                }
                (&Method::POST, Some("decrypt")) => {
                    match field("ciphertext").strip_prefix(&bound) {
                        Some(plain) => (200, json!({ "plaintext": STANDARD.encode(plain) })),
                        None => {
                            let error = json!({ "code": 400, "status": "INVALID_ARGUMENT" });
                            (400, json!({ "error": error }))
                        }
                    }
                }
                _ => (404, json!({ "error": { "message": "none" } })),
            }
        })
        .await;
        let variable = |name: &str| match name {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS" => Some(url.clone()),
            "CLOUDSDK_AUTH_ACCESS_TOKEN" => Some("the-token".to_owned()),
            _ => None,
        };
        let key = crate::Kms::of(&format!("gcp:{NAME}"), &variable).unwrap();
        let cipher = key.encrypt(b"abc", "here").await.unwrap();
        assert_eq!(cipher, b"here|abc");
        assert_eq!(key.decrypt(&cipher, "here").await.unwrap()[..], *b"abc");
        let said = key.decrypt(&cipher, "there").await;
        assert!(matches!(said, Err(SourceError::NotOurs)), "{said:?}");
        for wrong in [
            "gcp:p",
            "gcp:projects/p/locations/../keyRings/r/cryptoKeys/x",
        ] {
            let said = crate::Kms::check(wrong);
            assert!(matches!(said, Err(SourceError::Address(..))), "{said:?}");
        }
    }
}
