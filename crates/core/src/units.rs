//! Sizes and durations as people write them: `64KiB`, `10MB`, `250ms`, `1h30m`.

use std::time::Duration;

const BINARY: [(&str, u64); 5] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("b", 1),
];
const SHORT: [(&str, u64); 8] = [
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// A size in bytes from `512`, `64KiB`, `2Gi` or `10MB`; `None` when it is none.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let count: u64 = digits.trim().parse().ok()?;
    let scale = match unit {
        "" => 1,
        _ => {
            BINARY
                .iter()
                .chain(&SHORT)
                .find(|(name, _)| *name == unit)?
                .1
        }
    };
    count.checked_mul(scale)
}

/// The size as the largest binary unit that divides it: `64KiB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// A duration from `250ms`, `30s`, `5m`, `1h30m` or `7d`; `None` when it is none.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |length| digits + length);
        let micros = match rest[digits..unit_end].trim() {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000_u64,
            _ => return None,
        };
        total = total.checked_add(Duration::from_micros(count.checked_mul(micros)?))?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

/// The duration as people write it, exact to the microsecond: `1h30m`, `250ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, scale) in [
        ("d", 86_400_000_000_u64),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ] {
        if micros >= scale {
            out.push_str(&format!("{}{unit}", micros / scale));
            micros %= scale;
        }
    }
    out
}

/// A number of requests in a time: `600/1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// So many.
    pub count: u32,
    /// Within this.
    pub per: Duration,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (count, per) = text.trim().split_once('/')?;
            let count = count.trim().parse().ok().filter(|count| *count > 0)?;
            let per = parse_duration(per).filter(|per| !per.is_zero() && *per <= LONGEST_RATE)?;
            Some(Self { count, per })
        };
        read().ok_or_else(|| format!("`{text}` is no rate such as 600/1m (within a day at most)"))
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.count, format_duration(self.per))
    }
}

/// The longest time of a rate.
const LONGEST_RATE: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("2Gi"), Some(2 << 30));
        assert_eq!(parse_bytes("10 MB"), Some(10_000_000));
        assert_eq!(parse_bytes("512"), Some(512));
        for bad in ["", "KiB", "-1", "1.5GiB", "12parsecs", "99999999999999TiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "5", "s", "1x", "-3s", "99999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, micros in 0..=u64::MAX / 2) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }

    #[test]
    fn rates_are_a_number_in_a_time() {
        for (text, shown) in [
            ("600/1m", "600/1m"),
            (" 5 / 90s ", "5/1m30s"),
            ("1/1d", "1/24h"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate, "{shown}");
        }
        for wrong in ["", "600", "0/1m", "600/0", "x/1m", "600/x", "1/2d", "-1/1s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
