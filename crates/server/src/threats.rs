//! What looks like an attack, at this server's door: what is seen there goes to guard's machine, and what
//! that finds is written down, told as an event, counted, and is an entry of the audit log.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use skep_audit::{Change as Changed, Entry, Kind as PersonalKind, Thing, Whose, commit_person};
use skep_guard::Principal;
use skep_guard::threats::{Finding, Rules, Signal, Subject, Watch, rows};
use skep_runtime::Event;
use skep_store::{Db, StoreError, Unit};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

/// Findings that wait to be written; more are counted and told in the log only.
const QUEUE: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
    severity: &'static str,
}

/// What watches the door.
pub(crate) struct Threats {
    db: Db,
    watch: Mutex<Watch>,
    found: Sender<Finding>,
    waiting: Mutex<Option<Receiver<Finding>>>,
    metric: Family<ByKind, Counter>,
}

impl Threats {
    pub(crate) fn new(db: Db, registry: &mut Registry) -> Self {
        let metric = Family::default();
        registry.register(
            "skep_security_detections",
            "What looked like an attack",
            metric.clone(),
        );
        let (found, waiting) = mpsc::channel(QUEUE);
        Self {
            db,
            watch: Mutex::new(Watch::new(Rules::default())),
            found,
            waiting: Mutex::new(Some(waiting)),
            metric,
        }
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

    /// Writes down what is found, until the end.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        let Some(mut waiting) = self.waiting.lock().take() else {
            return;
        };
        loop {
            let finding = tokio::select! {
                finding = waiting.recv() => finding,
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
