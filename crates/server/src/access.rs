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
    /// Whom it is asked about.
    pub(crate) asks: Asks,
}

/// Where it stands what a route does something to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// In the path, or it is the workspace or Skep itself.
    Path,
    /// In the body too: the handler asks again ([`crate::gate::Unasked`]).
    Body,
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
        asks: Asks::Path,
    }
}

const fn change(action: &'static str, kind: &'static str) -> Access {
    Access {
        action,
        kind,
        told: Told::Along,
        asks: Asks::Path,
    }
}

const fn ahead(action: &'static str, kind: &'static str) -> Access {
    Access {
        action,
        kind,
        told: Told::Ahead,
        asks: Asks::Path,
    }
}

const fn body(action: &'static str, kind: &'static str) -> Access {
    Access {
        action,
        kind,
        told: Told::Along,
        asks: Asks::Body,
    }
}

/// Somebody logs in. Nobody is asked: who it is is only just found out.
pub(crate) const LOGIN: Access = change("session:create", "Workspace");
/// Somebody takes an invitation, which says what they may.
pub(crate) const JOIN: Access = change("invitation:accept", "Workspace");
/// A secret gets a new value, with others.
pub(crate) const SECRET_WRITE: Access = change("secret:write", "Secret");
/// An agent is given a placeholder of a secret.
pub(crate) const SECRET_USE: Access = change("secret:use", "Secret");
/// An agent is given the value of a secret in a file.
pub(crate) const SECRET_HOLD: Access = change("secret:hold", "Secret");
/// A request to a model.
pub(crate) const MODEL_USE: Access = look("model:use", "Model");
/// A request to a tool.
pub(crate) const TOOL_USE: Access = look("tool:use", "Tool");
/// A request to a host of the web.
pub(crate) const WEB_REQUEST: Access = look("web:request", "Host");
const WEB_READ: Access = look("web:read", "Workspace");
const WEB_RULE: Access = change("web:rule", "Workspace");
/// Looks at models and what was used of them; changes who answers, what may be spent, how they are used; forgets answers.
const MODEL_READ: Access = look("model:read", "Workspace");
const MODEL_PROVIDE: Access = change("model:provide", "Workspace");
const MODEL_BUDGET: Access = change("model:budget", "Workspace");
const MODEL_SET: Access = change("model:settings", "Workspace");
const MODEL_FORGET: Access = change("model:forget", "Workspace");
const MODEL_SCORE: Access = change("model:score", "Workspace");
/// Looks at prompts of models; makes what they say, through the door too; changes them, and where their labels lead.
const PROMPT_READ: Access = look("prompt:read", "Workspace");
pub(crate) const PROMPT_USE: Access = look("prompt:use", "Workspace");
const PROMPT_WRITE: Access = change("prompt:write", "Workspace");
const LABEL: Access = change("prompt:label", "Workspace");
/// Looks at webhook endpoints and what they are sent; changes them; sends something again.
const HOOK_READ: Access = look("webhook:read", "Workspace");
const HOOK_WRITE: Access = change("webhook:write", "Workspace");
const HOOK_SEND: Access = change("webhook:send", "Workspace");
/// Looks at tools; says which there are.
const TOOL_READ: Access = look("tool:read", "Workspace");
const TOOL_PROVIDE: Access = change("tool:provide", "Workspace");
/// Looks at what is said in a call, or in the run that it carries.
const CALL_BODY: Access = look("call:read-body", "Call");
/// Looks at calls and runs: which there are, and one.
const CALL_LIST: Access = look("call:list", "Workspace");
const CALL_READ: Access = look("call:read", "Call");
/// Looks at policies, and at the audit log: its entries, and what they are proven by.
const POLICY_READ: Access = look("policy:read", "Workspace");
const AUDIT_READ: Access = look("audit:read", "Workspace");
const AUDIT_CHECKPOINT: Access = look("audit:checkpoint", "Server");
/// A request to an agent.
pub(crate) const CALL: Access = change("agent:call", "Agent");

/// Every route of the API that needs a key, by method and path as the router has it. A thing that the
/// path does not name is the workspace.
pub(crate) const ROUTES: [(&str, &str, Access); 205] = [
    ("GET", "/api/v1/webhooks", HOOK_READ),
    ("GET", "/api/v1/webhooks/{webhook}", HOOK_READ),
    ("PUT", "/api/v1/webhooks/{webhook}", HOOK_WRITE),
    ("DELETE", "/api/v1/webhooks/{webhook}", HOOK_WRITE),
    ("POST", "/api/v1/webhooks/{webhook}/rotate", HOOK_WRITE),
    ("POST", "/api/v1/webhooks/{webhook}/test", HOOK_SEND),
    ("GET", "/api/v1/webhooks/{webhook}/messages", HOOK_READ),
    (
        "GET",
        "/api/v1/webhooks/{webhook}/messages/{message}",
        HOOK_READ,
    ),
    (
        "POST",
        "/api/v1/webhooks/{webhook}/messages/{message}/redeliver",
        HOOK_SEND,
    ),
    ("POST", "/api/v1/webhooks/{webhook}/redeliver", HOOK_SEND),
    ("GET", "/api/v1/mcp/presets", TOOL_READ),
    ("GET", "/api/v1/mcp/servers", TOOL_READ),
    ("PUT", "/api/v1/mcp/servers/{server}", TOOL_PROVIDE),
    ("DELETE", "/api/v1/mcp/servers/{server}", TOOL_PROVIDE),
    (
        "POST",
        "/api/v1/mcp/servers/{server}/check",
        ahead("tool:check", "Workspace"),
    ),
    ("GET", "/api/v1/mcp/servers/{server}/tools", TOOL_READ),
    (
        "POST",
        "/api/v1/mcp/servers/{server}/approvals",
        change("tool:approve", "Workspace"),
    ),
    (
        "PUT",
        "/api/v1/mcp/servers/{server}/classes",
        change("tool:approve", "Workspace"),
    ),
    ("GET", "/api/v1/mcp/virtuals", TOOL_READ),
    ("PUT", "/api/v1/mcp/virtuals/{virtual}", TOOL_PROVIDE),
    ("DELETE", "/api/v1/mcp/virtuals/{virtual}", TOOL_PROVIDE),
    ("GET", "/api/v1/mcp/usage", TOOL_READ),
    ("GET", "/api/v1/web/rules", WEB_READ),
    ("PUT", "/api/v1/web/rules/{rule}", WEB_RULE),
    ("DELETE", "/api/v1/web/rules/{rule}", WEB_RULE),
    ("GET", "/api/v1/web/check", WEB_READ),
    ("GET", "/api/v1/web/ca", WEB_READ),
    ("GET", "/api/v1/web/exchanges", WEB_READ),
    (
        "GET",
        "/api/v1/web/exchanges/{exchange}",
        change("web:reveal", "Workspace"),
    ),
    (
        "DELETE",
        "/api/v1/web/exchanges/{exchange}",
        change("web:forget", "Workspace"),
    ),
    ("GET", "/api/v1/models/providers", MODEL_READ),
    ("PUT", "/api/v1/models/providers/{provider}", MODEL_PROVIDE),
    (
        "DELETE",
        "/api/v1/models/providers/{provider}",
        MODEL_PROVIDE,
    ),
    (
        "POST",
        "/api/v1/models/providers/{provider}/check",
        ahead("model:check", "Workspace"),
    ),
    ("GET", "/api/v1/models/budgets", MODEL_READ),
    ("PUT", "/api/v1/models/budgets/{budget}", MODEL_BUDGET),
    ("DELETE", "/api/v1/models/budgets/{budget}", MODEL_BUDGET),
    ("GET", "/api/v1/models/routes", MODEL_READ),
    ("PUT", "/api/v1/models/routes/{route}", MODEL_PROVIDE),
    ("DELETE", "/api/v1/models/routes/{route}", MODEL_PROVIDE),
    ("GET", "/api/v1/models/routes/{route}/versions", MODEL_READ),
    (
        "POST",
        "/api/v1/models/routes/{route}/rollback",
        MODEL_PROVIDE,
    ),
    ("GET", "/api/v1/models/settings", MODEL_READ),
    ("PUT", "/api/v1/models/settings/{whose}", MODEL_SET),
    ("DELETE", "/api/v1/models/settings/{whose}", MODEL_SET),
    ("GET", "/api/v1/models/exchanges", MODEL_READ),
    (
        "GET",
        "/api/v1/models/exchanges/{exchange}",
        change("model:reveal", "Workspace"),
    ),
    (
        "DELETE",
        "/api/v1/models/exchanges/{exchange}",
        MODEL_FORGET,
    ),
    ("POST", "/api/v1/models/forget", MODEL_FORGET),
    ("POST", "/api/v1/models/scores", MODEL_SCORE),
    ("GET", "/api/v1/prompts", PROMPT_READ),
    ("GET", "/api/v1/prompts/{prompt}", PROMPT_READ),
    ("DELETE", "/api/v1/prompts/{prompt}", PROMPT_WRITE),
    ("POST", "/api/v1/prompts/{prompt}/versions", PROMPT_WRITE),
    (
        "GET",
        "/api/v1/prompts/{prompt}/versions/{number}",
        PROMPT_READ,
    ),
    ("GET", "/api/v1/prompts/{prompt}/diff", PROMPT_READ),
    ("POST", "/api/v1/prompts/{prompt}/render", PROMPT_USE),
    ("GET", "/api/v1/prompts/{prompt}/usage", PROMPT_READ),
    ("PUT", "/api/v1/prompts/{prompt}/labels/{label}", LABEL),
    ("DELETE", "/api/v1/prompts/{prompt}/labels/{label}", LABEL),
    (
        "POST",
        "/api/v1/prompts/{prompt}/labels/{label}/rollback",
        LABEL,
    ),
    ("GET", "/api/v1/models/performance", MODEL_READ),
    ("GET", "/api/v1/models/usage", MODEL_READ),
    ("GET", "/api/v1/me", look("self:read", "Workspace")),
    ("POST", "/api/v1/tokens", ahead("self:token", "Workspace")),
    (
        "PUT",
        "/api/v1/me/password",
        change("self:update", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/me/second-factor",
        look("self:update", "Workspace"),
    ),
    (
        "PUT",
        "/api/v1/me/second-factor",
        change("self:update", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/me/second-factor/drop",
        change("self:update", "Workspace"),
    ),
    ("GET", "/api/v1/me/links", look("self:read", "Workspace")),
    (
        "POST",
        "/api/v1/me/links",
        change("self:update", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/me/links/{link}/drop",
        change("self:update", "Workspace"),
    ),
    ("GET", "/api/v1/sessions", look("self:read", "Workspace")),
    (
        "DELETE",
        "/api/v1/sessions",
        change("self:update", "Workspace"),
    ),
    (
        "DELETE",
        "/api/v1/sessions/{session}",
        change("self:update", "Workspace"),
    ),
    ("GET", "/api/v1/secrets", look("secret:list", "Workspace")),
    (
        "POST",
        "/api/v1/secrets",
        change("secret:create", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secrets-bulk",
        change("secret:create", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/secrets/{secret}",
        look("secret:read", "Secret"),
    ),
    (
        "PATCH",
        "/api/v1/secrets/{secret}",
        change("secret:update", "Secret"),
    ),
    (
        "DELETE",
        "/api/v1/secrets/{secret}",
        change("secret:remove", "Secret"),
    ),
    (
        "GET",
        "/api/v1/secrets/{secret}/versions",
        look("secret:read", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/versions",
        change("secret:write", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/reveal",
        change("secret:reveal", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/delete",
        change("secret:delete", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/undelete",
        change("secret:undelete", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/destroy",
        change("secret:destroy", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/rotate",
        change("secret:write", "Secret"),
    ),
    (
        "GET",
        "/api/v1/secrets/{secret}/leases",
        look("secret:read", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/leases",
        change("secret:use", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/leases/{lease}/renew",
        change("secret:use", "Secret"),
    ),
    (
        "DELETE",
        "/api/v1/secrets/{secret}/leases/{lease}",
        change("secret:release", "Secret"),
    ),
    (
        "GET",
        "/api/v1/secrets/{secret}/shares",
        look("secret:read", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/shares",
        change("secret:share", "Secret"),
    ),
    (
        "DELETE",
        "/api/v1/secrets/{secret}/shares",
        change("secret:share", "Secret"),
    ),
    (
        "POST",
        "/api/v1/secrets/{secret}/requests",
        change("secret:ask", "Secret"),
    ),
    (
        "GET",
        "/api/v1/secret-requests",
        look("secret:list", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-requests/{request}/decision",
        change("secret:decide", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-requests/{request}/withdraw",
        change("secret:withdraw", "Workspace"),
    ),
    ("GET", "/api/v1/vault", look("vault:read", "Server")),
    ("POST", "/api/v1/vault/seal", change("vault:seal", "Server")),
    (
        "POST",
        "/api/v1/vault/unseal",
        ahead("vault:unseal", "Server"),
    ),
    (
        "POST",
        "/api/v1/vault/seals",
        change("vault:seals", "Server"),
    ),
    (
        "DELETE",
        "/api/v1/vault/seals/{seal}",
        change("vault:seals", "Server"),
    ),
    (
        "GET",
        "/api/v1/vault/rotations",
        look("vault:read", "Server"),
    ),
    (
        "POST",
        "/api/v1/vault/rotations",
        change("vault:rotate", "Server"),
    ),
    (
        "POST",
        "/api/v1/vault/rotations/{rotation}/rollback",
        change("vault:rotate", "Server"),
    ),
    (
        "POST",
        "/api/v1/vault/rotations/{rotation}/finish",
        change("vault:rotate", "Server"),
    ),
    (
        "POST",
        "/api/v1/lock-openings",
        change("lock:open", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/secret-mounts",
        look("secret:list", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-mounts",
        change("secret:mount", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-mounts/{mount}/refresh",
        change("secret:mount", "Workspace"),
    ),
    (
        "DELETE",
        "/api/v1/secret-mounts/{mount}",
        change("secret:mount", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/secret-rotations",
        look("secret:list", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-rotations",
        change("vault:rotate-workspace", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-rotations/{rotation}/rollback",
        change("vault:rotate-workspace", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/secret-rotations/{rotation}/finish",
        change("vault:rotate-workspace", "Workspace"),
    ),
    ("GET", "/api/v1/workspaces", look("self:read", "Workspace")),
    (
        "POST",
        "/api/v1/workspaces",
        change("workspace:create", "Server"),
    ),
    (
        "DELETE",
        "/api/v1/workspaces/{workspace}",
        change("workspace:remove", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/workspaces/{workspace}",
        look("self:read", "Workspace"),
    ),
    (
        "PUT",
        "/api/v1/workspaces/{workspace}/quota",
        change("workspace:quota", "Server"),
    ),
    ("GET", "/api/v1/users", look("user:list", "Workspace")),
    (
        "DELETE",
        "/api/v1/users/{user}",
        change("user:remove", "Workspace"),
    ),
    (
        "PUT",
        "/api/v1/users/{user}/role",
        change("user:role", "Workspace"),
    ),
    ("GET", "/api/v1/invitations", look("user:list", "Workspace")),
    (
        "POST",
        "/api/v1/invitations",
        change("user:invite", "Workspace"),
    ),
    (
        "DELETE",
        "/api/v1/invitations/{invitation}",
        change("user:invite", "Workspace"),
    ),
    ("GET", "/api/v1/agents", look("agent:list", "Workspace")),
    ("POST", "/api/v1/agents", body("agent:deploy", "Workspace")),
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
        "/api/v1/agents/{agent}/performance",
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
        "GET",
        "/api/v1/agents/{agent}/layers",
        ahead("agent:export", "Agent"),
    ),
    (
        "PUT",
        "/api/v1/agents/{agent}/layers",
        change("agent:import", "Agent"),
    ),
    (
        "PUT",
        "/api/v1/agents/{agent}/layers/origin",
        ahead("agent:import", "Agent"),
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
    ("GET", "/api/v1/calls", CALL_LIST),
    ("GET", "/api/v1/calls/{call}", CALL_READ),
    (
        "DELETE",
        "/api/v1/calls/{call}",
        change("call:purge", "Call"),
    ),
    ("GET", "/api/v1/calls/{call}/request", CALL_BODY),
    ("GET", "/api/v1/calls/{call}/response", CALL_BODY),
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
    ("GET", "/api/v1/calls/stream", CALL_LIST),
    ("GET", "/api/v1/calls/{call}/stream", CALL_READ),
    ("GET", "/api/v1/live", look("self:read", "Workspace")),
    ("GET", "/api/v1/runs", CALL_LIST),
    ("GET", "/api/v1/runs/stream", CALL_LIST),
    ("GET", "/api/v1/runs/{run}", CALL_READ),
    ("GET", "/api/v1/runs/{run}/input", CALL_BODY),
    ("GET", "/api/v1/runs/{run}/events", CALL_BODY),
    (
        "POST",
        "/api/v1/runs/{run}/cancel",
        change("call:cancel", "Call"),
    ),
    (
        "POST",
        "/api/v1/runs/{run}/fork",
        change("thread:fork", "Call"),
    ),
    ("GET", "/api/v1/threads", CALL_LIST),
    (
        "GET",
        "/api/v1/threads/{thread}",
        look("thread:read", "Agent"),
    ),
    (
        "DELETE",
        "/api/v1/threads/{thread}",
        change("thread:forget", "Agent"),
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
        "/api/v1/security/detections",
        look("security:read", "Workspace"),
    ),
    (
        "GET",
        "/api/v1/security/detections/{detection}",
        look("security:read", "Workspace"),
    ),
    (
        "POST",
        "/api/v1/security/detections/{detection}/acknowledge",
        change("security:acknowledge", "Workspace"),
    ),
    ("GET", "/api/v1/keys", look("key:list", "Workspace")),
    ("POST", "/api/v1/keys", change("key:create", "Workspace")),
    (
        "POST",
        "/api/v1/keys/{key}/rotate",
        change("key:rotate", "Workspace"),
    ),
    (
        "DELETE",
        "/api/v1/keys/{key}",
        change("key:revoke", "Workspace"),
    ),
    ("GET", "/api/v1/policy", POLICY_READ),
    ("PUT", "/api/v1/policy", change("policy:write", "Workspace")),
    ("GET", "/api/v1/policy/versions", POLICY_READ),
    (
        "POST",
        "/api/v1/policy/rollback",
        change("policy:write", "Workspace"),
    ),
    ("GET", "/api/v1/policy/schema", POLICY_READ),
    ("POST", "/api/v1/policy/explain", POLICY_READ),
    ("GET", "/api/v1/audit/entries", AUDIT_READ),
    ("GET", "/api/v1/audit/entries/{number}", AUDIT_READ),
    (
        "DELETE",
        "/api/v1/audit/people/{person}",
        change("audit:erase", "Workspace"),
    ),
    ("GET", "/api/v1/audit/entries/{number}/proof", AUDIT_READ),
    (
        "GET",
        "/api/v1/audit/export",
        ahead("audit:export", "Workspace"),
    ),
    ("GET", "/api/v1/audit/checkpoint", AUDIT_CHECKPOINT),
    ("GET", "/api/v1/audit/consistency", AUDIT_CHECKPOINT),
    (
        "GET",
        "/api/v1/audit/tiles/{kind}/{number}",
        look("audit:tiles", "Server"),
    ),
    (
        "GET",
        "/api/v1/compliance/{framework}",
        look("compliance:read", "Workspace"),
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
#[path = "access_tests.rs"]
mod tests;
