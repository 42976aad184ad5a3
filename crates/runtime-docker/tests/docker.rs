//! The docker driver against the contract and against a real Docker Engine: what a container is
//! allowed, what it can reach, and what becomes of it when the engine or the driver goes away.
//! `cargo xtask set-up` installs and starts the engine; without one these tests fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use skep_api::{AgentSpec, Resources, VolumeSpec};
use skep_runtime::{
    Condition, Driver, DriverError, LogLine, Place, Running, RuntimeError, StartRequest,
    conformance,
};
use skep_runtime_docker::{DockerDriver, DockerOptions, PullLimits};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
const BUSYBOX: &str = "/bin/busybox";

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An image with busybox and what `extra` adds to the configuration; imported once.
fn image(name: &str, extra: &[&str]) -> String {
    let length = std::fs::metadata(BUSYBOX)
        .expect("cargo xtask set-up")
        .len();
    let reference = format!("skep-test-{name}:{length}");
    let known = Command::new("docker")
        .args(["image", "inspect", &reference])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    if known.success() {
        return reference;
    }
    let root = tempfile::tempdir().unwrap();
    for folder in ["bin", "etc", "tmp"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
    }
    std::fs::copy(BUSYBOX, root.path().join("bin/busybox")).unwrap();
    for applet in [
        "sh", "sleep", "nc", "id", "cat", "touch", "grep", "nslookup", "ls", "pwd",
    ] {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).unwrap();
    }
    let users = "root:x:0:0::/root:/bin/sh\nbee:x:1234:1235::/home/bee:/bin/sh\n";
    std::fs::write(root.path().join("etc/passwd"), users).unwrap();
    let tar = Command::new("tar")
        .args(["-C", root.path().to_str().unwrap(), "-c", "."])
        .output()
        .unwrap();
    let mut import = Command::new("docker");
    import.arg("import");
    for change in extra {
        import.args(["--change", change]);
    }
    let mut import = import
        .args(["-", &reference])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    assert!(import.wait().unwrap().success());
    reference
}

/// A data folder with its network; both are removed with it.
struct House {
    folder: TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn options(&self) -> DockerOptions {
        DockerOptions::new(self.folder.path())
    }

    fn driver(&self) -> DockerDriver {
        DockerDriver::new(self.options())
    }

    fn network(&self) -> String {
        let id = std::fs::read_to_string(self.folder.path().join("docker.id")).unwrap();
        format!("skep-{id}")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let Ok(id) = std::fs::read_to_string(self.folder.path().join("docker.id")) else {
            return;
        };
        let line = format!(
            "docker ps -aq --filter label=skep.data-folder={id} | xargs -r docker rm -fv
             docker network rm skep-{id}
             iptables -D INPUT -i skep-{id} -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP"
        );
        let mut clean = Command::new("sh");
        clean.args(["-c", &line]);
        let _ = clean.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn with_image(spec: &mut AgentSpec) {
    spec.image = Some(image("busybox", &[]));
    spec.pull = Some("never".to_owned());
}

/// A request for a line of `sh`, with a changed specification.
fn shell(
    driver: &DockerDriver,
    line: &str,
    change: impl Fn(&mut AgentSpec) + Sync,
) -> StartRequest {
    let complete = |spec: &mut AgentSpec| {
        with_image(spec);
        change(spec);
    };
    conformance::request(driver, &complete, &["sh", "-c", line])
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK);
    let wait = async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn lines(driver: &DockerDriver, place: &Place) -> Vec<LogLine> {
    let mut log = driver.logs(place, None).await.unwrap();
    std::iter::from_fn(|| log.next().unwrap()).collect()
}

/// Runs a line of `sh` to its end, and tells what it printed.
async fn printed(driver: &DockerDriver, request: &StartRequest) -> Vec<String> {
    let running = driver.start(request).await.unwrap();
    tokio::time::timeout(PATIENCE, running.wait())
        .await
        .unwrap();
    let lines = lines(driver, &request.place).await;
    lines.into_iter().map(|line| line.text).collect()
}

fn inspect(place: &Place) -> Value {
    let container = format!("skep-{}", place.instance);
    let mut all: Value = serde_json::from_str(&docker(&["inspect", &container])).unwrap();
    all[0].take()
}

async fn end(running: Arc<dyn Running>) {
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_driver_keeps_the_contract() {
    let house = House::new();
    let make = || Arc::new(house.driver()) as Arc<dyn Driver>;
    conformance::conformance(&make, &with_image).await;
    let id = house.network().replace("skep-", "label=skep.data-folder=");
    eventually("no container is left", async || {
        docker(&["ps", "-aq", "--filter", &id])
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_container_is_locked_in() {
    let house = House::new();
    let driver = house.driver();
    let request = shell(&driver, "sleep 1000", |spec| {
        spec.resources = Resources {
            memory: Some("64MiB".to_owned()),
            cpu: Some("500m".to_owned()),
            processes: Some(20),
            open_files: Some(100),
            ..Resources::default()
        };
    });
    let running = driver.start(&request).await.unwrap();
    let found = inspect(&request.place);
    let host = &found["HostConfig"];
    assert_eq!(found["NetworkSettings"]["Ports"], serde_json::json!({}));
    assert_eq!(
        host["PortBindings"]
            .as_object()
            .map_or(0, serde_json::Map::len),
        0
    );
    assert_eq!(host["PublishAllPorts"], false);
    assert_eq!(host["NetworkMode"], house.network());
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["CapAdd"], Value::Null);
    assert_eq!(
        host["SecurityOpt"],
        serde_json::json!(["no-new-privileges"])
    );
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["MemorySwap"], 64 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 21);
    assert_eq!(host["Init"], true);
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(found["Config"]["User"], "65532:65532");
    let labels = &found["Config"]["Labels"];
    assert_eq!(labels["skep.agent"], request.place.agent);
    assert_eq!(labels["skep.instance"], request.place.instance.to_string());
    assert_eq!(labels["skep.revision"], "1");
    end(running).await;
}

#[tokio::test]
async fn what_is_locked_in_cannot_get_out_from_inside() {
    let house = House::new();
    let driver = house.driver();
    let line = "id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; \
                touch /here 2>/dev/null || echo root is read-only; \
                touch /tmp/here && touch ~/here && pwd";
    let request = shell(&driver, line, |_| {});
    let said = printed(&driver, &request).await;
    let expected = [
        "65532",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "root is read-only",
        "/home/agent",
    ];
    assert_eq!(said, expected);
    let home = house.folder.path().join("agents/default/conformance/home");
    assert!(home.join("here").is_file(), "the home lasts");
    let off = shell(&driver, "touch /here 2>&1; id -u", |spec| {
        spec.sandbox = Some("off".to_owned());
    });
    let said = printed(&driver, &off).await;
    assert!(
        said[0].contains("denied"),
        "not root, so still not allowed: {said:?}"
    );
}

#[tokio::test]
async fn an_images_user_is_taken_unless_it_is_root() {
    let house = House::new();
    let driver = house.driver();
    for (name, user, expected) in [
        ("named", "USER bee", "1234"),
        ("numbered", "USER 77", "77"),
        ("root", "USER root", "65532"),
    ] {
        let image = image(name, &[user]);
        let request = shell(&driver, "id -u; touch ~/mine && echo wrote", |spec| {
            spec.image = Some(image.clone());
        });
        assert_eq!(
            printed(&driver, &request).await,
            [expected, "wrote"],
            "{user}"
        );
    }
}

/// What a container says of a connection to an address.
async fn reaches(driver: &DockerDriver, addresses: &[String]) -> Vec<String> {
    let words = addresses.join(" ");
    let line = format!(
        "for to in {words}; do \
         nc -w 2 ${{to%:*}} ${{to#*:}} </dev/null >/tmp/out 2>/dev/null; \
         grep -q hello /tmp/out && echo open || echo closed; done"
    );
    printed(driver, &shell(driver, &line, |_| {})).await
}

/// Says hello to whoever connects.
fn greeter(listener: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"hello\n");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_reaches_nobody() {
    let house = House::new();
    let driver = house.driver();
    let line = "while :; do nc -l -p 8080 -e echo hello; done";
    let other = driver.start(&shell(&driver, line, |_| {})).await.unwrap();
    // Skep reaches it, over the bridge.
    let address = other.address();
    eventually("an agent that answers", async || {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        let mut said = String::new();
        std::io::Read::read_to_string(&mut &stream, &mut said).ok()?;
        said.contains("hello").then_some(())
    })
    .await;
    // A service of this machine on every address, as many are.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    greeter(listener);
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = docker(&["network", "inspect", &house.network(), "-f", format]);
    let outside = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = outside
        .connect("192.0.2.1:9")
        .and_then(|()| outside.local_addr());
    let mut addresses = vec![
        address.to_string(),
        format!("{gateway}:{port}"),
        "169.254.169.254:80".to_owned(),
        "1.1.1.1:53".to_owned(),
    ];
    addresses.extend(
        own.ok()
            .map(|own| SocketAddr::new(own.ip(), port).to_string()),
    );
    let said = reaches(&driver, &addresses).await;
    assert_eq!(said, vec!["closed"; addresses.len()], "{addresses:?}");
    // The test's own way of looking works.
    let line = "nc -l -p 9 -e echo hello & sleep 0.2; nc -w 2 127.0.0.1 9 </dev/null";
    assert_eq!(
        printed(&driver, &shell(&driver, line, |_| {})).await,
        ["hello"]
    );
    end(other).await;
}

#[tokio::test]
async fn no_name_leaves_a_container() {
    let house = House::new();
    let driver = house.driver();
    // Neither where programs ask, nor at the engine's own name server.
    let line = "nslookup example.com 2>&1 | grep -c refused; \
                nslookup example.com 127.0.0.11 2>&1 | grep -c Name";
    let said = printed(&driver, &shell(&driver, line, |_| {})).await;
    assert_eq!(said, ["1", "0"]);
}

#[tokio::test]
async fn volumes_are_seen_and_read_only_ones_not_written() {
    let house = House::new();
    let driver = house.driver();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("note"), "from outside\n").unwrap();
    let source = outside.path().to_str().unwrap().to_owned();
    let volume = |source: &str, target: Option<&str>, read_only| VolumeSpec {
        source: source.to_owned(),
        target: target.map(str::to_owned),
        read_only,
    };
    let line = "cat /in/note; touch /in/x 2>/dev/null || echo read-only; \
                touch $SKEP_VOLUME_SHARED/x && echo wrote $SKEP_VOLUME_SHARED";
    let request = shell(&driver, line, |spec| {
        spec.volumes = vec![
            volume(&source, Some("/in"), true),
            volume("shared", None, false),
        ];
    });
    let workspace = &request.place.workspace;
    driver.check(workspace, &request.spec).await.unwrap();
    let said = printed(&driver, &request).await;
    assert_eq!(said, ["from outside", "read-only", "wrote /volumes/shared"]);
    assert!(
        house
            .folder
            .path()
            .join("volumes/default/shared/x")
            .is_file()
    );
}

#[tokio::test]
async fn files_that_are_held_are_the_agents_alone_and_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let driver = house.driver();
    let held = tempfile::tempdir().unwrap();
    let file = held.path().join("0-cert");
    std::fs::write(&file, "the value\n").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(held.path(), 0o700);
    mode(&file, 0o400);
    let seen = driver.held_at(held.path());
    let seen = seen.to_str().unwrap();
    let line = format!("id -u; cat {seen}/0-cert; touch {seen}/x 2>/dev/null || echo read-only");
    let mut request = shell(&driver, &line, |_| ());
    request.held = Some(held.path().to_owned());
    let said = printed(&driver, &request).await;
    assert_eq!(said[1..], ["the value", "read-only"], "{said:?}");
}

#[tokio::test]
async fn limits_hold() {
    let house = House::new();
    let driver = house.driver();
    let line = "x=$(cat /dev/zero | busybox tr '\\0' x | busybox head -c 60000000); echo never";
    let request = shell(&driver, line, |spec| {
        spec.resources.memory = Some("16MiB".to_owned());
    });
    let running = driver.start(&request).await.unwrap();
    let exit = tokio::time::timeout(PATIENCE, running.wait())
        .await
        .unwrap();
    let why = exit.last_words.unwrap_or_default();
    assert!(why.contains("resources.memory"), "{why}");
    let line = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done 2>&1; echo all";
    let request = shell(&driver, line, |spec| spec.resources.processes = Some(5));
    let said = printed(&driver, &request).await;
    assert!(said.iter().any(|line| line.contains("fork")), "{said:?}");
}

async fn refused(driver: &DockerDriver, request: &StartRequest) -> RuntimeError {
    let workspace = &request.place.workspace;
    driver.check(workspace, &request.spec).await.unwrap_err()
}

async fn prepare(driver: &DockerDriver, request: &StartRequest) -> Result<(), DriverError> {
    let workspace = &request.place.workspace;
    driver.prepare(workspace, &request.spec, &|_| {}).await
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_not_waited_for_without_end() {
    let house = House::new();
    let short = Duration::from_millis(300);
    let long = Duration::from_secs(600);
    // It takes connections, and that is all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = |spec: &mut AgentSpec| {
        spec.image = Some(format!("{}/silent:1", listener.local_addr().unwrap()));
        spec.pull = Some("always".to_owned());
    };
    for (pause, total, words) in [
        (short, long, "no progress for 300ms"),
        (long, short, "not done within 300ms"),
    ] {
        let options = DockerOptions {
            pulls: PullLimits { pause, total },
            ..house.options()
        };
        let driver = DockerDriver::new(options);
        let request = shell(&driver, "true", silent);
        match prepare(&driver, &request).await {
            Err(DriverError::Unavailable(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_run_is_told_with_the_next_step() {
    let house = House::new();
    let driver = house.driver();
    let request = conformance::request(&driver, &with_image, &["no-such-program"]);
    let error = refused(&driver, &request).await.to_string();
    assert!(error.contains("not found in the image"), "{error}");
    let never = |spec: &mut AgentSpec| spec.image = Some("skep-test-nowhere:1".to_owned());
    let request = shell(&driver, "true", never);
    let error = refused(&driver, &request).await.to_string();
    assert!(error.contains("docker pull skep-test-nowhere:1"), "{error}");
    match driver.start(&request).await {
        Err(DriverError::Refused(why)) => assert!(why.contains("docker load"), "{why}"),
        other => panic!("{:?}", other.map(|running| running.handle())),
    }
    // A registry at a port where nobody listens.
    let away = |spec: &mut AgentSpec| {
        spec.image = Some("127.0.0.1:9/nobody:1".to_owned());
        spec.pull = Some("missing".to_owned());
    };
    let request = shell(&driver, "true", away);
    match prepare(&driver, &request).await {
        Err(DriverError::Unavailable(why)) => assert!(why.contains("registry"), "{why}"),
        other => panic!("{other:?}"),
    }
    // What went away between preparation and start is tried again.
    let started = driver.start(&request).await;
    assert!(matches!(started.err(), Some(DriverError::Failed(_))));
    let error = refused(&driver, &request).await;
    assert!(matches!(
        error,
        RuntimeError::Driver(DriverError::Unavailable(_))
    ));
}

#[tokio::test]
async fn strict_is_refused_where_it_cannot_be_had() {
    let house = House::new();
    let strict = |spec: &mut AgentSpec| spec.sandbox = Some("strict".to_owned());
    let driver = house.driver();
    let request = shell(&driver, "echo locked in", strict);
    let gaps = match driver.condition().await {
        Condition::Well(_) => false,
        Condition::Impaired(_) => true,
        Condition::Unavailable(why) => panic!("{why}"),
    };
    let checked = driver.check(&request.place.workspace, &request.spec).await;
    assert_eq!(checked.is_err(), gaps);
    if !gaps {
        assert_eq!(printed(&driver, &request).await, ["locked in"]);
    }
}

#[tokio::test]
async fn without_an_engine_everything_else_goes_on() {
    let house = House::new();
    let mut options = house.options();
    options.socket = PathBuf::from("/nowhere/docker.sock");
    let driver = DockerDriver::new(options);
    let request = shell(&driver, "true", |_| {});
    let workspace = &request.place.workspace;
    assert!(matches!(
        driver.condition().await,
        Condition::Unavailable(_)
    ));
    match refused(&driver, &request).await {
        RuntimeError::Driver(DriverError::Unavailable(why)) => assert!(why.contains("install it")),
        other => panic!("{other}"),
    }
    let started = driver.start(&request).await;
    assert!(matches!(started.err(), Some(DriverError::Unavailable(_))));
    // What a process agent's removal and log ask of every driver.
    driver.kept(workspace, "other").await.unwrap();
    driver.discard_agent(workspace, "other").await.unwrap();
    driver.discard(&request.place).await.unwrap();
}

#[tokio::test]
async fn logs_go_on_where_they_were_left() {
    let house = House::new();
    let driver = house.driver();
    let line =
        "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; sleep 1000";
    let request = shell(&driver, line, |_| {});
    let mut running = driver.start(&request).await.unwrap();
    let all: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    let texts = async |driver: &DockerDriver| -> Vec<String> {
        let lines = lines(driver, &request.place).await;
        lines.into_iter().map(|line| line.text).collect()
    };
    // Server after server: each carries on what the one before left.
    for least in [5, 15, 25] {
        eventually("some lines", async || {
            (texts(&driver).await.len() > least).then_some(())
        })
        .await;
        let handle = running.handle();
        drop(running);
        let adopted = house.driver().adopt(&request.place, Some(&handle)).await;
        running = adopted.unwrap().unwrap();
    }
    eventually("all lines", async || {
        (texts(&driver).await.len() >= 40).then_some(())
    })
    .await;
    assert_eq!(texts(&driver).await, all, "each line once");
    end(running).await;
}

#[tokio::test]
async fn what_ended_without_a_server_is_told_and_removed() {
    let house = House::new();
    let driver = house.driver();
    let request = shell(&driver, "echo first; sleep 0.5; echo last; exit 3", |_| {});
    let running = driver.start(&request).await.unwrap();
    let handle = running.handle();
    drop(running);
    let container = format!("skep-{}", request.place.instance);
    docker(&["wait", &container]);
    let next = house.driver();
    let adopted = next.adopt(&request.place, Some(&handle)).await.unwrap();
    assert!(adopted.is_none());
    let lines = lines(&next, &request.place).await;
    let said: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said, ["first", "last"]);
    let name = format!("name={container}");
    assert_eq!(docker(&["ps", "-aq", "--filter", &name]), "");
}

#[tokio::test]
async fn a_container_that_was_made_and_not_started_never_runs() {
    let house = House::new();
    let driver = house.driver();
    // The server was killed between the two: what is left has our label and does not run.
    driver.condition().await;
    let id = house.network().replace("skep-", "skep.data-folder=");
    let request = shell(&driver, "sleep 1000", |_| {});
    let container = format!("skep-{}", request.place.instance);
    let image = image("busybox", &[]);
    docker(&[
        "create", "--name", &container, "--label", &id, &image, "sleep", "1000",
    ]);
    assert!(driver.adopt(&request.place, None).await.unwrap().is_none());
    let name = format!("name={container}");
    assert_eq!(docker(&["ps", "-aq", "--filter", &name]), "");
    // Another data folder's is not ours to touch.
    let label = "skep.data-folder=ffffffff";
    docker(&[
        "create", "--name", &container, "--label", label, &image, "sleep", "1000",
    ]);
    assert!(driver.adopt(&request.place, None).await.unwrap().is_none());
    assert_ne!(docker(&["ps", "-aq", "--filter", &name]), "");
    docker(&["rm", &container]);
}

#[tokio::test]
async fn a_rule_that_is_gone_is_set_again() {
    let house = House::new();
    let driver = house.driver();
    printed(&driver, &shell(&driver, "true", |_| {})).await;
    let network = house.network();
    let rule = |verb: &str| {
        let line = format!(
            "iptables -w 10 {verb} INPUT -i {network} -m conntrack ! --ctstate \
             ESTABLISHED,RELATED -j DROP"
        );
        let mut iptables = Command::new("sh");
        let iptables = iptables.args(["-c", &line]).stderr(Stdio::null());
        iptables.status().unwrap().success()
    };
    assert!(rule("-C") && rule("-D") && !rule("-C"));
    assert!(matches!(driver.condition().await, Condition::Well(_)));
    assert!(rule("-C"));
}

#[tokio::test]
async fn an_address_is_not_given_again_at_once() {
    let house = House::new();
    let driver = house.driver();
    let start = async || {
        let request = shell(&driver, "sleep 1000", |_| {});
        driver.start(&request).await.unwrap()
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        let running = start().await;
        let address = running.address();
        assert!(!seen.contains(&address), "{address} again: {seen:?}");
        seen.push(address);
        end(running).await;
    }
    // One that somebody else took is passed over.
    let taken = start().await;
    let next = u32::from_be_bytes(octets(taken.address())) + 1;
    let next = std::net::Ipv4Addr::from(next).to_string();
    let other = format!("{}-other", house.network());
    let busybox = image("busybox", &[]);
    let label = house.network().replace("skep-", "skep.data-folder=");
    docker(&[
        "run",
        "-d",
        "--name",
        &other,
        "--label",
        &label,
        "--network",
        &house.network(),
        "--ip",
        &next,
        &busybox,
        "sleep",
        "1000",
    ]);
    let passed = start().await;
    assert_ne!(passed.address().ip().to_string(), next);
    docker(&["rm", "-f", &other]);
    end(taken).await;
    end(passed).await;
}

fn octets(address: SocketAddr) -> [u8; 4] {
    match address.ip() {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(address) => panic!("{address}"),
    }
}
