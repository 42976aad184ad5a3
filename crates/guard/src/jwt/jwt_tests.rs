//! Every algorithm that counts is accepted, and every known attack on tokens is refused.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::source::Fetched;
use super::*;
use crate::policy::{PrincipalKind, Role};

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of sixty-four bytes, which is enough for any of the MACs";
const ISSUER: &str = "https://id.example.com";

fn now() -> Timestamp {
    Timestamp::from_micros(NOW * 1_000_000)
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Fetches nothing.
struct Nowhere;

impl Fetch for Nowhere {
    fn get<'a>(&'a self, _: &'a str) -> Fetched<'a> {
        Box::pin(async { Err("nothing is fetched".to_owned()) })
    }
}

/// Keys of an issuer, one of each kind.
pub(super) struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    pub(super) fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    pub(super) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn signature::RsaEncoding| {
            let mut out = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, message, &mut out).unwrap();
            out
        };
        let mac = |algorithm| {
            let key = hmac::Key::new(algorithm, SECRET);
            hmac::sign(&key, message).as_ref().to_vec()
        };
        match algorithm {
            "HS256" => mac(hmac::HMAC_SHA256),
            "HS384" => mac(hmac::HMAC_SHA384),
            "HS512" => mac(hmac::HMAC_SHA512),
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("{other}"),
        }
    }

    fn jwk(&self, algorithm: &str) -> Value {
        let point = |key: &EcdsaKeyPair| {
            let point = key.public_key().as_ref()[1..].to_vec();
            let (x, y) = point.split_at(point.len() / 2);
            (base64(x), base64(y))
        };
        match &algorithm[..2] {
            "RS" | "PS" => {
                let key = self.rsa.public_key();
                let n = key.modulus().big_endian_without_leading_zero().to_vec();
                let e = key.exponent().big_endian_without_leading_zero().to_vec();
                json!({ "kty": "RSA", "n": base64(n), "e": base64(e) })
            }
            "Ed" => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(self.ed.public_key()) })
            }
            _ if algorithm == "ES256" => {
                let (x, y) = point(&self.p256);
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            _ => {
                let (x, y) = point(&self.p384);
                json!({ "kty": "EC", "crv": "P-384", "x": x, "y": y })
            }
        }
    }

    /// A set with the key for this algorithm.
    pub(super) fn jwks(&self, algorithm: &str, kid: &str) -> String {
        let mut jwk = self.jwk(algorithm);
        jwk["kid"] = kid.into();
        jwk["alg"] = algorithm.into();
        jwk["use"] = "sig".into();
        json!({ "keys": [jwk] }).to_string()
    }

    fn pem(&self, algorithm: &str) -> String {
        let der = match &algorithm[..2] {
            "RS" | "PS" => self.rsa.public_key().as_der().unwrap().as_ref().to_vec(),
            "Ed" => self.ed.public_key().as_der().unwrap().as_ref().to_vec(),
            _ if algorithm == "ES256" => self.p256.public_key().as_der().unwrap().as_ref().to_vec(),
            _ => self.p384.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        let text = STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// A token of these parts.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().unwrap();
        self.raw(algorithm, &header.to_string(), &claims.to_string())
    }

    fn raw(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64(signature))
    }
}

pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": "skep",
        "sub": "ada",
        "iat": NOW - 60,
        "nbf": NOW - 60,
        "exp": NOW + 600,
        "org": { "slug": "default" },
        "realm_access": { "roles": ["someone", "worker", "watcher"] },
    })
}

/// An issuer in TOML; its key comes behind.
fn toml(name: &str, issuer: &str, algorithm: &str, key: &str) -> String {
    format!(
        "[[issuer]]\nname = \"{name}\"\nissuer = \"{issuer}\"\naudience = [\"skep\"]\n\
         algorithms = [\"{algorithm}\"]\nworkspace = \"default\"\nrole = \"member\"\n{key}\n"
    )
}

pub(super) fn read(text: &str) -> Jwt {
    let issuers = read_file(text, |_| Ok(SECRET.to_vec())).unwrap();
    Jwt::new(issuers, &(Arc::new(Nowhere) as Arc<dyn Fetch>))
}

fn by_jwks(signer: &Signer, algorithm: &str) -> Jwt {
    let jwks = signer.jwks(algorithm, "k1");
    read(&toml(
        "corp",
        ISSUER,
        algorithm,
        &format!("jwks = '{jwks}'"),
    ))
}

fn by_secret(algorithm: &str) -> Jwt {
    read(&toml("corp", ISSUER, algorithm, "secret_file = \"s\""))
}

pub(super) async fn find(jwt: &Jwt, token: &str) -> Result<Principal, Refusal> {
    jwt.find((token, "/api/v1/agents"), now(), |it| {
        *it == Workspace::default()
    })
    .await
}

async fn refused(jwt: &Jwt, token: &str, why: Refusal, what: &str) {
    assert_eq!(find(jwt, token).await.map(|it| it.id), Err(why), "{what}");
}

fn header(algorithm: &str) -> Value {
    json!({ "alg": algorithm, "kid": "k1", "typ": "JWT" })
}

#[tokio::test]
async fn every_algorithm_counts_by_a_key_of_its_own() {
    let signer = Signer::new();
    for algorithm in ["HS256", "HS384", "HS512"] {
        let token = signer.token(&header(algorithm), &claims());
        assert!(
            find(&by_secret(algorithm), &token).await.is_ok(),
            "{algorithm}"
        );
        // The key counts for this algorithm alone.
        for other in ["HS256", "HS384", "HS512"]
            .into_iter()
            .filter(|it| *it != algorithm)
        {
            refused(&by_secret(other), &token, Refusal::Algorithm, other).await;
        }
    }
    let public = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ];
    for algorithm in public {
        let token = signer.token(&header(algorithm), &claims());
        let pem = format!("pem = '''\n{}'''", signer.pem(algorithm));
        let by_pem = read(&toml("corp", ISSUER, algorithm, &pem));
        for jwt in [by_jwks(&signer, algorithm), by_pem] {
            let found = find(&jwt, &token).await.unwrap();
            assert_eq!(found.kind, PrincipalKind::User);
            assert_eq!(
                (found.workspace, found.role),
                (Workspace::default(), Some(Role::Member))
            );
            assert!(jwt.is_for_us(&token) && has_shape(&token));
            // Another key of the same kind.
            refused(
                &jwt,
                &Signer::new().token(&header(algorithm), &claims()),
                Refusal::Signature,
                algorithm,
            )
            .await;
        }
    }
}

#[tokio::test]
async fn no_signature_is_no_token() {
    let signer = Signer::new();
    let jwt = by_jwks(&signer, "ES256");
    for none in [
        "none", "None", "NONE", "nOnE", "none ", "", "null", "HS256\0",
    ] {
        for signature in ["", "AA", &base64(signer.sign("ES256", b"x"))] {
            let header = json!({ "alg": none, "kid": "k1" }).to_string();
            let token = format!(
                "{}.{}.{signature}",
                base64(header),
                base64(claims().to_string())
            );
            assert!(find(&jwt, &token).await.is_err(), "{none:?} {signature}");
        }
    }
    let good = signer.token(&header("ES256"), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    refused(&jwt, signed, Refusal::Malformed, "no third part").await;
    refused(
        &jwt,
        &format!("{signed}."),
        Refusal::Malformed,
        "an empty signature",
    )
    .await;
    for length in [2, 4, 40, signature.len() - 2] {
        let cut = format!("{signed}.{}", &signature[..length]);
        assert!(find(&jwt, &cut).await.is_err(), "{length}");
    }
    // The sign of psychic signatures: r and s are zero. And DER, which JWS has not.
    for zeros in [vec![0; 64], vec![0; 96], vec![0x30, 6, 2, 1, 0, 2, 1, 0]] {
        let token = format!("{signed}.{}", base64(zeros));
        refused(&jwt, &token, Refusal::Signature, "zeros").await;
    }
    // The order of the curve, as r and as s.
    let order = "/////wAAAAD//////////7zm+q2nF56E87nKwvxjJVE=";
    let order = STANDARD.decode(order).unwrap();
    let token = format!("{signed}.{}", base64([&order[..], &order].concat()));
    refused(&jwt, &token, Refusal::Signature, "the order").await;
    // The same signature in another spelling: bits that are not used, padding, the other alphabet.
    let mut last = signature.to_owned();
    let end = last.pop().unwrap();
    let next = char::from_u32(end as u32 + 1).unwrap();
    refused(
        &jwt,
        &format!("{signed}.{last}{next}"),
        Refusal::Malformed,
        "trailing bits",
    )
    .await;
    refused(&jwt, &format!("{good}=="), Refusal::Malformed, "padding").await;
    // Swapped claims under the old signature.
    let mut other = claims();
    other["sub"] = "eve".into();
    let forged = format!(
        "{}.{}.{signature}",
        base64(header("ES256").to_string()),
        base64(other.to_string())
    );
    refused(&jwt, &forged, Refusal::Signature, "other claims").await;
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let signer = Signer::new();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let pem = signer.pem(algorithm);
        let toml = toml("corp", ISSUER, algorithm, &format!("pem = '''\n{pem}'''"));
        let der = STANDARD.decode(pem.lines().nth(1).unwrap()).unwrap();
        for jwt in [read(&toml), by_jwks(&signer, algorithm)] {
            for secret in [
                pem.as_bytes(),
                pem.trim().as_bytes(),
                &der,
                signer.jwks(algorithm, "k1").as_bytes(),
            ] {
                for (name, mac) in [
                    ("HS256", hmac::HMAC_SHA256),
                    ("HS384", hmac::HMAC_SHA384),
                    ("HS512", hmac::HMAC_SHA512),
                ] {
                    let signed = format!(
                        "{}.{}",
                        base64(header(name).to_string()),
                        base64(claims().to_string())
                    );
                    let tag = hmac::sign(&hmac::Key::new(mac, secret), signed.as_bytes());
                    let token = format!("{signed}.{}", base64(tag));
                    refused(&jwt, &token, Refusal::Algorithm, name).await;
                }
            }
        }
    }
    // A key for PKCS#1 counts not for PSS, nor for another hash, nor in another spelling.
    let jwt = by_jwks(&signer, "RS256");
    for other in ["PS256", "RS384", "RS512"] {
        refused(
            &jwt,
            &signer.token(&header(other), &claims()),
            Refusal::Algorithm,
            other,
        )
        .await;
    }
    for spelling in ["rs256", "RS256 ", "Rs256"] {
        let token = signer.raw(
            "RS256",
            &header(spelling).to_string(),
            &claims().to_string(),
        );
        refused(&jwt, &token, Refusal::Algorithm, spelling).await;
    }
}

#[tokio::test]
async fn the_name_of_a_key_is_only_a_name() {
    let (signer, other) = (Signer::new(), Signer::new());
    let second = toml(
        "other",
        "https://other.example.com",
        "ES256",
        &format!("jwks = '{}'", other.jwks("ES256", "k2")),
    );
    let first = toml(
        "corp",
        ISSUER,
        "ES256",
        &format!("jwks = '{}'", signer.jwks("ES256", "k1")),
    );
    let jwt = read(&format!("{first}{second}"));
    let with = |kid: Value| json!({ "alg": "ES256", "kid": kid });
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "' UNION SELECT 'AAAA'--",
        "k1'; --",
        "http://127.0.0.1/jwks",
        "| cat /etc/passwd",
        "K1",
        "k1 ",
        "k1%00",
        "../k1",
        "k2",
    ] {
        let token = signer.token(&with(kid.into()), &claims());
        refused(&jwt, &token, Refusal::Key, kid).await;
    }
    for kid in [
        json!("k".repeat(257)),
        json!("k1\0"),
        json!(""),
        json!(1),
        json!(null),
        json!(["k1"]),
        json!({ "k1": 1 }),
    ] {
        let token = signer.token(&with(kid.clone()), &claims());
        refused(&jwt, &token, Refusal::Header, &kid.to_string()).await;
    }
    // An issuer's key counts for its own tokens only.
    let stolen = other.token(&with("k2".into()), &claims());
    refused(&jwt, &stolen, Refusal::Key, "the other issuer's key").await;
    let stolen = other.token(&with("k1".into()), &claims());
    refused(
        &jwt,
        &stolen,
        Refusal::Signature,
        "the other issuer's key by this one's name",
    )
    .await;
    // Without a name the only key is meant.
    let token = signer.token(&json!({ "alg": "ES256" }), &claims());
    assert!(find(&jwt, &token).await.is_ok());
    let mut two: Value = serde_json::from_str(&signer.jwks("ES256", "k1")).unwrap();
    let more: Value = serde_json::from_str(&other.jwks("ES256", "k3")).unwrap();
    two["keys"]
        .as_array_mut()
        .unwrap()
        .push(more["keys"][0].clone());
    let jwt = read(&toml("corp", ISSUER, "ES256", &format!("jwks = '{two}'")));
    refused(&jwt, &token, Refusal::Key, "of two without a name").await;
}

#[tokio::test]
async fn a_header_brings_no_key_and_asks_for_nothing() {
    let signer = Signer::new();
    let eve = Signer::new();
    let jwt = by_jwks(&signer, "ES256");
    let own: Value = eve.jwk("ES256");
    for (name, value) in [
        ("jwk", own.clone()),
        ("jku", json!("https://eve.example.com/jwks")),
        ("x5u", json!("https://eve.example.com/cert")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("typ", json!("logout+jwt")),
        ("typ", json!(1)),
    ] {
        let mut header = header("ES256");
        header[name] = value;
        // Whoever signs it.
        for by in [&eve, &signer] {
            refused(&jwt, &by.token(&header, &claims()), Refusal::Header, name).await;
        }
    }
    // What is not known is passed over (RFC 7515, section 4), and so are the types that there are.
    for (name, value) in [
        ("x5t", json!("abc")),
        ("nonce", json!("1")),
        ("typ", json!("application/AT+JWT")),
    ] {
        let mut header = header("ES256");
        header[name] = value;
        assert!(
            find(&jwt, &signer.token(&header, &claims())).await.is_ok(),
            "{name}"
        );
    }
    // A token in a token, an encrypted one, and JSON in its other forms.
    let inner = signer.token(&header("ES256"), &claims());
    let nested = signer.raw(
        "ES256",
        &header("ES256").to_string(),
        &json!(inner).to_string(),
    );
    refused(&jwt, &nested, Refusal::Malformed, "nested").await;
    refused(
        &jwt,
        &format!("{inner}.AA.AA"),
        Refusal::Malformed,
        "five parts",
    )
    .await;
    for text in [
        "",
        ".",
        "..",
        "...",
        "ey",
        "ey.ey.ey",
        "{\"payload\":\"\",\"signatures\":[]}",
    ] {
        refused(&jwt, text, Refusal::Malformed, text).await;
        assert!(!jwt.is_for_us(text));
    }
}

#[tokio::test]
async fn json_that_can_be_read_in_two_ways_is_not_read() {
    let signer = Signer::new();
    let jwt = by_jwks(&signer, "ES256");
    let good = (header("ES256").to_string(), claims().to_string());
    for (header, claims) in [
        (
            good.0.replacen('{', "{\"alg\":\"none\",", 1),
            good.1.clone(),
        ),
        (good.0.replacen('{', "{\"kid\":\"k9\",", 1), good.1.clone()),
        (good.0.clone(), good.1.replacen('{', "{\"sub\":\"eve\",", 1)),
        (good.0.clone(), good.1.replacen('{', "{\"aud\":\"x\",", 1)),
        (
            good.0.clone(),
            good.1.replacen('{', "{\"a\":{\"b\":1,\"b\":2},", 1),
        ),
        (good.0.clone(), format!("{} {{}}", good.1)),
        (good.0.clone(), format!("\u{feff}{}", good.1)),
        (good.0.clone(), good.1.replace("\"ada\"", "NaN")),
        (format!("[{}]", good.0), good.1.clone()),
        (
            good.0.clone(),
            format!("{}{}", "[".repeat(4000), "]".repeat(4000)),
        ),
    ] {
        let token = signer.raw("ES256", &header, &claims);
        refused(
            &jwt,
            &token,
            Refusal::Malformed,
            &claims[..claims.len().min(90)],
        )
        .await;
    }
    let mut long = claims();
    long["pad"] = "a".repeat(MOST_TOKEN).into();
    refused(
        &jwt,
        &signer.token(&header("ES256"), &long),
        Refusal::Malformed,
        "long",
    )
    .await;
    let bytes = [b"{\"sub\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    let token = format!("{}.{}.AAAA", base64(&good.0), base64(bytes));
    refused(&jwt, &token, Refusal::Malformed, "no UTF-8").await;
}

#[tokio::test]
async fn claims_are_there_and_are_what_they_must_be() {
    let signer = Signer::new();
    let jwt = by_jwks(&signer, "ES256");
    let with = |changes: &[(&str, Value)]| {
        let mut claims = claims();
        for (name, value) in changes {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
                value => claims[*name] = value.clone(),
            }
        }
        signer.token(&header("ES256"), &claims)
    };
    let leeway = 30;
    for (name, value, why) in [
        ("iss", Value::Null, Refusal::Claims),
        ("iss", json!([ISSUER]), Refusal::Claims),
        ("iss", json!("https://id.example.com/"), Refusal::Issuer),
        ("iss", json!("https://eve.example.com"), Refusal::Issuer),
        ("aud", Value::Null, Refusal::Claims),
        ("aud", json!(7), Refusal::Claims),
        ("aud", json!({ "skep": 1 }), Refusal::Claims),
        ("aud", json!(["skep", 7]), Refusal::Claims),
        ("aud", json!([]), Refusal::Audience),
        ("aud", json!("other"), Refusal::Audience),
        ("aud", json!("skep2"), Refusal::Audience),
        ("aud", json!("SKEP"), Refusal::Audience),
        ("aud", json!(["a", "b"]), Refusal::Audience),
        ("sub", Value::Null, Refusal::Claims),
        ("sub", json!(""), Refusal::Claims),
        ("sub", json!(7), Refusal::Claims),
        ("sub", json!(["ada"]), Refusal::Claims),
        ("sub", json!("a".repeat(257)), Refusal::Claims),
        ("sub", json!("a\nb"), Refusal::Claims),
        ("exp", Value::Null, Refusal::Claims),
        ("exp", json!((NOW + 600).to_string()), Refusal::Claims),
        ("exp", json!([NOW + 600]), Refusal::Claims),
        ("exp", json!(true), Refusal::Claims),
        ("exp", json!(-1), Refusal::Claims),
        ("exp", json!(1e300), Refusal::Claims),
        ("exp", json!(u64::MAX), Refusal::Claims),
        ("exp", json!(0), Refusal::Expired),
        ("exp", json!(NOW - leeway), Refusal::Expired),
        ("nbf", json!(NOW + leeway + 1), Refusal::Early),
        ("nbf", json!("now"), Refusal::Claims),
        ("iat", json!(NOW + leeway + 1), Refusal::Early),
        ("iat", json!({}), Refusal::Claims),
    ] {
        let what = format!("{name}: {value}");
        refused(&jwt, &with(&[(name, value)]), why, &what).await;
    }
    for (name, value) in [
        ("aud", json!(["other", "skep"])),
        ("exp", json!(NOW - leeway + 1)),
        ("exp", json!(1_800_000_600.5)),
        ("nbf", json!(NOW + leeway)),
        ("nbf", Value::Null),
        ("iat", Value::Null),
    ] {
        let what = format!("{name}: {value}");
        assert!(find(&jwt, &with(&[(name, value)])).await.is_ok(), "{what}");
    }
    // Of nobody's tokens anything is said, not even whether they are well.
    assert!(!jwt.is_for_us(&with(&[("iss", json!("https://eve.example.com"))])));
    assert!(!jwt.is_for_us(&with(&[("aud", json!("other"))])));
    assert!(jwt.is_for_us(&with(&[("exp", json!(0))])));
}

#[tokio::test]
async fn a_user_is_the_same_always_and_nobody_else() {
    let signer = Signer::new();
    let jwt = by_jwks(&signer, "ES256");
    let of = async |sub: &str, at: i64| {
        let mut claims = claims();
        claims["sub"] = sub.into();
        claims["iat"] = at.into();
        let found = find(&jwt, &signer.token(&header("ES256"), &claims)).await;
        found.unwrap().id.to_string()
    };
    let ada = of("ada", NOW).await;
    assert_eq!(ada, of("ada", NOW - 5).await);
    assert_ne!(ada, of("Ada", NOW).await);
    // As `printf '%s\0%s' ISSUER SUBJECT | sha256sum` tells it.
    let both = format!("{ISSUER}\0ada");
    let hash = digest::digest(&digest::SHA256, both.as_bytes());
    let hash: String = hash.as_ref()[..16]
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    assert_eq!(ada, format!("ext_corp_{hash}"));
}

#[tokio::test]
async fn claims_say_workspace_and_role() {
    let signer = Signer::new();
    let jwks = signer.jwks("ES256", "k1");
    let read = |mapping: &str| {
        let base = format!(
            "[[issuer]]\nname = \"corp\"\nissuer = \"{ISSUER}\"\naudience = [\"skep\"]\n\
             algorithms = [\"ES256\"]\njwks = '{jwks}'\n{mapping}"
        );
        self::read(&base)
    };
    let of = async |jwt: &Jwt, changes: &[(&str, Value)]| {
        let mut claims = claims();
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        let token = signer.token(&header("ES256"), &claims);
        let found = jwt
            .find((&token, "/"), now(), |it| it.as_str() != "none")
            .await;
        found.map(|it| (it.workspace.to_string(), it.role.unwrap().as_str()))
    };
    let roles = "[issuer.roles]\nworker = \"member\"\nwatcher = \"viewer\"\nchief = \"admin\"\n";
    let jwt = read(&format!(
        "workspace = \"{{org.slug}}\"\nrole_claim = \"realm_access.roles\"\n{roles}"
    ));
    // The highest counts.
    assert_eq!(of(&jwt, &[]).await, Ok(("default".into(), "member")));
    let access = |roles: Value| [("realm_access", json!({ "roles": roles }))];
    assert_eq!(
        of(&jwt, &access(json!("chief"))).await,
        Ok(("default".into(), "admin"))
    );
    for nothing in [
        json!([]),
        json!(["Chief"]),
        json!("chief worker"),
        json!({ "chief": true }),
        json!([["chief"]]),
        json!(null),
    ] {
        assert_eq!(of(&jwt, &access(nothing)).await, Err(Refusal::Mapping));
    }
    for slug in [
        json!("none"),
        json!("../x"),
        json!("A"),
        json!(""),
        json!(7),
        json!(["default"]),
    ] {
        let org = [("org", json!({ "slug": slug }))];
        assert_eq!(of(&jwt, &org).await, Err(Refusal::Mapping), "{slug}");
    }
    assert_eq!(
        of(&jwt, &[("org", json!("default"))]).await,
        Err(Refusal::Mapping)
    );
    let jwt = read(&format!(
        "workspace = \"team-{{org.slug}}\"\nworkspaces = [\"team-a\"]\nrole_claim = [\"https://skep.dev/role\"]\n{roles}"
    ));
    let team = |slug: &str| {
        [
            ("org", json!({ "slug": slug })),
            ("https://skep.dev/role", json!("chief")),
        ]
    };
    assert_eq!(of(&jwt, &team("a")).await, Ok(("team-a".into(), "admin")));
    assert_eq!(of(&jwt, &team("b")).await, Err(Refusal::Mapping));
}

#[tokio::test]
async fn words_of_a_scope_count_each() {
    let signer = Signer::new();
    let jwks = signer.jwks("ES256", "k1");
    let roles = "role_claim = \"scope\"\n[issuer.roles]\nwatcher = \"viewer\"\n";
    let text = toml(
        "corp",
        ISSUER,
        "ES256",
        &format!("jwks = '{jwks}'\n{roles}"),
    );
    let jwt = read(&text.replace("role = \"member\"\n", ""));
    for (scope, role) in [
        ("openid watcher", Ok(Some(Role::Viewer))),
        ("openid", Err(Refusal::Mapping)),
    ] {
        let mut claims = claims();
        claims["scope"] = scope.into();
        let token = signer.token(&header("ES256"), &claims);
        assert_eq!(find(&jwt, &token).await.map(|it| it.role), role);
    }
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_place() {
    let signer = Signer::new();
    let jwks = signer.jwks("RS256", "k1");
    let good = toml("corp", ISSUER, "RS256", &format!("jwks = '{jwks}'"));
    let error = |text: &str| {
        let read = read_file(text, |_| Err("others may read it".to_owned()));
        read.err().unwrap_or_default()
    };
    assert_eq!(error(&good), "");
    for (from, to, said) in [
        ("role =", "rolle =", "line 7: unknown field `rolle`"),
        ("[[issuer]]", "[[isuer]]", "line 1: unknown field `isuer`"),
        ("name = \"corp\"", "name = 7", "line 2: invalid type"),
        ("name = \"corp\"", "name = \"C\"", "`C` is not a name"),
        (
            "audience = [\"skep\"]",
            "audience = []",
            "`issuer` and `audience`",
        ),
        ("[\"RS256\"]", "[\"none\"]", "`none` is no algorithm"),
        ("[\"RS256\"]", "[]", "`algorithms` says"),
        (
            "[\"RS256\"]",
            "[\"RS256\", \"HS256\"]",
            "take a `secret_file`",
        ),
        ("[\"RS256\"]", "[\"ES256\"]", "it has no key for signatures"),
        ("role = \"member\"", "role = \"king\"", "`king` is no role"),
        ("role = \"member\"", "", "give `role`, or `role_claim`"),
        (
            "role = \"member\"",
            "role = \"member\"\nleeway = \"1h\"",
            "`leeway` is a duration from 0s to 5m",
        ),
        (
            "role = \"member\"",
            "role = \"member\"\npem = \"x\"",
            "give one of `jwks_url`",
        ),
        (
            "workspace = \"default\"",
            "workspace = \"{a}{b}\"",
            "at most one `{claim}`",
        ),
        (
            "workspace = \"default\"",
            "workspace = \"{a..b}\"",
            "a claim's path",
        ),
        ("jwks = '", "jwks = '[]", "`jwks`: it is not JSON"),
    ] {
        let said_now = error(&good.replace(from, to));
        assert!(said_now.contains(said), "{to}: {said_now}");
    }
    assert!(error(&format!("{good}{good}")).contains("issuer 2 (`corp`): there is one"));
}

#[test]
fn keys_come_over_what_nobody_can_change() {
    let error = |text: &str| {
        let read = read_file(text, |_| Err("others may read it".to_owned()));
        read.err().unwrap_or_default()
    };
    for url in [
        "http://id.example.com/jwks",
        "file:///etc/passwd",
        "https://user:pass@id.example.com/",
        "https://",
        "ftp://x/",
        "http://127.0.0.1.example.com/",
        "http://localhost/",
        "http://127.0.0.1@example.com/",
    ] {
        let text = toml("corp", ISSUER, "RS256", &format!("jwks_url = \"{url}\""));
        assert!(error(&text).contains("`jwks_url` is an https URL"), "{url}");
    }
    for url in [
        "https://id.example.com:8443/a?b=c",
        "http://127.0.0.1:80/",
        "http://[::1]:80/",
        "http://[::1]/",
    ] {
        let text = toml("corp", ISSUER, "RS256", &format!("jwks_url = \"{url}\""));
        assert_eq!(error(&text), "", "{url}");
    }
    let text = toml("corp", ISSUER, "HS256", "secret_file = \"s\"");
    assert!(error(&text).contains("`secret_file` s: others may read it"));
    let short = read_file(&text, |_| Ok(b"short secret".to_vec()))
        .err()
        .unwrap();
    assert!(
        short.contains("fewer than 32 bytes") && !short.contains("short secret"),
        "{short}"
    );
}

#[test]
fn keys_that_are_not_for_this_are_passed_over() {
    let signer = Signer::new();
    let set = |changes: &[(&str, Value)], algorithm: &str| {
        let mut set: Value = serde_json::from_str(&signer.jwks(algorithm, "k1")).unwrap();
        for (name, value) in changes {
            match value {
                Value::Null => drop(set["keys"][0].as_object_mut().unwrap().remove(*name)),
                value => set["keys"][0][*name] = value.clone(),
            }
        }
        set.to_string()
    };
    let works = |jwks: &str, algorithms: &str| {
        let text = toml("corp", ISSUER, algorithms, &format!("jwks = '{jwks}'"));
        read_file(&text, |_| Err(String::new())).is_ok()
    };
    assert!(works(&set(&[], "RS256"), "RS256"));
    // Without `alg` the only algorithm that fits is meant; of two, none.
    assert!(works(&set(&[("alg", Value::Null)], "RS256"), "RS256"));
    assert!(!works(
        &set(&[("alg", Value::Null)], "RS256"),
        "RS256\", \"PS256"
    ));
    for (changes, algorithm) in [
        (vec![("use", json!("enc"))], "RS256"),
        (vec![("use", json!(1))], "RS256"),
        (vec![("key_ops", json!(["sign"]))], "RS256"),
        (vec![("alg", json!("RSA-OAEP"))], "RS256"),
        (vec![("alg", json!("HS256"))], "RS256"),
        (vec![("e", json!("AQ"))], "RS256"),
        (vec![("e", json!("Ag"))], "RS256"),
        (vec![("n", json!(base64([0xff; 128])))], "RS256"),
        (
            vec![("kty", json!("oct")), ("k", json!(base64(SECRET)))],
            "RS256",
        ),
        (vec![("x", json!(base64([1; 31])))], "ES256"),
        (vec![("crv", json!("P-521"))], "ES256"),
        (vec![("alg", json!("ES384"))], "ES256"),
        (vec![("x", json!(base64([1; 33])))], "EdDSA"),
        (vec![("kid", json!(7))], "EdDSA"),
    ] {
        assert!(!works(&set(&changes, algorithm), algorithm), "{changes:?}");
    }
    // An oct key never counts, though its algorithm is among those of the issuer: that is refused too.
    let jwks = json!({ "keys": [{ "kty": "oct", "k": base64(SECRET), "alg": "HS256" }] });
    assert!(!works(&jwks.to_string(), "HS256"));
    let one = set(&[], "RS256");
    let twice = one.replacen("[{", &format!("[{},{{", &one[9..one.len() - 2]), 1);
    assert!(!works(&twice, "RS256"), "{twice}");
    let named = "\"alg\":\"RS256\"";
    let doubled = one.replacen(named, &format!("{named},{named}"), 1);
    assert!(doubled != one && !works(&doubled, "RS256"));
}
