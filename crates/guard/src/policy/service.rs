//! The policies of all workspaces: their versions in the store, what holds in memory.
//!
//! Each server keeps the slices of the workspaces that were asked for. A change puts the new slice in
//! before it is answered; other servers on the database see it when they look ([`Policies::refresh`]).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use skep_core::{Timestamp, Workspace};
use skep_store::{By, Db, Hash, StoreError};

use super::ask::{Ask, Circumstances, Principal, Resource};
use super::slice::Slice;
use super::text::{PolicyText, Wrong, once_valid, validate};
use super::{PolicyError, rows};

/// Workspaces whose policies are in memory.
const MOST_SLICES: usize = 1_024;
/// A version of a workspace's policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// The hash of its text.
    pub hash: Hash,
    /// Who set it: kind and id.
    pub by: (String, String),
    /// When.
    pub created_at: Timestamp,
}

/// A version with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The version.
    pub version: Version,
    /// Its policies.
    pub text: String,
}

struct Held {
    slice: Arc<Slice>,
    /// The version; 0 for none.
    number: u64,
    /// The change up to which it is known to hold.
    change: i64,
}

/// Who changes policies, and how it is seen that somebody still can.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// By whom, for the log.
    pub by: &'a By,
    /// Who.
    pub principal: &'a Principal,
    /// The version that is to be changed, when that matters.
    pub expected: Option<u64>,
    /// The owners: one of them at least must still be able to change the policies.
    pub owners: &'a [Principal],
    /// The circumstances of the change.
    pub circumstances: &'a Circumstances<'a>,
}

/// The policies of all workspaces.
pub struct Policies {
    db: Db,
    held: RwLock<HashMap<Workspace, Held>>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policies({} held)", self.held.read().len())
    }
}

/// The slice of stored policies. They were valid when they were set.
fn compile(stored: Option<&Stored>) -> Slice {
    let Some(Stored { version, text }) = stored else {
        return Slice::shipped();
    };
    let number = version.number;
    let read = validate(text).or_else(|wrong| {
        let why = wrong.first().map(ToString::to_string);
        tracing::warn!(
            number,
            why,
            "policies are not valid any more; they hold as they are"
        );
        once_valid(text)
    });
    read.map_or_else(
        |_| Slice::closed(),
        |policies| Slice::new(&policies, Some(number)),
    )
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| StoreError::Statement("reading policies panicked".to_owned()))
}

/// Refuses what would leave no owner who can change it again.
fn lets_an_owner(slice: &Slice, change: &Change<'_>) -> Result<(), PolicyError> {
    let mut kept_by = Vec::new();
    for owner in change.owners {
        let decision = slice.decide(&Ask {
            principal: owner,
            action: "policy:write",
            resource: Resource::Workspace,
            circumstances: change.circumstances,
        });
        if decision.allow {
            return Ok(());
        }
        kept_by = decision.policies.iter().map(ToString::to_string).collect();
    }
    Err(PolicyError::LocksOut(kept_by))
}

impl Policies {
    /// The policies of a store.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self {
            db,
            held: RwLock::default(),
        }
    }

    /// What holds in a workspace.
    ///
    /// # Errors
    /// The store's own, when that is not known yet.
    pub async fn slice(&self, workspace: &Workspace) -> Result<Arc<Slice>, StoreError> {
        if let Some(held) = self.held.read().get(workspace) {
            return Ok(held.slice.clone());
        }
        self.load(workspace).await
    }

    async fn load(&self, workspace: &Workspace) -> Result<Arc<Slice>, StoreError> {
        let of = workspace.clone();
        let (change, stored) = self
            .db
            .read(move |reader| -> Result<_, StoreError> {
                let change = rows::changes(reader)?;
                let mut scope = reader.scope(&of);
                let number = rows::current(&mut scope)?;
                let stored = match number {
                    0 => None,
                    number => Some(rows::stored(&mut scope, number)?.ok_or_else(|| {
                        let gone = format!("version {number} of the policies is gone");
                        StoreError::Statement(gone)
                    })?),
                };
                Ok((change, stored))
            })
            .await?;
        let number = stored.as_ref().map_or(0, |it| it.version.number);
        let slice = Arc::new(aside(move || compile(stored.as_ref())).await?);
        Ok(self.hold(workspace, slice, number, change))
    }

    /// Puts a slice in, unless there is one of a later change.
    fn hold(&self, of: &Workspace, slice: Arc<Slice>, number: u64, change: i64) -> Arc<Slice> {
        let mut held = self.held.write();
        if let Some(known) = held.get(of).filter(|known| known.change > change) {
            return known.slice.clone();
        }
        if held.len() >= MOST_SLICES && !held.contains_key(of) {
            held.clear();
        }
        let now = Held {
            slice: slice.clone(),
            number,
            change,
        };
        held.insert(of.clone(), now);
        slice
    }

    /// Takes up what other servers changed.
    ///
    /// # Errors
    /// The store's own; what is held stays then.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let change = self.db.read(rows::changes).await?;
        let behind: Vec<(Workspace, u64)> = {
            let held = self.held.read();
            let all = held.iter().filter(|(_, held)| held.change < change);
            all.map(|(of, held)| (of.clone(), held.number)).collect()
        };
        for (workspace, number) in behind {
            let of = workspace.clone();
            let current = self
                .db
                .read(move |reader| rows::current(&mut reader.scope(&of)))
                .await?;
            if current != number {
                self.load(&workspace).await?;
            } else if let Some(held) = self.held.write().get_mut(&workspace)
                && held.number == number
            {
                held.change = held.change.max(change);
            }
        }
        Ok(())
    }

    /// The version that holds; `None` when the workspace has no policies of its own.
    ///
    /// # Errors
    /// The store's own.
    pub async fn current(&self, workspace: &Workspace) -> Result<Option<Stored>, StoreError> {
        let of = workspace.clone();
        let read = move |reader: &mut skep_store::Reader<'_>| -> Result<_, StoreError> {
            let mut scope = reader.scope(&of);
            let number = rows::current(&mut scope)?;
            rows::stored(&mut scope, number)
        };
        self.db.read(read).await
    }

    /// One version.
    ///
    /// # Errors
    /// [`PolicyError::NoVersion`], and the store's own.
    pub async fn version(&self, workspace: &Workspace, number: u64) -> Result<Stored, PolicyError> {
        let of = workspace.clone();
        let read = move |reader: &mut skep_store::Reader<'_>| -> Result<_, StoreError> {
            rows::stored(&mut reader.scope(&of), number)
        };
        let found = self.db.read(read).await?;
        found.ok_or(PolicyError::NoVersion(number))
    }

    /// Versions below a number, newest first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn versions(
        &self,
        workspace: &Workspace,
        below: Option<u64>,
        most: usize,
    ) -> Result<Vec<Version>, StoreError> {
        let of = workspace.clone();
        let read = move |reader: &mut skep_store::Reader<'_>| {
            rows::versions(&mut reader.scope(&of), below, most)
        };
        self.db.read(read).await
    }

    /// Makes a text the policies of a workspace. The same text again changes nothing. Tells the version
    /// that holds.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn set(&self, change: &Change<'_>, text: String) -> Result<u64, PolicyError> {
        let workspace = change.principal.workspace.clone();
        let checked = text.clone();
        let read: Result<PolicyText, Vec<Wrong>> = aside(move || validate(&checked)).await?;
        let policies = read.map_err(PolicyError::Invalid)?;
        lets_an_owner(&Slice::new(&policies, None), change)?;
        let (by, expected, of) = (change.by.clone(), change.expected, workspace.clone());
        let who = change.principal.clone();
        let (count, number) = self
            .db
            .write(move |unit| -> Result<_, PolicyError> {
                let now = unit.now();
                let (count, current) = rows::begin(unit, &of, expected)?;
                let mut scope = unit.scope(&of);
                let known = rows::stored(&mut scope, current)?;
                if known.is_some_and(|known| known.text == text) {
                    return Ok((count, current));
                }
                let who = (who.kind.as_str(), &*who.id);
                let number = rows::add(&mut scope, &text, who, now)?;
                let hash = Hash::of(text.as_bytes());
                rows::point(&mut scope, &by, number, Some(hash), now)?;
                Ok((count, number))
            })
            .await?;
        let slice = Arc::new(Slice::new(&policies, Some(number)));
        self.hold(&workspace, slice, number, count);
        Ok(number)
    }

    /// Makes an earlier version the one that holds again; 0 stands for none at all.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn roll_back(&self, change: &Change<'_>, to: u64) -> Result<(), PolicyError> {
        let workspace = change.principal.workspace.clone();
        let stored = match to {
            0 => None,
            number => Some(self.version(&workspace, number).await?),
        };
        let hash = stored.as_ref().map(|it| it.version.hash);
        let slice = Arc::new(aside(move || compile(stored.as_ref())).await?);
        lets_an_owner(&slice, change)?;
        let (by, expected, of) = (change.by.clone(), change.expected, workspace.clone());
        let count = self
            .db
            .write(move |unit| -> Result<_, PolicyError> {
                let now = unit.now();
                let (count, _) = rows::begin(unit, &of, expected)?;
                let mut scope = unit.scope(&of);
                // It may have been taken away as the oldest since it was read.
                if to > 0 && rows::stored(&mut scope, to)?.is_none() {
                    return Err(PolicyError::NoVersion(to));
                }
                rows::point(&mut scope, &by, to, hash, now)?;
                Ok(count)
            })
            .await?;
        self.hold(&workspace, slice, to, count);
        Ok(())
    }

    /// Leaves a workspace with Skep's policies alone, whatever holds there: the way back for who has the
    /// data folder or the database, when nobody else may change the policies any more.
    ///
    /// # Errors
    /// The store's own.
    pub async fn reset(db: &Db, by: By, workspace: &Workspace) -> Result<u64, PolicyError> {
        let of = workspace.clone();
        db.write(move |unit| -> Result<_, PolicyError> {
            let now = unit.now();
            let (_, before) = rows::begin(unit, &of, None)?;
            rows::point(&mut unit.scope(&of), &by, 0, None, now)?;
            Ok(before)
        })
        .await
    }
}
