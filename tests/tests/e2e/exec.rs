//! Commands in an agent's box: what goes in and out, that it is the agent's own box, and that
//! nothing of them stays.

use std::io::Write;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use skep_tests::{Server, Setup, Terminal, agent_binary, eventually};

use crate::cli::{command, skep};

/// A line of `/proc/self/status`, without spaces.
const WALLS: &str = "grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/$1/status | tr -d '\\t'";

async fn server() -> Server {
    let server = Server::start().await;
    let spec = json!({
        "name": "a", "command": [agent_binary()], "env": { "OWN": "a b" },
        "resources": { "memory": "256MiB", "open_files": 100 }, "stop_grace": "1s",
    });
    server.deploy_spec(spec).await;
    server
}

fn sh(server: &Server, line: &str) -> crate::cli::Said {
    skep(server, &["exec", "a", "--", "sh", "-c", line])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_says_what_it_says() {
    let server = server().await;
    let said = sh(&server, "echo out; echo err >&2; exit 7");
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(7), "out", "err")
    );
    assert_eq!(sh(&server, "kill -9 $$").code, Some(137));
    let missing = skep(&server, &["exec", "a", "--", "nosuch"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.err.contains("command not found: nosuch"),
        "{}",
        missing.err
    );
    assert_eq!(
        skep(&server, &["exec", "a", "--instance", "ins_1", "--", "ls"]).code,
        Some(1)
    );
    assert_eq!(
        skep(&server, &["exec", "a", "-t", "--", "ls"]).code,
        Some(2)
    );
    assert_eq!(skep(&server, &["exec", "a"]).code, Some(2));

    let mut child = command(&server, &["exec", "a", "--", "sh", "-c", "wc -c; echo end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut input = child.stdin.take().expect("a pipe");
    input
        .write_all(&vec![b'x'; 3_000_000])
        .expect("it is taken");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3000000\nend\n");
    let long = command(
        &server,
        &["exec", "a", "--", "head", "-c", "3000000", "/dev/zero"],
    );
    let mut long = long;
    assert_eq!(long.output().expect("an end").stdout.len(), 3_000_000);

    let events = server.client.get("/api/v1/events?type=exec").await.json();
    let first = &events["items"][0];
    assert_eq!(
        (
            &first["type"],
            first["by"].as_str().map(|by| by.starts_with("key_"))
        ),
        (&json!("exec.started"), Some(true))
    );
    assert_eq!(first["detail"], "sh -c echo out; echo err >&2; exit 7");
    let ended = &events["items"][1];
    assert_eq!(
        ended["detail"],
        "sh -c echo out; echo err >&2; exit 7: status 7"
    );
    assert!(server.log().contains("exec.started"), "it is logged too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_in_the_agents_box_and_not_out_of_it() {
    let mut server = server().await;
    for round in ["started", "adopted"] {
        let agent = server.agent("a").await;
        let pid = agent["instance"]["pid"].to_string();
        let id = agent["instance"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let same = |of: &str| {
            let line = |pid: &str| {
                let output = std::process::Command::new("sh")
                    .args(["-c", of, "sh", pid])
                    .output();
                String::from_utf8_lossy(&output.expect("sh runs").stdout).into_owned()
            };
            let inside = skep(&server, &["exec", "a", "--", "sh", "-c", of, "sh", "self"]);
            (inside.out, line(&pid).trim().to_owned())
        };
        let (inside, outside) = same(WALLS);
        assert_eq!(inside, outside, "{round}");
        assert!(
            inside.contains("NoNewPrivs:1") && inside.contains("Seccomp:2"),
            "{inside}"
        );
        let (inside, outside) = same("cat /proc/$1/cgroup");
        assert_eq!(inside, outside, "{round}");
        let home = server.home("a").display().to_string();
        let env = sh(&server, "echo $OWN/$SKEP_INSTANCE/$HOME; pwd; ulimit -n");
        assert_eq!(env.out, format!("a b/{id}/{home}\n{home}\n100"), "{round}");
        // What the agent may not see, its guest may not either; it is the agent by its token.
        let key = server.data().join("admin.key").display().to_string();
        for line in [
            format!("cat {key}"),
            "cat /etc/shadow".to_owned(),
            "echo x > /etc/x".to_owned(),
        ] {
            let denied = sh(&server, &line);
            assert_ne!(denied.code, Some(0), "{round}: {line}: {}", denied.out);
        }
        let key = sh(&server, "cat /proc/$PPID/environ; env");
        let own = key.out.replace("skep_token_", "its own token: ");
        assert!(!own.contains("skep_"), "{own}");
        // Files that it makes are the agent's.
        assert_eq!(
            sh(&server, "echo here > $HOME/made; echo tmp > $TMPDIR/made").code,
            Some(0)
        );
        assert!(server.home("a").join("made").is_file());
        server.kill();
        server.restart().await;
        server.wait_state("a", "ready").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_keys_a_size_and_ctrl_c() {
    let server = server().await;
    let exec = ["exec", "a", "-t", "--", "sh", "-c"];
    let line = "stty size; trap 'stty size' WINCH; trap 'echo caught; exit 3' INT; \
                echo up; while :; do read -r got && echo \"<$got>\"; done";
    let mut screen = Terminal::run(command(&server, &[&exec[..], &[line]].concat()), 91, 33);
    screen.shows("33 91\r\n");
    screen.shows("up\r\n");
    screen.press("typed\r");
    screen.shows("<typed>\r\n");
    screen.resize(100, 40);
    screen.press("\r");
    screen.shows("40 100\r\n");
    // The key reaches the command, not the program in between.
    screen.press("\x03");
    screen.shows("caught\r\n");
    let (code, _, same) = screen.ends();
    assert_eq!((code, same), (Some(3), true), "the terminal is as it was");

    // It is as it was also when the program in between is told to end.
    let mut screen = Terminal::run(
        command(&server, &[&exec[..], &["echo up; sleep 1000"]].concat()),
        80,
        24,
    );
    screen.shows("up\r\n");
    screen.signal(Signal::HUP);
    let (code, _, same) = screen.ends();
    assert_eq!((code, same), (Some(130), true));
    gone(&server, "sleep 1000").await;
}

/// Processes of the server's agents with such a command line.
fn there(server: &Server, line: &str) -> usize {
    let marker = format!("SKEP_URL={}", server.client.url);
    let all = std::fs::read_dir("/proc").expect("processes");
    let fits = |entry: &std::fs::DirEntry| {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        words.trim_end() == line && String::from_utf8_lossy(&read("environ")).contains(&marker)
    };
    all.flatten().filter(fits).count()
}

async fn gone(server: &Server, line: &str) {
    eventually(&format!("the end of `{line}`"), async || {
        (there(server, line) == 0).then_some(())
    })
    .await;
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), signal).expect("a signal");
}

/// A command that runs and left something behind already.
async fn lingering(server: &Server, agent: &str) -> Child {
    let line = "trap '' HUP; (setsid sleep 4242 &) ; sleep 4243";
    let child = command(server, &["exec", agent, "--", "sh", "-c", line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    eventually("both", async || {
        let both = there(server, "sleep 4242") == 1 && there(server, "sleep 4243") == 1;
        both.then_some(())
    })
    .await;
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_command_stays() {
    let mut server = server().await;
    // Its client is gone.
    let mut child = lingering(&server, "a").await;
    signal(&child, Signal::KILL);
    child.wait().expect("an end");
    gone(&server, "sleep 4243").await;
    gone(&server, "sleep 4242").await;
    // Ctrl-C reaches it.
    let mut child = lingering(&server, "a").await;
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    gone(&server, "sleep 4242").await;
    // Its instance has ended; what is told as ended has ended.
    let mut child = lingering(&server, "a").await;
    server.client.post("/api/v1/agents/a/stop", "").await;
    server.wait_state("a", "stopped").await;
    assert_eq!(
        there(&server, "sleep 4242") + there(&server, "sleep 4243"),
        0
    );
    assert_ne!(child.wait().expect("an end").code(), Some(0));
    let stopped = sh(&server, "true");
    assert!(
        stopped.err.contains("no instance of `a` runs"),
        "{}",
        stopped.err
    );
    // The server is killed.
    server.client.post("/api/v1/agents/a/start", "").await;
    server.wait_state("a", "ready").await;
    let mut child = lingering(&server, "a").await;
    server.kill();
    gone(&server, "sleep 4243").await;
    gone(&server, "sleep 4242").await;
    assert_eq!(child.wait().expect("an end").code(), Some(1));
    // The server ends as it should, and does not wait for it.
    server.restart().await;
    server.wait_state("a", "ready").await;
    let mut child = lingering(&server, "a").await;
    assert!(server.terminate());
    gone(&server, "sleep 4242").await;
    assert_eq!(child.wait().expect("an end").code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_without_control_groups_either() {
    let mut server = Server::start().await;
    let spec = json!({
        "name": "b", "command": [agent_binary()], "sandbox": "off", "stop_grace": "1s",
    });
    server.deploy_spec(spec).await;
    let mut child = lingering(&server, "b").await;
    server.client.post("/api/v1/agents/b/stop", "").await;
    server.wait_state("b", "stopped").await;
    assert_eq!(
        there(&server, "sleep 4242") + there(&server, "sleep 4243"),
        0
    );
    child.wait().expect("an end");
    server.client.post("/api/v1/agents/b/start", "").await;
    server.wait_state("b", "ready").await;
    let mut child = lingering(&server, "b").await;
    server.kill();
    gone(&server, "sleep 4242").await;
    gone(&server, "sleep 4243").await;
    child.wait().expect("an end");
    // Its agent lives on, and ends with the next server.
    server.restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_may_be_so_many_and_no_more() {
    const MOST: usize = 32;
    let server = server().await;
    let mut children = Vec::new();
    for _ in 0..MOST {
        let child = command(&server, &["exec", "a", "--", "sleep", "5151"]).spawn();
        children.push(child.expect("the binary runs"));
    }
    eventually("all of them", async || {
        (there(&server, "sleep 5151") == MOST).then_some(())
    })
    .await;
    let refused = sh(&server, "true");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("wait for one to end"),
        "{}",
        refused.err
    );
    for child in &mut children {
        child.kill().expect("a child");
        child.wait().expect("an end");
    }
    eventually("a place", async || {
        (sh(&server, "true").code == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_turned_off_and_wants_its_protocol() {
    let off = Setup {
        env: vec![("SKEP_EXEC_ENABLED".to_owned(), "false".to_owned())],
        ..Setup::default()
    };
    let server = Server::start_with(off).await;
    server.deploy("a", json!({})).await;
    let refused = sh(&server, "true");
    assert_eq!(refused.code, Some(4));
    assert!(refused.err.contains("exec.enabled"), "{}", refused.err);
    let on = Server::start().await;
    on.deploy("a", json!({})).await;
    let plain = on.client.post("/api/v1/agents/a/exec", "").await;
    assert_eq!((plain.status, plain.code().as_str()), (400, "bad-request"));
    let unknown: Value = on
        .client
        .post("/api/v1/agents/nobody/exec", "")
        .await
        .json();
    assert_eq!(unknown["status"], 400, "{unknown}");
}
