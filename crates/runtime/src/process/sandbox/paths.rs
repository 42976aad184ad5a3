//! Which files an agent may touch: the system's programs to read and run, its own code to read,
//! its home, its temporary folder and its volumes to write. Everything else is closed, for root
//! too (Landlock).

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::Order;
use super::netns::HOSTS;
use super::view::RESOLVER;
use crate::process::files::Start;

/// The newest rights that are handled; an older kernel leaves out those that it does not know.
const NEWEST: ABI = ABI::V9;
/// Programs and their libraries.
const SYSTEM: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/snap",
    "/run/current-system",
];
/// What programs look up in `/etc`. Named one by one: keys and passwords lie there too, and root
/// could read them.
const SETTINGS: [&str; 49] = [
    "/etc/alternatives",
    "/etc/alsa",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/environment",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/lsb-release",
    "/etc/machine-id",
    "/etc/magic",
    "/etc/mailcap",
    "/etc/mime.types",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/opt",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/perl",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/redhat-release",
    "/etc/resolv.conf",
    "/etc/rpc",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
];
/// What the kernel tells. `/proc` shows that other processes are there; their memory, environment
/// and files stay closed, since Landlock lets a process look only at those in its own box.
const KERNEL: [&str; 5] = [
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/sys/class/net",
];
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];
/// Shared memory of the whole machine, which locks between processes need. It cannot be listed, so
/// only what is known by name can be opened.
const SHARED_MEMORY: &str = "/dev/shm";
/// Folders that belong to a program in `…/bin`.
const BESIDE_BIN: [&str; 9] = [
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "include",
    "conf",
    "pyvenv.cfg",
];
/// Folders that belong to the stand-ins of a version manager in `…/shims`.
const BESIDE_SHIMS: [&str; 9] = [
    "shims",
    "bin",
    "lib",
    "libexec",
    "versions",
    "installs",
    "plugins",
    "version",
    "completions",
];
/// Where the interpreter of a project usually is.
const ENVIRONMENTS: [&str; 2] = [".venv/bin/python", "venv/bin/python"];
/// Links that are followed from a program to what it is.
const MOST_LINKS: usize = 16;
/// A folder this close to the root is not opened because of a file in it.
const LEAST_DEPTH: usize = 2;
/// Bytes of a script's first line that are looked at.
const MOST_SHEBANG: u64 = 256;

fn read() -> BitFlags<AccessFs> {
    AccessFs::from_read(NEWEST)
}

fn all() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST)
}

fn look() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Collects rules, each path once.
struct Rules<'a> {
    ruleset: RulesetCreated,
    private: &'a [PathBuf],
    seen: HashSet<(PathBuf, u64)>,
    /// Everything that was given to the agent, for those who hide folders from it.
    given: Vec<PathBuf>,
}

/// The rules of one agent, ready to be put in force, and the folders that they open.
pub(super) struct Paths {
    pub(super) ruleset: Option<OwnedFd>,
    pub(super) given: Vec<PathBuf>,
}

/// Makes the rules.
pub(super) fn rules(start: &Start, order: &Order) -> Result<Paths, RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(all())?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        // Port 0 is any free one that the kernel picks: none that belongs to another agent.
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?
        .add_rule(NetPort::new(start.port, AccessNet::BindTcp))?;
    let mut rules = Rules {
        ruleset,
        private: &order.private,
        seen: HashSet::new(),
        given: Vec::new(),
    };
    for path in SYSTEM.iter().chain(&SETTINGS) {
        rules.open(path, read())?;
    }
    // Where the resolver's settings are a link to what a daemon replaces now and then, the rule is
    // for the folder: one for the file would end with it.
    let resolver = Path::new(RESOLVER).canonicalize().ok();
    if let Some(folder) = resolver.as_deref().and_then(Path::parent)
        && folder.starts_with("/run")
        && folder != Path::new("/run")
    {
        rules.carve(folder, read())?;
    }
    // It stands in the place of the machine's, where there is one.
    rules.add(&order.tmp.with_file_name(HOSTS), read())?;
    for path in KERNEL {
        rules.open(path, look())?;
    }
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    for path in DEVICES {
        rules.open(path, device | AccessFs::ReadDir)?;
    }
    let unlisted = AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    rules.open(SHARED_MEMORY, unlisted)?;
    rules.programs(start)?;
    rules.give(&start.workdir, read())?;
    for volume in &order.volumes {
        let access = if volume.read_only { read() } else { all() };
        rules.own(&volume.path, access)?;
    }
    rules.own(&order.home, all())?;
    rules.own(&order.tmp, all())?;
    Ok(Paths {
        given: rules.given,
        ruleset: rules.ruleset.into(),
    })
}

impl Rules<'_> {
    /// Opens a part of the system.
    fn open(&mut self, path: &str, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        let path = Path::new(path);
        if !self.private.iter().any(|private| private.starts_with(path)) {
            // Nothing to be careful about: the way of most, and the shortest.
            return self.add(path, access);
        }
        let Ok(path) = path.canonicalize() else {
            return Ok(());
        };
        self.carve(&path, access)
    }

    /// Opens what belongs to the agent: its code, its program.
    fn give(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        let Ok(path) = path.canonicalize() else {
            return Ok(());
        };
        if path.parent().is_some() {
            self.given.push(path.clone());
            self.carve(&path, access)?;
        }
        Ok(())
    }

    /// Opens a folder that was made for the agent, or was named by its owner.
    fn own(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        let Ok(path) = path.canonicalize() else {
            return Ok(());
        };
        self.given.push(path.clone());
        self.add(&path, access)
    }

    /// Opens everything below a folder but what is private. Rules only ever open, so a folder that
    /// holds something private is opened entry by entry: what is made in it later stays closed.
    fn carve(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        if self.private.iter().any(|private| path.starts_with(private)) {
            return Ok(());
        }
        if !self.private.iter().any(|private| private.starts_with(path)) {
            return self.add(path, access);
        }
        // The names can be listed, or programs would not find what lies here.
        self.add(path, access & AccessFs::ReadDir)?;
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                self.carve(&entry.path(), access)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        // What is no folder takes only the rights of a file.
        let Ok(about) = path.metadata() else {
            return Ok(());
        };
        let access = match about.is_dir() {
            true => access,
            false => access & AccessFs::from_file(NEWEST),
        };
        if access.is_empty() || !self.seen.insert((path.to_owned(), access.bits())) {
            return Ok(());
        }
        // It may have gone meanwhile; then there is nothing to open.
        let Ok(fd) = PathFd::new(path) else {
            return Ok(());
        };
        (&mut self.ruleset).add_rule(PathBeneath::new(fd, access))?;
        Ok(())
    }

    /// Opens the agent's program, what it is made of and what is on its `PATH`.
    fn programs(&mut self, start: &Start) -> Result<(), RulesetError> {
        let path = start.env.get("PATH").map_or("", String::as_str);
        for folder in path.split(':').map(Path::new) {
            if folder.is_absolute() && folder.parent().is_some() {
                self.folder_of_programs(folder)?;
            }
        }
        let mut next = start
            .command
            .first()
            .and_then(|program| super::find_program(program, &start.workdir, path));
        // A script, the interpreter that it names, and what `env` looks for there.
        for _ in 0..2 {
            let Some(program) = next.take() else { break };
            self.program(&program)?;
            next = interpreter(&program, &start.workdir, path);
        }
        self.arguments(start)?;
        for name in ENVIRONMENTS {
            self.program(&start.workdir.join(name))?;
        }
        Ok(())
    }

    /// Opens what the command names: files and folders by their full path, and what lies beside the
    /// first file, which is the code when the program is an interpreter.
    fn arguments(&mut self, start: &Start) -> Result<(), RulesetError> {
        let named = start.command.iter().skip(1).map(Path::new);
        let mut code = true;
        for path in named.filter(|path| path.is_absolute() && path.exists()) {
            let beside = path.parent().filter(|_| code && path.is_file());
            if let Some(folder) = beside {
                code = false;
                // Folders such as `/root` hold more than code.
                if folder.components().count() > LEAST_DEPTH {
                    self.give(folder, read())?;
                }
            }
            self.give(path, read())?;
        }
        Ok(())
    }

    fn folder_of_programs(&mut self, folder: &Path) -> Result<(), RulesetError> {
        let named = |name: &str| folder.file_name().is_some_and(|it| it == name);
        let beside: &[&str] = match () {
            () if named("bin") || named("sbin") => &BESIDE_BIN,
            () if named("shims") => &BESIDE_SHIMS,
            () => &[],
        };
        self.give(folder, read())?;
        for name in beside {
            self.give(&folder.with_file_name(name), read())?;
        }
        Ok(())
    }

    /// Opens a program at each step of the way that its links lead.
    fn program(&mut self, program: &Path) -> Result<(), RulesetError> {
        let mut step = program.to_owned();
        for _ in 0..MOST_LINKS {
            let Some(folder) = step.parent() else { break };
            match folder.file_name().is_some_and(|it| it == "bin") {
                true => self.folder_of_programs(folder)?,
                false => self.give(&step, read())?,
            }
            let Ok(target) = std::fs::read_link(&step) else {
                break;
            };
            step = folder.join(target);
        }
        // Also when a folder on the way is a link.
        if let Ok(real) = program.canonicalize()
            && let Some(folder) = real.parent()
            && folder.file_name().is_some_and(|it| it == "bin")
        {
            self.folder_of_programs(folder)?;
        }
        Ok(())
    }
}

/// The interpreter that a script's first line names.
fn interpreter(script: &Path, workdir: &Path, path: &str) -> Option<PathBuf> {
    let file = std::fs::File::open(script).ok()?;
    let mut line = Vec::new();
    BufReader::new(file.take(MOST_SHEBANG))
        .read_until(b'\n', &mut line)
        .ok()?;
    let line = String::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    match first.ends_with("/env") {
        true => {
            let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
            super::find_program(name, workdir, path)
        }
        false => Some(PathBuf::from(first)),
    }
}
