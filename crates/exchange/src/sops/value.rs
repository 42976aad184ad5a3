//! One value of a SOPS file: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skep_crypto::{CryptoError, Key, gcm, random};
use zeroize::Zeroizing;

use crate::ExchangeError;
use crate::node::Node;

/// Bytes of a nonce.
const NONCE: usize = 32;

/// A value as SOPS types it.
pub(super) enum Plain {
    Text(Zeroizing<String>),
    /// A number as it is written, and as SOPS writes it.
    Number(String, String),
    Bool(bool),
}

/// A number as Go writes it, which the MAC is over.
fn canonical(text: &str) -> String {
    let whole = whole(text);
    let float = || text.replace('_', "").parse::<f64>().ok();
    match (whole, float()) {
        (Some(whole), _) => whole.to_string(),
        (None, Some(float)) => float.to_string(),
        (None, None) => text.to_owned(),
    }
}

fn whole(text: &str) -> Option<i64> {
    let text = text.replace('_', "");
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text.as_str()),
    };
    let radix = |prefix: &str, radix| {
        let digits = digits.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let based = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2));
    based.or_else(|| digits.parse().ok()).map(|it| sign * it)
}

impl Plain {
    /// A value that stands in the open.
    pub(super) fn of(leaf: Node) -> Self {
        match leaf {
            Node::Bool(value) => Self::Bool(value),
            Node::Number(text) => Self::Number(text.clone(), canonical(&text)),
            other => Self::Text(other.scalar().unwrap_or_default()),
        }
    }

    /// What the MAC is over.
    pub(super) fn hashed(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Number(_, text) => text.as_bytes(),
            Self::Bool(true) => b"True",
            Self::Bool(false) => b"False",
        }
    }

    pub(super) fn into_node(self) -> Node {
        match self {
            Self::Text(text) => Node::Text(text),
            Self::Number(text, _) => Node::Number(text),
            Self::Bool(value) => Node::Bool(value),
        }
    }
}

/// A value in its parts.
struct Sealed<'a> {
    data: Vec<u8>,
    iv: Vec<u8>,
    tag: Vec<u8>,
    kind: &'a str,
}

fn parse(text: &str) -> Option<Sealed<'_>> {
    let mut rest = text
        .strip_prefix("ENC[AES256_GCM,data:")?
        .strip_suffix(']')?;
    let mut part = |end: &str| {
        let (part, left) = rest.split_once(end)?;
        rest = left;
        STANDARD.decode(part).ok()
    };
    let (data, iv, tag) = (part(",iv:")?, part(",tag:")?, part(",type:")?);
    Some(Sealed {
        data,
        iv,
        tag,
        kind: rest,
    })
}

fn decrypt(
    key: &Key,
    context: &str,
    sealed: &Sealed<'_>,
) -> Result<Zeroizing<String>, CryptoError> {
    let plain = gcm::open(
        key,
        &sealed.iv,
        context.as_bytes(),
        &sealed.data,
        &sealed.tag,
    )?;
    let text = std::str::from_utf8(&plain).map_err(|_| CryptoError::Damaged)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Decrypts the value at a path.
pub(super) fn open(key: &Key, path: &[String], text: &str) -> Result<Plain, ExchangeError> {
    // Nothing is not encrypted.
    if text.is_empty() {
        return Ok(Plain::Text(Zeroizing::default()));
    }
    let name = || path.join("/");
    let sealed = parse(text).ok_or_else(|| {
        ExchangeError::sops(format!(
            "the value of `{}` should be encrypted and is not",
            name()
        ))
    })?;
    let context = format!("{}:", path.join(":"));
    let plain = decrypt(key, &context, &sealed);
    let plain = plain.map_err(|error| ExchangeError::Value {
        name: name(),
        error,
    })?;
    Ok(match sealed.kind {
        "str" | "bytes" | "time" => Plain::Text(plain),
        "int" | "float" => Plain::Number(plain.to_string(), canonical(&plain)),
        "bool" => Plain::Bool(matches!(
            plain.as_str(),
            "1" | "t" | "T" | "TRUE" | "true" | "True"
        )),
        _ => {
            let what = format!("the value of `{}` has a type that is not known", name());
            return Err(ExchangeError::sops(what));
        }
    })
}

/// Decrypts the MAC, which is bound to the time of the last change.
pub(super) fn open_mac(
    key: &Key,
    modified: &str,
    text: &str,
) -> Result<Zeroizing<String>, ExchangeError> {
    let sealed = parse(text).ok_or(ExchangeError::Mac)?;
    decrypt(key, modified, &sealed).map_err(|_| ExchangeError::Mac)
}

/// Encrypts a text.
pub(super) fn seal(key: &Key, context: &str, plain: &str) -> Result<String, ExchangeError> {
    if plain.is_empty() {
        return Ok(String::new());
    }
    let sealed = random::<NONCE>().and_then(|iv| {
        let (data, tag) = gcm::seal(key, &iv, context.as_bytes(), plain.as_bytes())?;
        Ok([data, iv.to_vec(), tag.to_vec()].map(|bytes| STANDARD.encode(bytes)))
    });
    let [data, iv, tag] = sealed.map_err(ExchangeError::Age)?;
    Ok(format!(
        "ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:str]"
    ))
}
