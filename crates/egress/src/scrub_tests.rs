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

/// One of the ways in which a byte is written, in a text of characters.
fn written(byte: u8, way: usize) -> String {
    let plain = char::from(byte).to_string();
    match way % 16 {
        1 => format!("%{byte:02X}"),
        2 => format!("%{byte:02x}"),
        3 => format!("%25{byte:02x}"),
        4 => format!("\\u{byte:04x}"),
        5 => format!("\\u{byte:04X}"),
        6 => format!("\\\\u{byte:04X}"),
        7 => format!("&#{byte};"),
        8 => format!("&#x{byte:x};"),
        9 => format!("&#X{byte:04X};"),
        10 => format!("&amp;#{byte};"),
        11 => format!("\\x{byte:02x}"),
        12 => format!("{byte:02x}"),
        13 => format!("{byte:02X}"),
        14 if byte.is_ascii_punctuation() => format!("\\{plain}"),
        14 => plain.to_ascii_uppercase(),
        15 if byte == b'&' => "&amp;".to_owned(),
        15 if byte == b'/' => "&sol;".to_owned(),
        15 => plain.to_ascii_lowercase(),
        _ => plain,
    }
}

/// Which bytes are a value's, found by trying everything.
fn by_trying(value: &[u8], text: &[u8]) -> Vec<bool> {
    fn ends(value: &[u8], text: &[u8], from: usize, all: &mut Vec<usize>) {
        let Some(first) = value.first() else {
            all.push(from);
            return;
        };
        for to in from + 1..=text.len().min(from + 26) {
            let piece = &text[from..to];
            let point = match piece {
                [one] => Some(u32::from(*one)),
                _ => spelled::read(piece).point,
            };
            let same = |it: u32| it < 256 && (it as u8).eq_ignore_ascii_case(first);
            if point.is_some_and(same) || (piece == b"+" && *first == b' ') {
                ends(&value[1..], text, to, all);
            }
        }
    }
    let mut marks = vec![false; text.len()];
    for from in 0..text.len() {
        let mut all = Vec::new();
        ends(value, text, from, &mut all);
        if let Some(to) = all.iter().max() {
            marks[from..*to].fill(true);
        }
    }
    marks
}

#[test]
fn an_answer_with_many_ways_in_it_takes_no_long() {
    let value = "ab".repeat(100);
    let forms = Forms::of(&[value.as_bytes()]);
    let text = "ab".repeat(10_000);
    assert_eq!(forms.masked(text.as_bytes()), "*".repeat(20_000).as_bytes());
    let escapes = "\\&%".repeat(10_000);
    assert_eq!(forms.masked(escapes.as_bytes()), escapes.as_bytes());
}

#[test]
fn a_character_of_more_than_one_byte_is_found() {
    let forms = Forms::of(&["schlüssel😀geheim".as_bytes()]);
    for text in [
        "schlüssel😀geheim",
        r"schl\u00fcssel\ud83d\ude00geheim",
        "schl&uuml;ssel",
        "schl%C3%bcssel%f0%9f%98%80GEHEIM",
        "schl&#252;ssel&#x1F600;geheim",
    ] {
        let out = String::from_utf8(forms.masked(text.as_bytes())).unwrap();
        let found = !text.contains("uuml");
        assert_eq!(out.bytes().all(|it| it == b'*'), found, "{text}: {out}");
    }
}

proptest! {
    #[test]
    fn a_value_is_found_in_any_mixture_of_ways(
        value in "[ -~]{8,24}",
        ways in proptest::collection::vec(any::<usize>(), 24),
        around in ("[ -~]{0,12}", "[ -~]{0,12}"),
        sizes in proptest::collection::vec(1_usize..9, 1..8),
    ) {
        let forms = Forms::of(&[value.as_bytes()]);
        let inner: String = value.bytes().zip(&ways).map(|(byte, way)| written(byte, *way)).collect();
        let text = format!("{}{inner}{}", around.0, around.1);
        let out = passes(&forms, text.as_bytes(), &sizes);
        prop_assert_eq!(out.len(), text.len());
        let own = &out[around.0.len()..][..inner.len()];
        prop_assert!(own.iter().all(|it| *it == b'*'), "{} in {}", inner, String::from_utf8_lossy(&out));
    }

    #[test]
    fn what_is_masked_is_what_trying_everything_finds(
        value in "[ab4%&#6;\\\\+ ]{8,9}",
        parts in proptest::collection::vec((any::<usize>(), "[ab4%&#6;\\\\+ ]{0,3}", any::<prop::sample::Index>()), 1..16),
        sizes in proptest::collection::vec(1_usize..9, 1..8),
    ) {
        // Pieces of the value in ways of writing it, with other things between.
        let mut text = String::new();
        for (way, other, at) in &parts {
            let from = at.index(value.len());
            for byte in value.bytes().skip(from).chain(value.bytes()).take(6) {
                text.push_str(&written(byte, *way));
            }
            text.push_str(other);
        }
        let coded = Forms::of(&[value.as_bytes()]);
        let marks = by_trying(value.as_bytes(), text.as_bytes());
        let out = passes(&coded, text.as_bytes(), &sizes);
        let pairs = text.bytes().zip(&marks).map(|(byte, marked)| if *marked { b'*' } else { byte });
        prop_assert_eq!(out, pairs.collect::<Vec<u8>>(), "{}", text);
    }

    #[test]
    fn what_has_nothing_of_a_value_goes_on_at_once(
        text in "[^aktrK46%&\\\\]{0,200}",
        sizes in proptest::collection::vec(1_usize..40, 1..8),
    ) {
        let mut scrub = Scrub::new(Forms::of(&[b"kkkkkkkkkk"]));
        for piece in text.as_bytes().chunks(sizes[0]) {
            prop_assert_eq!(scrub.push(piece), piece);
        }
    }

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
