//! The shim: the small process between the server and an agent's process, so that the agent
//! outlives the server. It starts the agent in a group of its own, carries its output to the log,
//! takes commands from a FIFO, ends what the agent leaves behind and writes down how it ended.
//!
//! One thread, no runtime. An agent's own network is the shim's, too: it makes the sockets that lead
//! in and out, hands them to the server, and carries no byte itself. The agent is killed when the shim is (PDEATHSIG), and
//! everything that the agent starts stays below the shim (subreaper).

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus,
};
use skep_core::Timestamp;
use skep_core::units::format_bytes;

use super::files::{self, Ended, FORMAT, Report, Start, State};
use super::network::Counter;
use super::sandbox::netns::Entered;
use super::sandbox::{Entry, Guard, Plan, cgroup, disk};
use super::{find_program, inside, proc};
use crate::driver::LogStream;
use crate::logfile::{LogWriter, PIECE};

/// How often children that were left to the shim are looked for.
const REAP_EVERY: Duration = Duration::from_secs(10);
/// How long the shim tries to end what the agent left behind.
const SWEEP: Duration = Duration::from_secs(2);
const SWEEP_STEP: Duration = Duration::from_millis(10);
/// Bytes of one command on the FIFO.
const MOST_CONTROL: usize = 256;

/// Runs the shim; `arguments` are those after the hidden subcommand: the instance's folder.
///
/// It must be the first thing that a process does: no other thread may run.
pub fn shim_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        return ExitCode::from(2);
    };
    if arguments.next().is_some_and(|word| word == inside::WORD) {
        return inside::run(&folder);
    }
    match begin(&folder) {
        Ok(mut shim) => {
            report(&Report::Running(shim.state.clone()));
            let status = shim.serve();
            shim.finish(status)
        }
        Err(failure) => {
            report(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Tells the server, which may be gone, and closes the pipe to it.
fn report(report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line);
        let _ = std::io::stdout().flush();
    }
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

struct Shim {
    folder: PathBuf,
    state: State,
    agent: Pid,
    watch: OwnedFd,
    control: File,
    commands: Vec<u8>,
    log: LogWriter,
    stdout: Option<Output>,
    stderr: Option<Output>,
    kill_at: Option<Instant>,
    disk: Option<disk::Watch>,
    /// Where sockets of the agent's own network are handed out.
    counter: Option<Counter>,
    /// Dropped, and so released, when the shim ends.
    _lock: File,
    _child: Child,
}

/// One of the agent's output pipes and the line that is not whole yet.
struct Output {
    pipe: File,
    stream: LogStream,
    line: Vec<u8>,
}

fn begin(folder: &Path) -> Result<Shim, Report> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Report::Failed(format!("{what}: {error}"))
    };
    let _ = rustix::process::setsid();
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(files::LOCK))
        .map_err(failed("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| failed("another shim holds the instance")(error.into()))?;
    // A server that gave the instance up takes the document away while it holds the lock.
    let start: Start = files::get(folder, files::START)
        .map_err(failed(files::START))?
        .ok_or_else(|| Report::Failed("the instance was given up".to_owned()))?;
    let started = folder.join(files::STATE).exists() || folder.join(files::EXIT).exists();
    if start.format != FORMAT || started {
        let why = "the instance was started before, or by another version";
        return Err(Report::Failed(why.to_owned()));
    }
    let control = open_control(folder).map_err(failed(files::CONTROL))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| failed("subreaper")(error.into()))?;
    let mut plan = Plan::make(folder, &start)?;
    let groups = plan.group.folders.clone();
    let watch_disk = plan.disk.take();
    let entered = plan.entered.take();
    let network = entered.as_ref().map(|entered| entered.network.clone());
    let opened = open_counter(folder, entered);
    let spawned = opened.and_then(|counter| Ok((counter, spawn(&start, plan)?)));
    let (counter, (mut child, protections)) = spawned.inspect_err(|_| {
        cgroup::remove(&groups);
    })?;
    let agent = Pid::from_child(&child);
    let watch = rustix::process::pidfd_open(agent, PidfdFlags::empty())
        .map_err(|error| failed("pidfd")(error.into()))?;
    let state = State {
        format: FORMAT,
        shim: std::process::id(),
        agent: child.id(),
        port: start.port,
        groups,
        protections,
        network,
    };
    // An agent that no server could adopt must not stay: it ends with the shim.
    files::put(folder, files::STATE, &state).map_err(failed(files::STATE))?;
    // What the environment holds need not lie on the disk any longer.
    let _ = std::fs::remove_file(folder.join(files::START));
    Ok(Shim {
        folder: folder.to_owned(),
        state,
        agent,
        watch,
        control,
        commands: Vec::new(),
        log: LogWriter::new(folder.join(files::LOG), start.rotation),
        stdout: output(child.stdout.take().map(OwnedFd::from), LogStream::Stdout),
        stderr: output(child.stderr.take().map(OwnedFd::from), LogStream::Stderr),
        kill_at: None,
        disk: watch_disk.map(|limit| {
            let home = start.env.get("HOME").map(PathBuf::from);
            let folders = home.into_iter().chain([folder.join(files::TMP)]);
            disk::Watch::new(folders.collect(), limit)
        }),
        counter,
        _lock: lock,
        _child: child,
    })
}

/// Where sockets of a network that was entered are handed out.
fn open_counter(folder: &Path, entered: Option<Entered>) -> Result<Option<Counter>, Report> {
    entered
        .map(|entered| Counter::open(folder, entered.listeners))
        .transpose()
        .map_err(|error| Report::Failed(format!("{}: {error}", files::NETWORK)))
}

/// Opened for both directions, so that it never ends when a writer goes.
fn open_control(folder: &Path) -> std::io::Result<File> {
    let path = folder.join(files::CONTROL);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, Mode::empty())?.into())
}

fn output(pipe: Option<OwnedFd>, stream: LogStream) -> Option<Output> {
    let pipe = pipe?;
    rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK).ok()?;
    Some(Output {
        pipe: pipe.into(),
        stream,
        line: Vec::new(),
    })
}

/// The limits of each of its processes.
pub(super) fn limits(start: &Start, plan: &Plan) -> [(Resource, Option<u64>); 5] {
    [
        // For all its processes together is better.
        (Resource::As, start.memory.filter(|_| !plan.group.memory)),
        (Resource::Nofile, start.open_files),
        (Resource::Fsize, plan.file_size(start.file_size)),
        (Resource::Nproc, plan.processes),
        (Resource::Core, Some(0)),
    ]
}

/// Starts the agent and tells how it is locked in.
fn spawn(start: &Start, plan: Plan) -> Result<(Child, Vec<Guard>), Report> {
    let Some((program, arguments)) = start.command.split_first() else {
        return Err(Report::Refused("there is no command".to_owned()));
    };
    let path = start.env.get("PATH").map_or("", String::as_str);
    if start.workdir.is_dir() && find_program(program, &start.workdir, path).is_none() {
        // Behind the walls this would look as if it were not allowed.
        return Err(Report::Refused(format!("command not found: {program}")));
    }
    let limits = limits(start, &plan);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&start.env)
        .current_dir(&start.workdir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let (entry, mut outcome) = plan.part();
    enter(&mut command, entry, limits);
    let spawned = command.spawn();
    // The rulesets are large; the child has its own.
    drop(command);
    if let Ok(null) = File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(null);
    }
    if let Some(why) = outcome.read() {
        return Err(Report::Failed(why));
    }
    let child = spawned.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if !start.workdir.is_dir() => {
            Report::Refused(format!("no such folder: {}", start.workdir.display()))
        }
        std::io::ErrorKind::NotFound => Report::Refused(format!("command not found: {program}")),
        std::io::ErrorKind::PermissionDenied => {
            Report::Refused(format!("not allowed to run {program}"))
        }
        _ => Report::Failed(format!("cannot run {program}: {error}")),
    })?;
    Ok((child, outcome.guards))
}

#[expect(
    unsafe_code,
    reason = "walls, limits and the death signal are set between fork and exec"
)]
pub(super) fn enter(command: &mut Command, entry: Entry, limits: [(Resource, Option<u64>); 5]) {
    let shim = rustix::process::getpid();
    // SAFETY: between fork and exec only plain system calls run: no allocation, no locks, and
    // nothing of the parent's memory but what was prepared for this is looked at.
    unsafe {
        command.pre_exec(move || {
            entry.apply()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(shim) {
                // The shim died before the signal was set.
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            for (resource, limit) in limits {
                let Some(limit) = limit else { continue };
                // Nobody may raise what the operating system set as the most.
                let most = rustix::process::getrlimit(resource).maximum;
                let limit = most.map_or(limit, |most| limit.min(most));
                let both = Rlimit {
                    current: Some(limit),
                    maximum: Some(limit),
                };
                rustix::process::setrlimit(resource, both)?;
            }
            Ok(())
        });
    }
}

fn group_signal(group: Pid, signal: Signal) {
    // A group that is gone needs no signal.
    let _ = rustix::process::kill_process_group(group, signal);
}

pub(super) fn wait_for(fds: &mut [PollFd<'_>], timeout: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // Interrupted or not: the caller looks at everything again.
    let _ = poll(fds, Some(&timeout));
}

impl Shim {
    /// Runs until the agent has ended, and tells how.
    fn serve(&mut self) -> WaitStatus {
        loop {
            self.wait();
            self.carry();
            self.obey();
            if let Some(counter) = &self.counter {
                counter.serve();
            }
            self.look_at_disk();
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                self.kill_at = None;
                group_signal(self.agent, Signal::KILL);
            }
            if let Some(status) = self.reap() {
                return status;
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let now = Instant::now();
        let moments = [self.kill_at, self.disk.as_ref().map(disk::Watch::next)];
        let timeout = moments
            .into_iter()
            .flatten()
            .min()
            .map_or(REAP_EVERY, |at| {
                // Rounded up, so that the moment has come when the wait is over.
                (at.saturating_duration_since(now) + Duration::from_millis(1)).min(REAP_EVERY)
            });
        let pipes = [&self.stdout, &self.stderr];
        let fds = [self.watch.as_fd(), self.control.as_fd()]
            .into_iter()
            .chain(self.counter.as_ref().map(Counter::as_fd))
            .chain(
                pipes
                    .into_iter()
                    .flatten()
                    .map(|output| output.pipe.as_fd()),
            );
        let mut fds: Vec<PollFd<'_>> = fds
            .map(|fd: BorrowedFd<'_>| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        wait_for(&mut fds, timeout);
    }

    /// Carries output to the log.
    fn carry(&mut self) {
        for slot in [&mut self.stdout, &mut self.stderr] {
            if slot
                .as_mut()
                .is_some_and(|output| output.carry(&mut self.log))
            {
                *slot = None;
            }
        }
        self.log.flush();
    }

    /// Ends an agent that has written too much.
    fn look_at_disk(&mut self) {
        let Some(watch) = &mut self.disk else { return };
        let Some((found, limit)) = watch.step(self.state.shim) else {
            return;
        };
        let (found, limit) = (format_bytes(found), format_bytes(limit));
        let words = format!(
            "ended by skep: its files take {found}, over its disk limit of {limit}; \
             free space in its home, or raise `resources.disk`"
        );
        let now = Timestamp::system_now();
        self.log.add(now, LogStream::Stderr, true, words.as_bytes());
        self.disk = None;
        self.kill_at = None;
        group_signal(self.agent, Signal::KILL);
        cgroup::kill(&self.state.groups);
    }

    /// Does what the server asks for.
    fn obey(&mut self) {
        let mut chunk = [0_u8; MOST_CONTROL];
        while let Ok(length @ 1..) = self.control.read(&mut chunk) {
            self.commands.extend_from_slice(&chunk[..length]);
            while let Some(end) = self.commands.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.commands.drain(..=end).collect();
                self.command(&String::from_utf8_lossy(&line));
            }
            if self.commands.len() > MOST_CONTROL {
                self.commands.clear();
            }
        }
    }

    fn command(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let verb = words.next();
        let Some(number) = words.next().and_then(|word| word.parse::<u32>().ok()) else {
            return;
        };
        match verb {
            Some("stop") => {
                let at = Instant::now() + Duration::from_millis(number.into());
                if number > 0 && self.kill_at.is_none() {
                    group_signal(self.agent, Signal::TERM);
                    // A process that was halted would not see the request.
                    group_signal(self.agent, Signal::CONT);
                }
                self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
            }
            Some("signal") => {
                let signal = i32::try_from(number).ok().and_then(Signal::from_named_raw);
                if let Some(signal) = signal {
                    group_signal(self.agent, signal);
                }
            }
            _ => {}
        }
    }

    /// Reaps what ended; the agent's own status when it was the agent.
    fn reap(&mut self) -> Option<WaitStatus> {
        let looked = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = rustix::process::waitid(WaitId::Pid(self.agent), looked);
        if !matches!(ended, Ok(None)) {
            // Before the agent is reaped its number, and so its group's, is nobody else's.
            group_signal(self.agent, Signal::KILL);
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.agent {
                return Some(status);
            }
        }
        None
    }

    /// Ends what the agent left behind, writes down how it ended and ends.
    fn finish(&mut self, status: WaitStatus) -> ExitCode {
        let until = Instant::now() + SWEEP;
        loop {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            let left = proc::children(std::process::id());
            // Those of its group first: while it makes new ones faster than they are found, none
            // of them can get away.
            let any = cgroup::kill(&self.state.groups);
            if (left.is_empty() && !any) || Instant::now() >= until {
                break;
            }
            for pid in left.into_iter().filter_map(proc::pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            wait_for(&mut [], SWEEP_STEP);
        }
        cgroup::remove(&self.state.groups);
        let _ = std::fs::remove_dir_all(self.folder.join(files::TMP));
        self.carry();
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.end(&mut self.log);
        }
        self.log.flush();
        let (code, signal) = (status.exit_status(), status.terminating_signal());
        let ended = Ended {
            format: FORMAT,
            code,
            signal,
        };
        let _ = files::put(&self.folder, files::EXIT, &ended);
        for name in [files::CONTROL, files::NETWORK, files::NETWORK_KEY] {
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        // When the disk is full this is all that tells the server.
        let status = code.or(signal.map(|signal| 128 + signal)).unwrap_or(1);
        ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
    }
}

impl Output {
    /// Carries what is there to the log; true when the pipe has ended.
    fn carry(&mut self, log: &mut LogWriter) -> bool {
        // A few rounds, so that an agent that writes without end does not keep the shim from
        // its other duties.
        const ROUNDS: usize = 4;
        let mut chunk = [0_u8; PIECE];
        for _ in 0..ROUNDS {
            match self.pipe.read(&mut chunk) {
                Ok(0) => {
                    self.end(log);
                    return true;
                }
                Ok(length) => self.take(&chunk[..length], log),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }

    fn take(&mut self, bytes: &[u8], log: &mut LogWriter) {
        let now = Timestamp::system_now();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (mut text, whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            while self.line.len() + text.len() > PIECE {
                let (piece, rest) = text.split_at(PIECE - self.line.len());
                self.line.extend_from_slice(piece);
                log.add(now, self.stream, false, &self.line);
                self.line.clear();
                text = rest;
            }
            if whole && self.line.is_empty() {
                log.add(now, self.stream, true, text);
                continue;
            }
            self.line.extend_from_slice(text);
            if whole {
                log.add(now, self.stream, true, &self.line);
                self.line.clear();
            }
        }
        log.flush();
    }

    /// Writes the last line, which may lack its end.
    fn end(&mut self, log: &mut LogWriter) {
        if !self.line.is_empty() {
            log.add(Timestamp::system_now(), self.stream, true, &self.line);
            self.line.clear();
        }
    }
}
