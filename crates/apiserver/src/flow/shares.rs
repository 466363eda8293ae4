//! How the server's seats are divided among its levels: nominally by shares, then by who lends and who borrows.

/// A level in the division.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// What it wants.
    pub target: f64,
    /// What it gets in any case.
    pub least: f64,
    /// What it may get at most.
    pub most: f64,
}

/// Targets below this count as this.
const LEAST_TARGET: f64 = 0.001;

/// Divides `total` so that every level gets the same proportion of its target, within its bounds. None if the bounds do
/// not allow that sum. Also returns the proportion.
pub fn divide(total: f64, claims: &[Claim]) -> Option<(Vec<f64>, f64)> {
    const CLOSE: f64 = 1e-7;
    let sum = |part: fn(&Claim) -> f64| claims.iter().map(part).sum::<f64>();
    let (least, most) = (sum(|c| c.least), sum(|c| c.most));
    let sound = |c: &Claim| c.least >= 0.0 && c.target >= c.least && c.most >= c.least;
    if !claims.iter().all(sound) || least - total > CLOSE || total - most > CLOSE {
        return None;
    }
    if total == 0.0 {
        return Some((vec![0.0; claims.len()], 0.0));
    }
    let at = |proportion: f64| -> Vec<f64> {
        let part = |c: &Claim| (proportion * c.target.max(LEAST_TARGET)).clamp(c.least, c.most);
        claims.iter().map(part).collect()
    };
    // what is given grows with the proportion, by straight lines between the proportions at which bounds begin or end
    let bounds = |c: &Claim| [c.least / c.target.max(LEAST_TARGET), c.most / c.target.max(LEAST_TARGET)];
    let mut corners: Vec<f64> = claims.iter().flat_map(bounds).collect();
    corners.sort_by(f64::total_cmp);
    let mut below = (corners.first().copied()?, least);
    if total - least <= CLOSE {
        return Some((at(below.0), below.0));
    }
    for corner in corners {
        let given: f64 = at(corner).iter().sum();
        if given >= total - CLOSE {
            let rise = given - below.1;
            let share = if rise > 0.0 { (total - below.1) / rise } else { 1.0 };
            let proportion = below.0 + (corner - below.0) * share.clamp(0.0, 1.0);
            return Some((at(proportion), proportion));
        }
        below = (corner, given);
    }
    Some((at(below.0), below.0))
}

/// The limits of a level, in seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub nominal: u64,
    pub least: u64,
    pub most: u64,
}

impl Limits {
    /// `shares` of `sum` of the server's seats, of which a percentage may be lent, and what may be borrowed (all there
    /// is, if not said).
    pub fn new(server: u64, shares: f64, sum: f64, lendable: i64, borrowing: Option<i64>) -> Self {
        let nominal = if sum > 0.0 { (server as f64 * shares / sum).ceil() } else { 0.0 };
        let percent = |percent: i64| (nominal * percent as f64 / 100.0).round() as u64;
        let nominal = nominal as u64;
        let borrowed = borrowing.map_or(server, percent);
        Self { nominal, least: nominal.saturating_sub(percent(lendable)), most: nominal + borrowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(target: f64, least: f64, most: f64) -> Claim {
        Claim { target, least, most }
    }

    #[test]
    fn divides_in_proportion_within_bounds() {
        let cases: &[(f64, &[(f64, f64, f64)], &[f64])] = &[
            (10.0, &[(1.0, 0.0, 100.0), (4.0, 0.0, 100.0)], &[2.0, 8.0]),
            // one is held up, the other gets the rest
            (10.0, &[(1.0, 0.0, 100.0), (4.0, 0.0, 5.0)], &[5.0, 5.0]),
            // one must get more than its part
            (10.0, &[(6.0, 6.0, 100.0), (94.0, 0.0, 100.0)], &[6.0, 4.0]),
            (10.0, &[(0.0, 0.0, 20.0), (0.0, 0.0, 20.0)], &[5.0, 5.0]),
            (6.0, &[(3.0, 2.0, 9.0), (5.0, 4.0, 9.0)], &[2.0, 4.0]),
            (12.0, &[(3.0, 2.0, 3.0), (5.0, 4.0, 9.0)], &[3.0, 9.0]),
            (0.0, &[(3.0, 0.0, 3.0)], &[0.0]),
        ];
        for (total, claims, want) in cases {
            let claims: Vec<Claim> = claims.iter().map(|c| claim(c.0, c.1, c.2)).collect();
            let (got, _) = divide(*total, &claims).unwrap();
            let close = got.iter().zip(*want).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(close, "{total} {claims:?}: {got:?}");
        }
        assert_eq!(divide(10.0, &[claim(1.0, 0.0, 5.0)]), None);
        assert_eq!(divide(1.0, &[claim(3.0, 2.0, 5.0)]), None);
    }

    #[test]
    fn default_levels_at_600_seats() {
        // (shares, lendable percent) of the default levels; their shares sum to 245
        let levels = [(5.0, 0), (30.0, 33), (40.0, 25), (10.0, 0), (40.0, 50), (100.0, 90), (20.0, 50)];
        let got: Vec<(u64, u64)> = levels
            .iter()
            .map(|(shares, lendable)| Limits::new(600, *shares, 245.0, *lendable, None))
            .map(|l| (l.nominal, l.least))
            .collect();
        assert_eq!(got, [(13, 13), (74, 50), (98, 73), (25, 25), (98, 49), (245, 24), (49, 24)]);
    }
}
