//! One exchange with a host: told to the ledger before it leaves, and settled before its end is let through, or when
//! either side leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skep_core::Timestamp;
use skep_store::Db;
use tokio::time::Instant;

use super::recording::Keep;
use crate::ledger::{Opened, Settled};
use crate::llm::{Models, Reservation, Witness, one_request};
use crate::money::Money;

/// Bytes that went each way.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

/// What an exchange holds until it is settled.
pub struct Open {
    pub(super) db: Db,
    pub(super) models: Models,
    /// What is set aside of budgets.
    pub(super) held: Reservation,
    pub(super) opened: Arc<Opened>,
    pub(super) witness: Arc<dyn Witness>,
    pub(super) began: Instant,
    pub(super) first: Option<Duration>,
    pub(super) passed: Arc<Passed>,
    /// What is kept of it.
    pub(super) keep: Option<Arc<Keep>>,
    pub(super) settled: bool,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Open({})", self.opened.provider)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Open {
    /// The answer begins.
    pub(super) fn begins(&mut self) {
        self.first.get_or_insert(self.began.elapsed());
    }

    /// It came to nothing.
    pub fn ended(mut self, outcome: &str) {
        self.settle(outcome);
    }

    /// It has ended so. Once: what is said later is not heard.
    pub(super) fn settle(&mut self, outcome: &str) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let now: Timestamp = self.db.clock().now();
        let whole = self.began.elapsed();
        self.models.ledger().end(Settled {
            entry: self.witness.entry(outcome, &self.opened, now),
            outcome: outcome.to_owned(),
            // Bytes, where models have tokens.
            input: self.passed.up.load(Ordering::Relaxed),
            cache_read: 0,
            cache_write: 0,
            output: self.passed.down.load(Ordering::Relaxed),
            reasoning: 0,
            cost: Money::default(),
            estimated: false,
            first_us: micros(self.first.unwrap_or(whole)),
            whole_us: micros(whole),
            opened: self.opened.clone(),
        });
        // The books after it: what they have as settled, the ledger has.
        let workspace = &self.opened.workspace;
        self.models.settle_use(workspace, &self.held, one_request());
        if let Some(keep) = self.keep.take() {
            keep.end(outcome, now);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.settle("left");
    }
}
