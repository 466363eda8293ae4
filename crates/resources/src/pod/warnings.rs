//! Warnings about pods and pod templates (`pkg/api/pod/warnings.go`).

use machinery::field::{Path, go_quote};
use machinery::{Get, Value};

use super::{containers, each_container};
use crate::{ip, names, quantity};

/// About a pod's name, which becomes a host name.
pub(crate) fn name(name: &str, what: &str) -> Option<String> {
    let messages = names::dns1123_label(name);
    (!messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// What old node labels say, and what to use instead.
pub(crate) fn node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// About a node selector term.
pub(crate) fn node_selector_term(term: &Value, check_values: bool, at: &Path, out: &mut Vec<String>) {
    for (i, expression) in term.list("matchExpressions").iter().enumerate() {
        let at = at.child("matchExpressions").index(i);
        let key = expression.text("key");
        if let Some(message) = node_label(key) {
            out.push(format!("{}: {key} is {message}", at.child("key")));
        }
        if !check_values {
            continue;
        }
        for (j, value) in expression.list("values").iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            for message in names::label_value(value) {
                out.push(format!("{}: {} is invalid, {message}", at.child("values").index(j), value));
            }
        }
    }
}

/// `root`: where `metadata` and `spec` stand; the empty path for a pod itself.
pub(crate) fn warnings(object: &Value, root: &Path) -> Vec<String> {
    let (meta, spec) = (object.at("metadata"), object.at("spec"));
    let at = root.child("spec");
    let mut out = Vec::new();
    node_labels(spec, &at, &mut out);
    annotations(meta, root, &mut out);
    volumes(spec, &at, &mut out);
    overlaps(spec.list("volumes"), &mut out);
    duplicates(spec, &at, &mut out);
    containers::fractional(spec.at("overhead"), &at.child("overhead"), &mut out);
    container_warnings(meta, spec, root, &mut out);
    ports(spec, &at, &mut out);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at.child("terminationGracePeriodSeconds")
        ));
    }
    null_selectors(spec, &at, &mut out);
    for (i, server) in spec.at("dnsConfig").list("nameservers").iter().enumerate() {
        let at = at.child("dnsConfig").child("nameservers").index(i);
        out.extend(ip::warnings(&at, server.as_str().unwrap_or("")));
    }
    for (i, alias) in spec.list("hostAliases").iter().enumerate() {
        out.extend(ip::warnings(&at.child("hostAliases").index(i).child("ip"), alias.text("ip")));
    }
    out
}

fn node_labels(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for (key, _) in spec.map("nodeSelector").into_iter().flatten() {
        if let Some(message) = node_label(key) {
            out.push(format!("{}: {message}", at.child("nodeSelector").key(key)));
        }
    }
    let (required, preferred) =
        ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
    let node = spec.at("affinity").at("nodeAffinity");
    let node_at = at.child("affinity").child("nodeAffinity");
    for (i, term) in node.at(required).list("nodeSelectorTerms").iter().enumerate() {
        node_selector_term(term, false, &node_at.child(required).child("nodeSelectorTerms").index(i), out);
    }
    for (i, term) in node.list(preferred).iter().enumerate() {
        let at = node_at.child(preferred).index(i).child("preference");
        node_selector_term(term.at("preference"), true, &at, out);
    }
    for (i, constraint) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let at = at.child("topologySpreadConstraints").index(i);
        let key = constraint.text("topologyKey");
        if let Some(message) = node_label(key) {
            out.push(format!("{}: {key} is {message}", at.child("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            out.push(format!(
                "{}: a null labelSelector results in matching no pod",
                at.child("labelSelector")
            ));
        }
    }
}

fn annotations(meta: &Value, root: &Path, out: &mut Vec<String>) {
    for (key, message) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if meta.at("annotations").has(key) {
            out.push(format!("{}: {message}", root.child("metadata").child("annotations").key(key)));
        }
    }
}

fn volumes(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for (i, volume) in spec.list("volumes").iter().enumerate() {
        let at = at.child("volumes").index(i);
        for (field, shown, message) in [
            ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
            ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
            ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
            ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
            ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
            ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
            ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
            ("ephemeral", "ephemeral", ""),
            ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
            ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ] {
            if !volume.has(field) {
                continue;
            }
            if field == "ephemeral" {
                let claim = volume.at(field).at("volumeClaimTemplate").at("spec");
                claim_spec(claim, &at.child("ephemeral").child("volumeClaimTemplate").child("spec"), out);
            } else {
                out.push(format!("{}: {message}", at.child(shown)));
            }
        }
    }
}

/// About the spec of a PersistentVolumeClaim.
pub(crate) fn claim_spec(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for field in ["requests", "limits"] {
        let value = spec.at("resources").at(field).at("storage");
        if quantity::of(value) % quantity::ONE != 0 {
            let shown = go_quote(value.as_str().unwrap_or(""));
            let at = at.child("resources").child(field).key("storage");
            out.push(format!("{at}: fractional byte value {shown} is invalid, must be an integer"));
        }
    }
}

fn duplicates(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let items = spec.list(list);
        let mut seen: Vec<&str> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let value = item.text(field);
            if seen.contains(&value) {
                let at = at.child(list).index(i).child(field);
                out.push(format!("{at}: duplicate {field} {}", go_quote(value)));
            } else {
                seen.push(value);
            }
        }
    }
    for (i, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            let at = at.child("imagePullSecrets").index(i).child("name");
            out.push(format!("{at}: invalid empty name \"\""));
        }
    }
}

fn container_warnings(meta: &Value, spec: &Value, root: &Path, out: &mut Vec<String>) {
    let annotations_at = root.child("metadata").child("annotations");
    let annotation = |key: &str, has_field: bool, message: &str, out: &mut Vec<String>| {
        if meta.at("annotations").has(key) && !has_field {
            out.push(format!("{}: {message}", annotations_at.key(key)));
        }
    };
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let pod = spec.at("securityContext");
    annotation("seccomp.security.alpha.kubernetes.io/pod", pod.has("seccompProfile"), seccomp, out);
    each_container(spec, &root.child("spec"), |container, at| {
        let name = container.text("name");
        let context = container.at("securityContext");
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        annotation(&key, context.has("seccompProfile"), seccomp, out);
        let has_field = context.has("appArmorProfile") || pod.has("appArmorProfile");
        let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
        let message = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
        annotation(&key, has_field, message, out);
        // upstream's order: memory of both, then ephemeral storage of both
        for name in ["memory", "ephemeral-storage"] {
            for field in ["limits", "requests"] {
                let value = container.at("resources").at(field).at(name);
                if quantity::of(value) % quantity::ONE != 0 {
                    let shown = go_quote(value.as_str().unwrap_or(""));
                    let at = at.child("resources").child(field).key(name);
                    out.push(format!("{at}: fractional byte value {shown} is invalid, must be an integer"));
                }
            }
        }
        hidden_env(container, at, out);
    });
}

fn hidden_env(container: &Value, at: &Path, out: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, var) in container.list("env").iter().enumerate() {
        let name = var.text("name");
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let reference = format!("$({name})");
        let value = var.text("value");
        if var.has("valueFrom") || value == reference || !value.contains(&reference) {
            out.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                at.child("env").index(i),
                go_quote(name)
            ));
        }
    }
}

fn ports(spec: &Value, at: &Path, out: &mut Vec<String>) {
    let mut all: Vec<(String, String, i64, Path)> = Vec::new();
    each_container(spec, at, |container, at| {
        for (i, port) in container.list("ports").iter().enumerate() {
            let at = at.child("ports").index(i);
            let (ip, host) = (port.text("hostIP"), port.int("hostPort").unwrap_or(0));
            let number = port.int("containerPort").unwrap_or(0);
            if !ip.is_empty() && host == 0 {
                out.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{} HostPort:{host} ContainerPort:{number} Protocol:{} HostIP:{ip}}}",
                    port.text("name"),
                    port.text("protocol"),
                ));
            }
            let key = format!("{number}/{}", port.text("protocol"));
            for (_, other_ip, other_host, other_at) in all.iter().filter(|(k, ..)| *k == key) {
                let what = if ip == other_ip && host == *other_host {
                    "duplicate port definition"
                } else if host == 0 || *other_host == 0 {
                    "overlapping port definition"
                } else if host == *other_host && (ip.is_empty() != other_ip.is_empty()) {
                    "dangerously ambiguous port definition"
                } else {
                    continue;
                };
                out.push(format!("{at}: {what} with {other_at}"));
            }
            all.push((key, ip.to_owned(), host, at));
        }
    });
    let mut named: Vec<(String, Path)> = Vec::new();
    each_container(spec, at, |container, at| {
        for (i, port) in container.list("ports").iter().enumerate() {
            let name = port.text("name");
            let at = at.child("ports").index(i);
            if name.is_empty() {
                continue;
            }
            match named.iter().find(|(n, _)| n == name) {
                Some((_, other)) => out.push(format!(
                    "{at}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    go_quote(name)
                )),
                None => named.push((name.to_owned(), at)),
            }
        }
    });
}

fn null_selectors(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(kind);
        let at = at.child("affinity").child(kind);
        let mut check = |term: &Value, at: Path| {
            if !term.has("labelSelector") {
                let at = at.child("labelSelector");
                out.push(format!("{at}: a null labelSelector results in matching no pod"));
            }
        };
        let list = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in affinity.list(list).iter().enumerate() {
            check(term, at.child(list).index(i));
        }
        let list = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in affinity.list(list).iter().enumerate() {
            check(term.at("podAffinityTerm"), at.child(list).index(i).child("podAffinityTerm"));
        }
    }
}

/// A path in a volume and where it comes from.
type Source = (String, String);

fn overlaps(volumes: &[Value], out: &mut Vec<String>) {
    for volume in volumes {
        let name = go_quote(volume.text("name"));
        let items = |list: &[Value], source: &str| -> Vec<Source> {
            list.iter().map(|i| (i.text("path").to_owned(), source.to_owned())).collect()
        };
        for (field, name_field, what) in
            [("configMap", "name", "ConfigMap"), ("secret", "secretName", "Secret"), ("downwardAPI", "", "")]
        {
            let source = volume.at(field);
            let described = match what {
                "" => "DownwardAPI".to_owned(),
                _ => format!("{what} {}", go_quote(source.text(name_field))),
            };
            collisions(items(source.list("items"), ""), &name, &described, out);
        }
        let mut all = Vec::new();
        for source in volume.at("projected").list("sources") {
            if source.as_object().is_some_and(|s| s.values().all(Value::is_null)) {
                out.push(format!("volume {name} (Projected) has no sources provided"));
                continue;
            }
            let named = |field: &str, what: &str| {
                items(
                    source.at(field).list("items"),
                    &format!("{what} {}", go_quote(source.at(field).text("name"))),
                )
            };
            let path =
                |field: &str, what: &str| vec![(source.at(field).text("path").to_owned(), what.to_owned())];
            if source.at("configMap").has("items") {
                all.extend(named("configMap", "ConfigMap"));
            } else if source.at("secret").has("items") {
                all.extend(named("secret", "Secret"));
            } else if source.at("downwardAPI").has("items") {
                all.extend(items(source.at("downwardAPI").list("items"), "DownwardAPI"));
            } else if source.has("serviceAccountToken") {
                all.extend(path("serviceAccountToken", "ServiceAccountToken"));
            } else if source.has("clusterTrustBundle") {
                let bundle = source.at("clusterTrustBundle");
                let name = if bundle.has("name") { bundle.text("name") } else { bundle.text("signerName") };
                all.extend(path("clusterTrustBundle", &format!("ClusterTrustBundle {}", go_quote(name))));
            } else if source.has("podCertificate") {
                for (field, what) in [
                    ("certificateChainPath", "PodCertificate chain"),
                    ("keyPath", "PodCertificate key"),
                    ("credentialBundlePath", "PodCertificate credential bundle"),
                ] {
                    let path = source.at("podCertificate").text(field);
                    if !path.is_empty() {
                        all.push((path.to_owned(), what.to_owned()));
                    }
                }
            }
        }
        collisions(all, &name, "Projected", out);
    }
}

fn collisions(paths: Vec<Source>, volume: &str, described: &str, out: &mut Vec<String>) {
    let shown = |(path, source): &Source| match source.as_str() {
        "" => go_quote(path),
        _ => format!("{} ({source})", go_quote(path)),
    };
    let mut seen: Vec<Source> = Vec::new();
    for (path, source) in paths {
        let this = (path.trim_end_matches('/').to_owned(), source);
        for other in seen.iter().filter(|o| !o.0.is_empty() && !this.0.is_empty()) {
            let (a, b) = (format!("{}/", this.0), format!("{}/", other.0));
            if a.starts_with(&b) || b.starts_with(&a) {
                out.push(format!(
                    "volume {volume} ({described}): overlapping paths: {} with {}",
                    shown(&this),
                    shown(other)
                ));
            }
        }
        seen.push(this);
    }
}
