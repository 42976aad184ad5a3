//! What looks like an attack: a pure machine that sees what happens at the door and says what it finds.
//! Signals and the time go in, findings come out; it keeps nothing on disk and asks nobody. [`rows`] keeps
//! the findings.
//!
//! It stands in guard, beside who may do what, because it judges principals; the audit log only tells what
//! was decided. Whom it has not seen for long it forgets, and then it learns them anew.

mod bounded;
mod known;
pub mod patterns;
pub mod rows;
mod rules;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use skep_core::{Timestamp, Workspace};

use self::bounded::Bounded;
pub use self::known::{KEPT, Learnt, REMEMBERED};
use self::known::{Known, Moments, Stranger, Tags};
use self::patterns::Patterns;
pub use self::rules::{Burst, Rules};
use crate::Principal;
use crate::limits::subscriber;

/// Principals that are watched at once.
const PRINCIPALS: usize = 4_096;
/// Addresses that are watched at once.
const ADDRESSES: usize = 4_096;
/// How long the same is not found again of the same.
const QUIET: Duration = Duration::from_secs(600);
/// Addresses of which the same is told in that time: addresses cost an attacker nothing, and what is written
/// down is bounded.
const TOLD: u32 = 100;
/// Addresses that are known anew and wait to be kept; more are not.
const LEARNT: usize = 4_096;

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
    /// Requests from one address looked like tries, again and again.
    Patterns,
    /// One address asked for many different things that are not there.
    Missing,
    /// One principal asked for workspaces that are not its own.
    Foreign,
    /// What a principal sent to a model looked as if it were to turn the model against it.
    Injection,
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
    pub const ALL: [Self; 10] = [
        Self::Denials,
        Self::FailedAuthentications,
        Self::Rate,
        Self::Networks,
        Self::NewAddress,
        Self::Canary,
        Self::Patterns,
        Self::Missing,
        Self::Foreign,
        Self::Injection,
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
            Self::Patterns => "patterns",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Injection => "injection",
        }
    }

    /// How bad that may be.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::NewAddress => Severity::Low,
            Self::Rate
            | Self::Denials
            | Self::Patterns
            | Self::Missing
            | Self::Foreign
            | Self::Injection => Severity::Medium,
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
    /// A request from there looked like a try.
    Odd(IpAddr, Patterns),
    /// Somebody asked for what is not there; the number stands for what it was.
    Missing(IpAddr, u64),
    /// A principal asked for a workspace that is not its own.
    Foreign(&'a Principal, IpAddr),
    /// What a principal sent to a model looked as if it were to turn it against the principal: in these words.
    Injection(&'a Principal, IpAddr, &'a str),
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
    tags: Tags,
    learnt: Vec<Learnt>,
    /// Of how many addresses each kind was told, since when.
    told: [(Timestamp, u32); Kind::ALL.len()],
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
    /// A machine that has seen nothing. Addresses of principals are remembered under the key.
    #[must_use]
    pub fn new(rules: Rules, key: &[u8; 32]) -> Self {
        Self {
            rules,
            principals: Bounded::new(PRINCIPALS),
            addresses: Bounded::new(ADDRESSES),
            tags: Tags::new(key),
            learnt: Vec::new(),
            told: [(Timestamp::from_micros(0), 0); Kind::ALL.len()],
        }
    }

    /// What the key of the addresses is known by: those that were kept under another one mean nothing.
    #[must_use]
    pub fn key_id(&self) -> i64 {
        self.tags.id()
    }

    /// Knows an address of a principal from before.
    pub fn remember(&mut self, known: &Learnt) {
        let of = (known.workspace.clone(), known.principal.clone());
        self.principals.get(&of).remember(known.tag, known.at);
    }

    /// The addresses that are known anew, to be kept.
    pub fn learnt(&mut self) -> Vec<Learnt> {
        std::mem::take(&mut self.learnt)
    }

    /// Takes in what was seen; tells what it finds.
    pub fn see(&mut self, signal: Signal<'_>, now: Timestamp) -> Vec<Finding> {
        let rules = self.rules;
        let mut found = match signal {
            Signal::Asked(who, from) => self.asked(who, from, now),
            Signal::Denied(who, from) => {
                let rule = (Kind::Denials, rules.denials);
                self.often((who, from), rule, now, |known| &mut known.denied)
            }
            Signal::Foreign(who, from) => {
                let rule = (Kind::Foreign, rules.foreign);
                self.often((who, from), rule, now, |known| &mut known.foreign)
            }
            Signal::Canary(who, from, name) => {
                let known = self.known(who);
                let found = is_new(&mut known.found, Kind::Canary, now);
                let detail = || format!("`{name}` was touched");
                let found = found.then(|| finding(who, Kind::Canary, from, detail()));
                found.into_iter().collect()
            }
            Signal::Injection(who, from, seen) => {
                let known = self.known(who);
                let found = is_new(&mut known.found, Kind::Injection, now);
                let detail = || format!("what was sent to a model: {seen}");
                let found = found.then(|| finding(who, Kind::Injection, from, detail()));
                found.into_iter().collect()
            }
            Signal::Failed(from) => {
                let stranger = self.addresses.get(&subscriber(from));
                let many = stranger.failed.add(now, rules.failures);
                let kind = Kind::FailedAuthentications;
                let found = many && is_new(&mut stranger.found, kind, now);
                self.of_address(found, kind, from, now, || words(kind, rules.failures))
            }
            Signal::Odd(from, patterns) => self.odd(from, patterns, now),
            Signal::Missing(from, what) => {
                let stranger = self.addresses.get(&subscriber(from));
                let many = stranger.missed(what, now, rules.missing);
                let kind = Kind::Missing;
                let found = many && is_new(&mut stranger.found, kind, now);
                self.of_address(found, kind, from, now, || words(kind, rules.missing))
            }
        };
        found.retain(|it| rules.has(it.kind));
        found
    }

    /// A principal did something that is found when it happens often.
    fn often(
        &mut self,
        (who, from): (&Principal, IpAddr),
        (kind, burst): (Kind, Burst),
        now: Timestamp,
        of: impl FnOnce(&mut Known) -> &mut Moments,
    ) -> Vec<Finding> {
        let known = self.known(who);
        let many = of(known).add(now, burst);
        let found = many && is_new(&mut known.found, kind, now);
        let found = found.then(|| finding(who, kind, from, words(kind, burst)));
        found.into_iter().collect()
    }

    /// A request looked like a try.
    fn odd(&mut self, from: IpAddr, patterns: Patterns, now: Timestamp) -> Vec<Finding> {
        let burst = self.rules.patterns;
        let stranger = self.addresses.get(&subscriber(from));
        stranger.note(patterns);
        // A program's name alone is nothing that anybody did.
        let many = !patterns.is_hint() && stranger.odd.add(now, burst);
        if !many || !is_new(&mut stranger.found, Kind::Patterns, now) {
            return Vec::new();
        }
        let seen = stranger.take_seen();
        let detail = || format!("{}: {seen}", words(Kind::Patterns, burst));
        self.of_address(true, Kind::Patterns, from, now, detail)
    }

    /// What was found of an address, unless the same was found of too many.
    fn of_address(
        &mut self,
        found: bool,
        kind: Kind,
        address: IpAddr,
        now: Timestamp,
        detail: impl FnOnce() -> String,
    ) -> Vec<Finding> {
        if !found {
            return Vec::new();
        }
        let (since, count) = &mut self.told[kind as usize];
        if now.since(*since) >= QUIET {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count > TOLD {
            return Vec::new();
        }
        let mut detail = detail();
        if *count == TOLD {
            detail.push_str("; as many other addresses did, and more are not told of now");
        }
        vec![Finding {
            workspace: Workspace::default(),
            kind,
            subject: Subject::Address(address),
            address: Some(address),
            detail,
        }]
    }

    fn known(&mut self, principal: &Principal) -> &mut Known {
        let of = (principal.workspace.clone(), principal.id.clone());
        self.principals.get(&of)
    }

    fn asked(&mut self, principal: &Principal, address: IpAddr, now: Timestamp) -> Vec<Finding> {
        let rules = self.rules;
        let of = (principal.workspace.clone(), principal.id.clone());
        let known = self.principals.get(&of);
        let mut found = Vec::new();
        if known.is_fast(now, rules.rate) && is_new(&mut known.found, Kind::Rate, now) {
            let detail = words(Kind::Rate, rules.rate);
            found.push(finding(principal, Kind::Rate, address, detail));
        }
        // Most come from where the one before came from.
        if known.last != Some((address, now.as_micros().div_euclid(known::NOTED))) {
            known.last = Some((address, now.as_micros().div_euclid(known::NOTED)));
            let tag = self.tags.of(subscriber(address));
            let (is_strange, is_news) = known.comes_from(tag, now);
            if is_strange && is_new(&mut known.found, Kind::NewAddress, now) {
                let detail = words(Kind::NewAddress, rules.networks);
                found.push(finding(principal, Kind::NewAddress, address, detail));
            }
            if is_news && self.learnt.len() < LEARNT {
                let (workspace, principal) = of;
                let at = now;
                self.learnt.push(Learnt {
                    workspace,
                    principal,
                    tag,
                    at,
                });
            }
        }
        let many = known.networks_over(network(address), now, rules.networks);
        if many && is_new(&mut known.found, Kind::Networks, now) {
            let detail = words(Kind::Networks, rules.networks);
            found.push(finding(principal, Kind::Networks, address, detail));
        }
        found
    }
}

/// What is told of something that happened so often.
fn words(kind: Kind, burst: Burst) -> String {
    let Burst { count, within } = burst;
    match kind {
        Kind::Denials => format!("{count} refusals within {within:?}"),
        Kind::FailedAuthentications => format!("{count} failed authentications within {within:?}"),
        Kind::Rate => format!("over {count} requests within {within:?}"),
        Kind::Networks => format!("used from over {count} networks within {within:?}"),
        Kind::Patterns => format!("{count} requests within {within:?} looked like tries"),
        Kind::Missing => {
            format!("asked for {count} different things within {within:?} that are not there")
        }
        Kind::Foreign => format!("asked {count} times within {within:?} for workspaces of others"),
        Kind::NewAddress => "used from an address that it was never used from".to_owned(),
        Kind::Canary => "touched".to_owned(),
        Kind::Injection => "what was sent to a model".to_owned(),
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
