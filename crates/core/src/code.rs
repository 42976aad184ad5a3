//! Public error codes: the closed list of what Skep can refuse, each with a status, a title and a
//! page under `docs/errors/`. Errors of the single crates map to one of them; nothing else about
//! an error reaches a client but its public detail and hint.

use std::error::Error;

/// An error that may be shown to a client: a stable code, a message that is safe to show and the
/// next thing to do. The internal cause stays in the source chain and goes to the log only.
pub trait PublicError: Error {
    /// The stable code.
    fn code(&self) -> Code;

    /// What happened, in words that hold no internals. Defaults to the code's title.
    fn detail(&self) -> String {
        self.code().title().to_owned()
    }

    /// The next thing to do. Defaults to the code's own hint.
    fn hint(&self) -> String {
        self.code().hint().to_owned()
    }

    /// Seconds after which trying again may help, for `Retry-After`.
    fn retry_after_s(&self) -> Option<u64> {
        None
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $title:literal, $hint:literal;)*) => {
        /// A public error code. The text form is part of the API and never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(
                #[doc = $title]
                $name,
            )*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable text form, for example `agent-not-found`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// A short summary that is the same for every occurrence (RFC 9457 `title`).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What to do next when nothing more precise is known.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint),* }
            }

            /// The page under `docs/errors/` as it was at build time.
            #[must_use]
            pub const fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../../docs/errors/", $code, ".md"))),* }
            }

            /// The code with this text form.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

codes! {
    BadRequest = "bad-request", 400, "The request is malformed",
        "Correct the request; the detail names the part that is wrong.";
    Unauthorized = "unauthorized", 401, "A valid API key is needed",
        "Send `Authorization: Bearer <key>`; the first key is in <data>/admin.key on the server's machine.";
    LoginFailed = "login-failed", 401, "E-mail address, password or code are wrong",
        "Try again; after some failures each try waits longer.";
    SecondFactorNeeded = "second-factor-needed", 401, "A code of the authenticator is wanted",
        "Send `code` too: six digits of the authenticator, or a recovery code.";
    ProviderLoginFailed = "provider-login-failed", 401, "The login at the provider did not come through",
        "Begin again; if it happens always, the server's log says in a word why.";
    NotInvited = "not-invited", 403, "Nobody here has this account of the provider",
        "Take an invitation with it (`skep users join --sso PROVIDER`), or log in as before and link it (`skep account link`).";
    NotFresh = "not-fresh", 403, "It has to be shown again who it is",
        "Send the password, or log in again and do it within ten minutes.";
    CrossSite = "cross-site", 403, "A page of another site may not do that",
        "A session counts for Skep's own pages only; programs use an API key.";
    Forbidden = "forbidden", 403, "This key may not do that",
        "Use a key with the right to do it.";
    PurposeNeeded = "purpose-needed", 403, "It has to be said what this is for",
        "Send `Skep-Purpose: …` (1 to 200 characters), or `--purpose` on the command line; it is written down.";
    NotFound = "not-found", 404, "There is nothing at this address",
        "Check the path against /api/v1/openapi.json.";
    AgentNotFound = "agent-not-found", 404, "No such agent",
        "List the agents with `skep list`.";
    RevisionNotFound = "revision-not-found", 404, "No such revision",
        "List the revisions with `skep rollout history AGENT`.";
    CallNotFound = "call-not-found", 404, "No such call",
        "List the calls with `skep calls list`; old ones are swept by retention.";
    RunNotFound = "run-not-found", 404, "No such run",
        "List the runs with `skep runs list`; old ones go by `runs.retention`.";
    ThreadNotFound = "thread-not-found", 404, "No such conversation",
        "List the conversations with `skep runs threads`; old ones go by `runs.retention`.";
    BackupNotFound = "backup-not-found", 404, "No such backup",
        "List the backups with `skep backup list`; old ones go by `backup.keep`.";
    WorkspaceNotFound = "workspace-not-found", 404, "No such workspace",
        "List yours with `skep workspaces list`; who is in one invites others with `skep users invite`.";
    UserNotFound = "user-not-found", 404, "No such user here",
        "List the people of the workspace with `skep users list`.";
    InvitationNotFound = "invitation-not-found", 404, "No such invitation",
        "An invitation counts once and ends; ask for another one.";
    ProviderNotFound = "provider-not-found", 404, "No such provider",
        "See with `GET /api/v1/providers` which there are; `auth.providers` names the file that says so.";
    LinkNotFound = "link-not-found", 404, "No such link",
        "List yours with `skep account links`.";
    SessionNotFound = "session-not-found", 404, "No such session",
        "List yours with `skep sessions list`.";
    KeyNotFound = "key-not-found", 404, "No such API key",
        "List the keys with `skep keys list`.";
    PersonNotFound = "person-not-found", 404, "The audit log knows nothing of this person",
        "Show an entry of theirs with `skep audit show`: it names them.";
    EntryPruned = "entry-pruned", 410, "The entry of the audit log was pruned",
        "Its hash is in an export of tiles (`skep audit export --form tiles`), its body in exports of before.";
    DetectionNotFound = "detection-not-found", 404, "No such detection",
        "List what was found with `skep security list`.";
    EntryNotFound = "entry-not-found", 404, "No such entry in the audit log",
        "List the entries with `skep audit search`.";
    PolicyNotFound = "policy-not-found", 404, "No such version of the policies",
        "List the versions with `skep policy history`.";
    MethodNotAllowed = "method-not-allowed", 405, "This address does not take that method",
        "Check the path and method against /api/v1/openapi.json.";
    RequestTimeout = "request-timeout", 408, "The request's body did not arrive in time",
        "Send the body without long pauses.";
    WorkspaceExists = "workspace-exists", 409, "The name is taken",
        "Choose another name; one that was removed is not given again.";
    WorkspaceInUse = "workspace-in-use", 409, "The workspace cannot be removed now",
        "Remove its agents first, with `skep remove`.";
    LinkTaken = "link-taken", 409, "This account of the provider is linked already",
        "Whoever has it drops the link first (`skep account unlink`).";
    LastWayIn = "last-way-in", 409, "Nobody would come in any more",
        "Link another account first; an admin removes people for good (`skep users remove`).";
    LastOwner = "last-owner", 409, "A workspace keeps an owner",
        "Make somebody else an owner first: `skep users role USER owner`.";
    CallInProgress = "call-in-progress", 409, "The call is still running",
        "Wait for it with `skep calls attach`, or ask again later.";
    CallCancelled = "call-cancelled", 409, "The call was cancelled",
        "Replay it with `skep calls replay CALL` if it is wanted after all.";
    CallState = "call-state", 409, "The call is not in a state that allows this",
        "Look at its state with `skep calls show CALL`.";
    ThreadState = "thread-state", 409, "The conversation is not in a state that allows this",
        "Look at it with `skep runs threads`; a run that is under way ends by `skep runs cancel RUN`.";
    DelegationRefused = "delegation-refused", 409, "The agent may not ask this one in that run",
        "Ask within a run of one's own, not an agent that waits for the answer; `runs.depth` says how deep it goes.";
    AgentState = "agent-state", 409, "The agent is not in a state that allows this",
        "Look at its state with `skep inspect AGENT`.";
    KeyState = "key-state", 409, "The key cannot be revoked",
        "Make another key of an owner first: `skep keys create NAME --role owner`.";
    BackupRunning = "backup-running", 409, "A backup is being made already",
        "Wait for it: `skep backup list` shows how far it is.";
    PolicyLocksOut = "policy-locks-out", 409, "Nobody could change the policies any more",
        "Let an owner do `policy:write`, or see with `skep policy explain` what keeps them from it.";
    PolicyConflict = "policy-conflict", 412, "Somebody else changed the policies",
        "Look at them with `skep policy show`, put your change into them, and set them again.";
    BodyTooLarge = "body-too-large", 413, "The body is over the limit",
        "Send less, or raise `limits.body` in skep.toml.";
    UnsupportedMediaType = "unsupported-media-type", 415, "The body is not of a type that this address reads",
        "Send JSON with `Content-Type: application/json`.";
    InvalidSpec = "invalid-spec", 422, "The specification is not valid",
        "Correct the field that the detail names and deploy again.";
    PolicyInvalid = "policy-invalid", 422, "The policies are not valid",
        "Correct what the detail names; `skep policy validate FILE` checks without a server, `skep policy schema` shows what there is.";
    IdempotencyKeyReused = "idempotency-key-reused", 422, "The idempotency key was used with another request",
        "Use a new key for a new request; send the very same request to get the stored answer.";
    RateLimited = "rate-limited", 429, "Too many requests",
        "Wait as long as `Retry-After` says.";
    QueueFull = "queue-full", 429, "The agent's queue is full",
        "Slow down and try again after the time in Retry-After, or raise `calls.queue`.";
    HeadersTooLarge = "headers-too-large", 431, "The headers are over the limit",
        "Send fewer or shorter headers.";
    Internal = "internal", 500, "Something went wrong inside Skep",
        "Look up the request id in the server's log and report it with the log lines.";
    CallDead = "call-dead", 502, "The call used up its attempts",
        "See why with `skep calls show CALL`; mend the agent and run `skep calls redrive CALL`.";
    AgentUnreachable = "agent-unreachable", 502, "The agent did not answer",
        "Look at its log with `skep logs AGENT`.";
    VaultSealed = "vault-sealed", 503, "The vault is sealed",
        "Open it with `skep vault unseal`, or give the server its seal key (SKEP_SEAL_KEY_FILE).";
    WrongSealKey = "wrong-seal-key", 403, "This does not open the vault",
        "Use a key or passphrase of a seal that `skep vault status` shows.";
    SealKeeper = "seal-keeper", 503, "The key that opens the vault is not to be had",
        "Do what the detail says; then `skep vault unseal --configured` tries again.";
    SecretNotFound = "secret-not-found", 404, "There is no such secret",
        "`skep secrets list` shows those that there are.";
    VaultNotFound = "vault-not-found", 404, "There is no such thing in the vault",
        "List leases, requests, seals or rotations to see those that there are.";
    SecretExists = "secret-exists", 409, "There is a secret of that name",
        "Give it a new version with `skep secrets put`, or choose another name.";
    SecretChanged = "secret-changed", 409, "The secret changed meanwhile",
        "Read it again and send the version that is replaced as `follows`.";
    VaultState = "vault-state", 409, "The vault is not in a state that allows this",
        "The detail says what stands in the way.";
    VaultFull = "vault-full", 409, "There are too many",
        "Remove what is not needed any more, then try again.";
    VaultDamaged = "vault-damaged", 500, "What the vault has stored does not open",
        "It was changed outside of Skep or the disk is damaged: restore a backup (`skep restore`).";
    ProviderUnavailable = "provider-unavailable", 503, "The provider does not answer as it should",
        "Try again in a while; `skep health` shows what is wrong with it.";
    SecretMounted = "secret-mounted", 409, "The secret lies in a store that is mounted",
        "Change it where it lies; `skep secrets mounts` tells where that is.";
    MountUnavailable = "mount-unavailable", 503, "The store that is mounted there does not give the secret",
        "Try again in a while, or see with `skep secrets refresh PATH` what is wrong with it.";
    ModelNotFound = "model-not-found", 404, "No provider here has this model",
        "See with `skep models list` which there are; `skep models add` adds a provider.";
    OverBudget = "over-budget", 429, "A budget has not enough left",
        "Raise it, or wait until its time is over: `skep models budgets` shows how all of them stand.";
    ProviderKey = "provider-key", 503, "The provider's key is not to be had",
        "The server's log says why: mend the secret that holds it, or open the vault.";
    ProviderUnreachable = "provider-unreachable", 502, "The provider of the model does not answer",
        "Try again in a while; the server's log says what is wrong with it.";
    McpUnreachable = "mcp-unreachable", 502, "The MCP server does not answer",
        "See with `skep mcp list` how it stands; the server's log says what is wrong with it.";
    HeldBack = "held-back", 403, "The settings of models do not let this request out",
        "See with `skep models settings` what may be asked; who administers the workspace can change it.";
    ToolBlocked = "tool-blocked", 403, "The tool waits for somebody's yes",
        "Look at it with `skep mcp tools SERVER`, and approve it with `skep mcp approve SERVER TOOL`.";
    WebDenied = "web-denied", 403, "No rule lets this request out",
        "See with `skep web list` what may be asked; `skep web allow` adds a rule.";
    WebCredential = "web-credential", 503, "The secret of a rule cannot be put in",
        "The server's log says why: mend the secret or the rule, or open the vault.";
    WebClosed = "web-closed", 503, "TLS to this host cannot be opened",
        "Open the vault with `skep vault unseal`: the workspace's CA lies in it.";
    WebUnreachable = "web-unreachable", 502, "The host does not answer as it should",
        "Look at what the detail says of it, and try again in a while.";
    WebhookNotFound = "webhook-not-found", 404, "No such webhook endpoint or message",
        "See with `skep webhooks list` which there are, and with `skep webhooks messages NAME` what they were sent.";
    WebhookState = "webhook-state", 409, "The webhook endpoint is not in a state that allows this",
        "See how it stands with `skep webhooks show NAME`; `skep webhooks update NAME --on` turns it on.";
    ProxyUnauthorized = "proxy-unauthorized", 407, "Skep's way out wants to know who asks",
        "Use the address in HTTP_PROXY, or `http://any:KEY@HOST:PORT` with an API key of Skep.";
    StoreUnavailable = "store-unavailable", 503, "The store cannot write",
        "Nothing was accepted. Check the disk with `skep doctor`, then try again.";
    DriverUnavailable = "driver-unavailable", 503, "What runs the agent is not there",
        "Do what the detail says, and see with `skep doctor` whether it is there again; agents that were deployed come back by themselves.";
    ShuttingDown = "shutting-down", 503, "The server is shutting down",
        "Try again when it is back; accepted calls go on then.";
    QuotaExceeded = "quota-exceeded", 403, "The workspace has as much as it may",
        "Remove what is not needed, or ask who administers the server for more; `skep workspaces show` says how much there is.";
    CallQuota = "call-quota", 429, "The workspace has no calls left for now",
        "Try again after the time in Retry-After, or ask who administers the server for more; `skep workspaces show` says how many there are.";
    AgentElsewhere = "agent-elsewhere", 503, "The agent's server cannot be reached now",
        "Try again: when it is gone, another server takes its agents within seconds. See `skep servers`.";
    AgentNotReady = "agent-not-ready", 503, "No instance of the agent is ready",
        "Look at `skep inspect AGENT`; a call that is journaled waits for it instead.";
    AgentStopped = "agent-stopped", 503, "The agent is stopped",
        "Start it with `skep start AGENT`, or queue the call with `Prefer: respond-async`.";
    AgentCrashLoop = "agent-crash-loop", 503, "The agent crashes again and again",
        "See why with `skep logs AGENT`, mend it, then `skep restart AGENT`.";
    CallExpired = "call-expired", 504, "The call's deadline passed",
        "Replay it with `skep calls replay CALL`, or raise `calls.deadline`.";
    AgentTimeout = "agent-timeout", 504, "The agent did not answer in time",
        "Look at its log with `skep logs AGENT`, or raise `calls.idle_timeout`.";
    ConfigInvalid = "config-invalid", 500, "The configuration is not valid",
        "Correct the key that the detail names; `skep config show --origin` says where each value comes from.";
    DataFolderInUse = "data-folder-in-use", 500, "Another server uses this data folder",
        "Stop the other server, or start this one with another --data.";
    StoreCorrupt = "store-corrupt", 500, "The database file is damaged",
        "Keep a copy of the file, then restore the newest file of <data>/backups.";
    StoreNewer = "store-newer", 500, "The database was written by a newer Skep",
        "Run the newer binary, or restore the backup that it took before it migrated.";
    RestoreIncomplete = "restore-incomplete", 500, "A restore into this data folder was cut short",
        "Run `skep backup restore` again with the same folder: it begins anew.";
    PortTaken = "port-taken", 500, "The listen address is taken",
        "Stop what listens there, or choose another with --listen.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_names_its_code_and_what_to_do() {
        for code in Code::ALL {
            let page = code.page();
            assert!(
                page.starts_with(&format!("# {}\n", code.as_str())),
                "{}",
                code.as_str()
            );
            assert!(page.contains("## What to do"), "{}", code.as_str());
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
    }
}
