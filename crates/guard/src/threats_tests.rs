//! Tables of moments and what is found at them, and whatever comes.

use proptest::prelude::*;

use super::*;
use crate::{PrincipalKind, Role, Scopes};

const SECOND: i64 = 1_000_000;

fn rules() -> Rules {
    let within = |seconds| Duration::from_secs(seconds);
    Rules {
        denials: Burst {
            count: 3,
            within: within(10),
        },
        failures: Burst {
            count: 4,
            within: within(10),
        },
        per_second: 5,
        networks: Burst {
            count: 2,
            within: within(60),
        },
    }
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
        let mut watch = Watch::new(rules());
        let mut found = Vec::new();
        for moment in moments {
            found.extend(watch.see(Signal::Denied(&one, here), at(moment * SECOND)));
            // Others do not count.
            watch.see(Signal::Denied(&other, here), at(0));
        }
        found.retain(|it| it.subject == Subject::Principal("ApiKey", "key_1".into()));
        assert_eq!(kinds(&found), vec![Kind::Denials; expected], "{moments:?}");
    }
    let mut watch = Watch::new(rules());
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
    let mut watch = Watch::new(rules());
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
    let touched = Signal::Canary(&one, address("192.0.2.1"), "bait");
    let found = watch.see(touched, at(5_000 * SECOND));
    assert_eq!(kinds(&found), [Kind::Canary]);
    assert_eq!(found[0].kind.severity(), Severity::Critical);
}

proptest! {
    #[test]
    fn it_stays_bounded_and_finds_no_burst_where_there_is_none(
        seen in proptest::collection::vec((0_u8..4, 0_u16..9_000, 0_u8..200, 0_i64..30), 0..600)
    ) {
        let mut watch = Watch::new(rules());
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
                _ => Signal::Canary(&one, from, "bait"),
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
