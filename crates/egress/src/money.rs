//! Amounts of money, exact: US dollars in billionths.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// Parts of a dollar.
const UNIT: i64 = 1_000_000_000;
/// Digits behind the point.
const DIGITS: usize = 9;

/// US dollars, in billionths. Sums stay at the ends of their range instead of going over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// None.
    pub const ZERO: Self = Self(0);

    /// So many billionths of a dollar.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Billionths of a dollar.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// So many whole dollars.
    #[must_use]
    pub const fn dollars(dollars: i64) -> Self {
        Self(dollars.saturating_mul(UNIT))
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// As dollars with two digits at least: `0.15`, `12.00`, `0.0000375`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (
            self.0.unsigned_abs() / UNIT.unsigned_abs(),
            self.0.unsigned_abs() % UNIT.unsigned_abs(),
        );
        let digits = format!("{part:0DIGITS$}");
        let kept = digits.trim_end_matches('0');
        write!(f, "{sign}{whole}.{kept:0<2}")
    }
}

/// A text is no amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no amount of US dollars; write it like `12.50`, with nine digits behind the point at most"
)]
pub struct NoMoney(String);

impl FromStr for Money {
    type Err = NoMoney;

    fn from_str(text: &str) -> Result<Self, NoMoney> {
        let wrong = || NoMoney(text.chars().take(40).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > DIGITS {
            return Err(wrong());
        }
        let whole: i64 = whole.parse().map_err(|_| wrong())?;
        let part: i64 = format!("{part:0<DIGITS$}").parse().map_err(|_| wrong())?;
        let nanos = whole.checked_mul(UNIT).and_then(|it| it.checked_add(part));
        nanos.map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_and_told() {
        for (text, nanos, told) in [
            ("0.15", 150_000_000, "0.15"),
            ("12", 12_000_000_000, "12.00"),
            ("0.0000375", 37_500, "0.0000375"),
            ("3.000000001", 3_000_000_001, "3.000000001"),
        ] {
            let read: Money = text.parse().unwrap();
            assert_eq!(
                (read.nanos(), read.to_string()),
                (nanos, told.to_owned()),
                "{text}"
            );
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "1,5",
            "1.0000000001",
            "9999999999999",
            " 1",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_again(nanos in 0..i64::MAX) {
            let money = Money::from_nanos(nanos);
            prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
        }
    }
}
