//! The servers that a workspace has tools from, and what somebody said yes to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use parking_lot::Mutex;
use skep_core::{PublicError as _, Timestamp, Workspace};
use skep_mcp::{Class, Era, Object, Pin, Settings, State, Virtual, WrongSetting};
use skep_sources::Reach;
use skep_store::{By, Change, Db, Scope, StoreError, Unit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::merged::Talks;
use super::process::{Boxes, Places};
use super::sessions::Sessions;
use super::{rows, stored};
use crate::EgressError;
use crate::ledger::Ledger;
use crate::llm::{Keys, Models};
use crate::rows::{SERVERS, VIRTUALS, change};
use crate::upstream::{MOST_IDLE, Upstream};

/// Servers of one workspace.
const MOST: u64 = 100;
/// How often what nobody uses is looked for.
const TIDY: Duration = Duration::from_secs(60);
/// A server that says that it changed is looked at so often at most.
const LOOKS: Duration = Duration::from_secs(30);
/// What another server changed is seen after so long.
const FRESH: Duration = Duration::from_secs(1);

/// How the way out is made.
pub struct Options {
    /// Which addresses may be asked.
    pub reach: Reach,
    /// Where keys come from.
    pub keys: Arc<dyn Keys>,
    /// Where exchanges are written down, and what budgets there are.
    pub models: Models,
    /// What runs programs.
    pub boxes: Option<Arc<dyn Boxes>>,
    /// As whom what servers change by themselves is written down.
    pub own: By,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name with its server.
    pub name: String,
    /// What it does, as the workspace says.
    pub class: Option<Class>,
    /// What its server says that it does.
    pub proposed: Class,
    /// What somebody said yes to.
    pub approved: Option<Pin>,
    /// What its server says that it is.
    pub seen: Option<Pin>,
    /// That, as it says it. It comes from outside.
    pub definition: String,
}

impl Tool {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        State::of(self.approved, self.seen)
    }

    /// What it does: the worst, as long as the workspace says nothing.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class.unwrap_or(Class::Execute)
    }
}

/// A server of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its settings.
    pub settings: Settings,
    /// Its tools, by name.
    pub tools: BTreeMap<String, Tool>,
}

/// How it was with a server when it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// When.
    pub at: Timestamp,
    /// Which era it speaks; none: it could not be asked.
    pub era: Option<Era>,
    /// Its name and version, as it says them.
    pub says: String,
    /// What is the matter.
    pub trouble: Option<String>,
}

/// Letters of what a server says of itself.
const MOST_SAID: usize = 200;

impl Condition {
    pub(super) fn failed(at: Timestamp, error: &EgressError) -> Self {
        tracing::warn!(%error, "a server of tools cannot be looked at");
        Self {
            at,
            era: None,
            says: String::new(),
            trouble: Some(error.detail()),
        }
    }

    pub(super) fn well(at: Timestamp, era: Era, hello: &str) -> Self {
        let fields = Object::parse(hello);
        let info = fields.as_ref().and_then(|it| {
            let meta = it.object("_meta");
            let of_meta = meta.and_then(|it| it.object("io.modelcontextprotocol/serverInfo"));
            it.object("serverInfo").or(of_meta)
        });
        let part = |name| {
            info.as_ref()
                .and_then(|it| it.text(name))
                .unwrap_or_default()
        };
        let says = format!("{} {}", part("name"), part("version"));
        let plain = |c: &char| !c.is_control();
        Self {
            at,
            era: Some(era),
            says: says.trim().chars().filter(plain).take(MOST_SAID).collect(),
            trouble: None,
        }
    }
}

/// What a workspace has, as the store said some time ago.
#[derive(Debug, Clone)]
pub struct Known {
    pub(super) at: Instant,
    /// By name.
    pub servers: Arc<BTreeMap<String, Server>>,
    /// Virtual ones, by name.
    pub virtuals: Arc<BTreeMap<String, Arc<Virtual>>>,
}

/// The way out to tools. Cheap to clone.
#[derive(Clone)]
pub struct Tools(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) ledger: Ledger,
    pub(super) models: Models,
    pub(super) upstream: Upstream<Full<Bytes>>,
    pub(super) keys: Arc<dyn Keys>,
    pub(super) boxes: Option<Arc<dyn Boxes>>,
    pub(super) sessions: Sessions,
    pub(super) talks: Talks,
    pub(super) programs: Places,
    pub(super) own: By,
    known: Mutex<HashMap<Workspace, Known>>,
    conditions: Mutex<HashMap<(Workspace, String), Condition>>,
    /// Servers that are being looked at.
    looking: Mutex<HashMap<(Workspace, String), Looking>>,
    reloading: tokio::sync::Mutex<()>,
}

/// How it is with looks at a server that nobody asked for.
#[derive(Debug, Default)]
struct Looking {
    /// When the last one began.
    last: Option<Instant>,
    /// One is under way, or waits for its time.
    busy: bool,
    /// It changed since that one began.
    again: bool,
}

impl Looking {
    /// It changed: whether a look is to begin.
    fn changed(&mut self) -> bool {
        self.again = true;
        !std::mem::replace(&mut self.busy, true)
    }

    /// How long the next one waits; nothing, when there is none.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        if !self.again {
            self.busy = false;
            return None;
        }
        let since = |last| now.saturating_duration_since(last);
        Some(
            self.last
                .map_or(Duration::ZERO, |it| LOOKS.saturating_sub(since(it))),
        )
    }

    /// One begins.
    fn begins(&mut self, now: Instant) {
        (self.last, self.again) = (Some(now), false);
    }
}

/// A look under way: however it ends, others may follow.
struct Busy {
    inner: Arc<Inner>,
    key: (Workspace, String),
    /// Nothing is left to be looked at.
    done: bool,
}

impl Busy {
    fn with<T>(&self, work: impl FnOnce(&mut Looking) -> T) -> Option<T> {
        self.inner.looking.lock().get_mut(&self.key).map(work)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.done {
            self.with(|it| it.busy = false);
        }
    }
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tools")
    }
}

impl Inner {
    pub(super) async fn known(&self, workspace: &Workspace) -> Result<Known, EgressError> {
        let shared = self.db.is_shared();
        let known = self.known.lock().get(workspace).cloned();
        let fresh = known.filter(|it| !shared || it.at.elapsed() < FRESH);
        let known = match fresh {
            Some(known) => known,
            None => self.reload(workspace).await?,
        };
        if known.servers.values().all(|it| it.settings.is_made()) {
            return Ok(known);
        }
        // Descriptions are made tools of where others do not wait for it, and once.
        let made = tokio::task::spawn_blocking(move || {
            for server in known.servers.values() {
                let _ = server.settings.api();
            }
            known
        });
        made.await.map_err(|_| EgressError::Busy)
    }

    /// Reads what the store has of a workspace.
    pub(super) async fn reload(&self, workspace: &Workspace) -> Result<Known, EgressError> {
        let _alone = self.reloading.lock().await;
        let at = Instant::now();
        let of = workspace.clone();
        let read = self.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            Ok::<_, StoreError>((stored::servers(&mut scope)?, stored::virtuals(&mut scope)?))
        });
        let (mut servers, virtuals) = read.await?;
        if let Some(before) = self.known.lock().get(workspace) {
            keep_made(&before.servers, &mut servers);
        }
        let known = Known {
            at,
            servers: Arc::new(servers),
            virtuals: Arc::new(virtuals),
        };
        self.known.lock().insert(workspace.clone(), known.clone());
        Ok(known)
    }

    /// Nobody talks with a server any more: it is another one now.
    fn part(&self, workspace: &Workspace, server: &str) {
        self.sessions.end_all(workspace, server);
        let mut talks = self.talks.lock();
        talks.retain(|(who, its, ..)| who.workspace != *workspace || its != server);
        drop(talks);
        let key = (workspace.clone(), server.to_owned());
        self.conditions.lock().remove(&key);
        self.looking.lock().remove(&key);
    }

    pub(super) fn note(&self, workspace: &Workspace, server: &str, condition: Condition) {
        let key = (workspace.clone(), server.to_owned());
        self.conditions.lock().insert(key, condition);
    }

    /// Looks at a server soon: it says something else than it did.
    pub(super) fn look_soon(self: &Arc<Self>, workspace: &Workspace, server: &str) {
        let key = (workspace.clone(), server.to_owned());
        let begins = self
            .looking
            .lock()
            .entry(key.clone())
            .or_default()
            .changed();
        if !begins {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            let mut busy = Busy {
                inner,
                key,
                done: false,
            };
            let (inner, key) = (&busy.inner, &busy.key);
            while let Some(Some(wait)) = busy.with(|it| it.next(Instant::now())) {
                tokio::time::sleep(wait).await;
                busy.with(|it| it.begins(Instant::now()));
                if let Ok(known) = inner.known(&key.0).await
                    && let Some(server) = known.servers.get(&key.1)
                    && let Err(error) = inner.look(&key.0, server).await
                {
                    tracing::debug!(server = key.1, %error, "a server of tools was not looked at");
                }
            }
            busy.done = true;
        });
    }
}

/// Keeps what was made of descriptions: of settings that are as they were.
fn keep_made(before: &BTreeMap<String, Server>, now: &mut BTreeMap<String, Server>) {
    for (name, server) in now {
        let before = before.get(name).map(|it| &it.settings);
        if let Some(before) = before.filter(|it| **it == server.settings) {
            server.settings = before.clone();
        }
    }
}

/// What somebody says yes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The tool.
    pub tool: String,
    /// What it was when they saw it, in hexadecimal.
    pub pin: String,
    /// What it does; as it was said before, without.
    pub class: Option<Class>,
}

fn taken(kind: &str, name: &str) -> String {
    format!("`name`: there is a {kind}MCP server `{name}`: a door leads to one")
}

fn missing(server: &str) -> EgressError {
    EgressError::NotFound(format!("there is no MCP server `{server}`"))
}

impl Tools {
    /// Opens the way out.
    #[must_use]
    pub fn open(db: Db, options: Options) -> Self {
        Self(Arc::new(Inner {
            db,
            ledger: options.models.ledger().clone(),
            models: options.models,
            upstream: Upstream::new(options.reach, None, MOST_IDLE),
            keys: options.keys,
            boxes: options.boxes,
            sessions: Sessions::default(),
            talks: Talks::default(),
            programs: Places::default(),
            own: options.own,
            known: Mutex::default(),
            conditions: Mutex::default(),
            looking: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
        }))
    }

    /// Ends all sessions.
    pub fn close(&self) {
        self.0.sessions.clear();
        self.0.talks.lock().clear();
    }

    /// Ends what nobody uses, until the end.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TIDY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            self.0.sessions.prune();
            self.0.prune_talks();
        }
    }

    /// The servers of a workspace.
    ///
    /// # Errors
    /// The store's own.
    pub async fn servers(&self, workspace: &Workspace) -> Result<Known, EgressError> {
        self.0.known(workspace).await
    }

    /// How it was with a server when it was looked at last.
    #[must_use]
    pub fn condition(&self, workspace: &Workspace, server: &str) -> Option<Condition> {
        let key = (workspace.clone(), server.to_owned());
        self.0.conditions.lock().get(&key).cloned()
    }

    /// Whether the settings of a server may be so. Where that takes long, others do not wait for it.
    ///
    /// # Errors
    /// [`WrongSetting`].
    pub async fn check(settings: &Settings) -> Result<(), WrongSetting> {
        if settings.is_made() {
            return settings.check();
        }
        let own = settings.clone();
        let checked = tokio::task::spawn_blocking(move || own.check()).await;
        // It is cut off when the server ends.
        checked.unwrap_or_else(|_| settings.check())
    }

    /// Takes a server in, or puts it in the place of the one of its name. What somebody said yes to stays, as long as the
    /// server leads where it did: it is known by what it is, and by whom it was.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn put_server(
        &self,
        by: &By,
        workspace: &Workspace,
        settings: &Settings,
    ) -> Result<(), EgressError> {
        let checked = Self::check(settings).await;
        checked.map_err(|wrong| EgressError::Invalid(wrong.to_string()))?;
        let transport = settings.transport.clone();
        let (name, text) = (settings.name.clone(), stored::server_text(settings));
        let of = name.clone();
        let put = move |scope: &mut Scope<'_>, now| {
            if VIRTUALS.has(scope, &of)? {
                return Err(EgressError::Invalid(taken("virtual ", &of)));
            }
            if !stored::leads_with(scope, &of, &transport)? {
                rows::drop_tools(scope, &of)?;
            }
            SERVERS.put(scope, (&of, &text), (now, MOST))
        };
        let what = ("McpServer", name.as_str(), "set");
        change(&self.0.db, by, workspace, what, put).await?;
        self.0.reload(workspace).await?;
        self.0.part(workspace, &name);
        Ok(())
    }

    /// Takes a server away, with what somebody said yes to.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_server(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let drop = move |scope: &mut Scope<'_>, _| {
            rows::drop_tools(scope, &of)?;
            match SERVERS.drop(scope, &of)? {
                true => Ok(()),
                false => Err(missing(&of)),
            }
        };
        let what = ("McpServer", name, "removed");
        change(&self.0.db, by, workspace, what, drop).await?;
        self.0.reload(workspace).await?;
        self.0.part(workspace, name);
        Ok(())
    }

    /// Takes a virtual server in, or puts it in the place of the one of its name. `text` declares it.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn put_virtual(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
        text: String,
    ) -> Result<(), EgressError> {
        let invalid = |wrong: skep_mcp::WrongSetting| EgressError::Invalid(wrong.to_string());
        let made = Virtual::read(name, &text).map_err(invalid)?;
        let of = name.to_owned();
        let put = move |scope: &mut Scope<'_>, now| {
            let all = SERVERS.all(scope)?;
            let is_there = |name: &&str| all.iter().any(|(its, _)| its == name);
            if is_there(&of.as_str()) {
                return Err(EgressError::Invalid(taken("", &of)));
            }
            if let Some(name) = made.servers().iter().find(|it| !is_there(it)) {
                let why = format!("there is no MCP server `{name}`: add it first");
                return Err(EgressError::Invalid(why));
            }
            VIRTUALS.put(scope, (&of, &text), (now, MOST))
        };
        let what = ("McpVirtual", name, "set");
        change(&self.0.db, by, workspace, what, put).await?;
        self.0.reload(workspace).await.map(drop)
    }

    /// Takes a virtual server away. The servers that it has its tools from stay.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_virtual(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), EgressError> {
        let of = name.to_owned();
        let drop = move |scope: &mut Scope<'_>, _| match VIRTUALS.drop(scope, &of)? {
            true => Ok(()),
            false => {
                let why = format!("there is no virtual MCP server `{of}`");
                Err(EgressError::NotFound(why))
            }
        };
        let what = ("McpVirtual", name, "removed");
        change(&self.0.db, by, workspace, what, drop).await?;
        self.0.reload(workspace).await.map(std::mem::drop)
    }

    /// Looks at what a server has now.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], [`EgressError::ToolServer`], [`EgressError::Key`], and the store's own.
    pub async fn look(&self, workspace: &Workspace, name: &str) -> Result<(), EgressError> {
        let known = self.0.known(workspace).await?;
        let server = known.servers.get(name).ok_or_else(|| missing(name))?;
        self.0.look(workspace, server).await
    }

    /// Says yes to tools as they were seen: to all of them, or to none.
    ///
    /// # Errors
    /// [`EgressError::NotFound`]; [`EgressError::Invalid`] when one is another one meanwhile; the store's own.
    pub async fn approve(
        &self,
        by: &By,
        workspace: &Workspace,
        server: &str,
        approvals: Vec<Approval>,
    ) -> Result<(), EgressError> {
        let (of, by, whose) = (workspace.clone(), by.clone(), server.to_owned());
        let write = move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            for one in &approvals {
                let tool = stored::find_tool(&mut scope, &whose, &one.tool)?;
                let missing = || {
                    let tool = &one.tool;
                    EgressError::NotFound(format!(
                        "`{whose}` has no tool `{tool}`: `skep mcp check {whose}` looks again"
                    ))
                };
                let mut tool = tool.ok_or_else(missing)?;
                let seen = tool.seen.ok_or_else(missing)?;
                if seen.to_string() != one.pin {
                    let tool = &one.tool;
                    let why = format!(
                        "`pin`: the tool `{tool}` is another one than you saw; look at it again"
                    );
                    return Err(EgressError::Invalid(why));
                }
                tool.approved = Some(seen);
                tool.class = one.class.or(tool.class);
                rows::put_tool(
                    &mut scope,
                    (&whose, &one.tool, &stored::tool_text(&tool)),
                    now,
                )?;
                let resource = format!("{whose}/{}", one.tool);
                let what = format!("approved as {}", tool.class());
                let change = Change {
                    action: None,
                    resource: ("Tool", &resource),
                    what: &what,
                    hash: None,
                };
                by.did(&mut scope, &change, now)?;
            }
            Ok::<_, EgressError>(())
        };
        self.0.db.write(write).await?;
        self.0.reload(workspace).await.map(drop)
    }

    /// Says what a tool does.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn classify(
        &self,
        by: &By,
        workspace: &Workspace,
        (server, name): (&str, &str),
        class: Class,
    ) -> Result<(), EgressError> {
        let (of, tool_name) = (server.to_owned(), name.to_owned());
        let resource = format!("{server}/{name}");
        let what = class.as_str();
        let put = move |scope: &mut Scope<'_>, now| {
            let tool = stored::find_tool(scope, &of, &tool_name)?;
            let missing = || EgressError::NotFound(format!("`{of}` has no tool `{tool_name}`"));
            let mut tool = tool.ok_or_else(missing)?;
            tool.class = Some(class);
            Ok::<_, EgressError>(rows::put_tool(
                scope,
                (&of, &tool_name, &stored::tool_text(&tool)),
                now,
            )?)
        };
        let what = ("Tool", resource.as_str(), what);
        change(&self.0.db, by, workspace, what, put).await?;
        self.0.reload(workspace).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use skep_mcp::{Description, Rules, Transport};

    use super::*;

    #[test]
    fn what_was_made_of_a_description_is_kept_until_the_settings_change() {
        let server = |deny: &str, text: &str| {
            let settings = Settings {
                name: "pets".to_owned(),
                transport: Transport::OpenApi {
                    url: "https://pets.example".to_owned(),
                    headers: BTreeMap::new(),
                    description: Arc::new(Description::new(text.to_owned())),
                },
                rules: Rules {
                    allow: Vec::new(),
                    deny: vec![deny.to_owned()],
                },
                resources: false,
                prompts: false,
                timeout: Settings::timeout(None),
                prices: BTreeMap::new(),
            };
            let tools = BTreeMap::new();
            BTreeMap::from([("pets".to_owned(), Server { settings, tools })])
        };
        let text = r#"{"openapi":"3.1.0","paths":{"/a":{"get":{}}}}"#;
        let before = server("x", text);
        assert!(before["pets"].settings.api().is_some_and(|it| it.is_ok()));
        for (mut now, is_kept) in [
            (server("x", text), true),
            (server("y", text), false),
            (server("x", "{}"), false),
        ] {
            assert!(!now["pets"].settings.is_made());
            keep_made(&before, &mut now);
            assert_eq!(now["pets"].settings.is_made(), is_kept);
        }
    }

    #[test]
    fn a_server_that_changes_all_the_time_is_looked_at_now_and_then() {
        let (mut looking, now) = (Looking::default(), Instant::now());
        assert!(looking.changed());
        assert_eq!(looking.next(now), Some(Duration::ZERO));
        looking.begins(now);
        for _ in 0..1_000 {
            assert!(!looking.changed(), "one is under way");
        }
        // What changed meanwhile is looked at once more, later.
        assert_eq!(looking.next(now), Some(LOOKS));
        looking.begins(now + LOOKS);
        assert_eq!(looking.next(now + LOOKS), None);
        assert!(looking.changed());
        assert_eq!(looking.next(now + LOOKS * 3), Some(Duration::ZERO));
    }
}
