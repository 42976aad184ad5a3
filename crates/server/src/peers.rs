//! The servers that share a database: which live, which of them has an agent, and which leads.
//!
//! Each server says every second that it lives ([`Db::beat`]). One that another has not seen do so
//! for some seconds of its own clock, while its own beats went through, is ended by that other; the
//! store sees to it that it commits nothing from then on, and its agents are free to be taken
//! ([`share`]). A request for an agent that another server has goes on to that one ([`forward`]).
//! No clock is compared with another's. With etcd ([`etcd`]) its leases say who lives. With a store of its own a server has no peers, and none of
//! this runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use skep_core::Workspace;
use skep_core::config::Settings;
use skep_store::{Beat, Db, ServerRow};
use tokio::sync::watch;

use crate::ServerError;
use crate::state::State;
use crate::tls::Tls;

mod etcd;
pub(crate) mod forward;
pub(crate) mod gather;
pub(crate) mod route;
pub(crate) mod share;

use etcd::{Etcd, Standing};
use forward::Wire;

/// How often a server says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A server that was not seen to beat for so long is ended.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// With etcd it is its leases that take time, and this is only for a server that is about to enter.
const ABSENT_AFTER: Duration = Duration::from_secs(2);
/// The longest that a request waits for an agent whose server is gone.
pub(crate) const TAKEOVER: Duration = Duration::from_secs(20);

/// Where an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this server, or nowhere.
    Here,
    /// On another.
    There(Peer),
    /// On one that is gone, or on its way to one.
    Soon,
}

/// A server as requests reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) epoch: i64,
    pub(crate) url: String,
    pub(crate) secret: [u8; 32],
}

impl Peer {
    fn of(row: &ServerRow) -> Option<Self> {
        let secret = row.secret?;
        Some(Self {
            epoch: row.epoch,
            url: row.url.clone(),
            secret,
        })
    }
}

/// What is known of the others, as of the last look.
#[derive(Debug, Clone, Default)]
struct View {
    /// Those that live, this one included, oldest first.
    servers: Vec<ServerRow>,
    owners: HashMap<Workspace, BTreeMap<String, i64>>,
    /// What etcd said at the last look, when it is asked.
    standing: Option<Standing>,
}

/// The servers that share the database.
pub(crate) struct Peers {
    db: Db,
    url: String,
    secret: [u8; 32],
    view: RwLock<Arc<View>>,
    /// Counts the looks, for those who wait for a change.
    looks: watch::Sender<u64>,
    pub(crate) wire: Option<Wire>,
    etcd: Option<Etcd>,
    etcd_away: AtomicBool,
}

impl Peers {
    /// What this server knows before its first look: nothing. `url` is where others reach it.
    pub(crate) fn new(
        db: Db,
        url: String,
        settings: &Settings,
        tls: Option<&Arc<Tls>>,
    ) -> Result<Self, ServerError> {
        let certificate = settings.tls_cert.as_deref();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| ServerError::Random(error.to_string()))?;
        let wire = match db.is_shared() {
            true => Some(Wire::new(certificate, tls)?),
            false => None,
        };
        let (endpoints, prefix) = (&settings.servers_etcd, &settings.servers_etcd_prefix);
        let etcd = match db.is_shared() && !endpoints.is_empty() {
            true => Some(Etcd::new(endpoints, prefix, db.epoch(), certificate)?),
            false => None,
        };
        Ok(Self {
            etcd,
            etcd_away: AtomicBool::new(false),
            db,
            url,
            secret,
            view: RwLock::default(),
            looks: watch::Sender::new(0),
            wire,
        })
    }

    /// Whether there may be others at all.
    pub(crate) fn is_shared(&self) -> bool {
        self.wire.is_some()
    }

    /// The servers that live, oldest first.
    pub(crate) fn servers(&self) -> Vec<ServerRow> {
        self.view.read().servers.clone()
    }

    /// The others that live and can be asked.
    pub(crate) fn others(&self) -> Vec<Peer> {
        let me = self.db.epoch();
        let view = self.view.read().clone();
        let others = view.servers.iter().filter(|row| row.epoch != me);
        others.filter_map(Peer::of).collect()
    }

    /// The server that does what one of them is to do: the oldest that lives.
    pub(crate) fn leader(&self) -> Option<i64> {
        let view = self.view.read().clone();
        match (&self.etcd, &view.standing) {
            (Some(_), standing) => standing.as_ref()?.leader,
            (None, _) => view.servers.first().map(|row| row.epoch),
        }
    }

    /// Whether that is this one.
    pub(crate) fn leads(&self) -> bool {
        !self.is_shared() || self.leader() == Some(self.db.epoch())
    }

    /// The last word to the others.
    pub(crate) async fn leave(&self) {
        if let Some(etcd) = &self.etcd {
            etcd.leave().await;
        }
    }

    /// Whether somebody shows the secret that only servers of this database know.
    pub(crate) fn is_own_secret(&self, shown: &[u8]) -> bool {
        let differing = shown.iter().zip(&self.secret).map(|(a, b)| a ^ b);
        shown.len() == self.secret.len() && differing.fold(0, |all, bits| all | bits) == 0
    }

    /// Where an agent is that is not on this server.
    pub(crate) fn find(&self, workspace: &Workspace, agent: &str) -> Place {
        let view = self.view.read().clone();
        let owner = view.owners.get(workspace).and_then(|of| of.get(agent));
        let Some(owner) = owner else {
            return Place::Here;
        };
        if *owner == self.db.epoch() {
            return Place::Soon;
        }
        let row = view.servers.iter().find(|row| row.epoch == *owner);
        row.and_then(Peer::of).map_or(Place::Soon, Place::There)
    }

    /// The agents of a workspace that servers have, as of the last look.
    pub(crate) fn agents(&self, workspace: &Workspace) -> Vec<String> {
        let view = self.view.read();
        let owners = view.owners.get(workspace).map(BTreeMap::keys);
        owners.into_iter().flatten().cloned().collect()
    }

    /// The server that a new agent is to be on: the one with the fewest, this one before others.
    pub(crate) fn emptiest(&self, here: usize) -> Place {
        let me = self.db.epoch();
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        let others = next.servers.iter_mut();
        let others = others.filter(|row| row.epoch != me && row.secret.is_some());
        let best = others.min_by_key(|row| row.agents);
        let Some(best) = best.filter(|row| (row.agents as usize) < here) else {
            return Place::Here;
        };
        // Until it says so itself.
        best.agents += 1;
        let peer = Peer::of(best);
        *view = Arc::new(next);
        peer.map_or(Place::Here, Place::There)
    }

    /// Whether the server of this epoch lives, as of the last look.
    pub(crate) fn lives(&self, epoch: i64) -> bool {
        let view = self.view.read();
        view.servers.iter().any(|row| row.epoch == epoch)
    }

    /// Notes who has which agent.
    pub(crate) fn note_owners(&self, workspace: &Workspace, owners: BTreeMap<String, i64>) {
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        next.owners.insert(workspace.clone(), owners);
        *view = Arc::new(next);
        drop(view);
        self.looks.send_modify(|looks| *looks += 1);
    }

    /// Waits for the next look at the others, and not for ever.
    pub(crate) async fn looked(&self) {
        let mut looks = self.looks.subscribe();
        let _ = tokio::time::timeout(BEAT_EVERY, looks.changed()).await;
    }

    /// Says once that this server lives, and looks who else does.
    pub(crate) async fn look(&self, agents: usize) -> Result<(), skep_store::StoreError> {
        let beat = Beat {
            url: self.url.clone(),
            secret: self.secret,
            agents: u32::try_from(agents).unwrap_or(u32::MAX),
        };
        let servers = self.db.beat(beat).await?;
        let standing = match &self.etcd {
            None => None,
            Some(etcd) => {
                let standing = etcd.look().await;
                let away = standing.is_err();
                if self.etcd_away.swap(away, Ordering::Relaxed) != away {
                    match &standing {
                        Ok(_) => tracing::info!("etcd says again who lives"),
                        Err(reason) => tracing::warn!(reason, "etcd does not say who lives"),
                    }
                }
                standing.ok()
            }
        };
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        next.servers = servers;
        next.standing = standing;
        *view = Arc::new(next);
        drop(view);
        if let Some(wire) = &self.wire {
            wire.prune(&self.others());
        }
        self.looks.send_modify(|looks| *looks += 1);
        Ok(())
    }
}

/// When the others' beats were seen last, by this server's clock.
#[derive(Debug, Default)]
struct Seen(HashMap<i64, (i64, Instant)>);

impl Seen {
    /// Those that have not beaten for too long, of those that are said to live. With etcd its keys
    /// are the beats.
    fn gone<'r>(
        &mut self,
        servers: &'r [ServerRow],
        etcd: Option<&Standing>,
        now: Instant,
    ) -> Vec<&'r ServerRow> {
        self.0
            .retain(|epoch, _| servers.iter().any(|row| row.epoch == *epoch));
        let late = |row: &&ServerRow| {
            let seen = self.0.entry(row.epoch).or_insert((row.beat, now));
            let (beats, patience) = match etcd {
                Some(standing) => (standing.living.contains(&row.epoch), ABSENT_AFTER),
                None => (seen.0 != row.beat, GONE_AFTER),
            };
            if beats {
                *seen = (row.beat, now);
            }
            now.duration_since(seen.1) >= patience
        };
        servers.iter().filter(late).collect()
    }

    /// Nothing was seen of anybody: a database that was away kept all of them from beating.
    fn forget(&mut self) {
        self.0.clear();
    }
}

/// Says that this server lives, and ends those that do not.
pub(crate) async fn beat(state: &State) {
    let mut tick = tokio::time::interval(BEAT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let me = state.db.epoch();
    let mut seen = Seen::default();
    loop {
        tick.tick().await;
        let began = Instant::now();
        let agents = share::held(state);
        if state.peers.look(agents).await.is_err() || began.elapsed() > BEAT_EVERY {
            // What the others could not do either says nothing of them.
            seen.forget();
            continue;
        }
        let view = state.peers.view.read().clone();
        if state.peers.etcd.is_some() && view.standing.is_none() {
            seen.forget();
            continue;
        }
        for row in seen.gone(&view.servers, view.standing.as_ref(), Instant::now()) {
            if row.epoch == me {
                continue;
            }
            match state.db.end_server(row).await {
                Ok(true) => {
                    tracing::warn!(server = %row.server, epoch = row.epoch, url = row.url, "a server is gone: its agents are free");
                    state.peers.looks.send_modify(|looks| *looks += 1);
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "a server that is gone was not ended"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_core::{ServerId, Timestamp};

    use super::*;

    fn row(epoch: i64, beat: i64) -> ServerRow {
        ServerRow {
            epoch,
            server: ServerId::new(),
            beat,
            url: String::new(),
            secret: None,
            agents: 0,
            started_at: Timestamp::from_micros(0),
        }
    }

    #[test]
    fn a_server_is_gone_when_it_was_not_seen_to_beat_for_long_enough() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let late = start + GONE_AFTER;
        let epochs = |rows: Vec<&ServerRow>| rows.iter().map(|row| row.epoch).collect::<Vec<_>>();
        assert!(seen.gone(&[row(1, 7), row(2, 7)], None, start).is_empty());
        // The second has beaten meanwhile, the third is new, whatever its beats say.
        let rows = [row(1, 7), row(2, 8), row(3, 0)];
        assert_eq!(epochs(seen.gone(&rows, None, late)), [1]);
        assert_eq!(epochs(seen.gone(&rows, None, late + GONE_AFTER)), [1, 2, 3]);
        // Nothing was seen for a while: it begins again.
        seen.forget();
        assert!(seen.gone(&rows, None, late + GONE_AFTER * 2).is_empty());
    }

    #[test]
    fn with_etcd_it_is_gone_when_its_key_is() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let standing = |epochs: &[i64]| Standing {
            living: epochs.iter().copied().collect(),
            leader: epochs.first().copied(),
        };
        let rows = [row(1, 7), row(2, 7)];
        let one = standing(&[1]);
        // The second is about to enter.
        assert!(seen.gone(&rows, Some(&one), start).is_empty());
        let later = start + ABSENT_AFTER;
        // It beats in the database, and that does not count.
        let rows = [row(1, 7), row(2, 9)];
        let gone = seen.gone(&rows, Some(&one), later);
        assert_eq!(gone.iter().map(|row| row.epoch).collect::<Vec<_>>(), [2]);
        assert!(seen.gone(&rows, Some(&standing(&[1, 2])), later).is_empty());
    }
}
