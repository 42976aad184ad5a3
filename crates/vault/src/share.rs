//! Shares: who may do what with a secret besides those whom policies let, and wishes for that.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use skep_core::{AccessRequestId, SecretId, Timestamp, Workspace};
use skep_crypto::Key;
use skep_store::{By, Row};

use crate::VaultError;
use crate::lease::check_holder;
use crate::room::Room;
use crate::row::check;
use crate::secrets::Which;
use crate::service::Vault;

/// Shares of a secret.
pub(crate) const MOST_SHARES: usize = 1_000;
/// Requests of a workspace that wait.
pub(crate) const MOST_REQUESTS: usize = 1_000;
/// Characters of a reason.
pub(crate) const MOST_REASON: usize = 500;
/// The longest time that is asked for.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// For how long a request is kept that was decided; the audit log has it for ever.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Requests of a list.
const PAGE: i64 = 500;

const SHARES: &str = "secret_shares";
const REQUESTS: &str = "secret_requests";
const REASON: &[u8] = b"skep vault reason";

/// What may be done with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum May {
    /// Use it: Skep puts the value in.
    Use,
    /// See it.
    Reveal,
    /// Give it a new value.
    Write,
}

impl May {
    const ALL: [Self; 3] = [Self::Use, Self::Reveal, Self::Write];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Reveal => "reveal",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for May {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for May {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, VaultError> {
        let found = Self::ALL.into_iter().find(|may| may.as_str() == text);
        found.ok_or_else(|| {
            VaultError::invalid("may", format!("`{text}` is none of use, reveal and write"))
        })
    }
}

/// That somebody may do something with a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Which secret.
    pub secret: SecretId,
    /// Who: `user:usr_…`, `agent:hello`, `key:key_…`.
    pub holder: String,
    /// What.
    pub may: May,
    /// Since when.
    pub made_at: Timestamp,
    /// Who said so.
    pub made_by: String,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Nothing yet.
    Waiting,
    /// Somebody said yes.
    Approved,
    /// Somebody said no.
    Denied,
    /// Who asked does not want it any more.
    Withdrawn,
}

impl Decision {
    const ALL: [Self; 4] = [Self::Waiting, Self::Approved, Self::Denied, Self::Withdrawn];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl FromStr for Decision {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, VaultError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| {
            let reason = format!("`{text}` is none of waiting, approved, denied and withdrawn");
            VaultError::invalid("state", reason)
        })
    }
}

/// A wish to do something with a secret for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRequest {
    /// Its id.
    pub id: AccessRequestId,
    /// Which secret.
    pub secret: SecretId,
    /// Who wishes.
    pub holder: String,
    /// What.
    pub may: May,
    /// Why.
    pub reason: String,
    /// For how long.
    pub lasts: Duration,
    /// What became of it.
    pub state: Decision,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// By whom.
    pub decided_by: Option<String>,
}

/// Whether somebody can be let do that at all: an agent never holds a value.
fn check_may(holder: &str, may: May) -> Result<(), VaultError> {
    check_holder("holder", holder)?;
    match may == May::Reveal && holder.starts_with("agent:") {
        true => Err(VaultError::invalid(
            "may",
            "an agent is never shown a value; let it `use` the secret",
        )),
        false => Ok(()),
    }
}

/// Whether a text can be a reason.
///
/// # Errors
/// [`VaultError::Invalid`].
pub(crate) fn check_reason(text: &str) -> Result<(), VaultError> {
    let count = text.trim().chars().count();
    if count == 0 || count > MOST_REASON || text.chars().any(char::is_control) {
        let reason = format!("say why, in 1 to {MOST_REASON} characters");
        return Err(VaultError::invalid("reason", reason));
    }
    Ok(())
}

impl Room<'_> {
    fn write_share(&mut self, share: &Share) -> Result<(), VaultError> {
        let columns = [
            share.secret.as_bytes().into(),
            (&share.holder).into(),
            share.may.as_str().into(),
            share.made_at.into(),
            (&share.made_by).into(),
            share.expires_at.into(),
        ];
        self.write_row(
            SHARES,
            "INSERT INTO secret_shares (workspace, secret, holder, may, made_at, made_by, expires_at, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (workspace, secret, holder, may) \
             DO UPDATE SET made_at = excluded.made_at, made_by = excluded.made_by, \
             expires_at = excluded.expires_at, mac = excluded.mac",
            &columns,
        )
    }

    fn read_share(&self, row: &Row) -> Result<Share, VaultError> {
        check(&self.index.rows, SHARES, self.scope.workspace(), row, 6)?;
        Ok(Share {
            secret: SecretId::from_bytes(row.bytes(0)?),
            holder: row.text(1)?.to_owned(),
            may: row.text(2)?.parse()?,
            made_at: row.time(3)?,
            made_by: row.text(4)?.to_owned(),
            expires_at: row.opt_time(5)?,
        })
    }

    /// The shares of a secret that count.
    fn shares(&mut self, secret: SecretId) -> Result<Vec<Share>, VaultError> {
        let rows = self.scope.query(
            "SELECT secret, holder, may, made_at, made_by, expires_at, mac FROM secret_shares \
             WHERE workspace = ?1 AND secret = ?2 ORDER BY made_at, holder, may",
            &[secret.as_bytes().into()],
        )?;
        let now = self.now;
        let shares = rows.iter().map(|row| self.read_share(row));
        let shares: Result<Vec<Share>, VaultError> = shares.collect();
        let mut shares = shares?;
        shares.retain(|share| share.expires_at.is_none_or(|end| end > now));
        Ok(shares)
    }

    /// What somebody was let do with a secret, as far as it counts.
    pub(crate) fn own_shares(
        &mut self,
        secret: SecretId,
        holder: &str,
    ) -> Result<Vec<May>, VaultError> {
        let rows = self.scope.query(
            "SELECT secret, holder, may, made_at, made_by, expires_at, mac FROM secret_shares \
             WHERE workspace = ?1 AND secret = ?2 AND holder = ?3",
            &[secret.as_bytes().into(), holder.into()],
        )?;
        let now = self.now;
        let shares = rows.iter().map(|row| self.read_share(row));
        let shares: Result<Vec<Share>, VaultError> = shares.collect();
        let counts = |share: &Share| share.expires_at.is_none_or(|end| end > now);
        Ok(shares?
            .into_iter()
            .filter(counts)
            .map(|it| it.may)
            .collect())
    }

    fn reason_key(&self) -> Result<Key, VaultError> {
        Ok(self.index.rows.derive("skep vault reasons")?)
    }

    fn write_request(&mut self, request: &AccessRequest) -> Result<(), VaultError> {
        let sealed = self.reason_key()?.seal(REASON, request.reason.as_bytes())?;
        let lasts = i64::try_from(request.lasts.as_micros()).unwrap_or(i64::MAX);
        let columns = [
            request.id.as_bytes().into(),
            request.secret.as_bytes().into(),
            (&request.holder).into(),
            request.may.as_str().into(),
            sealed.as_slice().into(),
            lasts.into(),
            request.state.as_str().into(),
            request.made_at.into(),
            request.decided_at.into(),
            request.decided_by.as_deref().into(),
        ];
        self.write_row(
            REQUESTS,
            "INSERT INTO secret_requests (workspace, id, secret, holder, may, reason, lasts, state, \
             made_at, decided_at, decided_by, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT (workspace, id) DO UPDATE SET reason = excluded.reason, \
             state = excluded.state, decided_at = excluded.decided_at, \
             decided_by = excluded.decided_by, mac = excluded.mac",
            &columns,
        )
    }

    fn read_request(&self, row: &Row) -> Result<AccessRequest, VaultError> {
        check(&self.index.rows, REQUESTS, self.scope.workspace(), row, 10)?;
        let reason = self.reason_key()?.open(REASON, row.blob(4)?)?;
        let lasts = u64::try_from(row.int(5)?).unwrap_or(0);
        Ok(AccessRequest {
            id: AccessRequestId::from_bytes(row.bytes(0)?),
            secret: SecretId::from_bytes(row.bytes(1)?),
            holder: row.text(2)?.to_owned(),
            may: row.text(3)?.parse()?,
            reason: String::from_utf8_lossy(&reason).into_owned(),
            lasts: Duration::from_micros(lasts),
            state: row.text(6)?.parse()?,
            made_at: row.time(7)?,
            decided_at: row.opt_time(8)?,
            decided_by: row.opt_text(9)?.map(str::to_owned),
        })
    }

    fn request(&mut self, id: AccessRequestId) -> Result<AccessRequest, VaultError> {
        let row = self.scope.query_opt(
            "SELECT id, secret, holder, may, reason, lasts, state, made_at, decided_at, decided_by, mac \
             FROM secret_requests WHERE workspace = ?1 AND id = ?2",
            &[id.as_bytes().into()],
        )?;
        let row = row.ok_or(VaultError::NoRequest(id))?;
        self.read_request(&row)
    }

    fn shared_with(&mut self, holder: &str) -> Result<Vec<SecretId>, VaultError> {
        let rows = self.scope.query(
            "SELECT DISTINCT secret FROM secret_shares WHERE workspace = ?1 AND holder = ?2",
            &[holder.into()],
        )?;
        rows.iter()
            .map(|row| Ok(SecretId::from_bytes(row.bytes(0)?)))
            .collect()
    }

    fn put_share(&mut self, by: &By, share: &Share) -> Result<(), VaultError> {
        let there = self.shares(share.secret)?;
        let is_new = !there
            .iter()
            .any(|it| it.holder == share.holder && it.may == share.may);
        if is_new && there.len() >= MOST_SHARES {
            return Err(VaultError::TooMany {
                what: "shares of this secret",
                most: MOST_SHARES,
            });
        }
        self.write_share(share)?;
        let until = share.expires_at.map(|end| format!(" until {end}"));
        let until = until.unwrap_or_default();
        let what = format!("{} may {}{until}", share.holder, share.may);
        Ok(self.tell(by, "secret:share", share.secret, &what)?)
    }
}

impl Vault {
    /// Lets somebody do something with a secret.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], [`VaultError::Invalid`], [`VaultError::TooMany`].
    pub async fn share(
        &self,
        by: &By,
        workspace: &Workspace,
        who: &str,
        which: &Which,
        (holder, may, lasts): (String, May, Option<Duration>),
    ) -> Result<Share, VaultError> {
        check_may(&holder, may)?;
        check_lasts(lasts)?;
        let (by, who, which) = (by.clone(), who.to_owned(), which.clone());
        self.change(workspace, move |room, _| {
            let share = Share {
                secret: room.get(&which)?.id,
                holder,
                may,
                made_at: room.now,
                made_by: who,
                expires_at: lasts.map(|lasts| room.now.plus(lasts)),
            };
            room.put_share(&by, &share)?;
            Ok(share)
        })
        .await
    }

    /// Takes it back. Leases that were made of it end too.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], also when there is no such share.
    pub async fn unshare(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
        (holder, may): (String, May),
    ) -> Result<(), VaultError> {
        let (by, which) = (by.clone(), which.clone());
        self.change(workspace, move |room, _| {
            let secret = room.get(&which)?;
            let gone = room.scope.execute(
                "DELETE FROM secret_shares WHERE workspace = ?1 AND secret = ?2 AND holder = ?3 AND may = ?4",
                &[
                    secret.id.as_bytes().into(),
                    (&holder).into(),
                    may.as_str().into(),
                ],
            )?;
            if gone == 0 {
                return Err(VaultError::NotFound(format!("{} for {holder}", secret.about.name)));
            }
            if may == May::Use {
                room.end_of(&by, secret.id, &holder)?;
            }
            let what = format!("{holder} may not {may} any more");
            Ok(room.tell(&by, "secret:share", secret.id, &what)?)
        })
        .await
    }

    /// The shares of a secret that count.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn shares(
        &self,
        workspace: &Workspace,
        secret: SecretId,
    ) -> Result<Vec<Share>, VaultError> {
        let found = self
            .look(workspace, move |room| room.shares(secret))
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Asks for a share.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], [`VaultError::Invalid`], [`VaultError::TooMany`].
    pub async fn ask(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
        (holder, may, lasts): (String, May, Duration),
        reason: String,
    ) -> Result<AccessRequest, VaultError> {
        check_may(&holder, may)?;
        check_reason(&reason)?;
        check_lasts(Some(lasts))?;
        let (by, which) = (by.clone(), which.clone());
        self.change(workspace, move |room, _| {
            let secret = room.get(&which)?;
            let rows = room.scope.query(
                "SELECT COUNT(*) FROM secret_requests WHERE workspace = ?1 AND state = 'waiting'",
                &[],
            )?;
            let waiting = rows.first().map_or(Ok(0), |row| row.int(0))?;
            if usize::try_from(waiting).unwrap_or(usize::MAX) >= MOST_REQUESTS {
                return Err(VaultError::TooMany {
                    what: "requests that wait",
                    most: MOST_REQUESTS,
                });
            }
            let request = AccessRequest {
                id: AccessRequestId::new(),
                secret: secret.id,
                holder,
                may,
                reason,
                lasts,
                state: Decision::Waiting,
                made_at: room.now,
                decided_at: None,
                decided_by: None,
            };
            room.write_request(&request)?;
            let what = format!("{} asks to {may}: {}", request.holder, request.id);
            room.tell(&by, "secret:ask", secret.id, &what)?;
            Ok(request)
        })
        .await
    }

    /// Decides a request; a yes makes the share. Who asked can only withdraw it.
    ///
    /// # Errors
    /// [`VaultError::NoRequest`], [`VaultError::Decided`], [`VaultError::OwnRequest`].
    pub async fn decide(
        &self,
        by: &By,
        workspace: &Workspace,
        who: &str,
        id: AccessRequestId,
        decision: Decision,
    ) -> Result<AccessRequest, VaultError> {
        let (by, who) = (by.clone(), who.to_owned());
        self.change(workspace, move |room, _| {
            let mut request = room.request(id)?;
            if request.state != Decision::Waiting {
                return Err(VaultError::Decided(request.state.as_str()));
            }
            let own = request.holder == who;
            if own != (decision == Decision::Withdrawn) {
                return Err(VaultError::OwnRequest);
            }
            request.state = decision;
            request.decided_at = Some(room.now);
            request.decided_by = Some(who.clone());
            room.write_request(&request)?;
            let what = format!("request {id} {}", decision.as_str());
            room.tell(&by, "secret:decide", request.secret, &what)?;
            if decision == Decision::Approved {
                let share = Share {
                    secret: request.secret,
                    holder: request.holder.clone(),
                    may: request.may,
                    made_at: room.now,
                    made_by: who,
                    expires_at: Some(room.now.plus(request.lasts)),
                };
                room.put_share(&by, &share)?;
            }
            Ok(request)
        })
        .await
    }

    /// Takes all back that somebody was let do, who is gone: whoever gets the name next has none of it.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn forget_holder(
        &self,
        by: &By,
        workspace: &Workspace,
        holder: &str,
    ) -> Result<(), VaultError> {
        let (by, holder, of) = (by.clone(), holder.to_owned(), holder.to_owned());
        let there = self.look(workspace, move |room| room.shared_with(&of));
        if there.await?.unwrap_or_default().is_empty() {
            return Ok(());
        }
        self.change(workspace, move |room, _| {
            for secret in room.shared_with(&holder)? {
                room.end_of(&by, secret, &holder)?;
                let what = format!("{holder} is gone, and may nothing any more");
                room.tell(&by, "secret:share", secret, &what)?;
            }
            room.scope.execute(
                "DELETE FROM secret_shares WHERE workspace = ?1 AND holder = ?2",
                &[(&holder).into()],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets shares that are over, and requests that were decided long ago.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn sweep_shares(&self, workspace: &Workspace) -> Result<(), VaultError> {
        let over = self.look(workspace, |room| {
            let old = room.now.minus(KEPT);
            let row = room.scope.query_opt(
                "SELECT 1 FROM secret_shares WHERE workspace = ?1 AND expires_at <= ?2 \
                 UNION SELECT 1 FROM secret_requests WHERE workspace = ?1 \
                 AND state <> 'waiting' AND made_at <= ?3",
                &[room.now.into(), old.into()],
            )?;
            Ok(row.is_some())
        });
        if !over.await?.unwrap_or(false) {
            return Ok(());
        }
        self.change(workspace, |room, _| {
            let now = room.now;
            room.scope.execute(
                "DELETE FROM secret_shares WHERE workspace = ?1 AND expires_at <= ?2",
                &[now.into()],
            )?;
            room.scope.execute(
                "DELETE FROM secret_requests WHERE workspace = ?1 AND state <> 'waiting' \
                 AND made_at <= ?2",
                &[now.minus(KEPT).into()],
            )?;
            Ok(())
        })
        .await
    }

    /// Requests in a state, newest first, at most 500.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn requests(
        &self,
        workspace: &Workspace,
        state: Decision,
    ) -> Result<Vec<AccessRequest>, VaultError> {
        let found = self.look(workspace, move |room| {
            let rows = room.scope.query(
                "SELECT id, secret, holder, may, reason, lasts, state, made_at, decided_at, decided_by, mac \
                 FROM secret_requests WHERE workspace = ?1 AND state = ?2 \
                 ORDER BY made_at DESC LIMIT ?3",
                &[state.as_str().into(), PAGE.into()],
            )?;
            rows.iter().map(|row| room.read_request(row)).collect()
        });
        Ok(found.await?.unwrap_or_default())
    }
}

fn check_lasts(lasts: Option<Duration>) -> Result<(), VaultError> {
    match lasts {
        Some(lasts) if lasts.is_zero() || lasts > LONGEST => {
            Err(VaultError::invalid("lasts", "a second to a year"))
        }
        _ => Ok(()),
    }
}
