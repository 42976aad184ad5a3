//! Leases: the right to use a secret for a time, written down before it is told.
//!
//! A lease has a holder and may have a parent: another lease, or anything else that ends (`instance:…`).
//! What ends takes its children with it.

use std::time::Duration;

use skep_core::{LeaseId, SecretId, Timestamp, Workspace};
use skep_store::{By, Row};

use crate::VaultError;
use crate::room::Room;
use crate::row::check;
use crate::secret::Secret;
use crate::secrets::Which;
use crate::service::Vault;
use crate::value::SecretValue;

/// The longest time that one lasts without being renewed.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The longest time with all renewals.
pub(crate) const LONGEST_RENEWED: Duration = Duration::from_secs(32 * 24 * 3600);
/// The longest time of one that ends with something that runs: each has an end.
const LONGEST_RUN: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Leases of a secret.
pub(crate) const MOST_LEASES: usize = 10_000;
/// Leases from the first to its last grandchild.
const DEEPEST: usize = 8;
/// Leases of a list, and of one sweep.
const PAGE: i64 = 500;
/// Characters of a holder, and of a parent.
const MOST_HOLDER: usize = 200;

const LEASES: &str = "secret_leases";

/// A lease that is wished for.
#[derive(Debug, Clone)]
pub struct NewLease {
    /// Of which secret.
    pub secret: Which,
    /// Of which version; without it of the one that is the latest at each use.
    pub version: Option<u32>,
    /// Of which field of its value, when that is a JSON object; without it of the whole.
    pub field: Option<String>,
    /// Who may use it: `agent:hello`, `user:usr_…`.
    pub holder: String,
    /// What it ends with.
    pub parent: Option<String>,
    /// For how long.
    pub ttl: Duration,
}

/// The right to use a secret for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Of which secret.
    pub secret: SecretId,
    /// Of which version.
    pub version: Option<u32>,
    /// Of which field of its value.
    pub field: Option<String>,
    /// Who may use it.
    pub holder: String,
    /// What it ends with.
    pub parent: Option<String>,
    /// When it was made.
    pub made_at: Timestamp,
    /// Until when it counts.
    pub expires_at: Timestamp,
    /// Until when it can be renewed.
    pub most_until: Timestamp,
}

/// Whether a text can be a holder or a parent.
pub(crate) fn check_holder(field: &'static str, text: &str) -> Result<(), VaultError> {
    let fits = text.split_once(':').is_some_and(|(kind, id)| {
        let plain = |c: char| !c.is_control() && !c.is_whitespace();
        let is_kind = kind.chars().all(|c| c.is_ascii_lowercase()) && !kind.is_empty();
        is_kind && !id.is_empty() && id.chars().all(plain)
    });
    if fits && text.len() <= MOST_HOLDER {
        return Ok(());
    }
    let reason = "write a kind and an id: `agent:hello`, `user:usr_…`, `key:key_…`";
    Err(VaultError::invalid(field, reason))
}

/// The lease that a parent names. Anything else that is called a lease is none.
fn lease_of(parent: &str) -> Result<Option<LeaseId>, VaultError> {
    let Some(id) = parent.strip_prefix("lease:") else {
        return Ok(None);
    };
    let wrong = |_| VaultError::invalid("parent", "a lease is `lease:lse_…`");
    id.parse().map(Some).map_err(wrong)
}

fn check_ttl(ttl: Duration) -> Result<(), VaultError> {
    if ttl.is_zero() || ttl > LONGEST {
        let hours = LONGEST.as_secs() / 3600;
        return Err(VaultError::invalid("ttl", format!("a second to {hours} h")));
    }
    Ok(())
}

impl Room<'_> {
    fn read_lease(&self, row: &Row) -> Result<Lease, VaultError> {
        check(&self.index.rows, LEASES, self.scope.workspace(), row, 9)?;
        let version = row.opt_int(2)?.map(u32::try_from).transpose();
        Ok(Lease {
            id: LeaseId::from_bytes(row.bytes(0)?),
            secret: SecretId::from_bytes(row.bytes(1)?),
            version: version.map_err(|_| VaultError::Corrupt("a version".to_owned()))?,
            field: row.opt_text(3)?.map(str::to_owned),
            holder: row.text(4)?.to_owned(),
            parent: row.opt_text(5)?.map(str::to_owned),
            made_at: row.time(6)?,
            expires_at: row.time(7)?,
            most_until: row.time(8)?,
        })
    }

    fn write_lease(&mut self, lease: &Lease) -> Result<(), VaultError> {
        let columns = [
            lease.id.as_bytes().into(),
            lease.secret.as_bytes().into(),
            lease.version.into(),
            lease.field.as_deref().into(),
            (&lease.holder).into(),
            lease.parent.as_deref().into(),
            lease.made_at.into(),
            lease.expires_at.into(),
            lease.most_until.into(),
        ];
        self.write_row(
            LEASES,
            "INSERT INTO secret_leases (workspace, id, secret, version, field, holder, parent, made_at, \
             expires_at, most_until, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (workspace, id) DO UPDATE SET expires_at = excluded.expires_at, \
             mac = excluded.mac",
            &columns,
        )
    }

    /// Whether a secret can be lent: its value is there, with this field, and not too many have it.
    fn lendable(
        &mut self,
        secret: &Secret,
        version: Option<u32>,
        field: Option<&str>,
    ) -> Result<(), VaultError> {
        let (number, now) = (version.unwrap_or(secret.latest), self.now);
        match field {
            None => self.version(secret.id, number)?.readable(now)?,
            Some(name) => drop(self.read(secret.id, number)?.field(name)?),
        }
        let rows = self.scope.query(
            "SELECT COUNT(*) FROM secret_leases WHERE workspace = ?1 AND secret = ?2",
            &[secret.id.as_bytes().into()],
        )?;
        let there = rows.first().map_or(Ok(0), |row| row.int(0))?;
        match usize::try_from(there).unwrap_or(usize::MAX) >= MOST_LEASES {
            false => Ok(()),
            true => Err(VaultError::TooMany {
                what: "leases of this secret",
                most: MOST_LEASES,
            }),
        }
    }

    fn lend(&mut self, by: &By, lease: &Lease) -> Result<(), VaultError> {
        self.write_lease(lease)?;
        let what = format!("lease {} for {}", lease.id, lease.holder);
        Ok(self.tell(by, "secret:use", lease.secret, &what)?)
    }

    /// The leases that end with something and count.
    fn leases_below(&mut self, parent: &str) -> Result<Vec<Lease>, VaultError> {
        let rows = self.scope.query(
            "SELECT id, secret, version, field, holder, parent, made_at, expires_at, most_until, mac \
             FROM secret_leases WHERE workspace = ?1 AND parent = ?2 AND expires_at > ?3",
            &[parent.into(), self.now.into()],
        )?;
        rows.iter().map(|row| self.read_lease(row)).collect()
    }

    /// A lease that counts.
    fn lease(&mut self, id: LeaseId) -> Result<Lease, VaultError> {
        let row = self.scope.query_opt(
            "SELECT id, secret, version, field, holder, parent, made_at, expires_at, most_until, mac \
             FROM secret_leases WHERE workspace = ?1 AND id = ?2",
            &[id.as_bytes().into()],
        )?;
        let row = row.ok_or(VaultError::NoLease(id))?;
        let lease = self.read_lease(&row)?;
        match lease.expires_at > self.now {
            true => Ok(lease),
            false => Err(VaultError::NoLease(id)),
        }
    }

    /// The lease that is meant by a parent, if a lease is meant, and how deep it lies.
    fn parent(&mut self, text: &str) -> Result<Option<Lease>, VaultError> {
        let Some(id) = lease_of(text)? else {
            return Ok(None);
        };
        let first = self.lease(id)?;
        let mut above = first.parent.clone();
        for _ in 0..DEEPEST {
            match above.as_deref().map_or(Ok(None), lease_of)? {
                Some(id) => above = self.lease(id)?.parent,
                None => return Ok(Some(first)),
            }
        }
        let reason = format!("a lease has at most {DEEPEST} above it");
        Err(VaultError::invalid("parent", reason))
    }

    /// Ends a lease and all below it. Tells which.
    fn end(&mut self, id: LeaseId) -> Result<Vec<(LeaseId, SecretId)>, VaultError> {
        let row = self.scope.query_opt(
            "SELECT secret FROM secret_leases WHERE workspace = ?1 AND id = ?2",
            &[id.as_bytes().into()],
        )?;
        let Some(row) = row else {
            return Ok(Vec::new());
        };
        let secret = SecretId::from_bytes(row.bytes(0)?);
        self.scope.execute(
            "DELETE FROM secret_leases WHERE workspace = ?1 AND id = ?2",
            &[id.as_bytes().into()],
        )?;
        let mut ended = vec![(id, secret)];
        ended.extend(self.end_below(&format!("lease:{id}"))?);
        Ok(ended)
    }

    fn end_below(&mut self, parent: &str) -> Result<Vec<(LeaseId, SecretId)>, VaultError> {
        let rows = self.scope.query(
            "SELECT id FROM secret_leases WHERE workspace = ?1 AND parent = ?2",
            &[parent.into()],
        )?;
        let mut ended = Vec::new();
        for row in &rows {
            ended.extend(self.end(LeaseId::from_bytes(row.bytes(0)?))?);
        }
        Ok(ended)
    }

    /// Ends the leases of a secret that somebody holds, and what hangs on them.
    pub(crate) fn end_of(
        &mut self,
        by: &By,
        secret: SecretId,
        holder: &str,
    ) -> Result<(), VaultError> {
        let rows = self.scope.query(
            "SELECT id FROM secret_leases WHERE workspace = ?1 AND secret = ?2 AND holder = ?3",
            &[secret.as_bytes().into(), holder.into()],
        )?;
        for row in &rows {
            let ended = self.end(LeaseId::from_bytes(row.bytes(0)?))?;
            self.tell_ended(by, &ended, "ended with its share")?;
        }
        Ok(())
    }

    fn tell_ended(
        &mut self,
        by: &By,
        ended: &[(LeaseId, SecretId)],
        why: &str,
    ) -> Result<(), VaultError> {
        for (id, secret) in ended {
            self.tell(by, "secret:release", *secret, &format!("lease {id} {why}"))?;
        }
        Ok(())
    }
}

impl Vault {
    /// Lends a secret. Who asks has the right to it.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], [`VaultError::NoVersion`], [`VaultError::NoLease`] when the parent is a lease that is
    /// over, [`VaultError::TooMany`].
    pub async fn lease(
        &self,
        by: &By,
        workspace: &Workspace,
        new: NewLease,
    ) -> Result<Lease, VaultError> {
        check_ttl(new.ttl)?;
        check_holder("holder", &new.holder)?;
        if let Some(parent) = &new.parent {
            check_holder("parent", parent)?;
        }
        let (by, which) = (by.clone(), new.secret.clone());
        let lease = self.touch(workspace, move |room| {
            let secret = room.get(&new.secret)?;
            let now = room.now;
            room.lendable(&secret, new.version, new.field.as_deref())?;
            let above = match &new.parent {
                Some(parent) => room.parent(parent)?,
                None => None,
            };
            let most_until = now.plus(LONGEST_RENEWED);
            let most_until = above.map_or(most_until, |it| it.expires_at.min(most_until));
            let lease = Lease {
                id: LeaseId::new(),
                secret: secret.id,
                version: new.version,
                field: new.field,
                holder: new.holder,
                parent: new.parent,
                made_at: now,
                expires_at: now.plus(new.ttl).min(most_until),
                most_until,
            };
            room.lend(&by, &lease)?;
            Ok(lease)
        });
        lease.await?.ok_or_else(|| which.missing())
    }

    /// Lends secrets, or fields of them, to something that runs: all or none, in the order in which they
    /// are wished for, each with who is written down for it. They count until it has ended
    /// ([`Self::revoke_below`]). What it was lent before it is lent again. Who asks has the right to them.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub async fn lend(
        &self,
        workspace: &Workspace,
        (holder, parent): (&str, &str),
        wished: Vec<(By, SecretId, Option<String>)>,
    ) -> Result<Vec<Lease>, VaultError> {
        check_holder("holder", holder)?;
        check_holder("parent", parent)?;
        let (holder, parent) = (holder.to_owned(), parent.to_owned());
        self.change(workspace, move |room, _| {
            let there = room.leases_below(&parent)?;
            let mut lent = Vec::with_capacity(wished.len());
            for (by, id, field) in wished {
                let same = |it: &&Lease| {
                    it.secret == id
                        && it.field == field
                        && it.holder == holder
                        && it.version.is_none()
                };
                if let Some(lease) = there.iter().find(same) {
                    lent.push(lease.clone());
                    continue;
                }
                let secret = room.get(&Which::Id(id))?;
                room.lendable(&secret, None, field.as_deref())?;
                let end = room.now.plus(LONGEST_RUN);
                let lease = Lease {
                    id: LeaseId::new(),
                    secret: id,
                    version: None,
                    field,
                    holder: holder.clone(),
                    parent: Some(parent.clone()),
                    made_at: room.now,
                    expires_at: end,
                    most_until: end,
                };
                room.lend(&by, &lease)?;
                lent.push(lease);
            }
            Ok(lent)
        })
        .await
    }

    /// What leases end with, of one kind: `instance`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn lent_to(
        &self,
        workspace: &Workspace,
        kind: &'static str,
    ) -> Result<Vec<String>, VaultError> {
        let found = self.look(workspace, move |room| {
            let rows = room.scope.query(
                "SELECT DISTINCT parent FROM secret_leases WHERE workspace = ?1 AND parent LIKE ?2",
                &[format!("{kind}:%").as_str().into()],
            )?;
            let text = |row: &Row| Ok(row.text(0)?.to_owned());
            rows.iter().map(text).collect()
        });
        Ok(found.await?.unwrap_or_default())
    }

    /// Lets a lease count longer, from now on.
    ///
    /// # Errors
    /// [`VaultError::NoLease`] when it is over.
    pub async fn renew(
        &self,
        by: &By,
        workspace: &Workspace,
        id: LeaseId,
        ttl: Duration,
    ) -> Result<Lease, VaultError> {
        check_ttl(ttl)?;
        let by = by.clone();
        self.change(workspace, move |room, _| {
            let mut lease = room.lease(id)?;
            let wanted = room.now.plus(ttl).min(lease.most_until);
            lease.expires_at = lease.expires_at.max(wanted);
            room.write_lease(&lease)?;
            let what = format!("lease {id} until {}", lease.expires_at);
            room.tell(&by, "secret:use", lease.secret, &what)?;
            Ok(lease)
        })
        .await
    }

    /// A lease that counts.
    ///
    /// # Errors
    /// [`VaultError::NoLease`].
    pub async fn find_lease(
        &self,
        workspace: &Workspace,
        id: LeaseId,
    ) -> Result<Lease, VaultError> {
        let found = self.look(workspace, move |room| room.lease(id)).await?;
        found.ok_or(VaultError::NoLease(id))
    }

    /// The value that a lease lets its holder use.
    ///
    /// # Errors
    /// [`VaultError::NoLease`] when it is over or somebody else's; [`VaultError::NoVersion`].
    pub async fn redeem(
        &self,
        workspace: &Workspace,
        id: LeaseId,
        holder: &str,
    ) -> Result<SecretValue, VaultError> {
        let holder = holder.to_owned();
        let found = self.look(workspace, move |room| {
            let lease = room.lease(id)?;
            if lease.holder != holder {
                return Err(VaultError::NoLease(id));
            }
            let number = match lease.version {
                Some(number) => number,
                None => room.get(&Which::Id(lease.secret))?.latest,
            };
            let value = room.read(lease.secret, number)?;
            match lease.field {
                Some(name) => value.field(&name),
                None => Ok(value),
            }
        });
        found.await?.ok_or(VaultError::NoLease(id))
    }

    /// Leases of a secret that count, oldest first, at most 500.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn leases(
        &self,
        workspace: &Workspace,
        secret: SecretId,
    ) -> Result<Vec<Lease>, VaultError> {
        let found = self.look(workspace, move |room| {
            let rows = room.scope.query(
                "SELECT id, secret, version, field, holder, parent, made_at, expires_at, most_until, mac \
                 FROM secret_leases WHERE workspace = ?1 AND secret = ?2 AND expires_at > ?3 \
                 ORDER BY id LIMIT ?4",
                &[secret.as_bytes().into(), room.now.into(), PAGE.into()],
            )?;
            rows.iter().map(|row| room.read_lease(row)).collect()
        });
        Ok(found.await?.unwrap_or_default())
    }

    /// Ends a lease, and what hangs on it. Tells how many.
    ///
    /// # Errors
    /// [`VaultError::NoLease`].
    pub async fn revoke(
        &self,
        by: &By,
        workspace: &Workspace,
        id: LeaseId,
    ) -> Result<usize, VaultError> {
        let by = by.clone();
        self.change(workspace, move |room, _| {
            let ended = room.end(id)?;
            room.tell_ended(&by, &ended, "revoked")?;
            match ended.len() {
                0 => Err(VaultError::NoLease(id)),
                count => Ok(count),
            }
        })
        .await
    }

    /// Ends all leases that end with something: `instance:ins_…`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn revoke_below(
        &self,
        by: &By,
        workspace: &Workspace,
        parent: &str,
    ) -> Result<usize, VaultError> {
        let (by, parent) = (by.clone(), parent.to_owned());
        self.change(workspace, move |room, _| {
            let ended = room.end_below(&parent)?;
            room.tell_ended(&by, &ended, "ended")?;
            Ok(ended.len())
        })
        .await
    }

    /// Forgets leases that are over, with those below them. Tells how many.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn sweep_leases(&self, by: &By, workspace: &Workspace) -> Result<usize, VaultError> {
        let over = self
            .look(workspace, |room| room.over())
            .await?
            .unwrap_or_default();
        if over.is_empty() {
            return Ok(0);
        }
        let by = by.clone();
        self.change(workspace, move |room, _| {
            let mut count = 0;
            for id in room.over()? {
                let ended = room.end(id)?;
                count += ended.len();
                room.tell_ended(&by, &ended, "expired")?;
            }
            Ok(count)
        })
        .await
    }
}

impl Room<'_> {
    fn over(&mut self) -> Result<Vec<LeaseId>, VaultError> {
        let rows = self.scope.query(
            "SELECT id FROM secret_leases WHERE workspace = ?1 AND expires_at <= ?2 \
             ORDER BY expires_at LIMIT ?3",
            &[self.now.into(), PAGE.into()],
        )?;
        rows.iter()
            .map(|row| Ok(LeaseId::from_bytes(row.bytes(0)?)))
            .collect()
    }
}
