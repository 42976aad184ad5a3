//! Server-sent events (WHATWG HTML, section 9.2): our ids go into events that have none of their
//! own, and a reader that comes back is set behind the last one that it saw.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use crate::agents::Shape;

/// From the first event that is longer, the rest of a stream passes without ids of ours.
const MOST_EVENT_BYTES: usize = 256 << 10;

/// Bytes of a line that are compared with an id.
const MOST_ID_LINE: usize = 8 << 10;

/// Adds `id: ATTEMPT.INDEX` to the events of a stream as they pass.
#[derive(Debug)]
pub(crate) struct Stamper {
    attempt: u32,
    index: u64,
    /// The event that is being received.
    event: BytesMut,
    /// Where its current line begins.
    line: usize,
    has_data: bool,
    has_id: bool,
    /// An event was too long.
    off: bool,
}

impl Stamper {
    pub(crate) fn new(attempt: u32) -> Self {
        Self {
            attempt,
            index: 0,
            event: BytesMut::new(),
            line: 0,
            has_data: false,
            has_id: false,
            off: false,
        }
    }

    fn line_ended(&mut self, out: &mut BytesMut) {
        let line = &self.event[self.line..];
        if !matches!(line, b"\n" | b"\r\n") {
            self.has_data |= line.starts_with(b"data");
            self.has_id |= line.starts_with(b"id:") || matches!(line, b"id\n" | b"id\r\n");
            self.line = self.event.len();
            return;
        }
        if self.has_data && !self.has_id {
            self.index += 1;
            out.extend_from_slice(format!("id: {}.{}\n", self.attempt, self.index).as_bytes());
        }
        out.extend_from_slice(&self.event.split());
        (self.line, self.has_data, self.has_id) = (0, false, false);
    }
}

impl Shape for Stamper {
    /// Takes what came and gives what may pass: whole events.
    fn push(&mut self, data: Bytes) -> Bytes {
        if self.off {
            return data;
        }
        let mut out = BytesMut::with_capacity(data.len() + 32);
        for part in data.split_inclusive(|&byte| byte == b'\n') {
            self.event.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.line_ended(&mut out);
            }
        }
        // A line may also end with a bare CR: streams of that kind pass as they are.
        let tail = &self.event[self.line.min(self.event.len())..];
        let bare = tail
            .windows(2)
            .any(|pair| pair[0] == b'\r' && pair[1] != b'\n');
        if bare || self.event.len() > MOST_EVENT_BYTES {
            self.off = true;
            out.extend_from_slice(&self.finish());
        }
        out.freeze()
    }

    fn finish(&mut self) -> Bytes {
        self.event.split().freeze()
    }
}

/// Reads a file from its start without moving the position that other handles share.
pub(crate) struct FromStart<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> FromStart<'a> {
    pub(crate) const fn of(file: &'a File) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// [`position_after`] in the first `length` bytes of a file. Blocks on the disk.
pub(crate) fn position_in_file(file: &File, length: u64, id: &str) -> std::io::Result<Option<u64>> {
    position_after(FromStart::of(file).take(length), id)
}

/// The position behind the event with this id; `None` when there is none.
pub(crate) fn position_after(stream: impl Read, id: &str) -> std::io::Result<Option<u64>> {
    let mut reader = BufReader::new(stream);
    let (mut position, mut found, mut line) = (0_u64, false, Vec::new());
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Ok(None);
        }
        let end = part.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(part.len(), |end| end + 1);
        // What is longer than any id is not one: the rest of the line is passed over.
        let room = MOST_ID_LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..end.unwrap_or(taken).min(room)]);
        reader.consume(taken);
        position += taken as u64;
        if end.is_none() {
            continue;
        }
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        if let Some(value) = text.strip_prefix(b"id:") {
            found |= value.strip_prefix(b" ").unwrap_or(value) == id.as_bytes();
        }
        if found && text.is_empty() {
            return Ok(Some(position));
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn stamp(parts: &[&[u8]]) -> String {
        let mut stamper = Stamper::new(2);
        let mut out = Vec::new();
        for part in parts {
            out.extend_from_slice(&stamper.push(Bytes::copy_from_slice(part)));
        }
        out.extend_from_slice(&stamper.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn events_get_ids_but_comments_and_own_ids_stay() {
        let stream =
            b"data: a\n\n: ping\n\nevent: x\ndata: b\n\nid: own\ndata: c\n\ndata: d\r\n\r\ncut";
        assert_eq!(
            stamp(&[stream]),
            "id: 2.1\ndata: a\n\n: ping\n\nid: 2.2\nevent: x\ndata: b\n\nid: own\ndata: c\n\n\
             id: 2.3\ndata: d\r\n\r\ncut"
        );
    }

    #[test]
    fn from_an_event_that_is_too_long_nothing_is_changed() {
        let long = vec![b'x'; MOST_EVENT_BYTES + 10];
        let out = stamp(&[b"data: a\n\ndata: ", &long, b"\n\ndata: next\n\n"]);
        assert!(out.starts_with("id: 2.1\ndata: a\n\ndata: xxx"));
        assert!(out.ends_with("x\n\ndata: next\n\n"));
    }

    #[test]
    fn a_reader_comes_back_behind_what_it_saw() {
        let mut file = tempfile::tempfile().unwrap();
        let text = b"id: 1.1\ndata: a\n\nid: own\ndata: b\n\nid: 1.2\ndata: c\n\n";
        file.write_all(text).unwrap();
        let after = |id| position_in_file(&file, text.len() as u64, id).unwrap();
        assert_eq!(after("1.1"), Some(17));
        assert_eq!(after("own"), Some(34));
        assert_eq!(after("1.2"), Some(text.len() as u64));
        assert_eq!(after("2.1"), None);
    }

    proptest! {
        #[test]
        fn how_it_is_cut_does_not_matter(
            lines in prop::collection::vec("(data: [ab]{0,3}|id: z|: c|)\r?\n", 0..20),
            cut in 1..9_usize,
        ) {
            let whole: String = lines.concat();
            let parts: Vec<&[u8]> = whole.as_bytes().chunks(cut).collect();
            prop_assert_eq!(stamp(&parts), stamp(&[whole.as_bytes()]));
        }
    }
}
