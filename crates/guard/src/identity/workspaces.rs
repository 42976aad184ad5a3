//! The list of workspaces. `default` is always there and in no table; a name is never given twice, so what
//! is remembered of a workspace that was removed can be mixed up with nothing.

use skep_core::{KeyId, Timestamp, UserId, Workspace, Workspaces};
use skep_store::{By, Change, Db, StoreError, Unit};

use super::{IdentityError, users};
use crate::keys::{self, Key};
use crate::policy::Role;

/// Workspaces that may be.
const MOST: usize = 1_000;

/// What is known of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: Workspace,
    /// When it was made; nobody made `default`.
    pub created_at: Option<Timestamp>,
    /// Who made it.
    pub created_by: String,
}

/// Who owns a workspace that is new.
#[derive(Debug)]
pub enum FirstOwner {
    /// Who made it.
    User(UserId),
    /// A key, with the hash that it is known by.
    Key(Box<Key>, [u8; 32]),
}

impl FirstOwner {
    /// A new key and its text.
    ///
    /// # Errors
    /// [`IdentityError::System`].
    pub fn new_key(
        workspace: &Workspace,
        creator: &str,
        now: Timestamp,
    ) -> Result<(Self, String), IdentityError> {
        let text = keys::new_text().map_err(|_| skep_crypto::CryptoError::System)?;
        let key = Key {
            id: KeyId::new(),
            workspace: workspace.clone(),
            name: "owner".to_owned(),
            role: Role::Owner,
            scopes: crate::Scopes::all(),
            created_at: now,
            created_by: creator.to_owned(),
            expires_at: None,
            used_at: None,
            rate: None,
        };
        let hash = keys::hash(&text);
        Ok((Self::Key(Box::new(key), hash), text))
    }
}

/// The list of workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Tenants {
    db: Db,
    all: Workspaces,
}

impl Tenants {
    /// Those that the store holds.
    ///
    /// # Errors
    /// The store's own.
    pub async fn open(db: Db) -> Result<Self, StoreError> {
        let all = Workspaces::default();
        let tenants = Self { db, all };
        tenants.refresh().await?;
        Ok(tenants)
    }

    /// The list that stays the same one and is kept up to date.
    #[must_use]
    pub fn all(&self) -> &Workspaces {
        &self.all
    }

    /// All of them with what is known of them; `default` first, then by name.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(&self) -> Result<Vec<Tenant>, StoreError> {
        self.db
            .read(|reader| {
                let rows = reader.server().query(
                    "SELECT name, created_at, created_by FROM workspaces \
                     WHERE removed_at IS NULL ORDER BY name",
                    &[],
                )?;
                let own = Tenant {
                    name: Workspace::default(),
                    created_at: None,
                    created_by: "server".to_owned(),
                };
                let others = rows.iter().map(|row| {
                    Ok(Tenant {
                        name: named(row.text(0)?)?,
                        created_at: Some(row.time(1)?),
                        created_by: row.text(2)?.to_owned(),
                    })
                });
                std::iter::once(Ok(own)).chain(others).collect()
            })
            .await
    }

    /// Reads what the store holds. Tells whether it is another list.
    ///
    /// # Errors
    /// The store's own.
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        let now: Vec<Workspace> = self.list().await?.into_iter().map(|it| it.name).collect();
        let differs = *self.all.all() != *now;
        if differs {
            self.all.set(now);
        }
        Ok(differs)
    }

    /// Makes a workspace with its first owner.
    ///
    /// # Errors
    /// [`IdentityError::WorkspaceExists`], [`IdentityError::Invalid`].
    pub async fn create(
        &self,
        by: &By,
        name: &Workspace,
        creator: &str,
        owner: FirstOwner,
    ) -> Result<Tenant, IdentityError> {
        if self.all.all().len() >= MOST {
            let reason = format!("there are {MOST} workspaces, which is the most");
            return Err(IdentityError::invalid("name", reason));
        }
        let (by, name, creator) = (by.clone(), name.clone(), creator.to_owned());
        let tenant = Tenant {
            name: name.clone(),
            created_at: Some(self.db.clock().now()),
            created_by: creator.clone(),
        };
        let written: Result<(), IdentityError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut server = unit.server();
                let made = server.execute(
                    "INSERT INTO workspaces (name, created_at, created_by) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (name) DO NOTHING",
                    &[name.as_str().into(), now.into(), (&creator).into()],
                )?;
                if made == 0 || name == Workspace::default() {
                    return Err(IdentityError::WorkspaceExists(name.to_string()));
                }
                let what = own(unit, &name, &owner, now)?;
                tell(&by, unit, &name, &format!("made; {what} owns it"), now)
            })
            .await;
        written?;
        self.refresh().await?;
        Ok(tenant)
    }

    /// Removes a workspace: nobody reaches it from now on. Its rows go with [`Tenants::purge`].
    ///
    /// # Errors
    /// [`IdentityError::NoWorkspace`], [`IdentityError::WorkspaceInUse`].
    pub async fn remove(&self, by: &By, name: &Workspace) -> Result<(), IdentityError> {
        if *name == Workspace::default() {
            let why = "`default` always stays: the server is administered from there";
            return Err(IdentityError::WorkspaceInUse(why.to_owned()));
        }
        let (by, of) = (by.clone(), name.clone());
        let written: Result<(), IdentityError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                let removed = unit.server().execute(
                    "UPDATE workspaces SET removed_at = ?2 WHERE name = ?1 AND removed_at IS NULL",
                    &[of.as_str().into(), now.into()],
                )?;
                if removed == 0 {
                    return Err(IdentityError::NoWorkspace(of.to_string()));
                }
                tell(&by, unit, &of, "removed", now)
            })
            .await;
        written?;
        self.refresh().await?;
        Ok(())
    }

    /// Takes away what is left of removed workspaces. Tells which.
    ///
    /// # Errors
    /// The store's own; what was begun goes on with the next call.
    pub async fn purge(&self) -> Result<Vec<Workspace>, StoreError> {
        let rows: Result<Vec<Workspace>, StoreError> = self
            .db
            .read(|reader| {
                let rows = reader.server().query(
                    "SELECT name FROM workspaces \
                     WHERE removed_at IS NOT NULL AND purged_at IS NULL",
                    &[],
                )?;
                rows.iter().map(|row| named(row.text(0)?)).collect()
            })
            .await;
        let gone = rows?;
        for name in &gone {
            self.db.forget_workspace(name).await?;
            let of = name.clone();
            let marked: Result<usize, StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    unit.server().execute(
                        "UPDATE workspaces SET purged_at = ?2 WHERE name = ?1",
                        &[of.as_str().into(), now.into()],
                    )
                })
                .await;
            marked?;
        }
        Ok(gone)
    }
}

fn named(text: &str) -> Result<Workspace, StoreError> {
    Workspace::new(text).map_err(|error| StoreError::Statement(error.to_string()))
}

fn own(
    unit: &mut Unit<'_>,
    name: &Workspace,
    owner: &FirstOwner,
    now: Timestamp,
) -> Result<String, StoreError> {
    let mut scope = unit.scope(name);
    match owner {
        FirstOwner::User(id) => {
            users::join(&mut scope, *id, Role::Owner, now)?;
            Ok(id.to_string())
        }
        FirstOwner::Key(key, hash) => {
            keys::insert(&mut scope, key, hash)?;
            Ok(key.id.to_string())
        }
    }
}

fn tell(
    by: &By,
    unit: &mut Unit<'_>,
    name: &Workspace,
    what: &str,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let change = Change {
        action: None,
        resource: ("Workspace", name.as_str()),
        what,
        hash: None,
    };
    Ok(by.did(&mut unit.scope(name), &change, now)?)
}
