//! The ledger's file: one line after the other, each with its length and a checksum. A line that was cut ends it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_core::{Timestamp, Workspace};

use super::file_failed;
use crate::EgressError;
use crate::llm::Amount;
use crate::money::Money;

/// The bytes before a line: its length (u32, little endian), and the first of its SHA-256.
const HEAD: usize = 4 + SUM;
const SUM: usize = 8;
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
    /// What the audit log is told if nothing more is known.
    pub entry: Vec<u8>,
}

/// An exchange that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// How it began.
    pub opened: Opened,
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

impl Opened {
    /// Nobody knows how it ended.
    pub(super) fn lost(self, now: Timestamp) -> Settled {
        let whole = now.since(self.at).as_micros();
        Settled {
            outcome: "lost".to_owned(),
            input: self.reserved.tokens,
            cache_read: 0,
            cache_write: 0,
            output: 0,
            reasoning: 0,
            cost: self.reserved.money,
            estimated: true,
            first_us: 0,
            whole_us: u64::try_from(whole).unwrap_or(u64::MAX),
            entry: self.entry.clone(),
            opened: self,
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// One begins.
    Opened(Opened),
    /// One has ended.
    Settled(Settled),
}

/// A line as the file has it. Fields may be added with a default; none changes its meaning.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: [u8; 16],
    workspace: String,
    at: i64,
    #[serde(default)]
    way: Way,
    kind: String,
    who: String,
    provider: String,
    model: String,
    asked: String,
    reserved: (i64, u64),
    prices: String,
    /// In Base64.
    entry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

#[derive(Serialize, Deserialize)]
struct End {
    outcome: String,
    /// Input, of which from and to the cache, output, of which thought.
    tokens: [u64; 5],
    cost: i64,
    estimated: bool,
    us: [u64; 2],
    /// In Base64.
    entry: String,
}

impl Line {
    fn to_bytes(&self) -> Vec<u8> {
        let (opened, end) = match self {
            Self::Opened(opened) => (opened, None),
            Self::Settled(settled) => {
                let end = End {
                    outcome: settled.outcome.clone(),
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
                    entry: STANDARD.encode(&settled.entry),
                };
                (&settled.opened, Some(end))
            }
        };
        let stored = Stored {
            id: opened.id,
            workspace: opened.workspace.to_string(),
            at: opened.at.as_micros(),
            way: opened.way,
            kind: opened.kind.clone(),
            who: opened.who.clone(),
            provider: opened.provider.clone(),
            model: opened.model.clone(),
            asked: opened.asked.clone(),
            reserved: (opened.reserved.money.nanos(), opened.reserved.tokens),
            prices: opened.prices.clone(),
            entry: STANDARD.encode(&opened.entry),
            end,
        };
        // Texts and numbers alone: it cannot fail.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let entry = |text: &str| STANDARD.decode(text).map_err(|error| error.to_string());
        let opened = Opened {
            id: stored.id,
            workspace: Workspace::new(&stored.workspace).map_err(|error| error.to_string())?,
            at: Timestamp::from_micros(stored.at),
            way: stored.way,
            kind: stored.kind,
            who: stored.who,
            provider: stored.provider,
            model: stored.model,
            asked: stored.asked,
            reserved: Amount {
                money: Money::from_nanos(stored.reserved.0),
                tokens: stored.reserved.1,
            },
            prices: stored.prices,
            entry: entry(&stored.entry)?,
        };
        let Some(end) = stored.end else {
            return Ok(Self::Opened(opened));
        };
        let [input, cache_read, cache_write, output, reasoning] = end.tokens;
        Ok(Self::Settled(Settled {
            opened,
            outcome: end.outcome,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            cost: Money::from_nanos(end.cost),
            estimated: end.estimated,
            first_us: end.us[0],
            whole_us: end.us[1],
            entry: entry(&end.entry)?,
        }))
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
    pub(super) fn write(&mut self, line: &Line) -> Result<(), EgressError> {
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

/// The files of a folder, oldest first, and their lines.
pub(super) fn read_all(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Line>), EgressError> {
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
    let (mut read, mut lines) = (Vec::new(), Vec::new());
    for path in paths {
        match read_one(&path) {
            Ok(found) => {
                lines.extend(found);
                read.push(path);
            }
            Err(why) => {
                // Another Skep may read it; this one goes on without.
                let aside = path.with_extension("unread");
                tracing::error!(path = %aside.display(), why, "a file of the ledger cannot be read and is put aside");
                std::fs::rename(&path, &aside).map_err(|error| file_failed(&path, &error))?;
            }
        }
    }
    Ok((read, lines))
}

fn read_one(path: &Path) -> Result<Vec<Line>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let (mut rest, mut lines) = (&bytes[..], Vec::new());
    while let Some((line, after)) = first(rest) {
        lines.push(Line::read(line)?);
        rest = after;
    }
    if !rest.is_empty() {
        let (path, bytes) = (path.display(), rest.len());
        tracing::warn!(%path, bytes, "the last line of the ledger was cut: its exchange had not begun, or had not ended");
    }
    Ok(lines)
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
