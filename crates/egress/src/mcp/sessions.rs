//! Sessions of clients: a name of ours for each, which counts for who began it alone, and what stands behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_core::Workspace;
use tokio::time::Instant;

use super::process::Process;
use crate::llm::Who;

/// Sessions of all clients together.
const MOST: usize = 4_096;
/// Those of one workspace.
const MOST_OF_WORKSPACE: usize = 1_024;
/// Sessions of one client.
const MOST_OF_ONE: usize = 32;
/// A session that nobody used for so long is forgotten.
const IDLE: Duration = Duration::from_secs(3_600);

/// What stands behind a session, at one server.
#[derive(Clone)]
pub(super) enum Behind {
    /// The server's own session, when it has one.
    Http(Option<String>),
    /// A program of the session's own.
    Program(Arc<Process>),
}

/// A session.
pub(super) struct Session {
    pub(super) id: String,
    who: Who,
    /// The server, at a door of one; none, at the door to all.
    pub(super) server: Option<String>,
    /// By server.
    pub(super) behind: tokio::sync::Mutex<HashMap<String, Behind>>,
    last: Mutex<Instant>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

fn fresh() -> Option<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Sessions {
    /// A new one; nothing, when there are too many.
    pub(super) fn begin(&self, who: &Who, server: Option<&str>) -> Option<Arc<Session>> {
        self.prune();
        let mut all = self.0.lock();
        let now = Instant::now();
        let own = all.values().filter(|it| it.who == *who).count();
        if own >= MOST_OF_ONE {
            // A client that ends none of its sessions loses the one that it used least lately.
            let oldest = all.values().filter(|it| it.who == *who);
            let oldest = oldest
                .min_by_key(|it| *it.last.lock())
                .map(|it| it.id.clone());
            if let Some(id) = oldest {
                all.remove(&id);
            }
        }
        let same = all.values().filter(|it| it.who.workspace == who.workspace);
        if all.len() >= MOST || same.count() >= MOST_OF_WORKSPACE {
            return None;
        }
        let session = Arc::new(Session {
            id: fresh()?,
            who: who.clone(),
            server: server.map(str::to_owned),
            behind: tokio::sync::Mutex::default(),
            last: Mutex::new(now),
        });
        all.insert(session.id.clone(), session.clone());
        Some(session)
    }

    /// One that this client began at this door.
    pub(super) fn find(&self, id: &str, who: &Who, server: Option<&str>) -> Option<Arc<Session>> {
        let all = self.0.lock();
        let found = all.get(id)?;
        let now = Instant::now();
        let is_own = found.who == *who && found.server.as_deref() == server;
        let mut last = found.last.lock();
        if !is_own || now.duration_since(*last) >= IDLE {
            return None;
        }
        *last = now;
        Some(found.clone())
    }

    pub(super) fn end(&self, id: &str) -> Option<Arc<Session>> {
        self.0.lock().remove(id)
    }

    /// Ends those that nobody uses.
    pub(super) fn prune(&self) {
        self.0
            .lock()
            .retain(|_, it| it.last.lock().elapsed() < IDLE);
    }

    /// Ends all.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Ends all that lead to a server: it is another one now. At a door to several a session is Skep's own, and stays.
    pub(super) fn end_all(&self, workspace: &Workspace, server: &str) {
        self.0.lock().retain(|_, it| {
            let leads = it.server.as_deref() == Some(server);
            it.who.workspace != *workspace || !leads
        });
    }
}
