//! What each route does, and to what: the one table that policy is asked by and the audit log is
//! written by. A route that is not in it answers nobody.

use http::Method;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// The action, as in the audit log.
    pub(crate) action: &'static str,
    /// The kind of thing that it is done to.
    pub(crate) kind: &'static str,
    /// How it is written down.
    pub(crate) told: Told,
}

/// How what a route does is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It only looks: soon afterwards, and together with what is the very same.
    Soon,
    /// In the transaction of the change.
    Along,
    /// Before it is done: what it does is in no transaction.
    Ahead,
}

const fn look(action: &'static str, kind: &'static str) -> Access {
    Access {
        action,
        kind,
        told: Told::Soon,
    }
}

const fn change(action: &'static str, kind: &'static str) -> Access {
    Access {
        action,
        kind,
        told: Told::Along,
    }
}

const fn ahead(action: &'static str, kind: &'static str) -> Access {
    Access {
        action,
        kind,
        told: Told::Ahead,
    }
}

/// A request to an agent.
pub(crate) const CALL: Access = change("agent:call", "Agent");

/// Every route of the API that needs a key, by method and path as the router has it. A thing that the
/// path does not name is the workspace.
pub(crate) const ROUTES: [(&str, &str, Access); 44] = [
    ("GET", "/api/v1/agents", look("agent:list", "Workspace")),
    (
        "POST",
        "/api/v1/agents",
        change("agent:deploy", "Workspace"),
    ),
    ("GET", "/api/v1/agents/{agent}", look("agent:read", "Agent")),
    (
        "DELETE",
        "/api/v1/agents/{agent}",
        change("agent:remove", "Agent"),
    ),
    (
        "GET",
        "/api/v1/agents/{agent}/revisions",
        look("agent:read", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/start",
        change("agent:start", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/stop",
        change("agent:stop", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/restart",
        change("agent:restart", "Agent"),
    ),
    (
        "DELETE",
        "/api/v1/agents/{agent}/cache",
        ahead("agent:forget-answers", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/rollback",
        change("agent:rollback", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/rollout/pause",
        ahead("agent:rollout", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/rollout/resume",
        ahead("agent:rollout", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/rollout/promote",
        ahead("agent:rollout", "Agent"),
    ),
    (
        "GET",
        "/api/v1/agents/{agent}/logs",
        look("agent:logs", "Agent"),
    ),
    (
        "GET",
        "/api/v1/agents/{agent}/stats",
        look("agent:read", "Agent"),
    ),
    (
        "GET",
        "/api/v1/agents/{agent}/archive",
        ahead("agent:export", "Agent"),
    ),
    (
        "PUT",
        "/api/v1/agents/{agent}/archive",
        change("agent:import", "Agent"),
    ),
    (
        "POST",
        "/api/v1/agents/{agent}/exec",
        ahead("agent:exec", "Agent"),
    ),
    ("GET", "/api/v1/stats", look("agent:list", "Workspace")),
    ("GET", "/api/v1/events", look("event:read", "Workspace")),
    (
        "GET",
        "/api/v1/events/stream",
        look("event:read", "Workspace"),
    ),
    ("GET", "/api/v1/calls", look("call:list", "Workspace")),
    ("GET", "/api/v1/calls/{call}", look("call:read", "Call")),
    (
        "DELETE",
        "/api/v1/calls/{call}",
        change("call:purge", "Call"),
    ),
    (
        "GET",
        "/api/v1/calls/{call}/request",
        look("call:read-body", "Call"),
    ),
    (
        "GET",
        "/api/v1/calls/{call}/response",
        look("call:read-body", "Call"),
    ),
    (
        "POST",
        "/api/v1/calls/{call}/cancel",
        change("call:cancel", "Call"),
    ),
    (
        "POST",
        "/api/v1/calls/{call}/replay",
        change("call:replay", "Call"),
    ),
    (
        "POST",
        "/api/v1/calls/{call}/redrive",
        change("call:redrive", "Call"),
    ),
    (
        "POST",
        "/api/v1/calls/redrive",
        change("call:redrive", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/calls/purge",
        change("call:purge", "Workspace"),
    ),
    ("GET", "/api/v1/servers", look("server:read", "Server")),
    ("GET", "/api/v1/backups", look("backup:list", "Server")),
    ("POST", "/api/v1/backups", ahead("backup:create", "Server")),
    (
        "GET",
        "/api/v1/backups/{backup}",
        look("backup:list", "Server"),
    ),
    (
        "GET",
        "/api/v1/backups/{backup}/content",
        ahead("backup:fetch", "Server"),
    ),
    (
        "GET",
        "/api/v1/health/detailed",
        look("server:read", "Server"),
    ),
    ("GET", "/metrics", look("server:read", "Server")),
    (
        "GET",
        "/api/v1/audit/entries",
        look("audit:read", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/audit/entries/{number}/proof",
        look("audit:read", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/audit/export",
        ahead("audit:export", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/audit/checkpoint",
        look("audit:checkpoint", "Server"),
    ),
    (
        "GET",
        "/api/v1/audit/consistency",
        look("audit:checkpoint", "Server"),
    ),
    (
        "GET",
        "/api/v1/audit/tiles/{kind}/{number}",
        look("audit:tiles", "Server"),
    ),
];

/// What a route does; HEAD is answered as GET is.
pub(crate) fn of(method: &Method, path: &str) -> Option<Access> {
    let method = match method.as_str() {
        "HEAD" => "GET",
        other => other,
    };
    let mut all = ROUTES.iter();
    let found = all.find(|(its, route, _)| *its == method && *route == path);
    found.map(|(_, _, access)| *access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_table_and_no_other() {
        let mut routes = crate::routes_with_methods();
        routes.push(("/metrics".to_owned(), "get".to_owned()));
        routes.retain(|(path, method)| {
            let method = method.to_uppercase();
            !crate::PUBLIC.contains(&(method.as_str(), path.as_str()))
        });
        for (path, method) in &routes {
            let method: Method = method.to_uppercase().parse().unwrap();
            assert!(of(&method, path).is_some(), "{method} {path}");
        }
        assert_eq!(routes.len(), ROUTES.len());
    }
}
