//! JSON that keeps the bytes it came as: the fields of an object and the items of an array, in their order, each as it
//! was written. And a reader that refuses what two readers could take for two things.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// An object, with its fields in their order and as they were written.
#[derive(Debug, Clone)]
pub struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Self)
    }
}

/// A name as who does not look at case reads it: some readers of JSON do not.
fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

impl<'a> Object<'a> {
    /// The object that a text is; nothing, when it is none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The name that two fields share, or that they differ in by case alone.
    #[must_use]
    pub fn twice(&self) -> Option<&str> {
        let mut seen = BTreeSet::new();
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        names.find(|name| !seen.insert(folded(name)))
    }

    /// A name that is read as one of these by who does not look at case, and is none of them.
    #[must_use]
    pub fn disguised(&self, known: &[&str]) -> Option<&str> {
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        names
            .find(|name| !known.contains(name) && known.iter().any(|it| folded(name) == folded(it)))
    }

    /// A field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(its, _)| its == name);
        found.map(|(_, value)| *value)
    }

    /// A field that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// A field that is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Object<'a>> {
        Self::parse(self.get(name)?.get())
    }

    /// The fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.get()))
    }

    /// The same with other values in the place of some; those that it has not follow, those of no value go.
    #[must_use]
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let mut out = String::from("{");
        let mut put = |name: &str, value: &str| {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&Value::from(name).to_string());
            out.push(':');
            out.push_str(value);
        };
        for (name, value) in self.fields() {
            match changes.iter().find(|(its, _)| *its == name) {
                None => put(name, value),
                Some((_, Some(value))) => put(name, value),
                Some((_, None)) => {}
            }
        }
        for (name, value) in changes {
            if let Some(value) = value
                && self.get(name).is_none()
            {
                put(name, value);
            }
        }
        out.push('}');
        out
    }
}

/// The items of an array, as they were written.
#[must_use]
pub fn array(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// Reads a value in which each object has each name once, at any depth.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict)?;
            if fields.contains_key(&name) {
                return Err(A::Error::custom("a name stands in an object twice"));
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

/// The value that a text is, when it has one meaning: no object has a name twice.
///
/// # Errors
/// Why not, without anything of the text.
pub fn strict(text: &str) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        match error.classify() {
            // Ours: it says nothing of the text.
            serde_json::error::Category::Data => {
                format!("a name stands in an object twice, or a number is too large ({place})")
            }
            _ => format!("it is no JSON ({place})"),
        }
    })
}

/// A value of ours as raw JSON.
#[must_use]
pub fn to_value(value: &impl Serialize) -> String {
    // What is of texts and numbers cannot fail.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
