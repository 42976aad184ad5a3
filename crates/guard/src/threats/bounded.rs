//! A map that holds so many and forgets whom it has not seen for the longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub(super) struct Bounded<K, V> {
    most: usize,
    /// Grows with every look.
    turn: u64,
    values: HashMap<K, (u64, V)>,
    by_turn: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V: Default> Bounded<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            turn: 0,
            values: HashMap::new(),
            by_turn: BTreeMap::new(),
        }
    }

    /// The value of a key, which is new when it was not there.
    pub(super) fn get(&mut self, key: &K) -> &mut V {
        if !self.values.contains_key(key)
            && self.values.len() >= self.most
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.values.remove(&oldest);
        }
        let last = self.turn;
        let (at, value) = self.values.entry(key.clone()).or_default();
        // Whoever was here last, as most are, costs no more than a look.
        if *at != last || last == 0 {
            self.turn += 1;
            self.by_turn.remove(at);
            self.by_turn.insert(self.turn, key.clone());
            *at = self.turn;
        }
        value
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.values.len(), self.by_turn.len());
        self.values.len()
    }
}
