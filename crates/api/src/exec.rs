//! The frames of `exec`: what goes over a connection that was upgraded to `skep-exec`.
//!
//! A frame is one byte that says what it is, four bytes with the length of the rest (big-endian),
//! and the rest: bytes of a stream, or JSON. The client begins with [`EXEC_START`]; the server ends
//! with [`EXEC_EXIT`] or [`EXEC_REFUSED`], and closes. Whoever closes before that ends the command.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The protocol's name in `Upgrade`.
pub const EXEC_PROTOCOL: &str = "skep-exec";
/// Bytes of one frame besides its head.
pub const MOST_FRAME: usize = 256 << 10;
const HEAD: usize = 5;

/// From the client: an [`ExecStart`]. The first frame, and there is one.
pub const EXEC_START: u8 = 1;
/// From the client: bytes for the standard input.
pub const EXEC_INPUT: u8 = 2;
/// From the client: the standard input has ended.
pub const EXEC_INPUT_END: u8 = 3;
/// From the client: a [`TerminalSize`], the window's new one.
pub const EXEC_RESIZE: u8 = 4;
/// From the client: an [`ExecSignal`].
pub const EXEC_SIGNAL: u8 = 5;
/// From the server: bytes of the standard output.
pub const EXEC_OUTPUT: u8 = 16;
/// From the server: bytes of the standard error.
pub const EXEC_ERRORS: u8 = 17;
/// From the server: an [`ExecExit`]; the last frame.
pub const EXEC_EXIT: u8 = 18;
/// From the server: a [`Problem`](crate::Problem), when the command does not run; the last frame.
pub const EXEC_REFUSED: u8 = 19;
/// From the server, now and then: nothing.
pub const EXEC_BEAT: u8 = 20;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The terminal that it gets; without one its output and errors come apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<ExecTerminal>,
}

/// The terminal of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecTerminal {
    /// The size of its window.
    pub size: TerminalSize,
    /// What kind it is, for `TERM`.
    pub kind: String,
}

/// The size of a terminal's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A signal for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSignal {
    /// Its number.
    pub signal: i32,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecExit {
    /// The status that it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// A frame. What is too long for one must be parted before.
#[must_use]
pub fn frame(kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
    let mut whole = Vec::with_capacity(HEAD + rest.len());
    whole.push(kind);
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(rest);
    whole
}

/// A frame that is longer than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTooLong(pub usize);

/// Puts frames together from bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next whole frame; `None` when more bytes must come first.
    ///
    /// # Errors
    /// [`FrameTooLong`]; nothing that follows can be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is no iterator: more may come"
    )]
    pub fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, FrameTooLong> {
        let Some((&[kind, a, b, c, d], rest)) = self.0.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MOST_FRAME {
            return Err(FrameTooLong(length));
        }
        let Some(body) = rest.get(..length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.0.drain(..HEAD + length);
        Ok(Some((kind, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_wherever_they_are_cut() {
        let sent = [
            (EXEC_OUTPUT, b"hello".to_vec()),
            (EXEC_INPUT_END, Vec::new()),
        ];
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(|(kind, rest)| frame(*kind, rest))
            .collect();
        for size in 1..=bytes.len() {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some(frame) = frames.next().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, sent);
        }
        let mut frames = Frames::default();
        frames.push(&[EXEC_INPUT, 0xff, 0xff, 0xff, 0xff]);
        assert!(frames.next().is_err());
    }
}
