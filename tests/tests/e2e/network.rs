//! An agent with a network of its own: what it reaches, what reaches it, and that both live through
//! what its server, its shim and itself may suffer. Attacks are also tried without a sandbox, where
//! they must succeed.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde_json::{Value, json};
use skep_tests::{Server, Setup, agent_binary, eventually, kill};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cli::skep;

fn spec(name: &str, sandbox: &str, connect: &[String]) -> Value {
    json!({
        "name": name, "command": [agent_binary()], "sandbox": sandbox, "connect": connect,
        "restart": { "backoff": "50ms", "crash_loop_after": 20 },
    })
}

/// Two agents, one of them with a network of its own and the other without a sandbox. Ports that
/// Landlock closes are no question here: they are opened.
async fn both(connect: &[String]) -> Server {
    let server = Server::start().await;
    server.deploy_spec(spec("boxed", "strict", connect)).await;
    server.deploy_spec(spec("free", "off", &[])).await;
    is_apart(&server).await;
    server
}

/// The agent's network is not this machine's.
async fn is_apart(server: &Server) {
    let own = network_of(&instance(server).await["pid"]);
    assert!(!own.is_empty() && own != network_of("self"), "{own}");
}

async fn attempt(server: &Server, agent: &str, what: &str) -> String {
    server
        .client
        .get(&format!("/agents/{agent}/try/{what}"))
        .await
        .text()
}

async fn only_without(server: &Server, what: &str) {
    let boxed = attempt(server, "boxed", what).await;
    assert!(boxed.starts_with("refused"), "{what}: {boxed}");
    let walls = boxed.contains("Permission denied");
    assert!(!walls, "{what}: another wall was first: {boxed}");
    let free = attempt(server, "free", what).await;
    assert!(free.starts_with("done"), "{what}, free: {free}");
}

async fn may(server: &Server, what: &str) {
    let got = attempt(server, "boxed", what).await;
    assert!(got.starts_with("done"), "{what}: {got}");
}

/// A service on this machine below the agents' ports.
fn low(address: impl Into<IpAddr>) -> Option<(TcpListener, u16)> {
    let address = address.into();
    // Each test its own: nextest runs them as processes at the same time.
    let first = 1_024 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    (first..20_000).find_map(|port| Some((TcpListener::bind((address, port)).ok()?, port)))
}

/// Whether this machine has a way to other ones.
fn is_connected() -> bool {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut routes = routes.lines().skip(1);
    routes.any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

async fn instance(server: &Server) -> Value {
    server.agent("boxed").await["instance"].clone()
}

fn shim_of(agent: &Value) -> u32 {
    let pid = &agent["pid"];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|pid| pid.trim().parse().ok()).expect("a pid")
}

fn network_of(pid: impl std::fmt::Display) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/net"));
    link.map(|link| link.display().to_string())
        .unwrap_or_default()
}

#[tokio::test]
async fn an_agent_reaches_nobody_but_skep() {
    let (_low, port) = low([127, 0, 0, 1]).expect("a port");
    let six = low(Ipv6Addr::LOCALHOST);
    let mut connect = vec!["1-65535".to_owned()];
    let server = both(&connect).await;
    server.deploy_spec(spec("victim", "off", &[])).await;
    only_without(&server, &format!("connect?port={port}")).await;
    if let Some((_, port)) = &six {
        only_without(&server, &format!("connect?host=::1&port={port}")).await;
    }
    let victim = server.agent("victim").await["instance"]["port"].clone();
    only_without(&server, &format!("connect?port={victim}")).await;
    let name = format!("skep-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _socket = UnixListener::bind_addr(&address).expect("a socket");
    let what = format!("abstract?name={name}");
    let boxed = attempt(&server, "boxed", &what).await;
    assert!(boxed.starts_with("refused"), "{boxed}");
    let free = attempt(&server, "free", &what).await;
    assert!(free.starts_with("done"), "{free}");
    // The metadata address of clouds: there is not even a way.
    let what = "connect?host=169.254.169.254&port=80";
    let boxed = attempt(&server, "boxed", what).await;
    assert!(boxed.contains("unreachable"), "{boxed}");
    if is_connected() {
        let free = attempt(&server, "free", what).await;
        assert!(!free.contains("unreachable"), "{free}");
    }
    // Another one with a network of its own is elsewhere, too, and so are its sockets.
    connect.push("localhost:9".to_owned());
    server.deploy_spec(spec("other", "strict", &connect)).await;
    let other = server.agent("other").await["instance"].clone();
    let got = attempt(&server, "boxed", &format!("connect?port={}", other["port"])).await;
    assert!(got.contains("refused Connection refused"), "{got}");
    let networks = [
        network_of("self"),
        network_of(&instance(&server).await["pid"]),
        network_of(&other["pid"]),
    ];
    assert!(
        networks[0] != networks[1] && networks[1] != networks[2] && networks[0] != networks[2],
        "{networks:?}"
    );
    may(&server, "skep").await;
}

#[tokio::test]
async fn calls_go_in_and_out() {
    let server = both(&[]).await;
    let got = attempt(&server, "boxed", "skep").await;
    assert_eq!(got, "done HTTP/1.1 200 OK");
    let answer = server.post("boxed", "/echo", "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = server.client.get("/agents/boxed/large?bytes=5000000").await;
    assert_eq!(answer.body.len(), 5_000_000);
    let answer = server.client.get("/agents/boxed/events?n=3&ms=1").await;
    assert_eq!(answer.text().matches("data: ").count(), 3);
    // Many at once: more than the shim hands out in one answer.
    let calls = (0..50).map(|number| {
        let (client, path) = (
            server.client.clone(),
            format!("/agents/boxed/echo?{number}"),
        );
        tokio::spawn(async move { client.get(&path).await.status })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("a call"), 200);
    }
    // What is no HTTP any more after its first lines.
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .expect("a connection");
    let head = format!(
        "GET /agents/boxed/upgrade HTTP/1.1\r\nhost: x\r\nskep-api-key: {}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        server.client.key
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut heard = String::new();
    while !heard.ends_with("\r\n\r\n") {
        heard.push(char::from(stream.read_u8().await.expect("an answer")));
    }
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    stream.write_all(b"ping").await.expect("written");
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.expect("an echo");
    assert_eq!(&echo, b"ping");
}

#[tokio::test]
async fn readiness_is_seen_in_it() {
    let server = Server::start().await;
    let mut boxed = spec("boxed", "strict", &[]);
    boxed["health"] = json!({ "path": "/ping", "live": "/ping" });
    server.deploy_spec(boxed).await;
    is_apart(&server).await;
    // By the open port alone.
    let listen = "import os,socket\ns=socket.create_server(('0.0.0.0',int(os.environ['PORT'])))\n\
                  while True: s.accept()[0].close()";
    let port = json!({
        "name": "port", "command": ["python3", "-c", listen], "sandbox": "strict",
    });
    server.deploy_spec(port).await;
    let probe = server.agent("port").await["instance"]["probe"]["detail"].clone();
    assert_eq!(probe, "its port is open");
}

/// Says back what it hears.
fn echoes(listener: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut heard = [0; 5];
                let _ = stream.read_exact(&mut heard);
                let _ = stream.write_all(&heard);
            });
        }
    });
}

#[tokio::test]
async fn what_connect_names_is_reached() {
    let (listener, port) = low([127, 0, 0, 1]).expect("a port");
    echoes(listener);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = other.local_addr().expect("a port").port();
    drop(other);
    let mut connect = vec![
        format!("localhost:{port}"),
        format!("127.0.0.1:{closed}"),
        "10.255.255.1:9".to_owned(),
    ];
    // The machine's own name, when it has one that leads to loopback.
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let addresses = (name.as_str(), port).to_socket_addrs();
    let known = addresses
        .ok()
        .and_then(|mut all| all.next())
        .is_some_and(|address| address.ip() == IpAddr::from([127, 0, 0, 1]));
    if known {
        connect.push(format!("{name}:{port}"));
    }
    let server = both(&connect).await;
    may(&server, &format!("connect?port={port}")).await;
    may(&server, &format!("exchange?port={port}")).await;
    // It is carried as soon as it is there: the agent's connection stands before.
    let got = attempt(&server, "boxed", &format!("exchange?port={closed}")).await;
    assert!(got.starts_with("refused"), "{got}");
    if known {
        may(&server, &format!("exchange?host={name}&port={port}")).await;
        let hosts = skep(&server, &["exec", "boxed", "--", "cat", "/etc/hosts"]);
        assert!(hosts.out.contains("127.99.0.1"), "{}", hosts.out);
    }
    let other = attempt(&server, "boxed", &format!("connect?port={}", port + 1)).await;
    assert!(other.starts_with("refused"), "{other}");
}

#[tokio::test]
async fn it_outlives_the_server() {
    let (listener, port) = low([127, 0, 0, 1]).expect("a port");
    echoes(listener);
    // At an address that lasts, as a server has it.
    let (free, own) = low([127, 0, 0, 1]).expect("a port");
    drop(free);
    let setup = Setup {
        listen: Some(format!("127.0.0.1:{own}")),
        ..Setup::default()
    };
    let mut server = Server::start_with(setup).await;
    let connect = [format!("localhost:{port}")];
    server.deploy_spec(spec("boxed", "strict", &connect)).await;
    is_apart(&server).await;
    let before = instance(&server).await;
    server.kill();
    server.restart_as_it_was().await;
    server.wait_state("boxed", "ready").await;
    let after = instance(&server).await;
    assert_eq!(before["pid"], after["pid"]);
    assert_eq!(before["protections"], after["protections"]);
    let answer = server.post("boxed", "/echo", "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    may(&server, "skep").await;
    may(&server, &format!("exchange?port={port}")).await;
    let said = skep(&server, &["exec", "boxed", "--", "echo", "in"]);
    assert_eq!(said.out, "in", "{}", said.err);
    // And what ends while no server looks is seen to have ended.
    server.kill();
    kill(shim_of(&after));
    server.restart_as_it_was().await;
    server.wait_state("boxed", "ready").await;
    assert_ne!(instance(&server).await["pid"], after["pid"]);
    may(&server, "skep").await;
}

/// Sockets that a server has open.
fn sockets(server: &Server) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("descriptors");
    let links = open
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

#[tokio::test]
async fn nothing_of_it_stays() {
    let server = Server::start().await;
    let connect = ["localhost:9".to_owned()];
    server.deploy_spec(spec("boxed", "strict", &connect)).await;
    let stopped = async || {
        let said = skep(&server, &["stop", "boxed"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        server.wait_state("boxed", "stopped").await;
    };
    stopped().await;
    let least = sockets(&server);
    for way in ["stop", "agent", "shim"] {
        let said = skep(&server, &["start", "boxed"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        server.wait_state("boxed", "ready").await;
        may(&server, "skep").await;
        let before = instance(&server).await;
        let (pid, shim) = (before["pid"].clone(), shim_of(&before));
        let network = network_of(&pid);
        assert!(sockets(&server) > least, "a network of its own has sockets");
        match way {
            "agent" => drop(server.kill_agent("boxed").await),
            "shim" => kill(shim),
            _ => {}
        }
        if way != "stop" {
            eventually("another instance", async || {
                let now = instance(&server).await;
                (now["pid"].is_u64() && now["pid"] != pid && now["state"] == "ready").then_some(())
            })
            .await;
            may(&server, "skep").await;
        }
        stopped().await;
        eventually("no process in its network", async || {
            let all = fs::read_dir("/proc").expect("processes").flatten();
            let mut pids = all.filter_map(|entry| entry.file_name().into_string().ok());
            (!pids.any(|pid| network_of(pid) == network)).then_some(())
        })
        .await;
        eventually("no socket of it in the server", async || {
            (sockets(&server) <= least).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_command_beside_it_is_in_it() {
    let server = both(&[]).await;
    let line = "readlink /proc/self/ns/net";
    let inside = skep(&server, &["exec", "boxed", "--", "sh", "-c", line]);
    assert_eq!(inside.out, network_of(&instance(&server).await["pid"]));
    let outside = skep(&server, &["exec", "free", "--", "sh", "-c", line]);
    assert_eq!(outside.out, network_of("self"));
}

#[tokio::test]
async fn other_agents_do_not_get_its_sockets() {
    let server = both(&[]).await;
    server.deploy_spec(spec("other", "standard", &[])).await;
    let folder = server.home("boxed").with_file_name("instances");
    let folder = fs::read_dir(&folder).expect("a folder").flatten().next();
    let folder = folder.expect("an instance").path();
    let (key, place) = (folder.join("network.key"), folder.join("network"));
    let read = format!("read?path={}", key.display());
    let got = attempt(&server, "other", &read).await;
    assert!(got.starts_with("refused"), "{got}");
    let got = attempt(&server, "free", &read).await;
    assert!(got.starts_with("done"), "{got}");
    // Whoever says something else there is not answered, and the shim goes on.
    let wrong = fs::read(&key)
        .expect("the key")
        .iter()
        .map(|_| 'f')
        .collect::<String>();
    let right = String::from_utf8(fs::read(&key).expect("the key")).expect("text");
    let ask = |key: &str| format!("sockets?path={}&key={key}", place.display());
    let got = attempt(&server, "other", &ask(&wrong)).await;
    assert!(got.starts_with("refused"), "{got}");
    let got = attempt(&server, "free", &ask(&right)).await;
    assert!(got.starts_with("done"), "{got}");
    assert_eq!(server.post("boxed", "/echo", "x").await.status, 200);
}

#[tokio::test]
async fn strict_says_why_it_cannot_be_had() {
    // A user namespace has limits of its own, so the machine's stay as they are.
    let none = "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"";
    let wrapper = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        none,
        "sh",
    ];
    let setup = Setup {
        wrapper: wrapper.map(str::to_owned).to_vec(),
        ..Setup::default()
    };
    let tried = std::process::Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine has no user namespaces");
        return;
    }
    let server = Server::start_with(setup).await;
    let strict = spec("boxed", "strict", &[]);
    let answer = server.client.post_json("/api/v1/agents", &strict).await;
    assert!(answer.status < 300, "{}", answer.text());
    let reason = eventually("why it does not start", async || {
        let agent = server.agent("boxed").await;
        let reason = agent["reason"].as_str()?.to_owned();
        reason.contains("strict").then_some(reason)
    })
    .await;
    for part in ["hosts", "user.max_net_namespaces is 0", "sandbox: standard"] {
        assert!(reason.contains(part), "{reason}");
    }
    server.deploy_spec(spec("usual", "standard", &[])).await;
    assert_eq!(server.post("usual", "/echo", "x").await.status, 200);
}
