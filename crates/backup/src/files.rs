//! The files of a backup or of an agent's archive, read while agents go on writing them. An agent owns its home and may put a
//! link in the place of a folder at any moment: nothing here follows one.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::BackupError;
use crate::archive::About;
use crate::tree::{Belongs, to_text};

/// Folders in folders that are looked into.
const DEEPEST: usize = 128;

/// Bytes between two looks at the free space.
pub(crate) const LOOK_EVERY: u64 = 8 << 20;

/// Whether the disk of a file has so many free bytes.
pub(crate) fn room(path: &Path, min_free: u64) -> Result<(), BackupError> {
    let room = rustix::fs::statvfs(path);
    let room = room.map_err(|error| BackupError::file(path, &error.into()))?;
    match room.f_bavail.saturating_mul(room.f_frsize) < min_free {
        true => Err(BackupError::NoRoom {
            path: path.to_owned(),
            min_free,
        }),
        false => Ok(()),
    }
}

/// One thing that was found.
pub(crate) enum Found {
    Folder,
    /// A file and its size as of now.
    File(File, u64),
    /// Where a link leads.
    Link(String),
}

/// Told what is found.
pub(crate) type Each<'a> = dyn FnMut(&Path, About, Found) -> Result<(), BackupError> + 'a;

/// Looks through a folder for what belongs; tells how much had to be left out.
pub(crate) fn walk(
    root: &Path,
    belongs: fn(&Path) -> Belongs,
    each: &mut Each<'_>,
) -> Result<u64, BackupError> {
    let mut walk = Walk {
        root,
        belongs,
        each,
        skipped: 0,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty());
    let opened = opened.map_err(|error| BackupError::file(root, &error.into()))?;
    walk.folder(&opened, Path::new(""), 0)?;
    Ok(walk.skipped)
}

struct Walk<'a, 'e> {
    root: &'a Path,
    belongs: fn(&Path) -> Belongs,
    each: &'a mut Each<'e>,
    skipped: u64,
}

impl Walk<'_, '_> {
    fn folder(&mut self, folder: &OwnedFd, path: &Path, depth: usize) -> Result<(), BackupError> {
        let failed = |error: Errno| BackupError::file(&self.root.join(path), &error.into());
        for entry in Dir::read_from(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.entry(folder.as_fd(), name, path.join(name), depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: impl AsFd,
        name: &OsStr,
        path: PathBuf,
        depth: usize,
    ) -> Result<(), BackupError> {
        let belongs = (self.belongs)(&path);
        if belongs == Belongs::No {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = openat(&folder, name, flags | OFlags::CLOEXEC, Mode::empty());
        let file = match opened {
            Ok(file) => file,
            Err(Errno::LOOP) => return self.link(folder, name, &path, belongs),
            // It is gone meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            // A socket, or what the server's user may not read.
            Err(Errno::NXIO | Errno::ACCESS | Errno::PERM) => {
                self.skip(&path, "it cannot be read");
                return Ok(());
            }
            Err(error) => return Err(BackupError::file(&self.root.join(path), &error.into())),
        };
        let stat = fstat(&file);
        let stat =
            stat.map_err(|error| BackupError::file(&self.root.join(&path), &error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth >= DEEPEST => self.skip(&path, "it lies too deep"),
            FileType::Directory => {
                (self.each)(&path, about(&stat), Found::Folder)?;
                self.folder(&file, &path, depth + 1)?;
            }
            FileType::RegularFile if belongs == Belongs::Yes => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                (self.each)(&path, about(&stat), Found::File(file.into(), size))?;
            }
            _ => self.skip(&path, "it is neither a file nor a folder nor a link"),
        }
        Ok(())
    }

    fn link(
        &mut self,
        folder: impl AsFd,
        name: &OsStr,
        path: &Path,
        belongs: Belongs,
    ) -> Result<(), BackupError> {
        if belongs != Belongs::Yes {
            self.skip(path, "it is a link in a place of the server's own");
            return Ok(());
        }
        let target = readlinkat(&folder, name, Vec::new());
        let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
        // It is gone meanwhile when either fails.
        if let (Ok(target), Ok(stat)) = (target, stat) {
            let target = to_text(Path::new(OsStr::from_bytes(target.to_bytes())));
            (self.each)(path, about(&stat), Found::Link(target))?;
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, why: &str) {
        tracing::warn!(path = %path.display(), why, "left out");
        self.skipped += 1;
    }
}

fn about(stat: &Stat) -> About {
    About {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
    }
}
