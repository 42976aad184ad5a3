//! One thing that somebody does, as the audit log tells it.

use std::sync::atomic::{AtomicBool, Ordering};

use skep_audit::{Change as Changed, Entry, Thing};
use skep_core::{RequestId, ServerId, Timestamp, Workspace};
use skep_store::{Cause, Change};

use crate::access::Access;

/// Somebody who shows a key, by its name.
pub(crate) fn by_key(name: &str) -> Thing<'static> {
    Thing::new("ApiKey", name.to_owned())
}

/// What a request does.
#[derive(Debug)]
pub(crate) struct Act {
    principal: Thing<'static>,
    workspace: Workspace,
    access: Access,
    resource: Thing<'static>,
    request: RequestId,
    /// Whether an entry tells of it.
    told: AtomicBool,
}

impl Act {
    pub(crate) fn new(
        principal: Thing<'static>,
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
        Self {
            principal,
            workspace,
            access,
            resource: Thing::new(access.kind, id),
            request,
            told: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// What makes two acts the very same.
    pub(crate) fn sort(&self) -> (Thing<'static>, Workspace, &'static str, Thing<'static>) {
        let Self {
            principal,
            workspace,
            access,
            resource,
            ..
        } = self;
        (
            principal.clone(),
            workspace.clone(),
            access.action,
            resource.clone(),
        )
    }

    /// The entry of what has no transaction of its own, or came to nothing.
    pub(crate) fn alone(&self, outcome: &str, now: Timestamp) -> Entry<'static> {
        let mut entry = Entry::new(
            now,
            self.principal.clone(),
            self.access.action,
            self.resource.clone(),
        );
        entry.workspace = Some(self.workspace.to_string().into());
        entry.request = Some(self.request.to_string().into());
        entry.outcome = Some(outcome.to_owned().into());
        self.told.store(true, Ordering::Release);
        entry
    }
}

impl Cause for Act {
    fn entry(&self, workspace: &Workspace, change: &Change<'_>, now: Timestamp) -> Vec<u8> {
        self.told.store(true, Ordering::Release);
        let (kind, id) = change.resource;
        let principal = self.principal.clone();
        let mut entry = Entry::new(now, principal, self.access.action, Thing::new(kind, id));
        let request = self.request.to_string();
        entry.request = Some(request.into());
        told(entry, workspace, change)
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
    fn entry(&self, workspace: &Workspace, change: &Change<'_>, now: Timestamp) -> Vec<u8> {
        let (kind, id) = change.resource;
        let principal = Thing::new("Server", self.0.to_string());
        let action = change.action.unwrap_or("server:change");
        let entry = Entry::new(now, principal, action, Thing::new(kind, id));
        told(entry, workspace, change)
    }
}
