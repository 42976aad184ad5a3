//! How the requests to agents went, hour by hour and revision by revision, over restarts: what ended since
//! the last look is added to its hour once a minute, off the path of calls. The counts of several servers
//! and minutes add up; a server that is killed loses its last minute.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use skep_core::{Timestamp, Workspace};
use skep_store::{Db, Migration, MigrationSet, Scope, StoreError};

use crate::service::{Ingress, Inner};
use crate::window::Tally;

/// The tables of hours, to be given to `Db::open`.
pub const HOUR_MIGRATIONS: MigrationSet = MigrationSet {
    component: "ingress-hours",
    migrations: &[Migration {
        name: "0001-hours",
        sql: "
            CREATE TABLE agent_hours (
                workspace TEXT NOT NULL,
                agent TEXT NOT NULL,
                hour BIGINT NOT NULL,
                revision BIGINT NOT NULL,
                errors BIGINT NOT NULL,
                -- How many took how long: 32 bits for each class, big-endian.
                classes BLOB NOT NULL,
                PRIMARY KEY (workspace, agent, hour, revision)
            );
            CREATE INDEX agent_hours_by_time ON agent_hours (workspace, hour);
        ",
    }],
    workspace_tables: &["agent_hours"],
};

/// How often what ended is added up.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// An hour, in microseconds.
const HOUR: i64 = 3_600_000_000;
/// Rows of one answer.
const MOST: u32 = 10_000;

/// How the requests of an hour went, of one revision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    /// When it began.
    pub at: Timestamp,
    /// Which revision.
    pub revision: u32,
    /// Requests that ended.
    pub calls: u64,
    /// Those that broke off, got no answer, or one of 5xx.
    pub errors: u64,
    /// Half of them took no longer.
    pub p50: Option<Duration>,
    /// Ninety-five of a hundred took no longer.
    pub p95: Option<Duration>,
    /// Ninety-nine of a hundred took no longer.
    pub p99: Option<Duration>,
}

fn hour(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_micros().div_euclid(HOUR) * HOUR)
}

/// Adds to the hour of an agent's revision.
fn add(
    scope: &mut Scope<'_>,
    agent: &str,
    revision: u32,
    at: Timestamp,
    more: &Tally,
) -> Result<(), StoreError> {
    let (at, revision) = (hour(at), i64::from(revision));
    let known = scope.query_opt(
        "SELECT errors, classes FROM agent_hours \
         WHERE workspace = ?1 AND agent = ?2 AND hour = ?3 AND revision = ?4",
        &[agent.into(), at.into(), revision.into()],
    )?;
    let mut whole = match known {
        None => Tally::default(),
        Some(row) => Tally::from_bytes(u64::try_from(row.int(0)?).unwrap_or(0), row.blob(1)?),
    };
    whole.merge(more);
    scope.execute(
        "INSERT INTO agent_hours (workspace, agent, hour, revision, errors, classes) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (workspace, agent, hour, revision) \
         DO UPDATE SET errors = excluded.errors, classes = excluded.classes",
        &[
            agent.into(),
            at.into(),
            revision.into(),
            i64::try_from(whole.errors()).unwrap_or(i64::MAX).into(),
            whole.to_bytes().as_slice().into(),
        ],
    )?;
    Ok(())
}

/// What ended since the last look, by agent and revision.
type Lately = HashMap<Workspace, Vec<(String, u32, Tally)>>;

impl Inner {
    fn take_lately(&self) -> Lately {
        let mut lately = Lately::new();
        for lane in self.lanes.read().values().flat_map(HashMap::values) {
            for (revision, tally) in lane.take_lately() {
                let of = lately.entry(lane.workspace.clone()).or_default();
                of.push((lane.name.clone(), revision, tally));
            }
        }
        lately
    }

    /// What could not be written counts with the next minute.
    fn give_back(&self, workspace: &Workspace, lately: &[(String, u32, Tally)]) {
        let lanes = self.lanes.read();
        for (agent, revision, tally) in lately {
            let lane = lanes.get(workspace).and_then(|lanes| lanes.get(agent));
            if let Some(lane) = lane {
                lane.give_back(*revision, tally);
            }
        }
    }

    /// Adds what ended to its hours, and forgets hours that are too old.
    pub(crate) async fn add_hours(&self, kept: Duration) {
        for (workspace, lately) in self.take_lately() {
            let lately = std::sync::Arc::new(lately);
            let (of, more) = (workspace.clone(), lately.clone());
            let added: Result<(), StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    let mut scope = unit.scope(&of);
                    // Servers add to the same rows.
                    scope.in_turn()?;
                    for (agent, revision, tally) in more.iter() {
                        add(&mut scope, agent, *revision, now, tally)?;
                    }
                    scope.execute(
                        "DELETE FROM agent_hours WHERE workspace = ?1 AND hour < ?2",
                        &[now.minus(kept).into()],
                    )?;
                    Ok(())
                })
                .await;
            if let Err(error) = added {
                tracing::warn!(%workspace, %error, "how calls went is not kept yet");
                self.give_back(&workspace, &lately);
            }
        }
    }
}

fn read(
    scope: &mut Scope<'_>,
    agent: &str,
    since: Timestamp,
) -> Result<BTreeMap<(Timestamp, u32), Tally>, StoreError> {
    let rows = scope.query(
        "SELECT hour, revision, errors, classes FROM agent_hours \
         WHERE workspace = ?1 AND agent = ?2 AND hour >= ?3 ORDER BY hour DESC, revision DESC LIMIT ?4",
        &[agent.into(), hour(since).into(), MOST.into()],
    )?;
    let mut found = BTreeMap::new();
    for row in &rows {
        let revision = u32::try_from(row.int(1)?).unwrap_or(u32::MAX);
        let errors = u64::try_from(row.int(2)?).unwrap_or(0);
        found.insert(
            (row.time(0)?, revision),
            Tally::from_bytes(errors, row.blob(3)?),
        );
    }
    Ok(found)
}

impl Ingress {
    /// How an agent's requests went, hour by hour, oldest first; this server's last minute included.
    ///
    /// # Errors
    /// The store's own.
    pub async fn hours(
        &self,
        workspace: &Workspace,
        agent: &str,
        since: Timestamp,
    ) -> Result<Vec<Hour>, StoreError> {
        let db: &Db = &self.inner.db;
        let (of, name) = (workspace.clone(), agent.to_owned());
        let work =
            move |reader: &mut skep_store::Reader<'_>| read(&mut reader.scope(&of), &name, since);
        let mut hours: BTreeMap<_, Tally> = db.read(work).await?;
        let now = hour(db.clock().now());
        let lately = {
            let lanes = self.inner.lanes.read();
            let lane = lanes.get(workspace).and_then(|lanes| lanes.get(agent));
            lane.map_or_else(Vec::new, |lane| lane.lately())
        };
        for (revision, tally) in lately {
            hours.entry((now, revision)).or_default().merge(&tally);
        }
        let shown = hours.into_iter().map(|((at, revision), tally)| Hour {
            at,
            revision,
            calls: tally.count(),
            errors: tally.errors(),
            p50: tally.share(0.5),
            p95: tally.share(0.95),
            p99: tally.share(0.99),
        });
        Ok(shown.collect())
    }

    /// Adds to the hours what is not in them yet: before the server ends.
    pub async fn flush_hours(&self) {
        self.inner.add_hours(self.inner.retention.hours).await;
    }
}
