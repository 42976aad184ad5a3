//! Providers of OpenID Connect, a real one and one that lies, and a browser without a screen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::issuer::Issuer;
use crate::{Answer, Client};

/// Hops of one way through pages.
const MOST_HOPS: usize = 20;

/// Where `cargo xtask set-up` puts the packages.
fn modules() -> PathBuf {
    let given = std::env::var_os("SKEP_TEST_PROVIDER").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let folder = given.unwrap_or_else(|| cache.unwrap_or_else(home).join("skep-tests/provider"));
    folder.join("node_modules")
}

/// A real provider: `oidc-provider` on Node.js. It ends with its owner.
pub struct Provider {
    _child: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    /// What it calls itself, and where it is.
    pub issuer: String,
}

impl Provider {
    /// One that listens, and knows no client yet.
    ///
    /// # Panics
    /// When it is not installed.
    pub async fn start() -> Self {
        let modules = modules();
        assert!(
            modules.join("oidc-provider").is_dir(),
            "there is no provider in {}: run `cargo xtask set-up`",
            modules.display()
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("provider/main.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        let stdin = child.stdin.take().expect("its input");
        let stdout = child.stdout.take().expect("its output");
        let mut said = BufReader::new(stdout).lines();
        let line = said.next_line().await.expect("a line").expect("a line");
        let first: Value = serde_json::from_str(&line).expect("JSON");
        Self {
            _child: child,
            stdin,
            said,
            issuer: format!("http://127.0.0.1:{}", first["port"]),
        }
    }

    /// Makes a client known that is sent back to this URL.
    ///
    /// # Panics
    /// When it does not take it.
    pub async fn know(&mut self, client: &str, secret: &str, redirect: &str) {
        let line = json!({ "clients": [{
            "client_id": client, "client_secret": secret, "redirect_uris": [redirect],
        }] });
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.expect("a line");
        let ready = self.said.next_line().await.expect("a line");
        assert_eq!(ready.as_deref(), Some("ready"));
    }
}

/// A browser: keeps cookies by host and port, and goes where it is sent.
pub struct Browser {
    client: Client,
    cookies: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
}

impl Default for Browser {
    fn default() -> Self {
        Self {
            client: Client::new("", ""),
            cookies: Mutex::default(),
        }
    }
}

fn origin(url: &str) -> String {
    let uri: Uri = url.parse().expect("a URL");
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

/// A part of a query.
#[must_use]
pub fn query(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decode(value))
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let two = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let two = std::str::from_utf8(&two).unwrap_or("00");
                out.push(u8::from_str_radix(two, 16).unwrap_or_default());
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What stands in a page between these.
fn between<'a>(page: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

impl Browser {
    /// What is kept for a URL's host under this name.
    #[must_use]
    pub fn cookie(&self, url: &str, name: &str) -> Option<String> {
        self.cookies.lock().get(&origin(url))?.get(name).cloned()
    }

    /// Puts a cookie there, as somebody who has a hand on the browser.
    pub fn plant(&self, url: &str, name: &str, value: &str) {
        let mut all = self.cookies.lock();
        let of = all.entry(origin(url)).or_default();
        of.insert(name.to_owned(), value.to_owned());
    }

    async fn send(&self, method: Method, url: &str, form: Option<String>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(url.split('#').next().unwrap_or_default())
            .header("accept", "text/html")
            .header("user-agent", "test browser");
        if form.is_some() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        let kept = self.cookies.lock().get(&origin(url)).cloned();
        let pairs = kept.unwrap_or_default();
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, it)| format!("{name}={it}"))
            .collect();
        if !pairs.is_empty() {
            request = request.header(COOKIE, pairs.join("; "));
        }
        let body = Full::new(form.unwrap_or_default().into()).boxed_unsync();
        let request = request.body(body).expect("a request");
        let answer = self.client.send(request).await.expect("an answer");
        let mut all = self.cookies.lock();
        let of = all.entry(origin(url)).or_default();
        for set in answer.headers.get_all(SET_COOKIE) {
            let text = set.to_str().expect("text");
            let pair = text.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').unwrap_or_default();
            match value.is_empty() || text.contains("Max-Age=0") {
                true => of.remove(name),
                false => of.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// Opens a page; goes nowhere from there.
    pub async fn open(&self, url: &str) -> Answer {
        self.send(Method::GET, url, None).await
    }

    /// Where a page sends to.
    ///
    /// # Panics
    /// When it sends nowhere.
    pub async fn sent(&self, url: &str) -> String {
        let answer = self.open(url).await;
        let to = answer.header(LOCATION.as_str());
        assert!(!to.is_empty(), "{url}: {} {}", answer.status, answer.text());
        absolute(url, to)
    }

    /// From a page of the provider's on, logs in as an account and says yes, until the browser is sent to a URL
    /// that begins with this one, which is not opened. Without an account it says no.
    ///
    /// # Panics
    /// When it does not come there.
    pub async fn through(&self, from: &str, account: Option<&str>, until: &str) -> String {
        let mut url = from.to_owned();
        for _ in 0..MOST_HOPS {
            if url.starts_with(until) {
                return url;
            }
            let mut answer = self.open(&url).await;
            if answer.header("location").is_empty() {
                let page = answer.text();
                let action = between(&page, "action=\"", "\"");
                let action = action.unwrap_or_else(|| panic!("{url}: {page}"));
                let action = absolute(&url, action);
                let prompt = between(&page, "name=\"prompt\" value=\"", "\"").expect("a prompt");
                answer = match account {
                    Some(account) => {
                        let account = account.replace('@', "%40").replace(':', "%3A");
                        let form = format!("prompt={prompt}&login={account}&password=x");
                        self.send(Method::POST, &action, Some(form)).await
                    }
                    None => self.open(&format!("{action}/abort")).await,
                };
                url = action;
            }
            let to = answer.header("location").to_owned();
            assert!(!to.is_empty(), "{url}: {} {}", answer.status, answer.text());
            url = absolute(&url, &to);
        }
        panic!("{url} is not where it ends");
    }
}

fn absolute(from: &str, to: &str) -> String {
    match to.starts_with('/') {
        true => format!("http://{}{to}", origin(from)),
        false => to.to_owned(),
    }
}

/// What a liar answers at one of its doors.
#[derive(Debug, Clone)]
pub enum Lies {
    /// This, with a status.
    This(u16, String),
    /// More than anybody reads.
    Endless,
    /// Nothing, ever.
    Silent,
}

type Doors = Arc<Mutex<BTreeMap<String, Lies>>>;

/// A provider that answers whatever it is told to. Its keys are those of an [`Issuer`].
pub struct Liar {
    doors: Doors,
    asked: Arc<Mutex<Vec<(String, String)>>>,
    serving: tokio::task::JoinHandle<()>,
    /// Who signs.
    pub keys: Issuer,
    /// What it calls itself.
    pub issuer: String,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Liar {
    /// One that says of itself what is right.
    ///
    /// # Panics
    /// When the system has no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let doors = Doors::default();
        let asked = Arc::default();
        let serving = tokio::spawn(serve(listener, doors.clone(), Arc::clone(&asked)));
        let liar = Self {
            doors,
            asked,
            serving,
            keys: Issuer::start("k1").await,
            issuer,
        };
        liar.say("/.well-known/openid-configuration", &liar.itself());
        liar
    }

    /// What an honest one says of itself.
    #[must_use]
    pub fn itself(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/auth"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/me"),
            "jwks_uri": self.keys.url(),
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// Answers so at a door.
    pub fn say(&self, path: &str, what: &Value) {
        self.lie(path, Lies::This(200, what.to_string()));
    }

    /// Answers anything at a door.
    pub fn lie(&self, path: &str, what: Lies) {
        self.doors.lock().insert(path.to_owned(), what);
    }

    /// What it was asked: paths and bodies.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().clone()
    }

    /// An ID token with this nonce, and with these claims instead of the usual ones.
    #[must_use]
    pub fn token(&self, nonce: &str, changes: &Value) -> String {
        let mut claims = json!({
            "iss": self.issuer, "aud": "skep", "sub": "ada", "nonce": nonce,
            "email": "ada@example.com", "email_verified": true,
        });
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        self.keys.token("k1", &claims)
    }
}

async fn serve(listener: TcpListener, doors: Doors, asked: Arc<Mutex<Vec<(String, String)>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (doors, asked) = (doors.clone(), Arc::clone(&asked));
        tokio::spawn(async move { answer(stream, &doors, &asked).await });
    }
}

async fn answer(
    mut stream: TcpStream,
    doors: &Doors,
    asked: &Mutex<Vec<(String, String)>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = between(&head, "content-length: ", "\r\n");
    let length = length.and_then(|it| it.parse().ok()).unwrap_or(0_usize);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = String::from_utf8_lossy(&body).into_owned();
    asked.lock().push((path.clone(), body));
    let said = doors.lock().get(&path).cloned();
    match said.unwrap_or(Lies::This(404, String::new())) {
        Lies::This(status, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(head.as_bytes()).await
        }
        Lies::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\n\r\n{\"a\":\"").await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
        Lies::Silent => std::future::pending().await,
    }
}
