//! Kinds that differ in little.

use machinery::{Get, Value};
use serde_json::json;

use super::steps::Step::{self, Change, Default, Rename};
use super::steps::{each, rename};

/// An empty selector selected nothing in `policy/v1beta1` and selects everything in `policy/v1`; these requirements
/// say the one in the other's words.
const EMPTY_SELECTOR: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

pub const PDB: &[Step] = &[Change(
    |pdb| swap_selector(pdb, "Exists", "DoesNotExist"),
    |pdb| swap_selector(pdb, "DoesNotExist", "Exists"),
)];

/// An empty selector becomes one with `empty`, and one with `other` becomes empty.
fn swap_selector(pdb: &mut Value, empty: &str, other: &str) {
    each(pdb, "spec.selector", &mut |selector| {
        let says =
            |operator: &str| json!({"matchExpressions": [{"key": EMPTY_SELECTOR, "operator": operator}]});
        if selector.as_object().is_some_and(serde_json::Map::is_empty) {
            *selector = says(empty);
        } else if *selector == says(other) {
            *selector = json!({});
        }
    });
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// Subjects of `rbac.authorization.k8s.io/v1alpha1` had a version with their group, and `*` was every user.
pub const BINDING_ALPHA: &[Step] = &[Change(
    |binding| {
        each(binding, "subjects[]", &mut |subject| {
            let version = subject.unset("apiVersion").unwrap_or_default();
            let group = version.as_str().and_then(|v| v.split_once('/')).map(|(group, _)| group.to_owned());
            let own = if subject.text("kind") == "ServiceAccount" { "" } else { RBAC };
            subject.set("apiGroup", group.unwrap_or_else(|| own.to_owned()));
            if subject.text("kind") == "User" && subject.text("name") == "*" {
                subject.set("kind", "Group");
                subject.set("name", "system:authenticated");
            }
        });
    },
    |binding| {
        each(binding, "subjects[]", &mut |subject| {
            let group = subject.unset("apiGroup").unwrap_or_default();
            let version = match group.as_str().unwrap_or("") {
                "" => "v1".to_owned(),
                group => format!("{group}/v1alpha1"),
            };
            subject.set("apiVersion", version);
        });
    },
)];

pub const WEBHOOKS: &[Step] = &[Change(
    |configuration| {
        each(configuration, "webhooks[]", &mut |webhook| {
            webhook.set_default("failurePolicy", "Ignore");
            webhook.set_default("matchPolicy", "Exact");
            webhook.set_default("timeoutSeconds", 30);
            webhook.set_default("admissionReviewVersions", json!(["v1beta1"]));
            // `Unknown` and `Some` are no longer taken; what has side effects must know a dry run
            let known = matches!(webhook.text("sideEffects"), "None" | "NoneOnDryRun");
            if !known {
                webhook.set("sideEffects", "NoneOnDryRun");
            }
        });
    },
    |_| {},
)];

/// `discovery.k8s.io/v1beta1` put node and zone among the topology labels.
pub const ENDPOINT_SLICE: &[Step] = &[Change(
    |slice| {
        each(slice, "endpoints[]", &mut |endpoint| {
            let Some(mut topology) = endpoint.unset("topology") else { return };
            for (label, field) in [(HOSTNAME, "nodeName"), (ZONE, "zone")] {
                if let Some(value) = topology.unset(label) {
                    endpoint.set_default(field, value);
                }
            }
            if topology != json!({}) {
                endpoint.set("deprecatedTopology", topology);
            }
        });
    },
    |slice| {
        each(slice, "endpoints[]", &mut |endpoint| {
            let mut topology = endpoint.unset("deprecatedTopology").unwrap_or_else(|| json!({}));
            if let Some(node) = endpoint.get("nodeName").cloned() {
                topology.set(HOSTNAME, node);
            }
            if let Some(zone) = endpoint.unset("zone") {
                topology.set(ZONE, zone);
            }
            if topology != json!({}) {
                endpoint.set("topology", topology);
            }
        });
    },
)];
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// `node.k8s.io/v1alpha1` had a spec.
pub const RUNTIME_CLASS_ALPHA: &[Step] = &[Change(
    |class| {
        let Some(mut spec) = class.unset("spec") else { return };
        rename(&mut spec, "runtimeHandler", "handler");
        for field in ["handler", "overhead", "scheduling"] {
            if let Some(value) = spec.unset(field) {
                class.set(field, value);
            }
        }
    },
    |class| {
        let mut spec = json!({});
        for (now, old) in
            [("handler", "runtimeHandler"), ("overhead", "overhead"), ("scheduling", "scheduling")]
        {
            if let Some(value) = class.unset(now) {
                spec.set(old, value);
            }
        }
        class.set("spec", spec);
    },
)];

/// Before `v1beta3` the shares had another name.
pub const PRIORITY_LEVEL: &[Step] =
    &[Rename("spec.limited", "assuredConcurrencyShares", "nominalConcurrencyShares")];

/// A request of `certificates.k8s.io/v1beta1` need not name its signer: the usages tell which one it was.
pub const CSR: &[Step] = &[Change(
    |request| {
        let spec = request.child("spec");
        if spec.list("usages").is_empty() {
            spec.set("usages", json!(["digital signature", "key encipherment"]));
        }
        if spec.text("signerName").is_empty() {
            let server = spec.list("usages").iter().any(|usage| usage == "server auth");
            let signer =
                if server { "kubernetes.io/kubelet-serving" } else { "kubernetes.io/kube-apiserver-client" };
            spec.set("signerName", signer);
        }
        each(request, "status.conditions[]", &mut |condition| condition.set_default("status", "True"));
    },
    |_| {},
)];

/// The groups of the user in question had a singular name.
pub const ACCESS_REVIEW: &[Step] = &[Rename("spec", "group", "groups")];

pub const NETWORK_POLICY: &[Step] = &[Change(
    |policy| {
        let spec = policy.child("spec");
        if spec.list("policyTypes").is_empty() {
            let egress = spec.has("egress").then_some("Egress");
            spec.set("policyTypes", json!(std::iter::once("Ingress").chain(egress).collect::<Vec<_>>()));
        }
    },
    |_| {},
)];

pub const CRON_JOB: &[Step] = &[
    Default("spec.concurrencyPolicy", "\"Allow\""),
    Default("spec.suspend", "false"),
    Default("spec.successfulJobsHistoryLimit", "3"),
    Default("spec.failedJobsHistoryLimit", "1"),
];
