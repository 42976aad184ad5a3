//! Tools that are made of steps: each step is decided, told to the ledger and the audit log, and asked by itself. What goes
//! wrong says in which step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use skep_core::PublicError as _;
use skep_mcp::{Asked, Chain, Message, Step, code, error, reply};
use tokio::time::Instant;

use super::body::Body;
use super::client::MOST_ANSWER;
use super::door::{DoorError, Plan, Wanted, refused};
use super::link::Coming;
use super::merged::{complete, of};
use super::service::Tools;
use crate::llm::{Who, Witness};

/// How long all steps may take together.
const MOST_TIME: Duration = Duration::from_secs(300);

/// A step that is not taken, in words for who asked.
#[derive(Debug, Clone, PartialEq)]
pub struct No {
    /// Why.
    pub why: String,
    /// All that is said of it.
    pub document: Value,
}

/// Asks about each step of a request.
#[async_trait]
pub trait Steps: Send + Sync {
    /// Asks the policies, and gives who tells the audit log how it ended.
    async fn step(&self, wanted: &Wanted) -> Result<Arc<dyn Witness>, No>;

    /// Asks Skep itself, as who asks and no more.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn own(&self, asked: Asked) -> Result<Own, String>;
}

/// What Skep itself answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The status.
    pub status: StatusCode,
    /// What it is.
    pub kind: Option<HeaderValue>,
    /// It.
    pub body: Bytes,
}

/// How a step ended that is the last one.
enum Ended {
    /// Its tool says that it failed.
    Failed(Value),
    /// It was not taken, or came to nothing.
    Fault(i64, String, Value),
}

fn fault(why: impl Into<String>) -> Ended {
    Ended::Fault(code::PARAMS, why.into(), Value::Null)
}

/// What a chain was given.
fn input(plan: &Plan, chain: &Chain) -> Result<Value, DoorError> {
    let params = Message::read(&plan.text).ok().and_then(|it| it.params);
    let given = params.as_ref().and_then(|it| it.get("arguments"));
    let given = given.and_then(|it| serde_json::from_str::<Map<String, Value>>(it.get()).ok());
    let given = given.unwrap_or_default();
    let needed = chain.input.get("required").and_then(Value::as_array);
    let mut needed = needed.into_iter().flatten().filter_map(Value::as_str);
    match needed.find(|it| !given.contains_key(*it)) {
        None => Ok(Value::Object(given)),
        Some(name) => {
            let why = format!("the argument `{name}` is missing");
            Err(refused(StatusCode::OK, code::PARAMS, why))
        }
    }
}

/// The arguments of a step, as policies see them.
fn texts(arguments: &Map<String, Value>) -> std::collections::BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    arguments
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

impl Tools {
    /// Takes the steps of a chain, and gives the answer of the last.
    pub(super) async fn run(
        &self,
        plan: &Plan,
        chain: &Chain,
        who: &Who,
        steps: &dyn Steps,
    ) -> Result<Response<Body>, DoorError> {
        let input = input(plan, chain)?;
        let until = Instant::now() + MOST_TIME;
        let (mut answers, mut size) = (Vec::new(), 0);
        let said = |text: String| Ok(of(Coming::of(StatusCode::OK, text)));
        let Some(id) = plan.id.as_deref() else {
            return Ok(of(Coming::accepted()));
        };
        for step in &chain.steps {
            let taken = self.take(plan, step, who, (steps, &input, &answers));
            let taken = match tokio::time::timeout_at(until, taken).await {
                Ok(taken) => taken,
                Err(_) => Err(fault("the steps take more than 300 s together")),
            };
            let taken = taken.and_then(|text| {
                size += text.len();
                let value = serde_json::from_str(&text);
                match value {
                    Ok(value) if size <= MOST_ANSWER => Ok(value),
                    _ => Err(fault("the steps answer with more than 8 MiB together")),
                }
            });
            let place = format!("step `{}` ({}/{})", step.name, step.server, step.tool);
            match taken {
                Ok(value) => answers.push(value),
                Err(Ended::Failed(mut answer)) => {
                    let first = json!({ "type": "text", "text": format!("{place} failed:") });
                    match answer.get_mut("content").and_then(Value::as_array_mut) {
                        Some(content) => content.insert(0, first),
                        None => answer = json!({ "content": [first], "isError": true }),
                    }
                    return said(reply(id, &complete(plan.era, answer.to_string())));
                }
                Err(Ended::Fault(code, why, document)) => {
                    let data = (!document.is_null()).then_some(&document);
                    return said(error(Some(id), code, &format!("{place}: {why}"), data));
                }
            }
        }
        let last = answers.pop().unwrap_or_default().to_string();
        said(reply(id, &complete(plan.era, last)))
    }

    /// Takes one step.
    async fn take(
        &self,
        plan: &Plan,
        step: &Step,
        who: &Who,
        (steps, input, answers): (&dyn Steps, &Value, &[Value]),
    ) -> Result<String, Ended> {
        let server = plan.known.servers.get(&step.server);
        let server = server.ok_or_else(|| fault("there is no such server"))?;
        let class = server.called(&step.tool).map_err(|error| match error {
            DoorError::Refused(refused) => fault(refused.why),
            DoorError::Egress(error) => {
                let document = json!({ "code": error.code().as_str() });
                Ended::Fault(code::PARAMS, error.detail(), document)
            }
        })?;
        let arguments = step.given(input, answers).map_err(fault)?;
        let wanted = Wanted {
            server: step.server.clone(),
            thing: step.tool.clone(),
            class,
            arguments: texts(&arguments),
        };
        let witness = steps.step(&wanted).await;
        let witness = witness.map_err(|no| Ended::Fault(code::PARAMS, no.why, no.document))?;
        let failed = |error: crate::EgressError| {
            let document = json!({ "code": error.code().as_str() });
            Ended::Fault(code::INTERNAL, error.detail(), document)
        };
        let open = self.0.begin(who, (server, &wanted), &witness).await;
        let mut open = open.map_err(failed)?;
        let params = json!({ "name": step.tool, "arguments": arguments }).to_string();
        let answer = self.use_tool(server, who, steps, (&step.tool, &params));
        let answer = answer.await;
        let answer = answer.inspect_err(|error| open.settle(error.outcome()));
        let text = match answer.map_err(failed)? {
            Ok(text) => text,
            Err(said) => {
                open.settle("error");
                return Err(Ended::Fault(said.code, said.message, Value::Null));
            }
        };
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if value["resultType"] == "input_required" {
            open.settle("error");
            return Err(fault("it asks its user, and nobody is there"));
        }
        if value["isError"] == true {
            open.settle("tool-error");
            return Err(Ended::Failed(value));
        }
        open.settle("200");
        Ok(text)
    }
}
