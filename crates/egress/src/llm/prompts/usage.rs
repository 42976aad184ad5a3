//! What was used by way of each version of a prompt, and how it was found to be.

use std::collections::BTreeMap;

use skep_core::Timestamp;
use skep_store::{Scope, StoreError};

use crate::ledger::Way;
use crate::llm::scores;
use crate::money::Money;

/// What was used by way of one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VersionUsage {
    /// The version.
    pub version: u64,
    /// Exchanges.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Tokens in.
    pub input: u64,
    /// Tokens out.
    pub output: u64,
    /// What they cost.
    pub cost: Money,
    /// How many scores it got, and what they are on average.
    pub scores: u64,
    /// Their average.
    pub score: Option<f64>,
}

/// How the ledger names a version.
pub(super) fn named(name: &str, version: u64) -> String {
    format!("{name}@{version}")
}

/// The version of such a name.
fn version(text: &str) -> u64 {
    let number = text.rsplit_once('@').and_then(|(_, it)| it.parse().ok());
    number.unwrap_or_default()
}

pub(super) fn by_version(
    scope: &mut Scope<'_>,
    name: &str,
    (from, way): (Timestamp, Way),
) -> Result<Vec<VersionUsage>, StoreError> {
    // Nothing in a name is special to LIKE.
    let like = format!("{name}@%");
    let rows = scope.query(
        "SELECT prompt, COUNT(*), CAST(SUM(CASE WHEN outcome LIKE '2%' THEN 0 ELSE 1 END) AS BIGINT), \
         CAST(SUM(input) AS BIGINT), CAST(SUM(output) AS BIGINT), CAST(SUM(cost) AS BIGINT) FROM exchanges \
         WHERE workspace = ?1 AND prompt <> '' AND prompt LIKE ?2 AND at >= ?3 AND way = ?4 \
         GROUP BY prompt",
        &[
            (&like).into(),
            from.into(),
            way.as_str().into(),
        ],
    )?;
    let mut all: BTreeMap<u64, VersionUsage> = BTreeMap::new();
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    for row in &rows {
        let version = version(row.text(0)?);
        let used = VersionUsage {
            version,
            requests: number(row.int(1)?),
            failed: number(row.int(2)?),
            input: number(row.int(3)?),
            output: number(row.int(4)?),
            cost: Money::from_nanos(row.int(5)?),
            ..VersionUsage::default()
        };
        all.insert(version, used);
    }
    for (prompt, sum) in scores::by_prompt(scope, &like, from)? {
        let version = version(&prompt);
        let one = all.entry(version).or_default();
        one.version = version;
        one.scores = sum.count;
        one.score = sum.average();
    }
    Ok(all.into_values().rev().collect())
}
