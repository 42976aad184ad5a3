//! How those do who could answer: one that fails again and again is left alone for a while, a fast one is known, and so
//! is a key that may not be shown for now. No I/O; time and chance are given.

use std::collections::HashMap;
use std::time::Duration;

use skep_core::Timestamp;

use super::route::Pick;

/// Failures in a row after which nobody asks for a while.
const FAILURES: u32 = 5;
/// The first such while; each that follows is twice as long.
const WHILE: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);
/// Who is tried again after it is given up for lost so late.
const TRIAL: Duration = Duration::from_secs(30);
/// After so long nobody knows how fast one is.
const STALE: Duration = Duration::from_secs(60);
/// How much the newest time to an answer counts.
const NEWEST: f64 = 0.2;
/// What is known at once, of models and of keys; then all is forgotten.
const MOST: usize = 10_000;
/// Powers of two that [`LONGEST`] may have of [`WHILE`].
const DOUBLED: u32 = 8;

/// One model of one provider.
#[derive(Debug, Clone, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// Nobody asks until then.
    until: Option<Timestamp>,
    /// How often in a row it was left alone.
    times: u32,
    /// Somebody tries since then whether it is back.
    trial: Option<Timestamp>,
    /// Microseconds until an answer begins, the newest counting most.
    first_us: Option<f64>,
    /// When it was asked last.
    asked: Option<Timestamp>,
}

impl State {
    fn may(&self, now: Timestamp) -> bool {
        match self.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => self.trial.is_none_or(|since| now.since(since) >= TRIAL),
        }
    }

    /// How fast it is; nothing when that is not known, or not any more.
    fn first_us(&self, now: Timestamp) -> Option<f64> {
        let known = self.asked.is_some_and(|at| now.since(at) < STALE);
        self.first_us.filter(|_| known)
    }
}

/// How one does, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Failures in a row.
    pub failures: u32,
    /// It is left alone until then.
    pub until: Option<Timestamp>,
    /// Time until an answer begins.
    pub first: Option<Duration>,
}

/// How the models of one workspace do.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    of: HashMap<String, State>,
    /// Keys that are set aside: provider and secret.
    keys: HashMap<(String, String), Timestamp>,
}

impl Health {
    fn state(&mut self, name: &str) -> &mut State {
        if self.of.len() >= MOST {
            self.of.clear();
        }
        self.of.entry(name.to_owned()).or_default()
    }

    /// It is asked.
    pub(super) fn asked(&mut self, name: &str, now: Timestamp) {
        let state = self.state(name);
        state.asked = Some(now);
        if state.until.is_some() {
            state.trial = Some(now);
        }
    }

    /// It begins to answer, after so long.
    pub(super) fn begins(&mut self, name: &str, first: Duration) {
        let state = self.state(name);
        let newest = first.as_secs_f64() * 1e6;
        let before = state.first_us.unwrap_or(newest);
        state.first_us = Some(before + (newest - before) * NEWEST);
    }

    /// It answered to the end.
    pub(super) fn good(&mut self, name: &str) {
        let state = self.state(name);
        *state = State {
            first_us: state.first_us,
            asked: state.asked,
            ..State::default()
        };
    }

    /// It fails.
    pub(super) fn bad(&mut self, name: &str, now: Timestamp) {
        let state = self.state(name);
        state.failures = state.failures.saturating_add(1);
        let tried = state.trial.take().is_some();
        if tried || state.failures >= FAILURES && state.until.is_none_or(|until| until <= now) {
            let doubled = 1 << state.times.min(DOUBLED);
            state.until = Some(now.plus((WHILE * doubled).min(LONGEST)));
            state.times = state.times.saturating_add(1);
        }
    }

    /// Nothing is known of how it ended: somebody else may try.
    pub(super) fn unknown(&mut self, name: &str) {
        self.state(name).trial = None;
    }

    /// How it does.
    pub(super) fn condition(&self, name: &str, now: Timestamp) -> Condition {
        let state = self.of.get(name).cloned().unwrap_or_default();
        let micros = state.first_us.map(|it| Duration::from_secs_f64(it / 1e6));
        Condition {
            failures: state.failures,
            until: state.until.filter(|until| now < *until),
            first: micros,
        }
    }

    /// In which order they are asked, by their names and weights: places of `all`. Those that are left alone are
    /// not among them, unless all are.
    pub(super) fn order(
        &self,
        pick: Pick,
        all: &[(String, u32)],
        (chance, now): (u64, Timestamp),
    ) -> Vec<usize> {
        let mut places: Vec<usize> = match pick {
            Pick::Ordered | Pick::Fastest => (0..all.len()).collect(),
            Pick::Weighted => drawn(all, chance),
        };
        let state = |place: &usize| all.get(*place).and_then(|(name, _)| self.of.get(name));
        if pick == Pick::Fastest {
            let first = |place: &usize| state(place).and_then(|it| it.first_us(now));
            // Who is not known is asked, to be known.
            places.sort_by(|one, other| {
                let (one, other) = (first(one).unwrap_or(0.0), first(other).unwrap_or(0.0));
                one.total_cmp(&other)
            });
        }
        let may = |place: &usize| state(place).is_none_or(|it| it.may(now));
        if places.iter().any(may) {
            places.retain(may);
        }
        places
    }

    /// A key is not to be shown for a while.
    pub(super) fn set_aside(&mut self, provider: &str, secret: &str, until: Timestamp) {
        if self.keys.len() >= MOST {
            self.keys.clear();
        }
        let key = (provider.to_owned(), secret.to_owned());
        self.keys.insert(key, until);
    }

    /// Which of a provider's keys is shown, in turn: one that is not set aside, else the one that will be back first.
    pub(super) fn key(
        &self,
        provider: &str,
        secrets: &[String],
        (turn, now): (usize, Timestamp),
    ) -> Option<usize> {
        let until = |place: usize| {
            let secret = secrets.get(place).filter(|_| !self.keys.is_empty())?;
            let key = (provider.to_owned(), secret.clone());
            self.keys.get(&key).copied().filter(|until| now < *until)
        };
        let count = secrets.len();
        let places = (0..count).map(|step| (turn.wrapping_add(step)) % count);
        places.min_by_key(|place| until(*place))
    }

    /// Whether a provider has a key that may be shown.
    pub(super) fn has_key(&self, provider: &str, secrets: &[String], now: Timestamp) -> bool {
        secrets.iter().any(|secret| {
            let key = (provider.to_owned(), secret.clone());
            self.keys.get(&key).is_none_or(|until| *until <= now)
        })
    }
}

/// All of them, the first by chance and weight, then those that are left in the same way.
fn drawn(all: &[(String, u32)], chance: u64) -> Vec<usize> {
    let mut chances = fastrand::Rng::with_seed(chance);
    let mut left: Vec<(usize, u64)> = all
        .iter()
        .enumerate()
        .map(|(place, (_, weight))| (place, u64::from(*weight)))
        .collect();
    let mut drawn = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let sum: u64 = left.iter().map(|(_, weight)| weight).sum();
        let mut at = if sum == 0 { 0 } else { chances.u64(..sum) };
        let hit = left.iter().position(|(_, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        // Those without a weight come last, for when the others cannot.
        drawn.push(left.remove(hit.unwrap_or_default()).0);
    }
    drawn
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
