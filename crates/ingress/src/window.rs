//! How requests went in the last minute: how many, how many badly, and how long they took, in a few
//! numbers for each instance. Times fall into classes, each a fifth wider than the one before.
//!
//! Pure: the clock is handed in as the time since some beginning.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use skep_core::InstanceId;

/// How far back it looks.
const BACK: Duration = Duration::from_secs(60);
/// The minute goes by in such steps.
const STEP: Duration = Duration::from_secs(5);
const STEPS: usize = 12;
/// Classes: from a tenth of a millisecond to more than an hour.
const CLASSES: usize = 100;
const FASTEST: Duration = Duration::from_micros(100);
/// Each class ends so much later than the one before: four double it.
const PER_DOUBLING: f64 = 4.0;

/// How many requests took how long, and how many ended badly. Tallies add up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tally {
    errors: u64,
    classes: [u64; CLASSES],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            errors: 0,
            classes: [0; CLASSES],
        }
    }
}

impl Tally {
    fn add(&mut self, took: Duration, failed: bool) {
        self.errors += u64::from(failed);
        self.classes[class(took)] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.errors += other.errors;
        for (sum, count) in self.classes.iter_mut().zip(other.classes) {
            *sum += count;
        }
    }

    pub(crate) const fn errors(&self) -> u64 {
        self.errors
    }

    pub(crate) fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The time that such a share of them did not exceed.
    pub(crate) fn share(&self, of: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * of).ceil() as u64).max(1);
        let mut passed = 0;
        let found = self.classes.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        found.map(most)
    }

    /// The classes as they are stored: 32 bits each, big-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let short = |count: &u64| u32::try_from(*count).unwrap_or(u32::MAX).to_be_bytes();
        self.classes.iter().flat_map(short).collect()
    }

    /// What was stored; classes that are not there had none.
    pub(crate) fn from_bytes(errors: u64, bytes: &[u8]) -> Self {
        let mut tally = Self {
            errors,
            ..Self::default()
        };
        for (class, count) in tally.classes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *class = u32::from_be_bytes(*count).into();
        }
        tally
    }
}

/// What happened in one step of time.
#[derive(Debug, Clone)]
struct Slice {
    /// Which step since the beginning.
    number: u64,
    errors: u64,
    classes: [u32; CLASSES],
}

/// The last minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    slices: Vec<Slice>,
    /// When the first request ended.
    since: Option<Duration>,
}

/// What a minute was like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Requests that ended each second.
    pub per_second: f64,
    /// Requests that ended badly.
    pub errors: u64,
    /// Half of them took no longer.
    pub p50: Option<Duration>,
    /// Ninety-nine of a hundred took no longer.
    pub p99: Option<Duration>,
}

fn class(took: Duration) -> usize {
    let times = took.as_secs_f64() / FASTEST.as_secs_f64();
    let class = (times.max(1.0).log2() * PER_DOUBLING).ceil();
    // Never negative, and what is too long belongs to the last.
    (class as usize).min(CLASSES - 1)
}

/// The longest time that falls into a class.
fn most(class: usize) -> Duration {
    let class = u32::try_from(class).unwrap_or(u32::MAX);
    FASTEST.mul_f64((f64::from(class) / PER_DOUBLING).exp2())
}

const fn step(now: Duration) -> u64 {
    now.as_secs() / STEP.as_secs()
}

impl Window {
    /// A request has ended.
    pub(crate) fn add(&mut self, took: Duration, failed: bool, now: Duration) {
        self.since.get_or_insert(now.saturating_sub(took));
        let number = step(now);
        self.forget(number);
        let is_new = self.slices.last().is_none_or(|last| last.number < number);
        if is_new {
            self.slices.push(Slice {
                number,
                errors: 0,
                classes: [0; CLASSES],
            });
        }
        if let Some(slice) = self.slices.last_mut() {
            slice.errors += u64::from(failed);
            let count = &mut slice.classes[class(took)];
            *count = count.saturating_add(1);
        }
    }

    fn forget(&mut self, number: u64) {
        let oldest = (number + 1).saturating_sub(STEPS as u64);
        self.slices.retain(|slice| slice.number >= oldest);
    }

    /// Whether nothing happened for a minute.
    fn is_quiet(&self, now: Duration) -> bool {
        let oldest = (step(now) + 1).saturating_sub(STEPS as u64);
        self.slices.last().is_none_or(|last| last.number < oldest)
    }

    /// The last minute of several together.
    pub(crate) fn pace<'a>(all: impl IntoIterator<Item = &'a Self>, now: Duration) -> Pace {
        let oldest = (step(now) + 1).saturating_sub(STEPS as u64);
        let mut tally = Tally::default();
        let mut since = now;
        for window in all {
            since = window.since.map_or(since, |first| first.min(since));
            for slice in window.slices.iter().filter(|slice| slice.number >= oldest) {
                tally.errors += slice.errors;
                for (sum, count) in tally.classes.iter_mut().zip(slice.classes) {
                    *sum += u64::from(count);
                }
            }
        }
        let begin = STEP * u32::try_from(oldest).unwrap_or(u32::MAX);
        let seen = now.saturating_sub(since.max(begin)).min(BACK);
        Pace {
            per_second: tally.count() as f64 / seen.as_secs_f64().max(1.0),
            errors: tally.errors,
            p50: tally.share(0.5),
            p99: tally.share(0.99),
        }
    }
}

/// A request that an instance was given, and that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) instance: InstanceId,
    /// The revision that the instance runs.
    pub(crate) revision: u32,
    pub(crate) took: Duration,
    /// Whether it broke off, got no answer, or one of 5xx.
    pub(crate) failed: bool,
}

/// The windows of an agent's instances, with their revisions.
#[derive(Debug)]
pub(crate) struct Paces {
    began: Instant,
    windows: HashMap<InstanceId, (u32, Window)>,
    /// What ended since it was taken, by revision.
    lately: HashMap<u32, Tally>,
}

impl Paces {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            windows: HashMap::new(),
            lately: HashMap::new(),
        }
    }

    /// A request has ended.
    pub(crate) fn add(&mut self, request: &Ended, now: Instant) {
        let at = now.duration_since(self.began);
        if !self.windows.contains_key(&request.instance) {
            // Those of instances that are gone are quiet before long.
            self.windows.retain(|_, (_, window)| !window.is_quiet(at));
        }
        let (_, window) = self
            .windows
            .entry(request.instance)
            .or_insert_with(|| (request.revision, Window::default()));
        window.add(request.took, request.failed, at);
        let lately = self.lately.entry(request.revision).or_default();
        lately.add(request.took, request.failed);
    }

    /// What ended since this was asked last, by revision.
    pub(crate) fn take_lately(&mut self) -> HashMap<u32, Tally> {
        std::mem::take(&mut self.lately)
    }

    /// What ended since it was taken.
    pub(crate) fn lately(&self) -> Vec<(u32, Tally)> {
        self.lately
            .iter()
            .map(|(of, it)| (*of, it.clone()))
            .collect()
    }

    /// What was taken is to be taken again.
    pub(crate) fn give_back(&mut self, revision: u32, tally: &Tally) {
        self.lately.entry(revision).or_default().merge(tally);
    }

    /// The pace of one instance, or of all.
    pub(crate) fn pace(&self, instance: Option<InstanceId>, now: Instant) -> Pace {
        let at = now.duration_since(self.began);
        match instance {
            Some(instance) => Window::pace(self.windows.get(&instance).map(|(_, it)| it), at),
            None => Window::pace(self.windows.values().map(|(_, it)| it), at),
        }
    }

    /// The pace of each revision that was not quiet, oldest first.
    pub(crate) fn by_revision(&self, now: Instant) -> Vec<(u32, Pace)> {
        let at = now.duration_since(self.began);
        let all = || self.windows.values().filter(|(_, it)| !it.is_quiet(at));
        let numbers: BTreeSet<u32> = all().map(|(revision, _)| *revision).collect();
        let pace = |number| {
            let its = all().filter(|(revision, _)| *revision == number);
            (number, Window::pace(its.map(|(_, it)| it), at))
        };
        numbers.into_iter().map(pace).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn near(found: Option<Duration>, wanted: Duration) {
        let found = found.unwrap().as_secs_f64();
        let wanted = wanted.as_secs_f64();
        assert!(
            (wanted..wanted * 1.2).contains(&found),
            "{found} for {wanted}"
        );
    }

    #[test]
    fn a_minute_is_told_in_four_numbers() {
        let mut window = Window::default();
        assert_eq!(Window::pace([&window], ms(0)), Pace::default());
        for number in 0..100_u64 {
            let took = if number < 98 { ms(10) } else { ms(2_000) };
            window.add(took, number == 0, ms(100_000 + number * 100));
        }
        let now = ms(110_000);
        let pace = Window::pace([&window], now);
        near(pace.p50, ms(10));
        near(pace.p99, ms(2_000));
        assert_eq!(pace.errors, 1);
        assert!((9.0..11.0).contains(&pace.per_second), "{pace:?}");
        let twice = Window::pace([&window, &window], now);
        assert!((19.0..21.0).contains(&twice.per_second), "{twice:?}");
    }

    #[test]
    fn what_is_older_than_a_minute_does_not_count_and_is_not_kept() {
        let mut window = Window::default();
        for second in 0..1_000 {
            window.add(ms(1), false, Duration::from_secs(second));
        }
        assert!(window.slices.len() <= STEPS);
        let later = Duration::from_secs(1_000) + BACK;
        assert_eq!(Window::pace([&window], later), Pace::default());
        let pace = Window::pace([&window], Duration::from_secs(999));
        assert!((0.9..1.1).contains(&pace.per_second), "{pace:?}");
    }

    #[test]
    fn tallies_add_up_and_come_back() {
        let mut paces = Paces::new(Instant::now());
        let mut sum = Tally::default();
        for (number, revision) in [(1_u64, 1), (10, 1), (100, 2), (10_000, 2)] {
            let request = Ended {
                instance: InstanceId::new(),
                revision,
                took: ms(number),
                failed: number > 1_000,
            };
            paces.add(&request, Instant::now());
        }
        let taken = paces.take_lately();
        assert_eq!(paces.lately(), []);
        for (revision, tally) in &taken {
            assert_eq!(tally.count(), 2);
            sum.merge(tally);
            paces.give_back(*revision, tally);
        }
        assert_eq!(paces.take_lately(), taken);
        assert_eq!((sum.count(), sum.errors()), (4, 1));
        near(sum.share(0.5), ms(10));
        near(sum.share(0.95), ms(10_000));
        assert_eq!(Tally::from_bytes(1, &sum.to_bytes()), sum);
        assert_eq!(Tally::from_bytes(0, &[]).share(0.5), None);
    }

    #[test]
    fn revisions_are_told_apart() {
        let began = Instant::now();
        let mut paces = Paces::new(began);
        let instances: Vec<_> = (0..3).map(|_| InstanceId::new()).collect();
        let now = began + ms(10_000);
        for (instance, revision, took) in [(0, 1, 10), (1, 2, 50), (2, 2, 50), (2, 2, 50)] {
            let request = Ended {
                instance: instances[instance],
                revision,
                took: ms(took),
                failed: instance == 2,
            };
            paces.add(&request, now);
        }
        let found = paces.by_revision(now);
        let told: Vec<_> = found.iter().map(|(it, pace)| (*it, pace.errors)).collect();
        assert_eq!(told, [(1, 0), (2, 2)]);
        near(found[0].1.p50, ms(10));
        near(found[1].1.p50, ms(50));
        assert_eq!(paces.by_revision(now + BACK + STEP), []);
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_place() {
        let mut window = Window::default();
        window.add(Duration::ZERO, false, ms(0));
        assert_eq!(Window::pace([&window], ms(0)).p50, Some(FASTEST));
        window.add(Duration::from_secs(1 << 40), true, ms(0));
        assert!(Window::pace([&window], ms(0)).p99 > Some(Duration::from_secs(2_000)));
    }
}
