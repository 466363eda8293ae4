//! `/healthz`, `/livez`, `/readyz`: named checks, one by one or together.
//! <https://kubernetes.io/docs/reference/using-api/health-checks/>

use super::Query;
use super::respond::{self, Answer};
use crate::server::Core;

/// Named checks in upstream's order. Hooks of parts that this server has no separate start for are done when the
/// bootstrap is.
const HOOKS: &[&str] = &[
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "peer-endpoint-reconciler-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "storage-readiness",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-wait-for-first-sync",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "autoregister-completion",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
];

struct Check {
    name: String,
    problem: Option<String>,
}

fn checks(core: &Core, endpoint: &str) -> Vec<Check> {
    let mut names: Vec<String> = vec!["ping".into(), "log".into()];
    match endpoint {
        "readyz" => names.push("informer-sync".into()),
        _ => names.extend(["loopback-serving-certificate".into(), "etcd".into()]),
    }
    for hook in HOOKS {
        let full = if *hook == "autoregister-completion" {
            (*hook).to_owned()
        } else {
            format!("poststarthook/{hook}")
        };
        names.push(full);
    }
    if endpoint == "readyz" {
        names.push("shutdown".into());
    }
    let ready = core.is_ready();
    names
        .into_iter()
        .map(|name| {
            let bad = match name.as_str() {
                "ping" | "log" | "loopback-serving-certificate" => false,
                "etcd" => core.store_is_closed(),
                "shutdown" => core.is_ending(),
                _ => !ready,
            };
            Check { problem: bad.then(|| "not finished".to_owned()), name }
        })
        .collect()
}

/// The paths of all checks.
pub fn paths(core: &Core) -> Vec<String> {
    let mut out = Vec::new();
    for endpoint in ["healthz", "livez", "readyz"] {
        out.push(format!("/{endpoint}"));
        out.extend(checks(core, endpoint).into_iter().map(|c| format!("/{endpoint}/{}", c.name)));
    }
    out
}

/// Each check of an endpoint, and whether it is fine.
pub fn results(core: &Core, endpoint: &str) -> Vec<(String, bool)> {
    checks(core, endpoint).into_iter().map(|check| (check.name, check.problem.is_none())).collect()
}

/// `parts`: the path's segments, the first being the endpoint.
pub fn answer(core: &Core, parts: &[&str], query: &Query) -> Answer {
    let endpoint = parts[0];
    let checks = checks(core, endpoint);
    if parts.len() > 1 {
        let name = parts[1..].join("/");
        return match checks.iter().find(|c| c.name == name) {
            Some(Check { problem: None, .. }) => {
                respond::bytes(200, "text/plain; charset=utf-8", "ok".to_owned())
            }
            Some(Check { problem: Some(problem), .. }) => {
                respond::text(500, format!("internal server error: {problem}\n"))
            }
            None => respond::not_found_text(),
        };
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check in &checks {
        if excluded.contains(&check.name.as_str()) {
            lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
        } else if check.problem.is_some() {
            failed = true;
            lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
        } else {
            lines.push_str(&format!("[+]{} ok\n", check.name));
        }
    }
    let unknown: Vec<&&str> = excluded.iter().filter(|e| !checks.iter().any(|c| c.name == ***e)).collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|e| machinery::field::go_quote(e)).collect();
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(", ")
        ));
    }
    if failed {
        return respond::text(500, format!("{lines}{endpoint} check failed\n"));
    }
    if query.get("verbose").is_some() {
        return respond::text(200, format!("{lines}{endpoint} check passed\n"));
    }
    respond::text(200, "ok")
}
