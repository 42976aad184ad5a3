//! Codes of an authenticator as a second factor: TOTP (RFC 6238) with SHA-1, six digits and steps of 30 s,
//! which is what every authenticator speaks.

use aws_lc_rs::hmac;
use skep_core::Timestamp;

/// Bytes of a seed.
pub(super) const SEED: usize = 20;
/// Seconds of a step.
pub(super) const STEP: i64 = 30;
/// Steps before and after now that still count.
const SKEW: i64 = 1;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The code of a step.
pub(super) fn code(seed: &[u8], step: i64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0x0f);
    // A tag of SHA-1 has 20 bytes, and `at` is 15 at most (RFC 4226, section 5.3).
    let four = [tag[at], tag[at + 1], tag[at + 2], tag[at + 3]];
    (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000
}

/// The step of the code, when it is right now and later than `last`: none counts twice.
#[must_use]
pub(super) fn check(seed: &[u8; SEED], text: &str, now: Timestamp, last: i64) -> Option<i64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let current = now.as_micros() / 1_000_000 / STEP;
    let mut found = None;
    for step in current - SKEW..=current + SKEW {
        let right = format!("{:06}", code(seed, step));
        if skep_crypto::same(right.as_bytes(), text.as_bytes()) && step > last {
            found = Some(step);
        }
    }
    found
}

/// The seed as people type it (RFC 4648, section 6).
#[must_use]
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(char::from(BASE32[((bits >> held) & 31) as usize]));
        }
    }
    if held > 0 {
        out.push(char::from(BASE32[((bits << (5 - held)) & 31) as usize]));
    }
    out
}

/// The seed that somebody typed.
#[must_use]
pub(super) fn from_base32(text: &str) -> Option<[u8; SEED]> {
    let (mut bits, mut held, mut out) = (0_u32, 0_u32, Vec::new());
    for c in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = BASE32.iter().position(|it| *it == c.to_ascii_uppercase())?;
        bits = (bits << 5) | u32::try_from(digit).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out.try_into().ok()
}

/// What an authenticator reads as a picture: the Key URI of Google Authenticator.
#[must_use]
pub(super) fn uri(seed: &[u8; SEED], email: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
    let mut account = String::new();
    for c in email.chars() {
        match plain(c) {
            true => account.push(c),
            false => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    account.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
    format!(
        "otpauth://totp/Skep:{account}?secret={}&issuer=Skep&algorithm=SHA1&digits=6&period=30",
        base32(seed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC: &[u8; SEED] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, of which the last six digits count.
        for (seconds, expected) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(code(RFC, seconds / STEP), expected, "{seconds}");
        }
    }

    #[test]
    fn a_code_counts_once_and_near_its_time_only() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        assert_eq!(check(RFC, "287 082", at(59), 0), Some(1));
        assert_eq!(check(RFC, "287082", at(59), 1), None, "again");
        assert_eq!(check(RFC, "287082", at(89), 0), Some(1), "a step late");
        assert_eq!(check(RFC, "287082", at(120), 0), None, "too late");
        for wrong in ["", "28708", "2870822", "28708a", "٢٨٧٠٨٢"] {
            assert_eq!(check(RFC, wrong, at(59), 0), None, "{wrong}");
        }
    }

    #[test]
    fn seeds_are_written_as_rfc_4648_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(from_base32(&base32(RFC)), Some(*RFC));
        assert_eq!(from_base32("MZXW6"), None);
        assert_eq!(from_base32(&base32(RFC).replace('G', "1")), None);
        assert!(uri(RFC, "a+b@x.example").contains("Skep:a%2Bb%40x.example?secret=GEZDGNBV"));
    }
}
