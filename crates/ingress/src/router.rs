//! Which instance of an agent gets the next call: one of those that are ready, with the fewest
//! calls in flight, and none that failed again and again while another is well.
//!
//! Pure: the clock and randomness are handed in. One router belongs to one agent.

use std::time::{Duration, Instant};

use skep_core::InstanceId;

use crate::agents::{Endpoint, Split};

/// Failures in a row after which an instance gets no calls for a while.
const EJECT_AFTER: u32 = 5;
/// How long, for the first time; it doubles with each time in a row.
const EJECTED: Duration = Duration::from_secs(5);
const LONGEST_EJECTED: Duration = Duration::from_secs(300);

/// How an attempt on an instance ended, as far as the instance is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, whatever.
    Well,
    /// It could not be reached, broke off or stayed silent.
    Failed,
    /// Nothing can be said: the client left, the call was cancelled, we ended the instance.
    Unknown,
}

/// What a call asks of its instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Not this one, if there is another: the call failed there.
    pub(crate) avoid: Option<InstanceId>,
    /// Calls with the same key go to the same instance while it is there.
    pub(crate) key: Option<u64>,
}

impl Choice {
    /// By a key alone.
    pub(crate) const fn by(key: Option<u64>) -> Self {
        Self { avoid: None, key }
    }
}

/// Whether an instance gets calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circuit {
    /// It does. The number counts failures in a row.
    Closed(u32),
    /// Not before then.
    Open(Instant),
    /// One, to see.
    Trial,
}

#[derive(Debug)]
struct Known {
    instance: InstanceId,
    in_flight: u32,
    circuit: Circuit,
    /// Ejections in a row.
    ejections: u32,
}

impl Known {
    fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            in_flight: 0,
            circuit: Circuit::Closed(0),
            ejections: 0,
        }
    }

    /// Whether it may get a call now.
    fn is_open_to(&self, now: Instant) -> bool {
        match self.circuit {
            Circuit::Closed(_) => true,
            Circuit::Open(until) => now >= until,
            Circuit::Trial => false,
        }
    }
}

/// What is known of an agent's instances.
#[derive(Debug, Default)]
pub(crate) struct Router {
    known: Vec<Known>,
}

impl Router {
    /// Picks one of the endpoints and counts the call on it; [`Router::ended`] must follow. `None`:
    /// there is none.
    pub(crate) fn pick(
        &mut self,
        endpoints: &[Endpoint],
        split: Option<Split>,
        choice: Choice,
        now: Instant,
        random: u64,
    ) -> Option<Endpoint> {
        if self.known.len() > endpoints.len() {
            let there = |one: &Known| endpoints.iter().any(|e| e.instance == one.instance);
            self.known.retain(|one| one.in_flight > 0 || there(one));
        }
        let number = choice.key.unwrap_or(random);
        let side = Side::of(endpoints, split, number);
        let share = || endpoints.iter().filter(|one| side.holds(one));
        let mut well = share()
            .filter(|one| Some(one.instance) != choice.avoid)
            .filter(|one| self.is_open_to(one.instance, now))
            .peekable();
        // What is there is better than nothing: a call that fails there is tried again elsewhere.
        let picked = match well.peek() {
            Some(_) => self.best(well, choice.key, random),
            None => self.best(share(), choice.key, random),
        };
        let picked = picked?;
        let known = self.know(picked.instance);
        known.in_flight += 1;
        if matches!(known.circuit, Circuit::Open(_)) {
            known.circuit = Circuit::Trial;
        }
        Some(picked)
    }

    /// A call that was counted on this instance has ended. True when the instance gets no calls
    /// for a while from now on.
    pub(crate) fn ended(&mut self, instance: InstanceId, verdict: Verdict, now: Instant) -> bool {
        let Some(known) = self.known.iter_mut().find(|one| one.instance == instance) else {
            return false;
        };
        known.in_flight = known.in_flight.saturating_sub(1);
        match (verdict, known.circuit) {
            (Verdict::Well, _) => {
                known.circuit = Circuit::Closed(0);
                known.ejections = 0;
            }
            (Verdict::Failed, Circuit::Closed(failures)) if failures + 1 < EJECT_AFTER => {
                known.circuit = Circuit::Closed(failures + 1);
            }
            (Verdict::Failed, Circuit::Closed(_) | Circuit::Trial) => {
                let factor = 1_u32 << known.ejections.min(16);
                known.ejections += 1;
                let pause = EJECTED.saturating_mul(factor).min(LONGEST_EJECTED);
                known.circuit = Circuit::Open(now + pause);
                return true;
            }
            // The trial told nothing: another may follow at once.
            (Verdict::Unknown, Circuit::Trial) => known.circuit = Circuit::Open(now),
            (Verdict::Failed, Circuit::Open(_)) | (Verdict::Unknown, _) => {}
        }
        false
    }

    /// Instances that get no calls now because they failed.
    pub(crate) fn ejected(&self, now: Instant) -> usize {
        let ejected = self.known.iter().filter(|one| !one.is_open_to(now));
        ejected.count()
    }

    /// The one that a key belongs to, else the one with the fewest calls.
    fn best<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Endpoint>,
        key: Option<u64>,
        random: u64,
    ) -> Option<Endpoint> {
        let best = match key {
            Some(key) => endpoints.max_by_key(|one| rank(key, one.instance)),
            None => endpoints
                .min_by_key(|one| (self.in_flight(one.instance), rank(random, one.instance))),
        };
        best.copied()
    }

    fn find(&self, instance: InstanceId) -> Option<&Known> {
        self.known.iter().find(|one| one.instance == instance)
    }

    fn is_open_to(&self, instance: InstanceId, now: Instant) -> bool {
        self.find(instance).is_none_or(|one| one.is_open_to(now))
    }

    /// Calls that are counted on an instance.
    pub(crate) fn in_flight(&self, instance: InstanceId) -> u32 {
        self.find(instance).map_or(0, |one| one.in_flight)
    }

    fn know(&mut self, instance: InstanceId) -> &mut Known {
        let at = self.known.iter().position(|one| one.instance == instance);
        let at = at.unwrap_or_else(|| {
            self.known.push(Known::new(instance));
            self.known.len() - 1
        });
        &mut self.known[at]
    }
}

/// The endpoints that a call may go to, as a split says.
#[derive(Debug, Clone, Copy)]
enum Side {
    All,
    Of(u32),
    But(u32),
}

impl Side {
    /// The side that a number falls to; all, when nothing is there.
    fn of(endpoints: &[Endpoint], split: Option<Split>, number: u64) -> Self {
        let Some(split) = split else { return Self::All };
        let side = match mix(number) % 100 < u64::from(split.weight) {
            true => Self::Of(split.revision),
            false => Self::But(split.revision),
        };
        match endpoints.iter().any(|one| side.holds(one)) {
            true => side,
            false => Self::All,
        }
    }

    fn holds(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::All => true,
            Self::Of(revision) => endpoint.revision == revision,
            Self::But(revision) => endpoint.revision != revision,
        }
    }
}

/// Where an instance stands for a number (rendezvous hashing: when an instance goes, only its own
/// keys move).
fn rank(number: u64, instance: InstanceId) -> u64 {
    let bytes = instance.as_bytes();
    let mut tail = [0; 8];
    tail.copy_from_slice(&bytes[8..]);
    mix(number ^ mix(u64::from_be_bytes(tail)))
}

/// Spreads a number over all bits (the finalizer of SplitMix64, Steele et al. 2014).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn endpoints(revisions: &[u32]) -> Vec<Endpoint> {
        let address = ([127, 0, 0, 1], 1).into();
        let endpoint = |revision: &u32| Endpoint {
            instance: InstanceId::new(),
            address,
            revision: *revision,
        };
        revisions.iter().map(endpoint).collect()
    }

    const ANY: Choice = Choice {
        avoid: None,
        key: None,
    };

    #[test]
    fn the_one_with_the_fewest_calls_is_picked() {
        let (mut router, now) = (Router::default(), Instant::now());
        let three = endpoints(&[1, 1, 1]);
        let mut picked: HashMap<InstanceId, u32> = HashMap::new();
        for random in 0..9 {
            let one = router.pick(&three, None, ANY, now, random).unwrap();
            *picked.entry(one.instance).or_default() += 1;
        }
        assert!(picked.len() == 3 && picked.values().all(|count| *count == 3));
        router.ended(three[1].instance, Verdict::Well, now);
        let next = router.pick(&three, None, ANY, now, 3).unwrap();
        assert_eq!(next, three[1]);
        assert_eq!(router.pick(&[], None, ANY, now, 0), None);
    }

    #[test]
    fn a_call_does_not_go_where_it_failed_unless_nothing_else_is_there() {
        let (mut router, now) = (Router::default(), Instant::now());
        let two = endpoints(&[1, 1]);
        let choice = Choice {
            avoid: Some(two[0].instance),
            key: None,
        };
        for random in 0..20 {
            let one = router.pick(&two, None, choice, now, random).unwrap();
            assert_eq!(one, two[1]);
        }
        let one = router.pick(&two[..1], None, choice, now, 0).unwrap();
        assert_eq!(one, two[0]);
    }

    fn fail(router: &mut Router, endpoints: &[Endpoint], at: usize, now: Instant) -> bool {
        let choice = Choice {
            avoid: endpoints.get(1 - at).map(|one| one.instance),
            key: None,
        };
        let one = router.pick(endpoints, None, choice, now, 0).unwrap();
        router.ended(one.instance, Verdict::Failed, now)
    }

    #[test]
    fn one_that_fails_again_and_again_rests_and_is_tried_again() {
        let (mut router, now) = (Router::default(), Instant::now());
        let two = endpoints(&[1, 1]);
        for time in 1..=EJECT_AFTER {
            let ejected = fail(&mut router, &two, 0, now);
            assert_eq!(ejected, time == EJECT_AFTER);
        }
        assert_eq!(router.ejected(now), 1);
        for random in 0..20 {
            assert_eq!(router.pick(&two, None, ANY, now, random), Some(two[1]));
        }
        // Its time is over: one call goes there, and no other meanwhile.
        let later = now + EJECTED;
        assert_eq!(router.pick(&two, None, ANY, later, 0), Some(two[0]));
        assert_eq!(router.pick(&two, None, ANY, later, 0), Some(two[1]));
        assert!(router.ended(two[0].instance, Verdict::Failed, later));
        let (soon, late) = (later + EJECTED, later + 2 * EJECTED);
        assert_eq!(router.pick(&two, None, ANY, soon, 0), Some(two[1]));
        assert_eq!(router.pick(&two, None, ANY, late, 0), Some(two[0]));
        router.ended(two[0].instance, Verdict::Well, late);
        assert_eq!(router.ejected(late), 0);
    }

    #[test]
    fn the_last_one_gets_calls_whatever_it_did() {
        let (mut router, now) = (Router::default(), Instant::now());
        let one = endpoints(&[1]);
        for _ in 0..20 {
            let picked = router.pick(&one, None, ANY, now, 0).unwrap();
            router.ended(picked.instance, Verdict::Failed, now);
        }
    }

    #[test]
    fn a_split_shares_calls_and_keys_stay_where_they_are() {
        let (mut router, now) = (Router::default(), Instant::now());
        let all = endpoints(&[1, 1, 2]);
        let split = Some(Split {
            revision: 2,
            weight: 20,
        });
        let mut fresh = 0;
        for random in 0..1_000 {
            let one = router.pick(&all, split, ANY, now, random).unwrap();
            fresh += u32::from(one.revision == 2);
            router.ended(one.instance, Verdict::Well, now);
        }
        assert!((150..250).contains(&fresh), "{fresh} of 1000");
        let at = |router: &mut Router, of: &[Endpoint], key| {
            let choice = Choice {
                avoid: None,
                key: Some(key),
            };
            router.pick(of, None, choice, now, 0).unwrap()
        };
        let mut moved = 0;
        for key in 0..300 {
            let one = at(&mut router, &all, key);
            assert_eq!(one, at(&mut router, &all, key));
            moved += u32::from(one != at(&mut router, &all[..2], key));
        }
        // Only those of the third moved.
        assert!((60..140).contains(&moved), "{moved} of 300");
    }
}
