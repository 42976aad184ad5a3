//! A PostgreSQL server of the test's own: a new cluster in a temporary folder, reached through a
//! socket in it. It ends with the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Time within which it must be there.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A running PostgreSQL server.
pub struct Postgres {
    child: Child,
    folder: TempDir,
    user: Option<(u32, u32)>,
}

/// The folder of the server's programs: the newest of Debian's, else the first of the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut debian: Vec<PathBuf> = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = debian.into_iter().rev().chain(std::env::split_paths(&path));
    folders
        .find(|folder| folder.join("initdb").is_file())
        .expect("install it first: cargo xtask set-up test")
}

/// PostgreSQL does not run as root: the user and group that it runs as then.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("a user `postgres`").split(':').skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok());
    Some((number().expect("a number"), number().expect("a number")))
}

fn command(program: &str, user: Option<(u32, u32)>, folder: &Path) -> Command {
    let mut command = Command::new(programs().join(program));
    command.current_dir(folder).stdin(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

impl Postgres {
    /// A new cluster, running.
    ///
    /// # Panics
    /// When it cannot be made or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let user = user();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).expect("a folder of its own");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("private");
        let made = command("initdb", user, folder.path())
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=skep",
                "--encoding=UTF8",
            ])
            .args(["--no-locale", "--pgdata", "data"])
            .output()
            .expect("initdb runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let child = run(folder.path(), user);
        let server = Self {
            child,
            folder,
            user,
        };
        server.wait();
        server
    }

    /// The file with the key of the audit log, which servers of one database share.
    #[must_use]
    pub fn audit_key(&self) -> String {
        self.folder.path().join("audit.key").display().to_string()
    }

    /// How it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        let socket = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://skep@{socket}/postgres")
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    /// What it answers to a statement, as text.
    ///
    /// # Panics
    /// When it refuses.
    #[must_use]
    pub fn ask(&self, sql: &str) -> String {
        let mut psql = command("psql", self.user, self.folder.path());
        psql.args(["--username=skep", "--dbname=postgres", "--no-psqlrc"]);
        psql.args(["--tuples-only", "--no-align", "--command", sql, "--host"]);
        let done = psql.arg(self.folder.path()).output().expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout)
    }

    /// What it has logged.
    ///
    /// # Panics
    /// When its log is gone.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Ends it at once, as a crash does, and starts it again.
    ///
    /// # Panics
    /// When it does not start again.
    pub fn crash(&mut self) {
        // The others of its processes end by themselves when this one is gone.
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        let lock = self.folder.path().join("data/postmaster.pid");
        let _ = fs::remove_file(lock);
        let started = Instant::now();
        loop {
            self.child = run(self.folder.path(), self.user);
            if self.comes() {
                return;
            }
            // Memory that the dead one shared may be in use for a moment still.
            assert!(
                started.elapsed() < PATIENCE,
                "PostgreSQL does not start again"
            );
        }
    }

    fn answers(&self) -> bool {
        let ready = command("pg_isready", self.user, self.folder.path())
            .arg("--host")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .status();
        ready.is_ok_and(|status| status.success())
    }

    /// Waits until it answers, or has ended.
    fn comes(&mut self) -> bool {
        loop {
            if self.answers() {
                return true;
            }
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn wait(&self) {
        let started = Instant::now();
        while !self.answers() {
            assert!(started.elapsed() < PATIENCE, "PostgreSQL does not start");
            std::thread::park_timeout(LOOK);
        }
    }
}

fn run(folder: &Path, user: Option<(u32, u32)>) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    command("postgres", user, folder)
        .args(["-D", "data", "-k"])
        .arg(folder)
        .args(["-c", "listen_addresses="])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("postgres runs")
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
