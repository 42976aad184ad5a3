//! Endpoints: where what happens is told, and of which kinds.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use skep_core::Timestamp;
use skep_sources::{Reach, may_be_asked};

use super::error::WebhookError;

/// Letters of a name.
const MOST_NAME: usize = 64;
/// Letters of a URL.
const MOST_URL: usize = 2_000;
/// Selections of an endpoint.
const MOST_SELECTED: usize = 50;
/// How long a key that was replaced goes on signing, at most.
pub(super) const MOST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which kinds are told: one, or all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(String);

impl Selection {
    /// `call.dead`, `call.*` or `*`; of these kinds.
    ///
    /// # Errors
    /// That nothing is told by it, with what was perhaps meant.
    pub fn parse(text: &str, kinds: &[&'static str]) -> Result<Self, String> {
        let found = Self(text.to_owned());
        if kinds.iter().any(|kind| found.takes(kind)) {
            return Ok(found);
        }
        let shown: String = text.chars().take(64).collect();
        Err(match skep_core::similar(&shown, kinds.iter().copied()) {
            Some(meant) => format!("there is no event `{shown}`; did you mean `{meant}`?"),
            None => {
                format!("there is no event `{shown}`; write one, such as `call.dead`, or `call.*`")
            }
        })
    }

    pub(super) fn kept(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it takes a kind.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some("") => true,
            Some(before) => before.ends_with('.') && kind.starts_with(before),
            None => self.0 == kind,
        }
    }

    /// It as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// Somebody said so.
    Ordered,
    /// The endpoint answered 410.
    Gone,
    /// It failed for too long.
    Failing,
}

impl Off {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "off",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    pub(super) fn named(word: &str) -> Option<Self> {
        [Self::Ordered, Self::Gone, Self::Failing]
            .into_iter()
            .find(|it| it.as_str() == word)
    }
}

/// How an endpoint does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When it took something last.
    pub last_success: Option<Timestamp>,
    /// When it did not, and why.
    pub last_failure: Option<(Timestamp, String)>,
    /// Since when it has taken nothing that it was sent.
    pub failing_since: Option<Timestamp>,
    /// Messages that were not made because too many waited.
    pub missed: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that are not tried any more.
    pub dead: u64,
}

/// An endpoint of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in the workspace.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Of which kinds it is told.
    pub events: Vec<Selection>,
    /// Why nothing is sent, when it is off.
    pub off: Option<Off>,
    /// What its key is called where keys are kept.
    pub key: String,
    /// The one before, and until when it signs, too.
    pub before: Option<(String, Timestamp)>,
    /// When it was changed last.
    pub changed_at: Timestamp,
    /// How it does.
    pub health: Health,
    /// By feed, what had happened before it listened; and by [`later`], before it listened to a kind that came later.
    pub(super) begins: BTreeMap<String, u64>,
}

/// By what it is kept since when an endpoint listens to a kind that it did not take at first.
pub(super) fn later(feed: &str, kind: &str) -> String {
    format!("{feed} {kind}")
}

impl Endpoint {
    /// Whether it is told of a kind.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        self.events.iter().any(|it| it.takes(kind))
    }

    /// Whether it listened when this happened.
    pub(super) fn began(&self, feed: &str, kind: &str, number: u64) -> bool {
        let before = |at: &u64| number > *at;
        let of_kind = self.begins.get(&later(feed, kind));
        self.begins.get(feed).is_some_and(before) && of_kind.is_none_or(before)
    }
}

/// An endpoint that is to be, or as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Of which kinds it is told.
    pub events: Vec<Selection>,
    /// Whether anything is sent.
    pub on: bool,
}

impl New {
    /// All of it as one text, for its hash.
    pub(super) fn text(&self) -> String {
        let events: Vec<&str> = self.events.iter().map(Selection::as_str).collect();
        let (name, url, on) = (&self.name, &self.url, self.on);
        serde_json::json!({ "name": name, "url": url, "events": events, "on": on }).to_string()
    }

    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`WebhookError::Invalid`], with the field.
    pub fn check(&self, reach: &Reach) -> Result<(), WebhookError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > MOST_NAME || !self.name.chars().all(plain) {
            return Err(WebhookError::invalid("name", "1 to 64 of a-z, 0-9 and `-`"));
        }
        if self.events.is_empty() || self.events.len() > MOST_SELECTED {
            let why = format!("1 to {MOST_SELECTED} events, such as `call.*`");
            return Err(WebhookError::invalid("events", why));
        }
        let uri = place(&self.url).map_err(|why| WebhookError::invalid("url", why))?;
        may_be_asked(reach, &uri).map_err(|why| WebhookError::invalid("url", why))
    }
}

/// The URL of an endpoint.
pub(super) fn place(url: &str) -> Result<Uri, &'static str> {
    let wrong = "a URL such as https://example.com/hooks";
    if url.len() > MOST_URL || url.contains('#') {
        return Err("at most 2,000 letters, and no `#`");
    }
    let uri: Uri = url.parse().map_err(|_| wrong)?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong);
    };
    if authority.as_str().contains('@') {
        return Err("a name or a password stands in it: the signature says who sends");
    }
    match authority.host().is_empty() {
        true => Err(wrong),
        false => Ok(uri),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const KINDS: [&str; 4] = ["call.dead", "call.succeeded", "agent.deployed", "callous.x"];

    #[test]
    fn selections_take_what_they_name() {
        let takes = |text: &str| -> Vec<&str> {
            let found = Selection::parse(text, &KINDS).unwrap();
            KINDS.into_iter().filter(|it| found.takes(it)).collect()
        };
        assert_eq!(takes("call.*"), ["call.dead", "call.succeeded"]);
        assert_eq!(takes("call.dead"), ["call.dead"]);
        assert_eq!(takes("*").len(), 4);
        for text in ["call", "call.", "call*", "cal.*", "", "call.deed", "c*"] {
            assert!(Selection::parse(text, &KINDS).is_err(), "{text}");
        }
        let told = Selection::parse("call.deed", &KINDS).unwrap_err();
        assert!(told.contains("`call.dead`"), "{told}");
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let reach: Reach = Arc::new(|address| !address.is_loopback());
        let new = |name: &str, url: &str| New {
            name: name.to_owned(),
            url: url.to_owned(),
            events: vec![Selection::kept("*")],
            on: true,
        };
        for url in [
            "https://example.com/x?y=z",
            "http://example.com:8080",
            "https://[2001:db8::1]/",
        ] {
            new("a-1", url).check(&reach).unwrap();
        }
        for url in [
            "ftp://example.com/",
            "/hooks",
            "example.com",
            "https://ada:secret@example.com/",
            "https://example.com/#x",
            "http://127.0.0.1/",
            "https://[::1]:8443/",
            "https://",
        ] {
            let error = new("a", url).check(&reach).unwrap_err().to_string();
            assert!(error.starts_with("`url`"), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let long = "a".repeat(65);
        for name in ["", "A", "a/b", "a.b", long.as_str()] {
            assert!(
                new(name, "https://example.com/").check(&reach).is_err(),
                "{name}"
            );
        }
        let mut none = new("a", "https://example.com/");
        none.events.clear();
        assert!(none.check(&reach).is_err());
    }
}
