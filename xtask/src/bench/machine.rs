//! What the machine can do, and what a process uses of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Writes and syncs of one probe.
const SYNCS: usize = 400;
const PAGE: [u8; 4096] = [7; 4096];

/// Durations of one page appended and fdatasynced, sorted.
pub(crate) fn probe_fdatasync(folder: &Path) -> Result<Vec<Duration>> {
    let path = folder.join("fdatasync-probe");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)?;
    let mut taken = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        taken.push(started.elapsed());
    }
    fs::remove_file(path)?;
    taken.sort_unstable();
    Ok(taken)
}

/// The value below which `percent` of sorted values are.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// CPU time of a process so far, and its resident memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) memory: u64,
}

/// What a process and its children (nginx's workers) have used; nothing when they are gone.
pub(crate) fn usage(pid: u32) -> Usage {
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|child| child.parse().ok());
    let mut sum = of_one(pid);
    // Only those of the same program: Skep's agents are not Skep.
    for child in children.filter(|child| name(*child) == name(pid)) {
        let one = of_one(child);
        sum.cpu += one.cpu;
        sum.memory += one.memory;
    }
    sum
}

fn name(pid: u32) -> Option<String> {
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let is_shim = words.contains("__shim");
    (!is_shim)
        .then(|| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .flatten()
}

fn of_one(pid: u32) -> Usage {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Usage::default();
    };
    // The name in parentheses may hold anything: the fields follow the last one.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
    };
    // Ticks of 10 ms and pages of 4 KiB, as on every Linux that we build for.
    Usage {
        cpu: Duration::from_millis((number(11) + number(12)) * 10),
        memory: number(21) * 4096,
    }
}

/// Model of the processor, number of them, kernel.
pub(crate) fn describe() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = info
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(format!(
        "{count} × {}, Linux {}",
        model.unwrap_or("unknown"),
        kernel.trim()
    ))
}
