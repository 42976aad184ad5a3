//! What goes wrong, in the form of each binding (sections 3.3.2, 5.4, 9.5 and 11.6).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fields::Wrong;
use super::method::Version;

/// Where the reasons of errors are from.
const DOMAIN: &str = "a2a-protocol.org";
/// Where our own are from.
const OURS: &str = "skep";

/// What sort of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub enum Fault {
    TaskNotFound,
    TaskNotCancelable,
    PushNotificationNotSupported,
    UnsupportedOperation,
    ContentTypeNotSupported,
    InvalidAgentResponse,
    ExtendedAgentCardNotConfigured,
    ExtensionSupportRequired,
    VersionNotSupported,
    Parse,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    Internal,
    /// None of the protocol's, with its status over HTTP: who asks is not known (401) or may not (403), there is too much of
    /// something (413, 429), or it cannot be done now (503).
    Other(u16),
}

impl Fault {
    /// All that the protocol knows.
    pub const ALL: [Self; 14] = [
        Self::TaskNotFound,
        Self::TaskNotCancelable,
        Self::PushNotificationNotSupported,
        Self::UnsupportedOperation,
        Self::ContentTypeNotSupported,
        Self::InvalidAgentResponse,
        Self::ExtendedAgentCardNotConfigured,
        Self::ExtensionSupportRequired,
        Self::VersionNotSupported,
        Self::Parse,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::Internal,
    ];

    /// Its code in JSON-RPC, its status over HTTP, and its reason.
    const fn table(self) -> (i32, u16, &'static str) {
        match self {
            Self::TaskNotFound => (-32001, 404, "TASK_NOT_FOUND"),
            Self::TaskNotCancelable => (-32002, 400, "TASK_NOT_CANCELABLE"),
            Self::PushNotificationNotSupported => (-32003, 400, "PUSH_NOTIFICATION_NOT_SUPPORTED"),
            Self::UnsupportedOperation => (-32004, 400, "UNSUPPORTED_OPERATION"),
            Self::ContentTypeNotSupported => (-32005, 400, "CONTENT_TYPE_NOT_SUPPORTED"),
            Self::InvalidAgentResponse => (-32006, 500, "INVALID_AGENT_RESPONSE"),
            Self::ExtendedAgentCardNotConfigured => {
                (-32007, 400, "EXTENDED_AGENT_CARD_NOT_CONFIGURED")
            }
            Self::ExtensionSupportRequired => (-32008, 400, "EXTENSION_SUPPORT_REQUIRED"),
            Self::VersionNotSupported => (-32009, 400, "VERSION_NOT_SUPPORTED"),
            Self::Parse => (-32700, 400, "PARSE_ERROR"),
            Self::InvalidRequest => (-32600, 400, "INVALID_REQUEST"),
            Self::MethodNotFound => (-32601, 404, "METHOD_NOT_FOUND"),
            Self::InvalidParams => (-32602, 400, "INVALID_PARAMS"),
            Self::Internal => (-32603, 500, "INTERNAL_ERROR"),
            Self::Other(status) if status >= 500 => (-32603, status, "UNAVAILABLE"),
            Self::Other(status) => (-32000, status, "REFUSED"),
        }
    }

    /// Its code in JSON-RPC.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.table().0
    }

    /// Its status over HTTP.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.table().1
    }

    /// Its reason: its name without `Error`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.table().2
    }

    /// Its name, as SDKs have it.
    fn name(self) -> String {
        if self == Self::Parse {
            return "JSONParseError".to_owned();
        }
        let words = self.reason().split('_').filter(|it| *it != "ERROR");
        let word = |it: &str| format!("{}{}", &it[..1], it[1..].to_ascii_lowercase());
        words.map(word).chain(["Error".to_owned()]).collect()
    }

    /// Its status in gRPC.
    #[must_use]
    pub const fn grpc(self) -> &'static str {
        match self {
            Self::TaskNotFound => "NOT_FOUND",
            Self::TaskNotCancelable
            | Self::PushNotificationNotSupported
            | Self::UnsupportedOperation
            | Self::ExtendedAgentCardNotConfigured
            | Self::ExtensionSupportRequired
            | Self::VersionNotSupported => "FAILED_PRECONDITION",
            Self::ContentTypeNotSupported
            | Self::Parse
            | Self::InvalidRequest
            | Self::InvalidParams => "INVALID_ARGUMENT",
            Self::MethodNotFound => "UNIMPLEMENTED",
            Self::InvalidAgentResponse | Self::Internal => "INTERNAL",
            Self::Other(status) => match status {
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                404 => "NOT_FOUND",
                409 => "ABORTED",
                413 | 429 => "RESOURCE_EXHAUSTED",
                503 => "UNAVAILABLE",
                504 => "DEADLINE_EXCEEDED",
                500.. => "INTERNAL",
                _ => "INVALID_ARGUMENT",
            },
        }
    }
}

/// An error, in the words of no binding yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What sort it is.
    pub fault: Fault,
    /// What happened, for people.
    pub message: String,
    more: Box<More>,
}

/// What few errors have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct More {
    /// The reason, where it is none of the protocol's.
    reason: Option<String>,
    /// The field that is wrong, and why.
    field: Option<(String, String)>,
    /// What else there is to say.
    metadata: BTreeMap<String, String>,
}

impl Error {
    /// An error of a sort.
    #[must_use]
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            more: Box::default(),
        }
    }

    /// There is no such task, or it is none of who asks.
    #[must_use]
    pub fn task_not_found(id: &str) -> Self {
        Self::new(Fault::TaskNotFound, "Task not found").with("taskId", id)
    }

    /// A parameter is wrong.
    #[must_use]
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        let (field, why) = (field.into(), why.into());
        let message = match field.is_empty() {
            true => format!("Invalid parameters: {why}"),
            false => format!("Invalid parameters: {field}: {why}"),
        };
        let mut error = Self::new(Fault::InvalidParams, message);
        error.more.field = Some((field, why));
        error
    }

    /// An error that is none of the protocol's: its status over HTTP, and its own code.
    #[must_use]
    pub fn other(status: u16, code: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(Fault::Other(status), message);
        error.more.reason = Some(code.replace('-', "_").to_ascii_uppercase());
        error
    }

    /// The same, with something more to say of it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.more.metadata.insert(name.to_owned(), value.into());
        self
    }

    /// What it is about, as `google.rpc` has details.
    #[must_use]
    pub fn details(&self) -> Vec<Value> {
        let mut details = Vec::new();
        if let Some((field, why)) = &self.more.field {
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{ "field": field, "description": why }],
            }));
        }
        let (reason, domain) = match &self.more.reason {
            Some(reason) => (reason.as_str(), OURS),
            None => (self.fault.reason(), DOMAIN),
        };
        let mut info = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": domain,
        });
        if !self.more.metadata.is_empty() {
            info["metadata"] = json!(self.more.metadata);
        }
        details.push(info);
        details
    }

    /// The error of an answer in JSON-RPC (section 9.5). Clients of 0.3 take what stands in `data` as it is.
    #[must_use]
    pub fn rpc(&self) -> Value {
        json!({ "code": self.fault.code(), "message": self.message, "data": self.details() })
    }

    /// The body of an answer over HTTP+JSON (section 11.6), whose status is [`Fault::status`]. For clients of 0.3 it has beside that
    /// what they look for: one the code of JSON-RPC, another the name.
    #[must_use]
    pub fn rest(&self, version: Version) -> Value {
        let mut body = json!({ "error": {
            "code": self.fault.status(),
            "status": self.fault.grpc(),
            "message": self.message,
            "details": self.details(),
        }});
        if version == Version::V0_3 {
            body["code"] = self.fault.code().into();
            body["message"] = self.message.as_str().into();
            body["type"] = self.fault.name().into();
        }
        body
    }
}

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        Self::invalid(wrong.field, wrong.why)
    }
}
