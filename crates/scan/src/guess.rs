//! Guesses: whether a name is one of a secret, and whether a value is a real one.

/// Words of names whose values are secrets.
const SECRET: [&str; 24] = [
    "KEY",
    "APIKEY",
    "TOKEN",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASS",
    "PWD",
    "PASSPHRASE",
    "PIN",
    "CREDENTIAL",
    "CREDENTIALS",
    "DSN",
    "COOKIE",
    "SALT",
    "PEPPER",
    "PAT",
    "BEARER",
    "WEBHOOK",
    "SIGNATURE",
    "PASSCODE",
    "OTP",
    "SEED",
];
/// Words that make a name one of something about a secret.
const ABOUT: [&str; 33] = [
    "PUBLIC",
    "TTL",
    "LIMIT",
    "MAX",
    "MIN",
    "FILE",
    "PATH",
    "DIR",
    "LENGTH",
    "SIZE",
    "COUNT",
    "NAME",
    "HEADER",
    "TYPE",
    "PREFIX",
    "SUFFIX",
    "EXPIRY",
    "EXPIRES",
    "TIMEOUT",
    "ENABLED",
    "DISABLED",
    "ALGORITHM",
    "ID",
    "IDS",
    "SORT",
    "PRIMARY",
    "FOREIGN",
    "REGION",
    "POLICY",
    "FORMAT",
    "ENDPOINT",
    "VERSION",
    "ARN",
];
/// What a URL or address is of when it has a password in it.
const STORES: [&str; 14] = [
    "DATABASE",
    "DB",
    "REDIS",
    "MONGO",
    "MONGODB",
    "POSTGRES",
    "POSTGRESQL",
    "PG",
    "MYSQL",
    "AMQP",
    "RABBITMQ",
    "BROKER",
    "CLICKHOUSE",
    "SMTP",
];
const ADDRESS: [&str; 4] = ["URL", "URI", "CONNECTION", "CONN"];
/// What stands where a value is to be put.
const PLACEHOLDERS: [&str; 22] = [
    "changeme",
    "change_me",
    "change-me",
    "changethis",
    "your",
    "example",
    "placeholder",
    "dummy",
    "replace",
    "insert",
    "xxx",
    "...",
    "…",
    "todo",
    "fixme",
    "redacted",
    "secret-here",
    "none",
    "null",
    "undefined",
    "test-key",
    "fake",
];

/// Upper-case words of a name in any spelling: `dbPassword`, `db-password`, `DB_PASSWORD`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.chars() {
        let is_new = before.is_ascii_lowercase() && c.is_ascii_uppercase();
        if !c.is_ascii_alphanumeric() || is_new {
            words.push(String::new());
        }
        if let (true, Some(last)) = (c.is_ascii_alphanumeric(), words.last_mut()) {
            last.push(c.to_ascii_uppercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a variable of this name has a secret as its value, as far as a name tells.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    let has = |of: &[&str]| words.iter().any(|word| of.contains(&word.as_str()));
    if has(&STORES) && has(&ADDRESS) {
        return true;
    }
    // `AWS_ACCESS_KEY_ID` is half of a pair: the other half is the secret one.
    has(&SECRET) && !has(&ABOUT)
}

/// Whether a value stands for one that is to be put there, or is made elsewhere.
#[must_use]
pub fn is_placeholder(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'', '`']);
    let lower = value.to_ascii_lowercase();
    let mut letters = value.chars();
    let first = letters.next();
    let uniform = first.is_none_or(|first| letters.all(|c| c == first));
    uniform
        || value.contains("${")
        || value.contains("{{")
        || value.contains("$(")
        || value.starts_with(['$', '<', '[', '%', '*'])
        || value.starts_with("env:")
        || matches!(
            lower.as_str(),
            "true" | "false" | "password" | "secret" | "token" | "key" | "test"
        )
        || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

/// Bits of surprise in a letter.
pub(crate) fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = text.len() as f64;
    let share = |count: &u32| {
        let share = f64::from(*count) / length;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(share).sum()
}
