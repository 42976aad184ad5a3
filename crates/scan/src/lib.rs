//! What lies in the open and should not: [`Scanner`] finds values of secrets in text, [`needs()`] the secrets that
//! a project asks for. Lines go in and findings come out; nothing here does I/O, and no finding holds a value.

mod guess;
mod needs;
mod patterns;

use sha2::{Digest, Sha256};

pub use guess::{is_placeholder, is_secret_name};
pub use needs::{Kind, Need, needs};

use patterns::{ASSIGNMENT, Match, PRIVATE_KEY, Patterns};

/// Bytes of a line that are looked at in one go.
const PIECE: usize = 32 << 10;
/// Bytes that two pieces share, so that nothing between them is missed.
const OVERLAP: usize = 1 << 10;
/// Letters of a fingerprint.
pub const FINGERPRINT: usize = 16;

/// A value that lies in the open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it looks like, such as `github-token`.
    pub rule: &'static str,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in bytes, counted from 1.
    pub column: usize,
    /// Its beginning, where that tells its sort and nothing more, and how long it is.
    pub masked: String,
    /// What is the same for the same value: for a list of what is accepted.
    pub fingerprint: String,
}

/// Looks at a text line by line.
pub struct Scanner<'a> {
    patterns: &'static Patterns,
    is_own: &'a dyn Fn(&str) -> bool,
    /// A private key begins on the line before.
    begun: Option<(usize, usize)>,
}

/// The fingerprint of a value.
fn fingerprint(rule: &str, value: &str) -> String {
    let mut hash = Sha256::new();
    for part in ["skep scan", rule, value] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digits = hash.finalize();
    let digits = digits.iter().take(FINGERPRINT / 2);
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// A value so that it is recognised and cannot be used: at most a quarter of it, and that only of sorts whose
/// beginning is always the same.
fn masked(found: &Match<'_>) -> String {
    let length = found.value.chars().count();
    let shown: String = found
        .value
        .chars()
        .take(found.shown.min(length / 4))
        .collect();
    format!("{shown}…({length})")
}

impl<'a> Scanner<'a> {
    /// A scanner; `is_own` says whether a text that begins with `skep_` is a key of Skep.
    #[must_use]
    pub fn new(is_own: &'a dyn Fn(&str) -> bool) -> Self {
        Self {
            patterns: Patterns::all(),
            is_own,
            begun: None,
        }
    }

    /// What lies in this line, whose number counts from 1.
    pub fn line(&mut self, number: usize, text: &str, found: &mut Vec<Finding>) {
        if let Some(at) = self.begun.take() {
            found.push(private_key(at, text.trim()));
        }
        let mut from = 0;
        let mut seen = 0;
        loop {
            let mut end = text.len().min(from + PIECE);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            for it in self.patterns.find(&text[from..end], self.is_own) {
                let (start, stop) = (from + it.start, from + it.start + it.value.len());
                // What the piece before has told, or what is cut off here and whole in the next.
                if start < seen || (stop == end && end < text.len() && start > from) {
                    continue;
                }
                seen = stop;
                if it.rule == PRIVATE_KEY {
                    let rest = text[stop..].trim_start_matches(['\\', 'n', '"', '\'']);
                    match rest.is_empty() {
                        true => self.begun = Some((number, start + 1)),
                        // A key in one line, with `\n` in it.
                        false => found.push(private_key((number, start + 1), rest)),
                    }
                    continue;
                }
                found.push(Finding {
                    rule: it.rule,
                    line: number,
                    column: start + 1,
                    masked: masked(&it),
                    fingerprint: fingerprint(it.rule, it.value),
                });
            }
            if end == text.len() {
                return;
            }
            from = end - OVERLAP;
            while !text.is_char_boundary(from) {
                from -= 1;
            }
        }
    }

    /// What was begun on the last line.
    pub fn finish(mut self, found: &mut Vec<Finding>) {
        if let Some(at) = self.begun.take() {
            found.push(private_key(at, ""));
        }
    }
}

fn private_key((line, column): (usize, usize), body: &str) -> Finding {
    Finding {
        rule: PRIVATE_KEY,
        line,
        column,
        masked: "-----BEGIN…".to_owned(),
        fingerprint: fingerprint(PRIVATE_KEY, body),
    }
}

/// Whether a value looks like a secret by itself, whatever it is called.
#[must_use]
pub fn is_known(value: &str) -> bool {
    let own = |text: &str| text.len() > 20;
    let mut found = Patterns::all().find(value, &own).into_iter();
    found.any(|it| it.rule != ASSIGNMENT)
}

#[cfg(test)]
mod tests;
