//! A tree of JSON that keeps the order of fields, because models read and write them in order, and refuses what
//! is there twice. [`Fields`] reads an object so that no field of it is forgotten.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserializer, Serialize, Serializer};
use serde_json::Number;

use crate::neutral::Part;
use crate::translate::Untranslatable;

/// Values of a tree, at most: a body of small ones would take many times its bytes.
const MOST_VALUES: usize = 1 << 20;

/// Numbers from here on are not kept exactly: two to the power of 64.
const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a value.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Untranslatable> {
        let odd = |error: String| Untranslatable::NotJson(error);
        let text = std::str::from_utf8(bytes).map_err(|error| odd(error.to_string()))?;
        let mut read = serde_json::Deserializer::from_str(text);
        let left = Cell::new(MOST_VALUES);
        let value = Seed(&left).deserialize(&mut read);
        let value = value.and_then(|value| read.end().map(|()| value));
        value.map_err(|error| odd(error.to_string()))
    }

    /// A field of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, it)| it),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// A field of an object of an object.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |here, name| here.get(name))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(flag) => to.serialize_bool(*flag),
            Self::Number(number) => number.serialize(to),
            Self::Text(text) => to.serialize_str(text),
            Self::List(list) => {
                let mut made = to.serialize_seq(Some(list.len()))?;
                for value in list {
                    made.serialize_element(value)?;
                }
                made.end()
            }
            Self::Object(fields) => {
                let mut made = to.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    made.serialize_entry(name, value)?;
                }
                made.end()
            }
        }
    }
}

struct Seed<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        match self.0.get().checked_sub(1) {
            Some(left) => self.0.set(left),
            None => return Err(D::Error::custom("it has too many values")),
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Json, E> {
        // It may be a whole number of which digits would be lost.
        if number.abs() >= TOO_LARGE {
            return Err(E::custom("a number is too large to be kept as it is"));
        }
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(Seed(self.0))? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        // Names of a large object are compared in a tree.
        let mut seen = std::collections::BTreeSet::new();
        while let Some(name) = from.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                let shown: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("`{shown}` is there twice")));
            }
            fields.push((name, from.next_value_seed(Seed(self.0))?));
        }
        Ok(Json::Object(fields))
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Json {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl From<Number> for Json {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Json {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<Vec<Json>> for Json {
    fn from(list: Vec<Json>) -> Self {
        Self::List(list)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

/// An object that is being made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object(Vec<(String, Json)>);

impl Object {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One that says of which type it is.
    pub(crate) fn typed(kind: &str) -> Self {
        Self::new().with("type", kind)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn maybe(self, name: &str, value: Option<impl Into<Json>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Gives a field that is there another value.
    pub(crate) fn set(&mut self, name: &str, value: Json) {
        let mut fields = self.0.iter_mut();
        if let Some((_, place)) = fields.find(|(key, _)| key == name) {
            *place = value;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An object that is read: what is left of it at the end is refused.
#[derive(Debug)]
pub(crate) struct Fields {
    path: String,
    /// What is not known says nothing: so it is in answers.
    is_lenient: bool,
    fields: Vec<(String, Json)>,
}

/// How one of a list of parts is read.
type ReadPart = fn(Fields) -> Result<Part, Untranslatable>;

impl Fields {
    /// The object at a path; the path of the whole is empty.
    pub(crate) fn of(value: Json, path: impl Into<String>) -> Result<Self, Untranslatable> {
        let path = path.into();
        match value {
            Json::Object(fields) => Ok(Self {
                path,
                is_lenient: false,
                fields,
            }),
            _ => Err(refused(path, "it must be an object")),
        }
    }

    /// An answer: what is not known of it says nothing.
    pub(crate) fn answer(value: Json) -> Result<Self, Untranslatable> {
        Self::of(value, "").map(|it| it.lenient(true))
    }

    /// One that is as lenient as another.
    pub(crate) fn lenient(self, is_lenient: bool) -> Self {
        Self { is_lenient, ..self }
    }

    pub(crate) fn is_lenient(&self) -> bool {
        self.is_lenient
    }

    /// A field that is a text, or a list of objects that are read one by one; nothing, where there is none.
    pub(crate) fn content(
        &mut self,
        name: &str,
        (called, read): (&str, ReadPart),
    ) -> Result<Vec<Part>, Untranslatable> {
        let path = self.path(name);
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Json::Text(text)) => Ok(vec![Part::Text(text)]),
            Some(Json::List(list)) => {
                let each = list.into_iter().enumerate();
                each.map(|(at, part)| read(self.child(part, format!("{path}[{at}]"))?))
                    .collect()
            }
            Some(_) => Err(refused(
                path,
                format!("it must be a text or a list of {called}"),
            )),
        }
    }

    /// An object within this one.
    pub(crate) fn child(&self, value: Json, path: String) -> Result<Self, Untranslatable> {
        Self::of(value, path).map(|it| it.lenient(self.is_lenient))
    }

    /// The path of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path),
        }
    }

    /// The path of the object itself.
    pub(crate) fn here(&self) -> &str {
        &self.path
    }

    /// What is left of it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// Takes a field out; `null` is none.
    pub(crate) fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.fields.iter().position(|(key, _)| key == name)?;
        Some(self.fields.remove(at).1).filter(|value| *value != Json::Null)
    }

    fn of_sort<T>(
        &mut self,
        name: &str,
        sort: &str,
        read: impl FnOnce(Json) -> Option<T>,
    ) -> Result<Option<T>, Untranslatable> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(refused(self.path(name), format!("it must be {sort}"))),
            },
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Untranslatable> {
        self.of_sort(name, "a text", |value| match value {
            Json::Text(text) => Some(text),
            _ => None,
        })
    }

    pub(crate) fn needed(&mut self, name: &str) -> Result<String, Untranslatable> {
        let text = self.text(name)?;
        text.ok_or_else(|| refused(self.path(name), "it is missing"))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Untranslatable> {
        self.of_sort(name, "true or false", |value| match value {
            Json::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Untranslatable> {
        self.of_sort(name, "a whole number, not below 0", |value| value.number())
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<Option<Number>, Untranslatable> {
        self.of_sort(name, "a number", |value| match value {
            Json::Number(number) => Some(number),
            _ => None,
        })
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Json>>, Untranslatable> {
        self.of_sort(name, "a list", |value| match value {
            Json::List(list) => Some(list),
            _ => None,
        })
    }

    /// The objects of a list.
    pub(crate) fn objects(&mut self, name: &str) -> Result<Vec<Self>, Untranslatable> {
        let list = self.list(name)?.unwrap_or_default();
        let path = self.path(name);
        let each = list.into_iter().enumerate();
        each.map(|(at, value)| self.child(value, format!("{path}[{at}]")))
            .collect()
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Untranslatable> {
        let path = self.path(name);
        let value = self.take(name);
        value.map(|value| self.child(value, path)).transpose()
    }

    /// Leaves out what has no effect on the answer.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        self.fields.retain(|(name, _)| !names.contains(&&**name));
    }

    /// Leaves out a field that says what holds anyhow.
    pub(crate) fn only(&mut self, name: &str, values: &[Json]) -> Result<(), Untranslatable> {
        match self.take(name) {
            None => Ok(()),
            Some(value) if self.is_lenient || values.contains(&value) => Ok(()),
            Some(_) => Err(refused(self.path(name), "this value cannot be translated")),
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Untranslatable> {
        let left = self.fields.iter().find(|(_, value)| *value != Json::Null);
        match left {
            None => Ok(()),
            Some(_) if self.is_lenient => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(refused(self.path(&name), "it cannot be translated"))
            }
        }
    }

    /// All that is left, as it is.
    pub(crate) fn rest(self) -> Json {
        Json::Object(self.fields)
    }
}

/// The refusal of a field.
pub(crate) fn refused(field: impl Into<String>, why: impl Into<String>) -> Untranslatable {
    Untranslatable::Field {
        field: field.into(),
        why: why.into(),
    }
}
