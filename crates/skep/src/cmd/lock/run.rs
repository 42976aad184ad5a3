//! `lock run`: any program, with its credentials resolved at the moment of its start. This process becomes
//! the program, so that exit codes, signals and the terminal are the program's own, and nothing of ours stays.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use serde_json::json;
use skep_lock::{CREDENTIALS, Entries, Value};
use zeroize::Zeroizing;

use super::consent::{Consents, Program, this_session};
use super::dotenv::is_variable;
use super::file::{self, KeyArgs, refused};
use super::no_entry;
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;
use crate::table;

/// Where a program finds the pipe with its credentials.
const DESCRIPTOR: &str = "SKEP_CREDENTIALS_FD";
/// What opens the whole file is not for the program.
const OURS: [&str; 2] = ["SKEP_LOCK_IDENTITY_FILE", "SKEP_LOCK_PASSPHRASE_FILE"];

/// Flags of `lock run`.
#[derive(Debug, Args)]
#[command(after_help = "\
You are asked for each credential: once, for this session of the terminal,
always, or not at all. What you say for longer is kept in your own state folder
($XDG_STATE_HOME/skep/consents) for this agent, this credential and this very
command: the program's place and content, its arguments, the content of files
that these name, and the folder. When one of them changes you are asked again.
Without a terminal --allow says yes; --yes does not.

A credential becomes a variable of the program's environment, which its children
inherit and its user can look at. With --fd it is not there: the program reads a
JSON object of them, once, from the descriptor in SKEP_CREDENTIALS_FD.

Examples:
  skep lock run -- python3 agent.py
  skep lock run --credential OPENAI_API_KEY=API_KEY --allow OPENAI_API_KEY -- ./agent
  skep lock run --fd -- ./agent")]
pub(crate) struct RunArgs {
    /// A credential, and its variable; can be given again [default: all, by
    /// their names]
    #[arg(long = "credential", value_name = "NAME[=VARIABLE]")]
    credentials: Vec<String>,
    /// Say yes to a credential; can be given again
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// Hand them over through a pipe instead of the environment
    #[arg(long)]
    fd: bool,
    #[command(flatten)]
    pub(super) key: KeyArgs,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Flags of `lock consents`.
#[derive(Debug, Args)]
pub(crate) struct ConsentsArgs {
    /// Take them back, or those for one credential
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    forget: Option<String>,
    #[command(flatten)]
    pub(super) path: super::PathArgs,
}

/// A credential and the variable that it goes to.
struct Wish {
    entry: String,
    variable: String,
}

fn wishes(args: &RunArgs, entries: &Entries) -> Result<Vec<Wish>> {
    let split = |text: &String| match text.split_once('=') {
        Some((entry, variable)) => (entry.to_owned(), variable.to_owned()),
        None => (text.clone(), text.clone()),
    };
    let all: Vec<(String, String)> = match args.credentials.is_empty() {
        true => entries.keys().map(|it| (it.clone(), it.clone())).collect(),
        false => args.credentials.iter().map(split).collect(),
    };
    let mut wishes: Vec<Wish> = Vec::new();
    for (entry, variable) in all {
        if !args.fd && !is_variable(&variable) {
            return Err(
                Failure::usage(format!("`{variable}` is no name of a variable")).hint(format!(
                    "Give it one: --credential {entry}=NAME, or use --fd."
                )),
            );
        }
        if wishes.iter().any(|it| it.variable == variable) {
            return Err(Failure::usage(format!("`{variable}` is asked for twice")));
        }
        wishes.push(Wish { entry, variable });
    }
    Ok(wishes)
}

/// What somebody says to a question.
enum Said {
    Once,
    Session,
    Always,
    No,
}

fn ask(program: &Program, agent: &str, entry: &str) -> Result<Said> {
    let question = format!("{} wants {entry} of {agent}.", program.path.display());
    loop {
        write!(
            io::stderr(),
            "{} Allow it [o]nce, for this [s]ession, [a]lways, or [d]eny it? ",
            table::clean(&question)
        )?;
        let mut line = String::new();
        let length = io::stdin().lock().read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().as_str() {
            "o" | "once" => return Ok(Said::Once),
            "s" | "session" => return Ok(Said::Session),
            "a" | "always" => return Ok(Said::Always),
            "d" | "deny" | "n" | "no" => return Ok(Said::No),
            _ if length == 0 => return Ok(Said::No),
            _ => {}
        }
    }
}

/// Sees to it that somebody has said yes to each.
fn consented(
    session: &Session,
    args: &RunArgs,
    (id, name): (&str, &str),
    program: &Program,
    wishes: &[Wish],
) -> Result {
    let this = this_session();
    let kept = Consents::of(id)?;
    let said = |entry: &str| {
        let before = kept.as_ref();
        args.allow.iter().any(|it| it == entry)
            || before.is_some_and(|it| it.has(entry, program, this.as_deref()))
    };
    let mut left: Vec<&str> = wishes.iter().map(|it| it.entry.as_str()).collect();
    left.retain(|entry| !said(entry));
    left.dedup();
    // Nobody else who asks waits for what is said here.
    drop(kept);
    let is_there = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !left.is_empty() && (session.global.no_input || !is_there) {
        let all = left.join(", ");
        let detail =
            format!("nobody has allowed {all} for this command, and nobody is there to ask");
        return Err(Failure::new(Exit::Auth, detail)
            .hint(format!("Allow it with --allow {}.", left.join(" --allow "))));
    }
    for entry in left {
        let session = match ask(program, name, entry)? {
            Said::Once => continue,
            Said::No => {
                let detail = format!("{entry} is denied; nothing was started");
                return Err(Failure::new(Exit::Cancelled, detail));
            }
            Said::Always => None,
            Said::Session => match &this {
                Some(this) => Some(this.clone()),
                None => continue,
            },
        };
        if let Some(mut kept) = Consents::of(id)? {
            kept.keep(entry, program, session)?;
        }
    }
    Ok(())
}

/// A pipe from which these values can be read, once.
fn pipe(values: &[(&Wish, &Zeroizing<String>)]) -> Result<OwnedFd> {
    let fields = values
        .iter()
        .map(|(wish, value)| (wish.variable.as_str(), value.as_str()));
    let fields: std::collections::BTreeMap<&str, &str> = fields.collect();
    let text = Zeroizing::new(serde_json::to_string(&fields).map_err(anyhow::Error::from)?);
    let (read, write) = rustix::pipe::pipe().map_err(io::Error::from)?;
    let too_long = |_| {
        Failure::plain("the credentials are too long for a pipe")
            .hint("Leave --fd out, or ask for fewer.")
    };
    // All of it must fit: nobody is left to write when the program reads.
    rustix::pipe::fcntl_setpipe_size(write.as_fd(), text.len().max(1)).map_err(too_long)?;
    rustix::io::ioctl_fionbio(write.as_fd(), true).map_err(io::Error::from)?;
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let length = rustix::io::write(write.as_fd(), left).map_err(too_long)?;
        left = &left[length..];
    }
    Ok(read)
}

pub(super) fn run(session: &Session, args: &RunArgs) -> Result {
    let program = Program::of(&args.command)?;
    let (held, open) = file::open(session, &args.key)?;
    let entries = open.layer(CREDENTIALS);
    let entries = entries.map_err(|error| refused(&held.path, error))?;
    let wishes = wishes(args, &entries)?;
    let mut values = Vec::new();
    for wish in &wishes {
        match entries.get(&wish.entry) {
            Some(Value::Text(text)) => values.push((wish, text)),
            _ => return Err(no_entry(&held, CREDENTIALS, &wish.entry, &entries)),
        }
        if !args.fd && values.last().is_some_and(|(_, text)| text.contains('\0')) {
            return Err(Failure::plain(format!("{} holds a zero byte", wish.entry))
                .hint("A variable cannot; use --fd."));
        }
    }
    if let Some(other) = args
        .allow
        .iter()
        .find(|it| !wishes.iter().any(|wish| wish.entry == **it))
    {
        return Err(Failure::usage(format!(
            "`{other}` is allowed, and not asked for"
        )));
    }
    let agent = open.lock().agent().clone();
    // Whoever changes the file meanwhile need not wait for an answer.
    drop(held);
    consented(session, args, (&agent.id, &agent.name), &program, &wishes)?;
    let mut command = Command::new(&program.path);
    command.args(args.command.iter().skip(1));
    command.arg0(
        args.command
            .first()
            .map_or(OsStr::new(""), |it| it.as_os_str()),
    );
    for name in OURS {
        command.env_remove(name);
    }
    if args.fd {
        let read = pipe(&values)?;
        command.env(DESCRIPTOR, read.as_raw_fd().to_string());
        // It is the program's from here on.
        let _ = read.into_raw_fd();
    } else {
        for (wish, value) in &values {
            command.env(&wish.variable, value.as_str());
        }
    }
    // It returns only when there is no such program to become.
    let error = command.exec();
    Err(Failure::plain(format!(
        "{}: {error}",
        program.path.display()
    )))
}

pub(super) fn consents(session: &Session, args: &ConsentsArgs) -> Result {
    let lock = file::read(&args.path.file)?;
    let Some(mut kept) = Consents::of(&lock.agent().id)? else {
        return Err(
            Failure::usage("there is no folder in which consents could be kept")
                .hint("Set XDG_STATE_HOME or HOME."),
        );
    };
    let Some(forget) = &args.forget else {
        return session.output.list(&kept.all);
    };
    let entry = Some(forget.as_str()).filter(|it| !it.is_empty());
    let count = kept.forget(entry)?;
    let said = format!("{count} consents are taken back.");
    session
        .output
        .done(&json!({"forgotten": count}), &lock.agent().name, &said)
}
