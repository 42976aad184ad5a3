//! When a request that got no answer is tried again, and after which wait. Decisions only: `through`
//! carries them out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::ClientError;

/// Time without progress after which a lost server is given up.
const WITHIN: Duration = Duration::from_secs(60);
/// The wait before the second try.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Doublings of the first wait; more are over the longest.
const MOST_DOUBLINGS: u32 = 10;

type Tell = Arc<dyn Fn(&ClientError) + Send + Sync>;

/// How long to go on when the connection to the server is lost or the server cannot answer now.
/// Only the time without a connection counts, and what is new begins it anew.
#[derive(Clone)]
pub struct Patience {
    within: Duration,
    first_wait: Duration,
    tell: Option<Tell>,
}

impl Patience {
    /// Gives up after this time without progress.
    #[must_use]
    pub const fn new(within: Duration) -> Self {
        Self {
            within,
            first_wait: FIRST_WAIT,
            tell: None,
        }
    }

    /// Called with what went wrong at the first of the tries that fail in a row, before the next.
    #[must_use]
    pub fn on_loss(mut self, tell: impl Fn(&ClientError) + Send + Sync + 'static) -> Self {
        self.tell = Some(Arc::new(tell));
        self
    }

    #[cfg(test)]
    pub(crate) const fn first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    pub(crate) fn tell(&self, error: &ClientError) {
        if let Some(tell) = &self.tell {
            tell(error);
        }
    }
}

impl Default for Patience {
    /// A minute.
    fn default() -> Self {
        Self::new(WITHIN)
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// What follows a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The failure is the result.
    Fail,
    /// Another try, not before this time has passed.
    Again(Duration),
}

/// Judges a failure. `reached`: the server was there once. `safe`: whatever became of the request,
/// it does no harm to send it again.
pub(crate) fn judge(error: &ClientError, reached: bool, safe: bool) -> Verdict {
    match error {
        // Nothing was sent. A server that was never there is rather a wrong address.
        ClientError::Unreachable { .. } if reached => Verdict::Again(Duration::ZERO),
        ClientError::Interrupted { .. } | ClientError::Timeout { .. } if safe => {
            Verdict::Again(Duration::ZERO)
        }
        ClientError::Problem {
            problem,
            retry_after,
            ..
        } => match (problem.code.as_str(), retry_after) {
            // An accepted call's client is told this too; its key makes that safe. What is not
            // journaled was not sent on.
            ("shutting-down" | "store-unavailable", _) => {
                Verdict::Again(retry_after.unwrap_or_default())
            }
            (_, Some(wait)) if problem.status == 429 => Verdict::Again(*wait),
            _ => Verdict::Fail,
        },
        _ => Verdict::Fail,
    }
}

/// Whether requests with this method are journaled, as the agent's `calls.methods` say.
pub(crate) fn is_journaled(method: &Method, methods: Option<&[String]>) -> bool {
    match methods {
        Some(methods) => methods.iter().any(|name| name == method.as_str()),
        None => !matches!(
            *method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::CONNECT | Method::TRACE
        ),
    }
}

/// The waits between tries that fail in a row.
#[derive(Debug)]
pub(crate) struct Waits {
    within: Duration,
    first: Duration,
    spent: Duration,
    tries: u32,
}

impl Waits {
    pub(crate) const fn new(patience: &Patience) -> Self {
        Self {
            within: patience.within,
            first: patience.first_wait,
            spent: Duration::ZERO,
            tries: 0,
        }
    }

    /// Whether the last try did not fail.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.tries == 0
    }

    /// Something new came: the patience begins anew.
    pub(crate) const fn progress(&mut self) {
        self.spent = Duration::ZERO;
        self.tries = 0;
    }

    /// The wait before the next try; `None` when the patience is at its end. `took` is what the try
    /// itself took without a connection, `random` between 0 and 1.
    pub(crate) fn next(
        &mut self,
        took: Duration,
        at_least: Duration,
        random: f64,
    ) -> Option<Duration> {
        self.spent = self.spent.saturating_add(took);
        let left = self.within.saturating_sub(self.spent);
        if left.is_zero() || at_least > left {
            return None;
        }
        let doubled = self.first * (1 << self.tries.min(MOST_DOUBLINGS));
        let half = doubled.min(LONGEST_WAIT) / 2;
        // Half of it random, so that the clients of a server that is back do not come at once.
        let wait = (half + half.mul_f64(random)).max(at_least).min(left);
        self.spent = self.spent.saturating_add(wait);
        self.tries = self.tries.saturating_add(1);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_api::Problem;

    const AGAIN: Verdict = Verdict::Again(Duration::ZERO);

    fn problem(code: &str, status: u16, retry_after: Option<u64>) -> ClientError {
        let problem = Problem {
            type_uri: String::new(),
            title: String::new(),
            status,
            detail: String::new(),
            code: code.into(),
            request_id: String::new(),
            hint: String::new(),
        };
        ClientError::Problem {
            problem: Box::new(problem),
            retry_after: retry_after.map(Duration::from_secs),
            call: None,
        }
    }

    #[test]
    fn what_is_lost_is_tried_again_when_that_is_safe() {
        let (url, source) = (String::new(), || "x".into());
        let (refused, lost) = (
            ClientError::Unreachable {
                url: url.clone(),
                source: source(),
            },
            ClientError::Interrupted {
                url,
                source: source(),
            },
        );
        assert_eq!(judge(&refused, false, true), Verdict::Fail);
        assert_eq!(judge(&refused, true, false), AGAIN);
        assert_eq!(judge(&lost, true, true), AGAIN);
        assert_eq!(judge(&lost, true, false), Verdict::Fail);
    }

    #[test]
    fn refusals_for_now_are_waited_out_and_others_are_results() {
        let judged = |code, status, after| judge(&problem(code, status, after), true, true);
        let second = Verdict::Again(Duration::from_secs(1));
        assert_eq!(judged("shutting-down", 503, Some(1)), second);
        assert_eq!(judged("store-unavailable", 503, None), AGAIN);
        assert_eq!(judged("queue-full", 429, Some(1)), second);
        assert_eq!(judged("queue-full", 429, None), Verdict::Fail);
        for code in ["agent-stopped", "agent-crash-loop", "agent-not-ready"] {
            assert_eq!(judged(code, 503, Some(1)), Verdict::Fail, "{code}");
        }
        assert_eq!(judged("call-dead", 502, None), Verdict::Fail);
    }

    #[test]
    fn waits_grow_up_to_a_bound_and_end_with_the_patience() {
        let patience = Patience::new(Duration::from_secs(10));
        let mut waits = Waits::new(&patience);
        let mut seen = Vec::new();
        while let Some(wait) = waits.next(Duration::ZERO, Duration::ZERO, 1.0) {
            seen.push(wait.as_millis());
        }
        // The last one is what was left.
        assert_eq!(
            seen,
            [100, 200, 400, 800, 1600, 2000, 2000, 2000, 900],
            "{seen:?}"
        );
        waits.progress();
        assert!(waits.is_fresh());
        let least = waits.next(Duration::ZERO, Duration::ZERO, 0.0);
        assert_eq!(least, Some(Duration::from_millis(50)));
        // What a server asks for is honoured, or there is no patience for it.
        let asked = Duration::from_secs(5);
        assert_eq!(waits.next(Duration::ZERO, asked, 0.5), Some(asked));
        assert_eq!(waits.next(Duration::ZERO, asked, 0.5), None);
        let took = Duration::from_secs(9);
        assert_eq!(waits.next(took, Duration::ZERO, 0.5), None);
    }

    #[test]
    fn the_agents_methods_decide_what_is_journaled() {
        assert!(is_journaled(&Method::POST, None));
        assert!(!is_journaled(&Method::GET, None));
        let methods = ["GET".to_owned()];
        assert!(is_journaled(&Method::GET, Some(&methods)));
        assert!(!is_journaled(&Method::POST, Some(&methods)));
    }
}
