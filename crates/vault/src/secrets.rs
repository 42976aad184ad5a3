//! Keeping secrets: making, finding, reading, changing and forgetting them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_core::{SecretId, Timestamp, Workspace};
use skep_store::{By, Unit};

use crate::VaultError;
use crate::keyring::Live;
use crate::name::{Query, SecretName, TOKEN};
use crate::room::{Room, SWEEP};
use crate::secret::{About, NewSecret, Secret, State, Version, check_ttl};
use crate::service::Vault;
use crate::share::check_reason;
use crate::value::SecretValue;

/// Secrets of a page.
pub(crate) const MOST_PAGE: usize = 200;
/// Secrets that change in one unit.
pub(crate) const MOST_BULK: usize = 1_000;

/// When a secret was due, and which one.
pub type Due = (Timestamp, SecretId);

/// Which secret is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Id(SecretId),
    /// The one with this name.
    Name(SecretName),
}

impl Which {
    /// By what somebody wrote: an id or a name. What is neither is a secret that does not exist.
    ///
    /// # Errors
    /// [`VaultError::NotFound`].
    pub fn new(text: &str) -> Result<Self, VaultError> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Name).map_err(|_| {
            let shown = text.chars().take(64).filter(|c| !c.is_control());
            VaultError::NotFound(shown.collect())
        })
    }

    /// That there is none.
    #[must_use]
    pub fn missing(&self) -> VaultError {
        VaultError::NotFound(match self {
            Self::Id(id) => id.to_string(),
            Self::Name(name) => name.to_string(),
        })
    }
}

/// Some secrets of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// They.
    pub items: Vec<Secret>,
    /// After which the next page begins; none when this is the last.
    pub next: Option<SecretId>,
}

/// How many change together.
#[derive(Debug, Clone, Default)]
pub struct Bulk {
    /// Only tell what would be done.
    pub dry: bool,
    /// The secrets that are there and may be written.
    pub writable: BTreeSet<SecretId>,
    /// Those whose values who orders it may see: what has its value already stays as it is.
    pub visible: BTreeSet<SecretId>,
}

/// What a bulk change makes of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It has a new version.
    Updated,
    /// It has this value already.
    Unchanged,
}

impl Vault {
    /// Changes something in a workspace's room, in one unit, with the keys that values are written under.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        workspace: &Workspace,
        work: impl FnOnce(&mut Room<'_>, &Live) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let (keyring, of) = (self.keyring()?, workspace.clone());
        let changed = self
            .db
            .write(move |unit: &mut Unit<'_>| {
                let live = keyring.live(unit, &of)?;
                let now = unit.now();
                let mut scope = unit.scope(&of);
                let index = keyring.index(&mut scope)?;
                let index =
                    index.ok_or_else(|| VaultError::Corrupt("no key of tokens".to_owned()))?;
                let mut room = Room {
                    scope,
                    keyring,
                    index,
                    now,
                };
                work(&mut room, &live)
            })
            .await;
        self.changed();
        changed
    }

    /// As [`Vault::change`], where no value is written: its keys are not looked for. There is no room before a
    /// workspace's first secret.
    pub(crate) async fn touch<T: Send + 'static>(
        &self,
        workspace: &Workspace,
        work: impl FnOnce(&mut Room<'_>) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<Option<T>, VaultError> {
        let (keyring, of) = (self.keyring()?, workspace.clone());
        let changed = self
            .db
            .write(move |unit: &mut Unit<'_>| {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                let Some(index) = keyring.index(&mut scope)? else {
                    return Ok(None);
                };
                let mut room = Room {
                    scope,
                    keyring,
                    index,
                    now,
                };
                work(&mut room).map(Some)
            })
            .await;
        self.changed();
        changed
    }

    /// Looks at something in a workspace's room. There is none before its first secret.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        workspace: &Workspace,
        work: impl FnOnce(&mut Room<'_>) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<Option<T>, VaultError> {
        let (keyring, of) = (self.keyring()?, workspace.clone());
        let now = self.clock().now();
        self.db
            .read(move |reader| {
                let mut scope = reader.scope(&of);
                let Some(index) = keyring.index(&mut scope)? else {
                    return Ok(None);
                };
                let mut room = Room {
                    scope,
                    keyring,
                    index,
                    now,
                };
                work(&mut room).map(Some)
            })
            .await
    }

    /// Makes a secret.
    ///
    /// # Errors
    /// [`VaultError::Exists`], [`VaultError::Invalid`], [`VaultError::Sealed`].
    pub async fn create(
        &self,
        by: &By,
        workspace: &Workspace,
        who: &str,
        new: NewSecret,
    ) -> Result<Secret, VaultError> {
        new.about.check()?;
        check_ttl(new.ttl)?;
        let (by, who) = (by.clone(), who.to_owned());
        self.change(workspace, move |room, live| {
            room.not_mounted(&new.about.name)?;
            let secret = room.create((live, &by), &who, &new)?;
            room.tell(&by, "secret:create", secret.id, "version 1")?;
            Ok(secret)
        })
        .await
    }

    /// Gives a secret a new version; `follows` is the one that it must follow.
    ///
    /// # Errors
    /// [`VaultError::Changed`], [`VaultError::NotFound`], [`VaultError::Sealed`].
    pub async fn put(
        &self,
        by: &By,
        workspace: &Workspace,
        who: &str,
        which: &Which,
        (value, follows, ttl): (SecretValue, Option<u32>, Option<Duration>),
    ) -> Result<Secret, VaultError> {
        check_ttl(ttl)?;
        let (by, who, which) = (by.clone(), who.to_owned(), which.clone());
        self.change(workspace, move |room, live| {
            let mut secret = room.get(&which)?;
            secret.about.name.not_own()?;
            room.not_mounted(&secret.about.name)?;
            match follows {
                Some(expected) if expected != secret.latest => {
                    return Err(VaultError::Changed {
                        latest: secret.latest,
                        expected,
                    });
                }
                None if secret.about.check => {
                    let reason = "this secret wants to be told the version that is replaced";
                    return Err(VaultError::invalid("follows", reason));
                }
                _ => {}
            }
            room.append((live, &by), &mut secret, (&who, &value, ttl))?;
            let what = format!("version {}", secret.latest);
            room.tell(&by, "secret:write", secret.id, &what)?;
            Ok(secret)
        })
        .await
    }

    /// Changes what is known about a secret.
    ///
    /// # Errors
    /// [`VaultError::Exists`] when the new name is taken; [`VaultError::NotFound`].
    pub async fn update(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
        change: impl FnOnce(&mut About) -> Result<(), VaultError> + Send + 'static,
    ) -> Result<Secret, VaultError> {
        let (by, which) = (by.clone(), which.clone());
        self.change(workspace, move |room, live| {
            let mut secret = room.get(&which)?;
            let before = secret.about.clone();
            change(&mut secret.about)?;
            secret.about.check()?;
            if secret.about == before {
                return Ok(secret);
            }
            if secret.about.name != before.name {
                room.not_mounted(&before.name)?;
                room.not_mounted(&secret.about.name)?;
                let taken = Which::Name(secret.about.name.clone());
                if room.row(&taken)?.is_some() {
                    return Err(VaultError::Exists(secret.about.name.to_string()));
                }
            }
            if secret.about.rotate_every != before.rotate_every {
                let last = room.version(secret.id, secret.latest)?.made_at;
                secret.rotate_at = secret.about.rotate_every.map(|every| last.plus(every));
            }
            secret.changed_at = room.now;
            room.write_about(live, secret.id, &secret.about)?;
            room.save(&secret)?;
            room.trim(&by, &secret)?;
            room.tell(&by, "secret:update", secret.id, "what is known about it")?;
            Ok(secret)
        })
        .await
    }

    /// A secret without its value.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], [`VaultError::Sealed`].
    pub async fn find(&self, workspace: &Workspace, which: &Which) -> Result<Secret, VaultError> {
        let wanted = which.clone();
        let found = self.look(workspace, move |room| room.find(&wanted)).await?;
        found.flatten().ok_or_else(|| which.missing())
    }

    /// Its versions, oldest first.
    ///
    /// # Errors
    /// As [`Vault::find`].
    pub async fn versions(
        &self,
        workspace: &Workspace,
        id: SecretId,
    ) -> Result<Vec<Version>, VaultError> {
        let found = self.look(workspace, move |room| room.versions(id)).await?;
        found.ok_or_else(|| VaultError::NotFound(id.to_string()))
    }

    /// The value of a version, or of the latest, and its number. Who asks for it has the right to it, and it
    /// was written down.
    ///
    /// # Errors
    /// [`VaultError::NoVersion`], [`VaultError::NotFound`], [`VaultError::Sealed`].
    pub async fn read(
        &self,
        workspace: &Workspace,
        id: SecretId,
        version: Option<u32>,
    ) -> Result<(u32, SecretValue), VaultError> {
        let which = Which::Id(id);
        let read = self.look(workspace, move |room| {
            let stored = room.row(&which)?.ok_or_else(|| which.missing())?;
            let number = version.unwrap_or(stored.latest);
            Ok((number, room.read(stored.id, number)?))
        });
        let found = read.await?;
        found.ok_or_else(|| VaultError::NotFound(id.to_string()))
    }

    /// As [`Vault::read`], for somebody who says why they must see it: that is written down before they do. Tells
    /// which secret and which version it was.
    ///
    /// # Errors
    /// As [`Vault::read`]; [`VaultError::Invalid`] without a reason.
    pub async fn reveal(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
        version: Option<u32>,
        reason: String,
    ) -> Result<(SecretId, u32, SecretValue), VaultError> {
        check_reason(&reason)?;
        let (by, wanted) = (by.clone(), which.clone());
        let revealed = self.touch(workspace, move |room| {
            let stored = room.row(&wanted)?.ok_or_else(|| wanted.missing())?;
            let number = version.unwrap_or(stored.latest);
            let value = room.read(stored.id, number)?;
            let what = format!("version {number}: {reason}");
            room.tell(&by, "secret:reveal", stored.id, &what)?;
            Ok((stored.id, number, value))
        });
        revealed.await?.ok_or_else(|| which.missing())
    }

    /// Secrets by their ids, those that a query finds. `limit` is held to 200.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn list(
        &self,
        workspace: &Workspace,
        query: Query,
        after: Option<SecretId>,
        limit: usize,
    ) -> Result<Page, VaultError> {
        let limit = limit.clamp(1, MOST_PAGE);
        let page = self.look(workspace, move |room| {
            let wanted: Vec<[u8; TOKEN]> = query.tokens(&room.index.tokens).into_iter().collect();
            let after = after.map_or([0; 16], |id| *id.as_bytes());
            let (ids, next) = room.ids(&wanted, after, limit)?;
            let mut items = Vec::with_capacity(ids.len());
            for id in ids {
                items.extend(room.find(&Which::Id(id))?);
            }
            Ok(Page { items, next })
        });
        Ok(page.await?.unwrap_or_default())
    }

    /// Changes the state of versions: deletes them, brings them back, or destroys them for ever.
    ///
    /// # Errors
    /// [`VaultError::NoVersion`] when one is not there, or cannot be brought back.
    pub async fn set_state(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
        (versions, state): (Vec<u32>, State),
    ) -> Result<Secret, VaultError> {
        let (by, which) = (by.clone(), which.clone());
        self.change(workspace, move |room, _| {
            let secret = room.get(&which)?;
            room.not_mounted(&secret.about.name)?;
            let mut told = Vec::new();
            for number in versions {
                let mut version = room.version(secret.id, number)?;
                match (version.state, state) {
                    (before, after) if before == after => continue,
                    (State::Destroyed, _) => {
                        return Err(VaultError::NoVersion {
                            version: number,
                            state: State::Destroyed.as_str(),
                        });
                    }
                    (_, State::Destroyed) => room.destroy(secret.id, version)?,
                    (_, after) => {
                        version.state = after;
                        room.write_version(secret.id, &version)?;
                    }
                }
                told.push(number.to_string());
            }
            let action = match state {
                State::Live => "secret:undelete",
                State::Deleted => "secret:delete",
                State::Destroyed => "secret:destroy",
            };
            if !told.is_empty() {
                let what = format!("version {}", told.join(", "));
                room.tell(&by, action, secret.id, &what)?;
            }
            Ok(secret)
        })
        .await
    }

    /// Forgets a secret with all of its versions, leases and shares, for ever.
    ///
    /// # Errors
    /// [`VaultError::NotFound`].
    pub async fn remove(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
    ) -> Result<(), VaultError> {
        let (by, which) = (by.clone(), which.clone());
        self.change(workspace, move |room, _| {
            let secret = room.get(&which)?;
            room.not_mounted(&secret.about.name)?;
            room.remove(&by, secret.id)
        })
        .await
    }

    /// Makes secrets and gives others new versions, all or none; what has its value already stays. What is there and not among
    /// `writable` is refused.
    ///
    /// # Errors
    /// [`VaultError::TooMany`] over 1,000; what is wrong with the first that is wrong.
    pub async fn bulk(
        &self,
        by: &By,
        workspace: &Workspace,
        who: &str,
        (wanted, how): (Vec<NewSecret>, Bulk),
    ) -> Result<BTreeMap<SecretName, Outcome>, VaultError> {
        if wanted.len() > MOST_BULK {
            return Err(VaultError::TooMany {
                what: "secrets at once",
                most: MOST_BULK,
            });
        }
        for new in &wanted {
            new.about.check()?;
            check_ttl(new.ttl)?;
        }
        let (by, who) = (by.clone(), who.to_owned());
        self.change(workspace, move |room, live| {
            let mut outcomes = BTreeMap::new();
            for new in &wanted {
                let name = new.about.name.clone();
                if outcomes.contains_key(&name) {
                    let reason = format!("`{name}` stands twice");
                    return Err(VaultError::invalid("secrets", reason));
                }
                let outcome = room.bulk_one((live, &by), &who, new, &how)?;
                outcomes.insert(name, outcome.0);
                if let (false, Some((action, id, version))) = (how.dry, outcome.1) {
                    room.tell(&by, action, id, &format!("version {version}"))?;
                }
            }
            Ok(outcomes)
        })
        .await
    }

    /// Destroys values that do not count any more. Tells how many, and whether there may be more.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn sweep(&self, by: &By, workspace: &Workspace) -> Result<(usize, bool), VaultError> {
        // Without a look there would be a unit every time.
        let due = self
            .look(workspace, |room| room.expired())
            .await?
            .unwrap_or_default();
        if due.is_empty() {
            return Ok((0, false));
        }
        let by = by.clone();
        self.change(workspace, move |room, _| {
            let due = room.expired()?;
            let more = due.len() as i64 == SWEEP;
            for (id, number) in &due {
                let version = room.version(*id, *number)?;
                room.destroy(*id, version)?;
                let what = format!("version {number} has expired");
                room.tell(&by, "secret:destroy", *id, &what)?;
            }
            Ok((due.len(), more))
        })
        .await
    }

    /// Secrets that should have had a new value, the longest ago first: a page, and after which the next begins.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn due(
        &self,
        workspace: &Workspace,
        after: Option<Due>,
    ) -> Result<(Vec<Secret>, Option<Due>), VaultError> {
        let due = self.look(workspace, move |room| {
            let (at, id) = after.map_or((Timestamp::from_micros(i64::MIN), [0; 16]), |it| {
                (it.0, *it.1.as_bytes())
            });
            let rows = room.scope.query(
                "SELECT id, name_token, latest, made_at, changed_at, rotate_at, mac FROM secrets \
                 WHERE workspace = ?1 AND rotate_at <= ?2 \
                 AND (rotate_at > ?3 OR (rotate_at = ?3 AND id > ?4)) \
                 ORDER BY rotate_at, id LIMIT ?5",
                &[
                    room.now.into(),
                    at.into(),
                    (&id).into(),
                    i64::try_from(MOST_PAGE).unwrap_or(i64::MAX).into(),
                ],
            )?;
            let mut due = Vec::new();
            for row in &rows {
                let stored = room.stored(row)?;
                due.push(room.with_about(&stored)?);
            }
            let last = due.last().filter(|_| rows.len() >= MOST_PAGE);
            let next = last.and_then(|it| Some((it.rotate_at?, it.id)));
            Ok((due, next))
        });
        Ok(due.await?.unwrap_or_default())
    }
}
