//! Who is asked first, who is left alone and for how long, and which key is shown.

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000).plus(Duration::from_secs(seconds))
}

fn all(names: &[(&str, u32)]) -> Vec<(String, u32)> {
    let own = |(name, weight): &(&str, u32)| ((*name).to_owned(), *weight);
    names.iter().map(own).collect()
}

#[test]
fn one_that_fails_is_left_alone_and_then_tried_by_one() {
    let mut health = Health::default();
    let two = all(&[("a/x", 1), ("b/y", 1)]);
    let order = |health: &Health, seconds| health.order(Pick::Ordered, &two, (0, at(seconds)));
    for _ in 0..4 {
        health.bad("a/x", at(0));
    }
    assert_eq!(order(&health, 0), [0, 1]);
    health.bad("a/x", at(0));
    assert_eq!(order(&health, 0), [1]);
    assert_eq!(order(&health, 9), [1]);
    assert_eq!(health.condition("a/x", at(9)).until, Some(at(10)));
    // One tries, and no other meanwhile.
    assert_eq!(order(&health, 10), [0, 1]);
    health.asked("a/x", at(10));
    assert_eq!(order(&health, 11), [1]);
    health.bad("a/x", at(12));
    assert_eq!(order(&health, 31), [1], "twice as long");
    assert_eq!(order(&health, 32), [0, 1]);
    // Who tries and is not heard of again holds nobody up for ever.
    health.asked("a/x", at(32));
    assert_eq!(order(&health, 61), [1]);
    assert_eq!(order(&health, 62), [0, 1]);
    health.asked("a/x", at(62));
    health.unknown("a/x");
    assert_eq!(order(&health, 62), [0, 1]);
    health.begins("a/x", Duration::from_millis(5));
    assert_eq!(
        health.condition("a/x", at(62)).failures,
        6,
        "who only begins has not answered"
    );
    health.good("a/x");
    assert_eq!(order(&health, 62), [0, 1]);
    assert_eq!(health.condition("a/x", at(62)).failures, 0);
    for _ in 0..5 {
        health.bad("a/x", at(100));
    }
    assert_eq!(order(&health, 110), [0, 1], "the first while again");
}

#[test]
fn when_all_fail_all_are_asked() {
    let mut health = Health::default();
    let two = all(&[("a/x", 1), ("b/y", 1)]);
    for _ in 0..5 {
        health.bad("a/x", at(0));
        health.bad("b/y", at(0));
    }
    assert_eq!(health.order(Pick::Ordered, &two, (0, at(1))), [0, 1]);
}

#[test]
fn nobody_is_left_alone_for_longer_than_two_minutes() {
    let mut health = Health::default();
    for round in 0..100 {
        let now = at(round * 1_000);
        health.asked("a/x", now);
        for _ in 0..5 {
            health.bad("a/x", now);
        }
        let until = health.condition("a/x", now).until.unwrap();
        assert!(until.since(now) <= LONGEST, "{round}");
    }
}

#[test]
fn the_fastest_is_asked_first_and_who_is_not_known_before() {
    let mut health = Health::default();
    let three = all(&[("a/x", 1), ("b/y", 1), ("c/z", 1)]);
    let order = |health: &Health, seconds| health.order(Pick::Fastest, &three, (0, at(seconds)));
    for (name, millis) in [("a/x", 300), ("b/y", 100), ("c/z", 200)] {
        health.asked(name, at(0));
        health.begins(name, Duration::from_millis(millis));
        health.good(name);
    }
    assert_eq!(order(&health, 1), [1, 2, 0]);
    // One slow answer is not all.
    health.begins("b/y", Duration::from_millis(300));
    assert_eq!(order(&health, 1), [1, 2, 0]);
    for _ in 0..10 {
        health.begins("b/y", Duration::from_secs(1));
    }
    assert_eq!(order(&health, 1), [2, 0, 1]);
    health.asked("c/z", at(59));
    health.asked("b/y", at(59));
    assert_eq!(order(&health, 60), [0, 2, 1], "nobody knows how it is now");
}

#[test]
fn weights_are_shares() {
    let health = Health::default();
    let three = all(&[("a/x", 8), ("b/y", 2), ("c/z", 0)]);
    let mut firsts = [0_u32; 3];
    for chance in 0..10_000 {
        let order = health.order(Pick::Weighted, &three, (chance, at(0)));
        assert_eq!(order[2], 2, "without a weight it comes last");
        firsts[order[0]] += 1;
    }
    assert!((7_700..8_300).contains(&firsts[0]), "{firsts:?}");
    assert_eq!(firsts[0] + firsts[1], 10_000);
}

#[test]
fn a_key_that_is_set_aside_is_shown_when_no_other_is_left() {
    let mut health = Health::default();
    let keys = ["one", "two", "three"].map(str::to_owned);
    let shown = |health: &Health, turn, seconds| health.key("p", &keys, (turn, at(seconds)));
    let turns = |health: &Health| [0, 1, 2, 3].map(|turn| shown(health, turn, 0));
    assert_eq!(turns(&health), [Some(0), Some(1), Some(2), Some(0)]);
    health.set_aside("p", "one", at(10));
    assert_eq!(turns(&health), [Some(1), Some(1), Some(2), Some(1)]);
    assert_eq!(shown(&health, 0, 10), Some(0));
    health.set_aside("p", "two", at(5));
    health.set_aside("p", "three", at(20));
    assert_eq!(turns(&health), [Some(1); 4], "it is back first");
    assert!(!health.has_key("p", &keys, at(4)) && health.has_key("p", &keys, at(5)));
    assert!(health.has_key("q", &keys, at(0)));
    assert_eq!(health.key("p", &[], (7, at(0))), None);
}

proptest! {
    /// Whatever happened: an order names nobody twice, and somebody always.
    #[test]
    fn an_order_is_whole(
        events in proptest::collection::vec((0_u8..4, 0_usize..4, 0_u64..300), 0..60),
        weights in proptest::collection::vec(0_u32..5, 4),
        chance: u64, now in 0_u64..400,
    ) {
        let mut health = Health::default();
        let names = ["a/a", "b/b", "c/c", "d/d"];
        for (what, whose, seconds) in events {
            match what {
                0 => health.asked(names[whose], at(seconds)),
                1 => {
                    health.begins(names[whose], Duration::from_millis(seconds));
                    health.good(names[whose]);
                }
                2 => health.bad(names[whose], at(seconds)),
                _ => health.unknown(names[whose]),
            }
        }
        let all: Vec<_> = names.iter().zip(weights).map(|(it, weight)| ((*it).to_owned(), weight)).collect();
        for pick in Pick::ALL {
            let order = health.order(pick, &all, (chance, at(now)));
            let mut seen = order.clone();
            seen.sort_unstable();
            seen.dedup();
            prop_assert!(!order.is_empty() && seen.len() == order.len() && order.iter().all(|it| *it < 4));
        }
    }
}
