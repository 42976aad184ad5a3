//! Whether a program can stand alone in an image: it is one of this machine's, and asks for no
//! interpreter that would load libraries.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::BuildError;

/// The head of a program with its table of segments, which linkers put right behind it.
const HEAD: u64 = 64 << 10;
const INTERPRETER: u32 = 3;

/// Refuses what would not start.
pub(super) fn check(path: &Path) -> Result<(), BuildError> {
    let failed = |error| BuildError::context(path, error);
    let mut head = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(HEAD).read_to_end(&mut head).map_err(failed)?;
    fault(&head).map_or(Ok(()), |reason| {
        Err(BuildError::Binary {
            path: path.to_owned(),
            reason,
        })
    })
}

fn number<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn short(head: &[u8], at: usize) -> Option<u16> {
    number(head, at).map(u16::from_le_bytes)
}

/// Why it would not start, if so.
fn fault(head: &[u8]) -> Option<&'static str> {
    const NONE: &str = "is no program of Linux (no ELF file of 64 bits)";
    // 64 bits, little-endian: what Skep runs on.
    if !head.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Some(NONE);
    }
    let machine = match std::env::consts::ARCH {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        "riscv64" => Some(243),
        _ => None,
    };
    if machine.is_some_and(|machine| short(head, 18) != Some(machine)) {
        return Some("is for another kind of processor");
    }
    let table = number(head, 32).map(u64::from_le_bytes);
    let table = table.and_then(|at| usize::try_from(at).ok());
    let (Some(table), Some(size), Some(count)) = (table, short(head, 54), short(head, 56)) else {
        return Some(NONE);
    };
    let kinds = (0..usize::from(count)).map(|index| {
        let at = table.checked_add(index * usize::from(size))?;
        number(head, at).map(u32::from_le_bytes)
    });
    let kinds: Option<Vec<u32>> = kinds.collect();
    match kinds {
        None => Some(NONE),
        Some(kinds) if kinds.contains(&INTERPRETER) => {
            Some("needs libraries (it is linked dynamically), and an image of it alone has none")
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_programs_that_stand_alone() {
        let fault_of = |path: &str| {
            let mut head = Vec::new();
            let file = File::open(path).unwrap();
            file.take(HEAD).read_to_end(&mut head).unwrap();
            fault(&head)
        };
        assert!(fault_of("/proc/self/exe").unwrap().contains("libraries"));
        assert!(fault_of("/etc/passwd").unwrap().contains("no program"));
        assert_eq!(fault_of("/bin/busybox"), None);
        assert!(fault(b"\x7fELF\x02\x01").is_some(), "cut short");
    }
}
