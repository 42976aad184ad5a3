//! The file of providers: TOML, in which everything that is not known is an error with its place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use skep_core::{Workspace, units};
use zeroize::Zeroizing;

use crate::jwt::{Fetch, IdTokens, id_algorithms, is_web_url, place};
use crate::policy::Role;

/// Providers of a file.
const MOST_PROVIDERS: usize = 16;
/// Characters of a label.
const MOST_LABEL: usize = 60;
/// What clocks may differ by, unless it is said.
const LEEWAY: Duration = Duration::from_secs(30);
const MOST_LEEWAY: Duration = Duration::from_secs(300);
/// What is asked for, unless it is said.
const SCOPES: [&str; 3] = ["openid", "email", "profile"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    url: Option<String>,
    #[serde(default)]
    provider: Vec<Wire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    label: Option<String>,
    issuer: String,
    client_id: String,
    client_secret_file: Option<String>,
    client_secret_variable: Option<String>,
    scopes: Option<Vec<String>>,
    algorithms: Option<Vec<String>>,
    leeway: Option<String>,
    #[serde(default)]
    email: Email,
    #[serde(default)]
    domains: Vec<String>,
    #[serde(default)]
    trusted_for: Vec<String>,
    join: Option<Join>,
    #[serde(default)]
    second_factor: Factor,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Email {
    claim: Option<String>,
    #[serde(default)]
    always_verified: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    workspace: String,
    role: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Factor {
    #[serde(default)]
    amr: Vec<String>,
    #[serde(default)]
    acr: Vec<String>,
    #[serde(default)]
    needed: bool,
}

/// Where a client's secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret<'a> {
    /// In a file.
    File(&'a Path),
    /// In an environment variable.
    Variable(&'a str),
}

/// Under which terms an account counts.
pub(super) struct Terms {
    pub(super) email_claim: String,
    /// What holds when it is not said whether the address is verified.
    pub(super) email_verified: bool,
    pub(super) domains: Vec<String>,
    pub(super) trusted_for: Vec<String>,
    pub(super) join: Option<(Workspace, Role)>,
    pub(super) amr: Vec<String>,
    pub(super) acr: Vec<String>,
    pub(super) second_factor_needed: bool,
}

/// A provider that people log in by.
pub struct Provider {
    /// What it is called here.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// What it calls itself.
    pub issuer: String,
    client: String,
    secret: Option<Zeroizing<String>>,
    scopes: String,
    algorithms: Vec<String>,
    leeway: Duration,
    pub(super) terms: Terms,
}

/// The providers of a file.
pub struct Providers {
    /// Where browsers reach Skep, without a `/` at its end, when that is said.
    pub url: Option<String>,
    /// Which there are.
    pub all: Vec<Provider>,
}

impl Provider {
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    pub(super) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|it| it.as_str())
    }

    pub(super) fn scopes(&self) -> &str {
        &self.scopes
    }

    /// The classes of authentication that are wished for.
    pub(super) fn wished(&self) -> String {
        self.terms.acr.join(" ")
    }

    /// What verifies its ID tokens; keys come by `fetch`.
    #[must_use]
    pub fn id_tokens(&self, fetch: Arc<dyn Fetch>) -> IdTokens {
        // They were read before.
        let algorithms = id_algorithms(&self.algorithms).unwrap_or_default();
        IdTokens::new((&self.issuer, &self.client), algorithms, self.leeway, fetch)
    }
}

/// The providers of a file. `secret` reads what nobody else may read; relative paths are from the file's own
/// folder, which is its business.
///
/// # Errors
/// What is wrong, with its place, and never with a secret.
pub fn read_file(
    text: &str,
    secret: impl Fn(Secret<'_>) -> Result<Vec<u8>, String>,
) -> Result<Providers, String> {
    let document: Document = toml::from_str(text).map_err(|error| place(text, &error))?;
    let url = document.url.map(|it| it.trim_end_matches('/').to_owned());
    let fits = |url: &String| {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let plain = rest.bytes().all(|it| it.is_ascii_graphic());
        plain && !rest.contains(['/', '?', '#']) && is_web_url(url)
    };
    if !url.as_ref().is_none_or(fits) {
        return Err(
            "`url` is where browsers reach Skep: an https URL without a path, or http on this machine (127.0.0.1, [::1])"
                .to_owned(),
        );
    }
    if document.provider.len() > MOST_PROVIDERS {
        return Err(format!("there are more than {MOST_PROVIDERS} providers"));
    }
    let mut all: Vec<Provider> = Vec::new();
    for (at, wire) in document.provider.into_iter().enumerate() {
        let called = format!("provider {} (`{}`)", at + 1, wire.name);
        let read = wire.read(&secret);
        let read = read.map_err(|reason| format!("{called}: {reason}"))?;
        let is_same = |it: &Provider| it.name == read.name || it.issuer == read.issuer;
        if all.iter().any(is_same) {
            return Err(format!("{called}: there is one of this name or `issuer`"));
        }
        all.push(read);
    }
    Ok(Providers { url, all })
}

fn domains(key: &str, all: &[String]) -> Result<Vec<String>, String> {
    let fits = |it: &String| {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
        !it.is_empty() && it.chars().all(plain) && !it.starts_with('.')
    };
    match all.iter().find(|it| !fits(it)) {
        Some(wrong) => Err(format!(
            "`{key}`: `{wrong}` is no domain such as example.com"
        )),
        None => Ok(all.iter().map(|it| it.to_lowercase()).collect()),
    }
}

impl Wire {
    fn read(
        self,
        secret: impl Fn(Secret<'_>) -> Result<Vec<u8>, String>,
    ) -> Result<Provider, String> {
        Workspace::new(&self.name).map_err(|error| error.to_string())?;
        let label = self.label.clone().unwrap_or_else(|| self.name.clone());
        if label.chars().count() > MOST_LABEL || label.chars().any(char::is_control) {
            return Err(format!("`label` has at most {MOST_LABEL} characters"));
        }
        let plain = self.issuer.bytes().all(|it| it.is_ascii_graphic());
        if !plain || !is_web_url(&self.issuer) || self.issuer.contains('?') {
            return Err(
                "`issuer` is an https URL, or http on this machine (127.0.0.1, [::1])".to_owned(),
            );
        }
        if self.client_id.is_empty() {
            return Err("`client_id` is what the provider calls Skep; fill it".to_owned());
        }
        let scopes: Vec<String> = match &self.scopes {
            Some(given) => given.clone(),
            None => SCOPES.map(str::to_owned).to_vec(),
        };
        let is_word = |it: &String| !it.is_empty() && it.bytes().all(|it| it.is_ascii_graphic());
        if !scopes.iter().all(is_word) || !scopes.iter().any(|it| it == "openid") {
            return Err(
                "`scopes` are words without spaces, and `openid` is one of them".to_owned(),
            );
        }
        let leeway = match &self.leeway {
            None => LEEWAY,
            Some(text) => units::parse_duration(text)
                .filter(|it| *it <= MOST_LEEWAY)
                .ok_or("`leeway` is a duration of at most 5m")?,
        };
        let algorithms = self.algorithms.clone();
        let algorithms = algorithms.unwrap_or_else(|| vec!["RS256".to_owned()]);
        id_algorithms(&algorithms)?;
        Ok(Provider {
            secret: self.secret(secret)?,
            terms: self.terms()?,
            name: self.name,
            label,
            issuer: self.issuer,
            client: self.client_id,
            scopes: scopes.join(" "),
            algorithms,
            leeway,
        })
    }

    fn secret(
        &self,
        secret: impl Fn(Secret<'_>) -> Result<Vec<u8>, String>,
    ) -> Result<Option<Zeroizing<String>>, String> {
        let (key, read) = match (&self.client_secret_file, &self.client_secret_variable) {
            (None, None) => return Ok(None),
            (Some(path), None) => ("client_secret_file", secret(Secret::File(Path::new(path)))),
            (None, Some(name)) => ("client_secret_variable", secret(Secret::Variable(name))),
            (Some(_), Some(_)) => {
                return Err(
                    "give `client_secret_file` or `client_secret_variable`, or none for a public client"
                        .to_owned(),
                );
            }
        };
        let bytes = read.map_err(|why| format!("`{key}`: {why}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{key}`: it is not UTF-8"))?;
        let text = Zeroizing::new(text.trim_end().to_owned());
        match text.is_empty() {
            true => Err(format!("`{key}`: it is empty")),
            false => Ok(Some(text)),
        }
    }

    fn terms(&self) -> Result<Terms, String> {
        let trusted_for = domains("trusted_for", &self.trusted_for)?;
        let join = self.join.as_ref().map(|join| {
            let workspace = Workspace::new(&join.workspace).map_err(|error| error.to_string())?;
            match join.role.parse::<Role>()? {
                Role::Owner => Err("`join`: nobody becomes an owner by themselves".to_owned()),
                role => Ok((workspace, role)),
            }
        });
        let Factor { amr, acr, needed } = &self.second_factor;
        if *needed && amr.is_empty() && acr.is_empty() {
            return Err(
                "`second_factor`: say by which `amr` or `acr` the provider tells of it".to_owned(),
            );
        }
        let claim = self.email.claim.clone();
        Ok(Terms {
            email_claim: claim.unwrap_or_else(|| "email".to_owned()),
            email_verified: self.email.always_verified,
            domains: domains("domains", &self.domains)?,
            trusted_for,
            join: join.transpose()?,
            amr: amr.clone(),
            acr: acr.clone(),
            second_factor_needed: *needed,
        })
    }
}
