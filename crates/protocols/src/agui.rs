//! AG-UI 1.0, the inner form of a run: its events, the order that they keep, and what they come to.

mod bounds;
mod entities;
mod event;
mod fold;
mod input;
mod message;
mod older;
mod order;
mod patch;
mod run;
mod shape;

pub use event::{Body, Encrypted, Event, ReasoningRole, Role, SubagentOutcome, TokenUsage};
pub use fold::{Fold, MOST_KEPT, NotFolded};
pub use input::{Context, Interrupt, Outcome, ResumeEntry, ResumeStatus, RunAgentInput, Tool};
pub use message::{
    Content, Function, FunctionCall, Media, Message, Object, Part, Said, Source, ToolCall,
};
pub use order::{
    End, INCOMPLETE, MALFORMED, MOST_ENTITIES, MOST_EVENT, MOST_ID, MOST_MESSAGE, MOST_NAME,
    MOST_OPEN, Order, TOO_MUCH, plain,
};
pub use patch::{Inapplicable, MOST_OPERATIONS, Operation, apply, weight};
pub use run::Run;
pub use shape::Malformed;
pub(crate) use shape::is_type;

/// The version of the protocol.
pub const PROTOCOL_VERSION: &str = "1.0";
