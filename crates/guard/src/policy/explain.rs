//! Why something is decided as it is: what decided, and what came near.

use std::sync::Arc;

use cedar_policy::{Authorizer, Entities, Policy, PolicyId, PolicySet, Request};
use serde_json::json;

use super::actions::CATALOG;
use super::ask::Ask;
use super::slice::{Compiled, Decision, Slice};

/// Policies that are told as near.
const MOST_NEAR: usize = 50;

/// A policy that is about who asks, what for and what it is done to, and did not decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// Its id.
    pub policy: Arc<str>,
    /// Whether it is one that forbids.
    pub forbids: bool,
    /// Why it did not decide.
    pub why: String,
}

/// A decision, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was decided.
    pub decision: Arc<Decision>,
    /// What came near.
    pub near: Vec<Near>,
}

/// The policy without its conditions.
fn scope_of(policy: &Policy) -> Option<Policy> {
    let mut form = policy.to_json().ok()?;
    form["conditions"] = json!([]);
    Policy::from_json(Some(PolicyId::new("scope")), form).ok()
}

/// Whether a policy alone fits; what keeps it from being evaluated, when something does.
fn fits(policy: Policy, request: &Request, entities: &Entities) -> Result<bool, String> {
    let set = PolicySet::from_policies([policy]).map_err(|error| error.to_string())?;
    let answer = Authorizer::new().is_authorized(request, &set, entities);
    let fits = answer.diagnostics().reason().next().is_some();
    match answer.diagnostics().errors().next() {
        Some(error) => Err(error.to_string()),
        None => Ok(fits),
    }
}

fn near(one: &Compiled, request: &Request, entities: &Entities) -> Option<Near> {
    let in_scope = scope_of(&one.policy).map(|scope| fits(scope, request, entities));
    if in_scope == Some(Ok(false)) {
        return None;
    }
    let why = match fits(one.policy.clone(), request, entities) {
        Ok(true) => "it allows this, but what forbids wins".to_owned(),
        Ok(false) => "its conditions are not met".to_owned(),
        Err(error) => format!("its conditions could not be evaluated: {error}"),
    };
    Some(Near {
        policy: one.name.clone(),
        forbids: one.forbids,
        why,
    })
}

/// Decides, and tells how it came about.
#[must_use]
pub fn explain(slice: &Slice, ask: &Ask<'_>) -> Explanation {
    let decision = slice.decide(ask);
    let mut all = Vec::new();
    if let Some(action) = CATALOG.actions.get(ask.action)
        && let (Ok(request), Ok(entities)) = (ask.request(action, true), ask.entities(action))
    {
        let others = slice.about(action);
        let others = others.filter(|one| !decision.policies.contains(&one.name));
        let found = others.filter_map(|one| near(one, &request, &entities));
        all.extend(found.take(MOST_NEAR));
    }
    Explanation {
        decision,
        near: all,
    }
}
