//! How fast values are taken out of answers: `cargo run --release -p skep-egress --example scrub`. Prints megabytes a
//! second, by the kind of answer and by how many secrets are looked for.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::hint::black_box;
use std::time::Instant;

use skep_egress::{Forms, Scrub};

/// Bytes of each answer.
const SIZE: usize = 16 << 20;
/// Bytes of a piece, as they come from a connection.
const PIECE: usize = 16 << 10;

fn filled(part: &str) -> Vec<u8> {
    part.bytes().cycle().take(SIZE).collect()
}

fn random(size: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn key(at: u8) -> String {
    let letters = random(40 + usize::from(at));
    let letters = letters.iter().skip(usize::from(at));
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |it: &u8| alphabet.get(usize::from(*it % 64)).copied();
    let letters = letters.filter_map(letter).map(char::from);
    format!("sk-{}", letters.collect::<String>())
}

fn main() {
    let json = r#"{"id":"chatcmpl-01","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"A sentence, as a model writes one, with \"quotes\" and a\nline."}}]}"#;
    let hex: String = random(64).iter().map(|it| format!("{it:02x}")).collect();
    let kinds = [
        ("JSON", filled(json)),
        (
            "text",
            filled("Bees live in a skep, and a skep is a basket of straw. "),
        ),
        ("escapes", filled(r"\u0062\u0065\n%20&amp;")),
        ("hexadecimal", filled(&hex)),
        ("random bytes", random(SIZE)),
    ];
    println!("kind of answer      1 secret   8 secrets  64 secrets (MB/s)");
    for (name, text) in &kinds {
        let speeds = [1, 8, 64].map(|count| {
            let keys: Vec<String> = (0..count).map(key).collect();
            let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
            let mut scrub = Scrub::new(Forms::of(&keys));
            let began = Instant::now();
            for piece in text.chunks(PIECE) {
                black_box(scrub.push(piece));
            }
            black_box(scrub.finish());
            SIZE as f64 / 1e6 / began.elapsed().as_secs_f64()
        });
        let [one, eight, many] = speeds;
        println!("{name:16} {one:11.0} {eight:11.0} {many:11.0}");
    }
}
