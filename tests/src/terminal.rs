//! A terminal for a program under test: a pty of which the test reads the screen's bytes and types
//! the keys.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal.
pub struct Terminal {
    child: Child,
    keys: File,
    /// A second hold on the terminal, to look at its settings when the program has ended.
    side: OwnedFd,
    pieces: Receiver<Vec<u8>>,
    seen: String,
    began: Termios,
}

impl Terminal {
    /// Runs a command in a terminal of this size.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn run(mut command: Command, columns: u16, rows: u16) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let main = main.expect("a terminal");
        grantpt(&main).expect("a terminal of ours");
        unlockpt(&main).expect("an open terminal");
        let name = ptsname(&main, Vec::new()).expect("a name");
        let flags =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let side = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty());
        let side = side.expect("the terminal's side");
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&main, size).expect("a size");
        let began = tcgetattr(&side).expect("settings");
        let end = || Stdio::from(side.try_clone().expect("a copy"));
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the program runs");
        drop(command);
        let mut screen = File::from(main.try_clone().expect("a copy"));
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            // It ends with an error when the program has gone.
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys: File::from(main),
            side,
            pieces,
            seen: String::new(),
            began,
        }
    }

    /// Types keys.
    ///
    /// # Panics
    /// When nobody takes them.
    pub fn press(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .expect("keys are taken");
    }

    /// Another size of the window.
    ///
    /// # Panics
    /// When the terminal takes none.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keys, size).expect("a size");
        // The kernel tells only who has the terminal as the controlling one.
        self.signal(Signal::WINCH);
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until the program has written this since the last such wait, and tells what it wrote.
    ///
    /// # Panics
    /// When it does not.
    pub fn shows(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(error) => panic!("`{text}` is not shown ({error}): {:?}", self.seen),
            }
        }
        let end = self.seen.find(text).map_or(0, |at| at + text.len());
        let rest = self.seen.split_off(end);
        std::mem::replace(&mut self.seen, rest)
    }

    /// Waits for the end: the status, what was written last, and whether the terminal is as it was.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ends(mut self) -> (Option<i32>, String, bool) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < until, "it does not end: {:?}", self.seen);
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let now = tcgetattr(&self.side).expect("settings");
        let same = now.local_modes == self.began.local_modes
            && now.input_modes == self.began.input_modes
            && now.output_modes == self.began.output_modes;
        // Everything that was written is with us when the last hold on the other side is gone.
        drop(self.side);
        while let Ok(piece) = self.pieces.recv_timeout(Duration::from_secs(5)) {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        (status.code(), self.seen, same)
    }
}
