//! Limits of memory, processes and CPU time for an agent with all that it starts, where this
//! process may make control groups (version 1 or 2) below its own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::process::proc;

/// Where groups can be made, by controller; version 2 has one place for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    pub(crate) memory: Option<PathBuf>,
    pub(crate) pids: Option<PathBuf>,
    pub(crate) cpu: Option<PathBuf>,
    unified: bool,
}

/// What is to be limited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Want {
    pub(super) memory: Option<u64>,
    pub(super) pids: Option<u64>,
    pub(super) cpu_millis: Option<u64>,
}

/// The group of one agent: a folder in each hierarchy.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) folders: Vec<PathBuf>,
    /// Whoever writes `0` there joins.
    doors: Vec<File>,
    pub(crate) memory: bool,
    pub(super) pids: bool,
    pub(super) cpu: bool,
}

/// The name of the group that the server itself moves to, so that groups can stand beside it.
const OWN: &str = "skep-server";
/// The period of CPU shares, in microseconds.
const PERIOD_US: u64 = 100_000;

/// Looks where groups can be made. With version 2 it moves this process to a group beside those to
/// be, when nothing else is in its own: a group that holds processes cannot hand out limits.
pub(crate) fn places() -> Places {
    find_places(true)
}

/// As [`places`], and moves nothing.
pub(crate) fn look() -> Places {
    find_places(false)
}

fn find_places(may_move: bool) -> Places {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let find = |controller: &str| {
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let controllers = parts.nth(1)?;
            let path = parts.next()?;
            controllers
                .split(',')
                .any(|it| it == controller)
                .then_some(path)
        })?;
        let kind = if controller.is_empty() {
            "cgroup2"
        } else {
            "cgroup"
        };
        mounted(&mounts, kind, controller, Path::new(path))
    };
    let usable = |place: Option<PathBuf>| place.filter(|place| can_make(place));
    if let Some(place) = find("").and_then(|own| unified(&own, may_move)) {
        return Places {
            memory: Some(place.clone()),
            pids: Some(place.clone()),
            cpu: Some(place),
            unified: true,
        };
    }
    Places {
        memory: usable(find("memory")),
        pids: usable(find("pids")),
        cpu: usable(find("cpu")),
        unified: false,
    }
}

/// Where a group lies in the file system.
fn mounted(mounts: &str, kind: &str, controller: &str, group: &Path) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let found = after.next()?;
        let options = after.nth(1)?;
        if found != kind
            || !(controller.is_empty() || options.split(',').any(|it| it == controller))
        {
            return None;
        }
        let below = group.strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

fn can_make(place: &Path) -> bool {
    let probe = place.join(format!("skep-probe-{}", std::process::id()));
    let made = fs::create_dir(&probe).is_ok();
    let _ = fs::remove_dir(&probe);
    made
}

/// The group below which agents' groups get their limits, under version 2.
fn unified(own: &Path, may_move: bool) -> Option<PathBuf> {
    const ALL: &str = "+memory +pids +cpu";
    let has = |group: &Path| {
        let given = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
        ["memory", "pids", "cpu"]
            .iter()
            .all(|name| given.split_whitespace().any(|it| it == *name))
    };
    let enable = |group: &Path| {
        has(group) || (fs::write(group.join("cgroup.subtree_control"), ALL).is_ok() && has(group))
    };
    // A unit with `DelegateSubgroup=`, or a server before this one that moved.
    let leaf = own
        .file_name()
        .is_some_and(|name| name == OWN || name == "server");
    if let Some(above) = own.parent().filter(|_| leaf)
        && enable(above)
        && can_make(above)
    {
        return Some(above.to_owned());
    }
    let there = fs::read_to_string(own.join("cgroup.controllers")).ok()?;
    let offers = |name: &str| there.split_whitespace().any(|it| it == name);
    let inside = fs::read_to_string(own.join("cgroup.procs")).ok()?;
    let alone = inside.trim() == std::process::id().to_string();
    if !["memory", "pids", "cpu"].iter().all(|name| offers(name)) || !alone {
        return None;
    }
    if !may_move {
        return can_make(own).then(|| own.to_owned());
    }
    let leaf = own.join(OWN);
    fs::create_dir(&leaf)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
        .ok()?;
    fs::write(leaf.join("cgroup.procs"), "0").ok()?;
    if enable(own) && can_make(own) {
        return Some(own.to_owned());
    }
    let _ = fs::write(own.join("cgroup.procs"), "0");
    None
}

impl Group {
    /// Makes the group with its limits. What cannot be had is left out, and its flag says so.
    pub(super) fn make(places: &Places, name: &str, want: Want) -> Self {
        let mut group = Self::default();
        let quota = want.cpu_millis.map(|millis| millis * PERIOD_US / 1_000);
        let limits = |memory: &str, cpu: &str| {
            let bytes = want
                .memory
                .map(|bytes| (memory.to_owned(), bytes.to_string()));
            let count = want
                .pids
                .map(|count| ("pids.max".to_owned(), count.to_string()));
            let share = quota.map(|quota| match places.unified {
                true => (cpu.to_owned(), format!("{quota} {PERIOD_US}")),
                false => (cpu.to_owned(), quota.to_string()),
            });
            [bytes, count, share]
        };
        let [bytes, count, share] = match places.unified {
            true => limits("memory.max", "cpu.max"),
            false => limits("memory.limit_in_bytes", "cpu.cfs_quota_us"),
        };
        if let Some((place, limit)) = places.memory.as_ref().zip(bytes) {
            group.memory = group.limit(places.unified, place, name, &limit);
            // Limits without swap mean little; it may not be accounted for.
            let swap = if places.unified {
                "memory.swap.max"
            } else {
                "memory.memsw.limit_in_bytes"
            };
            let most = if places.unified { "0" } else { &limit.1 };
            let _ = fs::write(place.join(name).join(swap), most);
        }
        if let Some((place, limit)) = places.pids.as_ref().zip(count) {
            group.pids = group.limit(places.unified, place, name, &limit);
        }
        if let Some((place, limit)) = places.cpu.as_ref().zip(share) {
            group.cpu = group.limit(places.unified, place, name, &limit);
        }
        group
    }

    fn limit(
        &mut self,
        unified: bool,
        place: &Path,
        name: &str,
        (file, value): &(String, String),
    ) -> bool {
        let folder = place.join(name);
        let new = !self.folders.contains(&folder);
        let made = (|| -> io::Result<Option<File>> {
            if new {
                fs::create_dir(&folder)?;
            }
            fs::write(folder.join(file), value)?;
            // One thread that moves itself waits for nobody; a process waits for the whole machine
            // to take a breath, ten milliseconds and more. Version 2 moves processes only.
            let name = if unified { "cgroup.procs" } else { "tasks" };
            let door = || File::options().write(true).open(folder.join(name));
            new.then(door).transpose()
        })();
        match made {
            Ok(door) => {
                self.doors.extend(door);
                if new {
                    self.folders.push(folder);
                }
                true
            }
            Err(_) => {
                if new {
                    let _ = fs::remove_dir(&folder);
                }
                false
            }
        }
    }

    /// A group that is there, to be joined; it is not ours to remove.
    pub(super) fn open(folders: &[PathBuf]) -> io::Result<Self> {
        let mut group = Self::default();
        for folder in folders {
            let door = |name| File::options().write(true).open(folder.join(name));
            // Version 1 lets one thread move itself, which is what this process is.
            group
                .doors
                .push(door("tasks").or_else(|_| door("cgroup.procs"))?);
            let limits = |name: &str| folder.join(name).exists();
            group.memory |= limits("memory.max") || limits("memory.limit_in_bytes");
            group.pids |= limits("pids.max");
            group.cpu |= limits("cpu.max") || limits("cpu.cfs_quota_us");
        }
        Ok(group)
    }

    /// Brings this process in. Runs between fork and exec.
    pub(super) fn join(&self) -> io::Result<()> {
        for mut door in &self.doors {
            door.write_all(b"0")?;
        }
        Ok(())
    }
}

/// Kills what is in these groups; whether anything was.
pub(crate) fn kill(folders: &[PathBuf]) -> bool {
    let mut any = false;
    for folder in folders {
        let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in inside
            .lines()
            .filter_map(|line| proc::pid(line.parse().ok()?))
        {
            any = true;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    any
}

/// Removes groups that are empty; whether all are gone.
pub(crate) fn remove(folders: &[PathBuf]) -> bool {
    folders
        .iter()
        .map(fs::remove_dir)
        .fold(true, |all, removed| match removed {
            Ok(()) => all,
            Err(error) => all && error.kind() == io::ErrorKind::NotFound,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_where_its_hierarchy_is_mounted() {
        let mounts = "\
            30 25 0:26 /docker/1 /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            31 25 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let at = |kind, controller, group| mounted(mounts, kind, controller, Path::new(group));
        let found = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            at("cgroup", "memory", "/docker/1/a"),
            found("/sys/fs/cgroup/memory/a")
        );
        assert_eq!(at("cgroup", "cpu", "/x"), found("/sys/fs/cgroup/cpu/x"));
        assert_eq!(at("cgroup2", "", "/x"), found("/sys/fs/cgroup/unified/x"));
        assert_eq!(at("cgroup", "memory", "/elsewhere"), None);
        assert_eq!(at("cgroup", "pids", "/x"), None);
    }
}
