//! The supervisor's task: carries out what the machine decides, and tells it what happened. One
//! task for each revision that runs or is to run; it ends when it was told to stop and nothing of
//! it runs any more.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use skep_api::InstanceState;
use skep_core::{InstanceId, Timestamp};
use skep_store::Db;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::agents::{self, InstanceRow, KEPT_INSTANCES};
use crate::driver::{Driver, DriverError, Exit, News, Place, Running, StartRequest};
use crate::events;
use crate::lend::{Given, Lender, NotLent, by_proxy};
use crate::mint::Mint;
use crate::port::Ports;
use crate::probe::{Check, Well, probe};
use crate::service::Options;
use crate::slot::{Ending, Live, Orders, Probed, Slot, View};
use crate::spec::Spec;
use crate::supervisor::{Action, Event, Machine, Miss, MissKind, Policy};
use crate::usage::Looks;

/// Instances that are started at the same time, so that a server with many agents stays usable
/// while it begins.
const STARTS_AT_ONCE: usize = 16;
/// News of a preparation that wait to be written down; more are left out.
const NEWS: usize = 16;
/// With it the Agents SDK of OpenAI sends no traces.
const NO_TRACES: &str = "OPENAI_AGENTS_DISABLE_TRACING";

/// What all supervisors share.
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) drivers: Vec<Arc<dyn Driver>>,
    pub(crate) url: Option<String>,
    pub(crate) mint: Option<Arc<dyn Mint>>,
    pub(crate) lender: Option<Arc<dyn Lender>>,
    /// Instances that were begun and have not ended.
    pub(crate) begun: SyncMutex<HashSet<InstanceId>>,
    pub(crate) ports: Ports,
    pub(crate) looks: Looks,
    pub(crate) events: events::Log,
    starts: Semaphore,
    closing: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        db: Db,
        options: Options,
        drivers: Vec<Arc<dyn Driver>>,
        events: events::Log,
    ) -> Self {
        Self {
            db,
            events,
            drivers,
            url: options.url,
            mint: options.mint,
            lender: options.lender,
            begun: SyncMutex::default(),
            ports: Ports::new(),
            looks: Looks::default(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            closing: AtomicBool::new(false),
        }
    }

    /// The runtime ends: nothing is started any more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The kinds of drivers that there are.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.drivers.iter().map(|driver| driver.kind()).collect()
    }

    pub(crate) fn driver(&self, kind: &str) -> Option<&Arc<dyn Driver>> {
        self.drivers.iter().find(|driver| driver.kind() == kind)
    }
}

/// What a supervisor supervises.
#[derive(Clone)]
pub(crate) struct Charge {
    pub(crate) slot: Arc<Slot>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) spec: Arc<Spec>,
    pub(crate) revision: u32,
}

/// Something that was under way and is done.
enum Done {
    Launched(Result<Live, Failure>),
    Probed(InstanceId, Result<Well, Miss>, Duration),
    Drained(InstanceId),
    Exited(InstanceId, Exit),
    /// What went wrong when an instance was to end.
    Ended(Option<String>),
}

struct Failure {
    reason: String,
    counts: bool,
}

impl Failure {
    /// Skep's own trouble, for which the agent is not to blame.
    fn own(reason: String) -> Self {
        Self {
            reason,
            counts: false,
        }
    }

    fn of_start(error: &DriverError) -> Self {
        Self {
            reason: format!("it cannot be started: {error}"),
            counts: !matches!(error, DriverError::Unavailable(_)),
        }
    }
}

/// The way between a start that is under way and its supervisor.
#[derive(Clone)]
struct Errand {
    news: mpsc::Sender<News>,
    /// It is not wanted any more.
    leave: Arc<Notify>,
}

struct Supervisor {
    charge: Charge,
    generation: u64,
    machine: Machine,
    began: Instant,
    live: Option<Live>,
    /// The instance that notes are about: the one that runs, begins or ended last.
    last: InstanceId,
    check: Check,
    /// It said so when it was probed last.
    busy: bool,
    /// What the last probe of the instance found.
    probed: Option<Probed>,
    /// The start that is under way, or was last, and what it tells.
    errand: Errand,
    news: mpsc::Receiver<News>,
    /// What it told last.
    heard: Option<String>,
    launches: u64,
    /// The state that was told last.
    told: InstanceState,
    seen: Orders,
    jobs: JoinSet<Done>,
}

/// Supervises until told to stop. `adopted` is an instance that runs already.
pub(crate) fn supervise(
    charge: Charge,
    generation: u64,
    orders: watch::Receiver<Orders>,
    adopted: Option<Live>,
) {
    let machine = Machine::new(Policy::from(charge.spec.as_ref()), fastrand::u64(..));
    let check = charge
        .spec
        .health
        .path
        .clone()
        .map_or(Check::Find, Check::Path);
    let (told, news) = mpsc::channel(NEWS);
    let supervisor = Supervisor {
        charge,
        generation,
        machine,
        began: Instant::now(),
        live: None,
        last: adopted
            .as_ref()
            .map_or_else(InstanceId::new, |live| live.instance),
        check,
        busy: false,
        probed: None,
        errand: Errand {
            news: told,
            leave: Arc::default(),
        },
        news,
        heard: None,
        launches: u64::from(adopted.is_some()),
        told: InstanceState::Stopped,
        seen: Orders::default(),
        jobs: JoinSet::new(),
    };
    tokio::spawn(supervisor.run(orders, adopted));
}

impl Supervisor {
    async fn run(mut self, mut orders: watch::Receiver<Orders>, adopted: Option<Live>) {
        let slot = self.charge.slot.clone();
        let mut events = VecDeque::from([Event::Run]);
        if let Some(live) = adopted {
            // What the machine asks for is there already.
            self.machine.on(Event::Run, Duration::ZERO);
            self.note(&format!("adopted {}", describe(&live)));
            self.launched(live);
            events = VecDeque::from([Event::Launched]);
        }
        let mut suspects = slot.target.suspects();
        loop {
            while let Some(event) = events.pop_front() {
                let now = self.began.elapsed();
                for action in self.machine.on(event, now) {
                    self.act(action);
                }
            }
            if self.machine.is_launching() && self.machine.view() == InstanceState::Stopping {
                self.errand.leave.notify_one();
            }
            self.report();
            if self.machine.view() == InstanceState::Stopped {
                break;
            }
            let wake = self.machine.wake();
            tokio::select! {
                changed = orders.changed() => match changed {
                    Ok(()) => self.obey(*orders.borrow_and_update(), &mut events),
                    Err(_) => events.push_back(Event::Stop),
                },
                Ok(()) = suspects.changed() => {
                    let suspect = *suspects.borrow_and_update();
                    if suspect.is_some() && suspect == self.live.as_ref().map(|l| l.instance) {
                        events.push_back(Event::Suspect);
                    }
                }
                Some(news) = self.news.recv() => self.hear(news),
                Some(done) = self.jobs.join_next() => {
                    while let Ok(news) = self.news.try_recv() {
                        self.hear(news);
                    }
                    events.extend(self.done(done));
                }
                () = tokio::time::sleep_until(self.began + wake.unwrap_or_default()),
                    if wake.is_some() => events.push_back(Event::Tick),
            }
        }
        slot.report_end(self.generation);
    }

    fn obey(&mut self, orders: Orders, events: &mut VecDeque<Event>) {
        let before = std::mem::replace(&mut self.seen, orders);
        match orders.end {
            Some(Ending::AtOnce) => events.push_back(Event::Stop),
            Some(Ending::Drained) => events.push_back(Event::Drain),
            None if orders.runs > before.runs => events.push_back(Event::Run),
            None => {}
        }
    }

    fn note(&self, text: &str) {
        let now = self.charge.slot.shared.db.clock().now();
        self.charge.slot.note(now, self.last, text);
    }

    fn hear(&mut self, news: News) {
        self.note(&news.text);
        if let Some(kind) = news.event {
            self.record(kind, news.text.clone());
        }
        self.heard = Some(news.text);
    }

    fn record(&self, kind: &str, detail: String) {
        let slot = &self.charge.slot;
        let event = events::Event::of(slot.name(), kind, detail);
        let event = event.on(self.last).revision(self.charge.revision);
        slot.shared.events.add(&slot.workspace, event);
    }

    fn report(&mut self) {
        let state = self.machine.view();
        let before = std::mem::replace(&mut self.told, state);
        if let Some((kind, detail)) = events::of_state(before, state, self.machine.reason()) {
            self.record(kind, detail);
        }
        let under_way = self
            .heard
            .as_deref()
            .filter(|_| self.machine.is_launching());
        let view = View {
            state: self.machine.view(),
            reason: under_way.or(self.machine.reason()).map(str::to_owned),
            live: self.live.clone(),
            busy: self.busy && self.live.is_some(),
            probe: self.probed.clone().filter(|_| self.live.is_some()),
        };
        self.charge.slot.report(self.generation, view);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Launch => {
                self.launches += 1;
                if self.launches > 1 {
                    self.charge.slot.count_restart();
                }
                let instance = InstanceId::new();
                self.last = instance;
                self.heard = None;
                self.errand.leave = Arc::default();
                let (charge, errand) = (self.charge.clone(), self.errand.clone());
                self.jobs
                    .spawn(async move { Done::Launched(charge.launch(instance, errand).await) });
            }
            Action::Note(text) => self.note(&text),
            Action::Probe => self.probe(),
            Action::Drain => self.drain(),
            Action::End { at_once } => self.end(at_once),
        }
    }

    fn drain(&mut self) {
        let Some(live) = &self.live else { return };
        let (instance, target) = (live.instance, self.charge.slot.target.clone());
        self.jobs.spawn(async move {
            target.drained(instance).await;
            Done::Drained(instance)
        });
    }

    fn probe(&mut self) {
        let Some(live) = &self.live else { return };
        let (instance, door) = (live.instance, live.running.door());
        let (check, health) = (self.check.clone(), self.charge.spec.health.clone());
        self.jobs.spawn(async move {
            let began = Instant::now();
            let mut found = probe(&door, check, health.timeout).await;
            if let (Err(miss), Some(path)) = (&mut found, health.live) {
                let live = probe(&door, Check::Path(path), health.timeout).await;
                if live.is_ok() {
                    miss.kind = MissKind::Alive;
                }
            }
            Done::Probed(instance, found, began.elapsed())
        });
    }

    fn end(&mut self, at_once: bool) {
        let Some(live) = &self.live else { return };
        self.charge.slot.target.note_ended(live.instance);
        let running = live.running.clone();
        let grace = if at_once {
            Duration::ZERO
        } else {
            self.charge.spec.stop_grace
        };
        self.jobs.spawn(async move {
            Done::Ended(
                running
                    .stop(grace)
                    .await
                    .err()
                    .map(|error| error.to_string()),
            )
        });
    }

    fn launched(&mut self, live: Live) {
        let (instance, running) = (live.instance, live.running.clone());
        self.charge.slot.target.opened(instance, running.door());
        self.jobs
            .spawn(async move { Done::Exited(instance, running.wait().await) });
        self.live = Some(live);
        self.probed = None;
    }

    /// Keeps what a probe found, for those who ask.
    fn remember(&mut self, result: &Result<Well, Miss>, took: Duration) {
        let before = self.probed.as_ref().map_or(0, |probed| probed.misses);
        let (ok, detail, misses) = match result {
            Ok(well) => (true, well.check.answered(), 0),
            Err(miss) => (false, miss.reason.clone(), before.saturating_add(1)),
        };
        self.probed = Some(Probed {
            at: self.charge.slot.shared.db.clock().now(),
            ok,
            detail,
            took,
            misses,
        });
    }

    /// What the machine is to hear of something that is done.
    fn done(&mut self, done: Result<Done, JoinError>) -> Option<Event> {
        match done {
            Ok(Done::Launched(Ok(live))) => {
                self.note(&format!("started {}", describe(&live)));
                self.launched(live);
                Some(Event::Launched)
            }
            Ok(Done::Launched(Err(Failure { reason, counts }))) => {
                Some(Event::LaunchFailed { reason, counts })
            }
            Ok(Done::Probed(instance, result, took)) => {
                // The answer of an instance that ended meanwhile is nobody's.
                self.live
                    .as_ref()
                    .filter(|live| live.instance == instance)?;
                let busy = self.charge.slot.target.in_flight_on(instance) > 0;
                self.remember(&result, took);
                let result = result.map(|well| {
                    self.check = well.check;
                    self.busy = well.busy;
                });
                Some(Event::Probed { result, busy })
            }
            Ok(Done::Drained(instance)) => {
                self.live
                    .as_ref()
                    .filter(|live| live.instance == instance)?;
                Some(Event::Drained)
            }
            Ok(Done::Exited(instance, exit)) => {
                let ended = self.live.take_if(|live| live.instance == instance)?;
                let port = ended.running.address().port();
                self.charge.slot.shared.ports.release(port);
                let busy = self.charge.slot.target.was_busy(instance);
                self.charge.slot.target.forget(instance);
                let how = words(&exit);
                self.charge.clone().settle(instance, exit);
                Some(Event::Exited { how, busy })
            }
            Ok(Done::Ended(trouble)) => {
                if let Some(trouble) = trouble {
                    self.note(&trouble);
                }
                None
            }
            Err(error) => {
                tracing::error!(agent = self.charge.slot.name(), %error, "a supervisor's job broke");
                self.machine.is_launching().then(|| Event::LaunchFailed {
                    reason: "starting it broke inside Skep".to_owned(),
                    counts: true,
                })
            }
        }
    }
}

/// How it ended, with its last words.
fn words(exit: &Exit) -> String {
    match &exit.last_words {
        Some(words) => format!("{exit}: {words}"),
        None => exit.to_string(),
    }
}

fn describe(live: &Live) -> String {
    let port = live.running.address().port();
    match live.running.pid() {
        Some(pid) => format!("pid {pid} on port {port}"),
        None => format!("on port {port}"),
    }
}

impl Charge {
    pub(crate) fn place(&self, instance: InstanceId) -> Place {
        Place {
            workspace: self.slot.workspace.clone(),
            agent: self.slot.name().to_owned(),
            instance,
        }
    }

    /// Starts an instance. Its row comes first: a server that is killed in between leaves nothing
    /// that the next one does not look for.
    async fn launch(&self, instance: InstanceId, errand: Errand) -> Result<Live, Failure> {
        self.prepare(&errand).await?;
        let _permit = self.slot.shared.starts.acquire().await;
        let ports = &self.slot.shared.ports;
        let port = match self.driver.port() {
            Some(port) => port,
            None => ports
                .take()
                .map_err(|error| Failure::own(format!("no port is free: {error}")))?,
        };
        let place = self.place(instance);
        let started_at = self.slot.shared.db.clock().now();
        let started = self.start(&place, port, started_at).await;
        if started.is_err() {
            ports.release(port);
        }
        let running = started?;
        Ok(Live {
            instance: place.instance,
            started_at,
            running,
        })
    }

    /// Gets what the start needs, without a place among those that start: that may take long.
    async fn prepare(&self, errand: &Errand) -> Result<(), Failure> {
        // Who is not heard in time has nothing to say that will not be overtaken.
        let tell = |news| drop(errand.news.try_send(news));
        tokio::select! {
            prepared = self.driver.prepare(&self.slot.workspace, &self.spec, &tell) => {
                prepared.map_err(|error| Failure::of_start(&error))
            }
            () = errand.leave.notified() => {
                Err(Failure::own("it was told to end before it was started".to_owned()))
            }
        }
    }

    async fn start(
        &self,
        place: &Place,
        port: u16,
        started_at: Timestamp,
    ) -> Result<Arc<dyn Running>, Failure> {
        let (db, workspace) = (&self.slot.shared.db, &self.slot.workspace);
        let row = InstanceRow {
            id: place.instance,
            agent: place.agent.clone(),
            revision: self.revision,
            driver: self.driver.kind().to_owned(),
            handle: None,
            started_at,
        };
        agents::begin_instance(db, workspace, row, port)
            .await
            .map_err(|error| Failure::own(error.to_string()))?;
        // From its first instruction on its token counts.
        self.slot.shared.begun.lock().insert(place.instance);
        let given = match self.borrow(place).await {
            Ok(given) => given,
            Err(NotLent { reason, counts }) => {
                self.clone().settle(place.instance, Exit::default());
                return Err(Failure { reason, counts });
            }
        };
        let request = self.request(place.clone(), port, given);
        match self.driver.start(&request).await {
            Ok(running) => {
                let handle = running.handle();
                let kept = agents::set_handle(db, workspace, place.instance, handle).await;
                if let Err(error) = kept {
                    // A driver can adopt without it.
                    tracing::warn!(agent = place.agent, %error, "an instance's handle is not kept");
                }
                Ok(running)
            }
            Err(error) => {
                self.clone().settle(place.instance, Exit::default());
                Err(Failure::of_start(&error))
            }
        }
    }

    /// What the driver needs to start an instance, or to run something in its box.
    pub(crate) fn request(&self, place: Place, port: u16, given: Given) -> StartRequest {
        let contract = self.contract(place.instance, port, &given);
        let mut env = given.env;
        env.extend(contract);
        StartRequest {
            env,
            held: given.held,
            place,
            spec: self.spec.clone(),
            revision: self.revision,
            port,
        }
    }

    /// The variables of the contract.
    fn contract(&self, instance: InstanceId, port: u16, given: &Given) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("PORT".to_owned(), port.to_string()),
            ("SKEP_AGENT".to_owned(), self.slot.name().to_owned()),
            ("SKEP_INSTANCE".to_owned(), instance.to_string()),
        ]);
        let server = given.server.clone();
        env.extend(server.map(|url| ("SKEP_URL".to_owned(), url)));
        let Some(mint) = &self.slot.shared.mint else {
            return env;
        };
        let workspace = &self.slot.workspace;
        let token = mint.token(workspace, self.slot.name(), instance);
        env.insert("SKEP_TOKEN".to_owned(), token);
        if given.ways.models {
            let own = ways_out(&env, &self.spec.env);
            env.extend(own);
        }
        if given.ways.tools
            && let Some(url) = env.get("SKEP_URL")
        {
            let url = format!("{url}/mcp");
            env.insert("SKEP_MCP_URL".to_owned(), url);
        }
        let ways = (&given.ways, given.bundle.as_ref());
        let own = by_proxy(ways, &env, &self.spec.env);
        env.extend(own);
        env
    }

    /// Writes down how an instance ended and removes the oldest that are kept. A task of its own:
    /// the next start does not wait for it.
    fn settle(self, instance: InstanceId, exit: Exit) {
        self.slot.shared.begun.lock().remove(&instance);
        tokio::spawn(async move {
            let (db, workspace, agent) =
                (&self.slot.shared.db, &self.slot.workspace, self.slot.name());
            let ended = agents::end_instance(db, workspace, agent, instance, &exit).await;
            if let Err(error) = ended {
                // The next server finds that it ended.
                tracing::warn!(agent, %error, "an instance's end is not kept");
            }
            self.give_back(&self.place(instance)).await;
            if let Err(error) = self.prune().await {
                tracing::warn!(agent, %error, "old instances are not removed");
            }
        });
    }

    async fn prune(&self) -> Result<(), crate::DriverError> {
        let kept = self
            .driver
            .kept(&self.slot.workspace, self.slot.name())
            .await?;
        let (live, members) = self.slot.live();
        let ended: Vec<_> = kept.iter().filter(|one| !live.contains(one)).collect();
        // The newest may be on their way to run.
        let most = KEPT_INSTANCES as usize + members + 1;
        for instance in &ended[..ended.len().saturating_sub(most)] {
            self.driver.discard(&self.place(**instance)).await?;
        }
        Ok(())
    }
}

/// What the SDKs of models read: where they ask, and the agent's own token as their key. Where the specification says
/// either itself, neither is given: its key is for its address, and no other. So what would show that key to somebody
/// else is off: the Agents SDK of OpenAI sends its traces to OpenAI, wherever it asks.
fn ways_out(
    contract: &BTreeMap<String, String>,
    said: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let (Some(url), Some(token)) = (contract.get("SKEP_URL"), contract.get("SKEP_TOKEN")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    // Google's SDKs have two names for their key, and take this one first.
    let google = said.contains_key("GOOGLE_API_KEY");
    for (base, key, path) in [
        ("OPENAI_BASE_URL", "OPENAI_API_KEY", "/llm/openai/v1"),
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "/llm/anthropic"),
        ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY", "/llm/google"),
    ] {
        let own = google && key == "GEMINI_API_KEY";
        if !own && !said.contains_key(base) && !said.contains_key(key) {
            all.push((base.to_owned(), format!("{url}{path}")));
            all.push((key.to_owned(), token.clone()));
            if base == "OPENAI_BASE_URL" && !said.contains_key(NO_TRACES) {
                all.push((NO_TRACES.to_owned(), "1".to_owned()));
            }
        }
    }
    all
}
