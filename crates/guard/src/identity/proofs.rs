//! Logins at a provider that are on their way, and what came of them: who somebody is there.
//!
//! A login that has begun is known by the hash of what the browser keeps of it, and counts once. What a browser
//! did for a program ends as a proof that waits for the program: it is known by a challenge of the program's
//! (as in RFC 7636), and counts once, with a code that the browser showed.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use skep_core::{Timestamp, Workspace};
use skep_crypto::CryptoError;
use skep_store::{Row, StoreError, Unit};

use super::IdentityError;
use super::users::{Users, hash};
use crate::limits::subscriber;

/// For how long a login that has begun may end, and a proof may be used.
pub const LOGIN_TIME: Duration = Duration::from_secs(10 * 60);
/// Logins from one network (an IPv4 address, an IPv6 /64) that may be on their way.
const MOST_OF_NETWORK: i64 = 50;
/// Logins that may be on their way, and proofs that may wait; over it the oldest go.
const MOST: i64 = 20_000;
/// Codes of a proof that may be wrong; then it is over.
const TRIES: i64 = 5;
/// What codes are made of: nothing that is taken for something else.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Characters of a challenge, and of what it is made of: 256 bits.
const CHALLENGE: usize = 43;

/// Who somebody is at a provider, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What the provider is called here.
    pub provider: String,
    /// Its own name.
    pub issuer: String,
    /// Whom it means by that.
    pub subject: String,
    /// Their address, when it is known to be theirs.
    pub email: Option<String>,
    /// What people call them.
    pub name: String,
    /// Whether it asked for a second factor.
    pub second_factor: bool,
}

/// A login that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// At which provider.
    pub provider: String,
    /// Where the browser goes afterwards: a path of ours.
    pub back: Option<String>,
    /// Where they want to be first.
    pub workspace: Option<Workspace>,
    /// The challenge of the program that it is for.
    pub challenge: Option<String>,
}

/// Whether a text can be a challenge, or what one is made of.
#[must_use]
pub fn is_challenge(text: &str) -> bool {
    let is_part = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    text.len() == CHALLENGE && text.bytes().all(is_part)
}

/// A code in the form that it is compared in.
fn plain(code: &str) -> String {
    let kept = code.chars().filter(|it| !matches!(it, '-' | ' '));
    kept.collect::<String>().to_ascii_uppercase()
}

fn new_code() -> Result<String, CryptoError> {
    let bytes = skep_crypto::random::<8>()?;
    let all = bytes.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    let text: String = all.iter().collect();
    Ok(format!("{}-{}", &text[..4], &text[4..]))
}

impl Users {
    /// A login begins; `key` is the hash of what the browser keeps.
    ///
    /// # Errors
    /// [`IdentityError::Wait`] when too many are on their way from there.
    pub async fn begin_login(
        &self,
        key: [u8; 32],
        begun: Begun,
        remote: IpAddr,
    ) -> Result<(), IdentityError> {
        let network = subscriber(remote).to_string();
        self.db
            .write(move |unit| {
                let now = unit.now();
                let mut server = unit.server();
                server.execute(
                    "DELETE FROM provider_logins WHERE expires_at <= ?1",
                    &[now.into()],
                )?;
                let rows = server.query(
                    "SELECT COUNT(*), COALESCE(MIN(expires_at), 0) FROM provider_logins \
                     WHERE network = ?1",
                    &[(&network).into()],
                )?;
                if let Some(row) = rows.first()
                    && row.int(0)? >= MOST_OF_NETWORK
                {
                    return Err(IdentityError::Wait(row.time(1)?.since(now)));
                }
                make_room(unit, "logins")?;
                unit.server().execute(
                    "INSERT INTO provider_logins (hash, provider, network, back, workspace_name, \
                     challenge, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    &[
                        (&key).into(),
                        (&begun.provider).into(),
                        (&network).into(),
                        begun.back.as_deref().into(),
                        begun.workspace.as_ref().map(Workspace::as_str).into(),
                        begun.challenge.as_deref().into(),
                        now.plus(LOGIN_TIME).into(),
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// The login with this key, once: whoever comes with it again finds none.
    ///
    /// # Errors
    /// The store's own.
    pub async fn take_login(&self, key: [u8; 32]) -> Result<Option<Begun>, StoreError> {
        self.db
            .write(move |unit| {
                let now = unit.now();
                let rows = unit.server().query(
                    "DELETE FROM provider_logins WHERE hash = ?1 \
                     RETURNING provider, back, workspace_name, challenge, expires_at",
                    &[(&key).into()],
                )?;
                let Some(row) = rows.first() else {
                    return Ok(None);
                };
                if row.time(4)? <= now {
                    return Ok(None);
                }
                let named = row.opt_text(2)?.map(Workspace::new).transpose();
                Ok(Some(Begun {
                    provider: row.text(0)?.to_owned(),
                    back: row.opt_text(1)?.map(str::to_owned),
                    workspace: named.map_err(|error| StoreError::Statement(error.to_string()))?,
                    challenge: row.opt_text(3)?.map(str::to_owned),
                }))
            })
            .await
    }

    /// Keeps a proof for the program with this challenge; tells the code that the browser shows.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn keep_proof(
        &self,
        challenge: String,
        proof: Proof,
    ) -> Result<String, IdentityError> {
        let code = new_code()?;
        let digest = hash(&plain(&code));
        let kept: Result<(), StoreError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                unit.server().execute(
                    "DELETE FROM provider_proofs WHERE expires_at <= ?1 OR challenge = ?2",
                    &[now.into(), (&challenge).into()],
                )?;
                make_room(unit, "proofs")?;
                unit.server().execute(
                    "INSERT INTO provider_proofs (challenge, code, tries, provider, issuer, subject, \
                     email, name, second_factor, expires_at) \
                     VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    &[
                        (&challenge).into(),
                        (&digest).into(),
                        (&proof.provider).into(),
                        (&proof.issuer).into(),
                        (&proof.subject).into(),
                        proof.email.as_deref().into(),
                        (&proof.name).into(),
                        i64::from(proof.second_factor).into(),
                        now.plus(LOGIN_TIME).into(),
                    ],
                )?;
                Ok(())
            })
            .await;
        kept?;
        Ok(code)
    }

    /// The proof of who has what its challenge is made of and its code, once.
    ///
    /// # Errors
    /// [`IdentityError::NoProof`].
    pub async fn take_proof(&self, verifier: &str, code: &str) -> Result<Proof, IdentityError> {
        if !is_challenge(verifier) {
            return Err(IdentityError::NoProof);
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let shown = hash(&plain(code));
        let found: Result<Option<Proof>, StoreError> = self
            .db
            .write(move |unit| take(unit, &challenge, &shown))
            .await;
        found?.ok_or(IdentityError::NoProof)
    }
}

/// Takes a proof out when the code is right; counts the try when it is wrong.
fn take(
    unit: &mut Unit<'_>,
    challenge: &str,
    shown: &[u8; 32],
) -> Result<Option<Proof>, StoreError> {
    let now = unit.now();
    let mut server = unit.server();
    let rows = server.query(
        "UPDATE provider_proofs SET tries = tries + 1 WHERE challenge = ?1 \
         RETURNING code, provider, issuer, subject, email, name, second_factor, expires_at, tries",
        &[challenge.into()],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (ends, tries): (Timestamp, i64) = (row.time(7)?, row.int(8)?);
    let right = ends > now && tries <= TRIES && skep_crypto::same(row.blob(0)?, shown);
    if right || tries >= TRIES {
        server.execute(
            "DELETE FROM provider_proofs WHERE challenge = ?1",
            &[challenge.into()],
        )?;
    }
    right.then(|| proof(row)).transpose()
}

fn proof(row: &Row) -> Result<Proof, StoreError> {
    Ok(Proof {
        provider: row.text(1)?.to_owned(),
        issuer: row.text(2)?.to_owned(),
        subject: row.text(3)?.to_owned(),
        email: row.opt_text(4)?.map(str::to_owned),
        name: row.text(5)?.to_owned(),
        second_factor: row.int(6)? != 0,
    })
}

/// Lets the oldest go when there are too many.
fn make_room(unit: &mut Unit<'_>, of: &str) -> Result<(), StoreError> {
    let (count, oldest) = match of {
        "logins" => (
            "SELECT COUNT(*) FROM provider_logins",
            "DELETE FROM provider_logins WHERE hash IN \
             (SELECT hash FROM provider_logins ORDER BY expires_at LIMIT ?1)",
        ),
        _ => (
            "SELECT COUNT(*) FROM provider_proofs",
            "DELETE FROM provider_proofs WHERE challenge IN \
             (SELECT challenge FROM provider_proofs ORDER BY expires_at LIMIT ?1)",
        ),
    };
    let mut server = unit.server();
    let rows = server.query(count, &[])?;
    let there = rows.first().map(|row| row.int(0)).transpose()?;
    let over = there.unwrap_or_default() - (MOST - 1);
    if over > 0 {
        server.execute(oldest, &[over.into()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_write_them() {
        let code = new_code().unwrap();
        assert_eq!(code.len(), 9);
        assert_eq!(plain(&code.to_lowercase()), plain(&code));
        assert_eq!(plain(" abcd - efgh "), "ABCDEFGH");
        assert_ne!(new_code().unwrap(), code);
    }

    #[test]
    fn a_challenge_has_one_form() {
        assert!(is_challenge(&"a".repeat(43)));
        for wrong in ["", &"a".repeat(42), &"a".repeat(44), &"=".repeat(43)] {
            assert!(!is_challenge(wrong), "{wrong}");
        }
    }
}
