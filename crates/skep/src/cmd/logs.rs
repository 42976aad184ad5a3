//! What an agent wrote.

use clap::Args;
use skep_client::LogsQuery;
use skep_core::{Timestamp, units};

use crate::failure::Result;
use crate::output::Format;
use crate::session::Session;

/// Flags of `logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skep logs hello -f\n  skep logs hello --since 10m --filter error"
)]
pub(crate) struct LogsArgs {
    /// The agent
    agent: String,
    /// Go on with new lines as they come
    #[arg(short, long)]
    follow: bool,
    /// Lines from this time on: `10m` back from now, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// The last lines only
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Lines that contain this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
}

/// A time on the command line.
pub(crate) fn since(text: &str) -> Result<String, String> {
    match units::parse_duration(text).is_some() || text.parse::<Timestamp>().is_ok() {
        true => Ok(text.to_owned()),
        false => {
            Err("neither a duration such as 10m nor a time such as 2026-11-21T04:54:08Z".into())
        }
    }
}

pub(crate) async fn logs(session: &Session, args: LogsArgs) -> Result {
    let query = LogsQuery {
        follow: args.follow,
        since: args.since,
        tail: args.tail,
        filter: args.filter,
    };
    let mut lines = session.client()?.logs(&args.agent, &query).await?;
    let output = &session.output;
    while let Some(line) = lines.next().await? {
        let mut text = match output.format {
            Format::Json => skep_api::to_json(&line),
            // A document a line is how YAML streams.
            Format::Yaml => {
                output.raw(b"---\n")?;
                output.document(&line)?;
                continue;
            }
            Format::Table | Format::Name | Format::Html => {
                let text = match line.stream.as_str() {
                    "skep" => output.paint("2", &format!("[skep] {}", line.text)),
                    _ => line.text,
                };
                match args.timestamps {
                    true => format!("{} {text}", line.time),
                    false => text,
                }
            }
        };
        text.push('\n');
        output.raw(text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_durations_or_rfc_3339() {
        assert!(since("10m").is_ok());
        assert!(since("2026-11-21T04:54:08Z").is_ok());
        assert!(since("yesterday").is_err());
    }
}
