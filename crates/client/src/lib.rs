//! The Rust SDK: a typed client of the public API and of the agents behind it.
//!
//! ```no_run
//! # async fn example() -> Result<(), skep_client::ClientError> {
//! let client = skep_client::Client::new("http://127.0.0.1:7537", Some("skep_…"))?;
//! let request = skep_client::CallRequest::post("hello", "/greet", r#"{"name":"you"}"#);
//! let patience = skep_client::Patience::default();
//! let answer = client.call_through(request, &patience).await?.bytes().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Types of the wire live in `skep-api`. [`Client::call_through`] and [`Client::response_through`]
//! get an answer through lost connections and restarts of the server. Nothing else here tries again
//! by itself: what is safe to try again is the caller's to know.

mod audit;
mod body;
mod calls;
mod carried;
mod client;
mod compliance;
mod error;
mod exec;
mod keys;
mod mcp;
mod models;
mod patience;
mod people;
mod pinned;
mod policy;
mod prompts;
mod request;
mod response;
mod runs;
mod secrets;
mod security;
mod servers;
mod splice;
mod through;
#[cfg(test)]
mod through_tests;
mod transport;
mod web;
mod webhooks;

pub use audit::AuditQuery;
pub use body::RequestBody;
pub use client::{Client, ClientBuilder, Deployed};
pub use error::ClientError;
pub use exec::{ExecReceiver, ExecSender, Heard};
pub use patience::Patience;
pub use request::{CallRequest, CallsQuery, EventsQuery, LogsQuery, PageQuery};
pub use response::{Answer, Events, Logs, RunEvent, RunEvents};
pub use runs::RunsQuery;
pub use secrets::SecretsQuery;
pub use security::DetectionQuery;
