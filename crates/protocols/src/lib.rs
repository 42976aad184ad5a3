//! What is said with agents, whatever they speak. AG-UI 1.0 is the inner form: what an agent answers is translated into its
//! events as it passes, put in order, and recorded; everything else is a view of that. Pure: bytes and ids go in, events and
//! bytes come out. No I/O, no clock, no randomness.

pub mod adapt;
pub mod agui;
pub mod stream;

#[cfg(test)]
mod tests;
