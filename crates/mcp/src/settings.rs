//! What the settings of a server may be: names that are safe, counts within bounds, values that stay in their line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::class::{Rules, fits};
use crate::openapi::{Api, Description};

/// The longest name of a server.
const MOST_NAME: usize = 32;
/// Headers of a server.
const MOST_HEADERS: usize = 32;
/// Variables of a server.
const MOST_VARIABLES: usize = 64;
/// Words of a command.
const MOST_WORDS: usize = 64;
/// Folders that a server sees.
const MOST_FOLDERS: usize = 16;
/// Hosts that a server reaches.
const MOST_HOSTS: usize = 32;
/// Patterns that allow, or deny.
const MOST_PATTERNS: usize = 200;
/// What one use of a tool costs at most, in billionths of a dollar.
const MOST_PRICE: i64 = 1_000_000_000_000;
/// Bytes of a value, a word or a pattern.
const MOST_TEXT: usize = 4_096;
/// The shortest and the longest time that a server may take, and what it may when nothing is said.
const TIMEOUT_S: (u64, u64, u64) = (1, 600, 60);

/// Headers that Skep says itself, or that belong to a connection.
const OWN_HEADERS: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// What such headers begin with.
const OWN_PREFIXES: [&str; 4] = ["mcp-", "skep-", "x-forwarded-", "sec-"];
/// Variables by which a program loads, or runs, what its command does not say.
const LOADERS: [&str; 22] = [
    "BASH_ENV",
    "CLASSPATH",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "_JAVA_OPTIONS",
];
/// What such variables begin with.
const LOADER_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "BASH_FUNC_"];
/// Variables that Skep says itself.
const OWN_VARIABLES: [&str; 3] = ["HOME", "PORT", "TMPDIR"];

/// A value that may hold one secret: `Bearer ${secret:keys/github}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What stands before it; all of the value, when there is none.
    pub before: String,
    /// The name of the secret.
    pub secret: Option<String>,
    /// What stands behind it.
    pub after: String,
}

const OPENS: &str = "${secret:";

impl Value {
    /// Reads one.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((before, rest)) = text.split_once(OPENS) else {
            return Ok(Self {
                before: text.to_owned(),
                secret: None,
                after: String::new(),
            });
        };
        let Some((name, after)) = rest.split_once('}') else {
            return Err("`${secret:` has no `}`".to_owned());
        };
        if name.is_empty() || after.contains(OPENS) {
            return Err("a value holds one secret, by its name".to_owned());
        }
        Ok(Self {
            before: before.to_owned(),
            secret: Some(name.to_owned()),
            after: after.to_owned(),
        })
    }

    /// How it is written.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.secret {
            None => self.before.clone(),
            Some(name) => format!("{}{OPENS}{name}}}{}", self.before, self.after),
        }
    }
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Over streamable HTTP.
    Http {
        /// Where.
        url: String,
        /// Headers of each request.
        headers: BTreeMap<String, Value>,
    },
    /// Over the standard input and output of a program in a sandbox.
    Stdio {
        /// The program and its arguments.
        command: Vec<String>,
        /// Its variables.
        env: BTreeMap<String, Value>,
        /// Folders of this machine that it sees, and whether it can only read them.
        folders: Vec<(PathBuf, bool)>,
        /// Hosts that it reaches, `host:port`; none: it reaches nobody.
        hosts: Vec<String>,
    },
    /// A web API that does not speak the protocol, by its description.
    OpenApi {
        /// Where: what stands before its paths.
        url: String,
        /// Headers of each request.
        headers: BTreeMap<String, Value>,
        /// What it can.
        description: Arc<Description>,
    },
    /// Skep itself, as who asks.
    Skep {
        /// What it can.
        description: Arc<Description>,
    },
}

impl Transport {
    /// Whether it is a program.
    #[must_use]
    pub const fn is_program(&self) -> bool {
        matches!(self, Self::Stdio { .. })
    }

    /// Whether it leads where another one does: to the same address, or the same command, in the same way.
    #[must_use]
    pub fn leads_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http { url, .. }, Self::Http { url: its, .. })
            | (Self::OpenApi { url, .. }, Self::OpenApi { url: its, .. }) => url == its,
            (Self::Stdio { command, .. }, Self::Stdio { command: its, .. }) => command == its,
            (Self::Skep { .. }, Self::Skep { .. }) => true,
            _ => false,
        }
    }

    /// How it is shown.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Stdio { .. } => "stdio",
            Self::OpenApi { .. } => "openapi",
            Self::Skep { .. } => "builtin",
        }
    }
}

/// The settings of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name, of which there is one in a workspace.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Which of its tools there are.
    pub rules: Rules,
    /// Whether its resources pass.
    pub resources: bool,
    /// Whether its prompts pass.
    pub prompts: bool,
    /// How long it may take until it answers.
    pub timeout: Duration,
    /// What a use of a tool costs, by its name or a pattern of some: billionths of a dollar.
    pub prices: BTreeMap<String, i64>,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {why}")]
pub struct WrongSetting {
    /// Which.
    pub field: String,
    /// Why.
    pub why: String,
}

type Checked = Result<(), WrongSetting>;

fn wrong(field: impl Into<String>, why: impl Into<String>) -> Checked {
    Err(WrongSetting {
        field: field.into(),
        why: why.into(),
    })
}

/// Whether a value stays in its line.
fn is_line(text: &str) -> bool {
    text.len() <= MOST_TEXT && !text.contains(['\r', '\n', '\0'])
}

impl Settings {
    /// A time within bounds.
    #[must_use]
    pub fn timeout(seconds: Option<u64>) -> Duration {
        let (least, most, usual) = TIMEOUT_S;
        Duration::from_secs(seconds.unwrap_or(usual).clamp(least, most))
    }

    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`WrongSetting`], with the field.
    pub fn check(&self) -> Checked {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &self.name;
        if name.is_empty() || name.len() > MOST_NAME || !name.chars().all(plain) {
            return wrong("name", "1 to 32 of a-z, 0-9 and `-`");
        }
        for (field, patterns) in [("allow", &self.rules.allow), ("deny", &self.rules.deny)] {
            let is_pattern = |it: &String| !it.is_empty() && is_line(it);
            if patterns.len() > MOST_PATTERNS || !patterns.iter().all(is_pattern) {
                return wrong(
                    field,
                    "200 names of tools at most, in which `*` is any text",
                );
            }
        }
        let is_price = |(pattern, price): (&String, &i64)| {
            !pattern.is_empty() && is_line(pattern) && (0..=MOST_PRICE).contains(price)
        };
        if self.prices.len() > MOST_PATTERNS || !self.prices.iter().all(is_price) {
            return wrong("prices", "200 tools at most, at 0 to 1,000 dollars each");
        }
        match &self.transport {
            Transport::Http { url, headers } => {
                check_url(url)?;
                check_headers(headers)
            }
            Transport::Stdio {
                command,
                env,
                folders,
                hosts,
            } => {
                check_command(command)?;
                check_variables(env)?;
                check_folders(folders)?;
                check_hosts(hosts)
            }
            Transport::OpenApi { url, headers, .. } => {
                check_url(url)?;
                if url.contains('?') || url.split('/').any(|it| matches!(it, "." | "..")) {
                    return wrong(
                        "url",
                        "paths follow it: it has no query, and no `.` or `..`",
                    );
                }
                check_headers(headers)?;
                self.check_api("openapi")
            }
            Transport::Skep { .. } => self.check_api("builtin"),
        }
    }

    fn check_api(&self, field: &str) -> Checked {
        match self.api() {
            Some(Err(why)) => wrong(field, why),
            _ => Ok(()),
        }
    }

    /// What a use of a tool costs, in billionths of a dollar: of several patterns the longest counts.
    #[must_use]
    pub fn price(&self, tool: &str) -> i64 {
        // Names of no tools: resources, prompts.
        let fitting = self
            .prices
            .iter()
            .filter(|(pattern, _)| !tool.starts_with(':') && fits(pattern, tool));
        let longest = fitting.max_by_key(|(pattern, _)| (*pattern == tool, pattern.len()));
        longest.map_or(0, |(_, price)| *price)
    }

    /// Whether what [`Self::api`] gives is known: else it takes up to a second of work.
    #[must_use]
    pub fn is_made(&self) -> bool {
        match &self.transport {
            Transport::OpenApi { description, .. } | Transport::Skep { description } => {
                description.is_made()
            }
            Transport::Http { .. } | Transport::Stdio { .. } => true,
        }
    }

    /// What the description of a web API, or of Skep itself, becomes; nothing, of another server.
    #[must_use]
    pub fn api(&self) -> Option<Result<&Api, &str>> {
        let nobody = BTreeMap::new();
        let (headers, description) = match &self.transport {
            Transport::OpenApi {
                headers,
                description,
                ..
            } => (headers, description),
            Transport::Skep { description } => (&nobody, description),
            Transport::Http { .. } | Transport::Stdio { .. } => return None,
        };
        let said = headers.keys().map(|it| it.to_ascii_lowercase()).collect();
        let api = description.api(&said, &self.rules);
        Some(api.as_ref().map_err(String::as_str))
    }

    /// The secrets that it names.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&str> {
        let values = match &self.transport {
            Transport::Http { headers, .. } | Transport::OpenApi { headers, .. } => headers,
            Transport::Stdio { env, .. } => env,
            Transport::Skep { .. } => return BTreeSet::new(),
        };
        let values = values.values();
        values.filter_map(|it| it.secret.as_deref()).collect()
    }
}

fn check_url(url: &str) -> Checked {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return wrong("url", "it begins with `https://` or `http://`");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let why = "a name or a password stands in it: name a secret in a header instead";
        return wrong("url", why);
    }
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if authority.is_empty() || !url.bytes().all(visible) || url.contains('#') || !is_line(url) {
        return wrong("url", "it is no URL such as `https://host/mcp`");
    }
    Ok(())
}

fn check_value(field: &str, value: &Value) -> Checked {
    if !is_line(&value.before) || !is_line(&value.after) {
        return wrong(field, "it has 4,096 bytes at most, in one line");
    }
    match &value.secret {
        Some(name) if name.len() > MOST_TEXT || name.chars().any(char::is_control) => {
            wrong(field, "that is no name of a secret")
        }
        _ => Ok(()),
    }
}

/// Whether a header is one that Skep says itself, or that belongs to a connection.
pub(crate) fn is_own_header(name: &str) -> bool {
    let low = name.to_ascii_lowercase();
    OWN_HEADERS.contains(&low.as_str()) || OWN_PREFIXES.iter().any(|it| low.starts_with(it))
}

fn check_headers(headers: &BTreeMap<String, Value>) -> Checked {
    if headers.len() > MOST_HEADERS {
        return wrong("headers", "32 at most");
    }
    let mut seen = BTreeSet::new();
    for (name, value) in headers {
        let field = format!("headers.{name}");
        let low = name.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
            return wrong("headers", "a name has letters, digits and `-`");
        }
        if is_own_header(name) {
            return wrong(field, "Skep says this one itself");
        }
        if !seen.insert(low) {
            return wrong(field, "it is there twice");
        }
        let visible = |text: &str| text.bytes().all(|it| matches!(it, b'\t' | 0x20..=0x7e));
        if !visible(&value.before) || !visible(&value.after) {
            return wrong(field, "a header has visible characters of ASCII");
        }
        check_value(&field, value)?;
    }
    Ok(())
}

fn check_variables(env: &BTreeMap<String, Value>) -> Checked {
    if env.len() > MOST_VARIABLES {
        return wrong("env", "64 variables at most");
    }
    for (name, value) in env {
        let field = format!("env.{name}");
        let mut bytes = name.bytes();
        let begins = bytes
            .next()
            .is_some_and(|it| it.is_ascii_alphabetic() || it == b'_');
        if !begins || name.len() > 128 || !bytes.all(|it| it.is_ascii_alphanumeric() || it == b'_')
        {
            return wrong(
                "env",
                "a name has letters, digits and `_`, and begins with no digit",
            );
        }
        let up = name.to_ascii_uppercase();
        if LOADERS.contains(&up.as_str()) || LOADER_PREFIXES.iter().any(|it| up.starts_with(it)) {
            return wrong(
                field,
                "it makes programs load what their command does not say",
            );
        }
        if OWN_VARIABLES.contains(&up.as_str()) || up.starts_with("SKEP_") {
            return wrong(field, "Skep says this one itself");
        }
        check_value(&field, value)?;
    }
    Ok(())
}

fn check_command(command: &[String]) -> Checked {
    if command.is_empty() || command.len() > MOST_WORDS {
        return wrong("command", "a program and 63 arguments at most");
    }
    if command.first().is_some_and(String::is_empty) || !command.iter().all(|it| is_line(it)) {
        return wrong("command", "a word has 4,096 bytes at most, in one line");
    }
    if command.iter().any(|it| it.contains(OPENS)) {
        return wrong(
            "command",
            "everybody on the machine sees arguments: give a secret in `env`",
        );
    }
    Ok(())
}

fn check_folders(folders: &[(PathBuf, bool)]) -> Checked {
    let is_plain = |path: &PathBuf| {
        path.is_absolute()
            && path
                .components()
                .all(|it| !matches!(it, Component::ParentDir))
            && path.to_str().is_some_and(is_line)
    };
    if folders.len() > MOST_FOLDERS || !folders.iter().all(|(path, _)| is_plain(path)) {
        return wrong("folders", "16 absolute paths at most, without `..`");
    }
    Ok(())
}

fn check_hosts(hosts: &[String]) -> Checked {
    let is_host = |it: &String| {
        let (host, port) = it.rsplit_once(':').unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '[' | ']' | ':');
        !host.is_empty()
            && is_line(it)
            && host.chars().all(plain)
            && port.parse::<u16>().is_ok_and(|it| it > 0)
    };
    if hosts.len() > MOST_HOSTS || !hosts.iter().all(is_host) {
        return wrong("hosts", "32 at most, such as `api.github.com:443`");
    }
    Ok(())
}
