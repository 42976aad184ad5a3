//! A host of the web of a test's own: over TLS with a CA of its own, or in the open. It says what it was asked, and
//! writes it down.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A CA whose certificates are believed by who has its file.
pub struct Ca {
    folder: TempDir,
}

fn openssl(folder: &Path, args: &[&str]) {
    let made = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success(), "{args:?}");
}

impl Ca {
    /// A new one.
    ///
    /// # Panics
    /// When there is no openssl.
    #[must_use]
    pub fn make() -> Self {
        let folder = TempDir::new().expect("a folder");
        let ca = "[req]\ndistinguished_name=n\nx509_extensions=e\nprompt=no\n[n]\nCN=test CA\n[e]\n\
            basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";
        fs::write(folder.path().join("ca.cnf"), ca).expect("a file");
        openssl(
            folder.path(),
            &[
                "req",
                "-x509",
                "-nodes",
                "-days",
                "2",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-config",
                "ca.cnf",
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
            ],
        );
        Self { folder }
    }

    /// Its certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a host at an address speaks TLS with.
    fn config(&self, address: &str) -> ServerConfig {
        let folder = self.folder.path();
        let of = |end: &str| format!("{address}.{end}");
        let extensions = format!(
            "subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n\
             subjectKeyIdentifier=hash\n"
        );
        fs::write(folder.join(of("ext")), extensions).expect("a file");
        openssl(
            folder,
            &[
                "req",
                "-nodes",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-subj",
                "/CN=host",
                "-keyout",
                &of("key"),
                "-out",
                &of("csr"),
            ],
        );
        openssl(
            folder,
            &[
                "x509",
                "-req",
                "-days",
                "2",
                "-in",
                &of("csr"),
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-extfile",
                &of("ext"),
                "-out",
                &of("pem"),
            ],
        );
        let chain = CertificateDer::pem_file_iter(folder.join(of("pem"))).expect("a certificate");
        let chain = chain.map(|it| it.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(folder.join(of("key"))).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a configuration")
    }
}

/// A host.
pub struct Host {
    /// Where it is: `https://127.0.0.2:PORT`.
    pub url: String,
    /// The same without how.
    pub name: String,
    heard: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    /// One at an address of loopback; over TLS, when a CA signs for it. `away` is where `/away` leads.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start(address: &str, ca: Option<&Ca>, away: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let tls = ca.map(|ca| TlsAcceptor::from(Arc::new(ca.config(address))));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (seen, away) = (heard.clone(), away.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen, away) = (tls.clone(), seen.clone(), away.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen, away).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen, away).await;
                            }
                        }
                    }
                });
            }
        });
        let name = format!("{address}:{port}");
        Self {
            url: format!("{scheme}://{name}"),
            name,
            heard,
            task,
        }
    }

    /// What it was asked, in order.
    #[must_use]
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().clone()
    }

    /// What it was asked last.
    ///
    /// # Panics
    /// When it was asked nothing.
    #[must_use]
    pub fn last(&self) -> Value {
        self.heard().pop().expect("it was asked something")
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    heard: Arc<Mutex<Vec<Value>>>,
    away: String,
) {
    let service = service_fn(|request| {
        let (heard, away) = (heard.clone(), away.clone());
        async move { Ok::<_, Infallible>(answer(request, &heard, &away).await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    let _ = server
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

/// A body in pieces.
fn pieces(all: Vec<Bytes>) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for piece in all {
            let _ = sender.send(Ok::<_, Infallible>(Frame::data(piece))).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    StreamBody::new(Pieces(receiver)).boxed_unsync()
}

/// A body that goes on until nobody reads it: a key, and then always the same.
fn endless(key: &str) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let first = format!("{key}\n");
    tokio::spawn(async move {
        let mut piece = Bytes::from(first);
        while sender
            .send(Ok::<_, Infallible>(Frame::data(piece)))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            piece = Bytes::from_static(b"more\n");
        }
    });
    StreamBody::new(Pieces(receiver)).boxed_unsync()
}

struct Pieces(tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, Infallible>>);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

async fn answer(
    mut request: Request<Incoming>,
    heard: &Mutex<Vec<Value>>,
    away: &str,
) -> Response<Body> {
    let upgrade = request
        .headers()
        .contains_key("upgrade")
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|it| it.to_bytes())
        .unwrap_or_default();
    let text = |it: &HeaderValue| String::from_utf8_lossy(it.as_bytes()).into_owned();
    let headers: serde_json::Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value).into()))
        .collect();
    let said = json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    heard.lock().push(said.clone());
    let key = head
        .headers
        .get("authorization")
        .map(text)
        .unwrap_or_default();
    let key = key.strip_prefix("Bearer ").unwrap_or(&key).to_owned();
    match head.uri.path() {
        "/away" => Response::builder()
            .status(302)
            .header("location", away)
            .header("set-cookie", format!("session={key}"))
            .body(Body::default())
            .expect("a response"),
        "/split" => {
            let (one, two) = key.split_at(key.len() / 2);
            let all = [
                format!("data: {one}"),
                format!("{two}\n\n"),
                "data: [DONE]\n\n".to_owned(),
            ];
            Response::new(pieces(all.into_iter().map(Bytes::from).collect()))
        }
        "/packed" => {
            let mut packed =
                Response::new(Full::new(Bytes::from_static(b"\x1f\x8b")).boxed_unsync());
            packed
                .headers_mut()
                .insert("content-encoding", HeaderValue::from_static("gzip"));
            packed
        }
        // All that it was asked before, with the keys that were shown.
        "/before" => {
            let all = Value::Array(heard.lock().clone());
            Response::new(Full::new(Bytes::from(all.to_string())).boxed_unsync())
        }
        "/spelled" => Response::new(pieces(spelled(&key))),
        "/endless" => Response::new(endless(&key)),
        "/socket" => socket(upgrade, key),
        _ => Response::new(Full::new(Bytes::from(said.to_string())).boxed_unsync()),
    }
}

/// A key of which each character is written in another way than the one before, in small pieces.
fn spelled(key: &str) -> Vec<Bytes> {
    let written = key.bytes().enumerate().map(|(at, byte)| match at % 6 {
        0 => format!("%{byte:02x}"),
        1 => format!("\\u{byte:04X}"),
        2 => format!("&#{byte};"),
        3 => char::from(byte).to_ascii_lowercase().to_string(),
        4 => format!("&#x{byte:02X};"),
        _ => char::from(byte).to_string(),
    });
    let whole = format!("<{}>", written.collect::<String>());
    let pieces = whole.as_bytes().chunks(7);
    pieces.map(Bytes::copy_from_slice).collect()
}

/// Another protocol, which says the key.
fn socket(upgrade: Option<hyper::upgrade::OnUpgrade>, key: String) -> Response<Body> {
    if let Some(upgrade) = upgrade {
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let mut io = TokioIo::new(upgraded);
            let mut said = [0; 5];
            let _ = io.read_exact(&mut said).await;
            let said = String::from_utf8_lossy(&said).into_owned();
            let _ = io.write_all(format!("{said} {key}!").as_bytes()).await;
            let _ = io.shutdown().await;
        });
    }
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Body::default())
        .expect("a response")
}
