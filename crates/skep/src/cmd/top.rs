//! A screen of all agents that lives until `q`.

use std::cmp::Reverse;
use std::time::Duration;

use clap::Args;
use skep_api::Stats;
use skep_client::Client;
use tokio::signal::unix::{SignalKind, signal};

use super::stats::{NETWORK, look, rows};
use crate::failure::{Exit, Failure, Result};
use crate::live::EVERY;
use crate::session::Session;
use crate::terminal::{Raw, Screen, input, is_there};

/// Time in which the server must answer before the screen says that it does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: c, m, r, w, e, n sort by CPU, memory, calls in flight, calls that wait,
errors, name; i shows instances; up and down scroll; q or Ctrl-C ends it.")]
pub(crate) struct TopArgs {}

const HEADERS: [&str; 10] = [
    "AGENT", "STATE", "READY", "CPU", "MEM", "RUN", "WAIT", "CALLS/S", "P50/P99", "ERR",
];

/// What the lines are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Cpu,
    Memory,
    Running,
    Waiting,
    Errors,
    Name,
}

impl Sort {
    const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Running => "calls in flight",
            Self::Waiting => "calls that wait",
            Self::Errors => "errors",
            Self::Name => "name",
        }
    }
}

/// What is shown, and how.
#[derive(Debug)]
struct Top {
    found: Vec<Stats>,
    /// Why there is nothing newer.
    trouble: Option<String>,
    sort: Sort,
    instances: bool,
    /// Lines that are above the screen.
    above: usize,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Quit,
    Sort(Sort),
    Instances,
    Up,
    Down,
}

/// The keys in what was read. An arrow comes as three bytes.
fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some((&first, more)) = rest.split_first() {
        let (key, after) = match (first, more) {
            (0x1b, [b'[' | b'O', arrow, after @ ..]) => {
                let key = match arrow {
                    b'A' => Some(Key::Up),
                    b'B' => Some(Key::Down),
                    _ => None,
                };
                (key, after)
            }
            (b'q' | 3, _) => (Some(Key::Quit), more),
            (b'c', _) => (Some(Key::Sort(Sort::Cpu)), more),
            (b'm', _) => (Some(Key::Sort(Sort::Memory)), more),
            (b'r', _) => (Some(Key::Sort(Sort::Running)), more),
            (b'w', _) => (Some(Key::Sort(Sort::Waiting)), more),
            (b'e', _) => (Some(Key::Sort(Sort::Errors)), more),
            (b'n', _) => (Some(Key::Sort(Sort::Name)), more),
            (b'i', _) => (Some(Key::Instances), more),
            (b'k', _) => (Some(Key::Up), more),
            (b'j', _) => (Some(Key::Down), more),
            _ => (None, more),
        };
        found.extend(key);
        rest = after;
    }
    found
}

impl Top {
    fn sorted(&self) -> Vec<&Stats> {
        let mut all: Vec<&Stats> = self.found.iter().collect();
        // They come by name, which decides between equals.
        match self.sort {
            Sort::Name => {}
            Sort::Cpu => all.sort_by(|a, b| {
                let cpu = |one: &Stats| one.usage.cpu_percent.unwrap_or(-1.0);
                cpu(b).total_cmp(&cpu(a))
            }),
            Sort::Memory => all.sort_by_key(|one| Reverse(one.usage.memory_bytes)),
            Sort::Running => all.sort_by_key(|one| Reverse(one.traffic.in_flight)),
            Sort::Waiting => all.sort_by_key(|one| Reverse(one.queued)),
            Sort::Errors => all.sort_by_key(|one| Reverse(one.traffic.errors)),
        }
        all
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = rows(self.sorted(), self.instances);
        for row in &mut rows {
            row.remove(NETWORK);
        }
        rows
    }

    /// The whole screen, line by line, no more than it has.
    fn lines(&mut self, session: &Session) -> Vec<String> {
        let (columns, rows) = session.output.size();
        let sum = |of: fn(&Stats) -> u64| self.found.iter().map(of).sum::<u64>();
        let ready = self.found.iter().filter(|one| one.ready > 0).count();
        let rate: f64 = self
            .found
            .iter()
            .map(|one| one.traffic.calls_per_second)
            .sum();
        let head = format!(
            "skep top  {} agents, {ready} ready   {} calls run, {} wait, {rate:.1}/s",
            self.found.len(),
            sum(|one| one.traffic.in_flight),
            sum(|one| one.queued),
        );
        let table = session.output.rendered(&HEADERS, &self.rows());
        let mut table = table.lines().map(str::to_owned);
        let heading = table.next().unwrap_or_default();
        let body: Vec<String> = table.collect();
        // The head, the line under it, the table's heading and the last line.
        let room = rows.saturating_sub(4).max(1);
        self.above = self.above.min(body.len().saturating_sub(room));
        let last = match &self.trouble {
            Some(trouble) => crate::table::clean(trouble),
            None => format!(
                "by {}  q quit  c/m/r/w/e/n sort  i instances  ↑↓ scroll",
                self.sort.word()
            ),
        };
        let mut lines = vec![head, String::new(), session.output.paint("7", &heading)];
        lines.extend(body.iter().skip(self.above).take(room).cloned());
        lines.resize((rows.max(4) - 1).max(lines.len()), String::new());
        lines.push(last);
        // A line that is too long would push the others away.
        let plain = [0, lines.len() - 1];
        for at in plain {
            lines[at] = crate::table::cut(&lines[at], columns);
        }
        lines
    }

    /// True when it is to end.
    fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return true,
            Key::Sort(sort) => self.sort = sort,
            Key::Instances => self.instances = !self.instances,
            Key::Up => self.above = self.above.saturating_sub(1),
            Key::Down => self.above += 1,
        }
        false
    }
}

async fn refresh(client: &Client) -> Result<Vec<Stats>> {
    match tokio::time::timeout(PATIENCE, look(client, &[])).await {
        Ok(found) => found,
        Err(_) => Err(Failure::new(Exit::Timeout, "the server does not answer")),
    }
}

pub(crate) async fn top(session: &Session, _args: TopArgs) -> Result {
    if !is_there() {
        return Err(Failure::usage("there is no terminal here")
            .hint("`skep stats` prints the figures anywhere, `--stream` again and again."));
    }
    let client = session.client()?;
    let mut top = Top {
        // What is wrong from the beginning is told before the screen is taken.
        found: refresh(&client).await?,
        trouble: None,
        sort: Sort::Cpu,
        instances: false,
        above: 0,
    };
    let _raw = Raw::take()?;
    let screen = Screen::take(&session.output)?;
    let mut pressed = input()?;
    let mut windows = signal(SignalKind::window_change())?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut ends = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        screen.draw(&top.lines(session))?;
        // Keys are heard while the server takes its time.
        let looking = async {
            looks.tick().await;
            refresh(&client).await
        };
        tokio::select! {
            found = looking => match found {
                Ok(found) => (top.found, top.trouble) = (found, None),
                Err(failure) if failure.exit == Exit::Auth => return Err(failure),
                Err(failure) => top.trouble = Some(failure.told()),
            },
            bytes = pressed.recv() => match bytes {
                Some(bytes) => if keys(&bytes).into_iter().any(|key| top.press(key)) {
                    return Ok(());
                },
                // The terminal is gone.
                None => return Ok(()),
            },
            _ = windows.recv() => {}
            _ = interrupts.recv() => return Err(Failure::quiet(Exit::Interrupted)),
            _ = ends.recv() => return Err(Failure::quiet(Exit::Interrupted)),
            _ = hangups.recv() => return Err(Failure::quiet(Exit::Interrupted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_and_arrows() {
        let wanted = [
            Key::Sort(Sort::Memory),
            Key::Up,
            Key::Down,
            Key::Instances,
            Key::Quit,
        ];
        assert_eq!(keys(b"mx\x1b[A\x1bOBiq"), wanted);
        assert_eq!(keys(b"\x03"), [Key::Quit]);
        assert_eq!(keys(b"\x1b"), []);
    }
}
