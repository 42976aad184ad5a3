//! JSON that is looked at without a tree of it: a value is its text until one of its fields is asked for.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A value, by its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lazy<'a>(&'a RawValue);

impl<'a> From<&'a RawValue> for Lazy<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw)
    }
}

impl<'a> Lazy<'a> {
    /// The value that these bytes are, if they are one.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        serde_json::from_str(text).ok().map(Self)
    }

    /// Its text.
    pub(crate) fn raw(self) -> &'a str {
        self.0.get()
    }

    /// These fields of an object; the last counts, where one is there twice.
    pub(crate) fn fields<const N: usize>(self, names: [&'static str; N]) -> [Option<Self>; N] {
        let mut read = serde_json::Deserializer::from_str(self.raw());
        let found = read.deserialize_map(Fields(names));
        found.unwrap_or([None; N])
    }

    /// A field of an object.
    pub(crate) fn field(self, name: &'static str) -> Option<Self> {
        let [found] = self.fields([name]);
        found
    }

    /// What a list holds, one after the other.
    pub(crate) fn each(self, mut with: impl FnMut(Self)) {
        let mut read = serde_json::Deserializer::from_str(self.raw());
        // What is no list has nothing in it.
        let _ = read.deserialize_seq(Each(&mut with));
    }

    /// How many values a list holds; nothing, if it is none.
    pub(crate) fn count(self) -> Option<u64> {
        if !self.raw().starts_with('[') {
            return None;
        }
        let mut count = 0;
        self.each(|_| count += 1);
        Some(count)
    }

    /// What a text says.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        let raw = self.raw();
        let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        serde_json::from_str(raw).ok().map(Cow::Owned)
    }

    /// How many bytes a text says; none, if it is none.
    pub(crate) fn text_bytes(self) -> u64 {
        self.text().map_or(0, |text| text.len() as u64)
    }

    /// A whole number that is not below zero.
    pub(crate) fn number(self) -> Option<u64> {
        serde_json::from_str(self.raw()).ok()
    }

    /// Whether it is something.
    pub(crate) fn is_some(self) -> bool {
        self.raw() != "null"
    }
}

struct Fields<const N: usize>([&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for Fields<N> {
    type Value = [Option<Lazy<'de>>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(at) = map.next_key_seed(Which(&self.0))? {
            match at.and_then(|at| found.get_mut(at)) {
                Some(place) => *place = Some(Lazy(map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Which of these names a key is.
pub(crate) struct Which<'n>(pub(crate) &'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Which<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Which<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

struct Each<'w, F>(&'w mut F);

impl<'de, F: FnMut(Lazy<'de>)> Visitor<'de> for Each<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(raw) = list.next_element()? {
            (self.0)(Lazy(raw));
        }
        Ok(())
    }
}
