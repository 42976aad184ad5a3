//! Logs: human lines on a terminal, JSON otherwise, to standard error or to files that are rotated
//! by size. Beside them, in rooms of their own, traces: spans, and their way to a collector.

mod export;
mod otlp;
mod span;

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use skep_core::config::{LogFormat, Settings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::ServerError;

pub(crate) use export::Tracer;
pub(crate) use span::Open;

/// Begins to log.
///
/// # Errors
/// [`ServerError::LogFilter`] when the filter cannot be read, [`ServerError::File`] when the file
/// cannot be written.
pub fn init(settings: &Settings) -> Result<(), ServerError> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .map_err(|error| ServerError::LogFilter(error.to_string()))?;
    let terminal = settings.log_file.is_none() && io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match (&settings.log_file, json) {
        (None, true) => builder
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .init(),
        (None, false) => builder.with_ansi(terminal).with_writer(io::stderr).init(),
        (Some(path), json) => {
            let file = Rotating::open(path, settings.log_file_size, settings.log_files)?;
            match json {
                true => builder.json().flatten_event(true).with_writer(file).init(),
                false => builder.with_ansi(false).with_writer(file).init(),
            }
        }
    }
    Ok(())
}

/// A log file that gives way to a new one when it is full: `skep.log`, `skep.log.1`, …
struct Rotating {
    inner: Mutex<Inner>,
}

struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    most_bytes: u64,
    files: u32,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

impl Rotating {
    fn open(path: &Path, most_bytes: u64, files: u32) -> Result<Self, ServerError> {
        let failed = |error: io::Error| ServerError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let inner = Inner {
            path: path.to_owned(),
            file,
            size,
            most_bytes,
            files: files.max(1),
        };
        Ok(Self {
            inner: Mutex::new(inner),
        })
    }
}

impl Inner {
    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.files.saturating_sub(1)).rev() {
            let _ = std::fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        match self.files {
            1 => std::fs::remove_file(&self.path)?,
            _ => std::fs::rename(&self.path, self.numbered(1))?,
        }
        self.file = open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// One line on its way to the file.
struct Line<'a>(&'a Rotating);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut inner = self
            .0
            .inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.size > 0 && inner.size + line.len() as u64 > inner.most_bytes {
            // A file that cannot be rotated is written on.
            let _ = inner.rotate();
        }
        let written = inner.file.write(line)?;
        inner.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Rotating {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_give_way_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skep.log");
        let log = Rotating::open(&path, 10, 3).unwrap();
        for line in ["one 56789\n", "two 56789\n", "three 789\n", "four 6789\n"] {
            log.make_writer().write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("skep.log").as_deref(), Some("four 6789\n"));
        assert_eq!(read("skep.log.1").as_deref(), Some("three 789\n"));
        assert_eq!(read("skep.log.2").as_deref(), Some("two 56789\n"));
        assert_eq!(read("skep.log.3"), None);
    }
}
