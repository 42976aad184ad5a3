//! Which copies of an agent there are to be: a pure function of what is wanted and of what there
//! is. It is asked again after every change, so that a step that was lost is simply taken later.
//!
//! The words: a *member* is one copy with its supervisor; it is *fresh* when it is what is to be
//! rolled out, else *old*. A *retiring* member was told to end and counts no more.

use skep_api::InstanceState;

/// What is wanted of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The revision to be rolled out.
    pub(crate) revision: u32,
    /// The one that has proven itself; it serves until `revision` has. `None`: there was none.
    pub(crate) stable: Option<u32>,
    /// Copies altogether.
    pub(crate) replicas: u32,
    /// Copies above that while something is rolled out, at least one.
    pub(crate) surge: u32,
    /// The share of the copies that are to be fresh, in percent: 100 but during a canary step.
    pub(crate) share: u8,
    /// Whether nothing is to go forward for the time being.
    pub(crate) paused: bool,
    /// Whether a revision that fails makes way for the stable one.
    pub(crate) roll_back: bool,
}

impl Wish {
    /// Whether a revision is on its way and not proven.
    pub(crate) fn is_rolling(&self) -> bool {
        self.stable.is_some_and(|stable| stable != self.revision)
    }

    /// Copies that are to be fresh now.
    pub(crate) fn fresh(&self) -> u32 {
        let share = u64::from(self.replicas) * u64::from(self.share);
        u32::try_from(share.div_ceil(100)).unwrap_or(self.replicas)
    }
}

/// One copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// Counts up with each member of an agent.
    pub(crate) generation: u64,
    /// What it runs.
    pub(crate) revision: u32,
    /// What it is doing.
    pub(crate) state: InstanceState,
    /// Whether it is to be replaced although its revision is wanted: somebody asked for a restart.
    pub(crate) stale: bool,
}

impl Member {
    fn is_ready(&self) -> bool {
        self.state == InstanceState::Ready
    }

    /// Whether it takes calls, or will soon without being started again.
    fn is_up(&self) -> bool {
        matches!(
            self.state,
            InstanceState::Ready | InstanceState::Unready | InstanceState::Starting
        )
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Start a member of this revision.
    Start(u32),
    /// End this member when its calls have ended.
    Retire(u64),
    /// The revision has proven itself: it is the stable one from now on.
    Settle,
    /// The revision failed: the stable one is wanted again.
    RollBack,
}

/// What to do now. `members` are those that are not retiring.
pub(crate) fn plan(wish: &Wish, members: &[Member]) -> Vec<Step> {
    let is_fresh = |member: &&Member| member.revision == wish.revision && !member.stale;
    let (fresh, old): (Vec<&Member>, Vec<&Member>) = members.iter().partition(is_fresh);
    if wish.is_rolling() && wish.roll_back && fresh.iter().any(|m| failed(m)) {
        return vec![Step::RollBack];
    }
    let mut steps = Vec::new();
    let (old, idle): (Vec<&Member>, Vec<&Member>) =
        old.into_iter().partition(|member| is_needed(wish, member));
    steps.extend(idle.iter().map(|member| Step::Retire(member.generation)));
    if wish.paused && wish.is_rolling() {
        return steps;
    }
    let wanted = wish.fresh();
    let missing = wanted.saturating_sub(count(&fresh));
    let most = wish.replicas + wish.surge.max(1);
    let room = most.saturating_sub(count(&fresh) + count(&old));
    let begun = match old.is_empty() {
        true => missing,
        false => missing.min(room),
    };
    steps.extend((0..begun).map(|_| Step::Start(wish.revision)));
    let mut serving = ready(&fresh) + ready(&old);
    steps.extend(spare(wish, &fresh, wanted, &mut serving));
    steps.extend(make_way(wish, &fresh, &old, &mut serving));
    steps.extend(fill_up(wish, &fresh, &old));
    let proven = fresh.iter().filter(|member| member.is_ready()).count() as u64;
    let whole = wish.share == 100 && old.is_empty() && proven >= u64::from(wanted.max(1));
    if whole && wish.stable != Some(wish.revision) {
        steps.push(Step::Settle);
    }
    steps
}

fn count(members: &[&Member]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}

/// It was given its chances and used them up.
fn failed(member: &Member) -> bool {
    member.state == InstanceState::CrashLoop
}

/// Whether an old member serves or is worth waiting for. What will not serve soon, and what was
/// superseded before it served, only takes room.
fn is_needed(wish: &Wish, old: &Member) -> bool {
    let superseded = Some(old.revision) != wish.stable;
    old.is_ready() || (old.is_up() && !superseded)
}

fn ready(members: &[&Member]) -> usize {
    members.iter().filter(|member| member.is_ready()).count()
}

/// The fresh members above `wanted`, as far as enough serve without them: those that are not ready
/// first, the newest first.
fn spare(wish: &Wish, fresh: &[&Member], wanted: u32, serving: &mut usize) -> Vec<Step> {
    let mut order: Vec<&&Member> = fresh.iter().collect();
    order.sort_by_key(|member| {
        (
            member.is_ready(),
            member.is_up(),
            std::cmp::Reverse(member.generation),
        )
    });
    let over = order.len().saturating_sub(wanted as usize);
    let mut steps = Vec::new();
    for member in order.into_iter().take(over) {
        let after = *serving - usize::from(member.is_ready());
        if member.is_ready() && after < wish.replicas as usize {
            break;
        }
        *serving = after;
        steps.push(Step::Retire(member.generation));
    }
    steps
}

/// The old members that can go: without them as many are ready as are wanted.
fn make_way(wish: &Wish, fresh: &[&Member], old: &[&Member], serving: &mut usize) -> Vec<Step> {
    let keep = if wish.share < 100 {
        wish.replicas.saturating_sub(wish.fresh())
    } else {
        0
    };
    let mut order: Vec<&&Member> = old.iter().collect();
    // What is neither stable nor fresh goes first, then what does not serve.
    order.sort_by_key(|member| {
        (
            Some(member.revision) == wish.stable && !member.stale,
            member.is_ready(),
            member.generation,
        )
    });
    let may_go = old.len().saturating_sub(keep as usize);
    let mut steps = Vec::new();
    for member in order.into_iter().take(may_go) {
        let after = *serving - usize::from(member.is_ready());
        let replaced = !member.is_ready() && ready(fresh) > 0;
        if after < wish.replicas as usize && !replaced {
            continue;
        }
        *serving = after;
        steps.push(Step::Retire(member.generation));
    }
    steps
}

/// During a canary step, old members that are missing: the agent grew, or one failed.
fn fill_up(wish: &Wish, fresh: &[&Member], old: &[&Member]) -> Vec<Step> {
    let Some(stable) = wish
        .stable
        .filter(|_| wish.is_rolling() && wish.share < 100)
    else {
        return Vec::new();
    };
    let room = wish.replicas.saturating_sub(count(fresh).max(wish.fresh()));
    let missing = room.saturating_sub(count(old));
    (0..missing).map(|_| Step::Start(stable)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn wish(revision: u32, stable: Option<u32>, replicas: u32) -> Wish {
        Wish {
            revision,
            stable,
            replicas,
            surge: 1,
            share: 100,
            paused: false,
            roll_back: true,
        }
    }

    fn member(generation: u64, revision: u32, state: InstanceState) -> Member {
        Member {
            generation,
            revision,
            state,
            stale: false,
        }
    }

    use InstanceState::{Backoff, CrashLoop, Ready, Starting, Unready};

    #[test]
    fn the_first_revision_starts_and_settles() {
        let mut wish = wish(1, None, 2);
        assert_eq!(plan(&wish, &[]), [Step::Start(1), Step::Start(1)]);
        let half = [member(1, 1, Ready), member(2, 1, Starting)];
        assert_eq!(plan(&wish, &half), []);
        let whole = [member(1, 1, Ready), member(2, 1, Ready)];
        assert_eq!(plan(&wish, &whole), [Step::Settle]);
        wish.stable = Some(1);
        assert_eq!(plan(&wish, &whole), []);
    }

    #[test]
    fn a_new_revision_takes_over_one_by_one() {
        let wish = wish(2, Some(1), 2);
        let old = [member(1, 1, Ready), member(2, 1, Ready)];
        assert_eq!(plan(&wish, &old), [Step::Start(2)]);
        let begun = [old[0], old[1], member(3, 2, Starting)];
        assert_eq!(plan(&wish, &begun), []);
        let proven = [old[0], old[1], member(3, 2, Ready)];
        assert_eq!(plan(&wish, &proven), [Step::Retire(1)]);
        assert_eq!(plan(&wish, &proven[1..]), [Step::Start(2)]);
    }

    #[test]
    fn a_revision_that_fails_makes_way() {
        let mut wish = wish(2, Some(1), 1);
        let members = [member(1, 1, Ready), member(2, 2, CrashLoop)];
        assert_eq!(plan(&wish, &members), [Step::RollBack]);
        wish.roll_back = false;
        assert_eq!(plan(&wish, &members), []);
    }

    #[test]
    fn what_serves_nobody_goes_at_once_and_the_rest_when_it_is_not_needed() {
        let wish = wish(2, Some(1), 1);
        let broken = [member(1, 1, CrashLoop)];
        assert_eq!(plan(&wish, &broken), [Step::Retire(1), Step::Start(2)]);
        let unready = [member(1, 1, Unready), member(2, 2, Starting)];
        assert_eq!(plan(&wish, &unready), []);
        let waits = [member(1, 1, Backoff), member(2, 2, Starting)];
        assert_eq!(plan(&wish, &waits), [Step::Retire(1)]);
    }

    #[test]
    fn a_canary_step_holds_its_share() {
        let mut wish = wish(2, Some(1), 4);
        wish.share = 25;
        let old: Vec<_> = (1..=4).map(|n| member(n, 1, Ready)).collect();
        assert_eq!(plan(&wish, &old), [Step::Start(2)]);
        let mut both = old.clone();
        both.push(member(5, 2, Ready));
        assert_eq!(plan(&wish, &both), [Step::Retire(1)]);
        assert_eq!(plan(&wish, &both[1..]), []);
        // One of the old is missing.
        assert_eq!(plan(&wish, &both[2..]), [Step::Start(1)]);
        wish.share = 100;
        assert_eq!(plan(&wish, &both[1..]), [Step::Start(2)]);
        wish.paused = true;
        assert_eq!(plan(&wish, &both[1..]), []);
    }

    #[test]
    fn copies_come_and_go_with_the_number_that_is_wanted() {
        let none = wish(1, Some(1), 0);
        let members = [member(1, 1, Ready), member(2, 1, Starting)];
        assert_eq!(plan(&none, &members), [Step::Retire(2), Step::Retire(1)]);
        assert_eq!(plan(&wish(1, Some(1), 1), &members), [Step::Retire(2)]);
        assert_eq!(plan(&wish(1, Some(1), 3), &members), [Step::Start(1)]);
    }

    #[test]
    fn a_restart_replaces_without_a_gap() {
        let wish = wish(1, Some(1), 1);
        let stale = Member {
            stale: true,
            ..member(1, 1, Ready)
        };
        assert_eq!(plan(&wish, &[stale]), [Step::Start(1)]);
        let both = [stale, member(2, 1, Ready)];
        assert_eq!(plan(&wish, &both), [Step::Retire(1)]);
    }

    /// What happens to a world of members.
    #[derive(Debug, Clone)]
    enum Happens {
        Deploy(bool),
        Restart,
        Scale(u32),
        Share(u8),
        Starts(usize),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            any::<bool>().prop_map(Happens::Deploy),
            Just(Happens::Restart),
            (1_u32..5).prop_map(Happens::Scale),
            (1_u8..=100).prop_map(Happens::Share),
            any::<usize>().prop_map(Happens::Starts),
            any::<usize>().prop_map(Happens::Starts),
        ]
    }

    struct World {
        wish: Wish,
        members: BTreeMap<u64, Member>,
        next: u64,
        good: BTreeMap<u32, bool>,
    }

    impl World {
        fn ready(&self) -> usize {
            self.members.values().filter(|m| m.is_ready()).count()
        }

        /// Takes every step that there is. Tells whether there was one.
        fn settle(&mut self) -> bool {
            let mut any = false;
            loop {
                let members: Vec<_> = self.members.values().copied().collect();
                let steps = plan(&self.wish, &members);
                if steps.is_empty() {
                    return any;
                }
                any = true;
                for step in steps {
                    self.take(step);
                }
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Start(revision) => {
                    self.next += 1;
                    let new = member(self.next, revision, Starting);
                    self.members.insert(self.next, new);
                }
                Step::Retire(generation) => {
                    self.members.remove(&generation).expect("there is one");
                }
                Step::Settle => self.wish.stable = Some(self.wish.revision),
                Step::RollBack => {
                    self.wish.revision = self.wish.stable.expect("there is one");
                    self.wish.share = 100;
                }
            }
        }

        /// One that starts becomes ready, or fails when its revision is bad.
        fn start(&mut self, pick: usize) {
            let starting: Vec<u64> = self
                .members
                .values()
                .filter(|m| m.state == Starting)
                .map(|m| m.generation)
                .collect();
            let Some(generation) = starting.get(pick % starting.len().max(1)) else {
                return;
            };
            let member = self.members.get_mut(generation).expect("there is one");
            let good = self.good[&member.revision];
            member.state = if good { Ready } else { CrashLoop };
        }
    }

    proptest! {
        /// However an agent is changed: once it served, a change never leaves fewer ready copies
        /// than were wanted and there, and in the end what is good runs in full.
        #[test]
        fn changes_leave_no_gap_and_end(history in proptest::collection::vec(happens(), 1..40)) {
            let mut world = World {
                wish: wish(1, None, 1),
                members: BTreeMap::new(),
                next: 0,
                good: BTreeMap::from([(1, true)]),
            };
            world.settle();
            world.start(0);
            world.settle();
            for change in history {
                let before = world.ready();
                match change {
                    Happens::Deploy(good) => {
                        let newest = *world.good.keys().last().expect("there is one") + 1;
                        world.good.insert(newest, good);
                        world.wish.revision = newest;
                        world.wish.share = 100;
                    }
                    Happens::Restart => world.members.values_mut().for_each(|m| m.stale = true),
                    Happens::Scale(replicas) => world.wish.replicas = replicas,
                    Happens::Share(share) if world.wish.is_rolling() => world.wish.share = share,
                    Happens::Share(_) => {}
                    Happens::Starts(pick) => world.start(pick),
                }
                world.settle();
                let least = before.min(world.wish.replicas as usize);
                prop_assert!(world.ready() >= least, "{} of {least}", world.ready());
            }
            world.wish.share = 100;
            for pick in 0..200 {
                world.settle();
                world.start(pick);
            }
            prop_assert!(!world.settle(), "it never rests");
            let rests = world.members.values().all(|m| m.is_ready() && !m.stale);
            prop_assert!(rests, "{:?}", world.members);
            prop_assert_eq!(world.members.len(), world.wish.replicas as usize);
            prop_assert_eq!(world.wish.stable, Some(world.wish.revision));
        }
    }
}
