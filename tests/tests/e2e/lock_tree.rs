//! A rotation of a whole tree is done to all files or to none, wherever it is cut off.

use std::fs;

use skep_tests::server::skep_binary;

use super::lock::{Place, text};

const FILES: [&str; 2] = ["tree/a/b/agent.lock", "tree/x.agent.lock"];
const KEY: [&str; 2] = ["--identity", "ada.key"];
/// What a step on the disk ends with, and at how many of them it is killed.
const CALLS: [(&str, usize); 4] = [("rename", 1), ("unlinkat", 1), ("mkdir", 1), ("fsync", 5)];
/// No command does more of one call.
const MOST_CALLS: usize = 200;

/// A tree of files that one key opens, and other files.
fn tree() -> (Place, Vec<String>) {
    let place = Place::new();
    let age = place.age("ada.key");
    fs::create_dir_all(place.path("tree/a/b")).expect("folders");
    for (number, file) in FILES.iter().enumerate() {
        let agent = format!("agent-{number}");
        place.good(&["init", &agent, "--file", file, "--age", &age], "");
        let set = ["set", "credentials/TOKEN", "--file", file];
        place.good(&[&set[..], &KEY].concat(), &agent);
    }
    place.write("tree/Cargo.lock", "none of ours");
    let before = contents(&place);
    (place, before)
}

fn contents(place: &Place) -> Vec<String> {
    let read = |file: &&str| fs::read_to_string(place.path(file)).expect("a file");
    FILES.iter().map(read).collect()
}

/// The epochs of the roots, after a look whether each file opens and holds what it held.
fn roots(place: &Place) -> Vec<u64> {
    let each = |(number, file): (usize, &&str)| {
        let got = place.good(
            &[&["get", "credentials/TOKEN", "--file", file], &KEY[..]].concat(),
            "",
        );
        assert_eq!(got, format!("agent-{number}"));
        let shown = place.good(&["show", "--file", file, "-o", "json"], "");
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["root_epoch"].as_u64().expect("an epoch")
    };
    FILES.iter().enumerate().map(each).collect()
}

fn rotate(place: &Place, more: &[&str]) -> String {
    place.good(
        &[&["rotate", "--tree", "tree"], &KEY[..], more].concat(),
        "",
    )
}

/// Runs it and kills it at the nth of these calls. Tells whether it came so far.
fn killed_at(place: &Place, call: &str, number: usize, more: &[&str]) -> bool {
    let program = skep_binary();
    let program = program.to_str().expect("its path").to_owned();
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={number}");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let words = ["lock", "rotate", "--tree", "tree"];
    let output = place.run(
        "strace",
        &[&strace[..], &[program.as_str()], &words, &KEY, more].concat(),
        "",
    );
    if output.status.success() {
        return false;
    }
    assert_eq!(text(&output.stderr), "", "{call} {number}");
    true
}

#[test]
fn a_tree_is_rotated_and_can_be_put_back() {
    let (place, before) = tree();
    let said = rotate(&place, &[]);
    assert!(said.contains("2 files have a new root"), "{said}");
    let after = contents(&place);
    assert_eq!(roots(&place), [3, 3]);
    let told = place.bad(1, &[&["rotate", "--tree", "tree"], &KEY[..]].concat(), "");
    assert!(
        told.contains("--forget") && told.contains("--undo"),
        "{told}"
    );
    rotate(&place, &["--undo"]);
    assert_eq!(contents(&place), before);
    assert_eq!(roots(&place), [1, 1]);
    assert!(!place.path("tree/.skep-rotation").exists());
    rotate(&place, &[]);
    assert_ne!(contents(&place), after);
    // What was changed since is not thrown away.
    let set = ["set", "memory/x", "--file", FILES[0]];
    place.good(&[&set[..], &KEY].concat(), "new");
    let changed = contents(&place);
    let told = place.bad(
        1,
        &[&["rotate", "--tree", "tree", "--undo"], &KEY[..]].concat(),
        "",
    );
    assert!(
        told.contains("changed since the rotation; nothing was put back"),
        "{told}"
    );
    assert_eq!(contents(&place), changed);
    let said = rotate(&place, &["--forget"]);
    assert!(
        said.contains("2 files of before the rotation are gone"),
        "{said}"
    );
    assert!(!place.path("tree/.skep-rotation").exists());
    place.bad(
        1,
        &[&["rotate", "--tree", "tree", "--undo"], &KEY[..]].concat(),
        "",
    );
}

#[test]
fn a_plan_that_came_with_a_folder_does_nothing() {
    let (place, before) = tree();
    rotate(&place, &[]);
    let after = contents(&place);
    // As when somebody hands over the folder with all that lies in it.
    fs::rename(place.path("tree"), place.path("theirs")).expect("it moves");
    for more in [&[][..], &["--undo"], &["--forget"]] {
        let words = [&["rotate", "--tree", "theirs"], &KEY[..], more].concat();
        let told = place.bad(1, &words, "");
        assert!(told.contains("not begun here"), "{told}");
    }
    fs::rename(place.path("theirs"), place.path("tree")).expect("it moves back");
    assert_eq!(contents(&place), after);
    rotate(&place, &["--undo"]);
    assert_eq!(contents(&place), before);
}

#[test]
fn one_file_that_cannot_be_rotated_leaves_all_as_they_were() {
    let (place, before) = tree();
    let other = place.age("bob.key");
    let file = "tree/a/z.agent.lock";
    place.good(&["init", "z", "--file", file, "--age", &other], "");
    let command = [&["rotate", "--tree", "tree"], &KEY[..]].concat();
    let told = place.bad(4, &command, "");
    assert!(told.contains("z.agent.lock: the key is wrong"), "{told}");
    place.write(file, "{}");
    let told = place.bad(1, &command, "");
    assert!(told.contains("z.agent.lock: "), "{told}");
    fs::remove_file(place.path(file)).expect("it is gone");
    assert_eq!(contents(&place), before);
    assert!(!place.path("tree/.skep-rotation").exists());
    // A file whose place takes no new one: those before it go back.
    let blocked = place.path("tree/x.agent.lock.new");
    fs::create_dir(&blocked).expect("what is in the way");
    let told = place.bad(1, &command, "");
    assert!(told.contains("every file is as it was"), "{told}");
    fs::remove_dir(&blocked).expect("it is gone");
    assert_eq!(contents(&place), before);
    assert_eq!(roots(&place), [1, 1]);
    rotate(&place, &[]);
    assert_eq!(roots(&place), [3, 3]);
}

#[test]
fn a_rotation_that_is_killed_at_any_step_ends_in_all_or_none() {
    let mut kills = 0;
    for (call, step) in CALLS {
        let (place, mut before) = tree();
        for (turn, number) in (1..MOST_CALLS).step_by(step).enumerate() {
            let killed = killed_at(&place, call, number, &[]);
            if killed {
                kills += 1;
                // Each file is whole in between, the old one or the new one.
                roots(&place);
                let again = place.skep(&[&["rotate", "--tree", "tree"], &KEY[..]].concat(), "");
                // It may have been done all but for its last word.
                let told = text(&again.stderr);
                let is_done = told.contains("are still here");
                assert!(again.status.success() || is_done, "{call} {number}: {told}");
            }
            let after = roots(&place);
            assert!(
                after.iter().all(|it| *it == after[0] && *it > 1),
                "{call} {number}: {after:?}"
            );
            for (old, new) in before.iter().zip(contents(&place)) {
                assert_ne!(*old, new);
            }
            if turn % 2 == 0 {
                rotate(&place, &["--undo"]);
                assert_eq!(contents(&place), before, "{call} {number}");
            } else {
                rotate(&place, &["--forget"]);
                before = contents(&place);
            }
            if !killed {
                break;
            }
        }
    }
    assert!(kills > 15, "{kills} kills");
}

#[test]
fn an_undoing_that_is_killed_at_any_step_is_undone_to_the_end() {
    let mut kills = 0;
    for call in ["rename", "unlinkat"] {
        let (place, before) = tree();
        for number in 1..MOST_CALLS {
            rotate(&place, &[]);
            let killed = killed_at(&place, call, number, &["--undo"]);
            if killed {
                kills += 1;
                roots(&place);
                let again = place.skep(
                    &[&["rotate", "--tree", "tree", "--undo"], &KEY[..]].concat(),
                    "",
                );
                // Nothing may be left to do when only the clearing away was cut off.
                let told = text(&again.stderr);
                assert!(
                    again.status.success() || told.contains("there is no rotation"),
                    "{told}"
                );
            }
            assert_eq!(contents(&place), before, "{call} {number}");
            assert!(!place.path("tree/.skep-rotation").exists());
            if !killed {
                break;
            }
        }
    }
    assert!(kills > 3, "{kills} kills");
}
