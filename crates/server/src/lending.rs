//! Secrets for agents: who deploys a specification must be allowed to use what it names; each instance is
//! then lent that, as long as no policy forbids it to its agent, until it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use skep_api::AgentSpec;
use skep_core::{Code, InstanceId, PublicError as _, RequestId, Workspace};
use skep_guard::policy::PrincipalKind;
use skep_guard::{Ask, Circumstances, Policies, Principal, Scopes};
use skep_runtime::{Lender, Lent, Named, NotLent, Place, Use};
use skep_store::{By, Db};
use skep_vault::{Vault, VaultError};
use zeroize::Zeroizing;

use crate::access::{Access, SECRET_HOLD, SECRET_USE};
use crate::act::{Act, Own};
use crate::audit::Audit;
use crate::gate::{self, Asker};
use crate::mounts::Mounts;
use crate::problem::ApiError;
use crate::state::State;
use crate::vault::{KnownSecret, known};

/// What leases of instances end with.
const INSTANCE: &str = "instance";

/// Lends agents what their specifications name.
pub(crate) struct Lending {
    db: Db,
    vault: Vault,
    mounts: Arc<Mounts>,
    policies: Arc<Policies>,
    audit: Arc<Audit>,
}

impl std::fmt::Debug for Lending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lending")
    }
}

fn access(how: Use) -> &'static Access {
    match how {
        Use::Placeholder => &SECRET_USE,
        Use::File => &SECRET_HOLD,
    }
}

fn parent(instance: InstanceId) -> String {
    format!("{INSTANCE}:{instance}")
}

/// Whether who deploys this may give an agent the secrets that it names.
pub(crate) async fn check(state: &State, asker: &Asker, spec: &AgentSpec) -> Result<(), ApiError> {
    check_all(state, asker, &skep_runtime::named(&spec.env)?).await
}

/// Whether who runs a command in an agent's box may see what it holds there.
pub(crate) async fn check_held(
    state: &State,
    asker: &Asker,
    named: &BTreeSet<Named>,
) -> Result<(), ApiError> {
    let held = named.iter().filter(|it| it.how == Use::File);
    check_all(state, asker, &held.cloned().collect()).await
}

async fn check_all(state: &State, asker: &Asker, named: &BTreeSet<Named>) -> Result<(), ApiError> {
    let workspace = &asker.principal.workspace;
    let holder = crate::vault::holder(&asker.principal);
    for Named { name, field, how } in named {
        let access = access(*how);
        let known = known(&state.vault, workspace, name, &holder).await?;
        let known = known.filter(|it| !it.secret.about.name.is_own());
        if !state.vault.is_open() {
            return Err(VaultError::Sealed.into());
        }
        let allowed = match known {
            Some(known) if gate::may_known(state, asker, access, &known).await? => {
                state.mounts.settle(workspace, known, &holder, true).await?
            }
            _ => None,
        };
        let known = match allowed {
            Some(known) => known,
            // Whether it is there is not told to who may not know.
            None => {
                let detail = format!(
                    "`env` names the secret `{name}`, which is not there, or on which you may not do `{}`: make it \
                     with `skep secrets create {name}`, or ask for it",
                    access.action
                );
                return Err(ApiError::new(Code::InvalidSpec, detail));
            }
        };
        if let Some(field) = field {
            // What lacks it now fails at each start.
            let (_, value) = state.vault.read(workspace, known.secret.id, None).await?;
            value.field(field)?;
        }
    }
    Ok(())
}

impl Lending {
    pub(crate) fn new(
        db: &Db,
        vault: &Vault,
        policies: &Arc<Policies>,
        audit: &Arc<Audit>,
        mounts: &Arc<Mounts>,
    ) -> Self {
        Self {
            db: db.clone(),
            vault: vault.clone(),
            mounts: mounts.clone(),
            policies: policies.clone(),
            audit: audit.clone(),
        }
    }

    /// Whether an agent may have what its specification names.
    async fn decide(&self, asker: &Asker, named: &Named) -> Result<(KnownSecret, Act), NotLent> {
        let Principal { id, workspace, .. } = &asker.principal;
        let (name, access) = (&named.name, access(named.how));
        let holder = crate::vault::holder(&asker.principal);
        let known = known(&self.vault, workspace, name, &holder).await;
        let mut known = known.map_err(later)?.ok_or_else(|| missing(name))?;
        if named.how == Use::Placeholder {
            // Who deployed the agent let it do that.
            known.shared.push("use".to_owned());
        }
        let of = known.secret.id.to_string();
        let act = Act::new(asker, workspace.clone(), *access, &of, RequestId::new());
        let slice = self.policies.slice(workspace).await;
        let decision = slice
            .map_err(|error| later_text(&error.detail()))?
            .decide(&Ask {
                principal: &asker.principal,
                action: access.action,
                resource: known.as_resource(&of),
                circumstances: &Circumstances::at(self.db.clock().now()),
            });
        act.decided(&decision);
        if decision.allow {
            let settled = self.mounts.settle(workspace, known, &holder, true).await;
            let settled = settled.map_err(|error| later_text(&error.public().detail()))?;
            let known = settled.ok_or_else(|| missing(name))?;
            act.is_about("Secret", &known.secret.id.to_string());
            return Ok((known, act));
        }
        act.is_refused();
        self.audit.refuse(&act).await;
        let action = access.action;
        Err(NotLent {
            reason: format!(
                "no policy lets `{id}` do `{action}` on `{name}`, or one forbids it: see `skep policy explain {action}`"
            ),
            counts: true,
        })
    }
}

fn missing(name: &str) -> NotLent {
    NotLent {
        reason: format!("there is no secret `{name}`; make it with `skep secrets create {name}`"),
        counts: true,
    }
}

/// What may go by itself.
fn later(error: VaultError) -> NotLent {
    match error {
        VaultError::Sealed => later_text("the vault is sealed; `skep vault unseal` opens it"),
        VaultError::Store(error) => later_text(&error.detail()),
        // Somebody else's leases may be in the way.
        full @ VaultError::TooMany { .. } => later_text(&full.detail()),
        other => NotLent {
            reason: other.detail(),
            counts: true,
        },
    }
}

fn later_text(reason: &str) -> NotLent {
    NotLent {
        reason: format!("a secret that it needs cannot be lent now: {reason}"),
        counts: false,
    }
}

#[async_trait]
impl Lender for Lending {
    async fn lend(
        &self,
        place: &Place,
        named: &BTreeSet<Named>,
    ) -> Result<BTreeMap<Named, Lent>, NotLent> {
        if !self.vault.is_open() {
            return Err(later(VaultError::Sealed));
        }
        let principal = Principal {
            kind: PrincipalKind::Agent,
            id: place.agent.as_str().into(),
            workspace: place.workspace.clone(),
            role: None,
            scopes: Scopes::all(),
        };
        let asker = Asker::plain(principal, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut wished = Vec::new();
        for one in named {
            let (known, act) = self.decide(&asker, one).await?;
            let by = By::new(Arc::new(act));
            wished.push((by, known.secret.id, one.field.clone()));
        }
        let (holder, parent) = (
            crate::vault::holder(&asker.principal),
            parent(place.instance),
        );
        let of = &place.workspace;
        let leases = self.vault.lend(of, (&holder, &parent), wished).await;
        let mut lent = BTreeMap::new();
        for (one, lease) in named.iter().zip(leases.map_err(later)?) {
            let given = match one.how {
                Use::Placeholder => Lent::Placeholder(lease.id.to_string()),
                Use::File => {
                    let value = self.vault.redeem(of, lease.id, &holder).await;
                    let value = value.map_err(later)?;
                    Lent::Value(Zeroizing::new(value.bytes().to_vec()))
                }
            };
            lent.insert(one.clone(), given);
        }
        Ok(lent)
    }

    async fn take_back(&self, place: &Place) {
        let by = By::new(Arc::new(Own(self.db.server())));
        let parent = parent(place.instance);
        let revoked = self.vault.revoke_below(&by, &place.workspace, &parent);
        if let Err(error) = revoked.await {
            // It is found when leases are swept.
            let (instance, error) = (place.instance, error.detail());
            tracing::warn!(%instance, error, "leases of an instance that ended are left");
        }
    }
}

/// Ends leases of instances that ended while nobody could take them back.
pub(crate) async fn sweep(state: &State, by: &By, workspace: &Workspace) -> Result<(), String> {
    if !state.peers.leads() {
        return Ok(());
    }
    // First what is lent: who begins after that has its row already.
    let failed = |error: VaultError| error.detail();
    let lent = state.vault.lent_to(workspace, INSTANCE).await;
    let lent = lent.map_err(failed)?;
    if lent.is_empty() {
        return Ok(());
    }
    let living = state.runtime.living(workspace).await;
    let living = living.map_err(|error| error.detail())?;
    for parent in lent {
        let instance = parent.split_once(':').and_then(|(_, id)| id.parse().ok());
        if instance.is_some_and(|instance| !living.contains(&instance)) {
            let revoked = state.vault.revoke_below(by, workspace, &parent).await;
            revoked.map_err(failed)?;
        }
    }
    Ok(())
}
