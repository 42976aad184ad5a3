//! Asks the policies before anything is done, and says no.

use std::net::IpAddr;
use std::sync::Arc;

use skep_audit::Thing;
use skep_core::{Code, PublicError, RequestId, Workspace};
use skep_guard::identity::Known;
use skep_guard::policy::{Agent, Secret};
use skep_guard::tokens::Token;
use skep_guard::{Ask, Circumstances, Policies, PolicyError, Principal, Resource};
use skep_store::{By, Db};

use crate::access::{Access, CALL};
use crate::act::{Act, Own};
use crate::problem::ApiError;
use crate::rates::Counted;
use crate::state::State;
use crate::vault::KnownSecret;

/// In the place of the id of a secret that is not there.
const NOWHERE: &str = "unknown";

/// Who asks, and from where: put into each request by the dispatcher.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) principal: Principal,
    pub(crate) remote: IpAddr,
    /// The session that they show, if it is one.
    pub(crate) session: Option<Arc<Known>>,
    /// The agent's token that they show, if it is one.
    pub(crate) token: Option<Arc<Token>>,
    /// How the request stands with the rates that it was counted for.
    pub(crate) counted: Counted,
}

impl Asker {
    /// Who shows nothing else that matters.
    pub(crate) fn plain(principal: Principal, remote: IpAddr) -> Self {
        Self {
            principal,
            remote,
            session: None,
            token: None,
            counted: Counted::default(),
        }
    }
}

impl Asker {
    /// How the audit log names them.
    pub(crate) fn thing(&self) -> Thing<'static> {
        Thing::new(self.principal.kind.as_str(), self.principal.id.to_string())
    }

    /// The circumstances of a request of theirs.
    pub(crate) fn circumstances<'a>(
        &self,
        state: &State,
        method: &'a str,
        path: &'a str,
    ) -> Circumstances<'a> {
        Circumstances {
            address: Some(self.remote),
            method: Some(method),
            path: Some(path),
            ..Circumstances::at(state.db.clock().now())
        }
    }
}

/// The answer to who may not.
#[derive(Debug)]
pub(crate) struct Denied {
    action: &'static str,
    what: String,
    /// What decided; only for who may read the policies.
    by: Option<Vec<Arc<str>>>,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { action, what, by } = self;
        write!(f, "`{action}` on {what} is not allowed")?;
        match by.as_deref() {
            None => Ok(()),
            Some([]) => f.write_str(": no policy allows it"),
            Some(some) => write!(f, ": {} says so", some.join(", ")),
        }
    }
}

impl std::error::Error for Denied {}

impl PublicError for Denied {
    fn code(&self) -> Code {
        Code::Forbidden
    }

    fn detail(&self) -> String {
        self.to_string()
    }

    fn hint(&self) -> String {
        let action = self.action;
        format!(
            "Use a key that may, or see why with `skep policy explain {action}` and mend the policies."
        )
    }
}

/// What an agent is, as far as this server knows.
fn with_agent<T>(
    state: &State,
    workspace: &Workspace,
    name: &str,
    then: impl FnOnce(Agent<'_>) -> T,
) -> T {
    match state.runtime.target(workspace, name) {
        None => then(Agent::named(name)),
        Some(target) => {
            let spec = target.spec();
            then(Agent {
                name,
                driver: Some(&spec.driver),
                labels: Some(&spec.labels),
            })
        }
    }
}

/// What a request is about, as its path says it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Workspace,
    Server,
    Agent(&'a str),
    Call(&'a str),
    /// By the name or the id that somebody wrote.
    Secret(&'a str),
    /// As `provider/model`.
    Model(&'a str),
    /// As `server/tool`, and its class.
    Tool(&'a str, &'a str),
    /// As `host:port`.
    Host(&'a str),
}

/// Asks whether somebody may do what they are about to do. What they may not is written down. Tells which secret it
/// was about: what was decided on is what is acted on.
///
/// # Errors
/// [`Denied`], and the store's own: without an answer nothing is done.
pub(crate) async fn ask(
    state: &State,
    act: &Act,
    asker: &Asker,
    about: About<'_>,
    circumstances: &Circumstances<'_>,
) -> Result<Option<KnownSecret>, ApiError> {
    let workspace = &asker.principal.workspace;
    let holder = crate::vault::holder(&asker.principal);
    count(state, act, asker, about)?;
    let whose = match about {
        About::Call(id) => whose(state, workspace, act.action(), id).await?,
        _ => None,
    };
    let secret = match about {
        About::Secret(text) => {
            let known = crate::vault::known(&state.vault, workspace, text, &holder).await?;
            // Names stay out of the log.
            let here = known.as_ref().filter(|it| it.is_here());
            let id = here.map(|it| it.secret.id.to_string());
            act.is_about("Secret", id.as_deref().unwrap_or(NOWHERE));
            known
        }
        _ => None,
    };
    let slice = state.policies.slice(workspace).await?;
    let decide = |resource: Resource<'_>| {
        slice.decide(&Ask {
            principal: &asker.principal,
            action: act.action(),
            resource,
            circumstances,
        })
    };
    let decision = match about {
        About::Workspace => decide(Resource::Workspace),
        About::Secret(_) => match &secret {
            None => decide(Resource::Secret(Secret::unknown(NOWHERE))),
            Some(known) => {
                touched(state, act, asker, known);
                let id = known.secret.id.to_string();
                decide(known.as_resource(&id))
            }
        },
        About::Server => decide(Resource::Server),
        About::Model(name) => decide(Resource::Model(name)),
        About::Tool(name, class) => decide(Resource::Tool { name, class }),
        About::Host(name) => decide(Resource::Host(name)),
        About::Agent(name) => with_agent(state, workspace, name, |agent| {
            decide(Resource::Agent(agent))
        }),
        About::Call(id) => match &whose {
            None => decide(Resource::Call { id, agent: None }),
            Some(name) => with_agent(state, workspace, name, |agent| {
                let agent = Some(agent);
                decide(Resource::Call { id, agent })
            }),
        },
    };
    conclude(state, act, asker, &decision, circumstances).await?;
    let Some(secret) = secret else {
        return Ok(None);
    };
    let of_value = USES.contains(&act.action());
    let settled = state
        .mounts
        .settle(workspace, secret, &holder, of_value)
        .await?;
    if let Some(known) = &settled {
        act.is_about("Secret", &known.secret.id.to_string());
    }
    Ok(settled)
}

/// Counts what is about to be done, for rates.
fn count(state: &State, act: &Act, asker: &Asker, about: About<'_>) -> Result<(), ApiError> {
    let agent = match about {
        About::Agent(name) if act.action() == CALL.action => Some(name),
        _ => None,
    };
    let (counted, who) = (&asker.counted, &asker.principal);
    state.rates.act(counted, who, act.action(), agent)
}

/// What a value is needed for as it is now.
const USES: [&str; 3] = ["secret:reveal", "secret:use", "secret:hold"];

/// Tells of who wants something of a secret that nobody has a reason to touch.
fn touched(state: &State, act: &Act, asker: &Asker, known: &KnownSecret) {
    const OF_VALUE: [&str; 9] = [
        "secret:reveal",
        "secret:use",
        "secret:write",
        "secret:ask",
        "secret:update",
        "secret:share",
        "secret:delete",
        "secret:destroy",
        "secret:remove",
    ];
    if known.secret.about.canary && OF_VALUE.contains(&act.action()) {
        let id = known.secret.id.to_string();
        state.threats.touched(&asker.principal, asker.remote, &id);
    }
}

/// Whether somebody may do something to one of several secrets of an order. A no is written down.
///
/// # Errors
/// The store's own.
pub(crate) async fn may_known(
    state: &State,
    asker: &Asker,
    access: &Access,
    known: &KnownSecret,
) -> Result<bool, ApiError> {
    let id = known.secret.id.to_string();
    let workspace = asker.principal.workspace.clone();
    let act = Act::new(asker, workspace, *access, &id, RequestId::new());
    touched(state, &act, asker, known);
    if may(state, asker, access.action, known.as_resource(&id)).await? {
        return Ok(true);
    }
    act.is_refused();
    state.audit.refuse(&act).await;
    state.threats.denied(&asker.principal, asker.remote);
    Ok(false)
}

/// Whether somebody may do something besides what they ordered. A no is not written down.
///
/// # Errors
/// The store's own.
pub(crate) async fn may(
    state: &State,
    asker: &Asker,
    action: &str,
    resource: Resource<'_>,
) -> Result<bool, ApiError> {
    may_under(
        state,
        asker,
        (action, resource),
        &asker.circumstances(state, "", ""),
    )
    .await
}

/// As [`may`], under the circumstances of a request.
///
/// # Errors
/// The store's own.
pub(crate) async fn may_under(
    state: &State,
    asker: &Asker,
    (action, resource): (&str, Resource<'_>),
    circumstances: &Circumstances<'_>,
) -> Result<bool, ApiError> {
    let slice = state.policies.slice(&asker.principal.workspace).await?;
    let decision = slice.decide(&Ask {
        principal: &asker.principal,
        action,
        resource,
        circumstances,
    });
    Ok(decision.allow)
}

/// Whose call it is, when the workspace's policies may want to know.
async fn whose(
    state: &State,
    workspace: &Workspace,
    action: &str,
    id: &str,
) -> Result<Option<String>, ApiError> {
    let slice = state.policies.slice(workspace).await?;
    let Some(id) = id.parse().ok().filter(|_| slice.has_own(action)) else {
        return Ok(None);
    };
    match state.ingress.show(workspace, id).await {
        Ok(call) => Ok(Some(call.agent)),
        Err(error) if error.code() == Code::CallNotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn conclude(
    state: &State,
    act: &Act,
    asker: &Asker,
    decision: &skep_guard::Decision,
    circumstances: &Circumstances<'_>,
) -> Result<(), ApiError> {
    for error in &decision.errors {
        tracing::warn!(
            action = act.action(),
            error,
            "a policy could not be evaluated"
        );
    }
    act.decided(decision);
    if decision.allow {
        return Ok(());
    }
    state.audit.refuse(act).await;
    state.threats.denied(&asker.principal, asker.remote);
    let slice = state.policies.slice(&asker.principal.workspace).await?;
    let reads = slice.decide(&Ask {
        principal: &asker.principal,
        action: "policy:read",
        resource: Resource::Workspace,
        circumstances,
    });
    Err(ApiError::Denied(Denied {
        action: act.action(),
        // Whether there is a secret of that name is not told to who may not know.
        what: match act.what() {
            what if what.starts_with("Secret") => "the secret".to_owned(),
            what => what,
        },
        by: reads.allow.then(|| decision.policies.clone()),
    }))
}

/// Leaves a workspace of a store that no server has with Skep's own policies alone. Tells which version
/// held.
///
/// # Errors
/// [`PolicyError`].
pub async fn reset_policies(db: &Db, workspace: &Workspace) -> Result<u64, PolicyError> {
    let by = By::new(Arc::new(Own(db.server())));
    Policies::reset(db, by, workspace).await
}

/// What a request may do once it is known which agent it is about: only its body says it. There is no
/// other way to the [`By`] of such a change.
#[derive(Clone)]
pub(crate) struct Unasked {
    pub(crate) act: Arc<Act>,
    pub(crate) asker: Asker,
    pub(crate) method: String,
    pub(crate) path: String,
}

impl Unasked {
    /// Asks about an agent as it is to be.
    pub(crate) async fn about(self, state: &State, agent: Agent<'_>) -> Result<By, ApiError> {
        let Self {
            act,
            asker,
            method,
            path,
        } = self;
        let circumstances = asker.circumstances(state, &method, &path);
        act.is_about("Agent", agent.name);
        let slice = state.policies.slice(&asker.principal.workspace).await?;
        let decision = slice.decide(&Ask {
            principal: &asker.principal,
            action: act.action(),
            resource: Resource::Agent(agent),
            circumstances: &circumstances,
        });
        conclude(state, &act, &asker, &decision, &circumstances).await?;
        Ok(By::new(act))
    }
}
