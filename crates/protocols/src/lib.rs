//! What is said with agents, whatever they speak. AG-UI 1.0 is the inner form: what an agent answers is translated into its
//! events as it passes, put in order, and recorded; everything else is a view of that. Pure: bytes and ids go in, events and
//! bytes come out. No I/O, no clock, no randomness.
//!
//! The way of a run: [`agui::RunAgentInput`] is what a client asks, [`adapt::ask()`] what its agent is asked;
//! [`adapt::Adapter`] makes events of the bytes that come back, [`agui::Run`] a right sequence of them, and
//! [`stream::frame`] bytes again. Who comes late is sent [`agui::Fold::snapshot`], then what follows.
//! [`a2a`] is the same run for clients that speak A2A, [`openai`] for those who take an agent for a model.

pub mod a2a;
pub mod adapt;
pub mod agui;
mod fields;
pub mod openai;
mod record;
pub mod stream;
mod view;

pub use record::{EventId, Recorder};
pub use view::{Shown, Unseen, View};

#[cfg(test)]
mod tests;
