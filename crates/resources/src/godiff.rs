//! Differences as upstream's messages show them: unified, between indented renderings of internal structs. The longest
//! common runs are found as Python's difflib does it, which upstream's library follows.

use std::collections::HashMap;

use machinery::Value;

use crate::internal::pretty;

/// Between two pod specs.
pub(crate) fn pod_specs(before: &Value, after: &Value) -> String {
    unified(&pretty("core.PodSpec", before), &pretty("core.PodSpec", after))
}

/// Between two ephemeral containers.
pub(crate) fn ephemeral_containers(before: &Value, after: &Value) -> String {
    unified(&pretty("core.EphemeralContainer", before), &pretty("core.EphemeralContainer", after))
}

/// Between two sources of PersistentVolumes.
pub(crate) fn persistent_volume_sources(before: &Value, after: &Value) -> String {
    unified(&pretty("core.PersistentVolumeSource", before), &pretty("core.PersistentVolumeSource", after))
}

/// Between two specs of PersistentVolumeClaims.
pub(crate) fn claim_specs(before: &Value, after: &Value) -> String {
    unified(
        &pretty("core.PersistentVolumeClaimSpec", before),
        &pretty("core.PersistentVolumeClaimSpec", after),
    )
}

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// A run of lines: the first and the one after the last, in the one text and in the other.
#[derive(Clone, Copy)]
struct Run {
    equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

fn unified(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.split('\n').collect(), after.split('\n').collect());
    let mut out = String::new();
    for group in groups(&runs(&a, &b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let range = |from: usize, to: usize| match to - from {
            1 => (from + 1).to_string(),
            0 => format!("{from},0"),
            n => format!("{},{n}", from + 1),
        };
        let (old, new) = (range(first.a.0, last.a.1), range(first.b.0, last.b.1));
        out.push_str(&format!("@@ -{old} +{new} @@\n"));
        for run in group {
            let mut lines = |sign: char, lines: &[&str]| {
                lines.iter().for_each(|line| out.push_str(&format!("{sign}{line}\n")));
            };
            if run.equal {
                lines(' ', &a[run.a.0..run.a.1]);
            } else {
                lines('-', &a[run.a.0..run.a.1]);
                lines('+', &b[run.b.0..run.b.1]);
            }
        }
    }
    out
}

/// Changes with the lines around them; those near each other are one group.
fn groups(runs: &[Run]) -> Vec<Vec<Run>> {
    let mut runs = runs.to_vec();
    if let Some(first) = runs.first_mut().filter(|r| r.equal) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = runs.last_mut().filter(|r| r.equal) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let mut all = Vec::new();
    let mut group: Vec<Run> = Vec::new();
    for mut run in runs {
        if run.equal && run.a.1 - run.a.0 > 2 * CONTEXT {
            let head = Run { a: (run.a.0, run.a.0 + CONTEXT), b: (run.b.0, run.b.0 + CONTEXT), ..run };
            group.push(head);
            all.push(std::mem::take(&mut group));
            run.a.0 = run.a.1 - CONTEXT;
            run.b.0 = run.b.1 - CONTEXT;
        }
        group.push(run);
    }
    if group.iter().any(|r| !r.equal) {
        all.push(group);
    }
    all
}

/// The two texts as runs that are equal and runs that are not, in turn.
fn runs(a: &[&str], b: &[&str]) -> Vec<Run> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= 200 {
        // lines that are everywhere say nothing
        places.retain(|_, at| at.len() <= b.len() / 100 + 1);
    }
    let mut matches = Vec::new();
    let mut open = vec![(0, a.len(), 0, b.len())];
    while let Some((a0, a1, b0, b1)) = open.pop() {
        let (i, j, n) = longest(a, b, &places, (a0, a1), (b0, b1));
        if n > 0 {
            matches.push((i, j, n));
            open.push((a0, i, b0, j));
            open.push((i + n, a1, j + n, b1));
        }
    }
    matches.sort_unstable();
    matches.push((a.len(), b.len(), 0));
    let mut runs: Vec<Run> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (mi, mj, n) in matches {
        if i < mi || j < mj {
            runs.push(Run { equal: false, a: (i, mi), b: (j, mj) });
        }
        (i, j) = (mi + n, mj + n);
        match runs.last_mut() {
            Some(last) if last.equal && n > 0 => (last.a.1, last.b.1) = (i, j),
            _ if n > 0 => runs.push(Run { equal: true, a: (mi, i), b: (mj, j) }),
            _ => {}
        }
    }
    runs
}

/// The longest common run within these ranges, the earliest of them: where it starts in both, and its length.
fn longest(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (a0, a1): (usize, usize),
    (b0, b1): (usize, usize),
) -> (usize, usize, usize) {
    let (mut i, mut j, mut n) = (a0, b0, 0);
    let mut ending: HashMap<usize, usize> = HashMap::new();
    for (x, line) in a.iter().enumerate().take(a1).skip(a0) {
        let mut next = HashMap::new();
        for &y in places.get(line).map_or(&[][..], Vec::as_slice).iter().filter(|y| (b0..b1).contains(*y)) {
            let length = y.checked_sub(1).and_then(|y| ending.get(&y)).map_or(1, |k| k + 1);
            next.insert(y, length);
            if length > n {
                (i, j, n) = (x + 1 - length, y + 1 - length, length);
            }
        }
        ending = next;
    }
    while i > a0 && j > b0 && a[i - 1] == b[j - 1] {
        (i, j, n) = (i - 1, j - 1, n + 1);
    }
    while i + n < a1 && j + n < b1 && a[i + n] == b[j + n] {
        n += 1;
    }
    (i, j, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_changes_share_a_group() {
        let a: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
        let mut b = a.clone();
        b[4] = "x".into();
        b.remove(15);
        let want = "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n@@ -13,7 +13,6 @@\n 13\n 14\n 15\n-16\n 17\n 18\n 19\n";
        assert_eq!(unified(&a.join("\n"), &b.join("\n")), want);
        assert_eq!(unified("a", "a"), "");
    }
}
