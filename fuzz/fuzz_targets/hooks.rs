//! Files of hooks and what hooks answer: a key never stands in what is said of one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_vault::hooks;

const KEY: &[u8] = b"MARKED-key-of-a-webhook-01234567";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Err(said) = hooks::read_file(&text, |_| Ok(KEY.to_vec())) {
        assert!(!said.contains("MARKED"));
    }
    if let Ok(value) = hooks::made(bytes) {
        assert!(!value.bytes().is_empty());
    }
});
