//! No value passes, however it is written and wherever it is cut; all else does.

use base64::engine::general_purpose::{STANDARD as WHOLE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

/// What passes of a text that comes in pieces of these sizes.
fn passes(forms: &Forms, text: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut scrub = Scrub::new(forms.clone());
    let (mut out, mut rest) = (Vec::new(), text);
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        out.extend(scrub.push(piece));
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    out.extend(scrub.finish());
    out
}

fn has(text: &[u8], value: &[u8]) -> bool {
    memchr::memmem::find(text, value).is_some()
}

#[test]
fn a_value_is_found_in_every_way_of_writing_it() {
    let value = "sk-live/a+b c\"0123456789";
    let forms = Forms::of(&[value.as_bytes()]);
    let hex: String = value.bytes().map(|it| format!("{it:02X}")).collect();
    for (what, text) in [
        ("plain", value.to_owned()),
        ("json", serde_json::to_string(value).unwrap()),
        (
            "slashes",
            serde_json::to_string(value).unwrap().replace('/', "\\/"),
        ),
        ("percent", "sk-live%2Fa%2Bb%20c%220123456789".to_owned()),
        ("low", "sk-live%2fa%2bb%20c%220123456789".to_owned()),
        ("form", "sk-live%2Fa%2Bb+c%220123456789".to_owned()),
        ("hex", hex),
    ] {
        let out = forms.masked(format!("<{text}>").as_bytes());
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.len(), text.len() + 2, "{what}");
        let inner = out.trim_matches(['<', '>', '"']);
        assert!(inner.bytes().all(|it| it == b'*'), "{what}: {out}");
    }
}

#[test]
fn what_is_short_is_not_looked_for() {
    assert!(Forms::of(&[b"short"]).is_empty());
    assert_eq!(Forms::of(&[b"short"]).masked(b"short"), b"short");
}

#[test]
fn what_cannot_be_a_value_goes_on_at_once() {
    let mut scrub = Scrub::new(Forms::of(&[b"0123456789"]));
    assert_eq!(scrub.push(b"data: hello\n\n"), b"data: hello\n\n");
    assert_eq!(scrub.push(b"x0123"), b"x");
    assert_eq!(scrub.push(b"x"), b"0123x");
    assert_eq!(scrub.push(b"012345678"), b"");
    assert_eq!(scrub.push(b"90"), b"**********");
    assert_eq!(scrub.finish(), b"0");
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        value in proptest::collection::vec(any::<u8>(), 8..40),
        around in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..6),
        sizes in proptest::collection::vec(1_usize..12, 1..8),
    ) {
        let forms = Forms::of(&[&value]);
        let text = around.join(&value[..]);
        let out = passes(&forms, &text, &sizes);
        prop_assert_eq!(&out, &forms.masked(&text));
        prop_assert_eq!(out.len(), text.len());
        prop_assert!(around.len() == 1 || !has(&out, &value) || value.iter().all(|it| *it == b'*'));
    }

    #[test]
    fn values_that_repeat_themselves_are_found(
        part in "[ab]{1,3}",
        count in 4_usize..12,
        before in "[ab]{0,6}",
        after in "[ab]{0,6}",
        sizes in proptest::collection::vec(1_usize..5, 1..5),
    ) {
        let value = part.repeat(count);
        prop_assume!(value.len() >= LEAST);
        let forms = Forms::of(&[value.as_bytes()]);
        let text = format!("{before}{value}{value}{after}");
        let out = passes(&forms, text.as_bytes(), &sizes);
        prop_assert!(!has(&out, value.as_bytes()));
        prop_assert_eq!(out, forms.masked(text.as_bytes()));
    }

    #[test]
    fn base64_of_what_has_it_is_found(
        value in proptest::collection::vec(any::<u8>(), 12..40),
        before in proptest::collection::vec(any::<u8>(), 0..7),
        after in proptest::collection::vec(any::<u8>(), 0..7),
        sizes in proptest::collection::vec(1_usize..9, 1..5),
    ) {
        let forms = Forms::of(&[&value]);
        let whole = [&before[..], &value, &after].concat();
        for text in [WHOLE.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
            let out = passes(&forms, text.as_bytes(), &sizes);
            // Of the value at most the bits are left that share a letter with what stands beside it.
            let stars = out.iter().filter(|it| **it == b'*').count();
            prop_assert!(stars + 2 >= value.len() * 8 / 6, "{stars} of {}", value.len());
        }
    }
}
