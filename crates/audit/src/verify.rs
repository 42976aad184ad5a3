//! Believing nothing but a public key: checkpoints, proofs, exports and whole logs, without a server.

use std::fs;
use std::io::BufRead;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, VerifierList};
use tlog_tiles::{Checkpoint, Hash, check_record, check_tree, record_hash};

use crate::bundle::split;
use crate::export::{FORMAT, First, Last, Line, PROOF, PrunedLine};
use crate::log::Head;
use crate::tree::{Edge, WIDTH};
use crate::{AuditError, Entry, PublicKey, prune};

/// The longest line of an export.
const MOST_LINE: usize = 1 << 20;
/// The name of the checkpoint in a folder of tiles (c2sp.org/tlog-tiles).
pub const CHECKPOINT: &str = "checkpoint";

/// What was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Entries whose place in the log was proven.
    pub entries: u64,
    /// Those of them that were pruned: only their hashes are there.
    pub pruned: u64,
    /// The head of the log that they are in.
    pub head: Head,
}

/// The head that a checkpoint tells, when the key has signed it.
///
/// # Errors
/// [`AuditError::Signature`], [`AuditError::Damaged`].
pub fn head(note: &[u8], key: &PublicKey) -> Result<Head, AuditError> {
    let unsigned = |why: String| AuditError::Signature(why);
    let parsed = Note::from_bytes(note).map_err(|error| unsigned(error.to_string()))?;
    let known = VerifierList::new(vec![Box::new(key.verifier()?)]);
    let (signed, _) = parsed
        .verify(&known)
        .map_err(|error| unsigned(error.to_string()))?;
    if signed.is_empty() {
        return Err(unsigned(format!("it has no signature of {key}")));
    }
    let checkpoint = Checkpoint::from_bytes(parsed.text())
        .map_err(|error| AuditError::damaged(error.to_string()))?;
    if checkpoint.origin() != key.name()? {
        return Err(unsigned(format!(
            "it is of the log {}",
            checkpoint.origin()
        )));
    }
    Ok(Head {
        size: checkpoint.size(),
        root: *checkpoint.hash(),
        note: note.to_vec(),
    })
}

/// The log that a checkpoint says it is of; nothing is verified.
pub(crate) fn origin(note: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(note).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Whether the log of `new` begins with that of `old`, by a proof.
///
/// # Errors
/// [`AuditError::RolledBack`] when it became shorter, [`AuditError::Rewritten`].
pub fn grows(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), AuditError> {
    if new.size < old.size {
        return Err(AuditError::RolledBack {
            had: old.size,
            has: new.size,
        });
    }
    let other =
        |why: &str| AuditError::Rewritten(format!("{why} ({} and {} entries)", old.size, new.size));
    if new.size == old.size {
        return match new.root == old.root {
            true => Ok(()),
            false => Err(other("two heads of one size differ")),
        };
    }
    if old.size == 0 {
        return Ok(());
    }
    check_tree(&proof.to_vec(), new.size, new.root, old.size, old.root)
        .map_err(|_| other("its beginning is another one"))
}

/// Whether an entry is in the log, by the text of its proof.
///
/// # Errors
/// [`AuditError::Signature`], [`AuditError::Damaged`].
pub fn entry(bytes: &[u8], proof: &str, key: &PublicKey) -> Result<(u64, Head), AuditError> {
    let malformed = || AuditError::damaged("the proof is malformed");
    let (lines, note) = proof.split_once("\n\n").ok_or_else(malformed)?;
    let mut lines = lines.lines();
    if lines.next() != Some(PROOF) {
        return Err(malformed());
    }
    let number = lines
        .next()
        .and_then(|line| line.strip_prefix("index ")?.parse().ok());
    let number = number.ok_or_else(malformed)?;
    let hashes: Vec<&str> = lines.collect();
    let head = head(note.as_bytes(), key)?;
    place(number, record_hash(bytes), &hashes, &head)?;
    Ok((number, head))
}

fn place(
    number: u64,
    leaf: Hash,
    proof: &[impl AsRef<str>],
    head: &Head,
) -> Result<(), AuditError> {
    let wrong = || AuditError::damaged(format!("entry {number} is not what the log has there"));
    let proof = proof.iter().map(|hash| {
        let bytes = STANDARD.decode(hash.as_ref()).ok()?;
        Some(Hash(bytes.try_into().ok()?))
    });
    let proof = proof.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    if number >= head.size {
        return Err(wrong());
    }
    check_record(&proof, head.size, head.root, number, leaf).map_err(|_| wrong())
}

fn next_line(source: &mut impl BufRead) -> Result<Option<String>, AuditError> {
    let mut line = Vec::new();
    let mut bounded = std::io::Read::take(source, MOST_LINE as u64);
    let read = bounded.read_until(b'\n', &mut line);
    let count = read.map_err(|error| AuditError::damaged(error.to_string()))?;
    if count == 0 {
        return Ok(None);
    }
    match line.pop() {
        Some(b'\n') => String::from_utf8(line)
            .map(Some)
            .map_err(|_| AuditError::damaged("a line is no text")),
        _ => Err(AuditError::damaged("its last line is cut short")),
    }
}

/// Whether every entry of an export is in the log that the key signed. `each` is told of them.
///
/// # Errors
/// [`AuditError::Signature`], [`AuditError::Damaged`].
pub fn export(
    mut source: impl BufRead,
    key: &PublicKey,
    mut each: impl FnMut(u64, &str),
) -> Result<Verified, AuditError> {
    let broken = |why: &str| AuditError::damaged(why.to_owned());
    let first = next_line(&mut source)?.ok_or_else(|| broken("it is empty"))?;
    let first: First = serde_json::from_str(&first)
        .map_err(|_| broken("its first line does not say what it is"))?;
    if first.format != FORMAT {
        return Err(broken("its form is of another version"));
    }
    let head = head(first.checkpoint.as_bytes(), key)?;
    // What an entry of the log does not say was pruned was taken out of the export.
    let told = match &first.pruned {
        Some(line) => {
            place(
                line.number,
                record_hash(line.entry.get().as_bytes()),
                &line.proof,
                &head,
            )?;
            pruned_below(line.entry.get())
        }
        None => 0,
    };
    let (mut entries, mut pruned) = (0, 0);
    loop {
        let line = next_line(&mut source)?.ok_or_else(|| broken("its end is missing"))?;
        if let Ok(last) = serde_json::from_str::<Last>(&line) {
            if last.entries != entries || next_line(&mut source)?.is_some() {
                return Err(broken("its end does not fit"));
            }
            return Ok(Verified {
                entries,
                pruned,
                head,
            });
        }
        entries += 1;
        let malformed = || broken(&format!("line {} is malformed", entries + 1));
        if let Ok(line) = serde_json::from_str::<PrunedLine>(&line) {
            let hash = STANDARD.decode(&line.hash).ok();
            let hash = hash.and_then(|bytes| bytes.try_into().ok());
            place(
                line.number,
                hash.map(Hash).ok_or_else(malformed)?,
                &line.proof,
                &head,
            )?;
            if line.number >= told {
                return Err(never_pruned(line.number));
            }
            pruned += 1;
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|_| malformed())?;
        place(
            line.number,
            record_hash(line.entry.get().as_bytes()),
            &line.proof,
            &head,
        )?;
        each(line.number, line.entry.get());
    }
}

/// Below which number an entry says that all were pruned.
fn pruned_below(entry: &str) -> u64 {
    let entry = Entry::parse(entry.as_bytes());
    entry.as_ref().and_then(prune::told).unwrap_or(0)
}

fn never_pruned(number: u64) -> AuditError {
    AuditError::damaged(format!(
        "entry {number} is missing, and no entry says that it was pruned"
    ))
}

/// The path of a tile or of a bundle of entries (c2sp.org/tlog-tiles); `kind` is a level or `entries`.
#[must_use]
pub fn tile_path(kind: &str, number: u64, width: usize) -> String {
    let mut rest = number;
    let mut path = format!("{:03}", rest % 1_000);
    while rest >= 1_000 {
        rest /= 1_000;
        path = format!("x{:03}/{path}", rest % 1_000);
    }
    let partial = match width {
        WIDTH => String::new(),
        width => format!(".p/{width}"),
    };
    format!("tile/{kind}/{path}{partial}")
}

/// The beginning of a log, as far as it was pruned.
#[derive(Default)]
struct Beginning {
    /// How many have no body.
    pruned: u64,
    /// Of how many an entry says so.
    told: u64,
}

impl Beginning {
    /// The leaf of an entry without a body, from the tile of hashes. It is always the beginning that goes.
    fn without_body(&mut self, number: u64, hashes: &[u8], at: usize) -> Result<Hash, AuditError> {
        if number != self.pruned {
            return Err(never_pruned(number));
        }
        self.pruned += 1;
        let hash = hashes.as_chunks::<32>().0.get(at).copied();
        let hash = hash.ok_or_else(|| AuditError::damaged("a tile is cut short"))?;
        Ok(Hash(hash))
    }
}

/// Whether a folder of tiles holds the whole log that its checkpoint tells, and the log of `earlier`
/// before it. `each` is told of every entry.
///
/// # Errors
/// [`AuditError::Signature`], [`AuditError::Damaged`], [`AuditError::RolledBack`],
/// [`AuditError::Rewritten`].
pub fn tiles(
    folder: &Path,
    key: &PublicKey,
    earlier: Option<&Head>,
    mut each: impl FnMut(u64, &str),
) -> Result<Verified, AuditError> {
    let read = |path: &str| {
        fs::read(folder.join(path)).map_err(|error| AuditError::damaged(format!("{path}: {error}")))
    };
    let head = head(&read(CHECKPOINT)?, key)?;
    if let Some(earlier) = earlier.filter(|earlier| earlier.size > head.size) {
        return Err(AuditError::RolledBack {
            had: earlier.size,
            has: head.size,
        });
    }
    let mut edge = Edge::default();
    let mut beginning = Beginning::default();
    let mut same = earlier.is_none_or(|earlier| earlier.size == 0);
    while edge.size() < head.size {
        let number = edge.size() / WIDTH as u64;
        let width = usize::try_from(head.size - edge.size())
            .unwrap_or(WIDTH)
            .min(WIDTH);
        let path = tile_path("entries", number, width);
        let bundle = read(&path)?;
        let entries = split(&bundle)?;
        if entries.len() != width {
            return Err(AuditError::damaged(format!(
                "{path} has not {width} entries"
            )));
        }
        // Only the hashes are there of what was pruned.
        let hashes = match entries.iter().any(|bytes| bytes.is_empty()) {
            true => read(&tile_path("0", number, width))?,
            false => Vec::new(),
        };
        for (at, bytes) in entries.into_iter().enumerate() {
            let leaf = match bytes.is_empty() {
                true => beginning.without_body(edge.size(), &hashes, at)?,
                false => {
                    let entry = String::from_utf8_lossy(bytes);
                    beginning.told = beginning.told.max(pruned_below(&entry));
                    each(edge.size(), &entry);
                    record_hash(bytes)
                }
            };
            for tile in edge.push(leaf) {
                let path = tile_path(&tile.level.to_string(), tile.number, WIDTH);
                if read(&path)? != tile.hashes {
                    return Err(AuditError::damaged(format!("{path} is of other entries")));
                }
            }
            if let Some(earlier) = earlier.filter(|earlier| earlier.size == edge.size()) {
                same = root(&edge)? == earlier.root;
            }
        }
    }
    if root(&edge)? != head.root {
        return Err(AuditError::damaged(
            "its entries are not those of its checkpoint",
        ));
    }
    if beginning.pruned > beginning.told {
        return Err(never_pruned(beginning.told));
    }
    match same {
        true => Ok(Verified {
            entries: head.size,
            pruned: beginning.pruned,
            head,
        }),
        false => Err(AuditError::Rewritten(
            "its beginning is another one".to_owned(),
        )),
    }
}

fn root(edge: &Edge) -> Result<Hash, AuditError> {
    edge.root()
        .map_err(|error| AuditError::damaged(error.to_string()))
}
