//! An etcd of the test's own, on ports of this machine. It ends with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Time within which it must be there.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A running etcd.
pub struct Etcd {
    child: Child,
    folder: TempDir,
    client: u16,
    peer: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn run(folder: &TempDir, client: u16, peer: u16) -> Child {
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("install it first: cargo xtask set-up test")
}

impl Etcd {
    /// A new one, running.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let (client, peer) = (free_port(), free_port());
        let etcd = Self {
            child: run(&folder, client, peer),
            folder,
            client,
            peer,
        };
        etcd.wait();
        etcd
    }

    /// How it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts it again after [`Etcd::kill`].
    pub fn restart(&mut self) {
        self.child = run(&self.folder, self.client, self.peer);
        self.wait();
    }

    /// The keys that it has, with their values.
    #[must_use]
    pub fn dump(&self) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url(), "get", "--prefix", "/"])
            .output()
            .expect("etcdctl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait(&self) {
        let started = Instant::now();
        loop {
            let health = Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &self.url(), "endpoint", "health"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if health.is_ok_and(|status| status.success()) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "etcd does not start");
            std::thread::park_timeout(LOOK);
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
