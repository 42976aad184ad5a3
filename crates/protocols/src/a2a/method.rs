//! Versions of the protocol, and what can be asked in them.

use super::error::{Error, Fault};

/// A version of the protocol, as it is negotiated (section 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.3, which a client speaks that says nothing.
    V0_3,
    /// 1.0.
    V1_0,
}

impl Version {
    /// The header, or parameter of a query, that names it.
    pub const NAME: &'static str = "a2a-version";

    /// The one that a client says; a patch of it makes no difference.
    ///
    /// # Errors
    /// [`Fault::VersionNotSupported`].
    pub fn of(told: Option<&str>) -> Result<Self, Error> {
        let told = told.unwrap_or_default().trim();
        let mut parts = told.split('.');
        let main = (parts.next(), parts.next());
        let is_patch = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
        let rest = parts.next().is_none_or(is_patch) && parts.next().is_none();
        match main {
            (Some(""), None) => Ok(Self::V0_3),
            (Some("0"), Some("3")) if rest => Ok(Self::V0_3),
            (Some("1"), Some("0")) if rest => Ok(Self::V1_0),
            _ => {
                let told: String = told
                    .chars()
                    .take(32)
                    .filter(|it| !it.is_control())
                    .collect();
                let why = format!("A2A {told} is not spoken here; 1.0 and 0.3 are");
                Err(Error::new(Fault::VersionNotSupported, why))
            }
        }
    }

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3 => "0.3",
            Self::V1_0 => "1.0",
        }
    }
}

/// What can be asked (section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub enum Method {
    SendMessage,
    SendStreamingMessage,
    GetTask,
    ListTasks,
    CancelTask,
    SubscribeToTask,
    CreateTaskPushNotificationConfig,
    GetTaskPushNotificationConfig,
    ListTaskPushNotificationConfigs,
    DeleteTaskPushNotificationConfig,
    GetExtendedAgentCard,
}

impl Method {
    /// All of them, with their names in 1.0 and in 0.3.
    pub const ALL: [(Self, &'static str, &'static str); 11] = [
        (Self::SendMessage, "SendMessage", "message/send"),
        (
            Self::SendStreamingMessage,
            "SendStreamingMessage",
            "message/stream",
        ),
        (Self::GetTask, "GetTask", "tasks/get"),
        (Self::ListTasks, "ListTasks", "tasks/list"),
        (Self::CancelTask, "CancelTask", "tasks/cancel"),
        (
            Self::SubscribeToTask,
            "SubscribeToTask",
            "tasks/resubscribe",
        ),
        (
            Self::CreateTaskPushNotificationConfig,
            "CreateTaskPushNotificationConfig",
            "tasks/pushNotificationConfig/set",
        ),
        (
            Self::GetTaskPushNotificationConfig,
            "GetTaskPushNotificationConfig",
            "tasks/pushNotificationConfig/get",
        ),
        (
            Self::ListTaskPushNotificationConfigs,
            "ListTaskPushNotificationConfigs",
            "tasks/pushNotificationConfig/list",
        ),
        (
            Self::DeleteTaskPushNotificationConfig,
            "DeleteTaskPushNotificationConfig",
            "tasks/pushNotificationConfig/delete",
        ),
        (
            Self::GetExtendedAgentCard,
            "GetExtendedAgentCard",
            "agent/getAuthenticatedExtendedCard",
        ),
    ];

    /// The one of a name in a version.
    ///
    /// # Errors
    /// [`Fault::MethodNotFound`]; a name of the other version is told as such.
    pub fn of(version: Version, name: &str) -> Result<Self, Error> {
        let by = |version| {
            let mut all = Self::ALL.into_iter();
            all.find(|(_, newer, older)| match version {
                Version::V1_0 => *newer == name,
                Version::V0_3 => *older == name,
            })
        };
        let (other, hint) = match version {
            Version::V1_0 => (Version::V0_3, "leave the header `A2A-Version` out"),
            Version::V0_3 => (Version::V1_0, "send the header `A2A-Version: 1.0`"),
        };
        if let Some((method, ..)) = by(version) {
            return Ok(method);
        }
        let why = match by(other) {
            Some(_) => format!("`{name}` is a method of A2A {}: {hint}", other.as_str()),
            None => "Method not found".to_owned(),
        };
        Err(Error::new(Fault::MethodNotFound, why))
    }

    /// Its name in a version.
    #[must_use]
    pub fn name(self, version: Version) -> &'static str {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|(it, ..)| *it == self);
        found.map_or("", |(_, newer, older)| match version {
            Version::V1_0 => newer,
            Version::V0_3 => older,
        })
    }

    /// Whether it is answered by a stream.
    #[must_use]
    pub const fn is_streaming(self) -> bool {
        matches!(self, Self::SendStreamingMessage | Self::SubscribeToTask)
    }
}
