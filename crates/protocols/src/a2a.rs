//! A2A 1.0 and 0.3: a run as a task. What clients ask becomes a [`RunAgentInput`](crate::agui::RunAgentInput), what they are shown is made of
//! the events that every follower of the run is shown.
//!
//! The way of a request over JSON-RPC: [`rpc::read`] gives a [`Request`] in the one inner form that both versions have, or the
//! refusal to be sent; over HTTP+JSON it is [`rest::read`]. [`Question::input`] makes a run of a message. [`TaskView`] is fed with
//! what [`View`](crate::View) shows and gives the [`StreamResponse`]s; [`Answer::wire`] writes what there is to say in the
//! words of a [`Form`], and [`rpc::result`] and [`rpc::error`] put it into an envelope. [`card`] makes the agent's card,
//! and signs it.
//!
//! | asked | what comes of it | answered |
//! |---|---|---|
//! | `SendMessage` | [`Question::input`], a run; [`TaskView::push`] until [`TaskView::is_over`], or at once | [`Answer::Event`] with [`TaskView::task`], [shown](Task::shown) |
//! | `SendStreamingMessage` | the same run | [`TaskView::begin`], then what `push` gives |
//! | `SubscribeToTask` | what is recorded is pushed first, and gives nothing | `begin`, then what `push` gives; [`Fault::UnsupportedOperation`] when the task has ended |
//! | `GetTask`, `ListTasks` | the same, or [`TaskView::settle`] with what is kept | [`Answer::Task`], [`Answer::Tasks`] |
//! | `CancelTask` | its call is cancelled | [`Answer::Task`]; [`Fault::TaskNotCancelable`] when it has ended |
//!
//! A task that waits goes on by another run of its thread: [`Task::goes_on`], then a view of that run. So one task may be several runs, and has
//! the artifacts of all.
//!
//! The types are our own and not those of `a2a-lf` 0.4: those read a part with two contents as one with the first, drop what is
//! of the wrong sort in silence, refuse `snake_case` and numbers as texts, which ProtoJSON allows, name no field in their errors,
//! know nothing of 0.3, and make ids and times by themselves. What is left of them is not much more than the names.

use crate::fields;

mod ask;
mod canonical;
pub mod card;
mod error;
mod method;
mod model;
mod older;
mod request;
pub mod rest;
pub mod rpc;
mod view;
mod wire;

pub use ask::Question;
pub use canonical::canonical;
pub use error::{Error, Fault};
pub use method::{Method, Version};
pub use model::{
    Artifact, ArtifactUpdate, Content, Message, Micros, Part, Role, StatusUpdate, StreamResponse,
    Task, TaskState, TaskStatus,
};
pub use request::{Authentication, ListTasks, MOST_PAGE, PAGE, PushConfig, Request, SendMessage};
pub(crate) use view::FILE;
pub use view::{REJECTED, TaskView};
pub use wire::{Answer, Form};
