//! Which messages came already: for each session the highest number and a window of those below it.
//! A session is forgotten when all that came in it has expired, so nothing of it can come again.

use std::collections::BTreeMap;

use super::{MessageError, PublicKey, array, take};

/// Numbers below the highest that may still come.
pub const WINDOW: u64 = 1024;
/// Sessions that are remembered at once.
pub const MOST_SESSIONS: usize = 4096;
const WORDS: usize = (WINDOW / 64) as usize;
const MAGIC: &[u8; 8] = b"skeprcv\x01";

/// Messages of one sender that are numbered together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// Who sends.
    pub sender: PublicKey,
    /// Which session of theirs.
    pub id: [u8; 16],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    highest: u64,
    /// Bit `n % WINDOW` is set when `n` came; of the highest [`WINDOW`] numbers only.
    bits: [u64; WORDS],
    /// When the last of it expires.
    until: u64,
}

/// What a receiver has opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    sessions: BTreeMap<Session, Seen>,
    /// Whether each number must be above all before it.
    in_order: bool,
}

fn at(sequence: u64) -> (usize, u64) {
    let bit = sequence % WINDOW;
    ((bit / 64) as usize, 1 << (bit % 64))
}

impl Received {
    /// From now on a message counts only when its number is above all before it.
    pub const fn in_order(&mut self, in_order: bool) {
        self.in_order = in_order;
    }

    pub(super) fn check(
        &mut self,
        session: &Session,
        sequence: u64,
        now: u64,
    ) -> Result<(), MessageError> {
        let Some(seen) = self.sessions.get(session) else {
            if self.sessions.len() >= MOST_SESSIONS {
                self.sessions.retain(|_, seen| seen.until > now);
            }
            return match self.sessions.len() < MOST_SESSIONS {
                true => Ok(()),
                false => Err(MessageError::Full),
            };
        };
        if sequence > seen.highest {
            return Ok(());
        }
        let (word, bit) = at(sequence);
        let is_new = seen.highest - sequence < WINDOW && seen.bits[word] & bit == 0;
        match is_new && !self.in_order {
            true => Ok(()),
            false => Err(MessageError::Replayed),
        }
    }

    pub(super) fn note(&mut self, session: Session, sequence: u64, expires: u64) {
        let seen = self.sessions.entry(session).or_insert(Seen {
            highest: sequence,
            bits: [0; WORDS],
            until: expires,
        });
        if sequence > seen.highest {
            if sequence - seen.highest >= WINDOW {
                seen.bits = [0; WORDS];
            } else {
                for passed in seen.highest + 1..sequence {
                    let (word, bit) = at(passed);
                    seen.bits[word] &= !bit;
                }
            }
            seen.highest = sequence;
        }
        let (word, bit) = at(sequence);
        seen.bits[word] |= bit;
        seen.until = seen.until.max(expires);
    }

    /// All of it, for a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (session, seen) in &self.sessions {
            out.extend_from_slice(&session.sender.0);
            out.extend_from_slice(&session.id);
            for number in [seen.highest, seen.until].iter().chain(&seen.bits) {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }

    /// What [`Received::to_bytes`] gave.
    ///
    /// # Errors
    /// [`MessageError::Malformed`].
    pub fn from_bytes(text: &[u8]) -> Result<Self, MessageError> {
        let rest = &mut &text[..];
        if take(rest, MAGIC.len())? != MAGIC {
            return Err(MessageError::Malformed);
        }
        let mut received = Self::default();
        while !rest.is_empty() {
            let session = Session {
                sender: PublicKey(array(rest)?),
                id: array(rest)?,
            };
            let highest = u64::from_be_bytes(array(rest)?);
            let until = u64::from_be_bytes(array(rest)?);
            let mut bits = [0; WORDS];
            for word in &mut bits {
                *word = u64::from_be_bytes(array(rest)?);
            }
            let seen = Seen {
                highest,
                bits,
                until,
            };
            let twice = received.sessions.insert(session, seen).is_some();
            if twice || received.sessions.len() > MOST_SESSIONS {
                return Err(MessageError::Malformed);
            }
        }
        Ok(received)
    }
}
