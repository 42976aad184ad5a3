//! New values for secrets: tells hooks what to do, and writes down what they say. One server does it; whoever
//! takes over asks again.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use skep_core::config::Settings;
use skep_core::{PublicError as _, SecretId, Workspace};
use skep_runtime::Event;
use skep_store::By;
use skep_vault::hooks::{self, Door, Hook, Hooks, KeyAt, MOST_ANSWER};
use skep_vault::renewal::{Order, Phase, Said};
use skep_vault::{Due, VaultError, Which};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::ServerError;
use crate::outgoing;
use crate::reread::{Reader, Reread};
use crate::state::State;
use crate::web::{Question, Web};

/// How often it is looked for what is to be done.
const LOOK: Duration = Duration::from_secs(5);
/// Hooks that are told something at once.
const AT_ONCE: usize = 8;
/// And of one workspace.
const AT_ONCE_OF_ONE: usize = 2;
/// How long the value before is kept of a secret whose hook is gone.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// What programs are found by that a hook starts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The hooks of the configuration.
pub(crate) struct Renewals {
    file: Option<Reread<Hooks, Hooks>>,
    web: Web,
}

fn read(path: &Path, reader: &Reader) -> Result<Hooks, String> {
    let text = reader.text(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    hooks::read_file(&text, |key| match key {
        KeyAt::File(file) => reader.secret(&folder.join(file)),
        KeyAt::Variable(name) => std::env::var(name)
            .map(String::into_bytes)
            .map_err(|_| format!("{name} is not set")),
    })
}

impl Renewals {
    pub(crate) fn open(settings: &Settings) -> Result<Self, ServerError> {
        let file = settings.secrets_hooks.as_ref().map(|path| {
            let make = |read: Hooks, _: Option<&Hooks>| read;
            Reread::open(path, read, Box::new(make)).map_err(|reason| ServerError::Hooks {
                path: path.clone(),
                reason,
            })
        });
        Ok(Self {
            file: file.transpose()?,
            web: Web(outgoing::guard(settings)?),
        })
    }

    /// What is wrong with the file as it is now.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.file.as_ref()?.wrong()
    }

    /// Reads the file again when it changes.
    pub(crate) async fn keep_fresh(&self) {
        match &self.file {
            None => std::future::pending().await,
            Some(file) => loop {
                file.changed().await;
            },
        }
    }

    fn now(&self) -> Arc<Hooks> {
        let none = || Arc::new(Hooks::default());
        self.file.as_ref().map_or_else(none, Reread::now)
    }

    /// Whether a secret has a hook.
    pub(crate) fn has(&self, workspace: &Workspace, secret: &str) -> bool {
        self.now().of(workspace, secret).is_some()
    }

    /// Tells a hook what to do.
    async fn tell(
        &self,
        of: &Workspace,
        order: &Order,
        hook: &Hook,
        now: skep_core::Timestamp,
    ) -> Result<Said, String> {
        let (id, text) = hooks::order(of, order)?;
        let answer = match &hook.door {
            Door::Command(words) => {
                let run = tokio::time::timeout(hook.timeout, run(words, text.as_bytes())).await;
                run.unwrap_or_else(|_| Err("it took too long".to_owned()))?
            }
            Door::Web(url, key) => {
                let header =
                    |name: &'static str, value: String| (HeaderName::from_static(name), value);
                let seconds = now.as_micros() / 1_000_000;
                let headers = [
                    header("webhook-signature", hooks::signature(key, &id, now, &text)),
                    header("webhook-timestamp", seconds.to_string()),
                    header("webhook-id", id),
                ];
                let asked = self.web.ask(Question {
                    url,
                    body: Some(("application/json", &text)),
                    headers: &headers,
                    time: hook.timeout,
                    most: MOST_ANSWER,
                });
                match asked.await? {
                    (status, body) if status.is_success() => body.to_vec(),
                    (status, _) => return Err(format!("it answered {status}")),
                }
            }
        };
        let answer = zeroize::Zeroizing::new(answer);
        match order.renewal.phase {
            Phase::Making => hooks::made(&answer).map(Said::Made),
            Phase::Proving | Phase::Kept | Phase::Abandoning => Ok(Said::Done),
        }
    }
}

/// Runs a program: the order is its input, what it says its answer. It ends with what it started when it is not
/// waited for any more. What it writes to its standard error goes nowhere: it could be the value.
async fn run(words: &[String], input: &[u8]) -> Result<Vec<u8>, String> {
    let (program, arguments) = words.split_first().ok_or("it has no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let group = Group(child.id());
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // It may not want to read it.
            let _ = stdin.write_all(input).await;
        }
    };
    let read = async {
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            let most = u64::try_from(MOST_ANSWER).unwrap_or(u64::MAX);
            let read = stdout.take(most + 1).read_to_end(&mut answer).await;
            read.map_err(|error| error.to_string())?;
        }
        match answer.len() > MOST_ANSWER {
            true => Err(format!("it said more than {MOST_ANSWER} bytes")),
            false => Ok(answer),
        }
    };
    let ((), answer) = tokio::join!(write, read);
    let answer = zeroize::Zeroizing::new(answer?);
    let status = child.wait().await.map_err(|error| error.to_string())?;
    drop(group);
    match status.success() {
        true => Ok(answer.to_vec()),
        false => Err(format!("it ended with {status}")),
    }
}

/// A program with what it started, which ends with this.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // Well when nothing of it is left.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Whose order is carried out.
type Whose = (Workspace, SecretId);

/// Renews secrets until the server ends.
pub(crate) async fn keep(state: Arc<State>, by: By) {
    let (mut told, mut busy) = (JoinSet::<Whose>::new(), HashSet::new());
    let mut due = HashMap::new();
    loop {
        if state.vault.is_open() && state.peers.leads() {
            for workspace in state.tenants.all().all().iter() {
                let due = due.entry(workspace.clone()).or_default();
                let orders = match orders(&state, &by, workspace, due).await {
                    Ok(orders) => orders,
                    Err(error) => {
                        let error = error.detail();
                        tracing::warn!(%workspace, error, "secrets are renewed later");
                        continue;
                    }
                };
                for order in orders {
                    let whose = (workspace.clone(), order.secret.id);
                    let own = busy
                        .iter()
                        .filter(|(of, _): &&Whose| of == workspace)
                        .count();
                    let has_place = told.len() < AT_ONCE && own < AT_ONCE_OF_ONE;
                    if has_place && busy.insert(whose.clone()) {
                        told.spawn(carry_out(state.clone(), by.clone(), whose, order));
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = state.renewal_work.notified() => {}
            Some(done) = told.join_next() => match done {
                Ok(whose) => drop(busy.remove(&whose)),
                // Which one that was is not told: all that goes on is asked for again.
                Err(_) => {
                    told.shutdown().await;
                    busy.clear();
                }
            },
            () = state.stop.cancelled() => return,
        }
    }
}

/// What hooks are to be told now. Secrets that are due begin: a page of them at each look, in turn.
async fn orders(
    state: &State,
    by: &By,
    workspace: &Workspace,
    after: &mut Option<Due>,
) -> Result<Vec<Order>, VaultError> {
    let (due, next) = state.vault.due(workspace, *after).await?;
    *after = next;
    for secret in due {
        let has = state.renewals.has(workspace, secret.about.name.as_str());
        if has && state.vault.renewal(workspace, secret.id).await?.is_none() {
            let which = Which::Id(secret.id);
            state.vault.renew_value(by, workspace, &which).await?;
        }
    }
    let all = state.vault.orders(workspace).await?.into_iter();
    let whole = all.filter_map(|order| {
        let said = |error: &VaultError| {
            tracing::error!(%workspace, error = error.detail(), "a renewal is damaged");
        };
        order.inspect_err(said).ok()
    });
    Ok(whole.collect())
}

async fn carry_out(state: Arc<State>, by: By, whose: Whose, order: Order) -> Whose {
    let (workspace, id) = &whose;
    let hooks = state.renewals.now();
    let hook = hooks.of(workspace, order.secret.about.name.as_str());
    let phase = order.renewal.phase;
    let now = state.db.clock().now();
    let said = match hook {
        Some(_) if order.is_moot => {
            let detail = format!("{id}: the value before is in use again, and is not retired");
            let event = Event::new("secret.renewal-failed", detail);
            state.runtime.record(workspace, event);
            Ok(Said::Done)
        }
        Some(hook) => {
            let told = state.renewals.tell(workspace, &order, hook, now);
            let told = tokio::select! {
                told = told => told,
                // The next start asks again.
                () = state.stop.cancelled() => return whose,
            };
            told.map_err(|reason| format!("hook `{}`: {reason}", hook.name))
        }
        None => Err("no hook is for it any more".to_owned()),
    };
    let said = said.unwrap_or_else(|reason| {
        let detail = format!("{id}, {}: {reason}", phase.as_str());
        state
            .runtime
            .record(workspace, Event::new("secret.renewal-failed", detail));
        Said::Failed
    });
    let promotes = phase == Phase::Proving && matches!(said, Said::Done);
    let keep = hook.map_or(KEEP, |hook| hook.keep);
    let written = state
        .vault
        .renewed(&by, workspace, (*id, order.renewal), said, keep);
    match written.await {
        Err(error) => {
            let error = error.detail();
            tracing::warn!(%workspace, secret = %id, error, "what a hook said is not kept: it is asked again");
        }
        Ok(()) if promotes => {
            let event = Event::new("secret.renewed", format!("{id} has a new value"));
            state.runtime.record(workspace, event);
        }
        Ok(()) => {}
    }
    whose
}
