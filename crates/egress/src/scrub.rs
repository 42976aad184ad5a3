//! Takes values out of what passes: each byte of one becomes a `*`, however each of its characters is spelled, and when it
//! comes in pieces. Lengths stay as they are.
//!
//! Bytes are looked at one by one. A character may be spelled in several ways, and two readings of the same bytes may both
//! lead on, so that all ways are followed at once: a way is a value, how far into it one is, and where it began. What was
//! looked at goes on, but for what a way has begun with. In ordinary text there are no ways, and no more is done than to
//! look for a byte with which a value can begin.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use zeroize::Zeroizing;

mod spelled;

/// The shortest value that can be taken out: shorter ones stand everywhere by chance.
pub(crate) const LEAST: usize = 8;
/// What stands in the place of each byte.
const MASK: u8 = b'*';
/// With more ways than these, those that are the same are made one.
const MANY_WAYS: usize = 16;

/// What is looked for.
struct Form {
    bytes: Zeroizing<Vec<u8>>,
    /// A value itself: letters count in either case, and bytes in hexadecimal. Otherwise its Base64.
    plain: bool,
}

impl Form {
    /// Whether it goes on so, from there.
    fn has(&self, at: usize, bytes: &[u8], only_plain: bool) -> bool {
        let own = self.bytes.get(at..at + bytes.len());
        own.is_some_and(|own| match self.plain {
            true => own.eq_ignore_ascii_case(bytes),
            false => !only_plain && own == bytes,
        })
    }
}

/// All that is looked for.
struct Looked {
    forms: Vec<Form>,
    /// The forms that begin with each byte.
    by_first: Vec<Vec<u32>>,
    /// Whether one can begin with a byte, spelled in any way.
    begins: [bool; 256],
    /// Whether one can begin with a byte that is written in hexadecimal and begins with this digit.
    digits: [bool; 256],
}

/// Values in the ways in which they are written.
#[derive(Clone, Default)]
pub struct Forms(Option<Arc<Looked>>);

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.as_ref().map_or(0, |it| it.forms.len());
        write!(f, "Forms({count})")
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

impl Looked {
    fn new(all: Vec<(Vec<u8>, bool)>) -> Self {
        let mut by_first = vec![Vec::new(); 256];
        let (mut begins, mut digits) = ([false; 256], [false; 256]);
        let mut mark = |byte: u8, at: usize| {
            let list: Option<&mut Vec<u32>> = by_first.get_mut(usize::from(byte));
            if let (Some(list), Ok(at)) = (list, u32::try_from(at)) {
                list.push(at);
            }
        };
        let set = |table: &mut [bool; 256], byte: u8| {
            if let Some(one) = table.get_mut(usize::from(byte)) {
                *one = true;
            }
        };
        for (at, (bytes, plain)) in all.iter().enumerate() {
            let Some(first) = bytes.first().copied() else {
                continue;
            };
            let mut firsts = vec![first];
            if *plain && first.is_ascii_alphabetic() {
                firsts.push(first ^ 0x20);
            }
            for first in firsts {
                mark(first, at);
                set(&mut begins, first);
                if *plain {
                    let digit = char::from_digit(u32::from(first >> 4), 16).unwrap_or('0');
                    for digit in [digit, digit.to_ascii_uppercase()] {
                        let digit = u8::try_from(digit).unwrap_or(b'0');
                        set(&mut begins, digit);
                        set(&mut digits, digit);
                    }
                }
                if first == b' ' {
                    set(&mut begins, b'+');
                }
            }
        }
        for byte in (0..=u8::MAX).filter(|it| spelled::begins(*it)) {
            set(&mut begins, byte);
        }
        let form = |(bytes, plain)| Form {
            bytes: Zeroizing::new(bytes),
            plain,
        };
        Self {
            forms: all.into_iter().map(form).collect(),
            by_first,
            begins,
            digits,
        }
    }
}

impl Forms {
    /// Of these values.
    #[must_use]
    pub fn of(values: &[&[u8]]) -> Self {
        let standard = GeneralPurpose::new(&STANDARD, NO_PAD);
        let url = GeneralPurpose::new(&URL_SAFE, NO_PAD);
        let mut all: Vec<(Vec<u8>, bool)> = Vec::new();
        for value in values.iter().filter(|it| it.len() >= LEAST) {
            all.push((value.to_vec(), true));
            let coded = [base64(value, &standard), base64(value, &url)].concat();
            all.extend(coded.into_iter().map(|it| (it, false)));
        }
        all.retain(|(it, _)| it.len() >= LEAST);
        all.sort();
        all.dedup();
        Self((!all.is_empty()).then(|| Arc::new(Looked::new(all))))
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
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

/// One way in which what came may be a value. The order is that in which ways are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// Where its next character begins.
    next: usize,
    form: u32,
    /// How many bytes of the form came.
    at: usize,
    /// Where it began.
    start: usize,
}

/// A character as it may be meant: its bytes, and whether only a value itself can have it in this spelling.
#[derive(Clone, Copy)]
struct Meant<'a> {
    bytes: &'a [u8],
    only_plain: bool,
}

/// Takes values out of a stream.
pub struct Scrub {
    forms: Forms,
    /// What may be the beginning of a value, and which of it is part of one in any case.
    held: Vec<u8>,
    marks: Vec<bool>,
    /// How much of it was looked at.
    looked: usize,
    ways: Vec<Way>,
    /// Where spellings begin that are not whole yet.
    open: Vec<usize>,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scrub({} held)", self.held.len())
    }
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
            looked: 0,
            ways: Vec::new(),
            open: Vec::new(),
        }
    }

    /// What can go on of what has come: all but what may be the beginning of a value.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(looked) = self.forms.0.clone() else {
            return bytes.to_vec();
        };
        self.held.extend_from_slice(bytes);
        self.marks.resize(self.held.len(), false);
        while let Some(rest) = self.held.get(self.looked..).filter(|it| !it.is_empty()) {
            if self.ways.is_empty() && self.open.is_empty() {
                let begins = |it: &u8| looked.begins.get(usize::from(*it)) == Some(&true);
                match rest.iter().position(begins) {
                    Some(at) => self.looked += at,
                    None => {
                        self.looked = self.held.len();
                        break;
                    }
                }
            }
            self.look(&looked);
            self.looked += 1;
        }
        let ways = self.ways.iter().map(|it| it.start);
        let unsure = ways.chain(self.open.iter().copied()).min();
        self.give(unsure.unwrap_or(self.held.len()))
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.ways.clear();
        self.open.clear();
        self.give(self.held.len())
    }

    /// Looks at the next byte.
    fn look(&mut self, looked: &Looked) {
        let here = self.looked;
        let Some(byte) = self.held.get(here).copied() else {
            return;
        };
        let leads_on = self.ways.iter().any(|it| it.next == here);
        let is_digit = byte.is_ascii_hexdigit()
            && (leads_on || looked.digits.get(usize::from(byte)) == Some(&true));
        if is_digit || spelled::begins(byte) {
            self.open.push(here);
        }
        let itself = Meant {
            bytes: &[byte],
            only_plain: false,
        };
        self.meant(looked, here, itself);
        if byte == b'+' {
            // A space, in what a form sends.
            let space = Meant {
                bytes: b" ",
                only_plain: true,
            };
            self.meant(looked, here, space);
        }
        let open = std::mem::take(&mut self.open);
        for start in open {
            let text = self.held.get(start..=here).unwrap_or_default();
            let of_digits = text.first().is_some_and(u8::is_ascii_hexdigit);
            let found = spelled::read(text);
            if let Some(point) = found.point {
                self.spelled(looked, (start, of_digits), point);
            }
            if found.more {
                self.open.push(start);
            }
        }
        let open = &self.open;
        self.ways
            .retain(|it| it.next > here || open.contains(&it.next));
        if self.ways.len() > MANY_WAYS {
            self.ways.sort_unstable();
            // The one that began first counts for all that are as far.
            self.ways.dedup_by_key(|it| (it.next, it.form, it.at));
        }
    }

    /// A character is spelled out, from there to here.
    fn spelled(&mut self, looked: &Looked, (start, of_digits): (usize, bool), point: u32) {
        let byte = u8::try_from(point).ok();
        if let Some(byte) = byte {
            let meant = Meant {
                bytes: &[byte],
                only_plain: of_digits,
            };
            self.meant(looked, start, meant);
        }
        let wide = char::from_u32(point).filter(|it| !it.is_ascii() && !of_digits);
        if let Some(wide) = wide {
            let mut room = [0; 4];
            let meant = Meant {
                bytes: wide.encode_utf8(&mut room).as_bytes(),
                only_plain: false,
            };
            self.meant(looked, start, meant);
        }
    }

    /// What is from there to here may be this character: the ways that lead there go on, and others begin.
    fn meant(&mut self, looked: &Looked, from: usize, meant: Meant<'_>) {
        let next = self.looked + 1;
        let first = meant.bytes.first().map_or(0, |it| usize::from(*it));
        let begin = looked.by_first.get(first).map_or(&[][..], Vec::as_slice);
        let fresh = begin.iter().map(|form| Way {
            next: from,
            form: *form,
            at: 0,
            start: from,
        });
        let led = self.ways.iter().copied().filter(|it| it.next == from);
        let all: Vec<Way> = led.chain(fresh).collect();
        for way in all {
            let form = usize::try_from(way.form).ok();
            let Some(form) = form.and_then(|it| looked.forms.get(it)) else {
                continue;
            };
            if !form.has(way.at, meant.bytes, meant.only_plain) {
                continue;
            }
            let at = way.at + meant.bytes.len();
            if at < form.bytes.len() {
                self.ways.push(Way { next, at, ..way });
            } else if let Some(marks) = self.marks.get_mut(way.start..next) {
                marks.fill(true);
            }
        }
    }

    fn give(&mut self, count: usize) -> Vec<u8> {
        self.looked -= count;
        for way in &mut self.ways {
            way.next -= count;
            way.start -= count;
        }
        for open in &mut self.open {
            *open -= count;
        }
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
