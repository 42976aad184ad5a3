//! A registry of the test's own (Debian's `docker-registry`) on a port of this machine, and a way to it
//! that can stall, break and listen. Docker Engine takes registries of 127.0.0.0/8 without TLS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Time within which it must be there.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const BUFFER: usize = 16 << 10;

/// Who may use one with a login.
pub const USER: &str = "bee";
/// The password; its base64 in the engine's header differs between the two alphabets.
pub const PASSWORD: &str = "s3cret~>?~>?";
/// Made with bcrypt.
const HTPASSWD: &str = "bee:$2b$04$ji3Mmf5PligtQ6bDgNC3/e4zE230fWQzObCAF4kT1An.dzOm8A4N.\n";

/// A running registry.
pub struct Registry {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Registry {
    /// One that asks for nothing.
    #[must_use]
    pub fn open() -> Self {
        Self::start(false)
    }

    /// One for [`USER`] alone.
    #[must_use]
    pub fn locked() -> Self {
        Self::start(true)
    }

    fn start(locked: bool) -> Self {
        let folder = TempDir::new().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let root = folder.path().display();
        let login = format!("auth: {{htpasswd: {{realm: skep, path: {root}/htpasswd}}}}\n");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/data}}}}\n{}",
            if locked { &login } else { "" }
        );
        std::fs::write(folder.path().join("config.yml"), text).expect("a file");
        std::fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("a file");
        let child = run(folder.path());
        let registry = Self {
            child,
            folder,
            port,
        };
        registry.wait();
        registry
    }

    /// What references to its images begin with.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts it again after [`Registry::kill`].
    pub fn restart(&mut self) {
        self.child = run(self.folder.path());
        self.wait();
    }

    /// The file of the largest layer of an image, named by its path and its digest.
    #[must_use]
    pub fn layer(&self, digest: &str) -> PathBuf {
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs");
        let file = |digest: &str| {
            let hex = digest.trim_start_matches("sha256:");
            blobs.join("sha256").join(&hex[..2]).join(hex).join("data")
        };
        let manifest = std::fs::read_to_string(file(digest)).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let largest = layers.iter().max_by_key(|layer| layer["size"].as_u64());
        file(
            largest.expect("a layer")["digest"]
                .as_str()
                .expect("a digest"),
        )
    }

    fn wait(&self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "the registry does not start");
            std::thread::park_timeout(LOOK);
        }
    }
}

fn run(folder: &Path) -> Child {
    Command::new("docker-registry")
        .arg("serve")
        .arg(folder.join("config.yml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("install it first: cargo xtask set-up test")
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What becomes of what a registry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// It goes through.
    All,
    /// After so many bytes of a connection the rest waits.
    StallAfter(usize),
    /// After so many bytes of a connection it breaks.
    CutAfter(usize),
}

/// A way to a registry.
pub struct Way {
    address: SocketAddr,
    passing: watch::Sender<Passing>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Way {
    /// A way to the registry at this host.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn to(host: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (passing, seen) = watch::channel(Passing::All);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let of_task = heard.clone();
        tokio::spawn(async move {
            while let Ok((engine, _)) = listener.accept().await {
                if let Ok(registry) = tokio::net::TcpStream::connect(&host).await {
                    tokio::spawn(pass(engine, registry, seen.clone(), of_task.clone()));
                }
            }
        });
        Self {
            address,
            passing,
            heard,
        }
    }

    /// What references to the registry's images begin with, this way.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What becomes from now on of what the registry says.
    pub fn set(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// What the registry was asked so far.
    #[must_use]
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock()).into_owned()
    }
}

async fn pass(
    engine: tokio::net::TcpStream,
    registry: tokio::net::TcpStream,
    mut passing: watch::Receiver<Passing>,
    heard: Arc<Mutex<Vec<u8>>>,
) {
    let (mut from_engine, mut to_engine) = engine.into_split();
    let (mut from_registry, mut to_registry) = registry.into_split();
    let (mut asked, mut said) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut passed = 0;
    loop {
        let now = *passing.borrow_and_update();
        let stalled = matches!(now, Passing::StallAfter(most) if passed >= most);
        if matches!(now, Passing::CutAfter(most) if passed >= most) {
            return;
        }
        tokio::select! {
            changed = passing.changed() => if changed.is_err() { return },
            count = from_engine.read(&mut asked) => {
                let Some(count) = count.ok().filter(|count| *count > 0) else { return };
                heard.lock().extend_from_slice(&asked[..count]);
                if to_registry.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            count = from_registry.read(&mut said), if !stalled => {
                let Some(count) = count.ok().filter(|count| *count > 0) else { return };
                passed += count;
                if to_engine.write_all(&said[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
