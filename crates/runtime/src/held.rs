//! Values that a program must hold: files in a folder of its instance's own, on a file system that is
//! memory. The folder's name cannot be guessed, since agents may share the file system; the data folder
//! has a link to it, by which it is found again.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use skep_core::InstanceId;
use zeroize::Zeroizing;

/// The folder of links, below the data folder.
const LINKS: &str = "held";
/// Memory that every program may write to.
const SHARED: &str = "/dev/shm";
/// What the name of each folder begins with.
const PREFIX: &str = "skep-held-";
/// Characters of a secret's name that its file has.
const MOST_NAME: usize = 60;
/// `f_type` of the file systems that are memory: tmpfs and ramfs (`linux/magic.h`).
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// The file of a secret: its place among the others, and the last part of its name.
pub(crate) fn name(index: usize, secret: &str) -> String {
    let last = secret.rsplit('/').next().unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let last: String = last.chars().filter(plain).take(MOST_NAME).collect();
    format!("{index}-{last}")
}

fn is_memory(path: &Path) -> bool {
    let kind = rustix::fs::statfs(path).map(|about| about.f_type);
    kind.is_ok_and(|kind| u64::try_from(kind).is_ok_and(|kind| MEMORY.contains(&kind)))
}

/// Where folders can be made that never reach a disk.
fn base() -> Result<PathBuf, String> {
    // Not below /run: who is given a folder there sees the rest of it.
    match is_memory(Path::new(SHARED)) {
        true => Ok(PathBuf::from(SHARED)),
        false => Err(format!(
            "{SHARED} is no file system in memory; mount a tmpfs there"
        )),
    }
}

fn link(data: &Path, instance: InstanceId) -> PathBuf {
    data.join(LINKS).join(instance.to_string())
}

/// Writes the files of an instance, or writes them again. Blocks.
pub(crate) fn put(
    data: &Path,
    instance: InstanceId,
    files: &[(String, Zeroizing<Vec<u8>>)],
) -> Result<PathBuf, String> {
    let failed = |error: io::Error| error.to_string();
    let link = link(data, instance);
    let folder = match std::fs::read_link(&link) {
        Ok(folder) => folder,
        Err(_) => {
            let folder = base()?.join(format!("{PREFIX}{:032x}", fresh()?));
            crate::folder::make(&data.join(LINKS)).map_err(failed)?;
            // The link first: what is there can be found.
            symlink(&folder, &link).map_err(failed)?;
            folder
        }
    };
    let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        // Of this instance, from before: it has what it had.
        Err(_) => return Ok(folder),
        Ok(()) => {}
    }
    for (name, value) in files {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o400);
        let written = file
            .open(folder.join(name))
            .and_then(|mut file| file.write_all(value));
        written.map_err(failed)?;
    }
    Ok(folder)
}

fn fresh() -> Result<u128, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(u128::from_le_bytes(bytes))
}

/// Removes the files of an instance. Well when there are none. Blocks.
pub(crate) fn remove(data: &Path, instance: InstanceId) -> io::Result<()> {
    let link = link(data, instance);
    let folder = match std::fs::read_link(&link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        folder => folder?,
    };
    let name = folder.file_name().and_then(|name| name.to_str());
    // Nothing else is ever removed by a link.
    if name.is_some_and(|name| name.starts_with(PREFIX)) {
        crate::folder::remove(&folder).map_err(|error| io::Error::other(error.to_string()))?;
    }
    std::fs::remove_file(link)
}

/// The folder of an instance that has one. Blocks.
pub(crate) fn find(data: &Path, instance: InstanceId) -> Result<PathBuf, String> {
    let folder = std::fs::read_link(link(data, instance));
    folder.map_err(|error| format!("it has no files with secrets: {error}"))
}

/// The instances that have files. Blocks.
pub(crate) fn all(data: &Path) -> BTreeSet<InstanceId> {
    let links = std::fs::read_dir(data.join(LINKS)).into_iter().flatten();
    let names = links.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_memory_private_and_go_with_their_instance() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let (one, two) = (InstanceId::new(), InstanceId::new());
        let value = Zeroizing::new(b"it".to_vec());
        let files = [(name(0, "billing/stripe"), value)];
        let folder = put(data.path(), one, &files).unwrap();
        let other = put(data.path(), two, &files).unwrap();
        assert_ne!(folder, other);
        assert!(is_memory(&folder));
        let file = folder.join("0-stripe");
        assert_eq!(std::fs::read(&file).unwrap(), b"it");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o400));
        // Again it is the same folder, as it was.
        assert_eq!(put(data.path(), one, &files).unwrap(), folder);
        remove(data.path(), one).unwrap();
        remove(data.path(), one).unwrap();
        assert!(!folder.exists() && other.exists());
        assert!(find(data.path(), one).is_err());
        assert_eq!(all(data.path()), BTreeSet::from([two]));
        assert_eq!(find(data.path(), two).unwrap(), other);
        remove(data.path(), two).unwrap();
        assert!(!other.exists());
        let left = std::fs::read_dir(data.path().join(LINKS)).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_link_to_elsewhere_removes_nothing() {
        let data = tempfile::tempdir().unwrap();
        let precious = data.path().join("precious");
        std::fs::create_dir_all(data.path().join(LINKS)).unwrap();
        std::fs::create_dir(&precious).unwrap();
        let instance = InstanceId::new();
        symlink(&precious, link(data.path(), instance)).unwrap();
        remove(data.path(), instance).unwrap();
        assert!(precious.exists());
    }
}
