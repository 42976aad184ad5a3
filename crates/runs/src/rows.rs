//! The tables of runs and threads.

use serde::Deserialize;
use serde_json::value::RawValue;
use skep_api::RunStatus;
use skep_core::{CallId, RunId, ThreadId, Timestamp};
use skep_protocols::agui::{Interrupt, RunAgentInput, TokenUsage};
use skep_store::{Migration, MigrationSet, Param, Row, Scope, StoreError};

use crate::service::{Ended, Filter, Fork, New, Tasks};

/// The tables, to be given to `Db::open`.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "runs",
    migrations: &[RUNS, PUSHES],
    workspace_tables: &["threads", "runs", "pushes"],
};

const RUNS: Migration = Migration {
    name: "0001-runs",
    sql: "
            CREATE TABLE threads (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                agent TEXT NOT NULL,
                -- Who talks: a principal.
                whose TEXT NOT NULL,
                -- What they call it.
                name TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                changed_at BIGINT NOT NULL,
                -- The run that it has come to.
                run BLOB,
                -- What it was forked with, from within a run: JSON.
                messages BLOB,
                state BLOB,
                PRIMARY KEY (workspace, id)
            );
            CREATE UNIQUE INDEX threads_by_name ON threads (workspace, agent, whose, name);
            CREATE INDEX threads_by_change ON threads (workspace, changed_at, id);
            CREATE INDEX threads_by_run ON threads (workspace, run);
            CREATE TABLE runs (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                thread BLOB NOT NULL,
                agent TEXT NOT NULL,
                whose TEXT NOT NULL,
                call BLOB NOT NULL,
                -- What its client calls it.
                name TEXT NOT NULL,
                parent BLOB,
                -- The first run of the task that this one goes on with.
                task BLOB,
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
                -- What the conversation and the state were when it ended.
                messages BLOB,
                state BLOB,
                result BLOB,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX runs_by_thread ON runs (workspace, thread, id);
            CREATE INDEX runs_by_agent ON runs (workspace, agent, id);
            CREATE INDEX runs_by_call ON runs (workspace, call);
            CREATE INDEX runs_by_name ON runs (workspace, agent, whose, name);
            CREATE INDEX runs_by_task ON runs (workspace, task);
            CREATE INDEX runs_by_parent ON runs (workspace, parent);
            CREATE INDEX runs_by_end ON runs (workspace, ended_at);
        ",
};

const PUSHES: Migration = Migration {
    name: "0002-pushes",
    sql: "
            CREATE TABLE pushes (
                workspace TEXT NOT NULL,
                -- The first run of the task.
                task BLOB NOT NULL,
                -- What its client calls it.
                id TEXT NOT NULL,
                version TEXT NOT NULL,
                url TEXT NOT NULL,
                scheme TEXT,
                -- Token and credentials, encrypted.
                sealed BLOB,
                -- How far it was told: a run, an event of it, so much of that, and whether its end.
                run BLOB NOT NULL,
                attempt BIGINT NOT NULL,
                place BIGINT NOT NULL,
                told BIGINT NOT NULL,
                ended BIGINT NOT NULL,
                made BLOB NOT NULL,
                tries BIGINT NOT NULL,
                state TEXT NOT NULL,
                due_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, task, id)
            );
            CREATE INDEX pushes_by_due ON pushes (workspace, state, due_at);
        ",
};

/// A run, without what was said in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The conversation that it belongs to.
    pub thread: ThreadId,
    /// Who was asked.
    pub agent: String,
    /// Who asked: a principal.
    pub whose: String,
    /// The call that carries it.
    pub call: CallId,
    /// What its client calls it.
    pub name: String,
    /// The run in which its agent was asked by another.
    pub parent: Option<RunId>,
    /// The first run of the task that this one goes on with; none, of the first itself.
    pub task: Option<RunId>,
    /// What the agent speaks.
    pub protocol: String,
    /// How it stands.
    pub status: RunStatus,
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
    /// Who talks: a principal.
    pub whose: String,
    /// What they call it.
    pub name: String,
    /// When it began.
    pub created: Timestamp,
    /// When its last run ended, or it began.
    pub changed: Timestamp,
    /// The run that it has come to.
    pub run: Option<RunId>,
}

/// What was said by some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The conversation, as JSON.
    pub messages: Option<Vec<u8>>,
    /// The state, as JSON.
    pub state: Option<Vec<u8>>,
    /// The result of the run, as JSON; of a thread there is none.
    pub result: Option<Vec<u8>>,
}

impl Kept {
    fn of(row: &Row, column: usize) -> Result<Self, StoreError> {
        let bytes = |at| Ok::<_, StoreError>(row.opt_blob(at)?.map(<[u8]>::to_vec));
        Ok(Self {
            messages: bytes(column)?,
            state: bytes(column + 1)?,
            result: None,
        })
    }
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
        status: RunStatus::parse(row.text(7)?).ok_or_else(|| odd("the status"))?,
        created: row.time(8)?,
        ended: row.opt_time(9)?,
        error: error.map(|(code, message)| (code.to_owned(), message.to_owned())),
        interrupts: json(row, 12, "the interrupts")?,
        usage: json(row, 13, "the usage")?,
        whose: row.text(14)?.to_owned(),
        task: opt_run(row, 15)?,
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
        whose: row.text(6)?.to_owned(),
    })
}

/// The thread of a name; a new one, when there is none.
fn thread_of(
    scope: &mut Scope<'_>,
    (agent, whose, name): (&str, &str, &str),
    now: Timestamp,
) -> Result<ThreadId, StoreError> {
    let found = scope.query_opt(
        "SELECT id FROM threads WHERE workspace = ?1 AND agent = ?2 AND whose = ?3 AND name = ?4",
        &[agent.into(), whose.into(), name.into()],
    )?;
    if let Some(row) = found {
        return row.bytes(0).map(ThreadId::from_bytes);
    }
    let id = ThreadId::new();
    scope.execute(
        "INSERT INTO threads (workspace, id, agent, whose, name, created_at, changed_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        &[
            id.as_bytes().into(),
            agent.into(),
            whose.into(),
            name.into(),
            now.into(),
        ],
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
    let thread = thread_of(scope, (&new.agent, &new.whose, &input.thread_id), now)?;
    let bytes = serde_json::to_vec(input).map_err(|_| odd("the request"))?;
    scope.execute(
        "INSERT INTO runs (workspace, id, thread, agent, call, name, parent, protocol, status, created_at, input, whose, task) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        &[
            new.id.as_bytes().into(),
            thread.as_bytes().into(),
            (&new.agent).into(),
            call.as_bytes().into(),
            (&input.run_id).into(),
            new.parent.as_ref().map(RunId::as_bytes).into(),
            new.protocol.into(),
            RunStatus::Running.as_str().into(),
            now.into(),
            bytes.as_slice().into(),
            (&new.whose).into(),
            new.task.as_ref().map(RunId::as_bytes).into(),
        ],
    )?;
    match &new.push {
        Some(push) => crate::pushes::put(scope, push, now),
        None => Ok(()),
    }
}

/// What a recorder tells of a run that has ended, as it is kept.
#[derive(Deserialize)]
struct Summary<'a> {
    #[serde(borrow)]
    messages: &'a RawValue,
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
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
        Ended::Anew => (RunStatus::Running, None, None),
        Ended::Cancelled => (RunStatus::Cancelled, None, None),
        Ended::Without { code, message } => {
            let error = ((*code).to_owned(), (*message).to_owned());
            (RunStatus::Failed, None, Some(error))
        }
        Ended::Said(bytes) => {
            let summary: Summary<'_> =
                serde_json::from_slice(bytes).map_err(|_| odd("the summary"))?;
            let status = match &summary {
                it if it.error.is_some() => RunStatus::Failed,
                it if it.cancelled => RunStatus::Cancelled,
                it if !it.interrupts.is_empty() => RunStatus::Interrupted,
                _ => RunStatus::Finished,
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
    let is_over = status != RunStatus::Running;
    let state = summary.as_ref().and_then(|it| it.state);
    let result = summary.as_ref().and_then(|it| it.result);
    scope.execute(
        "UPDATE runs SET status = ?3, ended_at = ?4, code = ?5, message = ?6, interrupts = ?7, usage = ?8, \
         messages = ?9, state = ?10, result = ?11 WHERE workspace = ?1 AND id = ?2",
        &[
            id.as_bytes().into(),
            status.as_str().into(),
            is_over.then_some(now).into(),
            code.as_deref().into(),
            message.as_deref().into(),
            parts.as_ref().map(|(it, _)| it.as_slice()).into(),
            parts.as_ref().map(|(_, it)| it.as_slice()).into(),
            summary
                .as_ref()
                .map(|it| it.messages.get().as_bytes())
                .into(),
            state.map(|it| it.get().as_bytes()).into(),
            result.map(|it| it.get().as_bytes()).into(),
        ],
    )?;
    // What failed half-way is no part of the conversation.
    if summary.is_some() && status != RunStatus::Failed {
        scope.execute(
            "UPDATE threads SET run = ?2, messages = NULL, state = NULL, changed_at = ?3 \
             WHERE workspace = ?1 AND id = (SELECT thread FROM runs WHERE workspace = ?1 AND id = ?2)",
            &[id.as_bytes().into(), now.into()],
        )?;
    }
    Ok(())
}

pub(crate) fn find(scope: &mut Scope<'_>, id: RunId) -> Result<Option<Run>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage, whose, task \
         FROM runs WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.as_ref().map(run).transpose()
}

/// The run that a call carries.
pub(crate) fn of_call(scope: &mut Scope<'_>, call: CallId) -> Result<Option<Run>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage, whose, task \
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
    let parent = filter.parent.as_ref().map(RunId::as_bytes);
    let rows = scope.query(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage, whose, task \
         FROM runs WHERE workspace = ?1 AND id < ?2 AND (CAST(?3 AS TEXT) IS NULL OR agent = ?3) \
         AND (CAST(?4 AS TEXT) IS NULL OR status = ?4) AND (?5 IS NULL OR thread = ?5) AND (?6 IS NULL OR parent = ?6) ORDER BY id DESC LIMIT ?7",
        &[
            (&before).into(),
            agent,
            status,
            of.into(),
            parent.into(),
            most.into(),
        ],
    )?;
    rows.iter().map(run).collect()
}

/// The runs of a task, the first one first.
pub(crate) fn task(scope: &mut Scope<'_>, id: RunId) -> Result<Vec<Run>, StoreError> {
    let rows = scope.query(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage, whose, task \
         FROM runs WHERE workspace = ?1 AND (task = ?2 OR (id = ?2 AND task IS NULL)) ORDER BY id",
        &[id.as_bytes().into()],
    )?;
    rows.iter().map(run).collect()
}

/// The run that somebody calls so.
pub(crate) fn run_named(
    scope: &mut Scope<'_>,
    (agent, whose, name): (&str, &str, &str),
) -> Result<Option<Run>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage, whose, task \
         FROM runs WHERE workspace = ?1 AND agent = ?2 AND whose = ?3 AND name = ?4 ORDER BY id LIMIT 1",
        &[agent.into(), whose.into(), name.into()],
    )?;
    row.as_ref().map(run).transpose()
}

/// The last runs of somebody's tasks with an agent, those that changed last first.
pub(crate) fn tasks(scope: &mut Scope<'_>, of: &Tasks) -> Result<Vec<Run>, StoreError> {
    let [one, two] = [0, 1].map(|at| of.statuses.get(at).map(|it| it.as_str()));
    let two = two.or(one);
    let (time, id) = of.before.map_or(
        (Timestamp::from_micros(i64::MAX), [0xff; 16]),
        |(time, id)| (time, *id.as_bytes()),
    );
    let rows = scope.query(
        "SELECT id, thread, agent, call, name, parent, protocol, status, created_at, ended_at, code, message, interrupts, usage, whose, task \
         FROM runs r WHERE workspace = ?1 AND agent = ?2 AND whose = ?3 \
         AND (CAST(?4 AS TEXT) IS NULL OR status = ?4 OR status = ?5) \
         AND (CAST(?6 AS TEXT) IS NULL OR thread IN (SELECT t.id FROM threads t WHERE t.workspace = ?1 AND t.name = ?6)) \
         AND COALESCE(ended_at, created_at) >= ?7 \
         AND (COALESCE(ended_at, created_at) < ?8 OR (COALESCE(ended_at, created_at) = ?8 AND id < ?9)) \
         AND NOT EXISTS (SELECT 1 FROM runs l WHERE l.workspace = ?1 AND l.task = COALESCE(r.task, r.id) AND l.id > r.id) \
         ORDER BY COALESCE(ended_at, created_at) DESC, id DESC LIMIT ?10",
        &[
            (&of.agent).into(),
            (&of.whose).into(),
            one.into(),
            two.into(),
            of.thread.as_deref().into(),
            of.since.into(),
            time.into(),
            (&id).into(),
            of.most.into(),
        ],
    )?;
    rows.iter().map(run).collect()
}

/// How many tasks there are, whatever page is asked for.
pub(crate) fn count_tasks(scope: &mut Scope<'_>, of: &Tasks) -> Result<u64, StoreError> {
    let [one, two] = [0, 1].map(|at| of.statuses.get(at).map(|it| it.as_str()));
    let two = two.or(one);
    let row = scope.query_opt(
        "SELECT COUNT(*) FROM runs r WHERE workspace = ?1 AND agent = ?2 AND whose = ?3 \
         AND (CAST(?4 AS TEXT) IS NULL OR status = ?4 OR status = ?5) \
         AND (CAST(?6 AS TEXT) IS NULL OR thread IN (SELECT t.id FROM threads t WHERE t.workspace = ?1 AND t.name = ?6)) \
         AND COALESCE(ended_at, created_at) >= ?7 \
         AND NOT EXISTS (SELECT 1 FROM runs l WHERE l.workspace = ?1 AND l.task = COALESCE(r.task, r.id) AND l.id > r.id)",
        &[
            (&of.agent).into(),
            (&of.whose).into(),
            one.into(),
            two.into(),
            of.thread.as_deref().into(),
            of.since.into(),
        ],
    )?;
    let count = row.map(|row| row.int(0)).transpose()?.unwrap_or(0);
    Ok(u64::try_from(count).unwrap_or(0))
}

/// What a run waits for is given up. False when it waits for nothing.
pub(crate) fn give_up(
    scope: &mut Scope<'_>,
    id: RunId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = scope.execute(
        "UPDATE runs SET status = 'cancelled', ended_at = ?3 WHERE workspace = ?1 AND id = ?2 AND status = 'interrupted'",
        &[id.as_bytes().into(), now.into()],
    )?;
    Ok(changed > 0)
}

/// Threads, the newest first, from before one of them.
pub(crate) fn threads(
    scope: &mut Scope<'_>,
    agent: Option<&str>,
    (before, most): (Option<ThreadId>, u32),
) -> Result<Vec<Thread>, StoreError> {
    let before = before.map_or([0xff; 16], |it| *it.as_bytes());
    let agent = agent.map_or(Param::Null, Param::from);
    let rows = scope.query(
        "SELECT id, agent, name, created_at, changed_at, run, whose FROM threads WHERE workspace = ?1 AND id < ?2 \
         AND (CAST(?3 AS TEXT) IS NULL OR agent = ?3) ORDER BY id DESC LIMIT ?4",
        &[(&before).into(), agent, most.into()],
    )?;
    rows.iter().map(thread).collect()
}

/// A thread, and what it has come to.
pub(crate) fn thread_with(
    scope: &mut Scope<'_>,
    id: ThreadId,
) -> Result<Option<(Thread, Kept)>, StoreError> {
    let row = scope.query_opt(
        "SELECT t.id, t.agent, t.name, t.created_at, t.changed_at, t.run, t.whose, \
         COALESCE(r.messages, t.messages), COALESCE(r.state, t.state) FROM threads t \
         LEFT JOIN runs r ON r.workspace = t.workspace AND r.id = t.run WHERE t.workspace = ?1 AND t.id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.map(|row| Ok((thread(&row)?, Kept::of(&row, 7)?)))
        .transpose()
}

/// The thread that somebody calls so.
pub(crate) fn named(
    scope: &mut Scope<'_>,
    (agent, whose, name): (&str, &str, &str),
) -> Result<Option<(Thread, Kept)>, StoreError> {
    let row = scope.query_opt(
        "SELECT id FROM threads WHERE workspace = ?1 AND agent = ?2 AND whose = ?3 AND name = ?4",
        &[agent.into(), whose.into(), name.into()],
    )?;
    let id = row.map(|row| row.bytes(0).map(ThreadId::from_bytes));
    id.transpose()?
        .map_or(Ok(None), |id| thread_with(scope, id))
}

/// What was said by the end of a run.
pub(crate) fn kept(scope: &mut Scope<'_>, id: RunId) -> Result<Option<Kept>, StoreError> {
    let row = scope.query_opt(
        "SELECT messages, state, result FROM runs WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.map(|row| {
        let result = row.opt_blob(2)?.map(<[u8]>::to_vec);
        let kept = Kept::of(&row, 0)?;
        Ok(Kept { result, ..kept })
    })
    .transpose()
}

/// A thread that begins with what another had come to. None when there is one of that name.
pub(crate) fn fork(
    scope: &mut Scope<'_>,
    fork: &Fork,
    now: Timestamp,
) -> Result<Option<ThreadId>, StoreError> {
    let id = ThreadId::new();
    let name = fork.name.clone().unwrap_or_else(|| id.to_string());
    let (messages, state) = (&fork.kept.messages, &fork.kept.state);
    let made = scope.execute(
        "INSERT INTO threads (workspace, id, agent, whose, name, created_at, changed_at, messages, state) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        &[
            id.as_bytes().into(),
            (&fork.agent).into(),
            (&fork.whose).into(),
            (&name).into(),
            now.into(),
            messages.as_deref().into(),
            state.as_deref().into(),
        ],
    )?;
    Ok((made > 0).then_some(id))
}

/// Forgets a thread with its runs. How many rows that were.
pub(crate) fn forget(scope: &mut Scope<'_>, id: ThreadId) -> Result<usize, StoreError> {
    let runs = scope.execute(
        "DELETE FROM runs WHERE workspace = ?1 AND thread = ?2",
        &[id.as_bytes().into()],
    )?;
    let threads = scope.execute(
        "DELETE FROM threads WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    crate::pushes::sweep(scope)?;
    Ok(runs + threads)
}

/// Whether a run of a thread is under way.
pub(crate) fn is_busy(scope: &mut Scope<'_>, id: ThreadId) -> Result<bool, StoreError> {
    let row = scope.query_opt(
        "SELECT 1 FROM runs WHERE workspace = ?1 AND thread = ?2 AND status = 'running' LIMIT 1",
        &[id.as_bytes().into()],
    )?;
    Ok(row.is_some())
}

/// Forgets runs that ended long ago but for what a thread has come to, and threads in which nothing happened for as long. How
/// many rows that were, of which there are `most` at once.
pub(crate) fn sweep(
    scope: &mut Scope<'_>,
    before: Timestamp,
    most: u32,
) -> Result<usize, StoreError> {
    let threads = scope.execute(
        "DELETE FROM threads WHERE workspace = ?1 AND id IN (SELECT t.id FROM threads t WHERE t.workspace = ?1 \
         AND t.changed_at < ?2 AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.workspace = ?1 AND r.thread = t.id \
         AND (r.ended_at IS NULL OR r.ended_at >= ?2)) ORDER BY t.changed_at LIMIT ?3)",
        &[before.into(), most.into()],
    )?;
    let runs = scope.execute(
        "DELETE FROM runs WHERE workspace = ?1 AND id IN (SELECT r.id FROM runs r WHERE r.workspace = ?1 \
         AND r.ended_at < ?2 AND NOT EXISTS (SELECT 1 FROM threads t WHERE t.workspace = ?1 AND t.run = r.id) \
         ORDER BY r.ended_at LIMIT ?3)",
        &[before.into(), most.into()],
    )?;
    crate::pushes::sweep(scope)?;
    Ok(threads + runs)
}
