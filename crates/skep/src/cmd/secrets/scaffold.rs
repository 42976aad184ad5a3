//! `secrets scaffold`: the secrets that a project asks for, which the vault has, and which lie in the open.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_core::Timestamp;
use skep_scan::{Kind, Need, needs};
use skep_vault::SecretName;

use super::import::few;
use super::tree;
use crate::failure::{Exit, Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// Bytes of a file that is read.
const MOST_FILE: u64 = 2 << 20;
/// Variables of a project.
const MOST_NEEDS: usize = 10_000;
/// Variables that Skep itself gives.
const OWN: &str = "SKEP_";

/// Flags of `secrets scaffold`.
#[derive(Debug, Args)]
#[command(after_help = "\
Read are `.env` files and their examples, compose files and manifests, programs
(Python, JavaScript, Rust, Go, Java, Ruby and more), shell scripts and
Dockerfiles. Whether a variable is a secret is told by its name, or by what its
value looks like. No value is printed.

--write puts ${secret:NAME} into the `env` of the manifest, in the place of
values that lie there in the open, too.

Examples:
  skep secrets scaffold
  skep secrets scaffold services/billing --prefix billing/ --write
  skep secrets scaffold --check    # in CI: 1 when something is missing or open")]
pub(crate) struct ScaffoldArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What secrets' names begin with, such as billing/
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Write the references into the manifest
    #[arg(long)]
    write: bool,
    /// The manifest [default: agent.yaml, agent.yml, skep.yaml or skep.yml of the folder]
    #[arg(short, long, value_name = "FILE", requires = "write")]
    file: Option<PathBuf>,
    /// Exit with 1 when a secret is missing, or lies in the open
    #[arg(long)]
    check: bool,
}

/// A secret that a project needs.
#[derive(Debug, Serialize)]
struct Needed {
    variable: String,
    secret: String,
    /// `exists` or `missing`.
    state: &'static str,
    /// Where it is read or named.
    read_at: Vec<String>,
    /// Where its value stands in plain text.
    open_at: Vec<String>,
}

impl Row for Needed {
    const HEADERS: &'static [&'static str] =
        &["VARIABLE", "SECRET", "STATE", "READ AT", "IN THE OPEN"];

    fn name(&self) -> String {
        self.secret.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let first = |all: &[String]| match all {
            [] => String::new(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} +{}", rest.len()),
        };
        vec![
            self.variable.clone(),
            self.secret.clone(),
            self.state.to_owned(),
            first(&self.read_at),
            first(&self.open_at),
        ]
    }
}

/// What is known of a variable.
#[derive(Default)]
struct Seen {
    secret: bool,
    reference: Option<String>,
    read_at: Vec<String>,
    open_at: Vec<String>,
}

impl Seen {
    fn take(&mut self, place: String, need: Need) {
        self.secret |= need.secret;
        if self.reference.is_none() {
            self.reference = need.reference;
        }
        match need.plain {
            true => self.open_at.push(place),
            false => self.read_at.push(place),
        }
    }
}

/// What the files of a folder ask for.
fn seen(session: &Session, dir: &Path) -> Result<BTreeMap<String, Seen>> {
    let mut all: BTreeMap<String, Seen> = BTreeMap::new();
    for file in tree::all(dir)? {
        let name = file.file_name().map(|name| name.to_string_lossy());
        let Some(kind) = name.and_then(|name| Kind::of_name(&name)) else {
            continue;
        };
        let mut bytes = Vec::new();
        let read = File::open(dir.join(&file));
        let read = read.and_then(|it| it.take(MOST_FILE + 1).read_to_end(&mut bytes));
        let shown = file.display();
        if let Err(error) = read {
            session
                .output
                .complain(&format!("note: {shown} cannot be read: {error}"));
            continue;
        }
        if bytes.len() as u64 > MOST_FILE {
            session
                .output
                .note(&format!("note: {shown} is passed over: it is too large"));
            continue;
        }
        for need in needs(kind, &String::from_utf8_lossy(&bytes)) {
            if need.variable.starts_with(OWN) {
                continue;
            }
            let place = format!("{shown}:{}", need.line);
            all.entry(need.variable.clone())
                .or_default()
                .take(place, need);
        }
        if all.len() > MOST_NEEDS {
            return Err(Failure::plain(format!(
                "{} names over {MOST_NEEDS} variables",
                dir.display()
            ))
            .hint("Name a folder in it."));
        }
    }
    all.retain(|_, seen| seen.secret);
    Ok(all)
}

pub(super) async fn run(session: &Session, args: &ScaffoldArgs) -> Result {
    let beginning = format!("{}X", args.prefix);
    if beginning.parse::<SecretName>().is_err() {
        return Err(
            Failure::usage(format!("`{}` begins no name of a secret", args.prefix))
                .hint("Names have letters, digits, `.`, `_` and `-`, with `/` between parts."),
        );
    }
    let seen = seen(session, &args.dir)?;
    let there = super::all(&session.client()?, None, Vec::new()).await?;
    let there: BTreeSet<String> = there.into_iter().map(|secret| secret.name).collect();
    let needed = seen.into_iter().map(|(variable, seen)| {
        let named = || format!("{}{variable}", args.prefix);
        let secret = seen.reference.unwrap_or_else(named);
        Needed {
            state: if there.contains(&secret) {
                "exists"
            } else {
                "missing"
            },
            variable,
            secret,
            read_at: seen.read_at,
            open_at: seen.open_at,
        }
    });
    let needed: Vec<Needed> = needed.collect();
    if needed.is_empty() {
        let said = "No secret is asked for.";
        return session.output.done(&needed, "", said);
    }
    session.output.list(&needed)?;
    advise(session, &needed);
    if args.write {
        write(session, args, &needed)?;
    }
    let well = |it: &Needed| it.state == "exists" && it.open_at.is_empty();
    match args.check && !needed.iter().all(well) {
        true => Err(Failure::quiet(Exit::Failure)),
        false => Ok(()),
    }
}

/// The next things to do.
fn advise(session: &Session, needed: &[Needed]) {
    let names = |of: fn(&&Needed) -> bool| -> Vec<String> {
        let those = needed.iter().filter(of);
        those.map(|it| it.secret.clone()).collect()
    };
    let missing = names(|it| it.state == "missing");
    let open = names(|it| !it.open_at.is_empty());
    if !missing.is_empty() {
        session.output.note(&format!(
            "hint: missing: {}. `skep secrets create NAME` makes one, `skep secrets import .env` those of a file.",
            few(&missing)
        ));
    }
    if !open.is_empty() {
        session.output.note(&format!(
            "hint: in the open: {}. Take the values out when the vault has them.",
            few(&open)
        ));
    }
}

fn write(session: &Session, args: &ScaffoldArgs, needed: &[Needed]) -> Result {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => {
            let names = ["agent.yaml", "agent.yml", "skep.yaml", "skep.yml"];
            let found = names
                .iter()
                .map(|name| args.dir.join(name))
                .find(|it| it.is_file());
            found.ok_or_else(|| {
                Failure::plain(format!("{} has no manifest", args.dir.display()))
                    .hint("Name it with --file, or begin with `skep init`.")
            })?
        }
    };
    let wanted = needed
        .iter()
        .map(|it| (it.variable.as_str(), it.secret.as_str()));
    let changed = manifest::put(&file, &wanted.collect::<Vec<_>>())?;
    let said = match changed {
        0 => format!("{} has all references already.", file.display()),
        _ => format!("{} has {changed} new references.", file.display()),
    };
    session.output.note(&said);
    Ok(())
}
