//! How far the caches are, and how far they must be.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use store::{KeyRange, RangeRequest, Store};
use tokio::sync::{Mutex, Notify, watch};

/// The revision up to which all caches stand, and the last one this server knows to be committed.
pub struct Progress {
    applied: watch::Sender<i64>,
    committed: AtomicI64,
    /// Lists are not answered as of revisions before this.
    forgotten: AtomicI64,
    nudge: Notify,
}

/// Events come by themselves; a revision that changed nothing of ours has none, and must be asked about.
const ASK_AFTER: Duration = Duration::from_millis(20);
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Default for Progress {
    fn default() -> Self {
        Self {
            applied: watch::Sender::new(0),
            committed: AtomicI64::new(0),
            forgotten: AtomicI64::new(0),
            nudge: Notify::new(),
        }
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

    /// Can a list still be answered as of a revision?
    pub fn remembers(&self, revision: i64) -> bool {
        revision >= self.forgotten.load(Ordering::Acquire)
    }

    /// Forgets, from now on, what is older than one to two times `every`, as upstream compacts: a client that pages
    /// through a list for longer is told so (410) and may go on with what there is by then.
    pub async fn forget(&self, every: Duration) {
        let mut before = 0;
        loop {
            tokio::time::sleep(every).await;
            self.forgotten.store(before, Ordering::Release);
            before = self.applied();
        }
    }

    /// Waits until the caches stand at a revision; false if they did not get there in time.
    pub async fn reach(&self, revision: i64, within: Duration) -> bool {
        if self.applied() >= revision {
            return true;
        }
        let mut applied = self.applied.subscribe();
        let reached = async { applied.wait_for(|at| *at >= revision).await.is_ok() };
        let asking = async {
            tokio::time::sleep(ASK_AFTER).await;
            loop {
                self.nudge.notify_one();
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::select! {
            reached = reached => reached,
            () = asking => false,
            () = tokio::time::sleep(within) => false,
        }
    }

    /// Somebody waits for a revision that the caches may have reached without knowing.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }
}

/// What a store that others write to, too, stands at: one read of the cluster serves all who asked before it began.
#[derive(Default)]
pub struct Latest {
    begun: AtomicU64,
    last: Mutex<(u64, i64)>,
}

impl Latest {
    /// A revision not older than any write acknowledged, by whichever server, before the call.
    pub async fn revision(&self, store: &dyn Store) -> store::Result<i64> {
        let seen = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if last.0 > seen {
            return Ok(last.1);
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        // A range, unlike the status of a member, is answered with a majority's word.
        let nothing = RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::key("/registry")) };
        let revision = store.range(nothing).await?.revision;
        *last = (number, revision);
        Ok(revision)
    }
}
