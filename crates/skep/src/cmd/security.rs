//! What looked like an attack: listed, shown, acknowledged.

use clap::{Args, Subcommand};
use skep_api::Detection;
use skep_client::{DetectionQuery, PageQuery};
use skep_core::Timestamp;

use super::logs::since;
use crate::failure::Result;
use crate::output::{Row, age};
use crate::session::Session;

/// Rows of one page.
const PAGE: u32 = 1_000;

/// What to do with detections.
#[derive(Debug, Subcommand)]
pub(crate) enum SecurityVerb {
    /// List what looked like an attack, newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a detection
    Show(OneArgs),
    /// Say that you have seen detections
    Ack(AckArgs),
}

/// Flags of `security list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  skep security list --state open --severity high --since 24h")]
pub(crate) struct ListArgs {
    /// Of this kind
    #[arg(long, value_name = "KIND", value_parser = ["denials", "failed-authentications", "rate",
        "networks", "new-address", "canary", "patterns", "missing", "foreign", "injection"])]
    kind: Option<String>,
    /// At least as bad as this
    #[arg(long, value_name = "SEVERITY", value_parser = ["low", "medium", "high", "critical"])]
    severity: Option<String>,
    /// From this time on: `10m` back from now, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Those that nobody has seen yet, or the others
    #[arg(long, value_name = "STATE", value_parser = ["open", "acknowledged"])]
    state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// Flags of `security show`.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The detection, `det_…`
    id: String,
}

/// Flags of `security ack`.
#[derive(Debug, Args)]
pub(crate) struct AckArgs {
    /// The detections, `det_…`
    #[arg(required = true)]
    ids: Vec<String>,
}

impl Row for Detection {
    const HEADERS: &'static [&'static str] =
        &["ID", "AGE", "SEVERITY", "KIND", "WHO", "DETAIL", "STATE"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let state = self.acknowledged_at.as_ref();
        vec![
            self.id.clone(),
            age(&self.time, now),
            self.severity.clone(),
            self.kind.clone(),
            format!("{} {}", self.subject_kind, self.subject),
            self.detail.clone(),
            state.map_or("open", |_| "acknowledged").to_owned(),
        ]
    }
}

pub(crate) async fn run(session: &Session, verb: SecurityVerb) -> Result {
    let client = session.client()?;
    match verb {
        SecurityVerb::List(args) => {
            let mut query = DetectionQuery {
                kind: args.kind,
                severity: args.severity,
                since: args.since,
                state: args.state,
                page: PageQuery::default(),
            };
            let mut found = Vec::new();
            loop {
                let left = u32::try_from(args.limit - found.len()).unwrap_or(PAGE);
                query.page.limit = Some(left.clamp(1, PAGE));
                let page = client.detections(&query).await?;
                found.extend(page.items);
                match page.next {
                    Some(next) if found.len() < args.limit => query.page.cursor = Some(next),
                    _ => return session.output.list(&found),
                }
            }
        }
        SecurityVerb::Show(args) => {
            let one = client.detection(&args.id).await?;
            let seen = one.acknowledged_at.clone();
            let lines = [
                ("Detection", one.id.clone()),
                ("Time", one.time.clone()),
                ("Severity", one.severity.clone()),
                ("Kind", one.kind.clone()),
                ("Who", format!("{} {}", one.subject_kind, one.subject)),
                ("Detail", one.detail.clone()),
                ("Acknowledged", seen.unwrap_or_else(|| "no".to_owned())),
            ];
            session.output.one(&one, &one.id, &lines)
        }
        SecurityVerb::Ack(args) => {
            for id in &args.ids {
                let one = client.acknowledge(id).await?;
                let said = format!("{id} is acknowledged.");
                session.output.done(&one, id, &said)?;
            }
            Ok(())
        }
    }
}
