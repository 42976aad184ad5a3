//! `healthcheck`: one question, one exit code, for whoever watches a container.

use std::time::Duration;

use clap::Args;
use skep_api::Health;

use super::wait::duration;
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// Flags of `healthcheck`.
#[derive(Debug, Args)]
#[command(after_help = "\
It needs no key: the server of the data folder on this machine is asked, or
--url. Exit code 0 when it takes calls, else 1.

Example, in a Dockerfile:
  HEALTHCHECK CMD [\"skep\", \"healthcheck\", \"-q\"]")]
pub(crate) struct HealthcheckArgs {
    /// The server's address
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How long to wait for its answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    timeout: Duration,
}

pub(crate) async fn healthcheck(session: &Session, args: &HealthcheckArgs) -> Result {
    match asked(session, args).await {
        Ok(url) => session.output.say(&format!("{url} takes calls.")),
        // Whatever is wrong, one exit code: who watches knows two.
        Err(_) if session.output.quiet => Err(Failure::quiet(Exit::Failure)),
        Err(mut failure) => {
            failure.exit = Exit::Failure;
            Err(failure)
        }
    }
}

async fn asked(session: &Session, args: &HealthcheckArgs) -> Result<String> {
    let client = session.keyless_client(args.url.as_deref(), args.timeout)?;
    let url = client.url().to_owned();
    // Head and body of the answer together.
    let health = tokio::time::timeout(args.timeout, client.health_basic()).await;
    let health = health.map_err(|_| Failure::plain(format!("{url} does not answer in time")))?;
    match health?.status {
        Health::Ok | Health::Degraded => Ok(url),
        Health::Failed => {
            Err(Failure::plain(format!("{url} takes no calls")).hint("See why with `skep health`."))
        }
    }
}
