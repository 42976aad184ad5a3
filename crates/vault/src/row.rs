//! Rows whose columns are in the open, and that nobody changes unseen: each ends with a MAC of all others.

use skep_core::Workspace;
use skep_crypto::{CryptoError, Key, same};
use skep_store::{Param, Row};

use crate::VaultError;

/// The MAC of a row, of its columns in the order of its statements.
pub(crate) fn mac(key: &Key, table: &str, of: &Workspace, columns: &[Param<'_>]) -> [u8; 32] {
    let mut text = Vec::with_capacity(256);
    let mut add = |kind: u8, bytes: &[u8]| {
        text.push(kind);
        text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        text.extend_from_slice(bytes);
    };
    add(b'T', table.as_bytes());
    add(b'W', of.as_str().as_bytes());
    for column in columns {
        match column {
            Param::Null => add(b'n', &[]),
            Param::Int(value) => add(b'i', &value.to_be_bytes()),
            Param::Text(value) => add(b't', value.as_bytes()),
            Param::Blob(value) => add(b'b', value),
        }
    }
    key.mac(&text)
}

/// Whether a row is as it was written; its MAC is the last of its columns, after `columns` others.
///
/// # Errors
/// [`VaultError::Crypto`].
pub(crate) fn check(
    key: &Key,
    table: &str,
    of: &Workspace,
    row: &Row,
    columns: usize,
) -> Result<(), VaultError> {
    let values: Vec<Param<'_>> = (0..columns).map(|column| row.param(column)).collect();
    match same(&mac(key, table, of, &values), row.blob(columns)?) {
        true => Ok(()),
        false => Err(CryptoError::Damaged.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_the_same_mac() {
        let key = Key::from_bytes([1; 32]);
        let of = Workspace::default();
        let one = |columns: &[Param<'_>]| mac(&key, "t", &of, columns);
        let rows: [&[Param<'_>]; 7] = [
            &[],
            &[Param::Null],
            &[Param::Text("ab"), Param::Text("c")],
            &[Param::Text("a"), Param::Text("bc")],
            &[Param::Blob(b"ab"), Param::Text("c")],
            &[Param::Int(0)],
            &[Param::Int(1)],
        ];
        for (at, row) in rows.iter().enumerate() {
            for other in &rows[..at] {
                assert_ne!(one(row), one(other));
            }
            assert_ne!(one(row), mac(&key, "u", &of, row));
            let another = Workspace::new("other").unwrap();
            assert_ne!(one(row), mac(&key, "t", &another, row));
        }
    }
}
