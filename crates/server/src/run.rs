//! The server's life: opened, recovered, listening, drained, closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use skep_compliance::{CatalogError, Framework};
use skep_core::Workspace;
use skep_core::config::{DockerFirewall, Settings};
use skep_guard::Policies;
use skep_guard::identity::{SessionOptions, Sessions, Tenants, Users};
use skep_guard::keys::USES;
use skep_guard::tokens::TokenKey;
use skep_ingress::{Ingress, Limits, Metrics, Retention, Spans, Whereabouts};
use skep_runs::Runs;
use skep_runtime::{Driver, Event, Keep, ProcessDriver, ProcessOptions, Rotation, Runtime};
use skep_runtime_docker::{DockerDriver, DockerOptions, Firewall};
use skep_store::{By, Db, StoreError};
use skep_vault::Vault;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::a2a::push::{self, Pushes};
use crate::act::Own;
use crate::api::archives::STAGING;
use crate::audit::Audit;
use crate::backups::Backups;
use crate::boxes;
use crate::budgets::{self, OverBudget};
use crate::dispatch::Dispatcher;
use crate::doors::{self, Doors};
use crate::headers::Cors;
use crate::join::RuntimeAgents;
use crate::keys;
use crate::lending::Lending;
use crate::listen::{Bounds, Listener};
use crate::live;
use crate::metrics::{BackupMetrics, ServerMetrics};
use crate::migrations::migrations;
use crate::models;
use crate::mounts::Mounts;
use crate::outs::{Outs, outs};
use crate::outside::Outside;
use crate::peers::{self, Peers};
use crate::providers::Logins;
use crate::proxy;
use crate::quotas::{self, Allowed, Held};
use crate::rates::Rates;
use crate::renewals::{self, Renewals};
use crate::runs;
use crate::state::State;
use crate::telemetry::Tracer;
use crate::threats::Threats;
use crate::tls::Tls;
use crate::tokens::{self, Minting};
use crate::vault;
use crate::ways;
use crate::{ServerError, api, machine, webhooks};

/// Commands in agents' boxes that may run at once.
const EXECS: usize = 32;
/// How often the free space is looked at.
const DISK_EVERY: Duration = Duration::from_secs(2);
/// How often the number of calls is looked at.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether another server changed policies.
const POLICIES_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a workspace was removed.
const PURGE_EVERY: Duration = Duration::from_secs(10);
/// How often blobs in the database that nothing names are looked for.
const PARTS_EVERY: Duration = Duration::from_secs(600);
/// Time for the agents of a server that has been taken for gone to end.
const ENDING: Duration = Duration::from_secs(15);
/// The file in the data folder that says where the server is.
const ADDRESS_FILE: &str = "server.json";

/// What the binary gives the server.
pub struct RunOptions {
    /// The program whose hidden subcommand `__shim` runs the shim of an instance: the server's own
    /// binary.
    pub shim: PathBuf,
    /// Called when the server takes requests.
    pub on_ready: Box<dyn FnOnce(&Started) + Send>,
    /// Ends the server gracefully.
    pub stop: CancellationToken,
}

/// What is known when the server takes requests.
#[derive(Debug, Clone)]
pub struct Started {
    /// Where it listens.
    pub url: String,
    /// The first key, when this start made it.
    pub first_key: Option<String>,
    /// The data folder.
    pub data: PathBuf,
}

/// Runs a server until it is told to stop.
///
/// # Errors
/// [`ServerError`], when it cannot start.
pub async fn run(settings: Settings, options: RunOptions) -> Result<(), ServerError> {
    let tls = Tls::open(&settings)?;
    if !settings.listen.ip().is_loopback() && tls.is_none() && !settings.listen_plaintext {
        return Err(ServerError::Plaintext(settings.listen));
    }
    machine::raise_open_files();
    // The address first: a port that is taken must not cost a migration.
    let bounds = Bounds::of(&settings);
    let listener = Listener::bind(settings.listen, tls.clone(), bounds.clone()).await?;
    let address = listener.address()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let (doors, coming) = Doors::new(
        (scheme, address),
        settings.docker_port,
        (bounds, &options.stop),
    );
    let (state, first_key) = compose(&settings, &options, (&url, doors), tls.clone()).await?;
    sweep_boxes(&state).await;
    let recovered = recover(&state, &state.tenants.all().all()).await?;
    tracing::info!(%url, data = %settings.data.display(), epoch = state.db.epoch(), recovered, "ready");
    tell(&state, "server.started", &url);
    let dispatcher = Arc::new(Dispatcher::new(
        state.clone(),
        api::router(state.clone()),
        Cors {
            origins: settings.cors_origins.clone(),
        },
        tls.is_some(),
        settings.metrics_public,
    ));
    let mut background = background(&state);
    if let Some(tls) = tls {
        background.push(keep_certificates(tls, settings.clone(), url.clone()));
    }
    let serving = doors::serve(
        (listener, coming),
        dispatcher,
        options.stop.clone(),
        settings.shutdown_drain,
    );
    let serving = tokio::spawn(serving);
    announce(&settings, &url)?;
    (options.on_ready)(&Started {
        url,
        first_key,
        data: settings.data.clone(),
    });
    tokio::select! {
        () = options.stop.cancelled() => {}
        () = state.db.ended() => return end(&state, &options.stop, serving, background).await,
    }
    tracing::info!("draining");
    tell(&state, "server.stopping", "");
    close(&state, &settings, serving, background).await;
    Ok(())
}

/// Takes up the calls of the agents that this server has.
async fn recover(state: &State, workspaces: &[Workspace]) -> Result<u64, ServerError> {
    let mut recovered = 0;
    for workspace in workspaces {
        // Before the calls are looked at: whoever is not in it has none, or is new and elsewhere.
        let owners = state.runtime.owners(workspace).await?;
        let alone = !state.peers.is_shared() || state.peers.servers().len() == 1;
        let whereabouts = |agent: &str| match state.runtime.target(workspace, agent) {
            Some(_) => Whereabouts::Here,
            None if owners.contains_key(agent) || !alone => Whereabouts::Elsewhere,
            None => Whereabouts::Gone,
        };
        recovered += state.ingress.recover(workspace, whereabouts).await?;
        state.peers.note_owners(workspace, owners);
    }
    Ok(recovered)
}

/// Ends at once: another server has this one's agents now, and nothing that happens here counts.
async fn end(
    state: &State,
    stop: &CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    background: Vec<tokio::task::JoinHandle<()>>,
) -> Result<(), ServerError> {
    tracing::error!("another server has taken this one's place: its agents are ended here");
    stop.cancel();
    serving.abort();
    for task in background {
        task.abort();
    }
    state.ingress.close(Duration::ZERO).await;
    // What cannot be ended in time is found by the next start.
    let _ = tokio::time::timeout(ENDING, state.runtime.shutdown()).await;
    Err(ServerError::Ended)
}

/// What a store needs that was brought back from a backup, before it is served: an admin key when the
/// first did not come along, and a log of a name of its own. Nobody is logged in.
///
/// # Errors
/// [`ServerError`].
pub async fn restored(db: &Db, has_key: bool) -> Result<(), ServerError> {
    skep_audit::Log::forget_key(db).await?;
    Sessions::forget_all(db).await?;
    match has_key {
        true => Ok(()),
        false => keys::new_admin_key(db).await,
    }
}

/// An event about the server itself.
fn tell(state: &State, kind: &str, detail: &str) {
    let workspace = Workspace::default();
    let version = env!("CARGO_PKG_VERSION");
    let detail = format!("version {version} {detail}");
    state
        .runtime
        .record(&workspace, Event::new(kind, detail.trim_end()));
}

fn spans(tracer: Option<&Arc<Tracer>>) -> Option<Arc<dyn Spans>> {
    tracer.map(|it| it.clone() as Arc<dyn Spans>)
}

fn measured() -> (Registry, ServerMetrics, BackupMetrics) {
    let mut registry = Registry::default();
    let metrics = ServerMetrics::register(&mut registry);
    let of_backups = BackupMetrics::register(&mut registry);
    (registry, metrics, of_backups)
}

async fn compose(
    settings: &Settings,
    options: &RunOptions,
    (url, doors): (&str, Arc<Doors>),
    tls: Option<Arc<Tls>>,
) -> Result<(Arc<State>, Option<String>), ServerError> {
    let (mut registry, metrics, backup_metrics) = measured();
    let tracer = tracer(settings, &mut registry)?;
    let db = open(settings, metrics.clone())?;
    let audit = Arc::new(open_audit(settings, &db).await?);
    let own = By::new(Arc::new(Own(db.server())));
    let tenants = Tenants::open(db.clone()).await?;
    let (vault, ways) = ways::vault(&db, settings, &own).await?;
    let (keys, first) = keys::open(&db, settings.keys_file.as_deref(), &own, tenants.all()).await?;
    let (users, sessions, outside) = people(&db, settings, &mut registry)?;
    let peers = peers_of(&db, settings, url, tls.as_ref()).await?;
    let drivers = drivers(settings, &options.shim, doors.clone());
    let tokens = tokens::key(db.folder())?;
    let quotas = Held::open(settings, &db, &tenants, &mut registry).await?;
    let (policies, mounts, lending) = lent(settings, &db, &vault, &audit)?;
    let (stored, ran) = ((&db, tenants.all()), (&drivers[..], &own));
    let out = outs(settings, stored, (&vault, &mounts), ran).await?;
    let of_runtime = of_runtime(settings, url, &tokens, (quotas.allowed(), lending, &out));
    let runtime = Runtime::open(db.clone(), of_runtime, drivers.clone(), tenants.all()).await?;
    let observed = (Metrics::register(&mut registry), &tracer, quotas.allowed());
    let ingress = ingress(settings, &db, &runtime, observed, own.clone());
    let with = (&runtime, &ingress, &audit, &vault);
    let state = State {
        started: db.clock().now(),
        threats: Threats::open(db.clone(), settings, tenants.all(), &mut registry).await?,
        webhooks: webhooks::open(settings, &db, with, (own, tenants.all()))?,
        pushes: Pushes::new(&db, &vault, &mounts),
        backups: Backups::open(&db, settings, backup_metrics, &options.stop)?,
        db,
        runtime,
        ingress,
        models: out.models,
        tools: out.tools,
        web: out.web,
        over_budget: OverBudget::default(),
        own: proxy::Own::of(url, doors),
        model_bounds: models::Bounds::of(settings),
        run_bounds: runs::Bounds::of(settings),
        live_cookies: live::cookies(settings),
        audit,
        frameworks: frameworks(settings)?,
        keys,
        tls,
        outside,
        logins: Logins::open(settings, url)?,
        policies,
        rates: Rates::new(settings)?,
        quotas,
        tokens,
        tenants,
        users,
        sessions,
        vault,
        mounts,
        ways,
        vault_work: Notify::new(),
        renewals: Renewals::open(settings)?,
        renewal_work: Notify::new(),
        peers,
        registry: Mutex::new(registry),
        metrics,
        tracer,
        min_free: settings.disk_min_free,
        drivers,
        execs: execs(settings),
        stop: options.stop.clone(),
    };
    Ok((Arc::new(state), first))
}

fn lent(
    settings: &Settings,
    db: &Db,
    vault: &Vault,
    audit: &Arc<Audit>,
) -> Result<(Arc<Policies>, Arc<Mounts>, Lending), ServerError> {
    let policies = Arc::new(Policies::new(db.clone()));
    let mounts = Mounts::open(settings, db, vault)?;
    let lending = Lending::new(db, vault, &policies, audit, &mounts);
    Ok((policies, mounts, lending))
}

async fn peers_of(
    db: &Db,
    settings: &Settings,
    url: &str,
    tls: Option<&Arc<Tls>>,
) -> Result<Peers, ServerError> {
    let at = reached_at(settings, url);
    let peers = Peers::new(db.clone(), at, settings, tls)?;
    // The others know where to reach this one before it has an agent.
    peers.look(0).await?;
    Ok(peers)
}

fn tracer(
    settings: &Settings,
    registry: &mut Registry,
) -> Result<Option<Arc<Tracer>>, ServerError> {
    let endpoint = settings.otlp_endpoint.as_ref();
    endpoint.map(|it| Tracer::start(it, registry)).transpose()
}

async fn open_audit(settings: &Settings, db: &Db) -> Result<Audit, ServerError> {
    let file = settings.audit_key.as_deref();
    Audit::open(db.clone(), file, settings.audit_retention).await
}

/// Places for commands in agents' boxes.
fn execs(settings: &Settings) -> Option<Arc<Semaphore>> {
    let room = || Arc::new(Semaphore::new(EXECS));
    settings.exec_enabled.then(room)
}

/// The frameworks of the configuration.
fn frameworks(settings: &Settings) -> Result<Vec<Framework>, ServerError> {
    let names = settings.compliance_frameworks.iter();
    let all: Result<_, _> = names.map(|name| name.parse()).collect();
    all.map_err(|error: CatalogError| ServerError::Compliance(error.to_string()))
}

fn ingress(
    settings: &Settings,
    db: &Db,
    runtime: &Runtime,
    (metrics, tracer, allowed): (Metrics, &Option<Arc<Tracer>>, Arc<Allowed>),
    own: By,
) -> Ingress {
    let spans = spans(tracer.as_ref());
    let limits = Limits {
        body: settings.limits_body,
        body_pause: settings.limits_body_timeout,
        quotas: Some(allowed),
        ..Limits::default()
    };
    let retention = Retention {
        age: settings.calls_retention,
        bytes: settings.calls_retention_bytes,
        hours: settings.performance_retention,
    };
    let agents = Arc::new(RuntimeAgents::new(runtime.clone(), Runs::new(db.clone())));
    Ingress::new(db.clone(), agents, limits, retention, metrics, spans, own)
}

fn people(
    db: &Db,
    settings: &Settings,
    registry: &mut Registry,
) -> Result<(Users, Sessions, Outside), ServerError> {
    let users = Users::new(db.clone());
    let lasts = SessionOptions {
        idle: settings.sessions_idle,
        lifetime: settings.sessions_lifetime,
    };
    let sessions = Sessions::new(users.clone(), lasts);
    let sessions = sessions.map_err(|error| ServerError::Random(error.to_string()))?;
    let outside = Outside::open(settings, db, registry)?;
    Ok((users, sessions, outside))
}

fn of_runtime(
    settings: &Settings,
    url: &str,
    key: &TokenKey,
    (allowed, lending, out): (Arc<Allowed>, Lending, &Outs),
) -> skep_runtime::Options {
    skep_runtime::Options {
        url: Some(url.to_owned()),
        mint: Some(Arc::new(Minting {
            key: key.clone(),
            models: out.models.clone(),
            tools: out.tools.clone(),
            web: out.web.clone(),
        })),
        events: Keep {
            count: settings.events_keep,
            age: settings.events_retention,
        },
        quotas: Some(allowed),
        lender: Some(Arc::new(lending)),
    }
}

fn open(settings: &Settings, observed: ServerMetrics) -> Result<Db, ServerError> {
    if skep_backup::is_half_restored(&settings.data) {
        return Err(ServerError::HalfRestored(settings.data.clone()));
    }
    forget_imports(&settings.data)?;
    let database = settings.store_url.as_ref();
    let store = skep_store::Options::new(&settings.data)
        .observer(move |stats| observed.committed(stats))
        .recorder(Arc::new(skep_audit::Written))
        .database(database.map(|url| url.reveal().to_owned()));
    let db = Db::open(store, &migrations())?;
    if let Some(backup) = db.backup() {
        tracing::info!(backup = %backup.display(), "the database was migrated; this is how it was");
    }
    Ok(db)
}

/// Takes away what archives left that the last start did not take in to their end.
fn forget_imports(data: &Path) -> Result<(), ServerError> {
    let path = data.join(STAGING);
    skep_runtime::folder::remove(&path).map_err(|error| ServerError::File {
        path,
        reason: error.to_string(),
    })
}

/// Where other servers reach this one.
fn reached_at(settings: &Settings, url: &str) -> String {
    if let Some(given) = &settings.servers_url {
        return given.trim_end_matches('/').to_owned();
    }
    match settings.listen.ip().is_unspecified() {
        false => url.to_owned(),
        true => {
            let host = rustix::system::uname();
            let host = host.nodename().to_string_lossy().into_owned();
            let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
            let port = address.rsplit(':').next().unwrap_or_default();
            format!("{scheme}://{host}:{port}")
        }
    }
}

fn drivers(settings: &Settings, shim: &Path, doors: Arc<Doors>) -> Vec<Arc<dyn Driver>> {
    let mut process = ProcessOptions::new(settings.data.join("agents"), shim);
    // Keys and the database lie there.
    process.private.push(settings.data.clone());
    process.rotation = Rotation {
        file_bytes: settings.agents_log_size,
        files: settings.agents_log_files,
    };
    let docker = DockerOptions {
        socket: settings.docker_socket.clone(),
        subnet: settings.docker_subnet.clone(),
        firewall: match settings.docker_firewall {
            DockerFirewall::Skep => Firewall::Skep,
            DockerFirewall::External => Firewall::External,
        },
        rotation: process.rotation,
        credentials: settings.docker_credentials.clone(),
        doors: Some(doors),
        ..DockerOptions::new(&settings.data)
    };
    vec![
        Arc::new(ProcessDriver::new(process)),
        Arc::new(DockerDriver::new(docker)),
    ]
}

fn background(state: &Arc<State>) -> Vec<tokio::task::JoinHandle<()>> {
    let (retention, disk, load) = (state.clone(), state.clone(), state.clone());
    let (orphans, auditing, using) = (state.clone(), state.clone(), state.clone());
    let (purging, watching, outside) = (state.clone(), state.clone(), state.clone());
    let providers = state.clone();
    let counting = state.clone();
    let of = state.tenants.all().clone();
    let own = By::new(Arc::new(Own(state.db.server())));
    let (renewing, spending, tooling) = (state.clone(), state.clone(), state.clone());
    let mut tasks = sharing(state);
    tasks.extend([
        tokio::spawn(async move {
            let leads = || retention.peers.leads();
            retention.ingress.maintain(of, leads).await;
        }),
        tokio::spawn(async move {
            let leads = || auditing.peers.leads();
            auditing.audit.maintain(auditing.stop.clone(), leads).await;
        }),
        tokio::spawn(async move { spending.models.keep(spending.stop.clone()).await }),
        tokio::spawn(async move { tooling.tools.keep(tooling.stop.clone()).await }),
        tokio::spawn(async move { watching.threats.keep(watching.stop.clone()).await }),
        tokio::spawn(vault::keep(state.clone(), own.clone())),
        tokio::spawn(renewals::keep(state.clone(), own)),
        tokio::spawn(webhooks::keep(state.clone())),
        tokio::spawn(push::keep(state.clone())),
        tokio::spawn(runs::keep(state.clone())),
        tokio::spawn(budgets::keep(state.clone())),
        tokio::spawn(webhooks::forget_keys(state.clone())),
        tokio::spawn(async move { renewing.renewals.keep_fresh().await }),
        tokio::spawn(async move { watch_disk(&disk).await }),
        tokio::spawn(async move { quotas::keep_counted(&counting).await }),
        tokio::spawn(async move { keep_uses(&using).await }),
        tokio::spawn(async move { purge_workspaces(&purging).await }),
        tokio::spawn(async move { outside.outside.keep_fresh().await }),
        tokio::spawn(async move { providers.logins.keep_fresh().await }),
        tokio::spawn(async move { watch_load(&load).await }),
        tokio::spawn(state.backups.clone().keep_schedule()),
        tokio::spawn(async move {
            for workspace in orphans.tenants.all().all().iter() {
                match orphans.db.sweep_orphan_blobs(workspace).await {
                    Ok(0) => {}
                    Ok(removed) => {
                        tracing::info!(%workspace, removed, "blobs without a row removed");
                    }
                    Err(error) => tracing::warn!(%workspace, %error, "blobs were not swept"),
                }
            }
        }),
    ]);
    tasks
}

/// What servers that share a database do for each other.
fn sharing(state: &Arc<State>) -> Vec<tokio::task::JoinHandle<()>> {
    if !state.peers.is_shared() {
        return Vec::new();
    }
    let beating = state.clone();
    let refreshing = state.clone();
    let (sharing, sweeping) = (state.clone(), state.clone());
    vec![
        tokio::spawn(async move { peers::beat(&beating).await }),
        tokio::spawn(async move { refresh_guard(&refreshing).await }),
        tokio::spawn(async move { peers::share::keep(&sharing).await }),
        tokio::spawn(async move { sweep_parts(&sweeping).await }),
    ]
}

/// Takes away what is left of workspaces that were removed.
async fn purge_workspaces(state: &State) {
    let mut tick = tokio::time::interval(PURGE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A start may have come in between the two.
    let mut homeless = true;
    loop {
        tick.tick().await;
        if !state.peers.leads() {
            continue;
        }
        match state.tenants.purge().await {
            Ok(gone) => {
                homeless |= !gone.is_empty();
                for workspace in gone {
                    if let Err(error) = state.vault.forget_workspace(&workspace).await {
                        tracing::warn!(%workspace, %error, "keys of its secrets are left");
                    }
                    tracing::info!(%workspace, "what was left of the workspace is gone");
                }
            }
            Err(error) => tracing::warn!(%error, "removed workspaces are purged later"),
        }
        if homeless {
            homeless = match forget_homeless(state).await {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(%error, "people of removed workspaces are forgotten later");
                    true
                }
            };
        }
    }
}

/// Forgets the people who were in removed workspaces alone.
async fn forget_homeless(state: &State) -> Result<(), StoreError> {
    // Somebody may have made one on another server.
    state.tenants.refresh().await?;
    let all = state.tenants.all().all();
    match state.users.forget_homeless(&all).await? {
        0 => {}
        people => tracing::info!(
            people,
            "who belonged to removed workspaces alone is forgotten"
        ),
    }
    Ok(())
}

/// Keeps when keys were last used.
async fn keep_uses(state: &State) {
    let mut tick = tokio::time::interval(USES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = state.keys.keep_uses().await {
            tracing::debug!(%error, "when keys were used is kept later");
        }
    }
}

/// Takes up workspaces, keys and policies that other servers changed.
async fn refresh_guard(state: &State) {
    let mut tick = tokio::time::interval(POLICIES_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = state.stop.cancelled() => return,
        }
        if let Err(error) = state.tenants.refresh().await {
            tracing::warn!(%error, "workspaces that other servers changed are not known here yet");
        }
        if let Err(error) = state.quotas.said.read().await {
            tracing::warn!(%error, "quotas that other servers changed are not known here yet");
        }
        if let Err(error) = state.keys.read().await {
            tracing::warn!(%error, "keys that other servers changed are not known here yet");
        }
        if let Err(error) = state.policies.refresh().await {
            tracing::warn!(%error, "policies that other servers changed are not known here yet");
        }
    }
}

/// Keeps the blobs in the database in order: those that the folder alone has go in, and what is left
/// of those that nothing names goes out.
async fn sweep_parts(state: &State) {
    for workspace in state.tenants.all().all().iter() {
        match state.db.share_blobs(workspace).await {
            Ok(0) => {}
            Ok(shared) => tracing::info!(%workspace, shared, "blobs put into the database"),
            Err(error) => tracing::warn!(%workspace, %error, "blobs not put into the database"),
        }
    }
    let mut tick = tokio::time::interval(PARTS_EVERY);
    loop {
        tick.tick().await;
        for workspace in state.tenants.all().all().iter() {
            if state.peers.leads()
                && let Err(error) = state.db.sweep_blob_parts(workspace).await
            {
                tracing::warn!(%workspace, %error, "parts of blobs were not swept");
            }
        }
    }
}

/// Lets copies of agents come and go with their calls.
async fn watch_load(state: &State) {
    let mut tick = tokio::time::interval(LOAD_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        state.runtime.tick(|workspace, agent| {
            let load = state.ingress.load(workspace, agent);
            load.running + load.waiting
        });
    }
}

async fn watch_disk(state: &State) {
    let mut tick = tokio::time::interval(DISK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_low = false;
    loop {
        tick.tick().await;
        let low = machine::free_disk(state.db.folder()).is_ok_and(|free| free < state.min_free);
        if low != was_low {
            if low {
                tracing::error!(
                    min_free = state.min_free,
                    "the disk is nearly full: no calls are taken"
                );
            } else {
                tracing::info!("the disk has room again");
            }
            state.ingress.set_disk_low(low.then_some(state.min_free));
            was_low = low;
        }
    }
}

/// Takes up new certificates, and tells the tools on this machine of them.
fn keep_certificates(
    tls: Arc<Tls>,
    settings: Settings,
    url: String,
) -> tokio::task::JoinHandle<()> {
    let changed = move || {
        if let Err(error) = announce(&settings, &url) {
            tracing::warn!(%error, "the new certificate is not in the data folder");
        }
    };
    // From here on it ends nothing.
    let hangup = signal(SignalKind::hangup()).ok();
    tokio::spawn(async move { tls.keep_fresh(hangup, changed).await })
}

/// Says in the data folder where the server is, for tools on this machine.
///
/// Its certificate is for the name by which others call it. Who reads this folder is on loopback, and
/// knows by it that it is the right one.
fn announce(settings: &Settings, url: &str) -> Result<(), ServerError> {
    let path = settings.data.join(ADDRESS_FILE);
    let failed = |error: std::io::Error| ServerError::File {
        path: path.clone(),
        reason: error.to_string(),
    };
    let certificate = settings.tls_cert.as_ref();
    let certificate = certificate
        .map(std::fs::read_to_string)
        .transpose()
        .map_err(failed)?;
    let document = serde_json::json!({
        "url": url,
        "certificate": certificate,
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let new = path.with_extension("new");
    std::fs::write(&new, document.to_string())
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(failed)
}

/// Ends the boxes of MCP servers.
async fn sweep_boxes(state: &State) {
    if let Some(process) = state.drivers.iter().find(|it| it.kind() == "process") {
        boxes::sweep(&**process, state.tenants.all()).await;
    }
}

async fn close(
    state: &State,
    settings: &Settings,
    serving: tokio::task::JoinHandle<()>,
    background: Vec<tokio::task::JoinHandle<()>>,
) {
    // Whoever sees that the address is gone finds the door shut.
    state.ingress.refuse();
    let _ = std::fs::remove_file(settings.data.join(ADDRESS_FILE));
    state.ingress.close(settings.shutdown_drain).await;
    let _ = serving.await;
    for task in background {
        task.abort();
    }
    state.tools.close();
    sweep_boxes(state).await;
    state.runtime.shutdown().await;
    state.runtime.flush_events().await;
    if let Err(error) = state.keys.keep_uses().await {
        tracing::warn!(%error, "when keys were last used is not kept");
    }
    state.threats.keep_addresses().await;
    state.ingress.flush_hours().await;
    // Its last entries are signed with the others.
    state.models.close().await;
    state.audit.close().await;
    if let Some(tracer) = &state.tracer {
        tracer.close().await;
    }
    // Others need not wait until this one is missed.
    state.peers.leave().await;
    if let Err(error) = state.db.leave().await {
        tracing::warn!(%error, "the end of this server was not written down");
    }
    state.db.close().await;
    tracing::info!("stopped");
}
