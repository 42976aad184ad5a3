//! The way out to the web: the rules of each workspace, what falls under them, tunnels, and the workspace's CA.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use parking_lot::Mutex;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use skep_core::{ExchangeId, Timestamp, Workspace};
use skep_sources::Reach;
use skep_store::{By, Db, Scope};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::WebError;
use super::authority::Authority;
use super::exchange::{Open, Passed};
use super::rule::{Rule, Scheme, Tunnel, at_host, find, plain_host, seen_path, tunnel};
use super::send::Sent;
use crate::ledger::{Opened, Way};
use crate::llm::{Models, On, Who, Witness, one_request};
use crate::rows;
use crate::upstream::{Upstream, system};

/// Rules of one workspace.
const MOST: u64 = 500;
/// What another server changed is seen after so long.
const FRESH: Duration = Duration::from_secs(1);
/// How long nothing may pass through a tunnel.
const IDLE: Duration = Duration::from_secs(600);
/// How often it is looked whether who opened a tunnel may still have it.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// For how long a CA that is known counts before it is looked whether it is still the same.
const SAME: Duration = Duration::from_secs(60);
/// How long it may take to read or to make a CA.
const PATIENCE: Duration = Duration::from_secs(10);
/// Idle connections that are kept of one host.
const MOST_IDLE: usize = 16;
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// Gives values, and keeps the CA of a workspace.
#[async_trait]
pub trait Values: Send + Sync {
    /// The value of a secret, or of one field of it, if there is such a secret; or why it is not to be had.
    async fn secret(
        &self,
        workspace: &Workspace,
        name: &str,
        field: Option<&str>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String>;

    /// What a placeholder stands for: nothing, unless it was lent to who asks, and of this secret.
    async fn lease(
        &self,
        by: &Lessee,
        secret: &str,
        placeholder: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String>;

    /// The CA of a workspace, if it has one.
    async fn authority(&self, workspace: &Workspace) -> Result<Option<Zeroizing<Vec<u8>>>, String>;

    /// Whether the CA can be read now.
    fn is_open(&self) -> bool;

    /// Keeps a CA, unless there is one.
    async fn keep_authority(&self, workspace: &Workspace, made: &[u8]) -> Result<(), String>;
}

/// Who asks, and to whom placeholders were lent.
#[derive(Debug, Clone)]
pub struct Lessee {
    /// Who.
    pub who: Who,
    /// The instance that it is, when it is one: `instance:ins_…`.
    pub instance: Option<String>,
}

/// How the way out is made.
pub struct Options {
    /// Where exchanges are written down, and budgets are.
    pub models: Models,
    /// Which addresses may be asked.
    pub reach: Reach,
    /// Certificates (PEM) that are believed beside the system's.
    pub ca: Option<PathBuf>,
    /// Where values come from.
    pub values: Arc<dyn Values>,
    /// Bytes of a request's body.
    pub most_body: u64,
    /// How long it may pause.
    pub pause: Duration,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How.
    pub scheme: Scheme,
    /// The host, as it is compared.
    pub host: String,
    /// At which port.
    pub port: u16,
}

impl Asked {
    /// A host of a request, unless it is none.
    #[must_use]
    pub fn new(scheme: Scheme, host: &str, port: Option<u16>) -> Option<Self> {
        Some(Self {
            scheme,
            host: plain_host(host)?,
            port: port.unwrap_or(scheme.port()),
        })
    }

    /// Of a URL of http or https.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        Self::new(scheme, uri.host()?, uri.port_u16())
    }

    /// As policies and the log name it: `api.example.com:443`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// As URLs have it.
    pub(super) fn authority(&self) -> String {
        let whole = self.name();
        match self.port == self.scheme.port() {
            true => whole
                .rsplit_once(':')
                .map_or(whole.clone(), |(host, _)| host.to_owned()),
            false => whole,
        }
    }
}

/// What a workspace has, as the store said some time ago.
#[derive(Clone)]
struct Known {
    at: Instant,
    rules: Arc<[Arc<Rule>]>,
}

/// What was kept of a CA, when it was looked at, and it.
type Looked = ([u8; 32], Instant, Arc<Authority>);

/// The CA of a workspace, as long as it is known.
#[derive(Default)]
struct OfWorkspace {
    known: Mutex<Option<Looked>>,
    /// Who looks at it now.
    turn: tokio::sync::Mutex<()>,
}

impl OfWorkspace {
    fn fresh(&self) -> Option<Arc<Authority>> {
        let known = self.known.lock();
        let (_, at, authority) = known.as_ref()?;
        (at.elapsed() < SAME).then(|| authority.clone())
    }

    /// What is kept, as it was read before, if it is the same.
    fn read(&self, kept: &[u8]) -> Result<Arc<Authority>, String> {
        let digest: [u8; 32] = Sha256::digest(kept).into();
        let mut known = self.known.lock();
        let same = known.take().filter(|(before, ..)| *before == digest);
        let authority = match same {
            Some((.., authority)) => authority,
            None => Arc::new(Authority::of(kept)?),
        };
        *known = Some((digest, Instant::now(), authority.clone()));
        Ok(authority)
    }
}

/// The way out to the web. Cheap to clone.
#[derive(Clone)]
pub struct Web(Arc<Inner>);

struct Inner {
    db: Db,
    models: Models,
    upstream: Upstream<Sent>,
    values: Arc<dyn Values>,
    most_body: u64,
    pause: Duration,
    ca: Option<PathBuf>,
    known: Mutex<HashMap<Workspace, Known>>,
    authorities: Mutex<HashMap<Workspace, Arc<OfWorkspace>>>,
    /// The system's certificates, in PEM.
    system: OnceCell<Arc<str>>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Web")
    }
}

impl Web {
    /// The way out.
    #[must_use]
    pub fn new(db: Db, options: Options) -> Self {
        Self(Arc::new(Inner {
            db,
            models: options.models,
            upstream: Upstream::new(options.reach, options.ca.clone(), MOST_IDLE),
            values: options.values,
            most_body: options.most_body,
            pause: options.pause,
            ca: options.ca,
            known: Mutex::default(),
            authorities: Mutex::default(),
            system: OnceCell::new(),
        }))
    }

    pub(super) fn values(&self) -> &Arc<dyn Values> {
        &self.0.values
    }

    pub(super) fn models(&self) -> &Models {
        &self.0.models
    }

    pub(super) fn upstream(&self) -> &Upstream<Sent> {
        &self.0.upstream
    }

    pub(super) fn most_body(&self) -> u64 {
        self.0.most_body
    }

    pub(super) fn pause(&self) -> Duration {
        self.0.pause
    }

    fn now(&self) -> Timestamp {
        self.0.db.clock().now()
    }

    /// The rules of a workspace, by name.
    ///
    /// # Errors
    /// The store's own.
    pub async fn rules(&self, workspace: &Workspace) -> Result<Arc<[Arc<Rule>]>, WebError> {
        let shared = self.0.db.is_shared();
        if let Some(known) = self.0.known.lock().get(workspace)
            && (!shared || known.at.elapsed() < FRESH)
        {
            return Ok(known.rules.clone());
        }
        self.reload(workspace).await
    }

    async fn reload(&self, workspace: &Workspace) -> Result<Arc<[Arc<Rule>]>, WebError> {
        let (at, of) = (Instant::now(), workspace.clone());
        let read = self
            .0
            .db
            .read(move |reader| rows::RULES.all(&mut reader.scope(&of)));
        let mut rules = Vec::new();
        for (name, text) in read.await? {
            match Rule::from_text(&name, &text) {
                Some(rule) => rules.push(Arc::new(rule)),
                // What nobody can read lets nothing out.
                None => tracing::error!(%workspace, name, "a rule of the web is not readable"),
            }
        }
        let rules: Arc<[Arc<Rule>]> = rules.into();
        let mut all = self.0.known.lock();
        let newer = all.get(workspace).filter(|it| it.at > at);
        if let Some(newer) = newer {
            return Ok(newer.rules.clone());
        }
        let known = Known {
            at,
            rules: rules.clone(),
        };
        all.insert(workspace.clone(), known);
        Ok(rules)
    }

    /// Reads the rules again, which somebody has changed.
    async fn again(&self, workspace: &Workspace) -> Result<(), WebError> {
        self.0.known.lock().remove(workspace);
        self.reload(workspace).await.map(drop)
    }

    /// Takes a rule in, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`WebError::Invalid`], and the store's own.
    pub async fn put_rule(
        &self,
        by: &By,
        workspace: &Workspace,
        rule: &Rule,
    ) -> Result<(), WebError> {
        rule.check()?;
        let (name, text) = (rule.name.clone(), rule.to_text());
        let put = move |scope: &mut Scope<'_>, now| {
            Ok::<_, WebError>(rows::RULES.put(scope, (&name, &text), (now, MOST))?)
        };
        let what = ("Rule", rule.name.as_str(), "set");
        rows::change(&self.0.db, by, workspace, what, put).await?;
        self.again(workspace).await
    }

    /// Takes a rule away.
    ///
    /// # Errors
    /// [`WebError::NoSuchRule`], and the store's own.
    pub async fn drop_rule(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
    ) -> Result<(), WebError> {
        let of = name.to_owned();
        let drop = move |scope: &mut Scope<'_>, _| match rows::RULES.drop(scope, &of)? {
            true => Ok(()),
            false => Err(WebError::NoSuchRule(of)),
        };
        rows::change(&self.0.db, by, workspace, ("Rule", name, "removed"), drop).await?;
        self.again(workspace).await
    }

    /// The rule that a request falls under.
    ///
    /// # Errors
    /// [`WebError::Denied`] with what stands in its way; [`WebError::Bad`]; the store's own.
    pub async fn rule(
        &self,
        workspace: &Workspace,
        asked: &Asked,
        (method, path): (&str, &str),
    ) -> Result<Arc<Rule>, WebError> {
        let path = &seen_path(path)?;
        let rules = self.rules(workspace).await?;
        let at = (asked.scheme, asked.host.as_str(), asked.port);
        match find(&rules, at, (method, path)) {
            Some(rule) => Ok(rule.clone()),
            None => Err(denied(&rules, asked, Some((method, path)))),
        }
    }

    /// What becomes of a tunnel to a host; its rule, and whether it is opened.
    ///
    /// # Errors
    /// [`WebError::Denied`] with what stands in its way; the store's own.
    pub async fn tunnel(
        &self,
        workspace: &Workspace,
        asked: &Asked,
    ) -> Result<(Arc<Rule>, bool), WebError> {
        let rules = self.rules(workspace).await?;
        let (found, opened) = match tunnel(&rules, &asked.host, asked.port) {
            Some(Tunnel::Blind(rule)) => (rule, false),
            Some(Tunnel::Opened(rule)) => (rule, true),
            None => return Err(denied(&rules, asked, None)),
        };
        let name = found.name.clone();
        let rule = rules.iter().find(|it| it.name == name).cloned();
        rule.map(|it| (it, opened))
            .ok_or(WebError::NoSuchRule(name))
    }

    /// Tells that an exchange begins, when budgets let it. When this returns, a server that is killed has not forgotten it.
    ///
    /// # Errors
    /// [`EgressError::OverBudget`]; that the ledger cannot be written: then it must not begin.
    ///
    /// [`EgressError::OverBudget`]: crate::EgressError::OverBudget
    pub async fn begin(
        &self,
        (asked, rule, method): (&Asked, &Rule, &str),
        who: &Who,
        witness: Arc<dyn Witness>,
    ) -> Result<Open, WebError> {
        let (models, one) = (&self.0.models, one_request());
        let held = models.take_use(who, On::Rule(&rule.name), one).await?;
        let now = self.now();
        let mut opened = Opened {
            id: *ExchangeId::new().as_bytes(),
            workspace: who.workspace.clone(),
            at: now,
            way: Way::Web,
            kind: who.kind.to_owned(),
            who: who.id.to_string(),
            provider: asked.name(),
            model: rule.name.clone(),
            asked: method.chars().take(32).collect(),
            reserved: one,
            prices: "none".to_owned(),
            prompt: String::new(),
            thread: String::new(),
            entry: Vec::new(),
        };
        opened.entry = witness.entry("lost", &opened, now);
        let opened = Arc::new(opened);
        if let Err(error) = models.ledger().begin(opened.clone()) {
            models.give_back_use(&opened.workspace, &held);
            return Err(error.into());
        }
        Ok(Open {
            db: self.0.db.clone(),
            models: models.clone(),
            held,
            opened,
            witness,
            began: Instant::now(),
            first: None,
            passed: Arc::new(Passed::default()),
            keep: None,
            settled: false,
        })
    }

    /// The CA of a workspace; made, when there is none.
    ///
    /// # Errors
    /// Why there is none: the vault is sealed.
    pub async fn authority(&self, workspace: &Workspace) -> Result<Arc<Authority>, String> {
        let values = &self.0.values;
        if !values.is_open() {
            return Err("the vault is sealed".to_owned());
        }
        let of = self
            .0
            .authorities
            .lock()
            .entry(workspace.clone())
            .or_default()
            .clone();
        if let Some(authority) = of.fresh() {
            return Ok(authority);
        }
        let read = tokio::time::timeout(PATIENCE, self.read_authority(workspace, &of));
        let late = || {
            format!(
                "the vault did not give the CA within {} s",
                PATIENCE.as_secs()
            )
        };
        read.await.unwrap_or_else(|_| Err(late()))
    }

    async fn read_authority(
        &self,
        workspace: &Workspace,
        of: &OfWorkspace,
    ) -> Result<Arc<Authority>, String> {
        let _turn = of.turn.lock().await;
        if let Some(authority) = of.fresh() {
            return Ok(authority);
        }
        let values = &self.0.values;
        let kept = match values.authority(workspace).await? {
            Some(kept) => kept,
            None => {
                let made = Authority::make(workspace.as_str(), self.now())?;
                values.keep_authority(workspace, &made.0).await?;
                // Another server may have been faster.
                let kept = values.authority(workspace).await?;
                kept.ok_or_else(|| "it was not kept".to_owned())?
            }
        };
        of.read(&kept)
    }

    /// What Skep speaks TLS with in the place of a host.
    ///
    /// # Errors
    /// [`WebError::Closed`].
    pub async fn posing(
        &self,
        workspace: &Workspace,
        host: &str,
    ) -> Result<Arc<ServerConfig>, WebError> {
        let authority = self.authority(workspace).await;
        let config = authority.and_then(|it| it.host(host, self.now()));
        config.map_err(|why| WebError::Closed {
            host: host.to_owned(),
            why,
        })
    }

    /// The certificates that an agent is to believe: the system's, and the workspace's CA; in PEM.
    ///
    /// # Errors
    /// Why there is no CA.
    pub async fn bundle(&self, workspace: &Workspace) -> Result<String, String> {
        let authority = self.authority(workspace).await?;
        let ca = self.0.ca.clone();
        let read = self.0.system.get_or_try_init(|| async move {
            let pem = tokio::task::spawn_blocking(move || {
                let mut pem = String::new();
                for certificate in system(ca.as_ref())? {
                    pem.push_str(&to_pem(&certificate));
                }
                Ok::<_, String>(pem)
            });
            let pem = pem.await.map_err(|error| error.to_string())??;
            Ok::<Arc<str>, String>(pem.into())
        });
        Ok(format!("{}{}", authority.pem(), read.await?))
    }

    /// Connects to a host, for a tunnel.
    ///
    /// # Errors
    /// [`WebError::Unreachable`].
    pub async fn connect(
        &self,
        asked: &Asked,
        open: &mut Open,
    ) -> Result<tokio::net::TcpStream, WebError> {
        let connected = self.0.upstream.connect(&asked.host, asked.port).await;
        connected.map_err(|why| {
            open.settle("unreachable");
            WebError::Unreachable {
                host: asked.name(),
                why,
            }
        })
    }
}

/// A certificate in PEM.
pub(super) fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Why nothing lets a request out, and what to do.
fn denied(rules: &[Arc<Rule>], asked: &Asked, what: Option<(&str, &str)>) -> WebError {
    let name = asked.name();
    let there = at_host(rules, &asked.host, asked.port);
    let url = format!("{}://{}", asked.scheme.as_str(), asked.authority());
    match what.filter(|_| !there.is_empty()) {
        Some((method, path)) => {
            let path: String = path
                .split('?')
                .next()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect();
            WebError::Denied {
                what: format!(
                    "the rules for {name} ({}) do not let {method} {path} out over {}",
                    there.join(", "),
                    asked.scheme.as_str()
                ),
                hint: format!(
                    "See `skep web list`; who administers the workspace can change a rule, or add one: `skep web allow NAME {url} --method {method}`."
                ),
            }
        }
        None => WebError::Denied {
            what: format!("no rule lets anybody ask {name}"),
            hint: format!(
                "Who administers the workspace can add one: `skep web allow NAME {url}`."
            ),
        },
    }
}

/// Ends when nothing has passed for long, or when `may` says no more; tells which.
pub(super) async fn watched(passed: &Passed, may: impl Fn() -> bool) -> &'static str {
    let sum = || passed.up.load(Ordering::Relaxed) + passed.down.load(Ordering::Relaxed);
    let (mut before, mut since) = (sum(), Instant::now());
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        if !may() {
            return "ended";
        }
        if sum() != before {
            (before, since) = (sum(), Instant::now());
        } else if since.elapsed() > IDLE {
            return "idle";
        }
    }
}

/// Carries a tunnel that is not opened, until a side of it ends, nothing passes for long, or `may` says no more. What the
/// client said first was read already.
pub async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    host: tokio::net::TcpStream,
    said: &[u8],
    mut open: Open,
    may: impl Fn() -> bool,
) {
    open.begins();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_host, mut to_host) = host.into_split();
    let passed = open.passed.clone();
    let up = async {
        let mut piece = vec![0; PIECE];
        passed.up.fetch_add(said.len() as u64, Ordering::Relaxed);
        if to_host.write_all(said).await.is_err() {
            return;
        }
        while let Ok(count) = from_client.read(&mut piece).await {
            let bytes = piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                let _ = to_host.shutdown().await;
                return;
            }
            passed.up.fetch_add(count as u64, Ordering::Relaxed);
            if to_host.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        while let Ok(count) = from_host.read(&mut piece).await {
            let bytes = piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                let _ = to_client.shutdown().await;
                return;
            }
            passed.down.fetch_add(count as u64, Ordering::Relaxed);
            if to_client.write_all(bytes).await.is_err() || to_client.flush().await.is_err() {
                return;
            }
        }
    };
    let outcome = tokio::select! {
        ((), ()) = async { tokio::join!(up, down) } => "200",
        outcome = watched(&passed, may) => outcome,
    };
    open.settle(outcome);
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
