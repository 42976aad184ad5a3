//! Each check turned by its evidence, and what the questions take.

use skep_core::Timestamp;

use super::*;
use crate::evidence::{Backup, Checkpoint, LogState, MOST_SHOWN, Person, Policy, Seen};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn answer(count: u64) -> Answer {
    let shown = (0..count.min(MOST_SHOWN as u64)).map(|number| Proven {
        number,
        proof: format!("c2sp.org/tlog-proof@v1\nindex {number}\n"),
    });
    Answer {
        count,
        shown: shown.collect(),
    }
}

/// Evidence of a server on which all is well.
pub(crate) fn evidence() -> Evidence {
    let person = |id: &str| Person {
        id: id.to_owned(),
        owner: true,
        second_factor: true,
    };
    let mut answers: std::collections::BTreeMap<_, _> = Question::ALL
        .into_iter()
        .map(|it| (it, answer(3)))
        .collect();
    answers.insert(Question::Unattributed, Answer::default());
    Evidence {
        workspace: "default".to_owned(),
        since: Timestamp::from_micros(0),
        until: Timestamp::from_micros(1_000_000),
        checkpoint: Checkpoint {
            size: 40,
            note: "a note\n".to_owned(),
            key: "a key".to_owned(),
        },
        log: LogState {
            verified: 40,
            earlier: Some(1),
            ..LogState::default()
        },
        answers,
        policy: Policy {
            version: 2,
            made: 2,
            ..Policy::default()
        },
        keys: vec![Key {
            id: "key_1".to_owned(),
            ends: true,
            lasting: false,
            idle: DAY,
        }],
        people: vec![person("usr_1"), person("usr_2")],
        detections: crate::Detections::default(),
        retention: Some(DAY * 4_000),
        server: Some(Server {
            tls: true,
            backups: vec![Backup {
                name: "b".to_owned(),
                encrypted: true,
            }],
            verified: Some(Ok(())),
        }),
    }
}

/// The same, with texts that would be markup.
pub(crate) fn nasty(mut evidence: Evidence) -> Evidence {
    let text = "<script>alert(1)</script>\" onload='x' \"onload=\"y";
    evidence.workspace = text.to_owned();
    evidence.checkpoint.key = text.to_owned();
    evidence.policy.wrong = Some(text.to_owned());
    evidence.log.damage = Some(text.to_owned());
    for answer in evidence.answers.values_mut() {
        for one in &mut answer.shown {
            one.proof = text.to_owned();
        }
    }
    evidence
}

type Edit = fn(&mut Evidence);

fn server(evidence: &mut Evidence) -> &mut Server {
    evidence.server.get_or_insert_default()
}

/// What turns each check, from evidence by which all is well.
const TABLE: &[(Check, State, Edit)] = &[
    (Check::LogIntact, State::NotSatisfied, |it| {
        it.log.damage = Some("cut".to_owned());
    }),
    (Check::LogIntact, State::NotAssessable, |it| {
        it.log.earlier = None;
    }),
    (Check::LogIntact, State::NotAssessable, |it| {
        it.log.cut = true;
    }),
    (Check::LogIntact, State::NotAssessable, |it| {
        it.log.pruned = true;
    }),
    (Check::ChangesAttributed, State::NotSatisfied, |it| {
        it.answers.insert(Question::Unattributed, answer(1));
    }),
    (Check::ChangesAttributed, State::NotAssessable, |it| {
        it.log.cut = true;
    }),
    (Check::PolicyValid, State::NotSatisfied, |it| {
        it.policy.wrong = Some("line 1".to_owned());
    }),
    (Check::PolicyRecorded, State::NotSatisfied, |it| {
        it.policy.untold = vec![2];
    }),
    (Check::PolicyRecorded, State::NotAssessable, |it| {
        it.policy.untold = vec![2];
        it.log.cut = true;
    }),
    (Check::Denials, State::NotAssessable, |it| {
        it.answers.insert(Question::Denials, answer(0));
    }),
    (Check::KeysEnd, State::NotSatisfied, |it| {
        it.keys[0].ends = false;
    }),
    (Check::KeysUsed, State::NotSatisfied, |it| {
        it.keys[0].idle = MOST_IDLE;
    }),
    (Check::Owners, State::NotSatisfied, |it| {
        it.people[0].owner = false;
    }),
    (Check::SecondFactor, State::NotSatisfied, |it| {
        it.people[1].second_factor = false;
    }),
    (Check::SecondFactor, State::NotAssessable, |it| {
        it.people.clear();
    }),
    (Check::Transport, State::NotSatisfied, |it| {
        server(it).tls = false;
    }),
    (Check::Transport, State::NotAssessable, |it| {
        it.server = None;
    }),
    (Check::Backups, State::NotSatisfied, |it| {
        server(it).backups.clear();
    }),
    (Check::Backups, State::NotSatisfied, |it| {
        server(it).verified = Some(Err((true, "cut".to_owned())));
    }),
    (Check::Backups, State::NotAssessable, |it| {
        server(it).verified = Some(Err((false, "no passphrase".to_owned())));
    }),
    (Check::Backups, State::NotAssessable, |it| {
        server(it).verified = None;
    }),
    (Check::BackupsEncrypted, State::NotSatisfied, |it| {
        server(it).backups[0].encrypted = false;
    }),
    (Check::BackupsEncrypted, State::NotAssessable, |it| {
        server(it).backups.clear();
    }),
    (
        Check::Kept(DAY.saturating_mul(2_192)),
        State::NotSatisfied,
        |it| it.retention = Some(DAY),
    ),
    (Check::LogEnds, State::NotSatisfied, |it| {
        it.retention = None;
    }),
    (Check::Detections, State::NotSatisfied, |it| {
        it.detections.open = 1;
    }),
    (Check::Erasures, State::NotAssessable, |it| {
        it.answers.insert(Question::Erasures, answer(0));
    }),
];

#[test]
fn each_check_is_satisfied_when_all_is_well_and_turns_with_its_evidence() {
    let mut turned = std::collections::BTreeSet::new();
    for (check, state, edit) in TABLE {
        let mut evidence = evidence();
        let well = check.run(&evidence);
        assert_eq!(well.state, State::Satisfied, "{check:?}: {}", well.said);
        edit(&mut evidence);
        let found = check.run(&evidence);
        assert_eq!(found.state, *state, "{check:?}: {}", found.said);
        turned.insert(check.name());
    }
    assert_eq!(turned, Check::NAMES.into_iter().collect());
}

#[test]
fn kept_for_ever_is_long_enough() {
    let mut evidence = evidence();
    evidence.retention = None;
    let found = Check::Kept(DAY * 2_192).run(&evidence);
    assert_eq!(found.state, State::Satisfied);
}

#[test]
fn one_key_of_an_owner_may_last_and_lie_unused() {
    let mut evidence = evidence();
    let lasting = Key {
        id: "key_2".to_owned(),
        ends: false,
        lasting: true,
        idle: MOST_IDLE,
    };
    evidence.keys.push(lasting.clone());
    for check in [Check::KeysEnd, Check::KeysUsed] {
        assert_eq!(check.run(&evidence).state, State::Satisfied);
    }
    evidence.keys.push(lasting);
    for check in [Check::KeysEnd, Check::KeysUsed] {
        assert_eq!(check.run(&evidence).state, State::NotSatisfied);
    }
}

#[test]
fn a_sentence_names_no_more_than_some() {
    let mut evidence = evidence();
    let key = evidence.keys[0].clone();
    evidence.keys = vec![Key { ends: false, ..key }; 12];
    let said = Check::KeysEnd.run(&evidence).said;
    assert!(said.ends_with("and 2 more"), "{said}");
}

#[test]
fn questions_take_what_they_ask_for() {
    let entry = Seen {
        action: "key:create",
        principal: "key_1",
        allowed: true,
        changed: true,
    };
    let takers = |entry: Seen<'_>| -> Vec<Question> {
        Question::ALL
            .into_iter()
            .filter(|it| it.takes(entry))
            .collect()
    };
    assert_eq!(takers(entry), [Question::Keys]);
    let action = "keychain:create";
    assert_eq!(takers(Seen { action, ..entry }), []);
    let (action, principal) = ("policy:write", "");
    let nobody = Seen {
        action,
        principal,
        ..entry
    };
    assert_eq!(takers(nobody), [Question::Unattributed, Question::Policies]);
    let refused = Seen {
        allowed: false,
        changed: false,
        ..nobody
    };
    assert_eq!(takers(refused), [Question::Denials]);
    let looked = Seen {
        changed: false,
        ..entry
    };
    assert_eq!(takers(looked), []);
}
