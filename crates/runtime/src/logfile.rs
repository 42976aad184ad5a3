//! Log files: one line each of `<RFC 3339 time> <stream> <F|P> <text>`, rotated by size. `P` marks
//! a piece of a line that goes on in the next one.
//!
//! The writer never blocks what it writes for: when the disk is full it drops lines, counts them
//! and says so when it can write again. The reader goes through the rotated files from the oldest
//! on, holds one line at a time, and follows the writer over rotations.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skep_core::{InstanceId, Timestamp};

use crate::driver::{DriverError, LogLine, LogSource, LogStream};

/// Bytes of a text that are written as one piece.
pub const PIECE: usize = 16 << 10;
/// A line of a file that is longer was not written by us.
const LONGEST: u64 = PIECE as u64 + 128;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rotation {
    /// Bytes after which a file is put aside.
    pub file_bytes: u64,
    /// Files that are kept, the current one included.
    pub files: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            file_bytes: 8 << 20,
            files: 4,
        }
    }
}

/// The file with this age: 0 is the current one.
fn aged(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// Appends to a log.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    rotation: Rotation,
    file: Option<File>,
    size: u64,
    waiting: Vec<u8>,
    lines: u64,
    dropped: u64,
    last: Timestamp,
}

impl LogWriter {
    /// The log at this path. Nothing is opened before something is written.
    #[must_use]
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self {
            path,
            rotation,
            file: None,
            size: 0,
            waiting: Vec::new(),
            lines: 0,
            dropped: 0,
            last: Timestamp::default(),
        }
    }

    /// Adds one line, or a piece of one, to what waits.
    pub fn add(&mut self, now: Timestamp, stream: LogStream, whole: bool, text: &[u8]) {
        // A log is in order of time even when somebody sets the clock back.
        self.last = self.last.max(now);
        let flag = if whole { 'F' } else { 'P' };
        let head = format!("{} {} {flag} ", self.last, stream.as_str());
        self.waiting.extend_from_slice(head.as_bytes());
        self.waiting.extend_from_slice(text);
        self.waiting.push(b'\n');
        self.lines += 1;
    }

    /// Writes what waits, or drops and counts it.
    pub fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.dropped > 0 {
            let note = format!("{} lines were lost: the disk was full", self.dropped);
            let waiting = std::mem::take(&mut self.waiting);
            self.add(self.last, LogStream::Skep, true, note.as_bytes());
            self.lines -= 1;
            self.waiting.extend_from_slice(&waiting);
        }
        if self.write().is_ok() {
            self.dropped = 0;
        } else {
            self.dropped += self.lines;
        }
        self.lines = 0;
        self.waiting.clear();
        self.waiting.shrink_to(4 * PIECE);
    }

    fn write(&mut self) -> std::io::Result<()> {
        let length = self.waiting.len() as u64;
        if self.file.is_none() {
            self.open()?;
        }
        if self.size > 0 && self.size + length > self.rotation.file_bytes {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(&self.waiting) {
            // A torn line would swallow the one that comes after it.
            let _ = file.set_len(self.size);
            return Err(error);
        }
        self.size += length;
        Ok(())
    }

    fn open(&mut self) -> std::io::Result<()> {
        let file = File::options().append(true).create(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        self.file = None;
        for age in (1..self.rotation.files).rev() {
            let _ = std::fs::rename(aged(&self.path, age - 1), aged(&self.path, age));
        }
        if self.rotation.files <= 1 {
            std::fs::remove_file(&self.path)?;
        }
        self.open()
    }
}

/// A line as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawLine {
    pub(crate) time: Timestamp,
    pub(crate) stream: LogStream,
    pub(crate) partial: bool,
    pub(crate) text: String,
}

fn parse(line: &[u8]) -> Option<RawLine> {
    let mut parts = line.strip_suffix(b"\n")?.splitn(4, |&byte| byte == b' ');
    let mut word = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let time = word()?.parse().ok()?;
    let stream = LogStream::parse(word()?)?;
    let partial = match word()? {
        "F" => false,
        "P" => true,
        _ => return None,
    };
    let text = parts.next()?;
    Some(RawLine {
        time,
        stream,
        partial,
        text: String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned(),
    })
}

/// Reads a log from its oldest line on.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    files: u32,
    since: Option<Timestamp>,
    current: Option<(BufReader<File>, u64)>,
    line: Vec<u8>,
    /// Whether the current file was put aside and everything in it was asked for once more.
    drained: bool,
}

impl LogReader {
    pub(crate) fn new(path: PathBuf, files: u32, since: Option<Timestamp>) -> Self {
        Self {
            path,
            files,
            since,
            current: None,
            line: Vec::new(),
            drained: false,
        }
    }

    /// The next line; `None` when there is none yet.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<RawLine>> {
        loop {
            let Some((file, inode)) = &mut self.current else {
                self.current = self.after(None)?;
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let room = LONGEST.saturating_sub(self.line.len() as u64);
            let read = file.by_ref().take(room).read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") || self.line.len() as u64 >= LONGEST {
                let line = parse(&self.line);
                self.line.clear();
                match line {
                    Some(line) if self.since.is_none_or(|since| line.time >= since) => {
                        return Ok(Some(line));
                    }
                    _ => continue,
                }
            }
            if read > 0 {
                continue;
            }
            let inode = *inode;
            match self.after(Some(inode))? {
                None => return Ok(None),
                // The writer may have added to the file before it put it aside.
                Some(_) if !self.drained => self.drained = true,
                Some(next) => {
                    self.current = Some(next);
                    self.line.clear();
                    self.drained = false;
                }
            }
        }
    }

    /// Opens the file that comes after the one with this inode, or the oldest one.
    fn after(&self, inode: Option<u64>) -> std::io::Result<Option<(BufReader<File>, u64)>> {
        let mut oldest = None;
        let mut found = false;
        for age in (0..self.files.max(1)).rev() {
            let file = match File::open(aged(&self.path, age)) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let about = file.metadata()?;
            if Some(about.ino()) == inode {
                found = true;
                continue;
            }
            let changed = Timestamp::from_micros(about.mtime() * 1_000_000 + 999_999);
            if age > 0 && self.since.is_some_and(|since| changed < since) {
                continue;
            }
            let opened = (BufReader::new(file), about.ino());
            if found {
                return Ok(Some(opened));
            }
            oldest.get_or_insert(opened);
        }
        // A file that is not there any more was rotated away: go on with the oldest there is.
        Ok(if found { None } else { oldest })
    }
}

/// The log of one instance, for a [`crate::Driver`] that keeps it in such a file.
#[derive(Debug)]
pub struct InstanceLog {
    instance: InstanceId,
    reader: LogReader,
}

impl InstanceLog {
    /// The instance's log at this path, from `since` on.
    #[must_use]
    pub fn new(
        instance: InstanceId,
        path: PathBuf,
        rotation: Rotation,
        since: Option<Timestamp>,
    ) -> Self {
        let reader = LogReader::new(path, rotation.files, since);
        Self { instance, reader }
    }
}

impl LogSource for InstanceLog {
    fn next(&mut self) -> Result<Option<LogLine>, DriverError> {
        let line = self
            .reader
            .next()
            .map_err(|error| DriverError::Failed(format!("the log: {error}")))?;
        Ok(line.map(|line| LogLine {
            time: line.time,
            stream: line.stream,
            instance: self.instance,
            partial: line.partial,
            text: line.text,
        }))
    }
}

/// The agent's own lines near the end of a file, oldest first.
fn tail(path: &Path) -> Option<Vec<RawLine>> {
    const LOOK_BACK: u64 = 64 << 10;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let start = length.saturating_sub(LOOK_BACK);
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(start)).ok()?;
    let mut tail = Vec::new();
    file.take(LOOK_BACK).read_to_end(&mut tail).ok()?;
    let lines = tail.split_inclusive(|&byte| byte == b'\n');
    Some(
        lines
            .filter_map(parse)
            .filter(|line| line.stream != LogStream::Skep)
            .collect(),
    )
}

/// How far a log goes: the time of its last line, and how many of its last lines have that time.
#[must_use]
pub fn reaches(path: &Path) -> Option<(Timestamp, usize)> {
    // Lines of one moment may stand on both sides of a rotation.
    let lines: Vec<RawLine> = [aged(path, 1), path.to_owned()]
        .iter()
        .filter_map(|path| tail(path))
        .flatten()
        .collect();
    let last = lines.last()?.time;
    let same = lines.iter().rev().take_while(|line| line.time == last);
    Some((last, same.count()))
}

/// The last lines of standard error, as many as make a short message.
#[must_use]
pub fn last_words(path: &Path) -> Option<String> {
    const LINES: usize = 3;
    const BYTES: usize = 400;
    let mut lines: Vec<String> = tail(path)?
        .into_iter()
        .filter(|line| line.stream == LogStream::Stderr && !line.text.trim().is_empty())
        .map(|line| line.text.trim_end().to_owned())
        .collect();
    let words = lines
        .split_off(lines.len().saturating_sub(LINES))
        .join("\n");
    let cut = words.len().saturating_sub(BYTES);
    let cut = (cut..=words.len()).find(|&at| words.is_char_boundary(at))?;
    (!words.is_empty()).then(|| words[cut..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(writer: &mut LogWriter, number: i64) {
        let now = Timestamp::from_micros(number * 1_000_000);
        let text = format!("line {number}");
        writer.add(now, LogStream::Stdout, true, text.as_bytes());
        writer.flush();
    }

    fn rest(reader: &mut LogReader) -> Vec<String> {
        std::iter::from_fn(|| reader.next().unwrap())
            .map(|line| line.text)
            .collect()
    }

    #[test]
    fn reads_over_rotations_and_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation {
            file_bytes: 200,
            files: 3,
        };
        let mut writer = LogWriter::new(path.clone(), rotation);
        let mut follower = LogReader::new(path.clone(), 3, None);
        let mut followed = Vec::new();
        for number in 0..40 {
            add(&mut writer, number);
            followed.extend(rest(&mut follower));
        }
        let all: Vec<_> = (0..40).map(|number| format!("line {number}")).collect();
        assert_eq!(followed, all);
        let kept = rest(&mut LogReader::new(path.clone(), 3, None));
        assert!(kept.len() < 40 && all.ends_with(&kept), "{kept:?}");
        let since = Some(Timestamp::from_micros(38_000_000));
        assert_eq!(
            rest(&mut LogReader::new(path, 3, since)),
            ["line 38", "line 39"]
        );
    }

    #[test]
    fn tells_how_far_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(reaches(&path), None);
        let rotation = Rotation {
            file_bytes: 60,
            files: 2,
        };
        let mut writer = LogWriter::new(path.clone(), rotation);
        add(&mut writer, 1);
        let one = Timestamp::from_micros(1_000_000);
        assert_eq!(reaches(&path), Some((one, 1)));
        writer.add(one, LogStream::Stderr, true, b"and another");
        writer.flush();
        assert_eq!(reaches(&path), Some((one, 2)), "over the rotation");
    }

    #[test]
    fn a_full_disk_is_told_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("gone");
        let mut writer = LogWriter::new(inside.join("log"), Rotation::default());
        add(&mut writer, 1);
        add(&mut writer, 2);
        std::fs::create_dir(&inside).unwrap();
        add(&mut writer, 3);
        assert_eq!(
            rest(&mut LogReader::new(inside.join("log"), 4, None)),
            ["2 lines were lost: the disk was full", "line 3"]
        );
    }

    #[test]
    fn skips_what_is_no_line_and_finds_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(
            &path,
            "rubbish\n2026-11-21T04:54:08Z stderr F boöm\n2026-11",
        )
        .unwrap();
        let mut reader = LogReader::new(path.clone(), 1, None);
        assert_eq!(rest(&mut reader).len(), 1);
        assert!(last_words(&path).is_some_and(|words| words == "boöm"));
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"-21T04:54:09Z stdout P \xff\r\n").unwrap();
        let line = reader.next().unwrap().unwrap();
        assert_eq!((line.text.as_str(), line.partial), ("\u{fffd}", true));
    }
}
