//! `lock rotate --tree`: a new root for every file under a folder: all of them, or none.
//!
//! The new files are made in a folder beside, read back and compared, and the old ones are copied there. Then
//! a plan is written: that is the moment from which on it will be done. Before it, whatever is left lying is
//! thrown away by the next try; after it, the next try goes on where it was cut off. Each step can be done
//! again. The old files stay until somebody says that they may go, and can be put back until then.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use skep_lock::{Lock, MOST_FILE, Open, Secret};

use super::file::{Held, KeyArgs, failed, refused};
use crate::cmd::message;
use crate::failure::{Failure, Result};
use crate::session::{Session, state_home};

/// Files of one tree.
const MOST: usize = 10_000;
/// Folders under folders.
const DEEPEST: usize = 64;
/// How a file is called, or how its name ends.
const NAME: &str = "agent.lock";
/// The folder in the tree in which all this lies.
const BESIDE: &str = ".skep-rotation";
const PLAN: &str = "plan.json";
const FORM: u32 = 1;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// The new files take the old ones' places.
    Swap,
    /// The old ones are put back.
    Undo,
    /// The new ones are in their places; the old ones are kept.
    Done,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    /// Its place in the tree.
    path: PathBuf,
    /// The hash of the file before.
    old: String,
    /// And of the one after.
    new: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    version: u32,
    step: Step,
    files: Vec<Planned>,
}

/// A tree, which nobody else rotates at the same time.
struct Tree<'a> {
    session: &'a Session,
    root: PathBuf,
    beside: PathBuf,
    _lock: File,
}

/// What is to be done to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Rotate,
    Undo,
    Forget,
}

fn hash(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MOST_FILE as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| failed(path, error))?;
    Ok(bytes)
}

/// Makes a file that is on disk.
fn write(path: &Path, bytes: &[u8]) -> Result {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| failed(path, error))
}

/// The files of a tree, by their places in it. Links are not followed.
fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let ending = format!(".{NAME}");
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let whole = root.join(&folder);
        let entries = fs::read_dir(&whole).map_err(|error| failed(&whole, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(&whole, error))?;
            let kind = entry.file_type().map_err(|error| failed(&whole, error))?;
            let name = entry.file_name();
            let path = folder.join(&name);
            let name = name.to_string_lossy();
            if kind.is_dir() && name != ".git" && name != BESIDE {
                if depth == DEEPEST {
                    return Err(failed(&root.join(path), "it is too deep in the tree"));
                }
                folders.push((path, depth + 1));
            } else if kind.is_file() && (name == NAME || name.ends_with(&ending)) {
                found.push(path);
            }
            if found.len() > MOST {
                return Err(failed(root, format!("there are more than {MOST} files"))
                    .hint("Rotate its folders one by one."));
            }
        }
    }
    found.sort();
    Ok(found)
}

impl<'a> Tree<'a> {
    fn of(session: &'a Session, path: &Path) -> Result<Self> {
        let root = fs::canonicalize(path).map_err(|error| failed(path, error))?;
        let lock = File::open(&root).map_err(|error| failed(&root, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed(&root, "it is being rotated already"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&root, error)),
        }
        let beside = root.join(BESIDE);
        Ok(Self {
            session,
            root,
            beside,
            _lock: lock,
        })
    }

    fn plan(&self) -> Result<Option<Plan>> {
        let path = self.beside.join(PLAN);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, error)),
            Ok(bytes) => bytes,
        };
        match serde_json::from_slice::<Plan>(&bytes) {
            Ok(plan) if plan.version == FORM => {
                let known = fs::read_to_string(self.mark()?).unwrap_or_default();
                if known != self.marked(&plan)? {
                    return Err(failed(&path, "this rotation was not begun here, by this user")
                        .hint("A folder that came from elsewhere may tell of anything. Look at it, and remove .skep-rotation when it is nobody's."));
                }
                Ok(Some(plan))
            }
            _ => Err(failed(
                &path,
                "it is no plan of a rotation that this program knows",
            )),
        }
    }

    /// The file by which a plan that was made here is known again: what lies in the tree may be somebody else's.
    fn mark(&self) -> Result<PathBuf> {
        let state = state_home().ok_or_else(|| {
            failed(&self.root, "nobody remembers here what was begun")
                .hint("Set XDG_STATE_HOME or HOME.")
        })?;
        let folder = state.join("skep").join("rotations");
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, error))?;
        Ok(folder.join(hash(self.root.as_os_str().as_encoded_bytes())))
    }

    /// What is the same for a plan as long as it lasts: its tree and its files.
    fn marked(&self, plan: &Plan) -> Result<String> {
        let files = serde_json::to_vec(&plan.files).map_err(anyhow::Error::from)?;
        let root = self.root.as_os_str().as_encoded_bytes();
        Ok(hash(&[root, b"\0", &files].concat()))
    }

    fn set(&self, plan: &Plan) -> Result {
        // First: a plan without it is not gone on with, and one that is not there yet does nothing.
        message::replace(&self.mark()?, self.marked(plan)?.as_bytes())?;
        let text = serde_json::to_string_pretty(plan).map_err(anyhow::Error::from)?;
        message::replace(&self.beside.join(PLAN), text.as_bytes())
    }

    fn kept(&self, kind: &str, place: usize) -> PathBuf {
        self.beside.join(kind).join(place.to_string())
    }

    /// The bytes that a plan tells of, as they were when it was made.
    fn planned(&self, kind: &str, place: usize, expected: &str) -> Result<Vec<u8>> {
        let path = self.kept(kind, place);
        let bytes = read(&path)?;
        match hash(&bytes) == expected {
            true => Ok(bytes),
            false => Err(failed(&path, "it was changed since the rotation began")),
        }
    }

    fn sync(path: &Path) -> Result {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed(path, error))
    }

    /// Removes everything beside. The plan goes first, so that what is cut off here is thrown away later.
    fn clear(&self) -> Result {
        for gone in [
            fs::remove_file(self.beside.join(PLAN)),
            fs::remove_dir_all(&self.beside),
        ] {
            match gone {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(&self.beside, error));
                }
                _ => {}
            }
        }
        match fs::remove_file(self.mark()?) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(&self.root, error));
            }
            _ => {}
        }
        Self::sync(&self.root)
    }

    /// Makes every new file beside, and reads it back. Nothing in the tree changes.
    fn prepare(&self, args: &KeyArgs, known: &[Secret]) -> Result<Plan> {
        self.clear()?;
        let paths = find(&self.root)?;
        if paths.is_empty() {
            return Err(failed(&self.root, format!("there is no {NAME} in it"))
                .hint(format!("Files are called {NAME}, or NAME.{NAME}.")));
        }
        for kind in ["old", "new"] {
            let folder = self.beside.join(kind);
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| failed(&folder, error))?;
        }
        let mut files = Vec::new();
        for (place, path) in paths.into_iter().enumerate() {
            let (old, new) = self.turned(&self.root.join(&path), args, known)?;
            write(&self.kept("old", place), &old)?;
            write(&self.kept("new", place), new.as_bytes())?;
            let file = Planned {
                path,
                old: hash(&old),
                new: hash(new.as_bytes()),
            };
            self.planned("old", place, &file.old)?;
            self.planned("new", place, &file.new)?;
            files.push(file);
        }
        for kind in ["old", "new"] {
            Self::sync(&self.beside.join(kind))?;
        }
        Self::sync(&self.beside)?;
        Self::sync(&self.root)?;
        Ok(Plan {
            version: FORM,
            step: Step::Swap,
            files,
        })
    }

    /// A file as it is, and under a new root, which was opened again and holds the same.
    fn turned(&self, path: &Path, args: &KeyArgs, known: &[Secret]) -> Result<(Vec<u8>, String)> {
        let held = Held::of(self.session, path)?;
        let old = read(path)?;
        let wrong = |error| refused(path, error);
        let lock = Lock::parse(&old).map_err(wrong)?;
        args.accepts(&held, &lock)?;
        let first = known
            .first()
            .ok_or_else(|| failed(path, "there is no key"))?;
        let before = lock.open(first, args.recipient.as_deref()).map_err(wrong)?;
        let mut open = before.clone();
        open.rotate(&[], known, &BTreeMap::new()).map_err(wrong)?;
        let text = open.finish().map_err(wrong)?.render();
        let again = Lock::parse(text.as_bytes()).map_err(wrong)?;
        for secret in known {
            // Each key that opened it does so still.
            if lock.open(secret, None).is_ok() {
                let after = again.open(secret, None).map_err(wrong)?;
                same(path, &before, &after)?;
            }
        }
        Ok((old, text))
    }

    /// Puts the files of one side into their places. What is there already is left.
    fn place(&self, plan: &Plan, kind: &str) -> Result {
        for (place, file) in plan.files.iter().enumerate() {
            let path = self.root.join(&file.path);
            let held = Held::of(self.session, &path)?;
            let is = hash(&read(&path)?);
            let wanted = if kind == "new" { &file.new } else { &file.old };
            if is != *wanted {
                if is != file.old && is != file.new {
                    return Err(failed(&path, "somebody changed it meanwhile"));
                }
                let bytes = self.planned(kind, place, wanted)?;
                message::replace(&path, &bytes)?;
            }
            let bytes = read(&path)?;
            if hash(&bytes) != *wanted {
                return Err(failed(&path, "it is not what was written"));
            }
            let lock = Lock::parse(&bytes).map_err(|error| refused(&path, error))?;
            held.see(&lock)?;
        }
        Ok(())
    }

    fn swap(&self, plan: &mut Plan) -> Result {
        if let Err(failure) = self.place(plan, "new") {
            let undone = self.undo(plan);
            return Err(match undone {
                Ok(()) => Failure::plain(format!("{}; every file is as it was", failure.detail)),
                Err(other) => Failure::plain(format!(
                    "{}; and the old files are not back: {}",
                    failure.detail, other.detail
                ))
                .hint("Mend that, and run it again with --undo. The old files are in .skep-rotation/old."),
            });
        }
        plan.step = Step::Done;
        self.set(plan)
    }

    /// Puts the old files back, and is done with all of it.
    fn undo(&self, plan: &mut Plan) -> Result {
        if plan.step == Step::Done {
            // A file that was changed since is not thrown away for an older one.
            for file in &plan.files {
                let path = self.root.join(&file.path);
                let is = hash(&read(&path)?);
                if is != file.new && is != file.old {
                    return Err(failed(
                        &path,
                        "it was changed since the rotation; nothing was put back",
                    )
                    .hint("The old files are in .skep-rotation/old."));
                }
            }
        }
        plan.step = Step::Undo;
        self.set(plan)?;
        let mut changed = Vec::new();
        for (place, file) in plan.files.iter().enumerate() {
            if !self.put_back(file, place)? {
                changed.push(file.path.display().to_string());
            }
        }
        if !changed.is_empty() {
            // What they wrote is theirs, and nothing of ours.
            self.session.output.complain(&format!(
                "Left as somebody changed them meanwhile: {}.",
                changed.join(", ")
            ));
        }
        self.clear()
    }

    /// Puts an old file back; not where somebody wrote another one.
    fn put_back(&self, file: &Planned, place: usize) -> Result<bool> {
        let path = self.root.join(&file.path);
        let held = Held::of(self.session, &path)?;
        let is = hash(&read(&path)?);
        if is != file.new && is != file.old {
            return Ok(false);
        }
        let bytes = self.planned("old", place, &file.old)?;
        let lock = Lock::parse(&bytes).map_err(|error| refused(&path, error))?;
        // First, so that the file is not refused as too old when this is cut off in between.
        held.see(&lock)?;
        if is != file.old {
            message::replace(&path, &bytes)?;
        }
        Ok(true)
    }
}

/// Whether two files hold the same.
fn same(path: &Path, before: &Open, after: &Open) -> Result {
    let names = |open: &Open| -> Vec<String> {
        let layers = open.lock().layers().iter();
        layers.map(|it| it.name.clone()).collect()
    };
    let wrong = |error| refused(path, error);
    let mut is_same = names(before) == names(after);
    for layer in names(before) {
        if after.opens(&layer) && before.opens(&layer) {
            is_same &=
                before.layer(&layer).map_err(wrong)? == after.layer(&layer).map_err(wrong)?;
        }
    }
    match is_same {
        true => Ok(()),
        false => Err(failed(
            path,
            "what was encrypted anew is not the same; nothing was written",
        )),
    }
}

/// Rotates a tree, goes on with what was cut off, puts the old files back, or lets them go.
pub(super) fn run(
    session: &Session,
    path: &Path,
    args: &KeyArgs,
    order: Order,
    known: impl FnOnce() -> Result<Vec<Secret>>,
) -> Result {
    let tree = Tree::of(session, path)?;
    let output = &session.output;
    let said = |plan: &Plan, what: &str| {
        let count = plan.files.len();
        let about = json!({"files": count, "tree": tree.root});
        let name = tree.root.display().to_string();
        output.done(&about, &name, &format!("{count} files {what}"))
    };
    let done = "have a new root. The old ones are kept in .skep-rotation: `--forget` lets them go, `--undo` puts them back.";
    match (tree.plan()?, order) {
        (Some(mut plan), Order::Undo) => {
            tree.undo(&mut plan)?;
            said(&plan, "are as they were before the rotation.")
        }
        (Some(mut plan), _) if plan.step == Step::Undo => {
            tree.undo(&mut plan)?;
            said(
                &plan,
                "are as they were: what had begun was undone to the end.",
            )
        }
        (Some(mut plan), _) if plan.step == Step::Swap => {
            output.note("A rotation was cut off here; it goes on.");
            tree.swap(&mut plan)?;
            said(&plan, done)
        }
        (Some(plan), Order::Forget) => {
            tree.clear()?;
            said(&plan, "of before the rotation are gone.")
        }
        (Some(_), Order::Rotate) => Err(failed(
            &tree.beside,
            "the files of before the last rotation are still here",
        )
        .hint("`--forget` lets them go, `--undo` puts them back.")),
        (None, Order::Rotate) => {
            let prepared = tree.prepare(args, &known()?);
            let mut plan = match prepared {
                Ok(plan) => plan,
                Err(failure) => {
                    // Nothing has been changed; what lies beside is of no use.
                    let _ = tree.clear();
                    return Err(failure);
                }
            };
            tree.set(&plan)?;
            tree.swap(&mut plan)?;
            said(&plan, done)
        }
        (None, Order::Undo | Order::Forget) => {
            tree.clear()?;
            Err(failed(
                &tree.root,
                "there is no rotation of it to undo or to forget",
            ))
        }
    }
}
