//! The ground that every other crate stands on: identifiers, time, public error codes, the
//! workspace scope and layered configuration.
//!
//! What lives here is used by at least two crates and knows nothing of storage, HTTP or agents.
//! What does not: anything with I/O of its own (reading the configuration file apart), logging
//! set-up and metrics registries, which belong to the composition root.

pub mod code;
pub mod config;
pub mod id;
mod similar;
pub mod time;
pub mod units;
pub mod workspace;

pub use code::{Code, PublicError};
pub use id::{
    AccessRequestId, AgentId, CallId, DetectionId, ExchangeId, InstanceId, InvitationId, KeyId,
    LeaseId, LinkId, MessageId, MountId, ParseIdError, PersonId, RequestId, RotationId, RunId,
    SecretId, ServerId, SessionId, ThreadId, UserId,
};
pub use similar::similar;
pub use time::{Clock, Timestamp};
pub use workspace::{Workspace, Workspaces};
