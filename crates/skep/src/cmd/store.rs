//! `store`: the store of a data folder that no server has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde::Serialize;
use skep_core::Timestamp;
use skep_store::{StoreError, move_store};

use crate::failure::{Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Copy the store to another engine, and compare
    Migrate(MigrateArgs),
}

/// Flags of `store migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
STORE is `sqlite` (the file in the data folder), `postgres://…`, or `@FILE` with
such an address in it, which keeps a password off the command line.

No server may have either of them. The target must be empty; what it is copied
from is left as it was. Large bodies, homes and logs stay in the data folder.

Example:
  skep store migrate --from sqlite --to @/etc/skep/database")]
pub(crate) struct MigrateArgs {
    /// Where the store is
    #[arg(long, value_name = "STORE")]
    from: Engine,
    /// Where it is to go
    #[arg(long, value_name = "STORE")]
    to: Engine,
}

/// Where a store is.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// The file in the data folder.
    Sqlite,
    /// A database; its address may hold a password.
    Database(String),
    /// A database whose address is in a file.
    InFile(PathBuf),
}

impl FromStr for Engine {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let is_address =
            |text: &str| text.starts_with("postgres://") || text.starts_with("postgresql://");
        match text.strip_prefix('@') {
            Some(path) if !path.is_empty() => Ok(Self::InFile(path.into())),
            None if text == "sqlite" => Ok(Self::Sqlite),
            None if is_address(text) => Ok(Self::Database(text.to_owned())),
            _ => Err("a store is `sqlite`, `postgres://…` or `@FILE`"),
        }
    }
}

impl Engine {
    /// The database's address; `None` for the file in the folder.
    pub(crate) fn url(&self) -> Result<Option<String>> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Database(url) => Ok(Some(url.clone())),
            Self::InFile(path) => {
                let text = std::fs::read_to_string(path);
                let text =
                    text.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
                Ok(Some(text.trim().to_owned()))
            }
        }
    }
}

/// What a table holds, on both sides.
#[derive(Debug, Serialize)]
struct Moved {
    table: String,
    rows: u64,
    hash: String,
}

impl Row for Moved {
    const HEADERS: &'static [&'static str] = &["TABLE", "ROWS", "SHA-256"];

    fn name(&self) -> String {
        self.table.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let short = self.hash.chars().take(16).collect();
        vec![self.table.clone(), self.rows.to_string(), short]
    }
}

fn failure(error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::NotEmpty(_) => {
            "Name an empty database; move skep.db and what begins with its name away to go back to SQLite."
        }
        StoreError::InUse { .. } => "Stop the server first: calls wait until it is back.",
        StoreError::Newer { .. } | StoreError::MigrationChanged { .. } => {
            "Use the version of Skep that last ran on it, or a newer one."
        }
        StoreError::Address(_) => "Check the address, and what the database lets in.",
        _ => "Nothing was changed; see to what it says and try again.",
    };
    Failure::plain(error.to_string()).hint(hint)
}

pub(crate) fn migrate(session: &Session, args: &MigrateArgs) -> Result {
    let (from, to) = (args.from.url()?, args.to.url()?);
    if from == to {
        return Err(Failure::usage("--from and --to are the same store"));
    }
    let data = session.config(Vec::new())?.into_settings().data;
    let sets = skep_server::migrations();
    let moved = move_store(&data, from.as_deref(), to.as_deref(), &sets);
    let moved: BTreeMap<_, _> = moved
        .map_err(|error| failure(&error))?
        .into_iter()
        .collect();
    let rows: Vec<Moved> = moved
        .into_iter()
        .map(|(table, sum)| Moved {
            table,
            rows: sum.rows,
            hash: sum.hash.to_string(),
        })
        .collect();
    session.output.list(&rows)?;
    session.output.say(match to {
        Some(_) => {
            "\nEvery row is there, with the same hash. Set store.url to it and start the server."
        }
        None => {
            "\nEvery row is there, with the same hash. Take store.url away and start the server."
        }
    })
}
