//! The service: runs begin and end in the units of their calls, and are looked at.

use skep_core::{CallId, RunId, ThreadId, Timestamp, Workspace};
use skep_protocols::Recorder;
use skep_protocols::adapt::Protocol;
use skep_protocols::agui::RunAgentInput;
use skep_store::{Db, Scope, StoreError};

use crate::rows::{self, Run, Status, Thread};

/// A run that is to begin.
#[derive(Debug, Clone)]
pub struct New {
    /// Its id.
    pub id: RunId,
    /// Who is asked.
    pub agent: String,
    /// The run in which its agent is asked by another.
    pub parent: Option<RunId>,
    /// What the agent speaks, by its word.
    pub protocol: &'static str,
    /// What is asked.
    pub input: RunAgentInput,
}

/// How the call of a run has ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// It has not: it is tried once more.
    Anew,
    /// Somebody stopped it.
    Cancelled,
    /// Without an answer.
    Without {
        /// A word for programs.
        code: &'a str,
        /// For people.
        message: &'a str,
    },
    /// By an answer, of which its recorder tells this ([`Recorder::summary`]).
    Said(&'a [u8]),
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this agent.
    pub agent: Option<String>,
    /// Of this thread.
    pub thread: Option<ThreadId>,
    /// That stand so.
    pub status: Option<Status>,
}

/// What goes wrong with runs.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// There is no such run or thread in this workspace.
    #[error("there is no such run")]
    NotFound,
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs and threads. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    db: Db,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runs")
    }
}

impl Runs {
    /// Those of a store.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self { db }
    }

    /// A run begins, in the unit that accepts its call. Its thread is the one of that name with that agent, or a new one.
    ///
    /// # Errors
    /// The store's own; then the call is not accepted either.
    pub fn begin(
        scope: &mut Scope<'_>,
        new: &New,
        (call, now): (CallId, Timestamp),
    ) -> Result<(), StoreError> {
        rows::insert(scope, new, (call, now))
    }

    /// The call of a run has ended, or begins anew: in that unit.
    ///
    /// # Errors
    /// The store's own; then the call has not ended either.
    pub fn turned(
        scope: &mut Scope<'_>,
        id: RunId,
        ended: &Ended<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        rows::turned(scope, id, ended, now)
    }

    /// What records the answer to an attempt, of such a status and content type.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn recorder(
        &self,
        workspace: &Workspace,
        id: RunId,
        (attempt, status, content_type): (u32, u16, &str),
    ) -> Result<Recorder, RunsError> {
        let (input, protocol) = self.asked(workspace, id).await?;
        Ok(Recorder::new(
            protocol,
            &input,
            (attempt, status, content_type),
        ))
    }

    /// What was asked in a run, and what its agent speaks.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn asked(
        &self,
        workspace: &Workspace,
        id: RunId,
    ) -> Result<(RunAgentInput, Protocol), RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::asked(&mut reader.scope(&of), id));
        let found: Option<(RunAgentInput, String)> = read.await?;
        let (input, word) = found.ok_or(RunsError::NotFound)?;
        let unknown = || StoreError::Statement(format!("`{word}` is nothing that agents speak"));
        let protocol = Protocol::of(&word).ok_or_else(unknown)?;
        Ok((input, protocol))
    }

    /// One run.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn show(&self, workspace: &Workspace, id: RunId) -> Result<Run, RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::find(&mut reader.scope(&of), id));
        let found: Option<Run> = read.await?;
        found.ok_or(RunsError::NotFound)
    }

    /// The run that a call carries.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn of_call(&self, workspace: &Workspace, call: CallId) -> Result<Run, RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::of_call(&mut reader.scope(&of), call));
        let found: Option<Run> = read.await?;
        found.ok_or(RunsError::NotFound)
    }

    /// Runs, the newest first, from before one of them.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(
        &self,
        workspace: &Workspace,
        filter: Filter,
        (before, most): (Option<RunId>, u32),
    ) -> Result<Vec<Run>, StoreError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::list(&mut reader.scope(&of), &filter, (before, most)));
        read.await
    }

    /// Threads, those that changed last first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn threads(
        &self,
        workspace: &Workspace,
        agent: Option<String>,
        most: u32,
    ) -> Result<Vec<Thread>, StoreError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::threads(&mut reader.scope(&of), agent.as_deref(), most));
        read.await
    }

    /// What a thread has come to: its messages and its state, as JSON; nothing where nothing was said.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn kept(
        &self,
        workspace: &Workspace,
        id: ThreadId,
    ) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::kept(&mut reader.scope(&of), id));
        let found: Option<(Option<Vec<u8>>, Option<Vec<u8>>)> = read.await?;
        found.ok_or(RunsError::NotFound)
    }
}
