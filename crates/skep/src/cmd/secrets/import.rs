//! `secrets import`: secrets of a file, or of another store, into the vault; all or none.

use std::io::{self, Read};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::Serialize;
use skep_api::{BulkSecrets, NewSecret};
use skep_core::Timestamp;
use skep_exchange::{Entry, ExchangeError, Format, MOST_BYTES};
use skep_vault::SecretName;
use zeroize::Zeroizing;

use super::{keys, tag};
use crate::failure::{Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// Secrets that the server takes at once.
const MOST: usize = 1_000;

/// Flags of `secrets import`.
#[derive(Debug, Args)]
#[command(after_help = "\
All are taken or none. Names of nested documents become paths: `db: {password:
…}` is the secret `db/password`. Whether a file is encrypted by SOPS or age is
seen by itself. Empty values are left out.

The identity that opens an encrypted file is looked for where SOPS looks:
SOPS_AGE_KEY_FILE, SOPS_AGE_KEY, ~/.config/sops/age/keys.txt.

Stores are asked as their own variables say: VAULT_ADDR with VAULT_TOKEN, or
VAULT_ROLE_ID and VAULT_SECRET_ID (also BAO_…); AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_REGION.

Examples:
  skep secrets import .env --prefix billing/ --dry-run
  skep secrets import secrets.enc.yaml --identity key.txt --on-conflict replace
  skep secrets import vault:secret/billing --prefix billing/
  kubectl get secret … | skep secrets import - --format json")]
pub(crate) struct ImportArgs {
    /// A file; `-` is the standard input; or a store: vault:MOUNT/PATH, aws:PREFIX
    from: String,
    /// What it is [default: seen by its name]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Format::WORDS))]
    format: Option<String>,
    /// What is put before every name, such as billing/
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// A file with the age identity that opens it; can be given again
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// A tag for the secrets that are new, such as team=red; can be given again
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// What becomes of secrets that are there with another value
    #[arg(long, value_enum, default_value = "fail")]
    on_conflict: Conflict,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

/// What becomes of what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Conflict {
    /// Nothing is done at all
    Fail,
    /// They stay as they are
    Skip,
    /// They get a new version
    Replace,
}

/// What became of a secret.
#[derive(Debug, Serialize)]
pub(super) struct Fate {
    pub(super) name: String,
    pub(super) outcome: String,
}

impl Row for Fate {
    const HEADERS: &'static [&'static str] = &["NAME", "OUTCOME"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![self.name.clone(), self.outcome.clone()]
    }
}

/// What is wrong with a file.
pub(super) fn refused(of: &str, error: &ExchangeError) -> Failure {
    let failure = Failure::plain(format!("{of}: {error}"));
    match error {
        ExchangeError::NoIdentity => failure.hint("Name it with --identity FILE."),
        ExchangeError::Age(_) => {
            failure.hint("Was it made for the identity that --identity or SOPS_AGE_KEY_FILE names?")
        }
        ExchangeError::NotText { .. } => {
            failure.hint("`skep secrets reveal NAME > FILE` writes it as it is.")
        }
        _ => failure,
    }
}

fn bytes(from: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    let most = MOST_BYTES as u64 + 1;
    match from {
        "-" => io::stdin().lock().take(most).read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    }
    .map_err(|error| Failure::usage(format!("{from} cannot be read: {error}")))?;
    Ok(bytes)
}

fn file(session: &Session, args: &ImportArgs) -> Result<Vec<Entry>> {
    let of = match args.from.as_str() {
        "-" => "standard input",
        path => path,
    };
    let format = match &args.format {
        Some(word) => word.parse().map_err(|error| refused(of, &error))?,
        None => Format::of_name(&args.from).ok_or_else(|| {
            Failure::usage(format!("what {of} is cannot be seen by its name")).hint(format!(
                "Say it with --format: {}.",
                Format::WORDS.join(", ")
            ))
        })?,
    };
    let bytes = bytes(&args.from)?;
    // Keys are looked for when there is something to open.
    let read = match skep_exchange::read(format, &bytes, &[]) {
        Err(ExchangeError::NoIdentity) => {
            let identities = keys::identities(session, &args.identity)?;
            skep_exchange::read(format, &bytes, &identities)
        }
        read => read,
    };
    read.map_err(|error| refused(of, &error))
}

/// What is sent of an entry.
fn wish(args: &ImportArgs, entry: &Entry) -> Result<NewSecret> {
    let name = format!("{}{}", args.prefix, entry.name);
    if name.parse::<SecretName>().is_err() {
        let at = entry.line.map(|line| format!("line {line}: "));
        let at = at.unwrap_or_default();
        return Err(Failure::plain(format!(
            "{at}`{name}` can be no name of a secret; nothing was done"
        ))
        .hint("Names have letters, digits, `.`, `_` and `-`, with `/` between parts."));
    }
    let text = std::str::from_utf8(&entry.value).ok().map(str::to_owned);
    Ok(NewSecret {
        name,
        value_base64: text.is_none().then(|| STANDARD.encode(&entry.value[..])),
        value: text,
        tags: args.tags.iter().cloned().collect(),
        ..NewSecret::default()
    })
}

fn names(fates: &[Fate], outcome: &str) -> Vec<String> {
    let those = fates.iter().filter(|fate| fate.outcome == outcome);
    those.map(|fate| fate.name.clone()).collect()
}

/// The first few names of many.
pub(super) fn few(names: &[String]) -> String {
    const FEW: usize = 5;
    let shown = names[..names.len().min(FEW)].join(", ");
    match names.len() > FEW {
        true => format!("{shown} and {} more", names.len() - FEW),
        false => shown,
    }
}

pub(super) async fn run(session: &Session, args: ImportArgs) -> Result {
    let entries = match keys::store(&args.from)? {
        Some(store) => {
            let read = store.read().await;
            read.map_err(|error| keys::told(&args.from, &error))?
        }
        None => file(session, &args)?,
    };
    let (empty, entries): (Vec<Entry>, Vec<Entry>) = entries
        .into_iter()
        .partition(|entry| entry.value.is_empty());
    let wanted = entries.iter().map(|entry| wish(&args, entry));
    let wanted: Vec<NewSecret> = wanted.collect::<Result<_>>()?;
    if wanted.len() > MOST {
        return Err(Failure::plain(format!(
            "{} secrets are more than the {MOST} that are taken at once; nothing was done",
            wanted.len()
        ))
        .hint("Split the file: each part is taken whole or not at all."));
    }
    let fates = put(session, &args, wanted).await?;
    if !empty.is_empty() {
        let names: Vec<String> = empty.into_iter().map(|entry| entry.name).collect();
        let told = format!(
            "note: left out, for their values are empty: {}",
            few(&names)
        );
        session.output.note(&told);
    }
    session.output.list(&fates)?;
    if args.dry_run {
        session.output.note("note: a dry run; nothing was done");
    }
    Ok(())
}

async fn bulk(
    session: &Session,
    secrets: Vec<NewSecret>,
    (dry_run, only_new): (bool, bool),
) -> Result<Vec<Fate>> {
    let all = BulkSecrets {
        secrets,
        dry_run,
        only_new,
    };
    let done = session.client()?.bulk_secrets(&all).await?;
    let fate = |done: skep_api::BulkOutcome| Fate {
        name: done.name,
        outcome: done.outcome,
    };
    Ok(done.into_iter().map(fate).collect())
}

/// Puts what is wished for into the vault, as far as what is there allows.
async fn put(session: &Session, args: &ImportArgs, wanted: Vec<NewSecret>) -> Result<Vec<Fate>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    if args.on_conflict == Conflict::Replace {
        return bulk(session, wanted, (args.dry_run, false)).await;
    }
    let mut fates = bulk(session, wanted.clone(), (true, false)).await?;
    let there = names(&fates, "updated");
    if args.on_conflict == Conflict::Fail && !there.is_empty() {
        let told = format!("there already, with other values: {}", few(&there));
        return Err(Failure::plain(format!("{told}; nothing was done")).hint(
            "--on-conflict replace gives them new versions, --on-conflict skip leaves them.",
        ));
    }
    for fate in &mut fates {
        if fate.outcome == "updated" {
            fate.outcome = "skipped".to_owned();
        }
    }
    let new = names(&fates, "created");
    if !args.dry_run && !new.is_empty() {
        let secrets = wanted.into_iter().filter(|it| new.contains(&it.name));
        // What somebody else makes meanwhile is not overwritten.
        bulk(session, secrets.collect(), (false, true)).await?;
    }
    Ok(fates)
}
