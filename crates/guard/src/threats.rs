//! What looks like an attack: a pure machine that sees what happens at the door and says what it finds.
//! Signals and the time go in, findings come out; it keeps nothing on disk and asks nobody. [`rows`] keeps
//! the findings.
//!
//! It stands in guard, beside who may do what, because it judges principals; the audit log only tells what
//! was decided. Whom it has not seen for long it forgets, and then it learns them anew.

mod bounded;
pub mod rows;

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use skep_core::{Timestamp, Workspace};

use self::bounded::Bounded;
use crate::Principal;

/// Principals that are watched at once.
const PRINCIPALS: usize = 4_096;
/// Addresses that are watched at once.
const ADDRESSES: usize = 4_096;
/// Addresses and networks that are remembered of a principal.
const REMEMBERED: usize = 64;
/// How long the same is not found again of the same.
const QUIET: Duration = Duration::from_secs(600);
/// The longest burst that a rule may ask for.
const MOST_BURST: usize = 1_000;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One principal was refused again and again.
    Denials,
    /// One address showed again and again what is no key.
    FailedAuthentications,
    /// One principal asked more often than anybody should.
    Rate,
    /// One principal asked from more networks than one has.
    Networks,
    /// A key was used from an address that it was never used from.
    NewAddress,
    /// Something was touched that nobody has a reason to touch.
    Canary,
}

/// How bad it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a look now.
    High,
    /// Somebody is in.
    Critical,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Denials,
        Self::FailedAuthentications,
        Self::Rate,
        Self::Networks,
        Self::NewAddress,
        Self::Canary,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denials => "denials",
            Self::FailedAuthentications => "failed-authentications",
            Self::Rate => "rate",
            Self::Networks => "networks",
            Self::NewAddress => "new-address",
            Self::Canary => "canary",
        }
    }

    /// How bad that may be.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::NewAddress => Severity::Low,
            Self::Rate | Self::Denials => Severity::Medium,
            Self::FailedAuthentications | Self::Networks => Severity::High,
            Self::Canary => Severity::Critical,
        }
    }
}

impl Severity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or(())
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == word);
        found.ok_or(())
    }
}

/// So many within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// How many, up to 1,000.
    pub count: usize,
    /// Within how long.
    pub within: Duration,
}

/// From where on something is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Refusals of a principal.
    pub denials: Burst,
    /// Failed authentications of an address.
    pub failures: Burst,
    /// Requests of a principal in one second.
    pub per_second: u32,
    /// Networks that a principal asks from.
    pub networks: Burst,
}

impl Default for Rules {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            denials: Burst {
                count: 20,
                within: minutes(1),
            },
            failures: Burst {
                count: 20,
                within: minutes(1),
            },
            per_second: 20_000,
            networks: Burst {
                count: 5,
                within: minutes(10),
            },
        }
    }
}

/// Whom something was found of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A principal, by kind and id.
    Principal(&'static str, Arc<str>),
    /// Whoever is at this address.
    Address(IpAddr),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub workspace: Workspace,
    /// What.
    pub kind: Kind,
    /// Of whom.
    pub subject: Subject,
    /// From where, when that is a part of it.
    pub address: Option<IpAddr>,
    /// The rest, in words; it holds nothing personal.
    pub detail: String,
}

/// What is seen at the door.
#[derive(Debug, Clone, Copy)]
pub enum Signal<'a> {
    /// A principal asks for something.
    Asked(&'a Principal, IpAddr),
    /// A principal was refused.
    Denied(&'a Principal, IpAddr),
    /// Somebody showed what is no key.
    Failed(IpAddr),
    /// A principal touched what nobody has a reason to touch, which has this name.
    Canary(&'a Principal, IpAddr, &'a str),
}

/// The last moments of something, as many as make a burst.
#[derive(Debug, Default)]
struct Moments(VecDeque<Timestamp>);

impl Moments {
    /// Whether so many happened within so long.
    fn add(&mut self, now: Timestamp, burst: Burst) -> bool {
        let count = burst.count.clamp(1, MOST_BURST);
        while self.0.len() >= count {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let first = self.0.front().copied().unwrap_or(now);
        self.0.len() == count && now.since(first) <= burst.within
    }
}

/// What is remembered of a principal.
#[derive(Debug, Default)]
struct Known {
    denied: Moments,
    /// The second, and how many requests there were in it.
    rate: (i64, u32),
    /// Networks with the last moment of each; the one that was used last is at the end.
    networks: VecDeque<(u64, Timestamp)>,
    /// Addresses, as keyed hashes; the one that was used last is at the end.
    addresses: VecDeque<u64>,
    found: Vec<(Kind, Timestamp)>,
}

/// What is remembered of an address.
#[derive(Debug, Default)]
struct Stranger {
    failed: Moments,
    found: Vec<(Kind, Timestamp)>,
}

/// Whether it is told, or was lately.
fn is_new(found: &mut Vec<(Kind, Timestamp)>, kind: Kind, now: Timestamp) -> bool {
    found.retain(|(_, at)| now.since(*at) < QUIET);
    let new = found.iter().all(|(known, _)| *known != kind);
    if new {
        found.push((kind, now));
    }
    new
}

/// The machine.
pub struct Watch {
    rules: Rules,
    principals: Bounded<(Workspace, Arc<str>), Known>,
    addresses: Bounded<IpAddr, Stranger>,
    /// Addresses are remembered under a key that ends with the process.
    key: RandomState,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// The part of an address that one place has: 24 bits, or 48.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(it) => {
            let [a, b, c, _] = it.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(it) => {
            let [a, b, c, ..] = it.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

impl Watch {
    /// A machine that has seen nothing.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            principals: Bounded::new(PRINCIPALS),
            addresses: Bounded::new(ADDRESSES),
            key: RandomState::new(),
        }
    }

    /// Takes in what was seen; tells what it finds.
    pub fn see(&mut self, signal: Signal<'_>, now: Timestamp) -> Vec<Finding> {
        match signal {
            Signal::Asked(principal, address) => self.asked(principal, address, now),
            Signal::Denied(principal, address) => {
                let burst = self.rules.denials;
                let known = self.known(principal);
                let many = known.denied.add(now, burst);
                let found = many && is_new(&mut known.found, Kind::Denials, now);
                let detail = format!("{} refusals within {:?}", burst.count, burst.within);
                found
                    .then(|| finding(principal, Kind::Denials, address, detail))
                    .into_iter()
                    .collect()
            }
            Signal::Failed(address) => {
                let burst = self.rules.failures;
                let stranger = self.addresses.get(&address);
                let many = stranger.failed.add(now, burst);
                let kind = Kind::FailedAuthentications;
                let found = many && is_new(&mut stranger.found, kind, now);
                let finding = Finding {
                    workspace: Workspace::default(),
                    kind,
                    subject: Subject::Address(address),
                    address: Some(address),
                    detail: format!(
                        "{} failed authentications within {:?}",
                        burst.count, burst.within
                    ),
                };
                found.then_some(finding).into_iter().collect()
            }
            Signal::Canary(principal, address, name) => {
                let known = self.known(principal);
                let found = is_new(&mut known.found, Kind::Canary, now);
                let detail = format!("`{name}` was touched");
                found
                    .then(|| finding(principal, Kind::Canary, address, detail))
                    .into_iter()
                    .collect()
            }
        }
    }

    fn known(&mut self, principal: &Principal) -> &mut Known {
        let of = (principal.workspace.clone(), principal.id.clone());
        self.principals.get(&of)
    }

    fn asked(&mut self, principal: &Principal, address: IpAddr, now: Timestamp) -> Vec<Finding> {
        let (rules, tag) = (self.rules, self.key.hash_one(address));
        let network = self.key.hash_one(network(address));
        let known = self.known(principal);
        let mut found = Vec::new();
        let second = now.as_micros().div_euclid(1_000_000);
        if known.rate.0 != second {
            known.rate = (second, 0);
        }
        known.rate.1 = known.rate.1.saturating_add(1);
        if known.rate.1 > rules.per_second && is_new(&mut known.found, Kind::Rate, now) {
            let detail = format!("over {} requests in one second", rules.per_second);
            found.push(finding(principal, Kind::Rate, address, detail));
        }
        // Most come from where the one before came from.
        if known.addresses.back() != Some(&tag) {
            let learnt = known.addresses.is_empty();
            let place = known.addresses.iter().position(|it| *it == tag);
            match place {
                Some(at) => drop(known.addresses.remove(at)),
                None if learnt => {}
                None if is_new(&mut known.found, Kind::NewAddress, now) => {
                    let detail = "used from an address that it was never used from".to_owned();
                    found.push(finding(principal, Kind::NewAddress, address, detail));
                }
                None => {}
            }
            if known.addresses.len() == REMEMBERED {
                known.addresses.pop_front();
            }
            known.addresses.push_back(tag);
        }
        match known.networks.back_mut() {
            Some(last) if last.0 == network => last.1 = now,
            _ => {
                known
                    .networks
                    .retain(|(it, at)| *it != network && now.since(*at) <= rules.networks.within);
                if known.networks.len() == REMEMBERED {
                    known.networks.pop_front();
                }
                known.networks.push_back((network, now));
                let many = known.networks.len() > rules.networks.count;
                if many && is_new(&mut known.found, Kind::Networks, now) {
                    let Burst { count, within } = rules.networks;
                    let detail = format!("used from over {count} networks within {within:?}");
                    found.push(finding(principal, Kind::Networks, address, detail));
                }
            }
        }
        found
    }
}

fn finding(principal: &Principal, kind: Kind, address: IpAddr, detail: String) -> Finding {
    Finding {
        workspace: principal.workspace.clone(),
        kind,
        subject: Subject::Principal(principal.kind.as_str(), principal.id.clone()),
        address: Some(address),
        detail,
    }
}

#[cfg(test)]
#[path = "threats_tests.rs"]
mod tests;
