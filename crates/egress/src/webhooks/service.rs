//! The endpoints of workspaces and their messages, as they are ordered about.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use skep_core::{MessageId, Timestamp, Workspace, Workspaces};
use skep_sources::Reach;
use skep_store::{By, Change as Changed, Db, Hash, Scope, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::endpoint::{Endpoint, MOST_OVERLAP, New, later};
use super::error::WebhookError;
use super::feed::Feed;
use super::life::{Schedule, State};
use super::rows::{self, Message};
use super::upstream::Upstream;

/// Endpoints of one workspace.
const MOST: u64 = 50;
/// What another server changed is seen after so long.
const FRESH: Duration = Duration::from_secs(2);
/// Bytes of a message.
const MOST_BODY: usize = 20 << 10;
/// What a message says that somebody sends to try an endpoint.
pub const TEST: &str = "webhook.test";

/// Gives the keys that messages are signed with.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The text of a key by its name, or why it is not to be had.
    async fn key(&self, workspace: &Workspace, name: &str) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// Tells what endpoints do by themselves, in the unit of the change.
pub trait Notice: Send + Sync {
    /// Something of this kind became of an endpoint: its name, and the rest in words.
    ///
    /// # Errors
    /// The store's own: then the change is not made.
    fn tell(
        &self,
        scope: &mut Scope<'_>,
        kind: &'static str,
        about: (&str, &str),
        now: Timestamp,
    ) -> Result<(), StoreError>;
}

/// How webhooks are made.
pub struct Options {
    /// Which addresses may be asked.
    pub reach: Reach,
    /// A file with certificates that are believed beside the system's.
    pub ca: Option<PathBuf>,
    /// Where keys come from.
    pub secrets: Arc<dyn Secrets>,
    /// Where it stands what happened.
    pub feeds: Vec<Arc<dyn Feed>>,
    /// Who is told of what endpoints do.
    pub notice: Arc<dyn Notice>,
    /// As whom that is written down.
    pub own: By,
    /// All workspaces.
    pub workspaces: Workspaces,
    /// When messages are tried again.
    pub schedule: Schedule,
    /// How long an endpoint may take to answer.
    pub time: Duration,
    /// How long messages are kept.
    pub keep: Duration,
    /// What requests say who sends them.
    pub agent: String,
}

/// Which messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query {
    /// Those in this state.
    pub state: Option<State>,
    /// Those made before this one.
    pub before: Option<MessageId>,
}

type Known = (Instant, Arc<[Endpoint]>);

/// Outgoing webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) options: Options,
    pub(super) upstream: Upstream,
    /// Woken when something is to be sent.
    pub(super) work: Notify,
    known: Mutex<HashMap<Workspace, Known>>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhooks")
    }
}

/// What is sent of something that happened, in the specification's order.
pub(super) fn body(kind: &str, at: Timestamp, data: &Map<String, Value>) -> String {
    let whole = |data: &Value| {
        let (kind, at) = (Value::from(kind), Value::from(at.to_string()));
        format!(r#"{{"type":{kind},"timestamp":{at},"data":{data}}}"#)
    };
    let text = whole(&Value::Object(data.clone()));
    match text.len() <= MOST_BODY {
        true => text,
        // Texts are cut where they come from, so that this is for nobody yet.
        false => whole(&json!({ "omitted": "it is too large" })),
    }
}

fn did(
    by: &By,
    scope: &mut Scope<'_>,
    (name, what): (&str, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    did_to(by, scope, (name, what, None), now)
}

/// The same, with the hash of what an endpoint is from now on.
fn did_to(
    by: &By,
    scope: &mut Scope<'_>,
    (name, what, new): (&str, &str, Option<&New>),
    now: Timestamp,
) -> Result<(), StoreError> {
    let change = Changed {
        action: None,
        resource: ("Webhook", name),
        what,
        hash: new.map(|it| Hash::of(it.text().as_bytes())),
    };
    by.did(scope, &change, now)
}

fn find(scope: &mut Scope<'_>, name: &str) -> Result<Endpoint, WebhookError> {
    let all = rows::endpoints(scope)?;
    let found = all.into_iter().find(|it| it.name == name);
    found.ok_or_else(|| {
        let shown = name.chars().take(64).collect();
        WebhookError::NotFound(shown)
    })
}

/// Where keys lie that nobody uses any more.
type Unused = Vec<String>;

impl Inner {
    /// The endpoints of a workspace, as they were a moment ago.
    pub(super) async fn known(
        &self,
        workspace: &Workspace,
    ) -> Result<Arc<[Endpoint]>, WebhookError> {
        // A read that began before a change may end after it: nothing counts for long.
        let before = self.known.lock().get(workspace).cloned();
        if let Some((at, known)) = &before
            && at.elapsed() < FRESH
        {
            return Ok(known.clone());
        }
        let at = Instant::now();
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::endpoints(&mut reader.scope(&of)));
        let read: Result<Vec<Endpoint>, StoreError> = read.await;
        let known: Arc<[Endpoint]> = read?.into();
        // The same list stays the same: who follows feeds sees by that whether it is another.
        let same = before.map(|(_, it)| it).filter(|it| **it == *known);
        let known = same.unwrap_or(known);
        let entry = (at, known.clone());
        self.known.lock().insert(workspace.clone(), entry);
        Ok(known)
    }

    /// Endpoints of a workspace have changed.
    pub(super) fn changed(&self, workspace: &Workspace) {
        self.known.lock().remove(workspace);
        self.work.notify_one();
    }

    /// Forgets workspaces that there are no more.
    pub(super) fn forget_gone(&self) {
        let all = &self.options.workspaces;
        self.known.lock().retain(|workspace, _| all.has(workspace));
    }

    /// Where each feed ends that an endpoint begins to listen to; what it listened to it goes on with.
    async fn begins(
        &self,
        workspace: &Workspace,
        new: &New,
        before: Option<&Endpoint>,
    ) -> Result<BTreeMap<String, u64>, WebhookError> {
        let mut begins = BTreeMap::new();
        let before = before.filter(|it| it.off.is_none());
        for feed in &self.options.feeds {
            let takes = |kind: &str| new.on && new.events.iter().any(|it| it.takes(kind));
            let took = |kind: &str| before.is_some_and(|it| it.takes(kind));
            let all = feed.kinds().iter().copied();
            let kinds: Vec<&str> = all.filter(|it| takes(it)).collect();
            if kinds.is_empty() {
                continue;
            }
            let name = feed.name();
            let known = before.and_then(|it| it.begins.get(name).copied());
            let known = known.filter(|_| feed.kinds().iter().any(|it| took(it)));
            let Some(known) = known else {
                let end = feed.end(workspace).await;
                begins.insert(name.to_owned(), end.map_err(WebhookError::Feed)?);
                continue;
            };
            begins.insert(name.to_owned(), known);
            // What it takes anew it takes from now on.
            let (old, new): (Vec<&str>, Vec<&str>) = kinds.into_iter().partition(|it| took(it));
            for key in old.into_iter().map(|kind| later(name, kind)) {
                let at = before.and_then(|it| it.begins.get(&key).copied());
                begins.extend(at.map(|at| (key, at)));
            }
            if !new.is_empty() {
                let end = feed.end(workspace).await.map_err(WebhookError::Feed)?;
                begins.extend(new.into_iter().map(|kind| (later(name, kind), end)));
            }
        }
        Ok(begins)
    }
}

impl Webhooks {
    /// The webhooks of this store.
    #[must_use]
    pub fn new(db: Db, options: Options) -> Self {
        let upstream = Upstream::new(options.reach.clone(), options.ca.clone());
        Self(Arc::new(Inner {
            db,
            options,
            upstream,
            work: Notify::new(),
            known: Mutex::default(),
        }))
    }

    /// Every kind that an endpoint can be told of.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        let feeds = self.0.options.feeds.iter();
        let mut all: Vec<_> = feeds.flat_map(|it| it.kinds().iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// Whether an endpoint can be as it is to be.
    ///
    /// # Errors
    /// [`WebhookError::Invalid`].
    pub fn check(&self, new: &New) -> Result<(), WebhookError> {
        new.check(&self.0.options.reach)
    }

    /// The endpoints of a workspace, by name, with what waits.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(&self, workspace: &Workspace) -> Result<Vec<Endpoint>, WebhookError> {
        let of = workspace.clone();
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let mut all = rows::endpoints(&mut scope)?;
            rows::count(&mut scope, &mut all)?;
            Ok::<_, StoreError>(all)
        });
        Ok(read.await?)
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`].
    pub async fn find(&self, workspace: &Workspace, name: &str) -> Result<Endpoint, WebhookError> {
        let all = self.list(workspace).await?;
        let found = all.into_iter().find(|it| it.name == name);
        found.ok_or_else(|| WebhookError::NotFound(name.chars().take(64).collect()))
    }

    async fn write<T: Send + 'static>(
        &self,
        workspace: &Workspace,
        work: impl FnOnce(&mut Scope<'_>, Timestamp) -> Result<T, WebhookError> + Send + 'static,
    ) -> Result<T, WebhookError> {
        let of = workspace.clone();
        let written = self.0.db.write(move |unit| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            // Several servers change these rows.
            scope.in_turn()?;
            work(&mut scope, now)
        });
        let written = written.await;
        self.0.changed(workspace);
        written
    }

    /// Adds an endpoint whose key has this name.
    ///
    /// # Errors
    /// [`WebhookError::Exists`], [`WebhookError::TooMany`], [`WebhookError::Invalid`].
    pub async fn add(
        &self,
        by: &By,
        workspace: &Workspace,
        (new, key): (New, String),
    ) -> Result<Endpoint, WebhookError> {
        self.check(&new)?;
        let begins = self.0.begins(workspace, &new, None).await?;
        let by = by.clone();
        self.write(workspace, move |scope, now| {
            if rows::endpoints(scope)?.len() as u64 >= MOST {
                return Err(WebhookError::TooMany(MOST));
            }
            if !rows::add(scope, (&new, &key), &begins, now)? {
                return Err(WebhookError::Exists(new.name));
            }
            did_to(&by, scope, (&new.name, "added", Some(&new)), now)?;
            find(scope, &new.name)
        })
        .await
    }

    /// Changes an endpoint; nothing, when there is none of its name.
    ///
    /// # Errors
    /// [`WebhookError::Invalid`], and the store's own.
    pub async fn change(
        &self,
        by: &By,
        workspace: &Workspace,
        new: New,
    ) -> Result<Option<Endpoint>, WebhookError> {
        self.check(&new)?;
        let before = match self.find(workspace, &new.name).await {
            Ok(before) => before,
            Err(WebhookError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let begins = self.0.begins(workspace, &new, Some(&before)).await?;
        let by = by.clone();
        let changed = self.write(workspace, move |scope, now| {
            // Gone meanwhile, or turned off by itself: then it begins anew all the same.
            let before = find(scope, &new.name)?;
            rows::change(scope, &new, (&before, &begins), now)?;
            let what = match (before.off.is_some(), new.on) {
                (true, true) => "turned on",
                (false, false) => "turned off",
                _ => "changed",
            };
            did_to(&by, scope, (&new.name, what, Some(&new)), now)?;
            find(scope, &new.name)
        });
        match changed.await {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(WebhookError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an endpoint with its messages. What is on its way may arrive still.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`].
    pub async fn remove(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Unused, WebhookError> {
        let (by, name) = (by.clone(), name.to_owned());
        self.write(workspace, move |scope, now| {
            let endpoint = find(scope, &name)?;
            rows::remove(scope, &name)?;
            did(&by, scope, (&name, "removed"), now)?;
            let before = endpoint.before.map(|(key, _)| key);
            Ok([Some(endpoint.key), before].into_iter().flatten().collect())
        })
        .await
    }

    /// Puts another key in the place of an endpoint's. What was signs, too, for this time; while it does, no other takes
    /// its place, unless nothing is to sign but the new one.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::Invalid`], [`WebhookError::Rotating`].
    pub async fn rotate(
        &self,
        by: &By,
        workspace: &Workspace,
        (name, key, overlap): (&str, String, Duration),
    ) -> Result<(Endpoint, Unused), WebhookError> {
        if overlap > MOST_OVERLAP {
            return Err(WebhookError::invalid("overlap", "at most 30d"));
        }
        let (by, name) = (by.clone(), name.to_owned());
        self.write(workspace, move |scope, now| {
            let before = find(scope, &name)?;
            let signs = before.before.as_ref().filter(|(_, until)| *until > now);
            if let (Some((_, until)), false) = (signs, overlap.is_zero()) {
                return Err(WebhookError::Rotating(name, *until));
            }
            rows::rotate(scope, &name, &key, (now.plus(overlap), now))?;
            did(&by, scope, (&name, "another key"), now)?;
            let unused = before.before.into_iter().map(|(key, _)| key).collect();
            Ok((find(scope, &name)?, unused))
        })
        .await
    }

    /// Forgets keys that do not sign any more; tells which those were.
    ///
    /// # Errors
    /// The store's own.
    pub async fn expire(&self, workspace: &Workspace) -> Result<Unused, WebhookError> {
        let now = self.0.db.clock().now();
        let mut unused = Vec::new();
        for endpoint in self.0.known(workspace).await?.iter() {
            let Some((key, until)) = &endpoint.before else {
                continue;
            };
            if *until > now {
                continue;
            }
            let (name, of) = (endpoint.name.clone(), key.clone());
            let own = self.0.options.own.clone();
            let forgotten = self.write(workspace, move |scope, now| {
                let forgotten = rows::forget_before(scope, &name, &of)?;
                if forgotten {
                    let change = Changed {
                        action: Some("webhook:expire"),
                        resource: ("Webhook", &name),
                        what: "the key before signs no more",
                        hash: None,
                    };
                    own.did(scope, &change, now)?;
                }
                Ok(forgotten)
            });
            if forgotten.await? {
                unused.push(key.clone());
            }
        }
        Ok(unused)
    }

    /// Sends an endpoint a message that says nothing; tells which.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`]; [`WebhookError::Off`].
    pub async fn test(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Message, WebhookError> {
        let (by, name) = (by.clone(), name.to_owned());
        let of = workspace.to_string();
        self.write(workspace, move |scope, now| {
            if find(scope, &name)?.off.is_some() {
                return Err(WebhookError::Off(name));
            }
            let mut data = Map::new();
            data.insert("workspace".to_owned(), of.into());
            data.insert("webhook".to_owned(), name.as_str().into());
            let (id, body) = (MessageId::new(), body(TEST, now, &data));
            rows::send(scope, &name, (id, TEST, &body), now)?;
            did(&by, scope, (&name, &format!("test {id}")), now)?;
            let made = rows::message(scope, &name, id)?;
            made.ok_or_else(|| WebhookError::NoMessage(id.to_string()))
        })
        .await
    }

    /// Messages of an endpoint, newest first.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`].
    pub async fn messages(
        &self,
        workspace: &Workspace,
        name: &str,
        (query, most): (Query, u32),
    ) -> Result<Vec<Message>, WebhookError> {
        let (of, name) = (workspace.clone(), name.to_owned());
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            find(&mut scope, &name)?;
            let state = query.state.map_or("", State::as_str);
            let found = rows::messages(&mut scope, &name, (state, query.before), most)?;
            Ok::<_, WebhookError>(found)
        });
        read.await
    }

    /// One message.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::NoMessage`].
    pub async fn message(
        &self,
        workspace: &Workspace,
        name: &str,
        id: MessageId,
    ) -> Result<Message, WebhookError> {
        let (of, name) = (workspace.clone(), name.to_owned());
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            find(&mut scope, &name)?;
            let found = rows::message(&mut scope, &name, id)?;
            found.ok_or_else(|| WebhookError::NoMessage(id.to_string()))
        });
        read.await
    }

    /// Sends a message again at once, with all of its tries; one that is under way goes on.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::NoMessage`], [`WebhookError::Off`].
    pub async fn redeliver(
        &self,
        by: &By,
        workspace: &Workspace,
        (name, id): (&str, MessageId),
    ) -> Result<Message, WebhookError> {
        let (by, name) = (by.clone(), name.to_owned());
        self.write(workspace, move |scope, now| {
            if find(scope, &name)?.off.is_some() {
                return Err(WebhookError::Off(name));
            }
            let missing = || WebhookError::NoMessage(id.to_string());
            rows::message(scope, &name, id)?.ok_or_else(missing)?;
            // One that is under way goes on, and nothing is told of it.
            if rows::again(scope, &name, id, now)? {
                did(&by, scope, (&name, &format!("{id} again")), now)?;
            }
            rows::message(scope, &name, id)?.ok_or_else(missing)
        })
        .await
    }

    /// Sends all dead messages of an endpoint again; tells how many.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::Off`].
    pub async fn redeliver_all(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<usize, WebhookError> {
        let (by, name) = (by.clone(), name.to_owned());
        self.write(workspace, move |scope, now| {
            if find(scope, &name)?.off.is_some() {
                return Err(WebhookError::Off(name));
            }
            let count = rows::all_again(scope, &name, now)?;
            did(
                &by,
                scope,
                (&name, &format!("{count} dead ones again")),
                now,
            )?;
            Ok(count)
        })
        .await
    }
}
