//! The words of a question: who, does what, to what, under which circumstances.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression as Value};
use skep_core::{Timestamp, Workspace};

use super::actions::{Action, CATALOG, uid};

/// What kind of principal somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// Who shows an API key.
    ApiKey,
    /// An agent, by its own token.
    Agent,
}

/// A role in a workspace. Each may what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Works.
    Member,
    /// Administers.
    Admin,
    /// May all.
    Owner,
}

macro_rules! words {
    ($of:ident, $what:literal, $($case:ident = $word:literal),*) => {
        impl $of {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$case),*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$case => $word),* }
            }
        }

        impl FromStr for $of {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|it| it.as_str() == word);
                let all = [$($word),*].join(", ");
                found.ok_or_else(|| format!("`{word}` is no {}: there are {all}", $what))
            }
        }

        impl fmt::Display for $of {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    PrincipalKind,
    "kind of principal",
    User = "User",
    ApiKey = "ApiKey",
    Agent = "Agent"
);
impl PrincipalKind {
    /// The word by which rows, budgets and holders of secrets name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ApiKey => "key",
            Self::Agent => "agent",
        }
    }
}

words!(
    Role,
    "role",
    Viewer = "viewer",
    Member = "member",
    Admin = "admin",
    Owner = "owner"
);

/// The scope of a key that may do nothing; nobody can ask for it as a scope.
const CANARY: &str = "canary";

/// How far a key's rights go: groups of actions, actions, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scopes(Arc<BTreeSet<String>>);

impl Scopes {
    /// All that the role may.
    #[must_use]
    pub fn all() -> Self {
        Self::new(["*".to_owned()])
    }

    /// Nothing at all: of a key that is laid out for who has no business with it.
    #[must_use]
    pub fn canary() -> Self {
        Self::new([CANARY.to_owned()])
    }

    /// Whether they are [`Scopes::canary`], and nothing besides.
    #[must_use]
    pub fn is_canary(&self) -> bool {
        self.0.len() == 1 && self.0.contains(CANARY)
    }

    /// These.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(names.into_iter().collect()))
    }

    /// Them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The first that is neither `*` nor a group nor an action.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        let known = |scope: &&str| {
            let mut actions = CATALOG.actions.values();
            !actions.any(|action| action.names.contains(*scope))
        };
        self.iter().find(known)
    }
}

/// A scope of a token, and the one agent that it may be held to: `agent:call@worker`.
fn parts(scope: &str) -> (&str, Option<&str>) {
    scope
        .split_once('@')
        .map_or((scope, None), |(name, of)| (name, Some(of)))
}

/// Scopes of agents' tokens.
impl Scopes {
    /// Whether a token can have this scope.
    pub(crate) fn is_known(scope: &str) -> bool {
        let (name, of) = parts(scope);
        let mut actions = CATALOG.actions.values();
        actions.any(|action| action.names.contains(name))
            && of.is_none_or(|of| skep_core::workspace::check_name(of).is_ok())
    }

    /// Whether this scope is no more than these are.
    pub(crate) fn covers(&self, scope: &str) -> bool {
        let (name, of) = parts(scope);
        let action = CATALOG.actions.get(name);
        self.iter().any(|own| {
            let (within, held) = parts(own);
            let named = within == "*"
                || within == name
                || action.is_some_and(|action| action.names.contains(within));
            named && (held.is_none() || held == of)
        })
    }

    /// Whether they reach an action on something.
    pub(super) fn reach(&self, action: &Action, resource: &Resource<'_>) -> bool {
        let agent = match resource {
            Resource::Agent(agent) => Some(agent.name),
            Resource::Call { agent, .. } => agent.map(|agent| agent.name),
            Resource::Workspace
            | Resource::Server
            | Resource::Secret(_)
            | Resource::Model(_)
            | Resource::Tool { .. }
            | Resource::Host(_) => None,
        };
        self.iter().any(|scope| {
            let (name, held) = parts(scope);
            action.names.contains(name) && (held.is_none() || held == agent)
        })
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// What kind of one.
    pub kind: PrincipalKind,
    /// The id, or an agent's or key's name.
    pub id: Arc<str>,
    /// Where.
    pub workspace: Workspace,
    /// The role there; agents have none.
    pub role: Option<Role>,
    /// How far the rights of a key or an agent's token go; of no meaning for others.
    pub scopes: Scopes,
}

/// An agent as a thing that something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent<'a> {
    /// Its name.
    pub name: &'a str,
    /// What runs it, when it is deployed.
    pub driver: Option<&'a str>,
    /// Its labels, when it is deployed.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Agent<'a> {
    /// An agent of which nothing but the name is known.
    #[must_use]
    pub const fn named(name: &'a str) -> Self {
        Self {
            name,
            driver: None,
            labels: None,
        }
    }
}

/// A secret as a thing that something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a> {
    /// Its id, or what stands in its place when there is none.
    pub id: &'a str,
    /// Its name, when it is known.
    pub name: Option<&'a str>,
    /// Its tags, when they are known.
    pub tags: Option<&'a BTreeMap<String, String>>,
    /// Whether it is bait.
    pub canary: bool,
    /// What somebody let who asks do with it: `use`, `reveal`, `write`.
    pub shared: &'a [String],
}

impl<'a> Secret<'a> {
    /// A secret of which nothing is known, nor whether it is there.
    #[must_use]
    pub const fn unknown(id: &'a str) -> Self {
        Self {
            id,
            name: None,
            tags: None,
            canary: false,
            shared: &[],
        }
    }
}

/// What something is done to. It belongs to the workspace of who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The workspace.
    Workspace,
    /// An agent of it.
    Agent(Agent<'a>),
    /// A call of it.
    Call {
        /// The call's id.
        id: &'a str,
        /// Whose call; `None` when nobody made it.
        agent: Option<Agent<'a>>,
    },
    /// A secret of it.
    Secret(Secret<'a>),
    /// A model, as `provider/model`.
    Model(&'a str),
    /// A tool of it.
    Tool {
        /// As `server/tool`.
        name: &'a str,
        /// What it does: `read`, `write`, `execute`.
        class: &'a str,
    },
    /// A host of the web, as `host:port`.
    Host(&'a str),
    /// Skep itself.
    Server,
}

impl Resource<'_> {
    /// The kind, as in the schema.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Workspace => "Workspace",
            Self::Agent(_) => "Agent",
            Self::Call { .. } => "Call",
            Self::Secret(_) => "Secret",
            Self::Model(_) => "Model",
            Self::Tool { .. } => "Tool",
            Self::Host(_) => "Host",
            Self::Server => "Server",
        }
    }
}

/// A tool that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is given.
    pub arguments: &'a BTreeMap<String, String>,
}

/// Under which circumstances somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances<'a> {
    /// When.
    pub time: Timestamp,
    /// From where.
    pub address: Option<IpAddr>,
    /// The request's method.
    pub method: Option<&'a str>,
    /// The request's path.
    pub path: Option<&'a str>,
    /// The rule of the workspace that lets the request out.
    pub rule: Option<&'a str>,
    /// The request's labels.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The tool that is used.
    pub tool: Option<Tool<'a>>,
    /// How risky it is, 0 to 100.
    pub risk: Option<i64>,
    /// What is sent to a model.
    pub sent: Sent<'a>,
}

/// What is sent to a model. What is not known is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent<'a> {
    /// Bytes of the request.
    pub body_bytes: Option<i64>,
    /// Tokens of an answer that it asks for at most.
    pub output_tokens: Option<i64>,
    /// Kinds of what is personal in it.
    pub pii: Option<&'a BTreeSet<String>>,
    /// Kinds of what looks like a secret in it.
    pub secrets: Option<&'a BTreeSet<String>>,
    /// How much it looks as if it were to turn a model against who asks it, 0 to 100, and what was seen.
    pub injection: Option<(i64, &'a BTreeSet<String>)>,
}

impl Circumstances<'_> {
    /// Nothing but the time is known.
    #[must_use]
    pub const fn at(time: Timestamp) -> Self {
        Self {
            time,
            address: None,
            method: None,
            path: None,
            rule: None,
            labels: None,
            tool: None,
            risk: None,
            sent: Sent {
                body_bytes: None,
                output_tokens: None,
                pii: None,
                secrets: None,
                injection: None,
            },
        }
    }
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// Does what: `agent:deploy`.
    pub action: &'a str,
    /// To what.
    pub resource: Resource<'a>,
    /// When, from where, how.
    pub circumstances: &'a Circumstances<'a>,
}

/// The ids of the two entities of values that a question may have.
const REQUEST_LABELS: &str = "labels";
const TOOL_ARGUMENTS: &str = "arguments";

type Fault = String;

fn text(text: &str) -> Value {
    Value::new_string(text.to_owned())
}

fn words(all: &BTreeSet<String>) -> Value {
    Value::new_set(all.iter().map(|it| text(it)))
}

fn tags(of: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (String, Value)> {
    let all = of.into_iter().flatten();
    all.map(|(name, value)| (name.clone(), text(value)))
}

/// Every role whose rights this one has.
fn roles(role: Role) -> impl Iterator<Item = EntityUid> {
    let below = Role::ALL.iter().filter(move |it| **it <= role);
    below.map(|it| uid(&CATALOG.types.role, it.as_str()))
}

fn agent_entity(agent: &Agent<'_>, workspace: &EntityUid) -> Result<Entity, Fault> {
    let mut attributes = vec![("name".to_owned(), text(agent.name))];
    attributes.extend(agent.driver.map(|it| ("driver".to_owned(), text(it))));
    let id = uid(&CATALOG.types.agent, agent.name);
    let made = Entity::new_with_tags(id, attributes, [workspace.clone()], tags(agent.labels));
    made.map_err(|error| error.to_string())
}

fn secret_entity(secret: &Secret<'_>, workspace: &EntityUid) -> Result<Entity, Fault> {
    let shared = secret.shared.iter().map(|may| text(may));
    let mut attributes = vec![
        ("canary".to_owned(), Value::new_bool(secret.canary)),
        ("shared".to_owned(), Value::new_set(shared)),
    ];
    attributes.extend(secret.name.map(|it| ("name".to_owned(), text(it))));
    let id = uid(&CATALOG.types.secret, secret.id);
    let made = Entity::new_with_tags(id, attributes, [workspace.clone()], tags(secret.tags));
    made.map_err(|error| error.to_string())
}

fn model_entity(model: &str, workspace: &EntityUid) -> Result<Entity, Fault> {
    let (provider, name) = model.split_once('/').unwrap_or((model, ""));
    let attributes = [
        ("provider".to_owned(), text(provider)),
        ("name".to_owned(), text(name)),
    ];
    let id = uid(&CATALOG.types.model, model);
    let made = Entity::new_with_tags(id, attributes, [workspace.clone()], []);
    made.map_err(|error| error.to_string())
}

fn tool_entity(name: &str, class: &str, workspace: &EntityUid) -> Result<Entity, Fault> {
    let (server, own) = name.split_once('/').unwrap_or((name, ""));
    let attributes = [
        ("server".to_owned(), text(server)),
        ("name".to_owned(), text(own)),
        ("class".to_owned(), text(class)),
    ];
    let id = uid(&CATALOG.types.tool, name);
    let made = Entity::new_with_tags(id, attributes, [workspace.clone()], []);
    made.map_err(|error| error.to_string())
}

fn host_entity(name: &str, workspace: &EntityUid) -> Result<Entity, Fault> {
    let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
    let attributes = [
        ("host".to_owned(), text(host)),
        (
            "port".to_owned(),
            Value::new_long(port.parse().unwrap_or_default()),
        ),
    ];
    let id = uid(&CATALOG.types.host, name);
    let made = Entity::new_with_tags(id, attributes, [workspace.clone()], []);
    made.map_err(|error| error.to_string())
}

/// `2026-11-21T04:54:08.123Z`: what a `datetime` is made of.
fn datetime(time: Timestamp) -> String {
    let text = Timestamp::from_micros(time.as_micros() / 1_000 * 1_000).to_string();
    match text.strip_suffix("000Z") {
        Some(head) => format!("{head}Z"),
        None => text,
    }
}

impl Ask<'_> {
    pub(super) fn principal_uid(&self) -> EntityUid {
        let types = &CATALOG.types;
        let of = match self.principal.kind {
            PrincipalKind::User => &types.user,
            PrincipalKind::ApiKey => &types.key,
            PrincipalKind::Agent => &types.agent,
        };
        uid(of, &self.principal.id)
    }

    pub(super) fn resource_uid(&self) -> EntityUid {
        let types = &CATALOG.types;
        match &self.resource {
            Resource::Workspace => uid(&types.workspace, self.principal.workspace.as_str()),
            Resource::Agent(agent) => uid(&types.agent, agent.name),
            Resource::Call { id, .. } => uid(&types.call, id),
            Resource::Secret(secret) => uid(&types.secret, secret.id),
            Resource::Model(model) => uid(&types.model, model),
            Resource::Tool { name, .. } => uid(&types.tool, name),
            Resource::Host(host) => uid(&types.host, host),
            Resource::Server => uid(&types.server, "skep"),
        }
    }

    fn principal_entity(&self, workspace: &EntityUid) -> Result<Entity, Fault> {
        let who = self.principal;
        let of = Value::new_entity_uid(workspace.clone());
        let mut attributes = vec![("workspace".to_owned(), of)];
        let parents: Vec<EntityUid> = match who.kind {
            PrincipalKind::Agent => return agent_entity(&Agent::named(&who.id), workspace),
            PrincipalKind::User => who.role.into_iter().flat_map(roles).collect(),
            PrincipalKind::ApiKey => {
                let scopes = Value::new_set(who.scopes.iter().map(text));
                attributes.push(("scopes".to_owned(), scopes));
                who.role.into_iter().flat_map(roles).collect()
            }
        };
        let made = Entity::new_with_tags(self.principal_uid(), attributes, parents, []);
        made.map_err(|error| error.to_string())
    }

    /// The things that the question is about: the parents of each are all that are above it.
    pub(super) fn entities(&self, action: &Action) -> Result<Entities, Fault> {
        let types = &CATALOG.types;
        let workspace = uid(&types.workspace, self.principal.workspace.as_str());
        let mut all = vec![action.entity.clone()];
        match &self.resource {
            Resource::Agent(agent) => all.push(agent_entity(agent, &workspace)?),
            Resource::Call { id, agent } => {
                let mut attributes = Vec::new();
                let mut parents = vec![workspace.clone()];
                if let Some(agent) = agent {
                    all.push(agent_entity(agent, &workspace)?);
                    let of = uid(&types.agent, agent.name);
                    attributes.push(("agent".to_owned(), Value::new_entity_uid(of.clone())));
                    parents.push(of);
                }
                let made = Entity::new_with_tags(uid(&types.call, id), attributes, parents, []);
                all.push(made.map_err(|error| error.to_string())?);
            }
            Resource::Secret(secret) => all.push(secret_entity(secret, &workspace)?),
            Resource::Model(model) => all.push(model_entity(model, &workspace)?),
            Resource::Tool { name, class } => all.push(tool_entity(name, class, &workspace)?),
            Resource::Host(host) => all.push(host_entity(host, &workspace)?),
            Resource::Workspace | Resource::Server => {
                all.push(Entity::with_uid(self.resource_uid()));
            }
        }
        // An agent that acts on itself, or on a call to itself, is there already.
        let who = self.principal_uid();
        if !all.iter().any(|it| it.uid() == who) {
            all.push(self.principal_entity(&workspace)?);
        }
        let values = |id: &str, of: &BTreeMap<String, String>| {
            let id = uid(&types.values, id);
            let made = Entity::new_with_tags(id, [], [], tags(Some(of)));
            made.map_err(|error| error.to_string())
        };
        if let Some(labels) = self.circumstances.labels {
            all.push(values(REQUEST_LABELS, labels)?);
        }
        if let Some(tool) = &self.circumstances.tool {
            all.push(values(TOOL_ARGUMENTS, tool.arguments)?);
        }
        Entities::from_entities(all, None).map_err(|error| error.to_string())
    }

    /// The circumstances; when no policy looks at them, only what scopes are compared with.
    fn context(&self, action: &Action, whole: bool) -> Result<Context, Fault> {
        let mut all = vec![action.named()];
        if whole {
            let of = self.circumstances;
            let values = |id: &str| Value::new_entity_uid(uid(&CATALOG.types.values, id));
            let mut put = |name: &str, value: Option<Value>| {
                all.extend(value.map(|value| (name.to_owned(), value)));
            };
            put("time", Some(Value::new_datetime(datetime(of.time))));
            put(
                "address",
                of.address
                    .map(|it| Value::new_ip(it.to_canonical().to_string())),
            );
            put("method", of.method.map(text));
            put("path", of.path.map(text));
            put("rule", of.rule.map(text));
            put("labels", of.labels.map(|_| values(REQUEST_LABELS)));
            put("risk", of.risk.map(Value::new_long));
            if let Some(tool) = &of.tool {
                let arguments = ("arguments".to_owned(), values(TOOL_ARGUMENTS));
                let record = Value::new_record([("name".to_owned(), text(tool.name)), arguments]);
                put("tool", Some(record.map_err(|error| error.to_string())?));
            }
            let sent = &of.sent;
            put("body_bytes", sent.body_bytes.map(Value::new_long));
            put("output_tokens", sent.output_tokens.map(Value::new_long));
            put("pii", sent.pii.map(words));
            put("secrets", sent.secrets.map(words));
            if let Some((score, signals)) = sent.injection {
                let record = Value::new_record([
                    ("score".to_owned(), Value::new_long(score)),
                    ("signals".to_owned(), words(signals)),
                ]);
                let record = record.map_err(|error| error.to_string())?;
                put("injection", Some(record));
            }
        }
        Context::from_pairs(all).map_err(|error| error.to_string())
    }

    pub(super) fn request(&self, action: &Action, whole: bool) -> Result<Request, Fault> {
        let context = self.context(action, whole)?;
        let (who, what) = (self.principal_uid(), self.resource_uid());
        let made = Request::new(who, action.uid.clone(), what, context, None);
        made.map_err(|error| error.to_string())
    }

    /// All that the answer depends on when it does not depend on the circumstances, as bytes that no
    /// other question has.
    pub(super) fn key(&self, action: &Action) -> Vec<u8> {
        let mut key = Vec::with_capacity(192);
        let mut put = |text: &str| {
            // A text cannot be longer than memory; two of different lengths differ here already.
            key.extend_from_slice(&(text.len() as u64).to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        };
        let who = self.principal;
        put(&action.index.to_string());
        put(who.workspace.as_str());
        put(who.kind.as_str());
        put(&who.id);
        put(who.role.map_or("", Role::as_str));
        if who.kind == PrincipalKind::ApiKey {
            put(&who.scopes.0.len().to_string());
            who.scopes.iter().for_each(&mut put);
        }
        put(self.resource.kind());
        let agent = match &self.resource {
            Resource::Agent(agent) => Some(*agent),
            Resource::Call { id, agent } => {
                put(id);
                *agent
            }
            Resource::Secret(secret) => {
                put(secret.id);
                put(if secret.canary { "1" } else { "0" });
                put(if secret.name.is_some() { "1" } else { "0" });
                put(secret.name.unwrap_or_default());
                put(&secret.shared.len().to_string());
                secret.shared.iter().for_each(|may| put(may));
                for (name, value) in secret.tags.into_iter().flatten() {
                    put(name);
                    put(value);
                }
                None
            }
            Resource::Model(name) | Resource::Host(name) => {
                put(name);
                None
            }
            Resource::Tool { name, class } => {
                put(name);
                put(class);
                None
            }
            Resource::Workspace | Resource::Server => None,
        };
        if let Some(agent) = agent {
            put(agent.name);
            put(if agent.driver.is_some() { "1" } else { "0" });
            put(agent.driver.unwrap_or_default());
            for (name, value) in agent.labels.into_iter().flatten() {
                put(name);
                put(value);
            }
        }
        key
    }
}
