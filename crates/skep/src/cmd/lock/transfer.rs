//! `lock export` and `lock import`: layers out of a file into the open, and back.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_core::Timestamp;
use skep_lock::{Entries, Open};

use super::content::{self, Content, Form};
use super::file::{self, Held, KeyArgs, failed, refused};
use super::{layer_or_none, no_entry, parts, saved};
use crate::cmd::secrets::value;
use crate::failure::{Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// Bytes of what is imported.
const MOST: u64 = skep_lock::MOST_FILE as u64;

/// Flags of `lock export`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is exported lies in the open: a file is made readable for its owner only,
and the standard output must not be a terminal, unless you say yes.

Examples:
  skep lock export personality memory --to agent.yaml
  skep lock export credentials/OPENAI_API_KEY --to .env")]
pub(crate) struct ExportArgs {
    /// LAYER, or LAYER/ENTRY
    #[arg(required = true)]
    what: Vec<String>,
    /// The file to make [default: the standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How it is written [default: as the file's name says, else json]
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<Form>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) key: KeyArgs,
}

/// Flags of `lock import`.
#[derive(Debug, Args)]
#[command(after_help = "\
All of it is written, or nothing. An entry that is there with another value is
a conflict: nothing is written then, unless --replace or --keep says what
counts.

Examples:
  skep lock import .env --dry-run
  skep lock import agent.yaml --replace")]
pub(crate) struct ImportArgs {
    /// The file; `-` is the standard input
    from: PathBuf,
    /// How it is written [default: as the file's name says, else json]
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<Form>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Take what is imported where both have an entry
    #[arg(long, conflicts_with = "keep")]
    replace: bool,
    /// Keep what is there where both have an entry
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    pub(super) key: KeyArgs,
}

/// What becomes of an entry.
#[derive(Debug, Serialize)]
struct Change {
    entry: String,
    change: &'static str,
}

impl Row for Change {
    const HEADERS: &'static [&'static str] = &["ENTRY", "CHANGE"];

    fn name(&self) -> String {
        self.entry.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.entry.clone(), self.change.to_owned()]
    }
}

/// What was chosen of the layers.
fn chosen(held: &Held, open: &Open, what: &[String]) -> Result<Content> {
    let mut content = Content::new();
    for text in what {
        let (layer, entry) = parts(text);
        let entries = open.layer(layer);
        let entries = entries.map_err(|error| refused(&held.path, error))?;
        let all = content.entry(layer.to_owned()).or_default();
        match entry {
            None => all.extend(entries),
            Some(entry) => match entries.get(entry) {
                Some(value) => {
                    all.insert(entry.to_owned(), value.clone());
                }
                None => return Err(no_entry(held, layer, entry, &entries)),
            },
        }
    }
    Ok(content)
}

/// Makes a file that nobody else may read: whole, or not at all.
fn make(path: &Path, text: &str, force: bool) -> Result {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
    let mut new = new.map_err(|error| failed(path, error))?;
    let written = new
        .write_all(text.as_bytes())
        .and_then(|()| new.as_file().sync_all());
    written.map_err(|error| failed(path, error))?;
    let placed = match force {
        true => new.persist(path),
        false => new.persist_noclobber(path),
    };
    match placed {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(failed(path, "it is there already").hint("Replace it with --force."))
        }
        Err(error) => Err(failed(path, error.error)),
    }
}

pub(super) fn export(session: &Session, args: &ExportArgs) -> Result {
    let to = args.to.as_deref().filter(|it| *it != Path::new("-"));
    let form = args.form.unwrap_or_else(|| Form::of(to));
    if to.is_none() && session.output.is_terminal() {
        session.confirm("It will stand on this terminal in the open.")?;
    }
    let (held, open) = file::open(session, &args.key)?;
    let content = chosen(&held, &open, &args.what)?;
    let text = content::render(form, &content).map_err(|why| {
        Failure::usage(why).hint("--form json and --form yaml hold every layer and any name.")
    })?;
    let Some(path) = to else {
        return session.output.raw(text.as_bytes());
    };
    make(path, &text, args.force)?;
    let count: usize = content.values().map(Entries::len).sum();
    let said = format!("{count} entries are in {}, in the open.", path.display());
    let about = serde_json::json!({"file": path, "entries": count});
    session
        .output
        .done(&about, &path.display().to_string(), &said)
}

/// Puts layers into an open file. Tells what becomes of each entry; nothing is to be saved when there is a
/// conflict among them.
fn put(held: &Held, open: &mut Open, content: &Content, args: &ImportArgs) -> Result<Vec<Change>> {
    let wrong = |error| refused(&held.path, error);
    let mut changes = Vec::new();
    for (layer, imported) in content {
        open.may_write(layer).map_err(wrong)?;
        let mut entries = layer_or_none(held, open, layer)?;
        let before = entries.clone();
        for (name, value) in imported {
            let change = match entries.get(name) {
                None => "new",
                Some(is) if is == value => "same",
                Some(_) if args.replace => "replaced",
                Some(_) if args.keep => "kept",
                Some(_) => "conflict",
            };
            if matches!(change, "new" | "replaced") {
                entries.insert(name.clone(), value.clone());
            }
            let entry = format!("{layer}/{name}");
            changes.push(Change { entry, change });
        }
        if entries != before {
            open.put(layer, &entries).map_err(wrong)?;
        }
    }
    Ok(changes)
}

/// Reads layers in the open.
pub(super) fn read(session: &Session, path: &Path, form: Option<Form>) -> Result<Content> {
    let bytes = value::given(session, Some(path), MOST)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(path, "it is no UTF-8"))?;
    let form = form.unwrap_or_else(|| Form::of(Some(path)));
    content::parse(form, text).map_err(|why| failed(path, why))
}

pub(super) fn import(session: &Session, args: &ImportArgs) -> Result {
    let content = read(session, &args.from, args.form)?;
    let (held, mut open) = file::open(session, &args.key)?;
    let changes = put(&held, &mut open, &content, args)?;
    if args.dry_run {
        session.output.list(&changes)?;
    }
    let of = |change: &str| {
        let all = changes.iter().filter(|it| it.change == change);
        all.map(|it| it.entry.as_str()).collect::<Vec<_>>()
    };
    let conflicts = of("conflict");
    if !conflicts.is_empty() {
        let all = conflicts.join(", ");
        return Err(failed(
            &held.path,
            format!("it has other values for {all}; nothing was written"),
        )
        .hint("--replace takes what is imported, --keep what is there."));
    }
    if args.dry_run {
        return Ok(());
    }
    let written = of("new").len() + of("replaced").len();
    if written == 0 {
        return session.output.say("There was nothing to write.");
    }
    saved(
        session,
        &held,
        open,
        &format!("{written} entries are written."),
    )
}
