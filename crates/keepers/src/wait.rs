//! Asking what may hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One that is asked, which answers one question at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silent {
    /// None in time; it may come yet, and nobody hears it.
    Late,
    /// It has not answered what it was asked before.
    Busy,
}

impl Silent {
    pub(crate) fn told(self, limit: Duration) -> String {
        match self {
            Self::Late => format!("no answer within {} s", limit.as_secs()),
            Self::Busy => "it still has not answered what it was asked before".to_owned(),
        }
    }
}

impl Asked {
    /// Asks in a thread of its own and waits for so long. The end of the program does not wait for the thread.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Silent> {
        if self.0.swap(true, Ordering::AcqRel) {
            return Err(Silent::Busy);
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let free = Free(self.0.clone());
        std::thread::spawn(move || {
            let answer = question();
            drop(free);
            let _ = tell.send(answer);
        });
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(answer)) => Ok(answer),
            // A thread that panicked answers nothing.
            _ => Err(Silent::Late),
        }
    }
}

/// Says that it can be asked again, whatever became of the question.
struct Free(Arc<AtomicBool>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_given_up_and_not_asked_again_meanwhile() {
        let asked = Asked::default();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let hangs = asked.ask(Duration::ZERO, move || wait.recv());
        assert_eq!(hangs.await.err(), Some(Silent::Late));
        let long = Duration::from_secs(60);
        assert_eq!(asked.ask(long, || 1).await, Err(Silent::Busy));
        go.send(()).unwrap();
        while asked.0.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.ask(long, || 1).await, Ok(1));
        let panicked = asked.ask(long, || panic!("as it is to be")).await;
        assert_eq!(panicked, Err::<(), _>(Silent::Late));
        assert_eq!(asked.ask(long, || 2).await, Ok(2));
    }
}
