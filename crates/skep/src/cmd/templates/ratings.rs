//! Notes on templates: written with a rater's own key, kept on this machine, given away as a file.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use skep_core::Timestamp;
use skep_templates::{Listed, MOST_NOTE, Note, TemplateError};

use super::shelf::{self, Shelf, failed, refused};
use crate::cmd::lock::settings::Settings;
use crate::cmd::lock::signing_key;
use crate::cmd::message;
use crate::failure::{Failure, Result};
use crate::output::{Row, age};
use crate::session::{Session, data_home};

/// Notes of a file.
const MOST_NOTES: usize = 10_000;

/// Flags of `templates rate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The note is signed and kept on this machine; `skep templates ratings --to` writes
all of them to a file for who makes an index. A later note on the same version
takes the place of this one.

Example:
  skep templates rate customer-support 4 --note 'good prompts' --key me.key")]
pub(crate) struct RateArgs {
    /// A template that is installed or built in
    template: String,
    /// From 1, poor, to 5, excellent
    #[arg(value_parser = clap::value_parser!(u64).range(1..=5))]
    stars: u64,
    /// What to say of it, in a line
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// The rater's own key, a file of `skep lock keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Flags of `templates ratings`.
#[derive(Debug, Args)]
pub(crate) struct RatingsArgs {
    /// Write them to this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Row for Note {
    const HEADERS: &'static [&'static str] = &["TEMPLATE", "VERSION", "STARS", "NOTE", "AGE"];

    fn name(&self) -> String {
        self.template.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.template.clone(),
            self.template_version.to_string(),
            self.stars.to_string(),
            self.note.clone().unwrap_or_default(),
            age(&self.at, now),
        ]
    }
}

/// The notes of a file, each with its line.
pub(super) fn read(path: &Path) -> Result<Vec<(usize, Result<Note, TemplateError>)>> {
    let bytes = shelf::read(path, MOST_NOTES * MOST_NOTE)?;
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let notes: Vec<_> = lines
        .take(MOST_NOTES + 1)
        .map(|(at, line)| (at + 1, Note::parse(line)))
        .collect();
    match notes.len() > MOST_NOTES {
        true => Err(failed(path, format!("it has over {MOST_NOTES} notes"))),
        false => Ok(notes),
    }
}

/// Where one's own notes are.
fn own() -> Result<PathBuf> {
    let home = data_home().ok_or_else(|| {
        Failure::plain("neither XDG_DATA_HOME nor HOME is set: there is no place for notes")
    })?;
    let folder = home.join("skep");
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| failed(&folder, error))?;
    Ok(folder.join("ratings.jsonl"))
}

/// One's own notes; one that is not true any more is an error.
fn kept(path: &Path) -> Result<Vec<Note>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        _ => {}
    }
    let notes = read(path)?.into_iter();
    let notes = notes.map(|(line, note)| {
        let place = format!("{}:{line}", path.display());
        note.map_err(|error| refused(&place, error).hint("Take that line out, and rate it anew."))
    });
    notes.collect()
}

fn text(notes: &[Note]) -> String {
    notes.iter().map(|note| note.render() + "\n").collect()
}

pub(super) fn rate(session: &Session, settings: &Settings, args: &RateArgs) -> Result {
    let key = signing_key(&args.key)?;
    let found = Shelf::of(settings).find(&args.template)?;
    let rated = Listed::of(&found.template, &found.packed, String::new());
    let now = Timestamp::system_now();
    let note = Note::sign(&rated, args.stars, args.note.clone(), now, &key);
    let note = note.map_err(|error| refused(&args.template, error))?;
    let path = own()?;
    let _held = message::lock(&path)?;
    let mut notes = kept(&path)?;
    notes.retain(|it| it.about() != note.about());
    notes.push(note);
    if notes.len() > MOST_NOTES {
        return Err(failed(
            &path,
            format!("it has {MOST_NOTES} notes, and takes no more"),
        ));
    }
    message::replace(&path, text(&notes).as_bytes())?;
    let note = &notes[notes.len() - 1];
    let said = format!(
        "{} {} has {} of 5 stars from you. `skep templates ratings --to FILE` writes your notes for \
         who makes an index.",
        note.template, note.template_version, note.stars
    );
    session.output.done(note, &note.template, &said)
}

pub(super) fn ratings(session: &Session, args: &RatingsArgs) -> Result {
    let notes = kept(&own()?)?;
    let Some(path) = &args.to else {
        return session.output.list(&notes);
    };
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o644).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text(&notes).as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| failed(path, error))?;
    let ending = if notes.len() == 1 { "" } else { "s" };
    let said = format!("{} has {} note{ending}.", path.display(), notes.len());
    session
        .output
        .done(&notes, &path.display().to_string(), &said)
}
