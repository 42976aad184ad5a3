//! A command in an agent's box: frames over an upgraded connection.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use skep_api::exec::{
    EXEC_BEAT, EXEC_ERRORS, EXEC_EXIT, EXEC_INPUT, EXEC_INPUT_END, EXEC_OUTPUT, EXEC_REFUSED,
    EXEC_RESIZE, EXEC_SIGNAL, EXEC_START, Frames, frame,
};
use skep_api::{ExecExit, ExecSignal, ExecStart, Problem, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::ClientError;

/// Bytes that are read at once, and of one frame of input.
const PIECE: usize = 32 << 10;

type Stream = TokioIo<Upgraded>;

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It wrote to its standard output.
    Output(Vec<u8>),
    /// It wrote to its standard error.
    Errors(Vec<u8>),
    /// It ended.
    Exit(ExecExit),
}

/// The side of a command that is told something. Dropped together with the other side, the command
/// ends.
#[derive(Debug)]
pub struct ExecSender {
    url: String,
    writer: WriteHalf<Stream>,
}

/// The side of a command that is heard.
#[derive(Debug)]
pub struct ExecReceiver {
    url: String,
    reader: ReadHalf<Stream>,
    frames: Frames,
}

pub(crate) async fn begin(
    url: String,
    upgraded: Upgraded,
    start: &ExecStart,
) -> Result<(ExecSender, ExecReceiver), ClientError> {
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let mut sender = ExecSender {
        url: url.clone(),
        writer,
    };
    sender
        .send(EXEC_START, skep_api::to_json(start).as_bytes())
        .await?;
    let receiver = ExecReceiver {
        url,
        reader,
        frames: Frames::default(),
    };
    Ok((sender, receiver))
}

fn lost(url: &str, source: std::io::Error) -> ClientError {
    ClientError::Interrupted {
        url: url.to_owned(),
        source: source.into(),
    }
}

impl ExecSender {
    async fn send(&mut self, kind: u8, rest: &[u8]) -> Result<(), ClientError> {
        let sent = self.writer.write_all(&frame(kind, rest)).await;
        sent.map_err(|error| lost(&self.url, error))
    }

    /// Sends bytes to its standard input.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`].
    pub async fn input(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for piece in bytes.chunks(PIECE) {
            self.send(EXEC_INPUT, piece).await?;
        }
        Ok(())
    }

    /// Ends its standard input.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`].
    pub async fn end_input(&mut self) -> Result<(), ClientError> {
        self.send(EXEC_INPUT_END, &[]).await
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`].
    pub async fn signal(&mut self, signal: i32) -> Result<(), ClientError> {
        let signal = skep_api::to_json(&ExecSignal { signal });
        self.send(EXEC_SIGNAL, signal.as_bytes()).await
    }

    /// Tells it the size of its terminal's window.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`].
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.send(EXEC_RESIZE, skep_api::to_json(&size).as_bytes())
            .await
    }
}

impl ExecReceiver {
    /// What comes next. The end comes last. May be dropped and asked again.
    ///
    /// # Errors
    /// [`ClientError::Problem`] when the command does not run, [`ClientError::Interrupted`] when
    /// the connection was lost, with which the command ends.
    pub async fn next(&mut self) -> Result<Heard, ClientError> {
        let strange = |url: &str, detail: &str| ClientError::Protocol {
            url: url.to_owned(),
            detail: detail.to_owned(),
        };
        let mut piece = vec![0; PIECE];
        loop {
            let frame = self.frames.next();
            match frame.map_err(|_| strange(&self.url, "a frame is too long"))? {
                Some((EXEC_OUTPUT, bytes)) => return Ok(Heard::Output(bytes)),
                Some((EXEC_ERRORS, bytes)) => return Ok(Heard::Errors(bytes)),
                Some((EXEC_EXIT, rest)) => {
                    let exit = serde_json::from_slice(&rest);
                    return exit
                        .map(Heard::Exit)
                        .map_err(|error| strange(&self.url, &error.to_string()));
                }
                Some((EXEC_REFUSED, rest)) => {
                    let problem: Problem = serde_json::from_slice(&rest)
                        .map_err(|error| strange(&self.url, &error.to_string()))?;
                    return Err(ClientError::Problem {
                        problem: Box::new(problem),
                        retry_after: None,
                        call: None,
                    });
                }
                // What a newer server says, and its beats.
                Some((EXEC_BEAT, _) | (_, _)) => continue,
                None => {}
            }
            match self.reader.read(&mut piece).await {
                Ok(0) => {
                    let end = std::io::ErrorKind::UnexpectedEof.into();
                    return Err(lost(&self.url, end));
                }
                Ok(length) => self.frames.push(&piece[..length]),
                Err(error) => return Err(lost(&self.url, error)),
            }
        }
    }
}
