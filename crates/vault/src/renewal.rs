//! New values for secrets, made by hooks: the life of a renewal as a machine without I/O, and its row.
//!
//! ```text
//! Making ─▶ Proving ─▶ Kept ─▶ (over)
//!              │
//!              └─▶ Abandoning ─▶ (over)
//! ```
//!
//! A hook *makes* a value, and *proves* that it works. Until then the secret has the value that it had; from
//! then on the new one is its latest version, and what was before works on until the hook *retires* it. A value
//! that is not proven is *abandoned*, and the secret stays as it was. Each step is told to the hook at least
//! once, and perhaps twice: who is killed in between asks again.

use std::str::FromStr;
use std::time::Duration;

use skep_core::{SecretId, Timestamp, Workspace};
use skep_store::{By, Row};

use crate::VaultError;
use crate::keyring::{Keyring, Live, forget_value};
use crate::room::Room;
use crate::row::check;
use crate::secret::Secret;
use crate::secrets::Which;
use crate::service::Vault;
use crate::value::SecretValue;

/// The table, for its rows' MACs.
const RENEWALS: &str = "secret_renewals";
/// Where a value lies that is not proven: beside the versions, which are counted from 1.
pub(crate) const UNPROVEN: u32 = u32::MAX >> 1;
/// How often a step is tried; a value is tried to be made without an end.
const MOST_TRIES: u32 = 6;
/// The wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The wait before a secret is renewed again whose new value was abandoned.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
/// Renewals that are told at once.
const PAGE: i64 = 100;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The hook makes a value.
    Making,
    /// It proves that it works.
    Proving,
    /// The secret has it; the one before works still.
    Kept,
    /// It was not proven: the hook takes it away.
    Abandoning,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Making, Self::Proving, Self::Kept, Self::Abandoning];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Proving => "proving",
            Self::Kept => "kept",
            Self::Abandoning => "abandoning",
        }
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no phase of a renewal"))
    }
}

/// A secret that gets a new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// What comes next.
    pub phase: Phase,
    /// The version that the new one follows.
    pub follows: u32,
    /// How often the phase has failed.
    pub tries: u32,
    /// When it is done, or done again.
    pub next_at: Timestamp,
    /// When it began.
    pub began_at: Timestamp,
}

/// What a hook said.
pub enum Said {
    /// This is the new value.
    Made(SecretValue),
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
}

/// What becomes of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// It goes on so.
    Goes(Renewal),
    /// The new value counts from now on, and it goes on so.
    Promotes(Renewal),
    /// It is over; a secret that has no new value is due again then.
    Over(Option<Timestamp>),
}

impl Renewal {
    fn begin(follows: u32, now: Timestamp) -> Self {
        Self {
            phase: Phase::Making,
            follows,
            tries: 0,
            next_at: now,
            began_at: now,
        }
    }

    fn to(&self, phase: Phase, next_at: Timestamp) -> Self {
        Self {
            phase,
            tries: 0,
            next_at,
            ..self.clone()
        }
    }

    /// What the hook's word makes of it. `done`: it did what it was told.
    fn after(&self, done: bool, keep: Duration, now: Timestamp) -> Next {
        if done {
            return match self.phase {
                Phase::Making => Next::Goes(self.to(Phase::Proving, now)),
                Phase::Proving => Next::Promotes(self.to(Phase::Kept, now.plus(keep))),
                Phase::Kept => Next::Over(None),
                Phase::Abandoning => Next::Over(Some(now.plus(AGAIN))),
            };
        }
        let tries = self.tries.saturating_add(1);
        if tries >= MOST_TRIES {
            match self.phase {
                // It goes on: nothing stands in its way.
                Phase::Making => {}
                Phase::Proving => return Next::Goes(self.to(Phase::Abandoning, now)),
                // Whoever looks at the events takes the value away by hand; the next renewal shall not wait for it.
                Phase::Kept => return Next::Over(None),
                Phase::Abandoning => return Next::Over(Some(now.plus(AGAIN))),
            }
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(16));
        Next::Goes(Self {
            tries,
            next_at: now.plus(wait.min(LONGEST_WAIT)),
            ..self.clone()
        })
    }
}

/// What a hook is told to do.
pub struct Order {
    /// The secret.
    pub secret: Secret,
    /// How far it is.
    pub renewal: Renewal,
    /// The value that it is about: while one is made that which the secret has, else the new one; the old one
    /// when that is retired. None when it is gone.
    pub value: Option<SecretValue>,
    /// Whether nobody is to be told: what would be retired is in use again.
    pub is_moot: bool,
}

impl Vault {
    /// Begins to renew a secret. When that goes on already, what waits is done now: what failed is tried again, and
    /// a value that is kept is retired. Tells how far it is.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], [`VaultError::Sealed`].
    pub async fn renew_value(
        &self,
        by: &By,
        workspace: &Workspace,
        which: &Which,
    ) -> Result<Renewal, VaultError> {
        let (by, which) = (by.clone(), which.clone());
        self.change(workspace, move |room, _| {
            let secret = room.get(&which)?;
            secret.about.name.not_own()?;
            room.not_mounted(&secret.about.name)?;
            if let Some(mut renewal) = room.renewal(secret.id)? {
                if renewal.next_at > room.now {
                    renewal.next_at = room.now;
                    room.write_renewal(secret.id, &renewal)?;
                    room.tell(&by, "secret:write", secret.id, "its renewal is tried again")?;
                }
                return Ok(renewal);
            }
            let renewal = Renewal::begin(secret.latest, room.now);
            room.write_renewal(secret.id, &renewal)?;
            room.tell(&by, "secret:write", secret.id, "its renewal begins")?;
            Ok(renewal)
        })
        .await
    }

    /// How far the renewal of a secret is, if it has begun.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn renewal(
        &self,
        workspace: &Workspace,
        id: SecretId,
    ) -> Result<Option<Renewal>, VaultError> {
        let found = self.look(workspace, move |room| room.renewal(id)).await?;
        Ok(found.flatten())
    }

    /// What hooks are to be told now. One that is damaged holds up no other.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn orders(
        &self,
        workspace: &Workspace,
    ) -> Result<Vec<Result<Order, VaultError>>, VaultError> {
        let orders = self.look(workspace, |room| {
            let rows = room.scope.query(
                "SELECT secret, phase, follows, tries, next_at, began_at, mac FROM secret_renewals \
                 WHERE workspace = ?1 AND next_at <= ?2 ORDER BY next_at LIMIT ?3",
                &[room.now.into(), PAGE.into()],
            )?;
            Ok(rows.iter().map(|row| room.order(row)).collect())
        });
        Ok(orders.await?.unwrap_or_default())
    }

    /// Writes down what a hook said to an order. What is not as it was when the order was given changes
    /// nothing.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub async fn renewed(
        &self,
        by: &By,
        workspace: &Workspace,
        (id, before): (SecretId, Renewal),
        said: Said,
        keep: Duration,
    ) -> Result<(), VaultError> {
        let by = by.clone();
        self.change(workspace, move |room, live| {
            if room.renewal(id)?.as_ref() != Some(&before) {
                return Ok(());
            }
            let mut secret = room.get(&Which::Id(id))?;
            let what = |done: &str| format!("its renewal: {} {done}", before.phase.as_str());
            if let (Phase::Making, Said::Made(value)) = (before.phase, &said) {
                forget_value(&mut room.scope, id, UNPROVEN)?;
                Keyring::write(&mut room.scope, live, id, UNPROVEN, value.bytes())?;
            }
            // A value without a word of proof, or a word without a value, is none.
            let done = matches!(
                (before.phase, &said),
                (Phase::Making, Said::Made(_))
                    | (Phase::Proving | Phase::Kept | Phase::Abandoning, Said::Done)
            );
            let mut next = before.after(done, keep, room.now);
            // Somebody gave it another value meanwhile: that counts.
            let overtaken = secret.latest != before.follows;
            if overtaken && matches!(before.phase, Phase::Making | Phase::Proving) {
                next = match room.unproven(id)? {
                    Some(_) => Next::Goes(before.to(Phase::Abandoning, room.now)),
                    None => Next::Over(None),
                };
            }
            match next {
                Next::Goes(next) => room.write_renewal(id, &next)?,
                Next::Promotes(next) => {
                    room.promote((live, &by), &mut secret)?;
                    room.write_renewal(id, &next)?;
                }
                Next::Over(again) => {
                    room.end_renewal(id)?;
                    if again.is_some() && !overtaken {
                        secret.rotate_at = secret.about.rotate_every.and(again);
                        room.save(&secret)?;
                    }
                }
            }
            let told = what(if done { "is done" } else { "failed" });
            room.tell(&by, "secret:write", id, &told)?;
            Ok(())
        })
        .await
    }
}

fn missing() -> VaultError {
    VaultError::Corrupt("a renewal without its value".to_owned())
}

impl Room<'_> {
    fn renewal(&mut self, id: SecretId) -> Result<Option<Renewal>, VaultError> {
        let row = self.scope.query_opt(
            "SELECT secret, phase, follows, tries, next_at, began_at, mac FROM secret_renewals \
             WHERE workspace = ?1 AND secret = ?2",
            &[id.as_bytes().into()],
        )?;
        row.map(|row| Ok(self.read_renewal(&row)?.1)).transpose()
    }

    fn read_renewal(&self, row: &Row) -> Result<(SecretId, Renewal), VaultError> {
        check(&self.index.rows, RENEWALS, self.scope.workspace(), row, 6)?;
        let number = |at: usize| {
            let number = u32::try_from(row.int(at)?);
            number.map_err(|_| VaultError::Corrupt("a number of a renewal".to_owned()))
        };
        let renewal = Renewal {
            phase: row.text(1)?.parse().map_err(VaultError::Corrupt)?,
            follows: number(2)?,
            tries: number(3)?,
            next_at: row.time(4)?,
            began_at: row.time(5)?,
        };
        Ok((SecretId::from_bytes(row.bytes(0)?), renewal))
    }

    fn write_renewal(&mut self, id: SecretId, renewal: &Renewal) -> Result<(), VaultError> {
        let columns = [
            id.as_bytes().into(),
            renewal.phase.as_str().into(),
            renewal.follows.into(),
            renewal.tries.into(),
            renewal.next_at.into(),
            renewal.began_at.into(),
        ];
        self.write_row(
            RENEWALS,
            "INSERT INTO secret_renewals (workspace, secret, phase, follows, tries, next_at, began_at, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (workspace, secret) DO UPDATE SET \
             phase = excluded.phase, tries = excluded.tries, next_at = excluded.next_at, \
             mac = excluded.mac",
            &columns,
        )
    }

    fn order(&mut self, row: &Row) -> Result<Order, VaultError> {
        let (id, renewal) = self.read_renewal(row)?;
        let secret = self.get(&Which::Id(id))?;
        let value = match renewal.phase {
            Phase::Making => self.read(id, secret.latest).ok(),
            Phase::Kept => self.read(id, renewal.follows).ok(),
            Phase::Proving | Phase::Abandoning => Some(self.unproven(id)?.ok_or_else(missing)?),
        };
        // Somebody went back to it.
        let is_moot = renewal.phase == Phase::Kept
            && secret.latest != renewal.follows
            && value.is_some()
            && self.read(id, secret.latest).ok() == value;
        Ok(Order {
            secret,
            renewal,
            value,
            is_moot,
        })
    }

    fn unproven(&mut self, id: SecretId) -> Result<Option<SecretValue>, VaultError> {
        let value = self.keyring.read(&mut self.scope, id, UNPROVEN)?;
        Ok(value.map(SecretValue::from_opened))
    }

    /// What was proven is the secret's latest version from now on.
    fn promote(&mut self, with: (&Live, &By), secret: &mut Secret) -> Result<(), VaultError> {
        let value = self.unproven(secret.id)?.ok_or_else(missing)?;
        self.append(with, secret, ("hook", &value, None))?;
        Ok(forget_value(&mut self.scope, secret.id, UNPROVEN)?)
    }

    /// Forgets a renewal, with a value that was not proven.
    pub(crate) fn end_renewal(&mut self, id: SecretId) -> Result<(), VaultError> {
        forget_value(&mut self.scope, id, UNPROVEN)?;
        self.scope.execute(
            "DELETE FROM secret_renewals WHERE workspace = ?1 AND secret = ?2",
            &[id.as_bytes().into()],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    #[test]
    fn a_value_that_is_never_proven_is_abandoned() {
        let mut now = Timestamp::from_micros(0);
        let mut renewal = Renewal::begin(3, now);
        let mut waits = Vec::new();
        while renewal.phase != Phase::Abandoning {
            let done = renewal.phase == Phase::Making;
            let Next::Goes(next) = renewal.after(done, KEEP, now) else {
                panic!("it goes on");
            };
            waits.push(next.next_at.since(now).as_secs());
            now = next.next_at;
            renewal = next;
        }
        assert_eq!(waits, [0, 15, 30, 60, 120, 240, 0]);
        let over = renewal.after(true, KEEP, now);
        assert_eq!(over, Next::Over(Some(now.plus(AGAIN))));
    }

    proptest! {
        /// Whatever the hook says, and however often: nothing counts that it has not made and then proven, and
        /// what is before it is retired no sooner than it is to be kept.
        #[test]
        fn nothing_counts_that_was_not_proven(words in prop::collection::vec(any::<bool>(), 1..60)) {
            let mut now = Timestamp::from_micros(0);
            let mut renewal = Renewal::begin(1, now);
            let (mut made, mut promoted) = (false, None);
            for done in words {
                prop_assert!(renewal.next_at >= now);
                now = renewal.next_at;
                let before = renewal.phase;
                made |= before == Phase::Making && done;
                match renewal.after(done, KEEP, now) {
                    Next::Goes(next) => {
                        prop_assert!(done || next.next_at > now || next.phase == Phase::Abandoning);
                        prop_assert!(next.next_at.since(now) <= LONGEST_WAIT);
                        renewal = next;
                    }
                    Next::Promotes(next) => {
                        prop_assert!(before == Phase::Proving && done && made && promoted.is_none());
                        promoted = Some(now);
                        renewal = next;
                    }
                    Next::Over(again) => {
                        prop_assert_eq!(again.is_none(), promoted.is_some());
                        if let Some(promoted) = promoted {
                            prop_assert!(now.since(promoted) >= KEEP);
                        }
                        break;
                    }
                }
            }
        }
    }
}
