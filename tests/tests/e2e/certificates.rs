//! Certificates that change while they serve, and those of clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use skep_tests::{Server, Setup, Wire, eventually};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HEALTH: &str = "GET /api/v1/health/basic HTTP/1.1\r\nhost: x\r\n";

fn openssl(folder: &Path, args: &[&str]) {
    let made = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success(), "{args:?}");
}

/// Somebody who signs certificates.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        openssl(
            folder.path(),
            &[
                "req",
                "-x509",
                "-nodes",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
                "-days",
                "2",
                "-subj",
                "/CN=ca",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
            ],
        );
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate for this name, which counts for so many days.
    fn sign(&self, name: &str, days: &str) {
        let (key, request, made) = (
            format!("{name}.key"),
            format!("{name}.csr"),
            format!("{name}.pem"),
        );
        let subject = format!("/CN={name}");
        openssl(
            self.folder.path(),
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &key,
                "-subj",
                &subject,
                "-out",
                &request,
            ],
        );
        let names = format!("subjectAltName=DNS:localhost,email:{name}@example.com\n");
        fs::write(self.path("names"), names).expect("a file");
        let serial = fastrand::u32(1..).to_string();
        openssl(
            self.folder.path(),
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-set_serial",
                &serial,
                "-days",
                days,
                "-extfile",
                "names",
                "-out",
                &made,
            ],
        );
    }

    fn der(&self, name: &str) -> CertificateDer<'static> {
        let path = self.path(&format!("{name}.pem"));
        CertificateDer::from_pem_file(path).expect("a certificate")
    }

    /// What somebody connects with who trusts this authority, and shows a certificate of `of`.
    fn connector(&self, shows: Option<(&Self, &str)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der("ca")).expect("a root");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some((of, name)) => {
                let key = PrivateKeyDer::from_pem_file(of.path(&format!("{name}.key")));
                let chain = vec![of.der(name)];
                let made = builder.with_client_auth_cert(chain, key.expect("a key"));
                made.expect("a certificate and its key")
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// What a server is started with that has the certificate `server` of this authority.
    fn env(&self, more: &[(&str, String)]) -> Setup {
        let path = |name: &str| self.path(name).display().to_string();
        let own = [
            ("SKEP_TLS_CERT", path("server.pem")),
            ("SKEP_TLS_KEY", path("server.key")),
        ];
        let all = own.iter().chain(more);
        Setup {
            env: all
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            ..Setup::default()
        }
    }
}

async fn connect(
    server: &Server,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, stream).await
}

/// The status of a request on a connection of its own; nothing when there was none.
async fn ask(server: &Server, connector: &TlsConnector, head: &str) -> Option<(u16, Value)> {
    let stream = connect(server, connector).await.ok()?;
    let mut wire = Wire::over(stream);
    wire.say(format!("{head}connection: close\r\n\r\n").as_bytes())
        .await;
    let answer = wire.answer().await?;
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    Some((answer.status, body))
}

/// Which certificate a new connection is shown.
async fn serves(server: &Server, connector: &TlsConnector) -> Option<CertificateDer<'static>> {
    let stream = connect(server, connector).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(chain.first()?.clone().into_owned())
}

/// What health says of TLS.
async fn health(server: &Server, connector: &TlsConnector) -> String {
    let key = &server.client.key;
    let head =
        format!("GET /api/v1/health/detailed HTTP/1.1\r\nhost: x\r\nskep-api-key: {key}\r\n");
    let (_, health) = ask(server, connector, &head).await.expect("an answer");
    let checks = health["checks"].as_array().expect("checks");
    let tls = checks.iter().find(|it| it["name"] == "tls");
    let tls = tls.expect("a check of TLS");
    format!("{} {}", tls["status"], tls["detail"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_and_no_request_fails() {
    let authority = Authority::new();
    authority.sign("server", "2");
    let server = Arc::new(Server::start_with(authority.env(&[])).await);
    let connector = authority.connector(None);
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut load = tokio::task::JoinSet::new();
    for keeps in [true, false, false, true] {
        let (server, connector) = (server.clone(), connector.clone());
        let (stop, asked) = (stop.clone(), asked.clone());
        load.spawn(async move {
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                let mut wire = match kept.take() {
                    Some(wire) => wire,
                    None => Wire::over(connect(&server, &connector).await.expect("a handshake")),
                };
                wire.say(format!("{HEALTH}\r\n").as_bytes()).await;
                let answer = wire.answer().await.expect("an answer");
                assert_eq!(answer.status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
                kept = keeps.then_some(wire);
            }
        });
    }
    for at in 0..5 {
        let before = serves(&server, &connector).await.expect("a certificate");
        assert_eq!(before, authority.der("server"));
        // First one file and then the other, as people and tools do it.
        authority.sign("server", "2");
        assert_ne!(before, authority.der("server"));
        // Every second time it finds out by itself.
        if at % 2 == 0 {
            server.hang_up();
        }
        eventually("the new certificate", async || {
            let now = serves(&server, &connector).await.expect("a certificate");
            (now == authority.der("server")).then_some(())
        })
        .await;
    }
    let before = asked.load(Ordering::Relaxed);
    eventually("requests after the last change", async || {
        (asked.load(Ordering::Relaxed) > before + 20).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    load.join_all().await;
    // The tools on this machine know the new one too.
    let document = fs::read_to_string(server.data().join("server.json")).expect("an address");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let told = document["certificate"].as_str().expect("a certificate");
    let told = CertificateDer::from_pem_slice(told.as_bytes()).expect("a certificate");
    assert_eq!(told, authority.der("server"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_changes_nothing_and_is_told() {
    let authority = Authority::new();
    // One that ends within a week is worth a word of its own.
    authority.sign("server", "30");
    authority.sign("old", "-1");
    authority.sign("other", "30");
    let server = Server::start_with(authority.env(&[])).await;
    let connector = authority.connector(None);
    let first = authority.der("server");
    let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
    let good = (
        fs::read(&certificate).expect("a file"),
        fs::read(&key).expect("a file"),
    );
    let of = |name: &str| fs::read(authority.path(name)).expect("a file");
    assert!(health(&server, &connector).await.starts_with("\"ok\""));
    for (what, new, said) in [
        (
            "half of it",
            (good.0[..good.0.len() / 2].to_vec(), good.1.clone()),
            "",
        ),
        (
            "an empty file",
            (Vec::new(), good.1.clone()),
            "there is no certificate in it",
        ),
        (
            "another's key",
            (good.0.clone(), of("other.key")),
            "it is not the key of the certificate",
        ),
        (
            "one that has ended",
            (of("old.pem"), of("old.key")),
            "it ended at",
        ),
    ] {
        fs::write(&certificate, new.0).expect("a file");
        fs::write(&key, new.1).expect("a file");
        server.hang_up();
        eventually(what, async || {
            let health = health(&server, &connector).await;
            (health.starts_with("\"degraded\"") && health.contains(said)).then_some(())
        })
        .await;
        assert_eq!(
            serves(&server, &connector).await.as_ref(),
            Some(&first),
            "{what}"
        );
        assert!(server.log().contains("new certificates cannot be used"));
        fs::write(&certificate, &good.0).expect("a file");
        fs::write(&key, &good.1).expect("a file");
        server.hang_up();
        eventually("health again", async || {
            let health = health(&server, &connector).await;
            health.starts_with("\"ok\"").then_some(())
        })
        .await;
    }
}

const AGENTS: &str = "GET /api/v1/agents HTTP/1.1\r\nhost: x\r\n";

fn table(name: &str, by: &str) -> String {
    format!(
        "[[certificate]]\nname = \"{name}\"\n{by}\nworkspace = \"default\"\nrole = \"viewer\"\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_client_says_who_it_is() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for name in ["server", "ci", "nobody"] {
        authority.sign(name, "2");
    }
    authority.sign("old", "-1");
    stranger.sign("ci", "2");
    let file = authority.path("certificates.toml");
    fs::write(&file, table("ci", "san = \"ci@example.com\"")).expect("a file");
    for auth in ["optional", "required"] {
        let server = Server::start_with(authority.env(&[
            (
                "SKEP_TLS_CLIENT_CA",
                authority.path("ca.pem").display().to_string(),
            ),
            ("SKEP_TLS_CLIENT_AUTH", auth.to_owned()),
            ("SKEP_AUTH_CERTIFICATES", file.display().to_string()),
        ]))
        .await;
        let status = async |shows: Option<(&Authority, &str)>, head: &str| {
            let connector = authority.connector(shows);
            ask(&server, &connector, head)
                .await
                .map(|(status, _)| status)
        };
        let ci = Some((&authority, "ci"));
        assert_eq!(status(ci, AGENTS).await, Some(200), "{auth}");
        // It may what its role may.
        let stop = "POST /api/v1/agents/a/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n";
        assert_eq!(status(ci, stop).await, Some(403), "{auth}");
        // One that nobody has mapped is nobody, and may still show a key.
        let key = format!("{AGENTS}authorization: Bearer {}\r\n", server.client.key);
        let nobody = Some((&authority, "nobody"));
        assert_eq!(status(nobody, AGENTS).await, Some(401), "{auth}");
        assert_eq!(status(nobody, &key).await, Some(200), "{auth}");
        // A wrong key is not mended by a certificate.
        let wrong = format!("{AGENTS}authorization: Bearer skep_wrong\r\n");
        assert_eq!(status(ci, &wrong).await, Some(401), "{auth}");
        // What another has signed, or is over, comes to nothing.
        assert_eq!(
            status(Some((&stranger, "ci")), AGENTS).await,
            None,
            "{auth}"
        );
        assert_eq!(
            status(Some((&authority, "old")), AGENTS).await,
            None,
            "{auth}"
        );
        // Without one it depends.
        let without = (auth == "optional").then_some(200);
        assert_eq!(status(None, &key).await, without, "{auth}");
        let log = server.log();
        assert!(!log.contains("PRIVATE KEY"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_that_is_taken_away_counts_no_more() {
    let authority = Authority::new();
    for name in ["server", "ci"] {
        authority.sign(name, "2");
    }
    let file = authority.path("certificates.toml");
    let both = table("other", "cn = \"other\"") + &table("ci", "cn = \"ci\"");
    fs::write(&file, both).expect("a file");
    let server = Server::start_with(authority.env(&[
        (
            "SKEP_TLS_CLIENT_CA",
            authority.path("ca.pem").display().to_string(),
        ),
        ("SKEP_TLS_CLIENT_AUTH", "optional".to_owned()),
        ("SKEP_AUTH_CERTIFICATES", file.display().to_string()),
    ]))
    .await;
    let connector = authority.connector(Some((&authority, "ci")));
    // On a connection that stays open.
    let mut wire = Wire::over(connect(&server, &connector).await.expect("a handshake"));
    let mut status = async || {
        wire.say(format!("{AGENTS}\r\n").as_bytes()).await;
        wire.answer().await.expect("an answer").status
    };
    assert_eq!(status().await, 200);
    // A table that cannot be read takes nothing away, and is told.
    fs::write(&file, "[[certificate]]\nnome = \"ci\"\n").expect("a file");
    server.hang_up();
    let plain = authority.connector(None);
    eventually("a word about the table", async || {
        let health = health(&server, &plain).await;
        health
            .contains("line 2: unknown field `nome`")
            .then_some(())
    })
    .await;
    assert_eq!(status().await, 200);
    fs::write(&file, table("other", "cn = \"other\"")).expect("a file");
    server.hang_up();
    eventually("the end of the mapping", async || {
        (status().await == 401).then_some(())
    })
    .await;
}

#[test]
fn client_certificates_without_who_signs_them_are_no_start() {
    let authority = Authority::new();
    authority.sign("server", "2");
    let folder = TempDir::new().expect("a folder");
    let refused = Command::new(skep_tests::server::skep_binary())
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .env_clear()
        .env("SKEP_TLS_CERT", authority.path("server.pem"))
        .env("SKEP_TLS_KEY", authority.path("server.key"))
        .env("SKEP_TLS_CLIENT_AUTH", "required")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("tls.client_ca"),
        "{said}"
    );
}

/// What the CLI says to who has this home.
fn cli(home: &Path, args: &[&str], env: &[(&str, String)]) -> (Option<i32>, String) {
    let output = Command::new(skep_tests::server::skep_binary())
        .args(args)
        .env_clear()
        .env("XDG_CONFIG_HOME", home)
        .env("HOME", home)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.code(), said)
}

/// The context `it`: this server, and a file with certificate and key of `ci`.
fn a_context(authority: &Authority, url: &str) {
    let folder = authority.path("skep");
    fs::create_dir_all(&folder).expect("a folder");
    let of = |name: &str| fs::read_to_string(authority.path(name)).expect("a file");
    fs::write(folder.join("both.pem"), of("ci.pem") + &of("ci.key")).expect("a file");
    let context =
        format!("[it]\nserver = \"{url}\"\nca_file = \"../ca.pem\"\nclient_cert = \"both.pem\"\n");
    fs::write(folder.join("contexts.toml"), context).expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_a_certificate() {
    let authority = Authority::new();
    for name in ["server", "ci"] {
        authority.sign(name, "2");
    }
    let path = |name: &str| authority.path(name).display().to_string();
    let file = authority.path("certificates.toml");
    fs::write(&file, table("ci", "cn = \"ci\"")).expect("a file");
    let server = Server::start_with(authority.env(&[
        ("SKEP_TLS_CLIENT_CA", path("ca.pem")),
        ("SKEP_TLS_CLIENT_AUTH", "required".to_owned()),
        ("SKEP_AUTH_CERTIFICATES", file.display().to_string()),
    ]))
    .await;
    let url = server.client.url.replace("127.0.0.1", "localhost");
    let home = authority.folder.path();
    a_context(&authority, &url);
    let said = |args: &[&str], env: &[(&str, String)]| cli(home, args, env);
    let (ca, certificate, key) = (path("ca.pem"), path("ci.pem"), path("ci.key"));
    let to = ["--server", &url, "--ca-file", &ca, "whoami"];
    let flags = [
        &to[..],
        &["--client-cert", &certificate, "--client-key", &key],
    ]
    .concat();
    let variables = [
        ("SKEP_CLIENT_CERT", certificate.clone()),
        ("SKEP_CLIENT_KEY", key.clone()),
    ];
    for (args, env) in [
        (&flags[..], &[][..]),
        (&to[..], &variables[..]),
        (&["--context", "it", "whoami"][..], &[][..]),
    ] {
        let (code, said) = said(args, env);
        assert!(
            code == Some(0) && said.contains("cert_ci"),
            "{args:?} {said}"
        );
    }
    // Without one nobody comes in; and what is half there is told.
    let (code, said_of) = said(&to, &[]);
    assert_ne!(code, Some(0), "{said_of}");
    let half = [&to[..], &["--client-key", &key]].concat();
    let (code, said_of) = said(&half, &[]);
    assert!(
        code == Some(2) && said_of.contains("--client-cert"),
        "{said_of}"
    );
    let other = authority.path("server.key").display().to_string();
    let pair = [
        &to[..],
        &["--client-cert", &certificate, "--client-key", &other],
    ]
    .concat();
    let (code, said_of) = said(&pair, &[]);
    assert!(
        code != Some(0) && said_of.contains("server.key"),
        "{said_of}"
    );
}
