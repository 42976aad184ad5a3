//! YAML: read with its order and its numbers as they are written, and written as one flat map.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};
use zeroize::Zeroizing;

use crate::node::{Node, quote};
use crate::{Entry, ExchangeError, MOST_DEPTH};

/// Words that are no text without quotes, for one reader or another.
const WORDS: [&str; 11] = [
    "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
];

/// A part of a document and where it stands.
struct Part(Spanned<Kind>);

enum Kind {
    Null,
    Bool(bool),
    Number,
    Text(Zeroizing<String>),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Spanned::deserialize(from).map(Part)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Kind::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Kind, D::Error> {
        Kind::deserialize(inner)
    }
}

fn wrong(error: &serde_saphyr::Error) -> ExchangeError {
    let at = error.location();
    let number = |value: u64| usize::try_from(value).ok();
    // The reader's own words may hold what it read.
    let what = "it is no YAML that can be read: look at quotes, indents, names that stand twice, and whether \
                it is one document";
    let line = at.and_then(|at| number(at.line()));
    ExchangeError::wrong(line, at.and_then(|at| number(at.column())), what)
}

fn node(part: Part, text: &str, depth: usize) -> Result<Node, ExchangeError> {
    let at = part.0.defined;
    if depth > MOST_DEPTH {
        let line = usize::try_from(at.line()).ok();
        let what = format!("it is over {MOST_DEPTH} levels deep");
        return Err(ExchangeError::wrong(line, None, what));
    }
    Ok(match part.0.value {
        Kind::Null => Node::Null,
        Kind::Bool(value) => Node::Bool(value),
        Kind::Text(text) => Node::Text(text),
        Kind::Number => {
            let span = at.span();
            let range = span.byte_offset().zip(span.byte_len());
            let range = range.and_then(|(from, length)| {
                let from = usize::try_from(from).ok()?;
                Some(from..from.checked_add(usize::try_from(length).ok()?)?)
            });
            let raw = range.and_then(|range| text.get(range));
            let raw = raw.ok_or_else(|| {
                let line = usize::try_from(at.line()).ok();
                ExchangeError::wrong(line, None, "write the number in quotes")
            })?;
            Node::Number(raw.trim().to_owned())
        }
        Kind::List(items) => {
            let items = items.into_iter().map(|item| node(item, text, depth + 1));
            Node::List(items.collect::<Result<_, _>>()?)
        }
        Kind::Map(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value)| Ok((name, node(value, text, depth + 1)?)));
            Node::Map(fields.collect::<Result<_, ExchangeError>>()?)
        }
    })
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Node, ExchangeError> {
    let mut options = Options::default();
    options.with_snippet = false;
    // `no` is a text, as in YAML 1.2.
    options.strict_booleans = true;
    let part: Part =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| wrong(&error))?;
    node(part, text, 0)
}

/// A name, in quotes where it needs them.
pub(crate) fn key(name: &str, out: &mut Zeroizing<String>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(fits)
        && !WORDS.contains(&name.to_ascii_lowercase().as_str());
    match plain {
        true => out.push_str(name),
        false => quote(name, out),
    }
}

/// One map: names are not taken apart, so that `a` and `a/b` can both be there. Every value is in quotes.
pub(crate) fn write(entries: &[Entry]) -> Result<Zeroizing<String>, ExchangeError> {
    let mut out = Zeroizing::new(String::new());
    for entry in entries {
        key(&entry.name, &mut out);
        out.push_str(": ");
        quote(entry.text()?, &mut out);
        out.push('\n');
    }
    if entries.is_empty() {
        out.push_str("{}\n");
    }
    Ok(out)
}
