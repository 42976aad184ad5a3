//! The second factor: an authenticator's codes, and codes for who has lost it.
//!
//! The seed is encrypted by a key that only the password makes: whoever has the store alone has no codes.

use skep_core::{UserId, Workspace};
use skep_crypto::{CryptoError, Key};
use skep_store::{By, StoreError};

use super::password::Kept;
use super::users::{Stored, Users, hash, still_opens, tell};
use super::{IdentityError, totp};

/// Codes for who has lost the authenticator.
const RECOVERY: usize = 10;
pub(super) const SEED_CONTEXT: &[u8] = b"skep authenticator seed";

/// What an authenticator is set up with.
pub struct SecondFactor {
    /// The seed as people type it.
    pub secret: String,
    /// The seed as an authenticator reads it.
    pub uri: String,
}

impl Users {
    /// What an authenticator is set up with. It counts from [`Users::confirm`] on.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn second_factor(&self, id: UserId) -> Result<SecondFactor, IdentityError> {
        let stored = self.stored_by_id(id).await?;
        let stored = stored.ok_or_else(|| IdentityError::NoUser(id.to_string()))?;
        let seed = skep_crypto::random::<{ totp::SEED }>()?;
        Ok(SecondFactor {
            secret: totp::base32(&seed),
            uri: totp::uri(&seed, &stored.user.email),
        })
    }

    /// Wants a code of this authenticator from now on; who asks shows that it is set up, and whose it is.
    /// Tells codes that count once each instead, for who loses it.
    ///
    /// # Errors
    /// [`IdentityError::WrongLogin`] when password or code are wrong.
    pub async fn confirm(
        &self,
        (by, workspace): (&By, &Workspace),
        id: UserId,
        password: &str,
        (secret, code): (&str, &str),
    ) -> Result<Vec<String>, IdentityError> {
        let seed = totp::from_base32(secret)
            .ok_or_else(|| IdentityError::invalid("secret", "send the one that you were told"))?;
        let (stored, key) = self.opened(id, password).await?;
        let step = totp::check(&seed, code, self.db.clock().now(), 0);
        let step = step.ok_or(IdentityError::WrongLogin)?;
        let sealed = key.seal(SEED_CONTEXT, &seed)?;
        let mut recovery = Vec::with_capacity(RECOVERY);
        for _ in 0..RECOVERY {
            let text = totp::base32(&skep_crypto::random::<10>()?).to_lowercase();
            let parts: Vec<&str> = (0..4).map(|at| &text[at * 4..at * 4 + 4]).collect();
            recovery.push(parts.join("-"));
        }
        let hashes: Vec<u8> = recovery.iter().flat_map(|code| hash(code)).collect();
        let factor = Some((sealed, step, hashes));
        self.set_factor((by, workspace), (id, stored.password), factor)
            .await?;
        Ok(recovery)
    }

    /// Wants no code any more.
    ///
    /// # Errors
    /// [`IdentityError::WrongLogin`] when the password is wrong.
    pub async fn drop_second_factor(
        &self,
        of: (&By, &Workspace),
        id: UserId,
        password: &str,
    ) -> Result<(), IdentityError> {
        let (stored, _) = self.opened(id, password).await?;
        self.set_factor(of, (id, stored.password), None).await
    }

    async fn set_factor(
        &self,
        (by, workspace): (&By, &Workspace),
        (id, proven): (UserId, Option<Kept>),
        factor: Option<(Vec<u8>, i64, Vec<u8>)>,
    ) -> Result<(), IdentityError> {
        let (by, of) = (by.clone(), workspace.clone());
        self.db
            .write(move |unit| {
                still_opens(unit, id, proven.as_ref())?;
                let now = unit.now();
                let (seed, step, recovery) = match &factor {
                    Some((seed, step, recovery)) => (Some(&seed[..]), *step, Some(&recovery[..])),
                    None => (None, 0, None),
                };
                unit.server().execute(
                    "UPDATE users SET seed = ?2, last_step = ?3, recovery = ?4 WHERE id = ?1",
                    &[
                        id.as_bytes().into(),
                        seed.into(),
                        step.into(),
                        recovery.into(),
                    ],
                )?;
                let what = match factor {
                    Some(_) => "second factor set",
                    None => "second factor dropped",
                };
                tell(&by, &mut unit.scope(&of), id, what, now)
            })
            .await
    }

    /// Whether this code is right now. None counts twice.
    pub(crate) async fn check_code(
        &self,
        stored: &Stored,
        key: Key,
        code: &str,
    ) -> Result<bool, IdentityError> {
        let Some(sealed) = &stored.seed else {
            return Ok(true);
        };
        let seed = key.open(SEED_CONTEXT, sealed)?;
        let seed = <[u8; totp::SEED]>::try_from(&seed[..]).map_err(|_| CryptoError::Damaged)?;
        let id = stored.user.id;
        let now = self.db.clock().now();
        if let Some(step) = totp::check(&seed, code, now, stored.last_step) {
            let used: Result<usize, StoreError> = self
                .db
                .write(move |unit| {
                    unit.server().execute(
                        "UPDATE users SET last_step = ?2 WHERE id = ?1 AND last_step < ?2",
                        &[id.as_bytes().into(), step.into()],
                    )
                })
                .await;
            return Ok(used? == 1);
        }
        let shown = hash(code.trim());
        let mut left = stored.recovery.chunks(32);
        let Some(_) = left.find(|kept| skep_crypto::same(kept, &shown)) else {
            return Ok(false);
        };
        let before = stored.recovery.clone();
        let rest: Vec<u8> = before
            .chunks(32)
            .filter(|kept| *kept != shown)
            .flatten()
            .copied()
            .collect();
        let used: Result<usize, StoreError> = self
            .db
            .write(move |unit| {
                unit.server().execute(
                    "UPDATE users SET recovery = ?3 WHERE id = ?1 AND recovery = ?2",
                    &[
                        id.as_bytes().into(),
                        before.as_slice().into(),
                        rest.as_slice().into(),
                    ],
                )
            })
            .await;
        Ok(used? == 1)
    }
}
