//! Signing keys, and signatures, as the Standard Webhooks specification has them: `v1`, HMAC-SHA256.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What the text of a key begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a key that is made here.
const MADE: usize = 32;
/// Bytes of a key, at least and at most.
const BYTES: (usize, usize) = (24, 64);

/// A key that signs. What it is is in no log.
pub struct Key(Zeroizing<Vec<u8>>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// That the system has no randomness.
    pub fn make() -> Result<Self, String> {
        let mut bytes = Zeroizing::new(vec![0; MADE]);
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        Ok(Self(bytes))
    }

    /// The key of a text: `whsec_` and base64.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.trim_ascii().strip_prefix(PREFIX.as_bytes())?;
        let bytes = Zeroizing::new(STANDARD.decode(rest).ok()?);
        let (least, most) = BYTES;
        (least..=most).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// It as a text, for who receives.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(&*self.0));
        Zeroizing::new(format!("{PREFIX}{}", encoded.as_str()))
    }

    /// The signature of a message that is sent at this time, in seconds.
    pub(crate) fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the tests of the specification's own libraries have them.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = Key::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(
            key.sign(id, 1_614_265_330, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn keys_are_texts_of_the_right_size() {
        let (one, other) = (Key::make().unwrap(), Key::make().unwrap());
        assert_ne!(*one.text(), *other.text());
        let again = Key::parse(one.text().as_bytes()).unwrap();
        assert_eq!(*again.text(), *one.text());
        for text in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert!(Key::parse(text.as_bytes()).is_none(), "{text}");
        }
        let long = format!("whsec_{}", STANDARD.encode([0; 65]));
        assert!(Key::parse(long.as_bytes()).is_none());
        assert_eq!(format!("{one:?}"), "Key");
    }
}
