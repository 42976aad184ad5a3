//! An agent in one file, with its data: a tar archive that any tool reads.
//!
//! ```text
//! agent.json        form, version of Skep, time, specification
//! home/…            its home
//! volumes/NAME/…    its named volumes
//! end.json          how much there was; without it the archive is cut short
//! ```
//!
//! Whose files are is not kept: where the archive goes, the driver gives them to the agent.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_core::Timestamp;
use tar::{Builder, EntryType, Header};

use crate::BackupError;
use crate::archive::{About, PIECE};
use crate::files::{self, Found, LOOK_EVERY};
use crate::restore::make_folder;
use crate::tree::{Belongs, bytes_of};

/// The form of the archives that are written.
const FORM: u32 = 1;
const HEAD: &str = "agent.json";
const LAST: &str = "end.json";
/// The part that is the agent's home.
pub const HOME: &str = "home";
/// What the names of all other parts begin with.
pub const VOLUMES: &str = "volumes/";
/// The longest description of an agent.
const MOST_HEAD: u64 = 4 << 20;
/// Files, folders and links of one archive.
const MOST_ENTRIES: usize = 4_000_000;
/// Bytes behind the last entry.
const MOST_TAIL: u64 = 1 << 20;
/// Permissions that a file keeps: never those that make a program run as its owner.
const MODE: u32 = 0o777;

/// What an archive says of itself at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHead {
    form: u32,
    /// The version of Skep that made it.
    pub skep: String,
    /// When, as RFC 3339.
    pub created_at: String,
    /// The agent's specification.
    pub spec: Value,
}

/// How much an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTotals {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be read, or is neither file nor folder nor link.
    pub skipped: u64,
}

/// A folder of an agent: [`HOME`], or [`VOLUMES`] and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the archive.
    pub name: String,
    /// Where it is.
    pub folder: PathBuf,
}

/// Writes an archive. Blocks.
///
/// # Errors
/// [`BackupError::File`] when a file cannot be read, or the archive not be written.
pub fn write_agent(
    spec: Value,
    now: Timestamp,
    parts: &[Part],
    out: impl Write,
) -> Result<AgentTotals, BackupError> {
    let mut writer = Writer {
        tar: Builder::new(out),
        now,
        totals: AgentTotals::default(),
    };
    let head = AgentHead {
        form: FORM,
        skep: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now.to_string(),
        spec,
    };
    writer.document(HEAD, &head)?;
    for part in parts {
        writer.part(part)?;
    }
    let totals = writer.totals;
    writer.document(LAST, &totals)?;
    let out = writer.tar.into_inner().and_then(|mut out| out.flush());
    out.map_err(|error| unwritten(&error))?;
    Ok(totals)
}

fn unwritten(error: &io::Error) -> BackupError {
    BackupError::file(Path::new("the archive"), error)
}

struct Writer<W: Write> {
    tar: Builder<W>,
    now: Timestamp,
    totals: AgentTotals,
}

impl<W: Write> Writer<W> {
    fn document(&mut self, name: &str, value: &impl Serialize) -> Result<(), BackupError> {
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|error| BackupError::damaged(error.to_string()))?;
        text.push(b'\n');
        let about = About {
            mode: 0o600,
            uid: 0,
            gid: 0,
            modified: (self.now.as_micros() / 1_000_000, 0),
        };
        let mut header = header(EntryType::Regular, about, text.len() as u64);
        let written = self.tar.append_data(&mut header, name, &text[..]);
        written.map_err(|error| unwritten(&error))
    }

    fn part(&mut self, part: &Part) -> Result<(), BackupError> {
        if !part.folder.is_dir() {
            // It has never run.
            return Ok(());
        }
        let name = Path::new(&part.name);
        self.totals.skipped +=
            files::walk(&part.folder, |_| Belongs::Yes, &mut |path, about, found| {
                let at = name.join(path);
                let written = match found {
                    Found::Folder => {
                        let mut header = header(EntryType::Directory, about, 0);
                        self.tar.append_data(&mut header, at, io::empty())
                    }
                    Found::Link(target) => {
                        let target = bytes_of(&target).unwrap_or_default();
                        let mut header = header(EntryType::Symlink, about, 0);
                        self.tar.append_link(&mut header, at, target)
                    }
                    Found::File(file, size) => {
                        self.totals.files += 1;
                        self.totals.bytes += size;
                        let mut header = header(EntryType::Regular, about, size);
                        // One that became shorter meanwhile ends in zeros: its size stands already.
                        let content = file.chain(io::repeat(0)).take(size);
                        self.tar.append_data(&mut header, at, content)
                    }
                };
                written.map_err(|error| unwritten(&error))
            })?;
        Ok(())
    }
}

fn header(kind: EntryType, about: About, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(about.mode & MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(about.modified.0).unwrap_or(0));
    header
}

/// What an archive says of itself. Reads no more than that.
///
/// # Errors
/// [`BackupError::NotAnArchive`], [`BackupError::Newer`], [`BackupError::Truncated`].
pub fn agent_head(source: impl Read) -> Result<AgentHead, BackupError> {
    let mut archive = tar::Archive::new(source);
    let mut entries = archive.entries().map_err(|_| BackupError::NotAnArchive)?;
    first(&mut entries)
}

type Entries<'a, R> = tar::Entries<'a, R>;

fn first<R: Read>(entries: &mut Entries<'_, R>) -> Result<AgentHead, BackupError> {
    let none = || BackupError::NotAnArchive;
    let entry = entries.next().ok_or_else(none)?.map_err(|_| none())?;
    if entry.path_bytes() != HEAD.as_bytes() {
        return Err(none());
    }
    let mut text = Vec::new();
    let read = entry.take(MOST_HEAD).read_to_end(&mut text);
    read.map_err(|_| BackupError::Truncated)?;
    let form: Value = serde_json::from_slice(&text).map_err(|_| none())?;
    match form["form"].as_u64() {
        Some(form) if form > u64::from(FORM) => Err(BackupError::Newer),
        _ => serde_json::from_value(form).map_err(|_| none()),
    }
}

/// An archive that was read to its end, laid out in a folder of its own. What is not taken out goes
/// away with it.
#[derive(Debug)]
pub struct Staged {
    folder: PathBuf,
    /// What it says of itself.
    pub head: AgentHead,
    /// How much it held.
    pub totals: AgentTotals,
    parts: BTreeSet<String>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Staged {
    /// The parts that are not taken out yet, by name.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        self.parts.iter().cloned().collect()
    }

    /// Puts a part in its place, which must be empty or not there yet. Blocks.
    ///
    /// # Errors
    /// [`BackupError::NotEmpty`], [`BackupError::File`].
    pub fn take_out(&mut self, part: &Part) -> Result<(), BackupError> {
        if !self.parts.contains(&part.name) {
            return Ok(());
        }
        let failed = |error: io::Error| BackupError::file(&part.folder, &error);
        if let Some(parent) = part.folder.parent() {
            make_folder(parent)?;
        }
        // Takes the place of an empty folder too.
        match fs::rename(self.folder.join(&part.name), &part.folder) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                return Err(BackupError::NotEmpty {
                    path: part.folder.clone(),
                });
            }
            moved => moved.map_err(failed)?,
        }
        self.parts.remove(&part.name);
        Ok(())
    }
}

/// Lays an archive out in a folder that is made for it and that nobody else writes to. Blocks.
///
/// # Errors
/// [`BackupError`]. Then the folder is gone again.
pub fn stage_agent(source: impl Read, folder: &Path, min_free: u64) -> Result<Staged, BackupError> {
    make_folder(folder)?;
    let mut archive = tar::Archive::new(source);
    let mut entries = archive.entries().map_err(|_| BackupError::NotAnArchive)?;
    // From here on what was laid out goes away by itself.
    let mut laid = Laid {
        staged: Staged {
            folder: folder.to_owned(),
            head: first(&mut entries)?,
            totals: AgentTotals::default(),
            parts: BTreeSet::new(),
        },
        min_free,
        unseen: LOOK_EVERY,
        found: AgentTotals::default(),
        folders: Vec::new(),
        links: Vec::new(),
    };
    for (number, entry) in entries.enumerate() {
        if number == MOST_ENTRIES {
            return Err(BackupError::damaged("it holds too many files"));
        }
        let entry = entry.map_err(|error| BackupError::damaged(error.to_string()))?;
        if entry.path_bytes() == LAST.as_bytes() {
            let totals: AgentTotals = serde_json::from_reader(entry.take(MOST_HEAD))
                .map_err(|error| BackupError::damaged(error.to_string()))?;
            let staged = laid.finish(totals)?;
            drain(archive.into_inner())?;
            return Ok(staged);
        }
        laid.entry(entry)?;
    }
    Err(BackupError::Truncated)
}

/// Reads what fills the archive's last block, so that who sends it is not cut off.
fn drain(source: impl Read) -> Result<(), BackupError> {
    let read = io::copy(&mut source.take(MOST_TAIL), &mut io::sink());
    read.map_err(|_| BackupError::Truncated).map(drop)
}

struct Laid {
    staged: Staged,
    min_free: u64,
    unseen: u64,
    found: AgentTotals,
    /// What folders get when all is in them, and links, so that nothing is written through one.
    folders: Vec<(PathBuf, u32)>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// The part that a path is in; `None` when it is in none, or leads out of it.
fn part_of(path: &Path) -> Option<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()),
            _ => return None,
        }
    }
    match names[..] {
        [Some(HOME), ..] => Some(HOME.to_owned()),
        [Some("volumes"), Some(name), ..] => Some(format!("{VOLUMES}{name}")),
        _ => None,
    }
}

impl Laid {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), BackupError> {
        let odd = |why: &str| BackupError::damaged(why.to_owned());
        let path = entry.path().map_err(|_| odd("a name is malformed"))?;
        let path = path.into_owned();
        let part = part_of(&path).ok_or_else(|| {
            odd(&format!(
                "`{}` belongs to no part of an agent",
                path.display()
            ))
        })?;
        let at = self.staged.folder.join(&path);
        let header = entry.header();
        let mode = header.mode().unwrap_or(0o600) & MODE;
        let kind = header.entry_type();
        match kind {
            EntryType::Directory => {
                make_folder(&at)?;
                // What a folder lets its owner do is what lets the agent come in again.
                self.folders.push((at, mode | 0o700));
            }
            EntryType::Symlink => {
                let target = entry.link_name().ok().flatten();
                let target = target.ok_or_else(|| odd("a link leads nowhere"))?;
                self.links.push((at, target.into_owned()));
            }
            EntryType::Regular | EntryType::Continuous => self.file(&at, mode, &mut entry)?,
            _ => return Err(odd("it holds what is neither file nor folder nor link")),
        }
        self.staged.parts.insert(part);
        Ok(())
    }

    fn file(&mut self, at: &Path, mode: u32, entry: &mut impl Read) -> Result<(), BackupError> {
        let failed = |error: io::Error| BackupError::file(at, &error);
        if let Some(parent) = at.parent() {
            make_folder(parent)?;
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(at).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        loop {
            let count = match entry.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(BackupError::Truncated),
            };
            self.found.bytes += count as u64;
            self.unseen += count as u64;
            if self.unseen >= LOOK_EVERY {
                self.unseen = 0;
                files::room(&self.staged.folder, self.min_free)?;
            }
            file.write_all(&piece[..count]).map_err(failed)?;
        }
        self.found.files += 1;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(failed)
    }

    fn finish(mut self, totals: AgentTotals) -> Result<Staged, BackupError> {
        let same = (totals.files, totals.bytes) == (self.found.files, self.found.bytes);
        if !same {
            return Err(BackupError::damaged("it holds something else than it says"));
        }
        for (at, target) in &self.links {
            if let Some(parent) = at.parent() {
                make_folder(parent)?;
            }
            symlink(target, at).map_err(|error| BackupError::file(at, &error))?;
        }
        for (at, mode) in self.folders.iter().rev() {
            fs::set_permissions(at, fs::Permissions::from_mode(*mode))
                .map_err(|error| BackupError::file(at, &error))?;
        }
        let folder = &self.staged.folder;
        let synced = File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        synced.map_err(|error| BackupError::file(folder, &error))?;
        self.staged.totals = totals;
        Ok(self.staged)
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
