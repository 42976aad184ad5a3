//! Small secrets in age's format (c2sp.org/age), each for one X25519 recipient: what [`Identity::open`]
//! takes and [`Recipient::seal`] gives is a file of age's own that the program `age` reads, too.
//!
//! [`Recipient::seal`] and [`Identity::open`] know the form that Skep's own parts need: one stanza, one chunk of
//! payload. Files of people, for several recipients and of any size, are [`mod@file`]'s. Who can seal is anybody who
//! knows the recipient: a file says nothing about who made it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::{CryptoError, Key, random, same};

mod bech32;
pub mod file;

/// Bytes that can be sealed: one chunk.
pub const MOST: usize = 64 << 10;
const FIRST: &str = "age-encryption.org/v1\n";
const STANZA: &str = "-> X25519 ";
const WRAP: &[u8] = b"age-encryption.org/v1/X25519";
const PUBLIC: &str = "age";
const SECRET: &str = "age-secret-key-";
const FILE_KEY: usize = 16;
const TAG: usize = 16;
const NONCE: usize = 16;
/// The only chunk of a payload: number 0, and the last.
const LAST: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Whom something is for: `age1…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

/// Who can open it: `AGE-SECRET-KEY-1…`. It is wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct Identity(Key);

fn expand(salt: &[u8], from: &[u8], info: &[u8]) -> Result<Key, CryptoError> {
    let prk = Salt::new(HKDF_SHA256, salt).extract(from);
    let mut out = Zeroizing::new([0; 32]);
    prk.expand(&[info], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out[..]))
        .map_err(|_| CryptoError::System)?;
    Ok(Key(out))
}

fn cipher(key: &Key) -> Result<LessSafeKey, CryptoError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key.0[..]).map_err(|_| CryptoError::System)?;
    Ok(LessSafeKey::new(key))
}

fn encrypt(key: &Key, nonce: [u8; 12], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut out = Vec::with_capacity(plain.len() + TAG);
    out.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = cipher(key)?
        .seal_in_place_separate_tag(nonce, Aad::empty(), &mut out)
        .map_err(|_| CryptoError::System)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn decrypt(
    key: &Key,
    nonce: [u8; 12],
    text: &[u8],
    otherwise: CryptoError,
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let mut out = Zeroizing::new(text.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = cipher(key)?.open_in_place(nonce, Aad::empty(), &mut out);
    let length = opened.map_err(|_| otherwise)?.len();
    out.truncate(length);
    Ok(out)
}

/// The key under which the key of a file is, of one side's secret and the other's public key.
fn wrapping(
    secret: &PrivateKey,
    other: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Key, CryptoError> {
    let other = UnparsedPublicKey::new(&X25519, &other[..]);
    agree(secret, other, CryptoError::Damaged, |shared| {
        expand(&[*share, *recipient].concat(), shared, WRAP)
    })
}

fn public(secret: &PrivateKey) -> Result<[u8; 32], CryptoError> {
    let public = secret
        .compute_public_key()
        .map_err(|_| CryptoError::System)?;
    public.as_ref().try_into().map_err(|_| CryptoError::System)
}

impl Recipient {
    /// The lines of a header by which this recipient has the key of a file.
    fn stanza(&self, file_key: &[u8; FILE_KEY]) -> Result<String, CryptoError> {
        let once = PrivateKey::generate(&X25519).map_err(|_| CryptoError::System)?;
        let share = public(&once)?;
        let wrap = wrapping(&once, &self.0, &share, &self.0)?;
        let wrapped = encrypt(&wrap, [0; 12], &file_key[..])?;
        let (share, wrapped) = (
            STANDARD_NO_PAD.encode(share),
            STANDARD_NO_PAD.encode(wrapped),
        );
        Ok(format!("{STANZA}{share}\n{wrapped}\n"))
    }

    /// Seals a text for this recipient.
    ///
    /// # Errors
    /// [`CryptoError::TooLong`], [`CryptoError::System`]; [`CryptoError::Damaged`] for a recipient that is
    /// no point of the curve's right group.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if plain.len() > MOST {
            return Err(CryptoError::TooLong);
        }
        let file_key = Zeroizing::new(random::<FILE_KEY>()?);
        let head = format!("{FIRST}{}---", self.stanza(&file_key)?);
        let mac = expand(&[], &file_key[..], b"header")?.mac(head.as_bytes());
        let nonce = random::<NONCE>()?;
        let payload = expand(&nonce, &file_key[..], b"payload")?;
        let mut out = format!("{head} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes();
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&encrypt(&payload, LAST, plain)?);
        Ok(out)
    }
}

/// Takes so many bytes of unpadded base64 and what must follow off the front.
fn take<const N: usize>(rest: &mut &[u8], follows: &str) -> Result<[u8; N], CryptoError> {
    let (text, left) = rest
        .split_at_checked((N * 4).div_ceil(3))
        .ok_or(CryptoError::Damaged)?;
    *rest = left
        .strip_prefix(follows.as_bytes())
        .ok_or(CryptoError::Damaged)?;
    let bytes = STANDARD_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| CryptoError::Damaged)?;
    bytes.try_into().map_err(|_| CryptoError::Damaged)
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn generate() -> Result<Self, CryptoError> {
        Key::random().map(Self)
    }

    fn private(&self) -> Result<PrivateKey, CryptoError> {
        PrivateKey::from_private_key(&X25519, &self.0.0[..]).map_err(|_| CryptoError::System)
    }

    /// For whom to seal what this one opens.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn recipient(&self) -> Result<Recipient, CryptoError> {
        public(&self.private()?).map(Recipient)
    }

    /// The key of a file, of what a stanza says.
    fn file_key(
        &self,
        share: &[u8; 32],
        wrapped: &[u8; FILE_KEY + TAG],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let private = self.private()?;
        let wrap = wrapping(&private, share, share, &public(&private)?)?;
        decrypt(&wrap, [0; 12], wrapped, CryptoError::WrongKey)
    }

    /// Opens what was sealed for this identity.
    ///
    /// # Errors
    /// [`CryptoError::WrongKey`], [`CryptoError::Damaged`].
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let rest = &mut &sealed[..];
        for begins in [FIRST, STANZA] {
            *rest = rest
                .strip_prefix(begins.as_bytes())
                .ok_or(CryptoError::Damaged)?;
        }
        let share: [u8; 32] = take(rest, "\n")?;
        let wrapped: [u8; FILE_KEY + TAG] = take(rest, "\n---")?;
        let head = &sealed[..sealed.len() - rest.len()];
        *rest = rest.strip_prefix(b" ").ok_or(CryptoError::Damaged)?;
        let mac: [u8; 32] = take(rest, "\n")?;
        let (nonce, payload) = rest.split_at_checked(NONCE).ok_or(CryptoError::Truncated)?;
        if payload.len() > MOST + TAG {
            return Err(CryptoError::TooLong);
        }
        let file_key = self.file_key(&share, &wrapped)?;
        if !same(&mac, &expand(&[], &file_key, b"header")?.mac(head)) {
            return Err(CryptoError::Damaged);
        }
        let key = expand(nonce, &file_key, b"payload")?;
        decrypt(&key, LAST, payload, CryptoError::Damaged)
    }

    /// It as a text, for a file that nobody else may read.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = bech32::encode(SECRET, &self.0.0);
        text.make_ascii_uppercase();
        text
    }

    /// The identity of a file as `age-keygen` writes it: lines with `#` are comments, one is the key.
    ///
    /// # Errors
    /// [`CryptoError::Damaged`] when it holds none, or several.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        match <[Self; 1]>::try_from(Self::parse_all(text)?) {
            Ok([one]) => Ok(one),
            Err(_) => Err(CryptoError::Damaged),
        }
    }

    /// The identities of a file with several of them, one a line.
    ///
    /// # Errors
    /// [`CryptoError::Damaged`] when a line is none; [`CryptoError::TooLong`] over [`file::MOST_KEYS`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>, CryptoError> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let all: Vec<&str> = lines.take(file::MOST_KEYS + 1).collect();
        match all.len() > file::MOST_KEYS {
            true => Err(CryptoError::TooLong),
            false => all.into_iter().map(Self::of_line).collect(),
        }
    }

    fn of_line(line: &str) -> Result<Self, CryptoError> {
        if line.contains(|it: char| it.is_ascii_lowercase()) {
            return Err(CryptoError::Damaged);
        }
        let line = Zeroizing::new(line.to_ascii_lowercase());
        bech32::decode(SECRET, &line).map(|bytes| Self(Key(bytes)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(PUBLIC, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Recipient {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, CryptoError> {
        bech32::decode(PUBLIC, text).map(|bytes| Self(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair that `age-keygen` made.
    const OF_AGE: (&str, &str) = (
        "AGE-SECRET-KEY-1HFANT3XVVT77AL4F9K8WN2QXFYFFG4VTSK5UH9MPVRLCK0NYUZJSU2XM7D",
        "age15rc928n7lthvllny57dxqfv7czwu2fhndw424ckm896sdzzwc53s2why3n",
    );

    #[test]
    fn keys_are_the_ones_of_age() {
        let file = format!(
            "# created: 2026\n# public key: {}\n{}\n",
            OF_AGE.1, OF_AGE.0
        );
        let identity = Identity::parse(&file).unwrap();
        assert_eq!(*identity.reveal(), OF_AGE.0);
        assert_eq!(identity.recipient().unwrap().to_string(), OF_AGE.1);
        let recipient: Recipient = OF_AGE.1.parse().unwrap();
        assert_eq!(recipient, identity.recipient().unwrap());
        assert_eq!(format!("{identity:?}"), "Identity(…)");
        for wrong in ["", "age1", "AGE-SECRET-KEY-1", &OF_AGE.0.to_lowercase()] {
            assert!(Identity::parse(wrong).is_err(), "{wrong}");
            assert!(wrong.parse::<Recipient>().is_err(), "{wrong}");
        }
        assert!(Identity::parse(&file.repeat(2)).is_err());
        for place in 4..OF_AGE.1.len() {
            let mut text = OF_AGE.1.to_owned();
            let other = if &text[place..=place] == "q" {
                "p"
            } else {
                "q"
            };
            text.replace_range(place..=place, other);
            assert!(text.parse::<Recipient>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_identity_alone_and_whole() {
        let identity = Identity::generate().unwrap();
        let recipient = identity.recipient().unwrap();
        for length in [0, 1, 33, MOST] {
            let plain = vec![7; length];
            let sealed = recipient.seal(&plain).unwrap();
            assert_eq!(*identity.open(&sealed).unwrap(), plain);
        }
        assert_eq!(recipient.seal(&[0; MOST + 1]), Err(CryptoError::TooLong));
        let sealed = recipient.seal(b"hello").unwrap();
        let other = Identity::generate().unwrap();
        assert_eq!(other.open(&sealed).err(), Some(CryptoError::WrongKey));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(identity.open(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(identity.open(&sealed[..length]).is_err(), "{length}");
        }
        // A point of low order would make a key that everybody knows.
        assert!(Recipient([0; 32]).seal(b"hello").is_err());
    }

    #[test]
    fn the_test_kit_of_age_is_opened_and_refused_as_it_says() {
        use base64::engine::general_purpose::STANDARD;
        use sha2::{Digest, Sha256};

        /// Right files of forms that are not ours: several stanzas, or one that is of no kind we know.
        const OTHER_FORMS: [&str; 5] = [
            "stanza_empty_body",
            "stanza_empty_last_line",
            "stanza_valid_characters",
            "x25519_grease",
            "x25519_multiple_recipients",
        ];
        let lines = include_str!("age/testkit.txt").lines();
        let (mut opened, mut refused) = (0, 0);
        for line in lines.filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, expected, hash, identity, file] = words[..] else {
                panic!("{line}");
            };
            let identity = Identity::parse(identity).unwrap();
            let result = identity.open(&STANDARD.decode(file).unwrap());
            let is_wrong_key = result.as_ref().err() == Some(&CryptoError::WrongKey);
            let tells = matches!(name, "x25519_no_match" | "x25519_bad_tag");
            assert_eq!(is_wrong_key, tells, "{name}");
            if expected == "success" && !OTHER_FORMS.contains(&name) {
                let found = Sha256::digest(&*result.unwrap());
                let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(found, hash, "{name}");
                opened += 1;
            } else {
                assert!(result.is_err(), "{name}");
                refused += 1;
            }
        }
        assert_eq!((opened, refused), (2, 45));
    }
}
