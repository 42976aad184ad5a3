//! Dumps: every table as a stream of rows in a form that no engine owns, with its count and hash.
//!
//! A row is its values one after the other: a byte that says what the value is (0 NULL, 1 integer,
//! 2 text, 3 bytes), then eight bytes big-endian for an integer, or the length in four bytes
//! big-endian and the content. Rows come in the order of the table's key, byte by byte, so that
//! stores with the same rows give the same bytes.

use sha2::{Digest, Sha256};
use skep_core::Timestamp;

use crate::unit::Session;
use crate::{Applied, Hash, MigrationSet, Reader, Row, Schema, StoreError, Table, Value};

/// Bytes that are handed over at once, about.
const PIECE: usize = 64 << 10;
/// The longest text or byte string that is read back.
const LONGEST: usize = 256 << 20;

const NULL: u8 = 0;
const INT: u8 = 1;
const TEXT: u8 = 2;
const BLOB: u8 = 3;

/// How much a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSum {
    /// Its rows.
    pub rows: u64,
    /// The SHA-256 of its rows as they are dumped.
    pub hash: Hash,
}

/// Sums up what goes by.
#[derive(Default)]
pub(crate) struct Summing {
    pub(crate) rows: u64,
    hasher: Sha256,
}

impl Summing {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    pub(crate) fn sum(self) -> TableSum {
        TableSum {
            rows: self.rows,
            hash: Hash::from_bytes(self.hasher.finalize().into()),
        }
    }
}

/// One state of a store, to be read table by table.
pub struct Dump<'a> {
    session: &'a mut dyn Session,
    schema: Schema,
    applied: Vec<Applied>,
}

impl Reader<'_> {
    /// The whole of what this reader sees, across workspaces.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::MigrationChanged`] when the store is not of this
    /// binary; [`StoreError::Unavailable`].
    pub fn dump(&mut self, sets: &[MigrationSet]) -> Result<Dump<'_>, StoreError> {
        self.session.take_time()?;
        Dump::new(self.session, sets)
    }
}

impl<'a> Dump<'a> {
    pub(crate) fn new(
        session: &'a mut dyn Session,
        sets: &[MigrationSet],
    ) -> Result<Self, StoreError> {
        let applied = session
            .query(
                "SELECT component, name, hash FROM migrations ORDER BY component, name",
                &[],
            )?
            .iter()
            .map(|row| {
                Ok(Applied {
                    component: row.text(0)?.to_owned(),
                    name: row.text(1)?.to_owned(),
                    hash: Hash::from_bytes(row.bytes(2)?),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let schema = Schema::of(sets, &applied)?;
        Ok(Self {
            session,
            schema,
            applied,
        })
    }

    /// The migrations that the store has.
    #[must_use]
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// The tables, in the order in which they must be loaded.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        self.schema.tables().to_vec()
    }

    /// The epoch, and the last time that was saved.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn epoch_and_time(&mut self) -> Result<(i64, Timestamp), StoreError> {
        let rows = self.session.query(
            "SELECT value FROM server_state WHERE name IN ('epoch', 'last_time') ORDER BY name",
            &[],
        )?;
        match rows.as_slice() {
            [epoch, time] => Ok((epoch.int(0)?, time.time(0)?)),
            _ => Err(StoreError::Statement(
                "server_state is incomplete".to_owned(),
            )),
        }
    }

    /// Which blobs there are: workspace, hash and size of each is handed over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn blobs(&mut self, mut each: impl FnMut(&str, Hash, u64)) -> Result<(), StoreError> {
        let sql = "SELECT workspace, hash, size FROM blobs WHERE refs > 0";
        self.session.scan(sql, &mut |row| {
            let size = u64::try_from(row.int(2)?).unwrap_or(0);
            each(row.text(0)?, Hash::from_bytes(row.bytes(1)?), size);
            Ok(())
        })
    }

    /// Hands the rows of a table to `out`, a piece at a time.
    ///
    /// # Errors
    /// What `out` gives; [`StoreError::Unavailable`].
    pub fn table<E: From<StoreError>>(
        &mut self,
        table: &Table,
        out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<TableSum, E> {
        dump_table(self.session, table, out)
    }
}

pub(crate) fn dump_table<E: From<StoreError>>(
    session: &mut dyn Session,
    table: &Table,
    mut out: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<TableSum, E> {
    let mut sum = Summing::default();
    let mut piece = Vec::with_capacity(PIECE * 2);
    let mut failed = None;
    let select = table.select(session.by_bytes());
    let scanned = session.scan(&select, &mut |row| {
        encode(row, &mut piece)?;
        sum.rows += 1;
        if piece.len() < PIECE {
            return Ok(());
        }
        sum.add(&piece);
        let taken = out(&piece);
        piece.clear();
        taken.map_err(|error| {
            failed = Some(error);
            StoreError::Closed
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    scanned?;
    if !piece.is_empty() {
        sum.add(&piece);
        out(&piece)?;
    }
    Ok(sum.sum())
}

fn encode(row: &Row, out: &mut Vec<u8>) -> Result<(), StoreError> {
    for value in row.values() {
        let (kind, bytes): (u8, &[u8]) = match value {
            Value::Null => {
                out.push(NULL);
                continue;
            }
            Value::Int(value) => {
                out.push(INT);
                out.extend_from_slice(&value.to_be_bytes());
                continue;
            }
            Value::Text(text) => (TEXT, text.as_bytes()),
            Value::Blob(bytes) => (BLOB, bytes),
        };
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|_| bytes.len() <= LONGEST);
        let length = length.ok_or_else(|| wrong("a value is over 256 MiB"))?;
        out.push(kind);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(bytes);
    }
    Ok(())
}

pub(crate) fn wrong(why: &str) -> StoreError {
    StoreError::Dump(why.to_owned())
}

/// Takes the first row from what came so far; `None` when it is not whole yet.
pub(crate) fn decode(
    bytes: &[u8],
    columns: usize,
) -> Result<Option<(Vec<Value>, usize)>, StoreError> {
    let mut at = 0;
    let mut values = Vec::with_capacity(columns);
    let mut take = |length: usize| {
        let taken = bytes.get(at..at + length);
        at += length;
        taken
    };
    for _ in 0..columns {
        let Some([kind]) = take(1) else {
            return Ok(None);
        };
        let value = match *kind {
            NULL => Value::Null,
            INT => match take(8).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => Value::Int(i64::from_be_bytes(bytes)),
                None => return Ok(None),
            },
            TEXT | BLOB => {
                let Some(length) = take(4).and_then(|bytes| bytes.try_into().ok()) else {
                    return Ok(None);
                };
                let length = u32::from_be_bytes(length) as usize;
                if length > LONGEST {
                    return Err(wrong("a value is longer than any can be"));
                }
                let Some(content) = take(length) else {
                    return Ok(None);
                };
                match *kind {
                    BLOB => Value::Blob(content.to_vec()),
                    _ => Value::Text(
                        String::from_utf8(content.to_vec())
                            .map_err(|_| wrong("a text is not UTF-8"))?,
                    ),
                }
            }
            _ => return Err(wrong("a value is of no known kind")),
        };
        values.push(value);
    }
    Ok(Some((values, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_halves_wait() {
        let values = vec![
            Value::Null,
            Value::Int(i64::MIN),
            Value::Text("é".to_owned()),
            Value::Blob(vec![0, 255]),
        ];
        let mut bytes = Vec::new();
        encode(&Row::new(values.clone()), &mut bytes).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], 4).unwrap(), None, "{cut}");
        }
        let length = bytes.len();
        bytes.push(9);
        assert_eq!(decode(&bytes, 4).unwrap(), Some((values, length)));
        assert!(decode(&[7], 1).is_err());
        assert!(decode(&[TEXT, 0, 0, 0, 1, 0xff], 1).is_err());
        assert!(decode(&[BLOB, 0xff, 0xff, 0xff, 0xff], 1).is_err());
    }
}
