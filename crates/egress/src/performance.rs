//! How models did over some time, of the exchanges that the store has.

use std::collections::BTreeMap;

use skep_core::Timestamp;
use skep_store::{Row, Scope, StoreError};

use crate::ledger::Way;
use crate::llm::scores;
use crate::money::Money;
use crate::rows::KEPT;

/// Exchanges that are looked at, the newest.
const MOST: i64 = 50_000;

/// How one model did.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    /// Who answered.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Exchanges.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Microseconds until an answer began, of good ones: median, and 95 of 100.
    pub first_us: (u64, u64),
    /// Microseconds until it had ended.
    pub whole_us: (u64, u64),
    /// Tokens a second from the beginnings of answers to their ends; nothing when that took no time.
    pub tokens_per_s: Option<f64>,
    /// What they cost.
    pub cost: Money,
    /// How many scores were given to them, and what those are on average.
    pub scores: u64,
    /// Their average.
    pub score: Option<f64>,
}

#[derive(Default)]
struct Sum {
    requests: u64,
    failed: u64,
    first: Vec<u64>,
    whole: Vec<u64>,
    tokens: u64,
    cost: Money,
}

/// Median, and 95 of 100.
fn percentiles(mut values: Vec<u64>) -> (u64, u64) {
    values.sort_unstable();
    let at = |percent: usize| {
        let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(place).copied().unwrap_or_default()
    };
    (at(50), at(95))
}

impl Sum {
    fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let number = |place| {
            row.int(place)
                .map(|it| u64::try_from(it).unwrap_or_default())
        };
        self.requests += 1;
        self.cost += Money::from_nanos(row.int(6)?);
        if !row.text(2)?.starts_with('2') {
            self.failed += 1;
            return Ok(());
        }
        self.first.push(number(3)?);
        self.whole.push(number(4)?);
        self.tokens += number(5)?;
        Ok(())
    }

    fn done(self, (provider, model): (String, String)) -> Performance {
        let sum = |all: &[u64]| all.iter().sum::<u64>();
        let writing = sum(&self.whole).saturating_sub(sum(&self.first));
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (writing > 0).then(|| self.tokens as f64 / (writing as f64 / 1e6));
        Performance {
            provider,
            model,
            requests: self.requests,
            failed: self.failed,
            first_us: percentiles(self.first),
            whole_us: percentiles(self.whole),
            tokens_per_s: rate,
            cost: self.cost,
            scores: 0,
            score: None,
        }
    }
}

/// How the models of a workspace did since a time; and whether there was more than was looked at.
pub(crate) fn since(
    scope: &mut Scope<'_>,
    from: Timestamp,
) -> Result<(Vec<Performance>, bool), StoreError> {
    let rows = scope.query(
        "SELECT provider, model, outcome, first_us, whole_us, output, cost FROM exchanges \
         WHERE workspace = ?1 AND at >= ?2 AND way = ?3 AND prices <> ?4 ORDER BY at DESC LIMIT ?5",
        &[
            from.into(),
            Way::Model.as_str().into(),
            KEPT.into(),
            (MOST + 1).into(),
        ],
    )?;
    let most = usize::try_from(MOST).unwrap_or(usize::MAX);
    let mut sums: BTreeMap<(String, String), Sum> = BTreeMap::new();
    for row in rows.iter().take(most) {
        let of = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        sums.entry(of).or_default().add(row)?;
    }
    let mut scores = scores::by_model(scope, from)?;
    let done = |(of, sum): ((String, String), Sum)| {
        let scored = scores.remove(&of).unwrap_or_default();
        Performance {
            scores: scored.count,
            score: scored.average(),
            ..sum.done(of)
        }
    };
    let all = sums.into_iter().map(done).collect();
    Ok((all, rows.len() > most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        for (values, expected) in [
            (vec![], (0, 0)),
            (vec![7], (7, 7)),
            (vec![3, 1, 2], (2, 3)),
            ((1..=100).rev().collect(), (50, 95)),
        ] {
            assert_eq!(percentiles(values.clone()), expected, "{values:?}");
        }
    }
}
