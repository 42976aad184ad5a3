//! The `process` driver: an agent is a process on this machine, below a shim of its own
//! ([`shim_main`]) that lets it outlive the server. The instance's folder is all that server and
//! shim share; whether the shim holds the lock in it is whether the instance lives.

mod exec;
mod files;
mod inside;
mod network;
mod proc;
mod running;
mod sandbox;
mod shim;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use skep_core::{InstanceId, Timestamp, Workspace};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;

use self::exec::Inside;
use self::files::{FORMAT, Report, Start, State};
use self::running::ProcessRunning;
use self::sandbox::cgroup::{self, Places};
use self::sandbox::{Order, Shared, Spare, netns};
pub use self::shim::shim_main;
use crate::RuntimeError;
use crate::driver::{Driver, DriverError, LogSource, Place, Protection, Running, StartRequest};
use crate::exec::{ExecOrder, Execution};
use crate::folder::{blocking, failed, kept, make, named, remove};
use crate::logfile::{InstanceLog, Rotation};
use crate::port;
use crate::spec::{HostPort, PortRange, Sandbox, Spec, VolumeSource};

/// Time in which a shim must say whether the agent runs.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a living shim must have written down what it runs.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);
const ADOPT_STEP: Duration = Duration::from_millis(10);
/// Bytes of the shim's report.
const MOST_REPORT: u64 = 64 << 10;
/// Where programs are looked for when the server has no PATH itself.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Variables of the server that agents are given, besides `LC_*`.
const PASSED: [&str; 4] = ["PATH", "LANG", "TZ", "TMPDIR"];

/// How the process driver works.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Where the agents' folders are; private to the server.
    pub folder: PathBuf,
    /// The program that runs [`shim_main`]: the server's own binary.
    pub shim: PathBuf,
    /// The arguments that lead it there, before the folder.
    pub shim_arguments: Vec<OsString>,
    /// How much of each instance's log is kept.
    pub rotation: Rotation,
    /// Where named volumes are.
    pub volumes: PathBuf,
    /// Folders that no agent in a sandbox may look into, but for what is its own there.
    pub private: Vec<PathBuf>,
}

impl ProcessOptions {
    /// The options with the usual rotation and the hidden subcommand `__shim`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, shim: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            volumes: folder.with_file_name("volumes"),
            private: vec![folder.clone()],
            folder,
            shim: shim.into(),
            shim_arguments: vec!["__shim".into()],
            rotation: Rotation::default(),
        }
    }
}

/// Runs agents as processes of this machine.
#[derive(Debug, Clone)]
pub struct ProcessDriver {
    options: Arc<ProcessOptions>,
    cgroups: Arc<OnceLock<Places>>,
    ports: Spare,
    inside: Inside,
}

impl ProcessDriver {
    /// The driver.
    #[must_use]
    pub fn new(options: ProcessOptions) -> Self {
        Self {
            options: Arc::new(options),
            cgroups: Arc::default(),
            ports: Spare::default(),
            inside: Inside::default(),
        }
    }

    fn agent_folder(&self, workspace: &Workspace, agent: &str) -> PathBuf {
        self.options.folder.join(workspace.as_str()).join(agent)
    }

    fn home(&self, workspace: &Workspace, agent: &str) -> PathBuf {
        self.agent_folder(workspace, agent).join("home")
    }

    fn instances(&self, workspace: &Workspace, agent: &str) -> PathBuf {
        self.agent_folder(workspace, agent).join("instances")
    }

    fn folder(&self, place: &Place) -> PathBuf {
        self.instances(&place.workspace, &place.agent)
            .join(place.instance.to_string())
    }

    /// Whether a specification can be run. Blocks.
    fn look_at(&self, workspace: &Workspace, spec: &Spec) -> Result<(), RuntimeError> {
        if spec.image.is_some() {
            return Err(RuntimeError::spec(
                "image",
                "is for drivers that run containers; give a `command`, or `driver: docker`",
            ));
        }
        if spec.limits.gpus.is_some() {
            return Err(RuntimeError::spec(
                "resources.gpus",
                "is for drivers that can give a GPU to one agent: take `driver: docker`",
            ));
        }
        self.check_folders(spec)?;
        let home = self.home(workspace, &spec.name);
        let workdir = spec.workdir.as_deref().unwrap_or(&home);
        let program = spec.command.first().map_or("", String::as_str);
        let path = spec
            .env
            .get("PATH")
            .cloned()
            .or_else(|| std::env::var("PATH").ok())
            .unwrap_or_else(|| DEFAULT_PATH.to_owned());
        if find_program(program, workdir, &path).is_some() {
            return Ok(());
        }
        let place = if program.contains('/') {
            format!("looked in {}", workdir.display())
        } else {
            format!("looked in PATH={path}")
        };
        Err(RuntimeError::spec(
            "command",
            format!("command not found: {program} ({place}); install it or write its full path"),
        ))
    }

    /// The folder of a volume: a host's is itself.
    fn volume(&self, workspace: &Workspace, source: &VolumeSource) -> PathBuf {
        match source {
            VolumeSource::Host(path) => path.clone(),
            VolumeSource::Named(name) => self.options.volumes.join(workspace.as_str()).join(name),
        }
    }

    /// Makes the instance's folder and starts its shim. Blocks.
    fn launch(&self, request: &StartRequest) -> Result<Child, DriverError> {
        let Place {
            workspace, agent, ..
        } = &request.place;
        let home = self.home(workspace, agent);
        let folder = self.folder(&request.place);
        let spec = &request.spec;
        let network = match spec.sandbox {
            Sandbox::Off => None,
            sandbox => self.network(request, sandbox == Sandbox::Strict)?,
        };
        let start = self.document(request, &folder, network.is_some());
        let made = || {
            make(&home)?;
            make(&self.instances(workspace, agent))?;
            for volume in &spec.volumes {
                if matches!(volume.source, VolumeSource::Named(_)) {
                    make(&self.volume(workspace, &volume.source))?;
                }
            }
            // Not recursive: the instance's own folder must be new.
            std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
            make(&folder.join(files::TMP))?;
            files::put(&folder, files::START, &start)
        };
        made().map_err(|error| failed("the instance's folder cannot be made", &error))?;
        Command::new(&self.options.shim)
            .args(&self.options.shim_arguments)
            .arg(&folder)
            .env_clear()
            .current_dir(&folder)
            .stdin(network.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("the shim cannot be started", &error))
    }

    /// What the shim is to run, and how.
    fn document(&self, request: &StartRequest, folder: &Path, network: bool) -> Start {
        let Place {
            workspace, agent, ..
        } = &request.place;
        let (home, spec) = (self.home(workspace, agent), &request.spec);
        Start {
            format: FORMAT,
            command: spec.command.clone(),
            workdir: spec.workdir.clone().unwrap_or_else(|| home.clone()),
            env: self.environment(&home, folder, request),
            memory: spec.limits.memory,
            open_files: spec.limits.open_files,
            file_size: spec.limits.file_size,
            processes: spec.limits.processes,
            port: request.port,
            rotation: self.options.rotation,
            cpu_millis: spec.limits.cpu_millis,
            disk: spec.limits.disk,
            cgroups: self.cgroups.get_or_init(cgroup::places).clone(),
            sandbox: (spec.sandbox != Sandbox::Off).then(|| self.order(request, folder, network)),
        }
    }

    /// How an agent is to be locked in.
    fn order(&self, request: &StartRequest, folder: &Path, network: bool) -> Order {
        let Place {
            workspace, agent, ..
        } = &request.place;
        let spec = &request.spec;
        let private = self.options.private.iter();
        let volumes = spec.volumes.iter().map(|volume| Shared {
            path: self.volume(workspace, &volume.source),
            read_only: volume.read_only,
        });
        let held = request.held.iter().map(|path| Shared {
            path: path.clone(),
            read_only: true,
        });
        Order {
            strict: spec.sandbox == Sandbox::Strict,
            home: self.home(workspace, agent),
            tmp: folder.join(files::TMP),
            volumes: volumes.chain(held).collect(),
            private: private
                .chain([&self.options.folder, &self.options.volumes])
                .filter_map(|path| path.canonicalize().ok())
                .collect(),
            network,
            // Whoever is not strict may go further than Skep can carry.
            ways: (spec.sandbox == Sandbox::Strict).then(|| {
                let hosts = spec.connect.hosts.iter().cloned();
                netns::ways(hosts.chain(skep(request)))
            }),
        }
    }

    /// The ports that an agent may connect to, as a ruleset; none where agents' ports cannot be
    /// told from others, or the kernel has no such rules.
    fn network(
        &self,
        request: &StartRequest,
        strict: bool,
    ) -> Result<Option<OwnedFd>, DriverError> {
        if port::range().is_none() && !strict {
            return Ok(None);
        }
        let one = |port| PortRange {
            first: port,
            last: port,
        };
        let connect = &request.spec.connect;
        let hosts = connect.hosts.iter().cloned().chain(skep(request));
        let mut ports = vec![one(request.port)];
        ports.extend(hosts.map(|host| one(host.port)));
        ports.extend(&connect.ports);
        self.ports
            .take(strict, &ports)
            .map_err(|error| DriverError::Failed(format!("the ports' rules: {error}")))
    }

    /// Whether a folder is, or lies in, one of the server's own.
    fn is_private(&self, path: &Path) -> bool {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let own = self.options.private.iter().chain([&self.options.folder]);
        own.filter_map(|own| own.canonicalize().ok())
            .any(|own| path.starts_with(own))
    }

    /// Looks at the folders that a specification asks for.
    fn check_folders(&self, spec: &Spec) -> Result<(), RuntimeError> {
        let own = "lies in the server's own folder, which no agent may look into";
        if let Some(folder) = &spec.workdir {
            if !folder.is_dir() {
                let reason = format!("there is no folder {}", folder.display());
                return Err(RuntimeError::spec("workdir", reason));
            }
            if spec.sandbox != Sandbox::Off && self.is_private(folder) {
                return Err(RuntimeError::spec("workdir", own));
            }
        }
        for (index, volume) in spec.volumes.iter().enumerate() {
            let field = |name: &str| format!("volumes[{index}].{name}");
            let host = match &volume.source {
                VolumeSource::Host(path) => Some(path),
                VolumeSource::Named(_) => None,
            };
            if volume.target.is_some() && volume.target.as_ref() != host {
                let reason = "a local process sees folders where they are: leave it out";
                return Err(RuntimeError::spec(field("target"), reason));
            }
            let Some(path) = host else { continue };
            if !path.exists() {
                let reason = format!("there is no {}", path.display());
                return Err(RuntimeError::spec(field("source"), reason));
            }
            if spec.sandbox != Sandbox::Off && self.is_private(path) {
                return Err(RuntimeError::spec(field("source"), own));
            }
        }
        Ok(())
    }

    fn environment(
        &self,
        home: &Path,
        folder: &Path,
        request: &StartRequest,
    ) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut all = environment(home, request);
        let spec = &request.spec;
        if spec.sandbox != Sandbox::Off && !spec.env.contains_key("TMPDIR") {
            all.insert("TMPDIR".to_owned(), text(&folder.join(files::TMP)));
        }
        for volume in &spec.volumes {
            if let VolumeSource::Named(name) = &volume.source {
                let variable = name.to_uppercase().replace('-', "_");
                let folder = self.volume(&request.place.workspace, &volume.source);
                all.insert(format!("SKEP_VOLUME_{variable}"), text(&folder));
            }
        }
        all
    }
}

/// Where Skep itself is, as an instance is told.
fn skep(request: &StartRequest) -> Option<HostPort> {
    let (scheme, rest) = request.env.get("SKEP_URL")?.split_once("://")?;
    let authority = rest.split('/').next()?;
    let port = if scheme == "https" { 443 } else { 80 };
    // Who listens everywhere is found on loopback.
    let authority = authority
        .replace("0.0.0.0:", "127.0.0.1:")
        .replace("[::]:", "[::1]:");
    HostPort::parse(&authority).or_else(|| HostPort::parse(&format!("{authority}:{port}")))
}

/// What this machine has for sandboxes: each protection, and what is missing.
#[must_use]
pub fn survey() -> Vec<Protection> {
    sandbox::survey().iter().map(Into::into).collect()
}

fn environment(home: &Path, request: &StartRequest) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    all.extend(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| PASSED.contains(&name.as_str()) || name.starts_with("LC_")),
    );
    all.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
    all.extend(request.spec.env.clone());
    all.extend(request.env.clone());
    all
}

/// Reads the one line that the shim prints.
async fn report(child: &mut Child) -> Result<State, DriverError> {
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| DriverError::Failed("the shim's output was taken before".to_owned()))?;
    let pipe = pipe::Receiver::from_owned_fd(stdout.into())
        .map_err(|error| failed("the shim's output", &error))?;
    let mut line = Vec::new();
    let mut pipe = BufReader::new(pipe.take(MOST_REPORT));
    tokio::time::timeout(START_TIMEOUT, pipe.read_until(b'\n', &mut line))
        .await
        .map_err(|_| DriverError::Failed("the shim did not answer".to_owned()))?
        .map_err(|error| failed("the shim's output", &error))?;
    match serde_json::from_slice(&line) {
        Ok(Report::Running(state)) => Ok(state),
        Ok(Report::Refused(why)) => Err(DriverError::Refused(why)),
        Ok(Report::Failed(why)) => Err(DriverError::Failed(why)),
        Err(_) => Err(DriverError::Failed(
            "the shim ended without an answer".to_owned(),
        )),
    }
}

/// What a look at the lock tells.
enum Found {
    /// Nothing runs, and nothing will.
    Ended,
    /// The shim lives and has not written down yet what it runs.
    Beginning,
    Alive(State),
}

/// Looks whether the shim lives. When it does not, none will start in this folder any more.
fn look(folder: &Path, place: &Place) -> io::Result<Found> {
    if !folder.is_dir() {
        return Ok(Found::Ended);
    }
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(files::LOCK))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // A shim that was started and did not get to the lock finds nothing to run.
            match std::fs::remove_file(folder.join(files::START)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if let Some(state) = files::get::<State>(folder, files::STATE)? {
                running::end_session(&state, place.instance);
            }
            Ok(Found::Ended)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => match files::get::<State>(folder, files::STATE)? {
            Some(state) if state.format == FORMAT => Ok(Found::Alive(state)),
            Some(_) => Err(io::Error::other("left by another version")),
            None => Ok(Found::Beginning),
        },
        Err(error) => Err(error.into()),
    }
}

/// Whether the shim of an instance lives; only looks.
fn look_at(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(files::LOCK)) else {
        return false;
    };
    matches!(
        flock(&lock, FlockOperation::NonBlockingLockShared),
        Err(rustix::io::Errno::WOULDBLOCK)
    )
}

/// Where the program is, looked for as it will be when it is started.
fn find_program(program: &str, workdir: &Path, path: &str) -> Option<PathBuf> {
    let runnable = |file: &Path| {
        std::fs::metadata(file)
            .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(workdir.join(program)).filter(|file| runnable(file));
    }
    path.split(':')
        .map(|folder| workdir.join(folder).join(program))
        .find(|file| runnable(file))
}

#[async_trait]
impl Driver for ProcessDriver {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn check(&self, workspace: &Workspace, spec: &Spec) -> Result<(), RuntimeError> {
        let (driver, workspace, spec) = (self.clone(), workspace.clone(), spec.clone());
        // Looking for the program asks the file system.
        tokio::task::spawn_blocking(move || driver.look_at(&workspace, &spec))
            .await
            .map_err(|error| DriverError::Failed(error.to_string()))?
    }

    async fn start(&self, request: &StartRequest) -> Result<Arc<dyn Running>, DriverError> {
        let (driver, wanted) = (self.clone(), request.clone());
        let mut child = blocking(move || driver.launch(&wanted)).await?;
        let ports = self.ports.clone();
        // For the next one; nobody waits for it.
        tokio::task::spawn_blocking(move || ports.refill());
        match report(&mut child).await {
            Ok(state) => Ok(Arc::new(ProcessRunning::new(
                self.folder(&request.place),
                request.place.instance,
                state,
                Some(child),
                self.inside.clone(),
            )?)),
            Err(error) => {
                // It ends by itself, but for one that hangs.
                let _ = child.kill();
                let _ = blocking(move || Ok(child.wait().is_ok())).await;
                Err(error)
            }
        }
    }

    async fn adopt(
        &self,
        place: &Place,
        _handle: Option<&str>,
    ) -> Result<Option<Arc<dyn Running>>, DriverError> {
        let folder = self.folder(place);
        let mut steps = tokio::time::interval(ADOPT_STEP);
        let until = tokio::time::Instant::now() + ADOPT_TIMEOUT;
        while tokio::time::Instant::now() < until {
            steps.tick().await;
            let look = || {
                let (folder, place) = (folder.clone(), place.clone());
                blocking(move || {
                    look(&folder, &place).map_err(|e| failed("the instance's folder", &e))
                })
            };
            let state = match look().await? {
                Found::Ended => return Ok(None),
                Found::Beginning => continue,
                Found::Alive(state) => state,
            };
            let Ok(running) = ProcessRunning::new(
                folder.clone(),
                place.instance,
                state,
                None,
                self.inside.clone(),
            ) else {
                continue;
            };
            // The process that was opened is the shim if the shim lived all the while.
            if matches!(look().await?, Found::Alive(_)) {
                return Ok(Some(Arc::new(running)));
            }
        }
        Err(DriverError::Failed(
            "an instance lives but does not say what it runs".to_owned(),
        ))
    }

    async fn exec(
        &self,
        request: &StartRequest,
        handle: &str,
        order: &ExecOrder,
    ) -> Result<Execution, DriverError> {
        self.run_inside(request, handle, order).await
    }

    async fn kept(
        &self,
        workspace: &Workspace,
        agent: &str,
    ) -> Result<Vec<InstanceId>, DriverError> {
        let folder = self.instances(workspace, agent);
        blocking(move || kept(&folder)).await
    }

    async fn names(&self, workspace: &Workspace, prefix: &str) -> Result<Vec<String>, DriverError> {
        let folder = self.options.folder.join(workspace.as_str());
        let prefix = prefix.to_owned();
        blocking(move || named(&folder, &prefix)).await
    }

    async fn logs(
        &self,
        place: &Place,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn LogSource>, DriverError> {
        let path = self.folder(place).join(files::LOG);
        let rotation = self.options.rotation;
        Ok(Box::new(InstanceLog::new(
            place.instance,
            path,
            rotation,
            since,
        )))
    }

    async fn discard(&self, place: &Place) -> Result<(), DriverError> {
        let folder = self.folder(place);
        blocking(move || remove(&folder)).await
    }

    async fn discard_agent(&self, workspace: &Workspace, agent: &str) -> Result<(), DriverError> {
        let folder = self.agent_folder(workspace, agent);
        blocking(move || remove(&folder)).await
    }
}
