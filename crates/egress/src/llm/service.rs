//! The way out to models: providers and budgets of each workspace, and the exchanges with them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use skep_core::{Timestamp, Workspace, Workspaces};
use skep_sources::Reach;
use skep_store::{By, Db, Scope};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::books::{Amount, Books, Budget, Reservation, Standing, Window};
use super::happened::{Happened, Last};
use super::health::{Condition, Health};
use super::plan::Plan;
use super::preferences::{EVERYBODY, Preferences};
use super::prices::Prices;
use super::provider::{Door, Provider};
use super::recordings::Keeper;
use super::route::Route;
use super::stored::{self, BUDGETS, PROVIDERS, ROUTES, Shelf, Ware};
use super::versions;
use crate::EgressError;
use crate::forecast::{Forecast, LATE, forecast};
use crate::ledger::{Ledger, Opened, ended};
use crate::links::Links;
use crate::performance::{self, Performance};
use crate::recordings::{Recordings, Safe};
use crate::rows::{self, Day, DayFilter};

/// Providers, and budgets, of one workspace.
const MOST: u64 = 200;
/// How long what ended may take to the store before nobody waits for it.
const SOON: Duration = Duration::from_secs(3);
const HOUR: Duration = Duration::from_secs(3600);
/// What another server changed is seen after so long.
const FRESH: Duration = Duration::from_secs(1);

/// Gives the values of secrets that hold providers' keys.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The value of a secret of a workspace, or why it is not to be had.
    async fn key(&self, workspace: &Workspace, secret: &str) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// Makes what the audit log is told of an exchange.
pub trait Witness: Send + Sync {
    /// The entry of one that ended so.
    fn entry(&self, outcome: &str, opened: &Opened, now: Timestamp) -> Vec<u8>;
}

/// How the way out is made.
pub struct Options {
    /// The folder of the ledger.
    pub folder: PathBuf,
    /// Which addresses may be asked.
    pub reach: Reach,
    /// What models cost.
    pub prices: Prices,
    /// Whether the end of an answer waits for the disk.
    pub strict: bool,
    /// How long exchanges stay in the store one by one.
    pub retention: Duration,
    /// Where keys come from.
    pub keys: Arc<dyn Keys>,
    /// Has the keys that exchanges are kept under.
    pub safe: Arc<dyn Safe>,
    /// Knows what happened.
    pub happened: Arc<dyn Happened>,
    /// All that there are.
    pub workspaces: Workspaces,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Where.
    pub workspace: Workspace,
    /// What kind: `agent`, `key`, `user`.
    pub kind: &'static str,
    /// Their id.
    pub id: Arc<str>,
}

/// What a workspace has, as the store said some time ago.
#[derive(Clone)]
pub(super) struct Known {
    at: Instant,
    pub(super) providers: Arc<[Arc<Provider>]>,
    pub(super) routes: Arc<[Arc<Route>]>,
    pub(super) preferences: Arc<BTreeMap<String, Preferences>>,
}

impl Known {
    /// What somebody prefers, or their workspace.
    pub(super) fn preferences_of(&self, who: &Who) -> Preferences {
        let all = self.preferences.get(EVERYBODY).cloned().unwrap_or_default();
        let own = match who.kind {
            "agent" => self.preferences.get(&*who.id),
            _ => None,
        };
        own.map_or_else(|| all.clone(), |own| own.or(&all))
    }
}

/// The way out to models. Cheap to clone.
#[derive(Clone)]
pub struct Models(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) ledger: Ledger,
    pub(super) strict: bool,
    retention: Duration,
    workspaces: Workspaces,
    pub(super) upstream: Links,
    pub(super) keys: Arc<dyn Keys>,
    pub(super) prices: Prices,
    pub(super) keeper: Keeper,
    pub(super) last: Last,
    known: Mutex<HashMap<Workspace, Known>>,
    pub(super) books: Mutex<HashMap<Workspace, Books>>,
    health: Mutex<HashMap<Workspace, Health>>,
    pub(super) turn: AtomicUsize,
    /// Held by who takes a share of a workspace's budgets.
    pub(super) sharing: Mutex<HashMap<Workspace, Arc<tokio::sync::Mutex<()>>>>,
    /// Held by who reads what a workspace has: what was read last counts.
    reloading: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Models")
    }
}

impl Inner {
    pub(super) fn settle(&self, workspace: &Workspace, reservation: &Reservation, actual: Amount) {
        if let Some(books) = self.books.lock().get_mut(workspace) {
            books.settle(reservation, actual);
        }
    }
}

impl Inner {
    /// What is known of how the models of a workspace do.
    pub(super) fn health<T>(
        &self,
        workspace: &Workspace,
        look: impl FnOnce(&mut Health) -> T,
    ) -> T {
        let mut health = self.health.lock();
        if let Some(health) = health.get_mut(workspace) {
            return look(health);
        }
        look(health.entry(workspace.clone()).or_default())
    }
}

/// Something of a workspace changes: what was known of it does not count from its end on, whatever becomes of who asked.
struct Changed<'a>(&'a Inner, &'a Workspace);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.0.known.lock().remove(self.1);
    }
}

impl Models {
    /// Opens the way out.
    ///
    /// # Errors
    /// [`EgressError::Ledger`], and the store's own.
    pub async fn open(db: Db, options: Options) -> Result<Self, EgressError> {
        let ledger = Ledger::open(db.clone(), &options.folder).await?;
        let all = options.workspaces.all();
        let workspaces = options.workspaces;
        let recordings = Recordings::new(db.clone(), options.safe, workspaces.clone());
        let models = Self(Arc::new(Inner {
            db,
            ledger,
            strict: options.strict,
            retention: options.retention,
            workspaces,
            upstream: Links::new(options.reach),
            keys: options.keys,
            prices: options.prices,
            keeper: Keeper::new(recordings),
            last: Last::new(options.happened),
            known: Mutex::default(),
            books: Mutex::default(),
            health: Mutex::default(),
            turn: AtomicUsize::new(0),
            sharing: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
        }));
        models.begin_shares(&all).await?;
        Ok(models)
    }

    /// Where exchanges are written down, by whatever way they go.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Brings what exchanges cost, and those that are kept, into the store, until the end.
    pub async fn keep(&self, stop: CancellationToken) {
        let recordings = self.kept().run(stop.clone());
        let shares = self.give_back(&stop);
        let long_ago = (&self.0.workspaces, self.0.retention);
        let ended = ended::sweep(&self.0.db, long_ago, stop.clone());
        tokio::join!(self.0.ledger.keep(stop.clone()), recordings, shares, ended);
    }

    /// Waits for what has just ended, and not for long: what the store does not take is missing then.
    pub(super) async fn soon(&self) {
        let _ = tokio::time::timeout(SOON, self.0.ledger.on_disk()).await;
    }

    /// The last of what exchanges cost.
    pub async fn close(&self) {
        self.0.ledger.flush().await;
        self.end_shares().await;
    }

    pub(super) async fn known(&self, workspace: &Workspace) -> Result<Known, EgressError> {
        let shared = self.0.db.is_shared();
        if let Some(known) = self.0.known.lock().get(workspace)
            && (!shared || known.at.elapsed() < FRESH)
        {
            return Ok(known.clone());
        }
        self.reload(workspace).await
    }

    /// Reads what the store has of a workspace. What was spent of a budget that is new here is counted.
    async fn reload(&self, workspace: &Workspace) -> Result<Known, EgressError> {
        let _alone = self.0.reloading.lock().await;
        let there = tokio::time::timeout(SOON, self.0.ledger.on_disk()).await;
        there.map_err(|_| EgressError::Busy)?;
        let at = Instant::now();
        let (of, now) = (workspace.clone(), self.0.db.clock().now());
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let providers = stored::providers(&mut scope)?;
            let routes = stored::routes(&mut scope)?;
            let preferences = stored::preferences(&mut scope)?;
            let mut budgets = Vec::new();
            for budget in stored::budgets(&mut scope)? {
                let spent = rows::spent(&mut scope, &budget.subject, budget.window, now)?;
                budgets.push((budget, spent));
            }
            Ok::<_, EgressError>((providers, routes, preferences, budgets))
        });
        let (providers, routes, preferences, budgets) = read.await?;
        let known = Known {
            at,
            providers: providers.into_iter().map(Arc::new).collect(),
            routes: routes.into_iter().map(Arc::new).collect(),
            preferences: Arc::new(preferences),
        };
        self.books(workspace, |books| {
            books.keep(|name| budgets.iter().any(|(it, _)| it.name == name));
            for (budget, spent) in budgets {
                books.put(budget, spent, now);
            }
        });
        self.0.known.lock().insert(workspace.clone(), known.clone());
        Ok(known)
    }

    /// The providers of a workspace.
    ///
    /// # Errors
    /// The store's own.
    pub async fn providers(
        &self,
        workspace: &Workspace,
    ) -> Result<Arc<[Arc<Provider>]>, EgressError> {
        Ok(self.known(workspace).await?.providers)
    }

    /// How the budgets of a workspace stand.
    ///
    /// # Errors
    /// The store's own.
    pub async fn budgets(&self, workspace: &Workspace) -> Result<Vec<Standing>, EgressError> {
        self.known(workspace).await?;
        // What cannot be looked at now is told as it was.
        let _ = self.look(workspace).await;
        let now = self.0.db.clock().now();
        Ok(self.books(workspace, |books| books.standing(now)))
    }

    pub(super) async fn put(
        &self,
        by: &By,
        workspace: &Workspace,
        shelf: &'static Shelf,
        ware: Ware,
    ) -> Result<(), EgressError> {
        let name = ware.name.clone();
        let put = move |scope: &mut Scope<'_>, now| shelf.put(scope, &ware, (now, MOST));
        self.changing(by, workspace, (shelf.kind, &name, "set"), put)
            .await
    }

    /// Changes something that is known here.
    pub(super) async fn changing(
        &self,
        by: &By,
        workspace: &Workspace,
        what: (&'static str, &str, &'static str),
        work: impl FnOnce(&mut Scope<'_>, Timestamp) -> Result<(), EgressError> + Send + 'static,
    ) -> Result<(), EgressError> {
        let _changed = Changed(&self.0, workspace);
        rows::change(&self.0.db, by, workspace, what, work).await?;
        self.reload(workspace).await.map(std::mem::drop)
    }

    /// Workspaces of which this server knows what they have: they have asked of late.
    #[must_use]
    pub fn known_workspaces(&self) -> Vec<Workspace> {
        self.0.known.lock().keys().cloned().collect()
    }

    pub(super) async fn drop(
        &self,
        by: &By,
        workspace: &Workspace,
        shelf: &'static Shelf,
        name: &str,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let drop = move |scope: &mut Scope<'_>, _| shelf.drop(scope, &of);
        self.changing(by, workspace, (shelf.kind, name, "removed"), drop)
            .await
    }

    /// Takes a provider in, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn put_provider(
        &self,
        by: &By,
        workspace: &Workspace,
        provider: &Provider,
    ) -> Result<(), EgressError> {
        self.put(by, workspace, &PROVIDERS, Ware::provider(provider)?)
            .await
    }

    /// Takes a provider away.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_provider(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), EgressError> {
        self.drop(by, workspace, &PROVIDERS, name).await
    }

    /// Takes a budget in, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn put_budget(
        &self,
        by: &By,
        workspace: &Workspace,
        budget: &Budget,
    ) -> Result<(), EgressError> {
        self.put(by, workspace, &BUDGETS, Ware::budget(budget)?)
            .await
    }

    /// Takes a budget away.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_budget(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), EgressError> {
        self.drop(by, workspace, &BUDGETS, name).await
    }

    /// The routes of a workspace.
    ///
    /// # Errors
    /// The store's own.
    pub async fn routes(&self, workspace: &Workspace) -> Result<Arc<[Arc<Route>]>, EgressError> {
        Ok(self.known(workspace).await?.routes)
    }

    /// Takes a route in, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn put_route(
        &self,
        by: &By,
        workspace: &Workspace,
        route: &Route,
    ) -> Result<(), EgressError> {
        let ware = Ware::route(route)?;
        let name = ware.name.clone();
        let put = move |scope: &mut Scope<'_>, now: Timestamp| {
            ROUTES.put(scope, &ware, (now, MOST))?;
            Ok(versions::add(
                scope,
                (&ware.name, ware.text()),
                (None, now),
            )?)
        };
        self.changing(by, workspace, (ROUTES.kind, &name, "set"), put)
            .await
    }

    /// Takes a route away.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_route(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let drop = move |scope: &mut Scope<'_>, _| {
            ROUTES.drop(scope, &of)?;
            Ok(versions::drop(scope, &of)?)
        };
        self.changing(by, workspace, (ROUTES.kind, name, "removed"), drop)
            .await
    }

    /// How a model (`provider/model`) does, as far as this server knows.
    #[must_use]
    pub fn condition(&self, workspace: &Workspace, model: &str) -> Condition {
        let now = self.0.db.clock().now();
        self.0
            .health(workspace, |health| health.condition(model, now))
    }

    /// What was used, by day, principal and model; and whether there is more than is told at once.
    ///
    /// # Errors
    /// The store's own.
    pub async fn days(
        &self,
        workspace: &Workspace,
        filter: DayFilter,
    ) -> Result<(Vec<Day>, bool), EgressError> {
        self.soon().await;
        let of = workspace.clone();
        let days = self
            .0
            .db
            .read(move |reader| rows::days(&mut reader.scope(&of), &filter));
        Ok(days.await?)
    }

    /// What this month costs, and will have cost.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forecast(&self, workspace: &Workspace) -> Result<Forecast, EgressError> {
        let now = self.0.db.clock().now();
        let from = Window::Month.start(now).day().min(now.day()) - LATE;
        let of = workspace.clone();
        let read = self
            .0
            .db
            .read(move |reader| rows::costs(&mut reader.scope(&of), from));
        Ok(forecast(&read.await?, now))
    }

    /// How each model did over so many hours until now; and whether there was more than is looked at.
    ///
    /// # Errors
    /// The store's own.
    pub async fn performance(
        &self,
        workspace: &Workspace,
        hours: u64,
    ) -> Result<(Vec<Performance>, bool), EgressError> {
        self.soon().await;
        let from = self
            .0
            .db
            .clock()
            .now()
            .minus(HOUR * u32::try_from(hours).unwrap_or(u32::MAX));
        let of = workspace.clone();
        let read = self
            .0
            .db
            .read(move |reader| performance::since(&mut reader.scope(&of), from));
        Ok(read.await?)
    }

    /// Reads a request, whose path begins behind its door.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], [`EgressError::Invalid`], [`EgressError::NoModel`], [`EgressError::Held`], and the
    /// store's own.
    pub async fn plan(
        &self,
        who: &Who,
        door: Door,
        asked: (&Method, &str, Option<&str>),
        body: &Bytes,
    ) -> Result<Plan, EgressError> {
        let known = self.known(&who.workspace).await?;
        let preferences = known.preferences_of(who);
        let usual = preferences.model.as_deref();
        let mut plan = Plan::read((&known.providers, &known.routes, usual), door, asked, body)?;
        if !plan.is_prompt() {
            plan = plan.held(preferences, body).await?;
        }
        Ok(plan)
    }
}
