//! Ways into the vault whose keys lie elsewhere: a keychain (GNOME Keyring), a token (SoftHSM), a KMS (moto); each
//! of them real, there, away, slow or changed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use skep_tests::{Server, Setup, eventually};
use tempfile::TempDir;

use crate::cli::{Said, command, skep};
use crate::moving::Moto;
use crate::vault::{create, reveal};

const PIN: &str = "marked-7265";
const INSTALL: &str = "install it first: cargo xtask set-up test";

fn said(mut command: Command) -> Said {
    let output = command.output().expect("the binary runs");
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn good(server: &Server, args: &[&str]) -> String {
    let said = skep(server, args);
    assert_eq!(said.code, Some(0), "{args:?}: {}", said.err);
    said.out
}

/// How the vault is, and why, as health has it.
async fn health(server: &Server) -> (String, String) {
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let checks = health["checks"].as_array().expect("checks");
    let vault = checks.iter().find(|it| it["name"] == "vault");
    let text = |field: &str| vault.expect("a check")[field].as_str().expect("text");
    (text("status").to_owned(), text("detail").to_owned())
}

async fn is_sealed_since(server: &Server, why: &str) {
    let (status, detail) = health(server).await;
    assert_eq!(status, "degraded", "{detail}");
    assert!(detail.contains(why), "{detail}");
    let refused = reveal(&server.client, "stripe").await;
    assert_eq!(refused.code(), "vault-sealed");
}

async fn opens(server: &Server) {
    let shown = reveal(&server.client, "stripe").await;
    assert_eq!(shown.json()["value"], "one", "{}", shown.text());
    assert_eq!(health(server).await, ("ok".to_owned(), "open".to_owned()));
}

/// Where the key files of a server's vault are, and that there are none.
fn no_key_file(server: &Server) {
    assert!(!server.data().join("seal.key").exists());
}

/// Tokens of SoftHSM in a folder.
struct Tokens(TempDir);

impl Tokens {
    fn new() -> Self {
        let tokens = Self(TempDir::new().expect("a folder"));
        fs::create_dir(tokens.folder()).expect("a folder");
        let text = format!("directories.tokendir = {}\n", tokens.folder().display());
        fs::write(tokens.config(), text).expect("a file");
        tokens
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("tokens")
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("softhsm2.conf")
    }

    fn run(&self, program: &str, args: &[&str]) {
        let mut command = Command::new(program);
        command.args(args).env("SOFTHSM2_CONF", self.config());
        let done = command.output().expect(INSTALL);
        assert!(done.status.success(), "{done:?}");
    }

    /// A token with an AES key that nobody can take out.
    fn make(&self) {
        let token = ["--init-token", "--free", "--label", "ours"];
        let pins = ["--so-pin", "87654321", "--pin", PIN];
        self.run("softhsm2-util", &[token, pins].concat());
        let module = "/usr/lib/softhsm/libsofthsm2.so";
        let token = ["--module", module, "--token-label", "ours", "--login"];
        let key = ["--keygen", "--key-type", "AES:32", "--label", "seal"];
        let all = [&token[..], &["--pin", PIN], &key].concat();
        self.run("pkcs11-tool", &all);
    }

    fn setup(&self, pin: &str) -> Setup {
        let config = self.config().display().to_string();
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let env = [
            ("SOFTHSM2_CONF", config.as_str()),
            ("SKEP_SEAL_PKCS11", "pkcs11:token=ours;object=seal"),
            ("SKEP_SEAL_PKCS11_MODULE", "/usr/lib/softhsm/libsofthsm2.so"),
            ("SKEP_SEAL_PKCS11_PIN", pin),
        ];
        Setup {
            env: env.map(own).to_vec(),
            ..Setup::default()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_sets_the_vault_up_when_it_comes() {
    let tokens = Tokens::new();
    tokens.make();
    let away = tokens.0.path().join("away");
    fs::rename(tokens.folder(), &away).expect("a folder");
    fs::create_dir(tokens.folder()).expect("a folder");
    let mut server = Server::start_with(tokens.setup(PIN)).await;
    let (status, detail) = health(&server).await;
    assert_eq!(status, "degraded", "{detail}");
    let expected = "nobody has set it up; pkcs11:token=ours;object=seal: the token is not there; \
                    it is tried again by itself";
    assert_eq!(detail, expected);
    // No other way in is made that nobody asked for.
    no_key_file(&server);
    fs::remove_dir(tokens.folder()).expect("a folder");
    fs::rename(&away, tokens.folder()).expect("a folder");
    eventually("an open vault", async || {
        (health(&server).await.1 == "open").then_some(())
    })
    .await;
    no_key_file(&server);
    create(&server, "stripe", "one").await;
    let status = good(&server, &["vault", "status"]);
    let row = "1 pkcs11 server pkcs11:token=ours;object=seal AGE";
    assert!(status.contains(row), "{status}");
    assert!(server.terminate());
    server.restart_as_it_was().await;
    opens(&server).await;
    // What somebody sealed stays so until somebody opens it.
    good(&server, &["vault", "seal", "--yes"]);
    is_sealed_since(&server, "what needs a secret is refused").await;
    good(&server, &["vault", "unseal", "--configured"]);
    opens(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_its_pin_or_with_another_row_says_so() {
    let tokens = Tokens::new();
    tokens.make();
    let mut server = Server::start_with(tokens.setup(PIN)).await;
    create(&server, "stripe", "one").await;
    for (pin, why) in [
        ("marked-0000", "the PIN is wrong"),
        (" ", "set seal.pkcs11_pin"),
    ] {
        assert!(server.terminate());
        server.restart_with(tokens.setup(pin)).await;
        is_sealed_since(&server, why).await;
        // A wrong PIN is counted: nobody tries it again by itself.
        let (_, detail) = health(&server).await;
        assert!(!detail.contains("tried again"), "{detail}");
        let refused = skep(&server, &["vault", "unseal", "--configured"]);
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        assert!(refused.err.contains(why), "{}", refused.err);
    }
    assert!(!server.log().contains("marked-"), "{}", server.log());
    assert!(server.terminate());
    let db = rusqlite::Connection::open(server.data().join("skep.db")).expect("a database");
    let old: String = db
        .query_row("SELECT params FROM vault_seals", [], |row| row.get(0))
        .expect("a row");
    assert!(!old.contains("marked-"), "{old}");
    let mut params: serde_json::Value = serde_json::from_str(&old).expect("JSON");
    let wrapped = params["wrapped"].as_str().expect("text").to_owned();
    let turned: String = wrapped.chars().rev().collect();
    params["wrapped"] = turned.into();
    let set = "UPDATE vault_seals SET params = ?1";
    db.execute(set, [params.to_string()]).expect("a change");
    server.restart_with(tokens.setup(PIN)).await;
    is_sealed_since(&server, "the stored seal was changed").await;
    assert!(server.terminate());
    db.execute(set, [old]).expect("a change");
    drop(db);
    server.restart_as_it_was().await;
    opens(&server).await;
}

/// A key of moto's KMS.
fn kms_key(moto: &Moto) -> String {
    let script = "import boto3; print(boto3.client('kms').create_key()['KeyMetadata']['Arn'])";
    let made = Command::new("python3")
        .args(["-c", script])
        .envs(moto.env())
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .output()
        .expect(INSTALL);
    let arn = String::from_utf8(made.stdout).expect("text");
    assert!(arn.starts_with("arn:aws:kms:"), "{arn}");
    arn.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kms_takes_the_place_of_the_key_file() {
    let moto = Moto::start().await;
    let mut server = Server::start().await;
    create(&server, "stripe", "one").await;
    let none = skep(&server, &["vault", "seals", "add", "cloud", "--kms"]);
    assert!(none.err.contains("set `seal.kms`"), "{}", none.err);
    let address = format!("aws:{}", kms_key(&moto));
    let mut env = moto.env();
    // What it shows to AWS may be in a file.
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, "something\n").expect("a file");
    env.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    let file = file.display().to_string();
    env.push(("AWS_SECRET_ACCESS_KEY_FILE".to_owned(), file));
    env.push(("AWS_SECRET_ACCESS_KEY".to_owned(), " ".to_owned()));
    env.push(("SKEP_SEAL_KMS".to_owned(), address.clone()));
    let setup = Setup {
        env,
        ..Setup::default()
    };
    assert!(server.terminate());
    // No way in is of that key yet: the key file opens it as before.
    server.restart_with(setup).await;
    opens(&server).await;
    good(&server, &["vault", "seals", "add", "cloud", "--kms"]);
    good(&server, &["vault", "seals", "remove", "1", "--yes"]);
    fs::remove_file(server.data().join("seal.key")).expect("a file");
    assert!(server.terminate());
    server.restart_as_it_was().await;
    opens(&server).await;
    let status = good(&server, &["vault", "status"]);
    assert!(
        status.contains(&format!("2 kms cloud {address}")),
        "{status}"
    );
    // A KMS that is slow holds up nobody: the server starts, and opens the vault when it answers.
    assert!(server.terminate());
    let pid = i32::try_from(moto.pid())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("a pause");
    server.restart_as_it_was().await;
    is_sealed_since(&server, "tried again by itself").await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("its end");
    eventually("an open vault", async || {
        (health(&server).await.1 == "open").then_some(())
    })
    .await;
    opens(&server).await;
    no_key_file(&server);
}

/// A session bus with a keychain on it.
struct Keychain {
    bus: Child,
    home: TempDir,
    address: String,
}

impl Keychain {
    fn start() -> Self {
        let home = TempDir::new().expect("a folder");
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .env("XDG_RUNTIME_DIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect(INSTALL);
        let mut address = String::new();
        let mut out = BufReader::new(bus.stdout.take().expect("its output"));
        out.read_line(&mut address).expect("an address");
        let keychain = Self {
            bus,
            home,
            address: address.trim().to_owned(),
        };
        keychain.unlock();
        keychain
    }

    fn env(&self) -> Vec<(String, String)> {
        let runtime = self.home.path().display().to_string();
        vec![
            ("DBUS_SESSION_BUS_ADDRESS".to_owned(), self.address.clone()),
            ("XDG_RUNTIME_DIR".to_owned(), runtime),
        ]
    }

    fn unlock(&self) {
        let mut daemon = Command::new("gnome-keyring-daemon")
            .args(["--replace", "--unlock", "--components=secrets"])
            .envs(self.env())
            .env("HOME", self.home.path())
            .env_remove("DISPLAY")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(INSTALL);
        let mut input = daemon.stdin.take().expect("its input");
        input.write_all(b"password").expect("a password");
        drop(input);
        assert!(daemon.wait().expect("its end").success());
    }

    fn lock(&self) {
        let done = Command::new("dbus-send")
            .args(["--session", "--print-reply"])
            .args(["--dest=org.freedesktop.secrets", "/org/freedesktop/secrets"])
            .arg("org.freedesktop.Secret.Service.Lock")
            .arg("array:objpath:/org/freedesktop/secrets/collection/login")
            .envs(self.env())
            .output()
            .expect(INSTALL);
        assert!(done.status.success(), "{done:?}");
    }

    fn setup(&self) -> Setup {
        let mut env = self.env();
        env.push(("SKEP_SEAL_KEYCHAIN".to_owned(), "vault".to_owned()));
        Setup {
            env,
            ..Setup::default()
        }
    }

    /// A command of somebody with this keychain.
    fn skep(&self, server: &Server, args: &[&str]) -> Said {
        let mut command = command(server, args);
        command.envs(self.env());
        said(command)
    }
}

impl Drop for Keychain {
    fn drop(&mut self) {
        // The keychain ends with its bus.
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keychain_holds_the_key_of_a_server() {
    let keychain = Keychain::start();
    let mut server = Server::start_with(keychain.setup()).await;
    no_key_file(&server);
    create(&server, "stripe", "one").await;
    opens(&server).await;
    assert!(server.terminate());
    keychain.lock();
    server.restart_as_it_was().await;
    is_sealed_since(&server, "it is locked").await;
    keychain.unlock();
    good(&server, &["vault", "unseal", "--configured"]);
    opens(&server).await;
    // A machine without a desktop: it starts all the same, says why, and asks nothing.
    assert!(server.terminate());
    server
        .restart_with(Setup {
            env: vec![("SKEP_SEAL_KEYCHAIN".to_owned(), "vault".to_owned())],
            ..Setup::default()
        })
        .await;
    is_sealed_since(&server, "there is no session bus").await;
    no_key_file(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keychain_holds_the_key_of_who_unseals() {
    let keychain = Keychain::start();
    let server = Server::start().await;
    create(&server, "stripe", "one").await;
    let add = ["vault", "seals", "add", "laptop", "--keychain", "mine"];
    let added = keychain.skep(&server, &add);
    assert_eq!(added.code, Some(0), "{}", added.err);
    assert!(!added.out.contains("skep_seal_"), "{}", added.out);
    // The key of before is not written over, and no seal is made that nobody has the key of.
    let twice = keychain.skep(&server, &add);
    assert!(
        twice.err.contains("has an entry `mine` already"),
        "{}",
        twice.err
    );
    let without = skep(&server, &add);
    assert!(without.err.contains("no session bus"), "{}", without.err);
    let seals = server.client.get("/api/v1/vault").await.json();
    assert_eq!(seals["seals"].as_array().map(Vec::len), Some(2), "{seals}");
    good(&server, &["vault", "seals", "remove", "1", "--yes"]);
    good(&server, &["vault", "seal", "--yes"]);
    let other = keychain.skep(&server, &["vault", "unseal", "--keychain", "other"]);
    assert_eq!(other.code, Some(4), "{}", other.err);
    assert!(other.err.contains("secret-tool store"), "{}", other.err);
    let opened = keychain.skep(&server, &["vault", "unseal", "--keychain", "mine"]);
    assert_eq!(opened.code, Some(0), "{}", opened.err);
    opens(&server).await;
}

/// A lock file, whose owner's passphrase lies in a keychain, beside a server.
struct Locks {
    keychain: Keychain,
    server: Server,
    folder: TempDir,
    file: String,
}

/// The command that the tests of a lock look with.
const GET: [&str; 3] = ["lock", "get", "personality/prompt"];
/// Where its owner's passphrase lies.
const OWN: [&str; 2] = ["--passphrase-from", "keychain:support"];
/// Where another recipient's lies.
const OTHER: [&str; 2] = ["--passphrase-from", "vault:locks/support"];

impl Locks {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let locks = Self {
            keychain: Keychain::start(),
            server: Server::start().await,
            file: folder.path().join("agent.lock").display().to_string(),
            folder,
        };
        create(&locks.server, "locks/support", "correct horse battery").await;
        let made = ["--new-passphrase-from", "keychain:support"];
        locks.good(&["lock", "init", "support"], &made);
        let value = locks.write("value", "be kind");
        let set = ["lock", "set", "personality/prompt"];
        locks.good(&set, &[&OWN[..], &["--from-file", &value]].concat());
        let share = [&OWN[..], &["--new-passphrase-from", "vault:locks/support"]].concat();
        locks.good(&["lock", "share", "ops"], &share);
        locks
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn run(&self, args: &[&str], more: &[&str]) -> Said {
        let all = [args, &["--file", &self.file], more].concat();
        self.keychain.skep(&self.server, &all)
    }

    fn good(&self, args: &[&str], more: &[&str]) -> String {
        let said = self.run(args, more);
        assert_eq!(said.code, Some(0), "{args:?} {more:?}: {}", said.err);
        said.out
    }

    fn bad(&self, code: i32, more: &[&str], why: &str) {
        let said = self.run(&GET, more);
        assert_eq!(said.code, Some(code), "{more:?}: {}", said.err);
        assert!(said.err.contains(why), "{}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_opens_with_what_lies_in_a_keychain_or_in_the_vault() {
    let locks = Locks::new().await;
    let made = Command::new("age-keygen").output().expect(INSTALL);
    let identity = String::from_utf8(made.stdout).expect("text");
    let mut words = identity.split_whitespace();
    let bob = words.find(|it| it.starts_with("age1"));
    let bob = bob.expect("a recipient").to_owned();
    create(&locks.server, "locks/bob", &identity).await;
    let share = [&OWN[..], &["--age", &bob]].concat();
    locks.good(&["lock", "share", "bob"], &share);
    assert_eq!(locks.good(&GET, &OWN), "be kind");
    assert_eq!(locks.good(&GET, &OTHER), "be kind");
    let with = ["--identity-from", "vault:locks/bob"];
    assert_eq!(locks.good(&GET, &with), "be kind");
    // Each look into the vault is written down, with the file that it was for.
    let log = serde_json::to_string(&crate::audit::whole(&locks.server)).expect("JSON");
    assert!(log.contains(&format!("opens {}", locks.file)), "{log}");
    assert!(!log.contains("horse"), "{log}");
    // The settings name it for everybody who has this folder; a flag counts before them.
    locks.write(
        "backpack.toml",
        "[lock]\npassphrase_from = \"keychain:support\"\n",
    );
    assert_eq!(locks.good(&GET, &[]), "be kind");
    assert_eq!(locks.good(&GET, &OTHER), "be kind");
    let wrong = locks.write("words", "another passphrase");
    let flag = ["--passphrase-file", wrong.as_str()];
    locks.bad(4, &flag, "`skep lock show` says who opens it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_has_no_key_for_a_lock_says_so() {
    let locks = Locks::new().await;
    let value = locks.write("words", "another passphrase");
    let from = "--passphrase-from";
    locks.bad(4, &[from, "keychain:other"], "has no entry `other`");
    locks.bad(1, &[from, "vault:none"], "there is no secret");
    locks.bad(2, &[from, "file:x"], "write keychain:NAME");
    let no_identity = ["--identity-from", "vault:locks/support"];
    locks.bad(1, &no_identity, "no identity of age");
    let two = [&OWN[..], &["--passphrase-file", &value]].concat();
    locks.bad(2, &two, "with one of them");
    locks.keychain.lock();
    let asks_nobody = [&OWN[..], &["--no-input"]].concat();
    locks.bad(1, &asks_nobody, "it is locked");
    create(&locks.server, "locks/other", "not their passphrase").await;
    locks.bad(4, &[from, "vault:locks/other"], "skep lock show");
}
