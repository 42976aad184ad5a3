//! How many copies of an agent its calls ask for: a pure function of the calls in flight over time.
//!
//! Two averages are kept (as Knative's autoscaler does): a slow one decides when all is calm; a fast
//! one, over a tenth of the time, takes over when the load grows beyond twice what there is, and
//! then copies are only added. Averages are exponential: they need no history.

use std::time::Duration;

use crate::spec::Scale;

/// The fast average is over this part of the window.
const PANIC_PART: u32 = 10;
const SHORTEST_PANIC: Duration = Duration::from_secs(1);
/// A load of so many times what the copies are for is a panic.
const PANIC_RATIO: f64 = 2.0;

/// What is known of an agent's load. Times are counted from any fixed moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scaler {
    calm: f64,
    panic: f64,
    seen: Option<Duration>,
    panics_until: Option<Duration>,
    /// When there last was a call, or a reason to stay awake.
    busy: Option<Duration>,
}

impl Scaler {
    /// Copies that are wanted, with `demand` calls that run or wait and `now` copies wanted so far.
    /// `holds` tells that an agent itself says that it works: then none goes.
    pub(crate) fn wanted(
        &mut self,
        scale: &Scale,
        copies: u32,
        demand: u64,
        holds: bool,
        now: Duration,
    ) -> u32 {
        let demand = as_float(demand);
        let panic_window = (scale.window / PANIC_PART).max(SHORTEST_PANIC);
        let passed = self.seen.map(|seen| now.saturating_sub(seen));
        self.seen = Some(now);
        self.calm = average(self.calm, demand, passed, scale.window);
        self.panic = average(self.panic, demand, passed, panic_window);
        // One that runs when it is seen first has a reason to; one that sleeps goes on sleeping.
        if demand > 0.0 || holds || (self.busy.is_none() && copies > 0) {
            self.busy = Some(now);
        }
        let target = f64::from(scale.target.max(1));
        let (calm, panic) = (
            copies_for(self.calm, target),
            copies_for(self.panic, target),
        );
        if self.panic / target >= PANIC_RATIO * f64::from(copies.max(1)) {
            self.panics_until = Some(now + scale.window);
        }
        let panics = self.panics_until.is_some_and(|until| now < until);
        let wanted = match panics {
            true => copies.max(panic),
            false => calm,
        };
        let wanted = if holds { wanted.max(copies) } else { wanted };
        wanted.clamp(self.least(scale, now), scale.max)
    }

    /// The fewest copies now: none when nobody called for long enough.
    fn least(&self, scale: &Scale, now: Duration) -> u32 {
        let quiet = self.busy.map_or(Duration::MAX, |at| now.saturating_sub(at));
        match scale.min {
            0 if quiet >= scale.idle => 0,
            least => least.max(1),
        }
    }

    /// A call or its owner wakes the agent: its idle time begins anew.
    pub(crate) fn wake(&mut self, now: Duration) {
        self.busy = Some(now);
    }
}

/// The average after `passed` with a value; the first value is taken as it is.
fn average(before: f64, value: f64, passed: Option<Duration>, window: Duration) -> f64 {
    let Some(passed) = passed else { return value };
    let part = 1.0 - (-passed.as_secs_f64() / window.as_secs_f64()).exp();
    before + part * (value - before)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "calls in flight are far below 2^52"
)]
fn as_float(demand: u64) -> f64 {
    demand as f64
}

/// Copies for so many calls. A little over a whole number is that number: an average never quite
/// arrives.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range first"
)]
fn copies_for(calls: f64, target: f64) -> u32 {
    (calls / target - 0.05)
        .ceil()
        .clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(min: u32, max: u32) -> Scale {
        Scale {
            min,
            max,
            target: 10,
            window: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }

    /// Runs so many seconds with this demand; the copies that are wanted at the end.
    fn run(
        scaler: &mut Scaler,
        scale: &Scale,
        from: u32,
        at: &mut u64,
        s: u64,
        demand: u64,
    ) -> u32 {
        let mut copies = from;
        for _ in 0..s {
            *at += 1;
            copies = scaler.wanted(scale, copies, demand, false, Duration::from_secs(*at));
        }
        copies
    }

    #[test]
    fn a_jump_in_load_is_met_within_seconds_and_its_end_is_waited_for() {
        let (mut scaler, scale, mut at) = (Scaler::default(), scale(1, 20), 0);
        assert_eq!(run(&mut scaler, &scale, 1, &mut at, 100, 5), 1);
        let after_15 = run(&mut scaler, &scale, 1, &mut at, 15, 100);
        assert!((9..=10).contains(&after_15), "{after_15}");
        let steady = run(&mut scaler, &scale, after_15, &mut at, 300, 100);
        assert_eq!(steady, 10);
        // A short pause changes nothing.
        let paused = run(&mut scaler, &scale, steady, &mut at, 5, 0);
        assert!(paused >= 9, "{paused}");
        let after = run(&mut scaler, &scale, paused, &mut at, 240, 0);
        assert_eq!(after, 1);
    }

    #[test]
    fn bounds_hold() {
        let (mut scaler, scale, mut at) = (Scaler::default(), scale(2, 4), 0);
        assert_eq!(run(&mut scaler, &scale, 2, &mut at, 100, 0), 2);
        assert_eq!(run(&mut scaler, &scale, 2, &mut at, 100, 1_000), 4);
    }

    #[test]
    fn it_sleeps_when_nobody_calls_and_stays_awake_while_it_says_that_it_works() {
        let (mut scaler, scale, mut at) = (Scaler::default(), scale(0, 4), 0);
        assert_eq!(run(&mut scaler, &scale, 1, &mut at, 10, 1), 1);
        assert_eq!(run(&mut scaler, &scale, 1, &mut at, 299, 0), 1);
        let second = |at: u64| Duration::from_secs(at);
        at += 1;
        assert_eq!(scaler.wanted(&scale, 1, 0, true, second(at)), 1);
        assert_eq!(run(&mut scaler, &scale, 1, &mut at, 299, 0), 1);
        assert_eq!(run(&mut scaler, &scale, 1, &mut at, 2, 0), 0);
        scaler.wake(second(at));
        assert_eq!(run(&mut scaler, &scale, 1, &mut at, 1, 1), 1);
        // A new server finds it asleep.
        assert_eq!(run(&mut Scaler::default(), &scale, 0, &mut at, 10, 0), 0);
    }
}
