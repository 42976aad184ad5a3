//! Which of the same requests of one attempt of a call a request is. A number that got no answer is free again: what failed
//! and was asked again counts once. No I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Requests of attempts whose numbers are known.
const MOST: usize = 10_000;
/// Of the same request in one attempt.
const MOST_OF_ONE: usize = 1_000;

type Taken = Mutex<HashMap<([u8; 32], u32), BTreeSet<u32>>>;

/// Numbers of requests, by their marks and attempts.
#[derive(Default)]
pub(super) struct Numbers(Arc<Taken>);

/// A number that a request has.
pub(super) struct Numbered {
    of: Arc<Taken>,
    key: ([u8; 32], u32),
    number: u32,
    answered: AtomicBool,
}

impl Numbers {
    /// The lowest that is free.
    pub(super) fn take(&self, mark: [u8; 32], attempt: u32) -> Numbered {
        let key = (mark, attempt);
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(&key) {
            // Any of them: its attempt begins to count anew.
            let one = all.keys().next().copied();
            one.map(|one| all.remove(&one));
        }
        let taken = all.entry(key).or_default();
        let number = (0..).find(|it| !taken.contains(it)).unwrap_or_default();
        if taken.len() < MOST_OF_ONE {
            taken.insert(number);
        }
        Numbered {
            of: self.0.clone(),
            key,
            number,
            answered: AtomicBool::new(false),
        }
    }
}

impl Numbered {
    /// The mark, and its number.
    pub(super) const fn mark(&self) -> ([u8; 32], u32) {
        (self.key.0, self.number)
    }

    /// It got its answer: the number stays taken.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        if self.answered.load(Ordering::Relaxed) {
            return;
        }
        let mut all = self.of.lock();
        if let Some(taken) = all.get_mut(&self.key) {
            taken.remove(&self.number);
            if taken.is_empty() {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_at_once_have_numbers_of_their_own_and_failed_ones_none() {
        let numbers = Numbers::default();
        let take = |mark: u8, attempt| numbers.take([mark; 32], attempt);
        let (first, second, third) = (take(1, 1), take(1, 1), take(1, 1));
        let all = [&first, &second, &third].map(|it| it.mark().1);
        assert_eq!(all, [0, 1, 2]);
        assert_eq!((take(1, 2).mark().1, take(2, 1).mark().1), (0, 0));
        first.answered();
        third.answered();
        drop((first, second, third));
        // The one that failed is free again.
        let again = take(1, 1);
        assert_eq!(again.mark().1, 1);
        again.answered();
        drop(again);
        assert_eq!(take(1, 1).mark().1, 3);
        for mark in 0..=u8::MAX {
            for attempt in 0..60 {
                take(mark, attempt).answered();
            }
        }
        assert!(numbers.0.lock().len() <= MOST);
    }
}
