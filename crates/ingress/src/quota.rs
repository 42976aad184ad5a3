//! How many calls a workspace may make: asked for in the unit that accepts one, so that nothing is counted that is
//! not accepted, and nothing accepted that is not counted.

use std::collections::HashMap;
use std::fmt;

use skep_core::{Timestamp, Workspace};
use skep_store::{Db, Scope, StoreError};

use crate::IngressError;
use crate::journal::ended_bytes;
use crate::service::Inner;

/// Days of which it is kept how many calls there were.
const DAYS: i64 = 7;

/// How much a workspace may have of calls; without a number as much as fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallQuota {
    /// Calls that wait on this server.
    pub waiting: Option<u64>,
    /// Calls that are accepted on one day (UTC).
    pub per_day: Option<u64>,
    /// Bytes that ended calls hold.
    pub bytes: Option<u64>,
}

/// Says how much a workspace may have.
pub trait CallQuotas: fmt::Debug + Send + Sync {
    /// How much. Asked for every call: must be cheap.
    fn of(&self, workspace: &Workspace) -> CallQuota;
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Calls that wait.
    Waiting(u64),
    /// Calls of this day, and seconds until the next one.
    PerDay(u64, u64),
    /// Bytes of ended calls.
    Bytes(u64),
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(most) => write!(f, "{most} calls of the workspace may wait at once"),
            Self::PerDay(most, _) => write!(f, "the workspace may make {most} calls a day (UTC)"),
            Self::Bytes(most) => write!(f, "ended calls of the workspace may hold {most} bytes"),
        }
    }
}

/// Counts a call that is about to be accepted.
pub(crate) fn count(
    scope: &mut Scope<'_>,
    quota: &CallQuota,
    bytes: u64,
    now: Timestamp,
) -> Result<(), IngressError> {
    if let Some(most) = quota.bytes
        && ended_bytes(scope)?.saturating_add(bytes) > most
    {
        return Err(IngressError::Quota(Over::Bytes(most)));
    }
    let Some(most) = quota.per_day else {
        return Ok(());
    };
    // All servers count in one row.
    scope.in_turn()?;
    let today = now.day();
    let most_calls = i64::try_from(most).unwrap_or(i64::MAX);
    let counted = scope.execute(
        "UPDATE day_calls SET calls = calls + 1 WHERE workspace = ?1 AND day = ?2 AND calls < ?3",
        &[today.into(), most_calls.into()],
    )?;
    if counted == 1 {
        return Ok(());
    }
    let known = scope.query_opt(
        "SELECT calls FROM day_calls WHERE workspace = ?1 AND day = ?2",
        &[today.into()],
    )?;
    let over = || {
        let seconds = Timestamp::of_day(today + 1).since(now).as_secs() + 1;
        IngressError::Quota(Over::PerDay(most, seconds))
    };
    if known.is_some() || most == 0 {
        return Err(over());
    }
    // The first one that is counted today: those before it were made while nobody counted.
    let row = scope.query_opt(
        "SELECT COUNT(*) FROM calls WHERE workspace = ?1 AND id >= ?2 AND accepted_at >= ?3",
        &[(&first_id(today)).into(), Timestamp::of_day(today).into()],
    )?;
    let before = row.map(|row| row.int(0)).transpose()?.unwrap_or(0);
    if before >= most_calls {
        return Err(over());
    }
    scope.execute(
        "DELETE FROM day_calls WHERE workspace = ?1 AND day < ?2",
        &[(today - DAYS).into()],
    )?;
    scope.execute(
        "INSERT INTO day_calls (workspace, day, calls) VALUES (?1, ?2, ?3)",
        &[today.into(), (before + 1).into()],
    )?;
    Ok(())
}

/// No id of that day (UUIDv7) or of a later one is less.
fn first_id(day: i64) -> [u8; 16] {
    let millis = u64::try_from(Timestamp::of_day(day).as_micros() / 1_000).unwrap_or(0);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(&millis.to_be_bytes()[2..]) {
        *to = *from;
    }
    id
}

impl Inner {
    /// How much a workspace may have of calls, when it may have this one: if it is to wait, it has its place among
    /// those that do.
    ///
    /// # Errors
    /// [`IngressError::Quota`].
    pub(crate) fn allowed(
        &self,
        workspace: &Workspace,
        waits: bool,
    ) -> Result<CallQuota, IngressError> {
        let quotas = self.limits.quotas.as_ref();
        let quota = quotas.map_or_else(CallQuota::default, |quotas| quotas.of(workspace));
        match quota.waiting {
            // Of two that come at once both may be refused; never are both taken.
            Some(most) if waits && self.waiting(workspace) > most => {
                Err(IngressError::Quota(Over::Waiting(most)))
            }
            _ => Ok(quota),
        }
    }

    /// Calls of a workspace that wait here, and those that are about to.
    pub(crate) fn waiting(&self, workspace: &Workspace) -> u64 {
        let lanes = self.lanes.read();
        let of = lanes.get(workspace).map(HashMap::values);
        of.into_iter().flatten().map(|lane| lane.places()).sum()
    }
}

/// Calls of a workspace that were accepted today, when they are counted.
pub(crate) async fn today(db: &Db, workspace: &Workspace) -> Result<Option<u64>, StoreError> {
    let (of, today) = (workspace.clone(), db.clock().now().day());
    db.read(move |reader| {
        let row = reader.scope(&of).query_opt(
            "SELECT calls FROM day_calls WHERE workspace = ?1 AND day = ?2",
            &[today.into()],
        )?;
        let calls = row.map(|row| row.int(0)).transpose()?;
        Ok(calls.map(|calls| u64::try_from(calls).unwrap_or(0)))
    })
    .await
}
