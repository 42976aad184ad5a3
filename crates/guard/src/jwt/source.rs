//! The keys of one issuer: given, or behind a URL. Those behind a URL are fetched before anybody waits
//! for them and kept while the issuer is away, for a bounded time. A token with an unknown key lets them
//! be fetched once more, but many such tokens do not: [`ASK_EVERY`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;

use super::Refusal;
use super::key::{Key, KeySet};

/// Bytes of a JWK set.
pub const MOST_KEY_SET: usize = 256 << 10;
/// Time that a fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// The wait after a fetch that failed.
const RETRY: Duration = Duration::from_secs(15);
/// How often tokens with unknown keys let the keys be fetched, at most.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What a [`Fetch`] gives in the end.
pub type Fetched<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Gets what is behind a URL.
pub trait Fetch: Send + Sync {
    /// The body of a 200, of at most [`MOST_KEY_SET`] bytes. Nothing is followed: a redirection is an
    /// error.
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a>;
}

/// Where the keys of an issuer come from.
#[derive(Clone)]
pub(super) enum Origin {
    Given(KeySet),
    Url(Remote),
}

/// Keys behind a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) url: String,
    pub(super) algorithms: Vec<Algorithm>,
    /// How often they are fetched.
    pub(super) refresh: Duration,
    /// How long they count while the issuer is away.
    pub(super) keep: Duration,
}

/// How the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// How many count now.
    pub keys: usize,
    /// When they were fetched; of given ones nothing.
    pub age: Option<Duration>,
    /// What the last fetch said, when it failed.
    pub failure: Option<String>,
}

/// What is known of keys behind a URL.
#[derive(Default)]
struct Known {
    keys: Option<(KeySet, Instant)>,
    /// When a token let them be fetched.
    asked: Option<Instant>,
    failure: Option<String>,
}

impl Known {
    fn at(&self, now: Instant, keep: Duration) -> Option<&KeySet> {
        let (keys, fetched) = self.keys.as_ref()?;
        (now.saturating_duration_since(*fetched) <= keep).then_some(keys)
    }

    /// Whether a token with an unknown key may let them be fetched; then the next may not.
    fn may_ask(&mut self, now: Instant) -> bool {
        let waits = |asked: Instant| now.saturating_duration_since(asked) < ASK_EVERY;
        if self.asked.is_some_and(waits) {
            return false;
        }
        self.asked = Some(now);
        true
    }
}

/// The keys of one issuer.
pub(super) struct Source {
    origin: Origin,
    known: Mutex<Known>,
    /// Held while they are fetched: who comes meanwhile waits for what comes of it.
    fetching: tokio::sync::Mutex<()>,
    fetch: Arc<dyn Fetch>,
}

impl Source {
    pub(super) fn new(origin: Origin, fetch: Arc<dyn Fetch>) -> Self {
        Self {
            origin,
            known: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            fetch,
        }
    }

    /// Takes the keys that another one has fetched from the same place.
    pub(super) fn take_over(&self, old: &Self) {
        if let (Origin::Url(own), Origin::Url(other)) = (&self.origin, &old.origin)
            && own == other
        {
            self.known.lock().keys.clone_from(&old.known.lock().keys);
        }
    }

    /// The key of this name.
    pub(super) async fn key(&self, kid: Option<&str>) -> Result<Key, Refusal> {
        let remote = match &self.origin {
            Origin::Given(keys) => return keys.find(kid).cloned().ok_or(Refusal::Key),
            Origin::Url(remote) => remote,
        };
        if let Ok(key) = self.look(remote, kid) {
            return Ok(key);
        }
        let guard = self.fetching.lock().await;
        // Somebody may have fetched it meanwhile.
        let missing = match self.look(remote, kid) {
            Ok(key) => return Ok(key),
            Err(missing) => missing,
        };
        if !self.known.lock().may_ask(Instant::now()) {
            return Err(missing);
        }
        self.fetch(remote).await;
        drop(guard);
        self.look(remote, kid)
    }

    fn look(&self, remote: &Remote, kid: Option<&str>) -> Result<Key, Refusal> {
        let known = self.known.lock();
        let keys = known.at(Instant::now(), remote.keep);
        let keys = keys.ok_or(Refusal::Unreachable)?;
        keys.find(kid).cloned().ok_or(Refusal::Key)
    }

    /// Fetches the keys; those that there are stay when that fails.
    async fn fetch(&self, remote: &Remote) -> bool {
        let got = tokio::time::timeout(FETCH_TIME, self.fetch.get(&remote.url)).await;
        let got = got.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let read = got.and_then(|text| {
            if text.len() > MOST_KEY_SET {
                return Err(format!("more than {MOST_KEY_SET} bytes"));
            }
            KeySet::jwks(&text, &remote.algorithms)
        });
        let mut known = self.known.lock();
        let failure = match read {
            Ok(keys) => {
                known.keys = Some((keys, Instant::now()));
                None
            }
            Err(failure) => Some(failure),
        };
        known.failure = failure;
        known.failure.is_none()
    }

    /// Fetches the keys again and again. Ends at once when they are given.
    pub(super) async fn keep_fresh(&self, issuer: &str) {
        let Origin::Url(remote) = &self.origin else {
            return;
        };
        let mut was_well = None;
        loop {
            let guard = self.fetching.lock().await;
            let is_well = self.fetch(remote).await;
            drop(guard);
            if was_well.replace(is_well) != Some(is_well) {
                let reason = self.known.lock().failure.clone();
                match reason {
                    None => tracing::info!(issuer, url = remote.url, "keys fetched"),
                    Some(reason) => {
                        tracing::warn!(
                            issuer,
                            url = remote.url,
                            reason,
                            "the issuer's keys could not be fetched; those that are known count on"
                        );
                    }
                }
            }
            let wait = if is_well {
                remote.refresh
            } else {
                remote.refresh.min(RETRY)
            };
            tokio::time::sleep(wait).await;
        }
    }

    pub(super) fn condition(&self) -> Condition {
        let remote = match &self.origin {
            Origin::Given(keys) => {
                return Condition {
                    keys: keys.len(),
                    age: None,
                    failure: None,
                };
            }
            Origin::Url(remote) => remote,
        };
        let known = self.known.lock();
        let now = Instant::now();
        let fetched = known.keys.as_ref().map(|(_, fetched)| *fetched);
        Condition {
            keys: known.at(now, remote.keep).map_or(0, KeySet::len),
            age: fetched.map(|it| now.saturating_duration_since(it)),
            failure: known.failure.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_let_keys_be_fetched_now_and_then_only() {
        let mut known = Known::default();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(known.may_ask(start));
        assert!(!known.may_ask(later(9)));
        assert!(known.may_ask(later(10)));
        assert!(!known.may_ask(later(11)));
    }

    #[test]
    fn keys_count_for_a_bounded_time_while_the_issuer_is_away() {
        let (start, keep) = (Instant::now(), Duration::from_secs(60));
        let mut known = Known::default();
        assert!(known.at(start, keep).is_none());
        known.keys = Some((KeySet::empty(), start));
        assert!(known.at(start + keep, keep).is_some());
        assert!(
            known
                .at(start + keep + Duration::from_secs(1), keep)
                .is_none()
        );
    }
}
