//! Where a verb works: the configuration, the server, the key, and the questions it may ask.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use skep_client::Client;
use skep_core::config::{self, Config};

use crate::cli::Global;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

/// The first key, in the data folder.
pub(crate) const KEY_FILE: &str = "admin.key";
/// Where a running server says in the data folder that it is.
const ADDRESS_FILE: &str = "server.json";
const CONTEXTS_FILE: &str = "contexts.toml";
/// Where `dev` says, in the project's folder, which data folder its server has.
pub(crate) const DEV_FOLDER: &str = ".skep";
pub(crate) const DEV_POINTER: &str = "server";

/// Where a running server is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) pid: u32,
    /// Its certificate in PEM, when it speaks TLS.
    certificate: Option<String>,
}

impl Address {
    /// What the server of this data folder says; `None` when none has said anything.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        let text = std::fs::read(data.join(ADDRESS_FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// The data folder of the server that `dev` runs for this folder, when it runs.
pub(crate) fn dev_data(folder: &Path) -> Option<PathBuf> {
    let path = std::fs::read(folder.join(DEV_FOLDER).join(DEV_POINTER)).ok()?;
    let data = PathBuf::from(OsString::from_vec(path));
    let pid = Address::read(&data)?.pid;
    // One that was killed leaves its address behind.
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::test_kill_process(pid).ok()?;
    Some(data)
}

/// What every verb has.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) output: Output,
}

/// A server and a key that go by a name.
#[derive(Debug, Default)]
struct Context {
    server: Option<String>,
    api_key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// An environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The user's configuration folder.
fn config_home() -> Option<PathBuf> {
    let xdg = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    xdg.filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))
}

/// The user's folder for what programs remember.
pub(crate) fn state_home() -> Option<PathBuf> {
    let xdg = variable("XDG_STATE_HOME").map(PathBuf::from);
    xdg.filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".local/state")))
}

/// The user's folder for what programs keep.
pub(crate) fn data_home() -> Option<PathBuf> {
    let xdg = variable("XDG_DATA_HOME").map(PathBuf::from);
    xdg.filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".local/share")))
}

/// The file that is made when a key is set and there is none.
pub(crate) fn default_config_file() -> Option<PathBuf> {
    config_home().map(|home| home.join("skep").join(config::FILE_NAME))
}

impl Session {
    pub(crate) fn new(mut global: Global) -> Result<Self> {
        let output = Output::new(
            global.output,
            global.color,
            global.quiet,
            global.verbose > 0,
        );
        let named = || variable("SKEP_WORKSPACE")?.into_string().ok();
        global.workspace = global.workspace.or_else(named);
        Ok(Self { global, output })
    }

    /// The configuration file, if there is one.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        let named = self.global.config.clone();
        let named = named.or_else(|| variable("SKEP_CONFIG").map(PathBuf::from));
        config::find_file(named.as_deref(), Path::new(""), config_home().as_deref())
    }

    /// The configuration with these flags on top.
    pub(crate) fn config(&self, mut flags: Vec<(&str, String)>) -> Result<Config> {
        if let Some(data) = &self.global.data {
            flags.push(("data", data.display().to_string()));
        }
        let file = self.config_file();
        Ok(Config::load(file.as_deref(), std::env::vars_os(), &flags)?)
    }

    fn context(&self) -> Result<Context> {
        let Some(name) = &self.global.context else {
            return Ok(Context::default());
        };
        let folder = config_home().map(|home| home.join("skep"));
        let path = folder.unwrap_or_default().join(CONTEXTS_FILE);
        let wrong = |detail: String| Failure::usage(format!("{}: {detail}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| {
            wrong(error.to_string()).hint(
                "Write it as `[NAME]` with `server = \"https://…\"` and `api_key_file = \"…\"`.",
            )
        })?;
        let document: toml_edit::DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| wrong(error.message().to_owned()))?;
        let names: Vec<&str> = document.iter().map(|(name, _)| name).collect();
        let table = document
            .get(name)
            .and_then(toml_edit::Item::as_table_like)
            .ok_or_else(|| {
                wrong(format!("there is no context `{name}`"))
                    .hint(format!("There are: {}.", names.join(", ")))
            })?;
        let mut context = Context::default();
        for (key, item) in table.iter() {
            let value = item.as_str();
            let value = value.ok_or_else(|| wrong(format!("`{name}.{key}` is not a text")))?;
            let file = || path.parent().map(|folder| folder.join(value));
            match key {
                "server" => context.server = Some(value.to_owned()),
                "api_key_file" => context.api_key_file = file(),
                "ca_file" => context.ca_file = file(),
                "client_cert" => context.client_cert = file(),
                "client_key" => context.client_key = file(),
                _ => {
                    return Err(wrong(format!("there is no key `{name}.{key}`")).hint(
                        "There are: server, api_key_file, ca_file, client_cert, client_key.",
                    ));
                }
            }
        }
        Ok(context)
    }

    /// The workspace that is named, if one is.
    pub(crate) fn workspace(&self) -> Option<&str> {
        self.global.workspace.as_deref()
    }

    /// A client of the server that is meant.
    pub(crate) fn client(&self) -> Result<Client> {
        let context = self.context()?;
        let (url, is_named) = self.url(&context)?;
        let shows = self.identity(&context)?;
        let key_file = self.global.api_key_file.clone().or(context.api_key_file);
        let named = named_key(key_file)?;
        let key = match named.or_else(|| kept_login(&url)) {
            Some(key) => Some(key),
            // The first key of this machine is nobody else's business.
            None if is_named && !is_local(&url) => None,
            None => {
                let path = self.data()?.join(KEY_FILE);
                match path.exists() {
                    true => Some(read_key(&path)?),
                    // The server may want none, for what is public.
                    false => None,
                }
            }
        };
        let ca = self.global.ca_file.clone().or(context.ca_file);
        let own = self.own_certificate(is_named)?;
        let builder = Client::builder(&url)
            .identity(shows)
            .key(key.as_deref())
            .workspace(self.global.workspace.as_deref())
            .purpose(self.global.purpose.as_deref())
            .ca_file(ca.as_deref())
            .certificate(own.as_deref());
        Ok(builder.build()?)
    }

    /// The certificate to show, and its key: both of one place, a flag before a context before a variable.
    fn identity(&self, context: &Context) -> Result<Option<(PathBuf, PathBuf)>> {
        let of = |name: &str| variable(name).map(PathBuf::from);
        let all = [
            (
                self.global.client_cert.clone(),
                self.global.client_key.clone(),
            ),
            (context.client_cert.clone(), context.client_key.clone()),
            (of("SKEP_CLIENT_CERT"), of("SKEP_CLIENT_KEY")),
        ];
        match all
            .into_iter()
            .find(|(one, other)| one.is_some() || other.is_some())
        {
            None => Ok(None),
            Some((Some(certificate), key)) => {
                let key = key.unwrap_or_else(|| certificate.clone());
                Ok(Some((certificate, key)))
            }
            Some((None, _)) => Err(Failure::usage("there is a key, and no certificate of it")
                .hint("Name the certificate with --client-cert.")),
        }
    }

    /// Keeps a session for the server that is meant, where nobody else reads it. Tells where.
    pub(crate) fn keep_login(&self, token: &str) -> Result<PathBuf> {
        let (url, _) = self.url(&self.context()?)?;
        let path = login_file(&url).ok_or_else(|| {
            Failure::usage("there is no folder for the user's configuration").hint("Set HOME.")
        })?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        Ok(path)
    }

    /// Forgets the session of the server that is meant.
    pub(crate) fn forget_login(&self) -> Result {
        let (url, _) = self.url(&self.context()?)?;
        match login_file(&url).map(std::fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A client without a key, for what is public: of this address, else of the server that is meant.
    pub(crate) fn keyless_client(&self, url: Option<&str>, timeout: Duration) -> Result<Client> {
        let context = self.context()?;
        let (url, is_named) = match url {
            Some(url) => (url.to_owned(), true),
            None => self.url(&context)?,
        };
        let shows = self.identity(&context)?;
        let ca = self.global.ca_file.clone().or(context.ca_file);
        let own = self.own_certificate(is_named)?;
        let builder = Client::builder(&url)
            .identity(shows)
            .timeout(timeout)
            .ca_file(ca.as_deref())
            .certificate(own.as_deref());
        Ok(builder.build()?)
    }

    /// The address that is meant, and whether somebody named it.
    fn url(&self, context: &Context) -> Result<(String, bool)> {
        let named = self
            .global
            .server
            .clone()
            .or_else(|| context.server.clone());
        let named = named
            .or_else(|| variable("SKEP_SERVER").map(|value| value.to_string_lossy().into_owned()));
        match named {
            Some(url) => Ok((url, true)),
            None => Ok((self.own_url()?, false)),
        }
    }

    /// The certificate of the data folder's server, when that is the one that is meant. It is for the
    /// name by which others call it, not for this machine's loopback.
    fn own_certificate(&self, is_named: bool) -> Result<Option<String>> {
        if is_named {
            return Ok(None);
        }
        Ok(Address::read(&self.data()?).and_then(|address| address.certificate))
    }

    /// Whether somebody said which server is meant.
    pub(crate) fn names_a_server(&self) -> bool {
        let flags = self.global.server.is_some() || self.global.context.is_some();
        flags
            || self.global.data.is_some()
            || variable("SKEP_SERVER").is_some()
            || variable("SKEP_DATA").is_some()
    }

    /// The data folder of the server that is meant: in a folder where `dev` runs, of its server.
    fn data(&self) -> Result<PathBuf> {
        if !self.names_a_server()
            && let Some(data) = dev_data(Path::new("."))
        {
            return Ok(data);
        }
        Ok(self.config(Vec::new())?.settings().data.clone())
    }

    /// Where the configuration's own server is: as it says itself, else as it would listen.
    fn own_url(&self) -> Result<String> {
        if let Some(address) = Address::read(&self.data()?) {
            return Ok(reachable(&address.url));
        }
        let config = self.config(Vec::new())?;
        let settings = config.settings();
        let scheme = match settings.tls_cert {
            Some(_) => "https",
            None => "http",
        };
        Ok(reachable(&format!("{scheme}://{}", settings.listen)))
    }

    /// Asks before something is lost.
    pub(crate) fn confirm(&self, question: &str) -> Result {
        if self.global.yes {
            return Ok(());
        }
        if self.global.no_input || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(
                Failure::usage(format!("{question} Nobody is there to say yes"))
                    .hint("Pass --yes if you mean it."),
            );
        }
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Cancelled, "nothing was done")),
        }
    }
}

/// Where the session of `skep login` is kept: a file for each server.
fn login_file(url: &str) -> Option<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let url = url.trim_end_matches('/').to_lowercase();
    let name: String = url
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    Some(config_home()?.join("skep").join("logins").join(name))
}

fn kept_login(url: &str) -> Option<String> {
    let text = std::fs::read_to_string(login_file(url)?).ok()?;
    Some(text.trim().to_owned())
}

fn named_key(file: Option<PathBuf>) -> Result<Option<String>> {
    if let Some(path) = file {
        return read_key(&path).map(Some);
    }
    let key = variable("SKEP_API_KEY");
    let file = variable("SKEP_API_KEY_FILE");
    match (key, file) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "SKEP_API_KEY and SKEP_API_KEY_FILE are both set",
        )
        .hint("Unset one of them.")),
        (Some(key), None) => Ok(Some(key.to_string_lossy().trim().to_owned())),
        (None, Some(path)) => read_key(Path::new(&path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_key(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim().to_owned()).map_err(|error| {
        let detail = format!("the key file {} cannot be read: {error}", path.display());
        Failure::new(Exit::Auth, detail).hint("Name a file with a key by --api-key-file.")
    })
}

/// Whether an address is on this machine.
pub(crate) fn is_local(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// A server that listens everywhere is reached on loopback.
fn reachable(url: &str) -> String {
    url.replacen("//0.0.0.0:", "//127.0.0.1:", 1)
        .replacen("//[::]:", "//[::1]:", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_goes_to_this_machine_only() {
        for url in [
            "http://127.0.0.1:7537",
            "https://localhost",
            "http://[::1]:1/",
        ] {
            assert!(is_local(url), "{url}");
        }
        for url in [
            "http://10.0.0.1:7537",
            "https://localhost.evil.example",
            "x",
            "",
        ] {
            assert!(!is_local(url), "{url}");
        }
        assert_eq!(reachable("http://0.0.0.0:1"), "http://127.0.0.1:1");
    }
}
