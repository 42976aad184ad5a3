//! The tables of agents, revisions and instances. Nobody else writes them.

use std::sync::Arc;

use skep_api::AgentSpec;
use skep_core::{AgentId, InstanceId, ServerId, Timestamp, Workspace};
use skep_store::{Db, Migration, MigrationSet, Reader, Row, StoreError, Unit};

use crate::RuntimeError;
use crate::driver::Exit;
use crate::events::{self, Event};

/// The tables, to be given to `Db::open`.
pub(crate) const MIGRATIONS: MigrationSet = MigrationSet {
    component: "runtime",
    migrations: &[Migration {
        name: "0001-agents",
        sql: "
            CREATE TABLE agents (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                id BLOB NOT NULL,
                desired TEXT NOT NULL,
                revision BIGINT NOT NULL,
                newest BIGINT NOT NULL,
                stable BIGINT,
                step BIGINT NOT NULL,
                paused BIGINT NOT NULL,
                failed TEXT,
                owner BIGINT NOT NULL,
                server BLOB NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE revisions (
                workspace TEXT NOT NULL,
                agent TEXT NOT NULL,
                number BIGINT NOT NULL,
                format BIGINT NOT NULL,
                spec TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, agent, number)
            );
            CREATE TABLE instances (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                agent TEXT NOT NULL,
                revision BIGINT NOT NULL,
                server BLOB NOT NULL,
                epoch BIGINT NOT NULL,
                port BIGINT NOT NULL,
                driver TEXT NOT NULL,
                handle TEXT,
                started_at BIGINT NOT NULL,
                ended_at BIGINT,
                exit TEXT,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX instances_by_agent ON instances (workspace, agent, id);
            CREATE INDEX instances_open ON instances (workspace, id) WHERE ended_at IS NULL;
        ",
    }],
    workspace_tables: &["agents", "revisions", "instances"],
};

/// The form in which specifications are stored: JSON of the wire type.
const SPEC_FORMAT: i64 = 1;
/// Ended instances of an agent that are kept, with their logs.
pub(crate) const KEPT_INSTANCES: u32 = 5;

/// What an agent's owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// It shall run.
    Running,
    /// It shall not.
    Stopped,
}

impl Desired {
    /// The text form: `running` or `stopped`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }

    fn parse(text: &str) -> Self {
        if text == "stopped" {
            Self::Stopped
        } else {
            Self::Running
        }
    }
}

/// One immutable deployed specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Counted from 1.
    pub number: u32,
    /// When it was deployed.
    pub created_at: Timestamp,
    /// What was deployed.
    pub spec: Arc<AgentSpec>,
}

impl From<&Revision> for skep_api::Revision {
    fn from(revision: &Revision) -> Self {
        Self {
            number: revision.number,
            created_at: revision.created_at.to_string(),
            spec: AgentSpec::clone(&revision.spec),
        }
    }
}

/// How far the current revision is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RolloutRow {
    /// The current revision.
    pub(crate) revision: u32,
    /// The one that has proven itself last.
    pub(crate) stable: Option<u32>,
    /// Steps that are behind it.
    pub(crate) step: u32,
    /// Whether somebody holds it.
    pub(crate) paused: bool,
    /// Why another revision made way for the current one.
    pub(crate) failed: Option<String>,
}

impl RolloutRow {
    /// Whether the current revision is on its way and another has proven itself.
    pub(crate) fn is_rolling(&self) -> bool {
        self.stable.is_some_and(|stable| stable != self.revision)
    }
}

/// An agent as it is stored, with the revisions that are in play.
#[derive(Debug, Clone)]
pub(crate) struct AgentRow {
    pub(crate) name: String,
    pub(crate) id: AgentId,
    /// The epoch of the server that has it, or had it last.
    pub(crate) owner: i64,
    /// That server.
    pub(crate) server: ServerId,
    pub(crate) desired: Desired,
    pub(crate) created_at: Timestamp,
    /// The highest number that a revision has.
    pub(crate) newest: u32,
    pub(crate) rollout: RolloutRow,
    /// The current revision.
    pub(crate) current: Revision,
    /// The one that has proven itself, when it is another.
    pub(crate) stable: Option<Revision>,
}

impl AgentRow {
    /// A new agent with its first revision.
    pub(crate) fn new(db: &Db, id: AgentId, first: Revision) -> Self {
        Self {
            name: first.spec.name.clone(),
            id,
            owner: db.epoch(),
            server: db.server(),
            desired: Desired::Running,
            created_at: first.created_at,
            newest: first.number,
            rollout: RolloutRow {
                revision: first.number,
                ..RolloutRow::default()
            },
            current: first,
            stable: None,
        }
    }
}

/// An instance that was running when it was last heard of.
#[derive(Debug, Clone)]
pub(crate) struct InstanceRow {
    pub(crate) id: InstanceId,
    pub(crate) agent: String,
    pub(crate) revision: u32,
    pub(crate) driver: String,
    pub(crate) handle: Option<String>,
    pub(crate) started_at: Timestamp,
}

fn number(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.int(column)?)
        .map_err(|_| StoreError::Statement(format!("column {column} is out of bounds")))
}

fn read_spec(format: i64, text: &str) -> Result<Arc<AgentSpec>, StoreError> {
    let unreadable = |why: String| StoreError::Statement(format!("a stored specification: {why}"));
    if format != SPEC_FORMAT {
        return Err(unreadable(format!("format {format} is not known")));
    }
    let spec = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    Ok(Arc::new(spec))
}

/// The agents of a workspace that the server of this epoch has, and those whose server has ended.
pub(crate) fn load(
    reader: &mut Reader<'_>,
    workspace: &Workspace,
    epoch: i64,
) -> Result<Vec<AgentRow>, StoreError> {
    let rows = reader.scope(workspace).query(
        "SELECT r.number, r.created_at, r.format, r.spec, a.name, a.id, a.desired, a.created_at, \
         a.newest, a.stable, a.step, a.paused, a.failed, s.number, s.created_at, s.format, s.spec, \
         a.owner, a.server FROM agents a JOIN revisions r \
         ON r.workspace = a.workspace AND r.agent = a.name AND r.number = a.revision \
         LEFT JOIN revisions s ON s.workspace = a.workspace AND s.agent = a.name \
         AND s.number = a.stable AND s.number <> a.revision \
         WHERE a.workspace = ?1 AND (a.owner = ?2 OR NOT EXISTS \
         (SELECT 1 FROM servers WHERE servers.epoch = a.owner AND servers.state = 'live')) \
         ORDER BY a.name",
        &[epoch.into()],
    )?;
    rows.iter().map(read_agent).collect()
}

/// Every agent of a workspace with the epoch of the server that has it, or had it last.
pub(crate) fn owners(
    reader: &mut Reader<'_>,
    workspace: &Workspace,
) -> Result<Vec<(String, i64)>, StoreError> {
    let sql = "SELECT name, owner FROM agents WHERE workspace = ?1";
    let rows = reader.scope(workspace).query(sql, &[])?;
    let owner = |row: &Row| Ok((row.text(0)?.to_owned(), row.int(1)?));
    rows.iter().map(owner).collect()
}

/// Takes an agent whose server has ended. False when somebody else was first.
pub(crate) fn claim(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    row: &AgentRow,
    epoch: i64,
    server: ServerId,
) -> Result<bool, StoreError> {
    let mut scope = unit.scope(workspace);
    scope.in_turn()?;
    let changed = scope.execute(
        "UPDATE agents SET owner = ?4, server = ?5 WHERE workspace = ?1 AND name = ?2 \
         AND owner = ?3 AND (owner = ?4 OR NOT EXISTS \
         (SELECT 1 FROM servers WHERE servers.epoch = ?3 AND servers.state = 'live'))",
        &[
            row.name.as_str().into(),
            row.owner.into(),
            epoch.into(),
            server.as_bytes().into(),
        ],
    )?;
    Ok(changed == 1)
}

/// Gives an agent to the server of another epoch; true when that one has it now.
pub(crate) fn give(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    name: &str,
    from: i64,
    to: i64,
) -> Result<bool, StoreError> {
    let mut scope = unit.scope(workspace);
    scope.execute(
        "UPDATE agents SET owner = ?4 WHERE workspace = ?1 AND name = ?2 AND owner = ?3 \
         AND EXISTS (SELECT 1 FROM servers WHERE servers.epoch = ?4 AND servers.state = 'live')",
        &[name.into(), from.into(), to.into()],
    )?;
    let sql = "SELECT owner FROM agents WHERE workspace = ?1 AND name = ?2";
    let row = scope.query_opt(sql, &[name.into()])?;
    Ok(row.map(|row| row.int(0)).transpose()? == Some(to))
}

fn read_agent(row: &Row) -> Result<AgentRow, StoreError> {
    let current = read_revision(row, 0)?;
    let other = row.opt_int(13)?;
    Ok(AgentRow {
        name: row.text(4)?.to_owned(),
        id: AgentId::from_bytes(row.bytes(5)?),
        owner: row.int(17)?,
        server: ServerId::from_bytes(row.bytes(18)?),
        desired: Desired::parse(row.text(6)?),
        created_at: row.time(7)?,
        newest: number(row, 8)?,
        rollout: RolloutRow {
            revision: current.number,
            stable: row.opt_int(9)?.map(|_| number(row, 9)).transpose()?,
            step: number(row, 10)?,
            paused: row.int(11)? != 0,
            failed: row.opt_text(12)?.map(str::to_owned),
        },
        stable: other.map(|_| read_revision(row, 13)).transpose()?,
        current,
    })
}

/// A revision whose columns begin at `at`.
fn read_revision(row: &Row, at: usize) -> Result<Revision, StoreError> {
    Ok(Revision {
        number: number(row, at)?,
        created_at: row.time(at + 1)?,
        spec: read_spec(row.int(at + 2)?, row.text(at + 3)?)?,
    })
}

/// One revision of an agent.
pub(crate) fn revision(
    reader: &mut Reader<'_>,
    workspace: &Workspace,
    agent: &str,
    number: u32,
) -> Result<Option<Revision>, StoreError> {
    let row = reader.scope(workspace).query_opt(
        "SELECT number, created_at, format, spec FROM revisions \
         WHERE workspace = ?1 AND agent = ?2 AND number = ?3",
        &[agent.into(), number.into()],
    )?;
    row.as_ref().map(|row| read_revision(row, 0)).transpose()
}

/// The instances of a workspace that this server started and whose end is not known, oldest first;
/// those of any server when `server` is not given.
pub(crate) fn open_instances(
    reader: &mut Reader<'_>,
    workspace: &Workspace,
    server: Option<ServerId>,
) -> Result<Vec<InstanceRow>, StoreError> {
    let all = i64::from(server.is_none());
    let server = server.as_ref().map(ServerId::as_bytes);
    let rows = reader.scope(workspace).query(
        "SELECT id, agent, revision, driver, handle, started_at FROM instances \
         WHERE workspace = ?1 AND ended_at IS NULL AND (server = ?2 OR ?3 = 1) ORDER BY id",
        &[server.into(), all.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(InstanceRow {
                id: InstanceId::from_bytes(row.bytes(0)?),
                agent: row.text(1)?.to_owned(),
                revision: number(row, 2)?,
                driver: row.text(3)?.to_owned(),
                handle: row.opt_text(4)?.map(str::to_owned),
                started_at: row.time(5)?,
            })
        })
        .collect()
}

/// Revisions of an agent, newest first, those before `before` only.
pub(crate) fn revisions(
    reader: &mut Reader<'_>,
    workspace: &Workspace,
    agent: &str,
    before: Option<u32>,
    limit: u32,
) -> Result<Vec<Revision>, StoreError> {
    let before = before.map_or(i64::MAX, i64::from);
    let rows = reader.scope(workspace).query(
        "SELECT number, created_at, format, spec FROM revisions \
         WHERE workspace = ?1 AND agent = ?2 AND number < ?3 ORDER BY number DESC LIMIT ?4",
        &[agent.into(), before.into(), limit.into()],
    )?;
    rows.iter().map(|row| read_revision(row, 0)).collect()
}

/// Stores a deployment: the agent, new or not, and its revision. It may come twice: tells
/// whether this was the first time. Refused when another server has an
/// agent of this name.
pub(crate) fn put_revision(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    id: AgentId,
    revision: &Revision,
    (epoch, server): (i64, ServerId),
) -> Result<bool, RuntimeError> {
    let document = skep_api::to_json(revision.spec.as_ref());
    let name = revision.spec.name.as_str();
    let mut scope = unit.scope(workspace);
    // Another server may have a new agent of the same name.
    scope.in_turn()?;
    let changed = scope.execute(
        "INSERT INTO agents (workspace, name, id, desired, revision, newest, step, paused, \
         owner, server, created_at, updated_at) \
         VALUES (?1, ?2, ?3, 'running', ?4, ?4, 0, 0, ?6, ?7, ?5, ?5) \
         ON CONFLICT (workspace, name) DO UPDATE SET \
         desired = 'running', revision = excluded.revision, newest = excluded.newest, step = 0, \
         paused = 0, failed = NULL, updated_at = excluded.updated_at \
         WHERE agents.id = excluded.id AND agents.owner = excluded.owner",
        &[
            name.into(),
            id.as_bytes().into(),
            revision.number.into(),
            revision.created_at.into(),
            epoch.into(),
            server.as_bytes().into(),
        ],
    )?;
    if changed == 0 {
        return Err(RuntimeError::Elsewhere(name.to_owned()));
    }
    let inserted = scope.execute(
        "INSERT INTO revisions (workspace, agent, number, format, spec, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (workspace, agent, number) DO NOTHING",
        &[
            name.into(),
            revision.number.into(),
            SPEC_FORMAT.into(),
            (&document).into(),
            revision.created_at.into(),
        ],
    )?;
    Ok(inserted == 1)
}

/// Stores what the owner wants.
pub(crate) fn set_desired(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    name: &str,
    desired: Desired,
) -> Result<(), StoreError> {
    unit.scope(workspace).execute(
        "UPDATE agents SET desired = ?3 WHERE workspace = ?1 AND name = ?2",
        &[name.into(), desired.as_str().into()],
    )?;
    Ok(())
}

/// Stores how far the current revision is, as the server of this epoch sees it.
pub(crate) fn set_rollout(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    name: &str,
    rollout: &RolloutRow,
    epoch: i64,
) -> Result<(), StoreError> {
    unit.scope(workspace).execute(
        "UPDATE agents SET revision = ?3, stable = ?4, step = ?5, paused = ?6, failed = ?7 \
         WHERE workspace = ?1 AND name = ?2 AND owner = ?8",
        &[
            name.into(),
            rollout.revision.into(),
            rollout.stable.into(),
            rollout.step.into(),
            i64::from(rollout.paused).into(),
            rollout.failed.as_deref().into(),
            epoch.into(),
        ],
    )?;
    Ok(())
}

/// Removes all rows of an agent.
pub(crate) fn remove(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    name: &str,
) -> Result<(), StoreError> {
    let mut scope = unit.scope(workspace);
    for sql in [
        "DELETE FROM instances WHERE workspace = ?1 AND agent = ?2",
        "DELETE FROM revisions WHERE workspace = ?1 AND agent = ?2",
        "DELETE FROM agents WHERE workspace = ?1 AND name = ?2",
    ] {
        scope.execute(sql, &[name.into()])?;
    }
    Ok(())
}

/// Stores an instance before it is started, so that a later server looks for it.
pub(crate) async fn begin_instance(
    db: &Db,
    workspace: &Workspace,
    row: InstanceRow,
    port: u16,
) -> Result<(), StoreError> {
    let (workspace, epoch, server) = (workspace.clone(), db.epoch(), db.server());
    db.write(move |unit| {
        let now = unit.now();
        unit.scope(&workspace).execute(
            "INSERT INTO instances \
             (workspace, id, agent, revision, server, epoch, port, driver, started_at) \
             VALUES (?1, ?2, ?3, ?4, ?9, ?5, ?6, ?7, ?8)",
            &[
                row.id.as_bytes().into(),
                (&row.agent).into(),
                row.revision.into(),
                epoch.into(),
                port.into(),
                (&row.driver).into(),
                row.started_at.into(),
                server.as_bytes().into(),
            ],
        )?;
        Event::of(
            &row.agent,
            "instance.starting",
            format!("by driver {}", row.driver),
        )
        .on(row.id)
        .revision(row.revision)
        .record(&mut unit.scope(&workspace), now)
    })
    .await
}

/// Stores what the driver needs to find the instance again.
pub(crate) async fn set_handle(
    db: &Db,
    workspace: &Workspace,
    instance: InstanceId,
    handle: String,
) -> Result<(), StoreError> {
    let (workspace, epoch) = (workspace.clone(), db.epoch());
    db.write(move |unit| {
        unit.scope(&workspace).execute(
            "UPDATE instances SET handle = ?3, epoch = ?4 WHERE workspace = ?1 AND id = ?2",
            &[instance.as_bytes().into(), (&handle).into(), epoch.into()],
        )?;
        Ok(())
    })
    .await
}

/// Stores how an instance ended, and forgets the oldest ended ones of its agent.
pub(crate) async fn end_instance(
    db: &Db,
    workspace: &Workspace,
    agent: &str,
    instance: InstanceId,
    exit: &Exit,
) -> Result<(), StoreError> {
    let (workspace, agent) = (workspace.clone(), agent.to_owned());
    let (exit, how) = (exit.clone(), exit.to_string());
    db.write(move |unit| {
        let now = unit.now();
        let mut scope = unit.scope(&workspace);
        scope.execute(
            "UPDATE instances SET ended_at = ?3, exit = ?4 WHERE workspace = ?1 AND id = ?2",
            &[instance.as_bytes().into(), now.into(), (&how).into()],
        )?;
        scope.execute(
            "DELETE FROM instances WHERE workspace = ?1 AND agent = ?2 AND ended_at IS NOT NULL \
             AND id NOT IN (SELECT id FROM instances \
             WHERE workspace = ?1 AND agent = ?2 AND ended_at IS NOT NULL \
             ORDER BY id DESC LIMIT ?3)",
            &[(&agent).into(), KEPT_INSTANCES.into()],
        )?;
        events::ended(&mut scope, &agent, instance, &exit, now)
    })
    .await
}
