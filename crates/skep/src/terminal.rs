//! The user's terminal as a verb takes it over: raw keys, and the state of before whatever happens.

use std::io::{self, IsTerminal, Read};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::failure::Result;
use crate::output::Output;

/// Pieces of keys that wait.
const PIECES: usize = 16;

/// A terminal whose keys come as they are pressed. Dropped, also by a panic, it is as it was.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    /// Takes over the terminal that is standard input.
    pub(crate) fn take() -> Result<Self> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What is pressed and not read is not for the shell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Whether both ends of a terminal are there.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Standard input, piece by piece; the channel ends with it. A thread of its own reads: it ends with
/// the process, since nothing else ends a read from a terminal.
pub(crate) fn input() -> Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let read = move || {
        let mut piece = vec![0; 32 << 10];
        while let Ok(length @ 1..) = io::stdin().lock().read(&mut piece) {
            if sender.blocking_send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(read)?;
    Ok(receiver)
}

/// The alternate screen with the cursor hidden. Dropped, what was there before is there again.
#[derive(Debug)]
pub(crate) struct Screen<'a>(&'a Output);

impl<'a> Screen<'a> {
    pub(crate) fn take(output: &'a Output) -> Result<Self> {
        output.raw(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(Self(output))
    }

    /// Draws lines from the top, and clears what is left of each and below.
    pub(crate) fn draw(&self, lines: &[String]) -> Result {
        let mut text = String::from("\x1b[H");
        for (index, line) in lines.iter().enumerate() {
            let end = if index + 1 < lines.len() { "\r\n" } else { "" };
            text.push_str(&format!("{line}\x1b[K{end}"));
        }
        text.push_str("\x1b[J");
        self.0.raw(text.as_bytes())
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = self.0.raw(b"\x1b[?25h\x1b[?1049l");
    }
}
