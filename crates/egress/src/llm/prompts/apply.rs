//! Putting a prompt into a request, in the dialect of its door: what the prompt says comes before what the request says. All
//! other fields stay as they are. No I/O.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use skep_dialects::Dialect;

use super::{ALIAS, Message, Role, VARIABLES};
use crate::EgressError;

type Fields = BTreeMap<String, Box<RawValue>>;

fn invalid(why: impl std::fmt::Display) -> EgressError {
    EgressError::Invalid(why.to_string())
}

/// The name behind `prompt:`.
pub(super) fn named(asked: &str) -> Option<&str> {
    asked.strip_prefix(ALIAS)
}

fn fields(body: &[u8]) -> Result<Fields, EgressError> {
    serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the body is no JSON object: {error}")))
}

fn raw(value: &Value) -> Result<Box<RawValue>, EgressError> {
    serde_json::value::to_raw_value(value).map_err(invalid)
}

/// The variables that a request gives.
pub(super) fn variables(body: &[u8]) -> Result<Value, EgressError> {
    match fields(body)?.get(VARIABLES) {
        None => Ok(json!({})),
        Some(text) => serde_json::from_str(text.get()).map_err(invalid),
    }
}

/// The request with what a prompt says, asked of a model.
///
/// # Errors
/// [`EgressError::Invalid`], when nothing can be put before what it says.
pub(super) fn applied(
    dialect: Dialect,
    body: &[u8],
    (messages, model): (&[Message], &str),
) -> Result<Vec<u8>, EgressError> {
    let mut fields = fields(body)?;
    fields.remove(VARIABLES);
    // Of Gemini it is in the path.
    if fields.contains_key("model") {
        fields.insert("model".to_owned(), raw(&model.into())?);
    }
    match dialect {
        Dialect::Chat => first_of(&mut fields, "messages", messages, said)?,
        Dialect::Responses => {
            as_list(&mut fields)?;
            first_of(&mut fields, "input", messages, said)?;
        }
        Dialect::Messages => {
            let (system, others) = apart(messages);
            system_of_messages(&mut fields, &system)?;
            first_of(&mut fields, "messages", &others, said)?;
        }
        Dialect::Gemini => {
            let (system, others) = apart(messages);
            system_of_gemini(&mut fields, &system)?;
            first_of(&mut fields, "contents", &others, said_to_gemini)?;
        }
        Dialect::Embeddings => {
            return Err(invalid(
                "a prompt is for texts that answer, not for embeddings",
            ));
        }
    }
    serde_json::to_vec(&fields).map_err(invalid)
}

fn said(message: &Message) -> Value {
    json!({ "role": message.role.as_str(), "content": message.content })
}

fn said_to_gemini(message: &Message) -> Value {
    let role = match message.role {
        Role::Assistant => "model",
        Role::System | Role::User => "user",
    };
    json!({ "role": role, "parts": [{ "text": message.content }] })
}

/// What the system says, together, and what others say.
fn apart(messages: &[Message]) -> (String, Vec<Message>) {
    let (system, others): (Vec<Message>, Vec<Message>) = messages
        .iter()
        .cloned()
        .partition(|it| it.role == Role::System);
    let system: Vec<String> = system.into_iter().map(|it| it.content).collect();
    (system.join("\n\n"), others)
}

/// Puts messages before those of a list, each of which stays byte for byte.
fn first_of(
    fields: &mut Fields,
    name: &str,
    messages: &[Message],
    said: fn(&Message) -> Value,
) -> Result<(), EgressError> {
    let there: Vec<Box<RawValue>> = match fields.get(name) {
        None => Vec::new(),
        Some(text) => {
            let wrong = |_| invalid(format!("`{name}` is no list"));
            serde_json::from_str(text.get()).map_err(wrong)?
        }
    };
    let mut all = Vec::with_capacity(messages.len() + there.len());
    for message in messages {
        all.push(raw(&said(message))?);
    }
    all.extend(there);
    let all = serde_json::value::to_raw_value(&all).map_err(invalid)?;
    fields.insert(name.to_owned(), all);
    Ok(())
}

/// The input of the responses API may be a text.
fn as_list(fields: &mut Fields) -> Result<(), EgressError> {
    let Some(text) = fields.get("input").filter(|it| it.get().starts_with('"')) else {
        return Ok(());
    };
    let text: String = serde_json::from_str(text.get()).map_err(invalid)?;
    let list = raw(&json!([{ "role": "user", "content": text }]))?;
    fields.insert("input".to_owned(), list);
    Ok(())
}

fn system_of_messages(fields: &mut Fields, system: &str) -> Result<(), EgressError> {
    if system.is_empty() {
        return Ok(());
    }
    let own: Value = match fields.get("system") {
        None => Value::Null,
        Some(text) => serde_json::from_str(text.get()).map_err(invalid)?,
    };
    let both = match own {
        Value::Null => json!(system),
        Value::String(own) => json!(format!("{system}\n\n{own}")),
        Value::Array(mut own) => {
            own.insert(0, json!({ "type": "text", "text": system }));
            Value::Array(own)
        }
        _ => return Err(invalid("`system` is neither a text nor a list")),
    };
    fields.insert("system".to_owned(), raw(&both)?);
    Ok(())
}

fn system_of_gemini(fields: &mut Fields, system: &str) -> Result<(), EgressError> {
    if system.is_empty() {
        return Ok(());
    }
    let name = match fields.contains_key("system_instruction") {
        true => "system_instruction",
        false => "systemInstruction",
    };
    let mut own: Value = match fields.get(name) {
        None => json!({ "parts": [] }),
        Some(text) => serde_json::from_str(text.get()).map_err(invalid)?,
    };
    match own.get_mut("parts") {
        Some(Value::Array(parts)) => parts.insert(0, json!({ "text": system })),
        Some(Value::Object(one)) => {
            let one = Value::Object(std::mem::take(one));
            own = json!({ "parts": [{ "text": system }, one] });
        }
        _ => return Err(invalid(format!("`{name}` has no `parts`"))),
    }
    fields.insert(name.to_owned(), raw(&own)?);
    Ok(())
}
