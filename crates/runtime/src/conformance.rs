//! What every driver must do, as one suite that each driver's tests run. The agents are lines of
//! `sh`, so whatever the driver runs must have a shell; what else it needs, such as an image, its
//! tests write into each specification.
//!
//! Panics with what does not hold.

#![expect(
    clippy::panic,
    reason = "a suite tells by panicking what does not hold"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use skep_api::AgentSpec;
use skep_core::{InstanceId, Workspace};
use tokio::io::AsyncWriteExt;

use crate::driver::{
    Driver, DriverError, Exit, LogLine, LogSource, LogStream, Place, Running, StartRequest,
};
use crate::exec::{ExecOrder, Execution};
use crate::spec::Spec;

/// Time in which something that must happen has happened.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);
const GRACE: Duration = Duration::from_secs(10);

/// Gives a driver; with the same options each time.
pub type Make<'a> = &'a (dyn Fn() -> Arc<dyn Driver> + Sync);
/// Completes a specification with what the driver needs.
pub type Complete<'a> = &'a (dyn Fn(&mut AgentSpec) + Sync);

/// Drives one driver.
struct Suite<'a> {
    make: Make<'a>,
    complete: Complete<'a>,
    driver: Arc<dyn Driver>,
}

/// Runs the suite.
///
/// # Panics
/// When the driver does not keep the contract.
pub async fn conformance(make: Make<'_>, complete: Complete<'_>) {
    let suite = Suite {
        make,
        complete,
        driver: make(),
    };
    suite.tells_status_and_output().await;
    suite.gives_the_environment().await;
    suite.stops_with_grace().await;
    suite.kills_after_grace().await;
    suite.delivers_signals().await;
    suite.leaves_nothing_behind().await;
    suite.is_adopted().await;
    suite.starts_once().await;
    suite.refuses_what_cannot_run().await;
    suite.keeps_logs_until_discarded().await;
    suite.runs_commands_inside().await;
}

fn holds<T>(result: Result<T, DriverError>) -> T {
    result.unwrap_or_else(|error| panic!("the driver failed: {error}"))
}

/// A request for a command.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn request(driver: &dyn Driver, complete: Complete<'_>, command: &[&str]) -> StartRequest {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let Some(port) = driver.port().or_else(|| Some(free().ok()?.port())) else {
        panic!("no port is free")
    };
    let kind = driver.kind();
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let mut spec = AgentSpec {
        driver: kind.to_owned(),
        env: BTreeMap::from([("OWN".to_owned(), "a b".to_owned())]),
        ..AgentSpec::new("conformance", command)
    };
    complete(&mut spec);
    let spec = Spec::parse(&spec, &[kind])
        .unwrap_or_else(|error| panic!("the suite's own specification: {error}"));
    let instance = InstanceId::new();
    StartRequest {
        place: Place {
            workspace: Workspace::default(),
            agent: spec.name.clone(),
            instance,
        },
        spec: Arc::new(spec),
        revision: 1,
        port,
        env: BTreeMap::from([
            ("PORT".to_owned(), port.to_string()),
            ("SKEP_INSTANCE".to_owned(), instance.to_string()),
        ]),
        held: None,
    }
}

/// Everything that is in a log now.
fn drain(log: &mut dyn LogSource) -> Vec<LogLine> {
    std::iter::from_fn(|| holds(log.next())).collect()
}

impl Suite<'_> {
    fn request(&self, command: &[&str]) -> StartRequest {
        request(self.driver.as_ref(), self.complete, command)
    }

    fn shell(&self, line: &str) -> StartRequest {
        self.request(&["sh", "-c", line])
    }

    async fn start(&self, line: &str) -> (Place, Arc<dyn Running>) {
        let request = self.shell(line);
        let running = holds(self.driver.start(&request).await);
        (request.place, running)
    }

    async fn lines(&self, place: &Place) -> Vec<LogLine> {
        drain(holds(self.driver.logs(place, None).await).as_mut())
    }

    async fn says(&self, place: &Place, text: &str) {
        let mut looks = tokio::time::interval(LOOK);
        let wait = async {
            while !self.lines(place).await.iter().any(|line| line.text == text) {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let lines = self.lines(place).await;
            panic!("the log never says `{text}`: {lines:?}");
        }
    }

    async fn ends(&self, running: &Arc<dyn Running>) -> Exit {
        tokio::time::timeout(PATIENCE, running.wait())
            .await
            .unwrap_or_else(|_| panic!("the instance does not end"))
    }

    async fn tells_status_and_output(&self) {
        let (place, running) = self.start("echo out; echo err >&2; exit 7").await;
        let exit = self.ends(&running).await;
        assert_eq!((exit.code, exit.signal), (Some(7), None));
        assert_eq!(exit.last_words.as_deref(), Some("err"));
        assert_eq!(self.ends(&running).await, exit, "an end is told again");
        let mut lines: Vec<_> = self
            .lines(&place)
            .await
            .into_iter()
            .map(|line| (line.stream, line.text, line.instance))
            .collect();
        lines.sort_by_key(|line| line.0.as_str());
        let expected = [(LogStream::Stderr, "err"), (LogStream::Stdout, "out")]
            .map(|(stream, text)| (stream, text.to_owned(), place.instance));
        assert_eq!(lines, expected);
        assert!(!holds(running.inspect().await).alive);
    }

    async fn gives_the_environment(&self) {
        let request = self.shell("echo \"$OWN|$PORT|$SKEP_INSTANCE\"; cd; echo kept >> here; pwd");
        let running = holds(self.driver.start(&request).await);
        assert_eq!(running.address().port(), request.port);
        assert_eq!(self.ends(&running).await.code, Some(0));
        let expected = format!("a b|{}|{}", request.port, request.place.instance);
        self.says(&request.place, &expected).await;
    }

    async fn stops_with_grace(&self) {
        let line = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let (place, running) = self.start(line).await;
        self.says(&place, "up").await;
        let seen = holds(running.inspect().await);
        assert!(seen.alive && seen.processes > 0 && seen.memory_bytes > 0);
        holds(running.stop(GRACE).await);
        assert_eq!(self.ends(&running).await.code, Some(3));
        self.says(&place, "bye").await;
        holds(running.stop(GRACE).await);
    }

    async fn kills_after_grace(&self) {
        let line = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let (place, running) = self.start(line).await;
        self.says(&place, "up").await;
        holds(running.stop(Duration::from_millis(50)).await);
        assert_eq!(self.ends(&running).await.signal, Some(9));
        let (place, running) = self.start("echo up; sleep 1000").await;
        self.says(&place, "up").await;
        holds(running.stop(Duration::ZERO).await);
        assert_eq!(self.ends(&running).await.signal, Some(9));
    }

    async fn delivers_signals(&self) {
        const SIGUSR1: i32 = 10;
        let line = "trap 'echo one; exit 1' USR1; echo up; while :; do sleep 0.05; done";
        let (place, running) = self.start(line).await;
        self.says(&place, "up").await;
        holds(running.signal(SIGUSR1).await);
        assert_eq!(self.ends(&running).await.code, Some(1));
        holds(running.signal(SIGUSR1).await);
    }

    async fn leaves_nothing_behind(&self) {
        let (_, running) = self.start("sleep 1000 & (sleep 1000 &) ; exit 0").await;
        assert_eq!(self.ends(&running).await.code, Some(0));
        let left = holds(running.inspect().await);
        assert!(!left.alive && left.processes == 0, "{left:?}");
    }

    async fn is_adopted(&self) {
        let (place, running) = self.start("echo up; sleep 1000").await;
        let handle = running.handle();
        let pid = running.pid();
        drop(running);
        for handle in [Some(handle.as_str()), None] {
            let other = (self.make)();
            let adopted = holds(other.adopt(&place, handle).await);
            let adopted = adopted.unwrap_or_else(|| panic!("a living instance is not adopted"));
            assert_eq!(adopted.pid(), pid);
            assert!(holds(adopted.inspect().await).alive);
        }
        let other = (self.make)();
        let Some(adopted) = holds(other.adopt(&place, None).await) else {
            panic!("a living instance is not adopted")
        };
        self.says(&place, "up").await;
        holds(adopted.stop(GRACE).await);
        assert_eq!(self.ends(&adopted).await.signal, Some(15));
        assert!(holds(other.adopt(&place, Some(&handle)).await).is_none());
        let never = self.shell("true").place;
        assert!(holds(other.adopt(&never, None).await).is_none());
    }

    async fn starts_once(&self) {
        let request = self.shell("sleep 1000");
        let running = holds(self.driver.start(&request).await);
        assert!(self.driver.start(&request).await.is_err());
        assert!(holds(running.inspect().await).alive);
        holds(running.stop(GRACE).await);
        assert!(self.driver.start(&request).await.is_err());
    }

    async fn refuses_what_cannot_run(&self) {
        let request = self.request(&["no-such-program-anywhere"]);
        match self.driver.start(&request).await {
            Err(error) => assert!(!error.is_retryable(), "{error}"),
            Ok(_) => panic!("a program that is not there was started"),
        }
        assert!(holds(self.driver.adopt(&request.place, None).await).is_none());
    }

    async fn keeps_logs_until_discarded(&self) {
        let (place, running) = self.start("echo kept").await;
        self.ends(&running).await;
        let Place {
            workspace, agent, ..
        } = &place;
        let kept = holds(self.driver.kept(workspace, agent).await);
        assert!(kept.is_sorted() && kept.contains(&place.instance));
        assert_eq!(self.lines(&place).await.len(), 1);
        holds(self.driver.discard(&place).await);
        holds(self.driver.discard(&place).await);
        assert!(self.lines(&place).await.is_empty());
        holds(self.driver.discard_agent(workspace, agent).await);
        assert!(holds(self.driver.kept(workspace, agent).await).is_empty());
    }

    /// Runs a line of `sh` beside what an instance runs.
    async fn inside(
        &self,
        request: &StartRequest,
        running: &Arc<dyn Running>,
        line: &str,
    ) -> Execution {
        let order = ExecOrder {
            command: ["sh", "-c", line].map(str::to_owned).to_vec(),
            terminal: None,
        };
        let handle = running.handle();
        holds(self.driver.exec(request, &handle, &order).await)
    }

    async fn runs_commands_inside(&self) {
        let request = self.shell("cd; echo made > file; echo up; sleep 1000");
        let running = holds(self.driver.start(&request).await);
        self.says(&request.place, "up").await;
        let line = "read -r line; cd; echo \"$line|$OWN|$(cat file)\"; echo err >&2; exit 7";
        let mut execution = self.inside(&request, &running, line).await;
        let sent = execution.input.write_all(b"typed\n").await;
        assert!(sent.is_ok(), "{sent:?}");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((stream, bytes)) = execution.output.recv().await {
            match stream {
                LogStream::Stderr => err.extend(bytes),
                _ => out.extend(bytes),
            }
        }
        assert_eq!(String::from_utf8_lossy(&out), "typed|a b|made\n");
        assert_eq!(String::from_utf8_lossy(&err), "err\n");
        assert_eq!(execution.control.wait().await.code, Some(7));
        // One that nobody wants any more ends: it does not hold the instance's file any longer.
        let line = "trap '' HUP TERM; echo on; while :; do date > beat 2>&1; sleep 0.05; done";
        let mut execution = self
            .inside(&request, &running, &format!("cd; {line}"))
            .await;
        assert!(execution.output.recv().await.is_some());
        drop(execution);
        let mut looks = tokio::time::interval(LOOK);
        let quiet = "cd; rm -f beat; sleep 0.3; test ! -e beat";
        let ended = async {
            loop {
                looks.tick().await;
                let mut look = self.inside(&request, &running, quiet).await;
                if look.control.wait().await.code == Some(0) {
                    break;
                }
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, ended).await.is_ok(),
            "it stays"
        );
        // With its instance each ends.
        let mut execution = self.inside(&request, &running, "echo on; sleep 4321").await;
        assert!(execution.output.recv().await.is_some());
        holds(running.stop(Duration::ZERO).await);
        let end = tokio::time::timeout(PATIENCE, execution.control.wait()).await;
        assert!(end.is_ok(), "a command outlives its instance");
        let order = ExecOrder {
            command: vec!["true".to_owned()],
            terminal: None,
        };
        let late = self.driver.exec(&request, &running.handle(), &order).await;
        assert!(
            late.is_err(),
            "a command runs in an instance that has ended"
        );
    }
}
