//! Rules of the way out to the web, as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The secret that a rule puts into requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebCredential {
    /// The name of the secret.
    pub secret: String,
    /// One field of it, when it is a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The header that it goes into, in the place of what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What the header says, with `{}` where the secret stands, or `{base64}`; `Bearer {}` for `Authorization` and `{}`
    /// for any other unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Or the field of the query that it goes into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Or a text that stands for it, wherever that is found in a request. Placeholders that an agent was lent are replaced
    /// in any case, and with none of the three they alone are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
}

/// A rule as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebRule {
    /// Who may be asked: `api.example.com`, `*.example.com:8443`, `http://internal:8080`, or `*`. Over TLS, unless it says
    /// `http://`.
    pub host: String,
    /// By which methods; by any, when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// At which paths: `*` stands for one part, `/**` at the end for all that follows. At any, when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What is put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<WebCredential>,
    /// Whether each request is looked into, decided on and written down, though nothing else of the rule asks for it.
    #[serde(default)]
    pub open: bool,
    /// For how many days exchanges by it are kept, with request and answer. Each request is looked into for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_days: Option<u32>,
}

/// A rule of the way out to the web.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebRule {
    /// Its name in the workspace.
    pub name: String,
    /// Who may be asked.
    pub host: String,
    /// By which methods; by any, when there are none.
    pub methods: Vec<String>,
    /// At which paths; at any, when there are none.
    pub paths: Vec<String>,
    /// What is put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<WebCredential>,
    /// Whether Skep looks into what passes by this rule.
    pub opened: bool,
    /// For how many days exchanges by it are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_days: Option<u32>,
}

/// What becomes of a request to the web.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebCheck {
    /// Whether it is let out.
    pub allowed: bool,
    /// The rule that it falls under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether Skep looks into it.
    pub opened: bool,
    /// Why it is not let out, or what by.
    pub why: String,
}

/// The CA by which Skep opens TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebCa {
    /// Its certificate, in PEM.
    pub certificate: String,
}

/// An exchange with a host that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebExchange {
    /// `exc_…`.
    pub id: String,
    /// When it began (RFC 3339).
    pub at: String,
    /// When it is removed (RFC 3339).
    pub until: String,
    /// The kind of principal that asked: `agent`, `key`, `user`.
    pub of: String,
    /// Which of them.
    pub whose: String,
    /// Who was asked: `api.example.com:443`.
    pub host: String,
    /// By which rule.
    pub rule: String,
    /// By which method.
    pub method: String,
    /// How it ended: a status, or a word for what went wrong.
    pub outcome: String,
    /// Bytes of both bodies that were kept.
    pub bytes: u64,
}

/// A header as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebHeader {
    /// Its name.
    pub name: String,
    /// What it said; `*` where that is not kept.
    pub value: String,
}

/// A body as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebBody {
    /// What it is, when that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its Base64, when it is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Bytes that passed, whether or not they were kept.
    pub bytes: u64,
    /// Whether more passed than was kept.
    pub cut: bool,
}

/// An exchange with a host, and what was said: the request without what Skep put in, the answer as it went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebExchangeContent {
    /// Which.
    pub exchange: WebExchange,
    /// The method and the URL.
    pub target: String,
    /// The headers of the request.
    pub asked_headers: Vec<WebHeader>,
    /// Its body.
    pub asked: WebBody,
    /// The status of the answer, if one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its headers.
    pub headers: Vec<WebHeader>,
    /// Its body.
    pub answer: WebBody,
}
