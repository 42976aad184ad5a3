//! Publishing: a folder as one file, many such files as a signed index, and what raters say in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use skep_core::{Timestamp, units};
use skep_scan::Scanner;
use skep_templates::{
    ENDING, Index, LAST_SERIAL, Listed, MANIFEST, MOST_INDEX, Note, Template, digest, tally,
};

use super::ratings;
use super::shelf::{self, Found, failed, refused};
use crate::cmd::lock::signing_key;
use crate::cmd::message;
use crate::failure::{Failure, Result};
use crate::manifest::{self, Source};
use crate::session::Session;

/// The index's file in its folder.
const INDEX: &str = "index.json";
/// The longest time for which an index counts.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Files of a folder that are looked at.
const MOST_FILES: usize = 100_000;
/// The agent's name where a manifest is checked.
const SOMEBODY: &str = "somebody";

/// Flags of `templates pack`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only what `files` in template.toml names is packed. What looks like a secret in
these is told, and packed all the same.

Example:
  skep templates pack support --to registry/support-1.0.0.tar.gz")]
pub(crate) struct PackArgs {
    /// The template's folder
    dir: PathBuf,
    /// The file to make; it must not be there yet
    /// [default: NAME-VERSION.tar.gz]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Flags of `templates index`.
#[derive(Debug, Args)]
#[command(after_help = "\
Put the folder on a web server, or share it: index.json and the packed templates
are all there is. Make it again when something is new, and before it expires.

A rater has one vote for each version of a template, the newest; notes that are
not true, or of what is not listed, are named and do not count. A key costs
nothing: take notes of people whom you know.

Examples:
  skep templates index registry --key publisher.key
  skep templates index registry --key publisher.key --ratings ada.jsonl")]
pub(crate) struct IndexDirArgs {
    /// The folder with the packed templates, *.tar.gz
    dir: PathBuf,
    /// The publisher's key, a file of `skep lock keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// For how long it counts, at most 366d
    #[arg(long, value_name = "DURATION", default_value = "90d")]
    expires: String,
    /// A file of notes that counts, as `skep templates ratings --to` writes it;
    /// can be given again
    #[arg(long, value_name = "FILE")]
    ratings: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Packed<'a> {
    name: &'a str,
    version: String,
    file: String,
    sha256: String,
    size: usize,
}

/// What looks like a secret: file, line and what it is.
fn secrets(template: &Template) -> Vec<String> {
    let mut told = Vec::new();
    for (path, file) in template.files() {
        let Ok(text) = std::str::from_utf8(&file.bytes) else {
            continue;
        };
        let is_own = |_: &str| false;
        let (mut scanner, mut found) = (Scanner::new(&is_own), Vec::new());
        for (at, line) in text.lines().enumerate() {
            scanner.line(at + 1, line, &mut found);
        }
        scanner.finish(&mut found);
        let line = |it: skep_scan::Finding| format!("{path}:{}: {}", it.line, it.rule);
        told.extend(found.into_iter().map(line));
    }
    told
}

/// Whether the manifest of a project that is made of it is one.
fn check_manifest(found: &Found) -> Result {
    let form = &found.template.form;
    let choice = |it: &skep_templates::Variable| {
        let value = it.default.clone().or_else(|| it.one_of.first().cloned());
        (
            it.name.clone(),
            value.unwrap_or_else(|| SOMEBODY.to_owned()),
        )
    };
    let said = form.variables.iter().map(choice).collect();
    let made = found.template.made(SOMEBODY, &said);
    let made = made.map_err(|error| refused(&found.place, error))?;
    let manifest = made.files.iter().find(|(path, _)| path == MANIFEST);
    let Some(text) = manifest.and_then(|(_, file)| std::str::from_utf8(&file.bytes).ok()) else {
        return Err(Failure::plain(format!(
            "{}: {MANIFEST} is no text",
            found.place
        )));
    };
    let here = std::env::current_dir()?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let name = format!("{}/{MANIFEST}", found.place);
    let source = Source {
        name: &name,
        folder: &here,
        variables: &variables,
    };
    manifest::read(text, source).map(drop)
}

pub(super) fn pack(session: &Session, args: &PackArgs) -> Result {
    let found = shelf::at(&args.dir)?;
    check_manifest(&found)?;
    for line in secrets(&found.template) {
        session
            .output
            .complain(&format!("This looks like a secret: {line}"));
    }
    let form = &found.template.form;
    let own = || PathBuf::from(format!("{}-{}{ENDING}", form.name, form.version));
    let path = args.to.clone().unwrap_or_else(own);
    if !path.to_string_lossy().ends_with(ENDING) {
        return Err(failed(
            &path,
            format!("its name does not end with {ENDING}"),
        ));
    }
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o644).open(&path);
    let written = file.and_then(|mut file| {
        file.write_all(&found.packed)?;
        file.sync_all()
    });
    written.map_err(|error| failed(&path, error))?;
    let shown = path.display().to_string();
    let packed = Packed {
        name: &form.name,
        version: form.version.to_string(),
        file: shown.clone(),
        sha256: digest(&found.packed),
        size: found.packed.len(),
    };
    let said = format!(
        "{} {} is packed: {shown}, SHA-256 {}.\nList it with `skep templates index DIR --key FILE`.",
        packed.name, packed.version, packed.sha256
    );
    session.output.done(&packed, &shown, &said)
}

/// The packed templates of a folder, as an index lists them.
fn listed(dir: &Path) -> Result<Vec<Listed>> {
    let mut paths = Vec::new();
    let entries = fs::read_dir(dir).map_err(|error| failed(dir, error))?;
    for entry in entries.take(MOST_FILES) {
        let path = entry.map_err(|error| failed(dir, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(ENDING) {
            paths.push((name.into_owned(), path));
        }
    }
    paths.sort();
    let one = |(name, path): (String, PathBuf)| {
        let found = shelf::at(&path)?;
        check_manifest(&found)?;
        Ok(Listed::of(&found.template, &found.packed, name))
    };
    let listed: Vec<Listed> = paths.into_iter().map(one).collect::<Result<_>>()?;
    match listed.is_empty() {
        true => Err(failed(dir, format!("there is no *{ENDING} in it"))
            .hint("`skep templates pack DIR` makes one of a template's folder.")),
        false => Ok(listed),
    }
}

/// A serial that no index of this folder had: higher than the one there, and than any of before by the time.
fn serial(dir: &Path, key: &skep_crypto::signing::SigningKey, now: Timestamp) -> Result<u64> {
    let path = dir.join(INDEX);
    let by_time = u64::try_from(now.as_micros() / 1_000_000).unwrap_or(1);
    if !path.is_file() {
        return Ok(by_time);
    }
    let before = Index::parse(&shelf::read(&path, MOST_INDEX)?);
    let before = before.map_err(|error| refused(&path.display().to_string(), error))?;
    let is_own = before.publisher().ok() == key.publisher().ok();
    if !is_own {
        return Err(failed(&path, "another key signed it").hint(
            "Take that key, or remove the file: who has seen it must be told of the new key.",
        ));
    }
    Ok(by_time.max(before.serial + 1).min(LAST_SERIAL))
}

pub(super) fn index(session: &Session, args: &IndexDirArgs) -> Result {
    let key = signing_key(&args.key)?;
    let lasts = units::parse_duration(&args.expires);
    let lasts = lasts.filter(|it| !it.is_zero() && *it <= LONGEST);
    let lasts = lasts.ok_or_else(|| Failure::usage("--expires is a duration of up to 366d"))?;
    let mut templates = listed(&args.dir)?;
    let now = Timestamp::system_now();
    let (mut notes, mut places): (Vec<Note>, Vec<String>) = (Vec::new(), Vec::new());
    let mut refusals = Vec::new();
    for path in &args.ratings {
        for (line, note) in ratings::read(path)? {
            let place = format!("{}:{line}", path.display());
            match note {
                Ok(note) => {
                    notes.push(note);
                    places.push(place);
                }
                Err(error) => refusals.push(format!("{place}: {error}")),
            }
        }
    }
    let wrong = tally(&notes, &mut templates, now);
    refusals.extend(
        wrong
            .into_iter()
            .map(|(at, why)| format!("{}: {why}", places[at])),
    );
    for line in &refusals {
        session.output.complain(&format!("Not counted: {line}"));
    }
    let path = args.dir.join(INDEX);
    let _held = message::lock(&path)?;
    let serial = serial(&args.dir, &key, now)?;
    let index = Index::sign(serial, now.plus(lasts), templates, &key);
    let index = index.map_err(|error| refused(&path.display().to_string(), error))?;
    message::replace(&path, index.render().as_bytes())?;
    // Others are to read it, whatever made it.
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&path, readable).map_err(|error| failed(&path, error))?;
    let publisher = key.publisher().map_err(anyhow::Error::from)?;
    let said = format!(
        "{} lists {} template{}, has the serial {serial} and counts until {}.\n\
         It is signed by {publisher}; tell that to who uses it.",
        path.display(),
        index.templates.len(),
        if index.templates.len() == 1 { "" } else { "s" },
        index.expires
    );
    session
        .output
        .done(&index, &path.display().to_string(), &said)
}
