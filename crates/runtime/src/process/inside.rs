//! The helper that enters an instance's box and runs a command there. Like the shim it is a process
//! of its own with one thread: it puts the same walls round the command that the shim put round the
//! agent, joins the same control groups, and ends with all that it started when its socket closes,
//! when the command ends, or when the instance does.

use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::exec::{Entry, MOST_FDS, Said};
use super::files::{FORMAT, Report};
use super::sandbox::Plan;
use super::shim::{enter, limits, wait_for};
use super::{find_program, proc};

/// The word behind the instance's folder that leads here.
pub(super) const WORD: &str = "inside";
/// How often children that were left to the helper are looked for.
const REAP_EVERY: Duration = Duration::from_secs(10);
/// How long it tries to end what the command left behind.
const SWEEP: Duration = Duration::from_secs(2);
const SWEEP_STEP: Duration = Duration::from_millis(5);
/// Bytes of an entry.
const MOST_ENTRY: u64 = 16 << 20;

/// Runs the helper. It must be the first thing that a process does: no other thread may run.
pub(super) fn run(folder: &Path) -> ExitCode {
    let Ok(socket) = rustix::stdio::stdin().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let mut socket = UnixStream::from(socket);
    let fds = take_over(&socket).unwrap_or_default();
    let mut reader = match socket.try_clone() {
        Ok(clone) => BufReader::new(clone),
        Err(_) => return ExitCode::FAILURE,
    };
    let mut line = Vec::new();
    let read = (&mut reader).take(MOST_ENTRY).read_until(b'\n', &mut line);
    let entry = read
        .ok()
        .and_then(|_| serde_json::from_slice::<Entry>(&line).ok());
    let Some(entry) = entry else {
        return ExitCode::FAILURE;
    };
    let said = match begin(folder, &entry, fds) {
        Ok(mut inside) => {
            say(&mut socket, &Said::Runs);
            let status = inside.serve(reader);
            inside.sweep();
            Said::Ended {
                code: status.and_then(WaitStatus::exit_status),
                signal: status.and_then(WaitStatus::terminating_signal),
            }
        }
        Err(Report::Refused(why)) => Said::Refused(why),
        Err(Report::Failed(why)) => Said::Failed(why),
        Err(Report::Running(_)) => return ExitCode::FAILURE,
    };
    say(&mut socket, &said);
    ExitCode::SUCCESS
}

/// Tells the server, which may be gone.
fn say(socket: &mut UnixStream, said: &Said) {
    if let Ok(mut line) = serde_json::to_vec(said) {
        line.push(b'\n');
        let _ = socket.write_all(&line);
    }
}

/// The descriptors that the server hands over.
fn take_over(socket: &UnixStream) -> std::io::Result<Vec<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut all = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            all.extend(fds);
        }
    }
    Ok(all)
}

struct Inside {
    command: Pid,
    /// Readable when the command has ended.
    watch: OwnedFd,
    /// Readable when the instance has ended.
    instance: OwnedFd,
    _child: Child,
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Report + '_ {
    move |error| Report::Failed(format!("{what}: {error}"))
}

fn begin(folder: &Path, entry: &Entry, fds: Vec<OwnedFd>) -> Result<Inside, Report> {
    let gone = || Report::Failed("the instance has ended".to_owned());
    if entry.state.format != FORMAT {
        return Err(Report::Failed(
            "the instance is of another version".to_owned(),
        ));
    }
    let shim = proc::pid(entry.state.shim).ok_or_else(gone)?;
    let instance = rustix::process::pidfd_open(shim, PidfdFlags::empty()).map_err(|_| gone())?;
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| failed("subreaper")(error.into()))?;
    let wanted = if entry.terminal { 1 } else { 3 };
    let mut fds = fds.into_iter();
    let streams: Vec<OwnedFd> = fds.by_ref().take(wanted).collect();
    // The walls look for the ports' rules there, as the shim's do.
    match fds.next() {
        Some(ruleset) => rustix::stdio::dup2_stdin(ruleset),
        None => std::fs::File::open("/dev/null").map_or(Ok(()), rustix::stdio::dup2_stdin),
    }
    .map_err(|error| failed("descriptors")(error.into()))?;
    let plan = Plan::join(folder, &entry.start, &entry.state, instance.as_fd())?;
    let child = spawn(entry, plan, streams)?;
    let command = Pid::from_child(&child);
    let watch = rustix::process::pidfd_open(command, PidfdFlags::empty())
        .map_err(|error| failed("pidfd")(error.into()))?;
    let inside = Inside {
        command,
        watch,
        instance,
        _child: child,
    };
    // Whether what was watched was the instance's shim, and not a later process of its number.
    match super::look_at(folder) {
        true => Ok(inside),
        false => {
            inside.sweep();
            Err(gone())
        }
    }
}

fn spawn(entry: &Entry, plan: Plan, streams: Vec<OwnedFd>) -> Result<Child, Report> {
    let start = &entry.start;
    let Some((program, arguments)) = start.command.split_first() else {
        return Err(Report::Refused("there is no command".to_owned()));
    };
    let path = start.env.get("PATH").map_or("", String::as_str);
    if find_program(program, &start.workdir, path).is_none() {
        return Err(Report::Refused(format!("command not found: {program}")));
    }
    let copy = |fd: &OwnedFd| {
        fd.try_clone()
            .map(Stdio::from)
            .map_err(failed("descriptors"))
    };
    let [input, output, errors] = match streams.as_slice() {
        [screen] => [copy(screen)?, copy(screen)?, copy(screen)?],
        [input, output, errors] => [copy(input)?, copy(output)?, copy(errors)?],
        _ => {
            return Err(Report::Failed(
                "the command's streams are missing".to_owned(),
            ));
        }
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&start.env)
        .current_dir(&start.workdir)
        .stdin(input)
        .stdout(output)
        .stderr(errors);
    match entry.terminal {
        true => take_terminal(&mut command),
        false => drop(command.process_group(0)),
    }
    let limits = limits(start, &plan);
    let (walls, mut outcome) = plan.part();
    enter(&mut command, walls, limits);
    let spawned = command.spawn();
    // What it holds must be the command's alone, so that their ends are seen.
    drop((command, streams));
    if let Some(why) = outcome.read() {
        return Err(Report::Failed(why));
    }
    spawned.map_err(|error| Report::Refused(format!("cannot run {program}: {error}")))
}

#[expect(
    unsafe_code,
    reason = "the terminal becomes the command's between fork and exec"
)]
fn take_terminal(command: &mut Command) {
    // SAFETY: only plain system calls run between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
}

impl Inside {
    /// Runs until the command has ended, and tells how; nothing when it was to end before.
    fn serve(&mut self, mut socket: BufReader<UnixStream>) -> Option<WaitStatus> {
        loop {
            if socket.buffer().is_empty() {
                let fds = [
                    self.watch.as_fd(),
                    self.instance.as_fd(),
                    socket.get_ref().as_fd(),
                ];
                let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
                wait_for(&mut fds, REAP_EVERY);
                let [_, instance, asked] = fds.map(|fd| !fd.revents().is_empty());
                if let Some(status) = self.reap() {
                    return Some(status);
                }
                if instance {
                    return None;
                }
                if !asked {
                    continue;
                }
            }
            let mut line = String::new();
            // A line comes whole: the server writes it at once.
            if !matches!(socket.read_line(&mut line), Ok(1..)) {
                return None;
            }
            let number = line
                .strip_prefix("signal ")
                .and_then(|rest| rest.trim().parse().ok());
            if let Some(signal) = number.and_then(Signal::from_named_raw) {
                // A group that is gone needs none.
                let _ = rustix::process::kill_process_group(self.command, signal);
            }
        }
    }

    /// Reaps what ended; the command's status when it was the command.
    fn reap(&self) -> Option<WaitStatus> {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.command {
                return Some(status);
            }
        }
        None
    }

    /// Ends what is left of the command.
    fn sweep(&self) {
        let until = Instant::now() + SWEEP;
        loop {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            let left = proc::all_below(std::process::id());
            if left.is_empty() || Instant::now() >= until {
                return;
            }
            for pid in left.into_iter().filter_map(proc::pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            wait_for(&mut [], SWEEP_STEP);
        }
    }
}
