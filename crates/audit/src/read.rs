//! Reading the log's tables: batches of entries, as they were committed, and full tiles. Of entries that
//! were pruned only the hashes are there.

use skep_core::Timestamp;
use skep_store::{Reader, Row, StoreError};
use tlog_tiles::{Hash, record_hash};

use crate::bundle::split;
use crate::log::{Filter, Found, Page};
use crate::{AuditError, Entry};

/// Batches that are put into the tree at once.
pub(crate) const BATCHES: i64 = 64;
/// Batches that one look for entries reads at once.
const SEARCH_STEP: i64 = 256;
/// Batches that one look for entries reads at most, before it says where to go on.
const SEARCH_MOST: i64 = 16_384;
/// Bytes of a hash.
const HASH: usize = 32;

pub(crate) fn number(row: &Row, at: usize) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.int(at)?).unwrap_or(0))
}

pub(crate) fn as_int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The entries of one transaction.
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) entries: u64,
    pub(crate) at: i64,
    /// Whether it has the hashes of its entries in their place.
    pub(crate) pruned: bool,
    content: Vec<u8>,
}

impl Batch {
    /// Its entries; none when they were pruned.
    pub(crate) fn bodies(&self) -> Result<Vec<&[u8]>, AuditError> {
        match self.pruned {
            true => Ok(Vec::new()),
            false => split(&self.content),
        }
    }

    /// The leaves of its entries.
    pub(crate) fn leaves(&self) -> Result<Vec<Hash>, AuditError> {
        let leaves: Vec<Hash> = match self.pruned {
            false => split(&self.content)?.into_iter().map(record_hash).collect(),
            true => {
                let (hashes, rest) = self.content.as_chunks::<HASH>();
                if !rest.is_empty() {
                    return Err(AuditError::damaged("a hash of a pruned entry is cut short"));
                }
                hashes.iter().copied().map(Hash).collect()
            }
        };
        match leaves.len() as u64 == self.entries {
            true => Ok(leaves),
            false => Err(AuditError::damaged(format!(
                "the batch of entry {} has another number of entries",
                self.first
            ))),
        }
    }
}

/// The entries below this number were pruned.
pub(crate) fn pruned(reader: &mut Reader<'_>) -> Result<u64, StoreError> {
    let rows = reader
        .server()
        .query("SELECT pruned FROM audit_log WHERE id = 1", &[])?;
    rows.first().map_or(Ok(0), |row| number(row, 0))
}

fn read_batches(rows: &[Row], pruned: u64) -> Result<Vec<Batch>, AuditError> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let first = number(row, 0)?;
        all.push(Batch {
            first,
            entries: number(row, 1)?,
            at: row.int(2)?,
            pruned: first < pruned,
            content: row.blob(3)?.to_vec(),
        });
    }
    Ok(all)
}

/// The next batches from an entry on.
pub(crate) fn batches(
    reader: &mut Reader<'_>,
    from: u64,
    most: i64,
) -> Result<Vec<Batch>, AuditError> {
    let pruned = pruned(reader)?;
    let rows = reader.server().query(
        "SELECT first, entries, at, bundle FROM audit_batches WHERE first >= \
         COALESCE((SELECT MAX(first) FROM audit_batches WHERE first <= ?1), 0) \
         AND first + entries > ?1 ORDER BY first LIMIT ?2",
        &[as_int(from).into(), most.into()],
    )?;
    read_batches(&rows, pruned)
}

pub(crate) fn full_tile(
    reader: &mut Reader<'_>,
    level: u8,
    number: u64,
) -> Result<Option<Vec<u8>>, AuditError> {
    let rows = reader.server().query(
        "SELECT hashes FROM audit_tiles WHERE level = ?1 AND number = ?2",
        &[i64::from(level).into(), as_int(number).into()],
    )?;
    Ok(rows
        .first()
        .map(|row| row.blob(0).map(<[u8]>::to_vec))
        .transpose()?)
}

pub(crate) fn entry(reader: &mut Reader<'_>, wanted: u64) -> Result<Found, AuditError> {
    let batch = batches(reader, wanted, 1)?.into_iter().next();
    let gone = || AuditError::damaged(format!("entry {wanted} is not there any more"));
    let batch = batch.ok_or_else(gone)?;
    if batch.pruned {
        return Err(AuditError::Pruned { number: wanted });
    }
    let at = wanted.checked_sub(batch.first).ok_or_else(gone)? as usize;
    let bytes = batch.bodies()?.get(at).map(|bytes| bytes.to_vec());
    Ok(Found {
        number: wanted,
        bytes: bytes.ok_or_else(gone)?,
    })
}

pub(crate) fn search(
    reader: &mut Reader<'_>,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<Page, AuditError> {
    let mut page = Page::default();
    let pruned = pruned(reader)?;
    let mut below = before.map_or(i64::MAX, as_int);
    let since = filter.since.map_or(i64::MIN, Timestamp::as_micros);
    let until = filter.until.map_or(i64::MAX, Timestamp::as_micros);
    for _ in 0..SEARCH_MOST / SEARCH_STEP {
        let rows = reader.server().query(
            "SELECT first, entries, at, bundle FROM audit_batches WHERE first < ?1 \
             AND first >= ?2 AND at >= ?3 AND at < ?4 ORDER BY first DESC LIMIT ?5",
            &[
                below.into(),
                as_int(pruned).into(),
                since.into(),
                until.into(),
                SEARCH_STEP.into(),
            ],
        )?;
        let batches = read_batches(&rows, pruned)?;
        let last = batches.len() < SEARCH_STEP as usize;
        for batch in batches {
            for (at, bytes) in batch.bodies()?.into_iter().enumerate().rev() {
                let number = batch.first + at as u64;
                if before.is_some_and(|before| number >= before) {
                    continue;
                }
                if page.found.len() == limit {
                    page.before = Some(number + 1);
                    return Ok(page);
                }
                if Entry::parse(bytes).is_some_and(|entry| filter.takes(&entry)) {
                    let bytes = bytes.to_vec();
                    page.found.push(Found { number, bytes });
                }
            }
            below = as_int(batch.first);
        }
        if last {
            return Ok(page);
        }
    }
    page.before = Some(u64::try_from(below).unwrap_or(0));
    Ok(page)
}

pub(crate) fn tail(
    reader: &mut Reader<'_>,
    filter: &Filter,
    from: u64,
    limit: usize,
) -> Result<(Vec<Found>, u64), AuditError> {
    let mut found = Vec::new();
    // What was pruned is nobody's any more.
    let mut next = from.max(pruned(reader)?);
    for _ in 0..SEARCH_MOST / BATCHES {
        let batches = batches(reader, next, BATCHES)?;
        let last = batches.len() < BATCHES as usize;
        for batch in batches {
            let in_time = filter.has(batch.at);
            let skipped = next.saturating_sub(batch.first) as usize;
            for (at, bytes) in batch.bodies()?.into_iter().enumerate().skip(skipped) {
                if found.len() == limit {
                    return Ok((found, next));
                }
                let number = batch.first + at as u64;
                next = number + 1;
                let wanted = in_time
                    && (filter == &Filter::default()
                        || Entry::parse(bytes).is_some_and(|entry| filter.takes(&entry)));
                if wanted {
                    let bytes = bytes.to_vec();
                    found.push(Found { number, bytes });
                }
            }
        }
        if last {
            break;
        }
    }
    Ok((found, next))
}

/// The hashes of pruned entries from a number on, at most so many, whose time is right.
pub(crate) fn hashes(
    reader: &mut Reader<'_>,
    filter: &Filter,
    from: u64,
    limit: usize,
) -> Result<(Vec<(u64, Hash)>, u64), AuditError> {
    let mut found = Vec::new();
    let mut next = from;
    for batch in batches(reader, from, BATCHES)? {
        if !batch.pruned {
            break;
        }
        let in_time = filter.has(batch.at);
        let skipped = next.saturating_sub(batch.first) as usize;
        for (at, hash) in batch.leaves()?.into_iter().enumerate().skip(skipped) {
            if found.len() == limit {
                return Ok((found, next));
            }
            let number = batch.first + at as u64;
            next = number + 1;
            if in_time {
                found.push((number, hash));
            }
        }
    }
    Ok((found, next))
}
