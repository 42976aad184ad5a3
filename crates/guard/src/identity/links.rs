//! Who of our people has which account at which provider, and how somebody comes in by one.
//!
//! An account is known by its issuer and subject, never by its address: addresses change hands. An address binds
//! an account to somebody who is here only at a provider that is trusted for it.

use skep_core::{LinkId, Timestamp, UserId, Workspace};
use skep_store::{By, Change, Row, ServerScope, StoreError, Unit};

use super::IdentityError;
use super::invitations::{Offer, add, still_there};
use super::proofs::Proof;
use super::sessions::{LoggedIn, Sessions, Visit};
use super::users::{User, Users, has_room, join, normal_name, tell};
use crate::policy::Role;

/// Accounts at providers that one person has.
const MOST: i64 = 16;
/// What is kept of a password where there is none.
pub(super) const NO_PASSWORD: &[u8] = &[];

/// An account at a provider that somebody comes in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its id.
    pub id: LinkId,
    /// The provider's own name.
    pub issuer: String,
    /// The address that it said when it was linked.
    pub email: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
}

/// Whom a provider's word lets in who is not linked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admits {
    /// Whether the address may be somebody's who is here.
    pub by_email: bool,
    /// Where they come in who are new, and as what.
    pub join: Option<(Workspace, Role)>,
}

/// How an account of a provider becomes somebody here.
#[derive(Debug, Clone)]
enum How {
    /// It is linked.
    Linked,
    /// It is linked now, to who has its address.
    Bound,
    /// It is somebody new.
    New(Workspace, Role),
}

impl Users {
    /// Whom an account is linked to.
    async fn linked(&self, proof: &Proof) -> Result<Option<UserId>, StoreError> {
        let (issuer, subject) = (proof.issuer.clone(), proof.subject.clone());
        self.db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT user_id FROM provider_links WHERE issuer = ?1 AND subject = ?2",
                    &[(&issuer).into(), (&subject).into()],
                )?;
                let id = rows.first().map(|row| row.bytes(0)).transpose()?;
                Ok(id.map(UserId::from_bytes))
            })
            .await
    }

    /// The accounts of somebody, oldest first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn links(&self, id: UserId) -> Result<Vec<Link>, StoreError> {
        self.db
            .read(move |reader| {
                let rows = reader.server().query(
                    "SELECT id, issuer, email, created_at, used_at FROM provider_links \
                     WHERE user_id = ?1 ORDER BY created_at, id",
                    &[id.as_bytes().into()],
                )?;
                rows.iter().map(read).collect()
            })
            .await
    }

    /// Links an account to somebody who has shown it, in a session that has not ended.
    ///
    /// # Errors
    /// [`IdentityError::LinkTaken`]; [`IdentityError::NotFresh`] when the session has ended meanwhile.
    pub async fn link(
        &self,
        (by, workspace): (&By, &Workspace),
        (id, session): (UserId, [u8; 32]),
        proof: Proof,
    ) -> Result<Link, IdentityError> {
        let (by, of) = (by.clone(), workspace.clone());
        let link = new(&proof, self.db.clock().now());
        let row = link.clone();
        let written: Result<(), IdentityError> = self
            .db
            .write(move |unit| {
                still_there(unit, id)?;
                let sql = "SELECT 1 FROM sessions WHERE hash = ?1 AND user_id = ?2";
                let begun = [(&session).into(), id.as_bytes().into()];
                if unit.server().query(sql, &begun)?.is_empty() {
                    return Err(IdentityError::NotFresh);
                }
                insert(unit, &row, &proof.subject, id)?;
                let (now, what) = (unit.now(), format!("linked to {}", proof.provider));
                tell(&by, &mut unit.scope(&of), id, &what, now)
            })
            .await;
        written?;
        Ok(link)
    }

    /// Takes a link away, and ends the sessions that began by it. The last way in stays.
    ///
    /// # Errors
    /// [`IdentityError::NoLink`], [`IdentityError::LastWayIn`].
    pub async fn unlink(
        &self,
        (by, workspace): (&By, &Workspace),
        id: UserId,
        link: LinkId,
    ) -> Result<(), IdentityError> {
        let (by, of) = (by.clone(), workspace.clone());
        self.db
            .write(move |unit| {
                let now = unit.now();
                let mut server = unit.server();
                server.in_turn()?;
                let rows = server.query(
                    "DELETE FROM provider_links WHERE user_id = ?1 AND id = ?2 RETURNING issuer",
                    &[id.as_bytes().into(), link.as_bytes().into()],
                )?;
                let gone = rows.first();
                let gone = gone.ok_or_else(|| IdentityError::NoLink(link.to_string()))?;
                let issuer = gone.text(0)?.to_owned();
                let rows = server.query(
                    "SELECT password, (SELECT COUNT(*) FROM provider_links WHERE user_id = ?1) \
                     FROM users WHERE id = ?1",
                    &[id.as_bytes().into()],
                )?;
                let row = rows.first();
                let row = row.ok_or_else(|| IdentityError::NoUser(id.to_string()))?;
                if row.blob(0)? == NO_PASSWORD && row.int(1)? == 0 {
                    return Err(IdentityError::LastWayIn);
                }
                server.execute(
                    "DELETE FROM sessions WHERE user_id = ?1 AND issuer = ?2",
                    &[id.as_bytes().into(), (&issuer).into()],
                )?;
                let what = format!("link to {issuer} dropped");
                tell(&by, &mut unit.scope(&of), id, &what, now)
            })
            .await
    }

    /// Takes an offer with an account at a provider instead of a password: the account has the address that
    /// is invited.
    ///
    /// # Errors
    /// [`IdentityError::NotInvited`], and as [`Users::accept`].
    pub async fn accept_proven(
        &self,
        by: &By,
        offer: Offer,
        (proof, admits): (Proof, Admits),
        name: &str,
    ) -> Result<User, IdentityError> {
        if proof.email.as_deref() != Some(&*offer.invitation.email) {
            return Err(IdentityError::NotInvited);
        }
        let linked = self.linked(&proof).await?;
        let how = match (linked, &offer.known) {
            (Some(id), Some(known)) if id == known.id => How::Linked,
            // Who has been here before and has another way in shows that one.
            (None, Some(_)) if admits.by_email => How::Bound,
            (None, None) => {
                let Offer { invitation, .. } = &offer;
                How::New(invitation.workspace.clone(), invitation.role)
            }
            _ => return Err(IdentityError::NotInvited),
        };
        let name = match (&offer.known, name.trim()) {
            (Some(user), _) => user.name.clone(),
            (None, "") => normal_name(&proof.name)?,
            (None, name) => normal_name(name)?,
        };
        let wants = offer.known.as_ref().is_some_and(|user| user.second_factor);
        if wants && !proof.second_factor {
            return Err(IdentityError::ProviderFactor);
        }
        let now = self.db.clock().now();
        let user = offer.known.clone().unwrap_or_else(|| User {
            id: offer.user,
            email: offer.invitation.email.clone(),
            name,
            created_at: now,
            second_factor: false,
        });
        let (told, of) = (by.clone(), offer.invitation.workspace.clone());
        self.take_up(by, offer.invitation, user, move |unit, user| {
            come(unit, user, (&proof, &how), (&told, &of))
        })
        .await
    }
}

impl Sessions {
    /// Lets somebody in by their account at a provider. `by` says how it is written down, once it is known who
    /// they are.
    ///
    /// # Errors
    /// [`IdentityError::NotInvited`] when the account is nobody's here; [`IdentityError::ProviderFactor`] when
    /// they have a second factor here and the provider did not ask for one.
    pub async fn login_proven(
        &self,
        (proof, admits): (Proof, Admits),
        visit: Visit<'_>,
        workspaces: &[Workspace],
        by: impl FnOnce(&User, &Workspace) -> By,
    ) -> Result<LoggedIn, IdentityError> {
        let (user, how) = self.resolve(&proof, admits, workspaces).await?;
        if user.second_factor && !proof.second_factor {
            return Err(IdentityError::ProviderFactor);
        }
        let workspace = match &how {
            How::New(workspace, _) => workspace.clone(),
            _ => self.first(user.id, visit.workspace, workspaces).await?,
        };
        let by = by(&user, &workspace);
        let issuer = Some(proof.issuer.clone());
        let (person, of, told) = (user.clone(), workspace.clone(), by.clone());
        let come = move |unit: &mut Unit<'_>| {
            come(unit, &person, (&proof, &how), (&told, &of))?;
            let How::New(_, role) = &how else {
                return Ok(());
            };
            let now = unit.now();
            let mut scope = unit.scope(&of);
            has_room(&mut scope, now)?;
            join(&mut scope, person.id, *role, now)?;
            let what = format!("came by {} with the role {role}", proof.provider);
            tell(&told, &mut scope, person.id, &what, now)
        };
        self.begin(user, workspace, (&visit, issuer), by, come)
            .await
    }

    /// Who it is, or is to be.
    async fn resolve(
        &self,
        proof: &Proof,
        admits: Admits,
        workspaces: &[Workspace],
    ) -> Result<(User, How), IdentityError> {
        if let Some(id) = self.users.linked(proof).await? {
            let user = self.users.user(id).await?;
            return Ok((user.ok_or(IdentityError::NotInvited)?, How::Linked));
        }
        let email = proof.email.as_deref().ok_or(IdentityError::NotInvited)?;
        if let Some(stored) = self.users.stored(email).await? {
            return match admits.by_email {
                true => Ok((stored.user, How::Bound)),
                false => Err(IdentityError::NotInvited),
            };
        }
        let (workspace, role) = admits.join.ok_or(IdentityError::NotInvited)?;
        if !workspaces.contains(&workspace) {
            return Err(IdentityError::NoWorkspace(workspace.to_string()));
        }
        let user = User {
            id: UserId::new(),
            email: email.to_owned(),
            name: normal_name(&proof.name)?,
            created_at: self.users.db.clock().now(),
            second_factor: false,
        };
        Ok((user, How::New(workspace, role)))
    }
}

/// Makes of somebody's account what it is to be.
fn come(
    unit: &mut Unit<'_>,
    user: &User,
    (proof, how): (&Proof, &How),
    (by, workspace): (&By, &Workspace),
) -> Result<(), IdentityError> {
    let now = unit.now();
    match how {
        How::Linked => {
            let used = unit.server().execute(
                "UPDATE provider_links SET used_at = ?4 \
                 WHERE issuer = ?1 AND subject = ?2 AND user_id = ?3",
                &[
                    (&proof.issuer).into(),
                    (&proof.subject).into(),
                    user.id.as_bytes().into(),
                    now.into(),
                ],
            )?;
            // It may have gone since it was looked up.
            return match used {
                0 => Err(IdentityError::NotInvited),
                _ => still_there(unit, user.id),
            };
        }
        How::Bound => {
            still_there(unit, user.id)?;
            start_anew(unit, user.id)?;
        }
        How::New(..) => add(unit, user, NO_PASSWORD)?,
    }
    insert(unit, &new(proof, now), &proof.subject, user.id)?;
    if let How::Bound = how {
        unit.server().execute(
            "UPDATE provider_links SET by_email = 1 WHERE issuer = ?1 AND subject = ?2",
            &[(&proof.issuer).into(), (&proof.subject).into()],
        )?;
    }
    let change = Change {
        action: None,
        resource: ("User", &user.id.to_string()),
        what: &format!("linked to {}", proof.provider),
        hash: None,
    };
    Ok(by.did(&mut unit.scope(workspace), &change, now)?)
}

/// Takes every other way in from an account whose owner comes for the first time by a provider that is
/// trusted for their address. An invitation proves no address: whoever took one under another's has the
/// account until then, and nothing of it after. A second factor stays: who has one here is asked for one there.
fn start_anew(unit: &mut Unit<'_>, user: UserId) -> Result<(), StoreError> {
    let (mut server, id) = (unit.server(), user.as_bytes());
    let proven = server.query(
        "SELECT 1 FROM provider_links WHERE user_id = ?1 AND by_email = 1",
        &[id.into()],
    )?;
    if !proven.is_empty() {
        return Ok(());
    }
    for sql in [
        "DELETE FROM provider_links WHERE user_id = ?1",
        "DELETE FROM sessions WHERE user_id = ?1",
        "DELETE FROM devices WHERE user_id = ?1",
    ] {
        server.execute(sql, &[id.into()])?;
    }
    let empty = "UPDATE users SET password = ?2 WHERE id = ?1";
    server.execute(empty, &[id.into(), NO_PASSWORD.into()])?;
    Ok(())
}

fn new(proof: &Proof, now: Timestamp) -> Link {
    Link {
        id: LinkId::new(),
        issuer: proof.issuer.clone(),
        email: proof.email.clone(),
        created_at: now,
        used_at: now,
    }
}

fn insert(
    unit: &mut Unit<'_>,
    link: &Link,
    subject: &str,
    user: UserId,
) -> Result<(), IdentityError> {
    let mut server = unit.server();
    server.in_turn()?;
    if count(&mut server, user)? >= MOST {
        let reason = format!("a person has at most {MOST} of them; drop one");
        return Err(IdentityError::invalid("link", reason));
    }
    let made = server.execute(
        "INSERT INTO provider_links (issuer, subject, id, user_id, email, created_at, used_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (issuer, subject) DO NOTHING",
        &[
            (&link.issuer).into(),
            subject.into(),
            link.id.as_bytes().into(),
            user.as_bytes().into(),
            link.email.as_deref().into(),
            link.created_at.into(),
        ],
    )?;
    match made {
        0 => Err(IdentityError::LinkTaken),
        _ => Ok(()),
    }
}

fn count(server: &mut ServerScope<'_>, user: UserId) -> Result<i64, StoreError> {
    let rows = server.query(
        "SELECT COUNT(*) FROM provider_links WHERE user_id = ?1",
        &[user.as_bytes().into()],
    )?;
    let found = rows.first().map(|row| row.int(0)).transpose()?;
    Ok(found.unwrap_or_default())
}

fn read(row: &Row) -> Result<Link, StoreError> {
    Ok(Link {
        id: LinkId::from_bytes(row.bytes(0)?),
        issuer: row.text(1)?.to_owned(),
        email: row.opt_text(2)?.map(str::to_owned),
        created_at: row.time(3)?,
        used_at: row.time(4)?,
    })
}
