//! `init`: a project from a template, and its `agent.lock`. It writes new files only, or none.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_lock::{CREDENTIALS, Entries, Value};
use skep_templates::{Credential, File, Form};

use super::account::password;
use super::lock::recipients::{self, ToArgs};
use super::templates::shelf::{self, Shelf, refused};
use super::templates::{list, settings};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// The longest name of an agent: a DNS label.
const MOST_NAME: usize = 63;
/// The lock file of a project.
const LOCK: &str = "agent.lock";

/// Flags of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Files that are there already are never touched: then nothing is written.

With --lock the project has an agent.lock with the personality and the memory of
the template; its credentials are asked for, and named where nobody is there to
ask. It opens for the recipients of the settings, else with a passphrase.

Examples:
  skep init --list
  skep init hello -t http-python
  skep init reviews -t code-reviewer && cd reviews && skep dev
  skep init shop -t ./support --set shop=Fern --lock")]
pub(crate) struct InitArgs {
    /// The folder, made when it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What to begin with: a name, a folder or a file; --list shows what there is
    #[arg(short, long, value_name = "TEMPLATE", required_unless_present = "list")]
    template: Option<String>,
    /// The agent's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What a variable of the template is; can be given again
    #[arg(long = "set", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Make its agent.lock as well
    #[arg(long)]
    lock: bool,
    /// Make that for a recipient of age, instead of a passphrase: age1…
    #[arg(
        long,
        value_name = "AGE",
        requires = "lock",
        conflicts_with = "new_passphrase_file"
    )]
    age: Option<String>,
    /// A file with its passphrase; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE", requires = "lock")]
    new_passphrase_file: Option<PathBuf>,
    /// List the templates of this machine, as `skep templates list` does
    #[arg(short, long)]
    list: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    template: String,
    version: String,
    name: String,
    folder: String,
    files: Vec<String>,
    /// Credentials that the agent asks for and nobody gave.
    missing: Vec<String>,
}

pub(crate) fn init(session: &Session, args: &InitArgs) -> Result {
    let settings = settings()?;
    let Some(wanted) = args.template.as_deref().filter(|_| !args.list) else {
        return list(session, &settings);
    };
    let found = Shelf::of(&settings).find(wanted)?;
    let form = &found.template.form;
    let name = match &args.name {
        Some(name) if label(name) != *name || name.is_empty() => {
            let why = format!("`{name}` cannot be an agent's name");
            let hint = "A name is made of a-z, 0-9 and `-`, up to 63 of them.";
            return Err(Failure::usage(why).hint(hint));
        }
        Some(name) => name.clone(),
        None => folder_name(&args.dir, &form.name),
    };
    let made = found.template.made(&name, &variables(&args.variables)?);
    let made = made.map_err(|error| refused(wanted, error))?;
    let mut paths: Vec<_> = made.files.iter().map(|(path, _)| path.clone()).collect();
    paths.extend(args.lock.then(|| LOCK.to_owned()));
    must_be_free(&args.dir, &paths)?;
    let (lock, missing) = match args.lock {
        true => {
            let (lock, missing) = locked(session, args, &name, form, shelf::content(&made))?;
            (Some(lock), missing)
        }
        false => (None, form.credentials.clone()),
    };
    for (path, file) in &made.files {
        write(&args.dir.join(path), file)?;
    }
    let lock_said = lock.map(recipients::New::write).transpose()?;
    let said = said(args, &name, form, paths.len());
    let done = Made {
        template: form.name.clone(),
        version: form.version.to_string(),
        name,
        folder: args.dir.display().to_string(),
        files: paths,
        missing: missing.iter().map(|it| it.name.clone()).collect(),
    };
    session.output.done(&done, &done.name, &said)?;
    if let Some(lock_said) = lock_said {
        session.output.note(&lock_said);
        shelf::tell_missing(session, &missing);
    }
    Ok(())
}

/// What was made, and what to do with it, for people.
fn said(args: &InitArgs, name: &str, form: &Form, files: usize) -> String {
    let folder = args.dir.display();
    let enter = match args.dir == Path::new(".") {
        true => String::new(),
        false => format!("cd {folder} && "),
    };
    let mut said = format!(
        "{name} is made of {} {}, in {files} files.\n",
        form.name, form.version
    );
    if let Some(prepare) = &form.prepare {
        said.push_str(&format!("Prepare it once: `{enter}{prepare}`.\n"));
    }
    said.push_str(&format!("Run it with `{enter}skep dev`"));
    match &form.first_call {
        Some(first) => said.push_str(&format!(
            ", and try, from there:\n  skep call {name} {first}"
        )),
        None => said.push_str("; its README says more."),
    }
    said
}

/// NAME=VALUE, of each.
fn variables(all: &[String]) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for text in all {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::usage(format!("`--set {text}` sets nothing"))
                .hint("Write --set NAME=VALUE."));
        };
        if variables
            .insert(name.to_owned(), value.to_owned())
            .is_some()
        {
            return Err(Failure::usage(format!("`{name}` is set twice")));
        }
    }
    Ok(variables)
}

/// The project's lock file, not written yet, and the credentials that it lacks.
fn locked(
    session: &Session,
    args: &InitArgs,
    name: &str,
    form: &Form,
    mut content: BTreeMap<String, Entries>,
) -> Result<(recipients::New, Vec<Credential>)> {
    fs::create_dir_all(&args.dir).map_err(|error| shelf::failed(&args.dir, error))?;
    let (given, missing) = asked(session, &form.credentials)?;
    content.insert(CREDENTIALS.to_owned(), given);
    let init = recipients::InitArgs {
        name: name.to_owned(),
        file: args.dir.join(LOCK),
        recipient: recipients::OWNER.to_owned(),
        template: None,
        alone: false,
        to: ToArgs::new(args.age.clone(), args.new_passphrase_file.clone()),
    };
    let lock = recipients::made(session, &init, |_| Ok(content))?;
    Ok((lock, missing))
}

/// Asks for credentials, where somebody is there: those that are given, and those that are not.
fn asked(session: &Session, wanted: &[Credential]) -> Result<(Entries, Vec<Credential>)> {
    let (mut given, mut missing) = (Entries::new(), Vec::new());
    let is_there = !session.global.no_input && std::io::stdin().is_terminal();
    for it in wanted {
        let what = format!("{} ({}; Enter leaves it out)", it.name, it.about);
        let value = match is_there {
            true => password(session, None, &what)?,
            false => String::new(),
        };
        match value.is_empty() {
            true => missing.push(it.clone()),
            false => {
                given.insert(it.name.clone(), Value::text(value));
            }
        }
    }
    Ok((given, missing))
}

/// A name after the folder's, which may have characters that no agent's name has.
pub(crate) fn folder_name(folder: &Path, otherwise: &str) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    // The folder may be said as `..` or by a link, and may not be there yet.
    let whole = fs::canonicalize(&whole).unwrap_or(whole);
    let name = whole.file_name().unwrap_or_default();
    match label(&name.to_string_lossy()) {
        name if name.is_empty() => otherwise.to_owned(),
        name => name,
    }
}

/// The text as a DNS label; empty when nothing is left of it.
fn label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => label.push(c),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(MOST_NAME);
    label.trim_end_matches('-').to_owned()
}

fn must_be_free(folder: &Path, paths: &[String]) -> Result {
    let there = |path: &&String| folder.join(path).symlink_metadata().is_ok();
    let taken: Vec<_> = paths.iter().filter(there).map(String::as_str).collect();
    match taken.is_empty() {
        true => Ok(()),
        false => {
            let detail = format!("{} has {} already", folder.display(), taken.join(", "));
            let hint = "Nothing was written. Name another folder: `skep init DIR -t TEMPLATE`.";
            Err(Failure::plain(detail).hint(hint))
        }
    }
}

fn write(path: &Path, content: &File) -> Result {
    let failed = |error: std::io::Error| {
        Failure::plain(format!("{} cannot be written: {error}", path.display()))
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mode = if content.is_program { 0o777 } else { 0o666 };
    // Somebody may have made it meanwhile.
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(failed)?;
    file.write_all(&content.bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_of_folders() {
        assert_eq!(label("My Agent_2 (new)"), "my-agent-2-new");
        assert_eq!(label("--"), "");
        assert_eq!(label(&"a".repeat(99)).len(), MOST_NAME);
        assert_eq!(
            folder_name(Path::new("/nowhere/Älter Bär"), "x"),
            "lter-b-r"
        );
        assert_eq!(folder_name(Path::new("/"), "x"), "x");
    }
}
