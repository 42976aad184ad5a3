//! How the server is, and what agents use.

use skep_api::{Health, Stats};
use skep_client::PageQuery;
use skep_core::{Timestamp, units};

use crate::cli::StatsArgs;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Row, human_bytes};
use crate::session::Session;

const fn word(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Degraded => "degraded",
        Health::Failed => "failed",
    }
}

pub(crate) async fn health(session: &Session) -> Result {
    let health = session.client()?.health_detailed().await?;
    let uptime = units::format_duration(std::time::Duration::from_secs(health.uptime_s));
    let lines = [
        ("Status", word(health.status).to_owned()),
        ("Version", health.version.clone()),
        ("Uptime", uptime),
    ];
    session.output.one(&health, word(health.status), &lines)?;
    let row = |kind: &str, name: &str, status, detail: &str| {
        [kind, name, word(status), detail]
            .map(str::to_owned)
            .to_vec()
    };
    let checks = health
        .checks
        .iter()
        .map(|it| row("check", &it.name, it.status, &it.detail));
    let agents = health
        .agents
        .iter()
        .map(|it| row("agent", &it.name, it.status, &it.detail));
    let rows: Vec<_> = checks.chain(agents).collect();
    if session.output.format == crate::output::Format::Table && !rows.is_empty() {
        session.output.raw(b"\n")?;
        session
            .output
            .table(&["KIND", "NAME", "STATUS", "DETAIL"], &rows)?;
    }
    match health.status {
        Health::Failed => Err(Failure::quiet(Exit::Failure)),
        Health::Ok | Health::Degraded => Ok(()),
    }
}

impl Row for Stats {
    const HEADERS: &'static [&'static str] = &[
        "AGENT",
        "STATE",
        "CPU",
        "MEMORY",
        "PROCESSES",
        "RUNNING",
        "WAITING",
        "RESTARTS",
    ];

    fn name(&self) -> String {
        self.agent.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.agent.clone(),
            self.state.as_str().to_owned(),
            format!("{:.1}%", self.cpu_percent),
            human_bytes(self.memory_bytes),
            self.processes.to_string(),
            self.in_flight.to_string(),
            self.queued.to_string(),
            self.restarts.to_string(),
        ]
    }
}

pub(crate) async fn stats(session: &Session, args: StatsArgs) -> Result {
    let client = session.client()?;
    if let Some(agent) = &args.agent {
        let stats = client.agent_stats(agent).await?;
        return session.output.list(&[stats]);
    }
    let mut rows = Vec::new();
    let mut page = PageQuery::default();
    loop {
        let found = client.stats(&page).await?;
        rows.extend(found.items);
        page.cursor = match found.next {
            Some(next) => Some(next),
            None => return session.output.list(&rows),
        };
    }
}
