//! Names of files in a backup: a path below the data folder, and which paths belong to one.
//!
//! Names are bytes; in a backup they are text in which `%` and what is no UTF-8 are written as `%`
//! and two hexadecimal digits.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// What becomes of a file or folder when a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// It is in the backup; a folder with all that is below.
    Yes,
    /// A folder in which some belong and others do not.
    Within,
    No,
}

/// Whether a path below the data folder belongs to a backup: homes, logs and named volumes do.
/// The store and its blobs go their own way; locks, sockets and what tells a server which processes
/// it has are of this machine.
pub(crate) fn belongs(path: &Path) -> Belongs {
    let parts: Vec<&OsStr> = path.iter().collect();
    let is = |at: usize, name: &str| parts.get(at).is_some_and(|part| *part == name);
    // An agent's volumes are those of its server, by its id.
    if is(0, "volumes") || path == Path::new("server.id") {
        return Belongs::Yes;
    }
    if !is(0, "agents") {
        return Belongs::No;
    }
    match parts.len() {
        0..=3 => Belongs::Within,
        _ if is(3, "home") => Belongs::Yes,
        4 | 5 if is(3, "instances") => Belongs::Within,
        6 if is(3, "instances") && parts[5].as_bytes().starts_with(b"log") => Belongs::Yes,
        _ => Belongs::No,
    }
}

/// A path as it stands in a backup.
pub(crate) fn to_text(path: &Path) -> String {
    let mut text = String::new();
    for part in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&part.valid().replace('%', "%25"));
        for byte in part.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The bytes that a text stands for; `None` when it is malformed.
pub(crate) fn bytes_of(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (code, after) = rest.split_at_checked(2)?;
                let code = std::str::from_utf8(code).ok()?;
                bytes.push(u8::from_str_radix(code, 16).ok()?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    Some(OsString::from_vec(bytes)).filter(|name| !name.as_bytes().contains(&0))
}

/// The path below the data folder that a text stands for. One that leads anywhere else is none, nor
/// is one that no backup has.
pub(crate) fn to_path(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(bytes_of(text)?);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let plain = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    (inside && plain && belongs(&path) != Belongs::No).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_logs_and_volumes_belong() {
        let cases = [
            ("skep.db", Belongs::No),
            ("admin.key", Belongs::No),
            ("server.id", Belongs::Yes),
            ("server.id/x", Belongs::No),
            ("agents", Belongs::Within),
            ("agents/default/a", Belongs::Within),
            ("agents/default/a/home", Belongs::Yes),
            ("agents/default/a/home/deep/er", Belongs::Yes),
            ("agents/default/a/tmp", Belongs::No),
            ("agents/default/a/instances/ins_1", Belongs::Within),
            ("agents/default/a/instances/ins_1/log.1", Belongs::Yes),
            ("agents/default/a/instances/ins_1/state.json", Belongs::No),
            ("agents/default/a/instances/ins_1/tmp/log", Belongs::No),
            ("volumes/default/data/x", Belongs::Yes),
            ("blobs/by-hash", Belongs::No),
        ];
        for (path, expected) in cases {
            assert_eq!(belongs(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn names_come_back_and_none_leads_out() {
        for name in [&b"plain"[..], b"100%", b"\xff\xfe", "é".as_bytes(), b"%41"] {
            let path = Path::new("volumes").join(OsStr::from_bytes(name));
            assert_eq!(to_path(&to_text(&path)), Some(path));
        }
        for text in [
            "",
            "/etc/passwd",
            "volumes/../skep.db",
            "..",
            "volumes/%2e%2e/x",
            "volumes/./x",
            "volumes//x",
            "volumes/%",
            "volumes/%zz",
            "volumes/a%00b",
            "skep.db",
            "volumes/",
        ] {
            assert_eq!(to_path(text), None, "{text}");
        }
    }
}
