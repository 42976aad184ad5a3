//! The machine through random interleavings of everything that can happen to a call.

use proptest::prelude::*;
use skep_api::CallState;
use skep_core::Timestamp;

use crate::life::{End, Event, Lease, Life, Refusal};
use crate::policy::CallPolicy;

/// One thing that somebody does, relative to the model's present.
#[derive(Debug, Clone)]
enum Deed {
    Begin,
    /// The end of an attempt, said by the holder of the n-th lease from the newest.
    End(usize, End),
    RestartServer,
    Cancel,
    Expire,
    Redrive,
    Wait(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let end = prop_oneof![
        prop_oneof![Just(200_u16), Just(302), Just(404), Just(500), Just(503)].prop_map(|status| {
            End::Answered {
                status,
                retry_after: None,
            }
        }),
        Just(End::Undelivered("refused".to_owned())),
        Just(End::Cut("reset".to_owned())),
        Just(End::Broken("silent".to_owned())),
        Just(End::Unrecorded("disk full".to_owned())),
        Just(End::Ordered("restarted".to_owned())),
    ];
    let deed = prop_oneof![
        6 => Just(Deed::Begin),
        6 => (0..3_usize, end).prop_map(|(which, end)| Deed::End(which, end)),
        2 => Just(Deed::RestartServer),
        1 => Just(Deed::Cancel),
        1 => Just(Deed::Expire),
        1 => Just(Deed::Redrive),
        4 => (0..120_000_u64).prop_map(Deed::Wait),
    ];
    prop::collection::vec(deed, 1..80)
}

/// The call, the world round it, and what an observer wrote down.
struct World {
    life: Life,
    now: Timestamp,
    epoch: i64,
    leases: Vec<Lease>,
    results: u32,
    redriven: u32,
}

impl World {
    fn new(policy: &CallPolicy) -> Self {
        let now = Timestamp::from_micros(1_000_000);
        let life = Life::accepted(now, now.plus(policy.deadline));
        Self {
            life,
            now,
            epoch: 1,
            leases: Vec::new(),
            results: 0,
            redriven: 0,
        }
    }

    fn event(&self, deed: &Deed) -> Option<Event> {
        Some(match deed {
            Deed::Begin => Event::Begin { epoch: self.epoch },
            Deed::End(which, end) => {
                let lease = *self.leases.iter().rev().nth(*which)?;
                Event::End {
                    lease,
                    end: end.clone(),
                }
            }
            Deed::RestartServer => Event::Release { epoch: self.epoch },
            Deed::Cancel => Event::Cancel,
            Deed::Expire => Event::Expire,
            Deed::Redrive => Event::Redrive,
            Deed::Wait(_) => return None,
        })
    }

    fn happen(&mut self, deed: &Deed, policy: &CallPolicy) -> Result<(), TestCaseError> {
        match deed {
            Deed::Wait(ms) => self.now = self.now.plus(std::time::Duration::from_millis(*ms)),
            Deed::RestartServer => self.epoch += 1,
            _ => {}
        }
        let Some(event) = self.event(deed) else {
            return Ok(());
        };
        let before = self.life.clone();
        match before.step(&event, policy, self.now, 0.5) {
            Err(refusal) => {
                if let (Event::End { lease, .. }, Refusal::Stale) = (&event, refusal) {
                    prop_assert_ne!(before.lease(), Some(*lease), "the holder was refused");
                }
            }
            Ok(after) => {
                self.check(&before, &event, &after, policy)?;
                self.life = after;
            }
        }
        Ok(())
    }

    fn check(
        &mut self,
        before: &Life,
        event: &Event,
        after: &Life,
        policy: &CallPolicy,
    ) -> Result<(), TestCaseError> {
        prop_assert!(after.attempt >= before.attempt, "attempts never go back");
        prop_assert!(
            after.tries <= policy.attempts,
            "no more tries than the policy gives"
        );
        match event {
            Event::Begin { .. } => {
                prop_assert_eq!(before.state, CallState::Accepted);
                let lease = after.lease().expect("a begun attempt holds the lease");
                prop_assert!(
                    !self.leases.contains(&lease),
                    "a lease is never granted twice"
                );
                self.leases.push(lease);
            }
            Event::End { lease, .. } => {
                prop_assert_eq!(
                    before.lease(),
                    Some(*lease),
                    "only the holder ends an attempt"
                );
                if matches!(after.state, CallState::Succeeded | CallState::Failed) {
                    self.results += 1;
                }
            }
            Event::Redrive => {
                prop_assert_eq!(before.state, CallState::Dead);
                self.redriven += 1;
            }
            _ => {}
        }
        if before.state.is_final() {
            prop_assert_eq!(event, &Event::Redrive, "what has ended stays ended");
        }
        prop_assert!(self.results <= 1, "at most one result");
        prop_assert!(after.state != CallState::Running || after.lease().is_some());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_interleaving_keeps_the_promises(deeds in deeds(), interrupted: bool, attempts in 1..6_u32) {
        let policy = CallPolicy { retry_interrupted: interrupted, attempts, ..CallPolicy::default() };
        let mut world = World::new(&policy);
        for deed in &deeds {
            world.happen(deed, &policy)?;
        }
    }

    #[test]
    fn every_call_ends_when_its_agent_answers_at_last(deeds in deeds()) {
        let policy = CallPolicy::default();
        let mut world = World::new(&policy);
        for deed in deeds.iter().filter(|deed| !matches!(deed, Deed::Cancel | Deed::Expire | Deed::Redrive)) {
            world.happen(deed, &policy)?;
        }
        // However it stands now, a restart, some time and one good attempt end it.
        for deed in [
            Deed::RestartServer,
            Deed::Wait(31_000),
            Deed::Begin,
            Deed::End(0, End::Answered { status: 200, retry_after: None }),
        ] {
            world.happen(&deed, &policy)?;
        }
        prop_assert!(world.life.state.is_final(), "{:?}", world.life);
    }
}

#[test]
fn a_call_that_cuts_its_agent_off_every_time_dies_after_its_attempts() {
    let policy = CallPolicy::default();
    let mut world = World::new(&policy);
    for _ in 0..policy.attempts {
        for deed in [
            Deed::Wait(60_000),
            Deed::Begin,
            Deed::End(0, End::Cut("reset".to_owned())),
        ] {
            world.happen(&deed, &policy).unwrap();
        }
    }
    assert_eq!(world.life.state, CallState::Dead);
    assert_eq!((world.life.tries, world.life.crashes), (5, 5));
    let redriven = world
        .life
        .step(&Event::Redrive, &policy, world.now, 0.0)
        .unwrap();
    assert_eq!(
        (redriven.state, redriven.tries, redriven.attempt),
        (CallState::Accepted, 0, 5)
    );
}

#[test]
fn an_agent_that_asks_for_time_gets_it() {
    let policy = CallPolicy::default();
    let world = World::new(&policy);
    let begun = world
        .life
        .step(&Event::Begin { epoch: 1 }, &policy, world.now, 0.0)
        .unwrap();
    let asked = std::time::Duration::from_secs(7);
    let end = End::Answered {
        status: 503,
        retry_after: Some(asked),
    };
    let event = Event::End {
        lease: begun.lease().unwrap(),
        end,
    };
    let after = begun.step(&event, &policy, world.now, 0.0).unwrap();
    assert_eq!(
        (after.state, after.due),
        (CallState::Accepted, world.now.plus(asked))
    );
    let early = after.step(&Event::Begin { epoch: 1 }, &policy, world.now, 0.0);
    assert_eq!(early, Err(Refusal::Early));
}
