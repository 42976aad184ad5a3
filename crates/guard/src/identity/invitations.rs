//! Invitations: how people come.
//!
//! One is a random text, known by its hash, for one e-mail address; it counts once and ends. Whoever invites
//! hands it over: Skep sends no mail.

use std::net::IpAddr;
use std::time::Duration;

use skep_core::{InvitationId, Timestamp, UserId, Workspace};
use skep_crypto::CryptoError;
use skep_crypto::passphrase::Passphrase;
use skep_store::{By, Change, Row, Scope, StoreError, Unit};

use super::IdentityError;
use super::password::Kept;
use super::users::{
    User, Users, at_most, chosen, has_room, hash, join, normal_email, normal_name, role, tell,
};
use crate::keys;
use crate::policy::{Principal, Role};

/// For how long an invitation counts, unless it is said.
pub const INVITED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// For how long one may count.
const INVITED_LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);

/// An invitation that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// Where to.
    pub workspace: Workspace,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: Role,
    /// Who invited.
    pub invited_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An invitation that somebody shows, and who they are if they have been here before.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The invitation.
    pub invitation: Invitation,
    /// The person with its address.
    pub known: Option<User>,
    /// The id that the person has or gets.
    pub user: UserId,
}

/// How an offer is taken.
pub struct Accepted {
    /// What people call them; of no meaning for who has been here before.
    pub name: String,
    /// The password: a new one, or the one that they have.
    pub password: String,
    /// Where they come from.
    pub remote: IpAddr,
}

impl Users {
    /// Invites somebody; tells the text that they have to show, which nobody can tell again.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn invite(
        &self,
        by: &By,
        asker: &Principal,
        email: &str,
        role: Role,
        lasts: Duration,
    ) -> Result<(Invitation, String), IdentityError> {
        at_most(asker, role)?;
        if lasts.is_zero() || lasts > INVITED_LONGEST {
            let reason = "write more than 0 and at most 90d";
            return Err(IdentityError::invalid("expires_in", reason));
        }
        let text = keys::new_text_of("skep_invite_").map_err(|_| CryptoError::System)?;
        let now = self.db.clock().now();
        let invitation = Invitation {
            id: InvitationId::new(),
            workspace: asker.workspace.clone(),
            email: normal_email(email)?,
            role,
            invited_by: asker.id.to_string(),
            created_at: now,
            expires_at: now.plus(lasts),
        };
        let (by, row, digest) = (by.clone(), invitation.clone(), hash(&text));
        let written: Result<(), IdentityError> = self
            .db
            .write(move |unit| insert(unit, &by, &row, &digest))
            .await;
        written?;
        Ok((invitation, text))
    }

    /// The open invitations of a workspace, oldest first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn invitations(&self, workspace: &Workspace) -> Result<Vec<Invitation>, StoreError> {
        let (of, now) = (workspace.clone(), self.db.clock().now());
        self.db
            .read(move |reader| {
                let rows = reader.scope(&of).query(
                    "SELECT id, email, role, invited_by, created_at, expires_at FROM invitations \
                     WHERE workspace = ?1 AND expires_at > ?2 ORDER BY created_at, id",
                    &[now.into()],
                )?;
                rows.iter().map(|row| invitation(&of, row)).collect()
            })
            .await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`IdentityError::NoInvitation`].
    pub async fn withdraw(
        &self,
        by: &By,
        workspace: &Workspace,
        id: InvitationId,
    ) -> Result<(), IdentityError> {
        let (by, of) = (by.clone(), workspace.clone());
        self.db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                if take(&mut scope, id, now)? == 0 {
                    return Err(IdentityError::NoInvitation);
                }
                let id = id.to_string();
                let change = Change {
                    action: None,
                    resource: ("Invitation", &id),
                    what: "withdrawn",
                    hash: None,
                };
                Ok(by.did(&mut scope, &change, now)?)
            })
            .await
    }

    /// The invitation that somebody shows, in one of these workspaces.
    ///
    /// # Errors
    /// [`IdentityError::NoInvitation`].
    pub async fn offer(
        &self,
        text: &str,
        workspaces: &[Workspace],
    ) -> Result<Offer, IdentityError> {
        let (digest, now) = (hash(text), self.db.clock().now());
        let all = workspaces.to_vec();
        let found: Result<Option<Invitation>, StoreError> = self
            .db
            .read(move |reader| {
                for workspace in &all {
                    let rows = reader.scope(workspace).query(
                        "SELECT id, email, role, invited_by, created_at, expires_at \
                         FROM invitations WHERE workspace = ?1 AND hash = ?2 AND expires_at > ?3",
                        &[(&digest).into(), now.into()],
                    )?;
                    if let Some(row) = rows.first() {
                        return invitation(workspace, row).map(Some);
                    }
                }
                Ok(None)
            })
            .await;
        let invitation = found?.ok_or(IdentityError::NoInvitation)?;
        let known = self.stored(&invitation.email).await?.map(|it| it.user);
        let user = known.as_ref().map_or_else(UserId::new, |user| user.id);
        Ok(Offer {
            invitation,
            known,
            user,
        })
    }

    /// Takes an offer: once. Who has been here before shows their password.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn accept(
        &self,
        by: &By,
        offer: Offer,
        accepted: Accepted,
    ) -> Result<User, IdentityError> {
        let (email, remote) = (offer.invitation.email.clone(), accepted.remote);
        if offer.known.is_some() {
            // Who invites somebody has the text too, and is not to guess their password by it.
            self.tries_now(&email, remote, false)?;
        }
        let password = match &offer.known {
            Some(_) => Passphrase::new(accepted.password).map_err(|_| IdentityError::WrongLogin)?,
            None => chosen(&accepted.password, &email)?,
        };
        let known = match &offer.known {
            Some(_) => self.stored(&email).await?,
            None => None,
        };
        let name = match &known {
            Some(stored) => stored.user.name.clone(),
            None => normal_name(&accepted.name)?,
        };
        let kept = self
            .hashing(move || match known.map(|stored| stored.password) {
                // Who comes in by a provider alone takes it with that account.
                Some(None) => Ok(None),
                Some(Some(kept)) => Ok(kept.check(&password)?.map(|_| kept)),
                None => Kept::of(&password).map(|(kept, _)| Some(kept)),
            })
            .await?
            .ok_or(IdentityError::WrongLogin)?;
        self.tries.lock().forget(&email, remote, false);
        let user = User {
            id: offer.user,
            email,
            name,
            created_at: self.db.clock().now(),
            second_factor: offer.known.as_ref().is_some_and(|user| user.second_factor),
        };
        let is_known = offer.known.is_some();
        self.take_up(
            by,
            offer.invitation,
            user,
            move |unit, user| match is_known {
                true => still_there(unit, user.id),
                false => add(unit, user, &kept.to_bytes()),
            },
        )
        .await
    }

    /// Makes of who takes an invitation what it offers: once. `enter` sees to their account.
    pub(super) async fn take_up(
        &self,
        by: &By,
        invitation: Invitation,
        user: User,
        enter: impl FnOnce(&mut Unit<'_>, &User) -> Result<(), IdentityError> + Send + 'static,
    ) -> Result<User, IdentityError> {
        let (by, stored) = (by.clone(), user.clone());
        let written: Result<(), IdentityError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                if take(&mut unit.scope(&invitation.workspace), invitation.id, now)? == 0 {
                    return Err(IdentityError::NoInvitation);
                }
                enter(unit, &stored)?;
                let mut scope = unit.scope(&invitation.workspace);
                join(&mut scope, stored.id, invitation.role, now)?;
                let what = format!("joined with the role {}", invitation.role);
                tell(&by, &mut scope, stored.id, &what, now)
            })
            .await;
        written?;
        Ok(user)
    }
}

/// Somebody may have been forgotten since they were looked up.
pub(super) fn still_there(unit: &mut Unit<'_>, id: UserId) -> Result<(), IdentityError> {
    let id = id.as_bytes().into();
    let found = unit
        .server()
        .query("SELECT email FROM users WHERE id = ?1", &[id])?;
    match found.is_empty() {
        true => Err(IdentityError::NoInvitation),
        false => Ok(()),
    }
}

pub(super) fn add(unit: &mut Unit<'_>, user: &User, kept: &[u8]) -> Result<(), IdentityError> {
    let now = unit.now();
    let made = unit.server().execute(
        "INSERT INTO users (id, email, name, password, created_at, last_step) \
         VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT (email) DO NOTHING",
        &[
            user.id.as_bytes().into(),
            (&user.email).into(),
            (&user.name).into(),
            kept.into(),
            now.into(),
        ],
    )?;
    match made {
        // Two invitations of one address at once: the second is asked again.
        0 => Err(IdentityError::NoInvitation),
        _ => Ok(()),
    }
}

fn insert(
    unit: &mut Unit<'_>,
    by: &By,
    row: &Invitation,
    digest: &[u8; 32],
) -> Result<(), IdentityError> {
    let now = unit.now();
    let mut scope = unit.scope(&row.workspace);
    scope.execute(
        "DELETE FROM invitations WHERE workspace = ?1 AND (expires_at <= ?2 OR email = ?3)",
        &[now.into(), (&row.email).into()],
    )?;
    has_room(&mut scope, now)?;
    scope.execute(
        "INSERT INTO invitations (workspace, id, hash, email, role, invited_by, created_at, \
         expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            row.id.as_bytes().into(),
            digest.into(),
            (&row.email).into(),
            row.role.as_str().into(),
            (&row.invited_by).into(),
            row.created_at.into(),
            row.expires_at.into(),
        ],
    )?;
    let (id, what) = (row.id.to_string(), format!("with the role {}", row.role));
    let change = Change {
        action: None,
        resource: ("Invitation", &id),
        what: &what,
        hash: None,
    };
    Ok(by.did(&mut scope, &change, now)?)
}

fn take(scope: &mut Scope<'_>, id: InvitationId, now: Timestamp) -> Result<usize, StoreError> {
    scope.execute(
        "DELETE FROM invitations WHERE workspace = ?1 AND id = ?2 AND expires_at > ?3",
        &[id.as_bytes().into(), now.into()],
    )
}

fn invitation(workspace: &Workspace, row: &Row) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: InvitationId::from_bytes(row.bytes(0)?),
        workspace: workspace.clone(),
        email: row.text(1)?.to_owned(),
        role: role(row.text(2)?)?,
        invited_by: row.text(3)?.to_owned(),
        created_at: row.time(4)?,
        expires_at: row.time(5)?,
    })
}
