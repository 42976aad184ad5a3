//! JSON Patch (RFC 6902) over JSON pointers (RFC 6901): six operations, all of a patch or nothing, and no patch makes a
//! document larger or deeper than a bound.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Levels of lists and objects that a document may have.
const MOST_DEPTH: usize = 100;
/// Bytes that one patch may copy and move: more than a document has, and no more than is done in a moment.
const MOST_WORK: usize = 64 << 20;
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
    /// A pointer that leads to the prototype of an object, which clients in JavaScript refuse.
    #[error("operation {at} of the patch: {pointer:?} is of a prototype")]
    Prototype {
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
    let mut room = most.saturating_sub(weight(document));
    applied(document, patch, &mut room).map(drop)
}

/// Applies a patch to a document for which there is so much room, and gives what takes it back.
pub(super) fn applied(
    document: &mut Value,
    patch: &[Operation],
    room: &mut usize,
) -> Result<Undo, Inapplicable> {
    if patch.len() > MOST_OPERATIONS {
        let at = MOST_OPERATIONS;
        return Err(Inapplicable::TooMuch { at });
    }
    let before = *room;
    let mut work = Work {
        room: *room,
        left: MOST_WORK,
        undo: Undo(Vec::new()),
    };
    for (at, operation) in patch.iter().enumerate() {
        if let Err(why) = work.one(document, operation) {
            let why = why.told(at);
            work.undo.take_back(document);
            *room = before;
            return Err(why);
        }
    }
    *room = work.room;
    Ok(work.undo)
}

/// What takes a patch back, the last step last.
#[derive(Debug)]
pub(super) struct Undo(Vec<Step>);

/// What was done to a document.
#[derive(Debug)]
enum Step {
    /// Another value stands at a path.
    Placed(String, Value),
    /// A key of the object at a path has another value, or one at all, or none.
    Keyed(String, String, Option<Value>),
    /// An item was put into the list at a path.
    Inserted(String, usize),
    /// An item was taken out of the list at a path.
    Removed(String, usize, Value),
}

impl Undo {
    /// Makes a document what it was.
    pub(super) fn take_back(self, document: &mut Value) {
        for step in self.0.into_iter().rev() {
            match step {
                Step::Placed(path, old) => {
                    if let Some(place) = find_mut(document, &path) {
                        *place = old;
                    }
                }
                Step::Keyed(path, key, old) => {
                    if let Some(Value::Object(object)) = find_mut(document, &path) {
                        match old {
                            Some(old) => drop(object.insert(key, old)),
                            None => drop(object.remove(&key)),
                        }
                    }
                }
                Step::Inserted(path, at) => {
                    if let Some(Value::Array(list)) = find_mut(document, &path) {
                        list.remove(at);
                    }
                }
                Step::Removed(path, at, old) => {
                    if let Some(Value::Array(list)) = find_mut(document, &path) {
                        list.insert(at, old);
                    }
                }
            }
        }
    }
}

/// What goes wrong with one operation.
enum Wrong<'a> {
    Nowhere(&'a str),
    Differs(&'a str),
    Within(&'a str),
    Prototype(&'a str),
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
            Self::Prototype(pointer) => Inapplicable::Prototype {
                at,
                pointer: short(pointer),
            },
            Self::TooMuch => Inapplicable::TooMuch { at },
        }
    }
}

impl Operation {
    /// The pointers that it has.
    fn pointers(&self) -> [&str; 2] {
        match self {
            Self::Add { path, .. }
            | Self::Remove { path }
            | Self::Replace { path, .. }
            | Self::Test { path, .. } => [path, ""],
            Self::Move { from, path } | Self::Copy { from, path } => [path, from],
        }
    }
}

/// Whether a pointer leads to a prototype: `__proto__`, or `prototype` behind `constructor`.
fn is_prototype(pointer: &str) -> bool {
    let mut before = "";
    pointer.split('/').any(|token| {
        let is_one = token == "__proto__" || (before == "constructor" && token == "prototype");
        before = token;
        is_one
    })
}

/// A patch at work.
struct Work {
    /// Bytes that the document may still grow.
    room: usize,
    /// Bytes that may still be moved.
    left: usize,
    undo: Undo,
}

impl Work {
    fn one<'a>(&mut self, document: &mut Value, operation: &'a Operation) -> Result<(), Wrong<'a>> {
        let prototype = operation.pointers().into_iter().find(|it| is_prototype(it));
        if let Some(pointer) = prototype {
            return Err(Wrong::Prototype(pointer));
        }
        match operation {
            Operation::Add { path, value } => self.add(document, path, value.clone()),
            Operation::Remove { path } => self.remove(document, path).map(drop),
            Operation::Replace { path, value } => {
                let place = find_mut(document, path).ok_or(Wrong::Nowhere(path))?;
                self.room = self.room.saturating_add(weight(place));
                self.spend(path, value)?;
                let old = std::mem::replace(place, value.clone());
                self.undo.0.push(Step::Placed(path.clone(), old));
                Ok(())
            }
            Operation::Move { from, path } => {
                let within = path.strip_prefix(from.as_str());
                match within {
                    Some("") => {
                        return find(document, from).map(drop).ok_or(Wrong::Nowhere(from));
                    }
                    Some(within) if within.starts_with('/') => return Err(Wrong::Within(from)),
                    _ => {}
                }
                let value = self.remove(document, from)?;
                self.add(document, path, value)
            }
            Operation::Copy { from, path } => {
                let value = find(document, from).ok_or(Wrong::Nowhere(from))?;
                if weight(value) > self.room {
                    return Err(Wrong::TooMuch);
                }
                let value = value.clone();
                self.add(document, path, value)
            }
            Operation::Test { path, value } => match find(document, path) {
                None => Err(Wrong::Nowhere(path)),
                Some(there) if same(there, value) => Ok(()),
                Some(_) => Err(Wrong::Differs(path)),
            },
        }
    }

    /// Takes what a value needs out of the room there is.
    fn spend<'a>(&mut self, path: &'a str, value: &Value) -> Result<(), Wrong<'a>> {
        let is_deep = path.matches('/').count() + depth(value) > MOST_DEPTH;
        let key = path.rsplit('/').next().unwrap_or_default();
        let needed = weight(value) + key.len();
        self.moved(needed)?;
        self.room = self.room.checked_sub(needed).ok_or(Wrong::TooMuch)?;
        match is_deep {
            true => Err(Wrong::TooMuch),
            false => Ok(()),
        }
    }

    fn moved<'a>(&mut self, bytes: usize) -> Result<(), Wrong<'a>> {
        self.left = self.left.checked_sub(bytes).ok_or(Wrong::TooMuch)?;
        Ok(())
    }

    fn add<'a>(
        &mut self,
        document: &mut Value,
        path: &'a str,
        value: Value,
    ) -> Result<(), Wrong<'a>> {
        self.spend(path, &value)?;
        let Some((parent, token)) = path.rsplit_once('/') else {
            if !path.is_empty() {
                return Err(Wrong::Nowhere(path));
            }
            self.room = self.room.saturating_add(weight(document));
            let old = std::mem::replace(document, value);
            self.undo.0.push(Step::Placed(String::new(), old));
            return Ok(());
        };
        let step = match find_mut(document, parent) {
            Some(Value::Object(object)) => {
                let key = unescaped(token);
                let old = object.insert(key.clone(), value);
                self.room = self.room.saturating_add(old.as_ref().map_or(0, weight));
                Step::Keyed(parent.to_owned(), key, old)
            }
            Some(Value::Array(list)) => {
                let at = match token {
                    "-" => Some(list.len()),
                    token => index(token).filter(|at| *at <= list.len()),
                };
                let at = at.ok_or(Wrong::Nowhere(path))?;
                self.moved((list.len() - at) * size_of::<Value>())?;
                list.insert(at, value);
                Step::Inserted(parent.to_owned(), at)
            }
            _ => return Err(Wrong::Nowhere(path)),
        };
        self.undo.0.push(step);
        Ok(())
    }

    fn remove<'a>(&mut self, document: &mut Value, path: &'a str) -> Result<Value, Wrong<'a>> {
        let Some((parent, token)) = path.rsplit_once('/') else {
            if !path.is_empty() {
                return Err(Wrong::Nowhere(path));
            }
            let old = std::mem::take(document);
            return self.removed(Step::Placed(String::new(), Value::Null), old);
        };
        match find_mut(document, parent) {
            Some(Value::Object(object)) => {
                let key = unescaped(token);
                let old = object.remove(&key).ok_or(Wrong::Nowhere(path))?;
                self.removed(Step::Keyed(parent.to_owned(), key, None), old)
            }
            Some(Value::Array(list)) => {
                let at = index(token).filter(|at| *at < list.len());
                let at = at.ok_or(Wrong::Nowhere(path))?;
                self.moved((list.len() - at) * size_of::<Value>())?;
                let old = list.remove(at);
                self.removed(Step::Removed(parent.to_owned(), at, Value::Null), old)
            }
            _ => Err(Wrong::Nowhere(path)),
        }
    }

    /// Keeps what was taken out for its way back, and gives it.
    fn removed<'a>(&mut self, mut step: Step, old: Value) -> Result<Value, Wrong<'a>> {
        let bytes = weight(&old);
        self.room = self.room.saturating_add(bytes);
        match &mut step {
            Step::Keyed(_, _, kept) => *kept = Some(old.clone()),
            Step::Placed(_, kept) | Step::Removed(_, _, kept) => *kept = old.clone(),
            Step::Inserted(..) => {}
        }
        self.undo.0.push(step);
        // It was copied to be kept.
        self.moved(bytes)?;
        Ok(old)
    }
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
