//! Commands in a container that runs. The engine cannot end one by itself: its processes are ended
//! as this machine sees them, and with a terminal they lose it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bytes::Bytes;
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use skep_runtime::{DriverError, ExecOrder, Executing, Execution, Exit, LogStream};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

use crate::engine::Engine;
use crate::process::{Seen, below};

/// Pieces of output that wait for a slow reader.
const PIECES: usize = 16;
/// Time between two looks at a command whose output has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Looks for the process of a command that was just started.
const LOOKS: u32 = 40;

/// The standard input, as the engine takes it.
struct Input(Pin<Box<dyn AsyncWrite + Send>>);

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// A command as the engine knows it.
struct Command {
    engine: Arc<Engine>,
    id: String,
    /// Its first process; not looked up until it is asked for.
    process: Option<Seen>,
    /// True when its output has ended.
    quiet: watch::Receiver<bool>,
    exit: Option<Exit>,
}

pub(crate) async fn exec(
    engine: Arc<Engine>,
    container: &str,
    order: &ExecOrder,
) -> Result<Execution, DriverError> {
    let terminal = order.terminal.as_ref();
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(terminal.is_some()),
        cmd: Some(order.command.clone()),
        env: terminal.map(|terminal| vec![format!("TERM={}", terminal.kind)]),
        ..CreateExecOptions::default()
    };
    let made = engine.ask(|docker| async move { docker.create_exec(container, options).await });
    let id = made.await?.id;
    let options = StartExecOptions {
        detach: false,
        tty: terminal.is_some(),
        output_capacity: None,
    };
    let (of, started) = (id.clone(), &engine);
    let started = started.ask(|docker| async move { docker.start_exec(&of, Some(options)).await });
    let StartExecResults::Attached { mut output, input } = started.await? else {
        return Err(DriverError::Failed("the engine did not attach".to_owned()));
    };
    let (sender, receiver) = mpsc::channel(PIECES);
    let (tell, quiet) = watch::channel(false);
    tokio::spawn(async move {
        while let Some(Ok(piece)) = output.next().await {
            let piece: (LogStream, Bytes) = match piece {
                LogOutput::StdErr { message } => (LogStream::Stderr, message),
                LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message } => (LogStream::Stdout, message),
            };
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        tell.send_replace(true);
    });
    let mut command = Command {
        engine,
        id,
        process: None,
        quiet,
        exit: None,
    };
    if let Some(terminal) = terminal {
        command.resize(terminal.columns, terminal.rows).await?;
    }
    command.find().await;
    Ok(Execution {
        input: Box::new(Input(input)),
        output: receiver,
        control: Box::new(command),
    })
}

impl Command {
    /// Looks up its first process, and whether it has ended before it was seen.
    async fn find(&mut self) {
        for _ in 0..LOOKS {
            let of = self.id.clone();
            let asked = self
                .engine
                .ask(|docker| async move { docker.inspect_exec(&of).await });
            let Ok(found) = asked.await else { return };
            let pid = found.pid.and_then(|pid| u32::try_from(pid).ok());
            self.process = pid.filter(|pid| *pid > 0).and_then(Seen::look);
            if self.process.is_some() || found.running == Some(false) && found.exit_code.is_some() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn kill(&self, signal: Signal, all: bool) {
        let Some(process) = self.process.filter(|process| process.lives()) else {
            return;
        };
        let more = if all { below(process.pid) } else { Vec::new() };
        for pid in more.into_iter().chain([process.pid]) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // One that is gone needs none.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

#[async_trait]
impl Executing for Command {
    async fn wait(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        // An error is the end of the one who carries the output.
        let _ = self.quiet.wait_for(|quiet| *quiet).await;
        loop {
            let of = self.id.clone();
            let asked = self
                .engine
                .ask(|docker| async move { docker.inspect_exec(&of).await });
            let exit = match asked.await {
                Ok(found) if found.running == Some(true) => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Ok(found) => Exit {
                    code: found.exit_code.and_then(|code| i32::try_from(code).ok()),
                    ..Exit::default()
                },
                // It went with its container.
                Err(_) => Exit::default(),
            };
            return self.exit.insert(exit).clone();
        }
    }

    async fn signal(&mut self, signal: i32) -> Result<(), DriverError> {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.kill(signal, true);
        }
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), DriverError> {
        let (of, options) = (
            self.id.clone(),
            ResizeExecOptions {
                height: rows,
                width: columns,
            },
        );
        let resized = self
            .engine
            .ask(|docker| async move { docker.resize_exec(&of, options).await });
        // One that has ended has no terminal.
        let _ = resized.await;
        Ok(())
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.kill(Signal::KILL, true);
        }
    }
}
