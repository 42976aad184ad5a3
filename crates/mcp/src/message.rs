//! One message: what it asks for or answers, read without taking it apart.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::era::code;
use crate::raw::{Object, strict};

/// The fields of a message.
const FIELDS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// The fields of parameters that something is decided by.
const DECIDES: [&str; 4] = ["name", "arguments", "uri", "_meta"];

/// Why something is no message that passes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    /// The code of the error.
    pub code: i64,
    /// Why.
    pub why: String,
}

fn fault(code: i64, why: impl Into<String>) -> Fault {
    Fault {
        code,
        why: why.into(),
    }
}

/// What a message is.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// It wants an answer.
    Request {
        /// By which the answer is known.
        id: &'a RawValue,
        /// What it asks for.
        method: String,
    },
    /// It tells something.
    Notification {
        /// What.
        method: String,
    },
    /// It answers.
    Answer {
        /// What.
        id: Option<&'a RawValue>,
        /// Well.
        result: Option<&'a RawValue>,
    },
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// All that it has.
    pub fields: Object<'a>,
    /// What it is.
    pub kind: Kind<'a>,
    /// Its parameters, when it has some.
    pub params: Option<Object<'a>>,
}

/// Whether two readers of an object may find two things in it.
fn odd(object: &Object<'_>, known: &[&str]) -> bool {
    object.twice().is_some() || object.disguised(known).is_some()
}

impl<'a> Message<'a> {
    /// Reads one that comes from a client: it must have one meaning, whoever reads it.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn of_client(text: &'a str) -> Result<Self, Fault> {
        if let Err(why) = strict(text) {
            return Err(fault(code::PARSE, why));
        }
        let message = Self::read(text)?;
        let params = message.params.as_ref();
        let arguments = params.and_then(|it| it.object("arguments"));
        if message.is_odd()
            || params.is_some_and(|it| odd(it, &DECIDES))
            || arguments.is_some_and(|it| it.twice().is_some())
        {
            let why =
                "two of its names differ by case alone: what it means depends on who reads it";
            return Err(fault(code::REQUEST, why));
        }
        Ok(message)
    }

    /// Reads one, wherever it comes from.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read(text: &'a str) -> Result<Self, Fault> {
        let Some(fields) = Object::parse(text) else {
            let why = "a message is one object; batches are not taken";
            return Err(fault(code::REQUEST, why));
        };
        if fields.text("jsonrpc").as_deref() != Some("2.0") {
            return Err(fault(code::REQUEST, "`jsonrpc` is `2.0`"));
        }
        let id = fields.get("id");
        let is_id = |it: &RawValue| {
            let value: Option<Value> = serde_json::from_str(it.get()).ok();
            value.is_some_and(|it| it.is_string() || it.is_number())
        };
        let params = match fields.get("params") {
            None => None,
            Some(raw) if raw.get() == "null" => None,
            Some(raw) => Some(
                Object::parse(raw.get())
                    .ok_or_else(|| fault(code::REQUEST, "`params` is an object"))?,
            ),
        };
        let answers = fields.get("result").is_some() || fields.get("error").is_some();
        let kind = match (fields.get("method"), id) {
            (Some(_), _) if answers => {
                let why = "it has a `method` beside a `result` or an `error`";
                return Err(fault(code::REQUEST, why));
            }
            (Some(_), id) => {
                let method = fields.text("method");
                let method = method.ok_or_else(|| fault(code::REQUEST, "`method` is a text"))?;
                match id {
                    None => Kind::Notification { method },
                    Some(id) if is_id(id) => Kind::Request { id, method },
                    Some(_) => return Err(fault(code::REQUEST, "`id` is a text or a number")),
                }
            }
            (None, id) => {
                let result = fields.get("result");
                if result.is_some() == fields.get("error").is_some() {
                    let why = "it has neither a `method` nor one of `result` and `error`";
                    return Err(fault(code::REQUEST, why));
                }
                Kind::Answer { id, result }
            }
        };
        Ok(Self {
            fields,
            kind,
            params,
        })
    }

    /// Whether two readers may take it for two messages: a name stands in it twice, or twice but for its case.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        odd(&self.fields, &FIELDS)
    }

    /// The id of a request.
    #[must_use]
    pub const fn id(&self) -> Option<&'a RawValue> {
        match &self.kind {
            Kind::Request { id, .. } => Some(id),
            _ => None,
        }
    }

    /// What it asks for or tells.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Answer { .. } => None,
        }
    }
}

/// Whether two ids are the same.
#[must_use]
pub fn is_same_id(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    one == other || (value(one).is_some() && value(one) == value(other))
}

/// An answer that says what went wrong. `id` is raw.
#[must_use]
pub fn error(id: Option<&str>, code: i64, message: &str, data: Option<&Value>) -> String {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data.clone();
    }
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","error":{error}}}"#),
    }
}

/// An answer; `id` and `result` are raw.
#[must_use]
pub fn reply(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// A request; `id` and `params` are raw.
#[must_use]
pub fn request(id: &str, method: &str, params: &str) -> String {
    let method = Value::from(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#)
}

/// A request whose parameters name something else, and all else as it was.
#[must_use]
pub fn renamed(message: &Message<'_>, name: &str) -> String {
    let name = Value::from(name).to_string();
    let params = message.params.as_ref();
    let params = params.map(|it| it.with(&[("name", Some(&name))]));
    message.fields.with(&[("params", params.as_deref())])
}
