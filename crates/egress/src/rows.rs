//! What the store has of the way out: providers, budgets, each exchange, and their sums by day.

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::HashMap;

use skep_core::{Timestamp, Workspace};
use skep_store::{Migration, MigrationSet, Param, Row, Scope, StoreError, Unit};

use crate::ledger::Settled;
use crate::llm::{Amount, Subject, Window};
use crate::money::Money;

/// The tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "egress",
    migrations: &[Migration {
        name: "0001-models",
        sql: "
            CREATE TABLE llm_providers (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE llm_budgets (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE llm_usage (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                at BIGINT NOT NULL,
                kind TEXT NOT NULL,
                who TEXT NOT NULL,
                provider TEXT NOT NULL,
                model TEXT NOT NULL,
                asked TEXT NOT NULL,
                outcome TEXT NOT NULL,
                input BIGINT NOT NULL,
                cache_read BIGINT NOT NULL,
                cache_write BIGINT NOT NULL,
                output BIGINT NOT NULL,
                reasoning BIGINT NOT NULL,
                cost BIGINT NOT NULL,
                estimated BIGINT NOT NULL,
                prices TEXT NOT NULL,
                first_us BIGINT NOT NULL,
                whole_us BIGINT NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX llm_usage_by_time ON llm_usage (workspace, at);
            CREATE TABLE llm_days (
                workspace TEXT NOT NULL,
                day BIGINT NOT NULL,
                kind TEXT NOT NULL,
                who TEXT NOT NULL,
                provider TEXT NOT NULL,
                model TEXT NOT NULL,
                requests BIGINT NOT NULL,
                failed BIGINT NOT NULL,
                input BIGINT NOT NULL,
                cache_read BIGINT NOT NULL,
                cache_write BIGINT NOT NULL,
                output BIGINT NOT NULL,
                cost BIGINT NOT NULL,
                PRIMARY KEY (workspace, day, kind, who, provider, model)
            );
        ",
    }],
    workspace_tables: &["llm_providers", "llm_budgets", "llm_usage", "llm_days"],
};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// What a day, or a part of it, adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Exchanges.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Tokens in.
    pub input: u64,
    /// Of those, read from the provider's cache.
    pub cache_read: u64,
    /// Of those, written to it.
    pub cache_write: u64,
    /// Tokens out.
    pub output: u64,
    /// What it cost.
    pub cost: Money,
}

impl Usage {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.input += other.input;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
        self.output += other.output;
        self.cost += other.cost;
    }

    fn of(settled: &Settled) -> Self {
        let failed = !settled.outcome.starts_with('2');
        Self {
            requests: 1,
            failed: u64::from(failed),
            input: settled.input,
            cache_read: settled.cache_read,
            cache_write: settled.cache_write,
            output: settled.output,
            cost: settled.cost,
        }
    }

    fn read(row: &Row, from: usize) -> Result<Self, StoreError> {
        Ok(Self {
            requests: number(row.int(from)?),
            failed: number(row.int(from + 1)?),
            input: number(row.int(from + 2)?),
            cache_read: number(row.int(from + 3)?),
            cache_write: number(row.int(from + 4)?),
            output: number(row.int(from + 5)?),
            cost: Money::from_nanos(row.int(from + 6)?),
        })
    }
}

/// Writes down exchanges of one workspace that have ended, each once, however often it is told: its row, its day, and
/// its entry of the audit log.
pub(crate) fn settle(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    all: &[&Settled],
) -> Result<(), StoreError> {
    let mut scope = unit.scope(workspace);
    let mut days: BTreeMap<(i64, &str, &str, &str, &str), Usage> = BTreeMap::new();
    for settled in all {
        if !insert(&mut scope, settled)? {
            continue;
        }
        if !settled.entry.is_empty() {
            scope.record(settled.entry.clone())?;
        }
        let opened = &settled.opened;
        let day = (
            opened.at.as_micros().div_euclid(DAY),
            opened.kind.as_str(),
            opened.who.as_str(),
            opened.provider.as_str(),
            opened.model.as_str(),
        );
        days.entry(day).or_default().add(&Usage::of(settled));
    }
    for ((day, kind, who, provider, model), sum) in days {
        scope.execute(
            "INSERT INTO llm_days (workspace, day, kind, who, provider, model, requests, failed, input, cache_read, \
             cache_write, output, cost) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
             ON CONFLICT (workspace, day, kind, who, provider, model) DO UPDATE SET \
             requests = llm_days.requests + excluded.requests, failed = llm_days.failed + excluded.failed, \
             input = llm_days.input + excluded.input, cache_read = llm_days.cache_read + excluded.cache_read, \
             cache_write = llm_days.cache_write + excluded.cache_write, \
             output = llm_days.output + excluded.output, cost = llm_days.cost + excluded.cost",
            &[
                day.into(),
                kind.into(),
                who.into(),
                provider.into(),
                model.into(),
                int(sum.requests).into(),
                int(sum.failed).into(),
                int(sum.input).into(),
                int(sum.cache_read).into(),
                int(sum.cache_write).into(),
                int(sum.output).into(),
                sum.cost.nanos().into(),
            ],
        )?;
    }
    Ok(())
}

fn insert(scope: &mut Scope<'_>, settled: &Settled) -> Result<bool, StoreError> {
    let opened = &settled.opened;
    let inserted = scope.execute(
        "INSERT INTO llm_usage (workspace, id, at, kind, who, provider, model, asked, outcome, input, cache_read, \
         cache_write, output, reasoning, cost, estimated, prices, first_us, whole_us) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
         ON CONFLICT (workspace, id) DO NOTHING",
        &[
            (&opened.id).into(),
            opened.at.into(),
            (&opened.kind).into(),
            (&opened.who).into(),
            (&opened.provider).into(),
            (&opened.model).into(),
            (&opened.asked).into(),
            (&settled.outcome).into(),
            int(settled.input).into(),
            int(settled.cache_read).into(),
            int(settled.cache_write).into(),
            int(settled.output).into(),
            int(settled.reasoning).into(),
            settled.cost.nanos().into(),
            settled.estimated.into(),
            (&opened.prices).into(),
            int(settled.first_us).into(),
            int(settled.whole_us).into(),
        ],
    )?;
    Ok(inserted == 1)
}

/// What was spent in the window that holds `now`, by whom a budget counts for.
pub(crate) fn spent(
    scope: &mut Scope<'_>,
    subject: &Subject,
    window: Window,
    now: Timestamp,
) -> Result<Amount, StoreError> {
    let (kind, who, model) = match subject {
        Subject::Workspace => ("", "", ""),
        Subject::Agent(name) => ("agent", name.as_str(), ""),
        Subject::Key(name) => ("key", name.as_str(), ""),
        Subject::User(id) => ("user", id.as_str(), ""),
        Subject::Model(model) => ("", "", model.as_str()),
    };
    let start = window.start(now).as_micros();
    let whose =
        |from: i64| -> [Param<'_>; 4] { [from.into(), kind.into(), who.into(), model.into()] };
    let row = match window {
        Window::Minute => scope.query_opt(
            "SELECT CAST(COALESCE(SUM(cost), 0) AS BIGINT), CAST(COALESCE(SUM(input + output), 0) AS BIGINT) \
             FROM llm_usage WHERE workspace = ?1 AND at >= ?2 AND (?3 = '' OR (kind = ?3 AND who = ?4)) \
             AND (?5 = '' OR provider || '/' || model = ?5)",
            &whose(start),
        )?,
        Window::Day | Window::Month | Window::Total => scope.query_opt(
            "SELECT CAST(COALESCE(SUM(cost), 0) AS BIGINT), CAST(COALESCE(SUM(input + output), 0) AS BIGINT) \
             FROM llm_days WHERE workspace = ?1 AND day >= ?2 AND (?3 = '' OR (kind = ?3 AND who = ?4)) \
             AND (?5 = '' OR provider || '/' || model = ?5)",
            &whose(start.div_euclid(DAY)),
        )?,
    };
    let Some(row) = row else {
        return Ok(Amount::default());
    };
    Ok(Amount {
        money: Money::from_nanos(row.int(0)?),
        tokens: number(row.int(1)?),
    })
}

/// Texts of one table, by name.
fn specs(rows: &[Row]) -> Result<Vec<(String, String)>, StoreError> {
    let pair = |row: &Row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
    rows.iter().map(pair).collect()
}

/// The providers of a workspace, by name.
pub(crate) fn providers(scope: &mut Scope<'_>) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT name, spec FROM llm_providers WHERE workspace = ?1 ORDER BY name";
    specs(&scope.query(sql, &[])?)
}

/// The budgets of a workspace, by name.
pub(crate) fn budgets(scope: &mut Scope<'_>) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT name, spec FROM llm_budgets WHERE workspace = ?1 ORDER BY name";
    specs(&scope.query(sql, &[])?)
}

/// How many rows a table has in the workspace, besides one of this name.
pub(crate) fn others(
    scope: &mut Scope<'_>,
    sql: &'static str,
    name: &str,
) -> Result<u64, StoreError> {
    let row = scope.query_opt(sql, &[name.into()])?;
    row.map_or(Ok(0), |row| row.int(0).map(number))
}

pub(crate) fn put_provider(
    scope: &mut Scope<'_>,
    (name, spec): (&str, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO llm_providers (workspace, name, spec, changed_at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (workspace, name) DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at";
    scope.execute(sql, &[name.into(), spec.into(), now.into()])?;
    Ok(())
}

pub(crate) fn put_budget(
    scope: &mut Scope<'_>,
    (name, spec): (&str, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO llm_budgets (workspace, name, spec, changed_at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (workspace, name) DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at";
    scope.execute(sql, &[name.into(), spec.into(), now.into()])?;
    Ok(())
}

/// Whether there was one.
pub(crate) fn drop_provider(scope: &mut Scope<'_>, name: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM llm_providers WHERE workspace = ?1 AND name = ?2";
    Ok(scope.execute(sql, &[name.into()])? > 0)
}

/// Whether there was one.
pub(crate) fn drop_budget(scope: &mut Scope<'_>, name: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM llm_budgets WHERE workspace = ?1 AND name = ?2";
    Ok(scope.execute(sql, &[name.into()])? > 0)
}

/// What one principal used of one model on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970-01-01 (UTC).
    pub day: i64,
    /// The kind of principal.
    pub kind: String,
    /// Their id.
    pub who: String,
    /// Who answered.
    pub provider: String,
    /// The model.
    pub model: String,
    /// How much.
    pub usage: Usage,
}

/// Which days, and whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayFilter {
    /// From this day on.
    pub from: i64,
    /// Up to this day.
    pub to: i64,
}

/// Days of usage that are read at once.
const MOST_DAYS: i64 = 50_000;

/// Sums by day, principal and model; and whether there are more than are told at once.
pub(crate) fn days(
    scope: &mut Scope<'_>,
    filter: &DayFilter,
) -> Result<(Vec<Day>, bool), StoreError> {
    let rows = scope.query(
        "SELECT day, kind, who, provider, model, requests, failed, input, cache_read, cache_write, output, cost \
         FROM llm_days WHERE workspace = ?1 AND day >= ?2 AND day <= ?3 \
         ORDER BY day, kind, who, provider, model LIMIT ?4",
        &[filter.from.into(), filter.to.into(), (MOST_DAYS + 1).into()],
    )?;
    let more = int(rows.len() as u64) > MOST_DAYS;
    let read = |row: &Row| {
        Ok(Day {
            day: row.int(0)?,
            kind: row.text(1)?.to_owned(),
            who: row.text(2)?.to_owned(),
            provider: row.text(3)?.to_owned(),
            model: row.text(4)?.to_owned(),
            usage: Usage::read(row, 5)?,
        })
    };
    let most = usize::try_from(MOST_DAYS).unwrap_or(usize::MAX);
    let all: Result<Vec<Day>, StoreError> = rows.iter().take(most).map(read).collect();
    Ok((all?, more))
}

/// All that the ledger says of a workspace, for tests that count it again.
#[cfg(test)]
pub(crate) fn whole(
    scope: &mut Scope<'_>,
) -> Result<HashMap<[u8; 16], (Money, String)>, StoreError> {
    let sql = "SELECT id, cost, outcome FROM llm_usage WHERE workspace = ?1";
    let rows = scope.query(sql, &[])?;
    let pair = |row: &Row| {
        let cost = Money::from_nanos(row.int(1)?);
        Ok((row.bytes(0)?, (cost, row.text(2)?.to_owned())))
    };
    rows.iter().map(pair).collect()
}
