//! What the CA signs is believed for its host and by who believes the CA, and by nobody else.

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_micros(1_795_000_000_000_000)
}

/// Whether who believes this CA believes that it speaks with a host.
fn believes(ca: &Authority, signed: &[u8], host: &str, at: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let at = Duration::from_micros(u64::try_from(at.as_micros()).unwrap());
    let signed = CertificateDer::from(signed.to_vec());
    let at = UnixTime::since_unix_epoch(at);
    verifier
        .verify_server_cert(&signed, &[], &name, &[], at)
        .is_ok()
}

fn signed(ca: &Authority, host: &str) -> Vec<u8> {
    let name = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            GeneralName::IpAddress(OctetString::new(address.octets()).unwrap())
        }
        _ => GeneralName::DnsName(Ia5String::new(host).unwrap()),
    };
    ca.certify(name, now()).unwrap().to_vec()
}

#[test]
fn a_certificate_is_believed_for_its_host_for_a_day() {
    let made = Authority::make("default", now()).unwrap();
    let ca = Authority::of(&made.0).unwrap();
    let again = Authority::of(&made.0).unwrap();
    let other = Authority::of(&Authority::make("default", now()).unwrap().0).unwrap();
    for host in ["api.example.com", "127.0.0.2"] {
        let signed = signed(&ca, host);
        assert!(believes(&ca, &signed, host, now()), "{host}");
        assert!(believes(&again, &signed, host, now()), "{host}");
        assert!(!believes(&other, &signed, host, now()), "{host}");
        assert!(
            !believes(&ca, &signed, "other.example.com", now()),
            "{host}"
        );
        assert!(
            !believes(&ca, &signed, host, now().plus(LASTS * 2)),
            "{host}"
        );
    }
    assert!(Authority::of(b"{}").is_err() && Authority::of(b"nothing").is_err());
}

#[test]
fn hosts_are_kept_and_bounded() {
    let ca = Authority::of(&Authority::make("default", now()).unwrap().0).unwrap();
    let first = ca.host("a.example", now()).unwrap();
    assert!(Arc::ptr_eq(&first, &ca.host("a.example", now()).unwrap()));
    for number in 0..MOST_HOSTS + 5 {
        ca.host(&format!("h{number}.example"), now()).unwrap();
    }
    assert_eq!(ca.hosts.lock().len(), MOST_HOSTS);
    assert!(!Arc::ptr_eq(&first, &ca.host("a.example", now()).unwrap()));
}
