//! A container's first process as this machine sees it: whether it lives can be told also while the
//! engine is away.

use serde::{Deserialize, Serialize};

/// A process, told from a later one with the same number by when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    began: u64,
}

impl Seen {
    /// The process with this number, if there is one.
    pub(crate) fn look(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the 22nd field is the 20th after it.
        let rest = stat.rsplit_once(')')?.1;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let began = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, began })
    }

    /// Whether it lives still.
    pub(crate) fn lives(self) -> bool {
        Self::look(self.pid) == Some(self)
    }
}

/// Everything below a process.
pub(crate) fn below(pid: u32) -> Vec<u32> {
    /// More are not looked at.
    const MOST: usize = 10_000;
    let children = |pid: u32| -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let text = text.unwrap_or_default();
        text.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let (mut all, mut left) = (Vec::new(), children(pid));
    while let Some(pid) = left.pop().filter(|_| all.len() < MOST) {
        all.push(pid);
        left.extend(children(pid));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let seen = Seen::look(child.id()).unwrap();
        assert!(seen.lives());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!seen.lives());
    }
}
