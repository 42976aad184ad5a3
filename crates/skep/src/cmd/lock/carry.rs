//! An agent whose personality and memory come from a lock file: `deploy --lock` brings them to the server, `lock pull`
//! brings the memory back when it has grown.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use skep_api::{AgentLayers, AgentSpec, BulkSecrets, LayersOrigin, NewSecret};
use skep_client::Client;
use skep_lock::{CREDENTIALS, Entries, Lock, LockError, MEMORY, Open, PERSONALITY, Value};
use zeroize::Zeroizing;

use super::dotenv::is_variable;
use super::file::{self, Held, KeyArgs, SecretArgs, failed, refused};
use super::{content, layer_or_none, settings};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// What becomes of what the server has already with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Credentials {
    /// The vault gets the file's values as new versions
    Replace,
    /// What the vault has stays
    Keep,
    /// The file's credentials are not looked at
    None,
}

/// What becomes of the memory of an agent that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Memory {
    /// It stays: it may have grown
    #[default]
    Keep,
    /// The file's takes its place
    Replace,
}

/// Flags of `deploy` about a lock file.
#[derive(Debug, Args)]
pub(crate) struct CarryArgs {
    /// An agent.lock: its personality and memory are in `$HOME/lock` when the agent
    /// starts, its credentials in the vault, with placeholders in the environment
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    /// What becomes of credentials that the vault has with another value
    /// [default: nothing is done then]
    #[arg(long, value_enum, value_name = "WHAT", requires = "lock")]
    lock_credentials: Option<Credentials>,
    /// What becomes of the memory of an agent that is there
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value = "keep",
        requires = "lock"
    )]
    lock_memory: Memory,
    #[command(flatten)]
    secret: SecretArgs,
    /// Take the lock file only when this publisher signed it: skepsig1_…
    #[arg(long, value_name = "PUBLIC", requires = "lock")]
    publisher: Option<String>,
    /// Take it though a later one was seen here
    #[arg(long, requires = "lock")]
    allow_older: bool,
}

/// Flags of `lock pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
The memory is what the agent has in `$HOME/lock/memory.json`. When the memory
of the file has changed as well since it was brought to the server, nothing is
written, unless --replace says that the agent's counts.

Example:
  skep lock pull support --file support.agent.lock")]
pub(crate) struct PullArgs {
    /// The agent, by the name that it has on the server
    agent: String,
    /// Take the agent's memory though the file's has changed, too
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    pub(super) key: KeyArgs,
}

/// What a file brings along.
pub(crate) struct Carried {
    /// Its layers.
    pub(crate) layers: AgentLayers,
    /// Whether the memory of an agent that is there stays.
    pub(crate) keep_memory: bool,
    credentials: Vec<(String, Zeroizing<String>)>,
    on_conflict: Option<Credentials>,
}

/// The name of a credential in the vault.
fn of_vault(agent: &str, credential: &str) -> String {
    format!("{agent}/{credential}")
}

fn object(entries: &Entries) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(entries).map_err(|error| Failure::plain(error.to_string()))
}

/// Of which file and which memory an agent's memory is.
fn origin(lock: &Lock, memory: &Entries) -> Result<LayersOrigin> {
    let bytes = serde_json::to_vec(memory);
    let bytes = Zeroizing::new(bytes.map_err(|error| Failure::plain(error.to_string()))?);
    let hash = Sha256::digest(&bytes[..]);
    Ok(LayersOrigin {
        agent: lock.agent().id.clone(),
        epoch: lock.epoch(),
        memory: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// A layer, or nothing with a note when the key does not open it.
fn if_opens(session: &Session, held: &Held, open: &Open, layer: &str) -> Result<Option<Entries>> {
    if open.opens(layer) {
        return layer_or_none(held, open, layer).map(Some);
    }
    let by = open.by();
    session.output.note(&format!(
        "{by} does not open the layer `{layer}`; it stays here."
    ));
    Ok(None)
}

/// Opens a lock file for a specification: names it, and gives it placeholders of the credentials.
pub(crate) async fn carry(
    session: &Session,
    mut args: CarryArgs,
    agents: &mut [AgentSpec],
) -> Result<Option<Carried>> {
    let Some(file) = args.lock.take() else {
        return Ok(None);
    };
    let [spec] = agents else {
        return Err(Failure::usage("a lock file is for one agent")
            .hint("Deploy the agents of the manifest one by one."));
    };
    let settings = settings::of(&file)?;
    args.secret.find(session, &file, &settings).await?;
    super::told(session, &file, &settings, "deploy").await?;
    let pinned = settings.publisher.map(|it| it.to_string());
    let key = KeyArgs {
        file,
        secret: args.secret,
        recipient: None,
        publisher: args.publisher.or(pinned),
        writer: None,
        allow_older: args.allow_older,
    };
    let (held, open) = file::open(session, &key)?;
    if spec.name.is_empty() {
        spec.name.clone_from(&open.lock().agent().name);
    }
    let personality = if_opens(session, &held, &open, PERSONALITY)?;
    let memory = if_opens(session, &held, &open, MEMORY)?;
    let mut credentials = Vec::new();
    if args.lock_credentials != Some(Credentials::None) {
        let all = if_opens(session, &held, &open, CREDENTIALS)?;
        for (name, value) in all.unwrap_or_default() {
            let Value::Text(value) = value else {
                let why = format!("credentials/{name} is no text, which a secret must be");
                return Err(failed(&held.path, why)
                    .hint("Write it anew, or leave them out with --lock-credentials none."));
            };
            if is_variable(&name) && !spec.env.contains_key(&name) {
                let placeholder = format!("${{secret:{}}}", of_vault(&spec.name, &name));
                spec.env.insert(name.clone(), placeholder);
            }
            credentials.push((name, value));
        }
    }
    let origin = memory.as_ref().map(|it| origin(open.lock(), it));
    Ok(Some(Carried {
        layers: AgentLayers {
            personality: personality.as_ref().map(object).transpose()?,
            memory: memory.as_ref().map(object).transpose()?,
            origin: origin.transpose()?,
        },
        keep_memory: args.lock_memory == Memory::Keep,
        credentials,
        on_conflict: args.lock_credentials,
    }))
}

impl Carried {
    /// Puts the credentials into the vault: all of them, or none.
    pub(crate) async fn store(
        &mut self,
        session: &Session,
        client: &Client,
        agent: &str,
    ) -> Result {
        if self.credentials.is_empty() {
            return Ok(());
        }
        let wanted = self.credentials.drain(..).map(|(name, value)| NewSecret {
            name: of_vault(agent, &name),
            value: Some(value.to_string()),
            description: "of its agent.lock".to_owned(),
            ..NewSecret::default()
        });
        let mut all = BulkSecrets {
            secrets: wanted.collect(),
            dry_run: true,
            only_new: false,
        };
        let fates = client.bulk_secrets(&all).await?;
        let others = fates.iter().filter(|it| it.outcome == "updated");
        let others: Vec<String> = others.map(|it| it.name.clone()).collect();
        match self.on_conflict {
            None if !others.is_empty() => {
                let detail = format!(
                    "the vault has other values, or you may not see that they are the same: {}; nothing was done",
                    others.join(", ")
                );
                return Err(Failure::plain(detail).hint(
                    "Say whose count: --lock-credentials replace takes the file's, keep the vault's.",
                ));
            }
            Some(Credentials::Replace) => {}
            // Only what is new, and nothing when somebody makes one of them meanwhile.
            _ => {
                let new = fates.iter().filter(|it| it.outcome == "created");
                let new: Vec<&String> = new.map(|it| &it.name).collect();
                all.secrets.retain(|it| new.contains(&&it.name));
                all.only_new = true;
            }
        }
        all.dry_run = false;
        if !all.secrets.is_empty() {
            let done = client.bulk_secrets(&all).await?;
            let new = done.iter().filter(|it| it.outcome != "unchanged").count();
            session.output.note(&format!(
                "{new} credentials are new in the vault, as {agent}/NAME."
            ));
        }
        Ok(())
    }
}

pub(super) async fn pull(session: &Session, args: &PullArgs) -> Result {
    let client = session.client()?;
    let layers = client.agent_layers(&args.agent).await?;
    let (held, mut open) = file::open(session, &args.key)?;
    let path = held.path.display().to_string();
    let (Some(memory), Some(from)) = (layers.memory, layers.origin) else {
        let detail = format!("{} has no memory of a lock file", args.agent);
        return Err(Failure::plain(detail)
            .hint("`skep deploy --lock FILE` gives it one, in `$HOME/lock/memory.json`."));
    };
    if from.agent != open.lock().agent().id {
        let detail = format!(
            "{}'s memory came from the lock file of another agent",
            args.agent
        );
        return Err(
            failed(&held.path, detail).hint("Name the file that it was deployed with, as --file.")
        );
    }
    let theirs = content::entries(memory.get());
    let theirs = theirs.map_err(|why| {
        let detail = format!("{}'s memory: {why}", args.agent);
        Failure::plain(detail).hint("It is `lock/memory.json` in the agent's home.")
    })?;
    let ours = layer_or_none(&held, &open, MEMORY)?;
    if ours == theirs {
        let said = format!("{path} has all of {}'s memory already.", args.agent);
        return session
            .output
            .done(&json!({ "changed": false }), &path, &said);
    }
    if origin(open.lock(), &ours)?.memory != from.memory && !args.replace {
        let detail = format!(
            "its memory has changed since {} was deployed with it",
            args.agent
        );
        return Err(failed(&held.path, detail).hint(
            "--replace takes the agent's memory; `skep lock export memory` keeps the file's first.",
        ));
    }
    let count = theirs.len();
    let put = match theirs.is_empty() {
        true => open.remove(MEMORY),
        false => open.put(MEMORY, &theirs),
    };
    put.map_err(|error: LockError| refused(&held.path, error))?;
    let said = format!("{count} entries of {}'s memory are in {path}.", args.agent);
    super::saved(session, &held, open, &said)?;
    // What is pulled next follows from this.
    let lock = file::read(&held.path)?;
    let now = origin(&lock, &theirs)?;
    let told = client.layers_are_of(&args.agent, &now);
    told.await.map_err(|error| {
        Failure::from(error).hint(
            "The file is written, and the server was not told: the next pull asks for --replace.",
        )
    })
}
