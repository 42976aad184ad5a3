//! Errors in the shape that the SDK of each dialect understands.

use crate::Dialect;
use crate::json::{Json, Object};

/// The words of a status: `OpenAI`'s type, Anthropic's type, Google's status.
fn words(status: u16) -> (&'static str, &'static str, &'static str) {
    match status {
        401 => (
            "authentication_error",
            "authentication_error",
            "UNAUTHENTICATED",
        ),
        402 => ("insufficient_quota", "billing_error", "FAILED_PRECONDITION"),
        403 => ("permission_error", "permission_error", "PERMISSION_DENIED"),
        404 => ("not_found_error", "not_found_error", "NOT_FOUND"),
        409 => ("conflict_error", "invalid_request_error", "ABORTED"),
        413 => (
            "invalid_request_error",
            "request_too_large",
            "INVALID_ARGUMENT",
        ),
        429 => ("rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        503 | 529 => ("server_error", "overloaded_error", "UNAVAILABLE"),
        504 => ("server_error", "timeout_error", "DEADLINE_EXCEEDED"),
        400..=499 => (
            "invalid_request_error",
            "invalid_request_error",
            "INVALID_ARGUMENT",
        ),
        _ => ("server_error", "api_error", "INTERNAL"),
    }
}

/// The status that a word of Anthropic's or Google's stands for, inside of a stream.
pub(crate) fn status(word: &str) -> u16 {
    match word {
        "invalid_request_error" | "INVALID_ARGUMENT" => 400,
        "authentication_error" | "UNAUTHENTICATED" => 401,
        "permission_error" | "PERMISSION_DENIED" => 403,
        "not_found_error" | "NOT_FOUND" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" => 429,
        "overloaded_error" | "UNAVAILABLE" => 503,
        "timeout_error" | "DEADLINE_EXCEEDED" => 504,
        _ => 500,
    }
}

/// The word of Responses for a status inside of a stream.
pub(crate) fn code(status: u16) -> &'static str {
    match status {
        429 => "rate_limit_exceeded",
        400..=499 => "invalid_prompt",
        _ => "server_error",
    }
}

/// An error as an object. `code` is a word that says more than the status does.
pub(crate) fn error(dialect: Dialect, status: u16, code: Option<&str>, message: &str) -> Object {
    let (openai, anthropic, google) = words(status);
    match dialect {
        Dialect::Chat | Dialect::Responses | Dialect::Embeddings => Object::new().with(
            "error",
            Object::new()
                .with("message", message)
                .with("type", openai)
                .with("param", Json::Null)
                .with("code", code.map_or(Json::Null, Json::from)),
        ),
        Dialect::Messages => {
            Object::typed("error").with("error", Object::typed(anthropic).with("message", message))
        }
        Dialect::Gemini => {
            let details = code.map(|code| {
                let info = Object::new()
                    .with("@type", "type.googleapis.com/google.rpc.ErrorInfo")
                    .with("reason", code)
                    .with("domain", "skep");
                vec![Json::from(info)]
            });
            Object::new().with(
                "error",
                Object::new()
                    .with("code", u64::from(status))
                    .with("message", message)
                    .with("status", google)
                    .maybe("details", details),
            )
        }
    }
}

/// An error of ours as the SDK of a dialect understands it. `kind` is its stable word; Anthropic's has no place
/// for it.
#[must_use]
pub fn error_body(dialect: Dialect, status: u16, kind: &str, message: &str) -> Vec<u8> {
    let made = Json::from(error(dialect, status, Some(kind), message));
    made.to_string().into_bytes()
}

/// What an error says, in whatever dialect it is.
pub(crate) fn message(error: &Json) -> Option<&str> {
    let error = match error {
        Json::List(list) => list.first()?,
        error => error,
    };
    let inner = error.get("error").unwrap_or(error);
    let message = inner.get("message").or(error.get("message"));
    message.unwrap_or(inner).text()
}

/// A provider's error in the dialect of who asked: its status and its body. What is no JSON is told as it is,
/// as far as it is text.
#[must_use]
pub fn translate_error(from: Dialect, to: Dialect, status: u16, body: &[u8]) -> (u16, Vec<u8>) {
    const MOST_MESSAGE: usize = 2000;
    let read = Json::read(body).ok();
    let told = read.as_ref().and_then(message).map(str::to_owned);
    let told = told.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let told: String = told.chars().take(MOST_MESSAGE).collect();
    let code = read.as_ref().and_then(|it| match from {
        Dialect::Chat | Dialect::Responses | Dialect::Embeddings => it.at(&["error", "code"]),
        Dialect::Messages => it.at(&["error", "type"]),
        Dialect::Gemini => it.at(&["error", "status"]),
    });
    let status = match (status, to) {
        // Only Anthropic knows this one.
        (529, Dialect::Messages) | (503, Dialect::Messages) => 529,
        (529, _) => 503,
        (status, _) => status,
    };
    // Its word is not ours to say in what Google calls a domain.
    let code = code.and_then(Json::text).filter(|_| to != Dialect::Gemini);
    let made = error(to, status, code, &told);
    (status, Json::from(made).to_string().into_bytes())
}
