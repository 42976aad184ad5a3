//! The demo's clients: each sends a call until it has an answer, always with the same key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use skep_client::{CallRequest, Client, ClientError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::AGENT;

/// The pause before a request is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// What became of a call, as its client saw it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) n: u64,
    /// The result; `None` when the client was refused for good.
    pub(super) square: Option<u64>,
    /// From the first request to the answer.
    pub(super) took: Duration,
    pub(super) sent_again: u64,
}

#[derive(Debug, Deserialize)]
struct Result {
    n: u64,
    square: u64,
}

/// Clients at work.
pub(super) struct Load {
    clients: JoinSet<Vec<Done>>,
    count: watch::Receiver<usize>,
}

impl Load {
    /// Begins to send `calls` calls from `clients` clients.
    pub(super) fn start(client: &Client, calls: u64, clients: usize, work_ms: u64) -> Self {
        let (counter, count) = watch::channel(0);
        let counter = Arc::new(counter);
        let next = Arc::new(AtomicU64::new(1));
        let run = fastrand::u64(..);
        let mut set = JoinSet::new();
        for _ in 0..clients {
            let (client, next, counter) = (client.clone(), next.clone(), counter.clone());
            set.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n > calls {
                        return done;
                    }
                    done.push(until_answered(&client, n, work_ms, run).await);
                    counter.send_modify(|count| *count += 1);
                }
            });
        }
        Self {
            clients: set,
            count,
        }
    }

    /// How many calls are answered.
    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until so many are answered.
    pub(super) async fn answered(&mut self, calls: usize) {
        // The counter is gone only when all are answered.
        let _ = self.count.wait_for(|count| *count >= calls).await;
    }

    /// Waits for all.
    pub(super) async fn finish(self) -> Vec<Done> {
        self.clients
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

async fn until_answered(client: &Client, n: u64, work_ms: u64, run: u64) -> Done {
    let began = Instant::now();
    let mut sent_again = 0;
    loop {
        let square = match once(client, n, work_ms, run).await {
            Ok(result) if result.n == n => Some(result.square),
            // The answer of another call.
            Ok(_) => Some(0),
            Err(error) if error.is_retryable() => {
                sent_again += 1;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(_) => None,
        };
        let took = began.elapsed();
        return Done {
            n,
            square,
            took,
            sent_again,
        };
    }
}

async fn once(
    client: &Client,
    n: u64,
    work_ms: u64,
    run: u64,
) -> std::result::Result<Result, ClientError> {
    let body = format!("{{\"n\":{n},\"ms\":{work_ms}}}");
    let request = CallRequest::post(AGENT, "/work", body);
    let request = request.idempotency_key(&format!("demo-{run:x}-{n}"))?;
    client.call(request).await?.json().await
}
