//! Robustness: Kubernetes-shaped traffic on any [`Store`], a record of what was asked, answered and watched, and a model
//! that says whether such a history is possible.
//!
//! [`live`] crashes a store on a simulated disk, `crashes` (features `etcd` and `face`) kills processes. Every write carries a number of its own in its value, so that each event can be traced to the attempt it came from.

mod check;
#[cfg(all(feature = "etcd", feature = "face"))]
pub mod crashes;
mod lives;
mod traffic;

pub use check::{Violation, check};
pub use lives::{Unsound, World, live};
pub use traffic::{Dice, Traffic, Watched};

use bytes::Bytes;

use crate::{Event, KeyValue, Revision};

/// What a client asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `expected`: only if the key's mod revision is this (0: only if there is none); `None`: in any case.
    Put {
        key: Bytes,
        expected: Option<Revision>,
    },
    Delete {
        key: Bytes,
        expected: Option<Revision>,
    },
    /// The latest version of keys with this prefix.
    Read {
        prefix: Bytes,
    },
}

/// What it was told.
#[derive(Clone, Debug)]
pub enum Told {
    Done {
        revision: Revision,
    },
    /// The condition did not hold.
    Conflict {
        revision: Revision,
        current: Option<KeyValue>,
    },
    Read {
        revision: Revision,
        kvs: Vec<KeyValue>,
    },
    /// It did not happen and never will.
    Failed,
    /// It may have happened.
    Unknown,
}

/// One request, on a clock that all clients share.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Writes have it in their value.
    pub number: u64,
    pub started: u64,
    pub ended: u64,
    pub ask: Ask,
    pub told: Told,
}

/// What a watcher saw, over all of its resumptions.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub prefix: Bytes,
    /// The first revision asked for.
    pub from: Revision,
    pub commits: Vec<(Revision, Vec<Event>)>,
    /// Everything up to here was promised to have been delivered.
    pub progress: Revision,
}

/// All there is to judge.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub attempts: Vec<Attempt>,
    /// At least one watcher must have seen everything (empty prefix) from the first revision on.
    pub seen: Vec<Seen>,
    /// The keys at the end, and the revision.
    pub last: (Revision, Vec<KeyValue>),
}

/// The number in a value.
pub fn number_in(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.split(|b| *b == b' ').next()?).ok()?.parse().ok()
}
