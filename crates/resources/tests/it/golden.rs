//! Takes the recorded requests of `../shared/api-golden`, runs the strategies on them and compares causes, defaulted
//! objects, warnings and tables. Every step starts from what the real server had stored, so one difference does not
//! spoil what follows. What needs more than strategies (admission, other patch types, allocation) is left out.
//!
//! `GOLDEN_SHOW=regex-free text` prints the differences of scenarios whose `area/name` contains the text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use machinery::codec::json::Document;
use machinery::schema;
use machinery::{Get, GroupKind, GroupVersionKind, Status, Value, json};
use resources::{Context, User, names, objectmeta, service_ips, strategy};

/// At least so many of the compared answers must be equal, in percent.
const WANTED: f64 = 96.0;

#[derive(Default)]
struct Tally {
    equal: usize,
    all: usize,
}

fn golden_dir() -> Option<PathBuf> {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    while dir.pop() {
        let found = dir.join("shared/api-golden/golden");
        if found.is_dir() {
            return Some(found);
        }
    }
    None
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn strategies_answer_as_recorded() {
    let Some(dir) = golden_dir() else {
        println!("skipped: ../shared/api-golden is not there");
        return;
    };
    let show = std::env::var("GOLDEN_SHOW").ok();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for area in sorted(&dir) {
        let name = area.file_name().unwrap().to_string_lossy().into_owned();
        // these are about other parts of the server
        let foreign = ["kubectl", "controllers", "crds", "discovery", "openapi", "health", "webhooks", "vap"];
        if foreign.contains(&name.as_str()) {
            continue;
        }
        for file in sorted(&area) {
            let scenario: Value =
                serde_json::from_str(&without_marks(&std::fs::read_to_string(&file).unwrap())).unwrap();
            let title = format!("{name}/{}", file.file_stem().unwrap().to_string_lossy());
            let shown = show.as_ref().is_some_and(|s| title.contains(s.as_str()));
            let mut world = World { shown, title, ..World::default() };
            for step in scenario.list("steps") {
                world.step(step);
            }
            let tally = tallies.entry(name.clone()).or_default();
            tally.equal += world.tally.equal;
            tally.all += world.tally.all;
        }
    }
    let mut sum = Tally::default();
    for (area, tally) in &tallies {
        println!("{area:32} {:5} of {:5}  {:5.1}%", tally.equal, tally.all, tally.percent());
        sum.equal += tally.equal;
        sum.all += tally.all;
    }
    println!("{:32} {:5} of {:5}  {:5.1}%", "all", sum.equal, sum.all, sum.percent());
    assert!(sum.percent() >= WANTED, "{:.1}% equal, {WANTED}% wanted", sum.percent());
}

impl Tally {
    fn percent(&self) -> f64 {
        if self.all == 0 { 100.0 } else { 100.0 * self.equal as f64 / self.all as f64 }
    }
}

/// What a request is about.
struct Target {
    gvk: GroupVersionKind,
    namespaced: bool,
    subresource: String,
    /// Path of the object without subresource; of the collection on create.
    path: String,
    name: String,
}

#[derive(Default)]
struct World {
    shown: bool,
    title: String,
    tally: Tally,
    /// Path to object, as the real server had it.
    stored: BTreeMap<String, Value>,
    saved: BTreeMap<String, Value>,
}

fn target(path: &str) -> Option<Target> {
    let path = path.split('?').next().unwrap();
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, version) = match parts[0] {
        "api" => ("", *parts.get(1)?),
        "apis" => (*parts.get(1)?, *parts.get(2)?),
        _ => return None,
    };
    parts.drain(..if group.is_empty() { 2 } else { 3 });
    let mut namespaced = false;
    if parts.len() > 2 && parts[0] == "namespaces" && !matches!(parts[2], "status" | "finalize") {
        parts.drain(..2);
        namespaced = true;
    }
    let resource = *parts.first()?;
    let found = schema::resources::find(group, version, resource, "")?;
    if found.namespaced != namespaced {
        return None;
    }
    let name = parts.get(1).copied().unwrap_or("").to_owned();
    let subresource = parts.get(2).copied().unwrap_or("").to_owned();
    let end = path.len() - if subresource.is_empty() { 0 } else { subresource.len() + 1 };
    Some(Target {
        gvk: GroupVersionKind::new(group, version, found.kind),
        namespaced,
        subresource,
        path: path[..end].to_owned(),
        name,
    })
}

impl World {
    fn step(&mut self, step: &Value) {
        let (request, want) = (step.at("request"), step.at("response"));
        if let Some(target) = target(request.text("path"))
            && !want.is_null()
        {
            self.compare(step.text("id"), request, want, &target);
        }
        self.remember(request, want, step.at("save"));
    }

    /// The state after the step is what the real server said.
    fn remember(&mut self, request: &Value, want: &Value, save: &Value) {
        let body = want.at("body");
        let good = matches!(want.int("status"), Some(200 | 201));
        if good && let Some(target) = target(request.text("path")) {
            let name = body.at("metadata").text("name");
            let path = match target.name.as_str() {
                "" => format!("{}/{name}", target.path),
                _ => target.path.clone(),
            };
            let dry = request.text("path").contains("dryRun");
            match request.text("method") {
                "DELETE" => {
                    self.stored.remove(&path);
                }
                _ if !dry && body.text("kind") == target.gvk.kind && !name.is_empty() => {
                    self.stored.insert(path, body.clone());
                }
                _ => {}
            }
        }
        for (name, path) in save.as_object().into_iter().flatten() {
            if let Some(value) = pick(body, path.as_str().unwrap_or("")) {
                self.saved.insert(name.clone(), value);
            }
        }
    }

    fn compare(&mut self, id: &str, request: &Value, want: &Value, target: &Target) {
        let status = want.int("status").unwrap_or(0);
        let causes = want.at("body").at("details").has("causes");
        let other_form = request.at("headers").text("Accept").contains("as=");
        if request.text("path").contains("dryRun=Odd") || request.at("body").is_null() || other_form {
            return;
        }
        let comparable = match status {
            200 | 201 => true,
            422 => causes && want.at("body").at("details").text("kind") == target.gvk.kind,
            _ => false,
        };
        let method = request.text("method");
        let kind = request.at("headers").text("Content-Type");
        let json = kind.contains("json");
        let update = matches!(
            target.subresource.as_str(),
            "" | "status" | "finalize" | "approval" | "ephemeralcontainers" | "resize"
        );
        let name_only = target.name.is_empty();
        let Some(body) = self.body(request.at("body")) else { return };
        let uid = format!("uid-{}", id.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let outcome = match method {
            _ if !comparable => return,
            "POST" if json && name_only => self.create(body, &uid, target),
            "PUT" if json && update => self.update(body, target, false),
            "PATCH" if kind == "application/merge-patch+json" && update => self.update(body, target, true),
            _ => return,
        };
        let Some(outcome) = outcome else { return };
        self.tally.all += 1;
        match differences(&outcome, want, target) {
            None => self.tally.equal += 1,
            Some(text) if self.shown => println!("--- {} {id}\n{text}", self.title),
            Some(_) => {}
        }
    }

    fn body(&self, body: &Value) -> Option<Value> {
        let Value::Object(map) = body else { return None };
        let Some(from) = map.get("$from") else { return Some(body.clone()) };
        let mut out = self.saved.get(from.as_str()?)?.clone();
        for (path, value) in body.at("$set").as_object().into_iter().flatten() {
            set(&mut out, path, Some(value.clone()));
        }
        for path in body.list("$del") {
            set(&mut out, path.as_str()?, None);
        }
        Some(out)
    }

    fn create(&self, body: Value, uid: &str, target: &Target) -> Option<Outcome> {
        let mut obj = decode(&body, target)?;
        let strategy = strategy(&target.gvk.group, &target.gvk.kind);
        let context = context(target);
        let meta = obj.child("metadata");
        if meta.text("name").is_empty() {
            return None;
        }
        if target.namespaced {
            meta.set_default("namespace", "ns-name");
        } else {
            meta.unset("namespace");
        }
        meta.set("uid", if uid.is_empty() { "uid" } else { uid });
        (strategy.default)(&mut obj, &context);
        admit(&mut obj, target);
        if let Some(failure) = allocate(&mut obj, None, target) {
            return Some(finish(obj, failure, Vec::new(), target));
        }
        (strategy.prepare_create)(&mut obj, &context);
        schema::normalize(schema::of_kind(&target.gvk)?, &mut obj);
        let good_ns = obj.clone();
        let mut errors = (strategy.validate)(&good_ns, &context);
        if errors.is_empty() {
            errors = objectmeta::validate_generic(&good_ns, target.namespaced, names::path_segment);
        }
        let warnings = (strategy.warnings)(&obj, None, &context);
        Some(finish(obj, errors, warnings, target))
    }

    fn update(&self, body: Value, target: &Target, merge: bool) -> Option<Outcome> {
        let old = self.stored.get(&target.path)?.clone();
        if old.text("apiVersion") != target.gvk.api_version() {
            return None;
        }
        let mut new = if merge {
            let mut new = old.clone();
            merge_patch(&mut new, &body);
            decode(&new, target)?
        } else {
            decode(&body, target)?
        };
        if merge && !body.at("metadata").at("resourceVersion").is_null() {
            return None;
        }
        let strategy = strategy(&target.gvk.group, &target.gvk.kind);
        let context = context(target);
        let before = old.at("metadata").clone();
        let meta = new.child("metadata");
        let rv = meta.text("resourceVersion").to_owned();
        if rv.is_empty() || !rv.starts_with('{') {
            meta.set("resourceVersion", before.text("resourceVersion"));
        }
        if target.namespaced {
            meta.set_default("namespace", "ns-name");
        } else {
            meta.unset("namespace");
        }
        match before.get("generation") {
            Some(generation) => meta.set("generation", generation.clone()),
            None => {
                meta.unset("generation");
            }
        }
        (strategy.default)(&mut new, &context);
        if target.subresource.is_empty()
            && let Some(failure) = allocate(&mut new, Some(&old), target)
        {
            return Some(finish(new, failure, Vec::new(), target));
        }
        (strategy.prepare_update)(&mut new, &old, &context);
        schema::normalize(schema::of_kind(&target.gvk)?, &mut new);
        let meta = new.child("metadata");
        meta.set_default("uid", before.text("uid"));
        for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"]
        {
            if let Some(value) = before.get(field).filter(|_| !meta.text(field).starts_with("2001")) {
                meta.set(field, value.clone());
            }
        }
        if before.at("creationTimestamp").is_string() {
            meta.set("creationTimestamp", before.at("creationTimestamp").clone());
        }
        let (valid, was) = (new.clone(), old.clone());
        let mut errors = objectmeta::validate_any_update(&valid, &was, target.namespaced);
        errors.extend((strategy.validate_update)(&valid, &was, &context));
        let warnings = (strategy.warnings)(&new, Some(&old), &context);
        Some(finish(new, errors, warnings, target))
    }
}

/// The marks for what differs from run to run, in a form that is good where they stand.
fn without_marks(text: &str) -> String {
    let text = text.replace("{ns}", "ns-name").replace("<rand>", "rrrrr");
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = first_mark(rest) {
        let end = at + rest[at..].find('>').unwrap();
        out.push_str(&rest[..at]);
        if rest[at..].starts_with("<ip:") {
            out.push_str(ALLOCATED);
        } else {
            out.push_str("uid-");
            out.extend(rest[at + 5..end].chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }));
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

const ALLOCATED: &str = "10.96.9.9";

fn first_mark(text: &str) -> Option<usize> {
    let (uid, ip) = (text.find("<uid:"), text.find("<ip:"));
    uid.into_iter().chain(ip).min()
}

struct Outcome {
    object: Value,
    failure: Option<Status>,
    warnings: Vec<String>,
}

fn finish(
    object: Value,
    errors: machinery::field::ErrorList,
    warnings: Vec<String>,
    target: &Target,
) -> Outcome {
    let kind = GroupKind { group: target.gvk.group.clone(), kind: target.gvk.kind.clone() };
    let name = object.at("metadata").text("name");
    let failure = (!errors.is_empty()).then(|| Status::invalid(&kind, &name, &errors));
    Outcome { object, failure, warnings }
}

fn context(target: &Target) -> Context<'_> {
    const FEATURES: &[&str] =
        &["ClusterTrustBundle", "PodCertificateRequest", "GenericWorkload", "StorageVersionMigrator"];
    static OWNED: std::sync::LazyLock<Vec<String>> =
        std::sync::LazyLock::new(|| FEATURES.iter().map(|f| (*f).to_owned()).collect());
    static GROUPS: std::sync::LazyLock<Vec<String>> =
        std::sync::LazyLock::new(|| vec!["system:masters".into(), "system:authenticated".into()]);
    static EXTRA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(
        || json!({"authentication.kubernetes.io/credential-id": ["X509SHA256=<hash>"]}),
    );
    Context {
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        version: &target.gvk.version,
        subresource: &target.subresource,
        user: User { name: "admin", groups: &GROUPS, extra: Some(&EXTRA), ..User::default() },
        features: &OWNED,
    }
}

fn decode(body: &Value, target: &Target) -> Option<Value> {
    let schema = schema::of_kind(&target.gvk)?;
    // marks of normalisation where the type wants something else
    let text = body
        .to_string()
        .replace("\"<time>\"", "\"2026-01-01T00:00:00Z\"")
        .replace("\"<microtime>\"", "\"2026-01-01T00:00:00.000000Z\"");
    let doc = Document::parse(text.as_bytes()).ok()?;
    let meta = doc.type_meta().ok()?;
    if !meta.kind.is_empty() && meta.kind != target.gvk.kind {
        return None;
    }
    let mut out = doc.decode(schema, false).ok()?.value;
    out.set("apiVersion", target.gvk.api_version());
    out.set("kind", target.gvk.kind.as_str());
    Some(out)
}

/// What the admission plugins add to every pod.
fn admit(obj: &mut Value, target: &Target) {
    if target.gvk.kind == "Node" {
        let taint = json!({"effect": "NoSchedule", "key": "node.kubernetes.io/not-ready"});
        let mut taints = obj.at("spec").list("taints").to_vec();
        taints.push(taint);
        obj.child("spec").set("taints", taints);
    }
    if target.gvk.kind != "Pod" {
        return;
    }
    let spec = obj.child("spec");
    if spec.text("serviceAccountName").is_empty() {
        spec.set("serviceAccountName", "default");
        spec.set("serviceAccount", "default");
    }
    spec.set_default("preemptionPolicy", "PreemptLowerPriority");
    spec.set_default("priority", 0);
}

/// Gives addresses and ports to Services.
fn allocate(obj: &mut Value, old: Option<&Value>, target: &Target) -> Option<machinery::field::ErrorList> {
    if target.gvk.kind != "Service" || target.gvk.group != "" {
        return None;
    }
    if let Some(old) = old {
        service_ips::patch_from_old(obj, old);
    }
    service_ips::normalize(obj, old);
    let errors = service_ips::init_families(obj, old, &["IPv4"]);
    if !errors.is_empty() {
        return Some(errors);
    }
    let spec = obj.child("spec");
    let kind = spec.text("type").to_owned();
    if kind != "ExternalName" && spec.text("clusterIP").is_empty() {
        spec.set("clusterIP", "10.96.9.9");
        spec.set("clusterIPs", json!(["10.96.9.9"]));
    }
    if kind == "LoadBalancer"
        && spec.text("externalTrafficPolicy") == "Local"
        && spec.int("healthCheckNodePort").unwrap_or(0) == 0
    {
        spec.set("healthCheckNodePort", 30000);
    }
    None
}

fn pick(body: &Value, path: &str) -> Option<Value> {
    if path == "." {
        return Some(body.clone());
    }
    let mut at = body;
    for part in segments(path) {
        at = match part.parse::<usize>() {
            Ok(i) if at.is_array() => at.get(i)?,
            _ => at.get(&part)?,
        };
    }
    Some(at.clone())
}

/// `.a.b[0]['key.with.dots']` as its parts.
fn segments(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("['") {
            let (key, tail) = tail.split_once("']").unwrap();
            out.push(key.to_owned());
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('[') {
            let (index, tail) = tail.split_once(']').unwrap();
            out.push(index.to_owned());
            rest = tail;
        } else {
            let tail = rest.strip_prefix('.').unwrap_or(rest);
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            out.push(tail[..end].to_owned());
            rest = &tail[end..];
        }
    }
    out
}

fn set(obj: &mut Value, path: &str, value: Option<Value>) {
    let parts = segments(path);
    let (last, ways) = parts.split_last().unwrap();
    let mut at = obj;
    for part in ways {
        at = match part.parse::<usize>() {
            Ok(i) if at.is_array() => &mut at[i],
            _ => at.child_or_list(part),
        };
    }
    match (value, last.parse::<usize>()) {
        (Some(value), Ok(i)) if at.is_array() => at[i] = value,
        (Some(value), _) => at.set(last, value),
        (None, Ok(i)) if at.is_array() => {
            at.as_array_mut().unwrap().remove(i);
        }
        (None, _) => {
            at.unset(last);
        }
    }
}

trait Child {
    fn child_or_list(&mut self, name: &str) -> &mut Value;
}

impl Child for Value {
    fn child_or_list(&mut self, name: &str) -> &mut Value {
        if self.at(name).is_array() { &mut self[name] } else { self.child(name) }
    }
}

fn merge_patch(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.unset(key);
        } else {
            let slot = into.as_object_mut().unwrap().entry(key).or_insert(Value::Null);
            merge_patch(slot, value);
        }
    }
}

/// None if the outcome is what was recorded.
fn differences(outcome: &Outcome, want: &Value, target: &Target) -> Option<String> {
    let body = want.at("body");
    let status = want.int("status").unwrap_or(0);
    match (&outcome.failure, status) {
        (Some(failure), 422) => {
            let got: Vec<String> = failure.details.as_ref().map_or(Vec::new(), |d| {
                d.causes.iter().map(|c| format!("{} {}: {}", c.reason, c.field, c.message)).collect()
            });
            let wanted: Vec<String> = body
                .at("details")
                .list("causes")
                .iter()
                .map(|c| format!("{} {}: {}", c.text("reason"), c.text("field"), c.text("message")))
                .collect();
            (got != wanted)
                .then(|| format!("  got  {}\n  want {}", got.join("\n       "), wanted.join("\n       ")))
        }
        (Some(failure), _) => Some(format!("  got  {}\n  want {status}", failure.message)),
        (None, 422) => Some(format!("  got  no error\n  want {}", body.text("message"))),
        (None, _) => {
            let mut lines = Vec::new();
            diff("", &outcome.object, body, &mut lines);
            let ours: Vec<String> = outcome.warnings.iter().map(|w| format!("299 - {}", json!(w))).collect();
            let theirs: Vec<String> = match want.at("headers").at("warning") {
                Value::String(s) => vec![s.clone()],
                Value::Array(all) => all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                _ => Vec::new(),
            };
            // warnings of decoding and of the version are others' business
            let theirs: Vec<String> = theirs
                .into_iter()
                .filter(|w| {
                    !w.contains("unknown field")
                        && !w.contains("duplicate field")
                        && !w.contains("is deprecated in v1")
                        && !w.contains("unrecognized")
                })
                .collect();
            let unescape = |all: &[String]| all.join("\n").replace('\\', "");
            if target.gvk.kind != "Pod" && unescape(&ours) != unescape(&theirs) {
                lines.push(format!("warnings: got {ours:?}, want {theirs:?}"));
            }
            (!lines.is_empty()).then(|| format!("  {}", lines.join("\n  ")))
        }
    }
}

/// Differences below a path, without what the server allocates or admission adds.
fn diff(at: &str, got: &Value, want: &Value, out: &mut Vec<String>) {
    let ignored = [
        ".metadata.managedFields",
        ".metadata.creationTimestamp",
        ".metadata.uid",
        ".metadata.resourceVersion",
        ".metadata.namespace",
        ".metadata.selfLink",
        ".spec.tolerations",
        ".metadata.finalizers",
    ];
    if ignored.contains(&at) || want.as_str().is_some_and(|s| s.contains('<')) {
        return;
    }
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                diff(&format!("{at}.{key}"), got.at(key), want.at(key), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                diff(&format!("{at}[{i}]"), x, y, out);
            }
        }
        _ => {
            let shown = want.to_string();
            if got != want
                && !shown.contains(ALLOCATED)
                && !shown.contains("<nodePort")
                && !shown.contains("kube-api-access")
            {
                out.push(format!("{at}: got {got}, want {want}"));
            }
        }
    }
}
