//! The process driver against the contract, and the service with real processes. `examples/host.rs`
//! is both the shim and the agent.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_api::{AgentSpec, InstanceState, Replicas, RolloutState, RolloutStep, Scaling};
use skep_core::{Code, PublicError, Workspace, Workspaces};
use skep_runtime::{
    AgentInfo, Availability, Driver, InstanceInfo, LogLine, LogQuery, LogStream, Options,
    ProcessDriver, ProcessOptions, RolloutOrder, Rotation, Runtime, RuntimeError, Split, Target,
    conformance, survey,
};
use skep_store::{By, Db};
use tempfile::TempDir;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Cargo builds examples beside the tests' folder.
fn host() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/host")
}

fn driver(folder: &TempDir) -> ProcessDriver {
    ProcessDriver::new(ProcessOptions::new(folder.path().join("agents"), host()))
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK);
    let wait = async {
        loop {
            looks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_| panic!("never: {what}"))
}

fn spec(name: &str, command: &[&str]) -> AgentSpec {
    let document = serde_json::json!({ "name": name, "command": command });
    serde_json::from_value(document).unwrap()
}

fn server(name: &str) -> AgentSpec {
    spec(name, &[host().to_str().unwrap(), "serve"])
}

/// A runtime over a folder; several may follow one another over the same one.
struct House {
    folder: TempDir,
    ws: Workspace,
}

impl House {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            ws: Workspace::default(),
        }
    }

    async fn open(&self) -> Runtime {
        let path = self.folder.path().to_owned();
        let mut looks = tokio::time::interval(LOOK);
        let db = loop {
            looks.tick().await;
            // The folder of a server that was killed is free when its threads have ended.
            let options = skep_store::Options::new(path.clone());
            match Db::open(
                options,
                &[Runtime::MIGRATIONS, skep_runtime::EVENT_MIGRATIONS],
            ) {
                Ok(db) => break db,
                Err(skep_store::StoreError::InUse { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        let drivers: Vec<Arc<dyn Driver>> = vec![Arc::new(driver(&self.folder))];
        let options = Options {
            url: Some("http://127.0.0.1:7537".to_owned()),
            ..Options::default()
        };
        let workspaces = Workspaces::from([self.ws.clone()]);
        Runtime::open(db, options, drivers, &workspaces)
            .await
            .unwrap()
    }

    async fn until(
        &self,
        runtime: &Runtime,
        name: &str,
        wanted: impl Fn(&AgentInfo) -> bool,
    ) -> AgentInfo {
        let look = || runtime.get(&self.ws, name).filter(|info| wanted(info));
        let mut last = String::new();
        let found = tokio::time::timeout(PATIENCE, async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                if let Some(info) = look() {
                    return info;
                }
                last = format!("{:?}", runtime.get(&self.ws, name));
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("the agent is {last}"))
    }

    async fn ready(&self, runtime: &Runtime, name: &str) -> AgentInfo {
        self.until(runtime, name, |info| info.state == InstanceState::Ready)
            .await
    }
}

async fn ask(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn id(info: &AgentInfo) -> Option<skep_core::InstanceId> {
    info.instance().map(|instance| instance.id)
}

fn port(info: &AgentInfo) -> u16 {
    info.instance().cloned().unwrap().address.port()
}

/// The revisions that take calls, one for each endpoint.
fn revisions(target: &Target) -> Vec<u32> {
    match target.available() {
        Availability::Ready { endpoints, .. } => endpoints.iter().map(|one| one.revision).collect(),
        _ => Vec::new(),
    }
}

fn pid(info: &AgentInfo) -> u32 {
    info.instance().cloned().unwrap().pid.unwrap()
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn all(mut lines: mpsc::Receiver<LogLine>) -> Vec<LogLine> {
    let mut found = Vec::new();
    while let Some(line) = lines.recv().await {
        found.push(line);
    }
    found
}

#[tokio::test]
async fn the_process_driver_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    conformance::conformance(&|| Arc::new(driver(&folder)), &|_| {}).await;
}

#[tokio::test]
async fn the_driver_keeps_the_contract_in_a_strict_sandbox() {
    let missing = survey().into_iter().find(|one| !one.in_force);
    // Control groups are not among what strict needs when nothing is limited.
    if let Some(one) = missing.filter(|one| !["memory", "cpu"].contains(&one.name.as_str())) {
        eprintln!(
            "skipped: this machine has no strict sandbox: {}",
            one.detail
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let strict = |spec: &mut AgentSpec| spec.sandbox = Some("strict".to_owned());
    conformance::conformance(&|| Arc::new(driver(&folder)), &strict).await;
}

#[tokio::test]
async fn nothing_survives_a_shim_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(&folder);
    let line = "sleep 1000 & echo $!; wait";
    let request = conformance::request(&driver, &|_| {}, &["sh", "-c", line]);
    let running = driver.start(&request).await.unwrap();
    let mut log = driver.logs(&request.place, None).await.unwrap();
    let child = eventually("a child", || log.next().unwrap()).await;
    let child: u32 = child.text.parse().unwrap();
    let handle: serde_json::Value = serde_json::from_str(&running.handle()).unwrap();
    kill(u32::try_from(handle["shim"].as_u64().unwrap()).unwrap());
    let exit = running.wait().await;
    assert_eq!((exit.code, exit.signal), (None, None));
    eventually("the end", || {
        (!alive(child) && !alive(running.pid().unwrap())).then_some(())
    })
    .await;
    assert!(driver.adopt(&request.place, None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_shim_that_hangs_does_not_keep_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(&folder);
    let request = conformance::request(&driver, &|_| {}, &["sleep", "1000"]);
    let running = driver.start(&request).await.unwrap();
    // Without the FIFO the shim cannot be told anything.
    let inside = folder.path().join("agents/default/conformance/instances");
    std::fs::remove_file(
        inside
            .join(request.place.instance.to_string())
            .join("control"),
    )
    .unwrap();
    running.stop(Duration::from_secs(10)).await.unwrap();
    let pid = running.pid().unwrap();
    eventually("the end", || (!alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn limits_hold_and_the_environment_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(&folder);
    let line = "ulimit -n; ulimit -c; env | cut -d= -f1 | sort | tr '\\n' ' '";
    let mut request = conformance::request(&driver, &|_| {}, &["sh", "-c", line]);
    let mut spec = (*request.spec).clone();
    spec.limits.open_files = Some(77);
    request.spec = Arc::new(spec);
    let running = driver.start(&request).await.unwrap();
    running.wait().await;
    let mut log = driver.logs(&request.place, None).await.unwrap();
    let lines: Vec<String> = std::iter::from_fn(|| log.next().unwrap())
        .map(|line| line.text)
        .collect();
    assert_eq!(lines[..2], ["77", "0"]);
    assert!(!lines[2].contains("CARGO"), "{}", lines[2]);
    assert!(
        lines[2].contains("HOME") && lines[2].contains("PATH"),
        "{}",
        lines[2]
    );
}

#[tokio::test]
async fn long_lines_and_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = ProcessOptions::new(folder.path().join("agents"), host());
    options.rotation = Rotation {
        file_bytes: 40_000,
        files: 3,
    };
    let driver = ProcessDriver::new(options);
    let line = "head -c 40000 /dev/zero | tr '\\0' x; echo; \
                i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let request = conformance::request(&driver, &|_| {}, &["sh", "-c", line]);
    let running = driver.start(&request).await.unwrap();
    let mut log = driver.logs(&request.place, None).await.unwrap();
    running.wait().await;
    let kept: Vec<LogLine> = std::iter::from_fn(|| log.next().unwrap()).collect();
    assert_eq!(kept.last().unwrap().text, "line 2999");
    assert!(kept.iter().all(|line| line.text.len() <= 16 << 10));
    let numbered: Vec<usize> = kept
        .iter()
        .filter_map(|line| line.text.strip_prefix("line ")?.parse().ok())
        .collect();
    assert!(numbered.len() > 100 && numbered.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[tokio::test]
async fn deploys_serves_and_removes() {
    let house = House::new();
    let runtime = house.open().await;
    let first = runtime
        .deploy(&By::nobody(), &house.ws, server("web"))
        .await
        .unwrap();
    assert!(first.created && first.changed);
    let info = house.ready(&runtime, "web").await;
    let env = ask(port(&info), "/env").await;
    for line in [
        "SKEP_AGENT=web",
        "SKEP_URL=http://127.0.0.1:7537",
        "/agents/default/web/home",
    ] {
        assert!(env.contains(line), "{env}");
    }
    let again = runtime
        .deploy(&By::nobody(), &house.ws, server("web"))
        .await
        .unwrap();
    assert!(!again.created && !again.changed);
    assert_eq!(id(&again.agent), id(&info));
    let used = runtime.usage(&house.ws, &["web".to_owned()]).await;
    let used = used[0].instances[0].usage.unwrap();
    assert!(used.processes == 1 && used.memory_bytes > 0 && used.network.is_none());

    let target = runtime.target(&house.ws, "web").unwrap();
    assert_eq!(revisions(&target), [1]);
    runtime.stop(&By::nobody(), &house.ws, "web").await.unwrap();
    assert_eq!(target.available(), Availability::Stopped);
    house
        .until(&runtime, "web", |info| info.state == InstanceState::Stopped)
        .await;
    assert!(!alive(pid(&info)));
    runtime
        .start(&By::nobody(), &house.ws, "web")
        .await
        .unwrap();
    let info = house.ready(&runtime, "web").await;

    runtime
        .remove(&By::nobody(), &house.ws, "web")
        .await
        .unwrap();
    assert_eq!(target.available(), Availability::Removed);
    assert!(!alive(pid(&info)));
    assert!(!house.folder.path().join("agents/default/web").exists());
    assert!(runtime.get(&house.ws, "web").is_none());
}

#[tokio::test]
async fn an_agent_that_is_killed_comes_back() {
    let house = House::new();
    let runtime = house.open().await;
    runtime
        .deploy(&By::nobody(), &house.ws, server("web"))
        .await
        .unwrap();
    let before = house.ready(&runtime, "web").await;
    kill(pid(&before));
    let after = house
        .until(&runtime, "web", |info| {
            info.state == InstanceState::Ready && id(info) != id(&before)
        })
        .await;
    assert_eq!((after.restarts, after.revision), (1, 1));
    runtime
        .restart(&By::nobody(), &house.ws, "web")
        .await
        .unwrap();
    house
        .until(&runtime, "web", |info| {
            info.state == InstanceState::Ready && id(info) != id(&after)
        })
        .await;
    let lines = all(runtime.logs(&house.ws, "web", LogQuery::default()).unwrap()).await;
    assert!(lines.iter().all(|line| line.stream == LogStream::Skep));
    let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert!(
        text.iter()
            .any(|text| text.starts_with("was killed (signal 9)")),
        "{text:?}"
    );
    assert_eq!(
        text.iter()
            .filter(|text| text.starts_with("started pid"))
            .count(),
        3,
        "{text:?}"
    );
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_new_revision_takes_over_when_it_is_ready() {
    let house = House::new();
    let runtime = house.open().await;
    runtime
        .deploy(&By::nobody(), &house.ws, server("web"))
        .await
        .unwrap();
    let first = house.ready(&runtime, "web").await;
    let target = runtime.target(&house.ws, "web").unwrap();

    let mut broken = spec("web", &["sh", "-c", "echo broken >&2; exit 4"]);
    broken.restart.backoff = Some("1ms".to_owned());
    runtime
        .deploy(&By::nobody(), &house.ws, broken)
        .await
        .unwrap();
    let info = house
        .until(&runtime, "web", |info| {
            info.rollout.state == RolloutState::RolledBack
        })
        .await;
    let reason = info.rollout.reason.clone().unwrap();
    for part in ["revision 2", "status 4", "broken"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(info.revision, 1);
    assert_eq!(id(&info), id(&first));
    assert_eq!(*info.spec, server("web"));
    assert_eq!(revisions(&target), [1]);

    let mut third = server("web");
    third.env.insert("THIRD".to_owned(), "yes".to_owned());
    runtime
        .deploy(&By::nobody(), &house.ws, third)
        .await
        .unwrap();
    let info = house.ready(&runtime, "web").await;
    assert!(ask(port(&info), "/env").await.contains("THIRD=yes"));
    assert_eq!(revisions(&target), [3]);
    eventually("the end of the first", || {
        (!alive(pid(&first))).then_some(())
    })
    .await;
    let revisions = runtime.revisions(&house.ws, "web", None, 10).await.unwrap();
    let numbers: Vec<_> = revisions.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_change_is_carried_through_when_the_caller_goes() {
    let house = House::new();
    let runtime = house.open().await;
    // Given up at ever later points on its way.
    for turns in 0..20 {
        let mut next = server("web");
        next.env.insert("NUMBER".to_owned(), turns.to_string());
        let by = By::nobody();
        tokio::select! {
            biased;
            deployed = runtime.deploy(&by, &house.ws, next) => drop(deployed.unwrap()),
            () = async {
                for _ in 0..turns * turns {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    }
    let last = runtime
        .deploy(&By::nobody(), &house.ws, server("web"))
        .await
        .unwrap();
    house.ready(&runtime, "web").await;
    let revisions = runtime.revisions(&house.ws, "web", None, 10).await.unwrap();
    assert_eq!(revisions[0].number, last.agent.revision);
    runtime.shutdown().await;
    let left = runtime.get(&house.ws, "web").unwrap();
    assert!(left.instance().is_none(), "{left:?}");
}

#[tokio::test]
async fn crash_loops_end_and_begin_again_on_demand() {
    let house = House::new();
    let runtime = house.open().await;
    let mut looping = spec("bad", &["sh", "-c", "echo no key >&2; exit 3"]);
    looping.restart.backoff = Some("1ms".to_owned());
    runtime
        .deploy(&By::nobody(), &house.ws, looping.clone())
        .await
        .unwrap();
    let looped = |info: &AgentInfo| info.state == InstanceState::CrashLoop;
    let info = house.until(&runtime, "bad", looped).await;
    assert!(info.reason.unwrap().contains("no key"));
    assert_eq!(info.restarts, 4);
    let target = runtime.target(&house.ws, "bad").unwrap();
    assert!(matches!(target.available(), Availability::CrashLoop { .. }));
    let again = runtime
        .deploy(&By::nobody(), &house.ws, looping)
        .await
        .unwrap();
    assert!(!again.changed);
    house
        .until(&runtime, "bad", |info| info.restarts > 4 && looped(info))
        .await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn refuses_what_cannot_be_deployed_and_helps() {
    let house = House::new();
    let runtime = house.open().await;
    match runtime
        .deploy(
            &By::nobody(),
            &house.ws,
            spec("a", &["no-such-program", "x"]),
        )
        .await
    {
        Err(RuntimeError::InvalidSpec { field, reason }) => {
            assert_eq!(field, "command");
            assert!(
                reason.contains("command not found: no-such-program"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(runtime.names(&house.ws).is_empty());
    runtime
        .deploy(
            &By::nobody(),
            &house.ws,
            spec("weather", &["sleep", "1000"]),
        )
        .await
        .unwrap();
    runtime
        .stop(&By::nobody(), &house.ws, "weather")
        .await
        .unwrap();
    let error = runtime.info(&house.ws, "wether").unwrap_err();
    assert_eq!(error.hint(), "Did you mean `weather`?");
    assert_eq!(runtime.list(&house.ws, Some("weather"), 10).len(), 0);
    assert_eq!(runtime.list(&house.ws, None, 10).len(), 1);
    runtime.shutdown().await;
}

#[test]
fn agents_outlive_a_server_that_is_killed() {
    let house = House::new();
    let first = tokio::runtime::Runtime::new().unwrap();
    let (kept, stopped) = first.block_on(async {
        let runtime = house.open().await;
        runtime
            .deploy(&By::nobody(), &house.ws, server("kept"))
            .await
            .unwrap();
        runtime
            .deploy(&By::nobody(), &house.ws, server("gone"))
            .await
            .unwrap();
        let kept = house.ready(&runtime, "kept").await;
        let gone = house.ready(&runtime, "gone").await;
        (kept, gone)
    });
    // All tasks are dropped where they are: that is as much of a server as a kill leaves.
    drop(first);
    assert!(alive(pid(&kept)));
    kill(pid(&stopped));
    let second = tokio::runtime::Runtime::new().unwrap();
    second.block_on(async {
        let runtime = house.open().await;
        let info = house.ready(&runtime, "kept").await;
        assert_eq!(
            info.instance().cloned().map(|i| (i.id, i.pid)),
            kept.instance().map(|i| (i.id, i.pid))
        );
        let other = house.ready(&runtime, "gone").await;
        assert_ne!(id(&other), id(&stopped));
        runtime.shutdown().await;
        eventually("the end", || (!alive(pid(&kept))).then_some(())).await;
        assert_eq!(
            runtime.get(&house.ws, "kept").unwrap().desired.as_str(),
            "running"
        );
        let refused = runtime.start(&By::nobody(), &house.ws, "kept").await;
        assert!(matches!(refused, Err(RuntimeError::ShuttingDown)));
    });
}

#[tokio::test]
async fn deaths_over_calls_do_not_take_the_agent_down() {
    let house = House::new();
    let runtime = house.open().await;
    let mut fragile = server("web");
    fragile.restart.backoff = Some("1ms".to_owned());
    fragile.restart.crash_loop_after = Some(2);
    runtime
        .deploy(&By::nobody(), &house.ws, fragile)
        .await
        .unwrap();
    let target = runtime.target(&house.ws, "web").unwrap();
    let mut before = None;
    for _ in 0..4 {
        let info = house
            .until(&runtime, "web", |info| {
                info.state == InstanceState::Ready
                    && info.instance().cloned().map(|i| i.id) != before
            })
            .await;
        before = info.instance().cloned().map(|i| i.id);
        target.call_begins(before.unwrap());
        ask(port(&info), "/die").await;
        target.call_ends(before.unwrap());
        target.report_unreachable(before.unwrap());
    }
    house.ready(&runtime, "web").await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn logs_are_merged_filtered_and_followed() {
    let house = House::new();
    let runtime = house.open().await;
    let line = "echo hello $SKEP_AGENT; echo oops >&2; sleep 1000";
    runtime
        .deploy(&By::nobody(), &house.ws, spec("talk", &["sh", "-c", line]))
        .await
        .unwrap();
    let query = LogQuery {
        filter: Some("hello".to_owned()),
        follow: true,
        ..LogQuery::default()
    };
    let mut follow = runtime.logs(&house.ws, "talk", query).unwrap();
    let first = follow.recv().await.unwrap();
    assert_eq!(
        (first.text.as_str(), first.stream),
        ("hello talk", LogStream::Stdout)
    );
    runtime
        .restart(&By::nobody(), &house.ws, "talk")
        .await
        .unwrap();
    let second = follow.recv().await.unwrap();
    assert_ne!(second.instance, first.instance);
    let everything = all(runtime
        .logs(&house.ws, "talk", LogQuery::default())
        .unwrap())
    .await;
    assert!(everything.is_sorted_by_key(|line| line.time));
    let query = LogQuery {
        tail: Some(2),
        ..LogQuery::default()
    };
    let tail = all(runtime.logs(&house.ws, "talk", query).unwrap()).await;
    assert_eq!(tail.len(), 2);
    let since = Some(second.time);
    let query = LogQuery {
        since,
        filter: Some("hello".to_owned()),
        ..LogQuery::default()
    };
    assert_eq!(
        all(runtime.logs(&house.ws, "talk", query).unwrap())
            .await
            .len(),
        1
    );
    runtime
        .remove(&By::nobody(), &house.ws, "talk")
        .await
        .unwrap();
    assert!(follow.recv().await.is_none());
}

fn copies(number: u32) -> AgentSpec {
    AgentSpec {
        replicas: Some(Replicas::Fixed(number)),
        ..server("web")
    }
}

fn done(info: &AgentInfo, revision: u32, copies: usize) -> bool {
    let ready = |one: &&InstanceInfo| one.state == InstanceState::Ready && one.revision == revision;
    info.rollout.state == RolloutState::Done
        && info.revision == revision
        && info.instances.iter().filter(ready).count() == copies
        && info.instances.len() == copies
}

#[tokio::test]
async fn copies_are_replaced_one_by_one_and_never_miss() {
    let house = House::new();
    let runtime = house.open().await;
    runtime
        .deploy(&By::nobody(), &house.ws, copies(3))
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 1, 3)).await;
    let target = runtime.target(&house.ws, "web").unwrap();
    // However it changes: as many take calls as are wanted.
    let watched = target.clone();
    let watch = tokio::spawn(async move {
        let (mut changes, mut fewest) = (watched.availability(), usize::MAX);
        while changes.changed().await.is_ok() {
            fewest = match &*changes.borrow_and_update() {
                Availability::Ready { endpoints, .. } => fewest.min(endpoints.len()),
                Availability::Removed => return fewest,
                _ => 0,
            };
        }
        fewest
    });
    let mut second = copies(3);
    second.env.insert("SECOND".to_owned(), "yes".to_owned());
    runtime
        .deploy(&By::nobody(), &house.ws, second.clone())
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 2, 3)).await;
    runtime
        .restart(&By::nobody(), &house.ws, "web")
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 2, 3)).await;
    second.replicas = Some(Replicas::Fixed(4));
    runtime
        .deploy(&By::nobody(), &house.ws, second)
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 3, 4)).await;
    runtime
        .roll_to(
            &By::nobody(),
            &house.ws,
            "web",
            Some(1),
            Some("a test".to_owned()),
        )
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 1, 3)).await;
    let missing = runtime
        .roll_to(&By::nobody(), &house.ws, "web", Some(9), None)
        .await;
    assert_eq!(missing.unwrap_err().code(), Code::RevisionNotFound);
    runtime
        .remove(&By::nobody(), &house.ws, "web")
        .await
        .unwrap();
    assert_eq!(watch.await.unwrap(), 3);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_canary_waits_for_its_order_and_can_be_held() {
    let house = House::new();
    let runtime = house.open().await;
    let canary = |number: u32| {
        let mut spec = copies(2);
        spec.env.insert("NUMBER".to_owned(), number.to_string());
        spec.rollout.steps = vec![RolloutStep {
            weight: 10,
            pause: None,
        }];
        spec
    };
    runtime
        .deploy(&By::nobody(), &house.ws, canary(1))
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 1, 2)).await;
    runtime
        .deploy(&By::nobody(), &house.ws, canary(2))
        .await
        .unwrap();
    house
        .until(&runtime, "web", |info| {
            info.rollout.state == RolloutState::Paused && info.rollout.weight == 10
        })
        .await;
    let target = runtime.target(&house.ws, "web").unwrap();
    let Availability::Ready { split, .. } = target.available() else {
        panic!("nothing serves");
    };
    let expected = Split {
        revision: 2,
        weight: 10,
    };
    assert_eq!(split, Some(expected));
    let order = |order| runtime.order_rollout(&house.ws, "web", order);
    order(RolloutOrder::Pause).await.unwrap();
    let info = order(RolloutOrder::Resume).await.unwrap();
    assert_eq!(info.rollout.weight, 10, "holding is not the step's order");
    order(RolloutOrder::Resume).await.unwrap();
    house.until(&runtime, "web", |info| done(info, 2, 2)).await;
    runtime
        .deploy(&By::nobody(), &house.ws, canary(3))
        .await
        .unwrap();
    order(RolloutOrder::Promote).await.unwrap();
    house.until(&runtime, "web", |info| done(info, 3, 2)).await;
    runtime.shutdown().await;
}

#[tokio::test]
async fn calls_in_flight_end_before_their_instance_does() {
    let house = House::new();
    let runtime = house.open().await;
    runtime
        .deploy(&By::nobody(), &house.ws, server("web"))
        .await
        .unwrap();
    let first = house.ready(&runtime, "web").await;
    let target = runtime.target(&house.ws, "web").unwrap();
    let instance = first.instance().unwrap().id;
    target.call_begins(instance);
    runtime
        .restart(&By::nobody(), &house.ws, "web")
        .await
        .unwrap();
    // The new one serves, and the old one is still there.
    let info = house
        .until(&runtime, "web", |info| {
            let other =
                |one: &InstanceInfo| one.id != instance && one.state == InstanceState::Ready;
            info.instances.iter().any(other)
                && info
                    .instances
                    .iter()
                    .any(|one| one.state == InstanceState::Stopping)
        })
        .await;
    assert!(alive(pid(&first)) && info.instances.len() == 2);
    assert!(!target.is_ready(instance));
    target.call_ends(instance);
    house.until(&runtime, "web", |info| done(info, 1, 1)).await;
    assert!(!alive(pid(&first)));
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_agent_sleeps_when_nobody_calls_and_wakes_when_somebody_does() {
    let house = House::new();
    let runtime = house.open().await;
    let mut spec = server("web");
    spec.replicas = Some(Replicas::Scaled(Scaling {
        min: Some(0),
        max: 2,
        idle: Some("1s".to_owned()),
        ..Scaling::default()
    }));
    runtime
        .deploy(&By::nobody(), &house.ws, spec)
        .await
        .unwrap();
    house.until(&runtime, "web", |info| done(info, 1, 1)).await;
    let target = runtime.target(&house.ws, "web").unwrap();
    eventually("its sleep", || {
        runtime.tick(|_, _| 0);
        (target.available() == Availability::Asleep).then_some(())
    })
    .await;
    house
        .until(&runtime, "web", |info| {
            info.state == InstanceState::Asleep && info.instances.is_empty()
        })
        .await;
    target.wake();
    house.until(&runtime, "web", |info| done(info, 1, 1)).await;
    runtime.shutdown().await;
}
