//! A folder of backups: their names, which there are, and which go when there are too many.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use skep_core::Timestamp;

use crate::BackupError;
use crate::archive::{open, read_start};

const PREFIX: &str = "skep-";
const SUFFIX: &str = ".backup";
const PARTIAL: &str = ".partial";

/// A backup in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, which says when it was made.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is encrypted, where that is known.
    pub encrypted: Option<bool>,
}

/// The name of a backup of this moment, such as `skep-20261121T122400.123456Z.backup`. Names are in
/// the order of their moments.
#[must_use]
pub fn name_of(moment: Timestamp) -> String {
    let moment = moment.to_string().replace(['-', ':'], "");
    format!("{PREFIX}{moment}{SUFFIX}")
}

/// The moment of a name.
#[must_use]
pub fn moment_of(name: &str) -> Option<Timestamp> {
    let middle = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let part = |range: std::ops::Range<usize>| middle.get(range);
    let date = [part(0..4)?, part(4..6)?, part(6..8)?].join("-");
    let time = [part(9..11)?, part(11..13)?, part(13..23)?].join(":");
    format!("{date}T{time}").parse().ok()
}

/// Whether a name is one that [`name_of`] gives, and no path.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let middle = name.strip_prefix(PREFIX);
    let middle = middle.and_then(|rest| rest.strip_suffix(SUFFIX));
    let of_moment = |c: char| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | '.');
    middle.is_some_and(|middle| middle.len() == 23 && middle.chars().all(of_moment))
}

/// Where a backup is written before it is whole.
#[must_use]
pub fn partial(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}{PARTIAL}"))
}

fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let failed = |error: io::Error| BackupError::file(folder, &error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The backups of a folder, the oldest first. There are none in a folder that is not there.
///
/// # Errors
/// [`BackupError::File`].
pub fn list(folder: &Path) -> Result<Vec<Found>, BackupError> {
    let mut found = Vec::new();
    for name in names(folder)?.into_iter().filter(|name| is_name(name)) {
        let path = folder.join(&name);
        let Ok(about) = fs::metadata(&path) else {
            continue;
        };
        let encrypted = open(&path).and_then(|mut file| read_start(&mut file));
        found.push(Found {
            bytes: about.len(),
            encrypted: encrypted.ok(),
            name,
        });
    }
    Ok(found)
}

/// Removes all but the newest `keep` backups; tells which went.
///
/// # Errors
/// [`BackupError::File`].
pub fn prune(folder: &Path, keep: usize) -> Result<Vec<String>, BackupError> {
    let mut names = names(folder)?;
    names.retain(|name| is_name(name));
    names.truncate(names.len().saturating_sub(keep));
    for name in &names {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(|error| BackupError::file(&path, &error))?;
    }
    Ok(names)
}

/// Removes what backups left that were not finished. Only for who knows that none is being made.
///
/// # Errors
/// [`BackupError::File`].
pub fn remove_partial(folder: &Path) -> Result<usize, BackupError> {
    let names = names(folder)?.into_iter();
    let unfinished = names.filter(|name| {
        let inner = name.strip_prefix('.');
        let inner = inner.and_then(|name| name.strip_suffix(PARTIAL));
        inner.is_some_and(is_name)
    });
    let mut count = 0;
    for name in unfinished {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(|error| BackupError::file(&path, &error))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay() {
        let folder = tempfile::TempDir::new().unwrap();
        let name = |n: i64| name_of(Timestamp::from_micros(1_795_236_848_000_000 + n));
        for n in 0..5 {
            fs::write(folder.path().join(name(n)), "x").unwrap();
        }
        fs::write(folder.path().join("of-somebody-else.backup"), "x").unwrap();
        let half = partial(&folder.path().join(name(9)));
        fs::write(&half, "x").unwrap();
        assert_eq!(list(folder.path()).unwrap().len(), 5);
        assert_eq!(
            prune(folder.path(), 2).unwrap(),
            [name(0), name(1), name(2)]
        );
        assert_eq!(list(folder.path()).unwrap().len(), 2);
        assert_eq!(remove_partial(folder.path()).unwrap(), 1);
        assert!(!half.exists());
        assert!(folder.path().join("of-somebody-else.backup").exists());
        assert!(list(&folder.path().join("nowhere")).unwrap().is_empty());
        assert_eq!(name(0), "skep-20261121T045408.000000Z.backup");
        assert_eq!(
            moment_of(&name(7)),
            Some(Timestamp::from_micros(1_795_236_848_000_007))
        );
        assert_eq!(moment_of("skep-nonsense.backup"), None);
        assert!(!is_name("skep-../../../../etc/passwd.backup"));
    }
}
