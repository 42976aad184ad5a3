//! Requests and answers in the dialects of models: whatever comes, what a broker keeps is kept byte for byte,
//! and what is translated can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_dialects::{
    Dialect, Inputs, Memory, Question, StreamTranslation, Tap, WithoutUsage, apart, glance,
    rewritten, same, together, translate_answer, translate_error, translate_request,
};

const ALL: [Dialect; 4] = [
    Dialect::Chat,
    Dialect::Messages,
    Dialect::Gemini,
    Dialect::Responses,
];

/// How it is cut, into two pieces.
fn watched(dialect: Dialect, streams: bool, bytes: &[u8], cut: usize) -> Tap {
    let mut tap = Tap::new(dialect, streams);
    let (first, second) = bytes.split_at(cut);
    tap.push(first);
    tap.push(second);
    tap.finish();
    tap
}

fuzz_target!(|bytes: &[u8]| {
    let [first, second, bytes @ ..] = bytes else {
        return;
    };
    let from = ALL[usize::from(first % 4)];
    let to = ALL[usize::from(first / 4 % 4)];
    let cut = usize::from(*second).min(bytes.len());

    let seen = glance(from, bytes);
    if let Ok(seen) = &seen {
        let made = rewritten(seen, bytes, Some("another"), true);
        let again = glance(from, &made).expect("what was read is read again");
        assert_eq!(again.text_bytes, seen.text_bytes);
        assert_eq!(again.model.is_some(), seen.model.is_some());
        assert!(again.model.is_none_or(|model| model == "another"));
    }
    if let Ok((made, _)) = translate_request(from, to, bytes, "another", first & 128 > 0) {
        assert!(seen.is_ok(), "what a broker cannot read is not translated");
        glance(to, &made).expect("what is written is read");
    }
    let plain = same(bytes);
    assert!(plain.len() <= bytes.len());
    if let Some(asked) = Question::of(from, bytes) {
        let (before, after) = (&bytes[..asked.at.start], &bytes[asked.at.end..]);
        let other = [before, b"\"x\"", after].concat();
        assert_eq!(Question::of(from, &other).expect("it is there").text, "x");
    }
    if let Some(inputs) = Inputs::of(bytes) {
        let texts = inputs.texts.len();
        let again = inputs.only(|_| true);
        assert_eq!(Inputs::of(&again).expect("it is a request").texts.len(), texts);
    }
    if let Some(each) = apart(bytes, 2) {
        let known: Vec<_> = each.into_iter().map(Some).collect();
        let whole = together(None, &known).expect("what was taken apart goes together");
        assert!(apart(&whole, 2).is_some());
    }
    let _ = translate_answer(from, to, bytes, &Memory::default());
    let _ = translate_error(from, to, 500, bytes);

    for streams in [true, false] {
        let (whole, cut) = (
            watched(from, streams, bytes, 0),
            watched(from, streams, bytes, cut),
        );
        assert_eq!((whole.usage(), whole.error()), (cut.usage(), cut.error()));
    }
    let mut stream = StreamTranslation::new(from, to, &Memory::default()).expect("there is a way");
    let mut made = stream.push(&bytes[..cut]);
    made.extend(stream.push(&bytes[cut..]));
    made.extend(stream.finish());
    let told = watched(to, true, &made, 0);
    assert!(told.is_complete() || told.error().is_some());
    if !bytes.windows(5).any(|it| it == b"usage") {
        let mut filter = WithoutUsage::new();
        let mut passed = filter.push(&bytes[..cut]);
        passed.extend(filter.push(&bytes[cut..]));
        passed.extend(filter.finish());
        // A word can be written with escapes, too.
        assert!(passed == bytes || bytes.contains(&b'\\'));
    }
});
