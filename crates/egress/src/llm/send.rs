//! Sending a request to those who could answer: one after the other, again where that helps, each time within the
//! budgets and told to the ledger.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use skep_core::{ExchangeId, Timestamp, Workspace};
use skep_dialects::{Dialect, Memory, Tap, glance, rewritten, translate_request};
use tokio::time::Instant;

use super::answer::{joined, passed, translated};
use super::books::{Amount, Books, On, Reservation, Spender};
use super::exchange::{Body, Open};
use super::headers;
use super::plan::{Plan, Target};
use super::recordings::{Again, Apart, Asked, Keeping};
use super::route::{Pick, chance_of};
use super::scores::mark;
use super::service::{Models, Who, Witness};
use super::wishes::Wishes;
use crate::EgressError;
use crate::ledger::{Opened, Way};
use crate::rows::KEPT;

/// How long a provider may take until its answer begins.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Tells a client who answers: `provider/model`.
const MODEL: HeaderName = HeaderName::from_static("skep-model");
/// Tells a client which exchange it was: `exc_…`.
const EXCHANGE: HeaderName = HeaderName::from_static("skep-exchange");
/// Tells a client which version of a prompt was asked for: `name@3`.
const PROMPT: HeaderName = HeaderName::from_static("skep-prompt");
/// Tells a client whether the answer was given before: `hit`, `partial`, `miss`, `similar`, or `replay` of an earlier attempt.
const CACHE: HeaderName = HeaderName::from_static("skep-cache");
/// Tells a client how near its question is to the one that was answered, from 0 to 1.
const NEARNESS: HeaderName = HeaderName::from_static("skep-nearness");
/// Statuses of a provider that cannot, or not now: the next one is asked.
pub(super) const CANNOT: [u16; 6] = [429, 500, 502, 503, 504, 529];
/// Statuses of a key that is not to be shown for now: it has asked too often, or counts no more.
const OF_KEYS: [u16; 3] = [401, 403, 429];
/// How long such a key is set aside, unless the provider says for how long, and at most.
const ASIDE: Duration = Duration::from_secs(10);
const LONGEST_ASIDE: Duration = Duration::from_secs(300);
/// The longest wait before the second time that one is asked, by chance shorter; each that follows is twice as long.
const BACKOFF: Duration = Duration::from_millis(250);
/// The longest that a client waits because a provider wants it; beyond, the next one is asked.
const MOST_WAIT: Duration = Duration::from_secs(10);

/// What an exchange may cost.
#[derive(Clone, Copy)]
struct Cost<'a> {
    reserved: Amount,
    /// The version of the prices.
    prices: &'a str,
}

/// What is sent, by whom, and who is told.
struct Sending<'a> {
    plan: &'a Arc<Plan>,
    who: &'a Who,
    client: &'a HeaderMap,
    body: &'a Bytes,
    witness: &'a Arc<dyn Witness>,
    /// What is kept of it, and its texts, if they are looked at one by one.
    keeping: Option<Arc<Keeping>>,
    apart: Option<Arc<Apart>>,
    /// What it asks last, if an answer to what means the same would do.
    asked: Option<Asked>,
    /// A mark of its thread.
    thread: String,
}

/// An answer or an error of one exchange, with the secret whose key was shown.
struct Tried {
    result: Result<Response<Body>, EgressError>,
    secret: Option<String>,
}

impl Tried {
    /// Whether another could do better.
    fn is_bad(&self) -> bool {
        match &self.result {
            Ok(response) => CANNOT.contains(&response.status().as_u16()),
            Err(
                EgressError::Unreachable { .. }
                | EgressError::Unusable { .. }
                | EgressError::Key { .. },
            ) => true,
            Err(_) => false,
        }
    }

    /// Whether it could do better itself, later.
    fn is_passing(&self) -> bool {
        let lasts = matches!(
            self.result,
            Err(EgressError::Key { .. } | EgressError::Unusable { .. })
        );
        self.is_bad() && !lasts
    }

    /// Whether what went wrong is of this target alone, so that another may be asked.
    const fn is_of_target(&self) -> bool {
        matches!(
            self.result,
            Err(EgressError::OverBudget { .. } | EgressError::Invalid(_))
        )
    }

    /// Nobody is given this answer.
    fn dismiss(self) {
        if let Ok(response) = self.result {
            response.into_body().dismiss();
        }
    }

    /// When it wants to be asked again.
    fn after(&self) -> Option<Duration> {
        let value = self.result.as_ref().ok()?.headers().get(RETRY_AFTER)?;
        let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The status of a provider that does not take the key.
    fn of_key(&self) -> Option<u16> {
        let status = self.result.as_ref().ok()?.status().as_u16();
        OF_KEYS.contains(&status).then_some(status)
    }
}

impl Models {
    /// Asks those who could answer until one does: in the order of the route, first those that have not failed of late.
    /// Each try is an exchange of its own. Requests with one `Skep-Thread` come to the same model of a weighted route.
    /// What is kept of an earlier answer is given again, where its sender prefers that.
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
        let body = plan.body.as_ref().unwrap_or(body);
        let mut wishes = Wishes::of(client)?;
        let thread = wishes.thread.take();
        let client = headers::to_provider(client);
        let since = self.forgotten(&plan, who, &mut wishes).await;
        let wanted = (wishes, &plan.preferences, since);
        let kept = &self.0.keeper;
        let keeping = kept.keeping((&plan, who), wanted, (&client, body)).await;
        let apart = match &keeping {
            Some(keeping) => kept.apart(keeping, &plan, (&client, body)).await,
            None => None,
        };
        let body = body.clone();
        let (plan, body) = match &apart {
            Some(apart) if apart.has_some() => (plan.with_rest(&apart.rest), apart.rest.clone()),
            _ => (plan, body),
        };
        let plan = Arc::new(plan);
        let out = plan.masked.as_ref().map_or(&body, |it| &it.body);
        let mut sending = Sending {
            plan: &plan,
            who,
            client: &client,
            body: out,
            witness: &witness,
            keeping,
            apart: apart.map(Arc::new),
            asked: None,
            thread: thread.as_deref().map(mark).unwrap_or_default(),
        };
        let order = self.order(&plan, &who.workspace, thread.as_deref());
        if let Some(given) = self.known_answer(&mut sending, &order).await {
            return given;
        }
        let mut last: Option<Tried> = None;
        for place in order {
            let Some(target) = plan.targets.get(place) else {
                continue;
            };
            let tried = self.try_target(&sending, target).await;
            let is_end = !tried.is_bad() && !tried.is_of_target();
            if let Some(before) = last.replace(tried) {
                before.dismiss();
            }
            if is_end {
                break;
            }
        }
        let nobody = || Err(EgressError::NoModel("nobody is left to ask".to_owned()));
        last.map_or_else(nobody, |it| it.result)
    }

    /// Since when answers are kept that may be given again. When that is not known, none is.
    async fn forgotten(&self, plan: &Plan, who: &Who, wishes: &mut Wishes) -> Timestamp {
        let Some(kinds) = &plan.preferences.forget_on else {
            return Timestamp::default();
        };
        match self.0.last.of(&who.workspace, kinds).await {
            Ok(last) => last.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "what happened is not known: no answer is given again");
                wishes.cache.fresh = true;
                Timestamp::default()
            }
        }
    }

    /// An answer that was given before, if there is one: to this question, or to one that means the same.
    async fn known_answer(
        &self,
        sending: &mut Sending<'_>,
        order: &[usize],
    ) -> Option<Result<Response<Body>, EgressError>> {
        let (plan, who) = (sending.plan, sending.who);
        let targets = || order.iter().filter_map(|it| plan.targets.get(*it));
        let keeping = sending.keeping.clone()?;
        let keeper = &self.0.keeper;
        let again = match &sending.apart {
            Some(apart) => apart.again(targets().next()?),
            None => keeper.again(&keeping, targets()).await,
        };
        if let Some(again) = again {
            return self.given_again(sending, again);
        }
        if !keeping.compares() {
            return None;
        }
        let near = self
            .near((plan, who), sending.body, sending.witness)
            .await?;
        let asked = Asked::of(near, plan, sending.client);
        let again = keeper.nearest(&keeping, &asked, targets()).await;
        sending.asked = Some(asked);
        self.given_again(sending, again?)
    }

    /// An answer is given again: an exchange that costs nothing.
    fn given_again(
        &self,
        sending: &Sending<'_>,
        again: Again,
    ) -> Option<Result<Response<Body>, EgressError>> {
        // Who gave it may not be asked any more.
        let may = |it: &Target| it.name() == again.model;
        if !sending.plan.targets.iter().any(may) {
            return None;
        }
        let (provider, model) = again.model.split_once('/')?;
        let cost = Cost {
            reserved: Amount::default(),
            prices: KEPT,
        };
        let mut open = match self.opened(sending, (provider, model), cost) {
            Ok(opened) => self.exchange(sending, opened, again.model.as_str().into()),
            Err(error) => return Some(Err(error)),
        };
        open.kept = true;
        let (status, mut headers, bytes) = again.content.again();
        headers.insert(CACHE, HeaderValue::from_static(again.how));
        let nearness = again.nearness.map(|it| format!("{it:.3}"));
        if let Some(Ok(nearness)) = nearness.map(HeaderValue::try_from) {
            headers.insert(NEARNESS, nearness);
        }
        headers.insert(AGE, HeaderValue::from(again.age.as_secs()));
        if let Ok(name) = HeaderValue::try_from(&*open.target) {
            headers.insert(MODEL, name);
        }
        tell(&mut headers, &open.opened);
        let tap = Tap::new(sending.plan.dialect, sending.plan.streams());
        let mut response = Response::new(Body::whole(bytes.into(), status.as_u16(), tap, open));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Some(Ok(response))
    }

    /// Who is asked, one after the other: places of the plan's targets.
    fn order(&self, plan: &Plan, workspace: &Workspace, thread: Option<&[u8]>) -> Vec<usize> {
        if plan.targets.len() < 2 {
            return vec![0];
        }
        let now = self.0.db.clock().now();
        let all: Vec<(String, u32)> = plan
            .targets
            .iter()
            .map(|target| (target.name(), target.weight))
            .collect();
        let (pick, chance) = match &plan.route {
            Some(route) => {
                let of_thread = thread.map(|it| chance_of(&route.name, it));
                (route.pick, of_thread.unwrap_or_else(|| fastrand::u64(..)))
            }
            None => (Pick::Ordered, 0),
        };
        self.0
            .health(workspace, |health| health.order(pick, &all, (chance, now)))
    }

    /// Asks one, as often as its route says; and at once with another key where one does not count now.
    async fn try_target(&self, sending: &Sending<'_>, target: &Target) -> Tried {
        let most = sending.plan.route.as_ref().map_or(1, |it| it.tries);
        let (mut times, mut keys) = (0, target.provider.secrets.len());
        loop {
            let tried = self.try_once(sending, target).await;
            if tried.of_key().is_some() {
                let other = self.set_aside(&sending.who.workspace, target, &tried);
                keys = keys.saturating_sub(1);
                if other && keys > 0 {
                    tried.dismiss();
                    continue;
                }
            }
            times += 1;
            if !tried.is_passing() || times >= most {
                return tried;
            }
            let doubled = BACKOFF * (1 << (times - 1).min(5));
            let wait = tried.after().unwrap_or(doubled.mul_f64(fastrand::f64()));
            if wait > MOST_WAIT {
                return tried;
            }
            tried.dismiss();
            tokio::time::sleep(wait).await;
        }
    }

    /// The key that a provider does not take now is not shown for a while. Tells whether it has another.
    fn set_aside(&self, workspace: &Workspace, target: &Target, tried: &Tried) -> bool {
        let Some(secret) = &tried.secret else {
            return false;
        };
        let (provider, now) = (&target.provider, self.0.db.clock().now());
        let until = now.plus(tried.after().unwrap_or(ASIDE).min(LONGEST_ASIDE));
        self.0.health(workspace, |health| {
            health.set_aside(&provider.name, secret, until);
            health.has_key(&provider.name, &provider.secrets, now)
        })
    }

    async fn try_once(&self, sending: &Sending<'_>, target: &Target) -> Tried {
        let secret = self.secret(&sending.who.workspace, target);
        let result = match self.begin(sending, target).await {
            Ok(open) => self.ask(sending, (target, secret.as_deref()), open).await,
            Err(error) => Err(error),
        };
        Tried { result, secret }
    }

    /// The secret whose key is shown, by turns.
    fn secret(&self, workspace: &Workspace, target: &Target) -> Option<String> {
        use std::sync::atomic::Ordering;
        let provider = &target.provider;
        let place = match provider.secrets.len() {
            0 => return None,
            1 => 0,
            _ => {
                let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
                let now = self.0.db.clock().now();
                self.0.health(workspace, |health| {
                    health.key(&provider.name, &provider.secrets, (turn, now))
                })?
            }
        };
        provider.secrets.get(place).cloned()
    }

    /// Sets aside what an exchange may cost, and tells that it begins.
    async fn begin(&self, sending: &Sending<'_>, target: &Target) -> Result<Open, EgressError> {
        let Sending { plan, who, .. } = sending;
        let inner = &self.0;
        let kind = target.provider.kind;
        let now = inner.db.clock().now();
        let price = inner.prices.price(kind.as_str(), &target.model, now);
        let price = price.cloned();
        let most = match plan.costs() {
            true => plan.most(price.as_ref()),
            false => Amount::default(),
        };
        let name: Arc<str> = target.name().into();
        let reservation = match plan.costs() {
            false => None,
            true => {
                let spender = Spender {
                    kind: who.kind,
                    id: &who.id,
                    on: On::Model(&name),
                };
                let priced = price.is_some() || !kind.is_priced();
                Some(
                    self.reserve(&who.workspace, &spender, (most, priced))
                        .await?,
                )
            }
        };
        let cost = Cost {
            reserved: most,
            prices: match price {
                Some(_) => inner.prices.version(),
                None => "none",
            },
        };
        let answers = (target.provider.name.as_str(), target.model.as_str());
        let opened = match self.opened(sending, answers, cost) {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(reservation) = &reservation {
                    inner.settle(&who.workspace, reservation, Amount::default());
                }
                return Err(error);
            }
        };
        let mut open = self.exchange(sending, opened, name);
        open.reservation = reservation;
        open.price = price;
        open.dialect = plan.dialect_of(target);
        Ok(open)
    }

    /// Tells the ledger that an exchange begins.
    fn opened(
        &self,
        sending: &Sending<'_>,
        (provider, model): (&str, &str),
        cost: Cost<'_>,
    ) -> Result<Arc<Opened>, EgressError> {
        let (plan, who) = (sending.plan, sending.who);
        let now = self.0.db.clock().now();
        let mut opened = Opened {
            id: *ExchangeId::new().as_bytes(),
            workspace: who.workspace.clone(),
            at: now,
            way: Way::Model,
            kind: who.kind.to_owned(),
            who: who.id.to_string(),
            provider: provider.to_owned(),
            model: model.to_owned(),
            asked: plan.asked.clone().unwrap_or_default(),
            reserved: cost.reserved,
            prices: cost.prices.to_owned(),
            prompt: plan.prompt.clone(),
            thread: sending.thread.clone(),
            entry: Vec::new(),
        };
        opened.entry = sending.witness.entry("lost", &opened, now);
        let opened = Arc::new(opened);
        self.0.ledger.begin(opened.clone())?;
        Ok(opened)
    }

    /// One that has begun, with nothing set aside.
    fn exchange(&self, sending: &Sending<'_>, opened: Arc<Opened>, target: Arc<str>) -> Open {
        Open {
            inner: self.0.clone(),
            opened,
            target,
            reservation: None,
            price: None,
            plan: sending.plan.clone(),
            witness: sending.witness.clone(),
            began: Instant::now(),
            first: None,
            dialect: sending.plan.dialect,
            asked: false,
            kept: false,
            settled: false,
        }
    }

    async fn reserve(
        &self,
        workspace: &Workspace,
        spender: &Spender<'_>,
        (most, priced): (Amount, bool),
    ) -> Result<Reservation, EgressError> {
        let unpriced = |books: &mut Books| books.counts_money(spender).map(str::to_owned);
        if !priced && let Some(budget) = self.books(workspace, unpriced) {
            let model = spender.on.name();
            return Err(EgressError::Invalid(format!(
                "the budget `{budget}` counts money, and no price of `{model}` is known: put it into the file of \
                 `models.prices`"
            )));
        }
        self.take(workspace, spender, most).await
    }

    /// Asks one provider.
    async fn ask(
        &self,
        sending: &Sending<'_>,
        (target, secret): (&Target, Option<&str>),
        mut open: Open,
    ) -> Result<Response<Body>, EgressError> {
        let (plan, provider) = (sending.plan, &target.provider);
        let request = self.request(sending, target, secret).await;
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
        open.asked();
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
        open.answers(answer.status());
        let name = HeaderValue::try_from(&*open.target);
        let told = (open.opened.clone(), open.target.clone());
        let some = sending.apart.as_ref().filter(|it| it.has_some());
        let some = some.filter(|_| answer.status().is_success());
        let mut response = match (memory, some) {
            (Some(memory), _) => translated(plan, target, open, (answer, memory)).await?,
            (None, Some(apart)) => joined(plan, target, open, (answer, apart)).await?,
            (None, None) => passed(plan, target, open, answer),
        };
        if let Ok(name) = name {
            response.headers_mut().insert(MODEL, name);
        }
        tell(response.headers_mut(), &told.0);
        if let Some(masked) = &plan.masked {
            let streams = plan.streams() && response.status().is_success();
            response.headers_mut().remove(CONTENT_LENGTH);
            response.body_mut().restore(masked.restore(streams));
        }
        if let Some(keeping) = &sending.keeping {
            let answer = (response.status().as_u16(), response.headers());
            let keep = keeping.keep(target, (&told.0, &told.1), answer);
            let keep = keep.asked(sending.asked.as_ref(), target);
            response.body_mut().keep(keep.apart(sending.apart.clone()));
            if keeping.caches() {
                let missed = match some {
                    Some(_) => HeaderValue::from_static("partial"),
                    None => HeaderValue::from_static("miss"),
                };
                response.headers_mut().insert(CACHE, missed);
            }
        }
        Ok(response)
    }

    async fn request(
        &self,
        sending: &Sending<'_>,
        target: &Target,
        secret: Option<&str>,
    ) -> Result<(Request<Full<Bytes>>, Option<Memory>), EgressError> {
        let Sending {
            plan, client, body, ..
        } = sending;
        let provider = &target.provider;
        let own = plan.door == provider.kind.door();
        let failed = |why: String| EgressError::Key {
            provider: provider.name.clone(),
            why,
        };
        let headers = match own {
            true => (*client).clone(),
            false => headers::elsewhere(provider.kind.door()),
        };
        let (body, memory) = match own {
            true => (own_body(plan, target, body), None),
            false => {
                let (body, memory) = self.translate(plan, target, body)?;
                (body, Some(memory))
            }
        };
        let address = match own {
            true => provider.address(&plan.path_for(&target.model), plan.query.as_deref()),
            false => {
                let (path, query) = plan.path_elsewhere(target);
                provider.address(&path, query)
            }
        };
        let mut request = Request::builder().method(plan.method.clone()).uri(address);
        if let Some(all) = request.headers_mut() {
            *all = headers;
        }
        let request = request.body(Full::new(body.clone()));
        let mut request = request.map_err(|error| EgressError::Invalid(error.to_string()))?;
        if let Some(secret) = secret {
            let secret = (&sending.who.workspace, secret);
            let shown = self.show(secret, provider, (&mut request, &body)).await;
            shown.map_err(failed)?;
        }
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

/// Tells a client what it can say a score of, and which version of a prompt it was.
fn tell(headers: &mut HeaderMap, opened: &Opened) {
    let id = ExchangeId::from_bytes(opened.id).to_string();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(EXCHANGE, id);
    }
    if !opened.prompt.is_empty()
        && let Ok(prompt) = HeaderValue::try_from(&opened.prompt)
    {
        headers.insert(PROMPT, prompt);
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
