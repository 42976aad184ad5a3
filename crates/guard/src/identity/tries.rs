//! Who may try a password now: pure, clock given.
//!
//! Failures count for an account from one network (an IPv4 address, an IPv6 /64): after some, each next
//! try waits twice as long. And they count for the account from everywhere: over a bound, only devices that
//! were logged in before may try. So whoever guesses slows down themselves, and who knows their password
//! and comes with a device of theirs is never kept out by others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use skep_core::Timestamp;

use crate::limits::subscriber as network;

/// Failures from one network that cost no time.
const FREE: u32 = 5;
/// The first wait; it doubles.
const WAIT: Duration = Duration::from_secs(2);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Failures of an account from everywhere, after which unknown devices wait.
const EVERYWHERE: u32 = 50;
/// How long failures count.
const WINDOW: Duration = Duration::from_secs(3600);
/// Counters in memory; over it the ones that were used longest ago go.
const MOST: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    Network(String, IpAddr),
    Account(String),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    last: Timestamp,
}

/// The failures that count.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    counts: HashMap<Of, Count>,
}

impl Tries {
    fn failures(&self, of: &Of, now: Timestamp) -> Option<Count> {
        let count = self.counts.get(of)?;
        (now.since(count.last) < WINDOW).then_some(*count)
    }

    /// How long to wait before the next try; `None`: not at all.
    pub(crate) fn wait(
        &self,
        email: &str,
        from: IpAddr,
        known_device: bool,
        now: Timestamp,
    ) -> Option<Duration> {
        let of = Of::Network(email.to_owned(), network(from));
        let near = self.failures(&of, now).and_then(|count| {
            let over = count.failures.checked_sub(FREE)?;
            let wait = WAIT.saturating_mul(2_u32.saturating_pow(over)).min(LONGEST);
            wait.checked_sub(now.since(count.last))
                .filter(|left| !left.is_zero())
        });
        let far = self
            .failures(&Of::Account(email.to_owned()), now)
            .filter(|count| count.failures >= EVERYWHERE && !known_device);
        let far = far.and_then(|count| WINDOW.checked_sub(now.since(count.last)));
        near.max(far)
    }

    /// A try that failed. It is counted before it is known to fail, and taken back when it does not: tries at
    /// the same time cannot pass together.
    pub(crate) fn count(&mut self, email: &str, from: IpAddr, known_device: bool, now: Timestamp) {
        if self.counts.len() >= MOST {
            self.counts
                .retain(|_, count| now.since(count.last) < WINDOW);
        }
        if self.counts.len() >= MOST {
            let mut times: Vec<Timestamp> = self.counts.values().map(|count| count.last).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.counts.retain(|_, count| count.last > middle);
        }
        let mut all = vec![Of::Network(email.to_owned(), network(from))];
        if !known_device {
            all.push(Of::Account(email.to_owned()));
        }
        for of in all {
            let failures = self.failures(&of, now).map_or(0, |count| count.failures);
            let count = Count {
                failures: failures.saturating_add(1),
                last: now,
            };
            self.counts.insert(of, count);
        }
    }

    /// The last try was neither right nor wrong: it is as if it had not been made.
    pub(crate) fn take_back(&mut self, email: &str, from: IpAddr, known_device: bool) {
        let mut all = vec![Of::Network(email.to_owned(), network(from))];
        if !known_device {
            all.push(Of::Account(email.to_owned()));
        }
        for of in all {
            if let Some(count) = self.counts.get_mut(&of) {
                count.failures = count.failures.saturating_sub(1);
            }
        }
    }

    /// The last try was right.
    pub(crate) fn forget(&mut self, email: &str, from: IpAddr, known_device: bool) {
        self.counts
            .remove(&Of::Network(email.to_owned(), network(from)));
        let account = Of::Account(email.to_owned());
        if let (false, Some(count)) = (known_device, self.counts.get_mut(&account)) {
            count.failures = count.failures.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_who_guesses_waits_longer_and_longer() {
        let mut tries = Tries::default();
        let from = ip("192.0.2.1");
        let mut now = 0;
        for _ in 0..FREE {
            assert_eq!(tries.wait("a@x", from, false, at(now)), None);
            tries.count("a@x", from, false, at(now));
        }
        let mut total = 0;
        for expected in [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = tries.wait("a@x", from, false, at(now)).unwrap().as_secs();
            assert_eq!(wait, expected);
            now += wait as i64;
            total += wait;
            assert_eq!(tries.wait("a@x", from, false, at(now)), None);
            tries.count("a@x", from, false, at(now));
        }
        assert!(total > 2_000);
        // Nobody else waits: another network, another account.
        assert_eq!(tries.wait("a@x", ip("192.0.2.2"), false, at(now)), None);
        assert_eq!(tries.wait("b@x", from, false, at(now)), None);
        // It is over in an hour, and when the password was right.
        assert_eq!(tries.wait("a@x", from, false, at(now + 3_600)), None);
        tries.forget("a@x", from, false);
        assert_eq!(tries.wait("a@x", from, false, at(now)), None);
    }

    #[test]
    fn what_is_taken_back_forgives_nothing_else() {
        let mut tries = Tries::default();
        let from = ip("192.0.2.1");
        // A right password without a code between two wrong codes.
        for _ in 0..FREE {
            tries.count("a@x", from, false, at(0));
            tries.count("a@x", from, false, at(0));
            tries.take_back("a@x", from, false);
        }
        assert!(tries.wait("a@x", from, false, at(0)).is_some());
    }

    #[test]
    fn many_who_guess_keep_out_strangers_and_not_who_was_there_before() {
        let mut tries = Tries::default();
        for number in 0..EVERYWHERE {
            let from = IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]);
            assert_eq!(tries.wait("a@x", from, false, at(0)), None);
            tries.count("a@x", from, false, at(0));
        }
        let fresh = ip("198.51.100.1");
        assert!(tries.wait("a@x", fresh, false, at(1)).is_some());
        assert_eq!(tries.wait("a@x", fresh, true, at(1)), None);
        assert_eq!(tries.wait("b@x", fresh, false, at(1)), None);
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_and_memory_is_bounded() {
        let mut tries = Tries::default();
        for number in 0..10_u16 {
            let from = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, number]);
            tries.count("a@x", from, true, at(0));
        }
        let same = ip("2001:db8:0:1:ffff::1");
        assert!(tries.wait("a@x", same, true, at(0)).is_some());
        for number in 0..MOST as u32 * 2 {
            let from = IpAddr::from(number.to_be_bytes());
            tries.count("c@x", from, true, at(i64::from(number)));
            assert!(tries.counts.len() <= MOST);
        }
    }
}
