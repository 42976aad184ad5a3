//! How good answers were, as agents and people say: of one exchange, or of a thread, from 0 to 1. A score is kept with the
//! model and the version of a prompt that it is of, so that both can be looked at beside others.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use skep_core::{ExchangeId, Timestamp};
use skep_store::{By, Row, Scope, StoreError};

use super::service::{Models, Who};
use crate::EgressError;
use crate::rows;

/// Models and versions of one thread that a score of it is kept for.
const MOST_OF_THREAD: i64 = 100;
/// Bytes of a thread's name.
const MOST_THREAD: usize = 256;
/// How the audit log calls it.
const KIND: &str = "Score";
/// What a score is kept in.
const PARTS: f64 = 1_000_000.0;

/// What is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scored {
    /// An exchange.
    Exchange(ExchangeId),
    /// All exchanges of a thread, by its name.
    Thread(String),
}

impl Scored {
    /// How it is kept, and written down.
    fn target(&self) -> String {
        match self {
            Self::Exchange(id) => id.to_string(),
            Self::Thread(thread) => mark(thread.as_bytes()),
        }
    }
}

/// Scores of something together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// How many.
    pub(crate) count: u64,
    /// All together, in millionths.
    pub(crate) whole: i64,
}

impl Sum {
    /// What they are on average.
    pub(crate) fn average(self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "an average for people")]
        let average = self.whole as f64 / PARTS / self.count as f64;
        (self.count > 0).then_some(average)
    }
}

/// How the ledger names a thread: nothing of its name can be read from that.
pub(super) fn mark(thread: &[u8]) -> String {
    let whole: [u8; 32] = Sha256::digest(thread).into();
    whole
        .iter()
        .take(16)
        .map(|it| format!("{it:02x}"))
        .collect()
}

fn parts(score: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is between 0 and a million"
    )]
    (0.0..=1.0)
        .contains(&score)
        .then(|| (score * PARTS).round() as i64)
}

/// Of what a score is.
struct Of {
    provider: String,
    model: String,
    /// The version of a prompt.
    prompt: String,
    /// What was asked for: a model, or a route.
    asked: String,
    /// When, the last time.
    at: i64,
}

fn of(row: &Row) -> Result<Of, StoreError> {
    Ok(Of {
        provider: row.text(0)?.to_owned(),
        model: row.text(1)?.to_owned(),
        prompt: row.text(2)?.to_owned(),
        asked: row.text(3)?.to_owned(),
        at: row.int(4)?,
    })
}

/// What was asked there; of an agent alone its own.
fn asked(scope: &mut Scope<'_>, scored: &Scored, agent: &str) -> Result<Vec<Of>, StoreError> {
    let rows = match scored {
        Scored::Exchange(id) => scope.query(
            "SELECT provider, model, prompt, asked, at FROM exchanges WHERE workspace = ?1 AND id = ?2 AND way = 'model' \
             AND (?3 = '' OR (kind = 'agent' AND who = ?3))",
            &[id.as_bytes().into(), agent.into()],
        )?,
        Scored::Thread(thread) => scope.query(
            "SELECT provider, model, prompt, asked, CAST(MAX(at) AS BIGINT) FROM exchanges WHERE workspace = ?1 AND thread <> '' \
             AND thread = ?2 AND way = 'model' AND (?3 = '' OR (kind = 'agent' AND who = ?3)) GROUP BY provider, model, prompt, asked \
             ORDER BY MAX(at) DESC LIMIT ?4",
            &[(&mark(thread.as_bytes())).into(), agent.into(), MOST_OF_THREAD.into()],
        )?,
    };
    rows.iter().map(of).collect()
}

fn put(
    scope: &mut Scope<'_>,
    (scored, who): (&Scored, &Who),
    score: i64,
    now: Timestamp,
) -> Result<(), EgressError> {
    let agent = if who.kind == "agent" { &*who.id } else { "" };
    let all = asked(scope, scored, agent)?;
    let target = scored.target();
    if all.is_empty() {
        return Err(EgressError::NotFound(match scored {
            Scored::Exchange(id) => format!("there is no exchange `{id}`"),
            Scored::Thread(_) => "no exchange named this thread in `Skep-Thread`".to_owned(),
        }));
    }
    for one in &all {
        scope.execute(
            "INSERT INTO llm_scores (workspace, target, kind, who, provider, model, prompt, asked, at, exchanged_at, score) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (workspace, target, kind, who, provider, model, prompt, asked) \
             DO UPDATE SET at = excluded.at, exchanged_at = excluded.exchanged_at, score = excluded.score",
            &[
                (&target).into(),
                who.kind.into(),
                (&*who.id).into(),
                (&one.provider).into(),
                (&one.model).into(),
                (&one.prompt).into(),
                (&one.asked).into(),
                now.into(),
                one.at.into(),
                score.into(),
            ],
        )?;
    }
    Ok(())
}

fn sum(row: &Row, from: usize) -> Result<Sum, StoreError> {
    Ok(Sum {
        count: u64::try_from(row.int(from)?).unwrap_or_default(),
        whole: row.int(from + 1)?,
    })
}

/// Scores of each model since a time.
pub(crate) fn by_model(
    scope: &mut Scope<'_>,
    from: Timestamp,
) -> Result<BTreeMap<(String, String), Sum>, StoreError> {
    let rows = scope.query(
        "SELECT provider, model, COUNT(*), CAST(SUM(score) AS BIGINT) FROM llm_scores \
         WHERE workspace = ?1 AND at >= ?2 GROUP BY provider, model",
        &[from.into()],
    )?;
    let pair = |row: &Row| {
        let of = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        Ok((of, sum(row, 2)?))
    };
    rows.iter().map(pair).collect()
}

/// Scores of each version of a prompt since a time. `like`: how the ledger names them.
pub(super) fn by_prompt(
    scope: &mut Scope<'_>,
    like: &str,
    from: Timestamp,
) -> Result<Vec<(String, Sum)>, StoreError> {
    let rows = scope.query(
        "SELECT prompt, COUNT(*), CAST(SUM(score) AS BIGINT) FROM llm_scores \
         WHERE workspace = ?1 AND prompt LIKE ?2 AND at >= ?3 GROUP BY prompt",
        &[like.into(), from.into()],
    )?;
    let pair = |row: &Row| Ok((row.text(0)?.to_owned(), sum(row, 1)?));
    rows.iter().map(pair).collect()
}

impl Models {
    /// Says how good an exchange, or a thread, was: from 0 to 1. Who says it again changes what they said. An agent
    /// scores its own exchanges alone.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], [`EgressError::NotFound`], and the store's own.
    pub async fn score(
        &self,
        by: &By,
        who: &Who,
        (scored, score): (Scored, f64),
    ) -> Result<(), EgressError> {
        let wrong = || EgressError::Invalid("`score`: a number from 0 to 1".to_owned());
        let score = parts(score).ok_or_else(wrong)?;
        if let Scored::Thread(thread) = &scored
            && (thread.is_empty() || thread.len() > MOST_THREAD)
        {
            let why = format!("`thread`: 1 to {MOST_THREAD} bytes");
            return Err(EgressError::Invalid(why));
        }
        self.soon().await;
        let name = scored.target();
        let (of, workspace) = (who.clone(), who.workspace.clone());
        let put = move |scope: &mut Scope<'_>, now| put(scope, (&scored, &of), score, now);
        rows::change(&self.0.db, by, &workspace, (KIND, &name, "scored"), put).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_from_nought_to_one() {
        assert_eq!(parts(0.0), Some(0));
        assert_eq!(parts(1.0), Some(1_000_000));
        assert_eq!(parts(0.123_456_7), Some(123_457));
        for wrong in [-0.1, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(parts(wrong), None);
        }
        let sum = Sum {
            count: 4,
            whole: 3_000_000,
        };
        assert_eq!(sum.average(), Some(0.75));
        assert_eq!(Sum::default().average(), None);
        assert_eq!(mark(b"a").len(), 32);
        assert_ne!(mark(b"a"), mark(b"b"));
    }
}
