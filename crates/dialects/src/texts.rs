//! How much there is to read for a model in a part of a request, counted as the part is parsed.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::lazy::Lazy;

/// Bytes of text that one token of a text in numbers stands for.
const TOKEN: u64 = 4;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) bytes: u64,
    pub(crate) media: u64,
    pub(crate) media_bytes: u64,
}

/// How a field counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Each text in it.
    Texts,
    /// All of it, as it is written: JSON that the model reads.
    Json,
    /// As one image, file or sound.
    Media,
    /// As an image or a file, or the text that it is (Anthropic).
    Source,
    /// Not at all.
    Not,
}

fn counts(key: &str) -> Counts {
    match key {
        "type" | "role" | "id" | "tool_call_id" | "tool_use_id" | "call_id" | "status"
        | "signature" | "thoughtSignature" | "thought_signature" | "cache_control" | "detail"
        | "media_type" | "mimeType" | "mime_type" | "videoMetadata" | "video_metadata" => {
            Counts::Not
        }
        "image_url" | "input_audio" | "file" | "audio" | "inlineData" | "inline_data"
        | "fileData" | "file_data" | "file_url" | "file_id" => Counts::Media,
        "input" | "args" | "response" => Counts::Json,
        "source" => Counts::Source,
        _ => Counts::Texts,
    }
}

/// Counts each text of a value.
pub(crate) struct Count<'c>(pub(crate) &'c mut Texts);

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.bytes += text.len() as u64;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.bytes += TOKEN;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.bytes += TOKEN;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.bytes += TOKEN;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Count(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(counts) = map.next_key_seed(Key)? {
            match counts {
                Counts::Texts => map.next_value_seed(Count(self.0))?,
                counts => {
                    let value: &RawValue = map.next_value()?;
                    self.0.raw(Lazy::from(value), counts);
                }
            }
        }
        Ok(())
    }
}

impl Texts {
    /// A value of which all counts, as it is written.
    pub(crate) fn json(&mut self, value: Lazy<'_>) {
        self.raw(value, Counts::Json);
    }

    fn raw(&mut self, value: Lazy<'_>, counts: Counts) {
        let length = value.raw().len() as u64;
        match counts {
            _ if !value.is_some() => {}
            Counts::Json => self.bytes += length,
            Counts::Media => self.media(length),
            Counts::Source => self.source(value),
            Counts::Not | Counts::Texts => {}
        }
    }

    fn media(&mut self, length: u64) {
        self.media += 1;
        self.media_bytes += length;
    }

    fn source(&mut self, value: Lazy<'_>) {
        let length = value.raw().len() as u64;
        // The source of a search result is the text of where it is from.
        if value.raw().starts_with('"') {
            self.bytes += length;
            return;
        }
        match value.field("type").and_then(Lazy::text).as_deref() {
            Some("text" | "content") => self.bytes += length,
            _ => self.media(length),
        }
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Counts;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Counts, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Counts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Counts, E> {
        Ok(counts(key))
    }
}
