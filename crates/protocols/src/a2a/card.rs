//! The card of an agent (section 4.4): what it is, where it is, what it can; and signatures over it (section 8.4).
//!
//! [`Card::wire`] is the card of 1.0. [`with_older`] puts beside it what clients of 0.3 look for, as the official SDKs do: one
//! document serves both. Signatures are over the card of 1.0 alone, so that it is signed first; what a reader does not know it
//! does not count.
//!
//! Official SDKs do not agree on what is empty: the Python one leaves every empty text, list and object out of what it signs, where the
//! text of the protocol keeps those that are required. A card without any is the same for all: a description that says something, a tag for
//! each skill, a scope where one is needed.

mod known;
mod sign;

use serde_json::{Map, Value, json};

pub use sign::{Header, payload, sign, verify};

use super::method::Version;

/// What an agent is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its own version.
    pub version: String,
    /// Where it is, the best first.
    pub interfaces: Vec<Interface>,
    /// Who offers it: an organization, and its address.
    pub provider: Option<(String, String)>,
    /// Where more is said of it.
    pub documentation_url: Option<String>,
    /// Its picture.
    pub icon_url: Option<String>,
    /// Streams are answered by.
    pub streaming: bool,
    /// What becomes of tasks is pushed.
    pub push_notifications: bool,
    /// Who is known gets a card that says more.
    pub extended_agent_card: bool,
    /// Media types that it takes.
    pub input_modes: Vec<String>,
    /// Media types that it gives.
    pub output_modes: Vec<String>,
    /// What it can.
    pub skills: Vec<Skill>,
    /// A bearer token is needed, with these scopes.
    pub bearer: Option<Vec<String>>,
}

/// Where an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its address.
    pub url: String,
    /// What is spoken there.
    pub binding: Binding,
    /// In which version.
    pub version: Version,
    /// What requests have to say.
    pub tenant: Option<String>,
}

/// How requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub enum Binding {
    JsonRpc,
    HttpJson,
    Grpc,
}

impl Binding {
    /// Its name in cards.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JsonRpc => "JSONRPC",
            Self::HttpJson => "HTTP+JSON",
            Self::Grpc => "GRPC",
        }
    }
}

impl Interface {
    /// JSON-RPC and HTTP+JSON at one address, in both versions.
    #[must_use]
    pub fn at(url: &str, tenant: Option<&str>) -> Vec<Self> {
        let all = [Version::V1_0, Version::V0_3].into_iter();
        let all = all.flat_map(|it| [(it, Binding::JsonRpc), (it, Binding::HttpJson)]);
        let one = |(version, binding)| Self {
            url: url.to_owned(),
            binding,
            version,
            tenant: tenant.map(str::to_owned),
        };
        all.map(one).collect()
    }
}

/// Something that an agent can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skill {
    /// Which it is.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Words by which it is found.
    pub tags: Vec<String>,
    /// What can be asked.
    pub examples: Vec<String>,
    /// Media types that it takes, where they are others than the agent's.
    pub input_modes: Vec<String>,
    /// Media types that it gives, where they are others than the agent's.
    pub output_modes: Vec<String>,
}

/// The name of the scheme of bearer tokens.
const BEARER: &str = "bearer";

impl Card {
    /// The card as 1.0 has it.
    #[must_use]
    pub fn wire(&self) -> Value {
        let mut capabilities = json!({
            "streaming": self.streaming,
            "pushNotifications": self.push_notifications,
        });
        if self.extended_agent_card {
            capabilities["extendedAgentCard"] = true.into();
        }
        let mut card = json!({
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "supportedInterfaces": self.interfaces.iter().map(interface).collect::<Vec<_>>(),
            "capabilities": capabilities,
            "defaultInputModes": self.input_modes,
            "defaultOutputModes": self.output_modes,
            "skills": self.skills.iter().map(skill).collect::<Vec<_>>(),
        });
        if let Some((organization, url)) = &self.provider {
            card["provider"] = json!({ "organization": organization, "url": url });
        }
        for (name, value) in [
            ("documentationUrl", &self.documentation_url),
            ("iconUrl", &self.icon_url),
        ] {
            if let Some(value) = value {
                card[name] = value.as_str().into();
            }
        }
        if let Some(scopes) = &self.bearer {
            let scheme = json!({ "httpAuthSecurityScheme": { "scheme": "Bearer" } });
            card["securitySchemes"] = json!({ BEARER: scheme });
            let list = match scopes.is_empty() {
                true => json!({}),
                false => json!({ "list": scopes }),
            };
            card["securityRequirements"] = json!([{ "schemes": { BEARER: list } }]);
        }
        card
    }
}

fn interface(of: &Interface) -> Value {
    let mut interface = json!({
        "url": of.url,
        "protocolBinding": of.binding.as_str(),
        "protocolVersion": of.version.as_str(),
    });
    if let Some(tenant) = &of.tenant {
        interface["tenant"] = tenant.as_str().into();
    }
    interface
}

fn skill(of: &Skill) -> Value {
    let mut skill = json!({
        "id": of.id, "name": of.name, "description": of.description, "tags": of.tags,
    });
    for (name, list) in [
        ("examples", &of.examples),
        ("inputModes", &of.input_modes),
        ("outputModes", &of.output_modes),
    ] {
        if !list.is_empty() {
            skill[name] = json!(list);
        }
    }
    skill
}

/// A card of 1.0 with what clients of 0.3 look for beside it. What is called the same in both and made otherwise has both.
#[must_use]
pub fn with_older(mut card: Value) -> Value {
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
    let interfaces = card.get("supportedInterfaces").and_then(Value::as_array);
    let mut older = Vec::new();
    for one in interfaces.into_iter().flatten() {
        let both = (text(one, "url"), text(one, "protocolBinding"));
        if let (Some(url), Some(transport)) = both {
            let one = json!({ "url": url, "transport": transport });
            if !older.contains(&one) {
                older.push(one);
            }
        }
    }
    let is_rpc = |it: &&Value| it["transport"] == "JSONRPC";
    let first = older.iter().find(is_rpc).or(older.first()).cloned();
    if let Some(first) = first {
        card["url"] = first["url"].clone();
        card["preferredTransport"] = first["transport"].clone();
        card["additionalInterfaces"] = older.into();
    }
    card["protocolVersion"] = "0.3.0".into();
    if card["capabilities"]["extendedAgentCard"] == true {
        card["supportsAuthenticatedExtendedCard"] = true.into();
    }
    if let Some(schemes) = card
        .get_mut("securitySchemes")
        .and_then(Value::as_object_mut)
    {
        for scheme in schemes.values_mut() {
            let inner = scheme.get("httpAuthSecurityScheme").cloned();
            if let (Some(Value::Object(inner)), Some(scheme)) = (inner, scheme.as_object_mut()) {
                scheme.extend(inner);
                scheme.insert("type".to_owned(), "http".into());
            }
        }
    }
    let needs = card.get("securityRequirements").and_then(Value::as_array);
    if let Some(needs) = needs {
        card["security"] = needs.iter().map(security).collect();
    }
    card
}

/// What is needed, as 0.3 says it.
fn security(of: &Value) -> Value {
    let schemes = of.get("schemes").and_then(Value::as_object);
    let one = |(name, scopes): (&String, &Value)| {
        let list = scopes.get("list").cloned();
        (name.clone(), list.unwrap_or_else(|| json!([])))
    };
    let all: Map<String, Value> = schemes.into_iter().flatten().map(one).collect();
    all.into()
}
