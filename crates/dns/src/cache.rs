//! Answers of upstream resolvers, kept as long as they say and no longer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Answers kept at most; when full, those that have run out go first, then any.
const CAPACITY: usize = 4096;
const LONGEST: Duration = Duration::from_secs(3600);
const LONGEST_NEGATIVE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Lower case.
    pub name: Name,
    pub kind: RecordType,
}

#[derive(Default)]
pub struct Cache {
    entries: HashMap<Question, (Instant, Instant, Message)>,
}

impl Cache {
    /// A kept answer, its times to live counted down.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let (since, until, message) = self.entries.get(question)?;
        if now >= *until {
            return None;
        }
        let age = now.duration_since(*since).as_secs() as u32;
        let mut message = message.clone();
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            for record in section {
                record.ttl = record.ttl.saturating_sub(age);
            }
        }
        Some(message)
    }

    pub fn put(&mut self, question: Question, message: Message, now: Instant) {
        let Some(life) = life(&message) else { return };
        if self.entries.len() >= CAPACITY {
            self.entries.retain(|_, (_, until, _)| *until > now);
            let surplus = (self.entries.len() + 1).saturating_sub(CAPACITY);
            let doomed: Vec<Question> = self.entries.keys().take(surplus).cloned().collect();
            for question in doomed {
                self.entries.remove(&question);
            }
        }
        self.entries.insert(question, (now, now + life, message));
    }
}

/// How long an answer may be kept: the least of its records, or what the SOA says of the absence (RFC 2308).
fn life(message: &Message) -> Option<Duration> {
    if message.metadata.truncation {
        return None;
    }
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    match message.metadata.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => {
            let least = message.answers.iter().map(|record| record.ttl).min()?;
            Some(seconds(least).min(LONGEST)).filter(|life| !life.is_zero())
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let minimum = message.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
                _ => None,
            })?;
            Some(seconds(minimum).min(LONGEST_NEGATIVE)).filter(|life| !life.is_zero())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    use super::*;

    #[test]
    fn answers_age_and_run_out() {
        let name = Name::from_str("example.org.").unwrap();
        let mut message = Message::response(1, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name.clone(), 10, RData::A(A::new(192, 0, 2, 1))));
        let question = Question { name, kind: RecordType::A };
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put(question.clone(), message.clone(), start);
        let kept = cache.get(&question, start + Duration::from_secs(4)).unwrap();
        assert_eq!(kept.answers[0].ttl, 6);
        assert!(cache.get(&question, start + Duration::from_secs(10)).is_none());
        message.metadata.response_code = ResponseCode::ServFail;
        cache.put(question.clone(), message, start + Duration::from_secs(20));
        assert!(cache.get(&question, start + Duration::from_secs(20)).is_none(), "failures are not kept");
    }
}
