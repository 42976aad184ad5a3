//! Files side by side, for people and for git: what differs, and one file of two.

use std::path::{Path, PathBuf};

use clap::Args;
use skep_lock::{CREDENTIALS, Lock, Merged, Open, Value};

use super::file::{self, SecretArgs, refused};
use super::{access, with};
use crate::cmd::message;
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;
use crate::table;

/// Flags of `lock diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Credentials are never shown: a mark tells whether they are the same. Without a
key only what is in the open is compared. With one file its text is printed,
as git wants it:

  git config diff.agentlock.textconv 'skep lock diff'
  echo 'agent.lock diff=agentlock merge=agentlock' >> .gitattributes")]
pub(crate) struct DiffArgs {
    /// A file
    old: PathBuf,
    /// The file to compare it with; exit code 1 when they differ
    new: Option<PathBuf>,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
}

/// Flags of `lock merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
A layer is taken from the side that changed it, a credential likewise. What
both sides changed in different ways is told, and OURS stays as it is. For git:

  git config merge.agentlock.driver 'skep lock merge %O %A %B'
  echo 'agent.lock diff=agentlock merge=agentlock' >> .gitattributes

The key comes from SKEP_LOCK_IDENTITY_FILE, SKEP_LOCK_PASSPHRASE_FILE or
SKEP_LOCK_PASSPHRASE_FROM.")]
pub(crate) struct MergeArgs {
    /// The file that both follow
    base: PathBuf,
    /// One side, which becomes the result
    ours: PathBuf,
    /// The other side
    theirs: PathBuf,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
}

/// The text of an entry, in lines that each say where they are from.
fn entry(layer: &str, name: &str, value: &Value, marks: &Open) -> Result<Vec<String>> {
    let place = format!("{layer}/{name}");
    let lines = match value {
        Value::Text(text) if layer == CREDENTIALS => {
            let mark = marks.mark(text);
            let mark = mark.map_err(|error| Failure::plain(error.to_string()))?;
            vec![format!("{place}: hidden, mark {mark}")]
        }
        Value::Text(text) => text
            .lines()
            .map(|line| format!("{place}: {line}"))
            .collect(),
        Value::Json(json) => vec![format!("{place}: {json}")],
    };
    Ok(lines.iter().map(|line| table::clean(line)).collect())
}

/// A file as text.
fn lines(path: &Path, lock: &Lock, open: Option<(&Open, &Open)>) -> Result<Vec<String>> {
    let agent = lock.agent();
    let mut lines = vec![
        format!("agent {}, id {}", agent.name, agent.id),
        format!("epoch {}", lock.epoch()),
        format!("root of epoch {}", lock.root_epoch()),
    ];
    if let Some(publisher) = lock.publisher() {
        lines.push(format!("signed by {publisher}"));
    }
    for recipient in lock.recipients() {
        let layers = recipient.layers.as_ref().map(|layers| layers.join(", "));
        let layers = layers.unwrap_or_else(|| "every layer".to_owned());
        let name = &recipient.name;
        lines.push(format!(
            "recipient {name}, {}, {}: {layers}",
            with(&recipient.opens),
            access(recipient)
        ));
    }
    for layer in lock.layers() {
        lines.push(format!("layer {} of epoch {}", layer.name, layer.epoch));
        let Some((open, marks)) = open.filter(|(open, _)| open.opens(&layer.name)) else {
            continue;
        };
        let entries = open.layer(&layer.name);
        for (name, value) in &entries.map_err(|error| refused(path, error))? {
            lines.extend(entry(&layer.name, name, value, marks)?);
        }
    }
    Ok(lines)
}

fn opened(session: &Session, path: &Path, secret: &SecretArgs) -> Result<(Lock, Option<Open>)> {
    let lock = file::read(path)?;
    if !secret.is_given() {
        return Ok((lock, None));
    }
    let open = lock.open(&secret.secret(session, path)?, None);
    let open = open.map_err(|error| refused(path, error))?;
    Ok((lock, Some(open)))
}

pub(super) fn diff(session: &Session, args: &DiffArgs) -> Result {
    let (old, open) = opened(session, &args.old, &args.secret)?;
    let Some(path) = &args.new else {
        let open = open.as_ref().map(|open| (open, open));
        let text = lines(&args.old, &old, open)?.join("\n") + "\n";
        return session.output.raw(text.as_bytes());
    };
    let (new, new_open) = opened(session, path, &args.secret)?;
    // One key makes the marks of both, so that they can be compared.
    let marks = new_open.as_ref();
    let before = lines(&args.old, &old, open.as_ref().zip(marks))?;
    let after = lines(path, &new, new_open.as_ref().zip(marks))?;
    let gone = before.iter().filter(|line| !after.contains(line));
    let come = after.iter().filter(|line| !before.contains(line));
    let gone = gone.map(|line| session.output.paint("31", &format!("- {line}")) + "\n");
    let come = come.map(|line| session.output.paint("32", &format!("+ {line}")) + "\n");
    let text: String = gone.chain(come).collect();
    session.output.raw(text.as_bytes())?;
    match text.is_empty() {
        true => Ok(()),
        false => Err(Failure::quiet(Exit::Failure)),
    }
}

pub(super) fn merge(session: &Session, args: &MergeArgs) -> Result {
    if !args.secret.is_given() {
        return Err(
            Failure::usage("a merge wants the key of somebody who opens every layer")
                .hint("Name it in SKEP_LOCK_IDENTITY_FILE or SKEP_LOCK_PASSPHRASE_FILE."),
        );
    }
    let secret = args.secret.secret(session, &args.ours)?;
    let open = |path: &Path| {
        let opened = file::read(path)?.open(&secret, None);
        opened.map_err(|error| refused(path, error))
    };
    let [base, ours, theirs] = [open(&args.base)?, open(&args.ours)?, open(&args.theirs)?];
    let wrong = |error| refused(&args.ours, error);
    match Open::merge(&base, &ours, &theirs).map_err(wrong)? {
        Merged::Clean(merged) => {
            let lock = merged.finish().map_err(wrong)?;
            message::replace(&args.ours, lock.render().as_bytes())
        }
        Merged::Conflicts(conflicts) => Err(Failure::plain(format!(
            "both sides changed, each in its own way: {}",
            conflicts.join(", ")
        ))
        .hint("Take one side's file and make the other's changes with `skep lock set`.")),
    }
}
