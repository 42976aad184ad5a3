//! Entries in a row, as c2sp.org/tlog-tiles bundles them: each with its length in two bytes, big-endian,
//! before it.

use crate::AuditError;

/// Adds an entry.
///
/// # Errors
/// [`AuditError::TooLong`].
pub(crate) fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), AuditError> {
    let length = u16::try_from(entry.len()).map_err(|_| AuditError::TooLong)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle.
///
/// # Errors
/// [`AuditError::Damaged`] when it ends within one.
pub fn split(mut bundle: &[u8]) -> Result<Vec<&[u8]>, AuditError> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest
            .split_at_checked(length)
            .ok_or_else(|| AuditError::damaged("a bundle of entries is cut short"))?;
        entries.push(entry);
        bundle = rest;
    }
    match bundle.is_empty() {
        true => Ok(entries),
        false => Err(AuditError::damaged("a bundle of entries is cut short")),
    }
}
