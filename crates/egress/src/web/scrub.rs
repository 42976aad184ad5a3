//! Takes values out of what passes: each byte of one becomes a `*`, also when the value is written in another way, and
//! when it comes in pieces. Lengths stay as they are.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use memchr::memmem::Finder;
use zeroize::Zeroizing;

/// The shortest value that can be taken out: shorter ones stand everywhere by chance.
pub(super) const LEAST: usize = 8;
/// What stands in the place of each byte.
const MASK: u8 = b'*';

/// The ways in which values are written.
#[derive(Clone, Default)]
pub struct Forms(Arc<[Zeroizing<Vec<u8>>]>);

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forms({})", self.0.len())
    }
}

/// What is the same of a value's Base64 wherever it stands in what is encoded with it.
fn base64(value: &[u8], engine: &GeneralPurpose) -> Vec<Vec<u8>> {
    let shifted = (0..3).map(|before| {
        let mut whole = vec![0; before];
        whole.extend_from_slice(value);
        let text = engine.encode(&whole).into_bytes();
        // Letters that depend on what stands before it, and behind it.
        let first = (before * 8).div_ceil(6);
        let last = text.len() - usize::from(whole.len() % 3 != 0);
        text.get(first..last).unwrap_or_default().to_vec()
    });
    shifted.collect()
}

fn percent(value: &[u8], upper: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len() * 3);
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(*byte),
            _ if upper => text.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => text.extend_from_slice(format!("%{byte:02x}").as_bytes()),
        }
    }
    text
}

fn hex(value: &[u8], upper: bool) -> Vec<u8> {
    let pair = |byte: &u8| match upper {
        true => format!("{byte:02X}"),
        false => format!("{byte:02x}"),
    };
    value.iter().map(pair).collect::<String>().into_bytes()
}

/// As JSON writes a text; `slashes`: with those escaped, too.
fn json(value: &[u8], slashes: bool) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let quoted = serde_json::to_string(text).ok()?;
    let inner = quoted.get(1..quoted.len() - 1)?.to_owned();
    Some(match slashes {
        true => inner.replace('/', "\\/").into_bytes(),
        false => inner.into_bytes(),
    })
}

impl Forms {
    /// Of these values.
    #[must_use]
    pub fn of(values: &[&[u8]]) -> Self {
        let standard = GeneralPurpose::new(&STANDARD, NO_PAD);
        let url = GeneralPurpose::new(&URL_SAFE, NO_PAD);
        let mut all: Vec<Vec<u8>> = Vec::new();
        for value in values.iter().filter(|it| it.len() >= LEAST) {
            all.push(value.to_vec());
            all.extend(base64(value, &standard));
            all.extend(base64(value, &url));
            all.extend([true, false].map(|upper| percent(value, upper)));
            all.extend([true, false].map(|upper| hex(value, upper)));
            all.extend(
                [true, false]
                    .into_iter()
                    .filter_map(|slashes| json(value, slashes)),
            );
            // As forms write it.
            let form = String::from_utf8_lossy(&percent(value, true)).replace("%20", "+");
            all.push(form.into_bytes());
        }
        all.retain(|it| it.len() >= LEAST);
        all.sort();
        all.dedup();
        Self(all.into_iter().map(Zeroizing::new).collect())
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn mark(&self, bytes: &[u8], marks: &mut [bool]) {
        for form in self.0.iter() {
            let finder = Finder::new(form.as_slice());
            let mut from = 0;
            while let Some(at) = bytes.get(from..).and_then(|rest| finder.find(rest)) {
                let start = from + at;
                if let Some(marks) = marks.get_mut(start..start + form.len()) {
                    marks.fill(true);
                }
                from = start + 1;
            }
        }
    }

    /// Where the end of these bytes begins that may be the beginning of a value.
    fn unsure(&self, bytes: &[u8]) -> usize {
        let mut from = bytes.len();
        for form in self.0.iter() {
            let Some(first) = form.first() else { continue };
            let earliest = bytes.len().saturating_sub(form.len() - 1);
            let tail = bytes.get(earliest..from).unwrap_or_default();
            let begins = |at: &usize| {
                let rest = bytes.get(earliest + at..).unwrap_or_default();
                form.starts_with(rest)
            };
            if let Some(at) = memchr::memchr_iter(*first, tail).find(begins) {
                from = earliest + at;
            }
        }
        from
    }

    /// The same without the values.
    #[must_use]
    pub fn masked(&self, bytes: &[u8]) -> Vec<u8> {
        let mut scrub = Scrub::new(self.clone());
        let mut out = scrub.push(bytes);
        out.extend(scrub.finish());
        out
    }
}

/// Takes values out of a stream.
#[derive(Debug)]
pub struct Scrub {
    forms: Forms,
    /// What may be the beginning of a value, and which of it is part of one in any case.
    held: Vec<u8>,
    marks: Vec<bool>,
}

impl Drop for Scrub {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.held);
    }
}

impl Scrub {
    /// Of these.
    #[must_use]
    pub fn new(forms: Forms) -> Self {
        Self {
            forms,
            held: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// What can go on of what has come: all but what may be the beginning of a value.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.marks.resize(self.held.len(), false);
        self.forms.mark(&self.held, &mut self.marks);
        let unsure = self.forms.unsure(&self.held);
        self.give(unsure)
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.give(self.held.len())
    }

    fn give(&mut self, count: usize) -> Vec<u8> {
        let marks = self.marks.drain(..count);
        let bytes = self.held.drain(..count);
        bytes
            .zip(marks)
            .map(|(byte, marked)| if marked { MASK } else { byte })
            .collect()
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
