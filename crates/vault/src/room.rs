//! A workspace's secrets as one unit sees them: their rows, and what is done to them in it.

use std::sync::Arc;
use std::time::Duration;

use skep_core::{SecretId, Timestamp};
use skep_store::{By, Change, Param, Row, Scope, StoreError};

use crate::VaultError;
use crate::keyring::{ABOUT, Index, Keyring, Live, forget_value};
use crate::name::{TOKEN, of_name, tokens};
use crate::row::{check, mac};
use crate::secret::{About, NewSecret, Secret, State, Version};
use crate::secrets::{Bulk, Outcome, Which};
use crate::value::SecretValue;

/// Secrets of a workspace.
const MOST_SECRETS: i64 = 200_000;
/// The counter of a workspace's secrets.
pub(crate) const COUNT: &str = "secrets";
/// Secrets that are looked at for one page of a search.
const MOST_LOOKED: usize = 5_000;
/// Versions that a sweep destroys at once.
pub(crate) const SWEEP: i64 = 200;

const SECRETS: &str = "secrets";
const VERSIONS: &str = "secret_versions";

/// What a unit knows of a workspace's secrets.
pub(crate) struct Room<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) index: Index,
    pub(crate) now: Timestamp,
}

/// A secret as its row has it.
pub(crate) struct Stored {
    pub(crate) id: SecretId,
    name_token: [u8; TOKEN],
    pub(crate) latest: u32,
    made_at: Timestamp,
    changed_at: Timestamp,
    rotate_at: Option<Timestamp>,
}

fn number(value: i64) -> Result<u32, VaultError> {
    u32::try_from(value).map_err(|_| VaultError::Corrupt("a number of a version".to_owned()))
}

impl Room<'_> {
    pub(crate) fn stored(&self, row: &Row) -> Result<Stored, VaultError> {
        check(&self.index.rows, SECRETS, self.scope.workspace(), row, 6)?;
        Ok(Stored {
            id: SecretId::from_bytes(row.bytes(0)?),
            name_token: row.bytes(1)?,
            latest: number(row.int(2)?)?,
            made_at: row.time(3)?,
            changed_at: row.time(4)?,
            rotate_at: row.opt_time(5)?,
        })
    }

    /// Writes a row of the workspace, with its MAC as the last column.
    pub(crate) fn write_row(
        &mut self,
        table: &str,
        sql: &'static str,
        columns: &[Param<'_>],
    ) -> Result<(), VaultError> {
        let mac = mac(&self.index.rows, table, self.scope.workspace(), columns);
        let mut params = columns.to_vec();
        params.push((&mac).into());
        self.scope.execute(sql, &params)?;
        Ok(())
    }

    pub(crate) fn write_secret(&mut self, stored: &Stored) -> Result<(), VaultError> {
        let columns = [
            stored.id.as_bytes().into(),
            (&stored.name_token).into(),
            stored.latest.into(),
            stored.made_at.into(),
            stored.changed_at.into(),
            stored.rotate_at.into(),
        ];
        self.write_row(
            SECRETS,
            "INSERT INTO secrets (workspace, id, name_token, latest, made_at, changed_at, rotate_at, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (workspace, id) DO UPDATE SET \
             name_token = excluded.name_token, latest = excluded.latest, \
             changed_at = excluded.changed_at, rotate_at = excluded.rotate_at, mac = excluded.mac",
            &columns,
        )
    }

    pub(crate) fn row(&mut self, which: &Which) -> Result<Option<Stored>, VaultError> {
        let row = match which {
            Which::Id(id) => self.scope.query_opt(
                "SELECT id, name_token, latest, made_at, changed_at, rotate_at, mac FROM secrets \
                 WHERE workspace = ?1 AND id = ?2",
                &[id.as_bytes().into()],
            )?,
            Which::Name(name) => {
                let token = of_name(&self.index.tokens, name);
                self.scope.query_opt(
                    "SELECT id, name_token, latest, made_at, changed_at, rotate_at, mac FROM secrets \
                     WHERE workspace = ?1 AND name_token = ?2",
                    &[(&token).into()],
                )?
            }
        };
        row.map(|row| self.stored(&row)).transpose()
    }

    pub(crate) fn with_about(&mut self, stored: &Stored) -> Result<Secret, VaultError> {
        let about = self.keyring.read(&mut self.scope, stored.id, ABOUT)?;
        let about =
            about.ok_or_else(|| VaultError::Corrupt("a secret without a name".to_owned()))?;
        let about = About::from_bytes(&about)?;
        // A row cannot say that it is another secret's.
        if of_name(&self.index.tokens, &about.name) != stored.name_token {
            return Err(skep_crypto::CryptoError::Damaged.into());
        }
        Ok(Secret {
            id: stored.id,
            about,
            latest: stored.latest,
            made_at: stored.made_at,
            changed_at: stored.changed_at,
            rotate_at: stored.rotate_at,
        })
    }

    pub(crate) fn find(&mut self, which: &Which) -> Result<Option<Secret>, VaultError> {
        let stored = self.row(which)?;
        stored.map(|stored| self.with_about(&stored)).transpose()
    }

    /// The secret, or that there is none.
    pub(crate) fn get(&mut self, which: &Which) -> Result<Secret, VaultError> {
        self.find(which)?.ok_or_else(|| which.missing())
    }

    pub(crate) fn save(&mut self, secret: &Secret) -> Result<(), VaultError> {
        self.write_secret(&Stored {
            id: secret.id,
            name_token: of_name(&self.index.tokens, &secret.about.name),
            latest: secret.latest,
            made_at: secret.made_at,
            changed_at: secret.changed_at,
            rotate_at: secret.rotate_at,
        })
    }

    pub(crate) fn write_about(
        &mut self,
        live: &Live,
        id: SecretId,
        about: &About,
    ) -> Result<(), VaultError> {
        let bytes = about.to_bytes()?;
        forget_value(&mut self.scope, id, ABOUT)?;
        Keyring::write(&mut self.scope, live, id, ABOUT, &bytes)?;
        self.scope.execute(
            "DELETE FROM secret_tokens WHERE workspace = ?1 AND secret = ?2",
            &[id.as_bytes().into()],
        )?;
        for token in tokens(&self.index.tokens, &about.name, &about.tags) {
            self.scope.execute(
                "INSERT INTO secret_tokens (workspace, token, secret) VALUES (?1, ?2, ?3)",
                &[(&token).into(), id.as_bytes().into()],
            )?;
        }
        Ok(())
    }

    pub(crate) fn version(&mut self, id: SecretId, number: u32) -> Result<Version, VaultError> {
        let row = self.scope.query_opt(
            "SELECT secret, version, state, made_at, made_by, expires_at, mac FROM secret_versions \
             WHERE workspace = ?1 AND secret = ?2 AND version = ?3",
            &[id.as_bytes().into(), number.into()],
        )?;
        let row = row.ok_or(VaultError::NoVersion {
            version: number,
            state: "not there",
        })?;
        self.read_version(&row)
    }

    pub(crate) fn versions(&mut self, id: SecretId) -> Result<Vec<Version>, VaultError> {
        let rows = self.scope.query(
            "SELECT secret, version, state, made_at, made_by, expires_at, mac FROM secret_versions \
             WHERE workspace = ?1 AND secret = ?2 ORDER BY version",
            &[id.as_bytes().into()],
        )?;
        rows.iter().map(|row| self.read_version(row)).collect()
    }

    pub(crate) fn read_version(&self, row: &Row) -> Result<Version, VaultError> {
        check(&self.index.rows, VERSIONS, self.scope.workspace(), row, 6)?;
        Ok(Version {
            number: number(row.int(1)?)?,
            state: row.text(2)?.parse().map_err(VaultError::Corrupt)?,
            made_at: row.time(3)?,
            made_by: row.text(4)?.to_owned(),
            expires_at: row.opt_time(5)?,
        })
    }

    pub(crate) fn write_version(
        &mut self,
        id: SecretId,
        version: &Version,
    ) -> Result<(), VaultError> {
        let columns = [
            id.as_bytes().into(),
            version.number.into(),
            version.state.as_str().into(),
            version.made_at.into(),
            (&version.made_by).into(),
            version.expires_at.into(),
        ];
        self.write_row(
            VERSIONS,
            "INSERT INTO secret_versions (workspace, secret, version, state, made_at, made_by, expires_at, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (workspace, secret, version) \
             DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at, mac = excluded.mac",
            &columns,
        )
    }

    /// The value of a version that counts, and its number.
    pub(crate) fn read(&mut self, id: SecretId, version: u32) -> Result<SecretValue, VaultError> {
        let now = self.now;
        self.version(id, version)?.readable(now)?;
        let value = self.keyring.read(&mut self.scope, id, version)?;
        value
            .map(SecretValue::from_opened)
            .ok_or_else(|| VaultError::Corrupt("a version without a value".to_owned()))
    }

    pub(crate) fn destroy(&mut self, id: SecretId, mut version: Version) -> Result<(), VaultError> {
        forget_value(&mut self.scope, id, version.number)?;
        version.state = State::Destroyed;
        self.write_version(id, &version)
    }

    /// The next version of a secret. Those that are older than it keeps are destroyed.
    pub(crate) fn append(
        &mut self,
        (live, by): (&Live, &By),
        secret: &mut Secret,
        (who, value, ttl): (&str, &SecretValue, Option<Duration>),
    ) -> Result<(), VaultError> {
        let now = self.now;
        let number = secret.latest + 1;
        let ttl = ttl.or(secret.about.ttl);
        Keyring::write(&mut self.scope, live, secret.id, number, value.bytes())?;
        self.write_version(
            secret.id,
            &Version {
                number,
                state: State::Live,
                made_at: now,
                made_by: who.to_owned(),
                expires_at: ttl.map(|ttl| now.plus(ttl)),
            },
        )?;
        secret.latest = number;
        secret.changed_at = now;
        secret.rotate_at = secret.about.rotate_every.map(|every| now.plus(every));
        self.save(secret)?;
        self.trim(by, secret)
    }

    /// Destroys the versions that are older than a secret keeps.
    pub(crate) fn trim(&mut self, by: &By, secret: &Secret) -> Result<(), VaultError> {
        let oldest = secret.latest.saturating_sub(secret.about.keep);
        let versions = self.versions(secret.id)?;
        let old = versions.into_iter().filter(|it| it.number <= oldest);
        for version in old.filter(|it| it.state != State::Destroyed) {
            let what = format!("version {} is one too many", version.number);
            self.destroy(secret.id, version)?;
            self.tell(by, "secret:destroy", secret.id, &what)?;
        }
        // Of what is long gone nothing is kept but its number.
        self.scope.execute(
            "DELETE FROM secret_versions WHERE workspace = ?1 AND secret = ?2 AND version <= ?3",
            &[
                secret.id.as_bytes().into(),
                i64::from(secret.latest)
                    .saturating_sub(i64::from(crate::secret::MOST_VERSIONS))
                    .into(),
            ],
        )?;
        Ok(())
    }

    pub(crate) fn create(
        &mut self,
        (live, by): (&Live, &By),
        who: &str,
        new: &NewSecret,
    ) -> Result<Secret, VaultError> {
        let which = Which::Name(new.about.name.clone());
        if self.row(&which)?.is_some() {
            return Err(VaultError::Exists(new.about.name.to_string()));
        }
        let there = self.scope.counters(COUNT)?;
        if there.iter().any(|(_, count)| *count >= MOST_SECRETS) {
            return Err(VaultError::TooMany {
                what: "secrets",
                most: usize::try_from(MOST_SECRETS).unwrap_or(usize::MAX),
            });
        }
        self.scope.count(COUNT, 1)?;
        let mut secret = Secret {
            id: SecretId::new(),
            about: new.about.clone(),
            latest: 0,
            made_at: self.now,
            changed_at: self.now,
            rotate_at: None,
        };
        self.write_about(live, secret.id, &secret.about.clone())?;
        self.append((live, by), &mut secret, (who, &new.value, new.ttl))?;
        Ok(secret)
    }

    /// Forgets a secret with all that hangs on it.
    pub(crate) fn remove(&mut self, by: &By, id: SecretId) -> Result<(), VaultError> {
        for version in self.versions(id)? {
            forget_value(&mut self.scope, id, version.number)?;
        }
        forget_value(&mut self.scope, id, ABOUT)?;
        self.end_renewal(id)?;
        for sql in [
            "DELETE FROM secret_versions WHERE workspace = ?1 AND secret = ?2",
            "DELETE FROM secret_tokens WHERE workspace = ?1 AND secret = ?2",
            "DELETE FROM secret_leases WHERE workspace = ?1 AND secret = ?2",
            "DELETE FROM secret_shares WHERE workspace = ?1 AND secret = ?2",
            "DELETE FROM secret_requests WHERE workspace = ?1 AND secret = ?2",
            "DELETE FROM secrets WHERE workspace = ?1 AND id = ?2",
        ] {
            self.scope.execute(sql, &[id.as_bytes().into()])?;
        }
        self.scope.count(COUNT, -1)?;
        Ok(self.tell(by, "secret:remove", id, "removed")?)
    }

    pub(crate) fn tell(
        &mut self,
        by: &By,
        action: &str,
        id: SecretId,
        what: &str,
    ) -> Result<(), StoreError> {
        let id = id.to_string();
        let change = Change {
            action: Some(action),
            resource: ("Secret", &id),
            what,
            // One of a short value would tell it.
            hash: None,
        };
        by.did(&mut self.scope, &change, self.now)
    }
}

/// What is told of one of many: the action, the secret and its version.
type Told = (&'static str, SecretId, u32);

impl Room<'_> {
    /// The next secrets that have all of these tokens, and after which one more may come.
    pub(crate) fn ids(
        &mut self,
        wanted: &[[u8; TOKEN]],
        mut after: [u8; 16],
        limit: usize,
    ) -> Result<(Vec<SecretId>, Option<SecretId>), VaultError> {
        let mut ids = Vec::with_capacity(limit);
        let mut looked = 0;
        loop {
            let rows = match wanted.first() {
                None => self.scope.query(
                    "SELECT id FROM secrets WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT 200",
                    &[(&after).into()],
                )?,
                Some(token) => self.scope.query(
                    "SELECT secret FROM secret_tokens WHERE workspace = ?1 AND token = ?2 \
                     AND secret > ?3 ORDER BY secret LIMIT 200",
                    &[token.into(), (&after).into()],
                )?,
            };
            for row in &rows {
                after = row.bytes(0)?;
                looked += 1;
                if self.has_all(after, wanted)? {
                    ids.push(SecretId::from_bytes(after));
                }
                if ids.len() == limit || looked == MOST_LOOKED {
                    return Ok((ids, Some(SecretId::from_bytes(after))));
                }
            }
            if rows.len() < 200 {
                return Ok((ids, None));
            }
        }
    }

    pub(crate) fn has_all(
        &mut self,
        id: [u8; 16],
        wanted: &[[u8; TOKEN]],
    ) -> Result<bool, VaultError> {
        for token in wanted.iter().skip(1) {
            let found = self.scope.query_opt(
                "SELECT 1 FROM secret_tokens WHERE workspace = ?1 AND token = ?2 AND secret = ?3",
                &[token.into(), (&id).into()],
            )?;
            if found.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Versions that have expired and whose values are still there.
    pub(crate) fn expired(&mut self) -> Result<Vec<(SecretId, u32)>, VaultError> {
        let rows = self.scope.query(
            "SELECT secret, version FROM secret_versions WHERE workspace = ?1 \
             AND expires_at <= ?2 AND state <> 'destroyed' ORDER BY expires_at LIMIT ?3",
            &[self.now.into(), SWEEP.into()],
        )?;
        let due = rows
            .iter()
            .map(|row| Ok((SecretId::from_bytes(row.bytes(0)?), number(row.int(1)?)?)));
        due.collect()
    }

    pub(crate) fn bulk_one(
        &mut self,
        (live, by): (&Live, &By),
        who: &str,
        new: &NewSecret,
        how: &Bulk,
    ) -> Result<(Outcome, Option<Told>), VaultError> {
        self.not_mounted(&new.about.name)?;
        let which = Which::Name(new.about.name.clone());
        let Some(mut secret) = self.find(&which)? else {
            if how.dry {
                return Ok((Outcome::Created, None));
            }
            let made = self.create((live, by), who, new)?;
            return Ok((Outcome::Created, Some(("secret:create", made.id, 1))));
        };
        // It came since it was asked whether it may be written.
        if !how.writable.contains(&secret.id) {
            return Err(VaultError::Exists(secret.about.name.to_string()));
        }
        if secret.about.check {
            let name = &secret.about.name;
            let reason = format!("`{name}` wants to be told the version that is replaced");
            return Err(VaultError::invalid("follows", reason));
        }
        // That a value is the same is told to who may see it.
        if how.visible.contains(&secret.id) {
            // What cannot be read has no value that could be the same.
            match self.read(secret.id, secret.latest) {
                Ok(value) if skep_crypto::same(value.bytes(), new.value.bytes()) => {
                    return Ok((Outcome::Unchanged, None));
                }
                Ok(_) | Err(VaultError::NoVersion { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !how.dry {
            self.append((live, by), &mut secret, (who, &new.value, new.ttl))?;
        }
        let told = Some(("secret:write", secret.id, secret.latest));
        Ok((Outcome::Updated, told))
    }
}
