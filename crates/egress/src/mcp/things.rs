//! Resources and prompts at the doors where Skep is the server: those of several servers in one list, each under an address
//! or a name that leads back to its server.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_mcp::{
    Class, Message, Object, Virtual, array, code, inner_uri, joined, next_cursor, one_of,
    outer_uri, reply, split,
};
use tokio::task::JoinSet;

use super::body::Body;
use super::chain::Steps;
use super::client::{Answer, MOST_ANSWER, Talk};
use super::door::{DoorError, Judge, PROMPTS, Plan, RESOURCES, Wanted, refused};
use super::link::Coming;
use super::merged::{answered, listed, of};
use super::service::{Server, Tools};
use crate::EgressError;
use crate::llm::{Who, Witness};

/// How long servers may take to list what they have; who takes longer is left out.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Pages of a list.
const MOST_PAGES: usize = 20;
/// Items of one server.
const MOST_ITEMS: usize = 1_000;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Resources,
    Templates,
    Prompts,
}

impl Kind {
    /// By the method that lists it.
    pub(super) fn of(method: &str) -> Option<Self> {
        match method {
            "resources/list" => Some(Self::Resources),
            "resources/templates/list" => Some(Self::Templates),
            "prompts/list" => Some(Self::Prompts),
            _ => None,
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Prompts => "prompts/list",
        }
    }

    /// The list in an answer.
    const fn key(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Prompts => "prompts",
        }
    }

    const fn thing(self) -> &'static str {
        match self {
            Self::Resources | Self::Templates => RESOURCES,
            Self::Prompts => PROMPTS,
        }
    }

    /// Whether a server lets it pass, and is one of the door.
    fn is_of(self, server: &Server, part: Option<&Virtual>) -> bool {
        let name = &server.settings.name;
        match self {
            Self::Prompts => {
                server.settings.prompts && part.is_none_or(|it| it.prompts.contains(name))
            }
            Self::Resources | Self::Templates => {
                server.settings.resources && part.is_none_or(|it| it.resources.contains(name))
            }
        }
    }

    /// An item as it is listed at a door to several; nothing, when no name leads back.
    fn outer(self, server: &str, item: &str) -> Option<String> {
        let fields = Object::parse(item)?;
        let (field, value) = match self {
            Self::Resources => ("uri", outer_uri(server, &fields.text("uri")?)),
            Self::Templates => (
                "uriTemplate",
                outer_uri(server, &fields.text("uriTemplate")?),
            ),
            Self::Prompts => ("name", joined(server, &fields.text("name")?)?),
        };
        // A name twice is read by somebody as the other one.
        if fields.twice().is_some() {
            return None;
        }
        Some(fields.with(&[(field, Some(&json!(value).to_string()))]))
    }
}

/// The server of a request, and the request as that server takes it.
pub(super) fn routed(
    part: Option<&Virtual>,
    method: &str,
    message: &Message<'_>,
) -> Option<(String, String)> {
    let params = message.params.as_ref()?;
    let (field, server, own) = match method {
        "resources/read" => {
            let uri = params.text("uri")?;
            let (server, own) = inner_uri(&uri)?;
            part.is_none_or(|it| it.resources.iter().any(|it| it == server))
                .then_some(())?;
            ("uri", server.to_owned(), own.to_owned())
        }
        _ => {
            let name = params.text("name")?;
            let (server, own) = split(&name)?;
            part.is_none_or(|it| it.prompts.iter().any(|it| it == server))
                .then_some(())?;
            ("name", server.to_owned(), own.to_owned())
        }
    };
    let params = params.with(&[(field, Some(&json!(own).to_string()))]);
    Some((server, message.fields.with(&[("params", Some(&params))])))
}

/// What a server has of a kind.
async fn all_of(talk: &Talk, kind: Kind) -> Result<Vec<String>, EgressError> {
    let (mut all, mut size) = (Vec::new(), 0);
    let mut cursor: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let params = cursor
            .as_ref()
            .map_or_else(|| json!({}), |it| json!({ "cursor": it }));
        let page = talk.ask(kind.method(), &params.to_string()).await?;
        // Whoever has none of it says that there is no such method.
        let Ok(page) = page else {
            return Ok(all);
        };
        for item in one_of(&page, kind.key()).unwrap_or_default() {
            size += item.len();
            if all.len() >= MOST_ITEMS || size > MOST_ANSWER {
                return Ok(all);
            }
            all.push(item.to_owned());
        }
        cursor = next_cursor(&page);
        if cursor.is_none() {
            break;
        }
    }
    Ok(all)
}

/// The addresses in what a server reads out, as they are at a door to several.
fn outside(server: &str, result: &str) -> Option<String> {
    let fields = Object::parse(result)?;
    let items = array(fields.get("contents")?.get())?;
    let outer = |item: &&serde_json::value::RawValue| {
        let text = item.get();
        Kind::Resources
            .outer(server, text)
            .unwrap_or_else(|| text.to_owned())
    };
    let items: Vec<String> = items.iter().map(outer).collect();
    let list = format!("[{}]", items.join(","));
    Some(fields.with(&[("contents", Some(&list))]))
}

impl Tools {
    /// Lists what the servers of a door have.
    pub(super) async fn list_things(
        &self,
        plan: &Plan,
        kind: Kind,
        who: &Who,
        (judge, steps): (&dyn Judge, &dyn Steps),
    ) -> Result<Response<Body>, DoorError> {
        let mut tasks = JoinSet::new();
        for (name, server) in plan.known.servers.iter() {
            let is_of = kind.is_of(server, plan.part.as_deref());
            if !is_of || !judge.may(name, kind.thing(), Class::Read) {
                continue;
            }
            let wanted = Wanted {
                server: name.clone(),
                thing: kind.thing().to_owned(),
                class: Class::Read,
                arguments: std::collections::BTreeMap::new(),
            };
            let Ok(witness) = steps.step(&wanted).await else {
                continue;
            };
            let (tools, server, who) = (self.clone(), server.clone(), who.clone());
            tasks.spawn(async move {
                let found = tools
                    .things_of(&server, kind, &who, (&wanted, &witness))
                    .await;
                (server.settings.name, found)
            });
        }
        let until = tokio::time::Instant::now() + MOST_TIME;
        let mut found = std::collections::BTreeMap::new();
        while let Ok(Some(done)) = tokio::time::timeout_at(until, tasks.join_next()).await {
            match done {
                Ok((server, Ok(items))) => {
                    found.insert(server, items);
                }
                Ok((server, Err(error))) => {
                    tracing::warn!(server, %error, "a server is left out of a list");
                }
                Err(error) => tracing::warn!(%error, "a server is left out of a list"),
            }
        }
        if !tasks.is_empty() {
            tracing::warn!(
                servers = tasks.len(),
                "servers that take too long are left out of a list"
            );
        }
        let all: Vec<String> = found
            .iter()
            .flat_map(|(server, items)| items.iter().filter_map(|it| kind.outer(server, it)))
            .collect();
        let id = plan.id.as_deref().unwrap_or("null");
        let text = reply(id, &listed(plan.era, kind.key(), &all));
        Ok(of(Coming::of(StatusCode::OK, text)))
    }

    async fn things_of(
        &self,
        server: &Server,
        kind: Kind,
        who: &Who,
        (wanted, witness): (&Wanted, &Arc<dyn Witness>),
    ) -> Result<Vec<String>, EgressError> {
        let mut open = self.0.begin(who, (server, wanted), witness).await?;
        let listed = async {
            let talk = self.0.talk_of(server, who).await;
            let talk = talk.map_err(EgressError::before)?;
            all_of(&talk, kind).await
        };
        let listed = listed.await;
        open.settle(listed.as_ref().map_or_else(EgressError::outcome, |_| "200"));
        listed
    }

    /// Reads a resource, or gets a prompt, of the server that it is of.
    pub(super) async fn fetch(
        &self,
        plan: &Plan,
        method: &str,
        who: &Who,
        witness: &Arc<dyn Witness>,
    ) -> Result<Response<Body>, DoorError> {
        let server = plan.known.servers.get(&plan.server);
        let (Some(wanted), Some(server)) = (&plan.wanted, server) else {
            let why = "there is no such resource or prompt";
            return Err(refused(StatusCode::OK, code::PARAMS, why));
        };
        let open = self.0.begin(who, (server, wanted), witness).await?;
        let params = Message::read(&plan.text).ok().and_then(|it| it.params);
        let params = params.map(|it| it.with(&[("_meta", None)]));
        let params = params.unwrap_or_else(|| "{}".to_owned());
        let answer: Result<Answer, EgressError> =
            self.talk(server, who, method, ("", &params)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let mut open = open;
                open.settle(error.outcome());
                return Err(error.into());
            }
        };
        let answer = answer.map(|text| match method {
            "resources/read" => outside(&plan.server, &text).unwrap_or(text),
            _ => text,
        });
        Ok(answered(plan, answer, open))
    }

    /// The abilities that Skep tells of at a door of several servers.
    pub(super) fn abilities(&self, plan: &Plan) -> Value {
        let mut all = json!({ "tools": {} });
        let part = plan.part.as_deref();
        let has = |kind: Kind| plan.known.servers.values().any(|it| kind.is_of(it, part));
        for (kind, name) in [(Kind::Resources, "resources"), (Kind::Prompts, "prompts")] {
            if has(kind) {
                all[name] = json!({});
            }
        }
        all
    }
}
