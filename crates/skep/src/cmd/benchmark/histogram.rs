//! Latencies in buckets that grow with them: every percentile is off by less than a percent, however
//! many values there are.

use std::time::Duration;

/// Buckets to a power of two: a bucket is at most 1/128 of its value wide.
const STEPS: u64 = 128;
const BITS: u32 = STEPS.trailing_zeros();
/// Values over this (about 12 days, in microseconds) count as this.
const MOST: u64 = (1 << 40) - 1;

/// Counted durations.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    least: u64,
    most: u64,
}

fn index(micros: u64) -> usize {
    let exponent = (micros | STEPS).ilog2() - BITS;
    let index = u64::from(exponent) * STEPS + (micros >> exponent);
    // Below 2^13 for any value up to `MOST`.
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The least value of a bucket.
fn lower(index: usize) -> u64 {
    let index = index as u64;
    let exponent = (index / STEPS).saturating_sub(1);
    (index - exponent * STEPS) << exponent
}

impl Histogram {
    pub(super) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros())
            .unwrap_or(MOST)
            .min(MOST);
        let index = index(micros);
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.least = if self.count == 0 {
            micros
        } else {
            self.least.min(micros)
        };
        self.most = self.most.max(micros);
        self.count += 1;
        self.sum += u128::from(micros);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (slot, count) in self.counts.iter_mut().zip(&other.counts) {
            *slot += count;
        }
        self.least = if self.count == 0 {
            other.least
        } else {
            self.least.min(other.least)
        };
        self.most = self.most.max(other.most);
        self.count += other.count;
        self.sum += other.sum;
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The value below or at which this share of all is, in milliseconds; 0 of nothing.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let middle = u64::midpoint(lower(index), lower(index + 1) - 1);
                return millis(middle.clamp(self.least, self.most));
            }
        }
        0.0
    }

    pub(super) fn least(&self) -> f64 {
        millis(self.least)
    }

    pub(super) fn most(&self) -> f64 {
        millis(self.most)
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64 / 1_000.0
    }

    /// The buckets with something in them: their least value in milliseconds, and how many.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let all = self.counts.iter().enumerate();
        let filled = all.filter(|(_, count)| **count > 0);
        filled
            .map(|(index, count)| (millis(lower(index)), *count))
            .collect()
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(Duration::from_micros(*value));
        }
        histogram
    }

    #[test]
    fn every_value_is_in_the_bucket_that_holds_it() {
        let near = (0..40).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in near.chain(0..1_000) {
            let at = index(value);
            assert!(lower(at) <= value && value < lower(at + 1), "{value}");
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values(
            drawn in prop::collection::vec((0..40_u32, 0..u32::MAX), 1..400),
            share in 0.0..=1.0_f64,
        ) {
            // Of every size, not only large ones.
            let size = |(bits, value): (u32, u32)| u64::from(value) << 8 >> bits;
            let mut values: Vec<u64> = drawn.into_iter().map(size).collect();
            let (left, right) = values.split_at(values.len() / 2);
            let mut both = of(left);
            both.merge(&of(right));
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64 / 1_000.0;
            let found = both.quantile(share);
            prop_assert!((found - exact).abs() <= exact * 0.01, "{found} for {exact}");
            prop_assert_eq!(both.count(), values.len() as u64);
            prop_assert_eq!(both.most(), *values.last().unwrap() as f64 / 1_000.0);
            prop_assert_eq!(both.least(), values[0] as f64 / 1_000.0);
            let held: u64 = both.buckets().iter().map(|bucket| bucket.1).sum();
            prop_assert_eq!(held, both.count());
        }
    }

    #[test]
    fn nothing_has_no_percentiles() {
        let empty = Histogram::default();
        assert_eq!(
            (empty.quantile(0.5), empty.mean(), empty.most()),
            (0.0, 0.0, 0.0)
        );
    }
}
