//! Growing waits between attempts.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is stretched by up to `jitter` of itself.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    jitter: f64,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration, jitter: f64) -> Self {
        Self { first, most, jitter, failures: 0 }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next attempt; `chance` in `0.0..1.0` places it within the jitter.
    pub fn next(&mut self, chance: f64) -> Duration {
        let wait = doubled(self.first, self.most, self.failures);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(1.0 + self.jitter * chance)
    }

    /// As [`Backoff::next`] with a chance of our own.
    pub fn wait(&mut self) -> Duration {
        self.next(chance())
    }
}

/// `first` doubled `times` times, never above `most`.
pub fn doubled(first: Duration, most: Duration, times: u32) -> Duration {
    if times >= 63 {
        return most;
    }
    let nanos = first.as_nanos().saturating_mul(1u128 << times);
    if nanos >= most.as_nanos() { most } else { Duration::from_nanos(nanos as u64) }
}

/// A number in `0.0..1.0`, good enough to spread retries; not for secrets.
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    // RandomState is seeded by the operating system once a thread and differs from call to call.
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 0.5);
        let waits: Vec<u64> = (0..6).map(|_| backoff.next(0.0).as_millis() as u64).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_millis(), 150);
        assert_eq!(
            doubled(Duration::from_millis(5), Duration::from_secs(1000), 200),
            Duration::from_secs(1000)
        );
    }

    #[test]
    fn chance_is_a_fraction_and_moves() {
        let some: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(some.iter().all(|c| (0.0..1.0).contains(c)));
        assert!(some.iter().any(|c| *c != some[0]));
    }
}
