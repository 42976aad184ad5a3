//! Layered configuration: defaults, then `skep.toml`, then `SKEP_*` variables (with `*_FILE`),
//! then flags. Every value remembers where it comes from; a key that does not exist is an error.
//!
//! The environment, the file's path and the flags are handed in: nothing here looks for them but
//! [`find_file`], which is told where to look.

mod error;
mod file;
mod keys;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use error::ConfigError;
pub use file::{reset_in_file, set_in_file};
pub use keys::{
    ActionRates, ClientAuth, DockerFirewall, KEYS, Key, Kind, LogFormat, SecretText, Settings,
};

/// What our environment variables begin with.
pub const PREFIX: &str = "SKEP_";
/// The name of the configuration file.
pub const FILE_NAME: &str = "skep.toml";

/// Variables with our prefix that are no keys: those of the CLI, and what Skep gives its agents
/// (an agent may run the CLI too).
const OTHER_VARIABLES: &[&str] = &[
    "SKEP_SERVER",
    "SKEP_WORKSPACE",
    "SKEP_API_KEY",
    "SKEP_API_KEY_FILE",
    "SKEP_CONFIG",
    "SKEP_CLIENT_CERT",
    "SKEP_CLIENT_KEY",
    "SKEP_AGENT",
    "SKEP_INSTANCE",
    "SKEP_URL",
    "SKEP_TOKEN",
    "SKEP_MCP_URL",
];
/// What the variables of `skep lock` begin with.
const LOCK_PREFIX: &str = "SKEP_LOCK_";
/// The section of the file that is `skep lock`'s: it reads and checks it by itself.
const LOCK_SECTION: &str = "lock";
const FILE_SUFFIX: &str = "_FILE";
const MASK: &str = "********";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, when it is known.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// A file that an environment variable names.
    VariableFile {
        /// The variable, which ends in `_FILE`.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A flag; the name is that of the key.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::VariableFile { name, path } => write!(f, "{name}={}", path.display()),
            Self::Flag(key) => write!(f, "--{}", key.replace(['.', '_'], "-")),
        }
    }
}

/// A value before it is checked.
enum Raw {
    Text(String),
    List(Vec<String>),
}

/// One key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: &'static Key,
    /// The value in its normal form; empty when there is none. Not for showing: see
    /// [`Entry::shown`].
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Entry {
    /// The value as people may see it: a secret one is masked.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self.key.secret && !self.value.is_empty() {
            true => MASK,
            false => &self.value,
        }
    }
}

/// The configuration, with where it comes from.
#[derive(Debug, Clone)]
pub struct Config {
    settings: Settings,
    entries: Vec<Entry>,
    file: Option<PathBuf>,
}

impl Config {
    /// Puts the layers together. `file` is read when it is given; `flags` are keys with values.
    ///
    /// # Errors
    /// [`ConfigError`], for the first thing that is wrong.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let env = environment(env)?;
        let mut layers = Layers {
            home: env.get("HOME").map(PathBuf::from),
            ..Layers::default()
        };
        if let Some(path) = file {
            layers.file(file::read(path)?)?;
        }
        layers.environment(&env)?;
        for (name, value) in flags {
            let origin = Origin::Flag((*name).to_owned());
            layers.set(name, &Raw::Text(value.clone()), origin)?;
        }
        if !layers.values.contains_key("data") {
            let data = default_data(&env).ok_or(ConfigError::NoHome)?;
            let value = data.display().to_string();
            layers.values.insert("data", (value, Origin::Default));
        }
        layers.finish(file)
    }

    /// The typed settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The typed settings.
    #[must_use]
    pub fn into_settings(self) -> Settings {
        self.settings
    }

    /// Every key with its value and origin, in the order of the reference.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// The values that the layers have set so far.
#[derive(Default)]
struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
    home: Option<PathBuf>,
}

impl Layers {
    fn set(&mut self, name: &str, raw: &Raw, origin: Origin) -> Result<(), ConfigError> {
        let key = Key::find(name).ok_or_else(|| unknown(name, origin.clone()))?;
        let mut value = normal(key, raw, &origin)?;
        if key.kind == Kind::Path && !value.is_empty() {
            value = self.path(&value, &origin).display().to_string();
        }
        self.values.insert(key.name, (value, origin));
        Ok(())
    }

    /// A path that does not depend on where one stands: from the file's folder when it stands in
    /// the file, else from the current one.
    fn path(&self, text: &str, origin: &Origin) -> PathBuf {
        let path = match (text.strip_prefix("~/"), &self.home, origin) {
            (Some(rest), Some(home), _) => home.join(rest),
            (_, _, Origin::File { path, .. }) => path
                .parent()
                .map_or_else(|| text.into(), |of| of.join(text)),
            _ => PathBuf::from(text),
        };
        std::path::absolute(&path).unwrap_or(path)
    }

    fn file(&mut self, lines: Vec<file::Line>) -> Result<(), ConfigError> {
        for line in lines {
            self.set(&line.name, &line.raw, line.origin)?;
        }
        Ok(())
    }

    fn environment(&mut self, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (name, value) in env {
            let other = name.starts_with(LOCK_PREFIX) || OTHER_VARIABLES.contains(&name.as_str());
            if !name.starts_with(PREFIX) || other {
                continue;
            }
            if let Some(key) = KEYS.iter().find(|key| key.variable() == *name) {
                let origin = Origin::Variable(name.clone());
                self.set(key.name, &Raw::Text(value.clone()), origin)?;
                continue;
            }
            let plain = name.strip_suffix(FILE_SUFFIX).unwrap_or_default();
            let key = KEYS.iter().find(|key| key.variable() == plain);
            match key {
                // A file that holds a path helps nobody, and SKEP_TLS_KEY_FILE would be misread.
                Some(key) if key.kind != Kind::Path => {
                    if env.contains_key(plain) {
                        return Err(ConfigError::Both {
                            name: plain.to_owned(),
                        });
                    }
                    let path = PathBuf::from(value);
                    let text = read_value(&path)?;
                    let name = name.clone();
                    let origin = Origin::VariableFile { name, path };
                    self.set(key.name, &Raw::Text(text), origin)?;
                }
                _ => {
                    return Err(ConfigError::UnknownVariable {
                        name: name.clone(),
                        similar: similar_variable(name),
                    });
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, file: Option<&Path>) -> Result<Config, ConfigError> {
        for key in KEYS {
            if !self.values.contains_key(key.name) {
                let value = (key.normal)(key.default).unwrap_or_default();
                self.values.insert(key.name, (value, Origin::Default));
            }
        }
        let entries: Vec<Entry> = KEYS
            .iter()
            .filter_map(|key| {
                let (value, origin) = self.values.remove(key.name)?;
                Some(Entry { key, value, origin })
            })
            .collect();
        let find = |name: &str| entries.iter().find(|entry| entry.key.name == name);
        let text = |name: &'static str| find(name).map_or_else(String::new, |e| e.value.clone());
        let settings = Settings::read(text).map_err(|name| ConfigError::Invalid {
            key: name,
            value: find(name).map_or_else(String::new, |entry| entry.shown().to_owned()),
            origin: find(name).map_or(Origin::Default, |entry| entry.origin.clone()),
            allowed: Key::find(name).map_or_else(String::new, |key| key.kind.allowed()),
        })?;
        for (given, missing) in [
            ("tls.cert", "tls.key"),
            ("tls.key", "tls.cert"),
            ("tls.client_ca", "tls.cert"),
        ] {
            if let Some(entry) = find(given).filter(|entry| !entry.value.is_empty())
                && find(missing).is_some_and(|entry| entry.value.is_empty())
            {
                let origin = entry.origin.clone();
                return Err(ConfigError::Alone {
                    given,
                    origin,
                    missing,
                });
            }
        }
        Ok(Config {
            settings,
            entries,
            file: file.map(Path::to_owned),
        })
    }
}

/// The value in its normal form.
fn normal(key: &'static Key, raw: &Raw, origin: &Origin) -> Result<String, ConfigError> {
    let (text, fits) = match raw {
        Raw::Text(text) => (text.clone(), true),
        Raw::List(parts) => (parts.join(","), key.kind == Kind::List),
    };
    let invalid = |allowed: String| ConfigError::Invalid {
        key: key.name,
        value: match key.secret {
            true => MASK.to_owned(),
            false => text.clone(),
        },
        origin: origin.clone(),
        allowed,
    };
    let value = (key.normal)(&text)
        .filter(|_| fits)
        .ok_or_else(|| invalid(key.kind.allowed()))?;
    if keys::ABOVE_ZERO.contains(&key.name) && matches!(value.as_str(), "0" | "0s") {
        return Err(invalid(format!("{}, above zero", key.kind.allowed())));
    }
    let web = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if key.name == "backup.bucket" && !value.is_empty() && !value.starts_with("s3://") {
        return Err(invalid("a bucket such as s3://name/prefix".to_owned()));
    }
    let is_web = matches!(key.name, "otlp.endpoint" | "backup.endpoint");
    if is_web && !value.is_empty() && !web(&value) {
        return Err(invalid(
            "a URL that begins with http:// or https://".to_owned(),
        ));
    }
    if key.name == "compliance.frameworks" {
        let known = |text: &str| matches!(text, "" | "gdpr" | "hipaa" | "sox" | "soc2");
        if !value.split(',').all(known) {
            return Err(invalid("a list of gdpr, hipaa, sox and soc2".to_owned()));
        }
    }
    if key.name == "cors.origins" {
        let origin = |text: &str| web(text) && text.matches('/').count() == 2;
        if !value.split(',').all(|part| part.is_empty() || origin(part)) {
            return Err(invalid(
                "a list of origins such as https://app.example.com, without a path".to_owned(),
            ));
        }
    }
    Ok(value)
}

/// The variables that concern us. An empty one counts as unset.
fn environment(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut kept = BTreeMap::new();
    for (name, value) in env {
        let Some(name) = name.to_str().map(str::to_owned) else {
            continue;
        };
        let ours = name.starts_with(PREFIX);
        if value.is_empty() || !(ours || name == "HOME" || name == "XDG_DATA_HOME") {
            continue;
        }
        match value.into_string() {
            Ok(value) => {
                kept.insert(name, value);
            }
            Err(_) => return Err(ConfigError::NotText { name }),
        }
    }
    Ok(kept)
}

fn read_value(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn default_data(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    // The XDG specification says to ignore relative paths.
    let xdg = env.get("XDG_DATA_HOME").map(PathBuf::from);
    let base = xdg.filter(|path| path.is_absolute()).or_else(|| {
        let home = env.get("HOME").map(PathBuf::from)?;
        Some(home.join(".local/share"))
    })?;
    Some(base.join("skep"))
}

/// The file to read: the one that was named, else `skep.toml` in `current`, else in the user's
/// configuration folder (`config_home`); `None` when there is none.
#[must_use]
pub fn find_file(
    named: Option<&Path>,
    current: &Path,
    config_home: Option<&Path>,
) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    let here = current.join(FILE_NAME);
    let home = config_home.map(|folder| folder.join("skep").join(FILE_NAME));
    std::iter::once(here)
        .chain(home)
        .find(|path| path.is_file())
}

fn unknown(name: &str, origin: Origin) -> ConfigError {
    let names = || KEYS.iter().map(|key| key.name);
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let similar = names()
        .find(|key| key.rsplit('.').next() == Some(leaf))
        .map(str::to_owned)
        .or_else(|| crate::similar(name, names()).map(str::to_owned));
    ConfigError::UnknownKey {
        key: name.to_owned(),
        origin,
        similar,
    }
}

fn similar_variable(name: &str) -> Option<String> {
    let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
    let all = variables.iter().map(String::as_str);
    // The prefix that all share would make everything look alike.
    let bare = |name: &'_ str| name.trim_start_matches(PREFIX).to_owned();
    let names: Vec<String> = all
        .chain(OTHER_VARIABLES.iter().copied())
        .map(bare)
        .collect();
    let found = crate::similar(&bare(name), names.iter().map(String::as_str))?;
    Some(format!("{PREFIX}{found}"))
}

/// The reference of all keys, for `docs/reference/config.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Generated from crates/core/src/config/keys.rs; `cargo xtask ci` compares. -->\n\n\
         Defaults, then `skep.toml`, then environment variables, then flags: what comes later \
         wins.\n`skep config show --origin` says where each value comes from. A key that does not \
         exist is an\nerror.\n\n\
         The file is the one that `--config` or `SKEP_CONFIG` names, else `./skep.toml`, else\n\
         `$XDG_CONFIG_HOME/skep/skep.toml`. Relative paths in it start at its folder.\n\n\
         A variable is `SKEP_` and the key in capitals, with `_` for the dot. With `_FILE` at its \
         end it\nnames a file that holds the value; keys that are paths have no such form. An \
         empty variable\ncounts as unset.\n",
    );
    for key in KEYS {
        let default = match (key.name, key.default) {
            ("data", _) => "see below".to_owned(),
            (_, "") => "none".to_owned(),
            (_, default) => format!("`{default}`"),
        };
        out.push_str(&format!(
            "\n## `{}`\n\n{} · default: {} · `{}`\n\n{}\n",
            key.name,
            key.kind.as_str(),
            default,
            key.variable(),
            key.doc(),
        ));
        if let Kind::Choice(words) = key.kind {
            out.push_str(&format!("\nOne of `{}`.\n", words.join("`, `")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublicError;
    use std::time::Duration;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let home = [("HOME", "/home/me")];
        let all = home.iter().chain(pairs);
        all.map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn load(
        file: Option<&str>,
        pairs: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        Config::load(file.map(|_| path.as_path()), env(pairs), &flags)
    }

    fn wrong(file: Option<&str>, pairs: &[(&str, &str)]) -> (String, String) {
        let error = load(file, pairs, &[]).unwrap_err();
        assert_eq!(error.code().as_str(), "config-invalid");
        (error.detail(), error.hint())
    }

    #[test]
    fn every_default_can_be_read_and_no_two_variables_clash() {
        let config = load(None, &[], &[]).unwrap();
        assert_eq!(config.entries().len(), KEYS.len());
        assert_eq!(
            config.settings().data,
            Path::new("/home/me/.local/share/skep")
        );
        assert_eq!(config.settings().limits_body, 64 << 20);
        assert_eq!(
            config.settings().calls_retention,
            Duration::from_secs(7 * 86_400)
        );
        let variables: Vec<_> = KEYS.iter().map(Key::variable).collect();
        for variable in &variables {
            assert!(
                !variables.contains(&format!("{variable}{FILE_SUFFIX}")),
                "{variable}"
            );
            assert!(!OTHER_VARIABLES.contains(&variable.as_str()), "{variable}");
            assert_eq!(
                variables.iter().filter(|other| *other == variable).count(),
                1
            );
        }
    }

    #[test]
    fn what_is_skep_locks_is_left_to_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "[lock]\nlog_level = \"error\"\n").unwrap();
        let env = [
            ("HOME".into(), folder.path().into()),
            ("SKEP_LOCK_IDENTITY_FILE".into(), "ada.key".into()),
        ];
        Config::load(Some(&path), env, &[]).unwrap();
        for (name, key) in KEYS.iter().map(|key| (key.variable(), key.name)) {
            assert!(
                !name.starts_with(LOCK_PREFIX) && !key.starts_with("lock."),
                "{name}"
            );
        }
    }

    #[test]
    fn later_layers_win_and_each_value_knows_where_it_comes_from() {
        let file =
            "listen = \"127.0.0.1:1\"\n[log]\nlevel = \"debug\"\nfiles = 2\n[shutdown]\ndrain='1s'";
        let config = load(
            Some(file),
            &[
                ("SKEP_LISTEN", "127.0.0.1:2"),
                ("SKEP_LOG_LEVEL", "warn"),
                ("SKEP_LOG_FILES", ""),
            ],
            &[("listen", "127.0.0.1:3")],
        )
        .unwrap();
        let shown = |name: &str| {
            let entry = config
                .entries()
                .iter()
                .find(|entry| entry.key.name == name)
                .unwrap();
            let origin = entry.origin.to_string();
            let origin = origin.rsplit('/').next().unwrap().to_owned();
            (entry.value.clone(), origin)
        };
        assert_eq!(shown("listen"), ("127.0.0.1:3".into(), "--listen".into()));
        assert_eq!(shown("log.level"), ("warn".into(), "SKEP_LOG_LEVEL".into()));
        assert_eq!(shown("log.files"), ("2".into(), "skep.toml:4".into()));
        assert_eq!(shown("shutdown.drain"), ("1s".into(), "skep.toml:6".into()));
        assert_eq!(shown("disk.min_free"), ("256MiB".into(), "default".into()));
        assert_eq!(config.settings().listen.port(), 3);
    }

    #[test]
    fn unknown_names_are_refused_with_what_was_meant() {
        let (detail, hint) = wrong(Some("\nlistn = \"x\"\n"), &[]);
        assert!(
            detail.ends_with("skep.toml:2: there is no key `listn`"),
            "{detail}"
        );
        assert_eq!(hint, "Did you mean `listen`?");
        let (_, hint) = wrong(Some("[limit]\nbody = \"1MiB\"\n"), &[]);
        assert_eq!(hint, "Did you mean `limits.body`?");
        let (detail, hint) = wrong(None, &[("SKEP_LISTN", "x")]);
        assert_eq!(detail, "the environment variable SKEP_LISTN sets nothing");
        assert_eq!(hint, "Did you mean `SKEP_LISTEN`?");
        let (_, hint) = wrong(None, &[("SKEP_BOGUS", "x")]);
        assert!(!hint.contains("Did you mean"), "{hint}");
        let (_, hint) = wrong(None, &[("SKEP_TLS_KEY_FILE", "/run/key.pem")]);
        assert_eq!(hint, "Did you mean `SKEP_TLS_KEY`?");
        assert!(load(None, &[("SKEP_SERVER", "x"), ("SKEP_AGENT", "x")], &[]).is_ok());
        assert!(load(Some("[limits]\n"), &[], &[]).is_ok());
        assert!(load(Some("[nothing]\n"), &[], &[]).is_err());
    }

    #[test]
    fn wrong_values_are_told_with_what_is_allowed() {
        let (detail, _) = wrong(Some("[limits]\nbody = \"much\"\n"), &[]);
        assert!(
            detail.contains("`limits.body` cannot be `much` ("),
            "{detail}"
        );
        assert!(detail.ends_with("skep.toml:2): allowed is a size, such as 512, 64KiB or 1GiB"));
        let (detail, _) = wrong(None, &[("SKEP_LOG_FORMAT", "xml")]);
        assert_eq!(
            detail,
            "`log.format` cannot be `xml` (SKEP_LOG_FORMAT): allowed is one of auto, human, json"
        );
        for (name, value) in [
            ("SKEP_LISTEN", "localhost"),
            ("SKEP_LOG_FILES", "0"),
            ("SKEP_LIMITS_BODY", "0"),
            ("SKEP_LIMITS_IDLE_TIMEOUT", "0s"),
            ("SKEP_METRICS_PUBLIC", "yes"),
            ("SKEP_OTLP_ENDPOINT", "localhost:4318"),
            ("SKEP_CORS_ORIGINS", "https://a.example/x"),
            ("SKEP_TLS_CERT", "/alone.pem"),
        ] {
            assert!(load(None, &[(name, value)], &[]).is_err(), "{name}");
        }
        let (detail, _) = wrong(Some("listen = [\"127.0.0.1:1\"]"), &[]);
        assert!(detail.contains("allowed is an IP address"), "{detail}");
        let (detail, _) = wrong(Some("listen =\n"), &[]);
        assert!(detail.contains("skep.toml:1: "), "{detail}");
    }

    #[test]
    fn a_variable_can_name_a_file_but_not_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("level");
        std::fs::write(&path, "warn\n").unwrap();
        let name = path.to_str().unwrap();
        let config = load(None, &[("SKEP_LOG_LEVEL_FILE", name)], &[]).unwrap();
        assert_eq!(config.settings().log_level, "warn");
        let both = [("SKEP_LOG_LEVEL_FILE", name), ("SKEP_LOG_LEVEL", "info")];
        let (detail, _) = wrong(None, &both);
        assert_eq!(
            detail,
            "SKEP_LOG_LEVEL and SKEP_LOG_LEVEL_FILE are both set"
        );
        let (detail, _) = wrong(None, &[("SKEP_LOG_LEVEL_FILE", "/nowhere/at/all")]);
        assert!(
            detail.starts_with("/nowhere/at/all cannot be read: "),
            "{detail}"
        );
    }

    #[test]
    fn paths_start_at_the_file_or_at_home() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "data = \"d\"\nlog.file = \"~/skep.log\"\n").unwrap();
        let config = Config::load(Some(&path), env(&[]), &[]).unwrap();
        assert_eq!(config.settings().data, folder.path().join("d"));
        assert_eq!(
            config.settings().log_file.as_deref(),
            Some(Path::new("/home/me/skep.log"))
        );
        let bare: [(OsString, OsString); 0] = [];
        assert!(matches!(
            Config::load(None, bare, &[]),
            Err(ConfigError::NoHome)
        ));
    }

    #[test]
    fn the_nearest_file_is_found() {
        let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let find = |named| find_file(named, here.path(), Some(home.path()));
        assert_eq!(find(None), None);
        let of_home = home.path().join("skep").join(FILE_NAME);
        std::fs::create_dir(home.path().join("skep")).unwrap();
        std::fs::write(&of_home, "").unwrap();
        assert_eq!(find(None), Some(of_home));
        let of_here = here.path().join(FILE_NAME);
        std::fs::write(&of_here, "").unwrap();
        assert_eq!(find(None), Some(of_here));
        assert_eq!(find(Some(Path::new("x"))), Some("x".into()));
    }

    #[test]
    fn the_reference_names_every_key() {
        let reference = reference_markdown();
        for key in KEYS {
            assert!(
                reference.contains(&format!("## `{}`", key.name)),
                "{}",
                key.name
            );
            assert!(key.doc().ends_with('.'), "{}", key.name);
        }
    }
}
