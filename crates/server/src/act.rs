//! One thing that somebody does, as the audit log tells it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use skep_audit::{
    Change as Changed, Commitment, Decision, Entry, Kind, Thing, Whose, commit_person,
};
use skep_core::{RequestId, ServerId, Timestamp, Workspace};
use skep_guard::policy::PrincipalKind;
use skep_store::{Cause, Change, Scope, StoreError, Unit};

use crate::access::{Access, Told};
use crate::gate::Asker;

/// What makes two acts the very same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sort {
    principal: Thing<'static>,
    workspace: Workspace,
    action: &'static str,
    resource: Thing<'static>,
    policies: Vec<Arc<str>>,
    from: Option<Whence>,
}

/// Where something came from that is written down with it: only a commitment to it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Whence {
    address: IpAddr,
    /// The person whose address it is, where they are known.
    user: Option<String>,
}

impl Whence {
    pub(crate) fn commit(
        &self,
        scope: &mut Scope<'_>,
        now: Timestamp,
    ) -> Result<Commitment<'static>, StoreError> {
        let whose = self.user.as_deref().map_or(Whose::Somebody, Whose::User);
        let address = self.address.to_string();
        commit_person(scope, whose, Kind::Address, &address, now)
    }
}

/// An entry that is to be written, with what is known of it only in its unit.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) entry: Entry<'static>,
    workspace: Workspace,
    from: Option<Whence>,
}

impl Draft {
    /// Leaves it with a unit.
    pub(crate) fn record(&self, unit: &mut Unit<'_>) -> Result<(), StoreError> {
        let now = unit.now();
        let mut entry = self.entry.clone();
        if let Some(from) = &self.from {
            let commitment = from.commit(&mut unit.scope(&self.workspace), now)?;
            entry.personal.push(commitment);
        }
        unit.record(entry.to_bytes())
    }
}

/// What a request does.
#[derive(Debug)]
pub(crate) struct Act {
    principal: Thing<'static>,
    whence: Whence,
    workspace: Workspace,
    access: Access,
    resource: Mutex<Thing<'static>>,
    request: RequestId,
    /// What was decided, and by which policies.
    decided: Mutex<(Decision, Vec<Arc<str>>)>,
    /// What for, in the words of who asks, where that has to be said.
    purpose: Mutex<Option<String>>,
    /// Whether an entry tells of it.
    told: AtomicBool,
}

impl Act {
    pub(crate) fn new(
        asker: &Asker,
        workspace: Workspace,
        access: Access,
        resource: &str,
        request: RequestId,
    ) -> Self {
        let id = match access.kind {
            "Workspace" => workspace.to_string(),
            "Server" => String::new(),
            _ => resource.to_owned(),
        };
        let is_user = asker.principal.kind == PrincipalKind::User;
        Self {
            principal: asker.thing(),
            whence: Whence {
                address: asker.remote.to_canonical(),
                user: (is_user && !asker.principal.id.is_empty())
                    .then(|| asker.principal.id.to_string()),
            },
            workspace,
            access,
            resource: Mutex::new(Thing::new(access.kind, id)),
            request,
            decided: Mutex::new((Decision::Allow, Vec::new())),
            purpose: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// It was said what for.
    pub(crate) fn is_for(&self, purpose: &str) {
        *self.purpose.lock() = Some(purpose.to_owned());
    }

    pub(crate) const fn action(&self) -> &'static str {
        self.access.action
    }

    /// What it is done to, as people read it.
    pub(crate) fn what(&self) -> String {
        let Thing { kind, id } = &*self.resource.lock();
        match id.is_empty() {
            true => kind.to_string(),
            false => format!("{kind} `{id}`"),
        }
    }

    /// It is about this, as it turns out.
    pub(crate) fn is_about(&self, kind: &'static str, id: &str) {
        *self.resource.lock() = Thing::new(kind, id.to_owned());
    }

    /// Takes in what the policies said.
    pub(crate) fn decided(&self, decision: &skep_guard::Decision) {
        let said = match decision.allow {
            true => Decision::Allow,
            false => Decision::Deny,
        };
        *self.decided.lock() = (said, decision.policies.clone());
    }

    /// Nobody asked the policies: who it is was not found out.
    pub(crate) fn is_refused(&self) {
        *self.decided.lock() = (Decision::Deny, Vec::new());
    }

    /// An entry tells of it, or will soon.
    pub(crate) fn is_noted(&self) {
        self.told.store(true, Ordering::Release);
    }

    /// Writes into an entry what was decided.
    fn decide(&self, entry: &mut Entry<'_>) {
        let (decision, policies) = self.decided.lock().clone();
        entry.decision = decision;
        entry.policies = policies.iter().map(|it| it.to_string().into()).collect();
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Where it came from, when that is written down: of what is refused, and of changes that people
    /// make. Calls and changes by keys are told without.
    fn from(&self) -> Option<Whence> {
        let refused = self.decided.lock().0 == Decision::Deny;
        let by_somebody = self.whence.user.is_some() && self.access.told != Told::Soon;
        (refused || by_somebody).then(|| self.whence.clone())
    }

    /// What makes two acts the very same.
    pub(crate) fn sort(&self) -> Sort {
        let Self {
            principal,
            workspace,
            access,
            ..
        } = self;
        // It looks at what was decided too.
        let from = self.from();
        Sort {
            principal: principal.clone(),
            workspace: workspace.clone(),
            action: access.action,
            resource: self.resource.lock().clone(),
            policies: self.decided.lock().1.clone(),
            from,
        }
    }

    /// The bytes of the entry of an exchange with who is outside: how it went, with what, and which it was.
    pub(crate) fn exchanged(
        &self,
        outcome: &str,
        (resource, exchange): (Thing<'_>, &str),
        now: Timestamp,
    ) -> Vec<u8> {
        let request = self.request.to_string();
        let decided = self.decided.lock();
        let purpose = self.purpose.lock();
        let principal = Thing::new(&*self.principal.kind, &*self.principal.id);
        let mut entry = Entry::new(now, principal, self.access.action, resource);
        entry.decision = decided.0;
        entry.policies = decided.1.iter().map(|it| (&**it).into()).collect();
        entry.workspace = Some(self.workspace.as_str().into());
        entry.request = Some((&*request).into());
        entry.outcome = Some(outcome.into());
        entry.reason = purpose.as_deref().map(Into::into);
        entry.change = Some(Changed {
            what: exchange.into(),
            hash: None,
        });
        self.is_noted();
        entry.to_bytes()
    }

    /// The entry of what has no transaction of its own, or came to nothing.
    pub(crate) fn alone(&self, outcome: &str, now: Timestamp) -> Draft {
        let mut entry = Entry::new(
            now,
            self.principal.clone(),
            self.access.action,
            self.resource.lock().clone(),
        );
        self.decide(&mut entry);
        entry.workspace = Some(self.workspace.to_string().into());
        entry.request = Some(self.request.to_string().into());
        entry.outcome = Some(outcome.to_owned().into());
        entry.reason = self.purpose.lock().clone().map(Into::into);
        self.told.store(true, Ordering::Release);
        Draft {
            entry,
            workspace: self.workspace.clone(),
            from: self.from(),
        }
    }
}

impl Cause for Act {
    fn entry(
        &self,
        scope: &mut Scope<'_>,
        change: &Change<'_>,
        now: Timestamp,
    ) -> Result<Vec<u8>, StoreError> {
        self.told.store(true, Ordering::Release);
        let (kind, id) = change.resource;
        let principal = self.principal.clone();
        let mut entry = Entry::new(now, principal, self.access.action, Thing::new(kind, id));
        let request = self.request.to_string();
        self.decide(&mut entry);
        entry.request = Some(request.into());
        if let Some(from) = self.from() {
            entry.personal.push(from.commit(scope, now)?);
        }
        Ok(told(entry, scope.workspace(), change))
    }
}

fn told<'a>(mut entry: Entry<'a>, workspace: &'a Workspace, change: &Change<'a>) -> Vec<u8> {
    entry.workspace = Some(workspace.as_str().into());
    entry.change = Some(Changed {
        what: change.what.into(),
        hash: change.hash.map(|hash| hash.to_string().into()),
    });
    entry.to_bytes()
}

/// The server itself, which ends calls and goes back to earlier revisions.
#[derive(Debug)]
pub(crate) struct Own(pub(crate) ServerId);

impl Cause for Own {
    fn entry(
        &self,
        scope: &mut Scope<'_>,
        change: &Change<'_>,
        now: Timestamp,
    ) -> Result<Vec<u8>, StoreError> {
        let (kind, id) = change.resource;
        let principal = Thing::new("Server", self.0.to_string());
        let action = change.action.unwrap_or("server:change");
        let entry = Entry::new(now, principal, action, Thing::new(kind, id));
        Ok(told(entry, scope.workspace(), change))
    }
}
