//! The tour of the book, as it is written: its commands in a shell, and what they print.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use skep_tests::eventually;
use skep_tests::server::skep_binary;
use tempfile::TempDir;

/// Ends what one block printed.
const END: &str = "the end of a block";

/// A fenced block: what it is said to be, and its lines.
struct Block {
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block {
                    info: info.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

fn command(home: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = skep_binary();
    let folder = folder.parent().expect("a folder").display().to_string();
    let mut command = Command::new("bash");
    command
        .env_clear()
        .env("PATH", format!("{folder}:{path}"))
        .env("HOME", home)
        // Other tests run beside this one, and each has ports of its own.
        .env("SKEP_LISTEN", "127.0.0.1:0")
        .env("SKEP_SHUTDOWN_DRAIN", "2s")
        .current_dir(home)
        .process_group(0);
    command
}

/// A shell in which the blocks run one after the other.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Shell {
    fn start(home: &Path) -> Self {
        let mut child = command(home)
            .args(["-e", "-u", "-o", "pipefail"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Self {
            child,
            stdin: stdin.expect("a pipe"),
            stdout: stdout.expect("a pipe"),
        }
    }

    /// What a block prints. Nothing of it reads what comes after it in the pipe.
    fn run(&mut self, text: &str) -> String {
        let block = format!("{{\n{text}}} < /dev/null\necho\necho '{END}'\n");
        self.stdin.write_all(block.as_bytes()).expect("it reads");
        let mut printed = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let count = self.stdout.read(&mut piece).expect("it prints");
            printed.extend_from_slice(&piece[..count]);
            let so_far = String::from_utf8_lossy(&printed);
            if let Some(whole) = so_far.strip_suffix(&format!("\n{END}\n")) {
                return whole.to_owned();
            }
            assert!(count > 0, "the shell ended in:\n{text}\nafter:\n{so_far}");
        }
    }
}

/// A terminal of its own, in which a server runs.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        // The server has its time; what it leaves goes with its group.
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line is as it is shown; `…` stands for anything.
fn is_shown(line: &str, shown: &str) -> bool {
    let mut parts = shown.trim_end().split('…');
    let Some(mut rest) = line
        .trim_end()
        .strip_prefix(parts.next().unwrap_or_default())
    else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn compare(printed: &str, shown: &str) {
    let printed: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    let shown: Vec<&str> = shown.lines().collect();
    // A last line that stands for anything stands for any number of them.
    let open = shown.last() == Some(&"…");
    let known = shown.len() - usize::from(open);
    let fits = (printed.len() == known || open && printed.len() >= known)
        && printed
            .iter()
            .zip(&shown)
            .all(|(line, shown)| is_shown(line, shown));
    assert!(
        fits,
        "it printed:\n{}\nand not:\n{}",
        printed.join("\n"),
        shown.join("\n")
    );
}

#[tokio::test]
async fn the_tour_goes_as_it_is_written() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tour.md");
    let page = std::fs::read_to_string(page).expect("the tour");
    let home = TempDir::new().expect("a folder");
    let mut terminals = Vec::new();
    let mut shell = Shell::start(home.path());
    let mut printed = String::new();
    for block in blocks(&page) {
        match block.info.as_str() {
            "sh background" => {
                let line = block.text.trim();
                let child = command(home.path())
                    .args(["-c", &format!("exec {line}")])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                terminals.push(Terminal(child.expect("a terminal")));
                // Of the data folder that the line names, if it does.
                let words: Vec<&str> = line.split(' ').collect();
                let data = words.windows(2).find(|pair| pair[0] == "--data");
                let data = data.map_or(String::new(), |pair| format!("--data {}", pair[1]));
                eventually("the server", async || {
                    let check = command(home.path())
                        .args(["-c", &format!("skep {data} healthcheck -q")])
                        .status();
                    check.is_ok_and(|status| status.success()).then_some(())
                })
                .await;
            }
            "sh" => printed = shell.run(&block.text),
            "text" => compare(&printed, &block.text),
            other => panic!("the tour has a block of `{other}`"),
        }
    }
    assert_eq!(terminals.len(), 2);
}
