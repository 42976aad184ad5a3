//! From where on something is found.

use std::time::Duration;

use skep_core::units::Rate;

use super::Kind;

/// So many within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// How many.
    pub count: usize,
    /// Within how long.
    pub within: Duration,
}

impl From<Rate> for Burst {
    fn from(rate: Rate) -> Self {
        Self {
            count: usize::try_from(rate.count).unwrap_or(usize::MAX),
            within: rate.per,
        }
    }
}

/// From where on something is found, and what is not looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Refusals of a principal.
    pub denials: Burst,
    /// Failed authentications of an address.
    pub failures: Burst,
    /// Requests of a principal; more than that are found.
    pub rate: Burst,
    /// Networks that a principal asks from; more than that are found.
    pub networks: Burst,
    /// Requests from an address that look like tries.
    pub patterns: Burst,
    /// Different things that an address asks for and that are not there.
    pub missing: Burst,
    /// Requests of a principal for workspaces of others.
    pub foreign: Burst,
    /// What is not told.
    off: [bool; Kind::ALL.len()],
}

impl Rules {
    /// The most that a burst counts to; a rate is only counted.
    pub const MOST: usize = 1_000;
    /// The most networks.
    pub const MOST_NETWORKS: usize = 60;
    /// The most different things that are not there.
    pub const MOST_MISSING: usize = 200;

    /// Does not tell of this.
    pub const fn turn_off(&mut self, kind: Kind) {
        self.off[kind as usize] = true;
    }

    /// Whether it is told.
    #[must_use]
    pub const fn has(&self, kind: Kind) -> bool {
        !self.off[kind as usize]
    }
}

const fn burst(count: usize, seconds: u64) -> Burst {
    let within = Duration::from_secs(seconds);
    Burst { count, within }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            denials: burst(20, 60),
            failures: burst(20, 60),
            rate: burst(20_000, 1),
            networks: burst(5, 600),
            patterns: burst(5, 600),
            missing: burst(50, 600),
            foreign: burst(5, 600),
            off: [false; Kind::ALL.len()],
        }
    }
}
