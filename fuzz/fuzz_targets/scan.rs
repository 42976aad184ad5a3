//! Texts that are looked through for values: what is found lies in them, and is never shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_scan::{Kind, Scanner, needs};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let is_own = |_: &str| true;
    let (mut scanner, mut found) = (Scanner::new(&is_own), Vec::new());
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        scanner.line(at + 1, line, &mut found);
    }
    scanner.finish(&mut found);
    for finding in &found {
        let line = lines[finding.line - 1];
        assert!(line.is_char_boundary(finding.column - 1));
        // At most a quarter of a value is shown.
        let shown = finding.masked.split('…').next().unwrap_or_default();
        assert!(shown.len() < line.len());
    }
    for kind in [
        Kind::Env,
        Kind::Example,
        Kind::Yaml,
        Kind::Shell,
        Kind::Code,
    ] {
        for need in needs(kind, &text) {
            assert!(need.line >= 1 && !need.variable.is_empty());
        }
    }
});
