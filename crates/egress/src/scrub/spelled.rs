//! How one character is spelled in an answer: as it is in URLs, JSON, programs and HTML. Pure, and of a bounded length.

/// How often a spelling is spelled itself: `%2541`, `&amp;#65;`.
const DEEPEST: usize = 3;
/// Backslashes in a row: each JSON text within a JSON text doubles them.
const MOST_BACKSLASHES: usize = 8;
/// Digits of a number in HTML; it may begin with zeros.
const MOST_DIGITS: usize = 8;

/// The longest spelling: two halves of a character in JSON, each with as many backslashes as there may be; and one byte
/// more, which shows that it ends.
pub(super) const LONGEST: usize = 2 * (MOST_BACKSLASHES + 5) + 1;

/// Names of characters in HTML.
const NAMES: [(&[u8], u8); 40] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"Tab", b'\t'),
    (b"NewLine", b'\n'),
    (b"excl", b'!'),
    (b"num", b'#'),
    (b"dollar", b'$'),
    (b"percnt", b'%'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"ast", b'*'),
    (b"midast", b'*'),
    (b"plus", b'+'),
    (b"comma", b','),
    (b"period", b'.'),
    (b"sol", b'/'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"equals", b'='),
    (b"quest", b'?'),
    (b"commat", b'@'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"bsol", b'\\'),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"Hat", b'^'),
    (b"lowbar", b'_'),
    (b"UnderBar", b'_'),
    (b"grave", b'`'),
    (b"lcub", b'{'),
    (b"lbrace", b'{'),
    (b"vert", b'|'),
    (b"verbar", b'|'),
    (b"rcub", b'}'),
    (b"rbrace", b'}'),
    (b"nbsp", b' '),
];
/// Of those, how many the first need no semicolon.
const WITHOUT_END: usize = 4;

/// What a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spelled {
    /// The character that it is.
    pub(super) point: Option<u32>,
    /// It may be the beginning of a longer one.
    pub(super) more: bool,
}

impl Spelled {
    const MORE: Self = Self {
        point: None,
        more: true,
    };
    const NONE: Self = Self {
        point: None,
        more: false,
    };

    const fn whole(point: u32) -> Self {
        Self {
            point: Some(point),
            more: false,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            point: self.point.or(other.point),
            more: self.more || other.more,
        }
    }
}

/// The number of a hexadecimal digit.
pub(super) fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

/// Whether a spelling of more than one byte begins so; hexadecimal digits do, too.
pub(super) const fn begins(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&')
}

/// So many hexadecimal digits.
fn digits(text: &[u8], count: usize) -> Spelled {
    let mut point = 0;
    for byte in text {
        match digit(*byte) {
            Some(digit) if text.len() <= count => point = point * 16 + digit,
            _ => return Spelled::NONE,
        }
    }
    match text.len() == count {
        true => Spelled::whole(point),
        false => Spelled::MORE,
    }
}

/// What stands behind a `%`.
fn percent(mut text: &[u8]) -> Spelled {
    let mut found = Spelled::NONE;
    for _ in 0..=DEEPEST {
        found = found.or(digits(text, 2));
        match text.strip_prefix(b"25") {
            Some(rest) => text = rest,
            None => break,
        }
    }
    found
}

/// A number of HTML, behind its `#`.
fn number(text: &[u8]) -> Spelled {
    let (radix, text) = match text {
        [b'x' | b'X', rest @ ..] => (16, rest),
        _ => (10, text),
    };
    let (text, ended) = match text {
        [rest @ .., b';'] => (rest, true),
        _ => (text, false),
    };
    let mut point: u32 = 0;
    for byte in text {
        let Some(digit) = char::from(*byte).to_digit(radix) else {
            return Spelled::NONE;
        };
        point = point.saturating_mul(radix).saturating_add(digit);
    }
    match text.len() {
        0 if ended => Spelled::NONE,
        0 => Spelled::MORE,
        // Browsers read it without its end, too.
        length if length <= MOST_DIGITS => Spelled {
            point: Some(point),
            more: !ended,
        },
        _ => Spelled::NONE,
    }
}

/// A name of HTML.
fn name(text: &[u8]) -> Spelled {
    let (text, ended) = match text {
        [rest @ .., b';'] => (rest, true),
        _ => (text, false),
    };
    let mut found = Spelled::NONE;
    for (at, (name, byte)) in NAMES.iter().enumerate() {
        let begins = name
            .get(..text.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(text));
        if !begins {
            continue;
        }
        let whole = name.len() == text.len();
        found.more |= !ended;
        if whole && (ended || at < WITHOUT_END) {
            found.point = Some(u32::from(*byte));
        }
    }
    found
}

/// What stands behind an `&`.
fn entity(mut text: &[u8]) -> Spelled {
    let mut found = Spelled::NONE;
    for _ in 0..=DEEPEST {
        found = found.or(match text {
            [] => Spelled::MORE,
            [b'#', rest @ ..] => number(rest),
            _ => name(text),
        });
        match text.strip_prefix(b"amp;") {
            Some(rest) => text = rest,
            None => break,
        }
    }
    found
}

/// How many backslashes a text begins with, and what follows.
fn backslashes(text: &[u8]) -> (usize, &[u8]) {
    let count = text.iter().take_while(|it| **it == b'\\').count();
    (count, text.get(count..).unwrap_or_default())
}

/// The second half of a character that JSON writes as two.
fn second(text: &[u8], first: u32) -> Spelled {
    let (count, rest) = backslashes(text);
    let low = match rest {
        _ if count > MOST_BACKSLASHES => return Spelled::NONE,
        [] => return Spelled::MORE,
        [b'u' | b'U', rest @ ..] if count > 0 => digits(rest, 4),
        _ => return Spelled::NONE,
    };
    match low.point {
        Some(low @ 0xdc00..=0xdfff) => {
            Spelled::whole(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00))
        }
        Some(_) => Spelled::NONE,
        None => low,
    }
}

/// What stands behind `\u`.
fn unicode(text: &[u8]) -> Spelled {
    if let [b'{', rest @ ..] = text {
        return match rest {
            [] => Spelled::MORE,
            [rest @ .., b'}'] if !rest.is_empty() => digits(rest, rest.len().min(6)),
            _ if rest.len() <= 6 && rest.iter().all(u8::is_ascii_hexdigit) => Spelled::MORE,
            _ => Spelled::NONE,
        };
    }
    let Some((first, rest)) = text.split_at_checked(4) else {
        return digits(text, 4);
    };
    match digits(first, 4).point {
        Some(first @ 0xd800..=0xdbff) => second(rest, first),
        Some(point) if rest.is_empty() => Spelled::whole(point),
        _ => Spelled::NONE,
    }
}

/// What begins with a backslash.
fn escaped(text: &[u8]) -> Spelled {
    let (count, rest) = backslashes(text);
    if count > MOST_BACKSLASHES {
        return Spelled::NONE;
    }
    match rest {
        [] => Spelled {
            point: (count > 1 && count.is_power_of_two()).then_some(u32::from(b'\\')),
            more: true,
        },
        [b'u' | b'U', rest @ ..] => unicode(rest),
        [b'x' | b'X', rest @ ..] => digits(rest, 2),
        [b'b'] => Spelled::whole(8),
        [b't'] => Spelled::whole(9),
        [b'n'] => Spelled::whole(10),
        [b'f'] => Spelled::whole(12),
        [b'r'] => Spelled::whole(13),
        [other] if other.is_ascii_punctuation() => Spelled::whole(u32::from(*other)),
        _ => Spelled::NONE,
    }
}

/// What a text of more than one byte may be; or of one that such a text begins with.
pub(super) fn read(text: &[u8]) -> Spelled {
    match text {
        [b'%', rest @ ..] => percent(rest),
        [b'&', rest @ ..] => entity(rest),
        [b'\\', ..] => escaped(text),
        _ => digits(text, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_writing_a_character_is_read() {
        for (text, point) in [
            ("%41", 'A'),
            ("%4a", 'J'),
            ("%4A", 'J'),
            ("%2541", 'A'),
            ("%25", '%'),
            ("&#65;", 'A'),
            ("&#0065;", 'A'),
            ("&#65", 'A'),
            ("&#x41;", 'A'),
            ("&#X4a", 'J'),
            ("&amp;", '&'),
            ("&amp", '&'),
            ("&amp;#65;", 'A'),
            ("&AMP;", '&'),
            ("&sol;", '/'),
            (r"\u0041", 'A'),
            (r"\u00E9", 'é'),
            (r"\U0041", 'A'),
            (r"\\u0041", 'A'),
            (r"\u{41}", 'A'),
            (r"\ud83d\ude00", '😀'),
            (r"\x41", 'A'),
            (r"\/", '/'),
            (r"\\\/", '/'),
            (r#"\""#, '"'),
            (r"\n", '\n'),
            (r"\\", '\\'),
            ("41", 'A'),
            ("4a", 'J'),
        ] {
            let bytes = text.as_bytes();
            assert_eq!(read(bytes).point, Some(u32::from(point)), "{text}");
            for end in 1..bytes.len() {
                assert!(read(&bytes[..end]).more, "{text} to {end}");
            }
        }
    }

    #[test]
    fn what_is_none_is_none_and_ends() {
        for text in [
            "%4g",
            "&#;",
            "&#xg",
            "&nothing",
            r"\q",
            r"\u00g",
            "4g",
            "%414",
            "&amp;amp;amp;amp;amp;",
        ] {
            assert_eq!(read(text.as_bytes()).point, None, "{text}");
        }
        for text in [
            format!("&#{}1", "0".repeat(9)),
            "\\".repeat(9),
            "%".to_owned() + &"25".repeat(5),
        ] {
            assert!(!read(text.as_bytes()).more, "{text}");
        }
    }
}
