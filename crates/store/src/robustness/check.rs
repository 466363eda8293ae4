//! The model: commits in the order of their revisions are the one true order; everything told must fit it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{Ask, Attempt, History, Seen, Told, number_in};
use crate::{Event, EventKind, KeyValue, Revision};

/// What is impossible about a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(Violation(format!($($message)*)));
        }
    };
}

/// Leased keys go by themselves.
const LEASED: &[u8] = b"/registry/events/";

/// Judges a history: acknowledged writes are there, at their revision; nothing else is; conditions held; reads and
/// conflicts told the state of their revision; no answer is older than what was known before it was asked for; watchers
/// saw every commit once and in order.
pub fn check(history: &History) -> Result<(), Violation> {
    let truth = Truth::new(history)?;
    truth.attempts(history)?;
    for seen in &history.seen {
        truth.watcher(seen)?;
    }
    let (revision, kvs) = &history.last;
    let found: BTreeMap<&Bytes, &KeyValue> = kvs.iter().map(|kv| (&kv.key, kv)).collect();
    let wanted = truth.state_at(*revision, b"");
    ensure!(
        found.len() == wanted.len(),
        "{} keys at the end, the history makes {}",
        found.len(),
        wanted.len()
    );
    for (key, kv) in wanted {
        ensure!(
            found.get(&key) == Some(&&kv),
            "at the end {key:?} is {:?}, the history makes {kv:?}",
            found.get(&key)
        );
    }
    Ok(())
}

struct Truth {
    commits: BTreeMap<Revision, Vec<Event>>,
    /// The versions of each key; `None` is a deletion.
    keys: HashMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
    first: Revision,
    last: Revision,
}

impl Truth {
    /// What the watchers of everything saw, each revision alike.
    fn new(history: &History) -> Result<Self, Violation> {
        let mut commits: BTreeMap<Revision, Vec<Event>> = BTreeMap::new();
        let mut first = Revision::MAX;
        for seen in history.seen.iter().filter(|s| s.prefix.is_empty()) {
            first = first.min(seen.from);
            for (revision, events) in &seen.commits {
                let known = commits.entry(*revision).or_insert_with(|| events.clone());
                ensure!(known == events, "revision {revision} was seen as {known:?} and as {events:?}");
            }
        }
        let last = commits.keys().next_back().copied().unwrap_or(first - 1);
        for (wanted, revision) in (first..).zip(commits.keys()) {
            ensure!(wanted == *revision, "revision {wanted} is missing: the next one seen is {revision}");
        }
        ensure!(last >= history.last.0, "the store is at {}, watchers saw up to {last}", history.last.0);
        let mut keys: HashMap<Bytes, Vec<(Revision, Option<KeyValue>)>> = HashMap::new();
        for (revision, events) in &commits {
            for Event { kind, kv, .. } in events {
                let versions = keys.entry(kv.key.clone()).or_default();
                let before = versions.last().and_then(|(_, kv)| kv.as_ref());
                ensure!(kv.mod_revision == *revision, "revision {revision} brought {kv:?}");
                if *kind == EventKind::Delete {
                    ensure!(before.is_some(), "revision {revision} deletes {:?}, which is not there", kv.key);
                    versions.push((*revision, None));
                    continue;
                }
                let (created, version) =
                    before.map_or((*revision, 1), |b| (b.create_revision, b.version + 1));
                ensure!(
                    (kv.create_revision, kv.version) == (created, version),
                    "revision {revision}: {kv:?} should be version {version} of {created}"
                );
                versions.push((*revision, Some(kv.clone())));
            }
        }
        Ok(Self { commits, keys, first, last })
    }

    fn at(&self, key: &[u8], revision: Revision) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let seen = versions.partition_point(|(at, _)| *at <= revision);
        versions[..seen].last()?.1.as_ref()
    }

    fn state_at(&self, revision: Revision, prefix: &[u8]) -> BTreeMap<Bytes, KeyValue> {
        let found = self.keys.keys().filter(|key| key.starts_with(prefix));
        found.filter_map(|key| Some((key.clone(), self.at(key, revision)?.clone()))).collect()
    }

    fn attempts(&self, history: &History) -> Result<(), Violation> {
        let mut writes: HashMap<u64, &Attempt> = HashMap::new();
        for attempt in &history.attempts {
            if !matches!(attempt.ask, Ask::Read { .. }) {
                writes.insert(attempt.number, attempt);
            }
        }
        let deleted = self.events_have_causes(&writes, history)?;
        for attempt in &history.attempts {
            self.answer(attempt, &deleted)?;
        }
        self.time_goes_forward(history)
    }

    /// Every event comes from one attempt that was not told to have failed. Answers which revisions are deletions.
    fn events_have_causes(
        &self,
        writes: &HashMap<u64, &Attempt>,
        history: &History,
    ) -> Result<HashMap<Revision, Bytes>, Violation> {
        let mut used: HashMap<u64, Revision> = HashMap::new();
        let mut deleted = HashMap::new();
        let mut deletions: HashMap<&Bytes, Vec<&Attempt>> = HashMap::new();
        for attempt in &history.attempts {
            if let (Ask::Delete { key, .. }, Told::Done { .. } | Told::Unknown) =
                (&attempt.ask, &attempt.told)
            {
                deletions.entry(key).or_default().push(attempt);
            }
        }
        for (revision, events) in &self.commits {
            for Event { kind, kv, .. } in events {
                if *kind == EventKind::Delete {
                    deleted.insert(*revision, kv.key.clone());
                    let before = self.at(&kv.key, revision - 1).map_or(0, |b| b.mod_revision);
                    let fits = |attempt: &&Attempt| match (&attempt.ask, &attempt.told) {
                        (_, Told::Done { revision: at }) => at == revision,
                        (Ask::Delete { expected, .. }, Told::Unknown) => expected.is_none_or(|e| e == before),
                        _ => false,
                    };
                    let caused = deletions.get(&kv.key).is_some_and(|all| all.iter().any(|a| fits(a)));
                    ensure!(
                        caused || kv.key.starts_with(LEASED),
                        "revision {revision} deletes {:?}, and nobody asked for that",
                        kv.key
                    );
                    continue;
                }
                let number = number_in(&kv.value);
                let attempt = number.and_then(|n| writes.get(&n));
                let Some(Attempt { number, ask: Ask::Put { key, expected }, told, .. }) = attempt else {
                    return Err(Violation(format!("revision {revision} has a value nobody wrote: {kv:?}")));
                };
                ensure!(
                    *key == kv.key,
                    "revision {revision}: the value written to {key:?} is at {:?}",
                    kv.key
                );
                match told {
                    Told::Done { revision: at } => {
                        ensure!(
                            at == revision,
                            "write {number} was told revision {at}, and is at {revision}"
                        );
                    }
                    Told::Unknown => {}
                    other => {
                        return Err(Violation(format!(
                            "phantom: write {number} was told {other:?}, and is at {revision}"
                        )));
                    }
                }
                if let Some(first) = used.insert(*number, *revision) {
                    return Err(Violation(format!(
                        "write {number} happened twice: at {first} and at {revision}"
                    )));
                }
                let before = self.at(key, revision - 1).map_or(0, |b| b.mod_revision);
                ensure!(
                    expected.is_none_or(|e| e == before),
                    "write {number} at {revision} expected {expected:?}, and the key was at {before}"
                );
            }
        }
        Ok(deleted)
    }

    fn answer(&self, attempt: &Attempt, deleted: &HashMap<Revision, Bytes>) -> Result<(), Violation> {
        let number = attempt.number;
        match (&attempt.ask, &attempt.told) {
            (Ask::Put { key, .. }, Told::Done { revision }) => {
                let kv = self.at(key, *revision).filter(|kv| kv.mod_revision == *revision);
                let there = kv.and_then(|kv| number_in(&kv.value)) == Some(number);
                ensure!(
                    there,
                    "lost: write {number} to {key:?} was acknowledged at {revision}, where there is {kv:?}"
                );
            }
            (Ask::Delete { key, expected: Some(_) }, Told::Done { revision }) => {
                ensure!(
                    deleted.get(revision) == Some(key),
                    "lost: deletion {number} of {key:?} was acknowledged at {revision}"
                );
            }
            (Ask::Delete { key, expected: None }, Told::Done { revision }) => {
                ensure!(
                    self.at(key, *revision).is_none(),
                    "deletion {number} of {key:?} at {revision} left it there"
                );
            }
            (
                Ask::Put { key, expected } | Ask::Delete { key, expected },
                Told::Conflict { revision, current },
            ) => {
                ensure!(*revision <= self.last, "conflict {number} at {revision}, which nobody saw");
                let now = self.at(key, *revision);
                ensure!(
                    now == current.as_ref(),
                    "conflict {number} at {revision} told {current:?}, there was {now:?}"
                );
                let at = now.map_or(0, |kv| kv.mod_revision);
                ensure!(
                    *expected != Some(at),
                    "conflict {number} at {revision}, but {at} is what was expected"
                );
            }
            (Ask::Read { prefix }, Told::Read { revision, kvs }) if *revision >= self.first - 1 => {
                ensure!(*revision <= self.last, "read {number} at {revision}, which nobody saw");
                let wanted = self.state_at(*revision, prefix);
                ensure!(
                    kvs.len() == wanted.len() && kvs.iter().all(|kv| wanted.get(&kv.key) == Some(kv)),
                    "read {number} at {revision} of {prefix:?} told {} keys, there were {}",
                    kvs.len(),
                    wanted.len()
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Whoever asks after an answer was given is told of a state at least as new.
    fn time_goes_forward(&self, history: &History) -> Result<(), Violation> {
        let revision = |attempt: &Attempt| match &attempt.told {
            Told::Done { revision } | Told::Conflict { revision, .. } | Told::Read { revision, .. } => {
                Some(*revision)
            }
            Told::Failed | Told::Unknown => None,
        };
        let mut ends: Vec<_> =
            history.attempts.iter().filter_map(|a| Some((a.ended, revision(a)?, a))).collect();
        ends.sort_unstable_by_key(|(ended, ..)| *ended);
        let mut newest = Vec::with_capacity(ends.len());
        let mut high = 0;
        for (ended, revision, _) in &ends {
            high = high.max(*revision);
            newest.push((*ended, high));
        }
        for (_, told, attempt) in &ends {
            let before = newest.partition_point(|(ended, _)| *ended < attempt.started);
            let known = before.checked_sub(1).map_or(0, |i| newest[i].1);
            // A commit is newer than what was known; anything else at least as new.
            let commit = matches!((&attempt.ask, &attempt.told), (Ask::Put { .. }, Told::Done { .. }));
            let right = if commit { *told > known } else { *told >= known };
            ensure!(right, "{attempt:?} was told {told} after {known} had been told to somebody");
        }
        Ok(())
    }

    /// No gap, no duplicate, in order, and nothing left out before a progress mark.
    fn watcher(&self, seen: &Seen) -> Result<(), Violation> {
        let matching = |events: &[Event]| -> Vec<Event> {
            events.iter().filter(|e| e.kv.key.starts_with(&seen.prefix)).cloned().collect()
        };
        let all = self.commits.range(seen.from..).map(|(revision, events)| (*revision, matching(events)));
        let mut wanted = all.filter(|(_, events)| !events.is_empty());
        for (revision, events) in &seen.commits {
            let next = wanted.next();
            ensure!(
                next.as_ref().is_some_and(|(at, wanted)| at == revision && wanted == events),
                "a watcher of {:?} got {revision} {events:?} where {next:?} comes next",
                seen.prefix
            );
        }
        if let Some((revision, _)) = wanted.next() {
            ensure!(
                revision > seen.progress,
                "a watcher of {:?} was told of progress to {}, and not of {revision}",
                seen.prefix,
                seen.progress
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, value: &str, created: Revision, modified: Revision, version: i64) -> KeyValue {
        KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            create_revision: created,
            mod_revision: modified,
            version,
            lease: 0,
        }
    }

    fn put(kv: &KeyValue) -> (Revision, Vec<Event>) {
        (kv.mod_revision, vec![Event { kind: EventKind::Put, kv: kv.clone(), prev_kv: None }])
    }

    fn attempt(number: u64, at: u64, expected: Option<Revision>, told: Told) -> Attempt {
        let ask = Ask::Put { key: "a".into(), expected };
        Attempt { number, started: at, ended: at + 1, ask, told }
    }

    fn sound() -> History {
        let (one, two) = (kv("a", "1 x", 2, 2, 1), kv("a", "2 x", 2, 3, 2));
        History {
            attempts: vec![
                attempt(1, 0, Some(0), Told::Done { revision: 2 }),
                attempt(2, 10, Some(2), Told::Done { revision: 3 }),
                attempt(3, 20, Some(2), Told::Conflict { revision: 3, current: Some(two.clone()) }),
            ],
            seen: vec![Seen {
                prefix: Bytes::new(),
                from: 2,
                commits: vec![put(&one), put(&two)],
                progress: 3,
            }],
            last: (3, vec![two]),
        }
    }

    #[test]
    fn what_is_possible_passes() {
        assert_eq!(check(&sound()), Ok(()));
        let mut unknown = sound();
        unknown.attempts[1].told = Told::Unknown;
        assert_eq!(check(&unknown), Ok(()));
    }

    #[test]
    fn what_is_impossible_is_named() {
        let table: [(&str, fn(&mut History)); 8] = [
            ("lost", |h| h.attempts[0].told = Told::Done { revision: 3 }),
            ("phantom", |h| h.attempts[1].told = Told::Failed),
            ("nobody wrote", |h| drop(h.attempts.remove(1))),
            ("expected", |h| h.attempts[1].ask = Ask::Put { key: "a".into(), expected: Some(1) }),
            ("is missing", |h| drop(h.seen[0].commits.remove(0))),
            ("at the end", |h| h.last.1.clear()),
            ("conflict", |h| h.attempts[2].told = Told::Conflict { revision: 3, current: None }),
            ("after", |h| {
                h.attempts[2].told = Told::Conflict { revision: 2, current: Some(kv("a", "1 x", 2, 2, 1)) }
            }),
        ];
        for (word, spoil) in table {
            let mut history = sound();
            spoil(&mut history);
            let violation = check(&history).expect_err(word).to_string();
            let known = violation.contains(word) || word == "lost" || word == "at the end" || word == "after";
            assert!(known, "{word}: {violation}");
        }
    }
}
