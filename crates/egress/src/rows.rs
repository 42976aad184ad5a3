//! What the store has of the way out: providers, budgets, each exchange, and their sums by day.

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::HashMap;

use skep_core::{Timestamp, Workspace};
use skep_store::{By, Change, Db, Migration, MigrationSet, Param, Row, Scope, StoreError, Unit};

use crate::EgressError;
use crate::ledger::{Settled, Way};
use crate::llm::{Amount, On, Spender, Subject, Window};
use crate::money::Money;

/// The tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "egress",
    migrations: &[
        Migration {
        name: "0001-exchanges",
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
            CREATE TABLE web_rules (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE llm_routes (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            -- How routes are, by their newest rows, and were.
            CREATE TABLE llm_route_versions (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                version BIGINT NOT NULL,
                at BIGINT NOT NULL,
                back BIGINT NOT NULL,
                spec TEXT NOT NULL,
                PRIMARY KEY (workspace, name, version)
            );
            CREATE TABLE llm_preferences (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            -- What each server may have open of a budget in a window.
            CREATE TABLE llm_shares (
                workspace TEXT NOT NULL,
                budget TEXT NOT NULL,
                start BIGINT NOT NULL,
                server TEXT NOT NULL,
                share BIGINT NOT NULL,
                PRIMARY KEY (workspace, budget, start, server)
            );
            -- A version of a prompt never changes; without a text it was removed.
            CREATE TABLE llm_prompts (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                version BIGINT NOT NULL,
                at BIGINT NOT NULL,
                spec TEXT NOT NULL,
                PRIMARY KEY (workspace, name, version)
            );
            -- Where the labels of a prompt are, by their newest rows, and were.
            CREATE TABLE llm_prompt_labels (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                label TEXT NOT NULL,
                nth BIGINT NOT NULL,
                at BIGINT NOT NULL,
                back BIGINT NOT NULL,
                legs TEXT NOT NULL,
                PRIMARY KEY (workspace, name, label, nth)
            );
            CREATE TABLE llm_scores (
                workspace TEXT NOT NULL,
                target TEXT NOT NULL,
                kind TEXT NOT NULL,
                who TEXT NOT NULL,
                provider TEXT NOT NULL,
                model TEXT NOT NULL,
                prompt TEXT NOT NULL,
                asked TEXT NOT NULL,
                at BIGINT NOT NULL,
                exchanged_at BIGINT NOT NULL,
                score BIGINT NOT NULL,
                PRIMARY KEY (workspace, target, kind, who, provider, model, prompt, asked)
            );
            CREATE INDEX llm_scores_by_time ON llm_scores (workspace, at);
            CREATE TABLE llm_recordings (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                at BIGINT NOT NULL,
                until BIGINT NOT NULL,
                cached_until BIGINT NOT NULL,
                cache_mark BLOB NOT NULL,
                call_mark BLOB,
                nth BIGINT NOT NULL,
                attempt BIGINT NOT NULL,
                call TEXT,
                kind TEXT NOT NULL,
                who TEXT NOT NULL,
                model TEXT NOT NULL,
                outcome TEXT NOT NULL,
                tags TEXT NOT NULL,
                looked_at BIGINT NOT NULL,
                bytes BIGINT NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX llm_recordings_by_cache ON llm_recordings (workspace, cache_mark, cached_until);
            CREATE INDEX llm_recordings_by_call ON llm_recordings (workspace, call_mark, nth);
            CREATE INDEX llm_recordings_by_end ON llm_recordings (workspace, until, looked_at, bytes);
            CREATE TABLE exchanges (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                at BIGINT NOT NULL,
                way TEXT NOT NULL,
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
                prompt TEXT NOT NULL,
                thread TEXT NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX exchanges_by_time ON exchanges (workspace, at);
            CREATE INDEX exchanges_by_prompt ON exchanges (workspace, prompt, at) WHERE prompt <> '';
            CREATE INDEX exchanges_by_thread ON exchanges (workspace, thread, at) WHERE thread <> '';
            CREATE TABLE exchange_days (
                workspace TEXT NOT NULL,
                day BIGINT NOT NULL,
                way TEXT NOT NULL,
                kind TEXT NOT NULL,
                who TEXT NOT NULL,
                provider TEXT NOT NULL,
                model TEXT NOT NULL,
                requests BIGINT NOT NULL,
                failed BIGINT NOT NULL,
                kept BIGINT NOT NULL,
                input BIGINT NOT NULL,
                cache_read BIGINT NOT NULL,
                cache_write BIGINT NOT NULL,
                output BIGINT NOT NULL,
                cost BIGINT NOT NULL,
                PRIMARY KEY (workspace, day, way, kind, who, provider, model)
            );
        ",
    },
    // Exchanges of every way are kept in one table, which has the name of the first of them; and questions with their vectors.
    Migration {
        name: "0002-ways-of-recordings",
        sql: "
            ALTER TABLE llm_recordings ADD COLUMN way TEXT NOT NULL DEFAULT 'model';
            ALTER TABLE llm_recordings ADD COLUMN asked TEXT NOT NULL DEFAULT '';
            ALTER TABLE llm_recordings ADD COLUMN near_mark BLOB;
            ALTER TABLE llm_recordings ADD COLUMN near BLOB;
            CREATE INDEX llm_recordings_by_way ON llm_recordings (workspace, way, id);
            CREATE INDEX llm_recordings_by_near ON llm_recordings (workspace, near_mark, at) WHERE near_mark IS NOT NULL;
            -- What was forgotten of late: an answer that was under way then is not given again either.
            CREATE TABLE llm_forgotten (
                workspace TEXT NOT NULL,
                at BIGINT NOT NULL,
                tag TEXT NOT NULL,
                model TEXT NOT NULL,
                PRIMARY KEY (workspace, at, tag, model)
            );
        ",
    },
    ],
    workspace_tables: &[
        "llm_providers",
        "llm_budgets",
        "llm_routes",
        "llm_route_versions",
        "llm_preferences",
        "llm_shares",
        "llm_recordings",
        "llm_forgotten",
        "llm_prompts",
        "llm_prompt_labels",
        "llm_scores",
        "web_rules",
        "exchanges",
        "exchange_days",
    ],
};

/// In the place of the version of prices: the answer was given before, and cost nothing.
pub(crate) const KEPT: &str = "kept";

/// Exchanges with models, tools and the web, which cost what budgets count.
const MODEL: &str = Way::Model.as_str();
const TOOL: &str = Way::Tool.as_str();
const WEB: &str = Way::Web.as_str();

pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// What a day, or a part of it, adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Exchanges.
    pub requests: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Those that got an answer that was given before.
    pub kept: u64,
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
        self.kept += other.kept;
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
            kept: u64::from(settled.opened.prices == KEPT),
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
            kept: number(row.int(from + 2)?),
            input: number(row.int(from + 3)?),
            cache_read: number(row.int(from + 4)?),
            cache_write: number(row.int(from + 5)?),
            output: number(row.int(from + 6)?),
            cost: Money::from_nanos(row.int(from + 7)?),
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
    let mut days: BTreeMap<(i64, Way, [&str; 4]), Usage> = BTreeMap::new();
    for settled in all {
        if !insert(&mut scope, settled)? {
            continue;
        }
        if !settled.entry.is_empty() {
            scope.record(settled.entry.clone())?;
        }
        let opened = &settled.opened;
        let whose = [
            opened.kind.as_str(),
            &opened.who,
            &opened.provider,
            &opened.model,
        ];
        days.entry((opened.at.day(), opened.way, whose))
            .or_default()
            .add(&Usage::of(settled));
    }
    for ((day, way, [kind, who, provider, model]), sum) in days {
        scope.execute(
            "INSERT INTO exchange_days (workspace, day, way, kind, who, provider, model, requests, failed, kept, input, \
             cache_read, cache_write, output, cost) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
             ON CONFLICT (workspace, day, way, kind, who, provider, model) DO UPDATE SET \
             requests = exchange_days.requests + excluded.requests, failed = exchange_days.failed + excluded.failed, \
             kept = exchange_days.kept + excluded.kept, input = exchange_days.input + excluded.input, \
             cache_read = exchange_days.cache_read + excluded.cache_read, \
             cache_write = exchange_days.cache_write + excluded.cache_write, \
             output = exchange_days.output + excluded.output, cost = exchange_days.cost + excluded.cost",
            &[
                day.into(),
                way.as_str().into(),
                kind.into(),
                who.into(),
                provider.into(),
                model.into(),
                int(sum.requests).into(),
                int(sum.failed).into(),
                int(sum.kept).into(),
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
        "INSERT INTO exchanges (workspace, id, at, way, kind, who, provider, model, asked, outcome, input, \
         cache_read, cache_write, output, reasoning, cost, estimated, prices, first_us, whole_us, prompt, thread) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22) \
         ON CONFLICT (workspace, id) DO NOTHING",
        &[
            (&opened.id).into(),
            opened.at.into(),
            opened.way.as_str().into(),
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
            (&opened.prompt).into(),
            (&opened.thread).into(),
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
    let (kind, who) = match subject {
        Subject::Agent(_) | Subject::Key(_) | Subject::User(_) => subject.parts(),
        _ => ("", ""),
    };
    let start = window.start(now);
    let whose = |from: i64| -> [Param<'_>; 6] {
        [
            from.into(),
            kind.into(),
            who.into(),
            MODEL.into(),
            TOOL.into(),
            WEB.into(),
        ]
    };
    let rows = match window {
        Window::Minute => scope.query(
            "SELECT way, provider, model, CAST(SUM(cost) AS BIGINT), CAST(SUM(input + output) AS BIGINT), COUNT(*) \
             FROM exchanges WHERE workspace = ?1 AND at >= ?2 AND (?3 = '' OR (kind = ?3 AND who = ?4)) \
             AND way IN (?5, ?6, ?7) GROUP BY way, provider, model",
            &whose(start.as_micros()),
        )?,
        Window::Day | Window::Month | Window::Total => scope.query(
            "SELECT way, provider, model, CAST(SUM(cost) AS BIGINT), CAST(SUM(input + output) AS BIGINT), \
             CAST(SUM(requests) AS BIGINT) FROM exchange_days WHERE workspace = ?1 AND day >= ?2 AND (?3 = '' OR (kind = ?3 AND who = ?4)) \
             AND way IN (?5, ?6, ?7) GROUP BY way, provider, model",
            &whose(start.day()),
        )?,
    };
    let mut spent = Amount::default();
    for row in rows {
        let name = format!("{}/{}", row.text(1)?, row.text(2)?);
        let on = match row.text(0)? {
            TOOL => On::Tool(&name),
            WEB => On::Rule(row.text(2)?),
            _ => On::Model(&name),
        };
        let spender = Spender { kind, id: who, on };
        if subject.counts(&spender) {
            spent.money += Money::from_nanos(row.int(3)?);
            match on {
                On::Tool(_) => spent.calls = spent.calls.saturating_add(number(row.int(5)?)),
                On::Rule(_) => spent.requests = spent.requests.saturating_add(number(row.int(5)?)),
                On::Model(_) => spent.tokens = spent.tokens.saturating_add(number(row.int(4)?)),
            }
        }
    }
    Ok(spent)
}

/// What other servers may have open of a budget in a window.
pub(crate) fn others_share(
    scope: &mut Scope<'_>,
    (budget, start): (&str, Timestamp),
    server: &str,
) -> Result<i128, StoreError> {
    let row = scope.query_opt(
        "SELECT CAST(COALESCE(SUM(share), 0) AS BIGINT) FROM llm_shares \
         WHERE workspace = ?1 AND budget = ?2 AND start = ?3 AND server <> ?4",
        &[budget.into(), start.into(), server.into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0).map(i128::from))
}

/// Says what a server may have open of a budget in a window. Windows before it have ended.
pub(crate) fn put_share(
    scope: &mut Scope<'_>,
    (budget, start): (&str, Timestamp),
    (server, share): (&str, i128),
) -> Result<(), StoreError> {
    let share = i64::try_from(share).unwrap_or(i64::MAX);
    scope.execute(
        "INSERT INTO llm_shares (workspace, budget, start, server, share) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (workspace, budget, start, server) DO UPDATE SET share = excluded.share",
        &[budget.into(), start.into(), server.into(), share.into()],
    )?;
    scope.execute(
        "DELETE FROM llm_shares WHERE workspace = ?1 AND budget = ?2 AND start < ?3",
        &[budget.into(), start.into()],
    )?;
    Ok(())
}

/// A server has a share of nothing any more.
pub(crate) fn drop_shares(scope: &mut Scope<'_>, server: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM llm_shares WHERE workspace = ?1 AND server = ?2";
    scope.execute(sql, &[server.into()]).map(drop)
}

/// What a workspace has by name, each with how it is, as text: a table of its own.
pub(crate) struct Kept {
    all: &'static str,
    others: &'static str,
    put: &'static str,
    drop: &'static str,
}

macro_rules! kept {
    ($table:literal) => {
        Kept {
            all: concat!("SELECT name, spec FROM ", $table, " WHERE workspace = ?1 ORDER BY name"),
            others: concat!(
                "SELECT COUNT(*) FROM ",
                $table,
                " WHERE workspace = ?1 AND name <> ?2"
            ),
            put: concat!(
                "INSERT INTO ",
                $table,
                " (workspace, name, spec, changed_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (workspace, name) \
                 DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at"
            ),
            drop: concat!("DELETE FROM ", $table, " WHERE workspace = ?1 AND name = ?2"),
        }
    };
}

pub(crate) const PROVIDERS: Kept = kept!("llm_providers");
pub(crate) const BUDGETS: Kept = kept!("llm_budgets");
pub(crate) const SERVERS: Kept = kept!("mcp_servers");
pub(crate) const VIRTUALS: Kept = kept!("mcp_virtuals");
pub(crate) const ROUTES: Kept = kept!("llm_routes");
pub(crate) const PREFERENCES: Kept = kept!("llm_preferences");
pub(crate) const RULES: Kept = kept!("web_rules");

impl Kept {
    /// All of a workspace, by name.
    pub(crate) fn all(&self, scope: &mut Scope<'_>) -> Result<Vec<(String, String)>, StoreError> {
        let rows = scope.query(self.all, &[])?;
        let pair = |row: &Row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
        rows.iter().map(pair).collect()
    }

    /// How many there are, besides one of this name.
    fn others(&self, scope: &mut Scope<'_>, name: &str) -> Result<u64, StoreError> {
        let row = scope.query_opt(self.others, &[name.into()])?;
        row.map_or(Ok(0), |row| row.int(0).map(number))
    }

    /// Puts one in the place of the one of its name, unless there are too many besides.
    pub(crate) fn put(
        &self,
        scope: &mut Scope<'_>,
        (name, spec): (&str, &str),
        (now, most): (Timestamp, u64),
    ) -> Result<(), EgressError> {
        if self.others(scope, name)? >= most {
            let why = format!("there are {most} already: remove one first");
            return Err(EgressError::Invalid(why));
        }
        scope.execute(self.put, &[name.into(), spec.into(), now.into()])?;
        Ok(())
    }

    /// Whether there is one.
    pub(crate) fn has(&self, scope: &mut Scope<'_>, name: &str) -> Result<bool, StoreError> {
        Ok(self.all(scope)?.iter().any(|(its, _)| its == name))
    }

    /// Whether there was one.
    pub(crate) fn drop(&self, scope: &mut Scope<'_>, name: &str) -> Result<bool, StoreError> {
        Ok(scope.execute(self.drop, &[name.into()])? > 0)
    }
}

/// Changes something that a workspace keeps by name, and tells the audit log in the same unit.
pub(crate) async fn change<E>(
    db: &Db,
    by: &By,
    workspace: &Workspace,
    (kind, name, what): (&'static str, &str, &'static str),
    work: impl FnOnce(&mut Scope<'_>, Timestamp) -> Result<(), E> + Send + 'static,
) -> Result<(), E>
where
    E: From<StoreError> + Send + 'static,
{
    let (by, of, name) = (by.clone(), workspace.clone(), name.to_owned());
    db.write(move |unit: &mut Unit<'_>| {
        let now = unit.now();
        let mut scope = unit.scope(&of);
        // What is looked at before it is changed no other server changes meanwhile.
        scope.in_turn()?;
        work(&mut scope, now)?;
        let change = Change {
            action: None,
            resource: (kind, &name),
            what,
            hash: None,
        };
        by.did(&mut scope, &change, now)?;
        Ok::<_, E>(())
    })
    .await
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

/// What models cost on each day from one on, by day.
pub(crate) fn costs(scope: &mut Scope<'_>, from: i64) -> Result<Vec<(i64, Money)>, StoreError> {
    let rows = scope.query(
        "SELECT day, CAST(SUM(cost) AS BIGINT) FROM exchange_days WHERE workspace = ?1 AND day >= ?2 AND way = ?3 \
         GROUP BY day ORDER BY day",
        &[from.into(), MODEL.into()],
    )?;
    let pair = |row: &Row| Ok((row.int(0)?, Money::from_nanos(row.int(1)?)));
    rows.iter().map(pair).collect()
}

/// Which days of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFilter {
    /// By which way.
    pub way: Way,
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
        "SELECT day, kind, who, provider, model, requests, failed, kept, input, cache_read, cache_write, output, cost \
         FROM exchange_days WHERE workspace = ?1 AND day >= ?2 AND day <= ?3 AND way = ?4 \
         ORDER BY day, kind, who, provider, model LIMIT ?5",
        &[
            filter.from.into(),
            filter.to.into(),
            filter.way.as_str().into(),
            (MOST_DAYS + 1).into(),
        ],
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
    let sql = "SELECT id, cost, outcome FROM exchanges WHERE workspace = ?1";
    let rows = scope.query(sql, &[])?;
    let pair = |row: &Row| {
        let cost = Money::from_nanos(row.int(1)?);
        Ok((row.bytes(0)?, (cost, row.text(2)?.to_owned())))
    };
    rows.iter().map(pair).collect()
}
