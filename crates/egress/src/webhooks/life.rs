//! What becomes of a message that was tried, and of its endpoint. No I/O; time and chance are given.

use std::time::Duration;

use skep_core::Timestamp;

/// The longest time that an endpoint may ask for before it is tried again.
const MOST_WISH: Duration = Duration::from_secs(24 * 3600);
/// A wait is longer by up to this part of it, so that what failed together does not come back together.
const JITTER: f64 = 0.25;
/// Tries of a message.
const MOST_TRIES: usize = 32;

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for its first try, or for another one.
    Waiting,
    /// Its endpoint took it.
    Delivered,
    /// It is not tried any more, until somebody says so.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Dead];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// When messages are tried again, and when an endpoint is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The waits between one try and the next. After the last one a message is dead.
    pub waits: Vec<Duration>,
    /// An endpoint that failed for so long, and took nothing meanwhile, is turned off.
    pub give_up: Duration,
}

impl Schedule {
    /// Whether it can be kept to.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        match self.waits.len() < MOST_TRIES {
            true => Ok(()),
            false => Err(format!("at most {} waits", MOST_TRIES - 1)),
        }
    }
}

/// What an endpoint made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It answered with this status, and perhaps said when to come back.
    Status(u16, Option<Duration>),
    /// It could not be asked, in a few words that tell nothing of what it said.
    Failed(&'static str),
}

impl Answer {
    pub(crate) const fn is_good(&self) -> bool {
        matches!(self, Self::Status(200..=299, _))
    }

    const fn is_gone(&self) -> bool {
        matches!(self, Self::Status(410, _))
    }

    /// For people.
    pub(crate) fn said(&self) -> String {
        match self {
            Self::Status(status @ 300..=399, _) => {
                format!("it answered {status}, and redirects are not followed")
            }
            Self::Status(status, _) => format!("it answered {status}"),
            Self::Failed(why) => (*why).to_owned(),
        }
    }

    /// When it wants to be asked again at the earliest.
    pub(crate) fn wish(&self) -> Option<Duration> {
        match self {
            Self::Status(_, wish) if !self.is_good() => wish.map(|it| it.min(MOST_WISH)),
            _ => None,
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has arrived.
    Delivered,
    /// It is tried again then.
    Again(Timestamp),
    /// It is not tried any more.
    Dead,
}

/// What becomes of a message whose try number `tries` (from 1) ended so. `chance` is in 0..1.
pub(crate) fn after(
    schedule: &Schedule,
    tries: u32,
    answer: &Answer,
    (now, chance): (Timestamp, f64),
) -> Next {
    if answer.is_good() {
        return Next::Delivered;
    }
    if answer.is_gone() {
        return Next::Dead;
    }
    let at = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(wait) = schedule.waits.get(at) else {
        return Next::Dead;
    };
    let longer = wait.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
    let wait = answer.wish().map_or(longer, |wish| wish.max(longer));
    Next::Again(now.plus(wait))
}

/// Why an endpoint turns itself off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It said that it is gone.
    Gone,
    /// It failed for too long.
    Failing,
}

/// What becomes of an endpoint after an answer: since when it fails without a break, and whether that is its end.
/// `since` is what this told the last time.
pub(crate) fn fares(
    schedule: &Schedule,
    since: Option<Timestamp>,
    answer: &Answer,
    now: Timestamp,
) -> (Option<Timestamp>, Option<Ends>) {
    if answer.is_good() {
        return (None, None);
    }
    let since = since.map_or(now, |it| it.min(now));
    let ends = match answer {
        answer if answer.is_gone() => Some(Ends::Gone),
        _ if now.since(since) >= schedule.give_up => Some(Ends::Failing),
        _ => None,
    };
    (Some(since), ends)
}
