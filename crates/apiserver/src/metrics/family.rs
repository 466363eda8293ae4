//! Counters, gauges and histograms by label values, and their text form.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// What a family is called and promises (upstream's stability levels: ALPHA, BETA, STABLE).
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub name: &'static str,
    pub stability: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

pub const fn about(
    name: &'static str,
    stability: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> About {
    About { name, stability, help, labels }
}

/// One series.
pub trait Series: Send + Sync {
    const KIND: &'static str;
    /// What all series of a family share.
    type Shape: Copy + Send + Sync;
    fn new(shape: Self::Shape) -> Self;
    fn write(&self, shape: Self::Shape, name: &str, labels: &str, out: &mut String);
}

/// Goes up.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn inc(&self) {
        self.add(1);
    }
}

impl Series for Counter {
    const KIND: &'static str = "counter";
    type Shape = ();

    fn new((): ()) -> Self {
        Self::default()
    }

    fn write(&self, (): (), name: &str, labels: &str, out: &mut String) {
        line(out, name, labels, self.0.load(Ordering::Relaxed) as f64);
    }
}

/// Goes up and down; whole numbers.
#[derive(Default)]
pub struct Gauge(std::sync::atomic::AtomicI64);

impl Gauge {
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

impl Series for Gauge {
    const KIND: &'static str = "gauge";
    type Shape = ();

    fn new((): ()) -> Self {
        Self::default()
    }

    fn write(&self, (): (), name: &str, labels: &str, out: &mut String) {
        line(out, name, labels, self.0.load(Ordering::Relaxed) as f64);
    }
}

/// How many were how large.
pub struct Histogram {
    /// Below each bound and not below the one before; the last: above all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn observe(&self, bounds: &[f64], value: f64) {
        let at = bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Series for Histogram {
    const KIND: &'static str = "histogram";
    type Shape = &'static [f64];

    fn new(bounds: Self::Shape) -> Self {
        Self { counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    fn write(&self, bounds: Self::Shape, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        let bucket = format!("{name}_bucket");
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = bounds.get(at).map_or_else(|| "+Inf".to_owned(), |bound| number(*bound));
            line(out, &bucket, &format!("{labels}{comma}le=\"{bound}\""), total as f64);
        }
        line(out, &format!("{name}_sum"), labels, f64::from_bits(self.sum.load(Ordering::Relaxed)));
        line(out, &format!("{name}_count"), labels, total as f64);
    }
}

struct Cell<S> {
    values: Box<[Box<str>]>,
    series: Arc<S>,
}

/// All series of one name.
pub struct Family<S: Series> {
    about: About,
    shape: S::Shape,
    cells: RwLock<HashMap<u64, Vec<Cell<S>>>>,
    hasher: RandomState,
}

pub type Counters = Family<Counter>;
pub type Gauges = Family<Gauge>;
pub type Histograms = Family<Histogram>;

impl<S: Series> Family<S> {
    pub fn shaped(about: About, shape: S::Shape) -> Self {
        Self { about, shape, cells: RwLock::default(), hasher: RandomState::new() }
    }

    /// The series of these label values, in the order of the labels.
    pub fn with(&self, values: &[&str]) -> Arc<S> {
        debug_assert_eq!(values.len(), self.about.labels.len(), "{}", self.about.name);
        let hash = self.hasher.hash_one(values);
        let same = |cell: &&Cell<S>| cell.values.iter().map(|v| &**v).eq(values.iter().copied());
        if let Some(cell) = self.cells.read().get(&hash).and_then(|cells| cells.iter().find(same)) {
            return cell.series.clone();
        }
        let mut all = self.cells.write();
        let cells = all.entry(hash).or_default();
        if let Some(cell) = cells.iter().find(same) {
            return cell.series.clone();
        }
        let series = Arc::new(S::new(self.shape));
        cells.push(Cell { values: values.iter().map(|v| (*v).into()).collect(), series: series.clone() });
        series
    }
}

impl<S: Series<Shape = ()>> Family<S> {
    pub fn new(about: About) -> Self {
        Self::shaped(about, ())
    }
}

impl Histograms {
    pub fn observe(&self, values: &[&str], value: f64) {
        self.with(values).observe(self.shape, value);
    }

    pub fn note(&self, series: &Histogram, value: f64) {
        series.observe(self.shape, value);
    }
}

/// A family that can be written.
pub trait Written: Send + Sync {
    fn about(&self) -> About;
    fn write(&self, out: &mut String);
}

impl<S: Series> Written for Family<S> {
    fn about(&self) -> About {
        self.about
    }

    fn write(&self, out: &mut String) {
        let cells = self.cells.read();
        let mut series: Vec<(String, Arc<S>)> = cells
            .values()
            .flatten()
            .map(|cell| (labels(self.about.labels, &cell.values), cell.series.clone()))
            .collect();
        drop(cells);
        if series.is_empty() {
            return;
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        head(out, &self.about, S::KIND);
        for (labels, series) in series {
            series.write(self.shape, self.about.name, &labels, out);
        }
    }
}

/// Values that are only known when they are asked for, as a family of gauges or counters.
pub fn write_now(out: &mut String, about: &About, kind: &str, series: &[(Vec<String>, f64)]) {
    if series.is_empty() {
        return;
    }
    head(out, about, kind);
    for (values, value) in series {
        line(out, about.name, &labels(about.labels, values), *value);
    }
}

fn head(out: &mut String, about: &About, kind: &str) {
    let About { name, stability, help, .. } = about;
    out.push_str(&format!("# HELP {name} [{stability}] {help}\n# TYPE {name} {kind}\n"));
}

/// `a="b",c="d"`, by label name as upstream writes them.
fn labels(names: &[&str], values: &[impl AsRef<str>]) -> String {
    let mut pairs: Vec<(&str, &str)> = names.iter().copied().zip(values.iter().map(AsRef::as_ref)).collect();
    pairs.sort_unstable();
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
    out.push(' ');
    out.push_str(&number(value));
    out.push('\n');
}

/// As Go prints a float shortest: with an exponent below 1e-4 and from 1e+06 (21 digits for whole numbers up to there).
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..21).contains(&exponent) || value != 0.0 && exponent >= 6 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (0.00001, "1e-05"),
            (123456.0, "123456"),
            (1e6, "1e+06"),
            (12345678.0, "1.2345678e+07"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    const ABOUT: About = About { name: "n", stability: "STABLE", help: "What.", labels: &["b", "a"] };

    #[test]
    fn text_form() {
        let counters: Counters = Family::new(ABOUT);
        counters.with(&["x\"", "y"]).add(2);
        counters.with(&["x\"", "y"]).inc();
        let mut out = String::new();
        counters.write(&mut out);
        assert_eq!(out, "# HELP n [STABLE] What.\n# TYPE n counter\nn{a=\"y\",b=\"x\\\"\"} 3\n");

        const BOUNDS: &[f64] = &[0.125, 1.0];
        let times = Histograms::shaped(About { labels: &[], ..ABOUT }, BOUNDS);
        for value in [0.0625, 0.125, 0.5, 7.0] {
            times.observe(&[], value);
        }
        let mut out = String::new();
        times.write(&mut out);
        let lines: Vec<&str> = out.lines().skip(2).collect();
        let want = [
            "n_bucket{le=\"0.125\"} 2",
            "n_bucket{le=\"1\"} 3",
            "n_bucket{le=\"+Inf\"} 4",
            "n_sum 7.6875",
            "n_count 4",
        ];
        assert_eq!(lines, want);
    }
}
