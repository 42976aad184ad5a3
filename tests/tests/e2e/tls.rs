//! TLS: what is spoken over it, who is turned away, and files that cannot be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use skep_tests::server::skep_binary;
use skep_tests::{Server, Setup, Wire, agent_binary, eventually};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connections that the server of these tests takes.
const CONNECTIONS: usize = 8;

/// What a certificate of our own needs to be trusted by whoever has it.
const REQUEST: &str = "[req]\ndistinguished_name = name\nx509_extensions = own\nprompt = no\n\
    [name]\nCN = skep\n[own]\nsubjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n";

/// A certificate and its key, made for one test.
struct Files {
    folder: TempDir,
}

impl Files {
    fn make() -> Self {
        let folder = TempDir::new().expect("a folder");
        let request = folder.path().join("request.cnf");
        fs::write(&request, REQUEST).expect("a file");
        let files = Self { folder };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-config"])
            .arg(request)
            .arg("-keyout")
            .arg(files.key())
            .arg("-out")
            .arg(files.certificate())
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl runs").success());
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn env(&self) -> Vec<(String, String)> {
        let env = [
            ("SKEP_TLS_CERT", self.certificate().display().to_string()),
            ("SKEP_TLS_KEY", self.key().display().to_string()),
            ("SKEP_LIMITS_CONNECTIONS", CONNECTIONS.to_string()),
            ("SKEP_LIMITS_HEADER_TIMEOUT", "300ms".to_owned()),
        ];
        env.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    async fn server(&self) -> Server {
        Server::start_with(Setup {
            env: self.env(),
            ..Setup::default()
        })
        .await
    }

    /// Shakes hands, offering these protocols.
    async fn connect(
        &self,
        server: &Server,
        offers: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(self.certificate()).expect("a certificate");
        roots.add(certificate).expect("a root");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offers
            .iter()
            .map(|offer| offer.as_bytes().to_vec())
            .collect();
        let stream = TcpStream::connect(server.address()).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// A connection for HTTP/1.1.
    async fn wire(&self, server: &Server) -> Wire<TlsStream<TcpStream>> {
        Wire::over(
            self.connect(server, &["http/1.1"])
                .await
                .expect("a handshake"),
        )
    }

    /// Health on a connection of its own.
    async fn health(&self, server: &Server) -> Option<()> {
        let mut wire = Wire::over(self.connect(server, &[]).await.ok()?);
        wire.say(HEALTH).await;
        (wire.answer().await?.status == 200).then_some(())
    }
}

const HEALTH: &[u8] = b"GET /api/v1/health/basic HTTP/1.1\r\nhost: x\r\n\r\n";
const HSTS: &str = "strict-transport-security";

fn agreed(stream: &TlsStream<TcpStream>) -> Option<&[u8]> {
    stream.get_ref().1.alpn_protocol()
}

#[tokio::test]
async fn http_1_1_is_spoken() {
    let files = Files::make();
    let server = files.server().await;
    assert!(
        server.client.url.starts_with("https://"),
        "{}",
        server.client.url
    );
    for offers in [&["http/1.1"][..], &[]] {
        let stream = files.connect(&server, offers).await.expect("a handshake");
        assert_eq!(
            agreed(&stream),
            offers.first().map(|offer| offer.as_bytes())
        );
        let mut wire = Wire::over(stream);
        for _ in 0..2 {
            wire.say(HEALTH).await;
            let answer = wire.answer().await.expect("an answer");
            assert_eq!(answer.status, 200);
            assert!(
                answer.header(HSTS).starts_with("max-age=31536000"),
                "{}",
                answer.head
            );
        }
    }
}

#[tokio::test]
async fn http_2_is_spoken_by_who_offers_it() {
    let files = Files::make();
    let server = files.server().await;
    let offers = ["http/1.1", "h2"];
    let stream = files.connect(&server, &offers).await.expect("a handshake");
    assert_eq!(agreed(&stream), Some(&b"h2"[..]));
    let executor = TokioExecutor::new();
    let handshake = http2::handshake::<_, _, Empty<Bytes>>(executor, TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.expect("a handshake");
    tokio::spawn(connection);
    let uri = "https://localhost/api/v1/health/basic";
    let request = Request::get(uri).body(Empty::new()).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, http::Version::HTTP_2)
    );
    // Nobody promises anything for long about this machine's own name.
    assert!(!answer.headers().contains_key(HSTS));
    let body = answer.collect().await.expect("a body").to_bytes();
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
}

#[tokio::test]
async fn who_offers_nothing_that_is_spoken_is_told() {
    let files = Files::make();
    let server = files.server().await;
    let error = files
        .connect(&server, &["spdy/3"])
        .await
        .expect_err("no handshake");
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    files.health(&server).await.expect("others are answered");
}

#[tokio::test]
async fn without_tls_nothing_promises_it() {
    let server = Server::start().await;
    let answer = server.client.get("/api/v1/health/basic").await;
    let none = HeaderMap::new();
    assert_eq!(answer.headers.get(HSTS), none.get(HSTS));
}

#[tokio::test]
async fn the_agent_is_told_how_the_client_came() {
    let files = Files::make();
    let server = files.server().await;
    let mut wire = files.wire(&server).await;
    let key = &server.client.key;
    let spec = json!({ "name": "a", "command": [agent_binary()] }).to_string();
    let own = format!("host: x\r\nskep-api-key: {key}\r\ncontent-length");
    let deploy = format!(
        "POST /api/v1/agents HTTP/1.1\r\ncontent-type: application/json\r\n{own}: {}\r\n\r\n{spec}",
        spec.len()
    );
    wire.say(deploy.as_bytes()).await;
    assert_eq!(wire.answer().await.expect("an answer").status, 201);
    // It waits for the agent to be ready.
    let mut wire = files.wire(&server).await;
    wire.say(format!("POST /agents/a/x HTTP/1.1\r\n{own}: 5\r\n\r\nhello").as_bytes())
        .await;
    let answer = wire.answer().await.expect("an answer");
    let echo: Value = serde_json::from_str(&answer.body).expect("an echo");
    assert_eq!(echo["body"], "hello");
    let headers = echo["headers"].as_array().expect("headers");
    assert!(
        headers.contains(&json!(["x-forwarded-proto", "https"])),
        "{headers:?}"
    );
}

#[tokio::test]
async fn plain_http_is_turned_away() {
    let files = Files::make();
    let server = files.server().await;
    for text in [
        HEALTH,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
    ] {
        let mut wire = Wire::open(&server).await;
        wire.say(text).await;
        let said = wire.rest().await;
        // An alert of TLS, and the end.
        assert_eq!(said.first(), Some(&21), "{said:?}");
    }
    files.health(&server).await.expect("others are answered");
}

#[tokio::test]
async fn handshakes_that_stall_give_their_places_back() {
    let files = Files::make();
    let server = files.server().await;
    // Nothing, the head of a record, and a greeting that says it is longer than it is.
    for said in [
        &b""[..],
        b"\x16\x03\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut wire = Wire::open(&server).await;
            wire.say(said).await;
            silent.push(wire);
        }
        eventually(&format!("an answer beside {said:?}"), async || {
            files.health(&server).await
        })
        .await;
        // They are closed, all of them, and not only passed by.
        for mut wire in silent {
            wire.rest().await;
        }
    }
    // Who has shaken hands and says nothing is no better.
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(files.wire(&server).await);
    }
    eventually("an answer beside them", async || {
        files.health(&server).await
    })
    .await;
    for mut wire in silent {
        wire.rest().await;
    }
}

#[tokio::test]
async fn with_tls_other_machines_may_come() {
    let files = Files::make();
    let server = Server::start_with(Setup {
        env: files.env(),
        listen: Some("0.0.0.0:0".to_owned()),
        ..Setup::default()
    })
    .await;
    assert!(
        server.client.url.starts_with("https://0.0.0.0:"),
        "{}",
        server.client.url
    );
    files.health(&server).await.expect("it answers");
}

/// Starts a server that must not start: its exit code and what it said.
fn refused(folder: &Path, certificate: &Path, key: &Path) -> (Option<i32>, String) {
    let output = Command::new(skep_binary())
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.join("data"))
        .arg("--tls-cert")
        .arg(certificate)
        .arg("--tls-key")
        .arg(key)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (files, others) = (Files::make(), Files::make());
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let (certificate, key) = (files.certificate(), files.key());
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    let empty = file("empty.pem", "");
    let nonsense = file("nonsense.pem", "no certificate at all\n");
    let broken = file("broken.pem", &pem("CERTIFICATE"));
    let broken_key = file("broken-key.pem", &pem("PRIVATE KEY"));
    let absent = folder.path().join("absent.pem");
    for (what, certificate, key, named) in [
        ("no certificate", &absent, &key, &absent),
        ("no key", &certificate, &absent, &absent),
        ("an empty certificate", &empty, &key, &empty),
        ("an empty key", &certificate, &empty, &empty),
        ("no PEM", &nonsense, &key, &nonsense),
        ("no PEM as the key", &certificate, &nonsense, &nonsense),
        ("a key as the certificate", &key, &key, &key),
        (
            "a certificate as the key",
            &certificate,
            &certificate,
            &certificate,
        ),
        ("a broken certificate", &broken, &key, &broken),
        ("a broken key", &certificate, &broken_key, &broken_key),
        (
            "a folder",
            &certificate,
            &folder.path().to_owned(),
            &folder.path().to_owned(),
        ),
        ("another's key", &certificate, &others.key(), &others.key()),
    ] {
        let (code, said) = refused(folder.path(), certificate, key);
        assert_eq!(code, Some(1), "{what}: {said}");
        for word in [&named.display().to_string(), "error:", "hint:", "tls.key"] {
            assert!(said.contains(word), "{what}: no `{word}` in {said}");
        }
        assert!(
            !folder.path().join("data/skep.db").exists(),
            "{what}: data was touched"
        );
    }
}

/// `skep healthcheck` of a data folder, as in a container: no other word about the server.
fn healthcheck(server: &Server) -> std::process::Output {
    Command::new(skep_binary())
        .arg("healthcheck")
        .env_clear()
        .env("SKEP_DATA", server.data())
        .output()
        .expect("the binary runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_the_data_folder_knows_its_server_whatever_name_it_has() {
    // Neither is for 127.0.0.1, and no root signed them.
    let (files, others) = (Files::make(), Files::make());
    let (server, other) = (files.server().await, others.server().await);
    let checked = healthcheck(&server);
    let error = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{error}");

    // Somebody else at the address that is written down there is found out.
    let path = server.data().join("server.json");
    let text = fs::read_to_string(&path).expect("an address");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    document["url"] = json!(format!("https://{}", other.address()));
    fs::write(&path, document.to_string()).expect("an address");
    let checked = healthcheck(&server);
    let error = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        !checked.status.success() && error.contains("certificate"),
        "{error}"
    );
}
