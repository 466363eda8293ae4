//! Answers of other servers, kept for as long as they say, at most half a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::wire::{Foreign, Query};

const MOST: Duration = Duration::from_secs(30);
/// Entries per generation; two are kept.
const GENERATION: usize = 5000;

/// Name, kind, class, whether DNSSEC records are wanted.
type Id = (String, u16, u16, bool);

struct Kept {
    answer: Arc<Foreign>,
    since: Instant,
    until: Instant,
}

/// Two generations: when the young one is full it becomes the old one, and the old one goes. No entry is touched
/// twice, nothing is swept by a timer.
#[derive(Default)]
pub(crate) struct Cache {
    young: HashMap<Id, Kept>,
    old: HashMap<Id, Kept>,
}

impl Cache {
    /// The answer and its age in seconds.
    pub(crate) fn get(&self, query: &Query, now: Instant) -> Option<(Arc<Foreign>, u32)> {
        let id = id(query);
        let kept = self.young.get(&id).or_else(|| self.old.get(&id)).filter(|kept| now < kept.until)?;
        Some((kept.answer.clone(), now.duration_since(kept.since).as_secs() as u32))
    }

    pub(crate) fn put(&mut self, query: &Query, answer: Arc<Foreign>, now: Instant) {
        let keep = Duration::from_secs(answer.keep.into()).min(MOST);
        if keep.is_zero() {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id(query), Kept { answer, since: now, until: now + keep });
    }
}

fn id(query: &Query) -> Id {
    (query.name.clone(), query.kind, query.class, query.edns.is_some_and(|e| e.dnssec_ok))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Data, Record, Response};

    #[test]
    fn kept_as_long_as_it_says() {
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let query = Query::parse(question).unwrap();
        let record = Record { name: "a".into(), ttl: 9, data: Data::A([1, 2, 3, 4].into()) };
        let bytes = query.write(&Response { answers: vec![record], ..Default::default() }, 512);
        let answer = Arc::new(Foreign::parse(&bytes, &query, 1).unwrap());
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put(&query, answer, start);
        let after = |s| start + Duration::from_secs(s);
        assert_eq!(cache.get(&query, after(8)).unwrap().1, 8);
        assert!(cache.get(&query, after(9)).is_none());
        let other = Query { kind: 28, ..query };
        assert!(cache.get(&other, after(1)).is_none());
    }
}
