//! The tables of runs and threads.

use serde::Deserialize;
use serde_json::value::RawValue;
use skep_core::{CallId, RunId, ThreadId, Timestamp};
use skep_protocols::agui::{Interrupt, RunAgentInput, TokenUsage};
use skep_store::{Migration, MigrationSet, Param, Row, Scope, StoreError};

use crate::service::{Ended, Filter, New};

/// The tables, to be given to `Db::open`.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "runs",
    migrations: &[Migration {
        name: "0001-runs",
        sql: "
            CREATE TABLE threads (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                agent TEXT NOT NULL,
                -- What its clients call it.
                name TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                changed_at BIGINT NOT NULL,
                -- The run that ended last, and what it came to: JSON.
                run BLOB,
                messages BLOB,
                state BLOB,
                PRIMARY KEY (workspace, id)
            );
            CREATE UNIQUE INDEX threads_by_name ON threads (workspace, agent, name);
            CREATE INDEX threads_by_change ON threads (workspace, changed_at);
            CREATE TABLE runs (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                thread BLOB NOT NULL,
                agent TEXT NOT NULL,
                call BLOB NOT NULL,
                -- What its client calls it.
                name TEXT NOT NULL,
                parent BLOB,
                protocol TEXT NOT NULL,
                status TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                ended_at BIGINT,
                code TEXT,
                message TEXT,
                -- JSON.
                interrupts BLOB,
                usage BLOB,
                input BLOB NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX runs_by_thread ON runs (workspace, thread, id);
            CREATE INDEX runs_by_agent ON runs (workspace, agent, id);
            CREATE INDEX runs_by_call ON runs (workspace, call);
        ",
    }],
    workspace_tables: &["threads", "runs"],
};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is under way, or waits for its agent.
    Running,
    /// Its agent is done.
    Finished,
    /// It waits for answers, which the next run of its thread brings.
    Interrupted,
    /// It came to nothing.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Finished,
        Self::Interrupted,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// A run, without what was said in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The conversation that it belongs to.
    pub thread: ThreadId,
    /// Who was asked.
    pub agent: String,
    /// The call that carries it.
    pub call: CallId,
    /// What its client calls it.
    pub name: String,
    /// The run in which its agent was asked by another.
    pub parent: Option<RunId>,
    /// What the agent speaks.
    pub protocol: String,
    /// How it stands.
    pub status: Status,
    /// When it began.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What went wrong: a word for programs, and one for people.
    pub error: Option<(String, String)>,
    /// What it waits for.
    pub interrupts: Vec<Interrupt>,
    /// What models used, as the agent says.
    pub usage: Vec<TokenUsage>,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Thread {
    /// Its id.
    pub id: ThreadId,
    /// With whom.
    pub agent: String,
    /// What its clients call it.
    pub name: String,
    /// When it began.
    pub created: Timestamp,
    /// When its last run ended, or it began.
    pub changed: Timestamp,
    /// The run that ended last.
    pub run: Option<RunId>,
}

fn odd(what: &str) -> StoreError {
    StoreError::Statement(format!("{what} of a run cannot be read"))
}

/// What stands as JSON; nothing where nothing does.
fn json<T: for<'de> Deserialize<'de> + Default>(
    row: &Row,
    column: usize,
    what: &str,
) -> Result<T, StoreError> {
    match row.opt_blob(column)? {
        None => Ok(T::default()),
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| odd(what)),
    }
}

fn opt_run(row: &Row, column: usize) -> Result<Option<RunId>, StoreError> {
    match row.opt_blob(column)? {
        None => Ok(None),
        Some(_) => Ok(Some(RunId::from_bytes(row.bytes(column)?))),
    }
}

fn run(row: &Row) -> Result<Run, StoreError> {
    let error = row.opt_text(10)?.zip(row.opt_text(11)?);
    Ok(Run {
        id: RunId::from_bytes(row.bytes(0)?),
        thread: ThreadId::from_bytes(row.bytes(1)?),
        agent: row.text(2)?.to_owned(),
        call: CallId::from_bytes(row.bytes(3)?),
        name: row.text(4)?.to_owned(),
        parent: opt_run(row, 5)?,
        protocol: row.text(6)?.to_owned(),
        status: Status::of(row.text(7)?).ok_or_else(|| odd("the status"))?,
        created: row.time(8)?,
        ended: row.opt_time(9)?,
        error: error.map(|(code, message)| (code.to_owned(), message.to_owned())),
        interrupts: json(row, 12, "the interrupts")?,
        usage: json(row, 13, "the usage")?,
    })
}

fn thread(row: &Row) -> Result<Thread, StoreError> {
    Ok(Thread {
        id: ThreadId::from_bytes(row.bytes(0)?),
        agent: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        created: row.time(3)?,
        changed: row.time(4)?,
        run: opt_run(row, 5)?,
    })
}

/// The thread of a name; a new one, when there is none.
fn thread_of(
    scope: &mut Scope<'_>,
    (agent, name): (&str, &str),
    now: Timestamp,
) -> Result<ThreadId, StoreError> {
    let found = scope.query_opt(
        "SELECT id FROM threads WHERE workspace = ?1 AND agent = ?2 AND name = ?3",
        &[agent.into(), name.into()],
    )?;
    if let Some(row) = found {
        return row.bytes(0).map(ThreadId::from_bytes);
    }
    let id = ThreadId::new();
    scope.execute(
        "INSERT INTO threads (workspace, id, agent, name, created_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        &[id.as_bytes().into(), agent.into(), name.into(), now.into()],
    )?;
    Ok(id)
}

/// A run begins: in the unit that accepts its call.
pub(crate) fn insert(
    scope: &mut Scope<'_>,
    new: &New,
    (call, now): (CallId, Timestamp),
) -> Result<(), StoreError> {
    let input = &new.input;
    let thread = thread_of(scope, (&new.agent, &input.thread_id), now)?;
    let bytes = serde_json::to_vec(input).map_err(|_| odd("the request"))?;
    scope.execute(
        "INSERT INTO runs (workspace, id, thread, agent, call, name, parent, protocol, status, created_at, input) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        &[
            new.id.as_bytes().into(),
            thread.as_bytes().into(),
            (&new.agent).into(),
            call.as_bytes().into(),
            (&input.run_id).into(),
            new.parent.as_ref().map(RunId::as_bytes).into(),
            new.protocol.into(),
            Status::Running.as_str().into(),
            now.into(),
            bytes.as_slice().into(),
        ],
    )?;
    Ok(())
}

/// What a recorder tells of a run that has ended, as it is kept.
#[derive(Deserialize)]
struct Summary<'a> {
    #[serde(borrow)]
    messages: &'a RawValue,
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(default)]
    interrupts: Vec<Interrupt>,
    #[serde(default)]
    usage: Vec<TokenUsage>,
    #[serde(default)]
    cancelled: bool,
    #[serde(default)]
    error: Option<(String, String)>,
}

/// A run's call has ended, or begins anew: in that unit.
pub(crate) fn turned(
    scope: &mut Scope<'_>,
    id: RunId,
    ended: &Ended<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (status, summary, error) = match ended {
        Ended::Anew => (Status::Running, None, None),
        Ended::Cancelled => (Status::Cancelled, None, None),
        Ended::Without { code, message } => {
            let error = ((*code).to_owned(), (*message).to_owned());
            (Status::Failed, None, Some(error))
        }
        Ended::Said(bytes) => {
            let summary: Summary<'_> =
                serde_json::from_slice(bytes).map_err(|_| odd("the summary"))?;
            let status = match &summary {
                it if it.error.is_some() => Status::Failed,
                it if it.cancelled => Status::Cancelled,
                it if !it.interrupts.is_empty() => Status::Interrupted,
                _ => Status::Finished,
            };
            let error = summary.error.clone();
            (status, Some(summary), error)
        }
    };
    let list = |all: Result<Vec<u8>, serde_json::Error>| all.map_err(|_| odd("the end"));
    let parts = match &summary {
        None => None,
        Some(it) => Some((
            list(serde_json::to_vec(&it.interrupts))?,
            list(serde_json::to_vec(&it.usage))?,
        )),
    };
    let (code, message) = error.map_or((None, None), |(code, message)| (Some(code), Some(message)));
    let is_over = status != Status::Running;
    scope.execute(
        "UPDATE runs SET status = ?3, ended_at = ?4, code = ?5, message = ?6, interrupts = ?7, usage = ?8 \
         WHERE workspace = ?1 AND id = ?2",
        &[
            id.as_bytes().into(),
            status.as_str().into(),
            is_over.then_some(now).into(),
            code.as_deref().into(),
            message.as_deref().into(),
            parts.as_ref().map(|(it, _)| it.as_slice()).into(),
            parts.as_ref().map(|(_, it)| it.as_slice()).into(),
        ],
    )?;
    match summary {
        // What failed half-way is no part of the conversation.
        Some(summary) if status != Status::Failed => come_to(scope, id, &summary, now),
        _ => Ok(()),
    }
}

/// The thread of a run is what the run came to.
fn come_to(
    scope: &mut Scope<'_>,
    id: RunId,
    summary: &Summary<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let state = summary.state.map(|it| it.get().as_bytes());
    scope.execute(
        "UPDATE threads SET run = ?2, messages = ?3, state = ?4, changed_at = ?5 \
         WHERE workspace = ?1 AND id = (SELECT thread FROM runs WHERE workspace = ?1 AND id = ?2)",
        &[
            id.as_bytes().into(),
            summary.messages.get().as_bytes().into(),
            state.into(),
            now.into(),
        ],
    )?;
    Ok(())
}

pub(crate) fn find(scope: &mut Scope<'_>, id: RunId) -> Result<Option<Run>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage \
         FROM runs WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.as_ref().map(run).transpose()
}

/// The run that a call carries.
pub(crate) fn of_call(scope: &mut Scope<'_>, call: CallId) -> Result<Option<Run>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage \
         FROM runs WHERE workspace = ?1 AND call = ?2",
        &[call.as_bytes().into()],
    )?;
    row.as_ref().map(run).transpose()
}

/// What was asked in a run, and what its agent speaks.
pub(crate) fn asked(
    scope: &mut Scope<'_>,
    id: RunId,
) -> Result<Option<(RunAgentInput, String)>, StoreError> {
    let row = scope.query_opt(
        "SELECT input, protocol FROM runs WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    let Some(row) = row else {
        return Ok(None);
    };
    let input = serde_json::from_slice(row.blob(0)?).map_err(|_| odd("the request"))?;
    Ok(Some((input, row.text(1)?.to_owned())))
}

/// Runs, the newest first, from before one of them.
pub(crate) fn list(
    scope: &mut Scope<'_>,
    filter: &Filter,
    (before, most): (Option<RunId>, u32),
) -> Result<Vec<Run>, StoreError> {
    let before = before.map_or([0xff; 16], |it| *it.as_bytes());
    let status = filter.status.map_or(Param::Null, |it| it.as_str().into());
    let agent = filter.agent.as_deref().map_or(Param::Null, Param::from);
    let of = filter.thread.as_ref().map(ThreadId::as_bytes);
    let rows = scope.query(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage \
         FROM runs WHERE workspace = ?1 AND id < ?2 AND (CAST(?3 AS TEXT) IS NULL OR agent = ?3) \
         AND (CAST(?4 AS TEXT) IS NULL OR status = ?4) AND (?5 IS NULL OR thread = ?5) ORDER BY id DESC LIMIT ?6",
        &[(&before).into(), agent, status, of.into(), most.into()],
    )?;
    rows.iter().map(run).collect()
}

/// Threads, those that changed last first.
pub(crate) fn threads(
    scope: &mut Scope<'_>,
    agent: Option<&str>,
    most: u32,
) -> Result<Vec<Thread>, StoreError> {
    let agent = agent.map_or(Param::Null, Param::from);
    let rows = scope.query(
        "SELECT id, agent, name, created_at, changed_at, run FROM threads WHERE workspace = ?1 \
         AND (CAST(?2 AS TEXT) IS NULL OR agent = ?2) ORDER BY changed_at DESC LIMIT ?3",
        &[agent, most.into()],
    )?;
    rows.iter().map(thread).collect()
}

/// What a thread has come to: its messages and its state, as JSON.
pub(crate) fn kept(
    scope: &mut Scope<'_>,
    id: ThreadId,
) -> Result<Option<(Option<Vec<u8>>, Option<Vec<u8>>)>, StoreError> {
    let row = scope.query_opt(
        "SELECT messages, state FROM threads WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.map(|row| {
        let bytes = |column| Ok::<_, StoreError>(row.opt_blob(column)?.map(<[u8]>::to_vec));
        Ok((bytes(0)?, bytes(1)?))
    })
    .transpose()
}
