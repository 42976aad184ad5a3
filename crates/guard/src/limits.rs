//! How often somebody may ask: rates per address, principal, key, agent and action (GCRA, by `governor`).
//!
//! A rate is a number of requests in a time, all of which may come at once; then they come back one by one. What
//! is counted is in memory, for each server.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::RwLock;
use skep_core::units::Rate;

/// Who is counted, before those that are not counted any more are forgotten.
const MANY: usize = 10_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// Requests from one address, whoever asks.
    Address,
    /// Requests of one principal.
    Principal,
    /// Requests with a key that has a rate of its own.
    Key,
    /// Calls to one agent, whoever makes them.
    Agent,
    /// Requests of one principal that do one thing.
    Action,
}

impl Per {
    /// As headers and texts name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Principal => "principal",
            Self::Key => "key",
            Self::Agent => "agent",
            Self::Action => "action",
        }
    }
}

/// How a request stands with one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is counted.
    pub per: Per,
    /// The rate.
    pub rate: Rate,
    /// How many more may come at once.
    pub left: u32,
    /// How long to wait, when this one came too soon; nothing was counted then.
    pub wait: Option<Duration>,
}

impl Standing {
    /// The one of two that is told: the one that refuses, else the one with less left.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let other_first = match (self.wait, other.wait) {
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(one), Some(two)) => two > one,
            (None, None) => other.left < self.left,
        };
        if other_first { other } else { self }
    }
}

type Limiter<C> =
    RateLimiter<(Per, String), HashMapStateStore<(Per, String)>, C, StateInformationMiddleware>;

/// The rates, and who has asked how often.
pub struct Limits<C: Clock + Clone = DefaultClock> {
    clock: C,
    /// One for each rate that there is: those of the configuration and those of keys.
    limiters: RwLock<HashMap<Rate, Limiter<C>>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limits<C> {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(clock: C) -> Self {
        Self {
            clock,
            limiters: RwLock::default(),
        }
    }

    /// Counts a request.
    #[must_use]
    pub fn count(&self, per: Per, who: &str, rate: Rate) -> Standing {
        if let Some(limiter) = self.limiters.read().get(&rate) {
            return self.check(limiter, per, who, rate);
        }
        let mut limiters = self.limiters.write();
        let limiter = limiters.entry(rate).or_insert_with(|| {
            let store = HashMapStateStore::new(HashMap::new());
            Limiter::new(quota(rate), store, self.clock.clone())
        });
        self.check(limiter, per, who, rate)
    }

    fn check(&self, limiter: &Limiter<C>, per: Per, who: &str, rate: Rate) -> Standing {
        if limiter.len() >= MANY {
            limiter.retain_recent();
        }
        let (left, wait) = match limiter.check_key(&(per, who.to_owned())) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(not_until) => {
                let now = self.clock.now();
                let wait = not_until.earliest_possible().duration_since(now).into();
                (0, Some(wait))
            }
        };
        Standing {
            per,
            rate,
            left,
            wait,
        }
    }
}

/// What one subscriber has: an address of IPv4, a /64 of IPv6.
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

fn quota(rate: Rate) -> Quota {
    let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
    let each = rate.per / count.get();
    // A rate has a time; one that is too short for its number is as good as none.
    let each = each.max(Duration::from_nanos(1));
    Quota::with_period(each)
        .unwrap_or_else(|| Quota::per_second(count))
        .allow_burst(count)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_may_come_at_once_and_then_one_by_one() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::new(clock.clone());
        let ask = |who: &str| limits.count(Per::Principal, who, rate("3/30s"));
        assert_eq!([ask("a").left, ask("a").left, ask("a").left], [2, 1, 0]);
        let refused = ask("a");
        assert_eq!(refused.wait, Some(Duration::from_secs(10)));
        assert_eq!(ask("b").left, 2, "another one");
        assert_eq!(
            limits.count(Per::Agent, "a", rate("3/30s")).left,
            2,
            "another thing"
        );
        assert_eq!(
            limits.count(Per::Principal, "a", rate("3/10s")).left,
            2,
            "another rate"
        );
        // What is refused is not counted.
        clock.advance(Duration::from_secs(9));
        assert_eq!(ask("a").wait, Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(ask("a").wait, None);
        assert!(ask("a").wait.is_some());
        clock.advance(Duration::from_secs(300));
        assert_eq!(ask("a").left, 2);
    }

    #[test]
    fn who_is_not_counted_any_more_is_forgotten() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::new(clock.clone());
        for number in 0..MANY * 3 {
            let standing = limits.count(Per::Address, &number.to_string(), rate("1/1s"));
            assert_eq!(standing.wait, None);
            clock.advance(Duration::from_millis(1));
        }
        let limiters = limits.limiters.read();
        assert!(limiters.values().all(|limiter| limiter.len() <= MANY));
    }

    #[test]
    fn the_tighter_one_is_told() {
        let standing = |left, wait| Standing {
            per: Per::Key,
            rate: rate("9/1s"),
            left,
            wait,
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(standing(3, None).tighter(standing(2, None)).left, 2);
        assert_eq!(standing(0, None).tighter(standing(0, second)).wait, second);
        assert_eq!(standing(0, second).tighter(standing(0, None)).wait, second);
    }
}
