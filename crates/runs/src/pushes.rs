//! Where clients are told what becomes of their tasks: the table, and how far each was told. Telling them is the server's affair.

use skep_core::{MessageId, RunId, Timestamp, Workspace};
use skep_store::{Row, Scope, StoreError, Unit};

use crate::service::Runs;

/// Of one task.
pub const MOST_PUSHES: usize = 16;

/// How far somebody was told of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The run that is told of.
    pub run: RunId,
    /// The attempt of the last recorded event that was told of; 0 when none was.
    pub attempt: u32,
    /// That event's place in the attempt.
    pub index: u64,
    /// So much was told of it.
    pub told: u32,
    /// The end of the run was told.
    pub ended: bool,
}

impl Place {
    /// Nothing of a run was told, but for so much that stands before its events.
    #[must_use]
    pub const fn before(run: RunId, told: u32) -> Self {
        Self {
            run,
            attempt: 0,
            index: 0,
            told,
            ended: false,
        }
    }
}

/// Where a client is told what becomes of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The first run of the task.
    pub task: RunId,
    /// What the client calls it.
    pub id: String,
    /// The client's version of the protocol.
    pub version: String,
    /// Where to.
    pub url: String,
    /// How it shows who tells it.
    pub scheme: Option<String>,
    /// With what, encrypted.
    pub sealed: Option<Vec<u8>>,
    /// How far it was told.
    pub place: Place,
    /// Which one it is of those that were called so.
    pub made: MessageId,
    /// Tries of what comes next that failed.
    pub tries: u32,
}

/// What becomes of one whose place moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState {
    /// It is told more.
    On,
    /// It was told the end of the task.
    Done,
    /// It is told nothing any more: it did not take what it was told.
    Failed,
}

impl PushState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

fn number<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T, StoreError> {
    let odd = || StoreError::Statement("the place of a push cannot be read".to_owned());
    T::try_from(row.int(column)?).map_err(|_| odd())
}

fn push(row: &Row) -> Result<Push, StoreError> {
    Ok(Push {
        task: RunId::from_bytes(row.bytes(0)?),
        id: row.text(1)?.to_owned(),
        version: row.text(2)?.to_owned(),
        url: row.text(3)?.to_owned(),
        scheme: row.opt_text(4)?.map(str::to_owned),
        sealed: row.opt_blob(5)?.map(<[u8]>::to_vec),
        place: Place {
            run: RunId::from_bytes(row.bytes(6)?),
            attempt: number(row, 7)?,
            index: number(row, 8)?,
            told: number(row, 9)?,
            ended: row.int(10)? != 0,
        },
        made: MessageId::from_bytes(row.bytes(11)?),
        tries: number(row, 12)?,
    })
}

/// Numbers as the store has them.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Puts one in the place of any that is called so.
pub(crate) fn put(scope: &mut Scope<'_>, push: &Push, now: Timestamp) -> Result<(), StoreError> {
    remove(scope, push.task, &push.id)?;
    scope.execute(
        "INSERT INTO pushes (workspace, task, id, version, url, scheme, sealed, run, attempt, place, told, ended, made, tries, \
         state, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15)",
        &[
            push.task.as_bytes().into(),
            (&push.id).into(),
            (&push.version).into(),
            (&push.url).into(),
            push.scheme.as_deref().into(),
            push.sealed.as_deref().into(),
            push.place.run.as_bytes().into(),
            i64::from(push.place.attempt).into(),
            int(push.place.index).into(),
            i64::from(push.place.told).into(),
            i64::from(push.place.ended).into(),
            push.made.as_bytes().into(),
            PushState::On.as_str().into(),
            now.into(),
        ],
    )?;
    Ok(())
}

fn remove(scope: &mut Scope<'_>, task: RunId, id: &str) -> Result<(), StoreError> {
    scope.execute(
        "DELETE FROM pushes WHERE workspace = ?1 AND task = ?2 AND id = ?3",
        &[task.as_bytes().into(), id.into()],
    )?;
    Ok(())
}

fn of_task(scope: &mut Scope<'_>, task: RunId) -> Result<Vec<Push>, StoreError> {
    let rows = scope.query(
        "SELECT task, id, version, url, scheme, sealed, run, attempt, place, told, ended, made, tries FROM pushes \
         WHERE workspace = ?1 AND task = ?2 ORDER BY id",
        &[task.as_bytes().into()],
    )?;
    rows.iter().map(push).collect()
}

/// Those of which there may be something to tell: not those whose task waits for its client.
fn due(
    scope: &mut Scope<'_>,
    now: Timestamp,
    most: u32,
) -> Result<Vec<(Push, String)>, StoreError> {
    let rows = scope.query(
        "SELECT p.task, p.id, p.version, p.url, p.scheme, p.sealed, p.run, p.attempt, p.place, p.told, p.ended, p.made, p.tries, \
         l.agent FROM pushes p JOIN runs l ON l.workspace = ?1 AND l.id = p.run \
         WHERE p.workspace = ?1 AND p.state = 'on' AND p.due_at <= ?2 AND (p.ended = 0 OR l.status = 'cancelled' \
         OR EXISTS (SELECT 1 FROM runs r WHERE r.workspace = ?1 AND r.task = p.task AND r.id > p.run)) \
         ORDER BY p.due_at, p.made LIMIT ?3",
        &[now.into(), most.into()],
    )?;
    let one = |row: &Row| Ok((push(row)?, row.text(13)?.to_owned()));
    rows.iter().map(one).collect()
}

/// Forgets those of tasks that are forgotten.
pub(crate) fn sweep(scope: &mut Scope<'_>) -> Result<usize, StoreError> {
    scope.execute(
        "DELETE FROM pushes WHERE workspace = ?1 AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.workspace = ?1 \
         AND (r.id = pushes.task OR r.task = pushes.task))",
        &[],
    )
}

impl Runs {
    /// Puts one, in the place of any that is called so. False when the task has as many as it may.
    ///
    /// # Errors
    /// The store's own.
    pub async fn put_push(&self, workspace: &Workspace, push: Push) -> Result<bool, StoreError> {
        let of = workspace.clone();
        let write = self.db.write(move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let all = of_task(&mut scope, push.task)?;
            let others = all.iter().filter(|it| it.id != push.id).count();
            if others >= MOST_PUSHES {
                return Ok(false);
            }
            put(&mut scope, &push, now)?;
            Ok::<_, StoreError>(true)
        });
        write.await
    }

    /// Those of a task, by what they are called.
    ///
    /// # Errors
    /// The store's own.
    pub async fn pushes(
        &self,
        workspace: &Workspace,
        task: RunId,
    ) -> Result<Vec<Push>, StoreError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| of_task(&mut reader.scope(&of), task));
        read.await
    }

    /// Forgets one, if there is one.
    ///
    /// # Errors
    /// The store's own.
    pub async fn drop_push(
        &self,
        workspace: &Workspace,
        (task, id): (RunId, &str),
    ) -> Result<(), StoreError> {
        let (of, id) = (workspace.clone(), id.to_owned());
        let write = self
            .db
            .write(move |unit: &mut Unit<'_>| remove(&mut unit.scope(&of), task, &id));
        write.await
    }

    /// Those of which there may be something to tell, with the agents whose tasks they are of; the longest due first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn due_pushes(
        &self,
        workspace: &Workspace,
        (now, most): (Timestamp, u32),
    ) -> Result<Vec<(Push, String)>, StoreError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| due(&mut reader.scope(&of), now, most));
        read.await
    }

    /// Whether one is still there as it was, and is told more.
    ///
    /// # Errors
    /// The store's own.
    pub async fn is_pushed(&self, workspace: &Workspace, push: &Push) -> Result<bool, StoreError> {
        let (of, made) = (workspace.clone(), push.made);
        let (task, id) = (push.task, push.id.clone());
        let read = self.db.read(move |reader| {
            let row = reader.scope(&of).query_opt(
                "SELECT 1 FROM pushes WHERE workspace = ?1 AND task = ?2 AND id = ?3 AND made = ?4 AND state = 'on'",
                &[task.as_bytes().into(), (&id).into(), made.as_bytes().into()],
            )?;
            Ok::<_, StoreError>(row.is_some())
        });
        read.await
    }

    /// One was told something: it stands at its new place.
    ///
    /// # Errors
    /// The store's own.
    pub async fn pushed(
        &self,
        workspace: &Workspace,
        push: &Push,
        state: PushState,
    ) -> Result<(), StoreError> {
        let (of, push) = (workspace.clone(), push.clone());
        let write = self.db.write(move |unit: &mut Unit<'_>| {
            let (place, now) = (push.place, unit.now());
            unit.scope(&of).execute(
                "UPDATE pushes SET run = ?5, attempt = ?6, place = ?7, told = ?8, ended = ?9, tries = 0, state = ?10, due_at = ?11 \
                 WHERE workspace = ?1 AND task = ?2 AND id = ?3 AND made = ?4",
                &[
                    push.task.as_bytes().into(),
                    (&push.id).into(),
                    push.made.as_bytes().into(),
                    place.run.as_bytes().into(),
                    i64::from(place.attempt).into(),
                    int(place.index).into(),
                    i64::from(place.told).into(),
                    i64::from(place.ended).into(),
                    state.as_str().into(),
                    now.into(),
                ],
            )?;
            Ok::<_, StoreError>(())
        });
        write.await
    }

    /// One did not take what it was told: it is tried again then; or never, which `also` tells of in the same unit.
    ///
    /// # Errors
    /// The store's own.
    pub async fn push_failed(
        &self,
        workspace: &Workspace,
        push: &Push,
        (again, also): (
            Option<Timestamp>,
            impl FnOnce(&mut Scope<'_>, Timestamp) -> Result<(), StoreError> + Send + 'static,
        ),
    ) -> Result<(), StoreError> {
        let (of, push) = (workspace.clone(), push.clone());
        let write = self.db.write(move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let state = match again {
                Some(_) => PushState::On,
                None => PushState::Failed,
            };
            let changed = scope.execute(
                "UPDATE pushes SET tries = ?5, due_at = ?6, state = ?7 \
                 WHERE workspace = ?1 AND task = ?2 AND id = ?3 AND made = ?4",
                &[
                    push.task.as_bytes().into(),
                    (&push.id).into(),
                    push.made.as_bytes().into(),
                    i64::from(push.tries).into(),
                    again.unwrap_or(now).into(),
                    state.as_str().into(),
                ],
            )?;
            match changed > 0 && again.is_none() {
                true => also(&mut scope, now),
                false => Ok(()),
            }
        });
        write.await
    }
}
