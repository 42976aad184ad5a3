//! Agents and what keeps them running.
//!
//! - [`Runtime`]: deploys specifications as revisions, supervises an instance of each agent that
//!   should run, adopts instances that outlived the server, tells where calls can go
//!   ([`Target`]).
//! - [`Driver`]: what runs instances; [`ProcessDriver`] runs them as local processes below a shim
//!   ([`shim_main`]). Heavier drivers are crates of their own; [`conformance`] holds them to the
//!   contract.
//! - The supervisor's decisions are a pure machine; tasks, probes and tables are a shell round it.
//!
//! What does not live here: calls and how they are treated, HTTP routes, what an agent may do.

mod adopt;
mod agents;
mod driver;
mod error;
mod events;
mod exec;
mod find;
mod fleet;
mod held;
mod layers;
mod lend;
pub mod logfile;
mod logs;
mod mint;
mod port;
mod probe;
mod process;
mod quota;
mod scale;
mod service;
mod share;
mod slot;
mod spec;
mod supervise;
mod supervisor;
mod target;
mod transfer;
mod usage;
mod words;

#[doc(hidden)]
pub mod conformance;
pub mod folder;

pub use agents::{Desired, Revision};
pub use driver::{
    Condition, Door, Driver, DriverError, Exit, Inspection, LogLine, LogSource, LogStream, News,
    Place, Protection, Running, Sockets, StartRequest, Tell, Traffic,
};
pub use error::RuntimeError;
pub use events::{EVENT_MIGRATIONS, Event, EventQuery, Keep};
pub use exec::{ExecOrder, Executing, Execution, Room, Terminal};
pub use find::AgentQuery;
pub use layers::{Layers, MOST_LAYER};
pub use lend::{Lender, Lent, NotLent};
pub use logfile::Rotation;
pub use logs::LogQuery;
pub use mint::{Mint, Proxy, Ways};
pub use process::{ProcessDriver, ProcessOptions, shim_main, survey};
pub use quota::{Allowance, Quotas};
pub use service::{AgentSnapshot, Deployed, Options, RolloutOrder, Runtime};
pub use slot::{AgentInfo, InstanceInfo, Probed};
pub use spec::{
    Connect, Gpus, Health, HostPort, Image, Limits, Named, PROTOCOLS, PortRange, Pull, Restart,
    Rollout, Sandbox, Scale, Spec, Use, Volume, VolumeSource, named,
};
pub use target::{Availability, Endpoint, Split, Target};
pub use transfer::{DataFolders, place_layers};
pub use usage::{AgentUsage, InstanceUsage};
