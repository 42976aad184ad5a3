//! The supervisor's decisions for one revision of one agent, as a pure machine: what happened goes
//! in, what to do comes out. No I/O, no clock: `now` is handed in as the time since the supervisor
//! began, randomness as a seed.

use std::time::Duration;

use skep_api::InstanceState;
use skep_core::units::format_duration;

use crate::spec::Spec;

/// Being ready for so long makes an instance a good one: failures before it do not count.
const SETTLED: Duration = Duration::from_secs(60);
/// Time between the first probes of a started instance; it grows to [`SLOWEST_START_PROBE`].
const FIRST_PROBE: Duration = Duration::from_millis(10);
const SLOWEST_START_PROBE: Duration = Duration::from_millis(100);
/// An instance that is not ready is asked at least this often, so that it takes calls again soon.
const UNREADY_INTERVAL: Duration = Duration::from_secs(2);
/// Doublings of the backoff that still fit into the arithmetic.
const MOST_DOUBLINGS: u32 = 20;

/// What the machine needs to know of the specification.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) failures: u32,
    pub(crate) interval: Duration,
    pub(crate) startup: Duration,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) crash_loop_after: u32,
    pub(crate) drain: Duration,
}

impl From<&Spec> for Policy {
    fn from(spec: &Spec) -> Self {
        Self {
            failures: spec.health.failures,
            interval: spec.health.interval,
            startup: spec.health.startup,
            backoff: spec.restart.backoff,
            max_backoff: spec.restart.max_backoff,
            crash_loop_after: spec.restart.crash_loop_after,
            drain: spec.drain,
        }
    }
}

/// How a probe missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissKind {
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Silent,
    /// An answer that says it is not well.
    Unwell,
    /// It takes no calls, and says elsewhere that it lives.
    Alive,
}

/// A probe that missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(crate) kind: MissKind,
    pub(crate) reason: String,
}

/// What happened. `busy` tells whether calls were in flight.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// It shall run; also after a crash loop.
    Run,
    /// It shall end when its calls have ended; it gets no more.
    Drain,
    /// Its calls have ended.
    Drained,
    /// It shall end.
    Stop,
    /// An instance runs: the driver started or adopted it.
    Launched,
    /// The driver could not start it. `counts` unless it was Skep's own trouble.
    LaunchFailed { reason: String, counts: bool },
    /// A probe came back.
    Probed {
        result: Result<(), Miss>,
        busy: bool,
    },
    /// A call did not get through to the instance.
    Suspect,
    /// The instance ended.
    Exited { how: String, busy: bool },
    /// The time that [`Machine::wake`] told has come.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start an instance; answered by `Launched` or `LaunchFailed`.
    Launch,
    /// Probe the instance; answered by `Probed`.
    Probe,
    /// Wait until no call runs on the instance; answered by `Drained`.
    Drain,
    /// End the instance, at once or with grace; answered by `Exited`.
    End { at_once: bool },
    /// Write this into the agent's log.
    Note(String),
}

/// What follows when an instance that was told to end has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    Stop,
    Restart,
    Failure { why: String, counts: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Stopped,
    /// The driver is starting an instance; `then` when it shall end right after.
    Launching {
        then: Option<After>,
    },
    /// `probe_at` is `None` while a probe is out, here and below.
    Starting {
        since: Duration,
        pause: Duration,
        probe_at: Option<Duration>,
    },
    Ready {
        since: Duration,
        failures: u32,
        probe_at: Option<Duration>,
    },
    Unready {
        since: Duration,
        failures: u32,
        probe_at: Option<Duration>,
    },
    Draining {
        until: Duration,
    },
    Ending {
        after: After,
    },
    Backoff {
        until: Duration,
    },
    CrashLoop,
}

/// The machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    policy: Policy,
    state: State,
    /// Failures in a row that count toward the crash loop.
    streak: u32,
    /// Waits in a row for other reasons.
    stumbles: u32,
    reason: Option<String>,
    random: fastrand::Rng,
}

impl Machine {
    pub(crate) fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            state: State::Stopped,
            streak: 0,
            stumbles: 0,
            reason: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The state as others see it.
    pub(crate) fn view(&self) -> InstanceState {
        match &self.state {
            State::Stopped => InstanceState::Stopped,
            State::Launching { then: None } | State::Starting { .. } => InstanceState::Starting,
            State::Ready { .. } => InstanceState::Ready,
            State::Unready { .. }
            | State::Ending {
                after: After::Failure { .. },
            } => InstanceState::Unready,
            State::Launching { then: Some(_) } | State::Draining { .. } | State::Ending { .. } => {
                InstanceState::Stopping
            }
            State::Backoff { .. } => InstanceState::Backoff,
            State::CrashLoop => InstanceState::CrashLoop,
        }
    }

    /// Why it is in this state, when there is more to say.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether the driver is asked to start an instance and has not answered.
    pub(crate) fn is_launching(&self) -> bool {
        matches!(self.state, State::Launching { .. })
    }

    /// When the machine wants a [`Event::Tick`].
    pub(crate) fn wake(&self) -> Option<Duration> {
        match self.state {
            State::Starting {
                since, probe_at, ..
            } => {
                let limit = since + self.policy.startup;
                Some(probe_at.map_or(limit, |at| at.min(limit)))
            }
            State::Ready { probe_at, .. } | State::Unready { probe_at, .. } => probe_at,
            State::Backoff { until } | State::Draining { until } => Some(until),
            _ => None,
        }
    }

    /// Takes what happened and tells what to do.
    pub(crate) fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Run => self.run(),
            Event::Drain => self.drain(now),
            Event::Drained => self.drained(),
            Event::Stop => self.end(After::Stop),
            Event::Launched => self.launched(now),
            Event::LaunchFailed { reason, counts } => self.launch_failed(&reason, counts, now),
            Event::Probed { result, busy } => self.probed(result, busy, now),
            Event::Suspect => self.suspect(now),
            Event::Exited { how, busy } => self.exited(&how, busy, now),
            Event::Tick => self.tick(now),
        }
    }

    fn run(&mut self) -> Vec<Action> {
        match &mut self.state {
            State::Stopped | State::Backoff { .. } | State::CrashLoop => {
                self.forgive();
                self.launch()
            }
            State::Launching { then } => {
                *then = None;
                Vec::new()
            }
            State::Ending { after } => {
                *after = After::Restart;
                Vec::new()
            }
            State::Starting { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. } => Vec::new(),
        }
    }

    fn drain(&mut self, now: Duration) -> Vec<Action> {
        match self.state {
            State::Ready { .. } | State::Unready { .. } => {
                self.reason = None;
                self.state = State::Draining {
                    until: now + self.policy.drain,
                };
                vec![Action::Drain]
            }
            State::Draining { .. } => Vec::new(),
            _ => self.end(After::Stop),
        }
    }

    fn drained(&mut self) -> Vec<Action> {
        match self.state {
            State::Draining { .. } => self.end(After::Stop),
            _ => Vec::new(),
        }
    }

    /// Nothing that happened before counts any more.
    fn forgive(&mut self) {
        self.streak = 0;
        self.stumbles = 0;
        self.reason = None;
    }

    fn launch(&mut self) -> Vec<Action> {
        self.state = State::Launching { then: None };
        vec![Action::Launch]
    }

    /// Ends whatever runs, because somebody wants so.
    fn end(&mut self, after: After) -> Vec<Action> {
        match &mut self.state {
            State::Launching { then } => *then = Some(after),
            State::Ending { after: before } => *before = after,
            State::Starting { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. } => {
                self.reason = None;
                self.state = State::Ending { after };
                return vec![Action::End { at_once: false }];
            }
            State::Stopped | State::Backoff { .. } | State::CrashLoop => {
                self.reason = None;
                self.state = State::Stopped;
            }
        }
        Vec::new()
    }

    fn launched(&mut self, now: Duration) -> Vec<Action> {
        if let State::Launching { then: Some(after) } = &self.state {
            self.state = State::Ending {
                after: after.clone(),
            };
            return vec![Action::End { at_once: false }];
        }
        self.state = State::Starting {
            since: now,
            pause: FIRST_PROBE,
            probe_at: None,
        };
        vec![Action::Probe]
    }

    fn launch_failed(&mut self, reason: &str, counts: bool, now: Duration) -> Vec<Action> {
        let State::Launching { then } = &mut self.state else {
            return Vec::new();
        };
        match then.take() {
            Some(after) => self.ended(after, now),
            None => self.failed(reason, counts, now),
        }
    }

    fn probed(&mut self, result: Result<(), Miss>, busy: bool, now: Duration) -> Vec<Action> {
        match result {
            Ok(()) => self.hit(now),
            Err(miss) => self.missed(miss, busy, now),
        }
    }

    fn hit(&mut self, now: Duration) -> Vec<Action> {
        let next = Some(now + self.policy.interval);
        match &mut self.state {
            State::Ready {
                failures, probe_at, ..
            } => {
                *failures = 0;
                *probe_at = next;
                Vec::new()
            }
            State::Starting { .. } | State::Unready { .. } => {
                self.stumbles = 0;
                self.reason = None;
                self.state = State::Ready {
                    since: now,
                    failures: 0,
                    probe_at: next,
                };
                vec![Action::Note("ready".to_owned())]
            }
            _ => Vec::new(),
        }
    }

    fn missed(&mut self, miss: Miss, busy: bool, now: Duration) -> Vec<Action> {
        let (since, failures, was_ready) = match &mut self.state {
            State::Starting {
                pause, probe_at, ..
            } => {
                *probe_at = Some(now + *pause);
                *pause = (*pause * 2).min(SLOWEST_START_PROBE);
                self.reason = Some(miss.reason);
                return Vec::new();
            }
            State::Ready {
                since, failures, ..
            } => (*since, *failures + 1, true),
            State::Unready {
                since, failures, ..
            } => (*since, *failures + 1, false),
            _ => return Vec::new(),
        };
        let limit = self.policy.failures.saturating_mul(2);
        let failures = match miss.kind {
            // It works on a call and cannot answer: that is no reason to kill it.
            MissKind::Silent if busy => failures.min(limit - 1),
            // Nor is this: it says itself that it will be back.
            MissKind::Alive => failures.min(limit - 1),
            _ => failures,
        };
        if failures >= limit {
            let why = format!("{failures} probes missed in a row: {}", miss.reason);
            let counts = self.judge(since, busy, now);
            self.reason = Some(why.clone());
            self.state = State::Ending {
                after: After::Failure {
                    why: why.clone(),
                    counts,
                },
            };
            return vec![
                Action::Note(format!("{why}; restarting")),
                Action::End { at_once: false },
            ];
        }
        if was_ready && failures < self.policy.failures && miss.kind != MissKind::Refused {
            self.state = State::Ready {
                since,
                failures,
                probe_at: Some(now + self.policy.interval),
            };
            return Vec::new();
        }
        let note = was_ready.then(|| Action::Note(format!("not ready: {}", miss.reason)));
        self.reason = Some(miss.reason);
        self.state = State::Unready {
            since,
            failures,
            probe_at: Some(now + self.policy.interval.min(UNREADY_INTERVAL)),
        };
        note.into_iter().collect()
    }

    fn suspect(&mut self, now: Duration) -> Vec<Action> {
        if let State::Ready { probe_at, .. } | State::Unready { probe_at, .. } = &mut self.state
            && let Some(at) = probe_at
        {
            *at = now;
            return self.tick(now);
        }
        Vec::new()
    }

    /// Whether an end after readiness counts toward the crash loop: not when it was long after,
    /// and not when a call may have been the cause.
    fn judge(&mut self, ready_since: Duration, busy: bool, now: Duration) -> bool {
        if now.saturating_sub(ready_since) >= SETTLED {
            self.streak = 0;
            return true;
        }
        !busy
    }

    fn exited(&mut self, how: &str, busy: bool, now: Duration) -> Vec<Action> {
        match self.state.clone() {
            State::Ending { after } => self.ended(after, now),
            State::Ready { since, .. } | State::Unready { since, .. } => {
                let counts = self.judge(since, busy, now);
                self.failed(how, counts, now)
            }
            State::Starting { .. } => self.failed(&format!("{how} before it was ready"), true, now),
            State::Draining { .. } => self.ended(After::Stop, now),
            State::Launching { .. } | State::Stopped | State::Backoff { .. } | State::CrashLoop => {
                Vec::new()
            }
        }
    }

    fn ended(&mut self, after: After, now: Duration) -> Vec<Action> {
        match after {
            After::Stop => {
                self.state = State::Stopped;
                self.reason = None;
                vec![Action::Note("stopped".to_owned())]
            }
            After::Restart => {
                self.forgive();
                self.launch()
            }
            After::Failure { why, counts } => self.failed(&why, counts, now),
        }
    }

    fn failed(&mut self, why: &str, counts: bool, now: Duration) -> Vec<Action> {
        let doublings = if counts {
            self.streak += 1;
            // The first restart in a row is immediate.
            self.streak.checked_sub(2)
        } else {
            self.stumbles += 1;
            Some(self.stumbles - 1)
        };
        if counts && self.streak >= self.policy.crash_loop_after {
            let reason = format!("{} failed starts in a row; the last: {why}", self.streak);
            self.state = State::CrashLoop;
            self.reason = Some(reason.clone());
            return vec![Action::Note(format!("crash loop: {reason}"))];
        }
        self.reason = Some(why.to_owned());
        let Some(doublings) = doublings else {
            let mut actions = vec![Action::Note(format!("{why}; restarting at once"))];
            actions.extend(self.launch());
            return actions;
        };
        let wait = self.wait(doublings);
        self.state = State::Backoff { until: now + wait };
        vec![Action::Note(format!(
            "{why}; restarting in {}",
            format_duration(Duration::from_millis(
                u64::try_from(wait.as_millis()).unwrap_or(0)
            ))
        ))]
    }

    /// Exponential backoff; the upper half of it is random, so that agents that fell together do
    /// not rise together.
    fn wait(&mut self, doublings: u32) -> Duration {
        let factor = 1_u32 << doublings.min(MOST_DOUBLINGS);
        let full = self
            .policy
            .backoff
            .saturating_mul(factor)
            .min(self.policy.max_backoff);
        full.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        match &mut self.state {
            State::Starting { since, .. } if now >= *since + self.policy.startup => {
                let limit = format_duration(self.policy.startup);
                let last = self.reason.take().unwrap_or_else(|| "no answer".to_owned());
                let why = format!("not ready within {limit}: {last}");
                self.reason = Some(why.clone());
                self.state = State::Ending {
                    after: After::Failure { why, counts: true },
                };
                vec![Action::End { at_once: true }]
            }
            State::Starting { probe_at, .. }
            | State::Ready { probe_at, .. }
            | State::Unready { probe_at, .. }
                if probe_at.is_some_and(|at| now >= at) =>
            {
                *probe_at = None;
                vec![Action::Probe]
            }
            State::Backoff { until } if now >= *until => self.launch(),
            State::Draining { until } if now >= *until => {
                let limit = format_duration(self.policy.drain);
                let mut actions = vec![Action::Note(format!(
                    "calls still run after {limit}; ending it"
                ))];
                actions.extend(self.end(After::Stop));
                actions
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
