//! Tables of moments and what is found at them, and whatever comes.

use proptest::prelude::*;

use super::patterns::Pattern;
use super::*;
use crate::{PrincipalKind, Role, Scopes};

const SECOND: i64 = 1_000_000;

fn rules() -> Rules {
    let burst = |count, seconds| Burst {
        count,
        within: Duration::from_secs(seconds),
    };
    let mut rules = Rules::default();
    rules.denials = burst(3, 10);
    rules.failures = burst(4, 10);
    rules.rate = burst(5, 1);
    rules.networks = burst(2, 60);
    rules.patterns = burst(3, 60);
    rules.missing = burst(4, 60);
    rules.foreign = burst(2, 60);
    rules
}

fn watch() -> Watch {
    Watch::new(rules(), &[7; 32])
}

fn key(id: &str) -> Principal {
    Principal {
        kind: PrincipalKind::ApiKey,
        id: id.into(),
        workspace: Workspace::default(),
        role: Some(Role::Member),
        scopes: Scopes::all(),
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn kinds(found: &[Finding]) -> Vec<Kind> {
    found.iter().map(|it| it.kind).collect()
}

#[test]
fn bursts_are_found_and_what_is_slow_is_not() {
    let here = address("192.0.2.1");
    let (one, other) = (key("key_1"), key("key_2"));
    // Seconds at which it happens, and how many times that is found.
    let table: [(&[i64], usize); 6] = [
        (&[0, 1], 0),
        (&[0, 5, 10], 1),
        (&[0, 5, 11], 0),
        (&[0, 1, 2, 3, 4, 5, 6], 1),
        (&[0, 9, 18, 27, 36], 0),
        // Told again when it was quiet for long enough.
        (&[0, 1, 2, 603, 604, 605], 2),
    ];
    for (moments, expected) in table {
        let mut watch = watch();
        let mut found = Vec::new();
        for moment in moments {
            found.extend(watch.see(Signal::Denied(&one, here), at(moment * SECOND)));
            // Others do not count.
            watch.see(Signal::Denied(&other, here), at(0));
        }
        found.retain(|it| it.subject == Subject::Principal("ApiKey", "key_1".into()));
        assert_eq!(kinds(&found), vec![Kind::Denials; expected], "{moments:?}");
    }
    let mut watch = watch();
    let failed = |watch: &mut Watch, from: &str| watch.see(Signal::Failed(address(from)), at(0));
    let mut found = Vec::new();
    for number in 0..4 {
        found.extend(failed(&mut watch, &format!("192.0.2.{number}")));
        found.extend(failed(&mut watch, "198.51.100.7"));
    }
    assert_eq!(kinds(&found), [Kind::FailedAuthentications]);
    assert_eq!(found[0].subject, Subject::Address(address("198.51.100.7")));
    assert!(!found[0].detail.contains("198.51"), "{}", found[0].detail);
}

#[test]
fn a_key_that_is_everywhere_or_too_fast_is_found() {
    let mut watch = watch();
    let one = key("key_1");
    let asked = |watch: &mut Watch, from: &str, micros| {
        kinds(&watch.see(Signal::Asked(&one, address(from)), at(micros)))
    };
    // The first address is learnt.
    assert_eq!(asked(&mut watch, "192.0.2.1", 0), []);
    assert_eq!(asked(&mut watch, "192.0.2.1", 1), []);
    // Another one of the same network is new, and told once within a while.
    assert_eq!(asked(&mut watch, "192.0.2.2", SECOND), [Kind::NewAddress]);
    assert_eq!(asked(&mut watch, "198.51.100.1", 2 * SECOND), []);
    assert_eq!(asked(&mut watch, "192.0.2.1", 3 * SECOND), []);
    // A third network within a minute.
    assert_eq!(
        asked(&mut watch, "2001:db8::1", 4 * SECOND),
        [Kind::Networks]
    );
    // Those of before are known for good.
    let later = 1_000 * SECOND;
    for known in ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"] {
        let found = asked(&mut watch, known, later);
        assert!(!found.contains(&Kind::NewAddress), "{known}: {found:?}");
    }
    let at_once: Vec<Kind> = (0..20)
        .flat_map(|number| asked(&mut watch, "192.0.2.1", 2_000 * SECOND + number))
        .collect();
    assert_eq!(at_once, [Kind::Rate]);
    let slow: Vec<Kind> = (0..20)
        .flat_map(|number| asked(&mut watch, "192.0.2.1", (4_000 + number) * SECOND))
        .collect();
    assert_eq!(slow, []);
    let attack = Signal::Injection(&one, address("192.0.2.1"), "override (score 80)");
    let found = watch.see(attack, at(5_000 * SECOND));
    assert_eq!(kinds(&found), [Kind::Injection]);
    assert!(found[0].detail.contains("override (score 80)"), "{found:?}");
    assert_eq!(watch.see(attack, at(5_000 * SECOND)), []);
    let touched = Signal::Canary(&one, address("192.0.2.1"), "bait");
    let found = watch.see(touched, at(5_000 * SECOND));
    assert_eq!(kinds(&found), [Kind::Canary]);
    assert_eq!(found[0].kind.severity(), Severity::Critical);
}

proptest! {
    #[test]
    fn it_stays_bounded_and_finds_no_burst_where_there_is_none(
        seen in proptest::collection::vec((0_u8..7, 0_u16..9_000, 0_u8..200, 0_i64..30), 0..600)
    ) {
        let mut watch = watch();
        let mut now = 0;
        let mut denied: Vec<(u16, i64)> = Vec::new();
        for (what, who, from, later) in seen {
            now += later * SECOND;
            let who = if who % 3 == 0 { who } else { who % 4 };
            let one = key(&format!("key_{who}"));
            let from = IpAddr::from([192, 0, from, 1]);
            let signal = match what {
                0 => Signal::Asked(&one, from),
                1 => Signal::Denied(&one, from),
                2 => Signal::Failed(from),
                3 => Signal::Canary(&one, from, "bait"),
                4 => Signal::Odd(from, [Pattern::Probe].into_iter().collect()),
                5 => Signal::Missing(from, u64::from(who)),
                _ => Signal::Foreign(&one, from),
            };
            let found = watch.see(signal, at(now));
            if what == 1 {
                denied.push((who, now));
                let lately = denied.iter().filter(|(it, then)| *it == who && now - then <= 10 * SECOND);
                let many = lately.count() >= 3;
                prop_assert!(many || found.is_empty());
            }
            prop_assert!(watch.principals.len() <= PRINCIPALS);
            prop_assert!(watch.addresses.len() <= ADDRESSES);
            prop_assert!(watch.learnt.len() <= LEARNT);
        }
    }
}

#[test]
fn whom_it_has_not_seen_for_the_longest_is_forgotten() {
    let mut map: Bounded<u32, u32> = Bounded::new(3);
    for key in [1, 2, 3, 1, 4, 1, 5] {
        *map.get(&key) += 1;
    }
    assert_eq!(map.len(), 3);
    assert_eq!((*map.get(&1), *map.get(&4), *map.get(&5)), (3, 1, 1));
    // 2 and 3 were forgotten.
    assert_eq!((*map.get(&2), *map.get(&3)), (0, 0));
}

#[test]
fn tries_of_an_address_are_added_up() {
    let mut watch = watch();
    let here = address("192.0.2.1");
    let odd = |watch: &mut Watch, patterns: &[Pattern], second| {
        let patterns = patterns.iter().copied().collect();
        watch.see(Signal::Odd(here, patterns), at(second * SECOND))
    };
    assert_eq!(odd(&mut watch, &[Pattern::Traversal], 0), []);
    // The name of a program alone is a hint: it counts for nothing, and is told along.
    for _ in 0..10 {
        assert_eq!(odd(&mut watch, &[Pattern::Scanner], 0), []);
    }
    assert_eq!(
        odd(&mut watch, &[Pattern::Traversal, Pattern::Control], 1),
        []
    );
    let found = odd(&mut watch, &[Pattern::Probe], 2);
    assert_eq!(kinds(&found), [Kind::Patterns]);
    let told = &found[0].detail;
    assert!(
        told.ends_with("traversal 2, control 1, probe 1, scanner 10"),
        "{told}"
    );
    assert_eq!(odd(&mut watch, &[Pattern::Probe], 3), []);

    let missing = |watch: &mut Watch, what, second| {
        kinds(&watch.see(Signal::Missing(here, what), at(second * SECOND)))
    };
    for _ in 0..20 {
        assert_eq!(missing(&mut watch, 1, 0), [], "the same again and again");
    }
    assert_eq!(missing(&mut watch, 2, 0), []);
    assert_eq!(missing(&mut watch, 3, 61), []);
    assert_eq!(missing(&mut watch, 4, 62), [], "slow");
    assert_eq!(missing(&mut watch, 5, 63), []);
    assert_eq!(missing(&mut watch, 6, 64), [Kind::Missing]);

    let one = key("key_1");
    let foreign = |watch: &mut Watch| kinds(&watch.see(Signal::Foreign(&one, here), at(0)));
    assert_eq!(foreign(&mut watch), []);
    assert_eq!(foreign(&mut watch), [Kind::Foreign]);
}

#[test]
fn many_addresses_do_not_fill_what_is_kept() {
    let mut watch = watch();
    let mut found = Vec::new();
    let mut from = |watch: &mut Watch, number: u32, second: i64| {
        // Each has a subnet of its own.
        let [a, b, c, d] = number.to_be_bytes();
        let (one, two) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let from = IpAddr::from([0x2001, 0xdb8, one, two, 0, 0, 0, 1]);
        for _ in 0..4 {
            found.extend(watch.see(Signal::Failed(from), at(second * SECOND)));
        }
        found.len()
    };
    for number in 0..1_000 {
        from(&mut watch, number, 0);
    }
    assert_eq!(from(&mut watch, 1_000, 1), 100);
    // Later it is told again.
    assert_eq!(from(&mut watch, 1_001, 601), 101);
    assert!(found[99].detail.contains("many other addresses"));
    // One subscriber is one, however many addresses they have.
    let mut watch = self::watch();
    let mut count = 0;
    for number in 0..1_000 {
        let from = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, number]);
        count += watch.see(Signal::Failed(from), at(0)).len();
    }
    assert_eq!(count, 1);
}

#[test]
fn what_is_turned_off_is_not_told() {
    let mut rules = rules();
    rules.turn_off(Kind::Canary);
    let mut watch = Watch::new(rules, &[7; 32]);
    let one = key("key_1");
    let here = address("192.0.2.1");
    assert_eq!(watch.see(Signal::Canary(&one, here, "bait"), at(0)), []);
    for _ in 0..2 {
        assert_eq!(watch.see(Signal::Denied(&one, here), at(0)), []);
    }
    assert_eq!(
        kinds(&watch.see(Signal::Denied(&one, here), at(0))),
        [Kind::Denials]
    );
}

#[test]
fn known_addresses_are_known_by_another_machine_of_the_same_key_only() {
    let mut before = watch();
    let one = key("key_1");
    let asked = |watch: &mut Watch, from: &str| {
        kinds(&watch.see(Signal::Asked(&one, address(from)), at(0)))
    };
    assert_eq!(asked(&mut before, "192.0.2.1"), []);
    assert_eq!(asked(&mut before, "192.0.2.2"), [Kind::NewAddress]);
    // Another one of the same subscriber is none.
    asked(&mut before, "2001:db8::1");
    asked(&mut before, "2001:db8::2");
    let learnt = before.learnt();
    assert_eq!(learnt.len(), 3);
    assert_eq!(before.learnt(), []);
    let mut after = watch();
    assert_eq!(after.key_id(), before.key_id());
    for known in &learnt {
        after.remember(known);
    }
    for known in ["192.0.2.1", "192.0.2.2", "2001:db8::3"] {
        assert_eq!(asked(&mut after, known), [], "{known}");
    }
    assert_eq!(after.learnt(), []);
    // The first one that is new is told, right after the start.
    assert_eq!(asked(&mut after, "192.0.2.3"), [Kind::NewAddress]);
    let other = Watch::new(rules(), &[8; 32]);
    assert_ne!(other.key_id(), before.key_id());
    // A day later it is kept that the address is in use still.
    let later = at(86_400 * SECOND);
    before.see(Signal::Asked(&one, address("192.0.2.1")), later);
    assert_eq!(before.learnt().len(), 1);
}
