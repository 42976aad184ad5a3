//! The log over a window of time: whether it is as it was, with each entry on the way.

use skep_core::Timestamp;
use tlog_tiles::record_hash;

use crate::log::{Filter, Found, Head, Log};
use crate::read::pruned;
use crate::tree::WIDTH;
use crate::{AuditError, proof_text, verify};

/// Bytes of a hash.
const HASH: usize = 32;

/// What a look over a window found.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The head of the log at its end.
    pub head: Head,
    /// Entries that were hashed, and proven to be in the log of the head.
    pub verified: u64,
    /// The size of the earlier signed head that the log was proven to begin with: the newest from before
    /// the window, else the oldest that is kept. Absent when none is kept that this key signed: of the
    /// last hour only the newest head is.
    pub earlier: Option<u64>,
    /// What is not as it was.
    pub damage: Option<String>,
    /// Whether entries of the window were pruned.
    pub pruned: bool,
    /// Whether there are more entries than were to be looked at.
    pub cut: bool,
}

/// What says that the log is not as it was is no failure of the look.
fn damage<T>(result: Result<T, AuditError>) -> Result<Result<T, String>, AuditError> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(
            error @ (AuditError::Damaged { .. }
            | AuditError::Signature(_)
            | AuditError::RolledBack { .. }
            | AuditError::Rewritten(_)),
        ) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

impl Log {
    /// Looks at all entries since a moment, at most so many of the oldest, and whether they are as they
    /// were. `each` is told of those that are.
    ///
    /// # Errors
    /// The store's own. What is not as it was is told, and is no error.
    pub async fn window(
        &self,
        since: Timestamp,
        most: u64,
        mut each: impl FnMut(&Found),
    ) -> Result<Window, AuditError> {
        let head = self.checkpoint().await?;
        let filter = Filter {
            since: Some(since),
            ..Filter::default()
        };
        let first = self.since(&filter).await?;
        let kept = self.db().read(pruned).await?;
        let from = first.max(kept).min(head.size);
        let end = head.size.min(from.saturating_add(most));
        let mut window = Window {
            verified: 0,
            earlier: None,
            damage: None,
            pruned: first < kept,
            cut: end < head.size,
            head,
        };
        match damage(self.grown(since, &window.head).await)? {
            Ok(earlier) => window.earlier = earlier,
            Err(why) => window.damage = Some(why),
        }
        let mut at = from;
        while at < end && window.damage.is_none() {
            let next = end.min((at / WIDTH as u64 + 1) * WIDTH as u64);
            match damage(self.as_it_was(at, next, &window.head).await)? {
                Ok(found) => found.iter().for_each(&mut each),
                Err(why) => window.damage = Some(why),
            }
            window.verified += next - at;
            at = next;
        }
        Ok(window)
    }

    /// Whether the log of a head begins with that of an earlier one; the size of that.
    async fn grown(&self, since: Timestamp, head: &Head) -> Result<Option<u64>, AuditError> {
        let Some(note) = self.note_of(since, head.size).await? else {
            return Ok(None);
        };
        let key = self.public_key();
        // One that another key signed is of the log that this one goes on from.
        if !note.starts_with(format!("{}\n", key.name()?).as_bytes()) {
            return Ok(None);
        }
        let earlier = verify::head(&note, key)?;
        if earlier.size == 0 {
            return Ok(None);
        }
        let proof = self.consistency(earlier.size, head.size).await?;
        verify::grows(&earlier, head, &proof)?;
        Ok(Some(earlier.size))
    }

    /// The entries of one tile from a number to another, when each has the hash that the tile has, and the
    /// tile the one that the head has.
    async fn as_it_was(&self, from: u64, to: u64, head: &Head) -> Result<Vec<Found>, AuditError> {
        let missing = |number: u64| AuditError::damaged(format!("entry {number} is missing"));
        let count = (to - from) as usize;
        let (found, _) = self.tail(Filter::default(), from, count).await?;
        let tile = from / WIDTH as u64;
        let width = (to - tile * WIDTH as u64) as usize;
        let hashes = self.tile(0, tile, width).await?;
        let hashes = hashes.ok_or_else(|| missing(from))?;
        for (at, one) in (from..to).zip(found.iter().map(Some).chain(std::iter::repeat(None))) {
            let one = one
                .filter(|one| one.number == at)
                .ok_or_else(|| missing(at))?;
            let place = (at % WIDTH as u64) as usize * HASH;
            if hashes.get(place..place + HASH) != Some(&record_hash(&one.bytes).0[..]) {
                let why = format!("entry {at} is not what the tree has at its place");
                return Err(AuditError::damaged(why));
            }
        }
        // The proof of one leaf goes through all hashes of its tile.
        if let Some(last) = found.last() {
            let proofs = self.prove_at(vec![last.number], head).await?;
            let proof = proofs.first().map_or(&[][..], Vec::as_slice);
            let text = proof_text(last.number, proof, head);
            verify::entry(&last.bytes, &text, self.public_key())?;
        }
        Ok(found)
    }
}
