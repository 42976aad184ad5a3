//! Files of age as people make them: for several recipients, in chunks, in armour or not. Stanzas of other
//! kinds than X25519 are passed over.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::{
    FILE_KEY, FIRST, Identity, NONCE, Recipient, STANZA, TAG, decrypt, encrypt, expand, take,
};
use crate::{CryptoError, random, same};

/// Recipients of a file, and identities that are tried.
pub const MOST_KEYS: usize = 64;
/// Bytes of what is sealed.
pub const MOST: usize = 64 << 20;
const CHUNK: usize = 64 << 10;
/// Bytes of a header: stanzas of other kinds may be long.
const MOST_HEADER: usize = 1 << 20;
/// Letters of a full line of a stanza's body, and of armour.
const LINE: usize = 64;
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";

/// The nonce of a chunk.
fn nonce(number: usize, last: bool) -> [u8; 12] {
    let mut out = [0; 12];
    out[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    out[11] = u8::from(last);
    out
}

/// Seals a text for all of these.
///
/// # Errors
/// [`CryptoError::TooLong`] for too many recipients or bytes; [`CryptoError::Parameters`] for no recipient;
/// as [`Recipient::seal`].
pub fn seal(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
    if plain.len() > MOST || recipients.len() > MOST_KEYS {
        return Err(CryptoError::TooLong);
    }
    if recipients.is_empty() {
        return Err(CryptoError::Parameters);
    }
    let file_key = Zeroizing::new(random::<FILE_KEY>()?);
    let mut head = FIRST.to_owned();
    for recipient in recipients {
        head.push_str(&recipient.stanza(&file_key)?);
    }
    head.push_str("---");
    let mac = expand(&[], &file_key[..], b"header")?.mac(head.as_bytes());
    let mut out = format!("{head} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes();
    let salt = random::<NONCE>()?;
    out.extend_from_slice(&salt);
    let payload = expand(&salt, &file_key[..], b"payload")?;
    let chunks = plain.len().div_ceil(CHUNK).max(1);
    for number in 0..chunks {
        let from = number * CHUNK;
        let chunk = &plain[from..plain.len().min(from + CHUNK)];
        out.extend_from_slice(&encrypt(
            &payload,
            nonce(number, number + 1 == chunks),
            chunk,
        )?);
    }
    Ok(out)
}

/// A line of a header, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], CryptoError> {
    let end = rest
        .iter()
        .take(MOST_HEADER)
        .position(|byte| *byte == b'\n');
    let (line, left) = rest.split_at(end.ok_or(CryptoError::Damaged)?);
    *rest = &left[1..];
    Ok(line)
}

/// The key of a file, where one was found, and how long the header is up to its MAC.
type Header = (Option<Zeroizing<Vec<u8>>>, usize);

/// The key of a file, of the first stanza that one of these identities opens; and how long the header is up to
/// its MAC.
fn header(identities: &[Identity], sealed: &[u8]) -> Result<Header, CryptoError> {
    let rest = &mut &sealed[..];
    *rest = rest
        .strip_prefix(FIRST.as_bytes())
        .ok_or(CryptoError::Damaged)?;
    let mut found = None;
    let mut stanzas = 0;
    loop {
        if rest.starts_with(b"---") {
            return Ok((found, sealed.len() - rest.len() + 3));
        }
        stanzas += 1;
        if stanzas > MOST_KEYS || sealed.len() - rest.len() > MOST_HEADER {
            return Err(CryptoError::TooLong);
        }
        if let Some(mut own) = rest.strip_prefix(STANZA.as_bytes()) {
            let share: [u8; 32] = take(&mut own, "\n")?;
            let wrapped: [u8; FILE_KEY + TAG] = take(&mut own, "\n")?;
            *rest = own;
            for identity in identities {
                if found.is_some() {
                    break;
                }
                match identity.file_key(&share, &wrapped) {
                    Ok(key) => found = Some(key),
                    Err(CryptoError::WrongKey) => {}
                    Err(error) => return Err(error),
                }
            }
            continue;
        }
        if !line(rest)?.starts_with(b"-> ") {
            return Err(CryptoError::Damaged);
        }
        // A body ends with a line that is not full.
        while line(rest)?.len() == LINE {}
    }
}

/// Opens a file, in armour or not, with whichever of these identities it is for.
///
/// # Errors
/// [`CryptoError::WrongKey`] when it is for none of them; [`CryptoError::Damaged`], [`CryptoError::Truncated`],
/// [`CryptoError::TooLong`].
pub fn open(identities: &[Identity], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let unarmoured;
    let sealed = match is_armoured(sealed) {
        true => {
            unarmoured = unarmour(sealed)?;
            &unarmoured[..]
        }
        false => sealed,
    };
    if sealed.len() > MOST + MOST / CHUNK * TAG + MOST_HEADER {
        return Err(CryptoError::TooLong);
    }
    let (file_key, length) = header(identities, sealed)?;
    let file_key = file_key.ok_or(CryptoError::WrongKey)?;
    let (head, mut rest) = sealed.split_at(length);
    rest = rest.strip_prefix(b" ").ok_or(CryptoError::Damaged)?;
    let mac: [u8; 32] = take(&mut rest, "\n")?;
    if !same(&mac, &expand(&[], &file_key, b"header")?.mac(head)) {
        return Err(CryptoError::Damaged);
    }
    let (salt, payload) = rest.split_at_checked(NONCE).ok_or(CryptoError::Truncated)?;
    let key = expand(salt, &file_key, b"payload")?;
    let chunks = payload.len().div_ceil(CHUNK + TAG).max(1);
    let mut out = Zeroizing::new(Vec::with_capacity(payload.len()));
    for number in 0..chunks {
        let from = number * (CHUNK + TAG);
        let chunk = &payload[from..payload.len().min(from + CHUNK + TAG)];
        let last = number + 1 == chunks;
        let plain = decrypt(&key, nonce(number, last), chunk, CryptoError::Damaged)?;
        // An empty chunk is the only one of an empty text.
        if plain.is_empty() && number > 0 {
            return Err(CryptoError::Damaged);
        }
        out.extend_from_slice(&plain);
    }
    Ok(out)
}

/// Whether a file begins as an age file does.
#[must_use]
pub fn is_file(bytes: &[u8]) -> bool {
    bytes.starts_with(FIRST.as_bytes()) || is_armoured(bytes)
}

fn is_armoured(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(BEGIN.as_bytes())
}

/// A file as lines of text.
#[must_use]
pub fn armour(sealed: &[u8]) -> String {
    let text = STANDARD.encode(sealed);
    let mut out = format!("{BEGIN}\n");
    for line in text.as_bytes().chunks(LINE) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    out.push_str(END);
    out.push('\n');
    out
}

fn unarmour(text: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let text = std::str::from_utf8(text).map_err(|_| CryptoError::Damaged)?;
    let inner = text.trim().strip_prefix(BEGIN);
    let inner = inner.and_then(|rest| rest.strip_suffix(END));
    let inner = inner.ok_or(CryptoError::Truncated)?;
    let letters: String = inner.split_ascii_whitespace().collect();
    STANDARD.decode(letters).map_err(|_| CryptoError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Identity, Recipient) {
        let identity = Identity::generate().unwrap();
        let recipient = identity.recipient().unwrap();
        (identity, recipient)
    }

    #[test]
    fn each_recipient_opens_and_nobody_else() {
        let ((one, to_one), (other, to_other), (nobody, _)) = (pair(), pair(), pair());
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let sealed = seal(&[to_one, to_other], &plain).unwrap();
            for identity in [&one, &other] {
                let identities = [nobody.clone(), identity.clone()];
                assert_eq!(*open(&identities, &sealed).unwrap(), plain);
                let armoured = armour(&sealed);
                assert_eq!(*open(&identities, armoured.as_bytes()).unwrap(), plain);
                let windows = armoured.replace('\n', "\r\n");
                assert_eq!(*open(&identities, windows.as_bytes()).unwrap(), plain);
            }
            let alone = std::slice::from_ref(&nobody);
            assert_eq!(open(alone, &sealed), Err(CryptoError::WrongKey));
        }
        // What is sealed for one is what `Recipient::seal` gives.
        let sealed = to_one.seal(b"hello").unwrap();
        assert_eq!(*open(&[one], &sealed).unwrap(), *b"hello");
        assert_eq!(seal(&[], b""), Err(CryptoError::Parameters));
        assert_eq!(
            seal(&[to_other; MOST_KEYS + 1], b""),
            Err(CryptoError::TooLong)
        );
    }

    #[test]
    fn what_was_changed_or_cut_does_not_open() {
        let (identity, recipient) = pair();
        let identities = [identity];
        let sealed = seal(&[recipient, pair().1], b"hello").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&identities, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&identities, &sealed[..length]).is_err(), "{length}");
        }
        // A whole chunk that is missing at the end is noticed, too.
        let long = seal(&[recipient], &vec![7; 2 * CHUNK]).unwrap();
        assert!(open(&identities, &long[..long.len() - CHUNK - TAG]).is_err());
        let text = armour(&sealed);
        assert!(open(&identities, &text.as_bytes()[..text.len() - 8]).is_err());
    }

    /// What the tests of SOPS have: a key that the library of age sealed.
    #[test]
    fn what_others_sealed_opens() {
        let identity = Identity::parse(
            "AGE-SECRET-KEY-1G0Q5K9TV4REQ3ZSQRMTMG8NSWQGYT0T7TZ33RAZEE0GZYVZN0APSU24RK7",
        );
        let sealed = "-----BEGIN AGE ENCRYPTED FILE-----\n\
            YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBvY2t2NkdLUGRvY3l2OGNy\n\
            MVJWcUhCOEZrUG8yeCtnRnhxL0I5NFk4YjJFCmE4SVQ3MEdyZkFqRWpSa2F0NVhF\n\
            VDUybzBxdS9nSGpHSVRVMUI0UEVqZkkKLS0tIGJjeGhNQ0Y5L2VZRVVYSm90djFF\n\
            bzdnQ3UwTGljMmtrbWNMV1MxYkFzUFUK4xjOZOTGdcbzuwUY/zeBXhcF+Md3e5PQ\n\
            EylloI7MNGbadPGb\n-----END AGE ENCRYPTED FILE-----";
        let opened = open(&[identity.unwrap()], sealed.as_bytes()).unwrap();
        assert_eq!(*opened, *b"data");
    }
}
