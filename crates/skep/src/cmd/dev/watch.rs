//! Which files of a folder change, by inotify. What tools make (`.git`, `node_modules`, `target`,
//! hidden files) is not looked at.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::time::Instant;

use crate::failure::{Failure, Result};

/// Folders that are watched at most.
const MOST_FOLDERS: usize = 4_096;
/// How often what came in is read: tokio waits for descriptors of others by unsafe code only.
const LOOK: Duration = Duration::from_millis(40);
/// Editors write a file in several steps: a change is whole when so long nothing more comes.
const QUIET: Duration = Duration::from_millis(80);
/// Something that never rests is a change after this time all the same.
const LONGEST: Duration = Duration::from_secs(2);
const BUFFER_BYTES: usize = 16 << 10;

/// Names of folders that tools fill, and files that they write.
const IGNORED: [&str; 7] = [
    "node_modules",
    "target",
    "__pycache__",
    "venv",
    "Cargo.lock",
    "package-lock.json",
    // What vim makes to see whether it may write.
    "4913",
];

/// Whether a name is not looked at.
fn is_ignored(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.')
        || name.ends_with('~')
        || name.ends_with(".pyc")
        || name.ends_with(".tmp")
        || IGNORED.contains(&name.as_ref())
}

/// A watched folder with those below it.
pub(super) struct Watch {
    inotify: OwnedFd,
    root: PathBuf,
    folders: HashMap<i32, PathBuf>,
    /// What has changed and was not told yet.
    changed: BTreeSet<PathBuf>,
    /// When the first of them did, and the last.
    since: Option<(Instant, Instant)>,
}

impl Watch {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let failed =
            |error: Errno| Failure::plain(format!("{} cannot be watched: {error}", root.display()));
        let inotify =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(failed)?;
        let mut watch = Self {
            inotify,
            root: root.to_owned(),
            folders: HashMap::new(),
            changed: BTreeSet::new(),
            since: None,
        };
        watch.add(root)?;
        Ok(watch)
    }

    /// Watches a folder and those below it.
    fn add(&mut self, folder: &Path) -> Result {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        let number = match inotify::add_watch(&self.inotify, folder, what) {
            Ok(number) => number,
            // It went as fast as it came.
            Err(Errno::NOENT | Errno::NOTDIR) if folder != self.root => return Ok(()),
            Err(error) => {
                let detail = format!("{} cannot be watched: {error}", folder.display());
                let hint = "See fs.inotify.max_user_watches when there are too many.";
                return Err(Failure::plain(detail).hint(hint));
            }
        };
        self.folders.insert(number, folder.to_owned());
        if self.folders.len() > MOST_FOLDERS {
            let root = self.root.display();
            return Err(
                Failure::plain(format!("{root} has over {MOST_FOLDERS} folders"))
                    .hint("Run `skep dev` in the agent's own folder."),
            );
        }
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && !is_ignored(&entry.file_name()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The files that have changed, relative to the folder, once nothing more comes. Nothing is
    /// lost when the future is dropped.
    pub(super) async fn changed(&mut self) -> Result<Vec<PathBuf>> {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            self.read()?;
            let now = Instant::now();
            if let Some((first, last)) = self.since
                && now >= (last + QUIET).min(first + LONGEST)
            {
                self.since = None;
                return Ok(std::mem::take(&mut self.changed).into_iter().collect());
            }
        }
    }

    fn read(&mut self) -> Result {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut fresh = Vec::new();
        let mut found = Vec::new();
        {
            let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::WOULDBLOCK) => break,
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(Failure::plain(format!("inotify: {error}"))),
                };
                let flags = event.events();
                if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                    // Something has changed; what, nobody can say.
                    found.push(self.root.clone());
                    fresh.push(self.root.clone());
                    continue;
                }
                if flags.contains(ReadFlags::IGNORED) {
                    self.folders.remove(&event.wd());
                    continue;
                }
                let folder = self.folders.get(&event.wd());
                let name = event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()));
                let Some((folder, name)) = folder.zip(name).filter(|(_, name)| !is_ignored(name))
                else {
                    continue;
                };
                let path = folder.join(name);
                if flags.contains(ReadFlags::ISDIR)
                    && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
                {
                    fresh.push(path.clone());
                }
                found.push(path);
            }
        }
        for folder in fresh {
            self.add(&folder)?;
        }
        if !found.is_empty() {
            let now = Instant::now();
            self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        }
        let relative = |path: &PathBuf| path.strip_prefix(&self.root).map(Path::to_owned).ok();
        self.changed.extend(found.iter().filter_map(relative));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn changes_are_gathered_and_what_tools_make_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["lib", "node_modules", ".git"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let mut watch = Watch::new(root).unwrap();
        fs::write(root.join("node_modules/x.js"), "").unwrap();
        fs::write(root.join(".git/index"), "").unwrap();
        fs::write(root.join("a.pyc"), "").unwrap();
        fs::write(root.join("lib/b.py"), "1").unwrap();
        // As editors do: a new file in the place of the old one.
        fs::write(root.join("a.tmp"), "1").unwrap();
        fs::rename(root.join("a.tmp"), root.join("a.py")).unwrap();
        let changed = watch.changed().await.unwrap();
        assert_eq!(changed, [PathBuf::from("a.py"), PathBuf::from("lib/b.py")]);
        // A folder that is made later is watched too.
        fs::create_dir(root.join("new")).unwrap();
        assert_eq!(watch.changed().await.unwrap(), [PathBuf::from("new")]);
        fs::write(root.join("new/c.py"), "1").unwrap();
        assert_eq!(watch.changed().await.unwrap(), [PathBuf::from("new/c.py")]);
        fs::remove_file(root.join("a.py")).unwrap();
        assert_eq!(watch.changed().await.unwrap(), [PathBuf::from("a.py")]);
    }
}
