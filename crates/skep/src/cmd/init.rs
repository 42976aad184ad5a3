//! `init`: a project from a template. It writes new files only, or none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_core::Timestamp;

use crate::failure::{Failure, Result};
use crate::output::Row;
use crate::session::Session;
use crate::templates::{self, Template};

/// The longest name of an agent: a DNS label.
const MOST_NAME: usize = 63;

/// Flags of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Files that are there already are never touched: then nothing is written.

Examples:
  skep init --list
  skep init hello -t http-python
  skep init reviews -t code-reviewer && cd reviews && skep dev")]
pub(crate) struct InitArgs {
    /// The folder, made when it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What to begin with; --list shows what there is
    #[arg(short, long, value_name = "TEMPLATE", required_unless_present = "list")]
    template: Option<String>,
    /// The agent's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// List the templates
    #[arg(short, long)]
    list: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    template: &'static str,
    name: String,
    folder: String,
    files: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    about: &'static str,
}

impl Row for Listed {
    const HEADERS: &'static [&'static str] = &["TEMPLATE", "WHAT IT IS"];

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.name.to_owned(), self.about.to_owned()]
    }
}

pub(crate) fn init(session: &Session, args: &InitArgs) -> Result {
    let Some(wanted) = args.template.as_deref().filter(|_| !args.list) else {
        let row = |it: &Template| Listed {
            name: it.name,
            about: it.about,
        };
        let rows: Vec<_> = templates::ALL.iter().map(row).collect();
        return session.output.list(&rows);
    };
    let template = templates::find(wanted).ok_or_else(|| unknown(wanted))?;
    let name = match &args.name {
        Some(name) if label(name) != *name || name.is_empty() => {
            let why = format!("`{name}` cannot be an agent's name");
            let hint = "A name is made of a-z, 0-9 and `-`, up to 63 of them.";
            return Err(Failure::usage(why).hint(hint));
        }
        Some(name) => name.clone(),
        None => folder_name(&args.dir, template.name),
    };
    let files: Vec<_> = template.made_for(&name).collect();
    let paths: Vec<_> = files.iter().map(|(path, _)| *path).collect();
    must_be_free(&args.dir, &paths)?;
    for (path, text) in &files {
        write(&args.dir.join(path), text)?;
    }
    let folder = args.dir.display().to_string();
    let enter = match args.dir == Path::new(".") {
        true => String::new(),
        false => format!("cd {folder} && "),
    };
    let said = format!(
        "{name} is made of {wanted}, in {} files.\nRun it with `{enter}skep dev`, and try, from \
         there:\n  skep call {name} {}",
        paths.len(),
        template.first_call
    );
    let made = Made {
        template: template.name,
        name,
        folder,
        files: paths,
    };
    session.output.done(&made, &made.name, &said)
}

fn unknown(wanted: &str) -> Failure {
    let names = || templates::ALL.iter().map(|template| template.name);
    let failure = Failure::usage(format!("there is no template `{wanted}`"));
    failure.hint(match skep_core::similar(wanted, names()) {
        Some(similar) => format!("Did you mean `{similar}`?"),
        None => format!("There are: {}.", names().collect::<Vec<_>>().join(", ")),
    })
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

fn must_be_free(folder: &Path, paths: &[&str]) -> Result {
    let there = |path: &&&str| folder.join(path).symlink_metadata().is_ok();
    let taken: Vec<_> = paths.iter().filter(there).copied().collect();
    match taken.is_empty() {
        true => Ok(()),
        false => {
            let detail = format!("{} has {} already", folder.display(), taken.join(", "));
            let hint = "Nothing was written. Name another folder: `skep init DIR -t TEMPLATE`.";
            Err(Failure::plain(detail).hint(hint))
        }
    }
}

fn write(path: &Path, text: &str) -> Result {
    let failed = |error: std::io::Error| {
        Failure::plain(format!("{} cannot be written: {error}", path.display()))
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    // Somebody may have made it meanwhile.
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
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

    #[test]
    fn a_template_that_is_not_there_is_guessed() {
        let text = unknown("http-pyton").render(false, false);
        assert!(text.contains("Did you mean `http-python`?"), "{text}");
        let text = unknown("zzz").render(false, false);
        assert!(text.contains("There are: http-python, "), "{text}");
    }

    #[test]
    fn every_folder_of_templates_is_in_the_table_and_whole() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        let mut folders: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "shared")
            .collect();
        let mut names: Vec<_> = templates::ALL.iter().map(|it| it.name.to_owned()).collect();
        folders.sort();
        names.sort();
        assert_eq!(folders, names);
        for template in templates::ALL {
            let files: Vec<_> = template.made_for("some-name").collect();
            for wanted in ["agent.yaml", "README.md", ".gitignore", "request.json"] {
                let found = files.iter().find(|(path, _)| *path == wanted);
                assert!(found.is_some(), "{} has no {wanted}", template.name);
            }
            for (path, text) in &files {
                assert!(!text.contains("{{name"), "{}: {path}", template.name);
            }
            let readme = &files
                .iter()
                .find(|(path, _)| *path == "README.md")
                .unwrap()
                .1;
            let first = format!("skep call some-name {}", template.first_call);
            assert!(readme.contains(&first), "{}: {first}", template.name);
        }
    }
}
