//! `config`: what holds and where it comes from, and edits of the file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use skep_core::Timestamp;
use skep_core::config::{self, Entry, Key};

use crate::failure::{Failure, Result};
use crate::output::{Format, Row};
use crate::session::{Session, default_config_file};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show what holds
    Show(ShowArgs),
    /// Set a key in the file; comments in it stay
    Set(SetArgs),
    /// Take a key out of the file, so that its default holds again
    Reset(ResetArgs),
}

/// Flags of `config show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Only this key, or this section
    key: Option<String>,
    /// Say where each value comes from
    #[arg(long)]
    origin: bool,
}

/// Flags of `config set`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skep config set limits.body 128MiB")]
pub(crate) struct SetArgs {
    /// The key
    key: String,
    /// Its value
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// Flags of `config reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The key
    key: String,
}

#[derive(Debug, Serialize)]
struct Shown {
    key: &'static str,
    value: String,
    origin: String,
}

impl From<&Entry> for Shown {
    fn from(entry: &Entry) -> Self {
        Self {
            key: entry.key.name,
            value: entry.shown().to_owned(),
            origin: entry.origin.to_string(),
        }
    }
}

impl Row for Shown {
    const HEADERS: &'static [&'static str] = &["KEY", "VALUE", "ORIGIN"];

    fn name(&self) -> String {
        self.key.to_owned()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let value = match self.value.as_str() {
            "" => "-",
            value => value,
        };
        vec![self.key.to_owned(), value.to_owned(), self.origin.clone()]
    }
}

pub(crate) fn run(session: &Session, verb: ConfigVerb) -> Result {
    match verb {
        ConfigVerb::Show(args) => show(session, &args),
        ConfigVerb::Set(args) => {
            let path = file(session)?;
            config::set_in_file(&path, &args.key, &args.value)?;
            changed(session, &path, &format!("{} is set", args.key))
        }
        ConfigVerb::Reset(args) => {
            let path = file(session)?;
            match config::reset_in_file(&path, &args.key)? {
                true => changed(
                    session,
                    &path,
                    &format!("{} is at its default again", args.key),
                ),
                false => {
                    session
                        .output
                        .say(&format!("{} was not set in {}.", args.key, path.display()))
                }
            }
        }
    }
}

fn changed(session: &Session, path: &std::path::Path, what: &str) -> Result {
    session.output.say(&format!(
        "{what} in {}; restart the server for it.",
        path.display()
    ))
}

fn file(session: &Session) -> Result<PathBuf> {
    let path = session.config_file().or_else(default_config_file);
    path.ok_or_else(|| {
        Failure::plain("there is no place for the configuration: HOME is not set")
            .hint("Name the file with --config.")
    })
}

fn show(session: &Session, args: &ShowArgs) -> Result {
    let config = session.config(Vec::new())?;
    let fits = |name: &str| match &args.key {
        None => true,
        Some(key) => {
            name == key
                || name
                    .strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        }
    };
    let entries = config.entries().iter().filter(|entry| fits(entry.key.name));
    let rows: Vec<Shown> = entries.map(Shown::from).collect();
    if rows.is_empty() {
        let key = args.key.clone().unwrap_or_default();
        return Err(Failure::usage(format!("there is no key `{key}`"))
            .hint("`skep config show` lists the keys."));
    }
    if session.output.format != Format::Table || args.origin {
        return session.output.list(&rows);
    }
    // One key is asked for by scripts: its value alone.
    if let (Some(key), [only]) = (args.key.as_deref().and_then(Key::find), rows.as_slice())
        && key.name == only.key
    {
        return session.output.raw(format!("{}\n", only.value).as_bytes());
    }
    let now = Timestamp::system_now();
    let cells: Vec<_> = rows
        .iter()
        .map(|row| row.cells(now)[..2].to_vec())
        .collect();
    session.output.table(&Shown::HEADERS[..2], &cells)
}
