//! HashiCorp Vault and OpenBao: secrets engine KV, version 2. A secret there has fields; here each field is a secret:
//! the field `password` of `app/db` is `app/db/password`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_exchange::Entry;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::http::{Answer, Http};
use crate::{
    Conflict, DEEPEST, MOST_SECRETS, Outcome, Reach, SourceError, Variable, escaped_path, fate,
    refuse, within,
};

/// How long the token of a role is shown at the most.
const LONGEST_KEPT: Duration = Duration::from_secs(300);
/// For how long at least, whatever the answers are.
const FRESH: Duration = Duration::from_secs(10);
const UNSET: &str = "where Vault is and who asks is not said: set VAULT_ADDR, and VAULT_TOKEN or VAULT_ROLE_ID with \
                     VAULT_SECRET_ID (or BAO_…)";
const FORM: &str = "write vault:MOUNT/PATH, or vault:MOUNT//PATH when the mount's name has slashes; ?version=N reads \
                    an older version of one secret";

/// Who asks.
enum Who {
    Token(Zeroizing<String>),
    Role {
        id: String,
        secret: Zeroizing<String>,
    },
}

/// A part of a KV engine.
pub struct Vault {
    http: Http,
    namespace: Option<String>,
    who: Who,
    mount: String,
    path: String,
    version: Option<u32>,
    /// What a role was given.
    kept: Mutex<Option<Kept>>,
    /// How long a token is not taken for one that has ended.
    pub(crate) fresh: Duration,
}

/// A token that a role was given.
struct Kept {
    token: Zeroizing<String>,
    made: Instant,
    /// For how long it is shown.
    lasts: Duration,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Read {
    data: Option<Map<String, Value>>,
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    version: u64,
}

#[derive(Deserialize)]
struct Login {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
}

/// Fields as they are, and the version that a change must follow.
#[derive(Default)]
struct Current {
    fields: Map<String, Value>,
    version: u64,
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// The secret of the engine and the field that an entry is.
fn split(base: &str, name: &str) -> Result<(String, String), SourceError> {
    let (folder, field) = name.rsplit_once('/').unwrap_or(("", name));
    let path = match (base, folder) {
        ("", folder) => folder.to_owned(),
        (base, "") => base.to_owned(),
        (base, folder) => format!("{base}/{folder}"),
    };
    match path.is_empty() {
        true => Err(SourceError::Name {
            name: name.to_owned(),
            why: "it is a field of a secret, and no secret is named: write vault:MOUNT/PATH",
        }),
        false => Ok((path, field.to_owned())),
    }
}

impl Vault {
    pub(crate) fn of(
        rest: &str,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        let either = |name: &str| {
            let names = [format!("VAULT_{name}"), format!("BAO_{name}")];
            names.iter().find_map(|name| variable(name))
        };
        let wrong = || SourceError::Address(format!("vault:{rest}"), FORM);
        let (place, version) = match rest.split_once("?version=") {
            Some((place, version)) => (place, Some(version.parse().map_err(|_| wrong())?)),
            None => (rest, None),
        };
        let parted = place.split_once("//").or(place.split_once('/'));
        let (mount, path) = parted.unwrap_or((place, ""));
        let path = path.trim_matches('/');
        let odd = |text: &str| text.split('/').any(|part| matches!(part, "." | ".."));
        if mount.is_empty() || odd(mount) || odd(path) || (version.is_some() && path.is_empty()) {
            return Err(wrong());
        }
        let address = either("ADDR").ok_or(SourceError::Unset(UNSET))?;
        let who = match (either("TOKEN"), either("ROLE_ID"), either("SECRET_ID")) {
            (Some(token), _, _) => Who::Token(Zeroizing::new(token)),
            (None, Some(id), Some(secret)) => Who::Role {
                id,
                secret: Zeroizing::new(secret),
            },
            _ => return Err(SourceError::Unset(UNSET)),
        };
        Ok(Self {
            http: Http::new(&address, either("CACERT").as_deref(), reach)?,
            namespace: either("NAMESPACE"),
            who,
            mount: mount.to_owned(),
            path: path.to_owned(),
            version,
            kept: Mutex::default(),
            fresh: FRESH,
        })
    }

    async fn ask(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, SourceError> {
        let mut headers = vec![("x-vault-request", "true")];
        headers.extend(token.map(|token| ("x-vault-token", token)));
        headers.extend(
            self.namespace
                .as_deref()
                .map(|it| ("x-vault-namespace", it)),
        );
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|body| body.to_string().into_bytes());
        let path = format!("/v1/{path}");
        self.http
            .ask(method, &path, &headers, body.unwrap_or_default())
            .await
    }

    /// What is shown with every request.
    async fn token(&self) -> Result<Zeroizing<String>, SourceError> {
        let (id, secret) = match &self.who {
            Who::Token(token) => return Ok(token.clone()),
            Who::Role { id, secret } => (id, secret),
        };
        let mut kept = self.kept.lock().await;
        if let Some(it) = kept.as_ref().filter(|it| it.made.elapsed() < it.lasts) {
            return Ok(it.token.clone());
        }
        let body = json!({ "role_id": id, "secret_id": secret.as_str() });
        let path = "auth/approle/login";
        let answer = self.ask(None, Method::POST, path, Some(body)).await?;
        let auth = answer.json::<Login>()?.auth;
        let token = Zeroizing::new(auth.client_token);
        // Half of its time: it must still count when it arrives.
        let lasts = Duration::from_secs(auth.lease_duration / 2).min(LONGEST_KEPT);
        *kept = Some(Kept {
            token: token.clone(),
            made: Instant::now(),
            lasts: lasts.max(FRESH),
        });
        Ok(token)
    }

    /// Logs in again for the next request, unless that was done just now: a no is an ordinary answer. Tells whether
    /// that could help.
    async fn forget_token(&self) -> bool {
        let mut kept = self.kept.lock().await;
        let is_old = |it: &Kept| it.made.elapsed() > self.fresh;
        kept.take_if(|it| is_old(it)).is_some()
    }

    fn of_engine(&self, part: &str, path: &str) -> String {
        format!(
            "{}/{part}/{}",
            escaped_path(&self.mount),
            escaped_path(path)
        )
    }

    /// The fields of one secret, and whether there are any now.
    async fn current(&self, token: &str, path: &str) -> Result<Option<Current>, SourceError> {
        let mut url = self.of_engine("data", path);
        if let Some(version) = self.version {
            url.push_str(&format!("?version={version}"));
        }
        let answer = self.ask(Some(token), Method::GET, &url, None).await?;
        // One that is deleted answers 404 and tells its version.
        let known: Result<Data<Read>, _> = serde_json::from_slice(&answer.body);
        match (answer.status, known) {
            (200..300 | 404, Ok(known)) => Ok(Some(Current {
                fields: known.data.data.unwrap_or_default(),
                version: known.data.metadata.version,
            })),
            (404, Err(_)) => Ok(None),
            (200..300, Err(_)) => Err(SourceError::Answer("it is no secret of KV version 2")),
            _ => Err(answer.refused()),
        }
    }

    /// What is below a folder: secrets, and folders with `/` at their end.
    async fn list(&self, token: &str, path: &str) -> Result<Vec<String>, SourceError> {
        let url = format!("{}?list=true", self.of_engine("metadata", path));
        let answer = self.ask(Some(token), Method::GET, &url, None).await?;
        match answer.status {
            404 => Ok(Vec::new()),
            _ => Ok(answer.json::<Data<Keys>>()?.data.keys),
        }
    }

    async fn take(&self, token: &str, path: &str, out: &mut Vec<Entry>) -> Result<(), SourceError> {
        let Some(current) = self.current(token, path).await? else {
            return Ok(());
        };
        let below = path.strip_prefix(&self.path).unwrap_or(path);
        let below = below.trim_start_matches('/');
        for (field, value) in &current.fields {
            let name = match below {
                "" => field.clone(),
                _ => format!("{below}/{field}"),
            };
            out.push(Entry::new(name, bytes(value)));
        }
        within(out)
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let Ok((path, field)) = split(&self.path, name) else {
            return Ok(None);
        };
        let current = match self.current(&self.token().await?, &path).await {
            // A token that was kept may be over, or be taken back.
            Err(SourceError::Refused { status: 403, .. }) if self.forget_token().await => {
                self.current(&self.token().await?, &path).await?
            }
            other => other?,
        };
        let value = current.and_then(|it| it.fields.get(&field).map(bytes));
        Ok(value.map(Zeroizing::new))
    }

    pub(crate) async fn read(&self) -> Result<Vec<Entry>, SourceError> {
        let token = self.token().await?;
        let mut out = Vec::new();
        if !self.path.is_empty() {
            self.take(&token, &self.path, &mut out).await?;
        }
        let mut folders = vec![(self.path.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            // An older version is one of this secret alone.
            if self.version.is_some() {
                break;
            }
            for key in self.list(&token, &folder).await? {
                let path = match folder.as_str() {
                    "" => key.clone(),
                    _ => format!("{folder}/{key}"),
                };
                match path.strip_suffix('/') {
                    Some(_) if depth >= DEEPEST || folders.len() > MOST_SECRETS => {
                        return Err(SourceError::TooMany);
                    }
                    Some(inner) => folders.push((inner.to_owned(), depth + 1)),
                    None => self.take(&token, &path, &mut out).await?,
                }
            }
        }
        out.sort_by(|one, other| one.name.cmp(&other.name));
        match out.is_empty() {
            true => Err(SourceError::Missing(format!(
                "{}/{}",
                self.mount, self.path
            ))),
            false => Ok(out),
        }
    }

    pub(crate) async fn write(
        &self,
        entries: &[Entry],
        conflict: Conflict,
    ) -> Result<BTreeMap<String, Outcome>, SourceError> {
        if self.version.is_some() {
            let address = format!("vault:{}/{}?version=…", self.mount, self.path);
            return Err(SourceError::Address(
                address,
                "only the newest version can be written",
            ));
        }
        let token = self.token().await?;
        let mut there: BTreeMap<String, Current> = BTreeMap::new();
        let mut outcomes = BTreeMap::new();
        for entry in entries {
            let (path, field) = split(&self.path, &entry.name)?;
            let text = std::str::from_utf8(&entry.value).map_err(|_| SourceError::Name {
                name: entry.name.clone(),
                why: "its value is no text, which a field must be",
            })?;
            if !there.contains_key(&path) {
                let current = self.current(&token, &path).await?;
                there.insert(path.clone(), current.unwrap_or_default());
            }
            let current = there.entry(path).or_default();
            let old = current.fields.get(&field).map(bytes);
            let outcome = fate(old.as_deref(), entry, conflict);
            if matches!(outcome, Outcome::Created | Outcome::Updated) {
                current.fields.insert(field, Value::from(text));
            }
            outcomes.insert(entry.name.clone(), outcome);
        }
        refuse(&outcomes, conflict)?;
        let mut changed: Vec<String> = Vec::new();
        for entry in entries {
            let (path, _) = split(&self.path, &entry.name)?;
            let wanted = matches!(
                outcomes.get(&entry.name),
                Some(Outcome::Created | Outcome::Updated)
            );
            if wanted && !changed.contains(&path) {
                changed.push(path);
            }
        }
        for (written, path) in changed.iter().enumerate() {
            let Some(current) = there.get(path) else {
                continue;
            };
            self.put(&token, path, current)
                .await
                .map_err(|error| error.after(written, path))?;
        }
        Ok(outcomes)
    }

    /// Writes one secret, if it still is what was looked at.
    async fn put(&self, token: &str, path: &str, to: &Current) -> Result<(), SourceError> {
        let body = json!({ "options": { "cas": to.version }, "data": to.fields });
        let url = self.of_engine("data", path);
        let answer = self
            .ask(Some(token), Method::POST, &url, Some(body))
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200..300 => Ok(()),
            400 if text.contains("check-and-set") => Err(SourceError::Changed(path.to_owned())),
            _ => Err(answer.refused()),
        }
    }
}
