//! The ledger's file: one line after the other, each with its length and a checksum. A line that was cut ends it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_core::{Timestamp, Workspace};

use super::file_failed;
use crate::EgressError;
use crate::llm::Amount;
use crate::money::Money;

/// The bytes before a line: its length (u32, little endian), and the first of its SHA-256.
const HEAD: usize = LENGTH + SUM;
const SUM: usize = 8;
/// Bytes of a length.
const LENGTH: usize = 4;
/// Bytes that most lines have room in.
const USUAL: usize = 1 << 10;
/// The longest line.
const MOST: usize = 256 << 10;
const NAME: &str = "ledger-";

/// By which way out an exchange goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To a model: its provider and its name.
    #[default]
    Model,
    /// To a tool: its server and its name.
    Tool,
    /// To the web.
    Web,
}

impl Way {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Web => "web",
        }
    }
}

/// An exchange that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub id: [u8; 16],
    /// Whose.
    pub workspace: Workspace,
    /// When it began.
    pub at: Timestamp,
    /// By which way.
    pub way: Way,
    /// The kind of who makes it: `agent`, `key`, `user`.
    pub kind: String,
    /// Their id.
    pub who: String,
    /// Who answers.
    pub provider: String,
    /// The model that answers, as the provider calls it.
    pub model: String,
    /// What was asked for: a model, or an alias.
    pub asked: String,
    /// What is set aside.
    pub reserved: Amount,
    /// The version of the prices.
    pub prices: String,
    /// The version of the prompt that was asked for, as `name@3`, if one was.
    pub prompt: String,
    /// A mark of the thread that it belongs to, if one was named.
    pub thread: String,
    /// What the audit log is told if nothing more is known.
    pub entry: Vec<u8>,
}

/// An exchange that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// How it began.
    pub opened: Arc<Opened>,
    /// How: a status, or a word for what went wrong.
    pub outcome: String,
    /// Tokens in, of which so many were read from and written to the provider's cache.
    pub input: u64,
    /// Read from its cache.
    pub cache_read: u64,
    /// Written to its cache.
    pub cache_write: u64,
    /// Tokens out.
    pub output: u64,
    /// Of those, thought.
    pub reasoning: u64,
    /// What it costs.
    pub cost: Money,
    /// Whether the provider did not say it, so that it was estimated.
    pub estimated: bool,
    /// Microseconds until the answer began.
    pub first_us: u64,
    /// Microseconds until it ended.
    pub whole_us: u64,
    /// What the audit log is told.
    pub entry: Vec<u8>,
}

/// One of which nobody knows how it ended.
pub(super) fn lost(opened: Arc<Opened>, now: Timestamp) -> Settled {
    let whole = now.since(opened.at).as_micros();
    Settled {
        outcome: "lost".to_owned(),
        input: opened.reserved.tokens,
        cache_read: 0,
        cache_write: 0,
        output: 0,
        reasoning: 0,
        cost: opened.reserved.money,
        estimated: true,
        first_us: 0,
        whole_us: u64::try_from(whole).unwrap_or(u64::MAX),
        entry: opened.entry.clone(),
        opened,
    }
}

/// A line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Line<'a> {
    /// One begins.
    Opened(&'a Opened),
    /// One has ended, whose beginning stands before it.
    Settled(&'a Settled),
}

/// A line as the file has it: the length of this as JSON (u32, little endian), that, and the entry of the audit log.
/// Fields may be added with a default; none changes its meaning.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stored<'a> {
    Opened(#[serde(borrow)] Begin<'a>),
    Settled(#[serde(borrow)] End<'a>),
}

#[derive(Serialize, Deserialize)]
struct Begin<'a> {
    id: u128,
    workspace: Cow<'a, str>,
    at: i64,
    way: Way,
    kind: Cow<'a, str>,
    who: Cow<'a, str>,
    provider: Cow<'a, str>,
    model: Cow<'a, str>,
    asked: Cow<'a, str>,
    reserved: (i64, u64),
    prices: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    prompt: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    thread: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct End<'a> {
    id: u128,
    outcome: Cow<'a, str>,
    /// Input, of which from and to the cache, output, of which thought.
    tokens: [u64; 5],
    cost: i64,
    estimated: bool,
    us: [u64; 2],
}

/// What a file says, one line after the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) open: HashMap<[u8; 16], Arc<Opened>>,
    pub(super) settled: Vec<Settled>,
}

impl Line<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let (stored, entry) = match self {
            Self::Opened(opened) => (Stored::Opened(begin(opened)), &opened.entry),
            Self::Settled(settled) => (Stored::Settled(end(settled)), &settled.entry),
        };
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend_from_slice(&[0; LENGTH]);
        // Texts and numbers alone: it cannot fail.
        let _ = serde_json::to_writer(&mut bytes, &stored);
        let length = u32::try_from(bytes.len() - LENGTH).unwrap_or(u32::MAX);
        bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(entry);
        bytes
    }
}

fn begin(opened: &Opened) -> Begin<'_> {
    Begin {
        id: u128::from_be_bytes(opened.id),
        workspace: opened.workspace.as_str().into(),
        at: opened.at.as_micros(),
        way: opened.way,
        kind: opened.kind.as_str().into(),
        who: opened.who.as_str().into(),
        provider: opened.provider.as_str().into(),
        model: opened.model.as_str().into(),
        asked: opened.asked.as_str().into(),
        reserved: (opened.reserved.money.nanos(), opened.reserved.tokens),
        prices: opened.prices.as_str().into(),
        prompt: opened.prompt.as_str().into(),
        thread: opened.thread.as_str().into(),
    }
}

fn end(settled: &Settled) -> End<'_> {
    End {
        id: u128::from_be_bytes(settled.opened.id),
        outcome: settled.outcome.as_str().into(),
        tokens: [
            settled.input,
            settled.cache_read,
            settled.cache_write,
            settled.output,
            settled.reasoning,
        ],
        cost: settled.cost.nanos(),
        estimated: settled.estimated,
        us: [settled.first_us, settled.whole_us],
    }
}

impl Reading {
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let short = || "a line is too short".to_owned();
        let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| short())?;
        let (stored, entry) = rest.split_at_checked(length).ok_or_else(short)?;
        let stored = serde_json::from_slice(stored).map_err(|error| error.to_string())?;
        match stored {
            Stored::Opened(begin) => {
                let opened = begin.opened(entry.to_vec())?;
                self.open.insert(opened.id, Arc::new(opened));
            }
            Stored::Settled(end) => {
                let opened = self.open.remove(&end.id.to_be_bytes());
                let unknown = || "something ends that had not begun".to_owned();
                let settled = end.settled(opened.ok_or_else(unknown)?, entry.to_vec());
                self.settled.push(settled);
            }
        }
        Ok(())
    }
}

impl Begin<'_> {
    fn opened(self, entry: Vec<u8>) -> Result<Opened, String> {
        Ok(Opened {
            id: self.id.to_be_bytes(),
            workspace: Workspace::new(&self.workspace).map_err(|error| error.to_string())?,
            at: Timestamp::from_micros(self.at),
            way: self.way,
            kind: self.kind.into_owned(),
            who: self.who.into_owned(),
            provider: self.provider.into_owned(),
            model: self.model.into_owned(),
            asked: self.asked.into_owned(),
            reserved: Amount {
                money: Money::from_nanos(self.reserved.0),
                tokens: self.reserved.1,
                calls: u64::from(self.way == Way::Tool),
                requests: u64::from(self.way == Way::Web),
            },
            prices: self.prices.into_owned(),
            prompt: self.prompt.into_owned(),
            thread: self.thread.into_owned(),
            entry,
        })
    }
}

impl End<'_> {
    fn settled(self, opened: Arc<Opened>, entry: Vec<u8>) -> Settled {
        let [input, cache_read, cache_write, output, reasoning] = self.tokens;
        Settled {
            opened,
            outcome: self.outcome.into_owned(),
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            cost: Money::from_nanos(self.cost),
            estimated: self.estimated,
            first_us: self.us[0],
            whole_us: self.us[1],
            entry,
        }
    }
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    let mut first = [0; SUM];
    first.copy_from_slice(&whole[..SUM]);
    first
}

/// A file that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    number: u64,
    size: u64,
    /// Bytes of a line that was cut stand at its end, and could not be taken away.
    torn: bool,
}

impl Segment {
    /// A new file.
    pub(super) fn begin(folder: &Path, number: u64) -> Result<Self, EgressError> {
        let path = folder.join(format!("{NAME}{number:020}"));
        let made = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = made.map_err(|error| file_failed(&path, &error))?;
        Ok(Self {
            file,
            path,
            number,
            size: 0,
            torn: false,
        })
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hands a line to the operating system, whole or not at all.
    pub(super) fn write(&mut self, line: Line<'_>) -> Result<(), EgressError> {
        let bytes = line.to_bytes();
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|_| bytes.len() <= MOST);
        let length = length.ok_or_else(|| {
            EgressError::Ledger(format!("a line of {} bytes is too long", bytes.len()))
        })?;
        if std::mem::take(&mut self.torn) {
            self.mend()?;
        }
        let mut whole = Vec::with_capacity(HEAD + bytes.len());
        whole.extend_from_slice(&length.to_le_bytes());
        whole.extend_from_slice(&sum(&bytes));
        whole.extend_from_slice(&bytes);
        if let Err(error) = self.file.write_all(&whole) {
            let failed = file_failed(&self.path, &error);
            // Lines behind half a line would not be read.
            self.mend()?;
            return Err(failed);
        }
        self.size += whole.len() as u64;
        Ok(())
    }

    /// Waits until all of it is on the disk.
    pub(super) fn sync(&self) -> Result<(), EgressError> {
        let synced = self.file.sync_data();
        synced.map_err(|error| file_failed(&self.path, &error))
    }

    /// Takes away what stands behind the last whole line.
    fn mend(&mut self) -> Result<(), EgressError> {
        self.file.set_len(self.size).map_err(|error| {
            self.torn = true;
            file_failed(&self.path, &error)
        })
    }
}

/// The files of a folder, oldest first, and what they say. What is open in one may end in a later one.
pub(super) fn read_all(folder: &Path) -> Result<(Vec<PathBuf>, Reading), EgressError> {
    let failed = |error: std::io::Error| file_failed(folder, &error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(NAME) && !name.contains('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let (mut read, mut reading) = (Vec::new(), Reading::default());
    for path in paths {
        match read_one(&path, &mut reading) {
            Ok(()) => read.push(path),
            Err(why) => {
                // Another Skep may read it; this one goes on with what it understood.
                let aside = path.with_extension("unread");
                tracing::error!(path = %aside.display(), why, "a file of the ledger cannot be read and is put aside");
                std::fs::rename(&path, &aside).map_err(|error| file_failed(&path, &error))?;
            }
        }
    }
    Ok((read, reading))
}

fn read_one(path: &Path, reading: &mut Reading) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut rest = &bytes[..];
    while let Some((line, after)) = first(rest) {
        reading.read(line)?;
        rest = after;
    }
    if !rest.is_empty() {
        let (path, bytes) = (path.display(), rest.len());
        tracing::warn!(%path, bytes, "the last line of the ledger was cut: its exchange had not begun, or had not ended");
    }
    Ok(())
}

/// The first line, and what follows it; nothing, when it is cut.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (length, expected) = head.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let (line, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    (sum(line) == expected).then_some((line, after))
}

#[cfg(test)]
#[path = "segment_tests.rs"]
pub(crate) mod tests;
