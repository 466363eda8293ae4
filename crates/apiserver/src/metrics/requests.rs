//! Metrics of requests: how many, how long, how large, and the events of watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::family::{Counter, Counters, Family, Gauge, Gauges, Histogram, Histograms, Written, about};
use crate::front::{Query, RequestInfo};
use crate::kinds::Resource;

const DURATION: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
const SLI: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const LISTS: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const BODIES: &[f64] = &[
    5e4, 1.5e5, 2.5e5, 3.5e5, 4.5e5, 5.5e5, 6.5e5, 7.5e5, 8.5e5, 9.5e5, 1.05e6, 1.15e6, 1.25e6, 1.35e6,
    1.45e6, 1.55e6, 1.65e6, 1.75e6, 1.85e6, 1.95e6, 2.05e6, 2.15e6, 2.25e6, 2.35e6, 2.45e6, 2.55e6, 2.65e6,
    2.75e6, 2.85e6, 2.95e6, 3.05e6,
];
const EVENTS: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

const WHAT: &[&str] = &["verb", "group", "version", "resource", "subresource", "scope", "component"];

pub struct Requests {
    total: Counters,
    duration: Histograms,
    sli: Histograms,
    sizes: Histograms,
    bodies: Histograms,
    longrunning: Gauges,
    terminations: Counters,
    deprecated: Gauges,
    events: Counters,
    event_sizes: Histograms,
    lists: Histograms,
    /// The series of each kind of request, found with one lookup.
    known: RwLock<HashMap<Box<str>, Arc<Known>>>,
}

/// The series of one kind of request.
pub struct Known {
    what: [String; 7],
    dry_run: &'static str,
    duration: Arc<Histogram>,
    sli: Option<Arc<Histogram>>,
    sizes: Option<Arc<Histogram>>,
    codes: RwLock<Vec<(u16, Arc<Counter>)>>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            total: Family::new(about(
                "apiserver_request_total",
                "STABLE",
                "Requests by what they were about, whether they were a dry run, and the status code of the answer.",
                &[
                    "verb",
                    "dry_run",
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "scope",
                    "component",
                    "code",
                ],
            )),
            duration: Family::shaped(
                about(
                    "apiserver_request_duration_seconds",
                    "STABLE",
                    "Time from a request to its answer.",
                    &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"],
                ),
                DURATION,
            ),
            sli: Family::shaped(
                about(
                    "apiserver_request_sli_duration_seconds",
                    "ALPHA",
                    "Time from a request to its answer, without the time spent in webhooks and queues.",
                    WHAT,
                ),
                SLI,
            ),
            sizes: Family::shaped(
                about("apiserver_response_sizes", "STABLE", "Bytes of the answers to reads.", WHAT),
                SIZES,
            ),
            bodies: Family::shaped(
                about(
                    "apiserver_request_body_size_bytes",
                    "ALPHA",
                    "Bytes of the bodies of requests.",
                    &["resource", "verb", "group"],
                ),
                BODIES,
            ),
            longrunning: Family::new(about(
                "apiserver_longrunning_requests",
                "STABLE",
                "Watches and other requests that last, running now.",
                WHAT,
            )),
            terminations: Family::new(about(
                "apiserver_request_terminations_total",
                "ALPHA",
                "Requests that the server ended to protect itself.",
                &["verb", "group", "version", "resource", "subresource", "scope", "component", "code"],
            )),
            deprecated: Family::new(about(
                "apiserver_requested_deprecated_apis",
                "STABLE",
                "Deprecated APIs that have been asked for, and the release that removes them.",
                &["group", "version", "resource", "subresource", "removed_release"],
            )),
            events: Family::new(about(
                "apiserver_watch_events_total",
                "ALPHA",
                "Events sent to watches.",
                &["group", "version", "resource"],
            )),
            event_sizes: Family::shaped(
                about(
                    "apiserver_watch_events_sizes",
                    "ALPHA",
                    "Bytes of events sent to watches.",
                    &["group", "version", "resource"],
                ),
                EVENTS,
            ),
            lists: Family::shaped(
                about(
                    "apiserver_watch_list_duration_seconds",
                    "BETA",
                    "Time until a watch has told of all objects there are.",
                    &["group", "version", "resource", "scope"],
                ),
                LISTS,
            ),
            known: RwLock::default(),
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub code: u16,
    pub took: Duration,
    /// Of `took`: in webhooks and queues.
    pub waited: Duration,
    /// Bytes of the answer's body.
    pub size: usize,
}

/// Counts the events of one watch.
pub struct Watched {
    metrics: Arc<super::Metrics>,
    events: Arc<Counter>,
    sizes: Arc<Histogram>,
}

impl Watched {
    pub fn new(metrics: &Arc<super::Metrics>, group: &str, version: &str, resource: &str) -> Self {
        let labels = [group, version, resource];
        let requests = &metrics.requests;
        Self {
            events: requests.events.with(&labels),
            sizes: requests.event_sizes.with(&labels),
            metrics: metrics.clone(),
        }
    }

    /// An event of this many bytes was sent.
    pub fn event(&self, size: usize) {
        self.events.inc();
        self.metrics.requests.event_sizes.note(&self.sizes, size as f64);
    }
}

/// A request that lasts, counted until this is dropped.
pub struct Lasting(Arc<Gauge>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Requests {
    pub fn families(&self) -> Vec<&dyn Written> {
        vec![
            &self.total,
            &self.duration,
            &self.sli,
            &self.sizes,
            &self.bodies,
            &self.longrunning,
            &self.terminations,
            &self.deprecated,
            &self.events,
            &self.event_sizes,
            &self.lists,
        ]
    }

    /// A request of a kind was answered.
    pub fn seen(&self, known: &Known, seen: Seen) {
        let seconds = |d: Duration| d.as_secs_f64();
        self.code(known, seen.code).inc();
        self.duration.note(&known.duration, seconds(seen.took));
        if let Some(sli) = &known.sli {
            self.sli.note(sli, seconds(seen.took.saturating_sub(seen.waited)));
        }
        if let Some(sizes) = &known.sizes {
            self.sizes.note(sizes, seen.size as f64);
        }
    }

    /// A watch of this scope has told of all objects of a resource.
    pub fn watch_listed(&self, resource: &Resource, scope: &str, took: Duration) {
        let labels = [&*resource.group, &*resource.version, &*resource.name, scope];
        self.lists.observe(&labels, took.as_secs_f64());
    }

    /// The body of a write was read.
    pub fn body(&self, info: &RequestInfo, size: usize) {
        self.bodies.observe(&[&info.resource, &info.verb, &info.group], size as f64);
    }

    /// A request was sent away because of too many others.
    pub fn dropped(&self, method: &str, info: &RequestInfo, query: &Query) {
        let known = self.known(method, false, info, query);
        self.code(&known, 429).inc();
        let mut labels: Vec<&str> = known.what.iter().map(String::as_str).collect();
        labels.push("429");
        self.terminations.with(&labels).inc();
    }

    pub fn lasting(&self, known: &Known) -> Lasting {
        let labels: Vec<&str> = known.what.iter().map(String::as_str).collect();
        let gauge = self.longrunning.with(&labels);
        gauge.add(1);
        Lasting(gauge)
    }

    pub fn deprecated(&self, info: &RequestInfo, removed: &str) {
        let labels = [&*info.group, &*info.version, &*info.resource, &*info.subresource, removed];
        self.deprecated.with(&labels).set(1);
    }

    fn code(&self, known: &Known, code: u16) -> Arc<Counter> {
        let of =
            |codes: &[(u16, Arc<Counter>)]| codes.iter().find(|(c, _)| *c == code).map(|(_, s)| s.clone());
        if let Some(series) = of(&known.codes.read()) {
            return series;
        }
        let code_text = code.to_string();
        let [verb, rest @ ..] = &known.what;
        let mut labels = vec![verb.as_str(), known.dry_run];
        labels.extend(rest.iter().map(String::as_str));
        labels.push(&code_text);
        let series = self.total.with(&labels);
        let mut codes = known.codes.write();
        if of(&codes).is_none() {
            codes.push((code, series.clone()));
        }
        series
    }

    /// The series for requests like this one.
    pub fn known(&self, method: &str, applies: bool, info: &RequestInfo, query: &Query) -> Arc<Known> {
        let scope = scope(info);
        let verb = verb(method, applies, scope, info, query);
        let dry_run = dry_run(query);
        let page = matches!(info.path.as_str(), "/flagz" | "/statusz");
        let (resource, subresource) = match () {
            () if info.is_resource => (info.resource.as_str(), info.subresource.as_str()),
            () if page => (&info.path[1..], ""),
            () => ("", info.path.as_str()),
        };
        let parts = [verb, dry_run, &info.group, &info.version, resource, subresource, scope];
        let mut key = String::with_capacity(96);
        for part in parts {
            key.push_str(part);
            key.push('\0');
        }
        if let Some(known) = self.known.read().get(key.as_str()) {
            return known.clone();
        }
        let [verb, dry_run, group, version, resource, subresource, scope] = parts;
        let what = [verb, group, version, resource, subresource, scope, "apiserver"];
        let with_dry_run = [verb, dry_run, group, version, resource, subresource, scope, "apiserver"];
        let known = Arc::new(Known {
            what: what.map(str::to_owned),
            dry_run: dry_run_label(dry_run),
            duration: self.duration.with(&with_dry_run),
            sli: dry_run.is_empty().then(|| self.sli.with(&what)),
            sizes: matches!(verb, "GET" | "LIST").then(|| self.sizes.with(&what)),
            codes: RwLock::default(),
        });
        self.known.write().insert(key.into(), known.clone());
        known
    }
}

/// How much of a resource a request is about.
pub fn scope(info: &RequestInfo) -> &'static str {
    match () {
        () if !info.name.is_empty() || info.verb == "create" => "resource",
        () if !info.namespace.is_empty() => "namespace",
        () if info.is_resource => "cluster",
        () => "",
    }
}

/// The verb as metrics name it; what is none of the known ones is `other`, so that clients can't make series.
fn verb(method: &str, applies: bool, scope: &str, info: &RequestInfo, query: &Query) -> &'static str {
    if info.is_resource && matches!(&*info.subresource, "exec" | "attach" | "portforward" | "proxy" | "log") {
        return "CONNECT";
    }
    match method {
        "GET" | "HEAD" if info.verb == "watch" || (info.is_resource && query.flag("watch")) => "WATCH",
        "GET" | "HEAD" if !matches!(scope, "resource" | "") => "LIST",
        "GET" | "HEAD" => "GET",
        "PATCH" if applies => "APPLY",
        "PATCH" => "PATCH",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        _ => "other",
    }
}

fn dry_run(query: &Query) -> &'static str {
    match () {
        () if query.get("dryRun").is_none() => "",
        () if query.all("dryRun").all(|v| v == "All") => "All",
        () => "invalid",
    }
}

fn dry_run_label(text: &str) -> &'static str {
    match text {
        "All" => "All",
        "invalid" => "invalid",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn check(method: Method, uri: &str, want: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = Query::parse(query);
        let info = RequestInfo::new(&method, path, &query);
        let metrics = Requests::default();
        let seen = Seen { code: 200, took: Duration::from_millis(10), waited: Duration::ZERO, size: 7 };
        for _ in 0..2 {
            metrics.seen(&metrics.known(method.as_str(), false, &info, &query), seen);
        }
        let mut out = String::new();
        metrics.total.write(&mut out);
        assert_eq!(
            out.lines().last().unwrap(),
            format!("apiserver_request_total{{code=\"200\",component=\"apiserver\",{want}}} 2")
        );
    }

    #[test]
    fn labels_as_upstream() {
        check(
            Method::GET,
            "/api/v1/namespaces/a/pods",
            r#"dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1""#,
        );
        check(
            Method::GET,
            "/api/v1/pods?watch=1",
            r#"dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1""#,
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/x/scale?dryRun=All",
            r#"dry_run="All",group="apps",resource="deployments",scope="resource",subresource="scale",verb="PATCH",version="v1""#,
        );
        check(
            Method::GET,
            "/healthz",
            r#"dry_run="",group="",resource="",scope="",subresource="/healthz",verb="GET",version="""#,
        );
    }
}
