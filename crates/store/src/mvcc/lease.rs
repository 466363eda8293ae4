//! Leases: deadlines and the keys attached to them. Time is given.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Error, Event, EventKind, Lease, LeaseId, Result};

/// etcd's limit (about 285 years).
const MAX_TTL: i64 = 9_000_000_000;

struct State {
    ttl: i64,
    deadline: Instant,
    keys: BTreeSet<Bytes>,
}

#[derive(Default)]
pub(crate) struct Leases {
    leases: HashMap<LeaseId, State>,
    deadlines: BTreeSet<(Instant, LeaseId)>,
    /// Which lease a key hangs on.
    attached: HashMap<Bytes, LeaseId>,
}

impl Leases {
    /// The id and time to live a grant would get.
    pub fn check_grant(&self, id: LeaseId, ttl: i64) -> Result<(LeaseId, i64)> {
        if ttl > MAX_TTL {
            return Err(Error::TooLarge("lease TTL".into()));
        }
        if id != 0 && self.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let mut chosen = id;
        while chosen == 0 || (id == 0 && self.leases.contains_key(&chosen)) {
            chosen = (std::hash::RandomState::new().build_hasher().finish() >> 2) as LeaseId;
        }
        Ok((chosen, ttl.max(1)))
    }

    pub fn grant(&mut self, id: LeaseId, ttl: i64, now: Instant) {
        let deadline = after(now, ttl);
        self.deadlines.insert((deadline, id));
        self.leases.insert(id, State { ttl, deadline, keys: BTreeSet::new() });
    }

    /// Forgets the lease; its keys are the caller's to delete.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some(State { deadline, keys, .. }) = self.leases.remove(&id) {
            self.deadlines.remove(&(deadline, id));
            keys.iter().for_each(|key| {
                self.attached.remove(key);
            });
        }
    }

    pub fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<Lease> {
        // One that has run out may be about to be revoked: telling that it goes on would be untrue.
        let state =
            self.leases.get_mut(&id).filter(|state| state.deadline > now).ok_or(Error::LeaseNotFound)?;
        self.deadlines.remove(&(state.deadline, id));
        state.deadline = after(now, state.ttl);
        self.deadlines.insert((state.deadline, id));
        Ok(Lease { id, granted_ttl: state.ttl, ttl: state.ttl, keys: Vec::new() })
    }

    pub fn postpone(&mut self, id: LeaseId, deadline: Instant) {
        if let Some(state) = self.leases.get_mut(&id) {
            self.deadlines.remove(&(state.deadline, id));
            state.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
    }

    pub fn time_to_live(&self, id: LeaseId, keys: bool, now: Instant) -> Lease {
        let Some(state) = self.leases.get(&id) else {
            return Lease { id, granted_ttl: 0, ttl: -1, keys: Vec::new() };
        };
        let ttl = state.deadline.saturating_duration_since(now).as_secs_f64().ceil() as i64;
        let keys = if keys { state.keys.iter().cloned().collect() } else { Vec::new() };
        Lease { id, granted_ttl: state.ttl, ttl, keys }
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    pub fn keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.leases.get(&id).map(|s| s.keys.iter().cloned().collect()).unwrap_or_default()
    }

    pub fn granted(&self) -> Vec<(LeaseId, i64)> {
        let mut all: Vec<_> = self.leases.iter().map(|(id, state)| (*id, state.ttl)).collect();
        all.sort_unstable();
        all
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect()
    }

    /// Notes which lease the changed keys now hang on.
    pub fn follow(&mut self, events: &[Event]) {
        for event in events {
            let lease = if event.kind == EventKind::Put { event.kv.lease } else { 0 };
            self.attach(&event.kv.key, lease);
        }
    }

    pub fn attach(&mut self, key: &Bytes, lease: LeaseId) {
        let before = match lease {
            0 => self.attached.remove(key),
            id => self.attached.insert(key.clone(), id),
        };
        if let Some(before) = before.filter(|before| *before != lease)
            && let Some(state) = self.leases.get_mut(&before)
        {
            state.keys.remove(key);
        }
        if lease != 0
            && let Some(state) = self.leases.get_mut(&lease)
        {
            state.keys.insert(key.clone());
        }
    }
}

fn after(now: Instant, ttl: i64) -> Instant {
    let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    // A deadline beyond what the clock can say is as good as a century.
    now.checked_add(ttl).unwrap_or_else(|| now + Duration::from_secs(3_153_600_000))
}
