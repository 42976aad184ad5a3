//! People, their passwords, and who belongs to which workspace. How they come is in `invitations`, their second
//! factor in `factor`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use skep_core::{Timestamp, UserId, Workspace};
use skep_crypto::passphrase::Passphrase;
use skep_crypto::{CryptoError, Key};
use skep_store::{By, Change, Db, Row, Scope, StoreError, Unit};
use tokio::sync::Semaphore;

use super::IdentityError;
use super::factor::SEED_CONTEXT;
use super::links::NO_PASSWORD;
use super::password::{Kept, LONGEST};
use super::tries::Tries;
use crate::policy::{Principal, Role};

/// Bytes of an e-mail address (RFC 5321, section 4.5.3.1).
const MOST_EMAIL: usize = 254;
/// Where a password is tried from by who is logged in: all of them are one.
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// People and open invitations of a workspace.
const MOST_PEOPLE: i64 = 5_000;
/// Characters of a person's name.
const MOST_NAME: usize = 100;
/// How old a login is at most that stands for a password.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Passwords that are hashed at once: each takes 64 MiB and a third of a second of a core.
const HASHES: usize = 2;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their address, in the form of [`normal_email`].
    pub email: String,
    /// What people call them.
    pub name: String,
    /// When they came.
    pub created_at: Timestamp,
    /// Whether an authenticator's code is wanted of them.
    pub second_factor: bool,
}

/// A person in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// What they may.
    pub role: Role,
    /// Since when.
    pub since: Timestamp,
}

/// A person with what is kept of their password.
pub(crate) struct Stored {
    pub(crate) user: User,
    /// None for who comes in by a provider alone.
    pub(crate) password: Option<Kept>,
    pub(crate) seed: Option<Vec<u8>>,
    pub(crate) last_step: i64,
    pub(crate) recovery: Vec<u8>,
}

/// An e-mail address in the one form that it is compared in: in lower case, without space around it.
///
/// # Errors
/// [`IdentityError::Invalid`] when it is none.
pub fn normal_email(text: &str) -> Result<String, IdentityError> {
    let email = text.trim().to_lowercase();
    let wrong = || IdentityError::invalid("email", "write an address such as ada@example.com");
    let (local, domain) = email.rsplit_once('@').ok_or_else(wrong)?;
    let of_domain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '@' | '<' | '>');
    let fits = email.len() <= MOST_EMAIL
        && !local.is_empty()
        && !domain.is_empty()
        && local.chars().all(plain)
        && domain.chars().all(of_domain)
        && !domain.starts_with(['.', '-'])
        && !domain.ends_with(['.', '-']);
    fits.then_some(email).ok_or_else(wrong)
}

pub(super) fn normal_name(text: &str) -> Result<String, IdentityError> {
    let name = text.trim();
    let count = name.chars().count();
    if count == 0 || count > MOST_NAME || name.chars().any(char::is_control) {
        let reason = format!("write 1 to {MOST_NAME} characters");
        return Err(IdentityError::invalid("name", reason));
    }
    Ok(name.to_owned())
}

/// A password that may be chosen.
pub(super) fn chosen(text: &str, email: &str) -> Result<Passphrase, IdentityError> {
    if text.chars().count() > LONGEST {
        let reason = format!("at most {LONGEST} characters");
        return Err(IdentityError::invalid("password", reason));
    }
    let lower = text.to_lowercase();
    let local = email.split('@').next().unwrap_or_default();
    let guessed = lower == email
        || (local.len() > 3 && lower.trim_matches(|c: char| !c.is_alphabetic()) == local);
    let mut kinds: Vec<char> = text.chars().collect();
    kinds.sort_unstable();
    kinds.dedup();
    if guessed || kinds.len() < 5 {
        let reason = "this one is guessed at once; take some words that do not belong together";
        return Err(IdentityError::invalid("password", reason));
    }
    Passphrase::new(text).map_err(|error| IdentityError::invalid("password", error.to_string()))
}

pub(crate) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The people of all workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(crate) db: Db,
    pub(super) tries: std::sync::Arc<Mutex<Tries>>,
    hashing: std::sync::Arc<Semaphore>,
}

impl Users {
    /// The people of this store.
    #[must_use]
    pub fn new(db: Db) -> Self {
        let hashing = std::sync::Arc::new(Semaphore::new(HASHES));
        let tries = std::sync::Arc::default();
        Self { db, tries, hashing }
    }

    /// Counts a try of a password, unless it comes too soon. Whoever finds it right takes it back.
    ///
    /// # Errors
    /// [`IdentityError::Wait`].
    pub(super) fn tries_now(
        &self,
        email: &str,
        from: IpAddr,
        known_device: bool,
    ) -> Result<(), IdentityError> {
        let now = self.db.clock().now();
        let mut tries = self.tries.lock();
        if let Some(wait) = tries.wait(email, from, known_device, now) {
            return Err(IdentityError::Wait(wait));
        }
        tries.count(email, from, known_device, now);
        Ok(())
    }

    /// Counts a try of something else than a password from one network, unless it comes too soon.
    ///
    /// # Errors
    /// [`IdentityError::Wait`].
    pub fn try_begins(&self, of: &str, from: IpAddr) -> Result<(), IdentityError> {
        self.tries_now(of, from, true)
    }

    /// What was tried was right.
    pub fn try_was_right(&self, of: &str, from: IpAddr) {
        self.tries.lock().forget(of, from, true);
    }

    /// Works on a password, as many at once as there is memory for.
    pub(crate) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CryptoError> + Send + 'static,
    ) -> Result<T, IdentityError> {
        let permit = self.hashing.clone().acquire_owned().await;
        let permit = permit.map_err(|_| CryptoError::System)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        Ok(done.await.map_err(|_| CryptoError::System)??)
    }

    /// Who is in a workspace, by address.
    ///
    /// # Errors
    /// The store's own.
    pub async fn members(&self, workspace: &Workspace) -> Result<Vec<Member>, StoreError> {
        let of = workspace.clone();
        self.db
            .read(move |reader| {
                let rows = reader.scope(&of).query(
                    "SELECT u.id, u.email, u.name, u.created_at, u.seed, m.role, m.since \
                     FROM members m JOIN users u ON u.id = m.user_id \
                     WHERE m.workspace = ?1 ORDER BY u.email",
                    &[],
                )?;
                rows.iter()
                    .map(|row| {
                        Ok(Member {
                            user: user(row)?,
                            role: role(row.text(5)?)?,
                            since: row.time(6)?,
                        })
                    })
                    .collect()
            })
            .await
    }

    /// What somebody is in a workspace.
    ///
    /// # Errors
    /// The store's own.
    pub async fn role(
        &self,
        workspace: &Workspace,
        id: UserId,
    ) -> Result<Option<Role>, StoreError> {
        let of = workspace.clone();
        self.db
            .read(move |reader| role_of(&mut reader.scope(&of), id))
            .await
    }

    /// Somebody, wherever they are.
    ///
    /// # Errors
    /// The store's own.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.stored_by_id(id).await?.map(|stored| stored.user))
    }

    pub(crate) async fn stored(&self, email: &str) -> Result<Option<Stored>, StoreError> {
        let email = email.to_owned();
        self.db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT id, email, name, created_at, seed, password, last_step, recovery \
                     FROM users WHERE email = ?1",
                    &[(&email).into()],
                )?;
                rows.first().map(stored).transpose()
            })
            .await
    }

    pub(crate) async fn stored_by_id(&self, id: UserId) -> Result<Option<Stored>, StoreError> {
        self.db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT id, email, name, created_at, seed, password, last_step, recovery \
                     FROM users WHERE id = ?1",
                    &[id.as_bytes().into()],
                )?;
                rows.first().map(stored).transpose()
            })
            .await
    }

    /// Gives somebody another role.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn set_role(
        &self,
        by: &By,
        asker: &Principal,
        id: UserId,
        to: Role,
    ) -> Result<(), IdentityError> {
        at_most(asker, to)?;
        let (by, asker) = (by.clone(), asker.clone());
        self.db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&asker.workspace);
                let has = changeable(&mut scope, &asker, id)?;
                if has == Role::Owner && to != Role::Owner {
                    another_owner(&mut scope, id)?;
                }
                scope.execute(
                    "UPDATE members SET role = ?3 WHERE workspace = ?1 AND user_id = ?2",
                    &[id.as_bytes().into(), to.as_str().into()],
                )?;
                tell(&by, &mut scope, id, &format!("role {has} → {to}"), now)
            })
            .await
    }

    /// Takes somebody out of a workspace. Who is in none any more is forgotten, with their sessions.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn remove(
        &self,
        by: &By,
        asker: &Principal,
        id: UserId,
    ) -> Result<(), IdentityError> {
        let (by, asker) = (by.clone(), asker.clone());
        self.db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&asker.workspace);
                let has = changeable(&mut scope, &asker, id)?;
                if has == Role::Owner {
                    another_owner(&mut scope, id)?;
                }
                scope.execute(
                    "DELETE FROM members WHERE workspace = ?1 AND user_id = ?2",
                    &[id.as_bytes().into()],
                )?;
                tell(&by, &mut scope, id, "removed", now)
            })
            .await
    }

    /// Forgets a person who is in none of these workspaces.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_if_homeless(
        &self,
        id: UserId,
        workspaces: &[Workspace],
    ) -> Result<bool, StoreError> {
        let all = workspaces.to_vec();
        self.db
            .write(move |unit| {
                for workspace in &all {
                    if role_of(&mut unit.scope(workspace), id)?.is_some() {
                        return Ok(false);
                    }
                }
                let mut server = unit.server();
                let id = id.as_bytes();
                server.execute("DELETE FROM sessions WHERE user_id = ?1", &[id.into()])?;
                server.execute("DELETE FROM devices WHERE user_id = ?1", &[id.into()])?;
                server.execute(
                    "DELETE FROM provider_links WHERE user_id = ?1",
                    &[id.into()],
                )?;
                server.execute("DELETE FROM users WHERE id = ?1", &[id.into()])?;
                Ok(true)
            })
            .await
    }

    /// Forgets all people who are in none of these workspaces: those of workspaces that were removed. Tells how
    /// many.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_homeless(&self, workspaces: &[Workspace]) -> Result<u64, StoreError> {
        let all: Result<Vec<UserId>, StoreError> = self
            .db
            .read(|reader| {
                let rows = reader.server().query("SELECT id FROM users", &[])?;
                rows.iter()
                    .map(|row| Ok(UserId::from_bytes(row.bytes(0)?)))
                    .collect()
            })
            .await;
        let mut gone = 0;
        for id in all? {
            gone += u64::from(self.forget_if_homeless(id, workspaces).await?);
        }
        Ok(gone)
    }

    /// Whether this is somebody's password.
    pub(super) async fn opened(
        &self,
        id: UserId,
        password: &str,
    ) -> Result<(Stored, Key), IdentityError> {
        let stored = self.stored_by_id(id).await?;
        let stored = stored.ok_or_else(|| IdentityError::NoUser(id.to_string()))?;
        // Whoever has a session and not the password does not get to guess it here either.
        let email = stored.user.email.clone();
        self.tries_now(&email, INSIDE, true)?;
        let password = Passphrase::new(password).map_err(|_| IdentityError::WrongLogin)?;
        let kept = stored.password.clone();
        let kept = kept.ok_or(IdentityError::WrongLogin)?;
        let key = self.hashing(move || kept.check(&password)).await?;
        let key = key.ok_or(IdentityError::WrongLogin)?;
        self.tries.lock().forget(&email, INSIDE, true);
        Ok((stored, key))
    }

    /// Asks again who it is, before something is changed by which they come in: the password, or a login that
    /// has just been.
    ///
    /// # Errors
    /// [`IdentityError::WrongLogin`], [`IdentityError::NotFresh`].
    pub async fn ask_again(
        &self,
        id: UserId,
        password: Option<&str>,
        began: Timestamp,
    ) -> Result<(), IdentityError> {
        match password {
            Some(password) => self.opened(id, password).await.map(drop),
            None if self.db.clock().now().since(began) <= FRESH => Ok(()),
            None => Err(IdentityError::NotFresh),
        }
    }

    /// Takes another password; all sessions but `keep` end.
    ///
    /// # Errors
    /// [`IdentityError::WrongLogin`] when the old one is wrong.
    pub async fn change_password(
        &self,
        (by, workspace): (&By, &Workspace),
        id: UserId,
        (old, new): (&str, &str),
        keep: Option<[u8; 32]>,
    ) -> Result<(), IdentityError> {
        let (stored, key) = self.opened(id, old).await?;
        let new = chosen(new, &stored.user.email)?;
        let (kept, wrapping) = self.hashing(move || Kept::of(&new)).await?;
        let seed = stored.seed.as_deref();
        let seed = seed
            .map(|sealed| wrapping.seal(SEED_CONTEXT, &key.open(SEED_CONTEXT, sealed)?))
            .transpose()?;
        let (by, of) = (by.clone(), workspace.clone());
        self.db
            .write(move |unit| {
                let now = unit.now();
                still_opens(unit, id, stored.password.as_ref())?;
                let mut server = unit.server();
                server.execute(
                    "UPDATE users SET password = ?2, seed = ?3 WHERE id = ?1",
                    &[
                        id.as_bytes().into(),
                        kept.to_bytes().as_slice().into(),
                        seed.as_deref().into(),
                    ],
                )?;
                let keep = keep.unwrap_or_default();
                server.execute(
                    "DELETE FROM sessions WHERE user_id = ?1 AND hash <> ?2",
                    &[id.as_bytes().into(), (&keep).into()],
                )?;
                server.execute(
                    "DELETE FROM devices WHERE user_id = ?1",
                    &[id.as_bytes().into()],
                )?;
                tell(&by, &mut unit.scope(&of), id, "password changed", now)?;
                Ok(())
            })
            .await
    }
}

/// Whether the password that was right is still somebody's, in the unit that relies on it.
pub(super) fn still_opens(
    unit: &mut Unit<'_>,
    id: UserId,
    proven: Option<&Kept>,
) -> Result<(), IdentityError> {
    let mut server = unit.server();
    let rows = server.query(
        "SELECT password FROM users WHERE id = ?1",
        &[id.as_bytes().into()],
    )?;
    let kept = rows.first().map(|row| row.blob(0)).transpose()?;
    let proven = proven.map(Kept::to_bytes).unwrap_or_default();
    match kept == Some(&proven[..]) {
        true => Ok(()),
        false => Err(IdentityError::WrongLogin),
    }
}

/// Nobody gives or takes what is more than they have.
pub(super) fn at_most(asker: &Principal, role: Role) -> Result<(), IdentityError> {
    match asker.role {
        Some(has) if has >= role => Ok(()),
        has => Err(IdentityError::TooMuch {
            has: has.map_or("none", Role::as_str).to_owned(),
            role: role.to_string(),
        }),
    }
}

/// What somebody is whom who asks may change; nobody else changes anybody until the unit ends.
fn changeable(scope: &mut Scope<'_>, asker: &Principal, id: UserId) -> Result<Role, IdentityError> {
    scope.in_turn()?;
    let has = role_of(scope, id)?;
    let has = has.ok_or_else(|| IdentityError::NoUser(id.to_string()))?;
    at_most(asker, has)?;
    Ok(has)
}

fn another_owner(scope: &mut Scope<'_>, but: UserId) -> Result<(), IdentityError> {
    let rows = scope.query(
        "SELECT COUNT(*) FROM members WHERE workspace = ?1 AND role = 'owner' AND user_id <> ?2",
        &[but.as_bytes().into()],
    )?;
    let others = rows.first().map(|row| row.int(0)).transpose()?;
    match others {
        Some(count) if count > 0 => Ok(()),
        _ => Err(IdentityError::LastOwner),
    }
}

pub(crate) fn role_of(scope: &mut Scope<'_>, id: UserId) -> Result<Option<Role>, StoreError> {
    let row = scope.query_opt(
        "SELECT role FROM members WHERE workspace = ?1 AND user_id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.map(|row| role(row.text(0)?)).transpose()
}

/// Whether a workspace takes another person, or invitation.
pub(super) fn has_room(scope: &mut Scope<'_>, now: Timestamp) -> Result<(), IdentityError> {
    let rows = scope.query(
        "SELECT (SELECT COUNT(*) FROM members WHERE workspace = ?1) + \
         (SELECT COUNT(*) FROM invitations WHERE workspace = ?1 AND expires_at > ?2)",
        &[now.into()],
    )?;
    let there = rows.first().map(|row| row.int(0)).transpose()?;
    if there.unwrap_or_default() >= MOST_PEOPLE {
        let reason = format!("a workspace has at most {MOST_PEOPLE} people and open invitations");
        return Err(IdentityError::invalid("email", reason));
    }
    Ok(())
}

/// Puts somebody into a workspace. A role that they have stays when it is the higher one.
pub(super) fn join(
    scope: &mut Scope<'_>,
    id: UserId,
    role: Role,
    now: Timestamp,
) -> Result<(), StoreError> {
    scope.in_turn()?;
    let role = role_of(scope, id)?.map_or(role, |has| has.max(role));
    scope
        .execute(
            "INSERT INTO members (workspace, user_id, role, since) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (workspace, user_id) DO UPDATE SET role = excluded.role",
            &[id.as_bytes().into(), role.as_str().into(), now.into()],
        )
        .map(drop)
}

pub(super) fn tell(
    by: &By,
    scope: &mut Scope<'_>,
    id: UserId,
    what: &str,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let id = id.to_string();
    let change = Change {
        action: None,
        resource: ("User", &id),
        what,
        hash: None,
    };
    Ok(by.did(scope, &change, now)?)
}

pub(super) fn role(text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(StoreError::Statement)
}

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: UserId::from_bytes(row.bytes(0)?),
        email: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        created_at: row.time(3)?,
        second_factor: row.opt_blob(4)?.is_some(),
    })
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    let damaged = || StoreError::Statement("what is kept of a password is damaged".to_owned());
    let password = match row.blob(5)? {
        NO_PASSWORD => None,
        kept => Some(Kept::from_bytes(kept).ok_or_else(damaged)?),
    };
    Ok(Stored {
        user: user(row)?,
        password,
        seed: row.opt_blob(4)?.map(<[u8]>::to_vec),
        last_step: row.int(6)?,
        recovery: row.opt_blob(7)?.unwrap_or_default().to_vec(),
    })
}
