//! Tests of the crate: what holds of any sequence of events, and samples of what agents answer.

mod a2a;
mod adapt;
mod checker;
mod events;
mod fold;
mod openai;
mod order;
mod patch;
mod random;
mod view;
