//! Templates from elsewhere: packed, listed in a signed index, found, installed, rated and used; and what was
//! tampered with on the way is refused, and nothing is installed then.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skep_tests::server::skep_binary;
use skep_tests::terminal::Terminal;

use crate::lock::{Place, finished, text};

const MANIFEST: &str =
    "apiVersion: skep/v1\nkind: Agent\nname: {{name}}\ncommand: python3 agent.py\n";

/// A folder in which a publisher and a user live, each with a key.
struct Market(Place);

impl Market {
    /// With the keys `ada`, who publishes, and `eve`, `bob` and `cy`, and one template packed in `registry`.
    fn new() -> Self {
        let market = Self(Place::new());
        for folder in ["registry", "keys"] {
            fs::create_dir(market.path(folder)).expect("a folder");
        }
        for name in ["ada", "eve", "bob", "cy"] {
            let public = market.lock(&["keygen", "--key", &format!("keys/{name}.key")]);
            fs::write(market.path(&format!("keys/{name}.pub")), public.trim()).expect("a file");
        }
        market.template("greeter", "1.0.0", "greets people");
        market.pack("greeter", "1.0.0");
        market
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("keys/{name}.pub"))).expect("a key")
    }

    fn lock(&self, args: &[&str]) -> String {
        self.0.good(args, "")
    }

    fn run(&self, args: &[&str]) -> Output {
        let program = skep_binary();
        let program = program.to_str().expect("its path");
        finished(&mut self.0.command(program, args), "")
    }

    /// What `skep templates` says when it succeeds, on both outputs.
    fn good(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[&["templates"], args].concat());
        let (out, told) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {told}");
        (out, told)
    }

    /// What it says when it refuses.
    fn bad(&self, args: &[&str]) -> String {
        let output = self.run(&[&["templates"], args].concat());
        let told = text(&output.stderr);
        assert!(
            !output.status.success(),
            "{args:?}: {}",
            text(&output.stdout)
        );
        assert!(told.contains("hint: ") || told.contains("--help"), "{told}");
        assert!(
            !self
                .path(".local/share/skep/templates/greeter.tar.gz")
                .exists(),
            "{args:?}"
        );
        told
    }

    /// A template's folder.
    fn template(&self, name: &str, version: &str, about: &str) {
        let folder = self.path(name);
        fs::create_dir_all(&folder).expect("a folder");
        let form = format!(
            "format = 1\nname = \"{name}\"\nversion = \"{version}\"\ntitle = \"A {name}\"\n\
             about = \"{about}\"\ntags = [\"persona\"]\n\
             files = [\"README.md\", \"agent.yaml\", \"agent.py\", \"prompt.md\"]\n\
             [[variables]]\nname = \"shop\"\nabout = \"the shop\"\n\
             [[credentials]]\nname = \"API_KEY\"\nabout = \"the shop's key\"\n\
             [personality]\nprompt = {{ file = \"prompt.md\" }}\n[memory]\nsize = 3\n"
        );
        for (path, text) in [
            ("template.toml", form.as_str()),
            ("README.md", "# {{name}}\n"),
            ("agent.yaml", MANIFEST),
            ("agent.py", "print('{{shop}}')\n"),
            ("prompt.md", "You greet for {{shop}}."),
        ] {
            fs::write(folder.join(path), text).expect("a file");
        }
    }

    fn pack(&self, name: &str, version: &str) -> String {
        let to = format!("registry/{name}-{version}.tar.gz");
        let (said, _) = self.good(&["pack", name, "--to", &to, "-o", "json"]);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        said["sha256"].as_str().expect("a digest").to_owned()
    }

    fn index(&self, key: &str, more: &[&str]) -> (Value, String) {
        let key = format!("keys/{key}.key");
        let args = [&["index", "registry", "--key", &key, "-o", "json"], more].concat();
        let (said, told) = self.good(&args);
        (serde_json::from_str(&said).expect("JSON"), told)
    }

    fn settings(&self, text: &str) {
        fs::write(self.path("skep.toml"), text).expect("a file");
    }

    /// Serves the registry, until the process ends.
    fn serve(&self) -> Served {
        Served::of(self.path("registry"))
    }

    /// Changes what stands in a file of the registry.
    fn tamper(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.path("registry").join(name);
        let bytes = fs::read(&path).expect("a file");
        fs::write(&path, change(bytes)).expect("a file");
    }
}

/// A web server of a folder's files.
struct Served {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
    is_away: Arc<Mutex<bool>>,
}

impl Served {
    fn of(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (heard, is_away) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(false)),
        );
        let (all, away) = (heard.clone(), is_away.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let mut reader = BufReader::new(connection);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && reader.read_until(b'\n', &mut head).is_ok_and(|it| it > 0)
                {}
                // Who is away hangs up.
                if *away.lock().expect("no panic") {
                    continue;
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let found = fs::read(folder.join(path.trim_start_matches('/')));
                let (status, body) = match found {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                all.lock().expect("no panic").push(head.clone());
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = reader
                    .get_mut()
                    .write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self {
            url,
            heard,
            is_away,
        }
    }

    fn index(&self) -> String {
        format!("{}/index.json", self.url)
    }

    fn heard(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }
}

fn rows(said: &str) -> Vec<Value> {
    serde_json::from_str(said).expect("a list")
}

#[test]
fn a_template_is_published_found_and_installed() {
    let market = Market::new();
    let sha256 = market.pack_again();
    let (index, _) = market.index("ada", &[]);
    assert_eq!(index["templates"][0]["sha256"], json!(sha256));
    assert_eq!(index["publisher"], json!(market.public("ada")));
    let served = market.serve();
    market.settings(&format!(
        "[lock]\n[[lock.indexes]]\naddress = \"{}\"\npublisher = \"{}\"\n",
        served.index(),
        market.public("ada")
    ));
    // The machine's own are listed without asking anybody.
    market.good(&["list"]);
    assert_eq!(served.heard(), 0);
    let (found, told) = market.good(&["search", "GREETS", "persona", "-o", "json"]);
    let found = rows(&found);
    assert_eq!(
        (found.len(), &found[0]["name"]),
        (1, &json!("greeter")),
        "{found:?}"
    );
    assert_eq!(told, "");
    let (shown, _) = market.good(&["show", "greeter"]);
    assert!(
        shown.contains(&sha256) && shown.contains(&market.public("ada")),
        "{shown}"
    );
    let (said, _) = market.good(&["install", "greeter"]);
    assert!(
        said.contains("greeter 1.0.0 is installed from http://127.0.0.1"),
        "{said}"
    );
    assert!(
        said.contains(&format!("signed by {}", market.public("ada"))),
        "{said}"
    );
    // What is installed is shown without asking.
    *served.is_away.lock().expect("no panic") = true;
    let heard = served.heard();
    let (shown, _) = market.good(&["show", "greeter", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["publisher"], json!(market.public("ada")));
    assert_eq!(served.heard(), heard);
}

#[test]
fn what_is_installed_makes_projects_without_a_network() {
    let market = Market::new();
    market.index("ada", &[]);
    let served = market.serve();
    market.good(&["install", "greeter", "--index", &served.index()]);
    *served.is_away.lock().expect("no panic") = true;
    let heard = served.heard();
    let missing = market.run(&["init", "shop", "-t", "greeter"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        text(&missing.stderr).contains("--set shop=VALUE"),
        "{}",
        text(&missing.stderr)
    );
    assert!(!market.path("shop").exists());
    let made = market.run(&[
        "init",
        "shop",
        "-t",
        "greeter",
        "--set",
        "shop=Fern",
        "--lock",
        "--new-passphrase-file",
        "ada",
        "-o",
        "json",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let done: Value = serde_json::from_str(&text(&made.stdout)).expect("JSON");
    assert_eq!(done["missing"], json!(["API_KEY"]));
    assert!(text(&made.stderr).contains("skep lock set credentials/API_KEY"));
    assert_eq!(
        fs::read_to_string(market.path("shop/agent.py"))
            .ok()
            .as_deref(),
        Some("print('Fern')\n")
    );
    let valid = market.run(&["validate", "-f", "shop/agent.yaml"]);
    assert!(valid.status.success(), "{}", text(&valid.stderr));
    let key = ["--file", "shop/agent.lock", "--passphrase-file", "ada"];
    let get = |entry: &str| market.lock(&[&["get", entry], &key[..]].concat());
    assert_eq!(get("personality/prompt"), "You greet for Fern.");
    assert_eq!(get("memory/size").trim(), "3");
    assert_eq!(get("credentials").trim(), "{}");
    assert_eq!(served.heard(), heard);
    // A lock file by itself takes the same template, when it can be filled without more.
    market.lock(&[
        "init",
        "rev",
        "--file",
        "rev.lock",
        "--template",
        "code-reviewer",
        "--new-passphrase-file",
        "ada",
    ]);
    let prompt = market.lock(&[
        "get",
        "personality/prompt",
        "--file",
        "rev.lock",
        "--passphrase-file",
        "ada",
    ]);
    assert!(prompt.starts_with("You are a senior engineer"), "{prompt}");
    market.good(&["remove", "greeter"]);
    assert!(
        market
            .bad(&["remove", "greeter"])
            .contains("is not installed")
    );
}

#[test]
fn credentials_are_asked_for_without_showing_them() {
    let market = Market::new();
    let init = |folder: &str| {
        let program = skep_binary();
        let args = [
            "init",
            folder,
            "-t",
            "./greeter",
            "--set",
            "shop=Fern",
            "--lock",
            "--new-passphrase-file",
            "ada",
        ];
        let command = market.0.command(program.to_str().expect("its path"), &args);
        let mut terminal = Terminal::run(command, 120, 24);
        terminal.shows("API_KEY (the shop's key; Enter leaves it out)");
        terminal
    };
    let credentials = |folder: &str| {
        let file = format!("{folder}/agent.lock");
        market.lock(&[
            "get",
            "credentials",
            "--file",
            &file,
            "--passphrase-file",
            "ada",
        ])
    };
    let mut given = init("given");
    given.press("canary-77\r");
    let (code, said, _) = given.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        !said.contains("canary") && !said.contains("Missing"),
        "{said}"
    );
    let held: Value = serde_json::from_str(&credentials("given")).expect("JSON");
    assert_eq!(held, json!({ "API_KEY": "canary-77" }));
    let mut left = init("left");
    left.press("\r");
    let (code, said, _) = left.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Missing: API_KEY (the shop's key)"), "{said}");
    assert_eq!(credentials("left").trim(), "{}");
}

impl Market {
    /// Packs the greeter once more: the bytes are the same.
    fn pack_again(&self) -> String {
        let before = fs::read(self.path("registry/greeter-1.0.0.tar.gz")).expect("a file");
        fs::remove_file(self.path("registry/greeter-1.0.0.tar.gz")).expect("it goes");
        let sha256 = self.pack("greeter", "1.0.0");
        let after = fs::read(self.path("registry/greeter-1.0.0.tar.gz")).expect("a file");
        assert_eq!(before, after);
        let sum = self
            .0
            .run("sha256sum", &["registry/greeter-1.0.0.tar.gz"], "");
        assert!(text(&sum.stdout).starts_with(&sha256));
        // Any program that knows tar can read it.
        let listed = self
            .0
            .run("tar", &["tzf", "registry/greeter-1.0.0.tar.gz"], "");
        let listed = text(&listed.stdout);
        assert_eq!(listed.lines().next(), Some("template.toml"));
        assert_eq!(listed.lines().count(), 5);
        sha256
    }
}

#[test]
fn a_folder_a_file_and_a_url_are_installed_by_themselves() {
    let market = Market::new();
    let sha256 = market.pack_again();
    let (said, _) = market.good(&["install", "./greeter"]);
    assert!(
        said.contains(&format!("signed by nobody, SHA-256 {sha256}")),
        "{said}"
    );
    market.good(&["remove", "greeter"]);
    let served = market.serve();
    let url = format!("{}/greeter-1.0.0.tar.gz", served.url);
    let other = "0".repeat(64);
    for from in [url.as_str(), "registry/greeter-1.0.0.tar.gz", "./greeter"] {
        let told = market.bad(&["install", from, "--sha256", &other]);
        assert!(told.contains(&format!("its SHA-256 is {sha256}")), "{told}");
        market.good(&["install", from, "--sha256", &sha256]);
        market.good(&["remove", "greeter"]);
    }
    let told = market.bad(&["install", "http://example.com/x.tar.gz"]);
    assert!(told.contains("is not https"), "{told}");
    // What another program packed, with folders and `./` before each name.
    let tar = market
        .0
        .run("tar", &["czf", "other.tar.gz", "-C", "greeter", "."], "");
    assert!(tar.status.success());
    market.good(&["install", "other.tar.gz", "--to", "elsewhere"]);
    assert!(market.path("elsewhere/greeter.tar.gz").is_file());
    // The folder of the settings is the one that is looked into.
    market.settings("[lock]\ntemplates = \"elsewhere\"\n");
    let (listed, _) = market.good(&["list", "-o", "json"]);
    let listed = rows(&listed);
    let greeter = listed.iter().find(|it| it["name"] == "greeter");
    assert_eq!(greeter.map(|it| &it["from"]), Some(&json!("installed")));
}

/// Serves the registry over TLS, and sends those who ask for `/down` to another address.
const TLS: &str = "import functools, http.server, ssl, sys\n\
    class Handler(http.server.SimpleHTTPRequestHandler):\n\
    \x20   def do_GET(self):\n\
    \x20       if self.path != '/down': return super().do_GET()\n\
    \x20       self.send_response(302)\n\
    \x20       self.send_header('Location', sys.argv[1])\n\
    \x20       self.send_header('Content-Length', '0')\n\
    \x20       self.end_headers()\n\
    handler = functools.partial(Handler, directory='registry')\n\
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
    context.load_cert_chain('tls.pem', 'tls.key')\n\
    server.socket = context.wrap_socket(server.socket, server_side=True)\n\
    print(server.server_port, flush=True)\n\
    server.serve_forever()\n";

#[test]
fn over_tls_the_certificate_counts_and_nothing_leads_out_of_it() {
    let market = Market::new();
    let (index, _) = market.index("ada", &[]);
    let served = market.serve();
    let made = market.0.run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "tls.key",
            "-out",
            "tls.pem",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ],
        "",
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mut command = market.0.command("python3", &["-c", TLS, &served.index()]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut port = String::new();
    let mut said = BufReader::new(child.stdout.take().expect("its output"));
    said.read_line(&mut port).expect("a port");
    let url = format!("https://localhost:{}", port.trim());
    let (at, down) = (format!("{url}/index.json"), format!("{url}/down"));
    let stranger = market.bad(&["install", "greeter", "--index", &at]);
    let refused = market.bad(&["search", "--index", &down, "--ca-file", "tls.pem"]);
    let (said, _) = market.good(&["install", "greeter", "--index", &at, "--ca-file", "tls.pem"]);
    child.kill().expect("it ends");
    child.wait().expect("it ends");
    assert!(stranger.contains("certificate"), "{stranger}");
    assert!(refused.contains("is not https"), "{refused}");
    assert_eq!(served.heard(), 0);
    let name = index["templates"][0]["name"].as_str().expect("a name");
    assert!(
        said.contains(&format!("{name} 1.0.0 is installed from {url}")),
        "{said}"
    );
}

#[test]
fn what_is_not_what_was_signed_is_not_installed() {
    let market = Market::new();
    market.index("ada", &[]);
    let served = market.serve();
    let index = served.index();
    let install = ["install", "greeter", "--index", &index];
    let packed = "greeter-1.0.0.tar.gz";
    let whole = fs::read(market.path("registry").join(packed)).expect("a file");
    // Another archive under the same name.
    market.template("greeter", "1.0.0", "greets people, and more");
    fs::write(market.path("greeter/agent.py"), "import os\n").expect("a file");
    fs::remove_file(market.path("registry").join(packed)).expect("it goes");
    market.pack("greeter", "1.0.0");
    let told = market.bad(&install);
    assert!(told.contains("and the index says"), "{told}");
    // One byte of it, half of it, none of it, more of it than fits.
    for change in [
        |mut it: Vec<u8>| {
            it[40] ^= 1;
            it
        },
        |it: Vec<u8>| it[..it.len() / 2].to_vec(),
        |_| Vec::new(),
        |it: Vec<u8>| [it, vec![0; 9 << 20]].concat(),
    ] {
        fs::write(market.path("registry").join(packed), change(whole.clone())).expect("a file");
        market.bad(&install);
    }
    fs::remove_file(market.path("registry").join(packed)).expect("it goes");
    assert!(market.bad(&install).contains("404"));
    fs::write(market.path("registry").join(packed), &whole).expect("a file");
    // The index itself.
    let good = fs::read_to_string(market.path("registry/index.json")).expect("a file");
    for (from, to, expected) in [
        (
            "\"version\": \"1.0.0\"",
            "\"version\": \"1.0.1\"",
            "the signature is wrong",
        ),
        ("\"serial\": 1", "\"serial\": 2", "the signature is wrong"),
        (
            "greeter-1.0.0.tar.gz",
            "https://example.com/x",
            "the signature is wrong",
        ),
        (
            "greeter-1.0.0.tar.gz",
            "../greeter-1.0.0.tar.gz",
            "neither a path below",
        ),
        (
            "\"version\": 1,",
            "\"version\": 2,",
            "version 2 of its form",
        ),
        ("\n}", "", "EOF"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(
            market.path("registry/index.json"),
            good.replacen(from, to, 1),
        )
        .expect("a file");
        let told = text(&market.run(&[&["templates"], &install[..]].concat()).stderr);
        assert!(told.contains(expected), "{to}: {told}");
    }
    fs::write(market.path("registry/index.json"), &good).expect("a file");
    market.good(&install);
}

#[test]
fn an_index_of_another_or_an_older_one_is_refused() {
    let market = Market::new();
    market.index("ada", &[]);
    let served = market.serve();
    let index = served.index();
    let search = ["search", "greeter", "--index", &index];
    // Who is seen first is told, once.
    let (_, told) = market.good(&search);
    let first = format!(
        "is signed by {}, and is seen here for the first time",
        market.public("ada")
    );
    assert!(told.contains(&first), "{told}");
    assert_eq!(market.good(&search).1, "");
    let older = fs::read(market.path("registry/index.json")).expect("a file");
    let (newer, _) = market.index("ada", &[]);
    assert_eq!(market.good(&search).1, "");
    // An older state, put back.
    let newest = fs::read(market.path("registry/index.json")).expect("a file");
    market.tamper("index.json", |_| older.clone());
    let told = market.bad(&search);
    let seen = format!("one with {} was seen here", newer["serial"]);
    assert!(
        told.contains(&seen) && told.contains("--allow-older"),
        "{told}"
    );
    market.good(&[&search[..], &["--allow-older"]].concat());
    // That one was wanted once does not make it the newest.
    market.bad(&search);
    // Another key.
    fs::remove_file(market.path("registry/index.json")).expect("it goes");
    market.index("eve", &[]);
    let told = market.bad(&search);
    let who = format!(
        "{} signed it, not {}",
        market.public("eve"),
        market.public("ada")
    );
    assert!(told.contains(&who) && told.contains("publisher"), "{told}");
    market.bad(&[&search[..], &["--allow-older"]].concat());
    let args = |key: &str| {
        format!(
            "[lock]\n[[lock.indexes]]\naddress = \"{index}\"\npublisher = \"{}\"\n",
            market.public(key)
        )
    };
    market.settings(&args("ada"));
    market.bad(&["install", "greeter"]);
    // A publisher whom the settings name counts, whoever was first.
    market.settings(&args("eve"));
    market.good(&["install", "greeter"]);
    market.good(&["remove", "greeter"]);
    // And an index that is somebody else's is not made anew by mistake.
    let told = market.bad(&["index", "registry", "--key", "keys/ada.key"]);
    assert!(told.contains("another key signed it"), "{told}");
    market.tamper("index.json", |_| newest);
    market.settings(&args("ada"));
    market.good(&search);
}

#[test]
fn an_expired_index_is_refused_and_one_that_is_away_was_seen() {
    let market = Market::new();
    market.index("ada", &["--expires", "1ms"]);
    let index = market.path("registry/index.json").display().to_string();
    let told = market.bad(&["install", "greeter", "--index", &index]);
    assert!(told.contains("it has expired on"), "{told}");
    market.good(&["install", "greeter", "--index", &index, "--allow-older"]);
    market.good(&["remove", "greeter"]);
    market.index("ada", &[]);
    let served = market.serve();
    let index = served.index();
    let search = ["search", "greeter", "--index", &index, "-o", "json"];
    assert_eq!(rows(&market.good(&search).0).len(), 1);
    *served.is_away.lock().expect("no panic") = true;
    let (found, told) = market.good(&search);
    assert_eq!(rows(&found).len(), 1);
    assert!(told.contains("What was seen of it last is taken"), "{told}");
    // What it lists is not here, though.
    let told = market.bad(&["install", "greeter", "--index", &index]);
    assert!(
        told.contains("What is installed can be used without it"),
        "{told}"
    );
}

#[test]
fn versions_are_installed_forwards_and_backwards_when_it_is_said() {
    let market = Market::new();
    for version in ["1.10.0", "2.0.0-rc.1"] {
        market.template("greeter", version, "greets more");
        market.pack("greeter", version);
    }
    market.index("ada", &[]);
    let index = market.path("registry/index.json").display().to_string();
    let install = |named: &str| {
        market.run(&[
            "templates",
            "install",
            named,
            "--index",
            &index,
            "-o",
            "json",
        ])
    };
    let version = |output: &Output| {
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        said["version"].clone()
    };
    assert_eq!(version(&install("greeter@1.0.0")), "1.0.0");
    assert_eq!(version(&install("greeter")), "1.10.0");
    assert_eq!(version(&install("greeter@2.0.0-rc.1")), "2.0.0-rc.1");
    let told = text(&install("greeter").stderr);
    assert!(told.contains("greeter 2.0.0-rc.1 is installed"), "{told}");
    assert_eq!(version(&install("greeter@1.10.0")), "1.10.0");
    assert!(text(&install("greeter@9.9.9").stderr).contains("no index has"));
    assert!(text(&install("greeter@x").stderr).contains("is no version"));
    // A template that came in the binary is replaced by one that is installed, and comes back.
    market.template("http-python", "3.0.0", "greets otherwise");
    market.good(&["install", "./http-python"]);
    let from = || {
        let all = rows(&market.good(&["list", "-o", "json"]).0);
        let mut all = all.into_iter().filter(|it| it["name"] == "http-python");
        (all.next().map(|it| it["from"].clone()), all.count())
    };
    assert_eq!(from(), (Some(json!("installed")), 0));
    market.good(&["remove", "http-python"]);
    assert_eq!(from(), (Some(json!("built in")), 0));
}

#[test]
fn what_raters_say_is_theirs_and_counts_once() {
    let market = Market::new();
    market.good(&["install", "./greeter"]);
    let rate = |who: &str, stars: &str, note: &[&str]| {
        let key = format!("keys/{who}.key");
        market.good(&[&["rate", "greeter", stars, "--key", &key], note].concat());
    };
    rate("bob", "1", &[]);
    rate("bob", "5", &["--note", "better now"]);
    rate("cy", "4", &[]);
    let (own, _) = market.good(&["ratings", "-o", "json"]);
    let own = rows(&own);
    assert_eq!(
        (own.len(), &own[0]["stars"], &own[0]["note"]),
        (2, &json!(5), &json!("better now"))
    );
    market.good(&["ratings", "--to", "notes.jsonl"]);
    let told = text(
        &market
            .run(&["templates", "ratings", "--to", "notes.jsonl"])
            .stderr,
    );
    assert!(told.contains("notes.jsonl"), "{told}");
    let counted = |files: &[&str]| {
        let args: Vec<&str> = files.iter().flat_map(|it| ["--ratings", it]).collect();
        let (index, told) = market.index("ada", &args);
        (index["templates"][0]["ratings"].clone(), told)
    };
    assert_eq!(
        counted(&["notes.jsonl"]),
        (json!({ "count": 2, "stars": 9 }), String::new())
    );
    // The same votes again are no more votes.
    assert_eq!(
        counted(&["notes.jsonl", "notes.jsonl"]).0,
        json!({ "count": 2, "stars": 9 })
    );
    // Votes that were changed, or cut in half, are named by their line and do not count.
    let notes = fs::read_to_string(market.path("notes.jsonl")).expect("a file");
    let forged = notes.replacen("\"stars\":4", "\"stars\":5", 1) + "{\"version\":1,\n";
    fs::write(market.path("forged.jsonl"), forged).expect("a file");
    let (ratings, told) = counted(&["forged.jsonl"]);
    assert_eq!(ratings, json!({ "count": 1, "stars": 5 }));
    assert!(
        told.contains("Not counted: forged.jsonl:2: the signature is wrong"),
        "{told}"
    );
    assert!(told.contains("Not counted: forged.jsonl:3: "), "{told}");
    // What they said of other bytes of the same version does not count.
    fs::write(market.path("greeter/README.md"), "# other\n").expect("a file");
    fs::remove_file(market.path("registry/greeter-1.0.0.tar.gz")).expect("it goes");
    market.pack("greeter", "1.0.0");
    let (ratings, told) = counted(&["notes.jsonl"]);
    assert_eq!(ratings, Value::Null);
    assert!(
        told.contains("notes.jsonl:1: it is about other bytes"),
        "{told}"
    );
    // One's own notes are checked, too.
    let own = market.path(".local/share/skep/ratings.jsonl");
    fs::write(&own, notes.replacen("\"stars\":5", "\"stars\":1", 1)).expect("a file");
    let told = text(&market.run(&["templates", "ratings"]).stderr);
    assert!(
        told.contains("ratings.jsonl:1: the signature is wrong"),
        "{told}"
    );
}

#[test]
fn stars_are_seen_where_templates_are_looked_for() {
    let market = Market::new();
    market.good(&["install", "./greeter"]);
    market.good(&["rate", "greeter", "4", "--key", "keys/bob.key"]);
    market.good(&["ratings", "--to", "notes.jsonl"]);
    market.index("ada", &["--ratings", "notes.jsonl"]);
    let index = market.path("registry/index.json").display().to_string();
    // Installed, its stars are the index's; not installed, it is the index's as a whole.
    for _ in 0..2 {
        let (said, _) = market.good(&["search", "greeter", "--index", &index]);
        assert!(said.contains("4.0 (1)"), "{said}");
        let _ = market.run(&["templates", "remove", "greeter"]);
    }
    let (said, _) = market.good(&["show", "greeter", "--index", &index]);
    assert!(
        said.contains("4.0 (1)") && said.contains(&market.public("ada")),
        "{said}"
    );
}

#[test]
fn what_is_packed_is_checked_first() {
    let market = Market::new();
    market.template("bad", "1.0.0", "is broken");
    let pack = |expected: &str| {
        let output = market.run(&["templates", "pack", "bad", "--to", "bad.tar.gz"]);
        let told = text(&output.stderr);
        assert!(
            !output.status.success() && told.contains(expected),
            "{told}"
        );
        assert!(!market.path("bad.tar.gz").exists());
    };
    fs::write(market.path("bad/agent.yaml"), "name: {{name}}\nport: x\n").expect("a file");
    pack("agent.yaml");
    fs::write(market.path("bad/agent.yaml"), MANIFEST).expect("a file");
    fs::remove_file(market.path("bad/prompt.md")).expect("it goes");
    // A link could lead to what is nobody's to give away.
    std::os::unix::fs::symlink(market.path("keys/ada.key"), market.path("bad/prompt.md"))
        .expect("a link");
    pack("it is no file of the folder's own");
    fs::remove_file(market.path("bad/prompt.md")).expect("it goes");
    let token = ["ghp", "16C7e42F292c6912E7710c838347Ae178B4a"].join("_");
    fs::write(market.path("bad/prompt.md"), format!("key {token}\n")).expect("a file");
    // Only what is named is packed, whatever lies there.
    fs::write(market.path("bad/.env"), "SECRET=canary\n").expect("a file");
    let (_, told) = market.good(&["pack", "bad", "--to", "bad.tar.gz"]);
    assert!(
        told.contains("This looks like a secret: prompt.md:1: github-token"),
        "{told}"
    );
    assert!(!told.contains(&token), "{told}");
    let listed = market.0.run("tar", &["tzf", "bad.tar.gz"], "");
    assert!(!text(&listed.stdout).contains(".env"));
    let again = market.run(&["templates", "pack", "bad", "--to", "bad.tar.gz"]);
    assert!(!again.status.success());
}

#[test]
fn archives_that_lead_elsewhere_write_nothing() {
    let market = Market::new();
    let python = "import io, sys, tarfile\n\
        kind, out = sys.argv[1], sys.argv[2]\n\
        tar = tarfile.open(out, 'w:gz')\n\
        tar.add('greeter/template.toml', 'template.toml')\n\
        for name in ('README.md', 'agent.yaml', 'agent.py'):\n\
        \x20   tar.add('greeter/' + name, name)\n\
        def entry(name, type=tarfile.REGTYPE, link='', data=b'x'):\n\
        \x20   info = tarfile.TarInfo(name)\n\
        \x20   info.type, info.linkname, info.size = type, link, len(data)\n\
        \x20   tar.addfile(info, io.BytesIO(data))\n\
        if kind == 'up': entry('../escaped')\n\
        if kind == 'root': entry('/tmp/escaped')\n\
        if kind == 'long': entry('a/' * 120 + '../' * 130 + 'escaped')\n\
        if kind == 'link': entry('prompt.md', tarfile.SYMTYPE, '../keys/ada.key', b'')\n\
        if kind == 'hard': entry('prompt.md', tarfile.LNKTYPE, 'agent.py', b'')\n\
        if kind == 'through':\n\
        \x20   entry('d', tarfile.SYMTYPE, '..', b'')\n\
        \x20   entry('d/escaped')\n\
        if kind == 'device': entry('prompt.md', tarfile.CHRTYPE, '', b'')\n\
        if kind == 'more': entry('prompt.md'); entry('escaped')\n\
        if kind == 'bomb': entry('prompt.md', data=bytes(48 << 20))\n\
        if kind == 'many':\n\
        \x20   for n in range(5000): entry(f'd{n}', tarfile.DIRTYPE, '', b'')\n\
        if kind == 'git': entry('.git/hooks/post-checkout')\n\
        if kind == 'good': entry('prompt.md', data=b'fine')\n\
        tar.close()\n";
    fs::write(market.path("make.py"), python).expect("a file");
    let make = |kind: &str| {
        let made = market
            .0
            .run("python3", &["make.py", kind, "made.tar.gz"], "");
        assert!(made.status.success(), "{}", text(&made.stderr));
    };
    for kind in [
        "up", "root", "long", "link", "hard", "through", "device", "more", "bomb", "many", "git",
    ] {
        make(kind);
        for args in [
            &["templates", "install", "made.tar.gz"][..],
            &["init", "out", "-t", "./made.tar.gz", "--set", "shop=x"],
            &[
                "lock",
                "init",
                "x",
                "--file",
                "x.lock",
                "--template",
                "made.tar.gz",
                "--new-passphrase-file",
                "ada",
            ],
        ] {
            let output = market.run(args);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{kind}: {told}");
            assert!(told.contains("made.tar.gz: "), "{kind}: {told}");
        }
        for path in ["escaped", "out", "x.lock", ".local/share/skep/templates"] {
            assert!(!market.path(path).exists(), "{kind}: {path}");
        }
        assert!(!Path::new("/tmp/escaped").exists(), "{kind}");
    }
    make("good");
    market.good(&["install", "made.tar.gz"]);
}

#[test]
fn a_lock_file_of_another_publisher_is_refused_where_one_is_pinned() {
    let market = Market::new();
    market.lock(&["init", "demo", "--new-passphrase-file", "ada"]);
    market.settings(&format!(
        "[lock]\npublisher = \"{}\"\n",
        market.public("ada")
    ));
    let get = ["get", "personality", "--passphrase-file", "ada"];
    let bad = |args: &[&str]| {
        let output = market.run(&[&["lock"], args].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert_eq!(text(&output.stdout), "");
        told
    };
    // Nobody's signature is not the pinned one's.
    assert!(bad(&get).contains("signed"));
    market.lock(&["sign", "--key", "keys/eve.key"]);
    for args in [
        &get[..],
        &["validate", "--form"],
        &["export", "personality", "--passphrase-file", "ada"],
        &[
            "set",
            "personality/x",
            "--from-file",
            "ada",
            "--passphrase-file",
            "ada",
        ],
        &["rotate", "--passphrase-file", "ada"],
        &["verify"],
    ] {
        assert!(bad(args).contains(&market.public("eve")), "{args:?}");
    }
    market.lock(&["sign", "--key", "keys/ada.key"]);
    market.lock(&get);
    assert!(market.lock(&["verify"]).contains(&market.public("ada")));
    // A flag counts before the settings, and a variable takes them away.
    market.lock(&["sign", "--key", "keys/eve.key"]);
    let eve = market.public("eve");
    market.lock(&[&get[..], &["--publisher", &eve]].concat());
    let mut command = market.0.skep_command(&get);
    let any = finished(command.env("SKEP_LOCK_PUBLISHER", "any"), "");
    assert!(any.status.success(), "{}", text(&any.stderr));
    let mut command = market.0.skep_command(&get);
    let named = finished(command.env("SKEP_LOCK_PUBLISHER", &eve), "");
    assert!(named.status.success(), "{}", text(&named.stderr));
}
