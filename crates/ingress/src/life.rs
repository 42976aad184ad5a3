//! A call's life as a pure machine: what was, what happened, what is now. No clock, no store, no
//! randomness of its own. The store applies what comes out by compare-and-set on what went in.

use std::time::Duration;

use skep_api::CallState;
use skep_core::Timestamp;

use crate::policy::CallPolicy;

/// Attempts of one call, charged or not. Over it the call is dead: a bound on what restarts of the
/// server and connections that fail can cost.
pub const MOST_ATTEMPTS: u32 = 1000;
/// The wait after an attempt whose request never reached the agent.
const UNDELIVERED_WAIT: Duration = Duration::from_millis(50);
/// The wait after an attempt whose answer the disk did not take.
const UNRECORDED_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that an agent's `Retry-After` may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The part of a call's row that decides what may happen to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub state: CallState,
    /// Attempts that have begun. With the epoch it names the lease.
    pub attempt: u32,
    /// Attempts that count against the policy.
    pub tries: u32,
    /// Attempts whose connection the agent cut without an answer.
    pub crashes: u32,
    /// The server's epoch that granted the last lease.
    pub epoch: i64,
    /// When the next attempt may begin.
    pub due: Timestamp,
    /// When the call expires.
    pub deadline: Timestamp,
    /// Why it is in this state, when there is more to say.
    pub reason: Option<String>,
}

/// The right to run one attempt and to give its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Which attempt.
    pub attempt: u32,
    /// Who granted it.
    pub epoch: i64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The agent answered, completely.
    Answered {
        /// Its status.
        status: u16,
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Not one byte of the request reached the agent.
    Undelivered(String),
    /// The agent closed the connection before its answer was complete.
    Cut(String),
    /// The agent was silent for too long, or its answer broke a bound.
    Broken(String),
    /// The answer could not be recorded: nobody's fault.
    Unrecorded(String),
    /// The instance was ended on purpose during the attempt: not the call's fault.
    Ordered(String),
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An attempt begins.
    Begin {
        /// The current epoch.
        epoch: i64,
    },
    /// An attempt ended.
    End {
        /// The lease of who says so.
        lease: Lease,
        /// How.
        end: End,
    },
    /// The server of this epoch found the call running under another one.
    Release {
        /// The current epoch.
        epoch: i64,
    },
    /// Somebody does not want it any more.
    Cancel,
    /// Time passed.
    Expire,
    /// A dead call gets another round of attempts.
    Redrive,
}

/// Why nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The lease is not the current one.
    Stale,
    /// The state does not allow it.
    State(CallState),
    /// It is not time.
    Early,
}

impl Life {
    /// A call that was just accepted.
    #[must_use]
    pub const fn accepted(now: Timestamp, deadline: Timestamp) -> Self {
        Self {
            state: CallState::Accepted,
            attempt: 0,
            tries: 0,
            crashes: 0,
            epoch: 0,
            due: now,
            deadline,
            reason: None,
        }
    }

    /// The current lease, while an attempt runs.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        (self.state == CallState::Running).then_some(Lease {
            attempt: self.attempt,
            epoch: self.epoch,
        })
    }

    /// What the call is after the event.
    ///
    /// # Errors
    /// [`Refusal`], when the event does not apply; the call stays as it is.
    pub fn step(
        &self,
        event: &Event,
        policy: &CallPolicy,
        now: Timestamp,
        jitter: f64,
    ) -> Result<Self, Refusal> {
        let mut next = self.clone();
        next.reason = None;
        match event {
            Event::Begin { epoch } => {
                self.must_be(CallState::Accepted)?;
                if now < self.due {
                    return Err(Refusal::Early);
                }
                next.state = CallState::Running;
                next.attempt += 1;
                next.epoch = *epoch;
            }
            Event::End { lease, end } => {
                if self.lease() != Some(*lease) {
                    return Err(Refusal::Stale);
                }
                next.end(end, policy, now, jitter);
            }
            Event::Release { epoch } => {
                self.must_be(CallState::Running)?;
                if self.epoch == *epoch {
                    return Err(Refusal::State(self.state));
                }
                // Whether the agent did the work is unknown, so who must not do it twice is asked.
                if policy.retry_interrupted {
                    next.again(now, "the server stopped during the attempt".to_owned());
                } else {
                    next.die("the server stopped during the attempt; interrupted attempts are not tried again");
                }
            }
            Event::Cancel => {
                self.must_be_open()?;
                next.state = CallState::Cancelled;
            }
            Event::Expire => {
                self.must_be_open()?;
                if now < self.deadline {
                    return Err(Refusal::Early);
                }
                next.state = CallState::Expired;
                next.reason = Some(match &self.reason {
                    Some(reason) => format!("the deadline passed; before: {reason}"),
                    None => "the deadline passed".to_owned(),
                });
            }
            Event::Redrive => {
                self.must_be(CallState::Dead)?;
                next.state = CallState::Accepted;
                next.tries = 0;
                next.due = now;
                next.deadline = now.plus(policy.deadline);
            }
        }
        Ok(next)
    }

    fn must_be(&self, state: CallState) -> Result<(), Refusal> {
        if self.state == state {
            Ok(())
        } else {
            Err(Refusal::State(self.state))
        }
    }

    fn must_be_open(&self) -> Result<(), Refusal> {
        if self.state.is_final() {
            Err(Refusal::State(self.state))
        } else {
            Ok(())
        }
    }

    fn again(&mut self, due: Timestamp, reason: String) {
        if self.attempt >= MOST_ATTEMPTS {
            self.die(&format!("{MOST_ATTEMPTS} attempts; the last: {reason}"));
            return;
        }
        self.state = CallState::Accepted;
        self.due = due;
        self.reason = Some(reason);
    }

    fn die(&mut self, reason: &str) {
        self.state = CallState::Dead;
        self.reason = Some(reason.to_owned());
    }

    fn end(&mut self, end: &End, policy: &CallPolicy, now: Timestamp, jitter: f64) {
        match end {
            End::Answered {
                status: 200..=399, ..
            } => {
                self.state = CallState::Succeeded;
                self.tries += 1;
            }
            End::Answered { status, .. } if !policy.retry_statuses.contains(status) => {
                self.state = CallState::Failed;
                self.tries += 1;
            }
            End::Answered {
                status,
                retry_after,
            } => {
                let reason = format!("the agent answered {status}");
                self.charge(policy, now, jitter, retry_after.unwrap_or_default(), reason);
            }
            End::Undelivered(reason) => self.again(now.plus(UNDELIVERED_WAIT), reason.clone()),
            End::Unrecorded(reason) if policy.retry_interrupted => {
                self.again(now.plus(UNRECORDED_WAIT), reason.clone());
            }
            End::Ordered(reason) if policy.retry_interrupted => self.again(now, reason.clone()),
            End::Unrecorded(reason) | End::Ordered(reason) => {
                self.interrupted(policy, now, jitter, reason);
            }
            End::Cut(reason) => {
                self.crashes += 1;
                self.interrupted(policy, now, jitter, reason);
            }
            End::Broken(reason) => self.interrupted(policy, now, jitter, reason),
        }
    }

    fn interrupted(&mut self, policy: &CallPolicy, now: Timestamp, jitter: f64, reason: &str) {
        if policy.retry_interrupted {
            self.charge(policy, now, jitter, Duration::ZERO, reason.to_owned());
        } else {
            self.tries += 1;
            self.die(&format!(
                "{reason}; interrupted attempts are not tried again"
            ));
        }
    }

    fn charge(
        &mut self,
        policy: &CallPolicy,
        now: Timestamp,
        jitter: f64,
        at_least: Duration,
        reason: String,
    ) {
        self.tries += 1;
        if self.tries >= policy.attempts {
            self.die(&format!(
                "{} of {} attempts; the last: {reason}",
                self.tries, policy.attempts
            ));
            return;
        }
        let wait = policy
            .wait(self.tries, jitter)
            .max(at_least.min(LONGEST_RETRY_AFTER));
        self.again(now.plus(wait), reason);
    }
}
