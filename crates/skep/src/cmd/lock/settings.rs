//! Settings of `skep lock`, `templates` and `init` in a project: the section `[lock]` of `skep.toml` or `backpack.toml`, in the folder
//! of the lock file or the nearest above it that has one. Flags count before variables, these before files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use skep_crypto::age::Recipient;
use skep_crypto::signing::Publisher;
use skep_lock::{May, is_name};

use super::file::failed;
use super::places::Place;
use crate::failure::{Failure, Result};

/// The files, and whether they hold nothing else.
const FILES: [(&str, bool); 2] = [("skep.toml", false), ("backpack.toml", true)];
/// Folders that are looked into.
const MOST_FOLDERS: usize = 64;
/// Bytes of a file.
const MOST: u64 = 1 << 20;

const RECIPIENTS: &str = "SKEP_LOCK_RECIPIENTS";
const TEMPLATES: &str = "SKEP_LOCK_TEMPLATES";
const LOG_LEVEL: &str = "SKEP_LOCK_LOG_LEVEL";
const PUBLISHER: &str = "SKEP_LOCK_PUBLISHER";
/// The publisher that takes the settings' away for one command.
const ANY: &str = "any";

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    /// What failed.
    Error,
    /// Notes, too.
    Info,
    /// More with errors.
    Debug,
}

/// What a default recipient may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Access {
    Read,
    #[default]
    ReadWrite,
}

/// Somebody whom each new file is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    #[serde(deserialize_with = "name")]
    pub(super) name: String,
    #[serde(deserialize_with = "recipient")]
    pub(super) age: Recipient,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
    #[serde(default)]
    access: Access,
}

impl Named {
    pub(super) const fn may(&self) -> Option<May> {
        match self.access {
            Access::Read => Some(May::Read),
            Access::ReadWrite => None,
        }
    }

    /// Whether it can be the first: somebody who opens every layer and may write.
    pub(super) fn is_owner(&self) -> bool {
        self.layers.is_none() && self.access == Access::ReadWrite
    }
}

/// An index of templates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cmd) struct IndexOf {
    /// Its URL, or its file.
    pub(in crate::cmd) address: String,
    /// Who must have signed it; else who signed the first that was seen.
    #[serde(default, deserialize_with = "publisher")]
    pub(in crate::cmd) publisher: Option<Publisher>,
}

/// The settings that count.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cmd) struct Settings {
    #[serde(default)]
    pub(super) recipients: Vec<Named>,
    /// The folder of templates.
    pub(in crate::cmd) templates: Option<PathBuf>,
    /// Where templates are found.
    #[serde(default)]
    pub(in crate::cmd) indexes: Vec<IndexOf>,
    /// Who must have signed each lock file that is taken.
    #[serde(default, deserialize_with = "publisher")]
    pub(super) publisher: Option<Publisher>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) passphrase_from: Option<Place>,
    pub(super) identity_from: Option<Place>,
    /// Whether openings are told to the server, and what when it cannot be told.
    pub(super) audit: Option<Telling>,
}

/// What becomes of an opening that the server cannot be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Telling {
    /// A note says so.
    Try,
    /// The file is not opened.
    Must,
}

/// A file that holds other things as well.
#[derive(Deserialize)]
struct Shared {
    lock: Option<Settings>,
}

/// A file that holds nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    lock: Option<Settings>,
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match is_name(&text) {
        true => Ok(text),
        false => Err(serde::de::Error::custom(format!("`{text}` is no name"))),
    }
}

fn recipient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Recipient, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom(format!("`{text}` is no recipient of age"));
    text.parse().map_err(wrong)
}

fn publisher<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Publisher>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom(format!("`{text}` is no publisher: skepsig1_…"));
    text.parse().map(Some).map_err(wrong)
}

/// Where in a text something is: line and column, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

fn parse(path: &Path, text: &str, is_own: bool) -> Result<Option<Settings>> {
    let parsed = match is_own {
        true => toml::from_str::<Own>(text).map(|it| it.lock),
        false => toml::from_str::<Shared>(text).map(|it| it.lock),
    };
    let settings = parsed.map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = place(text, at);
        let why = format!("line {line}, column {column}: {}", error.message());
        failed(path, why).hint(
            "The section [lock] has: recipients, templates, indexes, publisher, log_level, passphrase_from, identity_from, audit.",
        )
    })?;
    Ok(settings.map(|mut settings| {
        // A path in a file is meant from where the file is.
        let folder = path.parent().unwrap_or(Path::new(""));
        settings.templates = settings.templates.map(|it| folder.join(it));
        for index in &mut settings.indexes {
            if !index.address.contains("://") {
                index.address = folder.join(&index.address).display().to_string();
            }
        }
        settings
    }))
}

/// Reads a file's settings, if it has any.
fn read(path: &Path, is_own: bool) -> Result<Option<Settings>> {
    let about = match path.metadata() {
        Ok(about) if about.is_file() => about,
        _ => return Ok(None),
    };
    let text = match about.len() {
        0..=MOST => std::fs::read_to_string(path).map_err(|error| failed(path, error))?,
        _ => return Err(failed(path, "it is longer than 1 MiB")),
    };
    let settings = parse(path, &text, is_own)?;
    // Somebody else's file must not say for whom one's secrets are encrypted.
    let me = rustix::process::geteuid().as_raw();
    if settings.is_some() && about.uid() != me && about.uid() != 0 {
        return Err(
            failed(path, "it is somebody else's, and says what is done here")
                .hint("Move it away, or make it your own."),
        );
    }
    Ok(settings)
}

/// The nearest file's settings. Nothing above the home folder counts for what is in it.
fn of_files(folder: &Path, home: Option<&Path>) -> Result<Settings> {
    for folder in folder.ancestors().take(MOST_FOLDERS) {
        let mut found = None;
        for (name, is_own) in FILES {
            let path = folder.join(name);
            if let Some(settings) = read(&path, is_own)? {
                if found.is_some() {
                    return Err(failed(
                        folder,
                        "skep.toml and backpack.toml both have a section [lock]",
                    )
                    .hint("Put all of it into one."));
                }
                found = Some(settings);
            }
        }
        if let Some(settings) = found {
            return Ok(settings);
        }
        if Some(folder) == home {
            break;
        }
    }
    Ok(Settings::default())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// NAME=age1…, separated by commas.
fn of_text(text: &str) -> Result<Vec<Named>> {
    let parts = text.split(',').map(str::trim);
    let named = parts.filter(|it| !it.is_empty()).map(|part| {
        let pair = part.split_once('=').filter(|(name, _)| is_name(name));
        let named = pair.and_then(|(name, age)| {
            Some(Named {
                name: name.to_owned(),
                age: age.parse().ok()?,
                layers: None,
                access: Access::ReadWrite,
            })
        });
        named.ok_or_else(|| {
            Failure::usage(format!("{RECIPIENTS}: `{part}` is no recipient"))
                .hint("Write NAME=age1…, with commas between them.")
        })
    });
    named.collect()
}

/// The settings for a lock file.
pub(in crate::cmd) fn of(lock: &Path) -> Result<Settings> {
    let folder = lock.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = std::fs::canonicalize(folder.unwrap_or(Path::new(".")));
    let home = std::env::var_os("HOME").and_then(|home| std::fs::canonicalize(home).ok());
    let mut settings = match folder {
        Ok(folder) => of_files(&folder, home.as_deref())?,
        // The command itself says that the folder is not there.
        Err(_) => Settings::default(),
    };
    if let Some(text) = variable(RECIPIENTS) {
        settings.recipients = of_text(&text)?;
    }
    if let Some(text) = variable(TEMPLATES) {
        settings.templates = Some(PathBuf::from(text));
    }
    if let Some(text) = variable(PUBLISHER) {
        settings.publisher = match text == ANY {
            true => None,
            false => Some(super::publisher(&text)?),
        };
    }
    if let Some(text) = variable(LOG_LEVEL) {
        settings.log_level = Some(match text.as_str() {
            "error" => LogLevel::Error,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            _ => {
                let detail = format!("{LOG_LEVEL}: `{text}` is no level");
                return Err(Failure::usage(detail).hint("There are: error, info, debug."));
            }
        });
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: &str = "age15rc928n7lthvllny57dxqfv7czwu2fhndw424ckm896sdzzwc53s2why3n";

    fn told(text: &str, is_own: bool) -> String {
        let failure = parse(Path::new("/p/backpack.toml"), text, is_own).err();
        failure.unwrap().detail
    }

    #[test]
    fn the_section_is_read_and_what_is_wrong_has_its_line() {
        let text = format!(
            "[server]\nlisten = \"x\"\n[lock]\ntemplates = \"t\"\nlog_level = \"error\"\n\
             [[lock.recipients]]\nname = \"bob\"\nage = \"{BOB}\"\naccess = \"read\"\n"
        );
        let settings = parse(Path::new("/p/skep.toml"), &text, false)
            .unwrap()
            .unwrap();
        assert_eq!(settings.templates, Some(PathBuf::from("/p/t")));
        assert_eq!(settings.log_level, Some(LogLevel::Error));
        assert_eq!(settings.recipients[0].may(), Some(May::Read));
        assert!(!settings.recipients[0].is_owner());
        let expected =
            "/p/backpack.toml: line 1, column 2: unknown field `server`, expected `lock`";
        assert_eq!(told(&text, true), expected);
        for (from, to, expected) in [
            (
                "templates",
                "template",
                "line 4, column 1: unknown field `template`",
            ),
            (
                "\"error\"",
                "\"loud\"",
                "line 5, column 13: unknown variant `loud`",
            ),
            ("\"bob\"", "\"b b\"", "line 7, column 8: `b b` is no name"),
            (
                BOB,
                "age1x",
                "line 8, column 7: `age1x` is no recipient of age",
            ),
            (
                "[lock]",
                "[lock]\npassphrase_from = \"file:x\"",
                "line 4, column 19: `file:x` is no place",
            ),
            (
                "log_level = \"error\"",
                "publisher = \"skepsig1_x\"",
                "line 5, column 13: `skepsig1_x` is no publisher",
            ),
            ("[lock]", "[lock", "line 3, column 6"),
        ] {
            let told = told(&text.replacen(from, to, 1), false);
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn indexes_are_found_from_where_the_file_is() {
        let key = skep_crypto::signing::SigningKey::generate().unwrap();
        let key = key.publisher().unwrap();
        let text = format!(
            "[lock]\npublisher = \"{key}\"\n[[lock.indexes]]\naddress = \"t/index.json\"\n\
             [[lock.indexes]]\naddress = \"https://t.example/i\"\npublisher = \"{key}\"\n"
        );
        let settings = parse(Path::new("/p/skep.toml"), &text, false);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.publisher, Some(key));
        let indexes = settings.indexes.iter();
        let indexes: Vec<_> = indexes.map(|it| (&it.address[..], it.publisher)).collect();
        let expected = [
            ("/p/t/index.json", None),
            ("https://t.example/i", Some(key)),
        ];
        assert_eq!(indexes, expected);
    }

    #[test]
    fn the_nearest_file_counts_and_nothing_above_home() {
        let folder = tempfile::TempDir::new().unwrap();
        let root = folder.path();
        let inner = root.join("home/project/deep");
        std::fs::create_dir_all(&inner).unwrap();
        let write = |name: &str, level: &str| {
            let text = format!("[lock]\nlog_level = \"{level}\"\n");
            std::fs::write(root.join(name), text).unwrap();
        };
        let level = || of_files(&inner, Some(&root.join("home"))).map(|it| it.log_level);
        write("skep.toml", "debug");
        assert_eq!(level().unwrap(), None);
        write("home/skep.toml", "info");
        assert_eq!(level().unwrap(), Some(LogLevel::Info));
        write("home/project/backpack.toml", "error");
        std::fs::write(root.join("home/project/skep.toml"), "listen = 1\n").unwrap();
        assert_eq!(level().unwrap(), Some(LogLevel::Error));
        write("home/project/skep.toml", "debug");
        assert!(level().unwrap_err().detail.contains("both have a section"));
        let two = of_text(&format!("bob={BOB}, cy={BOB}")).unwrap();
        assert_eq!((two.len(), two[1].name.as_str()), (2, "cy"));
        assert!(of_text("bob").is_err());
    }
}
