//! JSON-RPC 2.0 (section 9).

use serde_json::{Value, json};

use super::error::{Error, Fault};
use super::method::{Method, Version};
use super::request::Request;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What the client calls it: a text, a number or `null`.
    pub id: Value,
    /// In which version it is, and is answered.
    pub version: Version,
    /// What is asked.
    pub method: Method,
    /// And how.
    pub request: Request,
}

/// A request that is not answered but by an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What the client calls it.
    pub id: Value,
    /// Why.
    pub error: Error,
}

impl Refusal {
    /// The answer.
    #[must_use]
    pub fn answer(&self) -> Value {
        error(&self.id, &self.error)
    }
}

/// Reads a request, whose client speaks the version that its header or query says.
///
/// # Errors
/// [`Refusal`], which is sent with status 200.
pub fn read(version: Option<&str>, bytes: &[u8]) -> Result<Call, Refusal> {
    let refuse = |id: &Value, error: Error| {
        let id = id.clone();
        Refusal { id, error }
    };
    let request: Value = serde_json::from_slice(bytes).map_err(|err| {
        let why = format!("Invalid JSON payload: {err}");
        refuse(&Value::Null, Error::new(Fault::Parse, why))
    })?;
    let is_id = |it: &&Value| it.is_string() || it.is_number() || it.is_null();
    let told = request.get("id");
    let id = told.filter(is_id).cloned().unwrap_or(Value::Null);
    let invalid = |why: &str| {
        let why = format!("Request payload validation error: {why}");
        refuse(&id, Error::new(Fault::InvalidRequest, why))
    };
    if request.is_array() {
        return Err(invalid("batches are not taken"));
    }
    if !request.is_object() {
        return Err(invalid("it must be an object"));
    }
    if !told.is_none_or(|it| is_id(&it)) {
        return Err(invalid("id: it must be a text, a number or null"));
    }
    if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid("jsonrpc: it must be \"2.0\""));
    }
    let Some(name) = request.get("method").and_then(Value::as_str) else {
        return Err(invalid("method: it must be a text"));
    };
    let params = request.get("params").unwrap_or(&Value::Null);
    let asked = Version::of(version).and_then(|version| {
        let method = Method::of(version, name)?;
        if !params.is_object() && !params.is_null() {
            return Err(Error::invalid("params", "it must be an object"));
        }
        let request = Request::read(version, method, params)?;
        Ok((version, method, request))
    });
    let (version, method, request) = asked.map_err(|error| refuse(&id, error))?;
    Ok(Call {
        id,
        version,
        method,
        request,
    })
}

/// An answer; of a stream, one of its events.
#[must_use]
pub fn result(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An answer that is an error.
#[must_use]
pub fn error(id: &Value, error: &Error) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.rpc() })
}
