//! HTTP+JSON (section 11): which operation a path is, and what it is asked.

use serde_json::{Map, Value};

use super::error::{Error, Fault};
use super::method::{Method, Version};
use super::request::Request;

/// The media type of what is said. Clients may say `application/json`, too.
pub const MEDIA_TYPE: &str = "application/a2a+json";

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What is asked.
    pub method: Method,
    /// It begins with `/v1`, as the paths of 0.3 do.
    pub is_older: bool,
    /// For whom, where the path says it.
    pub tenant: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The configuration for pushing.
    pub config: Option<String>,
}

/// What a path behind the interface's own stands for, without its query.
#[must_use]
pub fn route(verb: &str, path: &str) -> Option<Route> {
    let path = path.strip_prefix('/')?;
    let mut parts: Vec<&str> = path.split('/').collect();
    let is_older = parts.first() == Some(&"v1");
    if is_older {
        parts.remove(0);
    }
    let words = [
        "message:send",
        "message:stream",
        "tasks",
        "extendedAgentCard",
    ];
    let is_word = |it: &str| words.contains(&it) || is_older && it == "card";
    let mut tenant = None;
    if let [first, second, ..] = *parts.as_slice()
        && !is_word(first)
        && is_word(second)
        && !is_older
    {
        tenant = Some(decoded(first, false)?).filter(|it| !it.is_empty());
        tenant.as_ref()?;
        parts.remove(0);
    }
    let (method, task, config) = matched(verb, &parts, is_older)?;
    let id = |told: Option<&str>| match told {
        None => Some(None),
        Some(told) => Some(Some(decoded(told, false).filter(|it| !it.is_empty())?)),
    };
    Some(Route {
        method,
        is_older,
        tenant,
        task: id(task)?,
        config: id(config)?,
    })
}

type Matched<'a> = (Method, Option<&'a str>, Option<&'a str>);

fn matched<'a>(verb: &str, parts: &[&'a str], is_older: bool) -> Option<Matched<'a>> {
    let push = "pushNotificationConfigs";
    Some(match (verb, parts) {
        ("POST", ["message:send"]) => (Method::SendMessage, None, None),
        ("POST", ["message:stream"]) => (Method::SendStreamingMessage, None, None),
        ("GET", ["tasks"]) => (Method::ListTasks, None, None),
        ("GET", ["extendedAgentCard"]) if !is_older => (Method::GetExtendedAgentCard, None, None),
        ("GET", ["card"]) if is_older => (Method::GetExtendedAgentCard, None, None),
        // It is GET in the schema, and POST in the text.
        ("GET" | "POST", ["tasks", task]) if task.ends_with(":subscribe") => {
            let task = task.strip_suffix(":subscribe")?;
            (Method::SubscribeToTask, Some(task), None)
        }
        ("POST", ["tasks", task]) => {
            let task = task.strip_suffix(":cancel")?;
            (Method::CancelTask, Some(task), None)
        }
        ("GET", ["tasks", task]) => (Method::GetTask, Some(*task), None),
        ("POST", ["tasks", task, word]) if *word == push => {
            (Method::CreateTaskPushNotificationConfig, Some(*task), None)
        }
        ("GET", ["tasks", task, word]) if *word == push => {
            (Method::ListTaskPushNotificationConfigs, Some(*task), None)
        }
        ("GET", ["tasks", task, word, id]) if *word == push => (
            Method::GetTaskPushNotificationConfig,
            Some(*task),
            Some(*id),
        ),
        ("DELETE", ["tasks", task, word, id]) if *word == push => (
            Method::DeleteTaskPushNotificationConfig,
            Some(*task),
            Some(*id),
        ),
        _ => return None,
    })
}

/// In which version an error is told, when it is not known in which the request is.
#[must_use]
pub fn told_in(version: Option<&str>, query: &str) -> Version {
    let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
    let named = pairs.find(|(name, _)| name.eq_ignore_ascii_case(Version::NAME));
    Version::of(version.or(named.map(|(_, value)| value))).unwrap_or(Version::V1_0)
}

/// Reads what a route is asked: with its query, and with its body where it has one. The version is what the header says, or the
/// query, when the header is absent.
///
/// # Errors
/// [`Error`].
pub fn read(
    version: Option<&str>,
    route: &Route,
    (query, body): (&str, &[u8]),
) -> Result<(Version, Request), Error> {
    let mut query = pairs(query)?;
    let named = query
        .remove("A2A-Version")
        .or_else(|| query.remove(Version::NAME));
    let named = named.as_ref().and_then(Value::as_str);
    let version = Version::of(version.or(named))?;
    if route.is_older && version != Version::V0_3 {
        let why = "paths that begin with /v1 are of A2A 0.3";
        return Err(Error::new(Fault::MethodNotFound, why));
    }
    let takes_body = matches!(
        route.method,
        Method::SendMessage
            | Method::SendStreamingMessage
            | Method::CancelTask
            | Method::CreateTaskPushNotificationConfig
    );
    let mut params = match takes_body && !body.trim_ascii().is_empty() {
        false => query,
        true => {
            let body = serde_json::from_slice(body);
            let invalid = |err| Error::new(Fault::Parse, format!("Invalid JSON payload: {err}"));
            match body.map_err(invalid)? {
                Value::Object(body) => body,
                _ => return Err(Error::invalid("", "the body must be an object")),
            }
        }
    };
    older(route, version, &mut params);
    let is_config = route
        .method
        .name(Version::V1_0)
        .contains("PushNotification");
    let (task, config) = match (is_config, version) {
        (false, _) => ("id", ""),
        (true, Version::V1_0) => ("taskId", "id"),
        (true, Version::V0_3) if route.method == Method::CreateTaskPushNotificationConfig => {
            ("taskId", "")
        }
        (true, Version::V0_3) => ("id", "pushNotificationConfigId"),
    };
    for (name, value) in [
        (task, &route.task),
        (config, &route.config),
        ("tenant", &route.tenant),
    ] {
        if let Some(value) = value {
            said_once(&params, name, value)?;
            params.insert(name.to_owned(), value.as_str().into());
        }
    }
    let request = Request::read(version, route.method, &Value::Object(params))?;
    Ok((version, request))
}

/// What clients of 0.3 send over HTTP in another place than over JSON-RPC.
fn older(route: &Route, version: Version, params: &mut Map<String, Value>) {
    if version != Version::V0_3 {
        return;
    }
    if route.method == Method::CreateTaskPushNotificationConfig
        && let Some(Value::Object(mut config)) = params.remove("config")
    {
        params.extend(std::mem::take(&mut config));
    }
    if route.config.is_some() {
        params.remove("id");
    }
}

/// A path and a body must not say two things.
fn said_once(params: &Map<String, Value>, name: &str, value: &str) -> Result<(), Error> {
    let other = params.get(name).and_then(Value::as_str);
    match other.filter(|it| !it.is_empty() && *it != value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(name, "it is not what the path says")),
    }
}

/// The parameters of a query. What is a flag or a number is read as one later.
fn pairs(query: &str) -> Result<Map<String, Value>, Error> {
    let mut params = Map::new();
    for pair in query.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decoded(name, true), decoded(value, true)) else {
            return Err(Error::invalid("", "the query is not encoded as it must be"));
        };
        let value = match (name.as_str(), value.as_str()) {
            ("includeArtifacts" | "include_artifacts", "true") => true.into(),
            ("includeArtifacts" | "include_artifacts", "false") => false.into(),
            _ => Value::String(value),
        };
        params.insert(name, value);
    }
    // What is there without a value is absent.
    params.retain(|_, value| value.as_str() != Some(""));
    Ok(params)
}

/// A text without its percent signs, in which a plus may be a space.
fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' if plus => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}
