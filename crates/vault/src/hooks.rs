//! Hooks: programs and webhooks that make new values of secrets. The file of them, which secrets each is for, and
//! what is said to one and what it answers. Without I/O.
//!
//! Webhooks are signed as the Standard Webhooks specification says
//! (github.com/standard-webhooks/standard-webhooks, 1.0): HMAC-SHA-256 of id, time and body.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use skep_core::{Timestamp, Workspace, units};
use skep_crypto::Key;
use zeroize::Zeroizing;

use crate::renewal::{Order, Phase};
use crate::value::SecretValue;

/// Hooks of a file.
const MOST: usize = 200;
/// Patterns of a hook, and words of a command.
const MOST_WORDS: usize = 100;
/// Bytes of an answer.
pub const MOST_ANSWER: usize = 2 << 20;
/// How long a hook has, unless the file says something else, and at most.
const TIME: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// How long the value before is kept, unless the file says something else, and at most.
const KEEP: (Duration, Duration) = (
    Duration::from_secs(24 * 3600),
    Duration::from_secs(365 * 24 * 3600),
);
/// Bytes of a key for signatures (Standard Webhooks: 24 to 64).
const KEY: usize = 32;
const KEY_PREFIX: &str = "whsec_";

/// How a hook is reached.
#[derive(Clone)]
pub enum Door {
    /// A program of the server's machine, with its arguments.
    Command(Vec<String>),
    /// An address that the order is sent to, and the key that it is signed with.
    Web(String, Key),
}

/// A hook.
#[derive(Clone)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub door: Door,
    /// How long it has for one order.
    pub timeout: Duration,
    /// How long the value before is kept that a new one follows.
    pub keep: Duration,
    workspace: Workspace,
    secrets: Vec<String>,
}

/// The hooks of a file, in its order.
#[derive(Clone, Default)]
pub struct Hooks(Vec<Hook>);

/// Where a webhook's key is.
#[derive(Debug, Clone, Copy)]
pub enum KeyAt<'a> {
    /// In a file, beside that of the hooks.
    File(&'a str),
    /// In a variable.
    Variable(&'a str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    hook: Vec<Wire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    workspace: Option<String>,
    secrets: Vec<String>,
    command: Option<Vec<String>>,
    url: Option<String>,
    key_file: Option<String>,
    key_env: Option<String>,
    timeout: Option<String>,
    keep: Option<String>,
}

/// Reads a file of hooks.
///
/// # Errors
/// What is wrong and where, never a key.
pub fn read_file(
    text: &str,
    key: impl Fn(KeyAt<'_>) -> Result<Vec<u8>, String>,
) -> Result<Hooks, String> {
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start));
        let line = line.map_or(1, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    if document.hook.len() > MOST {
        return Err(format!("there are more than {MOST} hooks"));
    }
    let mut all: Vec<Hook> = Vec::new();
    for (at, wire) in document.hook.into_iter().enumerate() {
        let called = format!("hook {} (`{}`)", at + 1, wire.name);
        let hook = wire
            .read(&key)
            .map_err(|reason| format!("{called}: {reason}"))?;
        if all.iter().any(|it| it.name == hook.name) {
            return Err(format!("{called}: there is one of this name"));
        }
        all.push(hook);
    }
    Ok(Hooks(all))
}

fn duration(
    key: &str,
    text: Option<&str>,
    (default, most): (Duration, Duration),
) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(default) };
    let fits = units::parse_duration(text).filter(|it| *it <= most);
    fits.ok_or_else(|| {
        let most = units::format_duration(most);
        format!("`{key}`: `{text}` is no time up to {most}, such as 30s")
    })
}

impl Wire {
    fn read(self, key: impl Fn(KeyAt<'_>) -> Result<Vec<u8>, String>) -> Result<Hook, String> {
        let door = match (self.command, self.url) {
            (Some(command), None) => {
                let program = command.first().map(PathBuf::from);
                if !program.is_some_and(|it| it.is_absolute()) || command.len() > MOST_WORDS {
                    return Err("`command` begins with the full path of a program".to_owned());
                }
                Door::Command(command)
            }
            (None, Some(url)) => {
                if !is_door(&url) {
                    return Err("`url` is an https URL, or http on this machine".to_owned());
                }
                let text = match (&self.key_file, &self.key_env) {
                    (Some(file), None) => key(KeyAt::File(file)),
                    (None, Some(name)) => key(KeyAt::Variable(name)),
                    _ => Err("a webhook needs one of `key_file` and `key_env`".to_owned()),
                };
                Door::Web(url, read_key(&Zeroizing::new(text?))?)
            }
            _ => return Err("write one of `command` and `url`".to_owned()),
        };
        let fits = |it: &String| {
            let name = it.strip_suffix('*').unwrap_or(it);
            name.is_empty()
                || format!("{}x", name.trim_end_matches('/'))
                    .parse::<crate::SecretName>()
                    .is_ok()
        };
        if self.secrets.is_empty()
            || self.secrets.len() > MOST_WORDS
            || !self.secrets.iter().all(fits)
        {
            return Err(
                "`secrets` are names, or beginnings of names with a `*` behind them".to_owned(),
            );
        }
        let workspace = self.workspace.as_deref().map(str::parse).transpose();
        Ok(Hook {
            name: self.name,
            door,
            timeout: duration("timeout", self.timeout.as_deref(), TIME)?,
            keep: duration("keep", self.keep.as_deref(), KEEP)?,
            workspace: workspace
                .map_err(|_| "`workspace` is no name".to_owned())?
                .unwrap_or_default(),
            secrets: self.secrets,
        })
    }
}

/// Whether it is an https URL, or one of http on this machine, and shows no password.
fn is_door(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1");
    let fits =
        !host.is_empty() && !authority.contains('@') && url.chars().all(|c| c.is_ascii_graphic());
    fits && (scheme == "https" || (scheme == "http" && local))
}

/// A key as Standard Webhooks writes them: `whsec_` and base64 of 32 bytes.
fn read_key(text: &[u8]) -> Result<Key, String> {
    let wrong = || format!("its key is no `{KEY_PREFIX}` with base64 of {KEY} bytes behind it");
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let digits = text.trim().strip_prefix(KEY_PREFIX).ok_or_else(wrong)?;
    let bytes = Zeroizing::new(STANDARD.decode(digits).map_err(|_| wrong())?);
    let bytes: [u8; KEY] = bytes.as_slice().try_into().map_err(|_| wrong())?;
    Ok(Key::from_bytes(bytes))
}

impl Hooks {
    /// The first hook that a secret has.
    #[must_use]
    pub fn of(&self, workspace: &Workspace, secret: &str) -> Option<&Hook> {
        self.0.iter().find(|hook| {
            let fits = |pattern: &String| match pattern.strip_suffix('*') {
                Some(beginning) => secret.starts_with(beginning),
                None => secret == pattern,
            };
            hook.workspace == *workspace && hook.secrets.iter().any(fits)
        })
    }
}

/// What is told to a hook, as JSON.
#[derive(Serialize)]
struct Told<'a> {
    /// The same for the same order, whenever it comes again.
    id: &'a str,
    operation: &'static str,
    workspace: &'a str,
    secret: String,
    name: &'a str,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    value: Option<Zeroizing<String>>,
    value_base64: Option<Zeroizing<String>>,
}

/// What is said to a hook: the id of it, and JSON.
///
/// # Errors
/// When it cannot be written.
pub fn order(workspace: &Workspace, order: &Order) -> Result<(String, Zeroizing<String>), String> {
    let Order {
        secret,
        renewal,
        value,
        ..
    } = order;
    let (operation, version) = match renewal.phase {
        Phase::Making => ("make", renewal.follows + 1),
        Phase::Proving => ("prove", renewal.follows + 1),
        Phase::Kept => ("retire", renewal.follows),
        Phase::Abandoning => ("abandon", renewal.follows + 1),
    };
    let id = format!(
        "{}.{version}.{operation}.{}",
        secret.id,
        renewal.began_at.as_micros()
    );
    let bytes = value.as_ref().map(SecretValue::bytes);
    let text = bytes.and_then(|it| std::str::from_utf8(it).ok());
    let told = Told {
        id: &id,
        operation,
        workspace: workspace.as_str(),
        secret: secret.id.to_string(),
        name: secret.about.name.as_str(),
        version,
        value: text,
        value_base64: bytes
            .filter(|_| text.is_none())
            .map(|it| STANDARD.encode(it)),
    };
    let json = serde_json::to_string(&told).map_err(|error| error.to_string())?;
    Ok((id, Zeroizing::new(json)))
}

/// The signature of a webhook.
#[must_use]
pub fn signature(key: &Key, id: &str, now: Timestamp, body: &str) -> String {
    let seconds = now.as_micros() / 1_000_000;
    let mac = key.mac(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac))
}

/// The value that a hook made.
///
/// # Errors
/// What is wrong with its answer, without any of it.
pub fn made(answer: &[u8]) -> Result<SecretValue, String> {
    let wrong = || "it answered without a `value` or a `value_base64`".to_owned();
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| wrong())?;
    let value = match (answer.value, answer.value_base64) {
        (Some(text), None) => SecretValue::new(text.as_bytes()),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| wrong())?;
            SecretValue::new(bytes)
        }
        _ => return Err(wrong()),
    };
    value.map_err(|_| "its value is none that can be kept".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(_: KeyAt<'_>) -> Result<Vec<u8>, String> {
        Ok(format!("{KEY_PREFIX}{}\n", STANDARD.encode([7; KEY])).into_bytes())
    }

    #[test]
    fn the_first_hook_that_fits_is_it() {
        let text = r#"
            [[hook]]
            name = "one"
            secrets = ["pay/stripe", "db/*"]
            command = ["/bin/rotate", "now"]
            keep = "1h"
            [[hook]]
            name = "all"
            secrets = ["*"]
            url = "https://hooks.example.com/x"
            key_env = "KEY"
            [[hook]]
            name = "theirs"
            workspace = "other"
            secrets = ["*"]
            command = ["/bin/other"]
        "#;
        let hooks = read_file(text, key).unwrap();
        let of = |workspace: &str, name: &str| {
            let found = hooks.of(&workspace.parse().unwrap(), name);
            found.map(|hook| hook.name.clone()).unwrap_or_default()
        };
        assert_eq!(of("default", "pay/stripe"), "one");
        assert_eq!(of("default", "db/a/b"), "one");
        assert_eq!(of("default", "pay/stripe2"), "all");
        assert_eq!(of("other", "db/a"), "theirs");
        assert_eq!(of("third", "db/a"), "");
        let one = hooks.of(&Workspace::default(), "db/a").unwrap();
        assert_eq!((one.keep, one.timeout), (Duration::from_secs(3600), TIME.0));
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told() {
        let with = |rest: &str| format!("[[hook]]\nname = \"h\"\n{rest}");
        for (text, part) in [
            (with("secrets = [\"*\"]"), "one of `command` and `url`"),
            (
                with("secrets = [\"*\"]\ncommand = [\"rotate\"]"),
                "full path",
            ),
            (
                with("secrets = [\"*\"]\nurl = \"http://x.example\"\nkey_env = \"K\""),
                "https",
            ),
            (
                with("secrets = [\"*\"]\nurl = \"https://x.example\""),
                "key_file",
            ),
            (with("secrets = []\ncommand = [\"/x\"]"), "`secrets`"),
            (with("secrets = [\"a b\"]\ncommand = [\"/x\"]"), "`secrets`"),
            (
                with("secrets = [\"*\"]\ncommand = [\"/x\"]\nkeep = \"2y\""),
                "`keep`",
            ),
            (with("what = 1"), "line 3"),
        ] {
            let error = read_file(&text, key).err().unwrap();
            assert!(error.contains(part), "{error}");
        }
        let short = |_: KeyAt<'_>| Ok(b"whsec_AAAA".to_vec());
        let text = with("secrets = [\"*\"]\nurl = \"https://x.example\"\nkey_env = \"K\"");
        assert!(read_file(&text, short).err().unwrap().contains("32 bytes"));
    }

    /// Made with OpenSSL.
    #[test]
    fn values_go_over_the_net_encrypted() {
        for url in [
            "https://x.example/y",
            "http://127.0.0.1:80/x",
            "http://[::1]/",
            "http://localhost",
        ] {
            assert!(is_door(url), "{url}");
        }
        for url in [
            "http://x.example",
            "http://localhost.evil.example/x",
            "http://127.0.0.1.nip.io",
            "http://localhost@evil.example",
            "https://a:b@x.example",
            "https://",
            "ftp://127.0.0.1",
            "x",
        ] {
            assert!(!is_door(url), "{url}");
        }
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let key = Key::from_bytes([7; KEY]);
        let now = Timestamp::from_micros(1_614_265_330_000_000);
        let said = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            now,
            "{\"test\": 2432232314}",
        );
        assert_eq!(said, "v1,YO/ulmd+VFtlnbodv7yLOOsS6RlBZ48h++gXZrGOpZo=");
    }

    #[test]
    fn an_answer_has_one_value() {
        assert_eq!(made(br#"{"value":"x"}"#).unwrap().bytes(), b"x");
        assert_eq!(made(br#"{"value_base64":"AAE="}"#).unwrap().bytes(), [0, 1]);
        for wrong in [
            &b""[..],
            b"x",
            b"{}",
            br#"{"value":"x","value_base64":"eA=="}"#,
            br#"{"value":""}"#,
        ] {
            assert!(made(wrong).is_err(), "{wrong:?}");
        }
    }
}
