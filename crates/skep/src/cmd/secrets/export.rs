//! `secrets export`: secrets of the vault into a file, or into another store. Each is revealed, with a reason.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use serde_json::json;
use skep_api::{Reveal, Secret};
use skep_client::Client;
use skep_core::Timestamp;
use skep_crypto::age::Recipient;
use skep_exchange::{Entry, Format};
use skep_sources::Source;

use super::import::{Conflict, Fate, few, refused};
use super::{keys, value};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Flags of `secrets export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each secret is revealed, which the audit log tells with the reason; bait is
left out. Values leave encrypted for the recipients (age1…), unless --plain
says that they may lie in the open.

Examples:
  skep secrets export --prefix billing/ --format sops-yaml \\
      --recipient age1… --to secrets.enc.yaml --reason 'into git'
  skep secrets export --prefix billing/ --to vault:secret/billing --reason 'moving'
  skep secrets export --tag team=pay --format dotenv --plain --reason 'laptop'")]
pub(crate) struct ExportArgs {
    /// Only secrets whose names begin so; it is taken off the names
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only with this tag: team, team=red; can be given again
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How it is written [default: seen by the file's name]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Format::WORDS))]
    format: Option<String>,
    /// A file, or a store: vault:MOUNT/PATH, aws:PREFIX [default: the standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<String>,
    /// What becomes of what a store has already with another value
    #[arg(long, value_enum, default_value = "fail")]
    on_conflict: Conflict,
    /// For whom it is encrypted; can be given again
    #[arg(long, value_name = "AGE1…")]
    recipient: Vec<String>,
    /// Write the values in the open
    #[arg(long, conflicts_with = "recipient")]
    plain: bool,
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Only tell which secrets would be exported; nothing is revealed
    #[arg(long)]
    dry_run: bool,
}

fn recipients(args: &ExportArgs) -> Result<Vec<Recipient>> {
    let one = |text: &String| {
        text.parse().map_err(|_| {
            Failure::usage(format!("`{text}` is no recipient of age"))
                .hint("`age-keygen -y FILE` prints the one of an identity: age1…")
        })
    };
    args.recipient.iter().map(one).collect()
}

/// How and for whom, asked before anything is revealed.
fn form(args: &ExportArgs) -> Result<(Format, Vec<Recipient>)> {
    let format = match (&args.format, &args.to) {
        (Some(word), _) => Some(word.parse().map_err(|error| refused("--format", &error))?),
        (None, Some(to)) => Format::of_name(to),
        (None, None) => None,
    };
    let format = format.ok_or_else(|| {
        Failure::usage("how it is to be written is not said").hint(format!(
            "Say it with --format: {}.",
            Format::WORDS.join(", ")
        ))
    })?;
    let recipients = recipients(args)?;
    match (format, recipients.is_empty(), args.plain) {
        (Format::Sops(_), true, _) => Err(Failure::usage(
            "SOPS encrypts for recipients, and none is named",
        )
        .hint("Name one with --recipient age1…")),
        (_, true, false) => Err(Failure::usage("the values would lie in the open")
            .hint("Name a recipient with --recipient age1…, or pass --plain if you mean it.")),
        _ => Ok((format, recipients)),
    }
}

/// Where the values go.
enum To {
    Store(Box<Source>),
    File(Format, Vec<Recipient>),
}

/// The secrets that are meant, without bait.
async fn chosen(session: &Session, client: &Client, args: &ExportArgs) -> Result<Vec<Secret>> {
    let found = super::all(client, None, args.tags.clone()).await?;
    let meant = found
        .into_iter()
        .filter(|it| it.name.starts_with(&args.prefix));
    let (bait, chosen): (Vec<Secret>, Vec<Secret>) = meant.partition(|it| it.canary);
    if !bait.is_empty() {
        session.output.note("note: bait is left out");
    }
    Ok(chosen)
}

/// The values, each revealed with the reason.
async fn revealed(client: &Client, args: &ExportArgs, of: &[Secret]) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(of.len());
    for secret in of {
        let wish = Reveal {
            reason: args.reason.clone().unwrap_or_default(),
            version: None,
            field: None,
        };
        let shown = client.reveal_secret(&secret.name, &wish).await;
        let shown = shown.map_err(|error| {
            let mut failure = Failure::from(error);
            failure.detail = format!("{}: {}; nothing was written", secret.name, failure.detail);
            failure
        })?;
        let name = secret.name.strip_prefix(&args.prefix);
        let bytes = value::bytes(&shown)?;
        entries.push(Entry::new(name.unwrap_or(&secret.name), bytes.to_vec()));
    }
    Ok(entries)
}

pub(super) async fn run(session: &Session, args: ExportArgs) -> Result {
    let store = args.to.as_deref().map(keys::store).transpose()?.flatten();
    let to = match store {
        Some(_) if args.format.is_some() || args.plain || !args.recipient.is_empty() => {
            return Err(Failure::usage("a store takes the values as they are")
                .hint("Leave --format, --recipient and --plain out: they are for files."));
        }
        Some(store) => To::Store(Box::new(store)),
        None => {
            let (format, recipients) = form(&args)?;
            To::File(format, recipients)
        }
    };
    let client = session.client()?;
    let chosen = chosen(session, &client, &args).await?;
    if args.dry_run {
        return session.output.list(&chosen);
    }
    if chosen.is_empty() {
        return Err(
            Failure::plain("no secret is meant: there is nothing to export")
                .hint("`skep secrets list` shows which there are."),
        );
    }
    let entries = revealed(&client, &args, &chosen).await?;
    match to {
        To::Store(store) => hand_over(session, &args, &store, &entries).await,
        To::File(format, recipients) => file(session, &args, (format, &recipients), &entries),
    }
}

/// Writes the values into another store.
async fn hand_over(
    session: &Session,
    args: &ExportArgs,
    store: &Source,
    entries: &[Entry],
) -> Result {
    let conflict = match args.on_conflict {
        Conflict::Fail => skep_sources::Conflict::Fail,
        Conflict::Skip => skep_sources::Conflict::Skip,
        Conflict::Replace => skep_sources::Conflict::Replace,
    };
    let done = store.write(entries, conflict).await;
    let address = args.to.as_deref().unwrap_or_default();
    let done = done.map_err(|error| keys::told(address, &error))?;
    let fates = done.into_iter().map(|(name, outcome)| Fate {
        name,
        outcome: outcome.as_str().to_owned(),
    });
    session.output.list(&fates.collect::<Vec<_>>())
}

/// Writes the values into a file, or to the standard output.
fn file(
    session: &Session,
    args: &ExportArgs,
    (format, recipients): (Format, &[Recipient]),
    entries: &[Entry],
) -> Result {
    let now = Timestamp::system_now().to_string();
    // SOPS reads whole seconds.
    let now = format!("{}Z", now.split('.').next().unwrap_or_default());
    let bytes = skep_exchange::write(format, entries, recipients, &now);
    let bytes = bytes.map_err(|error| refused("the export", &error))?;
    let Some(to) = &args.to else {
        return session.output.raw(&bytes);
    };
    keep(session, Path::new(to), &bytes)?;
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let said = format!("{to} has {} secrets: {}.", names.len(), few(&names));
    let told = json!({ "file": to, "names": names });
    session.output.done(&told, to, &said)
}

/// Writes a file for its owner alone: whole, or not at all.
fn keep(session: &Session, path: &Path, bytes: &[u8]) -> Result {
    if path.exists() {
        session.confirm(&format!("Replace {}?", path.display()))?;
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write()
        .map_err(|error| Failure::plain(format!("{} cannot be written: {error}", path.display())))
}
