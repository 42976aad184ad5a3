//! Mounts: other stores whose secrets are seen below a path. What is read there is kept as a version that counts for
//! a time, so that all that is done with secrets is done with these, too: policies, leases, shares, references.
//!
//! There is no I/O to other stores here: who asks them tells what they said by [`Vault::follow`].

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_core::{MountId, SecretId, Timestamp, Workspace};
use skep_crypto::Key;
use skep_store::{By, Change, Row};

use crate::VaultError;
use crate::keyring::Live;
use crate::name::{Query, SecretName, TOKEN, Tags};
use crate::room::Room;
use crate::row::check;
use crate::secret::{About, NewSecret, Secret, State};
use crate::secrets::Which;
use crate::service::Vault;
use crate::value::SecretValue;

/// The tag of secrets that lie elsewhere; its value is the path of the mount.
pub const TAG: &str = "mount";
/// The table, for its rows' MACs.
const MOUNTS: &str = "secret_mounts";
const SEALED: &[u8] = b"skep vault mount";
/// Mounts of a workspace.
const MOST_MOUNTS: usize = 32;
/// Characters of an address.
const MOST_ADDRESS: usize = 500;
/// For how long a store need not be asked again, at the most.
pub const LONGEST_CACHE: Duration = Duration::from_secs(24 * 3600);
/// For how long a value counts at least when its store cannot be asked: what was read is used a moment later.
pub const SHORTEST_STALE: Duration = Duration::from_secs(10);
/// And at the most.
pub const LONGEST_STALE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Secrets that are forgotten in one unit.
const FORGET: usize = 200;

/// A store that is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMount {
    /// Below which path its secrets are.
    pub path: SecretName,
    /// Where it is, as `vault:secret/app`.
    pub address: String,
    /// The secret with what opens it.
    pub with: SecretId,
    /// For how long it is not asked again; up to a day.
    pub cache: Duration,
    /// For how long after that a value counts when it cannot be asked; 10 seconds to a week.
    pub stale: Duration,
}

impl NewMount {
    /// Whether it can be kept.
    ///
    /// # Errors
    /// [`VaultError::Invalid`].
    pub fn check(&self) -> Result<(), VaultError> {
        let odd = self.address.chars().any(|c| c.is_control() || c == ' ');
        if self.address.is_empty() || self.address.chars().count() > MOST_ADDRESS || odd {
            let reason = format!("1 to {MOST_ADDRESS} characters, such as vault:secret/app");
            return Err(VaultError::invalid("address", reason));
        }
        if self.cache > LONGEST_CACHE {
            return Err(VaultError::invalid("cache", "0s to 24h"));
        }
        if !(SHORTEST_STALE..=LONGEST_STALE).contains(&self.stale) {
            return Err(VaultError::invalid("stale", "10s to 7d"));
        }
        Ok(())
    }
}

/// A store that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: MountId,
    /// What it is.
    pub of: NewMount,
    /// Since when.
    pub made_at: Timestamp,
    /// Who mounted it.
    pub made_by: String,
}

impl Mount {
    /// What a secret is called in the store, when it is below this mount.
    #[must_use]
    pub fn below<'a>(&self, name: &'a SecretName) -> Option<&'a str> {
        let rest = name.as_str().strip_prefix(self.of.path.as_str())?;
        rest.strip_prefix('/').filter(|rest| !rest.is_empty())
    }

    /// The secret of that name as it is known before anybody has asked for it: it has no version.
    #[must_use]
    pub fn unseen(&self, name: SecretName) -> Secret {
        Secret {
            id: SecretId::from_bytes([0; 16]),
            about: self.about(name),
            latest: 0,
            made_at: self.made_at,
            changed_at: self.made_at,
            rotate_at: None,
        }
    }

    fn about(&self, name: SecretName) -> About {
        let mut about = About::named(name);
        // Older values are history of the other store.
        about.keep = 1;
        about.tags = Tags::from([(TAG.to_owned(), self.of.path.to_string())]);
        about
    }
}

/// What is known of a secret that somebody means.
#[derive(Debug, Clone)]
pub struct Known {
    /// It, when it is here.
    pub secret: Option<Secret>,
    /// What who asks was let do with it.
    pub may: Vec<crate::May>,
    /// The mount that it is below.
    pub mount: Option<Mount>,
}

/// [`NewMount`] as it is encrypted.
#[derive(Serialize, Deserialize)]
struct Stored {
    path: String,
    address: String,
    with: String,
    cache: u64,
    stale: u64,
}

impl Room<'_> {
    fn mount_key(&self) -> Result<Key, VaultError> {
        Ok(self.index.rows.derive("skep vault mounts")?)
    }

    fn read_mount(&self, row: &Row) -> Result<Mount, VaultError> {
        check(&self.index.rows, MOUNTS, self.scope.workspace(), row, 4)?;
        let bytes = self.mount_key()?.open(SEALED, row.blob(1)?)?;
        let wrong = |what: &str| VaultError::Corrupt(format!("a mount: {what}"));
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| wrong("its form"))?;
        Ok(Mount {
            id: MountId::from_bytes(row.bytes(0)?),
            of: NewMount {
                path: SecretName::kept(&stored.path)?,
                address: stored.address,
                with: stored.with.parse().map_err(|_| wrong("an id"))?,
                cache: Duration::from_secs(stored.cache),
                stale: Duration::from_secs(stored.stale),
            },
            made_at: row.time(2)?,
            made_by: row.text(3)?.to_owned(),
        })
    }

    pub(crate) fn mounts(&mut self) -> Result<Vec<Mount>, VaultError> {
        let rows = self.scope.query(
            "SELECT id, sealed, made_at, made_by, mac FROM secret_mounts WHERE workspace = ?1 ORDER BY id",
            &[],
        )?;
        rows.iter().map(|row| self.read_mount(row)).collect()
    }

    /// The mount that a name is below.
    pub(crate) fn mount_of(&mut self, name: &SecretName) -> Result<Option<Mount>, VaultError> {
        let mounts = self.mounts()?;
        Ok(mounts.into_iter().find(|it| it.below(name).is_some()))
    }

    /// Refuses what would change a secret that lies elsewhere, or put one in its way.
    pub(crate) fn not_mounted(&mut self, name: &SecretName) -> Result<(), VaultError> {
        match self.mount_of(name)? {
            Some(mount) => Err(VaultError::Mounted(mount.of.path.to_string())),
            None => Ok(()),
        }
    }

    /// Some of the secrets below a path.
    fn below(&mut self, mount: &Mount, most: usize) -> Result<Vec<SecretId>, VaultError> {
        let query = Query::of_name(&mount.of.path);
        let wanted: Vec<[u8; TOKEN]> = query.tokens(&self.index.tokens).into_iter().collect();
        let (mut found, mut after) = (Vec::new(), [0; 16]);
        loop {
            let (ids, next) = self.ids(&wanted, after, most.min(FORGET))?;
            for id in ids {
                let secret = self.find(&Which::Id(id))?;
                if secret.is_some_and(|it| mount.below(&it.about.name).is_some()) {
                    found.push(id);
                }
            }
            match next {
                Some(next) if found.len() < most => after = *next.as_bytes(),
                _ => return Ok(found),
            }
        }
    }

    fn tell_mount(&mut self, by: &By, id: MountId, what: &str) -> Result<(), VaultError> {
        let id = id.to_string();
        let change = Change {
            action: Some("secret:mount"),
            resource: ("SecretMount", &id),
            what,
            hash: None,
        };
        Ok(by.did(&mut self.scope, &change, self.now)?)
    }

    /// Keeps what a store said of one of its secrets. Tells whether there is it.
    fn follow(
        &mut self,
        (live, by): (&Live, &By),
        mount: &Mount,
        name: &SecretName,
        (value, asked): (Option<&SecretValue>, Timestamp),
    ) -> Result<bool, VaultError> {
        if mount.below(name).is_none() {
            return Err(VaultError::Mounted(mount.of.path.to_string()));
        }
        let there = self.find(&Which::Name(name.clone()))?;
        // Another server asked later, and was faster.
        if there.as_ref().is_some_and(|it| it.changed_at > asked) {
            return Ok(true);
        }
        let counts = mount.of.cache + mount.of.stale;
        let from = format!("mount:{}", mount.id);
        let Some(value) = value else {
            if let Some(secret) = there {
                let mut version = self.version(secret.id, secret.latest)?;
                if version.state == State::Live {
                    version.state = State::Deleted;
                    self.write_version(secret.id, &version)?;
                    self.tell(by, "secret:delete", secret.id, "it is gone where it lies")?;
                }
            }
            return Ok(false);
        };
        let Some(mut secret) = there else {
            let new = NewSecret {
                about: mount.about(name.clone()),
                value: value.clone(),
                ttl: Some(counts),
            };
            let made = self.create((live, by), &from, &new)?;
            self.tell(by, "secret:create", made.id, "version 1, by its mount")?;
            return Ok(true);
        };
        let mut version = self.version(secret.id, secret.latest)?;
        let old = match version.state {
            State::Destroyed => None,
            State::Live | State::Deleted => {
                self.keyring
                    .read(&mut self.scope, secret.id, version.number)?
            }
        };
        if old.is_some_and(|old| skep_crypto::same(&old, value.bytes())) {
            version.state = State::Live;
            version.expires_at = Some(self.now.plus(counts));
            self.write_version(secret.id, &version)?;
            return Ok(true);
        }
        self.append((live, by), &mut secret, (&from, value, Some(counts)))?;
        let what = format!("version {}, by its mount", secret.latest);
        self.tell(by, "secret:write", secret.id, &what)?;
        Ok(true)
    }
}

impl Vault {
    /// The secret that is meant, what somebody was let do with it, and the mount that it is below: what a decision is
    /// made of.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn known(
        &self,
        workspace: &Workspace,
        which: &Which,
        holder: &str,
    ) -> Result<Option<Known>, VaultError> {
        let (which, holder) = (which.clone(), holder.to_owned());
        let known = self.look(workspace, move |room| {
            let secret = room.find(&which)?;
            let name = match (&secret, &which) {
                (Some(secret), _) => secret.about.name.clone(),
                (None, Which::Name(name)) => name.clone(),
                (None, Which::Id(_)) => return Ok(None),
            };
            let may = match &secret {
                Some(secret) => room.own_shares(secret.id, &holder)?,
                None => Vec::new(),
            };
            let mount = room.mount_of(&name)?;
            Ok(Some(Known { secret, may, mount }))
        });
        Ok(known.await?.flatten())
    }

    /// Mounts a store below a path where no secret is yet.
    ///
    /// # Errors
    /// [`VaultError::Exists`] when there is something below the path; [`VaultError::Mounted`] when it is in, or above,
    /// the path of another mount; [`VaultError::Invalid`], [`VaultError::TooMany`].
    pub async fn mount(
        &self,
        by: &By,
        workspace: &Workspace,
        who: &str,
        new: NewMount,
    ) -> Result<Mount, VaultError> {
        new.check()?;
        let (by, who) = (by.clone(), who.to_owned());
        self.change(workspace, move |room, _| {
            let mounts = room.mounts()?;
            if mounts.len() >= MOST_MOUNTS {
                return Err(VaultError::TooMany {
                    what: "mounts",
                    most: MOST_MOUNTS,
                });
            }
            let mount = Mount {
                id: MountId::new(),
                of: new,
                made_at: room.now,
                made_by: who,
            };
            let path = &mount.of.path;
            let near = |it: &&Mount| {
                it.of.path == *path
                    || it.below(path).is_some()
                    || mount.below(&it.of.path).is_some()
            };
            if let Some(near) = mounts.iter().find(near) {
                return Err(VaultError::Mounted(near.of.path.to_string()));
            }
            if let Some(id) = room.below(&mount, 1)?.first() {
                let there = room.get(&Which::Id(*id))?;
                return Err(VaultError::Exists(there.about.name.to_string()));
            }
            let with = room.get(&Which::Id(mount.of.with))?;
            room.not_mounted(&with.about.name)?;
            let stored = Stored {
                path: path.to_string(),
                address: mount.of.address.clone(),
                with: mount.of.with.to_string(),
                cache: mount.of.cache.as_secs(),
                stale: mount.of.stale.as_secs(),
            };
            let stored = serde_json::to_vec(&stored);
            let stored = stored.map_err(|error| VaultError::Corrupt(error.to_string()))?;
            let sealed = room.mount_key()?.seal(SEALED, &stored)?;
            let columns = [
                mount.id.as_bytes().into(),
                sealed.as_slice().into(),
                mount.made_at.into(),
                (&mount.made_by).into(),
            ];
            room.write_row(
                MOUNTS,
                "INSERT INTO secret_mounts (workspace, id, sealed, made_at, made_by, mac) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                &columns,
            )?;
            room.tell_mount(&by, mount.id, &format!("mounted with {}", mount.of.with))?;
            Ok(mount)
        })
        .await
    }

    /// The mounts of a workspace, oldest first.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn mounts(&self, workspace: &Workspace) -> Result<Vec<Mount>, VaultError> {
        let mounts = self.look(workspace, |room| room.mounts()).await?;
        Ok(mounts.unwrap_or_default())
    }

    /// Takes a mount away, and what was read there, with its leases and shares. Nothing is done in the store itself.
    ///
    /// # Errors
    /// [`VaultError::NoMount`].
    pub async fn unmount(
        &self,
        by: &By,
        workspace: &Workspace,
        id: MountId,
    ) -> Result<usize, VaultError> {
        let mut forgotten = 0;
        loop {
            let by = by.clone();
            let done = self.change(workspace, move |room, _| {
                let mount = room.mounts()?.into_iter().find(|it| it.id == id);
                let mount = mount.ok_or(VaultError::NoMount(id))?;
                let some = room.below(&mount, FORGET)?;
                for secret in &some {
                    room.remove(&by, *secret)?;
                }
                if some.len() < FORGET {
                    room.scope.execute(
                        "DELETE FROM secret_mounts WHERE workspace = ?1 AND id = ?2",
                        &[id.as_bytes().into()],
                    )?;
                    room.tell_mount(&by, id, "unmounted")?;
                }
                Ok(some.len())
            });
            let done = done.await?;
            forgotten += done;
            if done < FORGET {
                return Ok(forgotten);
            }
        }
    }

    /// Keeps what the store of a mount said of some of its secrets, or of all of them: their values, or that they are not
    /// there. `asked` is when that was. Tells how many are.
    ///
    /// # Errors
    /// [`VaultError::NoMount`] when it was taken away meanwhile.
    pub async fn follow(
        &self,
        by: &By,
        workspace: &Workspace,
        mount: MountId,
        (mut said, all): (Vec<(SecretName, Option<SecretValue>)>, bool),
        asked: Timestamp,
    ) -> Result<usize, VaultError> {
        if all {
            // The writer is not held while all are looked through.
            let there = self.look(workspace, move |room| {
                let there = room.mounts()?.into_iter().find(|it| it.id == mount);
                let mount = there.ok_or(VaultError::NoMount(mount))?;
                let ids = room.below(&mount, usize::MAX)?;
                let names = ids.into_iter();
                let names = names.map(|id| Ok(room.get(&Which::Id(id))?.about.name));
                names.collect::<Result<Vec<SecretName>, VaultError>>()
            });
            let named: BTreeSet<SecretName> = said.iter().map(|(name, _)| name.clone()).collect();
            let gone = there.await?.unwrap_or_default().into_iter();
            said.extend(gone.filter(|it| !named.contains(it)).map(|it| (it, None)));
        }
        let mut count = 0;
        while !said.is_empty() {
            let some = said.split_off(said.len().saturating_sub(FORGET));
            let by = by.clone();
            let kept = self.change(workspace, move |room, live| {
                let there = room.mounts()?.into_iter().find(|it| it.id == mount);
                let mount = there.ok_or(VaultError::NoMount(mount))?;
                let mut count = 0;
                for (name, value) in &some {
                    let said = (value.as_ref(), asked);
                    count += usize::from(room.follow((live, &by), &mount, name, said)?);
                }
                Ok(count)
            });
            count += kept.await?;
        }
        Ok(count)
    }
}
