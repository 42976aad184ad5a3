//! Tells that a budget refuses: once in each of its windows, and not for each request.

use std::collections::HashMap;

use parking_lot::Mutex;
use skep_core::{Timestamp, Workspace};
use skep_egress::EgressError;
use skep_runtime::Event;
use skep_store::StoreError;

use crate::problem::ApiError;
use crate::state::State;

/// What an event of it is called.
pub(crate) const EXCEEDED: &str = "budget.exceeded";
/// Budgets that are remembered; then all are forgotten, and the store says whether it was told.
const MOST: usize = 10_000;
/// Seconds in a microsecond's clock.
const SECOND: i64 = 1_000_000;

/// Which budgets it was told of, and of which of their windows: the second in which that ends; 0 for a total.
#[derive(Default)]
pub(crate) struct OverBudget(Mutex<HashMap<(Workspace, String), i64>>);

impl OverBudget {
    /// Whether that is news to this server.
    fn is_new(&self, workspace: &Workspace, budget: &str, until: i64) -> bool {
        let mut told = self.0.lock();
        if told.len() >= MOST {
            told.clear();
        }
        let key = (workspace.clone(), budget.to_owned());
        told.insert(key, until) != Some(until)
    }

    fn forget(&self, workspace: &Workspace, budget: &str) {
        let key = (workspace.clone(), budget.to_owned());
        self.0.lock().remove(&key);
    }
}

/// The second in which a window ends, of which so much is left. Two clocks a moment apart say the same.
const fn end(now: Timestamp, rest: std::time::Duration) -> i64 {
    let rest = rest.as_micros() as i64;
    now.as_micros()
        .saturating_add(rest)
        .saturating_add(SECOND / 2)
        .div_euclid(SECOND)
}

/// Tells of a budget, when that is why a request was refused.
pub(crate) async fn look(state: &State, workspace: &Workspace, error: &ApiError) {
    let ApiError::Egress(EgressError::OverBudget { budget, rest }) = error else {
        return;
    };
    let until = rest.map_or(0, |rest| end(state.db.clock().now(), rest));
    if !state.over_budget.is_new(workspace, budget, until) {
        return;
    }
    let detail = match rest {
        Some(_) => {
            let until = Timestamp::from_micros(until.saturating_mul(SECOND));
            format!("the budget {budget} has not enough left, until {until}")
        }
        None => format!("the budget {budget} has not enough left"),
    };
    let (of, key) = (workspace.clone(), format!("{EXCEEDED}:{budget}"));
    let told: Result<bool, StoreError> = state
        .db
        .write(move |unit| {
            let now = unit.now();
            let event = Event::new(EXCEEDED, detail);
            event.record_once(&mut unit.scope(&of), (&key, until), now)
        })
        .await;
    if let Err(error) = told {
        state.over_budget.forget(workspace, budget);
        tracing::warn!(%workspace, budget, %error, "it is not told that a budget refuses");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_window_is_told_of_once() {
        let told = OverBudget::default();
        let workspace = Workspace::default();
        assert!(told.is_new(&workspace, "a", 10));
        assert!(!told.is_new(&workspace, "a", 10));
        assert!(told.is_new(&workspace, "b", 10));
        assert!(told.is_new(&workspace, "a", 20));
        told.forget(&workspace, "a");
        assert!(told.is_new(&workspace, "a", 20));
        let at = |micros| Timestamp::from_micros(micros);
        let one = end(at(5_000_001), Duration::from_micros(54_999_999));
        let other = end(at(5_000_900), Duration::from_micros(54_999_999));
        assert_eq!((one, other), (60, 60));
    }
}
