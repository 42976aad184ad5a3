//! One token, read strictly: three parts of base64url without padding, JSON objects that name nothing
//! twice, and a header that asks for nothing that is not done here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Refusal;

/// Bytes of a token.
pub const MOST_TOKEN: usize = 16 << 10;
/// Bytes of a key's name.
const MOST_KID: usize = 256;
/// Bytes of a signature: of RSA with 8192 bits.
const MOST_SIGNATURE: usize = 1024;
/// What a header must not have: keys of the sender's own, places to fetch them from, what must be
/// understood and is not, encryption, compression, and tokens in tokens.
const REFUSED: [&str; 9] = [
    "jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip", "cty",
];
/// What a header may call the token.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Whether a text has the shape of a JWS in compact form. It says nothing of whether it is one.
#[must_use]
pub fn has_shape(text: &str) -> bool {
    let mut parts = text.split('.');
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        bytes.all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    // `{"` in base64url.
    text.starts_with("ey") && parts.clone().count() == 3 && parts.all(is_part)
}

/// A token whose signature nobody has looked at.
pub(super) struct Token<'a> {
    signed: &'a str,
    signature: &'a str,
    algorithm: String,
    kid: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MOST_TOKEN {
            return Err(Refusal::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        if payload.contains('.') || signature.is_empty() || signature.len() > MOST_SIGNATURE * 2 {
            return Err(Refusal::Malformed);
        }
        // A signature in another spelling would be another text of the same token.
        decode(signature)?;
        let (algorithm, kid) = read_header(object(header)?)?;
        Ok(Self {
            signed,
            signature,
            algorithm,
            kid,
            claims: object(payload)?,
        })
    }

    /// What is signed.
    pub(super) const fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    pub(super) const fn signature(&self) -> &str {
        self.signature
    }

    /// The algorithm that it claims: only to be compared with the key's.
    pub(super) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The name of its key.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    match strict(&decode(part)?) {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(Refusal::Malformed),
    }
}

fn read_header(header: Map<String, Value>) -> Result<(String, Option<String>), Refusal> {
    let mut kid = None;
    let mut algorithm = None;
    for (name, value) in header {
        match (name.as_str(), value) {
            ("alg", Value::String(text)) => algorithm = Some(text),
            ("kid", Value::String(text)) if is_name(&text) => kid = Some(text),
            ("typ", Value::String(text)) if is_type(&text) => {}
            ("alg" | "kid" | "typ", _) => return Err(Refusal::Header),
            (name, _) if REFUSED.contains(&name) => return Err(Refusal::Header),
            _ => {}
        }
    }
    Ok((algorithm.ok_or(Refusal::Header)?, kid))
}

/// Whether a text can be a key's name. Whatever it is, it is only ever compared.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MOST_KID && !text.chars().any(char::is_control)
}

fn is_type(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    TYPES.contains(&text.strip_prefix("application/").unwrap_or(&text))
}

/// A JSON text in which no object names anything twice.
pub(crate) fn strict(text: &[u8]) -> Option<Value> {
    let strict: Strict = serde_json::from_slice(text).ok()?;
    Some(strict.0)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Once).map(Self)
    }
}

/// Takes any value; an object's name once.
struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a name twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands there twice"));
            }
        }
        Ok(object.into())
    }
}
