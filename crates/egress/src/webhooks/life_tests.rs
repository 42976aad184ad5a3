//! What becomes of messages and endpoints depends on answers, time and chance alone.

use std::time::Duration;

use proptest::prelude::*;
use skep_core::Timestamp;

use super::life::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000).plus(Duration::from_secs(seconds))
}

fn schedule(waits: &[u64]) -> Schedule {
    Schedule {
        waits: waits.iter().map(|it| Duration::from_secs(*it)).collect(),
        give_up: Duration::from_secs(1_000),
    }
}

#[test]
fn a_message_is_tried_after_each_wait_and_then_no_more() {
    let schedule = schedule(&[5, 300]);
    let bad = Answer::Status(500, None);
    let next = |tries, answer: &Answer| after(&schedule, tries, answer, (at(0), 0.0));
    assert_eq!(next(1, &bad), Next::Again(at(5)));
    assert_eq!(next(2, &bad), Next::Again(at(300)));
    assert_eq!(next(3, &bad), Next::Dead);
    assert_eq!(next(1, &Answer::Status(204, None)), Next::Delivered);
    assert_eq!(next(3, &Answer::Status(200, None)), Next::Delivered);
    assert_eq!(next(1, &Answer::Status(302, None)), Next::Again(at(5)));
    assert_eq!(next(1, &Answer::Status(410, None)), Next::Dead);
    let wish = |seconds| Answer::Status(429, Some(Duration::from_secs(seconds)));
    assert_eq!(next(1, &wish(60)), Next::Again(at(60)));
    assert_eq!(
        next(2, &wish(60)),
        Next::Again(at(300)),
        "not before its time"
    );
    let day = at(24 * 3600);
    assert_eq!(
        next(1, &wish(1_000_000)),
        Next::Again(day),
        "within a bound"
    );
}

#[test]
fn an_endpoint_that_fails_without_a_break_is_given_up() {
    let schedule = schedule(&[5]);
    let bad = Answer::Failed("no answer in time");
    let good = Answer::Status(200, None);
    let (since, ends) = fares(&schedule, None, &bad, at(0));
    assert_eq!((since, ends), (Some(at(0)), None));
    assert_eq!(fares(&schedule, since, &bad, at(999)), (since, None));
    let over = fares(&schedule, since, &bad, at(1_000));
    assert_eq!(over, (since, Some(Ends::Failing)));
    assert_eq!(fares(&schedule, since, &good, at(1_000)), (None, None));
    let gone = fares(&schedule, None, &Answer::Status(410, None), at(7));
    assert_eq!(gone, (Some(at(7)), Some(Ends::Gone)));
}

fn answers() -> impl Strategy<Value = Answer> {
    let wish = proptest::option::of((0_u64..1_000_000).prop_map(Duration::from_secs));
    prop_oneof![
        (100_u16..600, wish).prop_map(|(status, wish)| Answer::Status(status, wish)),
        Just(Answer::Failed("no connection")),
    ]
}

proptest! {
    /// However it is answered, a message ends: as delivered when it was taken, and never before all of its tries.
    #[test]
    fn every_message_ends(
        waits in proptest::collection::vec(0_u64..100_000, 0..12),
        answers in proptest::collection::vec((answers(), 0.0_f64..1.0), 13),
    ) {
        let schedule = schedule(&waits);
        let (mut now, mut ended) = (at(0), None);
        for (tries, (answer, chance)) in (1_u32..).zip(&answers) {
            match after(&schedule, tries, answer, (now, *chance)) {
                Next::Again(then) => {
                    let wait = schedule.waits[tries as usize - 1];
                    let least = answer.wish().map_or(wait, |it| it.max(wait));
                    let most = answer.wish().unwrap_or_default().max(wait.mul_f64(1.26));
                    let waited = then.since(now);
                    prop_assert!(waited >= least, "{waited:?} {least:?}");
                    prop_assert!(waited <= most + Duration::from_secs(1), "{waited:?} {most:?}");
                    prop_assert!(!answer.is_good());
                    now = then;
                }
                next => {
                    prop_assert_eq!(next == Next::Delivered, answer.is_good());
                    let gone = matches!(answer, Answer::Status(410, _));
                    let last = tries as usize == waits.len() + 1;
                    prop_assert!(answer.is_good() || gone || last);
                    ended = Some(next);
                    break;
                }
            }
        }
        prop_assert!(ended.is_some());
    }

    /// An endpoint is given up only when it said so, or took nothing for all of that time.
    #[test]
    fn an_endpoint_that_takes_something_stays(
        steps in proptest::collection::vec((answers(), 0_u64..600), 1..60),
    ) {
        let schedule = schedule(&[1]);
        let (mut now, mut since, mut taken) = (0, None, None);
        for (answer, pause) in steps {
            now += pause;
            if answer.is_good() {
                taken = Some(now);
            }
            let (after, ends) = fares(&schedule, since, &answer, at(now));
            since = after;
            prop_assert_eq!(since.is_none(), answer.is_good());
            match ends {
                Some(Ends::Failing) => {
                    prop_assert!(taken.is_none_or(|it| now - it >= 1_000));
                    break;
                }
                Some(Ends::Gone) => break,
                None => {}
            }
        }
    }
}
