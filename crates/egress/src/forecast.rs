//! What a month will have cost when it ends, if it goes on as it went of late. No I/O.

use skep_core::Timestamp;

use crate::llm::Window;
use crate::money::Money;

/// Days before today that tell how it goes.
pub(crate) const LATE: i64 = 7;

/// What a month costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// When it began.
    pub since: Timestamp,
    /// What it cost until now.
    pub cost: Money,
    /// What it will have cost, when each day that is left costs what those of late did on average.
    pub whole: Money,
}

/// Of costs by day (days since 1970-01-01), from `LATE` days before the month or now on, whichever is earlier.
pub(crate) fn forecast(days: &[(i64, Money)], now: Timestamp) -> Forecast {
    let (since, today) = (Window::Month.start(now), now.day());
    let sum = |from: i64, to: i64| -> Money {
        let of = days.iter().filter(|(day, _)| (from..to).contains(day));
        of.map(|(_, cost)| *cost).sum()
    };
    let cost = sum(since.day(), today + 1);
    let first = days.iter().map(|(day, _)| *day).min().unwrap_or(today);
    let from = first.max(today - LATE);
    // Today counts, too, when there is no day before it.
    let (late, count) = match today - from {
        0 => (sum(today, today + 1), 1),
        count => (sum(from, today), count),
    };
    let rest = Window::Month.rest(now).unwrap_or_default().as_micros();
    let rest = i128::try_from(rest).unwrap_or(i128::MAX);
    let day = i128::from(count) * 86_400_000_000;
    let more = i128::from(late.nanos()).saturating_mul(rest) / day;
    let more = Money::from_nanos(i64::try_from(more).unwrap_or(i64::MAX));
    Forecast {
        since,
        cost,
        whole: cost + more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cents(cents: i64) -> Money {
        Money::from_nanos(cents * 10_000_000)
    }

    #[test]
    fn a_month_goes_on_as_it_went_of_late() {
        // 2026-11-22, noon: 8.5 days are left.
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let today = now.day();
        assert_eq!(forecast(&[], now).whole, Money::ZERO);
        // A dollar on each of the last seven days, and ten on the first of the month.
        let mut days: Vec<(i64, Money)> = (1..=7).map(|it| (today - it, cents(100))).collect();
        days.push((today - 21, cents(1_000)));
        let found = forecast(&days, now);
        assert_eq!(found.since.date(), "2026-11-01");
        assert_eq!(found.cost, cents(1_700));
        assert_eq!(found.whole, cents(1_700 + 850));
        // What was before the month tells how it goes, and is none of its costs.
        let first: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let before = [(first.day() - 1, cents(200))];
        let found = forecast(&before, first);
        assert_eq!((found.cost, found.whole), (Money::ZERO, cents(200 * 30)));
        // Only today is known.
        let found = forecast(&[(today, cents(100))], now);
        assert_eq!((found.cost, found.whole), (cents(100), cents(950)));
    }
}
