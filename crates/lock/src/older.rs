//! Version 1 of the format, the older program's (Backpack), to be read once and written as version 2. A file
//! of it is JSON with three layers, each a Fernet token under a key of one password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;
use skep_crypto::{CryptoError, fernet};
use zeroize::Zeroizing;

use crate::{CREDENTIALS, Entries, LockError, MEMORY, MOST_FILE, MOST_LAYER, PERSONALITY, Value};

/// What the older program took for a password when it was given none: it is in its source, so that such a
/// file is open to everybody.
pub const DEFAULT_KEY: &str = "default-key";
/// What it wrote in the place of a credential whose value lay in a keychain.
const PLACEHOLDER: &str = "placeholder_";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    data: String,
    salt: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    credentials: Sealed,
    personality: Sealed,
    memory: Sealed,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    layers: Layers,
}

/// A file of version 1.
#[derive(Debug, Clone)]
pub struct Older(Layers);

/// What was in one.
pub struct OlderContent {
    /// The layers, as version 2 takes them.
    pub layers: Vec<(&'static str, Entries)>,
    /// Credentials that were empty, and are not taken: version 2 has no empty ones.
    pub empty: Vec<String>,
    /// Credentials whose value is what the older program wrote when the real one lay in a keychain.
    pub placeholders: Vec<String>,
}

impl Older {
    /// Reads a file.
    ///
    /// # Errors
    /// [`LockError::Malformed`] with the place, [`LockError::Version`] for a file of version 2.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        if bytes.len() > MOST_FILE {
            return Err(LockError::TooMuch {
                what: "bytes of the file",
                most: MOST_FILE,
            });
        }
        if let Ok(Json::Object(fields)) = serde_json::from_slice::<Json>(bytes)
            && let Some(version) = fields.get("version").and_then(Json::as_u64)
        {
            return Err(LockError::Version(version));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|error| {
            let told = error.to_string();
            let why = told.split(" at line ").next().unwrap_or_default();
            let place = format!("line {}, column {}", error.line(), error.column());
            LockError::malformed(place, why)
        })?;
        match file.version.as_str() {
            "1.0" => Ok(Self(file.layers)),
            other => Err(LockError::malformed(
                "version",
                format!("it is `{other}`, and 1.0 is the only one that is read"),
            )),
        }
    }

    /// Opens every layer with the password.
    ///
    /// # Errors
    /// [`LockError::WrongKey`] when it opens none, [`LockError::Damaged`] when it opens some,
    /// [`LockError::Content`].
    pub fn open(&self, password: &str) -> Result<OlderContent, LockError> {
        let sealed = [
            (CREDENTIALS, &self.0.credentials),
            (PERSONALITY, &self.0.personality),
            (MEMORY, &self.0.memory),
        ];
        let mut plain = Vec::new();
        for (name, layer) in sealed {
            plain.push((name, opened(name, layer, password)?));
        }
        if plain.iter().all(|(_, it)| it.is_none()) {
            return Err(LockError::WrongKey);
        }
        let mut content = OlderContent {
            layers: Vec::new(),
            empty: Vec::new(),
            placeholders: Vec::new(),
        };
        for (name, plain) in plain {
            let plain = plain.ok_or_else(|| LockError::Damaged(format!("layer `{name}`")))?;
            let wrong = |_| LockError::Content {
                place: format!("layer `{name}`"),
                why: "it holds no object of JSON",
            };
            let entries: Entries = serde_json::from_slice(&plain).map_err(wrong)?;
            let entries = match name == CREDENTIALS {
                true => content.credentials(entries)?,
                false => entries,
            };
            content.layers.push((name, entries));
        }
        Ok(content)
    }
}

impl OlderContent {
    /// Credentials as texts that are not empty.
    fn credentials(&mut self, entries: Entries) -> Result<Entries, LockError> {
        let mut taken = Entries::new();
        for (name, value) in entries {
            let text = match value {
                Value::Text(text) => text,
                Value::Json(Json::Null) => Zeroizing::default(),
                Value::Json(plain @ (Json::Bool(_) | Json::Number(_))) => {
                    Zeroizing::new(plain.to_string())
                }
                Value::Json(_) => {
                    return Err(LockError::Content {
                        place: format!("{CREDENTIALS}/{name}"),
                        why: "it is a list or an object, and no credential",
                    });
                }
            };
            if text.is_empty() {
                self.empty.push(name);
                continue;
            }
            if text.starts_with(PLACEHOLDER) {
                self.placeholders.push(name.clone());
            }
            taken.insert(name, Value::Text(text));
        }
        Ok(taken)
    }
}

/// A layer's text; nothing when this is not its password.
fn opened(
    name: &str,
    layer: &Sealed,
    password: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, LockError> {
    let place = |what: &str| format!("layer `{name}`, {what}");
    let salt = STANDARD.decode(&layer.salt);
    let salt = salt.map_err(|_| LockError::malformed(place("salt"), "it is no base64"))?;
    let token = STANDARD.decode(&layer.data);
    let token = token.map_err(|_| LockError::malformed(place("data"), "it is no base64"))?;
    let token = std::str::from_utf8(&token);
    let token = token.map_err(|_| LockError::malformed(place("data"), "it is no token"))?;
    let key = fernet::key(password, &salt)
        .map_err(|_| LockError::malformed(place("salt"), "8 to 64 bytes belong here"))?;
    match fernet::open(&key, token) {
        Ok(plain) if plain.len() > MOST_LAYER => Err(LockError::TooMuch {
            what: "bytes of a layer",
            most: MOST_LAYER,
        }),
        Ok(plain) => Ok(Some(plain)),
        Err(CryptoError::WrongKey) => Ok(None),
        Err(error) => Err(LockError::malformed(place("data"), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Python's `cryptography` made as the older program did, with the password `hunter2`.
    const FILE: &str = include_str!("older/known.json");

    #[test]
    fn a_file_of_the_older_program_opens() {
        let older = Older::parse(FILE.as_bytes()).unwrap();
        let content = older.open("hunter2").unwrap();
        let layer = |name| content.layers.iter().find(|(it, _)| *it == name).unwrap();
        let credentials: Vec<&str> = layer(CREDENTIALS).1.keys().map(String::as_str).collect();
        assert_eq!(credentials, ["OPENAI_API_KEY", "PIN", "TWITTER"]);
        assert!(layer(CREDENTIALS).1["OPENAI_API_KEY"] == Value::text("sk-canary ü"));
        assert!(layer(CREDENTIALS).1["PIN"] == Value::text("1234"));
        assert_eq!(content.empty, ["EMPTY", "NONE"]);
        assert_eq!(content.placeholders, ["TWITTER"]);
        assert!(layer(PERSONALITY).1["system_prompt"] == Value::text("Be kind."));
        assert!(layer(MEMORY).1["seen"] == Value::from(json!([1, 2.5, null])));
        let wrong = older.open(DEFAULT_KEY).err();
        assert_eq!(wrong, Some(LockError::WrongKey));
    }

    #[test]
    fn what_is_none_or_was_changed_is_told_with_its_place() {
        let told = |text: &str| Older::parse(text.as_bytes()).err().unwrap().to_string();
        assert!(told("{").contains("line 1, column 1"));
        assert!(told("{\"version\": 2}").contains("version 2"));
        assert!(told(&FILE.replace("\"1.0\"", "\"1.1\"")).contains("`1.1`"));
        assert!(told(&FILE.replace("memory", "memories")).contains("unknown field"));
        let older = |from: &str, to: &str| {
            let mut older = Older::parse(FILE.as_bytes()).unwrap();
            let data = &mut older.0.memory.data;
            *data = data.replacen(from, to, 1);
            older.open("hunter2").err().unwrap()
        };
        let data = Older::parse(FILE.as_bytes()).unwrap().0.memory.data;
        let middle = &data[data.len() / 2..data.len() / 2 + 8];
        let reversed: String = middle.chars().rev().collect();
        assert!(matches!(
            older(middle, &reversed),
            LockError::Damaged(_) | LockError::Malformed { .. }
        ));
        assert!(
            older(middle, "!")
                .to_string()
                .contains("layer `memory`, data")
        );
    }
}
