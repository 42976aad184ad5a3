//! The Rust SDK: a typed client of the public API and of the agents behind it.
//!
//! ```no_run
//! # async fn example() -> Result<(), skep_client::ClientError> {
//! let client = skep_client::Client::new("http://127.0.0.1:7537", Some("skep_…"))?;
//! let request = skep_client::CallRequest::post("hello", "/greet", r#"{"name":"you"}"#);
//! let answer = client.call(request).await?.bytes().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Types of the wire live in `skep-api`. Nothing here tries again by itself: what is safe to try
//! again is the caller's to know (with an idempotency key, everything is).

mod body;
mod client;
mod error;
mod request;
mod response;
mod transport;

pub use body::RequestBody;
pub use client::{Client, ClientBuilder, Deployed};
pub use error::ClientError;
pub use request::{CallRequest, CallsQuery, LogsQuery, PageQuery};
pub use response::{Answer, Logs};
