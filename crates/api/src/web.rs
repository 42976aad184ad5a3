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
