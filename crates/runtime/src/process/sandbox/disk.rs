//! How much an agent has written. Quotas of folders are not to be had everywhere, so the shim
//! measures the agent's folders, some files at a time, and ends an agent that is over its limit.

use std::collections::HashSet;
use std::fs::{self, ReadDir};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::proc;

/// How often free space is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time between two measurements of an agent that writes little.
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// Files that are looked at in one step, so that the shim has time for its other duties.
const STEP: usize = 2_000;
/// Bytes of a block as `stat` counts them.
const BLOCK: u64 = 512;

/// Watches an agent's folders.
pub(crate) struct Watch {
    folders: Vec<PathBuf>,
    limit: Limit,
    measuring: Option<Measuring>,
    next_look: Instant,
    next_measure: Instant,
    /// Free bytes of the disk at the last measurement, and what was left to the agent then.
    free: u64,
    left: u64,
}

/// How much may be there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// So many bytes.
    Total(u64),
    /// So many more than the first measurement finds.
    More(u64),
}

struct Measuring {
    waiting: Vec<PathBuf>,
    open: Option<ReadDir>,
    seen: HashSet<(u64, u64)>,
    bytes: u64,
}

/// Bytes that are free on the disk of a folder.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Watch {
    pub(crate) fn new(folders: Vec<PathBuf>, limit: Limit) -> Self {
        let now = Instant::now();
        Self {
            folders,
            limit,
            measuring: None,
            // Not at the start, which is not to take longer.
            next_look: now + LOOK_EVERY,
            next_measure: now + LOOK_EVERY,
            free: 0,
            left: u64::MAX,
        }
    }

    /// When it wants to be asked again.
    pub(crate) fn next(&self) -> Instant {
        match self.measuring {
            Some(_) => Instant::now(),
            None => self.next_look.min(self.next_measure),
        }
    }

    /// Goes on; what was found, when that is over the limit. `shim` is whose processes may hold
    /// files that have no name any more.
    pub(crate) fn step(&mut self, shim: u32) -> Option<(u64, u64)> {
        let now = Instant::now();
        if let Some(measuring) = &mut self.measuring {
            if !measuring.step() {
                return None;
            }
            let device = self
                .folders
                .first()
                .and_then(|folder| fs::metadata(folder).ok());
            let bytes = measuring.bytes + device.map_or(0, |about| unnamed(shim, about.dev()));
            self.measuring = None;
            self.next_measure = now + MEASURE_EVERY;
            if let Limit::More(more) = self.limit {
                self.limit = Limit::Total(bytes.saturating_add(more));
            }
            let Limit::Total(limit) = self.limit else {
                return None;
            };
            self.left = limit.saturating_sub(bytes);
            return (bytes > limit).then_some((bytes, limit));
        }
        if now < self.next() {
            return None;
        }
        self.next_look = now + LOOK_EVERY;
        let free = self.folders.first().and_then(|folder| free(folder))?;
        // Whoever writes much makes the free space shrink: then it is time.
        let used = self.free.saturating_sub(free);
        if now >= self.next_measure || used > self.left / 4 {
            self.free = free;
            self.measuring = Some(Measuring {
                waiting: self.folders.clone(),
                open: None,
                seen: HashSet::new(),
                bytes: 0,
            });
        }
        None
    }
}

impl Measuring {
    /// Looks at some more files; whether that was all.
    fn step(&mut self) -> bool {
        for _ in 0..STEP {
            let Some(entries) = &mut self.open else {
                let Some(folder) = self.waiting.pop() else {
                    return true;
                };
                self.open = fs::read_dir(folder).ok();
                continue;
            };
            match entries.next() {
                Some(Ok(entry)) => {
                    let Ok(about) = entry.metadata() else {
                        continue;
                    };
                    if about.is_dir() {
                        self.waiting.push(entry.path());
                    }
                    // A file with several names is there once.
                    if about.nlink() < 2
                        || about.is_dir()
                        || self.seen.insert((about.dev(), about.ino()))
                    {
                        self.bytes += about.blocks() * BLOCK;
                    }
                }
                Some(Err(_)) => {}
                None => self.open = None,
            }
        }
        false
    }
}

/// Bytes of files of this disk that were removed and are still open in a process below the shim.
fn unnamed(shim: u32, device: u64) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    for pid in proc::all_below(shim) {
        for fd in fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(about) = fs::metadata(fd.path()) else {
                continue;
            };
            let lost = about.is_file() && about.nlink() == 0 && about.dev() == device;
            if lost && seen.insert((about.dev(), about.ino())) {
                bytes += about.blocks() * BLOCK;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/a"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(folder.path().join("in/a"), folder.path().join("b")).unwrap();
        let mut watch = Watch::new(vec![folder.path().to_owned()], Limit::Total(1 << 19));
        watch.next_look = Instant::now();
        watch.next_measure = watch.next_look;
        let me = std::process::id();
        let found = (0..10).find_map(|_| watch.step(me)).unwrap();
        assert!((1 << 20..3 << 19).contains(&found.0), "{found:?}");
    }
}
