//! Growing waits between attempts that fail, per key; given the time, never asking for it.

use jiff::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

struct Entry {
    wait: Duration,
    updated: Timestamp,
}

/// Doubling waits from `initial` to `max`; a key that had no failure for twice `max` starts anew.
pub struct Backoff {
    initial: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

/// `later - earlier`, or zero where that is negative.
pub fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration) -> Self {
        Backoff { initial, max, entries: HashMap::new() }
    }

    /// The present wait of a key.
    pub fn get(&self, key: &str) -> Duration {
        self.entries.get(key).map(|e| e.wait).unwrap_or_default()
    }

    /// Notes one more attempt for an event (a container's end, say) that happened at `event`.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let wait = match self.entries.get(key) {
            Some(entry) if !self.expired(entry, event) => (entry.wait * 2).min(self.max),
            _ => self.initial,
        };
        self.entries.insert(key.to_owned(), Entry { wait, updated: now });
    }

    /// When the wait that began at `event` is over, while it is not.
    pub fn until(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if self.expired(entry, event) || since(now, event) >= entry.wait {
            return None;
        }
        Some(event + entry.wait)
    }

    /// When the wait that began with the last attempt is over, while it is not.
    pub fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if self.expired(entry, now) || since(now, entry.updated) >= entry.wait {
            return None;
        }
        Some(entry.updated + entry.wait)
    }

    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn expired(&self, entry: &Entry, event: Timestamp) -> bool {
        since(event, entry.updated) > self.max * 2
    }
}

/// A wait as Go prints a duration: `10s`, `2m40s`, `5m0s`.
pub fn describe(wait: Duration) -> String {
    let (minutes, seconds) = (wait.as_secs() / 60, wait.as_secs() % 60);
    match minutes {
        0 => format!("{seconds}s"),
        m if m < 60 => format!("{m}m{seconds}s"),
        m => format!("{}h{}m{seconds}s", m / 60, m % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn doubles_to_the_cap_and_starts_anew_after_quiet() {
        let mut b = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
        assert_eq!(b.until("c", at(0), at(0)), None);
        let mut seen = vec![];
        let mut now = 0;
        for _ in 0..7 {
            b.next("c", at(now), at(now));
            seen.push(b.get("c").as_secs());
            now += 300;
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(b.until("c", at(1805), at(1810)), Some(at(2105)));
        assert_eq!(b.until("c", at(1805), at(2105)), None);
        assert_eq!(b.until("c", at(1800 + 601), at(1800 + 602)), None, "quiet for ten minutes");
        b.next("c", at(1800 + 601), at(1800 + 602));
        assert_eq!(b.get("c").as_secs(), 10);
    }

    #[test]
    fn words() {
        for (seconds, word) in [(10, "10s"), (160, "2m40s"), (300, "5m0s"), (3661, "1h1m1s")] {
            assert_eq!(describe(Duration::from_secs(seconds)), word);
        }
    }
}
