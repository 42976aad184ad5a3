//! The second door: what agents ask of models and tools goes through here. Who they are was found out and what they may was
//! decided elsewhere; here the provider's key is put in, money is set aside and counted, and each exchange is told.
//! Nothing of routes, people or policies.

mod error;
mod forecast;
mod headers;
pub mod ledger;
mod links;
pub mod llm;
pub mod mcp;
mod money;
mod performance;
mod recordings;
mod rows;
mod scrub;
mod upstream;
pub mod web;
pub mod webhooks;

pub use error::EgressError;
pub use forecast::Forecast;
pub use ledger::Ledger;
pub use money::{Money, NoMoney};
pub use performance::Performance;
pub use recordings::{Content, Recorded, Safe, Which};
pub use rows::{Day, DayFilter, MIGRATIONS, Usage};
pub use scrub::{Forms, Scrub};
