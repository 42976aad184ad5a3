//! Signatures over a card: JSON Web Signatures (RFC 7515) whose payload is the card itself (sections 8.4.2 and 8.4.3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use super::known::signed;
use crate::a2a::canonical::canonical;

/// With what something is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How, as RFC 7518 names it.
    pub alg: String,
    /// Which key.
    pub kid: String,
    /// Where the key is found.
    pub jku: Option<String>,
}

/// What is signed of a card: canonical JSON of all that counts of it.
#[must_use]
pub fn payload(card: &Value) -> String {
    canonical(&signed(card))
}

/// The text over which the signature is.
fn input(protected: &str, card: &Value) -> String {
    format!("{protected}.{}", BASE64.encode(payload(card)))
}

/// Puts a signature to those that a card has. `key` signs the bytes that it is given.
///
/// # Errors
/// What `key` says.
pub fn sign<E>(
    mut card: Value,
    header: &Header,
    key: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Value, E> {
    let mut protected = json!({ "alg": header.alg, "typ": "JOSE", "kid": header.kid });
    if let Some(jku) = &header.jku {
        protected["jku"] = jku.as_str().into();
    }
    let protected = BASE64.encode(protected.to_string());
    let signature = key(input(&protected, &card).as_bytes())?;
    let signature = json!({ "protected": protected, "signature": BASE64.encode(signature) });
    if let Some(card) = card.as_object_mut() {
        let all = card.entry("signatures").or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            all.push(signature);
        }
    }
    Ok(card)
}

/// Whether one of a card's signatures is right. `key` is given with what it was made, the bytes, and the signature; whether a key
/// is trusted, and for this algorithm, is its affair.
#[must_use]
pub fn verify(card: &Value, mut key: impl FnMut(&Header, &[u8], &[u8]) -> bool) -> bool {
    let all = card.get("signatures").and_then(Value::as_array);
    all.into_iter().flatten().any(|one| {
        let text = |name: &str| one.get(name).and_then(Value::as_str);
        let protected = text("protected").unwrap_or_default();
        let signature = text("signature").and_then(|it| BASE64.decode(it).ok());
        match (header(protected), signature) {
            (Some(header), Some(signature)) => {
                key(&header, input(protected, card).as_bytes(), &signature)
            }
            _ => false,
        }
    })
}

fn header(protected: &str) -> Option<Header> {
    let header: Value = serde_json::from_slice(&BASE64.decode(protected).ok()?).ok()?;
    let text = |name: &str| header.get(name).and_then(Value::as_str).map(str::to_owned);
    // What must be understood is not.
    if header.get("crit").is_some() {
        return None;
    }
    let alg = text("alg").filter(|it| !it.eq_ignore_ascii_case("none"))?;
    Some(Header {
        alg,
        kid: text("kid")?,
        jku: text("jku"),
    })
}
