//! The call door: a call is durable before the agent sees it, runs under a lease, and is settled
//! by compare-and-set; what fails is tried again, what cannot be answered waits as a dead letter.
//!
//! [`Ingress`] is the service. [`life`] is the pure machine of a call's life; `journal` has every
//! statement; `lane` decides who may go next; `attempt` runs one attempt; `pass` lets through what
//! is not journaled. The door knows agents only through [`Agents`], and nothing of HTTP routes or
//! of who is asking: the composition root does.

mod agents;
mod attempt;
mod body;
mod cache;
mod call;
mod error;
mod headers;
mod hours;
mod journal;
mod lane;
pub mod life;
#[cfg(test)]
mod life_tests;
mod listing;
mod live;
mod manage;
mod metrics;
mod pass;
mod payload;
mod policy;
mod pool;
mod prefer;
mod quota;
mod recording;
mod router;
mod run;
mod runs;
mod schema;
mod service;
mod spans;
mod sse;
mod sweep;
mod window;

pub use agents::{
    Agent, Agents, Availability, Connecting, Endpoint, Head, Shape, Shaping, Split, Turn,
};
pub use body::{Body, BodyError};
pub use call::Also;
pub use error::IngressError;
pub use headers::{strip_hop_by_hop, wants_upgrade};
pub use hours::{HOUR_MIGRATIONS, Hour};
pub use lane::Visit;
pub use listing::Filter;
pub use manage::Response as StoredResponse;
pub use metrics::Metrics;
pub use policy::{CallPolicy, Durability};
pub use prefer::wants_receipt;
pub use quota::{CallQuota, CallQuotas, Over};
pub use runs::{Begun, Follow, Order, Told};
pub use schema::MIGRATIONS;
pub use service::{Context, Ingress, Limits, Load, Retention};
pub use spans::{AttemptSpan, Beginning, Ending, Spans};
pub use sweep::Whereabouts;
pub use window::Pace;
