//! AWS Secrets Manager. A secret there is one value here, as it is: text or bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_exchange::Entry;
use zeroize::Zeroizing;

use crate::amazon::{Client, is};
use crate::http::Answer;
use crate::{Conflict, MOST_SECRETS, Outcome, Reach, SourceError, Variable, fate, refuse, within};

const SERVICE: &str = "secretsmanager";
/// Secrets of a page.
const PAGE: u32 = 100;
/// Letters of a name.
const MOST_NAME: usize = 512;

/// The secrets whose names begin in one way.
pub struct Aws {
    client: Client,
    prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    secret_list: Vec<Name>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

impl Aws {
    pub(crate) fn of(
        prefix: &str,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        let own = "AWS_ENDPOINT_URL_SECRETS_MANAGER";
        Ok(Self {
            client: Client::of((SERVICE, own), None, variable, reach)?,
            prefix: prefix.to_owned(),
        })
    }

    async fn ask(&self, action: &str, body: &Value) -> Result<Answer, SourceError> {
        let target = format!("{SERVICE}.{action}");
        self.client
            .ask(&target, body.to_string().into_bytes())
            .await
    }

    /// The whole names of what is there.
    async fn names(&self) -> Result<Vec<String>, SourceError> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut body = json!({ "MaxResults": PAGE });
            if !self.prefix.is_empty() {
                body["Filters"] = json!([{ "Key": "name", "Values": [self.prefix] }]);
            }
            if let Some(token) = &next {
                body["NextToken"] = json!(token);
            }
            let page: Listed = self.ask("ListSecrets", &body).await?.json()?;
            // The filter there knows no difference between large and small letters.
            let those = page.secret_list.into_iter().map(|it| it.name);
            names.extend(those.filter(|name| name.starts_with(&self.prefix)));
            if names.len() > MOST_SECRETS {
                return Err(SourceError::TooMany);
            }
            match page.next_token {
                Some(token) if next.as_ref() != Some(&token) => next = Some(token),
                _ => return Ok(names),
            }
        }
    }

    /// The value of a secret, when there is one.
    async fn value(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let answer = self
            .ask("GetSecretValue", &json!({ "SecretId": name }))
            .await?;
        if is(&answer, "ResourceNotFoundException") {
            return Ok(None);
        }
        let got: Got = answer.json()?;
        let bytes = match (got.secret_string, got.secret_binary) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(base64)) => STANDARD
                .decode(base64)
                .map_err(|_| SourceError::Answer("a value is no base64"))?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Zeroizing::new(bytes)))
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        // As what is read is called.
        let prefix = &self.prefix;
        let mut places = vec![format!("{prefix}{name}")];
        if !prefix.is_empty() && !prefix.ends_with('/') {
            places.push(format!("{prefix}/{name}"));
        }
        if prefix.rsplit('/').find(|it| !it.is_empty()) == Some(name) {
            places.push(prefix.clone());
        }
        for place in places {
            if let Some(value) = self.value(&place).await? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    pub(crate) async fn read(&self) -> Result<Vec<Entry>, SourceError> {
        let mut out = Vec::new();
        for name in self.names().await? {
            let short = name.strip_prefix(&self.prefix).unwrap_or(&name);
            let short = short.trim_start_matches('/');
            // One whose name is the prefix itself keeps its last part.
            let short = match short {
                "" => name.rsplit('/').find(|it| !it.is_empty()).unwrap_or(&name),
                _ => short,
            };
            if let Some(value) = self.value(&name).await? {
                out.push(Entry::new(short, value.to_vec()));
                within(&out)?;
            }
        }
        match out.is_empty() {
            true => Err(SourceError::Missing(format!("aws:{}", self.prefix))),
            false => Ok(out),
        }
    }

    pub(crate) async fn write(
        &self,
        entries: &[Entry],
        conflict: Conflict,
    ) -> Result<BTreeMap<String, Outcome>, SourceError> {
        let mut outcomes = BTreeMap::new();
        for entry in entries {
            let name = format!("{}{}", self.prefix, entry.name);
            let fits = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
            if name.len() > MOST_NAME || !name.chars().all(fits) {
                return Err(SourceError::Name {
                    name,
                    why: "up to 512 letters, digits and /_+=.@-",
                });
            }
            let there = self.value(&name).await?;
            let there = there.as_ref().map(|it| &it[..]);
            outcomes.insert(entry.name.clone(), fate(there, entry, conflict));
        }
        refuse(&outcomes, conflict)?;
        let mut written = 0;
        for entry in entries {
            let outcome = outcomes.get(&entry.name).copied();
            let put = match outcome {
                Some(outcome @ (Outcome::Created | Outcome::Updated)) => {
                    self.put(entry, outcome).await
                }
                _ => continue,
            };
            put.map_err(|error| error.after(written, &entry.name))?;
            written += 1;
        }
        Ok(outcomes)
    }

    async fn put(&self, entry: &Entry, outcome: Outcome) -> Result<(), SourceError> {
        let name = format!("{}{}", self.prefix, entry.name);
        let (field, value) = match std::str::from_utf8(&entry.value) {
            Ok(text) => ("SecretString", text.to_owned()),
            Err(_) => ("SecretBinary", STANDARD.encode(&entry.value[..])),
        };
        let (action, of) = match outcome {
            Outcome::Created => ("CreateSecret", "Name"),
            _ => ("PutSecretValue", "SecretId"),
        };
        // The same request twice is done once.
        let mut body = json!({ of: name, "ClientRequestToken": token()? });
        body[field] = json!(value);
        let answer = self.ask(action, &body).await?;
        match is(&answer, "ResourceExistsException") {
            true => Err(SourceError::Changed(entry.name.clone())),
            false => answer.json::<Value>().map(drop),
        }
    }
}

/// A text that no other request has.
fn token() -> Result<String, SourceError> {
    let mut bytes = [0; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| SourceError::Answer("the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
