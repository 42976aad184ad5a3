//! Sessions of people: who logs in, and who shows that they did.
//!
//! A session is a random text in a cookie, known by its hash. It ends when it is idle or old, when its
//! person logs out, takes another password or is forgotten. Each request looks it up in the store, so
//! what one server ends is ended on all of them at once.

use std::net::IpAddr;
use std::time::Duration;

use skep_core::{SessionId, Timestamp, UserId, Workspace};
use skep_crypto::CryptoError;
use skep_crypto::passphrase::Passphrase;
use skep_store::{By, Change, Db, Row, ServerScope, StoreError, Unit};

use super::password::Kept;
use super::users::{User, Users, hash, role_of, still_opens};
use super::{IdentityError, normal_email};
use crate::keys::new_text_of;
use crate::policy::{Principal, PrincipalKind, Scopes};

/// What a session's text begins with.
pub const PREFIX: &str = "skep_session_";
/// What the text of a device that was logged in before begins with.
const DEVICE_PREFIX: &str = "skep_device_";
/// How exactly the last use of a session is known.
const USED_EVERY: Duration = Duration::from_secs(60);
/// For how long a device that was logged in before is known.
const DEVICE_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Sessions of a person; the oldest one ends for one more.
const MOST: i64 = 50;
/// Characters kept of what a browser calls itself.
const MOST_AGENT: usize = 200;

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Without a request.
    pub idle: Duration,
    /// At most.
    pub lifetime: Duration,
}

/// A session as its person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// When they logged in.
    pub created_at: Timestamp,
    /// When it was last used, about.
    pub used_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Where they logged in from.
    pub remote: String,
    /// What their browser calls itself.
    pub agent: String,
}

/// Somebody who wants in.
pub struct Login<'a> {
    /// Their address.
    pub email: &'a str,
    /// Their password.
    pub password: String,
    /// A code of their authenticator, or one for who lost it.
    pub code: Option<&'a str>,
    /// The workspace that they want to be in first.
    pub workspace: Option<&'a Workspace>,
    /// Where they come from.
    pub remote: IpAddr,
    /// What their browser calls itself.
    pub agent: &'a str,
    /// The text of a device that was logged in before.
    pub device: Option<&'a str>,
    /// The text of the session that they have now: it ends.
    pub before: Option<&'a str>,
}

/// How somebody comes, whoever they are.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The workspace that they want to be in first.
    pub workspace: Option<&'a Workspace>,
    /// Where they come from.
    pub remote: IpAddr,
    /// What their browser calls itself.
    pub agent: &'a str,
    /// The text of a device that was logged in before.
    pub device: Option<&'a str>,
    /// The text of the session that they have now: it ends.
    pub before: Option<&'a str>,
}

impl<'a> Login<'a> {
    fn visit(&self) -> Visit<'a> {
        Visit {
            workspace: self.workspace,
            remote: self.remote,
            agent: self.agent,
            device: self.device,
            before: self.before,
        }
    }
}

/// Somebody who is in.
pub struct LoggedIn {
    /// Who.
    pub user: User,
    /// Where they are first.
    pub workspace: Workspace,
    /// Their session.
    pub session: Session,
    /// Its text.
    pub secret: String,
    /// The text of their device.
    pub device: String,
}

/// Who shows a session.
#[derive(Debug, Clone)]
pub struct Known {
    /// Who they are in the workspace that they mean.
    pub principal: Principal,
    /// Their id.
    pub user: UserId,
    /// Their session's.
    pub session: SessionId,
    /// When they logged in.
    pub began: Timestamp,
    /// The hash of its text.
    pub hash: [u8; 32],
}

/// The sessions of this store.
pub struct Sessions {
    pub(super) users: Users,
    options: SessionOptions,
    nobody: Kept,
}

impl Sessions {
    /// Sessions of these people.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn new(users: Users, options: SessionOptions) -> Result<Self, CryptoError> {
        Ok(Self {
            users,
            options,
            nobody: Kept::of_nobody()?,
        })
    }

    /// Ends every session of a store that no server has: one that was brought back has sessions that may have
    /// ended since.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_all(db: &Db) -> Result<(), StoreError> {
        db.write(|unit| {
            let mut server = unit.server();
            server.execute("DELETE FROM sessions", &[])?;
            server.execute("DELETE FROM provider_logins", &[])?;
            server.execute("DELETE FROM provider_proofs", &[])?;
            server.execute("DELETE FROM devices", &[]).map(drop)
        })
        .await
    }

    /// Lets somebody in. `by` says how it is written down, once it is known who they are.
    ///
    /// # Errors
    /// [`IdentityError::WrongLogin`], which takes as long for an address that nobody has;
    /// [`IdentityError::SecondFactor`], [`IdentityError::Wait`].
    pub async fn login(
        &self,
        login: Login<'_>,
        workspaces: &[Workspace],
        by: impl FnOnce(&User, &Workspace) -> By,
    ) -> Result<LoggedIn, IdentityError> {
        // One that nobody can have is looked for all the same.
        let email = normal_email(login.email).unwrap_or_default();
        let stored = self.users.stored(&email).await?;
        let known_device = match (&stored, login.device) {
            (Some(stored), Some(device)) => self.knows(stored.user.id, device).await?,
            _ => false,
        };
        self.users.tries_now(&email, login.remote, known_device)?;
        // One that is too short is wrong, and takes as long.
        let (password, fits) = match Passphrase::new(login.password.clone()) {
            Ok(password) => (password, true),
            Err(_) => (Passphrase::new("nobody's password")?, false),
        };
        let nobody = || self.nobody.clone();
        let kept = stored
            .as_ref()
            .and_then(|it| it.password.clone())
            .unwrap_or_else(nobody);
        let key = self.users.hashing(move || kept.check(&password)).await?;
        let (Some(stored), Some(key), true) = (stored, key, fits) else {
            return Err(IdentityError::WrongLogin);
        };
        if stored.user.second_factor {
            // The password was right: asking for the code is no failure.
            let Some(code) = login.code else {
                let mut tries = self.users.tries.lock();
                tries.take_back(&email, login.remote, known_device);
                return Err(IdentityError::SecondFactor);
            };
            if !self.users.check_code(&stored, key, code).await? {
                return Err(IdentityError::WrongLogin);
            }
        }
        self.users
            .tries
            .lock()
            .forget(&email, login.remote, known_device);
        let workspace = self
            .first(stored.user.id, login.workspace, workspaces)
            .await?;
        let by = by(&stored.user, &workspace);
        let (id, proven) = (stored.user.id, stored.password);
        self.begin(
            stored.user,
            workspace,
            (&login.visit(), None),
            by,
            move |unit| {
                // It may have been taken from them since it was looked at.
                still_opens(unit, id, proven.as_ref())
            },
        )
        .await
    }

    /// Where somebody is first: where they want to be, else in the first that they belong to.
    pub(super) async fn first(
        &self,
        id: UserId,
        wanted: Option<&Workspace>,
        workspaces: &[Workspace],
    ) -> Result<Workspace, IdentityError> {
        let of = self.homes(id, workspaces).await?;
        let found = match wanted {
            Some(wanted) => of.into_iter().find(|(name, _)| name == wanted),
            None => of.into_iter().next(),
        };
        let found = found.map(|(name, _)| name);
        let name = wanted.map_or_else(|| "of yours".to_owned(), ToString::to_string);
        found.ok_or(IdentityError::NoWorkspace(name))
    }

    /// The workspaces that somebody belongs to, with what they are there.
    ///
    /// # Errors
    /// The store's own.
    pub async fn homes(
        &self,
        id: UserId,
        workspaces: &[Workspace],
    ) -> Result<Vec<(Workspace, crate::Role)>, StoreError> {
        let all = workspaces.to_vec();
        self.users
            .db
            .read(move |reader| {
                let mut of = Vec::new();
                for workspace in all {
                    if let Some(role) = role_of(&mut reader.scope(&workspace), id)? {
                        of.push((workspace, role));
                    }
                }
                Ok(of)
            })
            .await
    }

    async fn knows(&self, id: UserId, device: &str) -> Result<bool, StoreError> {
        let digest = hash(device);
        let since = self.users.db.clock().now().minus(DEVICE_FOR);
        self.users
            .db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT used_at FROM devices WHERE hash = ?1 AND user_id = ?2 AND used_at > ?3",
                    &[(&digest).into(), id.as_bytes().into(), since.into()],
                )?;
                Ok(!rows.is_empty())
            })
            .await
    }

    /// A session begins, at the provider with this name if at one, together with what else is done.
    pub(super) async fn begin(
        &self,
        user: User,
        workspace: Workspace,
        (login, issuer): (&Visit<'_>, Option<String>),
        by: By,
        also: impl FnOnce(&mut Unit<'_>) -> Result<(), IdentityError> + Send + 'static,
    ) -> Result<LoggedIn, IdentityError> {
        let text = |prefix| new_text_of(prefix).map_err(|_| CryptoError::System);
        let (secret, device) = (text(PREFIX)?, text(DEVICE_PREFIX)?);
        let now = self.users.db.clock().now();
        let session = Session {
            id: SessionId::new(),
            created_at: now,
            used_at: now,
            expires_at: now.plus(self.options.lifetime),
            remote: login.remote.to_string(),
            agent: login.agent.chars().take(MOST_AGENT).collect(),
        };
        let (row, id, of) = (session.clone(), user.id, workspace.clone());
        let (new, new_device) = (hash(&secret), hash(&device));
        let before = login.before.map(hash).unwrap_or_default();
        let old_device = login.device.map(hash).unwrap_or_default();
        let written: Result<(), IdentityError> = self
            .users
            .db
            .write(move |unit| {
                also(unit)?;
                let mut server = unit.server();
                make_room(&mut server, id, (&before, &old_device), now)?;
                server.execute(
                    "INSERT INTO sessions (hash, id, user_id, workspace_name, created_at, used_at, \
                     expires_at, remote, agent, issuer) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9)",
                    &[
                        (&new).into(),
                        row.id.as_bytes().into(),
                        id.as_bytes().into(),
                        of.as_str().into(),
                        now.into(),
                        row.expires_at.into(),
                        (&row.remote).into(),
                        (&row.agent).into(),
                        issuer.as_deref().into(),
                    ],
                )?;
                server.execute(
                    "INSERT INTO devices (hash, user_id, used_at) VALUES (?1, ?2, ?3)",
                    &[(&new_device).into(), id.as_bytes().into(), now.into()],
                )?;
                let change = Change {
                    action: None,
                    resource: ("Session", &row.id.to_string()),
                    what: "logged in",
                    hash: None,
                };
                Ok(by.did(&mut unit.scope(&of), &change, now)?)
            })
            .await;
        written?;
        Ok(LoggedIn {
            user,
            workspace,
            session,
            secret,
            device,
        })
    }

    /// Who shows a session, and what they are in the workspace that they mean: by default in the one that
    /// they logged in to.
    ///
    /// # Errors
    /// The store's own: without an answer nobody is let in.
    pub async fn find(
        &self,
        text: &str,
        wanted: Option<&Workspace>,
        workspaces: &[Workspace],
    ) -> Result<Option<Known>, StoreError> {
        if !text.starts_with(PREFIX) {
            return Ok(None);
        }
        let (digest, now) = (hash(text), self.users.db.clock().now());
        let idle = now.minus(self.options.idle);
        let wanted = wanted.cloned();
        let all = workspaces.to_vec();
        let found: Result<_, StoreError> = self
            .users
            .db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT id, user_id, workspace_name, used_at, created_at FROM sessions \
                     WHERE hash = ?1 AND expires_at > ?2 AND used_at > ?3",
                    &[(&digest).into(), now.into(), idle.into()],
                )?;
                let Some(row) = rows.first() else {
                    return Ok(None);
                };
                let user = UserId::from_bytes(row.bytes(1)?);
                let own = Workspace::new(row.text(2)?);
                let workspace = wanted.or_else(|| own.ok());
                let workspace = workspace.filter(|it| all.contains(it));
                let Some(workspace) = workspace else {
                    return Ok(None);
                };
                let role = role_of(&mut reader.scope(&workspace), user)?;
                let session = SessionId::from_bytes(row.bytes(0)?);
                let (used_at, began) = (row.time(3)?, row.time(4)?);
                Ok(role.map(|role| (user, (session, began), workspace, role, used_at)))
            })
            .await;
        let Some((user, (session, began), workspace, role, used_at)) = found? else {
            return Ok(None);
        };
        if now.since(used_at) >= USED_EVERY {
            self.use_it(digest, now).await?;
        }
        let principal = Principal {
            kind: PrincipalKind::User,
            id: user.to_string().into(),
            workspace,
            role: Some(role),
            scopes: Scopes::all(),
        };
        Ok(Some(Known {
            principal,
            user,
            session,
            began,
            hash: digest,
        }))
    }

    async fn use_it(&self, digest: [u8; 32], now: Timestamp) -> Result<(), StoreError> {
        let used = self.users.db.write(move |unit| {
            unit.server().execute(
                "UPDATE sessions SET used_at = ?2 WHERE hash = ?1 AND used_at < ?2",
                &[(&digest).into(), now.into()],
            )
        });
        used.await.map(drop)
    }

    /// The sessions of somebody that have not ended, the latest first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(&self, id: UserId) -> Result<Vec<Session>, StoreError> {
        let now = self.users.db.clock().now();
        let idle = now.minus(self.options.idle);
        self.users
            .db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT id, created_at, used_at, expires_at, remote, agent FROM sessions \
                     WHERE user_id = ?1 AND expires_at > ?2 AND used_at > ?3 \
                     ORDER BY used_at DESC, id DESC",
                    &[id.as_bytes().into(), now.into(), idle.into()],
                )?;
                rows.iter().map(session).collect()
            })
            .await
    }

    /// Ends one session of somebody, or all of them.
    ///
    /// # Errors
    /// [`IdentityError::NoSession`].
    pub async fn end(
        &self,
        (by, workspace): (&By, &Workspace),
        id: UserId,
        which: Option<SessionId>,
    ) -> Result<(), IdentityError> {
        let (by, of) = (by.clone(), workspace.clone());
        self.users
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut server = unit.server();
                let ended = match &which {
                    Some(session) => server.execute(
                        "DELETE FROM sessions WHERE user_id = ?1 AND id = ?2",
                        &[id.as_bytes().into(), session.as_bytes().into()],
                    )?,
                    None => server.execute(
                        "DELETE FROM sessions WHERE user_id = ?1",
                        &[id.as_bytes().into()],
                    )?,
                };
                if let (0, Some(session)) = (ended, which) {
                    return Err(IdentityError::NoSession(session.to_string()));
                }
                let (user, what) = (id.to_string(), format!("{ended} sessions ended"));
                let one = which.map(|session| session.to_string());
                let change = Change {
                    action: None,
                    resource: match &one {
                        Some(one) => ("Session", one),
                        None => ("User", &user),
                    },
                    what: match one {
                        Some(_) => "ended",
                        None => &what,
                    },
                    hash: None,
                };
                Ok(by.did(&mut unit.scope(&of), &change, now)?)
            })
            .await
    }
}

/// Takes away what a new session takes the place of, and what has ended.
fn make_room(
    server: &mut ServerScope<'_>,
    id: UserId,
    (session, device): (&[u8; 32], &[u8; 32]),
    now: Timestamp,
) -> Result<(), StoreError> {
    let of = id.as_bytes();
    server.execute(
        "DELETE FROM sessions WHERE (hash = ?1 AND user_id = ?2) OR expires_at <= ?3",
        &[session.into(), of.into(), now.into()],
    )?;
    server.execute(
        "DELETE FROM devices WHERE (hash = ?1 AND user_id = ?2) OR used_at <= ?3",
        &[device.into(), of.into(), now.minus(DEVICE_FOR).into()],
    )?;
    server
        .execute(
            "DELETE FROM sessions WHERE user_id = ?1 AND hash NOT IN (SELECT hash FROM sessions \
             WHERE user_id = ?1 ORDER BY used_at DESC, hash LIMIT ?2)",
            &[of.into(), (MOST - 1).into()],
        )
        .map(drop)
}

fn session(row: &Row) -> Result<Session, StoreError> {
    Ok(Session {
        id: SessionId::from_bytes(row.bytes(0)?),
        created_at: row.time(1)?,
        used_at: row.time(2)?,
        expires_at: row.time(3)?,
        remote: row.text(4)?.to_owned(),
        agent: row.text(5)?.to_owned(),
    })
}
