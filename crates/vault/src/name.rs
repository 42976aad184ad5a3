//! Names and tags of secrets, and what can be searched for without reading them.
//!
//! Names and tags lie in the store encrypted. Beside them lie *tokens*: HMACs, under a key of the workspace,
//! of the words in them and of the beginnings of these words. A search makes the same tokens of what is
//! looked for. Who has the store alone learns which secrets share words, and no word.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use skep_crypto::Key;

use crate::VaultError;

/// Characters of a name.
pub const MOST_NAME: usize = 200;
/// Tags of a secret.
pub const MOST_TAGS: usize = 32;
/// Characters of a tag's name, and of its value.
pub const MOST_TAG: usize = 100;
/// Bytes of a token.
pub const TOKEN: usize = 16;
/// Characters of the shortest beginning of a word that is found.
pub const SHORTEST: usize = 2;
/// Characters of the longest one.
const LONGEST: usize = 24;
/// Tokens of a secret.
const MOST_TOKENS: usize = 512;

/// What a secret is called in its workspace: parts of letters, digits, `.`, `_` and `-` with `/` between
/// them, as `stripe` or `billing/stripe.test`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// What names of Skep's own secrets begin with.
const OWN: &str = "skep";

impl SecretName {
    /// A secret of Skep's own: `skep/…`, which nobody else can name.
    ///
    /// # Errors
    /// [`VaultError::Invalid`].
    pub fn own(rest: &str) -> Result<Self, VaultError> {
        Self::kept(&format!("{OWN}/{rest}"))
    }

    /// Whether it is one of Skep's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0.split('/').next() == Some(OWN)
    }

    /// Refuses what is Skep's own: nobody gives it another value.
    pub(crate) fn not_own(&self) -> Result<(), VaultError> {
        match self.is_own() {
            true => Err(VaultError::invalid("name", "it is Skep's own")),
            false => Ok(()),
        }
    }

    /// As it was written down, whosever it is.
    pub(crate) fn kept(text: &str) -> Result<Self, VaultError> {
        let is_part = |part: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            !part.is_empty() && part.chars().all(fits) && !part.chars().all(|c| c == '.')
        };
        // An id in the place of a name is an id.
        if text.len() <= MOST_NAME && text.split('/').all(is_part) && !text.starts_with("sec_") {
            return Ok(Self(text.to_owned()));
        }
        Err(VaultError::invalid(
            "name",
            format!(
                "write up to {MOST_NAME} letters, digits, `.`, `_` and `-`, with `/` between parts, such as \
                 `billing/stripe`; `sec_` begins an id"
            ),
        ))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, VaultError> {
        if text.split('/').next() == Some(OWN) {
            let reason = format!("what lies below `{OWN}/` is Skep's own: choose another name");
            return Err(VaultError::invalid("name", reason));
        }
        Self::kept(text)
    }
}

/// Tags by name.
pub type Tags = BTreeMap<String, String>;

/// Whether these tags can be kept.
///
/// # Errors
/// [`VaultError::Invalid`].
pub fn check_tags(tags: &Tags) -> Result<(), VaultError> {
    if tags.len() > MOST_TAGS {
        return Err(VaultError::invalid("tags", format!("at most {MOST_TAGS}")));
    }
    for (name, value) in tags {
        let fits = |text: &str| {
            text.chars().count() <= MOST_TAG && !text.chars().any(|c| c.is_control() || c == '=')
        };
        if name.is_empty() || !fits(name) || !fits(value) {
            let reason = format!("a name and a value have up to {MOST_TAG} characters without `=`");
            return Err(VaultError::invalid("tags", reason));
        }
    }
    Ok(())
}

/// What somebody looks for: all of it must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    words: Vec<String>,
    tags: Vec<(String, Option<String>)>,
}

impl Query {
    /// A query of words and of tags (`name` or `name=value`).
    ///
    /// # Errors
    /// [`VaultError::Invalid`] when a word is shorter than what can be found.
    pub fn new<'a>(
        words: &str,
        tags: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, VaultError> {
        let words: Vec<String> = words_of(words).collect();
        if words.iter().any(|word| word.chars().count() < SHORTEST) {
            let reason = format!("write at least {SHORTEST} characters of each word");
            return Err(VaultError::invalid("query", reason));
        }
        let tags = tags.into_iter().map(|tag| match tag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (tag.to_owned(), None),
        });
        Ok(Self {
            words,
            tags: tags.collect(),
        })
    }

    /// A query that finds all whose names begin with a path, and others.
    pub(crate) fn of_name(path: &SecretName) -> Self {
        let words = words_of(path.as_str()).filter(|word| word.chars().count() >= SHORTEST);
        Self {
            words: words.collect(),
            tags: Vec::new(),
        }
    }

    /// Whether everything is found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.tags.is_empty()
    }

    pub(crate) fn tokens(&self, key: &Key) -> BTreeSet<[u8; TOKEN]> {
        let words = self.words.iter().map(|word| of_word(key, word));
        let tags = self
            .tags
            .iter()
            .map(|(name, value)| of_tag(key, name, value.as_deref()));
        words.chain(tags).collect()
    }
}

/// Lower-case words of a text.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

fn token(key: &Key, parts: &[&str]) -> [u8; TOKEN] {
    let mac = key.mac(parts.join("\0").as_bytes());
    let mut token = [0; TOKEN];
    token.copy_from_slice(&mac[..TOKEN]);
    token
}

fn of_word(key: &Key, word: &str) -> [u8; TOKEN] {
    let beginning: String = word.chars().take(LONGEST).collect();
    token(key, &["word", &beginning])
}

fn of_tag(key: &Key, name: &str, value: Option<&str>) -> [u8; TOKEN] {
    match value {
        Some(value) => token(key, &["tag", name, value]),
        None => token(key, &["tag", name]),
    }
}

/// The token by which a secret is found by its whole name; no two of a workspace have the same.
pub(crate) fn of_name(key: &Key, name: &SecretName) -> [u8; TOKEN] {
    token(key, &["name", name.as_str()])
}

/// The tokens of a secret.
pub(crate) fn tokens(key: &Key, name: &SecretName, tags: &Tags) -> BTreeSet<[u8; TOKEN]> {
    let mut tokens = BTreeSet::new();
    for (name, value) in tags {
        tokens.insert(of_tag(key, name, None));
        tokens.insert(of_tag(key, name, Some(value)));
    }
    for word in words_of(name.as_str()) {
        let ends = word.char_indices().map(|(at, c)| at + c.len_utf8());
        for end in ends.skip(SHORTEST - 1).take(LONGEST - SHORTEST + 1) {
            if tokens.len() < MOST_TOKENS {
                tokens.insert(of_word(key, &word[..end]));
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_of_plain_words() {
        for good in ["stripe", "billing/stripe.test", "A-1_b", "a/b/c"] {
            assert_eq!(good.parse::<SecretName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(MOST_NAME + 1);
        for bad in [
            "", "/a", "a/", "a//b", "..", "a/../b", "a b", "ä", "a\n", "sec_1", &long,
        ] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_names_what_is_skeps_own() {
        for taken in ["skep", "skep/web-ca", "skep/a/b"] {
            assert!(taken.parse::<SecretName>().is_err(), "{taken}");
        }
        assert!("skeps/web-ca".parse::<SecretName>().is_ok());
        let own = SecretName::own("web-ca").unwrap();
        assert_eq!(own.as_str(), "skep/web-ca");
        assert!(own.not_own().is_err());
        assert_eq!(SecretName::kept(own.as_str()).unwrap(), own);
    }

    #[test]
    fn words_are_found_by_their_beginnings_and_tags_by_name_and_value() {
        let key = Key::from_bytes([7; 32]);
        let name: SecretName = "billing/Stripe.test-key".parse().unwrap();
        let tags = Tags::from([("team".to_owned(), "Pay".to_owned())]);
        let tokens = tokens(&key, &name, &tags);
        let finds = |words: &str, tags: &[&str]| {
            let query = Query::new(words, tags.iter().copied()).unwrap();
            query.tokens(&key).is_subset(&tokens)
        };
        assert!(finds("", &[]));
        assert!(finds("stripe", &[]));
        assert!(finds("STR bill", &["team"]));
        assert!(finds("key", &["team=Pay"]));
        assert!(finds("billing/stripe", &[]));
        assert!(!finds("tripe", &[]));
        assert!(!finds("stripes", &[]));
        assert!(!finds("", &["team=Red"]));
        assert!(!finds("team", &[]));
        assert!(Query::new("s", []).is_err());
        let other = Key::from_bytes([8; 32]);
        let query = Query::new("stripe", []).unwrap();
        assert!(!query.tokens(&other).is_subset(&tokens));
    }
}
