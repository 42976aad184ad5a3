//! Which values of a file SOPS encrypts: one rule about the names on the way to a value.

use regex::{Regex, RegexBuilder};

use super::{OPEN_SUFFIX, said};
use crate::ExchangeError;
use crate::node::Node;

/// Bytes that a rule may need when it is made ready.
const MOST_RULE: usize = 1 << 20;

pub(super) enum Rules {
    OpenSuffix(String),
    Suffix(String),
    Open(Regex),
    Only(Regex),
}

impl Rules {
    pub(super) fn of(about: &Node) -> Result<Self, ExchangeError> {
        let pattern = |text: &str| {
            let made = RegexBuilder::new(text).size_limit(MOST_RULE).build();
            made.map_err(|_| ExchangeError::sops("a rule of it is no pattern that can be used"))
        };
        for name in ["unencrypted_comment_regex", "encrypted_comment_regex"] {
            if said(about, name).is_some() {
                let what = format!("`{name}` is a rule by comments, which Skep does not read");
                return Err(ExchangeError::sops(what));
            }
        }
        let mut rules = Vec::new();
        if let Some(text) = said(about, "unencrypted_suffix") {
            rules.push(Self::OpenSuffix(text.to_string()));
        }
        if let Some(text) = said(about, "encrypted_suffix") {
            rules.push(Self::Suffix(text.to_string()));
        }
        if let Some(text) = said(about, "unencrypted_regex") {
            rules.push(Self::Open(pattern(&text)?));
        }
        if let Some(text) = said(about, "encrypted_regex") {
            rules.push(Self::Only(pattern(&text)?));
        }
        if rules.len() > 1 {
            let what =
                "it has more than one rule about what is encrypted, which SOPS does not allow";
            return Err(ExchangeError::sops(what));
        }
        let default = || Self::OpenSuffix(OPEN_SUFFIX.to_owned());
        Ok(rules.pop().unwrap_or_else(default))
    }

    /// Whether the value at a path is encrypted.
    pub(super) fn encrypt(&self, path: &[String]) -> bool {
        match self {
            Self::OpenSuffix(suffix) => !path.iter().any(|name| name.ends_with(suffix)),
            Self::Suffix(suffix) => path.iter().any(|name| name.ends_with(suffix)),
            Self::Open(pattern) => !path.iter().any(|name| pattern.is_match(name)),
            Self::Only(pattern) => path.iter().any(|name| pattern.is_match(name)),
        }
    }
}
