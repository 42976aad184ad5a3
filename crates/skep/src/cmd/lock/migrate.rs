//! `lock migrate`: a file of version 1, the older program's, becomes one of version 2 under new keys.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use skep_lock::{DEFAULT_KEY, LockError, MOST_FILE, Older, OlderContent, Open};
use zeroize::Zeroizing;

use super::file::{self, Held, failed, refused};
use super::recipients::ToArgs;
use super::saved;
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// Where the older program had its password.
const VARIABLE: &str = "AGENT_MASTER_KEY";
/// What the name of a kept older file ends with.
const KEPT: &str = "v1";

/// Flags of `lock migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The older password comes from --key-file, else from AGENT_MASTER_KEY, else it is
the one that the older program took when it had none, which everybody knows.
The new file has a new key in any case. Where it takes the older one's place,
that is kept as FILE.v1: it still opens with the older password, so remove it
when the new one is good.

Examples:
  skep lock migrate support --from old/agent.lock
  AGENT_MASTER_KEY=… skep lock migrate support --from agent.lock --age age1…")]
pub(crate) struct MigrateArgs {
    /// The agent's name
    name: String,
    /// The file of version 1
    #[arg(long, value_name = "FILE")]
    pub(super) from: PathBuf,
    /// The file to make [default: in the place of the older one]
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// A file with the older password
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// What the new file's first recipient is called
    #[arg(long, value_name = "NAME", default_value = "owner")]
    recipient: String,
    #[command(flatten)]
    pub(super) to: ToArgs,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MOST_FILE as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| failed(path, error))?;
    Ok(bytes)
}

/// The password that is given, if one is.
fn given(args: &MigrateArgs) -> Result<Option<Zeroizing<String>>> {
    if let Some(path) = &args.key_file {
        let text = file::read_secret(path)?;
        let text = text.trim_end_matches(['\r', '\n']);
        return Ok(Some(Zeroizing::new(text.to_owned())));
    }
    match std::env::var(VARIABLE) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(_) => Err(Failure::usage(format!("{VARIABLE} is no UTF-8"))),
    }
}

/// Opens the older file, and says so when anybody could.
fn opened(session: &Session, path: &Path, args: &MigrateArgs) -> Result<OlderContent> {
    let wrong = |error| match error {
        LockError::WrongKey => Failure::new(
            Exit::Auth,
            format!("{}: the older password is wrong", path.display()),
        )
        .hint("Give it in a file with --key-file, or in AGENT_MASTER_KEY."),
        LockError::Version(_) => {
            failed(path, error).hint("It need not be migrated: `skep lock show` shows it.")
        }
        error => refused(path, error),
    };
    let older = Older::parse(&read(path)?).map_err(wrong)?;
    let given = given(args)?;
    let first = given.as_ref().map_or(DEFAULT_KEY, |it| it.as_str());
    let content = match older.open(first) {
        Err(LockError::WrongKey) if first != DEFAULT_KEY => {
            // It may have been written where nothing was set.
            let content = older
                .open(DEFAULT_KEY)
                .map_err(|_| wrong(LockError::WrongKey))?;
            warn(session, path);
            return Ok(content);
        }
        opened => opened.map_err(wrong)?,
    };
    if first == DEFAULT_KEY {
        warn(session, path);
    }
    Ok(content)
}

fn warn(session: &Session, path: &Path) {
    session.output.complain(&format!(
        "warning: {} opens with `{DEFAULT_KEY}`, which stands in the older program's source: anybody who had \
         the file could read it. Take its credentials for known, and get new ones from their services.",
        path.display()
    ));
}

/// Keeps the older file under another name beside the new one.
fn keep(path: &Path) -> Result<PathBuf> {
    let mut kept = path.as_os_str().to_owned();
    kept.push(".");
    kept.push(KEPT);
    let kept = PathBuf::from(kept);
    match fs::hard_link(path, &kept) {
        Ok(()) => Ok(kept),
        // A migration that was cut off has made it already.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && read(path)? == read(&kept)? => {
            Ok(kept)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(failed(&kept, "it is there already").hint("Move it away."))
        }
        Err(error) => Err(failed(&kept, error)),
    }
}

pub(super) fn migrate(session: &Session, args: &MigrateArgs) -> Result {
    let target = args.file.as_ref().unwrap_or(&args.from);
    let held = Held::of(session, target)?;
    let from = fs::canonicalize(&args.from).map_err(|error| failed(&args.from, error))?;
    let in_place = held.path == from;
    if !in_place && held.path.symlink_metadata().is_ok() {
        return Err(failed(target, "it is there already").hint("Name another with --file."));
    }
    let content = opened(session, &from, args)?;
    let to = args.to.to(session)?;
    let made = || {
        let mut open = Open::create(&args.name, &args.recipient, &to)?;
        for (layer, entries) in &content.layers {
            open.put(layer, entries)?;
        }
        Ok(open)
    };
    let open = made().map_err(|error| refused(&held.path, error))?;
    for (names, why) in [
        (&content.empty, "left out, since they are empty"),
        (
            &content.placeholders,
            "placeholders of the older program, whose values lie in its keychain",
        ),
    ] {
        if !names.is_empty() {
            let names = names.join(", ");
            session
                .output
                .note(&format!("Credentials that are {why}: {names}."));
        }
    }
    let mut said = format!("{} is of version 2 now.", target.display());
    if in_place {
        let kept = keep(&held.path)?;
        said.push_str(&format!(" The older one is kept as {}.", kept.display()));
    }
    saved(session, &held, open, &said)
}
