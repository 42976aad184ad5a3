//! The driver: what the contract asks for, carried out with the engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ImageInspect, SystemInfo,
};
use bollard::query_parameters::CreateContainerOptions;
use skep_core::{InstanceId, Timestamp, Workspace};
use skep_runtime::folder::{blocking, remove as remove_folder};
use skep_runtime::logfile::InstanceLog;
use skep_runtime::{
    Condition, Driver, DriverError, ExecOrder, Execution, Image, LogSource, Place, Pull, Rotation,
    Running, RuntimeError, Sandbox, Spec, StartRequest, Tell, VolumeSource,
};
use tokio::sync::OnceCell;

use crate::claim::{Claim, Claims};
use crate::create::{self, LEAST_MEMORY, PORT, Parts};
use crate::engine::{Connected, Engine, Trouble};
use crate::exec::exec;
use crate::folder::{Folders, Owner};
use crate::image::Images;
use crate::log::Carrier;
use crate::network::{Doors, Firewall, LABEL_ID, Network};
use crate::pull::{PullLimits, Pulls, never};
use crate::running::{DockerRunning, Handle, abandon, remove, settle};
use crate::sweep::sweep;
use crate::volume;

/// What the engine says when another container has the address.
const ADDRESS_TAKEN: &str = "Address already in use";
/// Addresses that are tried one after the other.
const ADDRESS_TRIES: u32 = 32;

/// How the driver works.
#[derive(Clone)]
pub struct DockerOptions {
    /// The server's data folder.
    pub data: PathBuf,
    /// The engine's Unix socket.
    pub socket: PathBuf,
    /// The addresses of the agents' network, such as `10.213.0.0/16`; else the engine chooses.
    pub subnet: Option<String>,
    /// Who keeps agents from the services of this machine.
    pub firewall: Firewall,
    /// How much of each instance's log is kept.
    pub rotation: Rotation,
    /// A file with logins for registries, as the Docker CLI keeps it.
    pub credentials: Option<PathBuf>,
    /// How long pulls may take.
    pub pulls: PullLimits,
    /// By what agents reach this server; else they do not.
    pub doors: Option<Arc<dyn Doors>>,
}

impl DockerOptions {
    /// The usual options.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            socket: PathBuf::from("/var/run/docker.sock"),
            subnet: None,
            firewall: Firewall::default(),
            rotation: Rotation::default(),
            credentials: None,
            pulls: PullLimits::default(),
            doors: None,
        }
    }
}

/// Runs agents as containers of Docker Engine. Cheap to clone.
#[derive(Clone)]
pub struct DockerDriver {
    shared: Arc<Shared>,
}

struct Shared {
    options: DockerOptions,
    folders: Folders,
    engine: Arc<Engine>,
    images: Images,
    pulls: Pulls,
    house: OnceCell<House>,
    claims: Claims,
    /// The connection after which was swept last.
    swept: AtomicU64,
}

/// What this data folder is at the engine.
struct House {
    id: String,
    path: String,
    network: Network,
}

impl DockerDriver {
    /// The driver. Nothing is asked of the engine before something is asked of the driver.
    #[must_use]
    pub fn new(options: DockerOptions) -> Self {
        let data = std::path::absolute(&options.data).unwrap_or_else(|_| options.data.clone());
        let engine = Arc::new(Engine::new(options.socket.clone()));
        Self {
            shared: Arc::new(Shared {
                folders: Folders::new(data),
                images: Images::new(engine.clone()),
                pulls: Pulls::new(engine.clone(), options.credentials.clone(), options.pulls),
                engine,
                house: OnceCell::new(),
                claims: Claims::default(),
                swept: AtomicU64::new(0),
                options,
            }),
        }
    }

    async fn house(&self) -> Result<&House, DriverError> {
        let make = || async {
            let folders = self.shared.folders.clone();
            let (id, path) = blocking(move || {
                let id = folders.id()?;
                let path = folders.data().canonicalize();
                let path = path.unwrap_or_else(|_| folders.data().to_owned());
                Ok((id, path.to_string_lossy().into_owned()))
            })
            .await?;
            let network = Network::new((id.clone(), path.clone()), &self.shared.options);
            Ok::<_, DriverError>(House { id, path, network })
        };
        self.shared.house.get_or_try_init(make).await
    }

    /// The engine and this house; what was left is swept after each new connection.
    async fn ready(&self) -> Result<(Connected, &House), DriverError> {
        let engine = &self.shared.engine;
        let house = self.house().await?;
        let connected = engine.get().await?;
        let now = engine.connections();
        if self.shared.swept.swap(now, Ordering::Relaxed) != now {
            let (engine, claims) = (engine.clone(), self.shared.claims.clone());
            let (folders, id) = (self.shared.folders.clone(), house.id.clone());
            let rotation = self.shared.options.rotation;
            tokio::spawn(async move { sweep(&engine, &claims, &folders, &id, rotation).await });
            // Who runs there already is led here.
            if let Err(error) = house.network.look(&self.shared.engine).await {
                tracing::debug!(%error, "the agents' network is looked at later");
            }
        }
        Ok((connected, house))
    }

    /// The protections that cannot be had here.
    async fn gaps(&self, connected: &Connected, house: &House) -> Result<Vec<String>, DriverError> {
        let mut gaps = house.network.ensure(&self.shared.engine).await?.gaps;
        gaps.extend(gaps_of(&connected.info));
        Ok(gaps)
    }

    async fn find(&self, container: &str) -> Result<ContainerInspectResponse, Trouble> {
        self.shared
            .engine
            .ask(|docker| async move { docker.inspect_container(container, None).await })
            .await
    }

    /// Makes the folders that the container is given.
    async fn give(&self, request: &StartRequest, owner: Owner) -> Result<(), DriverError> {
        let folders = self.shared.folders.clone();
        let (place, spec) = (request.place.clone(), request.spec.clone());
        let held = request.held.clone();
        blocking(move || {
            folders.write_resolver()?;
            Folders::give(&folders.home(&place.workspace, &place.agent), owner)?;
            if let Some(held) = &held {
                Folders::give(held, owner)?;
            }
            for volume in &spec.volumes {
                if let VolumeSource::Named(name) = &volume.source {
                    let folder = folders.volume(&place.workspace, name);
                    // Others may use it already: it stays theirs.
                    if !folder.exists() {
                        Folders::give(&folder, owner)?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// The image, which was got before the start.
    async fn image(&self, spec: &Spec) -> Result<ImageInspect, DriverError> {
        let Image { reference, pull } = needed_image(spec)?;
        match self.shared.engine.image(reference).await {
            Err(Trouble::Missing(_)) if *pull == Pull::Never => {
                Err(DriverError::Refused(never(reference)))
            }
            Err(Trouble::Missing(_)) => Err(DriverError::Failed(format!(
                "the image {reference} was removed before the start; it is got again"
            ))),
            found => Ok(found?),
        }
    }

    /// Makes the container, which does not run yet.
    async fn make(&self, request: &StartRequest) -> Result<String, DriverError> {
        let (connected, house) = self.ready().await?;
        let spec = &request.spec;
        let image = self.image(spec).await?;
        let (user, owner) = self.shared.images.user(&house.id, &image).await?;
        if !self
            .shared
            .images
            .has_program(&house.id, &image, spec)
            .await?
        {
            return Err(DriverError::Refused(no_program(spec)));
        }
        let gaps = self.gaps(&connected, house).await?;
        if spec.sandbox == Sandbox::Strict && !gaps.is_empty() {
            return Err(DriverError::Refused(not_strict(&gaps)));
        }
        self.give(request, owner).await?;
        let parts = Parts {
            id: &house.id,
            path: &house.path,
            network: house.network.name(),
            address: house.network.address(),
            image: &image.config.unwrap_or_default(),
            user,
            owner,
            mounts: volume::mounts(
                &self.shared.folders,
                &request.place.workspace,
                spec,
                request.held.as_deref(),
            ),
            rotation: self.shared.options.rotation,
            cpu_millis: connected
                .info
                .ncpu
                .and_then(|cpus| u64::try_from(cpus).ok())
                .map_or(u64::MAX, |cpus| cpus.saturating_mul(1_000)),
            has_ipv6: std::path::Path::new("/proc/sys/net/ipv6").is_dir(),
        };
        let body = create::body(request, parts);
        let options = CreateContainerOptions {
            name: Some(create::name(&request.place)),
            ..CreateContainerOptions::default()
        };
        let made = self
            .shared
            .engine
            .ask(|docker| async move { docker.create_container(Some(options), body).await })
            .await;
        match made {
            Ok(made) => Ok(made.id),
            Err(Trouble::Refused(400, why)) => Err(DriverError::Refused(why)),
            Err(other) => Err(other.into()),
        }
    }

    /// Starts a container that was made; tells whether its address was free.
    async fn begin(&self, container: &str) -> Result<bool, Trouble> {
        let started = self
            .shared
            .engine
            .ask(|docker| async move { docker.start_container(container, None).await })
            .await;
        match started {
            Ok(()) => Ok(true),
            Err(Trouble::Refused(_, why)) if why.contains(ADDRESS_TAKEN) => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn launch(&self, request: &StartRequest) -> Result<Handle, DriverError> {
        let mut container = self.make(request).await?;
        let mut started = self.begin(&container).await;
        for _ in 0..ADDRESS_TRIES {
            if !matches!(started, Ok(false)) {
                break;
            }
            remove(&self.shared.engine, &container).await?;
            container = self.make(request).await?;
            started = self.begin(&container).await;
        }
        let started = started.and_then(|begun| {
            let full = "the agents' network has no free address; set a larger `docker.subnet`";
            begun
                .then_some(())
                .ok_or_else(|| Trouble::Refused(403, full.to_owned()))
        });
        let started = match started {
            Ok(()) => self.find(&container).await.map_err(DriverError::from),
            Err(trouble) => Err(not_started(trouble)),
        };
        match started {
            Ok(found) => Ok(Handle::of(&found, self.house().await?.network.name())),
            Err(error) => {
                abandon(self.shared.engine.clone(), container);
                Err(error)
            }
        }
    }

    fn watch(&self, place: &Place, handle: Handle, claim: Claim) -> Arc<dyn Running> {
        Arc::new(DockerRunning::new(
            self.shared.engine.clone(),
            handle,
            self.shared.folders.log(place),
            self.shared.options.rotation,
            claim,
        ))
    }
}

fn needed_image(spec: &Spec) -> Result<&Image, DriverError> {
    let missing = || DriverError::Refused("the specification has no `image`".to_owned());
    spec.image.as_ref().ok_or_else(missing)
}

fn no_program(spec: &Spec) -> String {
    match spec.command.first() {
        Some(program) => format!("command not found in the image: {program}"),
        None => "the image says no command: give one in `command`".to_owned(),
    }
}

fn not_strict(gaps: &[String]) -> String {
    format!(
        "`strict` cannot be had on this machine: {}",
        gaps.join("; ")
    )
}

/// Protections that an engine does not have.
fn gaps_of(info: &SystemInfo) -> Vec<String> {
    let mut gaps = Vec::new();
    let options = info.security_options.iter().flatten();
    if !options
        .into_iter()
        .any(|option| option.starts_with("name=seccomp") && !option.contains("unconfined"))
    {
        gaps.push(
            "the engine has no seccomp profile: agents may make every system call".to_owned(),
        );
    }
    for (has, what) in [
        (info.memory_limit, "memory"),
        (info.swap_limit, "swap"),
        (info.pids_limit, "processes"),
        (info.cpu_cfs_quota, "CPU time"),
    ] {
        // An engine that says nothing can.
        if has == Some(false) {
            gaps.push(format!("the kernel does not limit the {what} of agents"));
        }
    }
    gaps
}

/// Why a container does not start: what lies at the image or the specification stays so.
fn not_started(trouble: Trouble) -> DriverError {
    const FINAL: [&str; 6] = [
        "error setting rlimit",
        "executable file not found",
        "no such file or directory",
        "permission denied",
        "exec format error",
        "bind source path does not exist",
    ];
    match trouble {
        Trouble::Refused(_, why) | Trouble::Missing(why)
            if FINAL.iter().any(|part| why.contains(part)) =>
        {
            DriverError::Refused(why)
        }
        other => other.into(),
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn port(&self) -> Option<u16> {
        Some(PORT)
    }

    fn held_at(&self, _: &Path) -> PathBuf {
        PathBuf::from(volume::HELD)
    }

    async fn server_at(&self, _url: &str) -> Result<Option<String>, DriverError> {
        let (_, house) = self.ready().await?;
        let there = house.network.ensure(&self.shared.engine).await?;
        let opened = there.opened.map_err(DriverError::Unavailable)?;
        Ok(opened.map(|it| it.url))
    }

    async fn condition(&self) -> Condition {
        let looked = async {
            let (connected, house) = self.ready().await?;
            let docker = connected.docker.clone();
            self.shared
                .engine
                .ask(|_| async move { docker.ping().await })
                .await?;
            let there = house.network.look(&self.shared.engine).await?;
            let mut gaps = there.map(|it| it.gaps).unwrap_or_default();
            gaps.extend(gaps_of(&connected.info));
            Ok::<_, DriverError>((connected, gaps))
        };
        match looked.await {
            Ok((connected, gaps)) if gaps.is_empty() => {
                Condition::Well(format!("Docker Engine {}", connected.version()))
            }
            Ok((_, gaps)) => Condition::Impaired(gaps.join("; ")),
            Err(error) => Condition::Unavailable(error.to_string()),
        }
    }

    async fn check(&self, _workspace: &Workspace, spec: &Spec) -> Result<(), RuntimeError> {
        let Some(image) = &spec.image else {
            return Err(RuntimeError::spec(
                "image",
                "is missing; name the container image that the agent is in",
            ));
        };
        if let Some(memory) = spec.limits.memory.filter(|memory| *memory < LEAST_MEMORY) {
            return Err(RuntimeError::spec(
                "resources.memory",
                format!("`{memory}` is too little for a container; use `6MiB` or more"),
            ));
        }
        let (folders, socket) = (
            self.shared.folders.clone(),
            self.shared.engine.socket().to_owned(),
        );
        let of = spec.clone();
        tokio::task::spawn_blocking(move || volume::check(&folders, &socket, &of))
            .await
            .map_err(|error| DriverError::Failed(error.to_string()))??;
        let (connected, house) = self.ready().await?;
        let found = self.shared.pulls.look(image).await?;
        if let Some(found) = found
            && !self
                .shared
                .images
                .has_program(&house.id, &found, spec)
                .await?
        {
            return Err(RuntimeError::spec("command", no_program(spec)));
        }
        if spec.sandbox == Sandbox::Strict {
            let gaps = self.gaps(&connected, house).await?;
            if !gaps.is_empty() {
                return Err(RuntimeError::spec("sandbox", not_strict(&gaps)));
            }
        }
        Ok(())
    }

    async fn prepare(
        &self,
        _workspace: &Workspace,
        spec: &Spec,
        tell: Tell<'_>,
    ) -> Result<(), DriverError> {
        self.shared.pulls.fetch(needed_image(spec)?, tell).await
    }

    async fn start(&self, request: &StartRequest) -> Result<Arc<dyn Running>, DriverError> {
        let claim = self.shared.claims.claim(request.place.instance).await;
        let (folders, place) = (self.shared.folders.clone(), request.place.clone());
        blocking(move || folders.begin(&place)).await?;
        let handle = self.launch(request).await?;
        Ok(self.watch(&request.place, handle, claim))
    }

    async fn adopt(
        &self,
        place: &Place,
        handle: Option<&str>,
    ) -> Result<Option<Arc<dyn Running>>, DriverError> {
        let claim = self.shared.claims.claim(place.instance).await;
        let handle = handle.and_then(Handle::parse);
        let house = match self.ready().await {
            Ok((_, house)) => house,
            Err(error) => return self.adopt_unseen(place, handle, claim, error),
        };
        let container = create::name(place);
        let found = match self.find(&container).await {
            Ok(found) => found,
            // What was never made will not be: only we make it.
            Err(Trouble::Missing(_)) => return Ok(None),
            Err(trouble) => return self.adopt_unseen(place, handle, claim, trouble.into()),
        };
        let labels = found
            .config
            .as_ref()
            .and_then(|about| about.labels.as_ref());
        let label = labels.and_then(|all| all.get(LABEL_ID));
        if label != Some(&house.id) {
            return Ok(None);
        }
        let state = found.state.as_ref();
        if state.and_then(|state| state.running) == Some(true) {
            let handle = Handle::of(&found, house.network.name());
            return Ok(Some(self.watch(place, handle, claim)));
        }
        let engine = &self.shared.engine;
        if state.and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED) {
            // Its start may be on its way: whichever comes first, it does not run afterwards.
            remove(engine, &container).await?;
            return Ok(None);
        }
        let (log, rotation) = (self.shared.folders.log(place), self.shared.options.rotation);
        let mut carrier = blocking(move || Ok(Carrier::open(&log, rotation))).await?;
        settle(engine, &container, &mut carrier).await;
        Ok(None)
    }

    async fn exec(
        &self,
        _request: &StartRequest,
        handle: &str,
        order: &ExecOrder,
    ) -> Result<Execution, DriverError> {
        let handle = Handle::parse(handle)
            .ok_or_else(|| DriverError::Failed("the instance is not known".to_owned()))?;
        exec(self.shared.engine.clone(), &handle.container, order).await
    }

    async fn kept(
        &self,
        workspace: &Workspace,
        agent: &str,
    ) -> Result<Vec<InstanceId>, DriverError> {
        let (folders, workspace, agent) = (
            self.shared.folders.clone(),
            workspace.clone(),
            agent.to_owned(),
        );
        blocking(move || folders.kept(&workspace, &agent)).await
    }

    async fn logs(
        &self,
        place: &Place,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn LogSource>, DriverError> {
        Ok(Box::new(InstanceLog::new(
            place.instance,
            self.shared.folders.log(place),
            self.shared.options.rotation,
            since,
        )))
    }

    async fn discard(&self, place: &Place) -> Result<(), DriverError> {
        let folder = self.shared.folders.instance(place);
        blocking(move || remove_folder(&folder)).await
    }

    async fn discard_agent(&self, workspace: &Workspace, agent: &str) -> Result<(), DriverError> {
        let folder = self.shared.folders.agent(workspace, agent);
        blocking(move || remove_folder(&folder)).await
    }
}

impl DockerDriver {
    /// Goes on with a container that cannot be looked at now: its watcher finds out what became of
    /// it when the engine is back.
    fn adopt_unseen(
        &self,
        place: &Place,
        handle: Option<Handle>,
        claim: Claim,
        error: DriverError,
    ) -> Result<Option<Arc<dyn Running>>, DriverError> {
        match (handle, error) {
            (Some(handle), DriverError::Unavailable(_)) => {
                Ok(Some(self.watch(place, handle, claim)))
            }
            (_, error) => Err(error),
        }
    }
}
