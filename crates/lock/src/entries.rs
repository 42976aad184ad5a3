//! What a layer holds: entries by name, and how they become the bytes that are encrypted.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::{CREDENTIALS, LONGEST_ENTRY, LockError, MEMORY, MOST_ENTRIES, MOST_LAYER};

/// How hard memory is compressed.
const LEVEL: i32 = 3;

/// The value of an entry. A text is wiped when it is dropped.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(Zeroizing<String>),
    /// Any other value of JSON.
    Json(Json),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Zeroizing::new(text.into()))
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::String(text) => Self::Text(Zeroizing::new(text)),
            other => Self::Json(other),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Json(json) => json.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer).map(Self::from)
    }
}

/// The entries of a layer, by name.
pub type Entries = BTreeMap<String, Value>;

/// What may be in a layer.
fn check(layer: &str, entries: &Entries) -> Result<(), &'static str> {
    if entries.len() > MOST_ENTRIES {
        return Err("it has too many entries");
    }
    for (name, value) in entries {
        let fits = (1..=LONGEST_ENTRY).contains(&name.chars().count());
        if !fits || name.contains(char::is_control) {
            return Err("an entry's name is empty, too long, or has control characters");
        }
        let text = matches!(value, Value::Text(text) if !text.is_empty());
        if layer == CREDENTIALS && !text {
            return Err("a credential is a text that is not empty");
        }
    }
    Ok(())
}

/// Counts bytes, so that a buffer of secrets need not grow, which would leave copies.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of a layer that are encrypted.
pub(crate) fn encode(layer: &str, entries: &Entries) -> Result<Zeroizing<Vec<u8>>, LockError> {
    let content = |why| LockError::Content {
        place: format!("layer `{layer}`"),
        why,
    };
    check(layer, entries).map_err(content)?;
    let cannot = |_| content("it cannot be written as JSON");
    let mut count = Count(0);
    serde_json::to_writer(&mut count, entries).map_err(cannot)?;
    if count.0 > MOST_LAYER {
        return Err(LockError::TooMuch {
            what: "bytes of a layer",
            most: MOST_LAYER,
        });
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(count.0));
    serde_json::to_writer(&mut *plain, entries).map_err(cannot)?;
    if layer != MEMORY {
        return Ok(plain);
    }
    let packed = zstd::bulk::compress(&plain, LEVEL);
    packed
        .map(Zeroizing::new)
        .map_err(|_| content("it cannot be compressed"))
}

/// The entries of bytes that were decrypted. `place` is where the layer stands.
pub(crate) fn decode(place: &str, layer: &str, bytes: &[u8]) -> Result<Entries, LockError> {
    let content = |why| LockError::Content {
        place: place.to_owned(),
        why,
    };
    let expanded;
    let plain = match layer == MEMORY {
        false => bytes,
        true => {
            // As much as it says that it needs: all that is taken is wiped again.
            let says = zstd::zstd_safe::get_frame_content_size(bytes);
            let says = says.ok().flatten().and_then(|it| usize::try_from(it).ok());
            let needs = says.unwrap_or(MOST_LAYER).min(MOST_LAYER);
            let unpacked = zstd::bulk::decompress(bytes, needs);
            let why = "it does not expand, or to more than 32 MiB";
            expanded = Zeroizing::new(unpacked.map_err(|_| content(why))?);
            &expanded
        }
    };
    if plain.len() > MOST_LAYER {
        return Err(content("it is longer than 32 MiB"));
    }
    // What is wrong there would tell of what is encrypted.
    let entries: Entries =
        serde_json::from_slice(plain).map_err(|_| content("it holds no object of JSON"))?;
    check(layer, &entries).map_err(content)?;
    Ok(entries)
}
