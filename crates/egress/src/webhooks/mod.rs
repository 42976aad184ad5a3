//! Outgoing webhooks after the Standard Webhooks specification: endpoints of a workspace are told what happened there, signed,
//! at least once, again and again until they have it. What happened comes from [`Feed`]s in the order in which it was
//! committed; a message is a row in the unit that moves the feed's cursor. What becomes of a message and of its endpoint
//! is decided by `life`, without I/O.

mod deliver;
mod endpoint;
mod error;
mod feed;
mod life;
#[cfg(test)]
mod life_tests;
mod once;
mod rows;
mod service;
#[cfg(test)]
mod service_tests;
mod sign;
mod upstream;

pub use endpoint::{Endpoint, Health, New, Off, Selection};
pub use error::WebhookError;
pub use feed::{Feed, Told};
pub use life::{Schedule, State};
pub use once::{Fate, Tried};
pub use rows::{MIGRATIONS, Message};
pub use service::{Notice, Options, Query, Secrets, TEST, Webhooks};
pub use sign::Key;
