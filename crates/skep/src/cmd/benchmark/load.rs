//! The load: clients that each wait for their answer (closed loop), or requests at times that are
//! set before, whatever becomes of those sent earlier (open loop).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep_client::{CallRequest, Client, ClientError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::histogram::Histogram;
use super::scenario::Scenario;

/// Where the choice among requests begins, so that runs can be compared.
const SEED: u64 = 7_537;

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// So many clients, each with one request at a time.
    Closed { clients: usize },
    /// So many requests a second; at most so many without an answer at once.
    Open { rate: f64, most: usize },
}

/// When it is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) requests: Option<u64>,
    pub(super) duration: Option<Duration>,
}

impl Until {
    fn is_over(&self, sent: u64, since: Duration) -> bool {
        self.requests.is_some_and(|most| sent >= most)
            || self.duration.is_some_and(|most| since >= most)
    }
}

/// A load to put on an agent.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) client: Client,
    pub(super) agent: String,
    pub(super) scenario: Scenario,
    pub(super) pace: Pace,
    pub(super) until: Until,
    pub(super) timeout: Duration,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Of good answers, and of requests that were given up: as long as they were waited for.
    pub(super) latency: Histogram,
    /// Open loop: how late requests were sent.
    pub(super) lag: Histogram,
    pub(super) sent: u64,
    pub(super) succeeded: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) elapsed: Duration,
}

impl Measured {
    fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.lag.merge(&other.lag);
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }

    fn count(&mut self, outcome: Outcome, took: Duration) {
        self.sent += 1;
        match outcome {
            Outcome::Good => self.succeeded += 1,
            Outcome::GivenUp => *self.errors.entry("timeout".to_owned()).or_default() += 1,
            // A refusal that comes fast must not make the rest look fast.
            Outcome::Bad(kind) => return *self.errors.entry(kind).or_default() += 1,
        }
        self.latency.record(took);
    }
}

enum Outcome {
    Good,
    GivenUp,
    Bad(String),
}

/// One request with its whole answer.
async fn one(client: &Client, request: CallRequest, timeout: Duration) -> Outcome {
    let answered = async {
        let answer = client.call(request).await?;
        let status = answer.status();
        answer.bytes().await?;
        Ok::<_, ClientError>(status)
    };
    match tokio::time::timeout(timeout, answered).await {
        Err(_) => Outcome::GivenUp,
        Ok(Ok(status)) if status.as_u16() < 400 => Outcome::Good,
        Ok(Ok(status)) => Outcome::Bad(format!("status {}", status.as_u16())),
        Ok(Err(error)) => match error {
            ClientError::Problem { problem, .. } => Outcome::Bad(problem.code.clone()),
            ClientError::Unreachable { .. } => Outcome::Bad("unreachable".to_owned()),
            ClientError::Interrupted { .. } => Outcome::Bad("cut off".to_owned()),
            ClientError::Timeout { .. } => Outcome::GivenUp,
            other => Outcome::Bad(other.to_string()),
        },
    }
}

impl Load {
    pub(super) async fn run(&self) -> Measured {
        let began = Instant::now();
        let mut measured = match self.pace {
            Pace::Closed { clients } => self.closed(clients, began).await,
            Pace::Open { rate, most } => self.open(rate, most, began).await,
        };
        measured.elapsed = began.elapsed();
        measured
    }

    async fn closed(&self, clients: usize, began: Instant) -> Measured {
        let sent = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (load, sent) = (self.clone(), sent.clone());
            let mut random = fastrand::Rng::with_seed(SEED + number as u64);
            tasks.spawn(async move {
                let mut measured = Measured::default();
                while !load
                    .until
                    .is_over(sent.fetch_add(1, Ordering::Relaxed), began.elapsed())
                {
                    let kind = load.scenario.next(&mut random);
                    let from = Instant::now();
                    let outcome = one(&load.client, kind.to(&load.agent), load.timeout).await;
                    measured.count(outcome, from.elapsed());
                    if let Some(pause) = kind.pause(&mut random) {
                        tokio::time::sleep(pause).await;
                    }
                }
                measured
            });
        }
        let mut all = Measured::default();
        for measured in tasks.join_all().await {
            all.merge(&measured);
        }
        all
    }

    async fn open(&self, rate: f64, most: usize, began: Instant) -> Measured {
        let places = Arc::new(Semaphore::new(most));
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut tasks: JoinSet<Measured> = JoinSet::new();
        let mut all = Measured::default();
        for number in 0_u64.. {
            let due = Duration::from_secs_f64(number as f64 / rate);
            if self.until.is_over(number, due) {
                break;
            }
            let intended = began + due;
            tokio::time::sleep_until(intended.into()).await;
            // Waiting for a place is waiting for an answer: the clock runs since the request was
            // due. It is never closed.
            let Ok(place) = places.clone().acquire_owned().await else {
                break;
            };
            let request = self.scenario.next(&mut random).to(&self.agent);
            let (client, timeout) = (self.client.clone(), self.timeout);
            tasks.spawn(async move {
                let mut measured = Measured::default();
                measured.lag.record(intended.elapsed());
                let outcome = one(&client, request, timeout).await;
                measured.count(outcome, intended.elapsed());
                drop(place);
                measured
            });
            while let Some(Ok(measured)) = tasks.try_join_next() {
                all.merge(&measured);
            }
        }
        for measured in tasks.join_all().await {
            all.merge(&measured);
        }
        all
    }
}
