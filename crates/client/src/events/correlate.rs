//! Which happenings become a new Event, which a count on an old one, and which nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::jiff::Timestamp;

use super::{Happening, Style};

/// client-go's numbers: the spam filter's burst and its refill, events alike but for their message before they
/// are drawn together and for how long they are, and the entries remembered.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
const ALIKE: usize = 10;
const ALIKE_SECONDS: i64 = 600;
const REMEMBERED: usize = 4096;

/// A series without news for this long is over (`events.k8s.io`).
const SERIES_SECONDS: i64 = 360;

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Drop,
    Create { message: String },
    Count { name: String, count: i32, message: String },
}

pub(super) struct Correlator {
    style: Style,
    /// By source and object: tokens left, and when that was.
    spam: HashMap<u64, (f64, Timestamp)>,
    /// By all but the message: the messages' hashes, and when the last came.
    alike: HashMap<u64, (Vec<u64>, Timestamp)>,
    /// By everything that must be equal to count up: the Event's name and its count.
    counted: HashMap<u64, Counted>,
}

struct Counted {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Correlator {
    pub(super) fn new(style: Style) -> Self {
        Self { style, spam: HashMap::new(), alike: HashMap::new(), counted: HashMap::new() }
    }

    pub(super) fn step(&mut self, happening: &Happening, now: Timestamp) -> Step {
        self.bound();
        if self.style == Style::Series {
            let key = self.key(happening, now).0;
            return match self.counted.get(&key) {
                Some(seen) if now.as_second() - seen.last.as_second() < SERIES_SECONDS => Step::Count {
                    name: seen.name.clone(),
                    count: seen.count + 1,
                    message: happening.message.clone(),
                },
                _ => Step::Create { message: happening.message.clone() },
            };
        }
        self.remember(happening, now);
        let (key, drawn_together) = self.key(happening, now);
        let message = if drawn_together {
            format!("(combined from similar events): {}", happening.message)
        } else {
            happening.message.clone()
        };
        let step = match self.counted.get(&key) {
            Some(seen) => Step::Count { name: seen.name.clone(), count: seen.count + 1, message },
            None => Step::Create { message },
        };
        if self.spends_token(happening, now) { step } else { Step::Drop }
    }

    /// The step's Event is on the server under `name`.
    pub(super) fn written(&mut self, happening: &Happening, name: String, now: Timestamp) {
        let key = self.key(happening, now).0;
        let seen = self.counted.entry(key).or_insert(Counted { name: name.clone(), count: 0, last: now });
        let over = self.style == Style::Series && seen.name != name;
        *seen = Counted { name, count: if over { 1 } else { seen.count + 1 }, last: now };
    }

    /// The Event that was counted on had gone; `name` is new.
    pub(super) fn restarted(&mut self, happening: &Happening, name: String, now: Timestamp) {
        let key = self.key(happening, now).0;
        self.counted.insert(key, Counted { name, count: 1, last: now });
    }

    fn remember(&mut self, happening: &Happening, now: Timestamp) {
        let message = hash(&happening.message);
        let entry = self.alike.entry(kind_hash(happening)).or_insert((Vec::new(), now));
        if now.as_second() - entry.1.as_second() > ALIKE_SECONDS {
            entry.0.clear();
        }
        entry.1 = now;
        if entry.0.len() < ALIKE && !entry.0.contains(&message) {
            entry.0.push(message);
        }
    }

    /// The key to count under, and whether messages no longer matter in it.
    fn key(&self, happening: &Happening, _now: Timestamp) -> (u64, bool) {
        let kind = kind_hash(happening);
        match self.style {
            Style::Series => (hash(&(kind, &happening.action, &happening.message)), false),
            Style::Counted => {
                let many = self.alike.get(&kind).is_some_and(|(messages, _)| messages.len() >= ALIKE);
                if many { (kind, true) } else { (hash(&(kind, &happening.message)), false) }
            }
        }
    }

    fn spends_token(&mut self, happening: &Happening, now: Timestamp) -> bool {
        let about = &happening.about;
        let key = hash(&(&about.kind, &about.namespace, &about.name, &about.uid, &about.api_version));
        let (tokens, at) = self.spam.entry(key).or_insert((BURST, now));
        let passed = now.duration_since(*at).as_secs_f64().max(0.0);
        *tokens = (*tokens + passed / REFILL_SECONDS).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    /// Forgets everything when too much is remembered: events then start anew, which is harmless.
    fn bound(&mut self) {
        if self.spam.len() > REMEMBERED {
            self.spam.clear();
        }
        if self.alike.len() > REMEMBERED {
            self.alike.clear();
        }
        if self.counted.len() > REMEMBERED {
            self.counted.clear();
        }
    }
}

fn kind_hash(happening: &Happening) -> u64 {
    let about = &happening.about;
    hash(&(
        (&about.kind, &about.namespace, &about.name, &about.uid, &about.api_version, &about.field_path),
        happening.severity,
        &happening.reason,
    ))
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::super::Severity;
    use super::*;

    fn happening(name: &str, message: &str) -> Happening {
        Happening {
            about: ObjectReference { name: Some(name.into()), ..Default::default() },
            severity: Severity::Normal,
            reason: "Why".into(),
            message: message.into(),
            action: String::new(),
            related: None,
            annotations: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn play(correlator: &mut Correlator, happening: &Happening, second: i64) -> Step {
        let step = correlator.step(happening, at(second));
        match &step {
            Step::Drop => {}
            Step::Create { .. } => correlator.written(happening, format!("e{second}"), at(second)),
            Step::Count { name, .. } => correlator.written(happening, name.clone(), at(second)),
        }
        step
    }

    #[test]
    fn equal_ones_are_counted() {
        let mut correlator = Correlator::new(Style::Counted);
        let one = happening("a", "m");
        assert_eq!(play(&mut correlator, &one, 0), Step::Create { message: "m".into() });
        for count in 2..5 {
            let step = play(&mut correlator, &one, count.into());
            assert_eq!(step, Step::Count { name: "e0".into(), count, message: "m".into() });
        }
        assert!(matches!(play(&mut correlator, &happening("b", "m"), 9), Step::Create { .. }));
    }

    #[test]
    fn alike_ones_are_drawn_together() {
        let mut correlator = Correlator::new(Style::Counted);
        for n in 0..9 {
            assert!(matches!(play(&mut correlator, &happening("a", &n.to_string()), n), Step::Create { .. }));
        }
        let message = "(combined from similar events): x".to_owned();
        assert_eq!(play(&mut correlator, &happening("a", "x"), 10), Step::Create { message });
        let message = "(combined from similar events): y".to_owned();
        let count = Step::Count { name: "e10".into(), count: 2, message };
        assert_eq!(play(&mut correlator, &happening("a", "y"), 11), count);
    }

    #[test]
    fn one_object_may_cause_so_many() {
        let mut correlator = Correlator::new(Style::Counted);
        let one = happening("a", "m");
        let kept = (0..40).filter(|_| play(&mut correlator, &one, 0) != Step::Drop).count();
        assert_eq!(kept, 25);
        assert_ne!(play(&mut correlator, &one, 301), Step::Drop);
        assert_eq!(play(&mut correlator, &one, 302), Step::Drop);
    }

    #[test]
    fn a_series_ends_with_silence() {
        let mut correlator = Correlator::new(Style::Series);
        let one = happening("a", "m");
        assert!(matches!(play(&mut correlator, &one, 0), Step::Create { .. }));
        assert!(matches!(play(&mut correlator, &one, 100), Step::Count { count: 2, .. }));
        assert!(matches!(play(&mut correlator, &one, 1000), Step::Create { .. }));
    }
}
