//! JSON: read with its order and its numbers as they are written, and written as one flat object.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::node::{Node, quote};
use crate::{Entry, ExchangeError, MOST_DEPTH};

/// The fields of an object, in order.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut names = std::collections::HashSet::new();
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("a name stands there twice"));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

/// The items of a list.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        from.deserialize_seq(List)
    }
}

fn wrong(error: &serde_json::Error, nested: bool) -> ExchangeError {
    // The reader's own words may hold what it read.
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early: it is no whole JSON",
        serde_json::error::Category::Data => "it is no object with each name once",
        _ => "it is no JSON (a comma, a quote or a bracket is missing or too much)",
    };
    // Inside of a part the reader counts from there.
    let at = |number: usize| (!nested && number > 0).then_some(number);
    ExchangeError::wrong(at(error.line()), at(error.column()), what)
}

fn node(raw: &str, depth: usize) -> Result<Node, ExchangeError> {
    if depth > MOST_DEPTH {
        let what = format!("it is over {MOST_DEPTH} levels deep");
        return Err(ExchangeError::wrong(None, None, what));
    }
    let nested = depth > 0;
    let raw = raw.trim_ascii();
    let failed = |error: serde_json::Error| wrong(&error, nested);
    Ok(match raw.bytes().next() {
        Some(b'{') => {
            let fields: Fields<'_> = serde_json::from_str(raw).map_err(failed)?;
            let fields = fields.0.into_iter();
            let fields = fields.map(|(name, value)| Ok((name, node(value.get(), depth + 1)?)));
            Node::Map(fields.collect::<Result<_, ExchangeError>>()?)
        }
        Some(b'[') => {
            let items: Items<'_> = serde_json::from_str(raw).map_err(failed)?;
            let items = items.0.into_iter().map(|item| node(item.get(), depth + 1));
            Node::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Node::Text(Zeroizing::new(serde_json::from_str(raw).map_err(failed)?)),
        Some(b't' | b'f') => Node::Bool(serde_json::from_str(raw).map_err(failed)?),
        Some(b'n') => Node::Null,
        _ => Node::Number(raw.to_owned()),
    })
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Node, ExchangeError> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| wrong(&error, false))?;
    node(whole.get(), 0)
}

/// One object: names are not taken apart, so that `a` and `a/b` can both be there.
pub(crate) fn write(entries: &[Entry]) -> Result<Zeroizing<String>, ExchangeError> {
    let fields = entries.iter().map(|it| Ok((it.name.as_str(), it.text()?)));
    let fields: Vec<(&str, &str)> = fields.collect::<Result<_, ExchangeError>>()?;
    let mut out = Zeroizing::new(String::from("{"));
    for (at, (name, value)) in fields.into_iter().enumerate() {
        out.push_str(if at == 0 { "\n  " } else { ",\n  " });
        quote(name, &mut out);
        out.push_str(": ");
        quote(value, &mut out);
    }
    out.push_str(if entries.is_empty() { "}\n" } else { "\n}\n" });
    Ok(out)
}
