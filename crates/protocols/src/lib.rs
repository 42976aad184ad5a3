//! What is said with agents, whatever they speak. AG-UI 1.0 is the inner form: what an agent answers is translated into its
//! events as it passes, put in order, and recorded; everything else is a view of that. Pure: bytes and ids go in, events and
//! bytes come out. No I/O, no clock, no randomness.

pub mod adapt;
pub mod agui;
mod record;
pub mod stream;
mod view;

pub use record::{EventId, Recorder};
pub use view::{Shown, Unseen, View};

#[cfg(test)]
mod tests;
