//! Attaching: to what an agent writes from now on, or to the answer of a call.

use std::io::{self, Write};

use clap::Args;
use skep_client::LogsQuery;

use super::calls;
use crate::failure::Result;
use crate::live::until_interrupted;
use crate::session::Session;

/// How the ids of calls begin.
const CALL: &str = "call_";

/// Flags of `attach`.
#[derive(Debug, Args)]
#[command(after_help = "\
An agent's output goes to standard output and its errors to standard error, as
they come, until Ctrl-C; the agent goes on. What it wrote before is in
`skep logs`. A call's answer comes as with `skep calls attach`, which has more
flags.")]
pub(crate) struct AttachArgs {
    /// The agent, or the call (`call_…`)
    #[arg(value_name = "AGENT|CALL")]
    target: String,
    /// Only this instance of the agent, `ins_…`
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
}

pub(crate) async fn attach(session: &Session, args: AttachArgs) -> Result {
    // No agent is called so: names have no underscores.
    if args.target.starts_with(CALL) {
        return calls::attach_to(session, args.target).await;
    }
    until_interrupted(follow(session, &args)).await
}

async fn follow(session: &Session, args: &AttachArgs) -> Result {
    let client = session.client()?;
    let agent = client.agent(&args.target).await?;
    let query = LogsQuery {
        follow: true,
        // As of when the server hears of it.
        since: Some("0s".to_owned()),
        ..LogsQuery::default()
    };
    let mut lines = client.logs(&agent.name, &query).await?;
    session.output.note(&format!(
        "Attached to {} ({} instances); Ctrl-C leaves it alone.",
        agent.name,
        agent.instances.len()
    ));
    let wanted = |instance: &str| args.instance.as_ref().is_none_or(|only| only == instance);
    while let Some(line) = lines.next().await? {
        if !wanted(&line.instance) {
            continue;
        }
        match line.stream.as_str() {
            "stdout" => session.output.raw(format!("{}\n", line.text).as_bytes())?,
            "stderr" => writeln!(io::stderr().lock(), "{}", line.text)?,
            _ => session.output.note(&format!("[skep] {}", line.text)),
        }
    }
    Ok(())
}
