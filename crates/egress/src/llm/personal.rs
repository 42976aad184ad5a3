//! What is personal does not go out: e-mail addresses, phone numbers, cards, accounts, addresses of machines, and what a
//! workspace has patterns for. In its place stands a placeholder, which becomes the value again in the answer. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_dialects::{Pair, Restore, glance};

use super::plan::Plan;
use super::preferences::Preferences;
use crate::EgressError;

/// Patterns of a workspace, the bytes of one, and of what it becomes in memory.
const MOST_PATTERNS: usize = 20;
const MOST_PATTERN: usize = 300;
const MOST_COMPILED: usize = 256 << 10;
/// Bytes of a pattern's name.
const MOST_NAME: usize = 32;
/// Different values of one request.
const MOST_VALUES: usize = 1_000;
/// Bytes of a placeholder at most.
const MOST_PLACEHOLDER: usize = 64;
/// Fields by which a provider goes on with what it was sent before.
const GOES_ON: [&str; 2] = ["previous_response_id", "conversation"];
/// Compiled patterns that are kept.
const MOST_KEPT: usize = 500;
/// Fields whose texts say nothing to a model, or must stay what they are.
pub(super) const NOT_TEXTS: [&str; 26] = [
    "model",
    "role",
    "type",
    "id",
    "tool_call_id",
    "tool_use_id",
    "call_id",
    "item_id",
    "previous_response_id",
    "name",
    "data",
    "url",
    "image_url",
    "file_id",
    "file_uri",
    "fileUri",
    "media_type",
    "mime_type",
    "mimeType",
    "format",
    "encrypted_content",
    "signature",
    "thought_signature",
    "thoughtSignature",
    "service_tier",
    "$ref",
];

/// Those of them that a model reads, or a provider fetches.
const SAYING: [&str; 3] = ["name", "url", "image_url"];

/// A kind of what is personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Personal {
    /// An e-mail address.
    Email,
    /// A phone number with its country, or written as one in the USA.
    Phone,
    /// The number of a payment card.
    Card,
    /// The number of a bank account (IBAN).
    Iban,
    /// The address of a machine (IP).
    Ip,
}

impl Personal {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Email, Self::Phone, Self::Card, Self::Iban, Self::Ip];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Ip => "ip",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// What looks like one.
    const fn form(self) -> &'static str {
        match self {
            Self::Email => {
                r"[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}"
            }
            Self::Phone => {
                r"\+[1-9](?:[ ().\-/]{0,2}[0-9]){7,14}|\(?[2-9][0-9]{2}\)?[ .\-][2-9][0-9]{2}[.\-][0-9]{4}"
            }
            Self::Card => r"[0-9](?:[ \-]?[0-9]){12,18}",
            Self::Iban => r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}",
            Self::Ip => r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}",
        }
    }

    fn regex(self) -> &'static Regex {
        static ALL: LazyLock<Vec<Regex>> = LazyLock::new(|| {
            let compiled = Personal::ALL.iter().map(|it| Regex::new(it.form()));
            // A test compiles each.
            compiled.filter_map(Result::ok).collect()
        });
        static NONE: LazyLock<Regex> = LazyLock::new(never);
        ALL.get(self as usize).unwrap_or(&NONE)
    }

    /// Whether what looks like one is one.
    fn is_one(self, text: &str) -> bool {
        let ends = text.ends_with(|it: char| it.is_ascii_alphanumeric());
        match self {
            Self::Email => true,
            Self::Phone => {
                let digits = text.chars().filter(char::is_ascii_digit).count();
                ends && (8..=15).contains(&digits)
            }
            Self::Card => ends && is_card(text),
            Self::Iban => ends && is_account(text),
            Self::Ip => is_machine(text),
        }
    }
}

#[expect(clippy::unwrap_used, reason = "an empty class is a pattern")]
fn never() -> Regex {
    Regex::new("[^\\s\\S]").unwrap()
}

/// By Luhn's sum.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(10)).collect();
    let same = digits.windows(2).all(|pair| pair[0] == pair[1]);
    let doubled = |(place, digit): (usize, &u32)| match place % 2 {
        0 => *digit,
        _ => (digit * 2) / 10 + (digit * 2) % 10,
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).sum();
    !same && (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

/// By the remainder of 97.
fn is_account(text: &str) -> bool {
    let number: String = text.chars().filter(|it| *it != ' ').collect();
    if !number.is_ascii() || !(15..=34).contains(&number.len()) {
        return false;
    }
    let (head, rest) = number.split_at(4);
    let mut left = 0_u32;
    for it in rest.chars().chain(head.chars()) {
        let Some(value) = it.to_digit(36) else {
            return false;
        };
        let shift = if value < 10 { 10 } else { 100 };
        left = (left * shift + value) % 97;
    }
    left == 1
}

fn is_machine(text: &str) -> bool {
    match text.parse::<Ipv4Addr>() {
        Ok(it) => return !it.is_loopback() && !it.is_unspecified(),
        Err(_) if !text.contains("::") && text.matches(':').count() < 7 => return false,
        Err(_) => {}
    }
    let parsed = text.parse::<Ipv6Addr>();
    parsed.is_ok_and(|it| !it.is_loopback() && !it.is_unspecified())
}

/// What a workspace has a pattern for: its name, and the pattern.
pub type Patterns = BTreeMap<String, String>;

fn compiled(pattern: &str) -> Result<Arc<Regex>, String> {
    static KEPT: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    if let Some(found) = KEPT.lock().get(pattern) {
        return Ok(found.clone());
    }
    let built = RegexBuilder::new(pattern)
        .size_limit(MOST_COMPILED)
        .dfa_size_limit(MOST_COMPILED)
        .nest_limit(20)
        .build();
    let built = Arc::new(built.map_err(|error| error.to_string())?);
    let mut kept = KEPT.lock();
    if kept.len() >= MOST_KEPT {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), built.clone());
    Ok(built)
}

/// Whether patterns are as they may be.
///
/// # Errors
/// [`EgressError::Invalid`].
pub(super) fn check(patterns: &Patterns) -> Result<(), EgressError> {
    let wrong = |why: String| Err(EgressError::Invalid(format!("`redact_patterns`: {why}")));
    if patterns.len() > MOST_PATTERNS {
        return wrong(format!("{MOST_PATTERNS} at most"));
    }
    for (name, pattern) in patterns {
        let fits = |it: u8| it.is_ascii_lowercase() || it == b'-';
        if name.is_empty() || name.len() > MOST_NAME || !name.bytes().all(fits) {
            return wrong(format!("a name is 1 to {MOST_NAME} of a-z and `-`"));
        }
        if Personal::named(name).is_some() {
            return wrong(format!("`{name}` is one of Skep's own: take another name"));
        }
        if pattern.len() > MOST_PATTERN {
            return wrong(format!("`{name}` has more than {MOST_PATTERN} bytes"));
        }
        match compiled(pattern) {
            Err(error) => return wrong(format!("`{name}` is no pattern: {error}")),
            Ok(regex) if regex.is_match("") => {
                return wrong(format!("`{name}` fits an empty text"));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// What was taken out of a request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Masked {
    /// The body that goes out.
    pub(super) body: Bytes,
    /// What comes back.
    pairs: Vec<Pair>,
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masked({} values)", self.pairs.len())
    }
}

impl Masked {
    /// Gives the values back in an answer.
    pub(super) fn restore(&self, streams: bool) -> Restore {
        Restore::new(self.pairs.clone(), streams)
    }
}

/// What is looked for.
struct Wanted {
    all: Vec<(String, Form)>,
}

enum Form {
    Known(Personal),
    Own(Arc<Regex>),
}

impl Wanted {
    fn of(kinds: &[Personal], patterns: &Patterns) -> Result<Self, EgressError> {
        let mut all = Vec::with_capacity(kinds.len() + patterns.len());
        for (name, pattern) in patterns {
            let regex = compiled(pattern).map_err(EgressError::Invalid)?;
            all.push((name.to_uppercase().replace('-', "_"), Form::Own(regex)));
        }
        for kind in kinds {
            all.push((kind.as_str().to_uppercase(), Form::Known(*kind)));
        }
        Ok(Self { all })
    }

    /// What is found in a text, by where it stands; of what overlaps, what begins first, and of that the longest.
    fn find(&self, text: &str) -> Vec<(Range<usize>, &str)> {
        let mut found: Vec<(Range<usize>, &str)> = Vec::new();
        for (name, form) in &self.all {
            match form {
                Form::Own(regex) => {
                    let some = regex.find_iter(text).filter(|it| !it.is_empty());
                    found.extend(some.map(|it| (it.range(), name.as_str())));
                }
                Form::Known(kind) => {
                    found.extend(known(*kind, text).into_iter().map(|it| (it, name.as_str())));
                }
            }
        }
        found.sort_by_key(|(at, _)| (at.start, std::cmp::Reverse(at.end)));
        let mut end = 0;
        found.retain(|(at, _)| {
            let free = at.start >= end;
            if free {
                end = at.end;
            }
            free
        });
        found
    }
}

/// Where a text has one of a kind.
fn known(kind: Personal, text: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(it) = kind.regex().find_at(text, from) {
        match one(kind, text, it.range()) {
            Some(at) => {
                from = at.end;
                found.push(at);
            }
            // One may begin within what is none.
            None => {
                let first = it.as_str().chars().next().map_or(1, char::len_utf8);
                from = it.start() + first;
            }
        }
    }
    found
}

/// The longest beginning of what looks like one that is one: what follows may look as if it belonged to it.
fn one(kind: Personal, text: &str, within: Range<usize>) -> Option<Range<usize>> {
    let mut ends = (within.start + 1..=within.end).rev();
    let fits = |end: usize| {
        let at = within.start..end;
        let found = text.get(at.clone()).filter(|it| kind.is_one(it));
        found.filter(|_| stands(kind, text, &at)).map(|_| at)
    };
    ends.find_map(fits)
}

/// Whether it stands by itself: within a longer number or word there is none.
fn stands(kind: Personal, text: &str, at: &Range<usize>) -> bool {
    let before = text.get(..at.start).unwrap_or_default();
    let after = text.get(at.end..).unwrap_or_default();
    let one = text.get(at.clone()).unwrap_or_default();
    let joins = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let (first, last) = (before.chars().next_back(), after.chars().next());
    match kind {
        Personal::Email => true,
        Personal::Phone if one.starts_with(['+', '(']) => !joins(last),
        Personal::Ip if one.contains(':') => {
            !joins(first) && !joins(last) && first != Some(':') && last != Some(':')
        }
        // A point may end a sentence.
        Personal::Ip => {
            let more = after.strip_prefix('.').and_then(|it| it.chars().next());
            !joins(first) && !joins(last) && first != Some('.') && !joins(more)
        }
        Personal::Phone | Personal::Card | Personal::Iban => !joins(first) && !joins(last),
    }
}

/// Placeholders, and what they stand for.
struct Names {
    /// What looks like one in the request: a placeholder that stands there already is nobody's.
    there: HashSet<String>,
    by_value: HashMap<String, String>,
    pairs: Vec<Pair>,
    counts: BTreeMap<String, usize>,
}

impl Names {
    fn of(&mut self, kind: &str, value: &str) -> Option<String> {
        if let Some(name) = self.by_value.get(value) {
            return Some(name.clone());
        }
        if self.pairs.len() >= MOST_VALUES {
            return None;
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        let name = loop {
            *count += 1;
            let name = format!("[{kind}_{count}]");
            if !self.there.contains(&name) {
                break name;
            }
        };
        self.by_value.insert(value.to_owned(), name.clone());
        // What would have to be escaped in JSON that stands in JSON is not given back.
        let plain = !value
            .chars()
            .any(|it| it == '"' || it == '\\' || it.is_control());
        let comes_back = if plain {
            value.to_owned()
        } else {
            name.clone()
        };
        self.pairs.push((name.clone(), comes_back));
        Some(name)
    }
}

/// Fields whose object is what a tool is given or gives, in words of its own.
const OF_TOOLS: [&str; 3] = ["input", "args", "response"];

/// Takes what is wanted out of all texts of a value. Tells whether there was room for all. `free`: in a value whose fields
/// are no dialect's.
fn mask(value: &mut Value, (wanted, free): (&Wanted, bool), names: &mut Names) -> bool {
    match value {
        Value::String(text) => {
            let found = wanted.find(text);
            if found.is_empty() {
                return true;
            }
            let (mut made, mut from) = (String::with_capacity(text.len()), 0);
            for (at, kind) in found {
                let value = text.get(at.clone()).unwrap_or_default();
                let Some(name) = names.of(kind, value) else {
                    return false;
                };
                made.push_str(text.get(from..at.start).unwrap_or_default());
                made.push_str(&name);
                from = at.end;
            }
            made.push_str(text.get(from..).unwrap_or_default());
            *text = made;
            true
        }
        Value::Array(all) => all.iter_mut().all(|it| mask(it, (wanted, free), names)),
        Value::Object(all) => {
            let is_text = all.get("type").and_then(Value::as_str) == Some("text");
            all.iter_mut()
                .filter(|(name, it)| {
                    let read = is_text && *name == "data";
                    free || read || it.is_object() || !NOT_TEXTS.contains(&name.as_str())
                })
                .all(|(name, it)| match name.as_str() {
                    "arguments" if !free => mask_json(it, wanted, names),
                    name => {
                        let free = free || (it.is_object() && OF_TOOLS.contains(&name));
                        mask(it, (wanted, free), names)
                    }
                })
        }
        // What a tool is given may be the number of a card as a number.
        Value::Number(number) if free => {
            let mut text = Value::String(number.to_string());
            let whole = mask(&mut text, (wanted, free), names);
            if text.as_str().is_some_and(|it| it.starts_with('[')) {
                *value = text;
            }
            whole
        }
        _ => true,
    }
}

/// A text that is JSON stays JSON.
fn mask_json(value: &mut Value, wanted: &Wanted, names: &mut Names) -> bool {
    let read = value.as_str().and_then(|it| serde_json::from_str(it).ok());
    let Some(mut inner) = read.filter(|it: &Value| it.is_object() || it.is_array()) else {
        return mask(value, (wanted, false), names);
    };
    let (before, whole) = (inner.clone(), mask(&mut inner, (wanted, true), names));
    if inner != before {
        *value = Value::String(inner.to_string());
    }
    whole
}

/// What looks like a placeholder in the texts of a value.
fn placeholders(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::String(text) => {
            for (at, _) in text.match_indices('[') {
                let rest = text.get(at..).unwrap_or_default();
                if let Some(end) = rest.find(']').filter(|it| *it < MOST_PLACEHOLDER) {
                    found.extend(rest.get(..=end).map(str::to_owned));
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|it| placeholders(it, found)),
        Value::Object(all) => {
            for (name, it) in all {
                placeholders(&Value::String(name.clone()), found);
                placeholders(it, found);
            }
        }
        _ => {}
    }
}

/// The words for what is personal in the texts of a value: Skep's own kinds, and patterns of a workspace by their names.
///
/// # Errors
/// [`EgressError::Invalid`] for a pattern that is none.
pub(super) fn personal_in(
    value: &Value,
    patterns: &Patterns,
) -> Result<BTreeSet<String>, EgressError> {
    let wanted = Wanted::of(&Personal::ALL, patterns)?;
    let found = wanted.all.iter().filter(|(_, it)| has(value, it, false));
    let word = |(name, _): &(String, Form)| name.to_lowercase().replace('_', "-");
    Ok(found.map(word).collect())
}

/// Whether a value has one: in any text that could say something, names of fields and addresses too, which [`mask`] must
/// leave as they are.
fn has(value: &Value, form: &Form, free: bool) -> bool {
    match value {
        Value::String(text) if text.starts_with("data:") && text.contains(";base64,") => false,
        Value::String(text) => form.is_in(text),
        Value::Number(number) => free && has(&Value::String(number.to_string()), form, free),
        Value::Array(all) => all.iter().any(|it| has(it, form, free)),
        Value::Object(all) => {
            let is_text = all.get("type").and_then(Value::as_str) == Some("text");
            all.iter().any(|(name, it)| {
                let read = is_text && name == "data";
                let says = SAYING.contains(&name.as_str());
                let looks =
                    free || read || says || it.is_object() || !NOT_TEXTS.contains(&name.as_str());
                let inner = it.as_str().filter(|_| name == "arguments");
                let inner = inner.and_then(|it| serde_json::from_str::<Value>(it).ok());
                let free = free || (it.is_object() && OF_TOOLS.contains(&name.as_str()));
                form.is_in(name)
                    || (looks && has(it, form, free))
                    || inner.is_some_and(|inner| has(&inner, form, true))
            })
        }
        Value::Null | Value::Bool(_) => false,
    }
}

impl Form {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Own(regex) => regex.is_match(text),
            Self::Known(kind) => !known(*kind, text).is_empty(),
        }
    }
}

impl Preferences {
    /// What is taken out of requests; nothing, when nothing is.
    pub(super) fn redacts(&self) -> Option<(&[Personal], &Patterns)> {
        static NONE: Patterns = Patterns::new();
        let kinds = self.redact.as_deref().unwrap_or_default();
        let patterns = self.redact_patterns.as_ref().unwrap_or(&NONE);
        (!kinds.is_empty() || !patterns.is_empty()).then_some((kinds, patterns))
    }
}

impl Plan {
    /// Takes what is personal out of what goes out.
    ///
    /// # Errors
    /// [`EgressError::Held`], when it cannot be looked through.
    pub(super) fn redact(&mut self, mut value: Value) -> Result<(), EgressError> {
        let Some((kinds, patterns)) = self.preferences.redacts() else {
            return Ok(());
        };
        let held = || EgressError::Held("it cannot be looked through for personal data".to_owned());
        if let Some(name) = GOES_ON
            .into_iter()
            .find(|it| value.get(it).is_some_and(|it| !it.is_null()))
        {
            let why = format!(
                "`{name}`: names for personal data are those of one request, and a provider that goes on with \
                 another would take one for another; send what was said before"
            );
            return Err(EgressError::Held(why));
        }
        let mut there = HashSet::new();
        placeholders(&value, &mut there);
        let wanted = Wanted::of(kinds, patterns)?;
        let mut names = Names {
            there,
            by_value: HashMap::new(),
            pairs: Vec::new(),
            counts: BTreeMap::new(),
        };
        if !mask(&mut value, (&wanted, false), &mut names) {
            let why =
                format!("more than {MOST_VALUES} different values of personal data are in it");
            return Err(EgressError::Held(why));
        }
        if names.pairs.is_empty() {
            return Ok(());
        }
        let pairs = names.pairs;
        let body = Bytes::from(value.to_string());
        self.glance = glance(self.dialect, &body).map_err(|_| held())?;
        self.masked = Some(Masked { body, pairs });
        Ok(())
    }
}

#[cfg(test)]
#[path = "personal_tests.rs"]
mod tests;
