//! What secrets look like: keys of Skep, tokens of services that many use, private keys, addresses with a password,
//! and values that are given to what is called a secret.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use crate::guess::{entropy, is_placeholder, is_secret_name};

/// The rule for keys of Skep.
const OWN: &str = "skep-key";
pub(crate) const PRIVATE_KEY: &str = "private-key";
/// The rule for values that are given to what is called a secret.
pub(crate) const ASSIGNMENT: &str = "secret-assignment";
const URL: &str = "url-with-password";
/// Letters of the shortest value that is thought one of chance, and bits of each.
const SHORTEST: usize = 8;
const CHANCE: f64 = 2.9;

/// Rules by name, with how many letters of each are always the same. Where a pattern has a group, the group is the
/// value.
const RULES: [(&str, usize, &str); 34] = [
    (OWN, 5, r"\bskep_(?:[a-z]+_)?[0-9A-Za-z_.-]{40,2048}"),
    (
        PRIVATE_KEY,
        0,
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    ),
    (
        "age-identity",
        16,
        r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b",
    ),
    (
        "aws-access-key",
        4,
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
    ),
    (
        "aws-secret-key",
        0,
        r#"(?i)aws_?(?:secret)?_?(?:access)?_?key['"]?\s*[:=]\s*['"]?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
    ),
    ("anthropic-key", 7, r"\bsk-ant-[A-Za-z0-9_-]{24,}"),
    (
        "openai-key",
        3,
        r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}",
    ),
    ("openrouter-key", 6, r"\bsk-or-v1-[0-9a-f]{64}\b"),
    ("github-token", 4, r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"),
    (
        "github-token",
        11,
        r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b",
    ),
    (
        "gitlab-token",
        6,
        r"\bgl(?:pat|dt|rt|ptt|ft|soat|cbt)-[A-Za-z0-9_-]{20,}",
    ),
    ("slack-token", 5, r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("slack-token", 5, r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{32,}"),
    (
        "slack-webhook",
        8,
        r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{40,}",
    ),
    ("stripe-key", 8, r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}\b"),
    ("stripe-webhook", 6, r"\bwhsec_[A-Za-z0-9+/=]{32,}"),
    ("google-api-key", 4, r"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("google-oauth", 7, r"\bGOCSPX-[A-Za-z0-9_-]{28}\b"),
    ("npm-token", 4, r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("pypi-token", 5, r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    ("crates-token", 3, r"\bcio[A-Za-z0-9]{32}\b"),
    (
        "sendgrid-key",
        3,
        r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",
    ),
    ("twilio-key", 2, r"\bSK[0-9a-f]{32}\b"),
    ("mailgun-key", 4, r"\bkey-[0-9a-f]{32}\b"),
    ("telegram-token", 0, r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    (
        "discord-token",
        0,
        r"\b[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}\b",
    ),
    ("digitalocean-token", 7, r"\bdo[opr]_v1_[0-9a-f]{64}\b"),
    ("huggingface-token", 3, r"\bhf_[A-Za-z]{34}\b"),
    (
        "vault-token",
        4,
        r"\b(?:hv[bsr]\.[A-Za-z0-9_-]{24,}|s\.[A-Za-z0-9]{24}\b)",
    ),
    (
        "shopify-token",
        6,
        r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b",
    ),
    ("azure-storage-key", 0, r"AccountKey=([A-Za-z0-9+/]{86}==)"),
    (
        "jwt",
        3,
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    ),
    (
        URL,
        0,
        r#"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s:/@'"<>]{0,64}:([^\s:/@'"<>]{3,200})@[A-Za-z0-9\[]"#,
    ),
    (
        ASSIGNMENT,
        0,
        r#"([A-Za-z_][A-Za-z0-9_.-]{1,80})['"]?\]?\s{0,8}(?::=|=>|[:=])\s{0,8}(?:"([^"\s]{8,400})"|'([^'\s]{8,400})'|([A-Za-z0-9+/=_.~!@#%^&*-]{8,400})(?:\s|$))"#,
    ),
];

/// A value that was found in a text.
pub(crate) struct Match<'t> {
    pub(crate) rule: &'static str,
    /// Where it begins.
    pub(crate) start: usize,
    pub(crate) value: &'t str,
    /// Letters that may be shown.
    pub(crate) shown: usize,
}

/// All patterns, ready for use.
pub(crate) struct Patterns {
    quick: RegexSet,
    each: Vec<Regex>,
}

static ALL: LazyLock<Patterns> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|(_, _, pattern)| *pattern);
    Patterns {
        // Every pattern is a constant, and a test makes all of them.
        quick: RegexSet::new(patterns.clone()).unwrap_or_default(),
        each: patterns.filter_map(|it| Regex::new(it).ok()).collect(),
    }
});

impl Patterns {
    pub(crate) fn all() -> &'static Self {
        &ALL
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, usize, usize) {
        (self.quick.len(), self.each.len(), RULES.len())
    }

    /// The values in a text, in their order. What a rule above found is not found again.
    pub(crate) fn find<'t>(&self, text: &'t str, is_own: &dyn Fn(&str) -> bool) -> Vec<Match<'t>> {
        let mut found: Vec<Match<'t>> = Vec::new();
        for at in self.quick.matches(text) {
            let (rule, shown, _) = RULES[at];
            for captures in self.each[at].captures_iter(text) {
                let groups = captures.iter().skip(1).flatten();
                let Some(value) = groups.last().or(captures.get(0)) else {
                    continue;
                };
                let mut value_text = value.as_str();
                let real = match rule {
                    // A token may be followed by a full stop of a sentence.
                    OWN => {
                        value_text = value_text.trim_end_matches(['.', '-', '_']);
                        is_own(value_text)
                    }
                    URL => !is_placeholder(value_text),
                    ASSIGNMENT => {
                        let name = captures.get(1).map_or("", |it| it.as_str());
                        let quoted = captures.get(2).or(captures.get(3)).is_some();
                        is_secret_name(name) && is_chance(value_text, quoted)
                    }
                    _ => true,
                };
                let overlaps = |it: &Match<'_>| {
                    value.start() < it.start + it.value.len() && it.start < value.end()
                };
                if real && !found.iter().any(overlaps) {
                    found.push(Match {
                        rule,
                        start: value.start(),
                        value: value_text,
                        shown,
                    });
                }
            }
        }
        found.sort_by_key(|it| it.start);
        found
    }
}

/// Whether a value that a secret's name is given looks like one that somebody made up or drew.
fn is_chance(value: &str, quoted: bool) -> bool {
    let has = |of: fn(&char) -> bool| value.chars().any(|c| of(&c));
    let digits = has(char::is_ascii_digit);
    let letters = has(char::is_ascii_alphabetic);
    if value.len() < SHORTEST || is_placeholder(value) || !(digits && letters) {
        return false;
    }
    // Code: a call, a field of something, a path, a reference to another store.
    let code = |mark: &str| value.contains(mark);
    if code("(") || code("::") || code("->") || value.starts_with(['/', '.', '@', '#']) {
        return false;
    }
    // Without quotes it may be a name of something else.
    let is_word = value
        .chars()
        .all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.' | '-'));
    let dotted = !quoted
        && value.contains('.')
        && value
            .split('.')
            .all(|it| !it.is_empty() && it.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        && value.len() < 40;
    !is_word && !dotted && entropy(value) >= CHANCE
}
