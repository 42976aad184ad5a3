//! Who may write: a key that those recipients have who may, with which each state of a file is signed. A new
//! root brings a new such key, which the one before it signs, so that whoever knows a key of a file can tell
//! the files that follow from what somebody else made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use skep_crypto::signing::{Publisher, SigningKey};

use crate::form::decode_array;
use crate::{Lock, LockError, MOST_WRITERS};

const WRITTEN: &[u8] = b"skep agent.lock v2 written\0";

/// The public half of a key that files were written with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writer {
    /// It, `skepsig1_…`.
    pub key: String,
    /// The epoch from which it counts, in which a root was made.
    pub epoch: u64,
    /// The signature of the key before it, in base64; the first has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Writer {
    fn public(&self, place: &str) -> Result<Publisher, LockError> {
        let wrong = |_| LockError::malformed(place, "the key is none: `skepsig1_…`");
        self.key.parse().map_err(wrong)
    }
}

impl Lock {
    /// What the key before a new one signs.
    fn handover(&self, key: &str, epoch: u64) -> Vec<u8> {
        let id = &self.agent.id;
        format!("skep agent.lock v2 writer\0{id}\0{epoch}\0{key}").into_bytes()
    }

    /// Makes a key the one that counts from the root's epoch on. The one that counted says so.
    pub(crate) fn hand_over(
        &mut self,
        from: Option<&SigningKey>,
        to: &SigningKey,
    ) -> Result<(), LockError> {
        let (key, epoch) = (to.publisher()?.to_string(), self.root_epoch);
        let text = self.handover(&key, epoch);
        let by = from.map(|from| from.sign(&text)).transpose()?;
        self.writers.push(Writer {
            key,
            epoch,
            by: by.map(|by| STANDARD.encode(by)),
        });
        let over = self.writers.len().saturating_sub(MOST_WRITERS);
        self.writers.drain(..over);
        if let Some(first) = self.writers.first_mut() {
            first.by = None;
        }
        Ok(())
    }

    /// What a state's signature is over.
    fn to_write(&self) -> Vec<u8> {
        let mut header = self.header();
        header.insert("mac".into(), self.mac.as_str().into());
        [WRITTEN, Self::spelled(header).as_bytes()].concat()
    }

    pub(crate) fn write_with(&mut self, key: &SigningKey) -> Result<(), LockError> {
        self.written = STANDARD.encode(key.sign(&self.to_write())?);
        Ok(())
    }

    /// Checks that each key was handed on by the one before, and that the last one wrote this state.
    pub(crate) fn check_writers(&self) -> Result<(), LockError> {
        let wrong = |why: &str| LockError::malformed("writers", why);
        if !(1..=MOST_WRITERS).contains(&self.writers.len()) {
            return Err(wrong("there is none, or there are too many"));
        }
        let mut before: Option<(Publisher, u64)> = None;
        for writer in &self.writers {
            let place = format!("writers, epoch {}", writer.epoch);
            let key = writer.public(&place)?;
            match (before, &writer.by) {
                (None, None) => {}
                (Some((from, epoch)), Some(by)) if epoch < writer.epoch => {
                    let by: [u8; 64] = decode_array(place, by)?;
                    if !from.signed(&self.handover(&writer.key, writer.epoch), &by) {
                        return Err(LockError::Written);
                    }
                }
                _ => return Err(wrong("they do not follow each other")),
            }
            before = Some((key, writer.epoch));
        }
        let written: [u8; 64] = decode_array("written".into(), &self.written)?;
        match before {
            Some((key, epoch)) if epoch == self.root_epoch => {
                match key.signed(&self.to_write(), &written) {
                    true => Ok(()),
                    false => Err(LockError::Written),
                }
            }
            _ => Err(wrong("the last one is not of the root's epoch")),
        }
    }

    /// The key that this state was written with.
    #[must_use]
    pub fn writer(&self) -> &str {
        self.writers.last().map_or("", |it| it.key.as_str())
    }

    /// Whether it was written with this key, or with one that follows from it.
    #[must_use]
    pub fn follows(&self, key: &str) -> bool {
        self.writers.iter().any(|it| it.key == key)
    }
}
