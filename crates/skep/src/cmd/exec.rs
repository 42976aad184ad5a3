//! A command in an agent's box.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use skep_api::{ExecExit, ExecStart, ExecTerminal, TerminalSize};
use skep_client::{ExecReceiver, ExecSender, Heard};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Exit, Failure, Result};
use crate::session::Session;
use crate::terminal::{Raw, input, is_there};

/// Signals and sizes that wait to be told.
const ORDERS: usize = 16;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// An exit status that tells of a signal is so much above its number.
const SIGNALLED: i32 = 128;

/// Flags of `exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
The command sees what the agent sees and may do what it may: the same folders,
variables, user, walls and limits. It ends when this program does, when the
instance does, and with all that it started. Its exit code is passed on; 128
and the number when a signal ended it. Who ran what stands in `skep events`.

Examples:
  skep exec hello -- ls -la
  skep exec hello -t -- sh
  tar c notes | skep exec hello -- tar x")]
pub(crate) struct ExecArgs {
    /// The agent
    agent: String,
    /// In this instance, `ins_…`, instead of one that is ready
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// Give it a terminal, for programs that people use
    #[arg(short = 't', long)]
    tty: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn size(session: &Session) -> TerminalSize {
    let (columns, rows) = session.output.size();
    TerminalSize {
        columns: u16::try_from(columns).unwrap_or(u16::MAX),
        rows: u16::try_from(rows).unwrap_or(u16::MAX),
    }
}

pub(crate) async fn exec(session: &Session, args: ExecArgs) -> Result {
    if args.tty && !is_there() {
        return Err(Failure::usage("there is no terminal here to give to it")
            .hint("Leave -t out; output and errors come apart then."));
    }
    let terminal = args.tty.then(|| ExecTerminal {
        size: size(session),
        kind: std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()),
    });
    let start = ExecStart {
        command: args.command,
        terminal,
    };
    let client = session.client()?;
    let (sender, receiver) = client
        .exec(&args.agent, args.instance.as_deref(), &start)
        .await?;
    let exit = {
        let _raw = args.tty.then(Raw::take).transpose()?;
        // A terminal that nobody gives to the command stays the user's.
        let keys = match io::stdin().is_terminal() && !args.tty {
            true => None,
            false => Some(input()?),
        };
        converse(session, sender, receiver, keys).await?
    };
    match (exit.code, exit.signal) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::passed(code)),
        (None, Some(signal)) => Err(Failure::passed(SIGNALLED + signal)),
        (None, None) => Err(Failure::plain("the command ended with its instance")),
    }
}

/// Carries both ways until the command has ended.
async fn converse(
    session: &Session,
    mut sender: ExecSender,
    mut receiver: ExecReceiver,
    keys: Option<mpsc::Receiver<Vec<u8>>>,
) -> Result<ExecExit> {
    let mut windows = signal(SignalKind::window_change())?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut ends = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    let mut interrupted = false;
    if keys.is_none() {
        sender.end_input().await?;
    }
    // Told by a task of its own: a command that takes no input is still heard.
    let (orders, told) = mpsc::channel(ORDERS);
    let telling = tokio::spawn(tell(sender, keys, told));
    let _telling = AbortOnDrop(telling.abort_handle());
    loop {
        tokio::select! {
            heard = receiver.next() => match heard? {
                Heard::Output(bytes) => session.output.raw(&bytes)?,
                Heard::Errors(bytes) => {
                    let mut errors = io::stderr().lock();
                    errors.write_all(&bytes)?;
                    errors.flush()?;
                }
                Heard::Exit(exit) => return Ok(exit),
            },
            _ = windows.recv() => drop(orders.try_send(Order::Resize(size(session)))),
            _ = interrupts.recv() => {
                // Who insists leaves; the command ends with the connection.
                if std::mem::replace(&mut interrupted, true) {
                    return Err(Failure::quiet(Exit::Interrupted));
                }
                let _ = orders.try_send(Order::Signal(SIGINT));
            }
            _ = ends.recv() => drop(orders.try_send(Order::Signal(SIGTERM))),
            _ = hangups.recv() => return Err(Failure::quiet(Exit::Interrupted)),
        }
    }
}

/// What the command is told besides its input.
enum Order {
    Signal(i32),
    Resize(TerminalSize),
}

/// Tells the command everything, until the connection is lost; the one who hears finds that out.
async fn tell(
    mut sender: ExecSender,
    mut keys: Option<mpsc::Receiver<Vec<u8>>>,
    mut orders: mpsc::Receiver<Order>,
) {
    loop {
        let pressed = async {
            match &mut keys {
                Some(keys) => keys.recv().await,
                None => std::future::pending().await,
            }
        };
        let told = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Signal(signal)) => sender.signal(signal).await,
                Some(Order::Resize(size)) => sender.resize(size).await,
                None => return,
            },
            pressed = pressed => match pressed {
                Some(bytes) => sender.input(&bytes).await,
                None => {
                    keys = None;
                    sender.end_input().await
                }
            },
        };
        if told.is_err() {
            return;
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
