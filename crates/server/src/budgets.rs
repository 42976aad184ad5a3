//! Tells that a budget refuses, or that so much of it is spent: once in each of its windows, and not for each request. And
//! brings the version of a route before the newest one back, when that does worse than its route says it may.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_core::{Timestamp, Workspace};
use skep_egress::EgressError;
use skep_egress::llm::Bad;
use skep_runtime::Event;
use skep_store::{By, Scope, StoreError};
use tokio::time::MissedTickBehavior;

use crate::act::Own;
use crate::problem::ApiError;
use crate::state::State;

/// What an event of it is called.
pub(crate) const EXCEEDED: &str = "budget.exceeded";
/// What an event is called of a budget of which so much is spent, and of a route whose version before came back.
pub(crate) const THRESHOLD: &str = "budget.threshold";
pub(crate) const ROLLED_BACK: &str = "route.rolled-back";
/// How often budgets and routes are looked at.
const EVERY: Duration = Duration::from_secs(2);
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
const fn end(now: Timestamp, rest: Duration) -> i64 {
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
    let detail = || match rest {
        Some(_) => {
            let until = Timestamp::from_micros(until.saturating_mul(SECOND));
            format!("the budget {budget} has not enough left, until {until}")
        }
        None => format!("the budget {budget} has not enough left"),
    };
    let about = (EXCEEDED, budget.as_str());
    if let Err(error) = tell_once(state, workspace, about, (until, detail)).await {
        tracing::warn!(%workspace, budget, %error, "it is not told that a budget refuses");
    }
}

/// Tells of something about a budget, by its name, once in a window, by when that begins or ends.
async fn tell_once(
    state: &State,
    workspace: &Workspace,
    (kind, name): (&'static str, &str),
    (window, detail): (i64, impl FnOnce() -> String),
) -> Result<(), StoreError> {
    if !state.over_budget.is_new(workspace, name, window) {
        return Ok(());
    }
    let (of, key, detail) = (workspace.clone(), format!("{kind}:{name}"), detail());
    let told: Result<bool, StoreError> = state
        .db
        .write(move |unit| {
            let now = unit.now();
            let event = Event::new(kind, detail);
            event.record_once(&mut unit.scope(&of), (&key, window), now)
        })
        .await;
    told.map(drop)
        .inspect_err(|_| state.over_budget.forget(workspace, name))
}

/// Looks at budgets and routes of workspaces that use models here, until the end. No request waits for it.
pub(crate) async fn keep(state: Arc<State>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = state.stop.cancelled() => return,
        }
        for workspace in state.models.known_workspaces() {
            if let Err(error) = thresholds(&state, &workspace).await {
                tracing::warn!(%workspace, %error, "it is told later how much of budgets is spent");
            }
            if let Err(error) = routes(&state, &workspace).await {
                tracing::warn!(%workspace, %error, "routes are judged later");
            }
        }
    }
}

/// Tells of budgets of which so much is spent.
async fn thresholds(state: &State, workspace: &Workspace) -> Result<(), EgressError> {
    for standing in state.models.watched_budgets(workspace).await? {
        let (budget, start) = (&standing.budget.name, standing.start.as_micros());
        for part in standing.reached() {
            let name = format!("{budget}:{part}");
            let detail = || format!("{part} of 100 of the budget {budget} are spent");
            tell_once(state, workspace, (THRESHOLD, &name), (start, detail)).await?;
        }
    }
    Ok(())
}

/// Brings versions of routes back.
async fn routes(state: &State, workspace: &Workspace) -> Result<(), EgressError> {
    for bad in state.models.bad_routes(workspace).await? {
        let Bad {
            route,
            version,
            why,
        } = bad;
        let by = By::new(Arc::new(Own(state.db.server())));
        let detail = format!("version {version} of the route {route} goes: {why}");
        tracing::warn!(%workspace, route, version, why, "a route goes back to its version before");
        let tell =
            move |scope: &mut Scope<'_>, now| Event::new(ROLLED_BACK, detail).record(scope, now);
        let back = state
            .models
            .roll_route_back(&by, workspace, (&route, Some(version)), tell);
        match back.await {
            // It changed meanwhile, or there is no other.
            Ok(()) | Err(EgressError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
