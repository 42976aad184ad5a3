//! Streams of events (SSE), cut where events end, so that each can be looked at and most pass as they came. What nothing
//! ends is no event, for who reads it as well.

/// The longest event, in bytes.
const MOST: usize = 32 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// As it came, with its end.
    pub raw: Vec<u8>,
    /// Its data, when it has any.
    pub data: Option<String>,
}

impl Event {
    /// The same with other data.
    #[must_use]
    pub fn with(&self, data: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 64);
        for line in lines(&self.raw) {
            if !is_data(line) && !line.is_empty() {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
        push(&mut out, data);
        out
    }
}

/// An event of ours.
#[must_use]
pub fn event(data: &str) -> Vec<u8> {
    let mut out = b"event: message\n".to_vec();
    push(&mut out, data);
    out
}

fn push(out: &mut Vec<u8>, data: &str) {
    for line in data.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn is_data(line: &[u8]) -> bool {
    line == b"data" || line.starts_with(b"data:")
}

/// The lines of a piece that ends with a line's end.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|it| matches!(it, b'\n' | b'\r')) {
        let (line, after) = rest.split_at(at);
        all.push(line);
        rest = after
            .strip_prefix(b"\r\n")
            .unwrap_or_else(|| after.get(1..).unwrap_or_default());
    }
    if !rest.is_empty() {
        all.push(rest);
    }
    all
}

/// An event that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MOST} bytes")]
pub struct TooLong;

/// Cuts a stream into its events.
#[derive(Debug, Default)]
pub struct Events {
    waiting: Vec<u8>,
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
        let mut whole = Vec::new();
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
                whole.push(self.cut());
            }
        }
        match self.waiting.len() > MOST {
            true => Err(TooLong),
            false => Ok(whole),
        }
    }

    fn cut(&mut self) -> Event {
        let rest = self.waiting.split_off(self.looked);
        let raw = std::mem::replace(&mut self.waiting, rest);
        self.looked = 0;
        self.line = 0;
        let mut data: Option<String> = None;
        for line in lines(&raw).into_iter().filter(|it| is_data(it)) {
            let value = line.strip_prefix(b"data:").unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let value = String::from_utf8_lossy(value);
            match &mut data {
                None => data = Some(value.into_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
            }
        }
        Event { raw, data }
    }
}
