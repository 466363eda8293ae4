//! The ordered index: every key with its versions since the last compaction, and which keys each revision changed.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::{Error, KeyRange, KeyValue, LeaseId, Result, Revision};

/// One version of a key; a deletion is a version with `version == 0`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Version<S> {
    pub modified: Revision,
    pub created: Revision,
    pub version: i64,
    pub lease: LeaseId,
    pub slot: S,
}

impl<S> Version<S> {
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    pub fn key_value(&self, key: Bytes, value: Bytes) -> KeyValue {
        KeyValue {
            key,
            value,
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// The versions of one key, oldest first. Most keys have one, so one is kept in place.
#[derive(Clone, Debug)]
pub(crate) enum Versions<S> {
    One(Version<S>),
    Many(Vec<Version<S>>),
}

impl<S: Clone + Default> Versions<S> {
    pub fn as_slice(&self) -> &[Version<S>] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [Version<S>] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// The version a read at `revision` sees, tombstones included.
    pub fn at(&self, revision: Revision) -> Option<&Version<S>> {
        let all = self.as_slice();
        let newer = all.iter().rev().take_while(|v| v.modified > revision).count();
        all.len().checked_sub(newer + 1).map(|i| &all[i])
    }

    /// Puts a version where it belongs; one of the same revision is replaced.
    pub fn place(&mut self, version: Version<S>) {
        let all = self.as_mut_slice();
        let at = all.partition_point(|v| v.modified < version.modified);
        match all.get_mut(at) {
            None => self.push(version),
            Some(same) if same.modified == version.modified => *same = version,
            Some(_) => {
                let mut many = all.to_vec();
                many.insert(at, version);
                *self = Self::Many(many);
            }
        }
    }

    fn push(&mut self, version: Version<S>) {
        match self {
            Self::Many(many) => many.push(version),
            Self::One(one) => *self = Self::Many(vec![std::mem::take(one), version]),
        }
    }

    /// True if nothing is left.
    fn pop(&mut self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(many) => {
                many.pop();
                self.shrink()
            }
        }
    }

    fn shrink(&mut self) -> bool {
        if let Self::Many(many) = self {
            match many.len() {
                0 => return true,
                1 => *self = Self::One(many.swap_remove(0)),
                n if many.capacity() > 2 * n + 4 => many.shrink_to(n + 2),
                _ => {}
            }
        }
        false
    }

    /// Drops what no read at `revision` or later can see; a deletion goes once `revision` is past it.
    /// True if nothing is left.
    pub fn compact(&mut self, revision: Revision, mut dropped: impl FnMut(&Version<S>)) -> bool {
        let all = self.as_slice();
        let seen = all.partition_point(|v| v.modified <= revision);
        let Some(last) = seen.checked_sub(1) else { return false };
        let gone = all[last].is_tombstone() && all[last].modified < revision;
        let cut = if gone { seen } else { last };
        all[..cut].iter().for_each(&mut dropped);
        match self {
            Self::One(_) => cut == 1,
            Self::Many(many) => {
                many.drain(..cut);
                self.shrink()
            }
        }
    }
}

/// The keys one revision changed, in the order of the transaction.
#[derive(Clone, Debug)]
pub(crate) enum Changed {
    One(Bytes),
    Many(Box<[Bytes]>),
}

impl Changed {
    pub fn keys(&self) -> &[Bytes] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

pub(crate) struct Index<S> {
    pub keys: BTreeMap<Bytes, Versions<S>>,
    /// `history[i]` is what revision `first + i` changed; from the compacted revision on, where known.
    pub history: VecDeque<Changed>,
    /// The revision of `history[0]`.
    pub first: Revision,
    pub compacted: Revision,
    /// The newest revision in the index; what readers may see is the hub's to say.
    pub revision: Revision,
    /// Keys that exist at `revision`.
    pub live: u64,
}

impl<S: Clone + Default> Default for Index<S> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), history: VecDeque::new(), first: 2, compacted: 0, revision: 1, live: 0 }
    }
}

impl<S: Clone + Default> Index<S> {
    /// The version of an existing key that a read at `revision` sees.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<&Version<S>> {
        self.keys.get(key)?.at(revision).filter(|v| !v.is_tombstone())
    }

    pub fn iter<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Versions<S>)> + 'a {
        let start = &range.start[..];
        let bounds: Option<(Bound<&[u8]>, Bound<&[u8]>)> = match &range.end {
            None => Some((Bound::Included(start), Bound::Included(start))),
            Some(end) if end.is_empty() => Some((Bound::Included(start), Bound::Unbounded)),
            // An ordered map panics on an inverted range.
            Some(end) if &end[..] <= start => None,
            Some(end) => Some((Bound::Included(start), Bound::Excluded(&end[..]))),
        };
        bounds.into_iter().flat_map(|bounds| self.keys.range::<[u8], _>(bounds))
    }

    /// Adds a version at the tip; `commit` or `take_back` must follow.
    pub fn push(&mut self, key: &Bytes, version: Version<S>) {
        let lives = !version.is_tombstone();
        match self.keys.get_mut(key) {
            Some(versions) => {
                let lived = versions.as_slice().last().is_some_and(|v| !v.is_tombstone());
                self.live = self.live + u64::from(lives) - u64::from(lived);
                versions.push(version);
            }
            None => {
                self.live += u64::from(lives);
                self.keys.insert(key.clone(), Versions::One(version));
            }
        }
    }

    /// Undoes the newest `push` of a key.
    pub fn take_back(&mut self, key: &[u8]) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let lives = versions.as_slice().last().is_some_and(|v| !v.is_tombstone());
        let empty = versions.pop();
        let lived = !empty && versions.as_slice().last().is_some_and(|v| !v.is_tombstone());
        self.live = self.live + u64::from(lived) - u64::from(lives);
        if empty {
            self.keys.remove(key);
        }
    }

    /// Makes the pushed versions of these keys the next revision.
    pub fn commit(&mut self, mut keys: Vec<Bytes>) -> Revision {
        self.revision += 1;
        self.history.push_back(match keys.len() {
            1 => Changed::One(keys.swap_remove(0)),
            _ => Changed::Many(keys.into()),
        });
        self.revision
    }

    /// Undoes every commit after `revision`.
    pub fn roll_back(&mut self, revision: Revision) {
        while self.revision > revision {
            let Some(changed) = self.history.pop_back() else { break };
            changed.keys().iter().for_each(|key| self.take_back(key));
            self.revision -= 1;
        }
    }

    /// Lets a version's slot be changed.
    pub fn relocate(&mut self, key: &[u8], modified: Revision, change: impl FnOnce(&mut S)) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        if let Some(version) = versions.as_mut_slice().iter_mut().find(|v| v.modified == modified) {
            change(&mut version.slot);
        }
    }

    pub fn changed(&self, revision: Revision) -> Option<&Changed> {
        self.history.get(usize::try_from(revision - self.first).ok()?)
    }

    pub fn check_compact(&self, revision: Revision, current: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(Error::Compacted { requested: revision, compacted: self.compacted });
        }
        if revision > current {
            return Err(Error::FutureRevision { requested: revision, current });
        }
        Ok(())
    }

    /// Forgets what no read or watch from `revision` on needs; `dropped` is told of each forgotten version.
    pub fn compact(&mut self, revision: Revision, mut dropped: impl FnMut(&Version<S>)) {
        let mut at = self.first;
        while at <= revision {
            let Some(changed) = self.changed(at).cloned() else { break };
            for key in changed.keys() {
                if let Some(versions) = self.keys.get_mut(key)
                    && versions.compact(revision, &mut dropped)
                {
                    self.keys.remove(key);
                }
            }
            at += 1;
        }
        while self.first < revision && self.history.pop_front().is_some() {
            self.first += 1;
        }
        if self.history.len() * 4 < self.history.capacity() {
            self.history.shrink_to(self.history.len() * 2);
        }
        self.compacted = self.compacted.max(revision);
    }
}
