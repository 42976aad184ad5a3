//! When the newest version of a route does too badly to stay: failures, how long answers take, and how they were found to be, over
//! so many exchanges. No I/O.

use serde::{Deserialize, Serialize};

use crate::EgressError;

/// Exchanges before which nothing is said.
const FEWEST: u64 = 5;
const MOST: u64 = 5_000;

/// What the newest version of a route must keep to, or the one before it comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// After how many exchanges it is judged, and after how many scores.
    pub after: u64,
    /// Of a hundred exchanges, so many may come to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// Milliseconds until 95 of 100 good answers have ended, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
    /// Scores on average, in hundredths, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u64>,
}

/// How a version of a route did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// Exchanges.
    pub exchanges: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Microseconds until 95 of 100 good answers had ended.
    pub p95_us: u64,
    /// Scores.
    pub scores: u64,
    /// All of them together, in millionths.
    pub score: u64,
}

impl Bound {
    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], with the field.
    pub fn check(&self) -> Result<(), EgressError> {
        let wrong = |field: &str, why: &str| {
            Err(EgressError::Invalid(format!("`rollback.{field}`: {why}")))
        };
        if !(FEWEST..=MOST).contains(&self.after) {
            return wrong("after", "5 to 5000 exchanges");
        }
        if self.failures.is_some_and(|it| it > 99) {
            return wrong("failures", "0 to 99 of a hundred");
        }
        if self.p95_ms == Some(0) {
            return wrong("p95_ms", "1 at least");
        }
        if self.score.is_some_and(|it| !(1..=100).contains(&it)) {
            return wrong("score", "more than 0, and 1 at most");
        }
        match (self.failures, self.p95_ms, self.score) {
            (None, None, None) => wrong("after", "say `failures`, `p95_ms` or `score` beside it"),
            _ => Ok(()),
        }
    }

    /// What a version does too badly, in words.
    #[must_use]
    pub fn broken(&self, record: &Record) -> Option<String> {
        let judged = record.exchanges >= self.after;
        let exchanges = record.exchanges;
        if let Some(most) = self.failures.filter(|_| judged)
            && u128::from(record.failed) * 100 > u128::from(most) * u128::from(exchanges)
        {
            let failed = record.failed;
            return Some(format!(
                "{failed} of {exchanges} exchanges came to nothing, and {most} of 100 may"
            ));
        }
        if let Some(most) = self.p95_ms.filter(|_| judged)
            && record.p95_us / 1_000 > most
        {
            let took = record.p95_us / 1_000;
            return Some(format!(
                "95 of 100 answers took {took} ms, and {most} ms they may"
            ));
        }
        let least = self.score.filter(|_| record.scores >= self.after)?;
        let all = u128::from(least) * 10_000 * u128::from(record.scores);
        let hundredths = record.score / record.scores.max(1) / 10_000;
        (u128::from(record.score) < all).then(|| {
            format!(
                "{} scores are {hundredths} of 100 on average, and {least} is the least",
                record.scores
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Bound = Bound {
        after: 10,
        failures: Some(20),
        p95_ms: Some(1_000),
        score: Some(70),
    };

    #[test]
    fn what_is_wrong_is_named() {
        ALL.check().unwrap();
        let none = Bound {
            after: 10,
            ..Bound::default()
        };
        for (field, wrong) in [
            ("after", Bound { after: 4, ..ALL }),
            (
                "after",
                Bound {
                    after: 5_001,
                    ..ALL
                },
            ),
            ("after", none),
            (
                "failures",
                Bound {
                    failures: Some(100),
                    ..ALL
                },
            ),
            (
                "p95_ms",
                Bound {
                    p95_ms: Some(0),
                    ..ALL
                },
            ),
            (
                "score",
                Bound {
                    score: Some(0),
                    ..ALL
                },
            ),
            (
                "score",
                Bound {
                    score: Some(101),
                    ..ALL
                },
            ),
        ] {
            let told = wrong.check().unwrap_err().to_string();
            assert!(told.starts_with(&format!("`rollback.{field}`")), "{told}");
        }
    }

    #[test]
    fn a_bound_is_broken_by_what_is_beyond_it() {
        let good = Record {
            exchanges: 10,
            failed: 2,
            p95_us: 1_000_999,
            scores: 10,
            score: 7_000_000,
        };
        assert_eq!(ALL.broken(&good), None);
        for (record, why) in [
            (Record { failed: 3, ..good }, "3 of 10 exchanges"),
            (
                Record {
                    p95_us: 1_001_000,
                    ..good
                },
                "took 1001 ms",
            ),
            (
                Record {
                    score: 6_999_999,
                    ..good
                },
                "10 scores are 69 of 100",
            ),
        ] {
            assert!(
                ALL.broken(&record).unwrap().starts_with(why)
                    || ALL.broken(&record).unwrap().contains(why)
            );
        }
    }

    proptest! {
        /// Nothing is said before there was enough; and what is worse is never better.
        #[test]
        fn it_is_fair(
            exchanges in 0_u64..100, failed in 0_u64..100, p95_us in 0_u64..3_000_000, scores in 0_u64..100,
            each in 0_u64..1_000_001, after in 5_u64..50,
        ) {
            let bound = Bound { after, ..ALL };
            let record = Record {
                exchanges,
                failed: failed.min(exchanges),
                p95_us,
                scores,
                score: scores * each,
            };
            if exchanges < after && scores < after {
                prop_assert_eq!(bound.broken(&record), None);
            }
            if bound.broken(&record).is_some() {
                let worse = Record {
                    failed: record.exchanges,
                    p95_us: record.p95_us + 1,
                    score: record.score / 2,
                    ..record
                };
                prop_assert!(bound.broken(&worse).is_some());
            }
        }
    }
}
