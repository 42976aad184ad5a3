//! Makes messages of what happened, and delivers them, until the server ends. One server does it; a claim on each message
//! keeps two from it while the lead changes hands.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;
use skep_core::{MessageId, Timestamp, Workspace};
use skep_store::{Change, Scope, StoreError};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::endpoint::{Endpoint, Off};
use super::error::WebhookError;
use super::feed::{Feed, Told};
use super::life::{Answer, Ends, Next, State, after, fares};
use super::rows::{self, Message};
use super::service::{Inner, Webhooks, body};
use super::sign::Key;

/// How often it is looked for what happened, and for what is due.
const LOOK: Duration = Duration::from_millis(500);
/// What is read of a feed at once, and how often in one look: others wait meanwhile.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 4;
/// A feed that tells nothing that anybody wants: how far it was read is kept so often.
const KEEP_CURSOR: u64 = 10_000;
/// Messages of an endpoint that wait; more are not made.
const MOST_WAITING: u64 = 10_000;
/// How long it is not told again that messages are not made.
const QUIET: Duration = Duration::from_secs(3600);
/// Messages that were delivered and are kept, the newest of each endpoint.
const MOST_DELIVERED: u32 = 1_000;
/// How often messages are looked for that are too old.
const TRIM: Duration = Duration::from_secs(60);
/// Deliveries at once: of all endpoints, of those of a workspace, and of one.
const AT_ONCE: usize = 256;
const AT_ONCE_OF_WORKSPACE: usize = 32;
const AT_ONCE_OF_ONE: usize = 4;
/// A claim lasts so much longer than a delivery may.
const MARGIN: Duration = Duration::from_secs(10);
/// A message that could not be signed is put off for so long.
const UNSIGNED: Duration = Duration::from_secs(5);

/// Whose messages.
type Whose = (Workspace, String);

/// What is known from one look to the next.
#[derive(Default)]
struct Round {
    /// How far each feed was read: as it is kept, and really.
    read: HashMap<(Workspace, &'static str), (Option<u64>, u64)>,
    /// The endpoints for which they were read.
    lists: HashMap<Workspace, Arc<[Endpoint]>>,
    /// Deliveries under way: each has a share of its endpoint's.
    busy: HashMap<Whose, Arc<()>>,
    /// Endpoints that asked not to be asked for a while.
    rests: HashMap<Whose, Timestamp>,
    trimmed: Option<Instant>,
    /// Whether it was so at the last look.
    led: bool,
    /// Which workspace is looked at first: each has its turn.
    turn: usize,
}

/// One that was tried, and until when its endpoint wants to be left alone.
type Done = (Whose, Option<Timestamp>);

impl Webhooks {
    /// Makes messages and delivers them, as long as this server leads, until the end.
    pub async fn keep(&self, stop: CancellationToken, leads: impl Fn() -> bool) {
        let mut round = Round::default();
        let mut sending = JoinSet::new();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What has ended makes room for more of its workspace; nothing else is looked at for that.
            let mut ended = BTreeSet::new();
            let all = tokio::select! {
                _ = tick.tick() => true,
                () = self.0.work.notified() => true,
                Some(done) = sending.join_next() => {
                    ended.extend(round.ended(done));
                    false
                }
                () = stop.cancelled() => return,
            };
            while let Some(done) = sending.try_join_next() {
                ended.extend(round.ended(done));
            }
            match (leads(), all) {
                (true, true) => self.look(&mut round, &mut sending).await,
                (true, false) => self.go_on(&mut round, &mut sending, ended).await,
                // Another reads on; where, it says itself.
                (false, _) => (round.led, round.read) = (false, HashMap::new()),
            }
        }
    }

    /// Begins what is due of these workspaces.
    async fn go_on(
        &self,
        round: &mut Round,
        sending: &mut JoinSet<Done>,
        workspaces: BTreeSet<Workspace>,
    ) {
        for workspace in &workspaces {
            let begun = async {
                let all = self.0.known(workspace).await?;
                self.0.begin(round, sending, workspace, &all).await
            };
            if let Err(error) = begun.await {
                let error: WebhookError = error;
                tracing::warn!(%workspace, %error, "webhooks are looked at later");
            }
        }
    }

    async fn look(&self, round: &mut Round, sending: &mut JoinSet<Done>) {
        let inner = &self.0;
        let began = !std::mem::replace(&mut round.led, true);
        let trims = round.trimmed.is_none_or(|it| it.elapsed() >= TRIM);
        let workspaces = inner.options.workspaces.all();
        round.turn = (round.turn + 1) % workspaces.len().max(1);
        let (before, from) = workspaces.split_at(round.turn);
        for workspace in from.iter().chain(before) {
            let looked = async {
                let all = inner.known(workspace).await?;
                if all.is_empty() {
                    return Ok(());
                }
                if began && !inner.db.is_shared() {
                    inner.release(workspace).await?;
                }
                for feed in &inner.options.feeds {
                    inner.follow(round, workspace, &all, &**feed).await?;
                }
                if trims {
                    inner.trim(workspace, &all).await?;
                }
                inner.begin(round, sending, workspace, &all).await
            };
            if let Err(error) = looked.await {
                let error: WebhookError = error;
                tracing::warn!(%workspace, %error, "webhooks are looked at later");
            }
        }
        if trims {
            round.trimmed = Some(Instant::now());
            let now = inner.db.clock().now();
            round.rests.retain(|_, until| *until > now);
            inner.forget_gone();
        }
    }
}

impl Round {
    /// Of which workspace one has ended.
    fn ended(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<Workspace> {
        self.busy.retain(|_, shares| Arc::strong_count(shares) > 1);
        let (whose, rest) = done.ok()?;
        let workspace = whose.0.clone();
        if let Some(until) = rest {
            self.rests.insert(whose, until);
        }
        Some(workspace)
    }

    /// How many deliveries of a workspace may begin.
    fn free(&self, workspace: &Workspace) -> usize {
        let all: usize = self.busy.values().map(under_way).sum();
        let own = self.busy.iter().filter(|((of, _), _)| of == workspace);
        let own: usize = own.map(|(_, shares)| under_way(shares)).sum();
        let of_all = AT_ONCE.saturating_sub(all);
        of_all.min(AT_ONCE_OF_WORKSPACE.saturating_sub(own))
    }

    /// How many of them to an endpoint.
    fn places(&mut self, whose: &Whose, now: Timestamp) -> usize {
        if self.rests.get(whose).is_some_and(|until| *until > now) {
            return 0;
        }
        self.rests.remove(whose);
        let own = self.busy.get(whose).map_or(0, under_way);
        AT_ONCE_OF_ONE.saturating_sub(own)
    }
}

fn under_way(shares: &Arc<()>) -> usize {
    Arc::strong_count(shares) - 1
}

/// What was read of a feed, for who is told.
struct Batch {
    feed: &'static str,
    moves: (Option<u64>, u64),
    told: Vec<(Told, MessageId, String)>,
}

impl Batch {
    /// Whom a thing is told.
    fn hears(&self, endpoint: &Endpoint, told: &Told) -> bool {
        endpoint.off.is_none()
            && endpoint.takes(&told.kind)
            && endpoint.began(self.feed, &told.kind, told.number)
    }

    /// Writes the messages and moves the cursor; nothing, when another did. Tells the endpoints that miss some.
    fn write(
        &self,
        scope: &mut Scope<'_>,
        now: Timestamp,
    ) -> Result<Option<Vec<String>>, StoreError> {
        scope.in_turn()?;
        if !rows::move_cursor(scope, self.feed, self.moves)? {
            return Ok(None);
        }
        let mut full = Vec::new();
        // As they are now: another server may have changed or removed some.
        for endpoint in rows::endpoints(scope)? {
            let heard = self
                .told
                .iter()
                .filter(|(it, ..)| self.hears(&endpoint, it));
            let heard: Vec<_> = heard.collect();
            if heard.is_empty() {
                continue;
            }
            let name = endpoint.name.as_str();
            let room = MOST_WAITING.saturating_sub(rows::waiting(scope, name)?);
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(heard.len());
            let (fit, missed) = heard.split_at(room);
            for (told, id, body) in fit {
                rows::send(scope, name, (*id, &told.kind, body), now)?;
            }
            let missed = missed.len() as u64;
            if missed > 0 && rows::miss(scope, name, missed, (now, QUIET))? {
                full.push(endpoint.name);
            }
        }
        Ok(Some(full))
    }
}

impl Inner {
    async fn release(&self, workspace: &Workspace) -> Result<(), WebhookError> {
        let of = workspace.clone();
        let written = self
            .db
            .write(move |unit| rows::release(&mut unit.scope(&of)));
        let written: Result<(), StoreError> = written.await;
        Ok(written?)
    }

    async fn trim(&self, workspace: &Workspace, all: &Arc<[Endpoint]>) -> Result<(), WebhookError> {
        let (of, all, keep) = (workspace.clone(), all.clone(), self.options.keep);
        let notice = self.options.notice.clone();
        let written = self.db.write(move |unit| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            scope.in_turn()?;
            for name in all.iter().map(|it| it.name.as_str()) {
                let bounds = (now.minus(keep), MOST_DELIVERED);
                let missed = rows::trim(&mut scope, name, bounds)?;
                if missed > 0 && rows::miss(&mut scope, name, missed, (now, QUIET))? {
                    let detail = format!("{missed} messages waited for longer than they are kept");
                    notice.tell(&mut scope, "webhook.missed", (name, &detail), now)?;
                }
            }
            Ok(())
        });
        let written: Result<(), StoreError> = written.await;
        Ok(written?)
    }

    /// Makes messages of what a feed tells.
    async fn follow(
        &self,
        round: &mut Round,
        workspace: &Workspace,
        all: &Arc<[Endpoint]>,
        feed: &dyn Feed,
    ) -> Result<(), WebhookError> {
        // What nobody hears is not read.
        let listen =
            |it: &&Endpoint| it.off.is_none() && feed.kinds().iter().any(|kind| it.takes(kind));
        let begins = all.iter().filter(listen);
        let Some(first) = begins.filter_map(|it| it.begins.get(feed.name())).min() else {
            return Ok(());
        };
        let key = (workspace.clone(), feed.name());
        // Somebody may have begun to listen to what was passed over.
        let before = round.lists.insert(workspace.clone(), all.clone());
        if before.is_none_or(|it| !Arc::ptr_eq(&it, all)) {
            round.read.retain(|(of, _), _| of != workspace);
        }
        for _ in 0..MOST_PAGES {
            let (kept, read) = match round.read.get(&key) {
                Some(known) => *known,
                None => {
                    let kept = self.cursor(workspace, feed.name()).await?;
                    (kept, kept.unwrap_or_default())
                }
            };
            // What happened while nobody listened is nobody's.
            let read = read.max(*first);
            let (told, next) = feed
                .read(workspace, read, PAGE)
                .await
                .map_err(WebhookError::Feed)?;
            let full = told.len() >= PAGE as usize;
            let batch = Batch {
                feed: feed.name(),
                moves: (kept, next),
                told: told.into_iter().map(message).collect(),
            };
            let heard = |(told, ..): &(Told, MessageId, String)| {
                all.iter().any(|endpoint| batch.hears(endpoint, told))
            };
            let wanted = batch.told.iter().any(heard);
            let far = next.saturating_sub(kept.unwrap_or_default()) >= KEEP_CURSOR;
            let (moved, kept) = match wanted || (far && next > read) {
                true => (self.write(workspace, batch).await?, Some(next)),
                false => (true, kept),
            };
            if !moved {
                // Another server was first: it says how far that is.
                round.read.remove(&key);
                return Ok(());
            }
            round.read.insert(key.clone(), (kept, next));
            if !full {
                return Ok(());
            }
        }
        // There is more: when the others had their turn.
        self.work.notify_one();
        Ok(())
    }

    async fn cursor(
        &self,
        workspace: &Workspace,
        feed: &'static str,
    ) -> Result<Option<u64>, WebhookError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::cursor(&mut reader.scope(&of), feed));
        let read: Result<Option<u64>, StoreError> = read.await;
        Ok(read?)
    }

    /// Whether it was written; else another server was first.
    async fn write(&self, workspace: &Workspace, batch: Batch) -> Result<bool, WebhookError> {
        let (of, notice) = (workspace.clone(), self.options.notice.clone());
        let written = self.db.write(move |unit| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let Some(full) = batch.write(&mut scope, now)? else {
                return Ok(false);
            };
            for endpoint in full {
                let detail =
                    format!("more than {MOST_WAITING} messages wait: further ones are not made");
                notice.tell(&mut scope, "webhook.missed", (&endpoint, &detail), now)?;
            }
            Ok::<_, StoreError>(true)
        });
        Ok(written.await?)
    }

    /// Begins deliveries that are due.
    async fn begin(
        self: &Arc<Self>,
        round: &mut Round,
        sending: &mut JoinSet<Done>,
        workspace: &Workspace,
        all: &Arc<[Endpoint]>,
    ) -> Result<(), WebhookError> {
        let now = self.db.clock().now();
        let on = all.iter().filter(|it| it.off.is_none());
        let wanted: Vec<(Endpoint, usize)> = on
            .map(|it| {
                let whose = (workspace.clone(), it.name.clone());
                (it.clone(), round.places(&whose, now))
            })
            .filter(|(_, places)| *places > 0)
            .collect();
        let of = workspace.clone();
        let read = self.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let mut due = Vec::new();
            for (endpoint, places) in wanted {
                let places = u32::try_from(places).unwrap_or(u32::MAX);
                for message in rows::due(&mut scope, &endpoint.name, now, places)? {
                    due.push((endpoint.clone(), message));
                }
            }
            Ok::<_, StoreError>(due)
        });
        let mut due: Vec<(Endpoint, Message)> = read.await?;
        due.sort_by_key(|(_, message)| message.due);
        due.truncate(round.free(workspace));
        if due.is_empty() {
            return Ok(());
        }
        let (of, time) = (workspace.clone(), self.options.time);
        let claimed = self.db.write(move |unit| {
            let until = unit.now().plus(time + MARGIN);
            let mut scope = unit.scope(&of);
            scope.in_turn()?;
            let mut taken = Vec::new();
            for (endpoint, mut message) in due {
                if rows::claim(&mut scope, &endpoint.name, &message, until)? {
                    message.claim += 1;
                    taken.push((endpoint, message));
                }
            }
            Ok::<_, StoreError>(taken)
        });
        for (endpoint, message) in claimed.await? {
            let whose = (workspace.clone(), endpoint.name.clone());
            let share = round.busy.entry(whose.clone()).or_default().clone();
            let inner = self.clone();
            sending.spawn(async move {
                let rest = inner.deliver(&whose.0, &endpoint, message).await;
                drop(share);
                (whose, rest)
            });
        }
        Ok(())
    }

    /// The request of a message, or why it cannot be signed.
    async fn request(
        &self,
        workspace: &Workspace,
        endpoint: &Endpoint,
        message: &Message,
    ) -> Result<Request<Full<Bytes>>, String> {
        let now = self.db.clock().now();
        let seconds = now.as_micros().div_euclid(1_000_000);
        let id = message.id.to_string();
        let before = endpoint.before.as_ref().filter(|(_, until)| *until > now);
        let mut signatures = Vec::new();
        for name in std::iter::once(&endpoint.key).chain(before.map(|(name, _)| name)) {
            let text = self.options.secrets.key(workspace, name).await?;
            let key = Key::parse(&text).ok_or("a signing key is damaged")?;
            signatures.push(key.sign(&id, seconds, &message.body));
        }
        Request::builder()
            .method(Method::POST)
            .uri(&endpoint.url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, &self.options.agent)
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signatures.join(" "))
            .body(Full::new(Bytes::from(message.body.clone())))
            .map_err(|error| error.to_string())
    }

    /// Tries a message once. Tells until when its endpoint wants to be left alone.
    async fn deliver(
        &self,
        workspace: &Workspace,
        endpoint: &Endpoint,
        message: Message,
    ) -> Option<Timestamp> {
        let (name, id) = (endpoint.name.as_str(), message.id);
        let request = match self.request(workspace, endpoint, &message).await {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%workspace, webhook = name, %id, error, "a message is not signed yet");
                self.put_off(workspace, endpoint, message).await;
                return None;
            }
        };
        let answer = self.upstream.send(request, self.options.time).await;
        if !answer.is_good() {
            let said = answer.said();
            tracing::info!(%workspace, webhook = name, %id, said, "a message was not delivered");
        }
        let rest = answer.wish().map(|wish| self.db.clock().now().plus(wish));
        if let Err(error) = self.settle(workspace, endpoint, message, answer).await {
            // It is tried once more when its claim has ended.
            tracing::warn!(%workspace, webhook = name, %id, %error, "how a delivery went is not kept");
        }
        rest
    }

    async fn put_off(&self, workspace: &Workspace, endpoint: &Endpoint, message: Message) {
        let (of, name) = (workspace.clone(), endpoint.name.clone());
        let written = self.db.write(move |unit| {
            let due = unit.now().plus(UNSIGNED);
            let mut scope = unit.scope(&of);
            scope.in_turn()?;
            rows::put_off(&mut scope, &name, (&message, due))
        });
        let written: Result<(), StoreError> = written.await;
        if let Err(error) = written {
            tracing::debug!(%error, "a message is put off until its claim ends");
        }
    }

    /// Writes down how a try went, and what becomes of the endpoint by it.
    async fn settle(
        &self,
        workspace: &Workspace,
        endpoint: &Endpoint,
        mut message: Message,
        answer: Answer,
    ) -> Result<(), StoreError> {
        let (of, name) = (workspace.clone(), endpoint.name.clone());
        let schedule = self.options.schedule.clone();
        let (notice, own) = (self.options.notice.clone(), self.options.own.clone());
        let chance = fastrand::f64();
        let written = self.db.write(move |unit| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            scope.in_turn()?;
            message.tries += 1;
            let (state, due) = match after(&schedule, message.tries, &answer, (now, chance)) {
                Next::Delivered => (State::Delivered, now),
                Next::Again(due) => (State::Waiting, due),
                Next::Dead => (State::Dead, now),
            };
            let said = answer.said();
            if !rows::tried(&mut scope, &name, (&message, state, due), (&said, now))? {
                return Ok(false);
            }
            let Some(since) = rows::failing_since(&mut scope, &name)? else {
                return Ok(false);
            };
            let (since, ends) = fares(&schedule, since, &answer, now);
            let failed = (!answer.is_good()).then_some(said.as_str());
            rows::fared(&mut scope, &name, (failed, since), now)?;
            let (off, why) = match ends {
                None => return Ok(false),
                Some(Ends::Gone) => (Off::Gone, "it answered 410 (gone)".to_owned()),
                Some(Ends::Failing) => {
                    let since = since.unwrap_or(now);
                    let why = format!("it has taken nothing since {since}: {said}");
                    (Off::Failing, why)
                }
            };
            if !rows::turn_off(&mut scope, &name, off, now)? {
                return Ok(false);
            }
            notice.tell(&mut scope, "webhook.off", (&name, &why), now)?;
            let change = Change {
                action: Some("webhook:off"),
                resource: ("Webhook", &name),
                what: &why,
                hash: None,
            };
            own.did(&mut scope, &change, now)?;
            Ok::<_, StoreError>(true)
        });
        if written.await? {
            let name = &endpoint.name;
            tracing::warn!(%workspace, webhook = name, "the endpoint is turned off");
            self.changed(workspace);
        }
        Ok(())
    }
}

fn message(told: Told) -> (Told, MessageId, String) {
    let body = body(&told.kind, told.at, &told.data);
    (told, MessageId::new(), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_has_a_share_of_all_deliveries() {
        let mut round = Round::default();
        let [one, other] = ["one", "other"].map(|name| Workspace::new(name).unwrap());
        let now = Timestamp::from_micros(1);
        let mut held = Vec::new();
        for endpoint in 0..20 {
            let whose = (one.clone(), format!("e-{endpoint}"));
            for _ in 0..round.places(&whose, now).min(round.free(&one)) {
                held.push(round.busy.entry(whose.clone()).or_default().clone());
            }
        }
        assert_eq!(held.len(), AT_ONCE_OF_WORKSPACE);
        assert_eq!(round.free(&one), 0);
        assert_eq!(round.free(&other), AT_ONCE_OF_WORKSPACE);
        held.pop();
        let whose = (one.clone(), "e-7".to_owned());
        assert_eq!(round.ended(Ok((whose, None))), Some(one.clone()));
        assert_eq!(round.free(&one), 1);
    }
}
