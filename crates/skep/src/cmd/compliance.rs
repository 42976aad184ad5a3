//! What the evidence says of a framework's controls: a table, or a report to hand over.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use skep_api::ComplianceControl;
use skep_core::Timestamp;

use super::logs::since;
use crate::failure::{Exit, Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// What is satisfied needs nobody's attention.
const NOT_SATISFIED: &str = "not-satisfied";

/// What to do with frameworks.
#[derive(Debug, Subcommand)]
pub(crate) enum ComplianceVerb {
    /// Say how it stands with each control; exit code 5 when one is not satisfied
    Check(OfArgs),
    /// Print a report with its evidence, or write it to a file
    Report(ReportArgs),
}

/// Which framework, over which time.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  skep compliance check --framework soc2 --since 720h")]
pub(crate) struct OfArgs {
    /// Whose controls
    #[arg(long, value_name = "NAME", value_parser = ["gdpr", "hipaa", "sox", "soc2"])]
    framework: String,
    /// Look at the log from this time on: `720h` back from now, or RFC 3339; 30 days unless given
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
}

/// As what a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Assessment results of OSCAL, as JSON
    Oscal,
    /// Text
    Markdown,
    /// A page to print
    Html,
}

impl Form {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Oscal => "oscal",
            Self::Markdown => "markdown",
            Self::Html => "html",
        }
    }
}

/// Flags of `compliance report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  skep compliance report --framework gdpr --format html --file gdpr.html")]
pub(crate) struct ReportArgs {
    /// As what
    #[arg(long, value_enum, default_value = "markdown")]
    format: Form,
    /// Write it to this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    of: OfArgs,
}

impl Row for ComplianceControl {
    const HEADERS: &'static [&'static str] = &["CONTROL", "AFTER", "STATE", "TITLE", "DETAIL"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.reference.clone(),
            self.state.clone(),
            self.title.clone(),
            self.detail.clone(),
        ]
    }
}

pub(crate) async fn run(session: &Session, verb: ComplianceVerb) -> Result {
    match verb {
        ComplianceVerb::Check(args) => check(session, &args).await,
        ComplianceVerb::Report(args) => report(session, &args).await,
    }
}

async fn check(session: &Session, args: &OfArgs) -> Result {
    let client = session.client()?;
    let found = client
        .compliance(&args.framework, args.since.as_deref())
        .await?;
    session.output.list(&found.controls)?;
    let all = found.controls.iter();
    let wrong = all.filter(|it| it.state == NOT_SATISFIED).count();
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Watched,
            format!("controls that are not satisfied: {wrong}"),
        )),
    }
}

async fn report(session: &Session, args: &ReportArgs) -> Result {
    let client = session.client()?;
    let (of, form) = (&args.of, args.format.as_str());
    let text = client
        .compliance_report(&of.framework, of.since.as_deref(), form)
        .await?;
    let Some(path) = &args.file else {
        return session.output.raw(&text);
    };
    let shown = path.display().to_string();
    fs::write(path, &text).map_err(|error| Failure::plain(format!("{shown}: {error}")))?;
    let done = serde_json::json!({ "file": shown });
    session
        .output
        .done(&done, &shown, &format!("{shown} is written."))
}
