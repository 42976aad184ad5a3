//! How much a workspace may have: what the configuration says for all, and what who administers the server says for
//! one. It is counted where it is made; here is only how much it may be.
//!
//! What the store holds is read into memory; what another server changed is seen within a second, as keys are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use skep_core::{Workspace, Workspaces};
use skep_store::{By, Change, Db, Migration, MigrationSet, Row, StoreError};

/// The tables of quotas.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "guard-quotas",
    migrations: &[Migration {
        name: "0001-quotas",
        sql: "
            CREATE TABLE quotas (
                workspace TEXT NOT NULL,
                what TEXT NOT NULL,
                most BIGINT,
                PRIMARY KEY (workspace, what)
            );
        ",
    }],
    workspace_tables: &["quotas"],
};

/// What a workspace has so and so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Agents.
    Agents,
    /// Instances of all agents, each at its most, on each server.
    Instances,
    /// Calls that wait, on each server.
    CallsWaiting,
    /// Calls that are accepted on one day (UTC).
    CallsPerDay,
    /// API keys that count.
    Keys,
    /// People, and open invitations.
    Users,
    /// Bytes that ended calls hold.
    StoredBytes,
}

impl What {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Agents,
        Self::Instances,
        Self::CallsWaiting,
        Self::CallsPerDay,
        Self::Keys,
        Self::Users,
        Self::StoredBytes,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Instances => "instances",
            Self::CallsWaiting => "calls-waiting",
            Self::CallsPerDay => "calls-per-day",
            Self::Keys => "keys",
            Self::Users => "users",
            Self::StoredBytes => "stored-bytes",
        }
    }
}

/// How much of each; without a number as much as fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota([Option<u64>; What::ALL.len()]);

impl Quota {
    /// How much of this.
    #[must_use]
    pub const fn of(&self, what: What) -> Option<u64> {
        self.0[what as usize]
    }

    /// So much of this, from now on.
    pub const fn set(&mut self, what: What, most: Option<u64>) {
        self.0[what as usize] = most;
    }
}

/// What is said of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// What holds for all.
    Default,
    /// As much as fits, whatever holds for all.
    NoLimit,
    /// So much.
    Most(u64),
}

/// What is said of one workspace, where it is not what holds for all.
type Own = HashMap<What, Option<u64>>;

/// The quotas of all workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Quotas(Arc<Inner>);

struct Inner {
    db: Db,
    workspaces: Workspaces,
    /// What holds where nothing else is said.
    all: Quota,
    own: RwLock<HashMap<Workspace, Own>>,
}

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quotas")
            .field("all", &self.0.all)
            .finish_non_exhaustive()
    }
}

impl Quotas {
    /// Those of the store, over these for all.
    ///
    /// # Errors
    /// The store's own.
    pub async fn open(db: Db, workspaces: Workspaces, all: Quota) -> Result<Self, StoreError> {
        let own = RwLock::default();
        let quotas = Self(Arc::new(Inner {
            db,
            workspaces,
            all,
            own,
        }));
        quotas.read().await?;
        Ok(quotas)
    }

    /// Reads what the store holds.
    ///
    /// # Errors
    /// The store's own.
    pub async fn read(&self) -> Result<(), StoreError> {
        let all = self.0.workspaces.all();
        let own = self.0.db.read(move |reader| {
            let mut own = HashMap::new();
            for workspace in all.iter() {
                let rows = reader
                    .scope(workspace)
                    .query("SELECT what, most FROM quotas WHERE workspace = ?1", &[])?;
                let said: Result<Own, StoreError> = rows.iter().map(said).collect();
                let said = said?;
                if !said.is_empty() {
                    own.insert(workspace.clone(), said);
                }
            }
            Ok::<_, StoreError>(own)
        });
        *self.0.own.write() = own.await?;
        Ok(())
    }

    /// How much a workspace may have.
    #[must_use]
    pub fn of(&self, workspace: &Workspace) -> Quota {
        let mut quota = self.0.all;
        if let Some(own) = self.0.own.read().get(workspace) {
            own.iter().for_each(|(what, most)| quota.set(*what, *most));
        }
        quota
    }

    /// Whether something else is said for this workspace than for all.
    #[must_use]
    pub fn is_own(&self, workspace: &Workspace, what: What) -> bool {
        let own = self.0.own.read();
        own.get(workspace)
            .is_some_and(|own| own.contains_key(&what))
    }

    /// Says how much a workspace may have. What it has more stays, and no more comes.
    ///
    /// # Errors
    /// The store's own.
    pub async fn set(
        &self,
        by: &By,
        workspace: &Workspace,
        said: &[(What, Said)],
    ) -> Result<(), StoreError> {
        let (by, of, said) = (by.clone(), workspace.clone(), said.to_vec());
        let written: Result<(), StoreError> = self
            .0
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                let mut words = Vec::new();
                for (what, said) in said {
                    let name = what.as_str();
                    scope.execute(
                        "DELETE FROM quotas WHERE workspace = ?1 AND what = ?2",
                        &[name.into()],
                    )?;
                    let most = match said {
                        Said::Default => {
                            words.push(format!("{name} as for all"));
                            continue;
                        }
                        Said::NoLimit => {
                            words.push(format!("{name} without a limit"));
                            None
                        }
                        Said::Most(most) => {
                            words.push(format!("{name} {most}"));
                            Some(i64::try_from(most).unwrap_or(i64::MAX))
                        }
                    };
                    scope.execute(
                        "INSERT INTO quotas (workspace, what, most) VALUES (?1, ?2, ?3)",
                        &[name.into(), most.into()],
                    )?;
                }
                let change = Change {
                    action: None,
                    resource: ("Workspace", of.as_str()),
                    what: &format!("quota: {}", words.join(", ")),
                    hash: None,
                };
                by.did(&mut scope, &change, now)
            })
            .await;
        written?;
        self.read().await
    }
}

fn said(row: &Row) -> Result<(What, Option<u64>), StoreError> {
    let word = row.text(0)?;
    let what = What::ALL.into_iter().find(|it| it.as_str() == word);
    let what = what.ok_or_else(|| StoreError::Statement(format!("`{word}` has no quota")))?;
    let most = row.opt_int(1)?;
    Ok((what, most.map(|most| u64::try_from(most).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use skep_store::Options;
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn what_is_said_for_one_holds_over_what_holds_for_all() {
        let folder = TempDir::new().unwrap();
        let db = Db::open(Options::new(folder.path()), &[MIGRATIONS]).unwrap();
        let all = Workspaces::default();
        let red = Workspace::new("red").unwrap();
        all.set(vec![Workspace::default(), red.clone()]);
        let mut default = Quota::default();
        default.set(What::Agents, Some(3));
        let open = || Quotas::open(db.clone(), all.clone(), default);
        let (quotas, other) = (open().await.unwrap(), open().await.unwrap());
        assert_eq!(quotas.of(&red), default);
        let by = By::nobody();
        let set = async |said: &[(What, Said)]| quotas.set(&by, &red, said).await.unwrap();
        set(&[
            (What::Agents, Said::Most(7)),
            (What::Keys, Said::Most(u64::MAX)),
        ])
        .await;
        assert_eq!(quotas.of(&red).of(What::Agents), Some(7));
        assert_eq!(quotas.of(&red).of(What::Keys), Some(i64::MAX as u64));
        assert_eq!(quotas.of(&Workspace::default()), default);
        assert!(quotas.is_own(&red, What::Keys) && !quotas.is_own(&red, What::Users));
        // Another server sees it when it looks, and so does the next start.
        assert_eq!(other.of(&red).of(What::Agents), Some(3));
        other.read().await.unwrap();
        assert_eq!(other.of(&red), quotas.of(&red));
        set(&[(What::Agents, Said::NoLimit)]).await;
        assert_eq!(quotas.of(&red).of(What::Agents), None);
        assert_eq!(open().await.unwrap().of(&red).of(What::Agents), None);
        set(&[(What::Agents, Said::Default), (What::Keys, Said::Default)]).await;
        assert_eq!(quotas.of(&red), default);
    }
}
