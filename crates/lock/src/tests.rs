//! A file opens for whom it is meant, says what was written, and nothing in it can be changed unseen.

use std::collections::BTreeMap;

use serde_json::json;
use skep_crypto::age::Identity;
use skep_crypto::passphrase::{Passphrase, Recipe, Rounds};
use skep_crypto::signing::SigningKey;

use crate::{
    CREDENTIALS, Entries, Kdf, Lock, LockError, MEMORY, MOST_LAYER, MOST_WRITERS, May, Merged,
    Open, PERSONALITY, Secret, To, Value,
};

const HORSE: &str = "correct horse battery";
const STAPLE: &str = "correct battery staple";
const CANARY: &str = "canary-7f3a";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

fn phrase(text: &str) -> (Secret, To) {
    let kdf = Kdf::Argon2id(Recipe::new().unwrap());
    let to = To::Passphrase(passphrase(text), kdf);
    (Secret::Passphrase(passphrase(text)), to)
}

fn age() -> (Secret, To) {
    let identity = Identity::generate().unwrap();
    let to = To::Age(identity.recipient().unwrap());
    (Secret::Age(identity), to)
}

fn one(name: &str, value: impl Into<Value>) -> Entries {
    Entries::from([(name.to_owned(), value.into())])
}

fn filled(open: &mut Open) {
    open.put(CREDENTIALS, &one("TOKEN", Value::text(CANARY)))
        .unwrap();
    let persona = json!({"tone": CANARY, "temperature": 0.5});
    open.put(PERSONALITY, &one("persona", persona)).unwrap();
    open.put(MEMORY, &one("facts", json!([CANARY, 2, null])))
        .unwrap();
}

/// A file of Ada, who opens all by age, and of those who are given.
fn file(others: &[(&str, Option<&[&str]>, &To)]) -> (Secret, Lock) {
    let (ada, to) = age();
    let mut open = Open::create("demo", "ada", &to).unwrap();
    filled(&mut open);
    for (name, layers, to) in others {
        let layers: Option<Vec<String>> =
            layers.map(|layers| layers.iter().map(|it| (*it).to_owned()).collect());
        open.share(name, layers.as_deref(), None, to).unwrap();
    }
    (ada, open.finish().unwrap())
}

fn again(lock: &Lock) -> Lock {
    Lock::parse(lock.render().as_bytes()).unwrap()
}

fn why<T>(result: Result<T, LockError>) -> LockError {
    result.err().unwrap()
}

#[test]
fn what_is_written_is_read_by_whom_it_is_for() {
    let (horse, to_horse) = phrase(HORSE);
    let rounds = Kdf::Pbkdf2(Rounds::new().unwrap());
    let to_staple = To::Passphrase(passphrase(STAPLE), rounds);
    let (ada, lock) = file(&[("bob", None, &to_horse), ("eve", None, &to_staple)]);
    let text = lock.render();
    assert!(!text.contains(CANARY) && text.ends_with("}\n"));
    let lock = again(&lock);
    let staple = Secret::Passphrase(passphrase(STAPLE));
    for (secret, by) in [(&ada, "ada"), (&horse, "bob"), (&staple, "eve")] {
        let open = lock.open(secret, None).unwrap();
        assert_eq!(open.by(), by);
        let credentials = open.layer(CREDENTIALS).unwrap();
        assert!(credentials == one("TOKEN", Value::text(CANARY)));
        let memory = open.layer(MEMORY).unwrap();
        assert!(memory == one("facts", json!([CANARY, 2, null])));
        assert_eq!(
            why(open.layer("none")),
            LockError::NoLayer("none".to_owned())
        );
    }
    let wrong = Secret::Passphrase(passphrase("wrong horse battery"));
    assert_eq!(why(lock.open(&wrong, None)), LockError::WrongKey);
    assert_eq!(why(lock.open(&horse, Some("eve"))), LockError::WrongKey);
    assert_eq!(why(lock.open(&age().0, None)), LockError::WrongKey);
    let nobody = LockError::NoRecipient("nobody".to_owned());
    assert_eq!(why(lock.open(&horse, Some("nobody"))), nobody);
}

#[test]
fn any_bit_that_is_flipped_is_noticed_and_nothing_leaks() {
    let (_, horse) = phrase(HORSE);
    let (guest, to_guest) = age();
    let (ada, mut lock) = file(&[("bob", None, &horse), ("cy", Some(&[MEMORY]), &to_guest)]);
    lock.sign(&SigningKey::generate().unwrap()).unwrap();
    let text = lock.render().into_bytes();
    assert!(Lock::parse(&text).unwrap().open(&ada, None).is_ok());
    assert!(Lock::parse(&text).unwrap().open(&guest, None).is_ok());
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = why(Lock::parse(&flipped));
        let told = error.to_string();
        assert!(!told.contains(CANARY), "{told}");
    }
}

#[test]
fn any_bit_is_noticed_without_a_signature_too() {
    let (guest, to_guest) = age();
    let (ada, lock) = file(&[("cy", Some(&[MEMORY]), &to_guest)]);
    let text = lock.render().into_bytes();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(lock) = Lock::parse(&flipped) else {
            continue;
        };
        for secret in [&ada, &guest] {
            let error = why(lock.open(secret, None)).to_string();
            assert!(!error.contains(CANARY), "bit {bit}: {error}");
        }
    }
    for length in 0..text.len() {
        assert!(Lock::parse(&text[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn parts_of_two_states_do_not_make_a_third() {
    let (ada, lock) = file(&[]);
    let mut open = lock.open(&ada, None).unwrap();
    open.put(MEMORY, &one("facts", json!("newer"))).unwrap();
    let newer = open.finish().unwrap();
    assert_eq!((lock.epoch(), newer.epoch()), (1, 2));
    // The other layers' lines are as they were: a change is small for git.
    let changed = |a: &Lock, b: &Lock| {
        let (a, b) = (a.render(), b.render());
        a.lines().zip(b.lines()).filter(|(a, b)| a != b).count()
    };
    assert_eq!(changed(&lock, &newer), 3, "first line, memory, checks");
    for place in 0..newer.layers.len() {
        let mut mixed = newer.clone();
        mixed.layers[place] = lock.layers[place].clone();
        let same = mixed == newer;
        assert_eq!(mixed.open(&ada, None).is_ok(), same);
    }
    let mut mixed = newer.clone();
    mixed.recipients = file(&[]).1.recipients;
    assert!(mixed.open(&ada, None).is_err());
    let mut bare = newer.clone();
    bare.layers.pop();
    assert_eq!(why(bare.open(&ada, None)), LockError::Mac);
    let mut older = newer;
    older.epoch += 1;
    assert_eq!(why(older.open(&ada, None)), LockError::Mac);
}

#[test]
fn who_gets_some_layers_gets_no_others() {
    let (guest, to_guest) = age();
    let (ada, lock) = file(&[("cy", Some(&[MEMORY, "notes"]), &to_guest)]);
    let mut open = lock.open(&guest, None).unwrap();
    assert!(open.opens(MEMORY) && !open.opens(CREDENTIALS));
    let not_given = LockError::NotGiven(CREDENTIALS.to_owned());
    assert_eq!(why(open.layer(CREDENTIALS)), not_given);
    assert_eq!(why(open.put(CREDENTIALS, &Entries::new())), not_given);
    assert_eq!(why(open.remove(CREDENTIALS)), not_given);
    assert_eq!(
        why(open.share("dan", None, None, &age().1)),
        LockError::NotAll
    );
    assert_eq!(
        why(open.rotate(&[], &[], &BTreeMap::new())),
        LockError::NotAll
    );
    open.put(MEMORY, &one("facts", json!(3))).unwrap();
    open.put("notes", &one("first", Value::text("hello")))
        .unwrap();
    let open = again(&open.finish().unwrap()).open(&ada, None).unwrap();
    assert!(open.layer(MEMORY).unwrap() == one("facts", json!(3)));
    assert!(open.layer("notes").unwrap() == one("first", Value::text("hello")));
}

#[test]
fn who_may_only_read_writes_nothing_that_others_take() {
    let (bob, to_bob) = age();
    let (cy, to_cy) = age();
    let (ada, lock) = file(&[]);
    let mut open = lock.open(&ada, None).unwrap();
    let read = Some(May::Read);
    open.share("bob", None, read, &to_bob).unwrap();
    let memory = [MEMORY.to_owned()];
    open.share("cy", Some(&memory), read, &to_cy).unwrap();
    let lock = again(&open.finish().unwrap());
    let token = one("TOKEN", Value::text("changed"));
    for (secret, name) in [(&bob, "bob"), (&cy, "cy")] {
        let mut open = lock.open(secret, None).unwrap();
        assert!(open.layer(MEMORY).unwrap() == one("facts", json!([CANARY, 2, null])));
        let read_only = LockError::ReadOnly(name.to_owned());
        assert_eq!(why(open.put(MEMORY, &token)), read_only);
        assert_eq!(why(open.remove(MEMORY)), read_only);
        open.changed = true;
        assert_eq!(why(open.finish()), read_only);
    }
    let mut open = lock.open(&bob, None).unwrap();
    let read_only = LockError::ReadOnly("bob".to_owned());
    assert_eq!(why(open.share("dan", None, None, &age().1)), read_only);
    let none = BTreeMap::new();
    assert_eq!(why(open.rotate(&[], &[], &none)), read_only);

    // Bob has every key but the one to write with. He takes one of his own, and makes a file by it.
    let forge = |hand_over: bool| {
        let mine = SigningKey::generate().unwrap();
        let mut open = lock.open(&bob, None).unwrap();
        if hand_over {
            open.lock.writers.clear();
            open.lock.hand_over(None, &mine).unwrap();
        }
        open.grant.write = Some(mine);
        open.put(CREDENTIALS, &token).unwrap();
        open.finish()
    };
    assert_eq!(why(forge(false)), LockError::Written);
    let forged = again(&forge(true).unwrap());
    assert!(!forged.follows(lock.writer()), "who knows the file notices");

    // Nor is it merged into what others wrote.
    let opened = [&lock, &lock, &forged].map(|it| it.open(&ada, None).unwrap());
    let merge = Open::merge(&opened[0], &opened[1], &opened[2]);
    assert_eq!(why(merge), LockError::Written);

    // What follows is told from it: a new root has a new key, which the one before hands on.
    let mut open = lock.open(&ada, None).unwrap();
    open.rotate(&["bob".to_owned()], &[], &none).unwrap();
    let rotated = again(&open.finish().unwrap());
    assert!(rotated.follows(lock.writer()) && rotated.writer() != lock.writer());
    assert_eq!(rotated.recipients()[1].may, Some(May::Read));
    assert!(!forged.follows(rotated.writer()));
    let mut broken = rotated.clone();
    broken.writers[1].by = broken.writers[1].by.as_ref().map(|_| lock.written.clone());
    assert_eq!(why(broken.check_writers()), LockError::Written);
    broken.writers.remove(0);
    assert!(
        why(broken.check_writers())
            .to_string()
            .contains("do not follow")
    );
    let mut open = rotated.open(&ada, None).unwrap();
    let own = ["ada".to_owned()];
    assert_eq!(why(open.rotate(&own, &[], &none)), LockError::Nobody);
}

#[test]
fn a_file_that_turned_often_tells_of_so_many_writers_and_no_more() {
    let (ada, lock) = file(&[]);
    let mut open = lock.open(&ada, None).unwrap();
    let mut before = open.writer().unwrap().clone();
    // The root turns for real the last time; before that only the keys to write with do.
    for _ in 0..MOST_WRITERS {
        let next = SigningKey::generate().unwrap();
        open.lock.epoch += 1;
        open.lock.root_epoch += 1;
        open.lock.hand_over(Some(&before), &next).unwrap();
        before = next;
    }
    open.grant.write = Some(before);
    assert_eq!(open.lock.writers.len(), MOST_WRITERS);
    assert!(!open.lock.follows(lock.writer()));
    open.lock.layers.clear();
    open.rotate(&[], &[], &BTreeMap::new()).unwrap();
    let turned = again(&open.finish().unwrap());
    assert_eq!(turned.writers.len(), MOST_WRITERS);
    assert_eq!(turned.epoch(), 2 + MOST_WRITERS as u64);
}

#[test]
fn who_is_left_out_of_a_new_root_opens_nothing_of_it() {
    let (bob, to_bob) = phrase(HORSE);
    let (guest, to_guest) = age();
    let (ada, lock) = file(&[("bob", None, &to_bob), ("cy", Some(&[MEMORY]), &to_guest)]);
    let mut open = lock.open(&ada, None).unwrap();
    let none = BTreeMap::new();
    let without = |name: &str| [name.to_owned()];
    assert_eq!(
        why(open.rotate(&without("cy"), &[], &none)),
        LockError::NeedsPassphrase("bob".to_owned())
    );
    let known = [bob.clone()];
    open.rotate(&without("cy"), &known, &none).unwrap();
    let rotated = again(&open.finish().unwrap());
    assert_eq!((rotated.epoch(), rotated.root_epoch()), (2, 2));
    for secret in [&ada, &bob] {
        let open = rotated.open(secret, None).unwrap();
        assert!(open.layer(CREDENTIALS).unwrap() == one("TOKEN", Value::text(CANARY)));
    }
    assert_eq!(why(rotated.open(&guest, None)), LockError::WrongKey);
    // The old root is of no use for what is new.
    let mut mixed = rotated.clone();
    mixed.recipients = lock.recipients.clone();
    assert_eq!(why(mixed.open(&guest, None)), LockError::Mac);

    let mut open = rotated.open(&ada, None).unwrap();
    let anew = BTreeMap::from([("bob".to_owned(), phrase(STAPLE).1)]);
    open.rotate(&[], &[], &anew).unwrap();
    let rotated = again(&open.finish().unwrap());
    assert_eq!(why(rotated.open(&bob, None)), LockError::WrongKey);
    let staple = Secret::Passphrase(passphrase(STAPLE));
    assert!(rotated.open(&staple, None).is_ok());
    let mut open = rotated.open(&ada, None).unwrap();
    let all = ["ada".to_owned(), "bob".to_owned()];
    assert_eq!(why(open.rotate(&all, &[], &none)), LockError::Nobody);
}

#[test]
fn a_signature_is_the_publishers_and_falls_with_a_change() {
    let (ada, mut lock) = file(&[]);
    let (key, other) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap().publisher().unwrap(),
    );
    let publisher = key.publisher().unwrap();
    assert_eq!(why(lock.verify(&publisher)), LockError::Unsigned);
    lock.sign(&key).unwrap();
    let lock = again(&lock);
    lock.verify(&publisher).unwrap();
    assert_eq!(
        why(lock.verify(&other)),
        LockError::Publisher(publisher.to_string())
    );
    let mut changed = lock.clone();
    changed.agent.name = "other".to_owned();
    assert_eq!(
        why(Lock::parse(changed.render().as_bytes())),
        LockError::Signature
    );
    let unchanged = lock.open(&ada, None).unwrap().finish().unwrap();
    assert!(unchanged == lock);
    let mut open = lock.open(&ada, None).unwrap();
    open.remove(MEMORY).unwrap();
    assert_eq!(
        why(open.finish().unwrap().verify(&publisher)),
        LockError::Unsigned
    );
}

#[test]
fn memory_is_compressed_and_expands_within_bounds_and_credentials_never() {
    let (ada, lock) = file(&[]);
    let mut open = lock.open(&ada, None).unwrap();
    let long = Value::text("na ".repeat(100_000));
    open.put(MEMORY, &one("song", long.clone())).unwrap();
    open.put(CREDENTIALS, &one("song", long.clone())).unwrap();
    let sealed = |lock: &Lock, name: &str| {
        let layer = lock.layers().iter().find(|it| it.name == name);
        layer.unwrap().sealed.len()
    };
    let lock = open.finish().unwrap();
    assert!(sealed(&lock, MEMORY) < 2_000);
    assert!(sealed(&lock, CREDENTIALS) > 400_000);
    let mut open = lock.open(&ada, None).unwrap();
    assert!(open.layer(MEMORY).unwrap() == one("song", long));
    let too_long = one("song", Value::text("x".repeat(MOST_LAYER)));
    let too_much = LockError::TooMuch {
        what: "bytes of a layer",
        most: MOST_LAYER,
    };
    assert_eq!(why(open.put(MEMORY, &too_long)), too_much);
    // What expands to more is not expanded.
    let bomb = zstd::bulk::compress(&vec![b' '; MOST_LAYER + 1], 3).unwrap();
    assert!(matches!(
        why(crate::entries::decode("here", MEMORY, &bomb)),
        LockError::Content { .. }
    ));
}

#[test]
fn a_number_is_the_same_number_after_any_number_of_changes() {
    let (ada, lock) = file(&[]);
    let number = 333_333_333.333_333_3_f64;
    let mut open = lock.open(&ada, None).unwrap();
    open.put(MEMORY, &one("n", json!(number))).unwrap();
    let open = again(&open.finish().unwrap()).open(&ada, None).unwrap();
    assert!(open.layer(MEMORY).unwrap() == one("n", json!(number)));
}

#[test]
fn credentials_are_texts_that_are_not_empty() {
    let (ada, lock) = file(&[]);
    let mut open = lock.open(&ada, None).unwrap();
    for wrong in [Value::text(""), json!(3).into(), json!(null).into()] {
        let put = open.put(CREDENTIALS, &one("TOKEN", wrong));
        assert!(matches!(why(put), LockError::Content { .. }));
    }
    for name in ["", "a\nb", &"x".repeat(257)] {
        let put = open.put(MEMORY, &one(name, Value::text("x")));
        assert!(matches!(why(put), LockError::Content { .. }), "{name}");
    }
}

#[test]
fn what_a_passphrase_costs_is_bounded() {
    let (_, to) = phrase(HORSE);
    let (_, lock) = file(&[("bob", None, &to)]);
    let text = lock.render();
    for (from, to) in [
        ("65536", "65535"),
        ("65536", "4194304"),
        ("\"passes\":3", "\"passes\":1"),
        ("\"passes\":3", "\"passes\":17"),
        ("\"lanes\":4", "\"lanes\":0"),
    ] {
        let changed = text.replacen(from, to, 1);
        let told = why(Lock::parse(changed.as_bytes())).to_string();
        let expected = "line 3, recipient `bob`: the parameters for the passphrase's key are \
                        not acceptable";
        assert_eq!(told, expected);
    }
    let weak = To::Passphrase(
        passphrase(HORSE),
        Kdf::Pbkdf2(Rounds {
            rounds: 1_000,
            salt: [0; 16],
        }),
    );
    assert!(Open::create("demo", "ada", &weak).is_err());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let (_, lock) = file(&[]);
    let text = lock.render();
    let told = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        why(Lock::parse(changed.as_bytes())).to_string()
    };
    let all = [
        told("\"epoch\":1", "\"epoch\":0"),
        told("\"epoch\":1", "\"epoch\": 1"),
        told("\"epoch\":1", "\"epoch\":1,\"more\":1"),
        told("\"version\":2", "\"version\":3"),
        told("\"version\":2", "\"version\":\"1.0\""),
        told("\"name\":\"ada\"", "\"name\":\"a d a\""),
        told(
            "\"name\":\"memory\",\"epoch\":1",
            "\"name\":\"memory\",\"epoch\":2",
        ),
        told("\"name\":\"memory\"", "\"name\":\"a\""),
        told("\"sealed\":\"", "\"sealed\":\"!"),
        told("\"mac\":\"", "\"mac\":\"AAAA"),
        told("\"age1", "\"age2"),
    ];
    let expected = "\
line 1, epoch: the epoch is 0, and must lie between 1 and 9007199254740991
line 1, column 86: it is not spelled in the one way that counts
line 1, column 93: unknown field `more`, expected one of `version`, `agent`, `epoch`, `rootEpoch`, `recipients`, `layers`, `writers`, `mac`, `written`, `signature`
it is a file of version 3, which this program does not know
it is a file of version 1, the older format
line 2, recipient `a d a`: `a d a` is no name: up to 64 letters, digits, `.`, `_`, `@`, `+`, `-`, in ASCII
line 5, layer `memory`: the epoch is 2, and must lie between 1 and 1
layers: `a` stands twice, or not in its order
line 4, layer `credentials`: it is no base64
line 9, mac: 32 bytes belong here
line 2, recipient `ada`: it is no recipient of age";
    assert_eq!(all.len(), expected.lines().count());
    for (told, expected) in all.iter().zip(expected.lines()) {
        assert_eq!(told, expected);
    }
}

fn edited(lock: &Lock, secret: &Secret, edit: impl FnOnce(&mut Open)) -> Lock {
    let mut open = lock.open(secret, None).unwrap();
    edit(&mut open);
    open.finish().unwrap()
}

fn merged(secret: &Secret, files: [&Lock; 3]) -> Result<Lock, Vec<String>> {
    let [base, ours, theirs] = files.map(|lock| lock.open(secret, None).unwrap());
    match Open::merge(&base, &ours, &theirs).unwrap() {
        Merged::Clean(open) => Ok(again(&open.finish().unwrap())),
        Merged::Conflicts(conflicts) => Err(conflicts),
    }
}

fn token(open: &mut Open, name: &str, value: &str) {
    let mut entries = open.layer(CREDENTIALS).unwrap();
    entries.insert(name.to_owned(), Value::text(value));
    open.put(CREDENTIALS, &entries).unwrap();
}

#[test]
fn two_sides_are_merged_where_they_changed_different_things() {
    let (ada, base) = file(&[]);
    let (bob, to_bob) = age();
    let ours = edited(&base, &ada, |it| {
        token(it, "OURS", "1");
        it.put(MEMORY, &one("facts", json!("ours"))).unwrap();
        it.share("bob", None, None, &to_bob).unwrap();
    });
    let theirs = edited(&base, &ada, |it| {
        token(it, "THEIRS", "2");
        it.remove(PERSONALITY).unwrap();
        it.put("notes", &one("n", json!(1))).unwrap();
    });
    for files in [[&base, &ours, &theirs], [&base, &theirs, &ours]] {
        let lock = merged(&ada, files).unwrap();
        assert_eq!(lock.epoch(), 3);
        let open = lock.open(&bob, None).unwrap();
        let credentials = open.layer(CREDENTIALS).unwrap();
        let names: Vec<&str> = credentials.keys().map(String::as_str).collect();
        assert_eq!(names, ["OURS", "THEIRS", "TOKEN"]);
        assert!(open.layer(MEMORY).unwrap() == one("facts", json!("ours")));
        assert!(open.layer("notes").unwrap() == one("n", json!(1)));
        assert_eq!(
            why(open.layer(PERSONALITY)),
            LockError::NoLayer(PERSONALITY.to_owned())
        );
    }
}

#[test]
fn what_both_sides_changed_is_named() {
    let (ada, base) = file(&[]);
    let edit = |value: &'static str| {
        edited(&base, &ada, |it| {
            token(it, "TOKEN", value);
            token(it, "NEW", "same");
            it.put(MEMORY, &one("facts", json!(value))).unwrap();
            it.share("bob", None, None, &age().1).unwrap();
        })
    };
    let (ours, theirs) = (edit("ours"), edit("theirs"));
    let conflicts = merged(&ada, [&base, &ours, &theirs]).unwrap_err();
    assert_eq!(
        conflicts,
        ["recipient bob", "credentials/TOKEN", "layer memory"]
    );
    let other = file(&[]);
    let [base, other] =
        [(&ada, &base), (&other.0, &other.1)].map(|(k, it)| it.open(k, None).unwrap());
    assert_eq!(
        why(Open::merge(&base, &base, &other)),
        LockError::OtherAgent
    );
}

#[test]
fn a_new_root_is_kept_and_the_other_sides_changes_go_under_it() {
    let (cy, to_cy) = age();
    let (ada, base) = file(&[("cy", None, &to_cy)]);
    let none = BTreeMap::new();
    let turned = edited(&base, &ada, |it| {
        it.rotate(&["cy".to_owned()], &[], &none).unwrap();
    });
    let theirs = edited(&base, &ada, |it| token(it, "NEW", "2"));
    for files in [[&base, &turned, &theirs], [&base, &theirs, &turned]] {
        let lock = merged(&ada, files).unwrap();
        assert_eq!((lock.epoch(), lock.root_epoch()), (3, 2));
        assert!(
            lock.open(&ada, None)
                .unwrap()
                .layer(CREDENTIALS)
                .unwrap()
                .contains_key("NEW")
        );
        assert_eq!(why(lock.open(&cy, None)), LockError::WrongKey);
    }
    let both = edited(&base, &ada, |it| it.rotate(&[], &[], &none).unwrap());
    let conflicts = merged(&ada, [&base, &turned, &both]).unwrap_err();
    assert_eq!(conflicts, ["the root, which both sides made anew"]);
    let shared = edited(&base, &ada, |it| {
        it.share("dan", None, None, &age().1).unwrap();
    });
    let conflicts = merged(&ada, [&base, &turned, &shared]).unwrap_err();
    assert_eq!(conflicts, ["the recipients, since one side has a new root"]);
}
