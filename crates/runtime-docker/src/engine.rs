//! The connection to Docker Engine: made when it is first needed and again when the engine was
//! away, with every failure in words for who runs the server.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ImageInspect, SystemInfo};
use skep_runtime::DriverError;
use tokio::sync::Mutex;

/// Seconds that the engine may take to begin its answer to a request.
const ANSWER_S: u64 = 60;
/// Time in which an engine that is well tells what it is.
const HELLO: Duration = Duration::from_secs(5);
/// Characters of the engine's own message that are shown.
const MOST_MESSAGE: usize = 400;

/// What came of a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The engine knows no such thing.
    Missing(String),
    /// The engine refused for this reason, with this status.
    Refused(u16, String),
    /// The engine is not there, or does not answer as one.
    Away(String),
}

impl From<Trouble> for DriverError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Missing(what) | Trouble::Refused(_, what) => Self::Failed(what),
            Trouble::Away(what) => Self::Unavailable(what),
        }
    }
}

/// An engine that answers, and what it said of itself.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) docker: Docker,
    pub(crate) info: Arc<SystemInfo>,
}

impl Connected {
    /// The engine's version.
    pub(crate) fn version(&self) -> &str {
        self.info.server_version.as_deref().unwrap_or("unknown")
    }
}

/// The engine behind a socket.
pub(crate) struct Engine {
    socket: PathBuf,
    connected: Mutex<Option<Connected>>,
    /// How often it was connected to.
    connections: AtomicU64,
}

impl Engine {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            connected: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// How often it was connected to so far: it may have been away between two connections.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The engine; connects when it has to.
    pub(crate) async fn get(&self) -> Result<Connected, Trouble> {
        let mut connected = self.connected.lock().await;
        if let Some(connected) = connected.as_ref() {
            return Ok(connected.clone());
        }
        let fresh = tokio::time::timeout(HELLO, self.connect())
            .await
            .unwrap_or_else(|_| Err(self.silent()))?;
        *connected = Some(fresh.clone());
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(fresh)
    }

    async fn connect(&self) -> Result<Connected, Trouble> {
        let path = self.socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, ANSWER_S, bollard::API_DEFAULT_VERSION)
            .map_err(|error| self.trouble(&error))?;
        // An older engine answers no newer version of its API.
        let docker = docker
            .negotiate_version()
            .await
            .map_err(|error| self.trouble(&error))?;
        let info = docker.info().await.map_err(|error| self.trouble(&error))?;
        if let Some(why) = unfit(&info) {
            return Err(Trouble::Away(why.to_owned()));
        }
        let info = Arc::new(info);
        Ok(Connected { docker, info })
    }

    /// Asks the engine something.
    pub(crate) async fn ask<T, F>(&self, question: impl FnOnce(Docker) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let docker = self.get().await?.docker;
        match question(docker).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    /// An image that is here.
    pub(crate) async fn image(&self, reference: &str) -> Result<ImageInspect, Trouble> {
        let reference = reference.to_owned();
        self.ask(|docker| async move { docker.inspect_image(&reference).await })
            .await
    }

    /// Sorts an error; an engine that went away is connected to anew.
    pub(crate) async fn failed(&self, error: &Error) -> Trouble {
        let trouble = self.trouble(error);
        if matches!(trouble, Trouble::Away(_)) {
            *self.connected.lock().await = None;
        }
        trouble
    }

    fn silent(&self) -> Trouble {
        Trouble::Away(format!(
            "Docker Engine does not answer at {}; see its log (journalctl -u docker) and start it \
             again (systemctl restart docker)",
            self.socket.display()
        ))
    }

    fn trouble(&self, error: &Error) -> Trouble {
        let at = self.socket.display();
        let missing = || {
            Trouble::Away(format!(
                "there is no Docker Engine at {at}; install it (Debian: apt-get install docker.io), \
                 start it (systemctl start docker), or set `docker.socket`"
            ))
        };
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => {
                let message: String = message.trim().chars().take(MOST_MESSAGE).collect();
                match status_code {
                    404 => Trouble::Missing(message),
                    _ => Trouble::Refused(*status_code, message),
                }
            }
            Error::DockerStreamError { error } => Trouble::Refused(500, error.clone()),
            Error::SocketNotFoundError(_) => missing(),
            Error::RequestTimeoutError => self.silent(),
            _ => match io_kind(error) {
                Some(ErrorKind::NotFound) => missing(),
                Some(ErrorKind::PermissionDenied) => Trouble::Away(format!(
                    "Skep may not open Docker Engine's socket {at}; add its user to the group of the \
                     socket (usermod -aG docker USER) and start Skep again"
                )),
                Some(ErrorKind::ConnectionRefused) => Trouble::Away(format!(
                    "Docker Engine is stopped: nothing listens at {at}; start it (systemctl start \
                     docker)"
                )),
                Some(_) => Trouble::Away(format!(
                    "the connection to Docker Engine at {at} broke: {error}"
                )),
                None => Trouble::Away(format!(
                    "what answers at {at} is no Docker Engine that Skep understands; set \
                     `docker.socket`, or update the engine to 20.10 or newer"
                )),
            },
        }
    }
}

/// The kind of the input or output error at the bottom of an error.
fn io_kind(error: &Error) -> Option<ErrorKind> {
    let mut source = Some(error as &dyn std::error::Error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        if let Some(hyper) = error.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_canceled())
        {
            return Some(ErrorKind::ConnectionReset);
        }
        source = error.source();
    }
    None
}

/// Why agents cannot run on an engine.
fn unfit(info: &SystemInfo) -> Option<&'static str> {
    let has = |name: &str| {
        let options = info.security_options.iter().flatten();
        options
            .into_iter()
            .any(|option| option.split(',').any(|part| part == name))
    };
    if info.os_type.as_deref() != Some("linux") {
        return Some("Docker Engine does not run Linux containers; agents need one that does");
    }
    if has("name=rootless") {
        return Some(
            "Docker Engine runs rootless: its containers cannot be reached from this machine; use \
             one that runs as root",
        );
    }
    if has("name=userns") {
        return Some(
            "Docker Engine runs with `userns-remap`, under which agents could not write their home; \
             use one without it",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    async fn away(engine: &Engine) -> String {
        match engine.get().await {
            Err(Trouble::Away(why)) => why,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it is there"),
        }
    }

    #[tokio::test]
    async fn says_what_is_wrong_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let engine = Engine::new(socket.clone());
        assert!(away(&engine).await.contains("install it"));
        let listener = UnixListener::bind(&socket).unwrap();
        drop(listener);
        assert!(away(&engine).await.contains("start it"));
    }

    #[tokio::test]
    async fn nonsense_is_no_engine() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("docker.sock");
            let engine = Engine::new(socket.clone());
            let listener = UnixListener::bind(&socket).unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            assert!(away(&engine).await.contains("no Docker Engine"), "{answer}");
        }
    }

    #[test]
    fn knows_engines_that_do_not_fit() {
        let info = |option: &str| SystemInfo {
            os_type: Some("linux".to_owned()),
            security_options: Some(vec![
                "name=seccomp,profile=default".to_owned(),
                option.into(),
            ]),
            ..SystemInfo::default()
        };
        assert!(unfit(&info("name=rootless")).is_some());
        assert!(unfit(&info("name=userns")).is_some());
        assert!(unfit(&info("name=cgroupns")).is_none());
    }
}
