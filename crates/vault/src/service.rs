//! The vault as a service: open or sealed, and by which ways it opens.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use skep_core::{Clock, Timestamp, Workspace};
use skep_crypto::Key;
use skep_store::{By, Change, Db, Row, ServerScope, StoreError, Unit};

use crate::VaultError;
use crate::keeper::KeeperError;
use crate::keyring::{Context, Keyring};
use crate::seal::{MOST_SEALS, Opening, Params, Seal, SealKind};

/// Characters of a seal's name.
const MOST_NAME: usize = 80;

/// The vault. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    pub(crate) db: Db,
    keyring: Arc<RwLock<Option<Arc<Keyring>>>>,
    /// How often this server changed something.
    pub(crate) changes: Arc<AtomicU64>,
}

/// How the vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it can be read and written.
    pub open: bool,
    /// The ways in.
    pub seals: Vec<Seal>,
    /// The version of the root key that counts.
    pub root: Option<i64>,
}

/// A way in with what it opens.
struct Stored {
    seal: Seal,
    params: Params,
    wrapped: Vec<u8>,
}

impl Vault {
    /// The vault of a store. It is sealed.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self {
            db,
            keyring: Arc::default(),
            changes: Arc::default(),
        }
    }

    pub(crate) fn keyring(&self) -> Result<Arc<Keyring>, VaultError> {
        self.keyring.read().clone().ok_or(VaultError::Sealed)
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.db.clock()
    }

    /// Whether it can be read and written.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.keyring.read().is_some()
    }

    /// Whether anybody has set it up: whether there is a way in.
    ///
    /// # Errors
    /// The store's own.
    pub async fn is_set_up(&self) -> Result<bool, VaultError> {
        Ok(!self.stored().await?.is_empty())
    }

    /// How it is.
    ///
    /// # Errors
    /// The store's own.
    pub async fn status(&self) -> Result<Status, VaultError> {
        let seals = self.stored().await?;
        let root: Result<_, StoreError> = self
            .db
            .read(|reader| {
                let sql = "SELECT version FROM vault_roots WHERE state = 'current'";
                let rows = reader.server().query(sql, &[])?;
                rows.first().map(|row| row.int(0)).transpose()
            })
            .await;
        Ok(Status {
            open: self.is_open(),
            seals: seals.into_iter().map(|stored| stored.seal).collect(),
            root: root?,
        })
    }

    async fn stored(&self) -> Result<Vec<Stored>, VaultError> {
        self.db
            .read(|reader| {
                let sql =
                    "SELECT id, kind, name, params, wrapped, made_at FROM vault_seals ORDER BY id";
                let rows = reader.server().query(sql, &[])?;
                rows.iter().map(read_seal).collect()
            })
            .await
    }

    /// Sets the vault up with its first way in, unless somebody has: then it is opened with it.
    ///
    /// # Errors
    /// [`VaultError::WrongOpening`] when there are other ways in only.
    pub async fn set_up(&self, by: &By, opening: Opening, name: &str) -> Result<(), VaultError> {
        check_name(name)?;
        if self.is_set_up().await? {
            return self.unseal(opening).await;
        }
        let unlock = Key::random()?;
        let root = Key::random()?;
        let wrapped_root = unlock.wrap(&Context::root(1).0, &root)?;
        let seal = wrap(&opening, 1, &unlock).await?;
        let (by, name) = (by.clone(), name.to_owned());
        let made: Result<bool, VaultError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut server = unit.server();
                server.in_turn()?;
                let there = server.query("SELECT id FROM vault_seals", &[])?;
                if !there.is_empty() {
                    return Ok(false);
                }
                insert_seal(&mut server, 1, &name, &seal, now)?;
                server.execute(
                    "INSERT INTO vault_roots (version, state, wrapped, made_at) \
                     VALUES (1, 'current', ?1, ?2)",
                    &[wrapped_root.as_slice().into(), now.into()],
                )?;
                let what = format!("set up; seal 1 ({}) made: {name}", seal.kind);
                tell(&by, unit, "vault:seals", &what)?;
                Ok(true)
            })
            .await;
        // Another server was faster: what it made opens it, or nothing does.
        if !made? {
            return self.unseal(opening).await;
        }
        *self.keyring.write() = Some(Arc::new(Keyring::new(unlock)?));
        Ok(())
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`VaultError::WrongOpening`].
    pub async fn unseal(&self, opening: Opening) -> Result<(), VaultError> {
        let unlock = self.unlock(opening).await?;
        let mut keyring = self.keyring.write();
        if keyring.is_none() {
            *keyring = Some(Arc::new(Keyring::new(unlock)?));
        }
        Ok(())
    }

    /// The unlock key, by the first way in that this opens.
    async fn unlock(&self, opening: Opening) -> Result<Key, VaultError> {
        let mut failed = VaultError::WrongOpening;
        for stored in self.stored().await? {
            if !stored.params.fits(&opening) {
                continue;
            }
            let id = stored.seal.id;
            let key = match stored.params.key(&opening, id).await {
                Ok(key) => key,
                // Another way in may be of the same keeper, and whole.
                Err(error @ VaultError::Keeper(KeeperError::Wrong(_))) => {
                    failed = error;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match key.unwrap(&Context::unlock(id).0, &stored.wrapped) {
                Ok(key) => return Ok(key),
                Err(_) => {
                    failed = match stored.seal.kept_by {
                        Some(key) => KeeperError::Wrong(key).into(),
                        None => failed,
                    };
                }
            }
        }
        Err(failed)
    }

    /// Seals it: the keys are wiped from this server's memory as soon as nobody uses them.
    ///
    /// # Errors
    /// The store's own; then it is sealed nevertheless.
    pub async fn seal(&self, by: &By) -> Result<(), VaultError> {
        *self.keyring.write() = None;
        let by = by.clone();
        self.db
            .write(move |unit| tell(&by, unit, "vault:seal", "sealed"))
            .await
    }

    /// Adds a way in.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::TooMany`].
    pub async fn add_seal(
        &self,
        by: &By,
        opening: Opening,
        name: &str,
    ) -> Result<Seal, VaultError> {
        check_name(name)?;
        let keyring = self.keyring()?;
        let seals = self.stored().await?;
        if seals.len() >= MOST_SEALS {
            return Err(VaultError::TooMany {
                what: "seals",
                most: MOST_SEALS,
            });
        }
        let id = seals.iter().map(|stored| stored.seal.id).max().unwrap_or(0) + 1;
        let seal = wrap(&opening, id, &keyring.unlock).await?;
        let made = Seal {
            id,
            kind: seal.kind,
            name: name.to_owned(),
            kept_by: seal.kept_by.clone(),
            made_at: self.clock().now(),
        };
        let (by, stored) = (by.clone(), made.clone());
        let written: Result<(), VaultError> = self
            .db
            .write(move |unit| {
                let mut server = unit.server();
                insert_seal(&mut server, id, &stored.name, &seal, stored.made_at)?;
                let what = format!("seal {id} ({}) made: {}", seal.kind, stored.name);
                tell(&by, unit, "vault:seals", &what)
            })
            .await;
        written?;
        Ok(made)
    }

    /// Takes a way in away.
    ///
    /// # Errors
    /// [`VaultError::NoSeal`], [`VaultError::LastSeal`].
    pub async fn remove_seal(&self, by: &By, id: i64) -> Result<(), VaultError> {
        self.keyring()?;
        let by = by.clone();
        self.db
            .write(move |unit| {
                let mut server = unit.server();
                server.in_turn()?;
                let rows = server.query("SELECT id FROM vault_seals", &[])?;
                let ids: Result<Vec<i64>, _> = rows.iter().map(|row| row.int(0)).collect();
                let ids = ids?;
                if !ids.contains(&id) {
                    return Err(VaultError::NoSeal(id));
                }
                if ids.len() == 1 {
                    return Err(VaultError::LastSeal);
                }
                // What is removed can lie in the file for long: it is written over first.
                server.execute(
                    "UPDATE vault_seals SET wrapped = ?2 WHERE id = ?1",
                    &[id.into(), (&[0; crate::keyring::WRAPPED]).into()],
                )?;
                server.execute("DELETE FROM vault_seals WHERE id = ?1", &[id.into()])?;
                tell(&by, unit, "vault:seals", &format!("seal {id} removed"))
            })
            .await
    }

    /// Forgets the keys of a workspace that is being removed: nothing of it can be read from then on.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_workspace(&self, workspace: &Workspace) -> Result<(), VaultError> {
        let of = workspace.clone();
        let forgotten = self
            .db
            .write(move |unit| {
                let mut server = unit.server();
                server.in_turn()?;
                server.execute(
                    "UPDATE vault_workspace_keys SET wrapped = ?2 WHERE of_workspace = ?1",
                    &[of.as_str().into(), (&[0; crate::keyring::WRAPPED]).into()],
                )?;
                for sql in [
                    "DELETE FROM vault_workspace_keys WHERE of_workspace = ?1",
                    "DELETE FROM vault_keys WHERE of_workspace = ?1",
                    "DELETE FROM vault_rotations WHERE of_workspace = ?1",
                ] {
                    server.execute(sql, &[of.as_str().into()])?;
                }
                Ok(())
            })
            .await;
        self.changed();
        forgotten
    }
}

/// A way in as it is about to be stored.
struct Wrapped {
    kind: SealKind,
    kept_by: Option<String>,
    params: String,
    wrapped: Vec<u8>,
}

async fn wrap(opening: &Opening, id: i64, unlock: &Key) -> Result<Wrapped, VaultError> {
    let (params, key) = Params::new(opening, id).await?;
    let wrapped = key.wrap(&Context::unlock(id).0, unlock)?;
    let kept_by = params.kept_by().map(str::to_owned);
    let params =
        serde_json::to_string(&params).map_err(|error| VaultError::Corrupt(error.to_string()))?;
    Ok(Wrapped {
        kind: opening.kind(),
        kept_by,
        params,
        wrapped,
    })
}

/// What takes too long for a task.
pub(crate) async fn slow<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(VaultError::Corrupt(error.to_string())),
    }
}

fn check_name(name: &str) -> Result<(), VaultError> {
    let count = name.trim().chars().count();
    if count == 0 || count > MOST_NAME || name.chars().any(char::is_control) {
        let reason = format!("write 1 to {MOST_NAME} characters");
        return Err(VaultError::invalid("name", reason));
    }
    Ok(())
}

fn insert_seal(
    server: &mut ServerScope<'_>,
    id: i64,
    name: &str,
    seal: &Wrapped,
    now: Timestamp,
) -> Result<(), StoreError> {
    server
        .execute(
            "INSERT INTO vault_seals (id, kind, name, params, wrapped, made_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                id.into(),
                seal.kind.as_str().into(),
                name.into(),
                (&seal.params).into(),
                seal.wrapped.as_slice().into(),
                now.into(),
            ],
        )
        .map(drop)
}

fn read_seal(row: &Row) -> Result<Stored, VaultError> {
    let kind = row.text(1)?.parse().map_err(VaultError::Corrupt)?;
    let params: Params = serde_json::from_str(row.text(3)?)
        .map_err(|_| VaultError::Corrupt("the parameters of a seal".to_owned()))?;
    Ok(Stored {
        seal: Seal {
            id: row.int(0)?,
            kind,
            name: row.text(2)?.to_owned(),
            kept_by: params.kept_by().map(str::to_owned),
            made_at: row.time(5)?,
        },
        params,
        wrapped: row.blob(4)?.to_vec(),
    })
}

/// What was done to the vault itself; that is told in the workspace `default`.
pub(crate) fn tell(
    by: &By,
    unit: &mut Unit<'_>,
    action: &str,
    what: &str,
) -> Result<(), VaultError> {
    tell_in(&Workspace::default(), by, unit, action, what)
}

/// What was done to the keys of a workspace, told there.
pub(crate) fn tell_in(
    workspace: &Workspace,
    by: &By,
    unit: &mut Unit<'_>,
    action: &str,
    what: &str,
) -> Result<(), VaultError> {
    let now = unit.now();
    let change = Change {
        action: Some(action),
        resource: ("Server", "vault"),
        what,
        hash: None,
    };
    Ok(by.did(&mut unit.scope(workspace), &change, now)?)
}
