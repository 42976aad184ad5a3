//! From the engine's log of a container to the instance's own log file. The engine keeps what an
//! agent writes while no server runs; who carries it on afterwards leaves out what is there already.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use parking_lot::Mutex;
use skep_core::Timestamp;
use skep_runtime::logfile::{self, LogWriter, PIECE};
use skep_runtime::{LogStream, Rotation};

/// Lines that are written at once.
const BATCH: usize = 256;
/// Lines of the two streams are not always in order of time at the engine; how far they may be
/// apart.
const DISORDER: Duration = Duration::from_secs(2);

/// How far a log was carried: the time of the last line, and how many lines have that time.
type Reached = Option<(Timestamp, usize)>;

/// A line of the engine's log.
struct Line {
    time: Timestamp,
    stream: LogStream,
    whole: bool,
    text: bytes::Bytes,
}

/// Carries one container's log.
pub(crate) struct Carrier {
    writer: Arc<Mutex<LogWriter>>,
    reached: Reached,
}

impl Carrier {
    /// For the log at this path, from where it ends. Blocks.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> Self {
        Self {
            reached: logfile::reaches(path),
            writer: Arc::new(Mutex::new(LogWriter::new(path.to_owned(), rotation))),
        }
    }

    /// Carries what is there; with `follow` until the container ends or the engine goes away.
    pub(crate) async fn carry(
        &mut self,
        docker: &Docker,
        container: &str,
        follow: bool,
    ) -> Result<(), Error> {
        let since = self.reached.map_or(0, |(time, _)| {
            time.minus(DISORDER).as_micros().max(0) / 1_000_000
        });
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            since: i32::try_from(since).unwrap_or(i32::MAX),
            timestamps: true,
            tail: "all".to_owned(),
            ..LogsOptions::default()
        };
        let mut known = Known::new(self.reached);
        let mut chunks = docker.logs(container, Some(options)).ready_chunks(BATCH);
        while let Some(chunk) = chunks.next().await {
            let mut lines = Vec::with_capacity(chunk.len());
            let mut broke = None;
            for output in chunk {
                match output {
                    Ok(output) => lines.extend(parse(output)),
                    Err(error) => broke = Some(error),
                }
            }
            lines.retain(|line| known.is_new(line.time));
            self.reached = known.reached;
            if !lines.is_empty() {
                self.write(lines).await;
            }
            if let Some(error) = broke {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write(&self, lines: Vec<Line>) {
        let writer = self.writer.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = writer.lock();
            for line in lines {
                let mut rest = line.text;
                while rest.len() > PIECE {
                    writer.add(line.time, line.stream, false, &rest.split_to(PIECE));
                }
                writer.add(line.time, line.stream, line.whole, &rest);
            }
            writer.flush();
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "writing an agent's log broke");
        }
    }
}

/// Tells lines that were carried from new ones. The log file's times never go back, so neither do
/// the times that lines are compared by.
struct Known {
    skip: Reached,
    clock: Timestamp,
    reached: Reached,
}

impl Known {
    fn new(reached: Reached) -> Self {
        Self {
            skip: reached,
            clock: Timestamp::default(),
            reached,
        }
    }

    fn is_new(&mut self, time: Timestamp) -> bool {
        self.clock = self.clock.max(time);
        if let Some((until, left)) = &mut self.skip {
            if self.clock < *until {
                return false;
            }
            if self.clock == *until && *left > 0 {
                *left -= 1;
                return false;
            }
            self.skip = None;
        }
        self.reached = match self.reached {
            Some((last, count)) if last == self.clock => Some((last, count + 1)),
            _ => Some((self.clock, 1)),
        };
        true
    }
}

/// `<RFC 3339 time> <text>`, with a line's end unless the line goes on.
fn parse(output: LogOutput) -> Option<Line> {
    let (stream, mut text) = match output {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } => {
            (LogStream::Stdout, message)
        }
        LogOutput::StdIn { .. } => return None,
    };
    let space = text.iter().position(|&byte| byte == b' ')?;
    let time = text.split_to(space + 1);
    let time = std::str::from_utf8(&time[..space]).ok()?.parse().ok()?;
    let whole = text.ends_with(b"\n");
    text.truncate(text.len() - usize::from(whole));
    Some(Line {
        time,
        stream,
        whole,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(known: &mut Known, times: &[i64]) -> Vec<i64> {
        let new = times
            .iter()
            .filter(|&&time| known.is_new(Timestamp::from_micros(time)));
        new.copied().collect()
    }

    #[test]
    fn leaves_out_what_was_carried() {
        let times = [5, 7, 6, 7, 7, 9, 8, 9];
        let mut first = Known::new(None);
        assert_eq!(new(&mut first, &times[..4]), times[..4]);
        // Three lines count as of 7: the log's time does not go back.
        assert_eq!(first.reached, Some((Timestamp::from_micros(7), 3)));
        let mut second = Known::new(first.reached);
        assert_eq!(new(&mut second, &times), times[4..]);
        let mut third = Known::new(second.reached);
        assert_eq!(new(&mut third, &times), [] as [i64; 0]);
    }

    #[test]
    fn reads_the_engines_lines() {
        let output = |text: &'static [u8]| LogOutput::StdErr {
            message: bytes::Bytes::from_static(text),
        };
        let line = parse(output(b"2026-11-21T10:00:00.123456789Z a b\n")).unwrap();
        assert_eq!((&line.text[..], line.whole), (&b"a b"[..], true));
        assert_eq!(line.time.as_micros() % 1_000_000, 123_456);
        let piece = parse(output(b"2026-11-21T10:00:00.123456789Z ")).unwrap();
        assert_eq!((piece.text.len(), piece.whole), (0, false));
        assert!(parse(output(b"rubbish")).is_none());
    }
}
