//! What it costs to open and to write a file with 10 MB of memory, no disk in it.
//!
//! `cargo run --release -p skep-lock --example speed`

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;
use skep_crypto::age::Identity;
use skep_crypto::passphrase::{Passphrase, Recipe};
use skep_lock::{CREDENTIALS, Entries, Kdf, Lock, LockError, MEMORY, Open, Secret, To, Value};

/// Bytes of memory, as JSON.
const BYTES: usize = 10_000_000;
/// Bytes of an entry of it.
const ENTRY: usize = 1_000;
const ROUNDS: usize = 100;
/// Openings by a passphrase, each of which costs what it says.
const PHRASES: usize = 20;

/// Text that is neither all the same nor noise: hexadecimal, which compresses to about a half.
fn entry(state: &mut u64) -> String {
    let mut text = String::with_capacity(ENTRY + 16);
    while text.len() < ENTRY - 40 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}

fn report(what: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |percent: usize| {
        let place = (taken.len() * percent / 100).min(taken.len() - 1);
        taken[place].as_secs_f64() * 1_000.0
    };
    println!("| {what} | {:.1} ms | {:.1} ms |", at(50), at(99));
}

fn timed<T>(
    rounds: usize,
    mut act: impl FnMut() -> Result<T, LockError>,
) -> Result<Vec<Duration>, LockError> {
    let mut taken = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        black_box(act()?);
        taken.push(started.elapsed());
    }
    Ok(taken)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::generate()?;
    let age = To::Age(identity.recipient()?);
    let phrase = Passphrase::new("correct horse battery")?;
    let mut open = Open::create("bench", "age", &age)?;
    let kdf = Kdf::Argon2id(Recipe::new()?);
    open.share("phrase", None, None, &To::Passphrase(phrase.clone(), kdf))?;
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let memory: Entries = (0..BYTES / ENTRY)
        .map(|at| (format!("fact-{at:08}"), json!(entry(&mut state)).into()))
        .collect();
    open.put(MEMORY, &memory)?;
    let token = Entries::from([("TOKEN".to_owned(), Value::text("x"))]);
    open.put(CREDENTIALS, &token)?;
    let text = open.finish()?.render();
    println!(
        "{} bytes of memory, a file of {} bytes\n",
        BYTES,
        text.len()
    );
    println!("| | p50 | p99 |\n|---|---|---|");
    let by_age = Secret::Age(identity);
    let opened = timed(ROUNDS, || Lock::parse(text.as_bytes())?.open(&by_age, None))?;
    report("open by age: read, check, decrypt and expand all", opened);
    let by_phrase = Secret::Passphrase(phrase);
    let opened = timed(PHRASES, || {
        Lock::parse(text.as_bytes())?.open(&by_phrase, None)
    })?;
    report("open by a passphrase (Argon2id, 64 MiB, 3 passes)", opened);
    let open = Lock::parse(text.as_bytes())?.open(&by_age, None)?;
    let sealed = timed(ROUNDS, || {
        let mut open = open.clone();
        open.put(MEMORY, &memory)?;
        Ok(open.finish()?.render())
    })?;
    report("write all of the memory: compress, encrypt, sign", sealed);
    let set = timed(ROUNDS, || {
        let mut open = open.clone();
        open.put(CREDENTIALS, &token)?;
        Ok(open.finish()?.render())
    })?;
    report("write a credential beside it", set);
    Ok(())
}
