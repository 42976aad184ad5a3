//! Azure Key Vault (API 7.4). Names there have letters, digits and `-`: `/` of a name is `--` there.

use std::collections::BTreeMap;

use ::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_exchange::Entry;
use zeroize::Zeroizing;

use crate::http::{Answer, Http};
use crate::{
    Conflict, MOST_SECRETS, Outcome, Reach, SourceError, Variable, escaped, fate, refuse, within,
};

const API: &str = "api-version=7.4";
const SCOPE: &str = "https://vault.azure.net/.default";
const LOGIN: &str = "https://login.microsoftonline.com";
const UNSET: &str =
    "who asks Azure is not said: set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET";

/// A key vault.
pub struct Azure {
    http: Http,
    login: Login,
}

/// Who asks.
struct Login {
    http: Http,
    tenant: String,
    client: String,
    secret: Zeroizing<String>,
}

/// A key of a key vault, RSA by its hardware or not: whoever has its public half can encrypt, too.
pub(crate) struct AzureKey {
    http: Http,
    login: Login,
    name: String,
}

#[derive(Deserialize)]
struct Wrapped {
    kid: String,
    value: String,
}

#[derive(Deserialize)]
struct Unwrapped {
    value: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    value: Vec<Named>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Held {
    value: String,
}

fn there(name: &str) -> Result<String, SourceError> {
    let out = name.replace('/', "--");
    let fits = out.len() <= 127 && out.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    // What could not be told apart when it is read again.
    match fits && !name.contains("--") && !name.contains("-/") && !name.contains("/-") {
        true => Ok(out),
        false => Err(SourceError::Name {
            name: name.to_owned(),
            why: "up to 127 letters, digits and single `-`",
        }),
    }
}

/// The address of a key vault.
fn base(name: &str, variable: Variable<'_>) -> String {
    let own = || format!("https://{name}.vault.azure.net");
    variable("AZURE_KEYVAULT_URL").unwrap_or_else(own)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

impl Login {
    fn of(variable: Variable<'_>, reach: Option<&Reach>) -> Result<Self, SourceError> {
        let unset = || SourceError::Unset(UNSET);
        let login = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| LOGIN.to_owned());
        Ok(Self {
            http: Http::new(&login, None, reach)?,
            tenant: variable("AZURE_TENANT_ID").ok_or_else(unset)?,
            client: variable("AZURE_CLIENT_ID").ok_or_else(unset)?,
            secret: Zeroizing::new(variable("AZURE_CLIENT_SECRET").ok_or_else(unset)?),
        })
    }

    /// The header that is shown with every request.
    async fn bearer(&self) -> Result<Zeroizing<String>, SourceError> {
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
            escaped(&self.client),
            escaped(&self.secret),
            escaped(SCOPE)
        );
        let path = format!("/{}/oauth2/v2.0/token", escaped(&self.tenant));
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self
            .http
            .ask(Method::POST, &path, &headers, form.into_bytes())
            .await?;
        Ok(Zeroizing::new(format!(
            "Bearer {}",
            answer.json::<Token>()?.access_token
        )))
    }
}

impl AzureKey {
    /// VAULT/KEY in its parts.
    pub(crate) fn parts(text: &str) -> Option<(&str, &str)> {
        let (vault, name) = text.split_once('/')?;
        (is_name(vault) && is_name(name)).then_some((vault, name))
    }

    pub(crate) fn of(text: &str, variable: Variable<'_>) -> Result<Self, SourceError> {
        let (vault, name) = Self::parts(text).unwrap_or_default();
        Ok(Self {
            http: Http::new(&base(vault, variable), None, None)?,
            login: Login::of(variable, None)?,
            name: name.to_owned(),
        })
    }

    async fn ask(&self, version: &str, what: &str, value: &[u8]) -> Result<Answer, SourceError> {
        let bearer = self.login.bearer().await?;
        let path = format!("/keys/{}/{version}/{what}?{API}", self.name);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({ "alg": "RSA-OAEP-256", "value": URL_SAFE_NO_PAD.encode(value) });
        let body = body.to_string().into_bytes();
        self.http.ask(Method::POST, &path, &headers, body).await
    }

    /// Encrypts with the newest version of the key: that version, a colon, and what was encrypted.
    pub(crate) async fn wrap(&self, plain: &[u8]) -> Result<Vec<u8>, SourceError> {
        // Without a version the newest one is meant.
        let wrapped: Wrapped = self.ask("", "wrapkey", plain).await?.json()?;
        let version = wrapped.kid.rsplit('/').next().unwrap_or_default();
        let cipher = URL_SAFE_NO_PAD.decode(wrapped.value);
        let cipher = cipher.map_err(|_| SourceError::Answer("it is no base64"))?;
        Ok([version.as_bytes(), b":", &cipher].concat())
    }

    /// Decrypts with the version that encrypted it.
    pub(crate) async fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let at = wrapped.iter().position(|byte| *byte == b':');
        let (version, cipher) = at
            .and_then(|at| Some((wrapped.get(..at)?, wrapped.get(at + 1..)?)))
            .ok_or(SourceError::NotOurs)?;
        let version = std::str::from_utf8(version).unwrap_or_default();
        if !is_name(version) {
            return Err(SourceError::NotOurs);
        }
        let answer = self.ask(version, "unwrapkey", cipher).await?;
        // A version that is not there, or what it does not open.
        if matches!(answer.status, 400 | 404) {
            return Err(SourceError::NotOurs);
        }
        let value = answer.json::<Unwrapped>()?.value;
        let plain = URL_SAFE_NO_PAD.decode(value.as_bytes());
        let plain = plain.map_err(|_| SourceError::Answer("it is no base64"))?;
        Ok(Zeroizing::new(plain))
    }
}

impl Azure {
    pub(crate) fn of(
        name: &str,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        if !is_name(name) {
            let address = format!("azure:{name}");
            return Err(SourceError::Address(
                address,
                "write azure:NAME-OF-THE-KEY-VAULT",
            ));
        }
        Ok(Self {
            http: Http::new(&base(name, variable), None, reach)?,
            login: Login::of(variable, reach)?,
        })
    }

    async fn value(
        &self,
        bearer: &str,
        name: &str,
    ) -> Result<Option<Zeroizing<String>>, SourceError> {
        let path = format!("/secrets/{}?{API}", escaped(name));
        let headers = [("authorization", bearer)];
        let answer = self
            .http
            .ask(Method::GET, &path, &headers, Vec::new())
            .await?;
        match answer.status {
            404 => Ok(None),
            _ => Ok(Some(Zeroizing::new(answer.json::<Held>()?.value))),
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        let bearer = self.login.bearer().await?;
        let value = self.value(&bearer, &there(name)?).await?;
        Ok(value.map(|it| Zeroizing::new(it.as_bytes().to_vec())))
    }

    pub(crate) async fn read(&self) -> Result<Vec<Entry>, SourceError> {
        let bearer = self.login.bearer().await?;
        let mut names = Vec::new();
        let mut path = format!("/secrets?{API}&maxresults=25");
        loop {
            let headers = [("authorization", bearer.as_str())];
            let page = self
                .http
                .ask(Method::GET, &path, &headers, Vec::new())
                .await?;
            let page: Listed = page.json()?;
            let live = page
                .value
                .iter()
                .filter(|it| it.attributes.enabled != Some(false));
            let last = live.filter_map(|it| it.id.rsplit('/').next());
            names.extend(last.map(str::to_owned));
            if names.len() > MOST_SECRETS {
                return Err(SourceError::TooMany);
            }
            let Some(next) = page.next_link.filter(|it| !it.is_empty()) else {
                break;
            };
            // The next page is one of this vault: the token goes nowhere else.
            let rest = next
                .strip_prefix(self.http.base())
                .filter(|it| it.starts_with('/'));
            path = rest
                .ok_or(SourceError::Answer("its next page is elsewhere"))?
                .to_owned();
        }
        let mut out = Vec::new();
        for name in names {
            if let Some(value) = self.value(&bearer, &name).await? {
                out.push(Entry::new(name.replace("--", "/"), value.as_bytes()));
                within(&out)?;
            }
        }
        match out.is_empty() {
            true => Err(SourceError::Missing(self.http.base().to_owned())),
            false => Ok(out),
        }
    }

    pub(crate) async fn write(
        &self,
        entries: &[Entry],
        conflict: Conflict,
    ) -> Result<BTreeMap<String, Outcome>, SourceError> {
        let mut wanted = Vec::with_capacity(entries.len());
        for entry in entries {
            let text = std::str::from_utf8(&entry.value).map_err(|_| SourceError::Name {
                name: entry.name.clone(),
                why: "its value is no text, which it must be there",
            })?;
            wanted.push((entry, there(&entry.name)?, text));
        }
        let bearer = self.login.bearer().await?;
        let mut outcomes = BTreeMap::new();
        for (entry, name, _) in &wanted {
            let value = self.value(&bearer, name).await?;
            let outcome = fate(value.as_ref().map(|it| it.as_bytes()), entry, conflict);
            outcomes.insert(entry.name.clone(), outcome);
        }
        refuse(&outcomes, conflict)?;
        let mut written = 0;
        for (entry, name, text) in wanted {
            if !matches!(
                outcomes.get(&entry.name),
                Some(Outcome::Created | Outcome::Updated)
            ) {
                continue;
            }
            let path = format!("/secrets/{name}?{API}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
            ];
            let body = json!({ "value": text }).to_string().into_bytes();
            let put = self.http.ask(Method::PUT, &path, &headers, body).await;
            let put = put.and_then(|answer| answer.json::<Value>());
            put.map_err(|error| error.after(written, &entry.name))?;
            written += 1;
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::tests::{open, pairs, serve, told};

    /// A key vault as learn.microsoft.com/rest/api/keyvault/secrets has it, two secrets a page.
    #[tokio::test]
    async fn azure_is_read_and_written_as_its_api_says() {
        let held = BTreeMap::from([
            ("db--password".to_owned(), "one".to_owned()),
            ("off".to_owned(), "never".to_owned()),
            ("plain".to_owned(), "two".to_owned()),
        ]);
        let held = Arc::new(Mutex::new(held));
        let (store, base) = (held.clone(), Arc::new(Mutex::new(String::new())));
        let own = base.clone();
        let url = serve(move |asked| {
            if asked.path == "/tenant/oauth2/v2.0/token" {
                let form = "grant_type=client_credentials&client_id=me&client_secret=a%26b&\
                    scope=https%3A%2F%2Fvault.azure.net%2F.default";
                assert_eq!(asked.body, json!(form));
                return (200, json!({ "access_token": "the-token", "expires_in": 3599 }));
            }
            if asked.header("authorization") != "Bearer the-token" {
                return (401, json!({ "error": { "code": "Unauthorized", "message": "no" } }));
            }
            assert!(asked.query.starts_with(API), "{}", asked.query);
            let mut held = store.lock().unwrap();
            let base = own.lock().unwrap().clone();
            if asked.path == "/secrets" {
                let second = asked.query.ends_with("$skiptoken=2");
                let names = held.keys().skip(if second { 2 } else { 0 }).take(2);
                let value: Vec<Value> = names
                    .map(|it| json!({ "id": format!("{base}/secrets/{it}"), "attributes": { "enabled": it != "off" } }))
                    .collect();
                let next = (!second).then(|| format!("{base}/secrets?{API}&$skiptoken=2"));
                return (200, json!({ "value": value, "nextLink": next }));
            }
            let name = asked.path.strip_prefix("/secrets/").unwrap().to_owned();
            if asked.method == Method::PUT {
                let value = asked.body["value"].as_str().unwrap().to_owned();
                held.insert(name, value);
                return (200, json!({ "id": "x" }));
            }
            match held.get(&name) {
                Some(value) => (200, json!({ "value": value, "id": "x" })),
                None => (404, json!({ "error": { "code": "SecretNotFound", "message": "no" } })),
            }
        })
        .await;
        *base.lock().unwrap() = url.clone();
        let env = [
            ("AZURE_KEYVAULT_URL", url.as_str()),
            ("AZURE_AUTHORITY_HOST", url.as_str()),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "me"),
            ("AZURE_CLIENT_SECRET", "a&b"),
        ];
        let source = open("azure:mine", &env).unwrap();
        let one = source.get("db/password").await.unwrap();
        assert_eq!(one.unwrap().as_slice(), b"one");
        assert_eq!(source.get("none").await.unwrap(), None);
        let found = source.read().await.unwrap();
        assert_eq!(
            told(&found),
            pairs(&[("db/password", "one"), ("plain", "two")])
        );
        let entries = [Entry::new("db/password", "new"), Entry::new("a/b", "c")];
        let said = source.write(&entries, Conflict::Fail).await.unwrap_err();
        assert!(matches!(said, SourceError::There(_)), "{said}");
        assert!(!held.lock().unwrap().contains_key("a--b"));
        source.write(&entries, Conflict::Replace).await.unwrap();
        assert_eq!(held.lock().unwrap()["db--password"], "new");
        assert_eq!(held.lock().unwrap()["a--b"], "c");
        for name in ["a_b", "a--b", "a-/b", "ä"] {
            let said = source.write(&[Entry::new(name, "x")], Conflict::Fail).await;
            assert!(matches!(said, Err(SourceError::Name { .. })), "{name}");
        }
        // A next page that is elsewhere does not get the token.
        "http://127.0.0.1:9".clone_into(&mut base.lock().unwrap());
        let said = source.read().await;
        assert!(matches!(said, Err(SourceError::Answer(_))), "{said:?}");
    }

    /// Keys as learn.microsoft.com/rest/api/keyvault/keys/wrap-key and unwrap-key have them. What is "encrypted" here
    /// is turned round.
    #[tokio::test]
    async fn keys_of_azure_wrap_and_the_version_that_did_unwraps() {
        let newest = Arc::new(Mutex::new("one".to_owned()));
        let version = newest.clone();
        let url = serve(move |asked| {
            if asked.path == "/tenant/oauth2/v2.0/token" {
                return (200, json!({ "access_token": "the-token" }));
            }
            assert_eq!(asked.method, Method::POST);
            assert_eq!(asked.query, "api-version=7.4");
            assert_eq!(asked.header("authorization"), "Bearer the-token");
            assert_eq!(asked.body["alg"], "RSA-OAEP-256");
            let turned = |version: &str| {
                let bytes = URL_SAFE_NO_PAD.decode(asked.body["value"].as_str().unwrap());
                let mut bytes = bytes.unwrap();
                bytes.reverse();
                let kid = format!("https://mine.vault.azure.net/keys/seal/{version}");
                (
                    200,
                    json!({ "kid": kid, "value": URL_SAFE_NO_PAD.encode(bytes) }),
                )
            };
            match asked.path.as_str() {
                "/keys/seal//wrapkey" => turned(&version.lock().unwrap()),
                "/keys/seal/one/unwrapkey" => turned("one"),
                _ => (
                    404,
                    json!({ "error": { "code": "KeyNotFound", "message": "none" } }),
                ),
            }
        })
        .await;
        let all = [
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "me"),
            ("AZURE_CLIENT_SECRET", "a"),
            ("AZURE_AUTHORITY_HOST", url.as_str()),
            ("AZURE_KEYVAULT_URL", url.as_str()),
        ];
        let variable = |name: &str| {
            let found = all.iter().find(|(it, _)| *it == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let key = crate::Kms::of("azure:mine/seal", &variable).unwrap();
        let wrapped = key.encrypt(b"abc", "here").await.unwrap();
        assert_eq!(wrapped, b"one:cba");
        "two".clone_into(&mut newest.lock().unwrap());
        assert_eq!(key.decrypt(&wrapped, "here").await.unwrap()[..], *b"abc");
        for wrong in [&b"two:cba"[..], b"cba", b"../x:cba"] {
            let said = key.decrypt(wrong, "here").await;
            assert!(matches!(said, Err(SourceError::NotOurs)), "{said:?}");
        }
        for wrong in ["azure:mine", "azure:mine/", "azure:m.x/seal", "azure:"] {
            let said = crate::Kms::check(wrong);
            assert!(matches!(said, Err(SourceError::Address(..))), "{said:?}");
        }
    }
}
