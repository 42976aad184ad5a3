//! How often somebody may ask: rates per address, principal, key, agent and action (GCRA, by `governor`).
//!
//! A rate is a number of requests in a time, all of which may come at once; then they come back one by one. What
//! is counted is in memory, for each server, and bounded: each kind of what is counted has a table of its own,
//! so that nobody's addresses crowd out principals. A counter goes when it stands as a new one would, so
//! that forgetting it changes nothing; each request looks at a few. Who comes while a table is full of counters
//! that do not go shares one of some counters with others. So whoever has many addresses pushes nobody out of
//! the table, gets no counter anew, and gets no more than the counters that there are.

mod table;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use parking_lot::Mutex;
use skep_core::units::Rate;

use self::table::Table;

/// Counters of one kind.
const MOST: usize = 32_768;
/// Counters of one kind that those share who come while there is no other; for each rate.
const SHARED: u64 = 1_024;

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
    /// All of them, in their order.
    const ALL: [Self; 5] = [
        Self::Address,
        Self::Principal,
        Self::Key,
        Self::Agent,
        Self::Action,
    ];

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

/// The rates, and who has asked how often.
pub struct Limits<C: Clock + Clone = DefaultClock> {
    clock: C,
    /// Who shares a counter with whom is not to be known outside.
    key: RandomState,
    tables: [Mutex<Table<C>>; Per::ALL.len()],
    shared: u64,
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
        Self::bounded(clock, MOST, SHARED)
    }

    fn bounded(clock: C, most: usize, shared: u64) -> Self {
        Self {
            clock,
            key: RandomState::new(),
            tables: Per::ALL.map(|_| Mutex::new(Table::new(most))),
            shared: shared.max(1),
        }
    }

    /// Counts a request.
    #[must_use]
    pub fn count(&self, per: Per, who: &str, rate: Rate) -> Standing {
        let others = || self.key.hash_one(who) % self.shared;
        let mut table = self.tables[per as usize].lock();
        let (left, wait) = table.count(&self.clock, who, rate, others);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

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
        for number in 0..MOST * 3 {
            let standing = limits.count(Per::Address, &number.to_string(), rate("1/1s"));
            assert_eq!(standing.wait, None);
            clock.advance(Duration::from_millis(1));
        }
        // Those of the last second, and what the steps had not come to.
        let left = limits.tables[Per::Address as usize].lock().len();
        assert!(left <= 2_000, "{left}");
    }

    #[test]
    fn many_addresses_push_nobody_out_and_get_no_more_than_there_is() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::bounded(clock.clone(), 10, 4);
        let ask = |who: &str| limits.count(Per::Address, who, rate("2/1h")).wait.is_none();
        assert!(ask("victim"));
        assert!(ask("victim"));
        let taken = (0..1_000)
            .filter(|number| ask(&format!("a{number}")))
            .count();
        assert_eq!(taken, 9 + 4 * 2, "each counter gave what it has");
        // Who was counted is, neither let off nor kept out by others.
        assert!(!ask("victim"));
        assert!(ask("a0"));
        // Principals are counted beside them.
        let principal = limits.count(Per::Principal, "key_1", rate("2/1h"));
        assert_eq!(principal.left, 1);
        clock.advance(Duration::from_secs(1_800));
        assert!(ask("victim"));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one() {
        let ip = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(ip("2001:db8:0:1::1"), ip("2001:db8:0:1:ffff::2"));
        assert_ne!(ip("2001:db8:0:1::1"), ip("2001:db8:0:2::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn it_stays_bounded_and_forgets_nothing_that_counts(
            asked in proptest::collection::vec((0_u16..60, 0_u64..400), 0..400)
        ) {
            const MOST: usize = 8;
            const SHARED: u64 = 2;
            const COUNT: u64 = 3;
            let (clock, of) = (FakeRelativeClock::default(), rate("3/1s"));
            let limits = Limits::bounded(clock.clone(), MOST, SHARED);
            // Of each who has asked, when all that they asked for has come back, in nanoseconds: GCRA by hand,
            // which forgets nobody.
            let mut back: HashMap<u16, u64> = HashMap::new();
            let each = 1_000_000_000 / COUNT;
            let mut taken: Vec<u64> = Vec::new();
            let (mut now, mut full) = (0, false);
            for (who, later) in asked {
                // Most come at once.
                let later = later.saturating_sub(300) * 1_000_000;
                now += later;
                clock.advance(Duration::from_nanos(later));
                let standing = limits.count(Per::Address, &who.to_string(), of);
                let table = limits.tables[Per::Address as usize].lock().len();
                prop_assert!(table <= MOST + SHARED as usize);
                full |= table >= MOST;
                let its = back.entry(who).or_default();
                let alone = its.saturating_sub(each * (COUNT - 1)) <= now;
                if alone {
                    *its = now.max(*its) + each;
                }
                prop_assert!(full || standing.wait.is_none() == alone, "{standing:?}");
                if standing.wait.is_none() {
                    taken.push(now);
                }
                let lately = taken.iter().filter(|at| **at + 1_000_000_000 > now).count();
                prop_assert!(lately <= 2 * COUNT as usize * (MOST + SHARED as usize), "{lately}");
            }
        }
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
