//! How long a refused client should stay away: longer while many are refused, up to half a minute.

use std::collections::VecDeque;

const LONGEST: u64 = 32;

/// Refusals of one priority level, by second.
#[derive(Debug)]
pub struct Refusals {
    history: VecDeque<(u64, u64)>,
    second: u64,
    count: u64,
    after: u64,
    changed: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { history: VecDeque::new(), second: 0, count: 0, after: 1, changed: 0 }
    }
}

impl Refusals {
    /// A request is refused in this second; how many seconds its client should wait.
    pub fn note(&mut self, second: u64) -> u64 {
        if self.second == second {
            self.count += 1;
            return self.after;
        }
        self.history.push_back((self.second, self.count));
        let oldest = self.second.saturating_sub((2 * self.after).min(LONGEST));
        self.history.retain(|(at, _)| *at >= oldest);
        (self.second, self.count) = (second, 1);
        self.adapt(second);
        self.after
    }

    /// Doubles while more than three a second are refused, and comes down one by one.
    fn adapt(&mut self, second: u64) {
        let recent = self.history.iter().filter(|(at, _)| second - *at <= self.after && *at < second);
        let refused: u64 = recent.map(|(_, count)| count).sum();
        if second - self.changed >= self.after && refused >= 3 * self.after {
            self.after = (self.after * 2).min(LONGEST);
            self.changed = second;
        } else if refused < self.after && self.after > 1 {
            self.after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks() {
        let mut refusals = Refusals::default();
        let mut second = 1000;
        let mut told = Vec::new();
        for _ in 0..8 {
            for _ in 0..20 {
                refusals.note(second);
            }
            told.push(refusals.note(second));
            second += 1;
        }
        assert_eq!(told, [1, 2, 2, 4, 4, 4, 4, 8]);
        let later: Vec<u64> = (0..4).map(|i| refusals.note(second + 100 * (i + 1))).collect();
        assert_eq!(later, [7, 6, 5, 4]);
    }
}
