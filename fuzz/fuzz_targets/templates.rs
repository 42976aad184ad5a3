//! Templates, indexes and notes of anybody's making: what is read leads nowhere but into its own folder, and is
//! read again when it is written.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use skep_templates::{Form, Index, Note, archive};

fuzz_target!(|bytes: &[u8]| {
    let _ = Form::parse(bytes);
    let _ = Index::parse(bytes);
    let _ = Note::parse(bytes);
    // As it is, and as what an archive holds: a fuzzer finds no checksum by itself.
    for packed in [bytes.to_vec(), archive::gzip(bytes)] {
        let Ok(read) = archive::unpack(&packed) else {
            continue;
        };
        for path in read.files().keys() {
            assert!(path.split('/').all(|it| !it.is_empty() && it != "." && it != ".."));
        }
        let _ = read.made("somebody", &BTreeMap::new());
        let again = archive::unpack(&archive::pack(&read).expect("it fits"));
        assert_eq!(again.as_ref(), Ok(&read));
    }
});
