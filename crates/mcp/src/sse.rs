//! Streams of events (SSE), cut where events end, so that each can be looked at. What is written on is what was looked at
//! and nothing else: lines that another reader could read otherwise do not pass. What nothing ends is no event, for who
//! reads it as well.

use std::time::Duration;

/// The longest event, in bytes.
const MOST: usize = 32 << 20;
/// What readers drop at the start of a stream.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Line ends of some readers, which in a message stand in texts alone, and how they are written there without being one.
const BREAKS: [(char, &str); 3] = [
    ('\u{85}', "\\u0085"),
    ('\u{2028}', "\\u2028"),
    ('\u{2029}', "\\u2029"),
];

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Where a stream begins again.
    id: Option<String>,
    /// Its name.
    event: Option<String>,
    /// After how many milliseconds a reader asks again.
    retry: Option<String>,
    /// Its data, when it has any.
    pub data: Option<String>,
}

impl Event {
    /// Reads the lines of one; nothing, when they are empty.
    fn read(lines: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        let mut is_empty = true;
        for line in lines.split(|it| matches!(it, b'\n' | b'\r')) {
            if line.is_empty() {
                continue;
            }
            is_empty = false;
            let colon = line.iter().position(|it| *it == b':');
            let (name, value) = line.split_at(colon.unwrap_or(line.len()));
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let value = || String::from_utf8_lossy(value).into_owned();
            match name {
                b"data" => match &mut read.data {
                    None => read.data = Some(value()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(&value());
                    }
                },
                b"id" => read.id = Some(value()).filter(|it| is_plain(it)),
                b"event" => read.event = Some(value()).filter(|it| is_plain(it)),
                b"retry" => {
                    let is_number = |it: &String| it.bytes().all(|it| it.is_ascii_digit());
                    read.retry = Some(value()).filter(is_number);
                }
                _ => {}
            }
        }
        (!is_empty).then_some(read)
    }

    /// Where a stream begins again after it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How long a reader waits until it asks again.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        let text = self.retry.as_deref()?;
        text.parse().ok().map(Duration::from_millis)
    }

    /// The same, written anew.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        self.whole(self.data.as_deref())
    }

    /// The same with other data.
    #[must_use]
    pub fn with(&self, data: &str) -> Vec<u8> {
        self.whole(Some(data))
    }

    fn whole(&self, data: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.map_or(0, str::len) + 64);
        for (name, value) in [
            ("id", &self.id),
            ("event", &self.event),
            ("retry", &self.retry),
        ] {
            if let Some(value) = value {
                out.extend_from_slice(format!("{name}: {value}\n").as_bytes());
            }
        }
        match data {
            Some(data) => push(&mut out, data),
            // A comment: somebody keeps the connection open.
            None if out.is_empty() => out.extend_from_slice(b":\n\n"),
            None => out.push(b'\n'),
        }
        out
    }
}

/// Whether no reader takes a value for more than one line.
fn is_plain(value: &str) -> bool {
    let breaks = |it: char| it.is_control() || BREAKS.iter().any(|(one, _)| *one == it);
    !value.contains(breaks)
}

/// An event of ours.
#[must_use]
pub fn event(data: &str) -> Vec<u8> {
    let mut out = b"event: message\n".to_vec();
    push(&mut out, data);
    out
}

fn push(out: &mut Vec<u8>, data: &str) {
    let mut data = std::borrow::Cow::from(data);
    if data.trim().is_empty() {
        data = "".into();
    }
    for (one, instead) in BREAKS {
        if data.contains(one) {
            data = data.replace(one, instead).into();
        }
    }
    for line in data.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// An event that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MOST} bytes")]
pub struct TooLong;

/// Cuts a stream into its events.
#[derive(Debug, Default)]
pub struct Events {
    waiting: Vec<u8>,
    /// The start of the stream was looked at.
    began: bool,
    /// How far was looked.
    looked: usize,
    /// Where the line begins that was looked at last.
    line: usize,
    /// The last piece ended with a carriage return that a line feed may follow.
    open: bool,
}

impl Events {
    /// Takes a piece in, and gives the events that are whole.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        self.waiting.extend_from_slice(piece);
        if !self.began {
            if self.waiting.len() < MARK.len() && MARK.starts_with(&self.waiting) {
                return Ok(Vec::new());
            }
            self.began = true;
            if self.waiting.starts_with(MARK) {
                self.waiting.drain(..MARK.len());
            }
        }
        let mut whole = Vec::new();
        // Where the event begins.
        let mut start = 0;
        while let Some(&byte) = self.waiting.get(self.looked) {
            if self.open && byte == b'\n' {
                // The second half of a line's end.
                self.looked += 1;
                self.line = self.looked;
                self.open = false;
                continue;
            }
            self.open = byte == b'\r';
            self.looked += 1;
            if !matches!(byte, b'\n' | b'\r') {
                continue;
            }
            let is_empty = self.looked - 1 == self.line;
            self.line = self.looked;
            if is_empty {
                let lines = self.waiting.get(start..self.looked);
                whole.extend(lines.and_then(Event::read));
                start = self.looked;
            }
        }
        self.waiting.drain(..start);
        self.looked -= start;
        self.line -= start;
        match self.waiting.len() > MOST {
            true => Err(TooLong),
            false => Ok(whole),
        }
    }
}
