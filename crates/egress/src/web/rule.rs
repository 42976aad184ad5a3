//! Rules: which hosts may be asked, how, and with which secret. Which rule a request falls under depends on the rules and
//! the request alone, and not on their order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderName;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use serde::{Deserialize, Serialize};

use super::WebError;
use crate::headers::is_of_connection;
use crate::recordings::MOST_DAYS;

/// Characters of a rule's name.
const MOST_NAME: usize = 64;
/// Characters of a host, a path or a text.
const MOST_TEXT: usize = 500;
/// Methods of a rule.
const MOST_METHODS: usize = 16;
/// Paths of a rule.
const MOST_PATHS: usize = 64;
/// The shortest text that is replaced wherever it stands.
const LEAST_PLACEHOLDER: usize = 8;
/// Where a secret stands in the form of a header.
const VALUE: &str = "{}";
/// Where its Base64 stands.
const VALUE_BASE64: &str = "{base64}";
/// Headers that say what the request is: no secret goes there.
const NO_PLACE: [HeaderName; 3] = [HOST, CONTENT_LENGTH, EXPECT];

/// How a host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the open.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As URLs have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that nobody needs to name.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// This one.
    One(String),
    /// All whose names end with a dot and this.
    Below(String),
    /// Any.
    Any,
}

/// Where something may be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// How.
    pub scheme: Scheme,
    /// Whom.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

/// A host's name as it is compared: in lower case, without a dot at its end, an address without brackets.
pub(super) fn plain_host(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if let Some(inner) = inner {
        let address: Ipv6Addr = inner.parse().ok()?;
        return Some(address.to_string());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(fits)
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}

impl FromStr for Origin {
    type Err = WebError;

    fn from_str(text: &str) -> Result<Self, WebError> {
        let wrong = |why: &str| {
            WebError::invalid(
                "host",
                format!(
                    "`{text}` {why}: write `api.example.com`, `*.example.com:8443`, `http://internal:8080` or `*`"
                ),
            )
        };
        if text.len() > MOST_TEXT {
            return Err(wrong("is too long"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(_) => return Err(wrong("is neither of http nor of https")),
            None => (Scheme::Https, text),
        };
        if rest.contains(['/', '?', '#', '@']) {
            return Err(wrong("is more than a host"));
        }
        let (host, port) = split_port(rest).ok_or_else(|| wrong("has no such port"))?;
        let host = match host {
            "*" => Host::Any,
            _ => match host.strip_prefix("*.") {
                Some(below) => {
                    let below = plain_host(below).filter(|it| it.contains('.'));
                    let below = below.filter(|it| it.parse::<IpAddr>().is_err());
                    Host::Below(below.ok_or_else(|| wrong("names too many hosts, or none"))?)
                }
                None => Host::One(plain_host(host).ok_or_else(|| wrong("is no host"))?),
            },
        };
        let port = port.unwrap_or(scheme.port());
        Ok(Self { scheme, host, port })
    }
}

/// A host and the port behind it, if there is one. Nothing, when that is no port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = text.rfind(']').map_or(0, |at| at + 1);
    match text.get(end..)?.rfind(':') {
        None => Some((text, None)),
        Some(at) => {
            let (host, port) = text.split_at(end + at);
            let port: u16 = port.get(1..)?.parse().ok()?;
            (port > 0).then_some((host, Some(port)))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme == Scheme::Http {
            f.write_str("http://")?;
        }
        match &self.host {
            Host::One(name) if name.contains(':') => write!(f, "[{name}]")?,
            Host::One(name) => f.write_str(name)?,
            Host::Below(name) => write!(f, "*.{name}")?,
            Host::Any => f.write_str("*")?,
        }
        match self.port == self.scheme.port() {
            true => Ok(()),
            false => write!(f, ":{}", self.port),
        }
    }
}

impl Origin {
    fn is_at(&self, host: &str, port: u16) -> bool {
        self.port == port
            && match &self.host {
                Host::One(name) => name == host,
                Host::Below(name) => host
                    .strip_suffix(name.as_str())
                    .is_some_and(|it| it.len() > 1 && it.ends_with('.')),
                Host::Any => true,
            }
    }
}

/// Where a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Into a header, in the place of what is there: `Bearer {}`, `Basic {base64}`.
    Header {
        /// Its name.
        name: String,
        /// What it is to be.
        form: String,
    },
    /// Into a field of the query, in the place of what is there.
    Query(String),
    /// In the place of placeholders alone: those that the agent was lent, and this text, if there is one.
    Placeholder(Option<String>),
}

/// The secret that is put into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub secret: String,
    /// One field of it, when it is a JSON object.
    pub field: Option<String>,
    /// Where it goes.
    pub place: Place,
}

/// A rule of a workspace: who is asked, how, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, of which there is one in a workspace.
    pub name: String,
    /// Who may be asked.
    pub to: Origin,
    /// By which methods; by any, when there are none.
    pub methods: Vec<String>,
    /// At which paths: `/v1/*/items/**`; at any, when there are none.
    pub paths: Vec<String>,
    /// What is put in.
    pub credential: Option<Credential>,
    /// Whether TLS is opened also when nothing else of it asks for that: each request is decided on and written down.
    pub open: bool,
    /// For how many days exchanges by it are kept; 0: they are not. What is kept has to be looked into.
    pub record_days: u32,
}

/// What becomes of a tunnel to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnel<'a> {
    /// It passes as it is, by this rule.
    Blind(&'a Rule),
    /// Skep looks into it, and decides about each request: what it is to be named until then.
    Opened(&'a Rule),
}

/// How close a rule is to a request: the greatest is the one that counts.
type Closeness<'a> = (u8, usize, usize, bool, Reverse<&'a str>);

/// Whether a path is read by everybody as the same: without steps up, however they are written.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let low = path.to_ascii_lowercase();
    let decoded = low.replace("%2e", ".").replace("%2f", "/");
    let decoded = decoded.replace("%5c", "/").replace('\\', "/");
    let bare = |part: &str| part.split(';').next().unwrap_or_default().to_owned();
    decoded
        .split('/')
        .all(|part| !matches!(bare(part).as_str(), "." | ".."))
}

/// Whether an escape of a `%` makes another escape of a step or of a slash, for who decodes twice.
fn is_escaped_twice(path: &str) -> bool {
    let low = path.to_ascii_lowercase();
    low.split("%25").skip(1).any(|rest| {
        let rest = rest.trim_start_matches("25");
        ["2e", "2f", "5c"].iter().any(|it| rest.starts_with(it))
    })
}

/// A path as it is sent: escapes of letters, digits and `-._~` are decoded, and those of others have capital digits
/// (RFC 3986, section 6.2.2).
///
/// # Errors
/// [`WebError::Bad`], when servers may read it in more than one way.
pub(super) fn sent_path(path: &str) -> Result<String, WebError> {
    let bad = |why: &str| Err(WebError::Bad(why.to_owned()));
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, escape)) = rest.split_once('%') {
        out.push_str(before);
        let digits = escape.get(..2);
        let digits = digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|it| u8::from_str_radix(it, 16).ok()) else {
            return bad("a path with a `%` that begins no escape is not asked for: write `%25`");
        };
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        rest = escape.get(2..).unwrap_or_default();
    }
    out.push_str(rest);
    if !is_plain(&out) {
        return bad("a path with steps up (`..`) is not asked for: write where it leads");
    }
    match is_escaped_twice(&out) {
        true => bad("a path in which a step or a slash is escaped twice is not asked for"),
        false => Ok(out),
    }
}

/// A path as rules and policies see it: as it is sent, without a query, and with one slash where there are more.
///
/// # Errors
/// [`WebError::Bad`], when servers may read it in more than one way.
pub fn seen_path(path: &str) -> Result<String, WebError> {
    let sent = sent_path(path.split(['?', '#']).next().unwrap_or_default())?;
    let mut out = String::with_capacity(sent.len());
    for c in sent.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    Ok(out)
}

/// Whether some servers read one part of a path as more.
fn hides_slash(part: &str) -> bool {
    part.contains("%2F") || part.contains("%5C") || part.contains('\\')
}

/// How many characters of a path a pattern names, when it fits; both as they are seen.
fn fits(pattern: &str, path: &str) -> Option<usize> {
    let mut parts = path.split('/');
    let mut named = 0;
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return Some(named);
        }
        let part = parts.next()?;
        match wanted {
            "*" if !part.is_empty() && !hides_slash(part) => {}
            _ if wanted == part => named += wanted.len() + 1,
            _ => return None,
        }
    }
    // One that ends is closer than one that goes on.
    parts.next().is_none().then_some(named + 1)
}

impl Rule {
    /// Whether TLS has to be opened for it.
    #[must_use]
    pub fn opens(&self) -> bool {
        let looks = self.open || self.record_days > 0 || self.credential.is_some();
        looks || !self.methods.is_empty() || !self.paths.is_empty()
    }

    /// How close it is to a request, when that falls under it. The path is as it is seen.
    fn closeness(
        &self,
        (scheme, host, port): (Scheme, &str, u16),
        method: &str,
        path: &str,
    ) -> Option<Closeness<'_>> {
        if self.to.scheme != scheme || !self.to.is_at(host, port) {
            return None;
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|it| it == method) {
            return None;
        }
        let named = match self.paths.is_empty() {
            true => 0,
            false => {
                let patterns = self.paths.iter().filter_map(|it| seen_path(it).ok());
                1 + patterns.filter_map(|it| fits(&it, path)).max()?
            }
        };
        let (kind, length) = self.nearness();
        let name = Reverse(self.name.as_str());
        Some((kind, length, named, !self.methods.is_empty(), name))
    }

    fn nearness(&self) -> (u8, usize) {
        match &self.to.host {
            Host::One(_) => (2, 0),
            Host::Below(name) => (1, name.len()),
            Host::Any => (0, 0),
        }
    }

    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`WebError::Invalid`], with the field.
    pub fn check(&self) -> Result<(), WebError> {
        let wrong = |field: &str, why: &str| Err(WebError::invalid(field, why));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &self.name;
        if name.is_empty() || name.len() > MOST_NAME || !name.chars().all(plain) {
            return wrong("name", "1 to 64 of a-z, 0-9 and `-`");
        }
        let is_method = |it: &String| {
            let fits = |c: char| c.is_ascii_uppercase() || c == '-';
            !it.is_empty() && it.len() <= 32 && it.chars().all(fits) && it != "CONNECT"
        };
        if self.methods.len() > MOST_METHODS || !self.methods.iter().all(is_method) {
            return wrong("methods", "16 at most, such as `GET` or `POST`");
        }
        let is_path = |it: &String| {
            let ends = it
                .find("**")
                .is_none_or(|at| at + 2 == it.len() && it.ends_with("/**"));
            let whole = it
                .split('/')
                .all(|part| !part.contains('*') || matches!(part, "*" | "**"));
            let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\');
            it.starts_with('/')
                && it.len() <= MOST_TEXT
                && it.chars().all(fits)
                && ends
                && whole
                && sent_path(it).is_ok()
        };
        if self.paths.len() > MOST_PATHS || !self.paths.iter().all(is_path) {
            return wrong(
                "paths",
                "64 at most, such as `/v1/items`; `*` stands for one part, `/**` at the end for all that follows",
            );
        }
        if self.record_days > MOST_DAYS {
            return wrong("record_days", "3650 at most");
        }
        match &self.credential {
            Some(_) if self.to.host == Host::Any => wrong(
                "secret",
                "no secret is put into requests to any host: name the host",
            ),
            Some(credential) => credential.check(),
            None => Ok(()),
        }
    }
}

impl Credential {
    fn check(&self) -> Result<(), WebError> {
        let wrong = |field: &str, why: &str| Err(WebError::invalid(field, why));
        let is_text =
            |it: &str| !it.is_empty() && it.len() <= MOST_TEXT && !it.chars().any(char::is_control);
        if !is_text(&self.secret) || !self.field.as_deref().is_none_or(is_text) {
            return wrong("secret", "the name of a secret, and of a field in it");
        }
        match &self.place {
            Place::Header { name, form } => {
                let is_header = name.parse::<HeaderName>().is_ok_and(|it| {
                    let is_taken = NO_PLACE.contains(&it) || is_of_connection(&it);
                    !is_taken && !it.as_str().starts_with("skep-")
                });
                if !is_header {
                    return wrong(
                        "header",
                        "the name of a header, such as `Authorization`, that is not of the connection",
                    );
                }
                let values = form.matches(VALUE).count() + form.matches(VALUE_BASE64).count();
                let fits = form.chars().all(|c| c.is_ascii_graphic() || c == ' ');
                match values == 1 && fits && form.len() <= MOST_TEXT {
                    true => Ok(()),
                    false => wrong(
                        "form",
                        "a text with `{}` once where the secret stands, or `{base64}`",
                    ),
                }
            }
            Place::Query(name) => match is_text(name)
                && name
                    .chars()
                    .all(|c| c.is_ascii_graphic() && !"&=#?%+".contains(c))
            {
                true => Ok(()),
                false => wrong("query", "the name of a field, such as `key`"),
            },
            Place::Placeholder(None) => Ok(()),
            Place::Placeholder(Some(text)) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
                match text.len() >= LEAST_PLACEHOLDER
                    && text.len() <= MOST_TEXT
                    && text.chars().all(fits)
                {
                    true => Ok(()),
                    false => wrong(
                        "placeholder",
                        "8 to 500 of letters, digits, `_`, `-` and `.`",
                    ),
                }
            }
        }
    }

    /// A header's value with the secret in it.
    pub(super) fn formed(form: &str, value: &[u8]) -> Vec<u8> {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let (mark, inner) = match form.contains(VALUE_BASE64) {
            true => (VALUE_BASE64, STANDARD.encode(value).into_bytes()),
            false => (VALUE, value.to_vec()),
        };
        let (before, after) = form.split_once(mark).unwrap_or((form, ""));
        [before.as_bytes(), &inner, after.as_bytes()].concat()
    }
}

/// The rule that a request falls under: the closest.
pub(super) fn find<'a>(
    rules: &'a [std::sync::Arc<Rule>],
    (scheme, host, port): (Scheme, &str, u16),
    (method, path): (&str, &str),
) -> Option<&'a std::sync::Arc<Rule>> {
    let close =
        |rule: &&std::sync::Arc<Rule>| rule.closeness((scheme, host, port), method, path).is_some();
    rules.iter().filter(close).max_by(|a, b| {
        let of = |it: &'a std::sync::Arc<Rule>| it.closeness((scheme, host, port), method, path);
        of(a).cmp(&of(b))
    })
}

/// What becomes of a tunnel: it stays closed when the closest rule lets every request through as it is.
pub(super) fn tunnel<'a>(
    rules: &'a [std::sync::Arc<Rule>],
    host: &str,
    port: u16,
) -> Option<Tunnel<'a>> {
    let at = rules.iter().filter(|it| it.to.is_at(host, port));
    let closest = at.max_by_key(|it| {
        // One that looks at more of a request is closer than one that does not.
        (
            it.nearness(),
            it.to.scheme == Scheme::Http,
            it.opens(),
            Reverse(it.name.as_str()),
        )
    })?;
    match closest.opens() || closest.to.scheme == Scheme::Http {
        true => Some(Tunnel::Opened(closest)),
        false => Some(Tunnel::Blind(closest)),
    }
}

/// Whether any rule is about this host, whatever else it asks for.
pub(super) fn at_host<'a>(
    rules: &'a [std::sync::Arc<Rule>],
    host: &str,
    port: u16,
) -> Vec<&'a str> {
    let at = rules.iter().filter(|it| it.to.is_at(host, port));
    at.map(|it| it.name.as_str()).collect()
}

/// The secrets, and fields of them, that rules of a host name, and which rule does.
pub(super) fn secrets_at<'a>(
    rules: &'a [std::sync::Arc<Rule>],
    host: &str,
) -> BTreeMap<(&'a str, Option<&'a str>), &'a str> {
    let at = rules.iter().filter(|it| it.to.is_at(host, it.to.port));
    let named = at.filter_map(|it| Some((it.credential.as_ref()?, it.name.as_str())));
    let named = named.map(|(it, rule)| ((it.secret.as_str(), it.field.as_deref()), rule));
    named.collect()
}

/// A rule as its row has it. Fields may be added with a default; none changes its meaning.
#[derive(Serialize, Deserialize)]
struct Stored {
    to: String,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    open: bool,
    #[serde(default)]
    record_days: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<StoredCredential>,
}

#[derive(Serialize, Deserialize)]
struct StoredCredential {
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    place: StoredPlace,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredPlace {
    Header { name: String, form: String },
    Query(String),
    Placeholder(Option<String>),
}

impl Rule {
    /// As its row has it.
    pub(super) fn to_text(&self) -> String {
        let credential = self.credential.clone().map(|it| StoredCredential {
            secret: it.secret,
            field: it.field,
            place: match it.place {
                Place::Header { name, form } => StoredPlace::Header { name, form },
                Place::Query(name) => StoredPlace::Query(name),
                Place::Placeholder(text) => StoredPlace::Placeholder(text),
            },
        });
        let stored = Stored {
            to: self.to.to_string(),
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            open: self.open,
            record_days: self.record_days,
            credential,
        };
        // Texts alone: it cannot fail.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Of its row.
    pub(super) fn from_text(name: &str, text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        Some(Self {
            name: name.to_owned(),
            to: stored.to.parse().ok()?,
            methods: stored.methods,
            paths: stored.paths,
            open: stored.open,
            record_days: stored.record_days,
            credential: stored.credential.map(|it| Credential {
                secret: it.secret,
                field: it.field,
                place: match it.place {
                    StoredPlace::Header { name, form } => Place::Header { name, form },
                    StoredPlace::Query(name) => Place::Query(name),
                    StoredPlace::Placeholder(text) => Place::Placeholder(text),
                },
            }),
        })
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
