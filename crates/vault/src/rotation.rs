//! The life of a rotation, as a machine without I/O: what comes next, and what each event makes of it.
//!
//! A *child* is what a key encrypts: a workspace's key under the root key, a secret's data key under its
//! workspace's, a value under its data key. A rotation gives every child a second wrap, under the new key,
//! beside the first; reads every one of them back; and only then points to the new key. Until the old wraps
//! are destroyed, going back is turning the pointer round.
//!
//! ```text
//! Wrapping ─▶ Verifying ─▶ Kept ─▶ Destroying ─▶ Done
//!     │           │         │
//!     └───────────┴─────────┴────▶ Returning ─▶ Returned
//! ```
//!
//! Children that are made while both keys are there are wrapped under both. Everything that is done is done
//! in batches, each with the cursor behind it in one transaction: who is killed goes on from there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use skep_core::Timestamp;

/// For how long the old wraps are kept at most.
pub const MOST_KEEP: Duration = Duration::from_secs(365 * 24 * 3600);

/// Which keys are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The root key, under which the keys of workspaces are.
    Root,
    /// A workspace's key, under which its secrets' data keys are.
    Workspace,
    /// The data keys of a workspace: values are encrypted again.
    Data,
}

impl Level {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Workspace => "workspace",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Root, Self::Workspace, Self::Data];
        all.into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| format!("`{text}` is none of root, workspace and data"))
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Children get their second wrap.
    Wrapping,
    /// Every second wrap is read back.
    Verifying,
    /// The new key counts; the old wraps are still there.
    Kept,
    /// The old wraps are destroyed.
    Destroying,
    /// The old key counts again; the new wraps are destroyed.
    Returning,
    /// It is over: only the new key is there.
    Done,
    /// It is over: only the old key is there.
    Returned,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Wrapping,
        Self::Verifying,
        Self::Kept,
        Self::Destroying,
        Self::Returning,
        Self::Done,
        Self::Returned,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wrapping => "wrapping",
            Self::Verifying => "verifying",
            Self::Kept => "kept",
            Self::Destroying => "destroying",
            Self::Returning => "returning",
            Self::Done => "done",
            Self::Returned => "returned",
        }
    }

    /// Whether nothing comes any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Returned)
    }

    /// Whether the new key counts.
    #[must_use]
    pub const fn is_promoted(self) -> bool {
        matches!(self, Self::Kept | Self::Destroying | Self::Done)
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|phase| phase.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no phase of a rotation"))
    }
}

/// Where a rotation is, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How far.
    pub phase: Phase,
    /// Until when the old wraps are kept; known from the promotion on.
    pub until: Option<Timestamp>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wrap the next children under the new key.
    Wrap,
    /// Read back the next children.
    Verify,
    /// Destroy the next wraps under the key that lost: the old one, or the new one.
    Destroy {
        /// Whether it is the old one.
        old: bool,
    },
    /// Wait.
    Wait(Timestamp),
    /// Nothing: it is over.
    Nothing,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A batch was done; there are more children.
    Batch,
    /// The last batch was done: at that moment no child was left.
    Last,
    /// A second wrap is missing or does not open: it has to be made again.
    Missing,
    /// Somebody wants the old key back.
    GoBack,
    /// Somebody does not want to wait for the destruction of the old wraps.
    Finish,
}

/// Why an event cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// The old key is gone, or going.
    #[error("the old key is being destroyed or is gone")]
    TooLate,
    /// The new key does not count yet.
    #[error("the new key does not count yet")]
    TooEarly,
}

impl Progress {
    /// A rotation that begins.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            phase: Phase::Wrapping,
            until: None,
        }
    }

    /// What is to be done.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Step {
        match (self.phase, self.until) {
            (Phase::Wrapping, _) => Step::Wrap,
            (Phase::Verifying, _) => Step::Verify,
            (Phase::Kept, Some(until)) if now < until => Step::Wait(until),
            (Phase::Kept | Phase::Destroying, _) => Step::Destroy { old: true },
            (Phase::Returning, _) => Step::Destroy { old: false },
            (Phase::Done | Phase::Returned, _) => Step::Nothing,
        }
    }

    /// What an event makes of it. A promotion keeps the old wraps for `keep` from `now` on.
    ///
    /// # Errors
    /// [`RotationError`], when it is too late to go back, or too early to finish.
    pub fn after(
        self,
        event: Event,
        now: Timestamp,
        keep: Duration,
    ) -> Result<Self, RotationError> {
        let to = |phase| Ok(Self { phase, ..self });
        match (self.phase, event) {
            (Phase::Wrapping, Event::Last) => to(Phase::Verifying),
            (Phase::Verifying, Event::Missing) => to(Phase::Wrapping),
            (Phase::Verifying, Event::Last) => Ok(Self {
                phase: Phase::Kept,
                until: Some(now.plus(keep)),
            }),
            (Phase::Kept, Event::Finish | Event::Batch) => to(Phase::Destroying),
            (Phase::Kept | Phase::Destroying, Event::Last) => to(Phase::Done),
            (Phase::Returning, Event::Last) => to(Phase::Returned),
            (Phase::Wrapping | Phase::Verifying | Phase::Kept, Event::GoBack) => {
                to(Phase::Returning)
            }
            (Phase::Returning | Phase::Returned, Event::GoBack) => Ok(self),
            (Phase::Destroying | Phase::Done, Event::GoBack) => Err(RotationError::TooLate),
            (Phase::Destroying | Phase::Done, Event::Finish) => Ok(self),
            (_, Event::Finish) => Err(RotationError::TooEarly),
            // Somebody else has done it meanwhile.
            _ => Ok(self),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// What the store would hold: for each child, under which keys it is wrapped (0 old, 1 new).
    struct World {
        children: BTreeMap<u32, BTreeSet<u8>>,
        progress: Progress,
        cursor: Option<u32>,
        now: Timestamp,
    }

    const KEEP: Duration = Duration::from_secs(100);
    const BATCH: usize = 3;

    impl World {
        fn counts(&self) -> u8 {
            u8::from(self.progress.phase.is_promoted())
        }

        /// Under which keys a child is wrapped that is made now.
        fn live(&self) -> BTreeSet<u8> {
            match self.progress.phase {
                Phase::Done | Phase::Destroying => [1].into(),
                Phase::Returned | Phase::Returning => [0].into(),
                _ => [0, 1].into(),
            }
        }

        fn happen(&mut self, event: Event) {
            let before = self.progress.phase;
            if let Ok(after) = self.progress.after(event, self.now, KEEP) {
                self.progress = after;
            }
            if self.progress.phase != before {
                self.cursor = None;
            }
        }

        fn step(&mut self) {
            let step = self.progress.next(self.now);
            let after = self.cursor.map_or(0, |at| at + 1);
            let batch: Vec<u32> = self.children.range(after..).map(|(id, _)| *id).collect();
            let last = batch.len() <= BATCH;
            let batch = &batch[..batch.len().min(BATCH)];
            for id in batch {
                let wraps = self.children.get_mut(id).unwrap();
                match step {
                    Step::Wrap => {
                        wraps.insert(1);
                    }
                    Step::Verify if !wraps.contains(&1) => return self.happen(Event::Missing),
                    Step::Destroy { old } => {
                        wraps.remove(&u8::from(!old));
                    }
                    _ => {}
                }
            }
            match step {
                Step::Wait(until) => self.now = until,
                Step::Nothing => {}
                _ if last => self.happen(Event::Last),
                _ => {
                    self.cursor = batch.last().copied();
                    self.happen(Event::Batch);
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Step,
        New(u32),
        Gone(u32),
        Lost(u32),
        GoBack,
        Finish,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            12 => Just(Act::Step),
            4 => (0..60_u32).prop_map(Act::New),
            2 => (0..60_u32).prop_map(Act::Gone),
            1 => (0..60_u32).prop_map(Act::Lost),
            1 => Just(Act::GoBack),
            1 => Just(Act::Finish),
        ];
        prop::collection::vec(act, 0..120)
    }

    proptest! {
        /// Whatever comes between, every child is readable under the key that counts at every moment, and
        /// the rotation comes to an end with one wrap for each.
        #[test]
        fn no_child_is_ever_unreadable(first in 0..30_u32, acts in acts()) {
            let children = (0..first).map(|id| (id * 2, BTreeSet::from([0]))).collect();
            let mut world = World {
                children, progress: Progress::new(), cursor: None, now: Timestamp::from_micros(0),
            };
            for act in acts {
                match act {
                    Act::Step => world.step(),
                    Act::New(id) => {
                        let live = world.live();
                        world.children.entry(id).or_insert(live);
                    }
                    Act::Gone(id) => { world.children.remove(&id); }
                    // A second wrap that is not what it should be.
                    Act::Lost(id) if !world.progress.phase.is_promoted() => {
                        if let Some(wraps) = world.children.get_mut(&id) {
                            // Verifying finds only what is not behind it.
                            if world.cursor.is_none_or(|at| id > at) { wraps.remove(&1); }
                            if world.progress.phase == Phase::Wrapping { wraps.remove(&1); }
                        }
                    }
                    Act::Lost(_) => {}
                    Act::GoBack => world.happen(Event::GoBack),
                    Act::Finish => world.happen(Event::Finish),
                }
                let counts = world.counts();
                for (id, wraps) in &world.children {
                    prop_assert!(wraps.contains(&counts), "{id} {:?} {:?}", wraps, world.progress);
                }
            }
            for _ in 0..400 {
                world.step();
            }
            prop_assert!(world.progress.phase.is_over(), "{:?}", world.progress);
            let counts = world.counts();
            for (id, wraps) in &world.children {
                prop_assert_eq!(wraps, &BTreeSet::from([counts]), "{}", id);
            }
        }
    }

    #[test]
    fn going_back_is_possible_until_the_old_wraps_go() {
        let now = Timestamp::from_micros(0);
        let mut progress = Progress::new();
        let too_early = progress.after(Event::Finish, now, KEEP);
        assert_eq!(too_early, Err(RotationError::TooEarly));
        for event in [Event::Last, Event::Last] {
            progress = progress.after(event, now, KEEP).unwrap();
        }
        assert_eq!(progress.phase, Phase::Kept);
        assert_eq!(progress.next(now), Step::Wait(now.plus(KEEP)));
        let back = progress.after(Event::GoBack, now, KEEP).unwrap();
        assert_eq!(back.next(now), Step::Destroy { old: false });
        let progress = progress.after(Event::Finish, now, KEEP).unwrap();
        let late = progress.after(Event::GoBack, now, KEEP);
        assert_eq!(late, Err(RotationError::TooLate));
    }
}
