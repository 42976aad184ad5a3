//! What others than endpoints are told, in the same way: to addresses that may be reached, as often, and given up as soon.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use skep_core::Timestamp;
use skep_sources::may_be_asked;

use super::endpoint::place;
use super::life::{Answer, Next, after};
use super::service::Webhooks;

/// What somebody made of what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried(Answer);

/// What becomes of something that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again then.
    Again(Timestamp),
    /// It is not tried any more.
    Over,
}

impl Tried {
    /// Whether it was taken.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.is_good()
    }

    /// For people: nothing of what was answered.
    #[must_use]
    pub fn said(&self) -> String {
        self.0.said()
    }
}

impl Webhooks {
    /// Whether something can be sent to an address, as far as it says itself; where a name leads is seen when it is asked.
    ///
    /// # Errors
    /// Why not.
    pub fn check_url(&self, url: &str) -> Result<(), String> {
        let uri = place(url)?;
        may_be_asked(&self.0.options.reach, &uri).map_err(|why| why.to_string())
    }

    /// Sends something once.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Tried {
        let time = self.0.options.time;
        Tried(self.0.upstream.send(request, time).await)
    }

    /// What becomes of something of which so many tries failed, the last one so.
    #[must_use]
    pub fn next(&self, tries: u32, last: &Tried, now: Timestamp) -> Fate {
        let chance = fastrand::f64();
        match after(&self.0.options.schedule, tries, &last.0, (now, chance)) {
            Next::Again(due) => Fate::Again(due),
            Next::Delivered | Next::Dead => Fate::Over,
        }
    }
}
