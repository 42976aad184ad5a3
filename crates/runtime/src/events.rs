//! The log of events: what happened to agents, instances and calls, numbered in the order in which
//! it was committed. An event stands in the unit of work of the change that it reports; what changes
//! nothing that is stored (an instance gets ready) goes through a queue of its own.
//!
//! The number is taken in the unit, from a row that stays locked until the commit: who has read up
//! to one has missed none before it, also when several servers write.

use std::sync::Arc;
use std::time::Duration;

use skep_api::InstanceState;
use skep_core::{CallId, InstanceId, Timestamp, Workspace, Workspaces};
use skep_store::{Db, Migration, MigrationSet, Row, Scope, StoreError, Unit};
use tokio::sync::{mpsc, oneshot};

use crate::RuntimeError;
use crate::agents::{Desired, Revision, RolloutRow};
use crate::driver::Exit;
use crate::service::Runtime;

/// The tables of events, to be given to `Db::open`.
pub const EVENT_MIGRATIONS: MigrationSet = MigrationSet {
    component: "events",
    migrations: &[Migration {
        name: "0001-events",
        sql: "
            CREATE TABLE event_heads (
                workspace TEXT NOT NULL,
                number BIGINT NOT NULL,
                PRIMARY KEY (workspace)
            );
            CREATE TABLE events (
                workspace TEXT NOT NULL,
                number BIGINT NOT NULL,
                at BIGINT NOT NULL,
                kind TEXT NOT NULL,
                agent TEXT,
                instance BLOB,
                revision BIGINT,
                call BLOB,
                actor TEXT,
                detail TEXT NOT NULL,
                PRIMARY KEY (workspace, number)
            );
            CREATE TABLE event_marks (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                mark BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE INDEX events_by_agent ON events (workspace, agent, number);
            CREATE INDEX events_by_time ON events (workspace, at);
        ",
    }],
    workspace_tables: &["events", "event_heads", "event_marks"],
};

/// Events that wait to be written while the store cannot write; more are told in the log only.
const QUEUE: usize = 1_024;
/// Events of one unit.
const BATCH: usize = 64;
/// Time between two tries to write.
const AGAIN: Duration = Duration::from_secs(1);
/// How often old events are removed.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Time in which what waits is written when the runtime ends.
const FLUSH: Duration = Duration::from_secs(5);
/// Characters of a detail that are kept.
const MOST_DETAIL: usize = 1_000;
/// Events of one page.
const MOST_ROWS: u32 = 1_000;

/// How many events are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many of a workspace.
    pub count: u32,
    /// Those no older than this.
    pub age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            count: 10_000,
            age: Duration::from_secs(7 * 24 * 3_600),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Where it stands in the order of all; given when it is written.
    pub number: u64,
    /// When; given when it is written.
    pub at: Timestamp,
    /// What, such as `instance.ready`.
    pub kind: String,
    /// The agent that it is about.
    pub agent: Option<String>,
    /// The instance that it is about.
    pub instance: Option<InstanceId>,
    /// The revision that it is about.
    pub revision: Option<u32>,
    /// The call that it is about.
    pub call: Option<CallId>,
    /// Who did it, where that is known.
    pub by: Option<String>,
    /// The rest, in words.
    pub detail: String,
}

impl Event {
    /// An event about nothing in particular.
    #[must_use]
    pub fn new(kind: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            detail: detail.into(),
            ..Self::default()
        }
    }

    /// An event about an agent.
    #[must_use]
    pub fn of(agent: &str, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            agent: Some(agent.to_owned()),
            ..Self::new(kind, detail)
        }
    }

    /// About this instance.
    #[must_use]
    pub fn on(mut self, instance: InstanceId) -> Self {
        self.instance = Some(instance);
        self
    }

    /// About this revision.
    #[must_use]
    pub fn revision(mut self, revision: u32) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Writes it, with what else the unit changes.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn record(&self, scope: &mut Scope<'_>, now: Timestamp) -> Result<(), StoreError> {
        scope.in_turn()?;
        let row = scope.query_opt(
            "INSERT INTO event_heads (workspace, number) VALUES (?1, 1) \
             ON CONFLICT (workspace) DO UPDATE SET number = event_heads.number + 1 \
             RETURNING number",
            &[],
        )?;
        let number = row.map_or(Ok(1), |row| row.int(0))?;
        let detail: String = self.detail.chars().take(MOST_DETAIL).collect();
        scope.execute(
            "INSERT INTO events (workspace, number, at, kind, agent, instance, revision, call, \
             actor, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            &[
                number.into(),
                now.into(),
                self.kind.as_str().into(),
                self.agent.as_deref().into(),
                self.instance.as_ref().map(InstanceId::as_bytes).into(),
                self.revision.into(),
                self.call.as_ref().map(CallId::as_bytes).into(),
                self.by.as_deref().into(),
                detail.as_str().into(),
            ],
        )?;
        Ok(())
    }

    /// Writes it, unless the last one of this name had the same mark. Names are few: nobody takes them away.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn record_once(
        &self,
        scope: &mut Scope<'_>,
        (name, mark): (&str, i64),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        scope.in_turn()?;
        let new = scope.execute(
            "INSERT INTO event_marks (workspace, name, mark) VALUES (?1, ?2, ?3) \
             ON CONFLICT (workspace, name) DO UPDATE SET mark = excluded.mark \
             WHERE event_marks.mark <> excluded.mark",
            &[name.into(), mark.into()],
        )?;
        if new == 1 {
            self.record(scope, now)?;
        }
        Ok(new == 1)
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        let id = |column| -> Result<Option<[u8; 16]>, StoreError> {
            row.opt_blob(column)?.map(|_| row.bytes(column)).transpose()
        };
        let text = |column| row.opt_text(column).map(|text| text.map(str::to_owned));
        Ok(Self {
            number: u64::try_from(row.int(0)?).unwrap_or_default(),
            at: row.time(1)?,
            kind: row.text(2)?.to_owned(),
            agent: text(3)?,
            instance: id(4)?.map(InstanceId::from_bytes),
            revision: row.opt_int(5)?.and_then(|it| u32::try_from(it).ok()),
            call: id(6)?.map(CallId::from_bytes),
            by: text(7)?,
            detail: row.text(8)?.to_owned(),
        })
    }
}

impl From<&Event> for skep_api::Event {
    fn from(event: &Event) -> Self {
        Self {
            id: event.number.to_string(),
            time: event.at.to_string(),
            kind: event.kind.clone(),
            agent: event.agent.clone(),
            instance: event.instance.map(|instance| instance.to_string()),
            revision: event.revision,
            call: event.call.map(|call| call.to_string()),
            by: event.by.clone(),
            detail: event.detail.clone(),
        }
    }
}

/// A new revision was stored.
pub(crate) fn deployed(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    revision: &Revision,
) -> Result<(), StoreError> {
    let (now, number) = (unit.now(), revision.number);
    Event::of(&revision.spec.name, "agent.deployed", "")
        .revision(number)
        .record(&mut unit.scope(workspace), now)
}

/// What the owner wants was stored.
pub(crate) fn ordered(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    agent: &str,
    desired: Desired,
) -> Result<(), StoreError> {
    let kind = match desired {
        Desired::Running => "agent.started",
        Desired::Stopped => "agent.stopped",
    };
    let now = unit.now();
    Event::of(agent, kind, "by order").record(&mut unit.scope(workspace), now)
}

/// The rows of an agent were removed.
pub(crate) fn removed(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    agent: &str,
) -> Result<(), StoreError> {
    let now = unit.now();
    Event::of(agent, "agent.removed", "").record(&mut unit.scope(workspace), now)
}

/// The end of an instance was stored.
pub(crate) fn ended(
    scope: &mut Scope<'_>,
    agent: &str,
    instance: InstanceId,
    exit: &Exit,
    now: Timestamp,
) -> Result<(), StoreError> {
    let detail = match &exit.last_words {
        Some(words) => format!("{exit}: {words}"),
        None => exit.to_string(),
    };
    Event::of(agent, "instance.ended", detail)
        .on(instance)
        .record(scope, now)
}

/// What a change of a rollout is, in events.
pub(crate) fn of_rollout(agent: &str, before: &RolloutRow, after: &RolloutRow) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |kind: &str, detail: String| {
        events.push(Event::of(agent, kind, detail).revision(after.revision));
    };
    if let (Some(reason), true) = (&after.failed, before.failed != after.failed) {
        add("rollout.rolled_back", reason.clone());
    } else if after.stable == Some(after.revision) && before.stable != after.stable {
        add("rollout.promoted", String::new());
    } else if before.revision == after.revision && after.step > before.step {
        add("rollout.step", format!("step {} is behind it", after.step));
    }
    if after.paused != before.paused && before.revision == after.revision {
        add(
            if after.paused {
                "rollout.paused"
            } else {
                "rollout.resumed"
            },
            String::new(),
        );
    }
    events
}

/// What an instance's new state is, when it is worth an event of its own.
pub(crate) fn of_state(
    before: InstanceState,
    after: InstanceState,
    reason: Option<&str>,
) -> Option<(&'static str, String)> {
    use InstanceState as S;
    let reason = reason.unwrap_or_default().to_owned();
    match (before, after) {
        (before, after) if before == after => None,
        (_, S::Ready) => Some(("instance.ready", reason)),
        (S::Ready, S::Unready) => Some(("instance.unready", reason)),
        (_, S::Backoff) => Some(("instance.failed", reason)),
        (_, S::CrashLoop) => Some(("agent.crash_loop", reason)),
        _ => None,
    }
}

enum Message {
    Event(Workspace, Event),
    Flush(oneshot::Sender<()>),
}

/// Where events go that are in no other unit of work.
pub(crate) struct Log(mpsc::Sender<Message>);

impl Log {
    /// The log; its task ends with the last sender. Must be made in a runtime.
    pub(crate) fn open(db: Db, keep: Keep, workspaces: Workspaces) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write(db, keep, workspaces, receiver));
        Self(sender)
    }

    /// Adds an event. Does not wait.
    pub(crate) fn add(&self, workspace: &Workspace, event: Event) {
        if let Err(error) = self.0.try_send(Message::Event(workspace.clone(), event)) {
            let message = error.into_inner();
            if let Message::Event(_, Event { kind, agent, .. }) = message {
                tracing::warn!(kind, agent, "an event is not kept: the store takes none");
            }
        }
    }

    /// Waits until what was added is written, for a while.
    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.0.send(Message::Flush(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(FLUSH, flushed).await.is_err() {
            tracing::warn!("the last events are not kept");
        }
    }
}

async fn write(db: Db, keep: Keep, workspaces: Workspaces, mut queue: mpsc::Receiver<Message>) {
    let mut trims = tokio::time::interval(TRIM_EVERY);
    trims.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            count = queue.recv_many(&mut messages, BATCH) => if count == 0 { return },
            _ = trims.tick() => {
                trim(&db, keep, &workspaces.all()).await;
                continue;
            }
        }
        let (mut events, mut flushed) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Event(workspace, event) => events.push((workspace, event)),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let events: Arc<[_]> = events.into();
        while !events.is_empty() {
            let batch = events.clone();
            let written: Result<(), StoreError> = db
                .write(move |unit| {
                    let now = unit.now();
                    batch.iter().try_for_each(|(workspace, event)| {
                        event.record(&mut unit.scope(workspace), now)
                    })
                })
                .await;
            match written {
                Ok(()) => break,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::debug!(%error, "events wait to be written");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        for done in flushed {
            // Who flushed may have given up.
            let _ = done.send(());
        }
    }
}

async fn trim(db: &Db, keep: Keep, workspaces: &[Workspace]) {
    for workspace in workspaces {
        let of = workspace.clone();
        let trimmed: Result<usize, StoreError> = db
            .write(move |unit| {
                let before = unit.now().minus(keep.age);
                let mut scope = unit.scope(&of);
                // Every server does this, to the same rows.
                scope.in_turn()?;
                scope.execute(
                    "DELETE FROM events WHERE workspace = ?1 AND (at < ?2 OR number <= \
                     (SELECT number FROM event_heads WHERE workspace = ?1) - ?3)",
                    &[before.into(), keep.count.into()],
                )
            })
            .await;
        if let Err(error) = trimmed {
            tracing::debug!(%workspace, %error, "old events were not removed");
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Those behind this one; without it the newest.
    pub after: Option<u64>,
    /// Those from this moment on.
    pub since: Option<Timestamp>,
    /// Those of this agent.
    pub agent: Option<String>,
    /// Those of this type, or whose type begins so: `instance` or `instance.ready`.
    pub kind: Option<String>,
}

impl Runtime {
    /// Adds an event that is no part of another change.
    pub fn record(&self, workspace: &Workspace, event: Event) {
        self.shared().events.add(workspace, event);
    }

    /// Waits until the events that were added are written, for a few seconds.
    pub async fn flush_events(&self) {
        self.shared().events.flush().await;
    }

    /// The number of the last event; 0 before the first.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn last_event(&self, workspace: &Workspace) -> Result<u64, RuntimeError> {
        let of = workspace.clone();
        let head: Result<_, StoreError> = self
            .db()
            .read(move |reader| {
                let sql = "SELECT number FROM event_heads WHERE workspace = ?1";
                reader
                    .scope(&of)
                    .query_opt(sql, &[])?
                    .map_or(Ok(0), |row| row.int(0))
            })
            .await;
        Ok(u64::try_from(head?).unwrap_or_default())
    }

    /// Events, oldest first: those behind a number, or from a moment on, else the newest. And how
    /// far was looked, which is a number to go on from also when nothing fits.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn events(
        &self,
        workspace: &Workspace,
        query: &EventQuery,
        limit: u32,
    ) -> Result<Vec<Event>, RuntimeError> {
        let (of, query) = (workspace.clone(), query.clone());
        let limit = limit.min(MOST_ROWS);
        let read: Result<Vec<Event>, StoreError> = self
            .db()
            .read(move |reader| page(&mut reader.scope(&of), &query, limit))
            .await;
        Ok(read?)
    }
}

impl Event {
    /// Events behind a number, the first of them first, and as many as are read at once.
    ///
    /// # Errors
    /// The store's own.
    pub async fn behind(
        db: &Db,
        workspace: &Workspace,
        number: u64,
    ) -> Result<Vec<Self>, StoreError> {
        let of = workspace.clone();
        let query = EventQuery {
            after: Some(number),
            ..EventQuery::default()
        };
        db.read(move |reader| page(&mut reader.scope(&of), &query, MOST_ROWS))
            .await
    }
}

macro_rules! select {
    ($order:literal) => {
        concat!(
            "SELECT number, at, kind, agent, instance, revision, call, actor, detail FROM events ",
            "WHERE workspace = ?1 AND number > ?2 AND at >= ?3 ",
            "AND (?4 = '' OR agent = ?4) AND (?5 = '' OR kind = ?5 OR kind LIKE ?5 || '.%') ",
            "ORDER BY number ",
            $order,
            " LIMIT ?6"
        )
    };
}

fn page(scope: &mut Scope<'_>, query: &EventQuery, limit: u32) -> Result<Vec<Event>, StoreError> {
    let after = query
        .after
        .map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
    let newest = query.after.is_none() && query.since.is_none();
    let params = [
        after.into(),
        query.since.unwrap_or_default().into(),
        query.agent.as_deref().unwrap_or_default().into(),
        query.kind.as_deref().unwrap_or_default().into(),
        limit.into(),
    ];
    let rows = match newest {
        true => scope.query(select!("DESC"), &params)?,
        false => scope.query(select!(""), &params)?,
    };
    let mut events = rows
        .iter()
        .map(Event::read)
        .collect::<Result<Vec<_>, _>>()?;
    if newest {
        events.reverse();
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_tells_what_became_of_it() {
        let row = |revision, stable, step, paused, failed: Option<&str>| RolloutRow {
            revision,
            stable,
            step,
            paused,
            failed: failed.map(str::to_owned),
        };
        let kinds = |before: &RolloutRow, after: &RolloutRow| -> Vec<String> {
            let events = of_rollout("a", before, after);
            events.into_iter().map(|event| event.kind).collect()
        };
        let rolling = row(2, Some(1), 0, false, None);
        assert_eq!(kinds(&rolling, &rolling), [""; 0]);
        assert_eq!(
            kinds(&rolling, &row(2, Some(2), 0, false, None)),
            ["rollout.promoted"]
        );
        assert_eq!(
            kinds(&rolling, &row(2, Some(1), 1, false, None)),
            ["rollout.step"]
        );
        assert_eq!(
            kinds(&rolling, &row(2, Some(1), 0, true, None)),
            ["rollout.paused"]
        );
        let back = row(1, Some(1), 0, false, Some("revision 2 failed"));
        assert_eq!(kinds(&rolling, &back), ["rollout.rolled_back"]);
        assert_eq!(
            kinds(
                &row(1, None, 0, false, None),
                &row(1, Some(1), 0, false, None)
            ),
            ["rollout.promoted"]
        );
    }
}
