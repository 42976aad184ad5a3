//! Tests of the supervisor's machine: the stories, and what holds in all of them.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    Policy {
        failures: 3,
        interval: 10 * S,
        startup: 60 * S,
        backoff: 200 * MS,
        max_backoff: 30 * S,
        crash_loop_after: 5,
        drain: 30 * S,
    }
}

fn machine() -> Machine {
    Machine::new(policy(), 7)
}

fn ready(at: Duration) -> Machine {
    let mut machine = machine();
    assert_eq!(machine.on(Event::Run, at), [Action::Launch]);
    assert_eq!(machine.on(Event::Launched, at), [Action::Probe]);
    machine.on(hit(), at);
    assert_eq!(machine.view(), InstanceState::Ready);
    machine
}

fn hit() -> Event {
    Event::Probed {
        result: Ok(()),
        busy: false,
    }
}

fn miss(kind: MissKind, busy: bool) -> Event {
    let reason = "no answer in 2s".to_owned();
    Event::Probed {
        result: Err(Miss { kind, reason }),
        busy,
    }
}

fn exit(busy: bool) -> Event {
    Event::Exited {
        how: "exited with status 3".to_owned(),
        busy,
    }
}

fn launches(actions: &[Action]) -> bool {
    actions.contains(&Action::Launch)
}

#[test]
fn start_probes_slow_down_until_ready() {
    let mut machine = machine();
    machine.on(Event::Run, S);
    machine.on(Event::Launched, S);
    let mut now = S;
    let mut pauses = Vec::new();
    for _ in 0..6 {
        machine.on(miss(MissKind::Refused, false), now);
        let wake = machine.wake().unwrap();
        pauses.push((wake - now).as_millis());
        now = wake;
        assert_eq!(machine.on(Event::Tick, now), [Action::Probe]);
    }
    assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
    assert_eq!(machine.view(), InstanceState::Starting);
    machine.on(hit(), now);
    assert_eq!(machine.view(), InstanceState::Ready);
    assert_eq!(machine.wake(), Some(now + 10 * S));
}

#[test]
fn failing_starts_back_off_and_end_in_a_crash_loop() {
    let mut machine = machine();
    let mut now = S;
    let mut actions = machine.on(Event::Run, now);
    let mut waits = Vec::new();
    while machine.view() != InstanceState::CrashLoop {
        if launches(&actions) {
            machine.on(Event::Launched, now);
            actions = machine.on(exit(false), now);
        } else {
            let wake = machine.wake().unwrap();
            waits.push(wake - now);
            now = wake;
            actions = machine.on(Event::Tick, now);
        }
    }
    // The first restart is immediate; the fifth failure is the last one.
    assert_eq!(waits.len(), 3);
    for (wait, full) in waits.iter().zip([200 * MS, 400 * MS, 800 * MS]) {
        assert!(*wait >= full / 2 && *wait <= full, "{wait:?}");
    }
    let reason = machine.reason().unwrap();
    assert!(
        reason.contains("5 failed starts") && reason.contains("status 3"),
        "{reason}"
    );
    assert_eq!(machine.wake(), None);
    assert_eq!(machine.on(Event::Run, now), [Action::Launch]);
}

#[test]
fn a_start_that_takes_too_long_is_killed_and_counts() {
    let mut machine = machine();
    machine.on(Event::Run, S);
    machine.on(Event::Launched, S);
    assert_eq!(
        machine.on(Event::Tick, 61 * S),
        [Action::End { at_once: true }]
    );
    let actions = machine.on(exit(false), 61 * S);
    assert!(launches(&actions), "{actions:?}");
    assert!(machine.reason().unwrap().contains("not ready within 1m"));
}

#[test]
fn missed_probes_make_it_unready_and_then_restart_it() {
    let mut machine = ready(S);
    let mut now = S;
    let mut states = Vec::new();
    for _ in 0..6 {
        now = machine.wake().unwrap();
        machine.on(Event::Tick, now);
        machine.on(miss(MissKind::Silent, false), now);
        states.push(machine.view());
    }
    use InstanceState::{Ready, Unready};
    assert_eq!(states, [Ready, Ready, Unready, Unready, Unready, Unready]);
    assert!(launches(&machine.on(exit(false), now)));
}

#[test]
fn an_agent_that_is_silent_over_a_call_is_not_killed() {
    let mut machine = ready(S);
    for _ in 0..50 {
        let now = machine.wake().unwrap();
        machine.on(Event::Tick, now);
        let actions = machine.on(miss(MissKind::Silent, true), now);
        assert!(!actions.contains(&Action::End { at_once: false }));
    }
    assert_eq!(machine.view(), InstanceState::Unready);
    machine.on(hit(), 999 * S);
    assert_eq!(machine.view(), InstanceState::Ready);
}

#[test]
fn an_agent_that_says_that_it_lives_is_left_alone_until_it_does_not() {
    let mut machine = ready(S);
    let mut now = S;
    for _ in 0..50 {
        now = machine.wake().unwrap();
        machine.on(Event::Tick, now);
        let actions = machine.on(miss(MissKind::Alive, false), now);
        assert!(!actions.contains(&Action::End { at_once: false }));
    }
    assert_eq!(machine.view(), InstanceState::Unready);
    machine.on(Event::Tick, machine.wake().unwrap());
    let actions = machine.on(miss(MissKind::Unwell, false), now + S);
    assert!(
        actions.contains(&Action::End { at_once: false }),
        "{actions:?}"
    );
}

#[test]
fn a_closed_port_is_unready_at_once() {
    let mut machine = ready(S);
    assert_eq!(machine.on(Event::Suspect, 2 * S), [Action::Probe]);
    assert_eq!(machine.on(Event::Suspect, 2 * S), []);
    machine.on(miss(MissKind::Refused, false), 2 * S);
    assert_eq!(machine.view(), InstanceState::Unready);
}

#[test]
fn deaths_over_calls_never_make_a_crash_loop() {
    let mut now = S;
    let mut machine = ready(now);
    for _ in 0..100 {
        let actions = machine.on(exit(true), now);
        assert!(!launches(&actions));
        assert_eq!(machine.view(), InstanceState::Backoff);
        let wake = machine.wake().unwrap();
        assert!(wake - now <= 200 * MS);
        now = wake;
        assert_eq!(machine.on(Event::Tick, now), [Action::Launch]);
        machine.on(Event::Launched, now);
        machine.on(hit(), now);
    }
}

#[test]
fn deaths_long_after_readiness_are_forgiven() {
    let mut now = S;
    let mut machine = ready(now);
    for _ in 0..20 {
        now += SETTLED;
        assert!(launches(&machine.on(exit(false), now)));
        machine.on(Event::Launched, now);
        machine.on(hit(), now);
    }
}

#[test]
fn deaths_right_after_readiness_are_a_crash_loop() {
    let mut now = S;
    let mut machine = ready(now);
    for _ in 0..4 {
        machine.on(exit(false), now);
        if let Some(wake) = machine.wake() {
            now = wake;
            machine.on(Event::Tick, now);
        }
        machine.on(Event::Launched, now);
        machine.on(hit(), now);
    }
    machine.on(exit(false), now);
    assert_eq!(machine.view(), InstanceState::CrashLoop);
}

#[test]
fn a_stop_while_launching_ends_what_was_launched() {
    let mut machine = machine();
    machine.on(Event::Run, S);
    assert_eq!(machine.on(Event::Stop, S), []);
    assert_eq!(machine.view(), InstanceState::Stopping);
    assert_eq!(
        machine.on(Event::Launched, S),
        [Action::End { at_once: false }]
    );
    machine.on(exit(false), S);
    assert_eq!(machine.view(), InstanceState::Stopped);
}

#[test]
fn skeps_own_trouble_does_not_count() {
    let mut machine = machine();
    let mut now = S;
    machine.on(Event::Run, now);
    for _ in 0..50 {
        let reason = "the store cannot write".to_owned();
        machine.on(
            Event::LaunchFailed {
                reason,
                counts: false,
            },
            now,
        );
        assert_eq!(machine.view(), InstanceState::Backoff);
        now = machine.wake().unwrap();
        assert_eq!(machine.on(Event::Tick, now), [Action::Launch]);
    }
}

/// The world as the shell keeps it: at most one of each thing under way.
#[derive(Default)]
struct World {
    launching: bool,
    running: bool,
    probing: bool,
    ending: bool,
    draining: bool,
}

impl World {
    fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Launch => {
                    assert!(!self.launching && !self.running, "two instances at once");
                    self.launching = true;
                }
                Action::Probe => {
                    assert!(self.running && !self.probing, "a probe too many");
                    self.probing = true;
                }
                Action::End { .. } => {
                    assert!(self.running && !self.ending, "ended twice");
                    self.ending = true;
                }
                Action::Drain => {
                    assert!(self.running && !self.draining, "drained twice");
                    self.draining = true;
                }
                Action::Note(text) => assert!(!text.is_empty()),
            }
        }
    }

    /// The next event of this kind, if it can happen now.
    fn event(&mut self, kind: u8, busy: bool) -> Option<Event> {
        match kind {
            0 => Some(Event::Run),
            1 => Some(Event::Stop),
            2 => Some(Event::Drain),
            10 if self.draining => Some(Event::Drained),
            3 => Some(Event::Suspect),
            4 | 5 if self.launching => {
                self.launching = false;
                self.running = kind == 4;
                Some(if self.running {
                    Event::Launched
                } else {
                    Event::LaunchFailed {
                        reason: "no".to_owned(),
                        counts: busy,
                    }
                })
            }
            6..=8 if self.probing => {
                self.probing = false;
                let kinds = [MissKind::Refused, MissKind::Silent, MissKind::Alive];
                Some(if kind == 6 {
                    hit()
                } else {
                    miss(kinds[usize::from(kind - 7)], busy)
                })
            }
            9 if self.running => {
                *self = Self::default();
                Some(exit(busy))
            }
            _ => None,
        }
    }
}

proptest! {
    #[test]
    fn holds_whatever_happens(
        steps in prop::collection::vec((0_u8..12, any::<bool>(), 0_u64..20_000), 1..400),
    ) {
        let mut machine = machine();
        let mut world = World::default();
        let mut now = Duration::ZERO;
        for (kind, busy, millis) in steps {
            now += Duration::from_millis(millis);
            let actions = match world.event(kind, busy) {
                Some(event) => machine.on(event, now),
                None => {
                    now = machine.wake().unwrap_or(now).max(now);
                    machine.on(Event::Tick, now)
                }
            };
            world.apply(&actions);
            prop_assert_eq!(machine.is_launching(), world.launching);
            let idle = matches!(
                machine.view(),
                InstanceState::Stopped | InstanceState::Backoff | InstanceState::CrashLoop
            );
            prop_assert_eq!(idle, !world.running && !world.launching);
            // It never waits for nothing, unless somebody must act.
            prop_assert!(
                machine.wake().is_some() || world.launching || world.running
                    || matches!(machine.view(), InstanceState::Stopped | InstanceState::CrashLoop)
            );
        }
        // Stopped, it ends whatever happened before.
        world.apply(&machine.on(Event::Stop, now));
        for kind in [4, 9] {
            if let Some(event) = world.event(kind, false) {
                world.apply(&machine.on(event, now));
            }
        }
        prop_assert_eq!(machine.view(), InstanceState::Stopped);
    }
}
