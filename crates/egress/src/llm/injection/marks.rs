//! What is looked for that is no word: marks of roles, characters that nobody sees, and Base64. No I/O.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// The shortest Base64 that is looked into.
const LEAST: usize = 40;

/// Marks by which models know who speaks, in small letters.
const ROLES: [&str; 27] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|begin_of_text|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|channel|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<system>",
    "</system>",
    "<system-reminder>",
    "<system_prompt>",
    "<<sys>>",
    "<</sys>>",
    "[inst]",
    "[/inst]",
    "[system]",
    "[system_prompt]",
    "### system:",
    "### instruction:",
    "### new instructions",
];

/// Whether a mark of a role begins here.
pub(super) fn is_role(bytes: &[u8]) -> bool {
    ROLES.iter().any(|it| {
        let begins = bytes.get(..it.len());
        begins.is_some_and(|begins| begins.eq_ignore_ascii_case(it.as_bytes()))
    })
}

/// What a character is that nobody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// A letter of its own, as a tag (U+E0020 to U+E007E).
    Tag(u8),
    /// The end of such letters.
    TagEnd,
    /// One of many may stand in any text.
    Few,
    /// It turns the order of letters.
    Turns,
    /// It stands in ordinary texts.
    Plain,
}

/// What a character is, when nobody sees it.
pub(super) fn unseen(it: char) -> Option<Unseen> {
    match it {
        '\u{e0020}'..='\u{e007e}' => {
            let letter = u32::from(it) & 0x7f;
            u8::try_from(letter).ok().map(Unseen::Tag)
        }
        '\u{e0000}'..='\u{e001f}' | '\u{e007f}' => Some(Unseen::TagEnd),
        '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}'
        | '\u{180e}'
        | '\u{e0100}'..='\u{e01ef}' => Some(Unseen::Few),
        '\u{202d}' | '\u{202e}' => Some(Unseen::Turns),
        '\u{ad}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' => {
            Some(Unseen::Plain)
        }
        _ => None,
    }
}

/// The small letter without marks that one looks like; nothing, when it is none of the Latin ones.
pub(super) fn folded(it: char) -> Option<u8> {
    let letter = match it {
        'à'..='å' | 'À'..='Å' | 'а' | 'А' | 'α' | 'Α' => b'a',
        'è'..='ë' | 'È'..='Ë' | 'е' | 'Е' | 'ε' | 'Ε' => b'e',
        'ì'..='ï' | 'Ì'..='Ï' | 'і' | 'І' | 'ι' | 'Ι' => b'i',
        'ò'..='ö' | 'Ò'..='Ö' | 'о' | 'О' | 'ο' | 'Ο' => b'o',
        'ù'..='ü' | 'Ù'..='Ü' => b'u',
        'ç' | 'Ç' | 'с' | 'С' => b'c',
        'ñ' | 'Ñ' => b'n',
        'р' | 'Р' | 'ρ' | 'Ρ' => b'p',
        'ѕ' | 'Ѕ' => b's',
        'у' | 'У' | 'ý' => b'y',
        'х' | 'Х' | 'χ' => b'x',
        'ј' | 'Ј' => b'j',
        'ν' => b'v',
        // The same letters for wide type.
        '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' => {
            let place = (u32::from(it) - 0xff21) % 32;
            b'a' + u8::try_from(place).unwrap_or_default()
        }
        _ => return None,
    };
    Some(letter)
}

const fn is_coded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// What stands in a text as Base64, decoded.
pub(super) fn coded(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(window) = bytes.get(at..at + LEAST) {
            match window.iter().rposition(|it| !is_coded(*it)) {
                Some(place) => at += place + 1,
                None => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let end = rest.iter().position(|it| !is_coded(*it));
                    let run = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                    // Of `\n` in JSON that stands in JSON.
                    let escaped = at.checked_sub(1).and_then(|it| bytes.get(it)) == Some(&b'\\');
                    at += run.len();
                    let found = decoded(run.get(usize::from(escaped)..).unwrap_or_default());
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    })
}

fn decoded(run: &[u8]) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url = run.iter().any(|it| matches!(it, b'-' | b'_'));
    let alphabet = if url { &URL_SAFE } else { &STANDARD };
    // What is cut off says what it says.
    let whole = run.get(..run.len() - run.len() % 4)?;
    GeneralPurpose::new(alphabet, lenient).decode(whole).ok()
}
