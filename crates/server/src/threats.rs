//! What looks like an attack, at this server's door: what is seen there goes to guard's machine, and what
//! that finds is written down, told as an event, counted, and is an entry of the audit log.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{HOST, USER_AGENT};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use skep_audit::{Change as Changed, Entry, Kind as PersonalKind, Thing, Whose, commit_person};
use skep_core::config::Settings;
use skep_core::units::Rate;
use skep_core::{Workspace, Workspaces};
use skep_guard::Principal;
use skep_guard::threats::patterns::{Head, Pattern, Patterns, look};
use skep_guard::threats::{Burst, Finding, Kind, Learnt, Rules, Signal, Subject, Watch, rows};
use skep_runtime::Event;
use skep_store::{Db, StoreError, Unit};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ServerError;

/// Findings that wait to be written; more are counted and told in the log only.
const QUEUE: usize = 256;
/// How soon it is kept that a principal came from an address.
const KEEP_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPattern {
    pattern: &'static str,
}

/// What watches the door.
pub(crate) struct Threats {
    db: Db,
    watch: Mutex<Watch>,
    found: Sender<Finding>,
    waiting: Mutex<Option<Receiver<Finding>>>,
    metric: Family<ByKind, Counter>,
    patterns: Family<ByPattern, Counter>,
    /// Tells different paths from each other.
    paths: RandomState,
}

/// The rules of the configuration.
fn rules(settings: &Settings) -> Result<Rules, ServerError> {
    let wrong =
        |key: &str, why: String| ServerError::Detections(format!("detections.{key}: {why}"));
    let burst = |key: &str, rate: Rate, most: usize| match Burst::from(rate) {
        burst if burst.count <= most => Ok(burst),
        _ => Err(wrong(key, format!("{most} at most"))),
    };
    let mut rules = Rules::default();
    rules.denials = burst("denials", settings.detections_denials, Rules::MOST)?;
    let failures = settings.detections_failed_authentications;
    rules.failures = burst("failed_authentications", failures, Rules::MOST)?;
    rules.rate = settings.detections_rate.into();
    rules.networks = burst(
        "networks",
        settings.detections_networks,
        Rules::MOST_NETWORKS,
    )?;
    rules.patterns = burst("patterns", settings.detections_patterns, Rules::MOST)?;
    rules.missing = burst("missing", settings.detections_missing, Rules::MOST_MISSING)?;
    rules.foreign = burst("foreign", settings.detections_foreign, Rules::MOST)?;
    for name in &settings.detections_off {
        let kind: Kind = name.parse().map_err(|()| {
            let all: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
            wrong("off", format!("`{name}` is none of {}", all.join(", ")))
        })?;
        rules.turn_off(kind);
    }
    Ok(rules)
}

/// The key under which addresses are remembered: of the audit log's, which is not in the store and which servers
/// of one database share.
fn key(audit_key: &Path) -> Result<[u8; 32], ServerError> {
    let text = std::fs::read(audit_key).map_err(|error| ServerError::File {
        path: audit_key.to_owned(),
        reason: error.to_string(),
    })?;
    let mut hasher = Sha256::new();
    hasher.update(b"skep known addresses\0");
    hasher.update(text);
    Ok(hasher.finalize().into())
}

impl Threats {
    /// What watches, with the addresses that are known from before. The audit log's key is there.
    ///
    /// # Errors
    /// [`ServerError`], also when the configuration asks for what cannot be.
    pub(crate) async fn open(
        db: Db,
        settings: &Settings,
        workspaces: &Workspaces,
        registry: &mut Registry,
    ) -> Result<Self, ServerError> {
        let metric = Family::default();
        registry.register(
            "skep_security_detections",
            "What looked like an attack",
            metric.clone(),
        );
        let patterns = Family::default();
        registry.register(
            "skep_security_patterns",
            "Requests that looked like tries, by what was seen",
            patterns.clone(),
        );
        let own = db.folder().join(crate::audit::FILE);
        let key = key(settings.audit_key.as_deref().unwrap_or(&own))?;
        let mut watch = Watch::new(rules(settings)?, &key);
        for workspace in workspaces.all().iter() {
            for known in rows::known_addresses(&db, workspace, watch.key_id()).await? {
                watch.remember(&known);
            }
        }
        let (found, waiting) = mpsc::channel(QUEUE);
        Ok(Self {
            db,
            watch: Mutex::new(watch),
            found,
            waiting: Mutex::new(Some(waiting)),
            metric,
            patterns,
            paths: RandomState::new(),
        })
    }

    /// Somebody asks for something.
    pub(crate) fn asked(&self, principal: &Principal, from: IpAddr) {
        self.see(Signal::Asked(principal, from.to_canonical()));
    }

    /// Somebody was refused.
    pub(crate) fn denied(&self, principal: &Principal, from: IpAddr) {
        self.see(Signal::Denied(principal, from.to_canonical()));
    }

    /// Somebody showed what is no key.
    pub(crate) fn failed(&self, from: IpAddr) {
        self.see(Signal::Failed(from.to_canonical()));
    }

    /// Somebody showed a key that nobody has a reason to show.
    pub(crate) fn touched(&self, principal: &Principal, from: IpAddr, what: &str) {
        self.see(Signal::Canary(principal, from.to_canonical(), what));
    }

    /// Somebody asked for a workspace that is not theirs.
    pub(crate) fn foreign(&self, principal: &Principal, from: IpAddr) {
        self.see(Signal::Foreign(principal, from.to_canonical()));
    }

    /// Somebody sent something to a model that looked as if it were to turn it against them.
    pub(crate) fn injected(&self, principal: &Principal, from: IpAddr, seen: &str) {
        self.see(Signal::Injection(principal, from.to_canonical(), seen));
    }

    /// What a request is about, to tell it from others.
    pub(crate) fn path<B>(&self, request: &Request<B>) -> u64 {
        self.paths.hash_one(request.uri().path())
    }

    /// Somebody asked for what is not there.
    pub(crate) fn missing(&self, from: IpAddr, path: u64) {
        self.see(Signal::Missing(from.to_canonical(), path));
    }

    /// Looks at a request before anything else does. It only looks: whatever it sees, the request goes on as it is.
    pub(crate) fn look<B>(&self, from: IpAddr, path: &str, request: &Request<B>) {
        let headers = request.headers();
        let value = |name| headers.get(name).map(http::HeaderValue::as_bytes);
        let patterns = look(&Head {
            path,
            query: request.uri().query(),
            host: value(HOST),
            agent: value(USER_AGENT),
            headers: headers.len(),
        });
        if !patterns.is_empty() {
            self.odd(from, patterns);
        }
    }

    /// A request that is refused because of its form.
    pub(crate) fn refused(&self, from: IpAddr, pattern: Pattern) {
        self.odd(from, [pattern].into_iter().collect());
    }

    fn odd(&self, from: IpAddr, patterns: Patterns) {
        for pattern in patterns.iter() {
            let pattern = pattern.as_str();
            self.patterns.get_or_create(&ByPattern { pattern }).inc();
        }
        self.see(Signal::Odd(from.to_canonical(), patterns));
    }

    fn see(&self, signal: Signal<'_>) {
        let found = self.watch.lock().see(signal, self.db.clock().now());
        for finding in found {
            let (kind, severity) = (finding.kind.as_str(), finding.kind.severity().as_str());
            tracing::warn!(kind, severity, detail = finding.detail, "detected");
            let counter = self.metric.get_or_create(&ByKind { kind, severity });
            counter.inc();
            drop(counter);
            if self.found.try_send(finding).is_err() {
                tracing::error!(kind, severity, "a detection is not written down");
            }
        }
    }

    /// Keeps from where principals came, so that it is known after a restart. What cannot be kept is learnt anew
    /// then.
    pub(crate) async fn keep_addresses(&self) {
        let (learnt, key_id) = {
            let mut watch = self.watch.lock();
            (watch.learnt(), watch.key_id())
        };
        let mut by_workspace: HashMap<Workspace, Vec<Learnt>> = HashMap::new();
        for one in learnt {
            by_workspace
                .entry(one.workspace.clone())
                .or_default()
                .push(one);
        }
        for (workspace, learnt) in by_workspace {
            let kept: Result<(), StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    rows::keep_addresses(&mut unit.scope(&workspace), key_id, &learnt, now)
                })
                .await;
            if let Err(error) = kept {
                tracing::warn!(%error, "from where somebody came is not kept");
            }
        }
    }

    /// Writes down what is found, until the end.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        let Some(mut waiting) = self.waiting.lock().take() else {
            return;
        };
        let mut tick = tokio::time::interval(KEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let finding = tokio::select! {
                finding = waiting.recv() => finding,
                _ = tick.tick() => {
                    self.keep_addresses().await;
                    continue;
                }
                () = stop.cancelled() => None,
            };
            let Some(finding) = finding else {
                return;
            };
            let (kind, server) = (finding.kind.as_str(), self.db.server().to_string());
            let kept: Result<(), StoreError> = self
                .db
                .write(move |unit| write(unit, &finding, &server))
                .await;
            if let Err(error) = kept {
                tracing::error!(kind, %error, "a detection is not written down");
            }
        }
    }
}

fn write(unit: &mut Unit<'_>, finding: &Finding, server: &str) -> Result<(), StoreError> {
    let (now, workspace) = (unit.now(), &finding.workspace);
    let address = match finding.address {
        None => None,
        Some(address) => {
            let scope = &mut unit.scope(workspace);
            let address = address.to_string();
            let kind = PersonalKind::Address;
            Some(commit_person(scope, Whose::Somebody, kind, &address, now)?)
        }
    };
    let (of, id): (&str, Arc<str>) = match (&finding.subject, &address) {
        (Subject::Principal(kind, id), _) => (kind, id.clone()),
        (Subject::Address(_), Some(commitment)) => ("Person", (&*commitment.person).into()),
        (Subject::Address(_), None) => ("Person", "".into()),
    };
    let detection = rows::keep(unit, finding, (of, &id))?;
    let (kind, severity) = (finding.kind.as_str(), finding.kind.severity().as_str());
    let told = format!("{kind}, {severity}: {}", finding.detail);
    let mut event = Event::new("security.detected", format!("{told} ({of} {id})"));
    event.by = Some(id.to_string());
    event.record(&mut unit.scope(workspace), now)?;
    let mut entry = Entry::new(
        now,
        Thing::new("Server", server),
        "security:detected",
        Thing::new("Detection", detection.to_string()),
    );
    entry.workspace = Some(workspace.as_str().into());
    entry.change = Some(Changed {
        what: format!("{told} ({of} {id})").into(),
        hash: None,
    });
    entry.personal.extend(address);
    unit.record(entry.to_bytes())
}
