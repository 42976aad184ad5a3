//! JSON Patch (RFC 6902) over JSON pointers (RFC 6901): six operations, all of a patch or nothing, and no patch makes a
//! document larger or deeper than a bound.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Levels of lists and objects that a document may have.
const MOST_DEPTH: usize = 100;
/// Operations of one patch.
pub const MOST_OPERATIONS: usize = 10_000;

/// One operation of a patch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of RFC 6902, which documents them")]
pub enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}

/// Why a patch does not apply. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inapplicable {
    /// A pointer that leads nowhere.
    #[error("operation {at} of the patch: nothing is at {pointer:?}")]
    Nowhere {
        /// Which operation, counted from 0.
        at: usize,
        /// The pointer.
        pointer: String,
    },
    /// A test that fails.
    #[error("operation {at} of the patch: the value at {pointer:?} is another")]
    Differs {
        /// Which operation, counted from 0.
        at: usize,
        /// The pointer.
        pointer: String,
    },
    /// A value that is moved into itself.
    #[error("operation {at} of the patch moves {pointer:?} into itself")]
    Within {
        /// Which operation, counted from 0.
        at: usize,
        /// The pointer.
        pointer: String,
    },
    /// The document would be too large or too deep.
    #[error("operation {at} of the patch makes the document too large or too deep")]
    TooMuch {
        /// Which operation, counted from 0.
        at: usize,
    },
}

/// Applies a patch: all of it, or nothing.
///
/// # Errors
/// [`Inapplicable`]; the document is as it was. A document that has more than so many bytes after it, as [`weight`] counts
/// them, is one.
pub fn apply(document: &mut Value, patch: &[Operation], most: usize) -> Result<(), Inapplicable> {
    if patch.len() > MOST_OPERATIONS {
        return Err(Inapplicable::TooMuch {
            at: MOST_OPERATIONS,
        });
    }
    let mut new = document.clone();
    let mut room = most.saturating_sub(weight(&new));
    for (at, operation) in patch.iter().enumerate() {
        one(&mut new, operation, &mut room).map_err(|why| why.told(at))?;
    }
    *document = new;
    Ok(())
}

/// What goes wrong with one operation.
enum Wrong<'a> {
    Nowhere(&'a str),
    Differs(&'a str),
    Within(&'a str),
    TooMuch,
}

impl Wrong<'_> {
    fn told(self, at: usize) -> Inapplicable {
        // It is shown to people.
        let short = |pointer: &str| pointer.chars().take(200).collect();
        match self {
            Self::Nowhere(pointer) => Inapplicable::Nowhere {
                at,
                pointer: short(pointer),
            },
            Self::Differs(pointer) => Inapplicable::Differs {
                at,
                pointer: short(pointer),
            },
            Self::Within(pointer) => Inapplicable::Within {
                at,
                pointer: short(pointer),
            },
            Self::TooMuch => Inapplicable::TooMuch { at },
        }
    }
}

fn one<'a>(
    document: &mut Value,
    operation: &'a Operation,
    room: &mut usize,
) -> Result<(), Wrong<'a>> {
    match operation {
        Operation::Add { path, value } => add(document, path, value.clone(), room),
        Operation::Remove { path } => remove(document, path, room).map(drop),
        Operation::Replace { path, value } => {
            let place = find_mut(document, path).ok_or(Wrong::Nowhere(path))?;
            let old = std::mem::take(place);
            *room = room.saturating_add(weight(&old));
            spend(path, value, room)?;
            *place = value.clone();
            Ok(())
        }
        Operation::Move { from, path } => {
            if path.len() > from.len()
                && path.starts_with(from)
                && path[from.len()..].starts_with('/')
            {
                return Err(Wrong::Within(from));
            }
            if path == from {
                return find(document, from).map(drop).ok_or(Wrong::Nowhere(from));
            }
            let value = remove(document, from, room)?;
            add(document, path, value, room)
        }
        Operation::Copy { from, path } => {
            let value = find(document, from).ok_or(Wrong::Nowhere(from))?;
            if weight(value) > *room {
                return Err(Wrong::TooMuch);
            }
            let value = value.clone();
            add(document, path, value, room)
        }
        Operation::Test { path, value } => match find(document, path) {
            None => Err(Wrong::Nowhere(path)),
            Some(there) if same(there, value) => Ok(()),
            Some(_) => Err(Wrong::Differs(path)),
        },
    }
}

/// Takes what a value needs out of the room there is.
fn spend<'a>(path: &'a str, value: &Value, room: &mut usize) -> Result<(), Wrong<'a>> {
    let is_deep = path.matches('/').count() + depth(value) > MOST_DEPTH;
    let key = path.rsplit('/').next().unwrap_or_default();
    match room.checked_sub(weight(value) + key.len()) {
        Some(left) if !is_deep => {
            *room = left;
            Ok(())
        }
        _ => Err(Wrong::TooMuch),
    }
}

fn add<'a>(
    document: &mut Value,
    path: &'a str,
    value: Value,
    room: &mut usize,
) -> Result<(), Wrong<'a>> {
    spend(path, &value, room)?;
    let Some((parent, token)) = path.rsplit_once('/') else {
        if !path.is_empty() {
            return Err(Wrong::Nowhere(path));
        }
        *room = room.saturating_add(weight(document));
        *document = value;
        return Ok(());
    };
    match find_mut(document, parent) {
        Some(Value::Object(object)) => {
            let old = object.insert(unescaped(token), value);
            *room = room.saturating_add(old.map_or(0, |old| weight(&old)));
            Ok(())
        }
        Some(Value::Array(list)) => {
            let at = match token {
                "-" => Some(list.len()),
                token => index(token).filter(|at| *at <= list.len()),
            };
            list.insert(at.ok_or(Wrong::Nowhere(path))?, value);
            Ok(())
        }
        _ => Err(Wrong::Nowhere(path)),
    }
}

fn remove<'a>(document: &mut Value, path: &'a str, room: &mut usize) -> Result<Value, Wrong<'a>> {
    let old = match path.rsplit_once('/') {
        None => path.is_empty().then(|| std::mem::take(document)),
        Some((parent, token)) => match find_mut(document, parent) {
            Some(Value::Object(object)) => object.remove(&unescaped(token)),
            Some(Value::Array(list)) => {
                let at = index(token).filter(|at| *at < list.len());
                at.map(|at| list.remove(at))
            }
            _ => None,
        },
    };
    let old = old.ok_or(Wrong::Nowhere(path))?;
    *room = room.saturating_add(weight(&old));
    Ok(old)
}

/// Whether a text is a JSON pointer.
pub(super) fn is_pointer(text: &str) -> bool {
    let escapes = |text: &str| {
        let mut parts = text.split('~').skip(1);
        parts.all(|part| part.starts_with(['0', '1']))
    };
    text.is_empty() || text.starts_with('/') && escapes(text)
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The index that a token is: digits, and no zero before others.
fn index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|it| it.is_ascii_digit());
    let has_zero = token.len() > 1 && token.starts_with('0');
    (is_plain && !has_zero)
        .then(|| token.parse().ok())
        .flatten()
}

fn tokens(path: &str) -> Option<impl Iterator<Item = &str>> {
    is_pointer(path).then(|| path.split('/').skip(1))
}

fn find<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    tokens(path)?.try_fold(document, |value, token| match value {
        Value::Object(object) => object.get(&unescaped(token)),
        Value::Array(list) => list.get(index(token)?),
        _ => None,
    })
}

fn find_mut<'a>(document: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    tokens(path)?.try_fold(document, |value, token| match value {
        Value::Object(object) => object.get_mut(&unescaped(token)),
        Value::Array(list) => list.get_mut(index(token)?),
        _ => None,
    })
}

/// Whether two values are equal as RFC 6902 says: numbers by what they are worth.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_same = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|other| same(value, other))
            };
            one.len() == other.len() && one.iter().all(is_same)
        }
        _ => one == other,
    }
}

/// About how many bytes a value takes.
#[must_use]
pub fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 8,
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + 8,
        Value::Object(object) => weight_of(object),
    }
}

/// About how many bytes an object takes.
pub(super) fn weight_of(object: &Map<String, Value>) -> usize {
    let each = object
        .iter()
        .map(|(key, value)| key.len() + weight(value) + 8);
    each.sum::<usize>() + 8
}

/// How many levels a value has.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(list) => list.iter().map(depth).max(),
        Value::Object(object) => object.values().map(depth).max(),
        _ => return 0,
    };
    inner.unwrap_or(0) + 1
}
