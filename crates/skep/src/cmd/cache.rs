//! `cache`: the answers of agents that are kept.

use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::session::Session;

/// Verbs of `cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Forget an agent's kept answers: those with a tag, or all
    Purge(PurgeArgs),
}

/// Flags of `cache purge`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// The agent
    agent: String,
    /// Only answers that had this word in their Cache-Tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

pub(crate) async fn cache(session: &Session, verb: CacheVerb) -> Result {
    let CacheVerb::Purge(args) = verb;
    let client = session.client()?;
    let gone = client
        .forget_answers(&args.agent, args.tag.as_deref())
        .await?;
    let said = match gone.answers {
        1 => "1 answer is forgotten".to_owned(),
        answers => format!("{answers} answers are forgotten"),
    };
    session.output.done(&gone, &args.agent, &said)
}
