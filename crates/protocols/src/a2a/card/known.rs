//! What the schema knows of a card, and what of it counts when it is signed (section 8.4.1).

use serde_json::{Map, Value};

use Presence::{Needed, Optional, Plain};

/// Whether a field stands there though it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It does.
    Needed,
    /// It does, where it was said.
    Optional,
    /// It does not.
    Plain,
}

/// What stands in a field.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A text, a flag, a number, a list of them, or any JSON.
    Value,
    Message(&'static [Field]),
    List(&'static [Field]),
    /// Messages by name.
    Map(&'static [Field]),
}

type Field = (&'static str, Presence, Kind);

const fn needed(name: &'static str) -> Field {
    (name, Needed, Kind::Value)
}

const fn optional(name: &'static str) -> Field {
    (name, Optional, Kind::Value)
}

const fn plain(name: &'static str) -> Field {
    (name, Plain, Kind::Value)
}

const fn inner(name: &'static str, fields: &'static [Field]) -> Field {
    // Of a message it counts that it is there.
    (name, Optional, Kind::Message(fields))
}

static INTERFACE: [Field; 4] = [
    needed("url"),
    needed("protocolBinding"),
    plain("tenant"),
    needed("protocolVersion"),
];
static PROVIDER: [Field; 2] = [needed("url"), needed("organization")];
static EXTENSION: [Field; 4] = [
    plain("uri"),
    plain("description"),
    plain("required"),
    optional("params"),
];
static CAPABILITIES: [Field; 4] = [
    optional("streaming"),
    optional("pushNotifications"),
    ("extensions", Plain, Kind::List(&EXTENSION)),
    optional("extendedAgentCard"),
];
static SCOPES: [Field; 1] = [plain("list")];
static REQUIREMENT: [Field; 1] = [("schemes", Plain, Kind::Map(&SCOPES))];
static SKILL: [Field; 8] = [
    needed("id"),
    needed("name"),
    needed("description"),
    needed("tags"),
    plain("examples"),
    plain("inputModes"),
    plain("outputModes"),
    ("securityRequirements", Plain, Kind::List(&REQUIREMENT)),
];
static KEY: [Field; 3] = [plain("description"), needed("location"), needed("name")];
static HTTP: [Field; 3] = [
    plain("description"),
    needed("scheme"),
    plain("bearerFormat"),
];
static FLOW: [Field; 6] = [
    needed("authorizationUrl"),
    needed("deviceAuthorizationUrl"),
    needed("tokenUrl"),
    plain("refreshUrl"),
    needed("scopes"),
    plain("pkceRequired"),
];
/// Flows that are not to be used any more; nothing of them is needed.
static OLD_FLOW: [Field; 4] = [
    plain("authorizationUrl"),
    plain("tokenUrl"),
    plain("refreshUrl"),
    plain("scopes"),
];
static FLOWS: [Field; 5] = [
    inner("authorizationCode", &FLOW),
    inner("clientCredentials", &FLOW),
    inner("implicit", &OLD_FLOW),
    inner("password", &OLD_FLOW),
    inner("deviceCode", &FLOW),
];
static OAUTH: [Field; 3] = [
    plain("description"),
    inner("flows", &FLOWS),
    plain("oauth2MetadataUrl"),
];
static OPENID: [Field; 2] = [plain("description"), needed("openIdConnectUrl")];
static TLS: [Field; 1] = [plain("description")];
static SCHEME: [Field; 5] = [
    inner("apiKeySecurityScheme", &KEY),
    inner("httpAuthSecurityScheme", &HTTP),
    inner("oauth2SecurityScheme", &OAUTH),
    inner("openIdConnectSecurityScheme", &OPENID),
    inner("mtlsSecurityScheme", &TLS),
];
/// A card, but for its signatures.
static CARD: [Field; 13] = [
    needed("name"),
    needed("description"),
    ("supportedInterfaces", Needed, Kind::List(&INTERFACE)),
    inner("provider", &PROVIDER),
    needed("version"),
    optional("documentationUrl"),
    inner("capabilities", &CAPABILITIES),
    ("securitySchemes", Plain, Kind::Map(&SCHEME)),
    ("securityRequirements", Plain, Kind::List(&REQUIREMENT)),
    needed("defaultInputModes"),
    needed("defaultOutputModes"),
    ("skills", Needed, Kind::List(&SKILL)),
    optional("iconUrl"),
];

/// What of a card counts when it is signed.
pub(super) fn signed(card: &Value) -> Value {
    message(card, &CARD)
}

fn message(value: &Value, fields: &[Field]) -> Value {
    let Some(object) = value.as_object() else {
        return value.clone();
    };
    let mut out = Map::new();
    for (name, presence, kind) in fields {
        let Some(told) = object.get(*name).filter(|it| !it.is_null()) else {
            continue;
        };
        let told = match kind {
            Kind::Value => told.clone(),
            Kind::Message(fields) => message(told, fields),
            Kind::List(fields) => match told {
                Value::Array(list) => list.iter().map(|it| message(it, fields)).collect(),
                other => other.clone(),
            },
            Kind::Map(fields) => match told {
                Value::Object(all) => {
                    let one = |(name, it): (&String, &Value)| (name.clone(), message(it, fields));
                    Value::Object(all.iter().map(one).collect())
                }
                other => other.clone(),
            },
        };
        if *presence != Plain || !is_default(&told) {
            out.insert((*name).to_owned(), told);
        }
    }
    out.into()
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}
