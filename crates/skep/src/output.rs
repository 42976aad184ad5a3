//! What people and programs read: tables, JSON, YAML or names on standard output, notes on
//! standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use skep_core::Timestamp;

use crate::failure::Result;
use crate::{table, yaml};

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// JSON, and nothing else.
    Json,
    /// YAML.
    Yaml,
    /// The name or id only, one a line.
    Name,
    /// A page of its own; `benchmark` alone.
    #[value(hide = true)]
    Html,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Something that can be listed.
pub(crate) trait Row: Serialize {
    /// The columns' names.
    const HEADERS: &'static [&'static str];

    /// What `-o name` prints.
    fn name(&self) -> String;

    /// The cells, as many as there are headers.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// Where results and notes go.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    color: bool,
    terminal: bool,
}

impl Output {
    pub(crate) fn new(format: Format, color: Color, quiet: bool, verbose: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Auto => terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        };
        Self {
            format,
            quiet,
            verbose,
            color,
            terminal,
        }
    }

    /// Whether people read standard output.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Columns and lines of the terminal as of now; one that does not know its size gets the
    /// classic one.
    pub(crate) fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }

    /// Raw bytes, at once.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    /// A line for people; silent with `-q` and in the formats of programs.
    pub(crate) fn say(&self, text: &str) -> Result {
        if self.quiet || self.format != Format::Table {
            return Ok(());
        }
        self.raw(format!("{text}\n").as_bytes())
    }

    /// A line on standard error; silent with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// A line on standard error about something that failed, also with `-q`.
    pub(crate) fn complain(&self, text: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Text in a colour, where colours are wanted.
    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        match self.color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A list of all that there is.
    pub(crate) fn list<T: Row>(&self, rows: &[T]) -> Result {
        match self.format {
            Format::Json | Format::Yaml => self.document(&rows),
            Format::Name => {
                let names: String = rows.iter().map(|row| row.name() + "\n").collect();
                self.raw(names.as_bytes())
            }
            Format::Table | Format::Html => {
                let now = Timestamp::system_now();
                let cells: Vec<_> = rows.iter().map(|row| row.cells(now)).collect();
                self.table(T::HEADERS, &cells)
            }
        }
    }

    /// A table of its own.
    pub(crate) fn table(&self, headers: &[&str], rows: &[Vec<String>]) -> Result {
        self.raw(self.rendered(headers, rows).as_bytes())
    }

    /// A table as text, as wide as the terminal is.
    pub(crate) fn rendered(&self, headers: &[&str], rows: &[Vec<String>]) -> String {
        let color = self.color;
        let paint = |_: usize, cell: &str| color.then(|| state_color(cell)).flatten();
        let width = self.terminal.then(|| self.size().0);
        table::render(headers, rows, width, &paint)
    }

    /// One thing: `lines` are for people.
    pub(crate) fn one<T: Serialize>(
        &self,
        value: &T,
        name: &str,
        lines: &[(&str, String)],
    ) -> Result {
        match self.format {
            Format::Json | Format::Yaml => self.document(value),
            Format::Name => self.raw(format!("{name}\n").as_bytes()),
            Format::Table | Format::Html => {
                let width = lines
                    .iter()
                    .map(|(label, _)| label.len())
                    .max()
                    .unwrap_or(0)
                    + 2;
                let mut text = String::new();
                for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
                    let value = table::clean(value);
                    let value = match state_color(&value) {
                        Some(code) => self.paint(code, &value),
                        None => value,
                    };
                    let label = format!("{label}:");
                    text.push_str(&format!("{label:width$}{value}\n"));
                }
                self.raw(text.as_bytes())
            }
        }
    }

    /// What an action did: `said` for people, the thing itself for programs.
    pub(crate) fn done<T: Serialize>(&self, value: &T, name: &str, said: &str) -> Result {
        match self.format {
            Format::Table => self.say(said),
            _ => self.one(value, name, &[]),
        }
    }

    /// JSON or YAML.
    pub(crate) fn document<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        let text = match self.format {
            Format::Yaml => {
                yaml::to_yaml(&serde_json::to_value(value).map_err(anyhow::Error::from)?)
            }
            _ => serde_json::to_string_pretty(value).map_err(anyhow::Error::from)? + "\n",
        };
        self.raw(text.as_bytes())
    }
}

/// Green is well, red needs somebody, yellow is on its way.
fn state_color(word: &str) -> Option<&'static str> {
    match word {
        "ready" | "succeeded" | "ok" => Some("32"),
        "crash_loop" | "dead" | "failed" | "fail" | "expired" => Some("31"),
        "starting" | "stopping" | "unready" | "backoff" | "running" | "accepted" | "degraded"
        | "warn" => Some("33"),
        _ => None,
    }
}

/// How long ago an RFC 3339 time was, in its largest unit.
pub(crate) fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => short(now.since(then).as_secs()),
        Err(_) => "?".to_owned(),
    }
}

fn short(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A size as people read it: `12.3MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes}B"),
        _ => format!("{value:.1}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_short() {
        let now: Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
        assert_eq!(age("2026-11-21T04:58:01Z", now), "119s");
        assert_eq!(age("2026-11-21T04:00:00Z", now), "60m");
        assert_eq!(age("2026-11-01T04:00:00Z", now), "20d");
        assert_eq!(age("2026-11-21T06:00:00Z", now), "0s");
        assert_eq!(age("then", now), "?");
        assert_eq!(human_bytes(512), "512B");
        assert_eq!(human_bytes(12_900_000), "12.3MiB");
    }
}
