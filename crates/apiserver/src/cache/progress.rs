//! How far the caches are, and how far they must be.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// The revision up to which all caches stand, and the last one this server knows to be committed.
pub struct Progress {
    applied: watch::Sender<i64>,
    committed: AtomicI64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { applied: watch::Sender::new(0), committed: AtomicI64::new(0) }
    }
}

impl Progress {
    pub fn applied(&self) -> i64 {
        *self.applied.borrow()
    }

    /// The feed has applied everything up to this.
    pub fn set_applied(&self, revision: i64) {
        self.applied.send_if_modified(|at| {
            let more = revision > *at;
            *at = revision.max(*at);
            more
        });
    }

    /// A write of this server was acknowledged at this revision.
    pub fn set_committed(&self, revision: i64) {
        self.committed.fetch_max(revision, Ordering::AcqRel);
    }

    pub fn committed(&self) -> i64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Waits until the caches stand at a revision; false if they did not get there in time.
    pub async fn reach(&self, revision: i64, within: Duration) -> bool {
        if self.applied() >= revision {
            return true;
        }
        let mut applied = self.applied.subscribe();
        tokio::time::timeout(within, applied.wait_for(|at| *at >= revision)).await.is_ok_and(|r| r.is_ok())
    }
}
