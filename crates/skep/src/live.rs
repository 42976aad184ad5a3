//! What is shown anew again and again: drawn over on a terminal, and otherwise a line for what
//! changed, until Ctrl-C.

use std::time::Duration;

use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

/// How often something that is watched is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// The cursor to the upper left corner, and what follows it away.
const HOME: &str = "\x1b[H\x1b[J";
/// The whole screen away, before the first picture.
const CLEAR: &str = "\x1b[2J";

/// Runs until Ctrl-C; then the exit code is that of an interruption.
pub(crate) async fn until_interrupted(work: impl Future<Output = Result>) -> Result {
    tokio::select! {
        done = work => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Failure::quiet(Exit::Interrupted))
        }
    }
}

/// A picture on a terminal, drawn over the one before.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    drawn: bool,
}

impl Picture {
    /// Draws a text, as far as the terminal is high.
    pub(crate) fn draw(&mut self, output: &Output, text: &str) -> Result {
        let clear = if self.drawn { "" } else { CLEAR };
        self.drawn = true;
        let shown = cut(text, output.size().1);
        output.raw(format!("{clear}{HOME}{shown}").as_bytes())
    }
}

/// The first lines: one less than the terminal has, for the cursor.
fn cut(text: &str, height: usize) -> String {
    let room = height.saturating_sub(1).max(1);
    let count = text.lines().count();
    if count <= room {
        return text.to_owned();
    }
    let mut shown: Vec<&str> = text.lines().take(room - 1).collect();
    let rest = format!("… {} more", count - shown.len());
    shown.push(&rest);
    shown.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(cut("a\nb\n", 24), "a\nb\n");
        assert_eq!(cut("a\nb\nc\nd\n", 4), "a\nb\n… 2 more\n");
    }
}
