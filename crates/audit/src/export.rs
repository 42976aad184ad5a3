//! What leaves the log with its proof: one entry as text, or many as JSON lines. [`crate::verify`] reads
//! both without the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tlog_tiles::Hash;

use crate::log::{Found, Head};
use crate::{AuditError, PublicKey};

/// What the first line of an export says it is.
pub(crate) const FORMAT: &str = "skep audit export 1";
/// What the first line of a proof says it is (c2sp.org/tlog-proof).
pub(crate) const PROOF: &str = "c2sp.org/tlog-proof@v1";

/// The first line of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct First {
    pub(crate) format: String,
    /// The key that signed; a reader believes only one that it knows already.
    pub(crate) public_key: String,
    /// The checkpoint, a signed note.
    pub(crate) checkpoint: String,
    /// The entry that says how far the log was pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pruned: Option<Line>,
}

/// A line of an export: an entry, as it was hashed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) entry: Box<RawValue>,
    pub(crate) proof: Vec<String>,
}

/// A line of an export: an entry that was pruned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrunedLine {
    pub(crate) number: u64,
    /// The hash of its leaf, in base64.
    pub(crate) hash: String,
    pub(crate) proof: Vec<String>,
}

/// The last line of an export: without it the export is cut short.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Last {
    pub(crate) entries: u64,
}

/// Entries with their proofs, as JSON lines.
#[derive(Debug)]
pub struct Exported {
    entries: u64,
}

fn line(value: &impl Serialize) -> Result<String, AuditError> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n")
        .map_err(|error| AuditError::damaged(error.to_string()))
}

fn of(found: &Found, proof: &[Hash]) -> Result<Line, AuditError> {
    let broken = || AuditError::damaged(format!("entry {} is no JSON", found.number));
    let text = std::str::from_utf8(&found.bytes).map_err(|_| broken())?;
    Ok(Line {
        number: found.number,
        entry: RawValue::from_string(text.to_owned()).map_err(|_| broken())?,
        proof: base64(proof),
    })
}

fn base64(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| STANDARD.encode(hash.0)).collect()
}

impl Exported {
    /// Begins an export; gives its first line. `pruned` is the entry that says how far the log was
    /// pruned, with its proof.
    ///
    /// # Errors
    /// [`AuditError::Damaged`], when a checkpoint is no text.
    pub fn begin(
        key: &PublicKey,
        head: &Head,
        pruned: Option<(&Found, &[Hash])>,
    ) -> Result<(Self, String), AuditError> {
        let checkpoint = String::from_utf8(head.note.clone())
            .map_err(|_| AuditError::damaged("a checkpoint is no text"))?;
        let first = First {
            format: FORMAT.to_owned(),
            public_key: key.to_string(),
            checkpoint,
            pruned: pruned.map(|(found, proof)| of(found, proof)).transpose()?,
        };
        Ok((Self { entries: 0 }, line(&first)?))
    }

    /// The line of an entry.
    ///
    /// # Errors
    /// [`AuditError::Damaged`], when an entry is no JSON.
    pub fn entry(&mut self, found: &Found, proof: &[Hash]) -> Result<String, AuditError> {
        self.entries += 1;
        line(&of(found, proof)?)
    }

    /// The line of an entry that was pruned.
    ///
    /// # Errors
    /// Never.
    pub fn hash(&mut self, number: u64, hash: &Hash, proof: &[Hash]) -> Result<String, AuditError> {
        self.entries += 1;
        line(&PrunedLine {
            number,
            hash: STANDARD.encode(hash.0),
            proof: base64(proof),
        })
    }

    /// The last line.
    ///
    /// # Errors
    /// Never.
    pub fn end(self) -> Result<String, AuditError> {
        line(&Last {
            entries: self.entries,
        })
    }
}

/// The proof that an entry is in the log, as text (c2sp.org/tlog-proof).
#[must_use]
pub fn proof_text(number: u64, proof: &[Hash], head: &Head) -> String {
    let mut text = format!("{PROOF}\nindex {number}\n");
    for hash in base64(proof) {
        text.push_str(&hash);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&head.note));
    text
}
