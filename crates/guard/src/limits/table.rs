//! Counters of one kind: so many, each with its rate, and those that are shared when there are no more.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use skep_core::units::Rate;

/// Counters that each request looks at, whether they can go: more than it can make.
const STEP: usize = 2;

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>;

/// Whose counter it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    One(Arc<str>, Rate),
    /// Of those who share the counter of this number.
    Some(u64, Rate),
}

struct Counter<C: Clock> {
    limiter: Limiter<C>,
    /// When it counted last.
    last: C::Instant,
}

pub(super) struct Table<C: Clock> {
    most: usize,
    counters: HashMap<Of, Counter<C>>,
    /// All of them once, in the order in which they are looked at.
    turn: VecDeque<Of>,
    /// How many have an owner.
    owned: usize,
}

impl<C: Clock + Clone> Table<C> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counters: HashMap::new(),
            turn: VecDeque::new(),
            owned: 0,
        }
    }

    /// How many more may come at once, and how long this one has to wait. `others` is the number of the counter
    /// that it shares when it can have none.
    pub(super) fn count(
        &mut self,
        clock: &C,
        who: &str,
        rate: Rate,
        others: impl FnOnce() -> u64,
    ) -> (u32, Option<Duration>) {
        let now = clock.now();
        self.sweep(now);
        let mut of = Of::One(who.into(), rate);
        if !self.counters.contains_key(&of) {
            if self.owned >= self.most {
                of = Of::Some(others(), rate);
            }
            if !self.counters.contains_key(&of) {
                self.owned += usize::from(matches!(of, Of::One(..)));
                self.turn.push_back(of.clone());
                let limiter = Limiter::new(quota(rate), InMemoryState::default(), clock.clone());
                let counter = Counter { limiter, last: now };
                self.counters.insert(of.clone(), counter);
            }
        }
        let Some(counter) = self.counters.get_mut(&of) else {
            return (0, None);
        };
        match counter.limiter.check() {
            Ok(state) => {
                counter.last = now;
                (state.remaining_burst_capacity(), None)
            }
            Err(not_until) => {
                let wait = not_until.earliest_possible().duration_since(now).into();
                (0, Some(wait))
            }
        }
    }

    /// Looks at the counters that were not looked at for the longest. One that counted nothing for the time of
    /// its rate stands as a new one does.
    fn sweep(&mut self, now: C::Instant) {
        for _ in 0..STEP {
            let Some(of) = self.turn.pop_front() else {
                return;
            };
            let (Of::One(_, rate) | Of::Some(_, rate)) = &of;
            let recent = |counter: &Counter<C>| {
                let since: Duration = now.duration_since(counter.last).into();
                since < rate.per
            };
            if self.counters.get(&of).is_some_and(recent) {
                self.turn.push_back(of);
            } else {
                self.owned -= usize::from(matches!(of, Of::One(..)));
                self.counters.remove(&of);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let owned = self.counters.keys().filter(|it| matches!(it, Of::One(..)));
        assert_eq!(owned.count(), self.owned);
        assert_eq!(self.counters.len(), self.turn.len());
        self.counters.len()
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
