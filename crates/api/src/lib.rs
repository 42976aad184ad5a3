//! Wire types of the public API: what the server sends and reads as JSON, shared by server,
//! client and CLI. Stored rows and domain types are separate; they convert to and from these.
//!
//! Rules: snake_case fields, times as RFC 3339 text in UTC, durations as text (`30s`, `1h30m`),
//! sizes as text (`64KiB`), unknown fields refused on input and ignored on output.

pub mod agent;
mod audit;
pub mod backup;
pub mod call;
mod compliance;
pub mod event;
pub mod exec;
pub mod health;
mod key;
pub mod log;
mod mcp;
mod model;
pub mod page;
mod people;
mod policy;
mod problem;
mod prompt;
mod run;
mod secret;
mod security;
pub mod server;
pub mod stats;
mod web;
mod webhook;

pub use agent::{
    Agent, AgentCardSpec, AgentLayers, AgentSkillSpec, AgentSpec, CacheSpec, CallSpec,
    DeployWithLayers, Forgotten, HealthSpec, Instance, InstanceState, LayersOrigin, Probe,
    Protection, Replicas, Resources, RestartSpec, Revision, Rollback, Rollout, RolloutSpec,
    RolloutState, RolloutStep, Scaling, VolumeSpec,
};
pub use audit::{
    AuditCheckpoint, AuditConsistency, AuditEntry, AuditErased, AuditPersonal, AuditProof,
};
pub use backup::{Backup, BackupState, NewBackup};
pub use call::{Attempt, Call, CallChange, CallState, Redriven};
pub use compliance::{Compliance, ComplianceControl, ComplianceEntry};
pub use event::Event;
pub use exec::{ExecExit, ExecSignal, ExecStart, ExecTerminal, TerminalSize};
pub use health::{AgentHealth, BasicHealth, Check, DetailedHealth, Health};
pub use key::{ApiKey, CreatedApiKey, NarrowerToken, NewApiKey, RotateApiKey, Token};
pub use log::LogLine;
pub use mcp::{
    McpApi, McpApproval, McpApprovals, McpClass, McpComposed, McpFolder, McpGiven, McpLeftOut,
    McpPart, McpPreset, McpPresetClass, McpServer, McpStep, McpTool, McpUsage, McpVirtual,
    McpVirtualTool, NewMcpServer, NewMcpVirtual,
};
pub use model::{
    ForgetAnswers, ModelBudget, ModelExchange, ModelExchangeContent, ModelKeyCheck, ModelMonth,
    ModelPerformance, ModelPerformances, ModelProvider, ModelProviderCheck, ModelRoute,
    ModelRouteVersion, ModelSettings, ModelUsage, ModelUsages, NewModelBudget, NewModelProvider,
    NewModelRoute, NewModelSettings, NewRouteModel, RouteModel, RouteRollback, SimilarQuestions,
};
pub use page::Page;
pub use people::{
    AcceptInvitation, ConfirmSecondFactor, CreatedInvitation, CreatedWorkspace, DropLink,
    Invitation, Link, LoggedIn, Login, Me, NewInvitation, NewLink, NewPassword, NewQuota, NewRole,
    NewWorkspace, Password, Proof, ProvenLogin, Provider, QuotaUse, RecoveryCodes, SecondFactor,
    Session, User, WorkspaceDetail, WorkspaceInfo,
};
pub use policy::{
    Policy, PolicyContext, PolicyExplanation, PolicyInjection, PolicyNear, PolicyPrincipal,
    PolicyQuestion, PolicyResource, PolicyRollback, PolicySchema, PolicyText, PolicyTool,
    PolicyVersion,
};
pub use problem::Problem;
pub use prompt::{
    ListedPrompt, ModelPrompt, NewPromptLabel, NewPromptVersion, NewScore, PromptDiff, PromptLabel,
    PromptMessage, PromptShare, PromptUsage, PromptVersion, RenderPrompt, RenderedPrompt,
};
pub use run::{NewFork, Run, RunError, RunStatus, Thread, ThreadContent};
pub use secret::{
    BulkOutcome, BulkSecrets, CreatedSeal, EndedLeases, KeyRotation, LockOpening, MountedSecrets,
    NewRootRotation, NewSeal, NewSecret, NewSecretLease, NewSecretMount, NewSecretRequest,
    NewSecretRotation, NewSecretShare, NewVersion, RenewSecretLease, Reveal, Revealed, Secret,
    SecretChange, SecretDecision, SecretLease, SecretMount, SecretRenewal, SecretRequest,
    SecretShare, SecretVersion, SecretVersions, Unseal, VaultSeal, VaultStatus,
};
pub use security::Detection;
pub use server::Server;
pub use stats::{
    InstanceStats, Performance, PerformanceHour, RevisionStats, Stats, Traffic, Usage,
};
pub use web::{
    NewWebRule, WebBody, WebCa, WebCheck, WebCredential, WebExchange, WebExchangeContent,
    WebHeader, WebRule,
};
pub use webhook::{NewWebhook, RotateWebhook, Webhook, WebhookMessage, WebhookRedelivery};

/// Header with the id of the call that an answer belongs to.
pub const HEADER_CALL_ID: &str = "skep-call-id";
/// Header with the id of the run that a call carries.
pub const HEADER_RUN_ID: &str = "skep-run-id";
/// Header that tells the agent which attempt of the call this is, counted from 1.
pub const HEADER_ATTEMPT: &str = "skep-attempt";
/// Header that carries an API key when `Authorization` is meant for the agent.
pub const HEADER_API_KEY: &str = "skep-api-key";
/// Header that says which workspace is meant, for who belongs to several.
pub const HEADER_WORKSPACE: &str = "skep-workspace";
/// What the data is for that a request takes out.
pub const HEADER_PURPOSE: &str = "skep-purpose";
/// Header on an answer that was stored by an earlier call with the same idempotency key.
pub const HEADER_REPLAYED: &str = "idempotency-replayed";
/// Header with the idempotency key (IETF draft-ietf-httpapi-idempotency-key-header).
pub const HEADER_IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header with the id of the HTTP request, on every answer.
pub const HEADER_REQUEST_ID: &str = "skep-request-id";

/// Label with an agent's public keys for sealed messages, with commas between them; the first is taken.
pub const LABEL_MESSAGE_KEYS: &str = "message-keys";

/// A wire value as JSON. Wire types hold nothing that JSON cannot say.
#[must_use]
pub fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
