//! Where a stream is cut: events of SSE, lines, and characters. However the bytes come, the same pieces come out.

use serde_json::Value;

use crate::agui::{Event, MOST_EVENT};

/// Bytes of an event or a line that is read.
pub const MOST_FRAME: usize = MOST_EVENT;

/// An event or a line has more than [`MOST_FRAME`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MOST_FRAME} bytes")]
pub struct TooLong;

/// An event as it is written in a stream of events, with an id when there is one.
#[must_use]
pub fn frame(event: &Event, id: Option<&str>) -> Vec<u8> {
    let json = event.to_json();
    let mut out = Vec::with_capacity(json.len() + 16);
    if let Some(id) = id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json.as_bytes());
    out.extend_from_slice(b"\n\n");
    out
}

/// A value as an event of a stream of events.
#[must_use]
pub fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

/// Cuts bytes into lines, whatever ends them.
#[derive(Debug, Default)]
struct Lines {
    kept: Vec<u8>,
    /// A line feed now belongs to the line before.
    after_return: bool,
    began: bool,
}

impl Lines {
    fn push(
        &mut self,
        bytes: &[u8],
        with: &mut impl FnMut(&[u8]) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        for piece in bytes.split_inclusive(|it| matches!(it, b'\n' | b'\r')) {
            let is_tail = std::mem::take(&mut self.after_return) && piece == b"\n";
            if is_tail {
                continue;
            }
            let end = piece.last().copied();
            let text = match end {
                Some(b'\n' | b'\r') => piece.get(..piece.len() - 1).unwrap_or_default(),
                _ => piece,
            };
            if self.kept.len() + text.len() > MOST_FRAME {
                return Err(TooLong);
            }
            self.kept.extend_from_slice(text);
            if text.len() < piece.len() {
                self.after_return = end == Some(b'\r');
                self.line(with)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, with: &mut impl FnMut(&[u8]) -> Result<(), TooLong>) -> Result<(), TooLong> {
        let line = std::mem::take(&mut self.kept);
        let is_first = !std::mem::replace(&mut self.began, true);
        let mark = b"\xef\xbb\xbf".as_slice();
        let told = line.strip_prefix(mark).filter(|_| is_first);
        with(told.unwrap_or(&line))
    }

    /// Nothing more comes: what has no end is a line, too.
    fn finish(
        &mut self,
        with: &mut impl FnMut(&[u8]) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        match self.kept.is_empty() {
            true => Ok(()),
            false => self.line(with),
        }
    }
}

/// Cuts a stream into its events, or into its lines, and gives what each says.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    lines: Lines,
    data: Option<Vec<u8>>,
    /// Each line is one.
    by_line: bool,
}

impl Frames {
    pub(crate) fn of_events() -> Self {
        Self::default()
    }

    pub(crate) fn of_lines() -> Self {
        Self {
            by_line: true,
            ..Self::default()
        }
    }

    /// Takes bytes and hands on what is whole.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        with: &mut impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        let Self {
            lines,
            data,
            by_line,
        } = self;
        lines.push(bytes, &mut |line| match by_line {
            true => {
                whole(line, with);
                Ok(())
            }
            false => field(data, line, with),
        })
    }

    /// Nothing more comes: what nothing ended counts, too.
    pub(crate) fn finish(&mut self, with: &mut impl FnMut(&[u8])) -> Result<(), TooLong> {
        let Self {
            lines,
            data,
            by_line,
        } = self;
        lines.finish(&mut |line| match by_line {
            true => {
                whole(line, with);
                Ok(())
            }
            false => field(data, line, with),
        })?;
        if let Some(data) = data.take() {
            with(&data);
        }
        Ok(())
    }
}

fn whole(line: &[u8], with: &mut impl FnMut(&[u8])) {
    if !line.trim_ascii().is_empty() {
        with(line);
    }
}

/// Takes a line of an event.
fn field(
    data: &mut Option<Vec<u8>>,
    line: &[u8],
    with: &mut impl FnMut(&[u8]),
) -> Result<(), TooLong> {
    if line.is_empty() {
        if let Some(data) = data.take() {
            with(&data);
        }
        return Ok(());
    }
    let value = match line.strip_prefix(b"data") {
        Some(b"") => b"",
        Some([b':', value @ ..]) => value.strip_prefix(b" ").unwrap_or(value),
        _ => return Ok(()),
    };
    match data {
        None => *data = Some(value.to_vec()),
        Some(data) if data.len() + value.len() < MOST_FRAME => {
            data.push(b'\n');
            data.extend_from_slice(value);
        }
        Some(_) => return Err(TooLong),
    }
    Ok(())
}

/// Turns bytes into text as they come; what is no UTF-8 is replaced.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    rest: Vec<u8>,
}

impl Utf8 {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        let mut left = self.rest.as_slice();
        loop {
            match std::str::from_utf8(left) {
                Ok(rest) => {
                    text.push_str(rest);
                    left = &[];
                }
                Err(err) => {
                    let (right, wrong) = left.split_at(err.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(right));
                    left = match err.error_len() {
                        // The rest of a character may still come.
                        None => {
                            self.rest = wrong.to_vec();
                            return text;
                        }
                        Some(len) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            wrong.get(len..).unwrap_or_default()
                        }
                    };
                    continue;
                }
            }
            self.rest = left.to_vec();
            return text;
        }
    }

    pub(crate) fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}
