//! What a provider says of itself (OpenID Connect Discovery 1.0, section 3).

use serde_json::{Map, Value};

use crate::jwt::{is_web_url, strict};

/// Where a provider's doors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Where browsers go.
    pub(super) authorization: String,
    /// Where codes are taken.
    pub token: String,
    /// Where its keys are.
    pub keys: String,
    /// Where it says more of the person.
    pub person: Option<String>,
    /// Whether it names itself when it sends the browser back (RFC 9207).
    pub names_itself: bool,
    /// Whether it takes the secret of a client in a header; else it stands in the form.
    pub(super) basic: bool,
}

impl Discovery {
    /// Where the provider with this name says it.
    #[must_use]
    pub fn url(issuer: &str) -> String {
        let base = issuer.trim_end_matches('/');
        format!("{base}/.well-known/openid-configuration")
    }

    /// Reads it. A provider that calls itself otherwise than it is called is another one.
    ///
    /// # Errors
    /// What is wrong.
    pub fn read(text: &[u8], issuer: &str) -> Result<Self, String> {
        let Some(Value::Object(said)) = strict(text) else {
            return Err("it is no JSON object, or names something twice".to_owned());
        };
        if said.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err("its `issuer` is another one".to_owned());
        }
        let has = |list: &str, word: &str| lists(&said, list, word);
        if has("response_types_supported", "code") == Some(false) {
            return Err("it gives no codes (`response_types_supported`)".to_owned());
        }
        if has("code_challenge_methods_supported", "S256") == Some(false) {
            return Err("it knows no S256 (`code_challenge_methods_supported`)".to_owned());
        }
        let url = |name: &str| door(&said, name, issuer);
        let needed = |name: &str| url(name)?.ok_or_else(|| format!("it has no `{name}`"));
        Ok(Self {
            authorization: needed("authorization_endpoint")?,
            token: needed("token_endpoint")?,
            keys: needed("jwks_uri")?,
            person: url("userinfo_endpoint")?,
            names_itself: said
                .get("authorization_response_iss_parameter_supported")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            basic: has(
                "token_endpoint_auth_methods_supported",
                "client_secret_basic",
            ) != Some(false),
        })
    }
}

/// Whether a list has a word; `None` without a list.
fn lists(said: &Map<String, Value>, list: &str, word: &str) -> Option<bool> {
    let all = said.get(list)?.as_array()?;
    Some(all.iter().any(|it| it.as_str() == Some(word)))
}

/// A URL that is asked, or that browsers go to: over TLS, unless the provider itself is on this machine.
fn door(said: &Map<String, Value>, name: &str, issuer: &str) -> Result<Option<String>, String> {
    let Some(url) = said.get(name) else {
        return Ok(None);
    };
    let fits = |url: &&str| {
        let plain = url.bytes().all(|it| it.is_ascii_graphic());
        let secret = url.starts_with("https://") || issuer.starts_with("http://");
        plain && secret && is_web_url(url)
    };
    let url = url.as_str().filter(fits);
    let url = url.ok_or_else(|| format!("its `{name}` is no https URL"))?;
    Ok(Some(url.to_owned()))
}
