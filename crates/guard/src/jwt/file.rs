//! The file of issuers: TOML, in which everything that is not known is an error with its place.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use skep_core::{Workspace, units};

use super::key::{self, Key, KeySet};
use super::mapping::{Mapping, Path, Place, Rank};
use super::source::{Origin, Remote};
use crate::policy::Role;

/// Issuers of a file.
const MOST_ISSUERS: usize = 32;
/// What clocks may differ by, unless it is said.
const LEEWAY: Duration = Duration::from_secs(30);
/// What they may differ by at most.
const MOST_LEEWAY: Duration = Duration::from_secs(300);
/// How often keys are fetched, unless it is said.
const REFRESH: Duration = Duration::from_secs(600);
const SHORTEST_REFRESH: Duration = Duration::from_secs(10);
/// How long keys count while the issuer is away, unless it is said.
const KEEP: Duration = Duration::from_secs(24 * 3600);
const LONGEST_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    issuer: Vec<Wire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<String>,
    jwks_url: Option<String>,
    jwks: Option<String>,
    pem: Option<String>,
    secret_file: Option<String>,
    leeway: Option<String>,
    refresh: Option<String>,
    keep: Option<String>,
    workspace: String,
    workspaces: Option<Vec<String>>,
    role: Option<String>,
    role_claim: Option<Claim>,
    roles: Option<BTreeMap<String, String>>,
}

/// Names with dots between them, or a list of names, which may have dots in them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Claim {
    Dotted(String),
    Steps(Vec<String>),
}

/// One issuer whose tokens count.
pub struct Issuer {
    /// What it is called here: a part of its users' ids.
    pub name: String,
    pub(super) issuer: String,
    pub(super) audience: Vec<String>,
    pub(super) leeway: Duration,
    pub(super) mapping: Mapping,
    keys: Option<Origin>,
}

impl Issuer {
    /// Its keys, once.
    pub(super) fn take_keys(&mut self) -> Origin {
        let none = || Origin::Given(KeySet::empty());
        self.keys.take().unwrap_or_else(none)
    }
}

/// The issuers of a file. `secret` reads a file that nobody else may read; relative paths are from the
/// file's own folder, which is its business.
///
/// # Errors
/// What is wrong, with its place, and never with a secret.
pub fn read_file(
    text: &str,
    secret: impl Fn(&FilePath) -> Result<Vec<u8>, String>,
) -> Result<Vec<Issuer>, String> {
    let document: Document = toml::from_str(text).map_err(|error| place(text, &error))?;
    if document.issuer.len() > MOST_ISSUERS {
        return Err(format!("there are more than {MOST_ISSUERS} issuers"));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (at, wire) in document.issuer.into_iter().enumerate() {
        let called = format!("issuer {} (`{}`)", at + 1, wire.name);
        let issuer = wire.read(&secret);
        let issuer = issuer.map_err(|reason| format!("{called}: {reason}"))?;
        let is_same = |it: &Issuer| it.name == issuer.name || it.issuer == issuer.issuer;
        if issuers.iter().any(is_same) {
            return Err(format!("{called}: there is one of this name or `issuer`"));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

/// An error of TOML with its line.
pub(crate) fn place(text: &str, error: &toml::de::Error) -> String {
    let until = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..until].iter().filter(|it| **it == b'\n');
    format!("line {}: {}", line.count() + 1, error.message())
}

/// A length of time within bounds.
fn length(
    name: &str,
    text: Option<&str>,
    default: Duration,
    bounds: (Duration, Duration),
) -> Result<Duration, String> {
    let Some(text) = text else {
        return Ok(default);
    };
    let (least, most) = bounds;
    let read = units::parse_duration(text).filter(|it| (least..=most).contains(it));
    read.ok_or_else(|| {
        let (least, most) = (units::format_duration(least), units::format_duration(most));
        format!("`{name}` is a duration from {least} to {most}")
    })
}

impl Wire {
    fn read(self, secret: impl Fn(&FilePath) -> Result<Vec<u8>, String>) -> Result<Issuer, String> {
        Workspace::new(&self.name).map_err(|error| error.to_string())?;
        if self.issuer.is_empty() || self.audience.is_empty() {
            return Err("`issuer` and `audience` say which tokens count; fill them".to_owned());
        }
        if self.audience.iter().any(String::is_empty) {
            return Err("an `audience` is empty".to_owned());
        }
        let leeway = length(
            "leeway",
            self.leeway.as_deref(),
            LEEWAY,
            (Duration::ZERO, MOST_LEEWAY),
        )?;
        Ok(Issuer {
            keys: Some(self.keys(secret)?),
            mapping: self.mapping()?,
            name: self.name,
            issuer: self.issuer,
            audience: self.audience,
            leeway,
        })
    }

    fn algorithms(&self) -> Result<Vec<Algorithm>, String> {
        let read = |name: &String| {
            let unknown = || {
                format!(
                    "`{name}` is no algorithm: there are HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"
                )
            };
            key::algorithm(name).ok_or_else(unknown)
        };
        let all: Vec<Algorithm> = self.algorithms.iter().map(read).collect::<Result<_, _>>()?;
        let secrets = all.iter().filter(|it| key::is_secret(**it)).count();
        match (&self.secret_file, secrets, all.len()) {
            (_, _, 0) => {
                Err("`algorithms` says by which its tokens are signed; fill it".to_owned())
            }
            (Some(_), 1, 1) | (None, 0, _) => Ok(all),
            (Some(_), _, _) => {
                Err("`secret_file` counts for one of HS256, HS384 and HS512".to_owned())
            }
            (None, _, _) => Err("HS256, HS384 and HS512 take a `secret_file`".to_owned()),
        }
    }

    fn keys(
        &self,
        secret: impl Fn(&FilePath) -> Result<Vec<u8>, String>,
    ) -> Result<Origin, String> {
        let algorithms = self.algorithms()?;
        let refresh = self.refresh.as_deref();
        let refresh = length("refresh", refresh, REFRESH, (SHORTEST_REFRESH, KEEP))?;
        let keep = length("keep", self.keep.as_deref(), KEEP, (refresh, LONGEST_KEEP))?;
        let given = match (&self.jwks_url, &self.jwks, &self.pem, &self.secret_file) {
            (Some(url), None, None, None) => {
                if !is_web_url(url) {
                    let why =
                        "`jwks_url` is an https URL, or http on this machine (127.0.0.1, [::1])";
                    return Err(why.to_owned());
                }
                return Ok(Origin::Url(Remote {
                    url: url.clone(),
                    algorithms,
                    refresh,
                    keep,
                }));
            }
            (None, Some(jwks), None, None) => {
                KeySet::jwks(jwks.as_bytes(), &algorithms).map_err(|why| format!("`jwks`: {why}"))
            }
            (None, None, Some(pem), None) => Key::pem(pem, &algorithms)
                .map(KeySet::of)
                .map_err(|why| format!("`pem`: {why}")),
            (None, None, None, Some(path)) => secret(FilePath::new(path))
                .and_then(|secret| Key::secret(secret.trim_ascii_end(), algorithms[0]))
                .map(KeySet::of)
                .map_err(|why| format!("`secret_file` {path}: {why}")),
            _ => Err("give one of `jwks_url`, `jwks`, `pem` and `secret_file`".to_owned()),
        };
        given.map(Origin::Given)
    }

    fn mapping(&self) -> Result<Mapping, String> {
        let place = Place::parse(&self.workspace).map_err(|why| format!("`workspace`: {why}"))?;
        let within = self.workspaces.as_ref().map(|names| {
            let read = names.iter().map(|name| Workspace::new(name));
            read.collect::<Result<Vec<_>, _>>()
        });
        let within = within.transpose().map_err(|error| error.to_string())?;
        let rank = match (&self.role, &self.role_claim, &self.roles) {
            (Some(role), None, None) => Rank::Fixed(role.parse()?),
            (None, Some(claim), Some(table)) => {
                let steps = match claim {
                    Claim::Dotted(text) => text.split('.').map(str::to_owned).collect(),
                    Claim::Steps(steps) => steps.clone(),
                };
                let path = Path::new(steps).map_err(|why| format!("`role_claim`: {why}"))?;
                let read = |(value, role): (&String, &String)| {
                    let role = role.parse::<Role>();
                    role.map(|role| (value.clone(), role))
                };
                Rank::Of(path, table.iter().map(read).collect::<Result<_, _>>()?)
            }
            _ => return Err("give `role`, or `role_claim` and the table `roles`".to_owned()),
        };
        Ok(Mapping {
            place,
            within,
            rank,
        })
    }
}

/// Whether a URL is one whose answers others cannot change on their way.
pub(crate) fn is_web_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty()
        || authority.contains(['@', '\\'])
        || url.len() > 2048
        || url.contains('#')
    {
        return false;
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => authority,
    };
    matches!(
        (scheme, host),
        ("https", _) | ("http", "127.0.0.1" | "[::1]")
    )
}
