//! What a slot keeps under its lock, and the steps that it takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_api::{AgentSpec, InstanceState, Rollout, RolloutState};
use skep_core::{InstanceId, Timestamp};
use tokio::sync::watch;

use super::{Ending, InstanceInfo, Live, Orders, Slot, View};
use crate::agents::{Desired, Revision, RolloutRow};
use crate::driver::Driver;
use crate::events::Event;
use crate::fleet::{self, Member, Step, Wish};
use crate::scale::Scaler;
use crate::spec::Spec;
use crate::supervise::{Charge, Shared, supervise};
use crate::target::{Availability, Endpoint, Split, Target};

/// One copy of the agent with its supervisor.
pub(super) struct Supervised {
    pub(super) generation: u64,
    pub(super) revision: u32,
    /// To be replaced although its revision is wanted.
    pub(super) stale: bool,
    /// To end so: it is told when nobody sends it calls any more.
    pub(super) retiring: Option<Ending>,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) view: View,
}

impl Supervised {
    pub(super) fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        let live = self.view.live.as_ref()?;
        let serves = !self.is_retiring() && self.view.state == InstanceState::Ready;
        serves.then(|| Endpoint {
            instance: live.instance,
            address: live.running.address(),
            revision: self.revision,
        })
    }

    pub(super) fn info(&self) -> Option<InstanceInfo> {
        let live = self.view.live.as_ref()?;
        Some(InstanceInfo {
            id: live.instance,
            revision: self.revision,
            state: self.view.state,
            pid: live.running.pid(),
            address: live.running.address(),
            started_at: live.started_at,
            reason: self.view.reason.clone(),
            probe: self.view.probe.clone(),
            protections: live.running.protections(),
        })
    }
}

/// A revision in play, worked out: or why it cannot be run.
pub(super) struct Part {
    pub(super) spec: Arc<AgentSpec>,
    pub(super) created_at: Timestamp,
    pub(super) made: Result<(Arc<Spec>, Arc<dyn Driver>), String>,
}

pub(super) struct Inner {
    pub(super) desired: Desired,
    pub(super) removed: bool,
    pub(super) created_at: Timestamp,
    pub(super) newest: u32,
    pub(super) rollout: RolloutRow,
    /// Since when the current step has what it asks for.
    pub(super) step_since: Option<Instant>,
    pub(super) parts: BTreeMap<u32, Part>,
    pub(super) replicas: u32,
    /// The copies that were told of last.
    pub(super) told: Option<u32>,
    pub(super) scaler: Scaler,
    /// A task waits for a call that wakes the agent.
    pub(super) waker: bool,
    pub(super) generations: u64,
    pub(super) members: Vec<Supervised>,
}

impl Part {
    pub(super) fn of(shared: &Shared, revision: &Revision) -> Self {
        let made = Spec::parse(&revision.spec, &shared.kinds())
            .map_err(|error| error.to_string())
            .and_then(|spec| match shared.driver(&spec.driver) {
                Some(driver) => Ok((Arc::new(spec), driver.clone())),
                None => Err(format!("no driver `{}`", spec.driver)),
            });
        Self {
            spec: revision.spec.clone(),
            created_at: revision.created_at,
            made,
        }
    }
}

impl Inner {
    pub(super) fn spec(&self) -> Option<&Arc<Spec>> {
        let part = self.parts.get(&self.rollout.revision)?;
        part.made.as_ref().ok().map(|(spec, _)| spec)
    }

    /// The fewest and the most copies.
    pub(super) fn bounds(&self) -> (u32, u32) {
        self.spec()
            .map_or((1, 1), |spec| (spec.scale.min, spec.scale.max))
    }

    pub(super) fn bound(&mut self) {
        let (least, most) = self.bounds();
        self.replicas = self.replicas.clamp(least, most);
    }

    /// What became of the number of copies since this was asked last.
    pub(super) fn scaled(&mut self, agent: &str) -> Option<Event> {
        let (before, after) = (self.told.replace(self.replicas)?, self.replicas);
        let (kind, detail) = match (before, after) {
            (before, after) if before == after => return None,
            (_, 0) => ("agent.slept", "nobody called for a while".to_owned()),
            (0, _) => ("agent.woke", format!("{after} wanted")),
            (before, after) => ("agent.scaled", format!("from {before} to {after} copies")),
        };
        Some(Event::of(agent, kind, detail).revision(self.rollout.revision))
    }

    pub(super) fn steps(&self) -> &[(u8, Option<Duration>)] {
        self.spec().map_or(&[], |spec| &spec.rollout.steps)
    }

    pub(super) fn step(&self) -> Option<(u8, Option<Duration>)> {
        let at = usize::try_from(self.rollout.step).ok()?;
        let step = self.steps().get(at).copied();
        step.filter(|_| self.rollout.is_rolling())
    }

    pub(super) fn wish(&self) -> Wish {
        let spec = self.spec();
        Wish {
            revision: self.rollout.revision,
            stable: self.rollout.stable,
            replicas: self.replicas.max(u32::from(self.rollout.is_rolling())),
            surge: spec.map_or(1, |spec| spec.rollout.surge),
            share: self.step().map_or(100, |(weight, _)| weight),
            paused: self.rollout.paused,
            roll_back: spec.is_none_or(|spec| spec.rollout.rollback),
        }
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let there = self.members.iter().filter(|one| !one.is_retiring());
        there
            .map(|one| Member {
                generation: one.generation,
                revision: one.revision,
                state: one.view.state,
                stale: one.stale,
            })
            .collect()
    }

    /// Whether the current step has what it asks for and waits for an order.
    pub(super) fn waits_for_order(&self) -> bool {
        self.step_since.is_some() && matches!(self.step(), Some((_, None)))
    }

    /// Leaves a step behind whose time is over.
    pub(super) fn pass_step(&mut self) {
        let Some((_, pause)) = self.step() else {
            self.step_since = None;
            return;
        };
        let wish = self.wish();
        let current = self.rollout.revision;
        let fresh = self.members.iter().filter(|one| one.revision == current);
        let ready = fresh.filter(|one| one.endpoint().is_some()).count();
        if ready < wish.fresh() as usize {
            self.step_since = None;
            return;
        }
        let since = *self.step_since.get_or_insert_with(Instant::now);
        if !self.rollout.paused && pause.is_some_and(|pause| since.elapsed() >= pause) {
            self.rollout.step += 1;
            self.step_since = None;
        }
    }

    /// Carries a plan out; true when another may follow at once.
    pub(super) fn take_steps(&mut self, slot: &Arc<Slot>) -> bool {
        let broken = self
            .parts
            .get(&self.rollout.revision)
            .and_then(|part| part.made.as_ref().err().cloned());
        let wish = self.wish();
        let steps = match broken {
            // It cannot even be started.
            Some(_) if wish.is_rolling() && wish.roll_back => vec![Step::RollBack],
            _ => fleet::plan(&wish, &self.members()),
        };
        let mut again = false;
        for step in steps {
            match step {
                Step::Start(revision) => self.start(slot, revision, None),
                Step::Retire(generation) => {
                    let mut members = self.members.iter_mut();
                    if let Some(one) = members.find(|one| one.generation == generation) {
                        one.retiring.get_or_insert(Ending::Drained);
                    }
                }
                Step::Settle => {
                    self.rollout.stable = Some(self.rollout.revision);
                    self.rollout.step = 0;
                    again = true;
                }
                Step::RollBack => {
                    self.roll_back(slot, broken.as_deref());
                    again = true;
                }
            }
        }
        again
    }

    /// An instance that notes about the whole agent can stand under.
    pub(super) fn any_instance(&self) -> InstanceId {
        let mut live = self.members.iter().filter_map(|one| one.view.live.as_ref());
        live.next()
            .map_or_else(InstanceId::new, |live| live.instance)
    }

    pub(super) fn roll_back(&mut self, slot: &Arc<Slot>, broken: Option<&str>) {
        let failed = self.rollout.revision;
        let Some(stable) = self.rollout.stable else {
            return;
        };
        let mut fresh = self.members.iter().filter(|one| one.revision == failed);
        let why = fresh
            .find_map(|one| one.view.reason.clone())
            .or_else(|| broken.map(str::to_owned))
            .unwrap_or_else(|| "it did not become ready".to_owned());
        let reason = format!("revision {failed} failed: {why}");
        let text = format!("rolled back to revision {stable}: {reason}");
        slot.note(slot.shared.db.clock().now(), self.any_instance(), &text);
        self.rollout = RolloutRow {
            revision: stable,
            stable: Some(stable),
            failed: Some(reason),
            ..RolloutRow::default()
        };
        self.step_since = None;
        if let Some(part) = self.parts.get(&stable) {
            slot.target.set_spec(part.spec.clone());
        }
        self.bound();
    }

    /// Makes a member of this revision.
    pub(super) fn start(&mut self, slot: &Arc<Slot>, revision: u32, adopted: Option<Live>) {
        let Some(Ok((spec, driver))) = self.parts.get(&revision).map(|part| &part.made) else {
            return;
        };
        let charge = Charge {
            slot: slot.clone(),
            driver: driver.clone(),
            spec: spec.clone(),
            revision,
        };
        self.generations += 1;
        let (orders, receiver) = watch::channel(Orders::default());
        self.members.push(Supervised {
            generation: self.generations,
            revision,
            stale: false,
            retiring: None,
            orders,
            view: View {
                state: InstanceState::Starting,
                reason: None,
                live: None,
                busy: false,
                probe: None,
            },
        });
        supervise(charge, self.generations, receiver, adopted);
    }

    pub(super) fn forget_parts(&mut self) {
        let (rollout, members) = (&self.rollout, &self.members);
        self.parts.retain(|number, _| {
            *number == rollout.revision
                || Some(*number) == rollout.stable
                || members.iter().any(|one| one.revision == *number)
        });
    }

    /// What the current revision does in one word: the best that one of its members does.
    pub(super) fn state(&self) -> (InstanceState, Option<String>) {
        let current = self.rollout.revision;
        let fresh = self
            .members
            .iter()
            .filter(|one| one.revision == current && !one.is_retiring());
        let rank = |one: &&Supervised| {
            let order = [
                InstanceState::Ready,
                InstanceState::Unready,
                InstanceState::Starting,
                InstanceState::Stopping,
                InstanceState::Backoff,
            ];
            let place = order.iter().position(|state| *state == one.view.state);
            (one.stale, place.unwrap_or(order.len()))
        };
        if let Some(best) = fresh.min_by_key(rank) {
            return (best.view.state, best.view.reason.clone());
        }
        let broken = self.parts.get(&current).map(|part| &part.made);
        if let (Desired::Running, Some(Err(why))) = (self.desired, broken) {
            return (InstanceState::CrashLoop, Some(why.clone()));
        }
        let word = match (self.members.is_empty(), self.desired) {
            (false, _) => InstanceState::Stopping,
            (true, Desired::Running) if self.replicas == 0 => InstanceState::Asleep,
            (true, _) => InstanceState::Stopped,
        };
        (word, None)
    }

    pub(super) fn shown_rollout(&self) -> Rollout {
        let row = &self.rollout;
        let state = match row.stable {
            Some(stable) if stable == row.revision && row.failed.is_some() => {
                RolloutState::RolledBack
            }
            Some(stable) if stable == row.revision => RolloutState::Done,
            _ if row.paused || self.waits_for_order() => RolloutState::Paused,
            _ => RolloutState::Progressing,
        };
        Rollout {
            state,
            stable: row.stable,
            weight: self.step().map_or(100, |(weight, _)| weight),
            reason: row.failed.clone(),
        }
    }

    /// Tells everybody who waits for it whether calls can be taken, and then those that are to end:
    /// what is not counted on them by now is not sent to them any more.
    pub(super) fn publish(&self, target: &Target) {
        target.set_availability(self.availability());
        for one in self.members.iter().filter(|one| one.is_retiring()) {
            one.orders.send_if_modified(|orders| {
                let changed = orders.end != one.retiring;
                orders.end = one.retiring;
                changed
            });
        }
    }

    pub(super) fn availability(&self) -> Availability {
        if self.removed {
            return Availability::Removed;
        }
        if self.desired == Desired::Stopped {
            return Availability::Stopped;
        }
        let endpoints: Arc<[Endpoint]> = self
            .members
            .iter()
            .filter_map(Supervised::endpoint)
            .collect();
        if !endpoints.is_empty() {
            let split = self.step().map(|(weight, _)| Split {
                revision: self.rollout.revision,
                weight,
            });
            return Availability::Ready { endpoints, split };
        }
        let mut there = self.members.iter().filter(|one| !one.is_retiring());
        let comes = there.any(|one| one.view.state != InstanceState::CrashLoop);
        match self.state() {
            (InstanceState::CrashLoop, reason) if !comes => Availability::CrashLoop {
                reason: reason.unwrap_or_default().into(),
            },
            _ if self.replicas == 0 => Availability::Asleep,
            _ => Availability::Waiting,
        }
    }
}
