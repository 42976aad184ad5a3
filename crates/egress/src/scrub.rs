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
    begins: Vec<bool>,
    /// Whether one can begin with two bytes, by the number that they are.
    pairs: Vec<bool>,
    /// Whether one can begin with a byte that is written in hexadecimal and begins with this digit.
    digits: Vec<bool>,
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

fn set(table: &mut [bool], at: usize) {
    if let Some(one) = table.get_mut(at) {
        *one = true;
    }
}

fn is_set(table: &[bool], at: usize) -> bool {
    table.get(at) == Some(&true)
}

/// A byte, and the one that counts for the same in a value.
fn cases(byte: u8, plain: bool) -> impl Iterator<Item = u8> + Clone {
    let other = (plain && byte.is_ascii_alphabetic()).then_some(byte ^ 0x20);
    std::iter::once(byte).chain(other)
}

/// The digit of a number up to 15, in both cases.
fn digits_of(number: u8) -> impl Iterator<Item = u8> {
    let digit = char::from_digit(u32::from(number & 15), 16).unwrap_or('0');
    let all = [digit, digit.to_ascii_uppercase()];
    all.into_iter().filter_map(|it| u8::try_from(it).ok())
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// The bytes with which a spelling of a byte can begin; those of more than one byte are for [`Looked::new`].
fn beginnings(byte: u8, plain: bool) -> Vec<u8> {
    let mut all: Vec<u8> = cases(byte, plain).collect();
    if plain {
        all.extend(cases(byte, plain).flat_map(|it| digits_of(it >> 4)));
        all.extend((byte == b' ').then_some(b'+'));
    }
    all.extend((0..=u8::MAX).filter(|it| spelled::begins(*it)));
    all
}

impl Looked {
    fn new(all: Vec<(Vec<u8>, bool)>) -> Self {
        let mut looked = Self {
            forms: Vec::new(),
            by_first: vec![Vec::new(); 1 << 8],
            begins: vec![false; 1 << 8],
            pairs: vec![false; 1 << 16],
            digits: vec![false; 1 << 8],
        };
        for (bytes, plain) in all {
            looked.add(bytes, plain);
        }
        for intro in (0..=u8::MAX).filter(|it| spelled::begins(*it)) {
            set(&mut looked.begins, usize::from(intro));
            for second in 0..=u8::MAX {
                let plain = !second.is_ascii_alphanumeric() && intro == b'\\';
                // An escape of what no value begins with.
                let idle = plain && looked.first(second).is_empty() && second != b'\\';
                if !idle && spelled::read(&[intro, second]) != spelled::Spelled::default() {
                    set(&mut looked.pairs, pair(intro, second));
                }
            }
        }
        looked
    }

    fn add(&mut self, bytes: Vec<u8>, plain: bool) {
        let (Ok(at), [first, second, ..]) = (u32::try_from(self.forms.len()), &*bytes) else {
            return;
        };
        let (first, second) = (*first, *second);
        for one in cases(first, plain) {
            if let Some(list) = self.by_first.get_mut(usize::from(one)) {
                list.push(at);
            }
        }
        let seconds = beginnings(second, plain);
        let alone = cases(first, plain).chain((first == b' ' && plain).then_some(b'+'));
        for one in alone {
            set(&mut self.begins, usize::from(one));
            for second in &seconds {
                set(&mut self.pairs, pair(one, *second));
            }
        }
        for one in cases(first, plain).filter(|_| plain) {
            for digit in digits_of(one >> 4) {
                set(&mut self.begins, usize::from(digit));
                set(&mut self.digits, usize::from(digit));
                for second in digits_of(one) {
                    set(&mut self.pairs, pair(digit, second));
                }
            }
        }
        self.forms.push(Form {
            bytes: Zeroizing::new(bytes),
            plain,
        });
    }

    /// The forms that begin with a byte.
    fn first(&self, byte: u8) -> &[u32] {
        self.by_first
            .get(usize::from(byte))
            .map_or(&[], Vec::as_slice)
    }

    /// Whether a value may begin where these bytes do.
    fn may_begin(&self, rest: &[u8]) -> bool {
        let (first, second) = match rest {
            [first, second, ..] => (*first, *second),
            [first] => return is_set(&self.begins, usize::from(*first)),
            [] => return false,
        };
        if !is_set(&self.pairs, pair(first, second)) {
            return false;
        }
        if !spelled::begins(first) || !self.first(first).is_empty() {
            return true;
        }
        // What is spelled is read at once, where all of it is here.
        let shortest = match (first, second) {
            (b'%', _) => 3,
            (_, b'u' | b'U') => 6,
            _ => 2,
        };
        for end in shortest..=spelled::LONGEST {
            let Some(text) = rest.get(..end) else {
                return true;
            };
            let found = spelled::read(text);
            if found.point.is_some_and(|it| self.begins_with(it)) {
                return true;
            }
            if !found.more {
                return false;
            }
        }
        true
    }

    /// Whether a value begins with a character, or with its byte.
    fn begins_with(&self, point: u32) -> bool {
        let byte = u8::try_from(point).ok();
        let mut room = [0; 4];
        let wide = char::from_u32(point).map(|it| it.encode_utf8(&mut room).as_bytes());
        let wide = wide.and_then(<[u8]>::first).copied();
        let mut firsts = byte.into_iter().chain(wide);
        firsts.any(|it| !self.first(it).is_empty())
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
    /// What may be the beginning of a value.
    held: Vec<u8>,
    /// What of it is part of a value in any case: from there to there.
    found: Vec<(usize, usize)>,
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
            found: Vec::new(),
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
        while let Some(rest) = self.held.get(self.looked..).filter(|it| !it.is_empty()) {
            if self.ways.is_empty() && self.open.is_empty() {
                let begins = |it: &u8| is_set(&looked.begins, usize::from(*it));
                let at = rest.iter().position(begins).unwrap_or(rest.len());
                self.looked += at;
                let rest = rest.get(at..).unwrap_or_default();
                if !looked.may_begin(rest) {
                    self.looked += usize::from(!rest.is_empty());
                    continue;
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
        let is_digit =
            byte.is_ascii_hexdigit() && (leads_on || is_set(&looked.digits, usize::from(byte)));
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
        let mut kept = 0;
        for index in 0..self.open.len() {
            let Some(start) = self.open.get(index).copied() else {
                break;
            };
            let text = self.held.get(start..=here).unwrap_or_default();
            let of_digits = text.first().is_some_and(u8::is_ascii_hexdigit);
            let found = spelled::read(text);
            if let Some(point) = found.point {
                self.spelled(looked, (start, of_digits), point);
            }
            if let Some(one) = self.open.get_mut(kept).filter(|_| found.more) {
                *one = start;
                kept += 1;
            }
        }
        self.open.truncate(kept);
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
        for index in 0..self.ways.len() {
            let way = self.ways.get(index).copied();
            if let Some(way) = way.filter(|it| it.next == from) {
                self.go_on(looked, way, meant);
            }
        }
        let first = meant.bytes.first().map_or(&[][..], |it| looked.first(*it));
        for form in first {
            let way = Way {
                next: from,
                form: *form,
                at: 0,
                start: from,
            };
            self.go_on(looked, way, meant);
        }
    }

    /// Goes a way on by a character, when it leads there.
    fn go_on(&mut self, looked: &Looked, way: Way, meant: Meant<'_>) {
        let form = usize::try_from(way.form).ok();
        let Some(form) = form.and_then(|it| looked.forms.get(it)) else {
            return;
        };
        if !form.has(way.at, meant.bytes, meant.only_plain) {
            return;
        }
        let (at, next) = (way.at + meant.bytes.len(), self.looked + 1);
        if at < form.bytes.len() {
            self.ways.push(Way { next, at, ..way });
            return;
        }
        match self.found.last_mut() {
            // Of what overlaps one is made.
            Some((start, end)) if way.start <= *end => {
                *start = way.start.min(*start);
                *end = next;
            }
            _ => self.found.push((way.start, next)),
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
        let mut out: Vec<u8> = self.held.drain(..count).collect();
        for (start, end) in &self.found {
            let of_out = *start.min(&count)..*end.min(&count);
            if let Some(part) = out.get_mut(of_out) {
                part.fill(MASK);
            }
        }
        self.found.retain_mut(|(start, end)| {
            (*start, *end) = (start.saturating_sub(count), end.saturating_sub(count));
            *end > 0
        });
        out
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
