//! Where a stream is cut: server-sent events frame by frame, and JSON value by value. However the bytes come,
//! the same pieces come out, and no more than a bound is kept.

use std::borrow::Cow;

/// Bytes of a frame or a value that are kept; of a longer one nothing is read.
pub(crate) const MOST_FRAME: usize = 32 << 20;

/// A piece of a stream of events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A frame with the empty line that ends it.
    Frame(&'a [u8]),
    /// Bytes of a frame that is too long to be kept, as they come.
    Long(&'a [u8]),
    /// The line feed of the frame before, which ended with a carriage return.
    Tail(&'a [u8]),
}

/// Cuts a stream of events into its frames.
#[derive(Debug)]
pub(crate) struct Frames {
    kept: Vec<u8>,
    most: usize,
    is_long: bool,
    /// The last line has something in it.
    in_line: bool,
    after_return: bool,
    /// The return that was last ended a frame.
    ended: bool,
}

impl Frames {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            kept: Vec::new(),
            most,
            is_long: false,
            in_line: false,
            after_return: false,
            ended: false,
        }
    }

    /// Where the frame ends that these bytes go on with: after so many of them.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' if self.in_line => self.in_line = false,
                b'\n' | b'\r' => return Some(at + 1),
                _ => self.in_line = true,
            }
        }
        None
    }

    /// Takes bytes and hands on what is whole.
    pub(crate) fn push(&mut self, mut bytes: &[u8], with: &mut impl FnMut(Piece<'_>)) {
        while let Some(first) = bytes.first() {
            let is_tail = std::mem::take(&mut self.ended) && self.after_return && *first == b'\n';
            if is_tail {
                self.after_return = false;
                let (tail, rest) = bytes.split_at(1);
                with(Piece::Tail(tail));
                bytes = rest;
                continue;
            }
            let end = self.end(bytes);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            bytes = rest;
            if !self.is_long && self.kept.len() + piece.len() > self.most {
                self.is_long = true;
                with(Piece::Long(&std::mem::take(&mut self.kept)));
            }
            match (self.is_long, end) {
                (true, _) => with(Piece::Long(piece)),
                (false, Some(_)) if self.kept.is_empty() => with(Piece::Frame(piece)),
                (false, Some(_)) => {
                    self.kept.extend_from_slice(piece);
                    with(Piece::Frame(&self.kept));
                    self.kept.clear();
                }
                (false, None) => self.kept.extend_from_slice(piece),
            }
            if end.is_some() {
                self.is_long = false;
                self.ended = true;
            }
        }
    }

    /// What has come of a frame that never ended.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }
}

/// What a frame says: the word of its event, and its data.
pub(crate) fn event(frame: &[u8]) -> (&str, Option<Cow<'_, [u8]>>) {
    let mut word = "";
    let mut data: Option<Cow<'_, [u8]>> = None;
    let frame = frame.strip_prefix(b"\xef\xbb\xbf").unwrap_or(frame);
    // A line feed after a return makes an empty line here, which says nothing.
    for line in frame.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => word = std::str::from_utf8(value).unwrap_or_default(),
            b"data" => match &mut data {
                None => data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    data.to_mut().push(b'\n');
                    data.to_mut().extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    (word, data)
}

/// Cuts JSON into its values: a value by itself, or those of a list that is one answer.
#[derive(Debug, Default)]
pub(crate) struct Values {
    kept: Vec<u8>,
    /// The values are in a list.
    in_list: bool,
    began: bool,
    depth: usize,
    in_text: bool,
    escaped: bool,
    is_long: bool,
}

impl Values {
    /// Values that a list around them holds together, or one that stands by itself.
    pub(crate) fn new(may_be_list: bool) -> Self {
        Self {
            began: !may_be_list,
            ..Self::default()
        }
    }

    /// Takes bytes and hands on the objects that are whole.
    pub(crate) fn push(&mut self, bytes: &[u8], with: &mut impl FnMut(&[u8])) {
        let (mut from, mut at) = (0, 0);
        while let Some(byte) = bytes.get(at) {
            at += 1;
            if self.depth == 0 {
                from = at - 1;
                match byte {
                    b'[' if !self.began => self.in_list = true,
                    b'{' | b'[' => self.depth = 1,
                    _ => {}
                }
                self.began |= !byte.is_ascii_whitespace();
                continue;
            }
            if self.in_text {
                match byte {
                    _ if std::mem::take(&mut self.escaped) => {}
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {
                        // Most of a text is neither.
                        let rest = bytes.get(at..).unwrap_or_default();
                        at += memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    }
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                let end = bytes.get(from..at).unwrap_or_default();
                if self.kept.is_empty() && !self.is_long && end.len() <= MOST_FRAME {
                    with(end);
                    continue;
                }
                self.keep(end);
                if !std::mem::take(&mut self.is_long) {
                    with(&self.kept);
                }
                self.kept.clear();
            }
        }
        if self.depth > 0 {
            self.keep(bytes.get(from..).unwrap_or_default());
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.is_long |= self.kept.len() + bytes.len() > MOST_FRAME;
        match self.is_long {
            true => self.kept = Vec::new(),
            false => self.kept.extend_from_slice(bytes),
        }
    }
}
