//! What is asked, in the one form that both versions have.

use serde_json::Value;

use super::error::Error;
use super::fields::{Fields, Read, Wrong};
use super::method::{Method, Version};
use super::model::{Message, Micros, Role, TaskState};
use crate::agui::Object;

/// Tasks of a page, when nothing is said.
pub const PAGE: u32 = 50;
/// Tasks of a page, at the most.
pub const MOST_PAGE: u32 = 100;

/// What is asked (section 5.3).
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub enum Request {
    SendMessage(Box<SendMessage>),
    SendStreamingMessage(Box<SendMessage>),
    GetTask {
        id: String,
        history_length: Option<u32>,
        tenant: Option<String>,
    },
    ListTasks(ListTasks),
    CancelTask {
        id: String,
        metadata: Option<Object>,
        tenant: Option<String>,
    },
    SubscribeToTask {
        id: String,
        tenant: Option<String>,
    },
    CreatePushConfig(PushConfig),
    GetPushConfig {
        task_id: String,
        /// None, as 0.3 allows it: the one that there is.
        id: Option<String>,
        tenant: Option<String>,
    },
    ListPushConfigs {
        task_id: String,
        page_size: Option<u32>,
        page_token: Option<String>,
        tenant: Option<String>,
    },
    DeletePushConfig {
        task_id: String,
        id: String,
        tenant: Option<String>,
    },
    GetExtendedAgentCard {
        tenant: Option<String>,
    },
}

/// A message to an agent (section 3.2.1), with what is wanted of the answer (section 3.2.2).
#[derive(Debug, Clone, PartialEq)]
pub struct SendMessage {
    /// The message; it is a client's.
    pub message: Message,
    /// Media types that the client takes.
    pub accepted_output_modes: Vec<String>,
    /// Whether the task is told at once, and not when it is done or waits.
    pub return_immediately: bool,
    /// So much of the history.
    pub history_length: Option<u32>,
    /// Where to push what becomes of the task.
    pub push: Option<PushConfig>,
    /// What else there is to say.
    pub metadata: Option<Object>,
    /// For whom, where several are behind one address.
    pub tenant: Option<String>,
}

/// Which tasks are wanted (section 3.1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub struct ListTasks {
    pub context_id: Option<String>,
    pub status: Option<TaskState>,
    /// From 1 to [`MOST_PAGE`].
    pub page_size: u32,
    pub page_token: Option<String>,
    pub history_length: Option<u32>,
    /// At this time or after it.
    pub status_timestamp_after: Option<Micros>,
    pub include_artifacts: bool,
    pub tenant: Option<String>,
}

/// Where to push what becomes of a task (section 4.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub struct PushConfig {
    /// None, as long as there is no task.
    pub task_id: Option<String>,
    /// None, when the server is to make one.
    pub id: Option<String>,
    pub url: String,
    pub token: Option<String>,
    pub authentication: Option<Authentication>,
    pub tenant: Option<String>,
}

/// With what to push (section 4.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub struct Authentication {
    pub scheme: String,
    pub credentials: Option<String>,
}

impl Request {
    /// Reads what a method is given; `params` that are absent are `null`.
    ///
    /// # Errors
    /// [`Fault::InvalidParams`](super::Fault), which names the field.
    pub fn read(version: Version, method: Method, params: &Value) -> Result<Self, Error> {
        Self::of(version, method, params).map_err(Error::from)
    }

    fn of(version: Version, method: Method, params: &Value) -> Read<Self> {
        let empty = Value::Object(Object::new());
        let params = match params {
            Value::Null => &empty,
            params => params,
        };
        let fields = Fields::of(params)?;
        let tenant = fields.text("tenant")?;
        Ok(match method {
            Method::SendMessage => Self::SendMessage(Box::new(send(version, &fields, tenant)?)),
            Method::SendStreamingMessage => {
                Self::SendStreamingMessage(Box::new(send(version, &fields, tenant)?))
            }
            Method::GetTask => Self::GetTask {
                id: fields.needs_id("id")?,
                history_length: history_length(&fields)?,
                tenant,
            },
            Method::ListTasks => Self::ListTasks(list(version, &fields, tenant)?),
            Method::CancelTask => Self::CancelTask {
                id: fields.needs_id("id")?,
                metadata: fields.object("metadata")?,
                tenant,
            },
            Method::SubscribeToTask => Self::SubscribeToTask {
                id: fields.needs_id("id")?,
                tenant,
            },
            Method::CreateTaskPushNotificationConfig => {
                let config = config(version, params)?;
                if config.task_id.is_none() {
                    return Err(Wrong::new("it is missing; it must be a text").within("taskId"));
                }
                Self::CreatePushConfig(config)
            }
            Method::GetTaskPushNotificationConfig => {
                let (task_id, id) = config_ids(version, &fields)?;
                if version == Version::V1_0 && id.is_none() {
                    return Err(Wrong::new("it is missing; it must be a text").within("id"));
                }
                Self::GetPushConfig {
                    task_id,
                    id,
                    tenant,
                }
            }
            Method::ListTaskPushNotificationConfigs => Self::ListPushConfigs {
                task_id: config_ids(version, &fields)?.0,
                page_size: fields.whole("pageSize", 0, u32::MAX)?.filter(|it| *it > 0),
                page_token: fields.text("pageToken")?,
                tenant,
            },
            Method::DeleteTaskPushNotificationConfig => {
                let (task_id, id) = config_ids(version, &fields)?;
                let name = match version {
                    Version::V1_0 => "id",
                    Version::V0_3 => "pushNotificationConfigId",
                };
                let missing = || Wrong::new("it is missing; it must be a text").within(name);
                Self::DeletePushConfig {
                    task_id,
                    id: id.ok_or_else(missing)?,
                    tenant,
                }
            }
            Method::GetExtendedAgentCard => Self::GetExtendedAgentCard { tenant },
        })
    }

    /// The task that it is about, when it says one.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        match self {
            Self::SendMessage(it) | Self::SendStreamingMessage(it) => it.message.task_id.as_deref(),
            Self::GetTask { id, .. }
            | Self::CancelTask { id, .. }
            | Self::SubscribeToTask { id, .. } => Some(id),
            Self::CreatePushConfig(it) => it.task_id.as_deref(),
            Self::GetPushConfig { task_id, .. }
            | Self::ListPushConfigs { task_id, .. }
            | Self::DeletePushConfig { task_id, .. } => Some(task_id),
            Self::ListTasks(_) | Self::GetExtendedAgentCard { .. } => None,
        }
    }

    /// For whom it is, where several are behind one address.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        let tenant = match self {
            Self::SendMessage(it) | Self::SendStreamingMessage(it) => &it.tenant,
            Self::ListTasks(it) => &it.tenant,
            Self::CreatePushConfig(it) => &it.tenant,
            Self::GetTask { tenant, .. }
            | Self::CancelTask { tenant, .. }
            | Self::SubscribeToTask { tenant, .. }
            | Self::GetPushConfig { tenant, .. }
            | Self::ListPushConfigs { tenant, .. }
            | Self::DeletePushConfig { tenant, .. }
            | Self::GetExtendedAgentCard { tenant } => tenant,
        };
        tenant.as_deref()
    }
}

fn history_length(fields: &Fields<'_>) -> Read<Option<u32>> {
    fields.whole("historyLength", 0, u32::MAX)
}

fn send(version: Version, fields: &Fields<'_>, tenant: Option<String>) -> Read<SendMessage> {
    // So they are called over HTTP in 0.3.
    let name = match version {
        Version::V0_3 if fields.get("request").is_some() => "request",
        _ => "message",
    };
    let has_content = |it: &Value| it.get("content").is_some();
    let is_http = version == Version::V0_3 && fields.get(name).is_some_and(has_content);
    let message = fields.needs(name, |it| Message::read(version, it))?;
    if message.role != Role::User {
        let why = "a client's message is from the user";
        return Err(Wrong::new(why).within("role").within(name));
    }
    let mut asked = SendMessage {
        message,
        accepted_output_modes: Vec::new(),
        return_immediately: false,
        history_length: None,
        push: None,
        metadata: fields.object("metadata")?,
        tenant,
    };
    fields.inner("configuration", |it| {
        let fields = Fields::of(it)?;
        asked.accepted_output_modes = fields.texts("acceptedOutputModes")?;
        asked.history_length = history_length(&fields)?;
        let push = match version {
            Version::V0_3 if fields.get("pushNotification").is_some() => "pushNotification",
            Version::V0_3 => "pushNotificationConfig",
            Version::V1_0 => "taskPushNotificationConfig",
        };
        asked.push = fields.inner(push, |it| config(version, it))?;
        asked.return_immediately = match version {
            Version::V1_0 => fields.flag("returnImmediately")?.unwrap_or(false),
            // Buffers leave out what is false.
            Version::V0_3 => !fields.flag("blocking")?.unwrap_or(!is_http),
        };
        Ok(())
    })?;
    Ok(asked)
}

fn list(version: Version, fields: &Fields<'_>, tenant: Option<String>) -> Read<ListTasks> {
    let status = fields.text("status")?;
    let status = status.filter(|it| it != "TASK_STATE_UNSPECIFIED");
    let status = status.map(|word| {
        let words = TaskState::ALL.map(|(it, ..)| it.as_str(version)).join(", ");
        let wrong = || Wrong::new(format!("it must be one of: {words}")).within("status");
        TaskState::of(version, &word).ok_or_else(wrong)
    });
    let after = fields.text("statusTimestampAfter")?;
    let after = after.map(|text| {
        let wrong = || {
            let why = "it must be a time, as 2026-11-21T04:54:08Z";
            Wrong::new(why).within("statusTimestampAfter")
        };
        let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        Ok(time.as_microsecond())
    });
    Ok(ListTasks {
        context_id: fields.id("contextId")?,
        status: status.transpose()?,
        page_size: fields.whole("pageSize", 1, MOST_PAGE)?.unwrap_or(PAGE),
        page_token: fields.text("pageToken")?,
        history_length: history_length(fields)?,
        status_timestamp_after: after.transpose()?,
        include_artifacts: fields.flag("includeArtifacts")?.unwrap_or(false),
        tenant,
    })
}

/// Where to push. 0.3 has it within, beside the task.
fn config(version: Version, value: &Value) -> Read<PushConfig> {
    let fields = Fields::of(value)?;
    let within = "pushNotificationConfig";
    if version == Version::V0_3 && fields.get(within).is_some() {
        let mut inner = fields.needs(within, |it| config(version, it))?;
        inner.task_id = fields.id("taskId")?;
        return Ok(inner);
    }
    let url = fields.needs_text("url")?;
    let is_web = ["https://", "http://"].iter().any(|it| url.starts_with(it));
    if !is_web || url.chars().any(|it| it.is_control() || it == ' ') {
        return Err(Wrong::new("it must be an address that begins with https://").within("url"));
    }
    let authentication = fields.inner("authentication", |it| {
        let fields = Fields::of(it)?;
        let scheme = match (version, fields.get("schemes")) {
            (Version::V0_3, Some(_)) => {
                let first = fields.texts("schemes")?.into_iter().next();
                first.ok_or_else(|| Wrong::new("at least one is needed").within("schemes"))?
            }
            _ => fields.needs_text("scheme")?,
        };
        let credentials = fields.text("credentials")?;
        Ok(Authentication {
            scheme,
            credentials,
        })
    });
    Ok(PushConfig {
        task_id: fields.id("taskId")?,
        id: fields.id("id")?,
        url,
        token: fields.text("token")?,
        authentication: authentication?,
        tenant: fields.text("tenant")?,
    })
}

/// The task and the configuration. In 0.3 the task's is `id`.
fn config_ids(version: Version, fields: &Fields<'_>) -> Read<(String, Option<String>)> {
    Ok(match version {
        Version::V0_3 if fields.get("taskId").is_none() => (
            fields.needs_id("id")?,
            fields.id("pushNotificationConfigId")?,
        ),
        _ => (fields.needs_id("taskId")?, fields.id("id")?),
    })
}
