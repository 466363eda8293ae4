//! How many seats a level wanted over time: average, deviation, peak, and a smoothed envelope of them.

use std::time::Duration;

/// What is left of the smoothed demand after each period in which there was less.
const DECAY: f64 = 0.977;

/// Integrates the demand since the last [`Demand::take`].
#[derive(Clone, Debug)]
pub struct Demand {
    at: Duration,
    value: f64,
    since: Duration,
    sum: f64,
    squares: f64,
    peak: f64,
}

/// What one or more periods came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    pub average: f64,
    pub deviation: f64,
    pub peak: f64,
    pub smoothed: f64,
}

impl Demand {
    pub fn new(now: Duration) -> Self {
        Self { at: now, value: 0.0, since: now, sum: 0.0, squares: 0.0, peak: 0.0 }
    }

    pub fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.sum += passed * self.value;
        self.squares += passed * self.value * self.value;
    }

    /// The demand from now on (where [`Self::advance`] has been).
    pub fn set(&mut self, value: f64) {
        self.value = value;
        self.peak = self.peak.max(value);
    }

    /// Ends the time looked at, which was this many periods long, and begins anew.
    pub fn take(&mut self, now: Duration, periods: i32, stats: &mut Stats) {
        self.advance(now);
        let length = now.saturating_sub(self.since).as_secs_f64();
        stats.peak = self.peak.round();
        if length > 0.0 {
            stats.average = self.sum / length;
            stats.deviation = (self.squares / length - stats.average * stats.average).max(0.0).sqrt();
            let envelope = stats.average + stats.deviation;
            let kept = DECAY.powi(periods.max(1));
            stats.smoothed = envelope.max(kept * stats.smoothed + (1.0 - kept) * envelope);
        }
        *self = Self { value: self.value, peak: self.value, ..Self::new(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrates() {
        let second = Duration::from_secs;
        let mut demand = Demand::new(second(0));
        demand.set(4.0);
        demand.advance(second(1));
        demand.set(0.0);
        let mut stats = Stats::default();
        demand.take(second(2), 1, &mut stats);
        assert_eq!(stats, Stats { average: 2.0, deviation: 2.0, peak: 4.0, smoothed: 4.0 });
        // nothing wanted: the peak is gone, the memory fades
        demand.take(second(12), 1, &mut stats);
        assert_eq!((stats.average, stats.peak), (0.0, 0.0));
        assert!((stats.smoothed - 4.0 * DECAY).abs() < 1e-9);
        // many periods at once are as many one by one
        demand.take(second(112), 10, &mut stats);
        assert!((stats.smoothed - 4.0 * DECAY.powi(11)).abs() < 1e-9);
    }
}
