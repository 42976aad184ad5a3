//! What `/proc` tells of processes: children, use, environment. Everything may vanish between two
//! looks, so nothing here fails: what is gone is not counted.

use std::fs;

use rustix::process::Pid;

use crate::driver::Inspection;

/// Linux shows times in hundredths of a second whatever its own tick is (USER_HZ).
const TICK_MS: u64 = 10;
/// Processes of one instance that are looked at.
const MOST_PROCESSES: usize = 10_000;

/// The process id of that number.
pub(crate) fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// The children of a process, whichever of its threads made them.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|line| {
            let numbers = line.split_whitespace().map(str::parse);
            numbers.collect::<Result<Vec<u32>, _>>().unwrap_or_default()
        })
        .collect()
}

/// Everything below a process, the process itself not counted.
pub(crate) fn all_below(pid: u32) -> Vec<u32> {
    let mut left = children(pid);
    let mut all = Vec::new();
    while let Some(pid) = left.pop() {
        if all.len() >= MOST_PROCESSES {
            break;
        }
        all.push(pid);
        left.extend(children(pid));
    }
    all
}

/// What everything below a process uses, the process itself not counted.
pub(crate) fn below(pid: u32) -> Inspection {
    let mut found = Inspection {
        alive: true,
        ..Inspection::default()
    };
    let mut left = children(pid);
    while let Some(pid) = left.pop() {
        if found.processes as usize >= MOST_PROCESSES {
            break;
        }
        let Some(ticks) = cpu_ticks(pid) else {
            continue;
        };
        found.processes += 1;
        found.cpu_ms += ticks * TICK_MS;
        found.memory_bytes += resident(pid).unwrap_or(0);
        left.extend(children(pid));
    }
    found
}

/// The fields of `/proc/<pid>/stat` after the program's name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    // Fields that are no counts (the state, negative numbers) are of no interest here.
    Some(
        fields
            .split(' ')
            .map(|field| field.trim().parse().unwrap_or(0))
            .collect(),
    )
}

/// CPU time of a process and of its children that ended: fields 14 to 17 of proc(5).
fn cpu_ticks(pid: u32) -> Option<u64> {
    Some(stat(pid)?.get(11..15)?.iter().sum())
}

fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// The processes of a session that have this variable in their environment.
pub(crate) fn of_session(session: u32, variable: &str) -> Vec<Pid> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        // The session is field 6.
        .filter(|&pid| stat(pid).and_then(|fields| fields.get(3).copied()) == Some(session.into()))
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|&byte| byte == 0)
                    .any(|one| one == variable.as_bytes())
            })
        })
        .filter_map(pid)
        .collect()
}
