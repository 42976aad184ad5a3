//! A workspace's own CA, by which TLS is opened: it signs certificates of hosts that Skep looks into, which last a day and
//! are never written down. Nobody trusts it but who is told to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use skep_core::Timestamp;
use tokio::time::Instant;
use x509_cert::der::asn1::{
    BitString, GeneralizedTime, Ia5String, ObjectIdentifier, OctetString, UtcTime,
};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode as _, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};
use zeroize::Zeroizing;

use super::service::to_pem;

/// How long a CA lasts.
const CA_LASTS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How long the certificate of a host lasts.
const LASTS: Duration = Duration::from_secs(24 * 3600);
/// For how long it is used; who has an older one goes on with it.
const FRESH: Duration = Duration::from_secs(12 * 3600);
/// How far clocks may differ.
const EARLY: Duration = Duration::from_secs(3600);
/// Hosts whose certificates are kept.
const MOST_HOSTS: usize = 1_000;

/// A CA as the vault keeps it.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// DER, in Base64.
    certificate: String,
    /// PKCS #8, in Base64.
    key: String,
}

/// A CA that was made, as the vault is to keep it.
pub struct Made(pub Zeroizing<Vec<u8>>);

/// A workspace's CA.
pub struct Authority {
    certificate: CertificateDer<'static>,
    name: Name,
    key: EcdsaKeyPair,
    /// The key of every certificate that this server makes, in PKCS #8.
    leaf: (EcdsaKeyPair, Zeroizing<Vec<u8>>),
    hosts: Mutex<HashMap<String, (Instant, Arc<ServerConfig>)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// ecdsa-with-SHA256 (RFC 5758).
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// id-kp-serverAuth (RFC 5280).
const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// Bytes of a serial number.
const SERIAL: usize = 16;

fn new_key() -> Result<(EcdsaKeyPair, Zeroizing<Vec<u8>>), String> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(said)?;
    let text = key.to_pkcs8v1().map_err(said)?;
    Ok((key, Zeroizing::new(text.as_ref().to_vec())))
}

fn moment(at: Timestamp) -> Result<Time, String> {
    let seconds = u64::try_from(at.as_micros().div_euclid(1_000_000)).unwrap_or_default();
    let since = Duration::from_secs(seconds);
    // Up to 2049 in the short form (RFC 5280, section 4.1.2.5).
    match UtcTime::from_unix_duration(since) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => GeneralizedTime::from_unix_duration(since)
            .map(Time::GeneralTime)
            .map_err(said),
    }
}

fn extension<T: Encode + AssociatedOid>(of: &T, critical: bool) -> Result<Extension, String> {
    Ok(Extension {
        extn_id: T::OID,
        critical,
        extn_value: OctetString::new(of.to_der().map_err(said)?).map_err(said)?,
    })
}

/// What a key is known by in certificates.
fn id(key: &EcdsaKeyPair) -> Result<OctetString, String> {
    let whole = Sha256::digest(key.public_key().as_ref());
    OctetString::new(whole.get(..20).unwrap_or_default()).map_err(said)
}

/// A certificate that is to be.
struct Wish<'a> {
    issuer: &'a Name,
    subject: Name,
    key: &'a EcdsaKeyPair,
    until: Duration,
    extensions: Vec<Extension>,
}

impl Wish<'_> {
    fn signed(self, by: &EcdsaKeyPair, now: Timestamp) -> Result<CertificateDer<'static>, String> {
        let mut serial = [0; SERIAL];
        aws_lc_rs::rand::fill(&mut serial).map_err(said)?;
        // Positive, and as long each time.
        serial[0] = serial[0] & 0x7f | 0x40;
        let algorithm = AlgorithmIdentifierOwned {
            oid: ECDSA_SHA256,
            parameters: None,
        };
        let public = AsDerOf(self.key).public()?;
        let mut extensions = self.extensions;
        extensions.push(extension(&SubjectKeyIdentifier(id(self.key)?), false)?);
        let of_issuer = AuthorityKeyIdentifier {
            key_identifier: Some(id(by)?),
            ..AuthorityKeyIdentifier::default()
        };
        extensions.push(extension(&of_issuer, false)?);
        let body = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&serial).map_err(said)?,
            signature: algorithm.clone(),
            issuer: self.issuer.clone(),
            validity: Validity {
                not_before: moment(now.minus(EARLY))?,
                not_after: moment(now.plus(self.until))?,
            },
            subject: self.subject,
            subject_public_key_info: public,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        };
        let signature = by.sign(&SystemRandom::new(), &body.to_der().map_err(said)?);
        let signature = signature.map_err(said)?;
        let whole = Certificate {
            tbs_certificate: body,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(signature.as_ref()).map_err(said)?,
        };
        Ok(CertificateDer::from(whole.to_der().map_err(said)?))
    }
}

struct AsDerOf<'a>(&'a EcdsaKeyPair);

impl AsDerOf<'_> {
    fn public(&self) -> Result<SubjectPublicKeyInfoOwned, String> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().map_err(said)?;
        SubjectPublicKeyInfoOwned::from_der(der.as_ref()).map_err(said)
    }
}

impl Authority {
    /// Makes a CA for a workspace.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn make(workspace: &str, now: Timestamp) -> Result<Made, String> {
        let (key, text) = new_key()?;
        let name =
            Name::from_str(&format!("CN=Skep web CA of {workspace},O=Skep")).map_err(said)?;
        let constraints = BasicConstraints {
            ca: true,
            path_len_constraint: Some(0),
        };
        let wish = Wish {
            issuer: &name.clone(),
            subject: name,
            key: &key,
            until: CA_LASTS,
            extensions: vec![
                extension(&constraints, true)?,
                extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign), true)?,
            ],
        };
        let stored = Stored {
            certificate: STANDARD.encode(wish.signed(&key, now)?),
            key: STANDARD.encode(&*text),
        };
        let made = serde_json::to_vec(&stored);
        made.map(|it| Made(Zeroizing::new(it))).map_err(said)
    }

    /// The CA that was kept.
    ///
    /// # Errors
    /// Why it is none.
    pub fn of(kept: &[u8]) -> Result<Self, String> {
        let none = || "it is no CA".to_owned();
        let stored: Stored = serde_json::from_slice(kept).map_err(|_| none())?;
        let read = |text: &str| STANDARD.decode(text).map_err(|_| none());
        let key = Zeroizing::new(read(&stored.key)?);
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key);
        let certificate = read(&stored.certificate)?;
        let read = Certificate::from_der(&certificate).map_err(|_| none())?;
        Ok(Self {
            name: read.tbs_certificate.subject,
            certificate: CertificateDer::from(certificate),
            key: key.map_err(|_| none())?,
            leaf: new_key()?,
            hosts: Mutex::default(),
        })
    }

    /// Its certificate, for who is to trust it.
    #[must_use]
    pub fn pem(&self) -> String {
        to_pem(&self.certificate)
    }

    /// What Skep speaks TLS with in the place of a host.
    ///
    /// # Errors
    /// Why there is no certificate for it.
    pub fn host(&self, host: &str, now: Timestamp) -> Result<Arc<ServerConfig>, String> {
        if let Some((made, config)) = self.hosts.lock().get(host)
            && made.elapsed() < FRESH
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.posing(host, now)?);
        let mut hosts = self.hosts.lock();
        if hosts.len() >= MOST_HOSTS {
            let oldest = hosts.iter().min_by_key(|(_, (made, _))| *made);
            let oldest = oldest.map(|(host, _)| host.clone());
            oldest.and_then(|it| hosts.remove(&it));
        }
        hosts.insert(host.to_owned(), (Instant::now(), config.clone()));
        Ok(config)
    }

    fn posing(&self, host: &str, now: Timestamp) -> Result<ServerConfig, String> {
        let name = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                GeneralName::IpAddress(OctetString::new(address.octets()).map_err(said)?)
            }
            Ok(IpAddr::V6(address)) => {
                GeneralName::IpAddress(OctetString::new(address.octets()).map_err(said)?)
            }
            Err(_) => GeneralName::DnsName(Ia5String::new(host).map_err(said)?),
        };
        let certificate = self.certify(name, now)?;
        let key = PrivatePkcs8KeyDer::from(self.leaf.1.to_vec());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(said)?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
            .map_err(said)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn certify(
        &self,
        name: GeneralName,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, String> {
        let wish = Wish {
            issuer: &self.name,
            // The host stands in the alternative names: a common name has 64 characters at most.
            subject: Name::from_str("CN=Skep").map_err(said)?,
            key: &self.leaf.0,
            until: LASTS,
            extensions: vec![
                extension(&SubjectAltName(vec![name]), false)?,
                extension(&KeyUsage(KeyUsages::DigitalSignature.into()), true)?,
                extension(&ExtendedKeyUsage(vec![SERVER]), false)?,
            ],
        };
        wish.signed(&self.key, now)
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
