//! `secrets scan`: values that lie in the open, in a tree, in files or in what is piped in.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_core::Timestamp;
use skep_guard::keys::is_ours;
use skep_scan::{FINGERPRINT, Finding, Scanner};

use super::tree;
use crate::failure::{Exit, Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// Bytes of a line; a longer one is looked at in pieces.
const MOST_LINE: u64 = 1 << 20;
/// Findings that are told.
const MOST_FOUND: usize = 10_000;
/// Bytes of a list of what is accepted.
const MOST_ALLOWED: u64 = 4 << 20;

/// Flags of `secrets scan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Looked for are keys of Skep (by their checksum), tokens of services that many
use, private keys, addresses with a password, and values that are given to what
is called a password, a token or a key. Of a folder that is in a git repository
those files are looked at that git has or does not ignore; binary files never.

No value is printed. The exit code is 1 when something is found. What is known
and accepted stands in a file by its fingerprint, one a line, `#` begins a
comment.

Examples:
  skep secrets scan
  skep logs my-agent | skep secrets scan -
  skep secrets scan src --allow .secrets-allowed -o json")]
pub(crate) struct ScanArgs {
    /// Folders and files; `-` is the standard input
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// A file with the fingerprints of what is accepted
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
}

/// A finding and its file.
#[derive(Debug, Serialize)]
struct Found {
    file: String,
    line: usize,
    column: usize,
    rule: &'static str,
    masked: String,
    fingerprint: String,
}

impl Row for Found {
    const HEADERS: &'static [&'static str] = &["PLACE", "RULE", "VALUE", "FINGERPRINT"];

    fn name(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![
            format!("{}:{}:{}", self.file, self.line, self.column),
            self.rule.to_owned(),
            self.masked.clone(),
            self.fingerprint.clone(),
        ]
    }
}

/// What is accepted.
fn allowed(path: &Path) -> Result<BTreeSet<String>> {
    let wrong = |told: String| Failure::usage(format!("{}: {told}", path.display()));
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut text = String::new();
    let read = file.take(MOST_ALLOWED).read_to_string(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    let mut allowed = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let word = line.split('#').next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if word.len() != FINGERPRINT || !word.chars().all(is_hex) {
            return Err(wrong(format!("line {}: it is no fingerprint", at + 1))
                .hint("The last column of `skep secrets scan` has them."));
        }
        allowed.insert(word.to_owned());
    }
    Ok(allowed)
}

/// What is looked at, and what came of it.
struct Look {
    allowed: BTreeSet<String>,
    found: Vec<Found>,
    files: usize,
    accepted: usize,
}

impl Look {
    /// Looks at one text. What begins with a line that has a zero in it is binary.
    fn text(&mut self, name: &str, text: impl Read) -> io::Result<()> {
        let mut text = BufReader::new(text);
        let mut scanner = Scanner::new(&is_ours);
        let mut bytes = Vec::new();
        let mut findings: Vec<Finding> = Vec::new();
        let mut line = 0;
        let mut begins = true;
        loop {
            bytes.clear();
            let read = text
                .by_ref()
                .take(MOST_LINE)
                .read_until(b'\n', &mut bytes)?;
            if read == 0 || (line == 0 && bytes.contains(&0)) {
                break;
            }
            line += usize::from(begins);
            begins = bytes.ends_with(b"\n");
            let end = bytes.trim_ascii_end().len();
            scanner.line(line, &String::from_utf8_lossy(&bytes[..end]), &mut findings);
            self.take(name, &mut findings);
            if self.found.len() >= MOST_FOUND {
                return Ok(());
            }
        }
        scanner.finish(&mut findings);
        self.take(name, &mut findings);
        self.files += usize::from(line > 0);
        Ok(())
    }

    fn take(&mut self, name: &str, findings: &mut Vec<Finding>) {
        for it in findings.drain(..) {
            if self.allowed.contains(&it.fingerprint) {
                self.accepted += 1;
                continue;
            }
            self.found.push(Found {
                file: name.to_owned(),
                line: it.line,
                column: it.column,
                rule: it.rule,
                masked: it.masked,
                fingerprint: it.fingerprint,
            });
        }
    }

    fn folder(&mut self, session: &Session, root: &Path) -> Result {
        let files = match tree::tracked(root)? {
            Some(files) => files,
            None => tree::all(root)?,
        };
        for file in files {
            let path = root.join(&file);
            // A link leads elsewhere; what git has may be gone from the disk.
            let is_file = path.symlink_metadata().is_ok_and(|it| it.is_file());
            if !is_file {
                continue;
            }
            let shown = path
                .strip_prefix(".")
                .unwrap_or(&path)
                .display()
                .to_string();
            let looked = File::open(&path).and_then(|file| self.text(&shown, file));
            if let Err(error) = looked {
                session
                    .output
                    .complain(&format!("note: {shown} cannot be read: {error}"));
            }
        }
        Ok(())
    }
}

pub(super) fn run(session: &Session, args: &ScanArgs) -> Result {
    let mut look = Look {
        allowed: args
            .allow
            .as_deref()
            .map(allowed)
            .transpose()?
            .unwrap_or_default(),
        found: Vec::new(),
        files: 0,
        accepted: 0,
    };
    for path in &args.paths {
        let failed = |error: io::Error| {
            Failure::usage(format!("{} cannot be read: {error}", path.display()))
        };
        if path == Path::new("-") {
            look.text("standard input", io::stdin().lock())
                .map_err(failed)?;
        } else if path.is_dir() {
            look.folder(session, path)?;
        } else {
            let file = File::open(path).map_err(failed)?;
            look.text(&path.display().to_string(), file)
                .map_err(failed)?;
        }
    }
    if look.found.len() >= MOST_FOUND {
        let told = format!("note: there are more; the first {MOST_FOUND} are told");
        session.output.complain(&told);
        look.found.truncate(MOST_FOUND);
    }
    if look.accepted > 0 {
        session
            .output
            .note(&format!("note: {} are accepted", look.accepted));
    }
    if look.found.is_empty() {
        let said = format!("Nothing was found in {} files.", look.files);
        return session.output.done(&look.found, "", &said);
    }
    session.output.list(&look.found)?;
    session.output.note(
        "hint: what was in the open counts as known: give it a new value where it comes from, put that into the \
         vault (`skep secrets create`), and take it out of here.",
    );
    Err(Failure::quiet(Exit::Failure))
}
