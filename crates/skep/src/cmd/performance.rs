//! How an agent's calls went, hour by hour.

use clap::Args;
use skep_api::PerformanceHour;
use skep_core::Timestamp;

use super::logs::since;
use super::stats::UNKNOWN;
use crate::failure::Result;
use crate::output::Row;
use crate::session::Session;

/// Flags of `performance`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each hour and revision that had requests. Times are in milliseconds,
in classes that are each a fifth wider than the one before. How long they are
kept says `performance.retention`.

Example:
  skep performance assistant --since 7d")]
pub(crate) struct PerformanceArgs {
    /// The agent
    agent: String,
    /// From this time on: `24h` back from now, or RFC 3339
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = since)]
    since: String,
}

impl Row for PerformanceHour {
    const HEADERS: &'static [&'static str] =
        &["HOUR", "REVISION", "CALLS", "ERRORS", "P50", "P95", "P99"];

    fn name(&self) -> String {
        self.time.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let ms = |time: Option<f64>| time.map_or_else(|| UNKNOWN.to_owned(), |ms| ms.to_string());
        let hour = self.time.split('.').next().unwrap_or_default();
        vec![
            hour.trim_end_matches('Z').to_owned(),
            self.revision.to_string(),
            self.calls.to_string(),
            self.errors.to_string(),
            ms(self.p50_ms),
            ms(self.p95_ms),
            ms(self.p99_ms),
        ]
    }
}

pub(crate) async fn run(session: &Session, args: PerformanceArgs) -> Result {
    let client = session.client()?;
    let found = client.performance(&args.agent, Some(&args.since)).await?;
    session.output.list(&found.hours)
}
