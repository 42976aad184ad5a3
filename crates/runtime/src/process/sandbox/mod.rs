//! The box that an agent of the process driver lives in. The shim makes a [`Plan`] from the
//! server's [`Order`] before it forks; the child puts it in force between fork and exec. What the
//! machine does not have is left out and told, or refused in a strict sandbox.
//!
//! What each wall holds off, and what falls short, is in `docs/sandbox.md`.

pub(super) mod cgroup;
pub(super) mod disk;
pub(super) mod netns;
mod network;
mod paths;
mod syscalls;
mod view;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::pipe::PipeFlags;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use self::netns::{Entered, Way};
pub(super) use self::network::Spare;
use self::view::View;
use super::files::{Report, Start, State};
use super::find_program;
use crate::driver::Protection;
use crate::port;

/// Processes and threads of an agent that says nothing of it.
const PROCESSES: u64 = 2_048;
/// Landlock's versions that brought what is used here: files, shortening files, TCP, signals, and
/// sockets in the file system.
const FILES: i32 = 1;
const TRUNCATE: i32 = 3;
const TCP: i32 = 4;
const SIGNALS: i32 = 6;
const SOCKETS: i32 = 9;

/// How an agent is to be locked in: from the server to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Everything, or it does not start.
    pub(super) strict: bool,
    pub(super) home: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) volumes: Vec<Shared>,
    /// Folders of the server that no agent may look into.
    pub(super) private: Vec<PathBuf>,
    /// Whether the shim's standard input is the ruleset of ports to connect to.
    pub(super) network: bool,
    /// The ways out of a network of its own; none: it is in the machine's.
    #[serde(default)]
    pub(super) ways: Option<Vec<Way>>,
}

/// A volume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
}

/// A protection as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Guard {
    name: String,
    in_force: bool,
    detail: String,
}

impl From<&Guard> for Protection {
    fn from(guard: &Guard) -> Self {
        Self {
            name: guard.name.clone(),
            in_force: guard.in_force,
            detail: guard.detail.clone(),
        }
    }
}

fn guard(name: &str, found: Result<String, String>) -> Guard {
    Guard {
        name: name.to_owned(),
        in_force: found.is_ok(),
        detail: found.unwrap_or_else(|missing| missing),
    }
}

/// The version of Landlock that this kernel has; 0 is none.
fn landlock() -> i32 {
    const VERSION: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    #[expect(unsafe_code, reason = "the crate does not tell the version")]
    // SAFETY: with this flag and no attributes the call only tells a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    i32::try_from(version).unwrap_or(0).max(0)
}

fn needs(version: i32, wanted: i32, linux: &str) -> Result<String, String> {
    match version {
        found if found >= wanted => Ok(format!("Landlock ABI {found}")),
        0 => Err(
            "this kernel has no Landlock: it takes Linux 5.13 with `landlock` in its lsm= list"
                .to_owned(),
        ),
        found => Err(format!(
            "Landlock ABI {found} is too old for it: it takes Linux {linux}"
        )),
    }
}

/// What is to be put in force in the child.
#[derive(Default)]
struct Walls {
    view: Option<View>,
    rulesets: Vec<OwnedFd>,
    filters: Vec<BpfProgram>,
    drop_privileges: bool,
}

/// Everything that was prepared for one agent.
pub(super) struct Plan {
    pub(super) guards: Vec<Guard>,
    pub(super) group: cgroup::Group,
    /// The most processes by resource limit, where no group limits them.
    pub(super) processes: Option<u64>,
    pub(super) disk: Option<disk::Limit>,
    /// The network of its own that this process is in now.
    pub(super) entered: Option<Entered>,
    /// Bytes of its files, when that was said.
    all: Option<u64>,
    walls: Walls,
    tell: OwnedFd,
    told: OwnedFd,
}

/// What the child puts in force; made of a plan.
pub(super) struct Entry {
    group: cgroup::Group,
    walls: Walls,
    tell: OwnedFd,
}

/// What the parent keeps of a plan.
pub(super) struct Outcome {
    pub(super) guards: Vec<Guard>,
    told: OwnedFd,
}

/// Steps of an entry that can fail, as the child tells them.
const VIEW: u8 = b'v';
const STEPS: [(u8, &str); 5] = [
    (b'g', "the control group cannot be joined"),
    (b'h', "the names of hosts cannot be put in place"),
    (b'c', "privileges cannot be dropped"),
    (b'l', "Landlock's rules cannot be put in force"),
    (b's', "the filter of system calls cannot be put in force"),
];

impl Plan {
    /// Prepares everything, and enters the agent's network. `folder` is the instance's.
    pub(super) fn make(folder: &Path, start: &Start) -> Result<Self, Report> {
        let boxed = start.sandbox.as_ref();
        let asked = start.processes.or(boxed.map(|_| PROCESSES));
        let want = cgroup::Want {
            memory: start.memory,
            pids: asked,
            cpu_millis: start.cpu_millis,
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let group = cgroup::Group::make(&start.cgroups, &format!("skep-{name}"), want);
        let groups = group.folders.clone();
        let made = || {
            let mut plan = Self::begin(start, group).map_err(|error| cannot("made", &error))?;
            plan.disk = start.disk.map(disk::Limit::Total);
            // First, as the rules for files look at what it brings.
            let ways = boxed.and_then(|order| order.ways.as_deref());
            let hosts = ways.map(|ways| netns::enter(folder, ways));
            if let Some(order) = boxed {
                plan.lock_in(folder, start, order)
                    .map_err(|error| cannot("made", &error))?;
            }
            plan.leave(hosts);
            plan.limits(start, asked);
            if boxed.is_some_and(|order| order.strict) {
                plan.refuse()?;
            }
            Ok(plan)
        };
        made().inspect_err(|_| {
            cgroup::remove(&groups);
        })
    }

    /// Prepares what stands round an instance that runs, for a command beside it: the same walls,
    /// its own control groups and its network. `shim` is the instance's.
    pub(super) fn join(
        folder: &Path,
        start: &Start,
        state: &State,
        shim: BorrowedFd<'_>,
    ) -> Result<Self, Report> {
        let entered = |error: &dyn std::fmt::Display| cannot("entered", error);
        let group = cgroup::Group::open(&state.groups).map_err(|error| entered(&error))?;
        if let Some(network) = &state.network {
            netns::join(shim, network).map_err(|error| entered(&error))?;
        }
        let mut plan = Self::begin(start, group).map_err(|error| entered(&error))?;
        if let Some(order) = &start.sandbox {
            plan.lock_in(folder, start, order)
                .map_err(|error| entered(&error))?;
            if order.strict {
                plan.refuse()?;
            }
        }
        Ok(plan)
    }

    /// A plan without walls.
    fn begin(start: &Start, group: cgroup::Group) -> io::Result<Self> {
        let (told, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let boxed = start.sandbox.is_some();
        Ok(Self {
            guards: Vec::new(),
            processes: match (group.pids, start.processes) {
                (true, _) => None,
                (false, None) if boxed => tasks().map(|there| there + PROCESSES),
                (false, asked) => asked,
            },
            disk: None,
            entered: None,
            all: start.disk,
            group,
            walls: Walls::default(),
            tell,
            told,
        })
    }

    /// Keeps the network that was entered, or why there is none.
    fn leave(&mut self, hosts: Option<Result<Entered, String>>) {
        let Some(hosts) = hosts else { return };
        let found = hosts.map(|entered| {
            let reached = entered.network.ways.iter().map(|way| way.to.to_string());
            let reached = reached.collect::<Vec<_>>().join(", ");
            self.entered = Some(entered);
            format!("a network of its own, from which it reaches {reached}")
        });
        let place = self.guards.iter().position(|guard| guard.name == "signals");
        self.guards
            .insert(place.unwrap_or(self.guards.len()), guard("hosts", found));
    }

    /// The walls of a sandbox.
    fn lock_in(
        &mut self,
        folder: &Path,
        start: &Start,
        order: &Order,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let version = landlock();
        if version >= FILES {
            let paths = paths::rules(start, order)?;
            self.walls.rulesets.extend(paths.ruleset);
            if view::is_possible() {
                self.walls.view = Some(View::prepare(folder, &order.tmp, &paths.given)?);
            }
        }
        if version >= TCP && order.network {
            self.walls
                .rulesets
                .push(rustix::stdio::stdin().try_clone_to_owned()?);
        }
        self.walls.filters = syscalls::filters(order.strict)?;
        self.walls.drop_privileges = true;
        let wanted = if order.strict { TRUNCATE } else { FILES };
        let mut files = needs(version, wanted, "6.2");
        if let (Ok(found), ..TRUNCATE) = (&mut files, version) {
            found.push_str("; files of others can be emptied (it takes Linux 6.2)");
        }
        let most = port::LOWEST - 1;
        let network = match (needs(version, TCP, "6.7"), order.network) {
            (Ok(_), true) if order.strict => Ok(
                "connects to Skep and the ports in `connect` only, sends no datagrams".to_owned(),
            ),
            (Ok(_), true) => Ok(format!(
                "listens on its own port, connects to ports up to {most} and those in `connect`"
            )),
            (Ok(_), false) => Err(format!(
                "agents' ports cannot be told from others: let net.ipv4.ip_local_port_range \
                 begin above {}",
                port::LOWEST + port::FEWEST
            )),
            (Err(missing), _) => Err(missing),
        };
        self.guards = vec![
            guard("files", files),
            guard("network", network),
            guard("signals", needs(version, SIGNALS, "6.12")),
            guard("sockets", self.sockets(version, order.strict)),
            guard("syscalls", Ok("seccomp".to_owned())),
            guard("privileges", Ok("no capabilities, none to gain".to_owned())),
        ];
        self.disk = self.disk.or_else(|| {
            let free = disk::free(&order.home)?;
            Some(disk::Limit::More(free / 2))
        });
        Ok(())
    }

    /// How far sockets of other services in the file system are closed.
    fn sockets(&self, version: i32, strict: bool) -> Result<String, String> {
        let view = self.walls.view.as_ref();
        let hidden = |hides: bool, place: &'static str| hides.then_some(place);
        let hidden: Vec<_> = view
            .into_iter()
            .flat_map(|view| {
                [
                    hidden(view.hides_run(), "/run"),
                    hidden(view.hides_tmp(), "/tmp"),
                ]
            })
            .flatten()
            .collect();
        match (strict, hidden.as_slice()) {
            (true, _) => Ok("no local sockets at all".to_owned()),
            _ if version >= SOCKETS => needs(version, SOCKETS, "7.1"),
            (_, hidden) if hidden.contains(&"/run") => {
                Ok(format!("it has its own {}", hidden.join(" and ")))
            }
            _ => Err(
                "services of this user can be reached by their sockets: it takes Linux 7.1, \
                      or a server with CAP_SYS_ADMIN"
                    .to_owned(),
            ),
        }
    }

    /// The limits, those that were asked for and those of every sandbox.
    fn limits(&mut self, start: &Start, asked: Option<u64>) {
        let missing = "no control group can be made here";
        if let Some(bytes) = start.memory {
            let bytes = skep_core::units::format_bytes(bytes);
            self.guards.push(guard(
                "memory",
                match self.group.memory {
                    true => Ok(format!("{bytes} for all its processes")),
                    false => Err(format!("{missing}: {bytes} of addresses for each process")),
                },
            ));
        }
        if let Some(millis) = start.cpu_millis {
            self.guards.push(guard(
                "cpu",
                match self.group.cpu {
                    true => Ok(format!("{millis}m")),
                    false => Err(missing.to_owned()),
                },
            ));
        }
        if let Some(count) = asked {
            let root = rustix::process::geteuid().is_root();
            self.guards.push(guard(
                "processes",
                match (self.group.pids, root) {
                    (true, _) => Ok(format!("up to {count}")),
                    (false, true) => Err(format!("{missing}, and root has no other limit")),
                    (false, false) => Ok(format!(
                        "up to {} of its user ({missing})",
                        self.processes.unwrap_or(count)
                    )),
                },
            ));
        }
        if let Some(limit) = self.disk {
            let limit = match limit {
                disk::Limit::Total(bytes) => skep_core::units::format_bytes(bytes),
                disk::Limit::More(_) => "half of what is free".to_owned(),
            };
            self.guards.push(guard(
                "disk",
                Ok(format!("{limit}, measured; over it, it is ended")),
            ));
        }
    }

    /// Refuses to go on when something is missing.
    fn refuse(&self) -> Result<(), Report> {
        let missing: Vec<_> = self
            .guards
            .iter()
            .filter(|guard| !guard.in_force)
            .map(|guard| format!("{} ({})", guard.name, guard.detail))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Report::Refused(format!(
            "the strict sandbox cannot be had: {}; provide that or use `sandbox: standard`",
            missing.join("; ")
        )))
    }

    /// The largest file: no larger than all may be together.
    pub(super) fn file_size(&self, asked: Option<u64>) -> Option<u64> {
        let all = self.all;
        asked.map_or(all, |size| Some(all.map_or(size, |all| all.min(size))))
    }

    /// Parts the plan in what the child does and what the parent keeps.
    pub(super) fn part(self) -> (Entry, Outcome) {
        let entry = Entry {
            group: self.group,
            walls: self.walls,
            tell: self.tell,
        };
        let outcome = Outcome {
            guards: self.guards,
            told: self.told,
        };
        (entry, outcome)
    }
}

impl Outcome {
    /// What the child told: nothing when all went well. To be asked when the entry is gone.
    pub(super) fn read(&mut self) -> Option<String> {
        let Ok(told) = self.told.try_clone() else {
            return None;
        };
        let mut said = Vec::new();
        let _ = File::from(told).take(64).read_to_end(&mut said);
        let mut fatal = None;
        for pair in said.chunks_exact(2) {
            let error = io::Error::from_raw_os_error(pair[1].into());
            if let Some((_, what)) = STEPS.iter().find(|(step, _)| *step == pair[0]) {
                fatal = Some(format!("{what}: {error}"));
            }
            if let Some(sockets) = self.guards.iter_mut().find(|guard| guard.name == "sockets")
                && pair[0] == VIEW
            {
                sockets.in_force = false;
                sockets.detail = format!("/run and /tmp cannot be hidden: {error}");
            }
        }
        fatal
    }
}

impl Entry {
    /// Puts everything in force for this process. Runs between fork and exec, before the resource
    /// limits: system calls only.
    pub(super) fn apply(&self) -> io::Result<()> {
        self.step(b'g', self.group.join())?;
        if let Some(view) = &self.walls.view
            && let Err(error) = view.enter()
        {
            // The other walls stand without it, but its names must be there.
            self.say(VIEW, &error);
            if view.names_hosts() {
                return self.step(b'h', Err(error));
            }
        }
        if !self.walls.drop_privileges {
            return Ok(());
        }
        self.step(b'c', drop_privileges())?;
        for ruleset in &self.walls.rulesets {
            self.step(b'l', restrict(ruleset))?;
        }
        for filter in &self.walls.filters {
            let applied = seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error());
            self.step(b's', applied)?;
        }
        Ok(())
    }

    fn step(&self, name: u8, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.say(name, error);
        }
        result
    }

    fn say(&self, name: u8, error: &io::Error) {
        let errno = error
            .raw_os_error()
            .and_then(|errno| u8::try_from(errno).ok());
        let _ = rustix::io::write(self.tell.as_fd(), &[name, errno.unwrap_or(0)]);
    }
}

fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the ruleset was made by another process")]
    // SAFETY: the descriptor is open, and the call looks at no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            0 as libc::c_uint,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives up every capability, also for programs that are run later.
fn drop_privileges() -> io::Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // Not every number is one, and who may not do this has none to lose: what counts is below.
        let _ = rustix::thread::remove_capability_from_bounding_set(one);
    }
    rustix::thread::set_no_new_privs(true)?;
    let _ = rustix::thread::clear_ambient_capability_set();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, none)?)
}

fn cannot(what: &str, why: &dyn std::fmt::Display) -> Report {
    Report::Failed(format!("the sandbox cannot be {what}: {why}"))
}

/// Processes and threads of the machine.
fn tasks() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').nth(3)?.split('/').nth(1)?.parse().ok()
}

/// What this machine has for sandboxes, without any agent: for those who look after it.
pub(super) fn survey() -> Vec<Guard> {
    let version = landlock();
    let places = cgroup::look();
    let groups = [
        ("memory", &places.memory),
        ("processes", &places.pids),
        ("cpu", &places.cpu),
    ];
    let sockets = match view::is_possible() {
        true => Ok("agents get their own /run and /tmp".to_owned()),
        false => needs(version, SOCKETS, "7.1, or a server with CAP_SYS_ADMIN"),
    };
    let mut all = vec![
        guard("files", needs(version, TRUNCATE, "6.2")),
        guard(
            "network",
            match port::range() {
                Some(_) => needs(version, TCP, "6.7"),
                None => Err("agents' ports cannot be told from others".to_owned()),
            },
        ),
        guard(
            "hosts",
            netns::attempt().map(|()| "networks of agents' own, for `strict`".to_owned()),
        ),
        guard("signals", needs(version, SIGNALS, "6.12")),
        guard("sockets", sockets),
        guard(
            "syscalls",
            match rustix::thread::secure_computing_mode() {
                Ok(_) => Ok("seccomp".to_owned()),
                Err(_) => Err("this kernel has no seccomp filters".to_owned()),
            },
        ),
    ];
    let root = rustix::process::geteuid().is_root();
    all.extend(groups.map(|(name, place)| {
        let found = match place {
            Some(_) => Ok("control groups".to_owned()),
            None if name == "processes" && !root => Ok("a limit of the user's".to_owned()),
            None => Err(
                "no control group can be made: run the server in a unit with `Delegate=yes`"
                    .to_owned(),
            ),
        };
        guard(name, found)
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_sandbox_refuses_what_is_not_whole() {
        let (told, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut plan = Plan {
            guards: vec![guard("files", needs(7, TRUNCATE, "6.2"))],
            group: cgroup::Group::default(),
            processes: None,
            disk: None,
            entered: None,
            all: None,
            walls: Walls::default(),
            tell,
            told,
        };
        assert!(plan.refuse().is_ok());
        plan.guards.push(guard("network", needs(3, TCP, "6.7")));
        plan.guards
            .push(guard("signals", needs(0, SIGNALS, "6.12")));
        let Err(Report::Refused(why)) = plan.refuse() else {
            panic!("it was not refused")
        };
        for part in [
            "network (",
            "ABI 3",
            "6.7",
            "signals (",
            "no Landlock",
            "sandbox: standard",
        ] {
            assert!(why.contains(part), "{why}");
        }
        assert!(!why.contains("files"), "{why}");
    }

    #[test]
    fn the_filters_can_be_made() {
        for strict in [false, true] {
            let filters = syscalls::filters(strict).unwrap();
            // The kernel takes no more instructions in one.
            assert!(filters.iter().all(|filter| filter.len() < 4_096));
        }
    }
}
