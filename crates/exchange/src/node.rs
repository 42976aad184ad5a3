//! A document as a tree that keeps its order, and numbers as they are written.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use crate::{Entry, ExchangeError, MOST_DEPTH, MOST_ENTRIES};

/// A part of a document.
#[derive(Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    /// A number as it stands there: `007` may be somebody's password.
    Number(String),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A field of a map.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.iter().find(|(it, _)| it == name).map(|(_, it)| it),
            _ => None,
        }
    }

    /// It as text, when it is one value.
    pub(crate) fn scalar(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Null => Some(Zeroizing::default()),
            Self::Bool(value) => Some(Zeroizing::new(value.to_string())),
            Self::Number(text) => Some(Zeroizing::new(text.clone())),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// It as JSON.
    pub(crate) fn to_json(&self, out: &mut Zeroizing<String>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Text(text) => quote(text, out),
            // What is a number elsewhere may be none in JSON.
            Self::Number(text) if !is_json_number(text) => quote(text, out),
            Self::Bool(_) | Self::Number(_) => out.push_str(&self.scalar().unwrap_or_default()),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.to_json(out);
                }
                out.push(']');
            }
            Self::Map(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    quote(name, out);
                    out.push(':');
                    value.to_json(out);
                }
                out.push('}');
            }
        }
    }
}

fn is_json_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// A text in quotes, as JSON and YAML both read it.
pub(crate) fn quote(text: &str, out: &mut Zeroizing<String>) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // What YAML does not take as it is.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                // Writing to a text does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// The entries of a document: a map of values and of maps. A list is one value, as JSON.
pub(crate) fn entries(root: Node) -> Result<Vec<Entry>, ExchangeError> {
    let Node::Map(fields) = root else {
        let what = "it is no map of names and values";
        return Err(ExchangeError::wrong(Some(1), None, what));
    };
    let mut out = Vec::new();
    below("", fields, 1, &mut out)?;
    Ok(out)
}

fn below(
    path: &str,
    fields: Vec<(String, Node)>,
    depth: usize,
    out: &mut Vec<Entry>,
) -> Result<(), ExchangeError> {
    if depth > MOST_DEPTH {
        let what = format!("it is over {MOST_DEPTH} levels deep");
        return Err(ExchangeError::wrong(None, None, what));
    }
    for (name, value) in fields {
        let name = match path {
            "" => name,
            _ => format!("{path}/{name}"),
        };
        match value {
            Node::Map(inner) => below(&name, inner, depth + 1, out)?,
            Node::List(_) => {
                let mut json = Zeroizing::new(String::new());
                value.to_json(&mut json);
                out.push(Entry::new(name, json.as_bytes()));
            }
            other => {
                let text = other.scalar().unwrap_or_default();
                out.push(Entry::new(name, text.as_bytes()));
            }
        }
        if out.len() > MOST_ENTRIES {
            return Err(ExchangeError::TooMany);
        }
    }
    Ok(())
}
