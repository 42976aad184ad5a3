//! An agent as a model of `OpenAI`'s: what a client asks for in a chat completion or a response
//! (`https://platform.openai.com/docs/api-reference`) becomes a [`RunAgentInput`](crate::agui::RunAgentInput), and what it is
//! answered is made of the events that every follower of the run is shown.
//!
//! The way of a request: [`model`] tells whether an agent is meant, [`Asked::chat`] and [`Asked::response`] read it,
//! [`Asked::input`] makes a run of it. [`Teller`] is fed with what [`View`](crate::View) shows, and gives the frames of a stream,
//! or the [whole](Teller::whole) answer.
//!
//! | of the run | chat completion | response |
//! |---|---|---|
//! | texts of the agent | the content; several are paragraphs | messages |
//! | a result, where nothing was said | the content, as JSON | a message, as JSON |
//! | thoughts | `reasoning_content` | reasoning items |
//! | calls of the client's tools | `tool_calls` | function calls |
//! | calls of the agent's own tools, state, steps | nothing: they are the agent's own affair | nothing |
//! | interrupts | what is asked, as content; `interrupts` | a message; `interrupts` |
//! | an error | an error | a response that failed |
//!
//! What was said cannot be taken back here. When an attempt was cut after it spoke, the next one is told from where it says more;
//! one that says something else ends the stream with [`CHANGED`], and the run goes on.

mod ask;
mod output;
mod tell;
mod write;

pub use ask::{Asked, Before, Invalid, model};
pub use tell::{CHANGED, Form, Head, Teller};

/// What the name of a model begins with that is an agent.
pub const PREFIX: &str = "agent/";
