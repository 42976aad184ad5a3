//! `agent.lock` from outside: what the commands write is read by them, by a reader of another's making and,
//! for recipients of age, by `age` itself; what was changed or put back is refused.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use skep_tests::server::skep_binary;
use tempfile::TempDir;

const HORSE: &str = "correct horse battery";
const STAPLE: &str = "correct battery staple";
pub(crate) const TOKEN: &str = "canary-91b2";

/// A folder with a file and the keys of those who open it.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

pub(crate) fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

pub(crate) fn finished(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("its input");
    // What wants none may have ended.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

impl Place {
    /// A folder with Ada's passphrase in `ada` and Bob's in `bob`.
    pub(crate) fn new() -> Self {
        let place = Self {
            folder: TempDir::new().expect("a folder"),
        };
        place.write("ada", &format!("{HORSE}\n"));
        place.write("bob", &format!("{STAPLE}\n"));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
        let own = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), own).expect("its mode");
    }

    /// A command in the folder, which knows nothing of this machine's user.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("HOME", self.folder.path());
        command
    }

    pub(crate) fn run(&self, program: &str, args: &[&str], input: &str) -> Output {
        finished(&mut self.command(program, args), input)
    }

    /// `skep lock` with these words, to be started.
    pub(crate) fn skep_command(&self, args: &[&str]) -> Command {
        let program = skep_binary();
        let program = program.to_str().expect("its path");
        self.command(program, &[&["lock"], args].concat())
    }

    pub(crate) fn skep(&self, args: &[&str], input: &str) -> Output {
        finished(&mut self.skep_command(args), input)
    }

    /// What a command says that must succeed.
    pub(crate) fn good(&self, args: &[&str], input: &str) -> String {
        let output = self.skep(args, input);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// What a command says that must fail, on standard error; it says nothing else.
    pub(crate) fn bad(&self, code: i32, args: &[&str], input: &str) -> String {
        let output = self.skep(args, input);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert!(!told.contains(TOKEN), "{told}");
        told
    }

    /// A file that Ada opens, with something in each layer.
    pub(crate) fn filled() -> Self {
        let place = Self::new();
        place.good(&["init", "demo", "--new-passphrase-file", "ada"], "");
        let set = |entry: &str, input: &str, more: &[&str]| {
            let args = [&["set", entry, "--passphrase-file", "ada"], more].concat();
            place.good(&args, input);
        };
        set("credentials/TOKEN", &format!("{TOKEN}\n"), &[]);
        set("personality/prompt", "Be kind.\n", &[]);
        set("memory/facts", "{\"known\": [1, 2.5, null]}", &["--json"]);
        place
    }

    /// An identity of age in a file, and its recipient.
    pub(crate) fn age(&self, name: &str) -> String {
        let made = self.run("age-keygen", &["-o", name], "");
        assert!(made.status.success(), "{}", text(&made.stderr));
        let public = self.run("age-keygen", &["-y", name], "");
        text(&public.stdout).trim().to_owned()
    }

    pub(crate) fn lock(&self) -> String {
        fs::read_to_string(self.path("agent.lock")).expect("the file")
    }

    pub(crate) fn read_by_python(&self, key: &[&str]) -> Output {
        let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/lock/read.py");
        self.run("python3", &[&[reader, "agent.lock"], key].concat(), "")
    }
}

fn whole() -> Value {
    json!({
        "credentials": {"TOKEN": TOKEN},
        "personality": {"prompt": "Be kind."},
        "memory": {"facts": {"known": [1, 2.5, null]}},
    })
}

#[test]
fn what_is_set_is_got_and_a_wrong_key_says_so() {
    let place = Place::filled();
    let file = place.path("agent.lock");
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!place.lock().contains(TOKEN));
    let ada = ["--passphrase-file", "ada"];
    let of = |words: &[&str]| place.good(&[words, &ada].concat(), "");
    assert_eq!(of(&["get", "credentials/TOKEN"]), TOKEN);
    let memory: Value = serde_json::from_str(&of(&["get", "memory"])).expect("JSON");
    assert_eq!(memory, whole()["memory"]);
    assert!(of(&["validate"]).contains("the header and 3 of 3 layers"));
    let told = place.bad(
        4,
        &["get", "credentials/TOKEN", "--passphrase-file", "bob"],
        "",
    );
    assert!(told.contains("the key is wrong"), "{told}");
    let told = place.bad(1, &[&["get", "credentials/NONE"], &ada[..]].concat(), "");
    assert!(told.contains("There are: TOKEN."), "{told}");
    let told = place.bad(1, &[&["set", "credentials/EMPTY"], &ada[..]].concat(), "");
    assert!(told.contains("a text that is not empty"), "{told}");
    of(&["remove", "credentials/TOKEN"]);
    place.bad(1, &[&["get", "credentials/TOKEN"], &ada[..]].concat(), "");
    let told = place.bad(1, &["init", "demo", "--new-passphrase-file", "ada"], "");
    assert!(told.contains("is there already"), "{told}");
    let shown = place.good(&["show", "-o", "json"], "");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        (&shown["epoch"], &shown["root_epoch"]),
        (&json!(5), &json!(1))
    );
}

#[test]
fn another_reader_reads_the_same() {
    let place = Place::filled();
    let age = place.age("cy.key");
    let guest = place.age("dan.key");
    let ada = ["--passphrase-file", "ada"];
    let share = |words: &[&str]| place.good(&[&["share"], words, &ada].concat(), "");
    share(&["cy", "--age", &age]);
    share(&["dan", "--layer", "memory", "--read", "--age", &guest]);
    share(&["eve", "--kdf", "pbkdf2", "--new-passphrase-file", "bob"]);
    let public = place.good(&["keygen", "--key", "publisher.key"], "");
    place.good(&["sign", "--key", "publisher.key"], "");
    place.good(&["verify", "--publisher", public.trim()], "");
    let some = json!({"memory": whole()["memory"]});
    for (key, expected) in [
        (["--passphrase-file", "ada"], whole()),
        (["--passphrase-file", "bob"], whole()),
        (["--identity", "cy.key"], whole()),
        (["--identity", "dan.key"], some),
    ] {
        let read = place.read_by_python(&key);
        assert!(read.status.success(), "{key:?}: {}", text(&read.stderr));
        let read: Value = serde_json::from_slice(&read.stdout).expect("JSON");
        assert_eq!(read, expected, "{key:?}");
    }
    // The published schema says the same of its form.
    let schema = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/agent-lock.schema.json"
    );
    let check = "import json,sys,jsonschema; a,b=(json.load(open(it)) for it in sys.argv[1:]); \
                 jsonschema.Draft202012Validator(b).validate(a); b['properties'].pop('mac'); \
                 sys.exit(jsonschema.Draft202012Validator(b).is_valid(a))";
    let checked = place.run("python3", &["-c", check, "agent.lock", schema], "");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    place.write("wrong", "wrong horse battery\n");
    let read = place.read_by_python(&["--passphrase-file", "wrong"]);
    assert!(text(&read.stderr).contains("the key is wrong"));
    // It notices a change as well: the memory of a state before.
    let lock = place.lock();
    let memory = r#"{"name":"memory","epoch":4"#;
    place.write(
        "agent.lock",
        &lock.replace(memory, &memory.replace('4', "3")),
    );
    let read = place.read_by_python(&["--passphrase-file", "ada"]);
    assert!(!read.status.success() && read.stdout.is_empty());
    // A new root has another key to write with, which the first one hands on.
    place.write("agent.lock", &lock);
    let rotate = ["rotate", "--keep", "bob", "--allow-older"];
    place.good(&[&rotate[..], &ada].concat(), "");
    let read = place.read_by_python(&["--identity", "cy.key"]);
    assert!(read.status.success(), "{}", text(&read.stderr));
    let schema_check = place.run("python3", &["-c", check, "agent.lock", schema], "");
    assert!(schema_check.status.success());
    let written = place.lock();
    let (head, tail) = written.split_once("\"by\":\"").expect("what is handed on");
    let flipped = if tail.starts_with('A') { "B" } else { "A" };
    place.write(
        "agent.lock",
        &format!("{head}\"by\":\"{flipped}{}", &tail[1..]),
    );
    let read = place.read_by_python(&["--identity", "cy.key"]);
    assert!(!read.status.success() && read.stdout.is_empty());
}

fn get<'a>(key: &[&'a str]) -> Vec<&'a str> {
    [&["get", "credentials/TOKEN"], key].concat()
}

#[test]
fn who_is_shared_with_opens_it_until_unshared() {
    let place = Place::filled();
    let age = place.age("cy.key");
    let ada = ["--passphrase-file", "ada"];
    let cy = ["--identity", "cy.key"];
    let share = ["share", "cy", "--layer", "memory", "--age", &age];
    place.good(&[&share[..], &ada].concat(), "");
    let told = place.bad(4, &get(&cy), "");
    assert!(
        told.contains("does not open the layer `credentials`"),
        "{told}"
    );
    assert!(
        place
            .good(&[&["get", "memory"], &cy[..]].concat(), "")
            .contains("2.5")
    );
    let told = place.good(&[&["validate"], &cy[..]].concat(), "");
    assert!(
        told.contains("Not opened: credentials, personality."),
        "{told}"
    );
    let bob = ["share", "bob", "--new-passphrase-file", "bob"];
    place.good(&[&bob[..], &ada].concat(), "");
    let unshare = [&["unshare", "cy"], &ada[..]].concat();
    let told = place.bad(1, &unshare, "");
    assert!(
        told.contains("the passphrase of the recipient `bob` is needed"),
        "{told}"
    );
    place.good(&[&unshare[..], &["--keep", "bob"]].concat(), "");
    let told = place.bad(4, &get(&cy), "");
    assert!(
        told.contains("no recipient of this file opens with an identity"),
        "{told}"
    );
    assert_eq!(place.good(&get(&["--passphrase-file", "bob"]), ""), TOKEN);
    // A passphrase that somebody has seen opens nothing new.
    place.write("new", "a passphrase nobody saw\n");
    let rekey = ["rekey", "bob", "--new-passphrase-file", "new"];
    place.good(&[&rekey[..], &ada].concat(), "");
    place.bad(4, &get(&["--passphrase-file", "bob"]), "");
    assert_eq!(place.good(&get(&["--passphrase-file", "new"]), ""), TOKEN);
    place.good(
        &[&["unshare", "owner"], &ada[..], &["--keep", "new"]].concat(),
        "",
    );
    let told = place.bad(1, &["unshare", "bob", "--passphrase-file", "new"], "");
    assert!(told.contains("must be left"), "{told}");
}

#[test]
fn an_older_state_and_another_agent_are_refused() {
    let place = Place::filled();
    let ada = ["--passphrase-file", "ada"];
    let older = place.lock();
    place.good(&[&["set", "credentials/TOKEN"], &ada[..]].concat(), "newer");
    let newer = place.lock();
    place.write("agent.lock", &older);
    let get = [&["get", "credentials/TOKEN"], &ada[..]].concat();
    let told = place.bad(1, &get, "");
    assert!(
        told.contains("is of epoch 4, and one of epoch 5 was seen"),
        "{told}"
    );
    assert_eq!(
        place.good(&[&get[..], &["--allow-older"]].concat(), ""),
        TOKEN
    );
    place.write("agent.lock", &newer);
    assert_eq!(place.good(&get, ""), "newer");
    fs::remove_file(place.path("agent.lock")).expect("it is gone");
    place.good(
        &[
            "init",
            "other",
            "--file",
            "o.lock",
            "--new-passphrase-file",
            "ada",
        ],
        "",
    );
    fs::rename(place.path("o.lock"), place.path("agent.lock")).expect("it is there");
    let told = place.bad(1, &[&["validate"], &ada[..]].concat(), "");
    assert!(told.contains("another agent"), "{told}");
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_signatures_are_checked() {
    let place = Place::filled();
    let good = place.lock();
    let ada = ["--passphrase-file", "ada"];
    let key = place.good(&["keygen", "--key", "p.key"], "");
    let key = key.trim();
    let other = place.good(&["keygen", "--key", "q.key"], "");
    let told = place.bad(1, &["verify", "--publisher", key], "");
    assert!(told.contains("the file is not signed"), "{told}");
    place.good(&["sign", "--key", "p.key"], "");
    place.good(&["verify", "--publisher", key], "");
    let told = place.bad(1, &["verify", "--publisher", other.trim()], "");
    assert!(told.contains("signed by another publisher"), "{told}");
    let get = [&["get", "memory", "--publisher", key], &ada[..]].concat();
    place.good(&get, "");
    place.good(&[&["set", "memory/more"], &ada[..]].concat(), "x");
    let told = place.bad(1, &get, "");
    assert!(told.contains("the file is not signed"), "{told}");
    for (from, to, expected) in [
        (
            "\"epoch\":2",
            "\"epoch\":1",
            "by somebody who may not write it",
        ),
        (
            "\"epoch\":",
            "\"epochs\":",
            "line 1, column 85: unknown field `epochs`",
        ),
        (
            "\"sealed\":\"",
            "\"sealed\":\"?",
            "line 4, layer `credentials`: it is no base64",
        ),
        ("\n", "\r\n", "line 1, column"),
    ] {
        place.write("agent.lock", &good.replacen(from, to, 1));
        let told = place.bad(1, &[&["validate", "--allow-older"], &ada[..]].concat(), "");
        assert!(told.contains(expected), "{told}");
    }
}

#[expect(clippy::too_many_lines, reason = "one history of one repository")]
#[test]
fn git_shows_what_changed_and_merges_it() {
    let place = Place::filled();
    let key = format!("SKEP_LOCK_PASSPHRASE_FILE={}", place.path("ada").display());
    let git = |args: &[&str]| {
        let words = [
            &[
                key.as_str(),
                "git",
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
            ],
            args,
        ];
        place.run("env", &words.concat(), "")
    };
    let done = |args: &[&str]| {
        let output = git(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    let program = skep_binary();
    let program = program.display();
    done(&["init", "-q", "-b", "main", "."]);
    done(&[
        "config",
        "diff.agentlock.textconv",
        &format!("{program} lock diff"),
    ]);
    let driver = format!("{program} lock merge %O %A %B");
    done(&["config", "merge.agentlock.driver", &driver]);
    place.write(
        ".gitattributes",
        "agent.lock diff=agentlock merge=agentlock\n",
    );
    done(&["add", ".gitattributes", "agent.lock"]);
    done(&["commit", "-q", "-m", "first"]);
    let set = |entry: &str, value: &str| {
        let args = ["set", entry, "--passphrase-file", "ada", "--allow-older"];
        place.good(&args, value);
        done(&["commit", "-q", "-a", "-m", entry]);
    };
    done(&["checkout", "-q", "-b", "side"]);
    set("credentials/SIDE", "canary-side");
    done(&["checkout", "-q", "main"]);
    set("personality/prompt", "Be brief.");
    let shown = done(&["show", "HEAD"]);
    assert!(shown.contains("-personality/prompt: Be kind."), "{shown}");
    assert!(shown.contains("+personality/prompt: Be brief."), "{shown}");
    done(&["merge", "-q", "--no-edit", "side"]);
    let got = |entry| place.good(&["get", entry, "--passphrase-file", "ada"], "");
    assert_eq!(got("credentials/SIDE"), "canary-side");
    assert_eq!(got("personality/prompt"), "Be brief.");
    let shown = done(&["diff", "side", "HEAD"]) + &done(&["diff", "HEAD~1", "HEAD"]);
    assert!(
        shown.contains("+credentials/SIDE: hidden, mark "),
        "{shown}"
    );
    assert!(!shown.contains("canary"), "{shown}");

    done(&["checkout", "-q", "-b", "other"]);
    set("credentials/TOKEN", "one");
    done(&["checkout", "-q", "main"]);
    set("credentials/TOKEN", "two");
    let ours = place.lock();
    let merge = git(&["merge", "--no-edit", "other"]);
    let told = text(&merge.stderr);
    assert_eq!(merge.status.code(), Some(1), "{told}");
    assert!(
        told.contains("each in its own way: credentials/TOKEN"),
        "{told}"
    );
    assert_eq!(place.lock(), ours);

    let older = done(&["show", "HEAD~1:agent.lock"]);
    place.write("older.lock", &older);
    let ada = ["--passphrase-file", "ada"];
    let words = ["diff", "older.lock", "agent.lock"];
    let differs = place.skep(&[&words[..], &ada].concat(), "");
    let told = text(&differs.stdout);
    assert_eq!(differs.status.code(), Some(1), "{told}");
    assert!(
        told.contains("+ credentials/TOKEN: hidden, mark "),
        "{told}"
    );
    assert!(!told.contains("credentials/SIDE"), "the same: {told}");
    place.good(&["diff", "agent.lock", "agent.lock"], "");
    let open = place.good(&["diff", "agent.lock"], "");
    assert!(open.contains("layer credentials of epoch") && !open.contains("mark"));
}
