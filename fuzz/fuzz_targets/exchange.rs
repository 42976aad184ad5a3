//! Files in which secrets come: what is read can be written and read again, and is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_exchange::{Entry, Format, read, variable, write};

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let word = Format::WORDS[usize::from(*how) % Format::WORDS.len()];
    let format: Format = word.parse().unwrap();
    let Ok(entries) = read(format, bytes, &[]) else {
        return;
    };
    if matches!(format, Format::Sops(_)) {
        return;
    }
    // What is no variable's name is written as one.
    let changes = |it: &Entry| variable(&it.name) != it.name;
    if format == Format::Dotenv && entries.iter().any(changes) {
        return;
    }
    // A name may be one that the format cannot say.
    let Ok(text) = write(format, &entries, &[], "2026-01-01T00:00:00Z") else {
        return;
    };
    let again = read(format, &text, &[]).unwrap();
    let plain = |all: &[Entry]| -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = all
            .iter()
            .map(|it| (it.name.clone(), it.value.to_vec()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(plain(&again), plain(&entries), "{word}");
});
