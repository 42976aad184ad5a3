//! The `process` driver: an agent is a process on this machine, below a shim of its own
//! ([`shim_main`]) that lets it outlive the server. The instance's folder is all that server and
//! shim share; whether the shim holds the lock in it is whether the instance lives.

mod files;
mod proc;
mod running;
mod shim;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use skep_core::{InstanceId, Timestamp, Workspace};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;

use self::files::{FORMAT, Report, Start, State};
use self::running::ProcessRunning;
pub use self::shim::shim_main;
use crate::RuntimeError;
use crate::driver::{Driver, DriverError, LogSource, Place, Running, StartRequest};
use crate::logfile::{InstanceLog, Rotation};
use crate::spec::Spec;

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
}

impl ProcessOptions {
    /// The options with the usual rotation and the hidden subcommand `__shim`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, shim: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
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
}

fn failed(what: &str, error: &io::Error) -> DriverError {
    DriverError::Failed(format!("{what}: {error}"))
}

/// Runs blocking work on a thread where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(DriverError::Failed(error.to_string())))
}

fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn remove_folder(path: &Path) -> Result<(), DriverError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("the folder cannot be removed", &error))
        }
        _ => Ok(()),
    }
}

impl ProcessDriver {
    /// The driver.
    #[must_use]
    pub fn new(options: ProcessOptions) -> Self {
        Self {
            options: Arc::new(options),
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
        if let Some(folder) = spec.workdir.as_deref().filter(|folder| !folder.is_dir()) {
            return Err(RuntimeError::spec(
                "workdir",
                format!("there is no folder {}", folder.display()),
            ));
        }
        let home = self.home(workspace, &spec.name);
        let workdir = spec.workdir.as_deref().unwrap_or(&home);
        let program = spec.command.first().map_or("", String::as_str);
        let path = spec
            .env
            .get("PATH")
            .cloned()
            .or_else(|| std::env::var("PATH").ok())
            .unwrap_or_else(|| DEFAULT_PATH.to_owned());
        if find_program(program, workdir, &path) {
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

    /// Makes the instance's folder and starts its shim. Blocks.
    fn launch(&self, request: &StartRequest) -> Result<Child, DriverError> {
        let Place {
            workspace, agent, ..
        } = &request.place;
        let home = self.home(workspace, agent);
        let folder = self.folder(&request.place);
        let spec = &request.spec;
        let start = Start {
            format: FORMAT,
            command: spec.command.clone(),
            workdir: spec.workdir.clone().unwrap_or_else(|| home.clone()),
            env: environment(&home, request),
            memory: spec.limits.memory,
            open_files: spec.limits.open_files,
            file_size: spec.limits.file_size,
            processes: spec.limits.processes,
            port: request.port,
            rotation: self.options.rotation,
        };
        make_folder(&home)
            .and_then(|()| make_folder(&self.instances(workspace, agent)))
            // Not recursive: the instance's own folder must be new.
            .and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(&folder))
            .and_then(|()| files::put(&folder, files::START, &start))
            .map_err(|error| failed("the instance's folder cannot be made", &error))?;
        Command::new(&self.options.shim)
            .args(&self.options.shim_arguments)
            .arg(&folder)
            .env_clear()
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("the shim cannot be started", &error))
    }
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
                running::end_session(state.shim, place.instance);
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

/// Whether the program can be found, the way it will be looked for.
fn find_program(program: &str, workdir: &Path, path: &str) -> bool {
    let runnable = |file: &Path| {
        std::fs::metadata(file)
            .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runnable(&workdir.join(program));
    }
    path.split(':')
        .any(|folder| runnable(&workdir.join(folder).join(program)))
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
        match report(&mut child).await {
            Ok(state) => Ok(Arc::new(ProcessRunning::new(
                self.folder(&request.place),
                request.place.instance,
                state,
                Some(child),
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
            let Ok(running) = ProcessRunning::new(folder.clone(), place.instance, state, None)
            else {
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

    async fn kept(
        &self,
        workspace: &Workspace,
        agent: &str,
    ) -> Result<Vec<InstanceId>, DriverError> {
        let folder = self.instances(workspace, agent);
        blocking(move || {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(failed("the instances' folder", &error)),
            };
            let mut all: Vec<InstanceId> = entries
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect();
            all.sort_unstable();
            Ok(all)
        })
        .await
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
        blocking(move || remove_folder(&folder)).await
    }

    async fn discard_agent(&self, workspace: &Workspace, agent: &str) -> Result<(), DriverError> {
        let folder = self.agent_folder(workspace, agent);
        blocking(move || remove_folder(&folder)).await
    }
}
