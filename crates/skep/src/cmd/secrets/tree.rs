//! The files of a folder: those that git has or would take, else all but what is made anew by builds.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};

/// Files of a tree.
const MOST_FILES: usize = 200_000;
/// Folders inside of each other.
const DEEPEST: usize = 64;
/// Folders of what is fetched or made, by any tool.
const PASSED: [&str; 12] = [
    ".git",
    ".skep",
    ".venv",
    "venv",
    "node_modules",
    "target",
    "__pycache__",
    ".tox",
    ".mypy_cache",
    ".gradle",
    ".terraform",
    ".next",
];

fn too_many(root: &Path) -> Failure {
    Failure::plain(format!("{} has over {MOST_FILES} files", root.display()))
        .hint("Name the folders in it that matter.")
}

/// What git has of a folder and what it does not ignore, when it is a repository's.
pub(super) fn tracked(root: &Path) -> Result<Option<Vec<PathBuf>>> {
    // A repository can name programs that git is to run; this one is only to list.
    let child = Command::new("git")
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return Ok(None);
    };
    let mut files = BTreeSet::new();
    let mut over = false;
    for name in child
        .stdout
        .take()
        .map(|out| BufReader::new(out).split(0))
        .into_iter()
        .flatten()
    {
        files.insert(PathBuf::from(OsStr::from_bytes(&name?)));
        if files.len() > MOST_FILES {
            over = true;
            break;
        }
    }
    if over {
        // It is stopped by its own pipe, which nobody reads any more.
        let _ = child.wait();
        return Err(too_many(root));
    }
    let listed = child.wait()?.success();
    Ok(listed.then(|| files.into_iter().collect()))
}

/// All files of a folder, by name. Links are not followed.
pub(super) fn all(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let here = root.join(&folder);
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            // The root must be there; what is below may be another's.
            Err(error) if depth == 0 => {
                let told = format!("{} cannot be read: {error}", here.display());
                return Err(Failure::usage(told));
            }
            Err(_) => continue,
        };
        for entry in entries {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let path = folder.join(&name);
            if kind.is_file() {
                files.push(path);
            } else if kind.is_dir()
                && depth < DEEPEST
                && !PASSED.iter().any(|passed| *passed == name)
            {
                folders.push((path, depth + 1));
            }
            if files.len() > MOST_FILES {
                return Err(too_many(root));
            }
        }
    }
    files.sort();
    Ok(files)
}
