//! What an `agent.lock` is used for: edited, exported and imported, run with, made of an older one, shared in
//! a team.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use skep_tests::server::skep_binary;
use skep_tests::terminal::Terminal;

use super::lock::{Place, TOKEN, finished, text};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const ADA: [&str; 2] = ["--passphrase-file", "ada"];

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "no {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

impl Place {
    /// A script that can be started.
    fn script(&self, name: &str, text: &str) -> String {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        let path = self.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
        path.to_str().expect("its path").to_owned()
    }

    /// `skep lock edit` with an editor.
    fn edit(&self, what: &str, editor: &str) -> Command {
        let mut command = self.skep_command(&[&["edit", what], &ADA[..]].concat());
        command.env("EDITOR", editor);
        command
    }

    fn ada(&self, words: &[&str]) -> String {
        self.good(&[words, &ADA].concat(), "")
    }

    fn ada_in_terminal(&self, words: &[&str]) -> Terminal {
        Terminal::run(self.skep_command(&[words, &ADA].concat()), 200, 40)
    }
}

#[test]
fn what_is_edited_lies_in_memory_for_its_owner_alone_and_is_gone_afterwards() {
    let place = Place::filled();
    let editor = place.script(
        "editor",
        "stat -c %a \"$1\" \"$(dirname \"$1\")\" > seen\n\
         stat -f -c %T \"$1\" >> seen; echo \"$1\" >> seen; cat \"$1\" >> seen\n\
         cp \"$1\" \"$1~\"; printf 'Be brief.\\n' > \"$1\"",
    );
    let editor = format!("cd {}; {editor}", place.folder.path().display());
    let output = finished(&mut place.edit("personality/prompt", &editor), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let seen = fs::read_to_string(place.path("seen")).expect("what the editor saw");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..3], ["600", "700", "tmpfs"]);
    assert_eq!(lines[4..], ["Be kind."]);
    let folder = PathBuf::from(lines[3]);
    let folder = folder.parent().expect("its folder");
    assert!(!folder.exists(), "nothing of it is left");
    assert_eq!(place.ada(&["get", "personality/prompt"]), "Be brief.");

    let before = place.lock();
    let output = finished(&mut place.edit("memory", "true"), "");
    assert!(text(&output.stdout).contains("Nothing was changed"));
    let output = finished(&mut place.edit("memory", "false"), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the editor ended with exit status: 1"));
    let output = finished(&mut place.edit("memory", "printf '{,' >"), "");
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("line 1, column 2") && told.contains("nothing was written"),
        "{told}"
    );
    let output = finished(&mut place.edit("credentials", "printf '{\"A\": 1}' >"), "");
    assert!(text(&output.stderr).contains("a credential is a text"));
    assert_eq!(place.lock(), before);
    let output = finished(&mut place.edit("memory", "printf '{\"n\": [2.5]}' >"), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let memory: Value = serde_json::from_str(&place.ada(&["get", "memory"])).expect("JSON");
    assert_eq!(memory, json!({"n": [2.5]}));
}

#[test]
fn a_signal_while_it_is_edited_leaves_nothing_behind() {
    let place = Place::filled();
    let before = place.lock();
    let editor = place.script(
        "editor",
        "echo \"$1\" > where.new; mv where.new where; exec sleep 600",
    );
    let editor = format!("cd {}; exec {editor}", place.folder.path().display());
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let _ = fs::remove_file(place.path("where"));
        let mut command = place.edit("credentials", &editor);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let file = wait("editor", || fs::read_to_string(place.path("where")).ok());
        let file = PathBuf::from(file.trim());
        assert!(fs::read_to_string(&file).expect("the file").contains(TOKEN));
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).expect("it is told");
        let status = wait("end", || child.try_wait().expect("a child"));
        assert_eq!(status.code(), Some(code));
        assert!(!file.parent().expect("its folder").exists());
        assert_eq!(place.lock(), before);
    }
}

#[test]
fn who_wrote_something_wrong_goes_back_to_it() {
    let place = Place::filled();
    let editor = place.script(
        "editor",
        "if grep -q lost \"$1\"; then printf '{\"kept\": true}' > \"$1\"; else printf '{\"lost\":' > \"$1\"; fi",
    );
    let mut command = place.edit("memory", &editor);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::run(command, 120, 40);
    let told = terminal.shows("Back to the editor? [Y/n] ");
    assert!(told.contains("It cannot be written: line 1"), "{told}");
    terminal.press("y\n");
    let (code, told, _) = terminal.ends();
    assert_eq!(code, Some(0), "{told}");
    assert!(place.ada(&["get", "memory"]).contains("\"kept\": true"));
    let mut terminal = Terminal::run(place.edit("memory", "printf x >"), 120, 40);
    terminal.shows("Back to the editor? [Y/n] ");
    terminal.press("n\n");
    assert_eq!(terminal.ends().0, Some(3));
    assert!(place.ada(&["get", "memory"]).contains("\"kept\": true"));
}

#[expect(clippy::too_many_lines, reason = "one history of two files")]
#[test]
fn what_is_exported_is_imported_whole_or_not_at_all() {
    let place = Place::filled();
    place.ada(&[
        "export",
        "credentials",
        "personality/prompt",
        "memory",
        "--to",
        "a.yaml",
    ]);
    let mode = fs::metadata(place.path("a.yaml"))
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = place.bad(
        1,
        &[&["export", "memory", "--to", "a.yaml"], &ADA[..]].concat(),
        "",
    );
    assert!(told.contains("it is there already"), "{told}");
    place.ada(&["export", "credentials", "--to", "x.env"]);
    assert_eq!(
        fs::read_to_string(place.path("x.env")).expect("a file"),
        format!("TOKEN={TOKEN}\n")
    );
    place.ada(&[
        "export", "memory", "--to", "x.env", "--form", "json", "--force",
    ]);
    let told = place.bad(
        2,
        &[&["export", "memory", "--form", "env"], &ADA[..]].concat(),
        "",
    );
    assert!(told.contains(".env holds credentials only"), "{told}");
    let open: Value = serde_json::from_str(&place.ada(&["export", "memory"])).expect("JSON");
    assert_eq!(
        open,
        json!({"memory": {"facts": {"known": [1, 2.5, null]}}})
    );

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
    let import = |words: &[&str], input: &str| {
        place.skep(
            &[&["import", "--file", "o.lock"], words, &ADA].concat(),
            input,
        )
    };
    let other = || fs::read_to_string(place.path("o.lock")).expect("the file");
    let empty = other();
    let dry = import(&["a.yaml", "--dry-run", "-o", "json"], "");
    let all: Value = serde_json::from_slice(&dry.stdout).expect("JSON");
    assert_eq!(
        all[0],
        json!({"entry": "credentials/TOKEN", "change": "new"})
    );
    assert_eq!(other(), empty);
    assert!(import(&["a.yaml"], "").status.success());
    let got = place.good(
        &[
            &[
                "export",
                "credentials",
                "personality",
                "memory",
                "--file",
                "o.lock",
            ],
            &ADA[..],
        ]
        .concat(),
        "",
    );
    let got: Value = serde_json::from_str(&got).expect("JSON");
    assert_eq!(got["credentials"], json!({"TOKEN": TOKEN}));
    assert_eq!(got["memory"], open["memory"]);
    let full = other();
    // One that is new, one in conflict, one that cannot be: nothing is written.
    let env = "NEW=1\nTOKEN=canary-other\n";
    let refused = import(&["-", "--form", "env"], env);
    let told = text(&refused.stderr);
    assert!(
        told.contains("other values for credentials/TOKEN"),
        "{told}"
    );
    assert!(!told.contains("canary"), "{told}");
    let wrong = "memory: {\"a\": 1}\ncredentials: {\"EMPTY\": \"\"}\n";
    assert_eq!(
        import(&["-", "--form", "yaml"], wrong).status.code(),
        Some(1)
    );
    assert_eq!(other(), full);
    assert!(
        import(&["-", "--form", "env", "--keep"], env)
            .status
            .success()
    );
    let got = |entry| {
        place.good(
            &[&["get", entry, "--file", "o.lock"], &ADA[..]].concat(),
            "",
        )
    };
    assert_eq!(
        (got("credentials/TOKEN"), got("credentials/NEW")),
        (TOKEN.to_owned(), "1".to_owned())
    );
    assert!(
        import(&["-", "--form", "env", "--replace"], env)
            .status
            .success()
    );
    assert_eq!(got("credentials/TOKEN"), "canary-other");

    let mut terminal = place.ada_in_terminal(&["export", "credentials"]);
    let told = terminal.shows("in the open. [y/N] ");
    assert!(!told.contains(TOKEN));
    terminal.press("n\n");
    let (code, told, _) = terminal.ends();
    assert_eq!(code, Some(3));
    assert!(!told.contains(TOKEN), "{told}");
}

/// Makes a file as the older program does, by the library that it used.
const OLDER: &str = r#"
import base64, json, os, sys
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

def sealed(value):
    salt = os.urandom(16)
    kdf = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=100000)
    key = base64.urlsafe_b64encode(kdf.derive(sys.argv[1].encode()))
    token = Fernet(key).encrypt(json.dumps(value).encode())
    return {"data": base64.b64encode(token).decode(), "salt": base64.b64encode(salt).decode()}

layers = {
    "credentials": {"TOKEN": "canary-91b2", "KEY": "placeholder_key", "EMPTY": ""},
    "personality": {"system_prompt": "Be kind.", "tone": "professional"},
    "memory": {"facts": [1, 2.5, None]},
}
with open(sys.argv[2], "w") as file:
    json.dump({"version": "1.0", "layers": {name: sealed(it) for name, it in layers.items()}}, file, indent=2)
"#;

#[expect(clippy::too_many_lines, reason = "one older file after the other")]
#[test]
fn a_file_of_the_older_program_is_migrated_under_new_keys() {
    let place = Place::new();
    let older = |key: &str, file: &str| {
        let made = place.run("python3", &["-c", OLDER, key, file], "");
        assert!(made.status.success(), "{}", text(&made.stderr));
    };
    older("hunter2", "v1.lock");
    let told = place.bad(1, &["show", "--file", "v1.lock"], "");
    assert!(
        told.contains("version 1") && told.contains("skep lock migrate"),
        "{told}"
    );
    let words = [
        "migrate",
        "demo",
        "--from",
        "v1.lock",
        "--file",
        "agent.lock",
        "--new-passphrase-file",
        "ada",
    ];
    let migrate = |key: Option<&str>| {
        let mut command = place.skep_command(&words);
        if let Some(key) = key {
            command.env("AGENT_MASTER_KEY", key);
        }
        finished(&mut command, "")
    };
    for wrong in [None, Some("hunter3")] {
        let refused = migrate(wrong);
        assert_eq!(refused.status.code(), Some(4));
        assert!(text(&refused.stderr).contains("the older password is wrong"));
    }
    let made = migrate(Some("hunter2"));
    let told = text(&made.stderr);
    assert!(made.status.success(), "{told}");
    assert!(
        told.contains("empty: EMPTY.") && told.contains("keychain: KEY."),
        "{told}"
    );
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(place.ada(&["get", "credentials/TOKEN"]), TOKEN);
    assert_eq!(place.ada(&["get", "personality/system_prompt"]), "Be kind.");
    let memory: Value = serde_json::from_str(&place.ada(&["get", "memory"])).expect("JSON");
    assert_eq!(memory, json!({"facts": [1, 2.5, null]}));

    // In its place, of a file that everybody could open.
    older("default-key", "open.lock");
    let before = fs::read_to_string(place.path("open.lock")).expect("the file");
    let told = place.bad(2, &["migrate", "demo", "--from", "open.lock"], "");
    assert!(
        told.contains("warning: ") && told.contains("nobody is there to ask"),
        "{told}"
    );
    assert_eq!(
        fs::read_to_string(place.path("open.lock")).expect("the file"),
        before
    );
    let age = place.age("bob.key");
    let made = place.skep(
        &["migrate", "demo", "--from", "open.lock", "--age", &age],
        "",
    );
    let told = text(&made.stderr);
    assert!(
        made.status.success() && told.contains("opens with `default-key`"),
        "{told}"
    );
    let got = [
        "get",
        "credentials/TOKEN",
        "--file",
        "open.lock",
        "--identity",
        "bob.key",
    ];
    assert_eq!(place.good(&got, ""), TOKEN);
    assert_eq!(
        fs::read_to_string(place.path("open.lock.v1")).expect("the older"),
        before
    );
    let told = place.bad(
        1,
        &["migrate", "demo", "--from", "open.lock", "--age", &age],
        "",
    );
    assert!(told.contains("need not be migrated"), "{told}");
}

#[test]
fn a_program_gets_its_credentials_and_its_end_is_its_own() {
    let place = Place::filled();
    let run = |words: &[&str], command: &[&str]| {
        place.skep(&[&["run"], &ADA[..], words, &["--"], command].concat(), "")
    };
    let is = format!("test \"$TOKEN\" = {TOKEN} && exit 7");
    let refused = run(&[], &["sh", "-c", &is]);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(
        told.contains("nobody has allowed TOKEN") && told.contains("--allow TOKEN"),
        "{told}"
    );
    assert_eq!(run(&["--yes"], &["sh", "-c", &is]).status.code(), Some(4));
    let allow = ["--allow", "TOKEN"];
    assert_eq!(run(&allow, &["sh", "-c", &is]).status.code(), Some(7));
    let other = ["--credential", "TOKEN=API_KEY", "--allow", "TOKEN"];
    let ran = run(
        &other,
        &["sh", "-c", "echo $API_KEY-$TOKEN-$1", "sh", "two words"],
    );
    assert_eq!(text(&ran.stdout), format!("{TOKEN}--two words\n"));
    let ended = run(&allow, &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(ended.status.signal(), Some(15));
    let none = run(&["--credential", "NONE", "--allow", "NONE"], &["true"]);
    assert!(text(&none.stderr).contains("There are: TOKEN."));
    let none = run(&allow, &["no-such-program"]);
    assert!(text(&none.stderr).contains("there is no program"));
    let reads = "import json, os\n\
         assert 'TOKEN' not in os.environ and 'SKEP_LOCK_PASSPHRASE_FILE' not in os.environ\n\
         fd = int(os.environ['SKEP_CREDENTIALS_FD'])\n\
         print(json.loads(open(fd).read())['TOKEN'])";
    let mut command = place.skep_command(&[
        "run", "--fd", "--allow", "TOKEN", "--", "python3", "-c", reads,
    ]);
    command.env("SKEP_LOCK_PASSPHRASE_FILE", "ada");
    let ran = finished(&mut command, "");
    assert_eq!(
        text(&ran.stdout),
        format!("{TOKEN}\n"),
        "{}",
        text(&ran.stderr)
    );
}

/// Runs a test again as the leader of a session, unless it is one; says whether it did. Whoever started the tests
/// may be outside of their container, and nothing can be known of such a session.
fn again_in_a_session(test: &str) -> bool {
    let own = fs::read_to_string("/proc/self/stat").expect("what the kernel knows of us");
    let session = own.rsplit_once(')').and_then(|it| it.1.split(' ').nth(4));
    if session == Some(&std::process::id().to_string()) {
        return false;
    }
    let this = std::env::current_exe().expect("this program");
    let mut again = Command::new("setsid");
    again
        .arg("-w")
        .arg(this)
        .args(["--exact", test, "--nocapture"]);
    assert!(again.status().expect("it runs").success());
    true
}

#[test]
fn a_yes_is_for_one_secret_and_one_command_as_it_is() {
    if again_in_a_session("lock_use::a_yes_is_for_one_secret_and_one_command_as_it_is") {
        return;
    }
    let place = Place::filled();
    place.good(&[&["set", "credentials/OTHER"], &ADA[..]].concat(), "x");
    let agent = place.script("agent", "echo got ${#TOKEN} ${#OTHER}");
    let run: Vec<&str> = [&["run"], &ADA[..], &["--", &agent]].concat();
    let started = || place.skep(&run, "");
    let asked = |answers: &[&str]| {
        let mut terminal = Terminal::run(place.skep_command(&run), 200, 40);
        for answer in answers {
            terminal.shows("[d]eny it? ");
            terminal.press(&format!("{answer}\n"));
        }
        terminal.ends()
    };
    let (code, told, _) = asked(&["o", "d"]);
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.contains("TOKEN is denied; nothing was started"),
        "{told}"
    );
    assert!(!told.contains("got"), "{told}");
    let (code, told, _) = asked(&["what?", "a", "s"]);
    assert!(code == Some(0) && told.contains("got 1"), "{told}");
    // OTHER is allowed always, TOKEN for this session, which is the test's own.
    assert_eq!(text(&started().stdout), format!("got {} 1\n", TOKEN.len()));
    let setsid = |words: &[&str]| {
        let program = skep_binary();
        let program = program.to_str().expect("its path").to_owned();
        place.run("setsid", &[&["-w", &program, "lock"], words].concat(), "")
    };
    let elsewhere = setsid(&run);
    let told = text(&elsewhere.stderr);
    assert!(told.contains("nobody has allowed TOKEN for"), "{told}");
    let listed = place.good(&["consents", "-o", "json"], "");
    assert!(
        listed.contains("OTHER") && listed.contains("\"session\""),
        "{listed}"
    );
    // Another argument, another content, another folder: another command.
    let more: Vec<&str> = [&run[..], &["more"]].concat();
    assert_eq!(place.skep(&more, "").status.code(), Some(4));
    let mut elsewhere = place.skep_command(&run);
    fs::create_dir(place.path("sub")).expect("a folder");
    for name in ["agent.lock", "ada"] {
        symlink(place.path(name), place.path("sub").join(name)).expect("a link");
    }
    elsewhere.current_dir(place.path("sub"));
    assert_eq!(finished(&mut elsewhere, "").status.code(), Some(4));
    place.script("agent", "echo taken");
    let changed = started();
    assert_eq!(
        (changed.status.code(), text(&changed.stdout)),
        (Some(4), String::new())
    );
    place.script("agent", "echo got ${#TOKEN} ${#OTHER}");
    assert!(started().status.success());
    // An interpreter's script counts, too.
    let with = |words: &[&str]| {
        place.skep(
            &[&["run"], &ADA[..], words, &["--", "sh", &agent]].concat(),
            "",
        )
    };
    assert_eq!(with(&[]).status.code(), Some(4));
    place.good(&["consents", "--forget", "TOKEN"], "");
    assert!(text(&started().stderr).contains("nobody has allowed TOKEN for"));
    place.good(&["consents", "--forget"], "");
    assert_eq!(place.good(&["consents", "-o", "name"], ""), "");
    let state = place.run("grep", &["-r", TOKEN, "state"], "");
    assert_eq!(state.status.code(), Some(1), "no value is kept there");
}

#[test]
fn a_team_reads_or_writes_and_nobody_puts_another_writer_in() {
    let place = Place::filled();
    let bob = place.age("bob.key");
    place.ada(&["share", "bob", "--read", "--age", &bob]);
    let key = ["--identity", "bob.key"];
    let get = [&["get", "credentials/TOKEN"], &key[..]].concat();
    assert_eq!(place.good(&get, ""), TOKEN);
    for words in [
        &["set", "memory/x"][..],
        &["remove", "memory"],
        &["rotate"],
        &["unshare", "owner"],
        &["share", "eve", "--age", &bob],
        &["edit", "memory"],
    ] {
        let told = place.bad(4, &[words, &key].concat(), "x");
        assert!(told.contains("`bob` may only read"), "{words:?}: {told}");
    }
    let shown = || -> Value {
        serde_json::from_str(&place.good(&["show", "-o", "json"], "")).expect("JSON")
    };
    let first = shown()["writer"].as_str().expect("a writer").to_owned();
    assert_eq!(shown()["recipients"][0]["access"], "read");
    place.ada(&["rotate"]);
    let second = shown()["writer"].as_str().expect("a writer").to_owned();
    assert_ne!(first, second);
    for writer in [&first, &second] {
        assert_eq!(
            place.good(&[&get[..], &["--writer", writer]].concat(), ""),
            TOKEN
        );
    }
    let other = place.good(&["keygen", "--key", "k"], "");
    let told = place.bad(1, &[&get[..], &["--writer", other.trim()]].concat(), "");
    assert!(told.contains("it was not written by skepsig1_"), "{told}");
    // As if another file of this agent had been seen here: its writer is not this one's.
    let pins = place.path("state/skep/locks");
    let pin = fs::read_dir(pins)
        .expect("pins")
        .flatten()
        .map(|it| it.path());
    let pin = pin
        .filter(|it| it.extension().is_none())
        .max()
        .expect("a pin");
    let seen = fs::read_to_string(&pin).expect("a pin");
    fs::write(&pin, seen.replace(&second, other.trim())).expect("a pin");
    let told = place.bad(1, &get, "");
    assert!(
        told.contains("not written by who wrote what was seen here"),
        "{told}"
    );
    assert_eq!(
        place.good(&[&get[..], &["--writer", &second]].concat(), ""),
        TOKEN
    );
    assert_eq!(place.good(&get, ""), TOKEN);
}

#[expect(clippy::too_many_lines, reason = "one history of one project")]
#[test]
fn settings_of_the_project_say_for_whom_and_of_what_a_file_is_made() {
    let place = Place::new();
    let (ada, bob) = (place.age("ada.key"), place.age("bob.key"));
    fs::create_dir_all(place.path("project/deep")).expect("folders");
    let settings = format!(
        "[lock]\ntemplates = \"templates\"\n[[lock.recipients]]\nname = \"ada\"\nage = \"{ada}\"\n\
         [[lock.recipients]]\nname = \"bob\"\nage = \"{bob}\"\naccess = \"read\"\nlayers = [\"memory\"]\n"
    );
    place.write("project/backpack.toml", &settings);
    fs::create_dir(place.path("project/templates")).expect("a folder");
    place.write(
        "project/templates/kind.yaml",
        "personality:\n  prompt: Be kind.\n",
    );
    let at = "project/deep/agent.lock";
    let said = place.good(&["init", "demo", "--file", at, "--template", "kind"], "");
    assert!(said.contains("opens for ada, bob"), "{said}");
    let get = |words: &[&str]| place.skep(&[&["get", "--file", at], words].concat(), "");
    assert_eq!(
        text(&get(&["personality/prompt", "--identity", "ada.key"]).stdout),
        "Be kind."
    );
    assert_eq!(
        get(&["personality/prompt", "--identity", "bob.key"])
            .status
            .code(),
        Some(4)
    );
    assert_eq!(
        text(&get(&["memory", "--identity", "bob.key"]).stdout),
        "{}\n"
    );
    let told = place.bad(
        2,
        &[
            "init",
            "x",
            "--file",
            "project/x.lock",
            "--template",
            "none",
        ],
        "",
    );
    assert!(told.contains("there is no template `none`"), "{told}");
    // A variable counts before the file, a flag before both.
    let mut command = place.skep_command(&["init", "x", "--file", "project/x.lock"]);
    command.env("SKEP_LOCK_RECIPIENTS", format!("cy={bob}"));
    assert!(text(&finished(&mut command, "").stdout).contains("opens for cy."));
    let said = place.good(
        &[
            "init",
            "y",
            "--file",
            "project/y.lock",
            "--alone",
            "--age",
            &bob,
        ],
        "",
    );
    assert!(said.contains("opens for owner."), "{said}");
    place.write(
        "project/backpack.toml",
        &settings.replace("access", "acces"),
    );
    let told = place.bad(1, &["show", "--file", at], "");
    assert!(
        told.contains("backpack.toml: line 9, column 1: unknown field `acces`"),
        "{told}"
    );
    // The server's configuration may stand in the same file, and the other way round.
    fs::remove_file(place.path("project/backpack.toml")).expect("it is gone");
    place.write(
        "project/skep.toml",
        &format!("listen = \"127.0.0.1:1\"\n{settings}"),
    );
    place.good(&["show", "--file", at], "");
    let program = skep_binary();
    let program = program.to_str().expect("its path").to_owned();
    let shown = place.run(
        &program,
        &["config", "show", "--config", "project/skep.toml"],
        "",
    );
    assert!(shown.status.success(), "{}", text(&shown.stderr));
}

#[test]
fn a_link_called_bp_is_skep_lock() {
    let place = Place::filled();
    symlink(skep_binary(), place.path("bp")).expect("a link");
    let bp = |words: &[&str]| place.run("./bp", words, "");
    let get = bp(&["get", "credentials/TOKEN", "--passphrase-file", "ada"]);
    assert_eq!(text(&get.stdout), TOKEN);
    let json = bp(&["-o", "json", "show"]);
    assert!(text(&json.stdout).starts_with('{'));
    let help = text(&bp(&["--help"]).stdout);
    assert!(
        help.contains("`bp show` is `skep lock show`") && help.contains("unshare"),
        "{help}"
    );
    assert!(text(&bp(&["--version"]).stdout).starts_with("skep "));
}
