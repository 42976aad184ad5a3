//! An issuer of tokens: a key of its own, and an HTTP server that tells its public half, or worse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server answers.
#[derive(Debug, Clone)]
pub enum Says {
    /// This, with the status line's code.
    This(u16, Vec<u8>),
    /// Look elsewhere.
    Elsewhere(String),
    /// A body that never ends.
    Endless,
    /// Nothing.
    Nothing,
    /// It hangs up.
    HangsUp,
}

/// An issuer. Its server ends with it.
pub struct Issuer {
    key: EcdsaKeyPair,
    address: std::net::SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const HEX: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// base64url without padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for at in 0..=chunk.len() {
            out.push(char::from(HEX[(group >> (18 - 6 * at)) as usize & 63]));
        }
    }
    out
}

impl Issuer {
    /// One that tells its key under this name.
    ///
    /// # Panics
    /// When the system has no port.
    pub async fn start(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(Mutex::new(Says::Nothing));
        let asked = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(serve(listener, says.clone(), asked.clone()));
        let issuer = Self {
            key,
            address,
            says,
            asked,
            serving,
        };
        issuer.say(Says::This(200, issuer.keys(kid)));
        issuer
    }

    /// Answers so from now on.
    pub fn say(&self, says: Says) {
        *self.says.lock() = says;
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Where its keys are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// What it calls itself.
    #[must_use]
    pub fn name(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its key as a JWK set, under a name.
    #[must_use]
    pub fn keys(&self, kid: &str) -> Vec<u8> {
        let point = &self.key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y),
            "kid": kid, "alg": "ES256", "use": "sig",
        });
        json!({ "keys": [key] }).to_string().into_bytes()
    }

    /// A token for Skep that counts for some minutes, with these claims instead of the usual ones.
    ///
    /// # Panics
    /// When the clock stands before 1970.
    #[must_use]
    pub fn token(&self, kid: &str, changes: &Value) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("a time").as_secs();
        let mut claims = json!({
            "iss": self.name(), "aud": "skep", "sub": "ada", "iat": now, "exp": now + 600,
        });
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": kid });
        let header = base64(header.to_string().as_bytes());
        let signed = format!("{header}.{}", base64(claims.to_string().as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a signature");
        format!("{signed}.{}", base64(signature.as_ref()))
    }
}

async fn serve(listener: TcpListener, says: Arc<Mutex<Says>>, asked: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let says = says.lock().clone();
        tokio::spawn(async move { answer(stream, says).await });
    }
}

async fn answer(mut stream: TcpStream, says: Says) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    match says {
        Says::This(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await
        }
        Says::Elsewhere(url) => {
            let head = format!("HTTP/1.1 302 x\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        }
        Says::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").await?;
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
        Says::Nothing => std::future::pending().await,
        Says::HangsUp => Ok(()),
    }
}
