//! The table of routes against the router, and against the schema of policies.

use std::collections::BTreeSet;

use super::*;

/// Actions that the policy schema has and no route yet: what asks for them comes with its issue.
const LATER: [&str; 5] = [
    "approval:decide",
    // Asked for by the doors.
    "agent:call",
    "model:use",
    "tool:use",
    "web:request",
];

#[test]
fn the_policy_schema_has_these_actions_and_no_other() {
    let schema = skep_guard::policy::actions();
    let besides = [&CALL, &SECRET_HOLD, &MODEL_USE, &TOOL_USE, &WEB_REQUEST];
    let accesses = || ROUTES.iter().map(|(_, _, access)| access).chain(besides);
    for access in accesses() {
        let kinds = schema.get(access.action);
        let kinds = kinds.unwrap_or_else(|| panic!("{} is not in the schema", access.action));
        assert!(kinds.contains(access.kind), "{access:?}: {kinds:?}");
    }
    let asked = ROUTES.iter().map(|(_, _, it)| it.action);
    // Asked when an agent is deployed, and when it starts.
    let asked: BTreeSet<&str> = asked.chain([SECRET_HOLD.action]).collect();
    for (action, kinds) in &schema {
        let later = LATER.contains(&action.as_str());
        assert_ne!(asked.contains(action.as_str()), later, "{action}");
        // Nothing in the schema is done to what nobody asks about.
        let of_body = ("agent:deploy", "Agent");
        for kind in kinds.iter().filter(|_| !later) {
            let mut all = accesses();
            let asks = all.any(|it| it.action == action && it.kind == kind);
            assert!(
                asks || (action.as_str(), kind.as_str()) == of_body,
                "{action} {kind}"
            );
        }
    }
}

#[test]
fn every_route_is_in_the_table_and_no_other() {
    let mut routes = crate::routes_with_methods();
    routes.push(("/metrics".to_owned(), "get".to_owned()));
    routes.retain(|(path, method)| {
        let method = method.to_uppercase();
        let method: Method = method.parse().unwrap();
        !crate::dispatch::is_public(&method, path)
    });
    for (path, method) in &routes {
        let method: Method = method.to_uppercase().parse().unwrap();
        assert!(of(&method, path).is_some(), "{method} {path}");
    }
    assert_eq!(routes.len(), ROUTES.len());
}
