//! Azure Key Vault (API 7.4). Names there have letters, digits and `-`: `/` of a name is `--` there.

use std::collections::BTreeMap;

use ::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_exchange::Entry;
use zeroize::Zeroizing;

use crate::http::Http;
use crate::{Conflict, MOST_SECRETS, Outcome, Reach, SourceError, Variable, escaped, fate, refuse};

const API: &str = "api-version=7.4";
const SCOPE: &str = "https://vault.azure.net/.default";
const LOGIN: &str = "https://login.microsoftonline.com";
const UNSET: &str =
    "who asks Azure is not said: set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET";

/// A key vault.
pub struct Azure {
    http: Http,
    login: Http,
    tenant: String,
    client: String,
    secret: Zeroizing<String>,
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

impl Azure {
    pub(crate) fn of(
        name: &str,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        let unset = || SourceError::Unset(UNSET);
        let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !fits {
            let address = format!("azure:{name}");
            return Err(SourceError::Address(
                address,
                "write azure:NAME-OF-THE-KEY-VAULT",
            ));
        }
        let own = || format!("https://{name}.vault.azure.net");
        let base = variable("AZURE_KEYVAULT_URL").unwrap_or_else(own);
        let login = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| LOGIN.to_owned());
        Ok(Self {
            http: Http::new(&base, None, reach)?,
            login: Http::new(&login, None, reach)?,
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
            .login
            .ask(Method::POST, &path, &headers, form.into_bytes())
            .await?;
        Ok(Zeroizing::new(format!(
            "Bearer {}",
            answer.json::<Token>()?.access_token
        )))
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
        let bearer = self.bearer().await?;
        let value = self.value(&bearer, &there(name)?).await?;
        Ok(value.map(|it| Zeroizing::new(it.as_bytes().to_vec())))
    }

    pub(crate) async fn read(&self) -> Result<Vec<Entry>, SourceError> {
        let bearer = self.bearer().await?;
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
        let bearer = self.bearer().await?;
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
}
