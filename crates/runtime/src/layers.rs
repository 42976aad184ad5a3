//! What an agent has of its lock file: `lock/personality.json` and `lock/memory.json` in its home, and where they came
//! from beside them. The agent may make of that folder what it likes: nothing here follows a link or trusts what it
//! finds.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// The folder, in the home.
const FOLDER: &str = "lock";
const PERSONALITY: &str = "personality.json";
const MEMORY: &str = "memory.json";
const ORIGIN: &str = "origin.json";
/// Bytes of a layer.
pub const MOST_LAYER: u64 = 32 << 20;
/// Bytes of where they came from.
const MOST_ORIGIN: u64 = 64 << 10;

/// Layers as an agent finds them: texts of JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// Its prompts, persona, model settings.
    pub personality: Option<Vec<u8>>,
    /// What it remembers; it writes that itself.
    pub memory: Option<Vec<u8>>,
    /// Of which lock file they are.
    pub origin: Option<Vec<u8>>,
}

const FOLDER_FLAGS: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The folder of layers in a home.
fn folder(home: &Path) -> io::Result<OwnedFd> {
    let home = openat(CWD, home, FOLDER_FLAGS, Mode::empty())?;
    Ok(openat(&home, FOLDER, FOLDER_FLAGS, Mode::empty())?)
}

fn read_one(folder: impl AsFd, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    // One that is a pipe must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => File::from(other?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{FOLDER}/{name} is no file"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => {
            let detail = format!("{FOLDER}/{name} has over {most} bytes");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, detail))
        }
        false => Ok(Some(bytes)),
    }
}

/// The layers in a home. Blocks.
///
/// # Errors
/// What the file system says; a link or another odd thing in their place is an error.
pub(crate) fn read(home: &Path) -> io::Result<Layers> {
    let folder = match folder(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Layers::default()),
        other => other?,
    };
    Ok(Layers {
        personality: read_one(&folder, PERSONALITY, MOST_LAYER)?,
        memory: read_one(&folder, MEMORY, MOST_LAYER)?,
        origin: read_one(&folder, ORIGIN, MOST_ORIGIN)?,
    })
}

/// Writes a file whole, or leaves what there was.
fn write_one(folder: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!(".{name}.new");
    match unlinkat(&folder, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, &new, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(renameat(&folder, &new, &folder, name)?)
}

/// Writes what is there of these layers into a home; the others stay. Blocks.
///
/// # Errors
/// What the file system says; a link or another odd thing in the place of the folder is an error.
pub(crate) fn write(home: &Path, layers: &Layers) -> io::Result<()> {
    crate::folder::make(home)?;
    let folder = match folder(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let home_folder = openat(CWD, home, FOLDER_FLAGS, Mode::empty())?;
            mkdirat(&home_folder, FOLDER, Mode::RWXU)?;
            rustix::fs::fsync(&home_folder)?;
            folder(home)?
        }
        other => other?,
    };
    // Where they came from is the last: until then they came from where they came before.
    for (name, bytes) in [
        (PERSONALITY, &layers.personality),
        (MEMORY, &layers.memory),
        (ORIGIN, &layers.origin),
    ] {
        if let Some(bytes) = bytes {
            write_one(&folder, name, bytes)?;
        }
    }
    Ok(rustix::fs::fsync(&folder)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn layers(memory: &str) -> Layers {
        Layers {
            memory: Some(memory.as_bytes().to_vec()),
            ..Layers::default()
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let folder = TempDir::new().unwrap();
        let home = folder.path().join("home");
        assert!(read(&home).unwrap() == Layers::default());
        write(&home, &layers("{}")).unwrap();
        let rest = Layers {
            personality: Some(b"{\"a\":1}".to_vec()),
            memory: None,
            origin: Some(b"{}".to_vec()),
        };
        write(&home, &rest).unwrap();
        let all = read(&home).unwrap();
        assert_eq!(all.memory.as_deref(), Some(&b"{}"[..]));
        assert_eq!(all.personality, rest.personality);
        assert_eq!(all.origin, rest.origin);
        // What was cut off in the middle is in nobody's way.
        std::fs::write(home.join("lock/.memory.json.new"), "half").unwrap();
        write(&home, &layers("{\"b\":2}")).unwrap();
        assert_eq!(read(&home).unwrap().memory.unwrap(), b"{\"b\":2}");
        assert!(!home.join("lock/.memory.json.new").exists());
    }

    #[test]
    fn links_lead_nowhere() {
        let folder = TempDir::new().unwrap();
        let (home, outside) = (folder.path().join("home"), folder.path().join("outside"));
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("memory.json"), "secret").unwrap();
        std::fs::create_dir(&home).unwrap();
        symlink(&outside, home.join("lock")).unwrap();
        assert!(read(&home).is_err());
        assert!(write(&home, &layers("x")).is_err());
        std::fs::remove_file(home.join("lock")).unwrap();
        std::fs::create_dir(home.join("lock")).unwrap();
        symlink(outside.join("memory.json"), home.join("lock/memory.json")).unwrap();
        assert!(read(&home).is_err());
        symlink(
            outside.join("memory.json"),
            home.join("lock/.memory.json.new"),
        )
        .unwrap();
        // A link in the place of a file is replaced, not followed.
        write(&home, &layers("ours")).unwrap();
        assert_eq!(read(&home).unwrap().memory.unwrap(), b"ours");
        let theirs = std::fs::read(outside.join("memory.json")).unwrap();
        assert_eq!(theirs, b"secret");
        std::fs::remove_file(home.join("lock/memory.json")).unwrap();
        rustix::fs::mknodat(
            CWD,
            home.join("lock/memory.json"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        let said = read(&home).err().unwrap();
        assert!(said.to_string().contains("no file"), "{said}");
    }
}
