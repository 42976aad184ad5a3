//! Archives that come back as they were, that are cut, and that were made to do harm.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000)
}

fn parts(below: &Path) -> Vec<Part> {
    let part = |name: &str| Part {
        name: name.to_owned(),
        folder: below.join(name),
    };
    vec![
        part(HOME),
        part("volumes/notes"),
        part("volumes/never-used"),
    ]
}

/// A home and a volume with what files can be like.
fn laid_out(below: &Path) -> Vec<u8> {
    let home = below.join(HOME);
    let deep = home.join("a".repeat(90)).join("b".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("c".repeat(90)), "deep").unwrap();
    fs::write(home.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(home.join("run"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(home.join("large"), vec![7; 3 * PIECE + 5]).unwrap();
    fs::write(home.join("empty"), "").unwrap();
    symlink("/etc/passwd", home.join("away")).unwrap();
    fs::create_dir_all(below.join("volumes/notes/inner")).unwrap();
    fs::write(below.join("volumes/notes/ä\n"), "note").unwrap();
    let mut archive = Vec::new();
    let spec = json!({ "name": "hello" });
    let totals = write_agent(spec, now(), &parts(below), &mut archive).unwrap();
    assert_eq!((totals.files, totals.skipped), (5, 0));
    archive
}

fn staged(archive: &[u8], work: &TempDir) -> Result<Staged, BackupError> {
    stage_agent(archive, &work.path().join("staging"), 0)
}

#[test]
fn an_agent_comes_back_as_it_was() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = laid_out(from.path());
    let head = agent_head(&archive[..]).unwrap();
    assert_eq!(head.spec["name"], "hello");
    let mut staged = staged(&archive, &to).unwrap();
    assert_eq!(staged.parts(), ["home", "volumes/notes"]);
    let parts = parts(to.path());
    // A folder that is there and empty is no obstacle; one that is not is left as it is.
    fs::create_dir_all(&parts[0].folder).unwrap();
    fs::create_dir_all(&parts[1].folder).unwrap();
    fs::write(parts[1].folder.join("mine"), "mine").unwrap();
    staged.take_out(&parts[0]).unwrap();
    let refused = staged.take_out(&parts[1]);
    assert!(
        matches!(refused, Err(BackupError::NotEmpty { .. })),
        "{refused:?}"
    );
    fs::remove_file(parts[1].folder.join("mine")).unwrap();
    staged.take_out(&parts[1]).unwrap();
    staged.take_out(&parts[2]).unwrap();
    drop(staged);
    assert!(!to.path().join("staging").exists());

    let home = to.path().join(HOME);
    let deep = home
        .join("a".repeat(90))
        .join("b".repeat(90))
        .join("c".repeat(90));
    assert_eq!(fs::read(deep).unwrap(), b"deep");
    assert_eq!(
        fs::read(home.join("large")).unwrap(),
        vec![7; 3 * PIECE + 5]
    );
    assert_eq!(fs::read(home.join("empty")).unwrap(), b"");
    assert_eq!(
        fs::read_link(home.join("away")).unwrap(),
        Path::new("/etc/passwd")
    );
    let run = fs::metadata(home.join("run")).unwrap();
    assert_eq!(run.mode() & 0o7777, 0o755, "it does not run as its owner");
    let notes = to.path().join("volumes/notes");
    assert_eq!(fs::read(notes.join("ä\n")).unwrap(), b"note");
    assert!(notes.join("inner").is_dir());
}

#[test]
fn one_that_is_cut_anywhere_leaves_nothing() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = laid_out(from.path());
    // Behind it stand a newline and zeros, which nobody misses.
    let text = b"\"skipped\": 0\n}";
    let end = archive
        .windows(text.len())
        .rposition(|it| it == text)
        .unwrap()
        + text.len();
    for length in (0..end).step_by(509).chain([end - 1]) {
        let cut = staged(&archive[..length], &to);
        assert!(cut.is_err(), "{length} of {}", archive.len());
        drop(cut);
        let left = to.path().join("staging");
        assert!(!left.join(HOME).exists(), "{length}");
    }
    staged(&archive[..end], &to).unwrap();
}

/// An archive with one entry of this kind and name.
fn with(kind: EntryType, name: &[u8], target: &str, more: Option<&[u8]>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let about = About {
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: (0, 0),
    };
    let mut put = |name: &[u8], kind: EntryType, content: &[u8]| {
        let mut header = header(kind, about, content.len() as u64);
        // Written as it is: the builder itself would refuse what leads out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if !target.is_empty() && kind != EntryType::Regular {
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, content).unwrap();
    };
    let head = json!({ "form": FORM, "skep": "1", "created_at": "", "spec": {} }).to_string();
    put(HEAD.as_bytes(), EntryType::Regular, head.as_bytes());
    put(name, kind, b"");
    if let Some(more) = more {
        put(more, EntryType::Regular, b"x");
    }
    let totals = AgentTotals {
        files: 1,
        bytes: 1,
        skipped: 0,
    };
    let totals = serde_json::to_vec(&totals).unwrap();
    put(LAST.as_bytes(), EntryType::Regular, &totals);
    tar.into_inner().unwrap()
}

#[test]
fn nothing_is_written_elsewhere() {
    use EntryType as Kind;
    let work = TempDir::new().unwrap();
    let outside = work.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    type Bad<'a> = (Kind, &'a [u8], &'a str, Option<&'a [u8]>);
    let entries: [Bad<'_>; 9] = [
        (Kind::Regular, b"home/../../outside/x", "", None),
        (Kind::Regular, b"/tmp/skep-outside", "", None),
        (Kind::Regular, b"elsewhere/x", "", None),
        (Kind::Regular, b"volumes", "", None),
        (Kind::Link, b"home/hard", "/etc/passwd", None),
        (Kind::Char, b"home/device", "", None),
        (Kind::Fifo, b"home/pipe", "", None),
        // Through a link that came before.
        (Kind::Symlink, b"home/out", target, Some(b"home/out/x")),
        // The same name twice.
        (Kind::Symlink, b"home/x", target, Some(b"home/x")),
    ];
    for (kind, name, target, more) in entries {
        let refused = staged(&with(kind, name, target, more), &work);
        assert!(refused.is_err(), "{}", String::from_utf8_lossy(name));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        drop(refused);
        let _ = fs::remove_dir_all(work.path().join("staging"));
    }
    assert!(!Path::new("/tmp/skep-outside").exists());
}

#[test]
fn what_is_no_archive_says_so() {
    let work = TempDir::new().unwrap();
    for other in [&b""[..], b"apiVersion: skep/v1\n", &[0; 4096]] {
        let refused = staged(other, &work);
        assert!(
            matches!(refused, Err(BackupError::NotAnArchive)),
            "{refused:?}"
        );
    }
    let newer = with(EntryType::Directory, b"home", "", None);
    let text = String::from_utf8_lossy(&newer).replacen("\"form\":1", "\"form\":2", 1);
    let refused = staged(text.as_bytes(), &work);
    assert!(matches!(refused, Err(BackupError::Newer)), "{refused:?}");
}
