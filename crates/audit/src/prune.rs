//! Retention: entries that are old enough lose their bodies. Their hashes stay, and with them every proof
//! about what is kept and the tree as a whole; an entry of its own says how far it went. Always the oldest
//! go, so that what was pruned is the beginning of the log and nothing else.

use skep_core::Timestamp;
use skep_store::{StoreError, Unit};
use tlog_tiles::Hash;

use crate::log::Log;
use crate::read::{as_int, batches, full_tile, number, pruned};
use crate::tree::WIDTH;
use crate::{AuditError, Change, Entry, Thing};

/// The action of the entry that tells of it.
pub(crate) const ACTION: &str = "audit:prune";
/// What the change of that entry begins with; a number follows.
const BELOW: &str = "entries below ";
/// Batches that lose their bodies in one transaction.
const STEP: i64 = 256;
/// Bytes of a hash.
const HASH: usize = 32;

/// Below which number an entry says that all were pruned.
pub(crate) fn told(entry: &Entry<'_>) -> Option<u64> {
    let change = entry.change.as_ref().filter(|_| entry.action == ACTION)?;
    change.what.strip_prefix(BELOW)?.parse().ok()
}

/// What loses its bodies next.
struct Step {
    /// The first entry of it.
    from: u64,
    /// The first entry behind it.
    to: u64,
    /// The hashes of each batch, by its first entry.
    batches: Vec<(u64, Vec<u8>)>,
}

impl Log {
    /// Takes the bodies of all entries from before a moment; tells of how many entries. What a crash cuts
    /// short goes on with the next.
    ///
    /// # Errors
    /// [`AuditError::Damaged`] when an entry is not what its tree says: it stays, as evidence.
    pub async fn prune(&self, before: Timestamp) -> Result<u64, AuditError> {
        let mut count = 0;
        while let Some(step) = self.prunable(before).await? {
            let entries = step.to - step.from;
            let server = self.db().server().to_string();
            let done: Result<bool, StoreError> = self
                .db()
                .write(move |unit| write(unit, &step, &server))
                .await;
            // Another server is at it.
            if !done? {
                break;
            }
            count += entries;
        }
        Ok(count)
    }

    async fn prunable(&self, before: Timestamp) -> Result<Option<Step>, AuditError> {
        self.integrate().await?;
        let edge = self.edge().await;
        self.db()
            .read(move |reader| {
                let from = pruned(reader)?;
                let mut step = Step {
                    from,
                    to: from,
                    batches: Vec::new(),
                };
                let mut tile: Option<(u64, Vec<u8>)> = None;
                for batch in batches(reader, from, STEP)? {
                    if batch.at >= before.as_micros() || batch.first != step.to {
                        break;
                    }
                    let leaves = batch.leaves()?;
                    for (at, leaf) in (batch.first..).zip(&leaves) {
                        let (of, within) = (at / WIDTH as u64, (at % WIDTH as u64) as usize);
                        if tile.as_ref().is_none_or(|(known, _)| *known != of) {
                            let hashes = match edge.partial(0, of) {
                                Some(hashes) => hashes.iter().flat_map(|it| it.0).collect(),
                                None => full_tile(reader, 0, of)?.unwrap_or_default(),
                            };
                            tile = Some((of, hashes));
                        }
                        let hashes = tile.as_ref().map_or(&[][..], |(_, hashes)| hashes);
                        // Whoever changed it must not have it forgotten.
                        if hashes.get(within * HASH..(within + 1) * HASH) != Some(&leaf.0[..]) {
                            let why = format!("entry {at} is not what the log's tree has there");
                            return Err(AuditError::damaged(why));
                        }
                    }
                    step.to = batch.first + batch.entries;
                    step.batches.push((batch.first, flat(&leaves)));
                }
                Ok((step.to > step.from).then_some(step))
            })
            .await
    }
}

fn flat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Puts the hashes in the place of the bodies, and tells of it.
fn write(unit: &mut Unit<'_>, step: &Step, server: &str) -> Result<bool, StoreError> {
    let now = unit.now();
    let mut scope = unit.server();
    scope.in_turn()?;
    let known = scope.query("SELECT pruned FROM audit_log WHERE id = 1", &[])?;
    if known.first().map_or(Ok(0), |row| number(row, 0))? != step.from {
        return Ok(false);
    }
    for (first, hashes) in &step.batches {
        scope.execute(
            "UPDATE audit_batches SET bundle = ?2 WHERE first = ?1",
            &[as_int(*first).into(), hashes.as_slice().into()],
        )?;
    }
    scope.execute(
        "UPDATE audit_log SET pruned = ?1 WHERE id = 1",
        &[as_int(step.to).into()],
    )?;
    let mut entry = Entry::new(
        now,
        Thing::new("Server", server),
        ACTION,
        Thing::new("AuditLog", ""),
    );
    entry.change = Some(Change {
        what: format!("{BELOW}{}", step.to).into(),
        hash: None,
    });
    unit.record(entry.to_bytes())?;
    Ok(true)
}
