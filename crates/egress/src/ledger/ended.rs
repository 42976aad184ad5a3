//! Exchanges that ended long ago: they leave the store, and their sums by day stay.

use std::time::Duration;

use skep_core::{Timestamp, Workspace, Workspaces};
use skep_store::{Db, Scope, StoreError, Unit};
use tokio_util::sync::CancellationToken;

/// How often it is looked for some.
const SWEEP: Duration = Duration::from_secs(3600);
/// Exchanges that leave at once: others want to write, too.
const SWEPT: i64 = 1_000;
/// What is younger stays: budgets of a minute count it, and a server that begins may bring some twice.
const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// Removes what ended before so long, until the end.
pub(crate) async fn sweep(
    db: &Db,
    (workspaces, age): (&Workspaces, Duration),
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let before = db.clock().now().minus(age.max(YOUNG));
        for workspace in workspaces.all().iter() {
            let swept = all_of(db, workspace, before);
            let swept = tokio::select! {
                swept = swept => swept,
                () = stop.cancelled() => return,
            };
            if let Err(error) = swept {
                tracing::warn!(%workspace, %error, "exchanges of long ago are not removed: it is tried again in an hour");
            }
        }
    }
}

/// Removes what a workspace has from before a time.
pub(super) async fn all_of(
    db: &Db,
    workspace: &Workspace,
    before: Timestamp,
) -> Result<(), StoreError> {
    loop {
        let of = workspace.clone();
        let due = db.read(move |reader| is_due(&mut reader.scope(&of), before));
        if !due.await? {
            return Ok(());
        }
        let of = workspace.clone();
        db.write(move |unit: &mut Unit<'_>| remove(&mut unit.scope(&of), before))
            .await?;
    }
}

fn is_due(scope: &mut Scope<'_>, before: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM exchanges WHERE workspace = ?1 AND at < ?2 LIMIT 1";
    Ok(scope.query_opt(sql, &[before.into()])?.is_some())
}

fn remove(scope: &mut Scope<'_>, before: Timestamp) -> Result<usize, StoreError> {
    scope.execute(
        "DELETE FROM exchanges WHERE workspace = ?1 AND id IN (SELECT id FROM exchanges \
         WHERE workspace = ?1 AND at < ?2 ORDER BY at LIMIT ?3)",
        &[before.into(), SWEPT.into()],
    )
}
