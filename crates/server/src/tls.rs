//! The server's certificate and those of clients. Files are looked at every few seconds and at SIGHUP:
//! what is new serves new connections, open ones go on, and what cannot be used changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use skep_core::Timestamp;
use skep_core::config::{ClientAuth, Settings};
use skep_guard::Principal;
use skep_guard::certificates::{Certificates, Shown};
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::ServerError;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a file.
const MOST_FILE: u64 = 16 << 20;
/// Less time to a certificate's end than this is worth a look.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// The common name of a subject (2.5.4.3).
const COMMON_NAME: &str = "2.5.4.3";

/// The files that TLS is made of.
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Who signs the certificates of clients.
    clients: Option<PathBuf>,
    auth: ClientAuth,
    /// Whom they count for.
    table: Option<PathBuf>,
}

/// What the files held when they could be used last.
struct Loaded {
    acceptor: TlsAcceptor,
    own: Arc<CertifiedKey>,
    ends: Option<Timestamp>,
    table: Certificates,
}

/// TLS as it is now.
pub(crate) struct Tls {
    files: Files,
    now: RwLock<Loaded>,
    /// The hash of what serves, and what is wrong with what is there now.
    looked: RwLock<([u8; 32], Option<String>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

fn wrong(path: &Path, reason: impl Into<String>) -> ServerError {
    ServerError::Tls {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ServerError> {
    let about = std::fs::metadata(path).map_err(|error| wrong(path, error.to_string()))?;
    if about.len() > MOST_FILE {
        return Err(wrong(path, format!("it has more than {MOST_FILE} bytes")));
    }
    std::fs::read(path).map_err(|error| wrong(path, error.to_string()))
}

/// What the files hold, as bytes.
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
    clients: Vec<u8>,
    table: Vec<u8>,
}

impl Texts {
    fn read(files: &Files) -> Result<Self, ServerError> {
        let of = |path: &Option<PathBuf>| path.as_deref().map_or_else(|| Ok(Vec::new()), read);
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            clients: of(&files.clients)?,
            table: of(&files.table)?,
        })
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for text in [&self.certificate, &self.key, &self.clients, &self.table] {
            hash.update(Sha256::digest(text));
        }
        hash.finalize().into()
    }
}

impl Tls {
    /// TLS of these settings; `None` without a certificate.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Arc<Self>>, ServerError> {
        let (Some(certificate), Some(key)) = (&settings.tls_cert, &settings.tls_key) else {
            return Ok(None);
        };
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            clients: settings.tls_client_ca.clone(),
            auth: settings.tls_client_auth,
            table: settings.auth_certificates.clone(),
        };
        if files.auth != ClientAuth::None && files.clients.is_none() {
            return Err(wrong(
                Path::new("tls.client_ca"),
                "`tls.client_auth` needs the certificates of who signs those of clients",
            ));
        }
        let texts = Texts::read(&files)?;
        let loaded = load(&files, &texts)?;
        if loaded
            .ends
            .is_some_and(|end| end <= Timestamp::system_now())
        {
            tracing::warn!(path = %files.certificate.display(), "the certificate has ended");
        }
        Ok(Some(Arc::new(Self {
            looked: RwLock::new((texts.hash(), None)),
            now: RwLock::new(loaded),
            files,
        })))
    }

    /// What new connections shake hands with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.now.read().acceptor.clone()
    }

    /// Whom a verified certificate of a client counts for now.
    pub(crate) fn find(&self, shown: &Shown) -> Option<Principal> {
        self.now.read().table.find(shown).cloned()
    }

    /// Looks at the files; true when something new serves from now on.
    fn look(&self) -> bool {
        let texts = match Texts::read(&self.files) {
            Ok(texts) => texts,
            Err(error) => {
                self.failed(&error);
                return false;
            }
        };
        let hash = texts.hash();
        if self.looked.read().0 == hash {
            // What could not be used is gone, and what serves is there again.
            if self.looked.write().1.take().is_some() {
                tracing::info!("the certificates are again those that serve");
            }
            return false;
        }
        let new = load(&self.files, &texts).and_then(|new| {
            match new.ends.filter(|end| *end <= Timestamp::system_now()) {
                Some(end) => Err(wrong(&self.files.certificate, format!("it ended at {end}"))),
                None => Ok(new),
            }
        });
        match new {
            Ok(new) => {
                *self.now.write() = new;
                *self.looked.write() = (hash, None);
                tracing::info!("new certificates serve new connections");
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Says once what is wrong.
    fn failed(&self, error: &ServerError) {
        let reason = error.to_string();
        let before = self.looked.write().1.replace(reason.clone());
        if before.as_ref() != Some(&reason) {
            tracing::error!(
                reason,
                "new certificates cannot be used; those before them go on"
            );
        }
    }

    /// Looks at the files again and again, and calls `changed` when something new serves. Never ends.
    pub(crate) async fn keep_fresh(
        self: &Arc<Self>,
        mut hangup: Option<Signal>,
        changed: impl Fn(),
    ) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let told = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = tick.tick() => {}
                _ = told => {}
            }
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || tls.look()).await;
            if looked.unwrap_or(false) {
                changed();
            }
        }
    }

    /// What is wrong, or until when the certificate counts.
    pub(crate) fn condition(&self) -> Result<String, String> {
        if let Some(reason) = &self.looked.read().1 {
            return Err(format!("{reason}; the certificate before it goes on"));
        }
        match self.now.read().ends {
            Some(end) if end <= Timestamp::system_now() => {
                Err(format!("the certificate ended at {end}"))
            }
            Some(end) if end <= Timestamp::system_now().plus(SOON) => {
                Err(format!("the certificate ends at {end}"))
            }
            Some(end) => Ok(format!("the certificate counts until {end}")),
            None => Ok("when the certificate ends is not known".to_owned()),
        }
    }
}

impl ResolvesClientCert for Tls {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().own.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn chain(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    all.map_err(|error| wrong(path, error.to_string()))
}

fn load(files: &Files, texts: &Texts) -> Result<Loaded, ServerError> {
    let chain = chain(&files.certificate, &texts.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&texts.key).map_err(|error| match error {
        pem::Error::NoItemsFound => wrong(&files.key, "there is no private key in it"),
        error => wrong(&files.key, error.to_string()),
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let refused = |error: Error| refused(files, &error);
    let own = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = match (&files.clients, files.auth) {
        (Some(path), auth @ (ClientAuth::Optional | ClientAuth::Required)) => {
            let mut roots = RootCertStore::empty();
            for root in self::chain(path, &texts.clients)? {
                roots
                    .add(root)
                    .map_err(|error| wrong(path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match auth {
                ClientAuth::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            let verifier = verifier.map_err(|_| wrong(path, "there is no certificate in it"))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let ends = chain.first().and_then(|leaf| end_of(leaf));
    let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let table = match &files.table {
        None => Certificates::default(),
        Some(path) => std::str::from_utf8(&texts.table)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(Certificates::read)
            .map_err(|reason| wrong(path, reason))?,
    };
    Ok(Loaded {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        own: Arc::new(own.map_err(refused)?),
        ends,
        table,
    })
}

fn refused(files: &Files, error: &Error) -> ServerError {
    match error {
        Error::NoCertificatesPresented => {
            wrong(&files.certificate, "there is no certificate in it")
        }
        Error::InvalidCertificate(_) => wrong(&files.certificate, "its certificate cannot be read"),
        Error::InconsistentKeys(_) => wrong(&files.key, "it is not the key of the certificate"),
        _ => wrong(&files.key, "its key is of no kind that is known"),
    }
}

/// When a certificate ends.
fn end_of(leaf: &[u8]) -> Option<Timestamp> {
    let leaf = x509_cert::Certificate::from_der(leaf).ok()?;
    let end = leaf.tbs_certificate.validity.not_after.to_unix_duration();
    i64::try_from(end.as_micros())
        .ok()
        .map(Timestamp::from_micros)
}

/// What a client's certificate says, which the handshake has verified.
pub(crate) fn shown(certificate: &CertificateDer<'_>) -> Shown {
    let digest = Sha256::digest(certificate);
    let mut shown = Shown {
        fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ..Shown::default()
    };
    let Ok(parsed) = x509_cert::Certificate::from_der(certificate) else {
        return shown;
    };
    let subject = &parsed.tbs_certificate.subject;
    let mut names = subject.0.iter().flat_map(|of| of.0.iter());
    let of_subject = names.find(|it| it.oid.to_string() == COMMON_NAME);
    shown.common_name = of_subject.and_then(|it| {
        let text = Utf8StringRef::try_from(&it.value).map(|it| it.as_str().to_owned());
        let printable = || PrintableStringRef::try_from(&it.value).map(|it| it.as_str().to_owned());
        let ia5 = || Ia5StringRef::try_from(&it.value).map(|it| it.as_str().to_owned());
        text.or_else(|_| printable()).or_else(|_| ia5()).ok()
    });
    if let Ok(Some((_, others))) = parsed.tbs_certificate.get::<SubjectAltName>() {
        let text = |name: &GeneralName| match name {
            GeneralName::DnsName(it) | GeneralName::Rfc822Name(it) => Some(it.to_string()),
            GeneralName::UniformResourceIdentifier(it) => Some(it.to_string()),
            _ => None,
        };
        shown.names = others.0.iter().filter_map(text).collect();
    }
    shown
}
