//! Keys, each with the one algorithm that it counts for: from a JWK set (RFC 7517), a PEM file or a
//! secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};

use super::Refusal;
use super::token::{Token, strict};

/// Keys of a set.
const MOST_KEYS: usize = 100;
/// The DER of a public key of these kinds begins with this, and its point or key follows.
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P384: &[u8] =
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// The algorithm in the DER of an RSA key.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03";
/// Bytes of a modulus: 2048 to 8192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithm of this name, in exactly this spelling.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// Whether an algorithm takes a secret that both sides know.
pub(super) fn is_secret(algorithm: Algorithm) -> bool {
    matches!(algorithm.family(), AlgorithmFamily::Hmac)
}

/// A key, and what it counts for.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Key {
    /// Whether the token is signed with this key, by its algorithm.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        if algorithm(token.algorithm()) != Some(self.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let verified = jsonwebtoken::crypto::verify(
            token.signature(),
            token.signed(),
            &self.key,
            self.algorithm,
        );
        match verified {
            Ok(true) => Ok(()),
            _ => Err(Refusal::Signature),
        }
    }

    /// A secret, which is as long as the hash at least (RFC 7518, section 3.2).
    pub(super) fn secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, String> {
        let least = match algorithm {
            Algorithm::HS256 => 32,
            Algorithm::HS384 => 48,
            _ => 64,
        };
        if secret.len() < least {
            return Err(format!("the secret has fewer than {least} bytes"));
        }
        Ok(Self {
            kid: None,
            algorithm,
            key: DecodingKey::from_secret(secret),
        })
    }

    /// A public key in PEM.
    pub(super) fn pem(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        let der = der.map_err(|_| "there is no `PUBLIC KEY` in it".to_owned())?;
        let der: &[u8] = der.as_ref();
        let (kind, key) = if let Some(point) = der.strip_prefix(P256) {
            (Kind::P256, DecodingKey::from_ec_der(point))
        } else if let Some(point) = der.strip_prefix(P384) {
            (Kind::P384, DecodingKey::from_ec_der(point))
        } else if let Some(key) = der.strip_prefix(ED25519) {
            (Kind::Ed25519, DecodingKey::from_ed_der(key))
        } else if der.get(4..).is_some_and(|rest| rest.starts_with(RSA)) {
            (Kind::Rsa, DecodingKey::from_rsa_der(der))
        } else {
            return Err("its key is none of RSA, P-256, P-384 and Ed25519".to_owned());
        };
        let algorithm = kind
            .only(algorithms)
            .ok_or("`algorithms` has not exactly one that fits its key: say which it counts for")?;
        Ok(Self {
            kid: None,
            algorithm,
            key,
        })
    }

    /// A public key of a set; `None` for one that is not for this.
    fn jwk(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if jwk.contains_key("use") && text("use") != Some("sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = |it: &Value| it == "verify";
            operations.as_array()?.iter().find(|it| verifies(it))?;
        }
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let fits = x.len() == length && y.len() == length;
            fits.then(|| DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
        };
        let (kind, key) = match (text("kty")?, text("crv")) {
            ("RSA", None) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let zeros = n.iter().take_while(|byte| **byte == 0).count();
                let is_odd = e.last().is_some_and(|last| last % 2 == 1) && e != [1];
                let fits = MODULUS.contains(&(n.len() - zeros)) && e.len() <= 4 && is_odd;
                let key = fits.then(|| DecodingKey::from_rsa_raw_components(&n[zeros..], &e))?;
                (Kind::Rsa, key)
            }
            ("EC", Some("P-256")) => (Kind::P256, point(32)?),
            ("EC", Some("P-384")) => (Kind::P384, point(48)?),
            ("OKP", Some("Ed25519")) => {
                let x = bytes("x").filter(|x| x.len() == 32)?;
                (Kind::Ed25519, DecodingKey::from_ed_der(&x))
            }
            // A secret is in no set that others read, and other kinds are not known.
            _ => return None,
        };
        let algorithm = match jwk.get("alg") {
            None => kind.only(algorithms)?,
            Some(named) => {
                let named = algorithm(named.as_str()?)?;
                (kind.fits(named) && algorithms.contains(&named)).then_some(named)?
            }
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str()?.to_owned()),
        };
        Some(Self {
            kid,
            algorithm,
            key,
        })
    }
}

/// A kind of public key.
#[derive(Clone, Copy)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(algorithm.family(), AlgorithmFamily::Rsa),
            Self::P256 => matches!(algorithm, Algorithm::ES256),
            Self::P384 => matches!(algorithm, Algorithm::ES384),
            Self::Ed25519 => matches!(algorithm, Algorithm::EdDSA),
        }
    }

    /// The only one of these algorithms that fits.
    fn only(self, algorithms: &[Algorithm]) -> Option<Algorithm> {
        let mut fitting = algorithms.iter().filter(|it| self.fits(**it));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(*first)
    }
}

/// Keys of one issuer.
#[derive(Clone)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// None.
    pub(super) const fn empty() -> Self {
        Self(Vec::new())
    }

    /// One key, for every token of the issuer.
    pub(super) fn of(key: Key) -> Self {
        Self(vec![key])
    }

    /// The keys of a JWK set that are for signatures, of a kind that is known and of these algorithms.
    pub(super) fn jwks(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let set = strict(text).ok_or("it is not JSON, or names something twice")?;
        let listed = set.get("keys").and_then(Value::as_array);
        let listed = listed.ok_or("it has no list `keys`")?;
        if listed.len() > MOST_KEYS {
            return Err(format!("it has more than {MOST_KEYS} keys"));
        }
        let objects = listed.iter().filter_map(Value::as_object);
        let keys: Vec<Key> = objects.filter_map(|it| Key::jwk(it, algorithms)).collect();
        if keys.is_empty() {
            return Err("it has no key for signatures by one of `algorithms`".to_owned());
        }
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.kid == key.kid) {
                return Err("two of its keys have one name".to_owned());
            }
        }
        Ok(Self(keys))
    }

    /// The key of this name. One that has no name and is the only one is every token's.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (&self.0[..], kid) {
            ([only], None) => Some(only),
            ([only], Some(_)) if only.kid.is_none() => Some(only),
            (all, Some(kid)) => all.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (_, None) => None,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}
