//! What runs now and who waits for it: the live side of calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use skep_core::CallId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::IngressError;
use crate::journal::Answer;
use crate::recording::Recording;

/// What a call's client is told.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Nothing to see yet.
    Waiting,
    /// An attempt's answer comes in.
    Streaming(Arc<Recording>),
    /// The agent's answer, as final as the policy's durability says.
    Answered(Arc<Answer>),
    /// It ended without an answer.
    Ended(IngressError),
}

/// One call that somebody runs or waits for.
#[derive(Debug)]
pub(crate) struct Live {
    phase: watch::Sender<Phase>,
    /// Ends the running attempt.
    pub(crate) stop: CancellationToken,
}

impl Live {
    fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Waiting),
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn tell(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    fn abandon(&self) {
        self.stop.cancel();
        self.tell(Phase::Ended(IngressError::ShuttingDown));
    }
}

/// The calls that somebody runs or waits for.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    calls: Mutex<HashMap<CallId, Arc<Live>>>,
    /// Nothing runs any more.
    abandoned: AtomicBool,
}

impl Registry {
    /// The live side of a call, made when there is none.
    pub(crate) fn enter(&self, id: CallId) -> Arc<Live> {
        let mut calls = self.calls.lock();
        if self.abandoned.load(Ordering::Relaxed) {
            let live = Live::new();
            live.abandon();
            return Arc::new(live);
        }
        calls
            .entry(id)
            .or_insert_with(|| Arc::new(Live::new()))
            .clone()
    }

    /// Tells who waits for a call that does not run to come again, as the server ends.
    pub(crate) fn dismiss(&self, id: CallId) {
        if let Some(live) = self.calls.lock().get(&id) {
            live.tell(Phase::Ended(IngressError::ShuttingDown));
        }
    }

    /// Forgets a call that was not accepted after all.
    pub(crate) fn forget(&self, id: CallId) {
        self.calls.lock().remove(&id);
    }

    /// Tells everybody how the call ended and forgets it.
    pub(crate) fn finish(&self, id: CallId, phase: Phase) {
        let live = self.calls.lock().remove(&id);
        if let Some(live) = live {
            live.stop.cancel();
            live.tell(phase);
        }
    }

    /// Ends every attempt without a word to the journal, and tells who waits to come again: the
    /// next start releases the leases.
    pub(crate) fn abandon(&self) {
        let mut calls = self.calls.lock();
        self.abandoned.store(true, Ordering::Relaxed);
        for (_, live) in calls.drain() {
            live.abandon();
        }
    }

    /// Forgets a call that nobody but the caller (who gives its own handle) runs or waits for.
    pub(crate) fn leave(&self, id: CallId, live: Arc<Live>) {
        let mut calls = self.calls.lock();
        // Two handles: the registry's own and the one that is given.
        if Arc::strong_count(&live) <= 2 && live.phase.receiver_count() == 0 {
            calls.remove(&id);
        }
        drop(live);
    }
}
