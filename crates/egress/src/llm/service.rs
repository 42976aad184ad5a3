//! The way out to models: providers and budgets of each workspace, and the exchanges with them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use parking_lot::Mutex;
use skep_core::{Timestamp, Workspace};
use skep_dialects::{Dialect, Memory, glance, rewritten, translate_request};
use skep_sources::Reach;
use skep_store::{By, Change, Db, Scope, Unit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::answer::{passed, translated};
use super::books::{Amount, Books, Budget, Reservation, Spender, Standing};
use super::exchange::{Body, Open};
use super::headers;
use super::plan::{Plan, Target};
use super::prices::Prices;
use super::provider::{Door, Provider};
use super::stored::{self, BUDGETS, PROVIDERS, Shelf, Ware};
use super::upstream::Upstream;
use crate::EgressError;
use crate::ledger::{Ledger, Opened, Way};
use crate::rows::{self, Day, DayFilter};

/// How long a provider may take until its answer begins.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Providers, and budgets, of one workspace.
const MOST: usize = 200;
/// How long what ended may take to the store before nobody waits for it.
const SOON: Duration = Duration::from_secs(3);
/// What another server changed is seen after so long.
const FRESH: Duration = Duration::from_secs(1);
/// Statuses with which the next provider is asked: it cannot, or not now.
const NEXT: [u16; 6] = [429, 500, 502, 503, 504, 529];

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
    /// Where keys come from.
    pub keys: Arc<dyn Keys>,
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
struct Known {
    at: Instant,
    providers: Arc<[Arc<Provider>]>,
}

/// The way out to models. Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) ledger: Ledger,
    pub(super) strict: bool,
    upstream: Upstream,
    keys: Arc<dyn Keys>,
    prices: Prices,
    known: Mutex<HashMap<Workspace, Known>>,
    books: Mutex<HashMap<Workspace, Books>>,
    turn: AtomicUsize,
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

impl Models {
    /// Opens the way out.
    ///
    /// # Errors
    /// [`EgressError::Ledger`], and the store's own.
    pub async fn open(db: Db, options: Options) -> Result<Self, EgressError> {
        let ledger = Ledger::open(db.clone(), &options.folder).await?;
        Ok(Self(Arc::new(Inner {
            db,
            ledger,
            strict: options.strict,
            upstream: Upstream::new(options.reach),
            keys: options.keys,
            prices: options.prices,
            known: Mutex::default(),
            books: Mutex::default(),
            turn: AtomicUsize::new(0),
            reloading: tokio::sync::Mutex::default(),
        })))
    }

    /// Where exchanges are written down, by whatever way they go.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Brings what exchanges cost into the store, until the end.
    pub async fn keep(&self, stop: CancellationToken) {
        self.0.ledger.keep(stop).await;
    }

    /// The last of what exchanges cost.
    pub async fn close(&self) {
        self.0.ledger.flush().await;
    }

    async fn known(&self, workspace: &Workspace) -> Result<Known, EgressError> {
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
        let (providers, budgets): (Vec<Provider>, Vec<(Budget, Amount)>) = self
            .0
            .db
            .read(move |reader| {
                let mut scope = reader.scope(&of);
                let providers = stored::providers(&mut scope)?;
                let mut budgets = Vec::new();
                for budget in stored::budgets(&mut scope)? {
                    let spent = rows::spent(&mut scope, &budget.subject, budget.window, now)?;
                    budgets.push((budget, spent));
                }
                Ok::<_, EgressError>((providers, budgets))
            })
            .await?;
        let known = Known {
            at,
            providers: providers.into_iter().map(Arc::new).collect(),
        };
        let mut books = self.0.books.lock();
        let books = books.entry(workspace.clone()).or_default();
        books.keep(|name| budgets.iter().any(|(it, _)| it.name == name));
        for (budget, spent) in budgets {
            books.put(budget, spent, now);
        }
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
        let now = self.0.db.clock().now();
        let mut books = self.0.books.lock();
        Ok(books
            .get_mut(workspace)
            .map(|it| it.standing(now))
            .unwrap_or_default())
    }

    /// Changes something that is kept by name, and tells the audit log.
    async fn change(
        &self,
        by: &By,
        workspace: &Workspace,
        (kind, name, what): (&'static str, &str, &'static str),
        work: impl FnOnce(&mut Scope<'_>, Timestamp) -> Result<(), EgressError> + Send + 'static,
    ) -> Result<(), EgressError> {
        let (by, of, name) = (by.clone(), workspace.clone(), name.to_owned());
        self.0
            .db
            .write(move |unit: &mut Unit<'_>| {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                work(&mut scope, now)?;
                let change = Change {
                    action: None,
                    resource: (kind, &name),
                    what,
                    hash: None,
                };
                by.did(&mut scope, &change, now)?;
                Ok::<_, EgressError>(())
            })
            .await?;
        self.reload(workspace).await.map(drop)
    }

    async fn put(
        &self,
        by: &By,
        workspace: &Workspace,
        shelf: &'static Shelf,
        ware: Ware,
    ) -> Result<(), EgressError> {
        let name = ware.name.clone();
        let what = (shelf.kind, name.as_str(), "set");
        let put = move |scope: &mut Scope<'_>, now| shelf.put(scope, &ware, (now, MOST));
        self.change(by, workspace, what, put).await
    }

    async fn drop(
        &self,
        by: &By,
        workspace: &Workspace,
        shelf: &'static Shelf,
        name: &str,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let what = (shelf.kind, name, "removed");
        let drop = move |scope: &mut Scope<'_>, _| shelf.drop(scope, &of);
        self.change(by, workspace, what, drop).await
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

    /// What was used, by day, principal and model; and whether there is more than is told at once.
    ///
    /// # Errors
    /// The store's own.
    pub async fn days(
        &self,
        workspace: &Workspace,
        filter: DayFilter,
    ) -> Result<(Vec<Day>, bool), EgressError> {
        // What the store does not take is missing, and all else is told.
        let _ = tokio::time::timeout(SOON, self.0.ledger.on_disk()).await;
        let of = workspace.clone();
        let days = self
            .0
            .db
            .read(move |reader| rows::days(&mut reader.scope(&of), &filter));
        Ok(days.await?)
    }

    /// Reads a request, whose path begins behind its door.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], [`EgressError::Invalid`], [`EgressError::NoModel`], and the store's own.
    pub async fn plan(
        &self,
        workspace: &Workspace,
        door: Door,
        asked: (&Method, &str, Option<&str>),
        body: &[u8],
    ) -> Result<Plan, EgressError> {
        let known = self.known(workspace).await?;
        Plan::read(&known.providers, door, asked, body)
    }

    /// Asks those who could answer, one after the other, until one does. Each is an exchange of its own.
    ///
    /// # Errors
    /// [`EgressError`], of the last who was asked.
    pub async fn send(
        &self,
        plan: Plan,
        who: &Who,
        (client, body): (&HeaderMap, &Bytes),
        witness: Arc<dyn Witness>,
    ) -> Result<Response<Body>, EgressError> {
        let plan = Arc::new(plan);
        let client = headers::to_provider(client);
        let mut asked = plan.targets.iter().peekable();
        while let Some(target) = asked.next() {
            let is_last = asked.peek().is_none();
            let open = match self.begin(&plan, target, who, &witness) {
                Ok(open) => open,
                // Another may be within its budgets.
                Err(EgressError::OverBudget { .. } | EgressError::Invalid(_)) if !is_last => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.ask(&plan, target, open, (&client, body)).await {
                Ok(response) if is_last || !NEXT.contains(&response.status().as_u16()) => {
                    return Ok(response);
                }
                Err(error) if is_last => return Err(error),
                Ok(response) => response.into_body().dismiss(),
                Err(_) => {}
            }
        }
        Err(EgressError::NoModel("nobody is left to ask".to_owned()))
    }

    /// Sets aside what an exchange may cost, and tells that it begins.
    fn begin(
        &self,
        plan: &Arc<Plan>,
        target: &Target,
        who: &Who,
        witness: &Arc<dyn Witness>,
    ) -> Result<Open, EgressError> {
        let inner = &self.0;
        let kind = target.provider.kind;
        let now = inner.db.clock().now();
        let price = inner.prices.price(kind.as_str(), &target.model, now);
        let price = price.cloned();
        let most = match plan.costs() {
            true => plan.most(price.as_ref()),
            false => Amount::default(),
        };
        let reservation = match plan.costs() {
            false => None,
            true => {
                let model = target.name();
                let spender = Spender {
                    kind: who.kind,
                    id: &who.id,
                    model: &model,
                };
                let priced = price.is_some() || !kind.is_priced();
                Some(self.reserve(&who.workspace, &spender, (most, priced), now)?)
            }
        };
        let mut opened = Opened {
            id: *skep_core::ExchangeId::new().as_bytes(),
            workspace: who.workspace.clone(),
            at: now,
            way: Way::Model,
            kind: who.kind.to_owned(),
            who: who.id.to_string(),
            provider: target.provider.name.clone(),
            model: target.model.clone(),
            asked: plan.asked.clone().unwrap_or_default(),
            reserved: most,
            prices: match price {
                Some(_) => inner.prices.version().to_owned(),
                None => "none".to_owned(),
            },
            entry: Vec::new(),
        };
        opened.entry = witness.entry("lost", &opened, now);
        if let Err(error) = inner.ledger.begin(opened.clone()) {
            if let Some(reservation) = &reservation {
                inner.settle(&who.workspace, reservation, Amount::default());
            }
            return Err(error);
        }
        Ok(Open {
            inner: inner.clone(),
            opened,
            reservation,
            price,
            plan: plan.clone(),
            witness: witness.clone(),
            began: Instant::now(),
            first: None,
            dialect: plan.dialect_of(target),
            asked: false,
            settled: false,
        })
    }

    fn reserve(
        &self,
        workspace: &Workspace,
        spender: &Spender<'_>,
        (most, priced): (Amount, bool),
        now: Timestamp,
    ) -> Result<Reservation, EgressError> {
        let mut books = self.0.books.lock();
        let books = books.entry(workspace.clone()).or_default();
        if !priced && let Some(budget) = books.counts_money(spender) {
            let model = spender.model;
            return Err(EgressError::Invalid(format!(
                "the budget `{budget}` counts money, and no price of `{model}` is known: put it into the file of \
                 `models.prices`"
            )));
        }
        books
            .reserve(spender, most, now)
            .map_err(|over| EgressError::OverBudget {
                budget: over.budget,
                rest: over.rest,
            })
    }

    /// Asks one provider.
    async fn ask(
        &self,
        plan: &Plan,
        target: &Target,
        mut open: Open,
        (client, body): (&HeaderMap, &Bytes),
    ) -> Result<Response<Body>, EgressError> {
        let provider = &target.provider;
        let workspace = open.opened.workspace.clone();
        let request = self.request(&workspace, plan, target, (client, body)).await;
        let (request, memory) = match request {
            Ok(request) => request,
            Err(error) => {
                let outcome = match error {
                    EgressError::Key { .. } => "key",
                    _ => "refused",
                };
                open.settle(outcome, None, false);
                return Err(error);
            }
        };
        open.asked = true;
        let asking = tokio::time::timeout(PATIENCE, self.0.upstream.ask(request));
        let answer = match asking.await {
            Ok(answer) => answer,
            Err(_) => Err((format!("no answer within {} s", PATIENCE.as_secs()), true)),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err((why, read)) => {
                let most = || plan.most_usage(open.price.as_ref());
                let used = (read && plan.costs()).then(most);
                open.settle("unreachable", used, used.is_some());
                let provider = provider.name.clone();
                return Err(EgressError::Unreachable { provider, why });
            }
        };
        match memory {
            Some(memory) => translated(plan, target, open, (answer, memory)).await,
            None => Ok(passed(plan, target, open, answer)),
        }
    }

    async fn request(
        &self,
        workspace: &Workspace,
        plan: &Plan,
        target: &Target,
        (client, body): (&HeaderMap, &Bytes),
    ) -> Result<(Request<Full<Bytes>>, Option<Memory>), EgressError> {
        let provider = &target.provider;
        let own = plan.door == provider.kind.door();
        let failed = |why: String| EgressError::Key {
            provider: provider.name.clone(),
            why,
        };
        let mut headers = match own {
            true => client.clone(),
            false => headers::elsewhere(provider.kind.door()),
        };
        if !provider.secrets.is_empty() {
            let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % provider.secrets.len();
            let secret = provider.secrets.get(turn).map(String::as_str);
            let key = self.0.keys.key(workspace, secret.unwrap_or_default()).await;
            let key = key.map_err(failed)?;
            let (name, before) = provider.kind.key_header();
            let mut value = Zeroizing::new(before.as_bytes().to_vec());
            value.extend_from_slice(key.trim_ascii());
            let mut value = HeaderValue::from_bytes(&value)
                .map_err(|_| failed("its value cannot stand in a header".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let (body, memory) = match own {
            true => (own_body(plan, target, body), None),
            false => {
                let (body, memory) = self.translate(plan, target, body)?;
                (body, Some(memory))
            }
        };
        let address = match own {
            true => provider.address(&plan.path_for(target), plan.query.as_deref()),
            false => {
                let (path, query) = plan.path_elsewhere(target);
                provider.address(&path, query)
            }
        };
        let mut request = Request::builder().method(plan.method.clone()).uri(address);
        if let Some(all) = request.headers_mut() {
            *all = headers;
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| EgressError::Invalid(error.to_string()))?;
        Ok((request, memory))
    }

    /// The body in the dialect of a target, and what the answer's translation must know.
    fn translate(
        &self,
        plan: &Plan,
        target: &Target,
        body: &[u8],
    ) -> Result<(Bytes, Memory), EgressError> {
        let (own, its) = (plan.dialect, plan.dialect_of(target));
        let made = translate_request(own, its, body, &target.model, plan.streams());
        let (body, mut memory) = made.map_err(|error| {
            let name = target.name();
            EgressError::Invalid(format!("`{name}` speaks another dialect, and {error}"))
        })?;
        let seconds = self.0.db.clock().now().as_micros().div_euclid(1_000_000);
        memory.now = u64::try_from(seconds).unwrap_or_default();
        // The usage of a stream must be asked for, whoever asks.
        let body = match glance(its, &body) {
            Ok(found) if its == Dialect::Chat => rewritten(&found, &body, None, true),
            _ => body,
        };
        Ok((body.into(), memory))
    }
}

/// A body for who speaks the client's dialect.
fn own_body(plan: &Plan, target: &Target, body: &Bytes) -> Bytes {
    let asks_usage = plan.asks_usage(target.provider.kind);
    let asked = plan.glance.model.as_deref();
    let renamed = asked.is_some_and(|it| it != target.model);
    match renamed || asks_usage {
        true => {
            let model = renamed.then_some(target.model.as_str());
            Bytes::from(rewritten(&plan.glance, body, model, asks_usage))
        }
        false => body.clone(),
    }
}
