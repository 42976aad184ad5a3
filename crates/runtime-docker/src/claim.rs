//! Who looks after an instance: its start, its adoption, its watcher or the sweep, one at a time.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use skep_core::InstanceId;
use tokio::sync::Notify;

/// The instances that are looked after.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    taken: Mutex<HashSet<InstanceId>>,
    freed: Notify,
}

/// The right to look after an instance; dropped, it is free.
pub(crate) struct Claim {
    of: InstanceId,
    inner: Arc<Inner>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.taken.lock().remove(&self.of);
        self.inner.freed.notify_waiters();
    }
}

impl Claims {
    /// The claim, if nobody has it.
    pub(crate) fn try_claim(&self, of: InstanceId) -> Option<Claim> {
        let inner = self.inner.clone();
        let free = inner.taken.lock().insert(of);
        free.then_some(Claim { of, inner })
    }

    /// The claim, as soon as nobody has it.
    pub(crate) async fn claim(&self, of: InstanceId) -> Claim {
        loop {
            let mut freed = std::pin::pin!(self.inner.freed.notified());
            freed.as_mut().enable();
            if let Some(claim) = self.try_claim(of) {
                return claim;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time() {
        let claims = Claims::default();
        let of = InstanceId::new();
        let first = claims.claim(of).await;
        assert!(claims.try_claim(of).is_none());
        let waits = tokio::spawn({
            let claims = claims.clone();
            async move { claims.claim(of).await }
        });
        drop(first);
        drop(waits.await.unwrap());
        assert!(claims.try_claim(of).is_some());
    }
}
