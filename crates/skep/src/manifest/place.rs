//! Where a field stands in a document: for what is wrong in its meaning, not in its form.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value with its place, and those in it with theirs.
pub(super) struct Node(Spanned<Kids>);

enum Kids {
    Map(Vec<(Spanned<String>, Node)>),
    List(Vec<Node>),
    Leaf(String),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Node)
    }
}

impl<'de> Deserialize<'de> for Kids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Kids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kids, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Kids::Map(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kids, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Kids::List(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kids, E> {
        Ok(Kids::Leaf(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kids, E> {
        Ok(Kids::Leaf(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kids, E> {
        Ok(Kids::Leaf(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kids, E> {
        Ok(Kids::Leaf(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kids, E> {
        Ok(Kids::Leaf(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Kids, E> {
        Ok(Kids::Leaf(String::new()))
    }

    fn visit_none<E>(self) -> Result<Kids, E> {
        Ok(Kids::Leaf(String::new()))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Kids, D::Error> {
        Kids::deserialize(inner)
    }
}

impl Node {
    /// Reads a document without looking at what it means.
    pub(super) fn read(document: &str) -> Result<Self, serde_saphyr::Error> {
        serde_saphyr::from_str(document)
    }

    /// The text of a field of a map.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match &self.child(key)?.0.value {
            Kids::Leaf(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn child(&self, key: &str) -> Option<&Self> {
        match &self.0.value {
            Kids::Map(pairs) => {
                let mut pairs = pairs.iter();
                pairs
                    .find(|(name, _)| name.value == key)
                    .map(|(_, node)| node)
            }
            Kids::List(items) => items.get(key.parse::<usize>().ok()?),
            Kids::Leaf(_) => None,
        }
    }
}

/// A document and the path of an agent in it.
pub(super) struct Place<'a> {
    document: &'a str,
    path: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn of(document: &'a str, path: &'a str) -> Self {
        Self { document, path }
    }

    /// Line and column of a field, such as `rollout.steps[0].weight`; of what it is in, when it is
    /// not there itself.
    pub(super) fn find(&self, field: &str) -> Option<(usize, usize)> {
        let root = Node::read(self.document).ok()?;
        let path = format!("{}.{field}", self.path);
        let parts = path.split(['.', '[', ']']).filter(|part| !part.is_empty());
        let mut node = &root;
        for part in parts {
            match node.child(part) {
                Some(child) => node = child,
                None => break,
            }
        }
        let at = node.0.referenced;
        let number = |value: u64| usize::try_from(value).ok();
        Some((number(at.line())?, number(at.column())?))
    }
}
