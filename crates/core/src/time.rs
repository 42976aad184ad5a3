//! Time: a timestamp in microseconds, its RFC 3339 form, and a clock that never goes back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A moment, in microseconds since 1970-01-01 UTC. This is how times are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment that many microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The system's wall clock, which may jump. Use a [`Clock`] for anything that is stored.
    #[must_use]
    pub fn system_now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// This moment plus a duration; the largest moment when that would overflow.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// This moment minus a duration; the smallest moment when that would overflow.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// The time from `earlier` to this moment; zero when `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Timestamp {
    /// The day (UTC) that it is in, in days since 1970-01-01.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(DAY)
    }

    /// When a day (UTC) begins, of its days since 1970-01-01.
    #[must_use]
    pub const fn of_day(day: i64) -> Self {
        Self(day.saturating_mul(DAY))
    }

    /// When a day (UTC) begins that is written as `2026-11-21`.
    ///
    /// # Errors
    /// [`ParseTimestampError`], when it is written otherwise.
    pub fn of_date(text: &str) -> Result<Self, ParseTimestampError> {
        format!("{text}T00:00:00Z").parse()
    }

    /// Its day (UTC), as `2026-11-21`.
    #[must_use]
    pub fn date(self) -> String {
        let text = self.to_string();
        text.split('T').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds: `2026-11-21T04:54:08.123456Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => write!(f, "{moment:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-11-21T04:54:08Z")]
pub struct ParseTimestampError(String);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>()
            .map(|moment| Self(moment.as_microsecond()))
            .map_err(|_| ParseTimestampError(text.chars().take(64).collect()))
    }
}

/// A clock that never goes back: it follows the monotonic clock from where it started, moves
/// forward with the wall clock, and starts no earlier than the last moment that was stored.
///
/// A due time that is stored stays meaningful when somebody sets the system's clock back.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<ClockInner>,
}

#[derive(Debug)]
struct ClockInner {
    started: Instant,
    base: AtomicI64,
}

impl Clock {
    /// A clock that starts now, or at `floor` when the wall clock is behind it.
    #[must_use]
    pub fn starting_at(floor: Timestamp) -> Self {
        let base = Timestamp::system_now().max(floor);
        Self {
            inner: Arc::new(ClockInner {
                started: Instant::now(),
                base: AtomicI64::new(base.0),
            }),
        }
    }

    /// The current moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.inner.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        let ahead = Timestamp::system_now().0.saturating_sub(elapsed);
        let base = self
            .inner
            .base
            .fetch_max(ahead, Ordering::Relaxed)
            .max(ahead);
        Timestamp(base.saturating_add(elapsed))
    }

    /// How far the wall clock is behind this one (zero unless somebody set it back).
    #[must_use]
    pub fn wall_clock_lag(&self) -> Duration {
        self.now().since(Timestamp::system_now())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::starting_at(Timestamp::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_is_written_as_a_date() {
        let moment: Timestamp = "2026-11-21T23:59:59.999999Z".parse().unwrap();
        let begins = Timestamp::of_date("2026-11-21").unwrap();
        assert_eq!(
            (moment.day(), Timestamp::of_day(moment.day())),
            (begins.day(), begins)
        );
        assert_eq!(moment.date(), "2026-11-21");
        assert_eq!(Timestamp::from_micros(-1).date(), "1969-12-31");
        assert_eq!(Timestamp::from_micros(-1).day(), -1);
        assert!(Timestamp::of_date("2026-11-21T00").is_err());
    }

    #[test]
    fn prints_and_reads_rfc_3339() {
        let moment = Timestamp::from_micros(1_795_236_848_123_456);
        assert_eq!(moment.to_string(), "2026-11-21T04:54:08.123456Z");
        assert_eq!("2026-11-21T04:54:08.123456Z".parse(), Ok(moment));
        assert_eq!("2026-11-21T05:54:08.123456+01:00".parse(), Ok(moment));
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn clock_starts_at_the_floor_when_the_wall_clock_went_back() {
        let floor = Timestamp::system_now().plus(Duration::from_secs(3600));
        let clock = Clock::starting_at(floor);
        let first = clock.now();
        assert!(first >= floor);
        assert!(clock.now() >= first);
        assert!(clock.wall_clock_lag() > Duration::from_secs(3500));
    }
}
