//! An agent in one file with its data: `export --with-data` and `import`.

use std::fs::File;
use std::path::PathBuf;

use clap::Args;
use skep_backup::agent_head;

use super::agents::settle;
use super::backup::save;
use super::wait::{Goal, Patience};
use crate::failure::{Exit, Failure, Result};
use crate::output::human_bytes;
use crate::session::Session;

/// Flags of `import`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is one that `skep export --with-data` made. The agent must not be there
yet; its home and its named volumes are in place before it starts. A manifest
without data is deployed with `skep deploy -f`.

Examples:
  skep import hello.agent.tar
  skep import hello.agent.tar --name hello-2")]
pub(crate) struct ImportArgs {
    /// The archive
    file: PathBuf,
    /// The new agent's name [default: the one that it had]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Leave it stopped
    #[arg(long)]
    stopped: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Writes the archive of an agent.
pub(crate) async fn export(
    session: &Session,
    name: &str,
    file: Option<PathBuf>,
    live: bool,
) -> Result {
    let client = session.client()?;
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{name}.agent.tar")));
    if file.exists() {
        let why = format!("{} is there already", file.display());
        return Err(Failure::usage(why).hint("Name another file with --file."));
    }
    let answer = client.agent_archive(name, live).await?;
    let size = save(answer, &file, None).await?;
    let shown = file.display().to_string();
    let said = format!("{name} is in {shown}: {}.", human_bytes(size));
    let told = serde_json::json!({ "agent": name, "file": shown, "bytes": size });
    session.output.done(&told, &shown, &said)
}

pub(crate) async fn import(session: &Session, args: ImportArgs) -> Result {
    let shown = args.file.display();
    let failed = |error: std::io::Error| Failure::usage(format!("{shown} cannot be read: {error}"));
    let head = agent_head(File::open(&args.file).map_err(failed)?).map_err(|error| {
        Failure::new(Exit::Usage, format!("{shown}: {error}")).hint(error.hint())
    })?;
    let name = match args.name {
        Some(name) => name,
        None => {
            let name = head.spec["name"].as_str().map(str::to_owned);
            name.ok_or_else(|| Failure::usage(format!("{shown} names no agent")))?
        }
    };
    let client = session.client()?;
    let agent = client
        .import_agent(&name, args.file.clone(), args.stopped)
        .await?;
    if args.stopped {
        let said = format!("{name} is there, stopped. Start it with `skep start {name}`.");
        return session.output.done(&agent, &name, &said);
    }
    let goal = Goal::Revision(agent.revision);
    settle(session, &client, agent, &goal, &args.patience).await
}
