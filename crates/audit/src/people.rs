//! Personal data beside the log: entries hold commitments, and what these stand for is here, until it is
//! erased. An entry is never changed by that: it says as much as before, only nobody can tell of whom.
//!
//! A commitment is HMAC-SHA-256, under a random secret of the person's in their workspace, of the kind, a
//! zero byte and the value. Without the secret it says nothing, not even to somebody who tries all
//! addresses there are. Nothing of it is kept in memory: what another server erases is gone here too.

use std::collections::HashMap;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use skep_core::{PersonId, Timestamp};
use skep_store::{Scope, StoreError};

use crate::Commitment;

/// People of a workspace who are known by one value only, about; a new one takes the place of the oldest.
const MOST_UNNAMED: i64 = 10_000;
/// One in so many new ones looks whether there are too many: it counts them.
const ROOM_EVERY: u8 = 64;
/// The longest value: an e-mail address has 254 characters at most.
const MOST_VALUE: usize = 320;
/// Bytes of a person's secret.
const SECRET: usize = 32;

/// What kind of personal data something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The address that a request came from.
    Address,
    /// An e-mail address.
    Email,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Email => "email",
        }
    }
}

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose<'a> {
    /// Of this user, by their id: all of theirs is erased together.
    User(&'a str),
    /// Of somebody who is known by it alone.
    Somebody,
}

fn commitment(secret: &[u8], kind: &str, value: &str) -> Result<String, StoreError> {
    // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret)
        .map_err(|error| StoreError::Statement(error.to_string()))?;
    mac.update(kind.as_bytes());
    mac.update(&[0]);
    mac.update(value.as_bytes());
    let mut text = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// The commitment to something personal, to be put into an entry of the same unit. What it stands for
/// is kept with the unit, where it is not yet.
///
/// # Errors
/// The store's own; [`StoreError::Statement`] for a value of over 320 bytes.
pub fn commit_person(
    scope: &mut Scope<'_>,
    whose: Whose<'_>,
    kind: Kind,
    value: &str,
    now: Timestamp,
) -> Result<Commitment<'static>, StoreError> {
    if value.len() > MOST_VALUE {
        let why = format!("personal data has {MOST_VALUE} bytes at most");
        return Err(StoreError::Statement(why));
    }
    // Two servers that see the same for the first time give it one secret.
    scope.in_turn()?;
    let kind = kind.as_str();
    let (named, user) = match whose {
        Whose::User(id) => (1_i64, id),
        Whose::Somebody => (0, ""),
    };
    let known = scope.query_opt(
        "SELECT commitment, person FROM audit_people WHERE workspace = ?1 AND value = ?2 \
         AND kind = ?3 AND named = ?4 AND (named = 0 OR person = ?5)",
        &[value.into(), kind.into(), named.into(), user.into()],
    )?;
    if let Some(row) = known {
        return Ok(Commitment {
            kind: kind.into(),
            commitment: row.text(0)?.to_owned().into(),
            person: row.text(1)?.to_owned().into(),
        });
    }
    let (person, secret) = match whose {
        Whose::User(id) => (id.to_owned(), secret_of(scope, id)?),
        Whose::Somebody => {
            let person = PersonId::new();
            if person.as_bytes()[15].is_multiple_of(ROOM_EVERY) {
                make_room(scope)?;
            }
            (person.to_string(), None)
        }
    };
    let secret = match secret {
        Some(secret) => secret,
        None => {
            let mut secret = vec![0; SECRET];
            getrandom::fill(&mut secret)
                .map_err(|error| StoreError::Statement(format!("no random bytes: {error}")))?;
            secret
        }
    };
    let made = Commitment {
        kind: kind.into(),
        commitment: commitment(&secret, kind, value)?.into(),
        person: person.into(),
    };
    scope.execute(
        "INSERT INTO audit_people (workspace, commitment, person, named, kind, value, secret, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            (&*made.commitment).into(),
            (&*made.person).into(),
            named.into(),
            kind.into(),
            value.into(),
            secret.as_slice().into(),
            now.into(),
        ],
    )?;
    Ok(made)
}

fn secret_of(scope: &mut Scope<'_>, person: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row = scope.query_opt(
        "SELECT secret FROM audit_people WHERE workspace = ?1 AND person = ?2 AND named = 1 LIMIT 1",
        &[person.into()],
    )?;
    row.map(|row| row.blob(0).map(<[u8]>::to_vec)).transpose()
}

/// Forgets the oldest of those who are known by one value only, when there are too many.
fn make_room(scope: &mut Scope<'_>) -> Result<(), StoreError> {
    scope.execute(
        "DELETE FROM audit_people WHERE workspace = ?1 AND commitment IN (\
         SELECT commitment FROM audit_people WHERE workspace = ?1 AND named = 0 \
         ORDER BY at DESC, commitment LIMIT 1000 OFFSET ?2)",
        &[(MOST_UNNAMED - 1).into()],
    )?;
    Ok(())
}

/// Whether anything is known of a person.
///
/// # Errors
/// The store's own.
pub fn knows_person(scope: &mut Scope<'_>, person: &str) -> Result<bool, StoreError> {
    let row = scope.query_opt(
        "SELECT 1 FROM audit_people WHERE workspace = ?1 AND person = ?2 LIMIT 1",
        &[person.into()],
    )?;
    Ok(row.is_some())
}

/// Erases everything of a person and their secret; tells how many values that were. The entries stay as
/// they are, and nobody can tell any more what their commitments are of. Comes before
/// [`skep_store::Db::settle`].
///
/// # Errors
/// The store's own.
pub fn erase_person(scope: &mut Scope<'_>, person: &str) -> Result<usize, StoreError> {
    scope.in_turn()?;
    let erased = scope.execute(
        "DELETE FROM audit_people WHERE workspace = ?1 AND person = ?2",
        &[person.into()],
    )?;
    if erased > 0 {
        scope.wipe("audit_people")?;
    }
    Ok(erased)
}

/// What commitments stand for, as far as it is not erased.
///
/// # Errors
/// The store's own.
pub fn reveal<'a>(
    scope: &mut Scope<'_>,
    commitments: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, String>, StoreError> {
    let mut known = HashMap::new();
    for commitment in commitments {
        if known.contains_key(commitment) {
            continue;
        }
        let row = scope.query_opt(
            "SELECT value FROM audit_people WHERE workspace = ?1 AND commitment = ?2",
            &[commitment.into()],
        )?;
        if let Some(row) = row {
            known.insert(commitment.to_owned(), row.text(0)?.to_owned());
        }
    }
    Ok(known)
}
