//! What is remembered of a principal and of an address: pure, clock given.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use skep_core::{Timestamp, Workspace};

use super::Kind;
use super::patterns::{Pattern, Patterns};
use super::rules::{Burst, Rules};

/// Addresses and networks that are remembered of a principal.
pub const REMEMBERED: usize = 64;
/// How long an address is kept that a principal does not come from any more.
pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How exactly it is kept when a principal came from an address, in microseconds.
pub(super) const NOTED: i64 = 24 * 3600 * 1_000_000;

/// An address that a principal came from, as it is kept: nobody reads it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learnt {
    /// Where.
    pub workspace: Workspace,
    /// Who, by id.
    pub principal: Arc<str>,
    /// The address, under the key.
    pub tag: i64,
    /// When it came from there.
    pub at: Timestamp,
}

/// Names addresses so that only who has the key knows them again.
pub(super) struct Tags(hmac::Key);

impl Tags {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn sign(&self, text: &[u8]) -> i64 {
        let mac = hmac::sign(&self.0, text);
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(mac.as_ref()) {
            *to = *from;
        }
        i64::from_be_bytes(first)
    }

    pub(super) fn id(&self) -> i64 {
        self.sign(b"the key itself")
    }

    pub(super) fn of(&self, address: IpAddr) -> i64 {
        match address {
            IpAddr::V4(it) => self.sign(&it.octets()),
            IpAddr::V6(it) => self.sign(&it.octets()),
        }
    }
}

/// The last moments of something, as many as make a burst.
#[derive(Debug, Default)]
pub(super) struct Moments(VecDeque<Timestamp>);

impl Moments {
    /// Whether so many happened within so long.
    pub(super) fn add(&mut self, now: Timestamp, burst: Burst) -> bool {
        let count = burst.count.clamp(1, Rules::MOST);
        while self.0.len() >= count {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let first = self.0.front().copied().unwrap_or(now);
        self.0.len() == count && now.since(first) <= burst.within
    }
}

/// What is remembered of a principal.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) denied: Moments,
    pub(super) foreign: Moments,
    /// The stretch of time, and how many requests there were in it.
    rate: (i64, usize),
    /// Networks with the last moment of each; the one that was used last is at the end.
    networks: VecDeque<(IpAddr, Timestamp)>,
    /// Addresses by their tags, with when that was noted; the one that was used last is at the end.
    addresses: VecDeque<(i64, Timestamp)>,
    /// The address of the last request, and the day.
    pub(super) last: Option<(IpAddr, i64)>,
    pub(super) found: Vec<(Kind, Timestamp)>,
}

impl Known {
    /// Counts a request; whether there are more than that.
    pub(super) fn is_fast(&mut self, now: Timestamp, burst: Burst) -> bool {
        let within = i64::try_from(burst.within.as_micros()).unwrap_or(i64::MAX);
        let stretch = now.as_micros().div_euclid(within.max(1));
        if self.rate.0 != stretch {
            self.rate = (stretch, 0);
        }
        self.rate.1 = self.rate.1.saturating_add(1);
        self.rate.1 > burst.count
    }

    /// Knows an address from before.
    pub(super) fn remember(&mut self, tag: i64, at: Timestamp) {
        self.addresses.retain(|(it, _)| *it != tag);
        if self.addresses.len() >= REMEMBERED {
            self.addresses.pop_front();
        }
        self.addresses.push_back((tag, at));
    }

    /// Whether it never came from there and is known from elsewhere, and whether that is to be kept.
    pub(super) fn comes_from(&mut self, tag: i64, now: Timestamp) -> (bool, bool) {
        let noted = self.addresses.iter().find(|(it, _)| *it == tag);
        let noted = noted.map(|(_, at)| *at);
        let day = |at: Timestamp| at.as_micros().div_euclid(NOTED);
        let is_news = noted.is_none_or(|at| day(at) != day(now));
        let is_strange = noted.is_none() && !self.addresses.is_empty();
        let at = noted.filter(|_| !is_news).unwrap_or(now);
        self.remember(tag, at);
        (is_strange, is_news)
    }

    /// Whether it came from more networks than that.
    pub(super) fn networks_over(&mut self, from: IpAddr, now: Timestamp, burst: Burst) -> bool {
        if let Some(last) = self.networks.back_mut().filter(|last| last.0 == from) {
            last.1 = now;
            return false;
        }
        self.networks
            .retain(|(it, at)| *it != from && now.since(*at) <= burst.within);
        if self.networks.len() >= REMEMBERED {
            self.networks.pop_front();
        }
        self.networks.push_back((from, now));
        self.networks.len() > burst.count
    }
}

/// What is remembered of an address.
#[derive(Default)]
pub(super) struct Stranger {
    pub(super) failed: Moments,
    pub(super) odd: Moments,
    /// How often each pattern was seen since it was last told.
    seen: [u32; Pattern::ALL.len()],
    /// Different things that were not there.
    missing: VecDeque<(u64, Timestamp)>,
    pub(super) found: Vec<(Kind, Timestamp)>,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger").finish_non_exhaustive()
    }
}

impl Stranger {
    pub(super) fn note(&mut self, patterns: Patterns) {
        for pattern in patterns.iter() {
            let count = &mut self.seen[pattern as usize];
            *count = count.saturating_add(1);
        }
    }

    /// What was seen, in words: `traversal 4, probe 1`.
    pub(super) fn take_seen(&mut self) -> String {
        let seen = std::mem::take(&mut self.seen);
        let all = Pattern::ALL.into_iter().zip(seen);
        let words = all.filter(|(_, count)| *count > 0);
        let words: Vec<String> = words
            .map(|(it, count)| format!("{} {count}", it.as_str()))
            .collect();
        words.join(", ")
    }

    /// Whether it asked for so many different things within so long.
    pub(super) fn missed(&mut self, what: u64, now: Timestamp, burst: Burst) -> bool {
        if self.missing.iter().any(|(it, _)| *it == what) {
            return false;
        }
        let count = burst.count.clamp(1, Rules::MOST_MISSING);
        while self.missing.len() >= count {
            self.missing.pop_front();
        }
        self.missing.push_back((what, now));
        let first = self.missing.front().map_or(now, |(_, at)| *at);
        self.missing.len() == count && now.since(first) <= burst.within
    }
}
