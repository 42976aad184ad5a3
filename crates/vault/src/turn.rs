//! Rotations as they are carried out: one batch after the other, each with its cursor in one transaction.
//!
//! What is to be done says [`crate::rotation`]. Every open server may carry out every rotation: a batch counts only
//! when nobody else has done it since it was read.

use std::time::Duration;

use skep_core::{PublicError as _, RotationId, Timestamp, Workspace};
use skep_crypto::Key;
use skep_store::{By, Param, Row, ServerScope, StoreError, Unit};

use crate::VaultError;
use crate::keyring::{Context, Keyring, Numbered, insert_key, insert_workspace_key};
use crate::rotation::{Event, Level, MOST_KEEP, Phase, Progress, Step};
use crate::service::{Vault, tell_in};

mod batch;

/// Rotations of a list.
const PAGE: i64 = 100;

/// A rotation of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id.
    pub id: RotationId,
    /// Which keys.
    pub level: Level,
    /// Whose, when they are a workspace's.
    pub workspace: Option<Workspace>,
    /// The number of the key that is replaced.
    pub old: i64,
    /// The number of the key that replaces it.
    pub new: i64,
    /// How far it is.
    pub progress: Progress,
    /// For how long the old wraps are kept.
    pub keep: Duration,
    /// Children that the phase has done.
    pub done: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Behind which child the phase is.
    pub(crate) after: Option<Vec<u8>>,
}

fn read(row: &Row) -> Result<Rotation, VaultError> {
    let level = row.text(1)?.parse().map_err(VaultError::Corrupt)?;
    let workspace = row.opt_text(2)?.map(Workspace::new).transpose();
    let keep = u64::try_from(row.int(7)?).unwrap_or(0);
    Ok(Rotation {
        id: RotationId::from_bytes(row.bytes(0)?),
        level,
        workspace: workspace.map_err(|error| VaultError::Corrupt(error.to_string()))?,
        old: row.int(3)?,
        new: row.int(4)?,
        progress: Progress {
            phase: row.text(5)?.parse().map_err(VaultError::Corrupt)?,
            until: row.opt_time(6)?,
        },
        keep: Duration::from_micros(keep),
        after: row.opt_blob(8)?.map(<[u8]>::to_vec),
        done: u64::try_from(row.int(9)?).unwrap_or(0),
        started_at: row.time(10)?,
        ended_at: row.opt_time(11)?,
    })
}

fn find(server: &mut ServerScope<'_>, id: RotationId) -> Result<Rotation, VaultError> {
    let rows = server.query(
        "SELECT id, level, of_workspace, old, new, phase, until, keep, after, done, started_at, ended_at \
         FROM vault_rotations WHERE id = ?1",
        &[id.as_bytes().into()],
    )?;
    let row = rows.first().ok_or(VaultError::NoRotation(id))?;
    read(row)
}

/// Those that are not over, whosever they are, oldest first.
fn open(server: &mut ServerScope<'_>) -> Result<Vec<Rotation>, VaultError> {
    let rows = server.query(
        "SELECT id, level, of_workspace, old, new, phase, until, keep, after, done, started_at, ended_at \
         FROM vault_rotations WHERE phase <> 'done' AND phase <> 'returned' ORDER BY id",
        &[],
    )?;
    rows.iter().map(read).collect()
}

/// The newest of a workspace's keys, or of the root key.
fn newest(
    server: &mut ServerScope<'_>,
    of: Option<&Workspace>,
) -> Result<Vec<Rotation>, VaultError> {
    let rows = server.query(
        "SELECT id, level, of_workspace, old, new, phase, until, keep, after, done, started_at, ended_at \
         FROM vault_rotations WHERE COALESCE(of_workspace, '') = ?1 ORDER BY id DESC LIMIT ?2",
        &[of.map_or("", Workspace::as_str).into(), PAGE.into()],
    )?;
    rows.iter().map(read).collect()
}

/// The highest number that a key of these had, and forgets what is long over.
fn highest(
    server: &mut ServerScope<'_>,
    level: Level,
    of: Option<&Workspace>,
) -> Result<i64, VaultError> {
    let of = of.map_or("", Workspace::as_str);
    let rows = server.query(
        "SELECT MAX(new) FROM vault_rotations \
         WHERE level = ?1 AND COALESCE(of_workspace, '') = ?2",
        &[level.as_str().into(), of.into()],
    )?;
    let Some(row) = rows.first() else {
        return Ok(0);
    };
    let Some(highest) = row.opt_int(0)? else {
        return Ok(0);
    };
    // The one with the highest number stays: no number comes twice.
    server.execute(
        "DELETE FROM vault_rotations WHERE level = ?1 AND COALESCE(of_workspace, '') = ?2 \
         AND new < ?3 AND ended_at IS NOT NULL",
        &[
            level.as_str().into(),
            of.into(),
            highest.saturating_sub(PAGE).into(),
        ],
    )?;
    Ok(highest)
}

fn write(server: &mut ServerScope<'_>, rotation: &Rotation) -> Result<(), StoreError> {
    let micros = i64::try_from(rotation.keep.as_micros()).unwrap_or(i64::MAX);
    let done = i64::try_from(rotation.done).unwrap_or(i64::MAX);
    let workspace = rotation.workspace.as_ref().map(Workspace::as_str);
    server
        .execute(
            "INSERT INTO vault_rotations (id, level, of_workspace, old, new, phase, until, keep, after, \
             done, started_at, ended_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT (id) DO UPDATE SET phase = excluded.phase, until = excluded.until, \
             keep = excluded.keep, after = excluded.after, done = excluded.done, \
             ended_at = excluded.ended_at",
            &[
                rotation.id.as_bytes().into(),
                rotation.level.as_str().into(),
                workspace.into(),
                rotation.old.into(),
                rotation.new.into(),
                rotation.progress.phase.as_str().into(),
                rotation.progress.until.into(),
                micros.into(),
                rotation.after.as_deref().into(),
                done.into(),
                rotation.started_at.into(),
                rotation.ended_at.into(),
            ],
        )
        .map(drop)
}

impl Rotation {
    fn what(&self) -> String {
        let of = match &self.workspace {
            Some(workspace) => format!(" of {workspace}"),
            None => String::new(),
        };
        format!(
            "{}: {} key{of}, {} to {}: {}",
            self.id,
            self.level,
            self.old,
            self.new,
            self.progress.phase.as_str()
        )
    }

    /// Writes down how far it is, where its keys are.
    pub(crate) fn tell(&self, by: &By, unit: &mut Unit<'_>) -> Result<(), VaultError> {
        let of = self.workspace.clone().unwrap_or_default();
        tell_in(&of, by, unit, "vault:rotate", &self.what())
    }

    /// What is written of whose keys they are.
    pub(crate) fn of(&self) -> Result<&Workspace, VaultError> {
        let of = self.workspace.as_ref();
        of.ok_or_else(|| VaultError::Corrupt("a rotation of nobody's keys".to_owned()))
    }

    /// The key that does not count in the end, as far as it is known.
    pub(crate) const fn loser(&self) -> i64 {
        match self.progress.phase {
            Phase::Returning | Phase::Returned => self.new,
            _ => self.old,
        }
    }

    /// Lets an event happen in a unit: the cursor, the phase, and the states of both keys.
    pub(crate) fn happen(
        &mut self,
        unit: &mut Unit<'_>,
        event: Event,
        (after, done): (Option<Vec<u8>>, u64),
    ) -> Result<(), VaultError> {
        let now = unit.now();
        let before = self.progress.phase;
        self.progress = self.progress.after(event, now, self.keep)?;
        self.done += done;
        self.after = after;
        let phase = self.progress.phase;
        if phase != before {
            self.after = None;
            // What began with the first batch of its phase goes on behind it.
            if !(before == Phase::Kept && event == Event::Batch) {
                self.done = 0;
            }
            self.turn(&mut unit.server(), before)?;
        }
        if phase.is_over() && self.ended_at.is_none() {
            self.ended_at = Some(now);
        }
        Ok(write(&mut unit.server(), self)?)
    }

    /// Sets the states of both keys to what a new phase says.
    fn turn(&self, server: &mut ServerScope<'_>, before: Phase) -> Result<(), VaultError> {
        match self.progress.phase {
            Phase::Wrapping | Phase::Verifying => {}
            Phase::Kept => {
                self.set(server, self.old, "old")?;
                self.set(server, self.new, "current")?;
            }
            Phase::Destroying => self.set(server, self.old, "ended")?,
            Phase::Returning => {
                if before == Phase::Kept {
                    self.set(server, self.old, "current")?;
                }
                self.set(server, self.new, "ended")?;
            }
            Phase::Done | Phase::Returned => self.forget(server)?,
        }
        Ok(())
    }

    fn set(
        &self,
        server: &mut ServerScope<'_>,
        version: i64,
        state: &str,
    ) -> Result<(), VaultError> {
        match self.level {
            Level::Root => server.execute(
                "UPDATE vault_roots SET state = ?2 WHERE version = ?1",
                &[version.into(), state.into()],
            )?,
            level => server.execute(
                "UPDATE vault_keys SET state = ?4 WHERE of_workspace = ?1 AND level = ?2 AND version = ?3",
                &[
                    self.of()?.as_str().into(),
                    level.as_str().into(),
                    version.into(),
                    state.into(),
                ],
            )?,
        };
        Ok(())
    }

    /// Forgets the key that lost. It is written over first: what is removed can lie in a file for long.
    fn forget(&self, server: &mut ServerScope<'_>) -> Result<(), VaultError> {
        let zeros: Param<'_> = (&[0; crate::keyring::WRAPPED]).into();
        let version = self.loser();
        if self.level == Level::Root {
            server.execute(
                "UPDATE vault_roots SET wrapped = ?2 WHERE version = ?1",
                &[version.into(), zeros],
            )?;
            server.execute(
                "DELETE FROM vault_roots WHERE version = ?1",
                &[version.into()],
            )?;
            return Ok(());
        }
        let of = self.of()?.as_str();
        if self.level == Level::Workspace {
            server.execute(
                "UPDATE vault_workspace_keys SET wrapped = ?3 WHERE of_workspace = ?1 AND version = ?2",
                &[of.into(), version.into(), zeros],
            )?;
            server.execute(
                "DELETE FROM vault_workspace_keys WHERE of_workspace = ?1 AND version = ?2",
                &[of.into(), version.into()],
            )?;
        }
        server.execute(
            "DELETE FROM vault_keys WHERE of_workspace = ?1 AND level = ?2 AND version = ?3",
            &[of.into(), self.level.as_str().into(), version.into()],
        )?;
        Ok(())
    }
}

/// What [`Vault::work`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It did something; there may be more.
    Done,
    /// There is something to do then.
    Until(Timestamp),
    /// There is nothing to do.
    Nothing,
}

impl Vault {
    /// Begins to replace keys: the root key, or those of a workspace. It is carried out by [`Vault::work`].
    ///
    /// # Errors
    /// [`VaultError::Rotates`] when one is not over; [`VaultError::Invalid`] when there is nothing to replace.
    pub async fn rotate(
        &self,
        by: &By,
        (level, workspace): (Level, Option<&Workspace>),
        keep: Duration,
    ) -> Result<Rotation, VaultError> {
        if keep > MOST_KEEP {
            let days = MOST_KEEP.as_secs() / 86_400;
            return Err(VaultError::invalid("keep", format!("at most {days} days")));
        }
        let of = match (level, workspace) {
            (Level::Root, _) => None,
            (_, Some(of)) => Some(of.clone()),
            (_, None) => return Err(VaultError::invalid("workspace", "say whose keys")),
        };
        let (by, keyring) = (by.clone(), self.keyring()?);
        self.db
            .write(move |unit| {
                let now = unit.now();
                let mut server = unit.server();
                server.in_turn()?;
                let others = open(&mut server)?;
                let same = |it: &&Rotation| it.level == level && it.workspace == of;
                if let Some(open) = others.iter().find(same) {
                    return Err(VaultError::Rotates(open.id));
                }
                let used = highest(&mut server, level, of.as_ref())?;
                let (old, new) = begin(&mut server, &keyring, level, of.as_ref(), (used, now))?;
                let rotation = Rotation {
                    id: RotationId::new(),
                    level,
                    workspace: of,
                    old,
                    new,
                    progress: Progress::new(),
                    keep,
                    done: 0,
                    started_at: now,
                    ended_at: None,
                    after: None,
                };
                write(&mut server, &rotation)?;
                rotation.tell(&by, unit)?;
                Ok(rotation)
            })
            .await
    }

    /// The newest rotations of a workspace's keys, or of the root key.
    ///
    /// # Errors
    /// The store's own.
    pub async fn rotations(&self, of: Option<&Workspace>) -> Result<Vec<Rotation>, VaultError> {
        let of = of.cloned();
        self.db
            .read(move |reader| newest(&mut reader.server(), of.as_ref()))
            .await
    }

    /// A rotation.
    ///
    /// # Errors
    /// [`VaultError::NoRotation`].
    pub async fn rotation(&self, id: RotationId) -> Result<Rotation, VaultError> {
        self.db
            .read(move |reader| find(&mut reader.server(), id))
            .await
    }

    /// Goes back to the old key.
    ///
    /// # Errors
    /// [`VaultError::NoRotation`]; [`VaultError::Rotation`] when it is too late.
    pub async fn roll_back(&self, by: &By, id: RotationId) -> Result<Rotation, VaultError> {
        self.order(by, id, Event::GoBack).await
    }

    /// Destroys the old wraps now.
    ///
    /// # Errors
    /// [`VaultError::NoRotation`]; [`VaultError::Rotation`] when it is too early.
    pub async fn finish(&self, by: &By, id: RotationId) -> Result<Rotation, VaultError> {
        self.order(by, id, Event::Finish).await
    }

    async fn order(&self, by: &By, id: RotationId, event: Event) -> Result<Rotation, VaultError> {
        let by = by.clone();
        self.db
            .write(move |unit| {
                unit.server().in_turn()?;
                let mut rotation = find(&mut unit.server(), id)?;
                let after = rotation.after.clone();
                rotation.happen(unit, event, (after, 0))?;
                rotation.tell(&by, unit)?;
                Ok(rotation)
            })
            .await
    }

    /// Does the next batch of what rotates.
    ///
    /// # Errors
    /// [`VaultError`]; what was not done is done the next time.
    pub async fn work(&self, by: &By) -> Result<Work, VaultError> {
        let now = self.clock().now();
        let keyring = self.keyring()?;
        let mut until: Option<Timestamp> = None;
        let mut failed = None;
        let open: Result<_, VaultError> = self.db.read(|reader| open(&mut reader.server())).await;
        for rotation in open? {
            match rotation.progress.next(now) {
                Step::Nothing => {}
                Step::Wait(then) => until = Some(until.map_or(then, |it| it.min(then))),
                step => {
                    let id = rotation.id;
                    match self.batch(&keyring, by, rotation, step).await {
                        Ok(()) => return Ok(Work::Done),
                        // What is wrong with one keeps no other from going on.
                        Err(error) => {
                            tracing::error!(rotation = %id, error = error.detail(), "keys do not rotate");
                            failed = Some(error);
                        }
                    }
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(until.map_or(Work::Nothing, Work::Until))
    }
}

/// Makes the new key. Tells the number of the old one and its own.
fn begin(
    server: &mut ServerScope<'_>,
    keyring: &Keyring,
    level: Level,
    of: Option<&Workspace>,
    (used, now): (i64, Timestamp),
) -> Result<(i64, i64), VaultError> {
    let Some(of) = of else {
        let roots = keyring.roots(server)?;
        let old = roots.first().map(|root| root.number);
        let old = old.ok_or_else(|| VaultError::Corrupt("no root key".to_owned()))?;
        let new = old.max(used) + 1;
        let wrapped = keyring
            .unlock
            .wrap(&Context::root(new).0, &Key::random()?)?;
        server.execute(
            "INSERT INTO vault_roots (version, state, wrapped, made_at) VALUES (?1, 'next', ?2, ?3)",
            &[new.into(), wrapped.as_slice().into(), now.into()],
        )?;
        return Ok((old, new));
    };
    let rows = server.query(
        "SELECT version FROM vault_keys WHERE of_workspace = ?1 AND level = ?2 AND state = 'current'",
        &[of.as_str().into(), level.as_str().into()],
    )?;
    let Some(row) = rows.first() else {
        let reason = format!("{of} has no secrets yet, and so no keys");
        return Err(VaultError::invalid("workspace", reason));
    };
    let old = row.int(0)?;
    let new = old.max(used) + 1;
    insert_key(server, of, level, new, "next", now)?;
    if level == Level::Workspace {
        let key = Numbered {
            number: new,
            key: Key::random()?,
        };
        for root in keyring.roots(server)? {
            let wrapped = Keyring::wrap_workspace(of, &key, &root)?;
            insert_workspace_key(server, of, new, root.number, &wrapped)?;
        }
    }
    Ok((old, new))
}
