//! Credentials for registries, from a file as the Docker CLI keeps it (`config.json`) and from the
//! programs that it names. Nothing is kept here: the file is read for each question to a registry, so
//! that a new login works at once. No text of this module says what the file holds.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bollard::Docker;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use skep_runtime::DriverError;
use skep_runtime::folder::blocking;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Bytes of a file of credentials.
const MOST_FILE: u64 = 1 << 20;
/// Bytes that a helper answers.
const MOST_ANSWER: u64 = 64 << 10;
/// Time in which a helper must have answered.
const HELPER: Duration = Duration::from_secs(10);
/// Rights that nobody may have: of the group to write, of others any.
const TOO_OPEN: u32 = 0o027;
/// What the Docker CLI calls the registry that references without one mean.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";
/// Other names of it.
const HUB_NAMES: [&str; 3] = [HUB, "index.docker.io", "registry-1.docker.io"];
/// A helper says by this name that its secret is a token, which has no user.
const TOKEN_USER: &str = "<token>";
/// What a helper says when it has none.
const NOT_FOUND: &str = "credentials not found";
const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// The registry of a reference: what stands before its first slash, when that is a host.
pub(crate) fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => {
            if HUB_NAMES.contains(&host) { HUB } else { host }
        }
        _ => HUB,
    }
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    file: Option<PathBuf>,
}

/// What a registry is shown. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    user: String,
    password: String,
    identity_token: String,
    registry_token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// The file, as far as it is about credentials.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    auths: HashMap<String, Entry>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// A helper's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The host of a key of the file, which may be a whole URL.
fn host(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next().unwrap_or_default()
}

/// What is said for a registry in a table of the file; the exact name goes first.
fn find<'a, T>(table: &'a HashMap<String, T>, registry: &str) -> Option<&'a T> {
    let exact = if registry == HUB { HUB_KEY } else { registry };
    table.get(exact).or_else(|| {
        let is_it = |key: &str| match registry {
            HUB => HUB_NAMES.contains(&host(key)),
            _ => host(key) == registry,
        };
        let mut keys: Vec<&String> = table.keys().filter(|key| is_it(key)).collect();
        keys.sort_unstable();
        table.get(*keys.first()?)
    })
}

impl Entry {
    /// Its login; `None` when it holds nothing, as with a helper.
    fn login(&self) -> Result<Option<Login>, &'static str> {
        let mut login = Login {
            user: self.username.clone(),
            password: self.password.clone(),
            identity_token: self.identitytoken.clone(),
            registry_token: self.registrytoken.clone(),
        };
        if !self.auth.is_empty() {
            let decoded = STANDARD.decode(self.auth.trim()).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) = pair.ok_or("its `auth` is not base64 of user:password")?;
            login.user = user.to_owned();
            login.password = password.trim_matches('\0').to_owned();
        }
        Ok((login != Login::default()).then_some(login))
    }
}

impl Login {
    /// The engine's header. It wants base64 with the letters of URLs, and takes anything else for no
    /// login at all; bollard's own header has the other letters.
    fn header(&self, registry: &str) -> Option<HeaderValue> {
        let address = if registry == HUB { HUB_KEY } else { registry };
        let document = serde_json::json!({
            "username": self.user,
            "password": self.password,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
            "serveraddress": address,
        });
        let mut value = HeaderValue::from_str(&URL_SAFE.encode(document.to_string())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A connection whose every request shows this login to the engine: for one question about an
    /// image of that registry.
    pub(crate) fn on(&self, docker: Docker, registry: &str) -> Docker {
        let Some(value) = self.header(registry) else {
            return docker;
        };
        docker.with_request_modifier(move |mut request| {
            request.headers_mut().insert(REGISTRY_AUTH, value.clone());
            request
        })
    }
}

impl Credentials {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The login for a registry, if there is one. An error is that of who runs the server.
    pub(crate) async fn of(&self, registry: &str) -> Result<Option<Login>, DriverError> {
        let Some(file) = self.file.clone() else {
            return Ok(None);
        };
        let wrong = |why: String| {
            DriverError::Unavailable(format!(
                "the credentials in {} (`docker.credentials`) cannot be used: {why}",
                file.display()
            ))
        };
        let path = file.clone();
        let read = blocking(move || Ok(read(&path))).await?;
        let document = read.map_err(wrong)?;
        let helper = find(&document.cred_helpers, registry)
            .map(String::as_str)
            .or(Some(document.creds_store.as_str()).filter(|name| !name.is_empty()));
        if let Some(helper) = helper {
            return ask(helper, registry).await.map_err(wrong);
        }
        let Some(entry) = find(&document.auths, registry) else {
            return Ok(None);
        };
        entry.login().map_err(|why| {
            wrong(format!(
                "{registry}: {why}; log in again: docker login {registry}"
            ))
        })
    }
}

/// Reads the file. Blocks.
fn read(path: &Path) -> Result<Document, String> {
    let next = "write it with `docker login`, readable for the server's user alone";
    let mut file = File::open(path).map_err(|error| format!("{error}; {next}"))?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err(format!("it is no file; {next}"));
    }
    let mode = about.mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        return Err(format!(
            "it is open to others (mode {mode:o}); chmod 600 {}",
            path.display()
        ));
    }
    let mut text = String::new();
    file.by_ref()
        .take(MOST_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("{error}; {next}"))?;
    if text.len() as u64 > MOST_FILE {
        return Err(format!("it is larger than {} MiB; {next}", MOST_FILE >> 20));
    }
    // The parser's own words may quote a secret: its place is enough.
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("it is not as `docker login` writes it (line {line}, column {column}); {next}")
    })
}

/// Asks a helper, as its protocol says: `docker-credential-NAME get`, the registry on its standard
/// input, a document on its standard output.
async fn ask(name: &str, registry: &str) -> Result<Option<Login>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err("it names a helper that is no name of a program".to_owned());
    }
    let program = format!("docker-credential-{name}");
    let mut command = Command::new(&program);
    command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    // The rest is its own way to its store; ours holds secrets.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("SKEP_") {
            command.env_remove(variable);
        }
    }
    let child = command.spawn().map_err(|error| {
        format!(
            "{program} cannot be run: {error}; install it, or correct `credsStore`, `credHelpers`"
        )
    })?;
    let by_hand = format!("try it by hand: echo {registry} | {program} get");
    let talked = tokio::time::timeout(HELPER, talk(child, registry)).await;
    let (well, answer) = talked
        .map_err(|_| {
            format!(
                "{program} gave no answer within {}s; {by_hand}",
                HELPER.as_secs()
            )
        })?
        .map_err(|error| format!("{program}: {error}; {by_hand}"))?;
    if !well {
        // Helpers tell their errors on standard output.
        return match String::from_utf8_lossy(&answer).contains(NOT_FOUND) {
            true => Ok(None),
            false => Err(format!("{program} failed; {by_hand}")),
        };
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| format!("{program} answered something else than credentials; {by_hand}"))?;
    let mut login = Login::default();
    if answer.username == TOKEN_USER {
        login.identity_token = answer.secret;
    } else {
        (login.user, login.password) = (answer.username, answer.secret);
    }
    Ok(Some(login))
}

async fn talk(mut child: Child, registry: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let address = if registry == HUB { HUB_KEY } else { registry };
    if let Some(mut input) = child.stdin.take() {
        // One that needs no input may have closed it.
        let _ = input.write_all(address.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(MOST_ANSWER).read_to_end(&mut answer).await?;
    }
    Ok((child.wait().await?.success(), answer))
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
