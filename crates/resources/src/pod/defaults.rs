//! Defaults of a pod spec, alone and inside templates (`pkg/apis/core/v1/defaults.go`).

use machinery::{Get, Value, json};

use crate::{image, quantity};

/// Defaults of `spec` and `status` of a Pod: those of any pod spec, and those that only pods have.
pub(crate) fn pod(pod: &mut Value) {
    let spec = pod.child("spec");
    for list in ["containers", "initContainers"] {
        for container in spec.list_mut(list) {
            if let Some(resources) = container.child_if("resources") {
                let limits = resources.at("limits").clone();
                quantity::fill(resources, "requests", &limits);
            }
        }
    }
    super::resources::default_pod_level(spec);
    spec.set_default("enableServiceLinks", true);
    if spec.flag("hostNetwork") == Some(true) {
        for list in ["containers", "initContainers"] {
            for container in spec.list_mut(list) {
                for port in container.list_mut("ports") {
                    if port.int("hostPort").unwrap_or(0) == 0 {
                        let number = port.at("containerPort").clone();
                        port.set("hostPort", number);
                    }
                }
            }
        }
    }
    self::spec(spec);
}

/// Defaults of the pod spec in a template: `template.spec`.
pub(crate) fn template(template: &mut Value) {
    template.child("metadata");
    spec(template.child("spec"));
}

/// Sets a text that is absent or "".
pub(crate) fn text(obj: &mut Value, name: &str, value: &str) {
    if obj.text(name).is_empty() {
        obj.set(name, value);
    }
}

/// Sets a number that is absent or 0.
fn number(obj: &mut Value, name: &str, value: i64) {
    if obj.int(name).unwrap_or(0) == 0 {
        obj.set(name, value);
    }
}

/// Defaults of any pod spec.
pub(crate) fn spec(spec: &mut Value) {
    text(spec, "dnsPolicy", "ClusterFirst");
    text(spec, "restartPolicy", "Always");
    spec.set_default("securityContext", json!({}));
    spec.set_default("terminationGracePeriodSeconds", 30);
    text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    for volume in spec.list_mut("volumes") {
        self::volume(volume);
    }
    quantity::round_up(spec, "overhead");
    if let Some(resources) = spec.child_if("resources") {
        requirements(resources);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.list_mut(list) {
            self::container(container);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: both say the same.
fn service_account(spec: &mut Value) {
    if spec.text("serviceAccountName").is_empty() {
        let name = spec.text("serviceAccount").to_owned();
        if name.is_empty() {
            return;
        }
        spec.set("serviceAccountName", name);
    } else {
        let name = spec.text("serviceAccountName").to_owned();
        spec.set("serviceAccount", name);
    }
}

/// Quantities finer than thousandths are rounded up.
fn requirements(resources: &mut Value) {
    quantity::round_up(resources, "limits");
    quantity::round_up(resources, "requests");
}

fn container(container: &mut Value) {
    requirements(container.child("resources"));
    if container.text("imagePullPolicy").is_empty() {
        container.set("imagePullPolicy", pull_policy(container.text("image")));
    }
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    for port in container.list_mut("ports") {
        text(port, "protocol", "TCP");
    }
    for env in container.list_mut("env") {
        if let Some(from) = env.child_if("valueFrom") {
            if let Some(field) = from.child_if("fieldRef") {
                text(field, "apiVersion", "v1");
            }
            if let Some(key) = from.child_if("fileKeyRef") {
                key.set_default("optional", false);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.child_if(name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = container.child_if("lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(get) = lifecycle.child_if(name).and_then(|h| h.child_if("httpGet")) {
                http_get(get);
            }
        }
    }
}

fn pull_policy(image: &str) -> &'static str {
    if image::tag(image) == "latest" { "Always" } else { "IfNotPresent" }
}

fn probe(probe: &mut Value) {
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        number(probe, name, value);
    }
    if let Some(get) = probe.child_if("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.child_if("grpc") {
        grpc.set_default("service", "");
    }
}

fn http_get(get: &mut Value) {
    text(get, "path", "/");
    text(get, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    let sourceless = volume.as_object().is_none_or(|v| v.iter().all(|(k, v)| k == "name" || v.is_null()));
    if sourceless {
        volume.set("emptyDir", json!({}));
        return;
    }
    if let Some(image) = volume.child_if("image")
        && image.text("pullPolicy").is_empty()
    {
        image.set("pullPolicy", pull_policy(image.text("reference")));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.child_if(name) {
            source.set_default("defaultMode", 0o644);
        }
    }
    if let Some(downward) = volume.child_if("downwardAPI") {
        downward_items(downward);
    }
    if let Some(projected) = volume.child_if("projected") {
        for source in projected.list_mut("sources") {
            if let Some(downward) = source.child_if("downwardAPI") {
                downward_items(downward);
            }
            if let Some(token) = source.child_if("serviceAccountToken") {
                token.set_default("expirationSeconds", 3600);
            }
        }
    }
    volume_plugins(volume);
    if let Some(ephemeral) = volume.child_if("ephemeral")
        && let Some(template) = ephemeral.child_if("volumeClaimTemplate")
    {
        template.child("spec").set_default("volumeMode", "Filesystem");
    }
}

/// Sources that pods and persistent volumes share.
pub(crate) fn volume_plugins(volume: &mut Value) {
    if let Some(path) = volume.child_if("hostPath") {
        path.set_default("type", "");
    }
    if let Some(iscsi) = volume.child_if("iscsi") {
        text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = volume.child_if("rbd") {
        text(rbd, "pool", "rbd");
        text(rbd, "user", "admin");
        text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = volume.child_if("azureDisk") {
        disk.set_default("cachingMode", "ReadWrite");
        disk.set_default("fsType", "ext4");
        disk.set_default("readOnly", false);
        disk.set_default("kind", "Shared");
    }
    if let Some(scale) = volume.child_if("scaleIO") {
        text(scale, "storageMode", "ThinProvisioned");
        text(scale, "fsType", "xfs");
    }
}

fn downward_items(downward: &mut Value) {
    for item in downward.list_mut("items") {
        if let Some(field) = item.child_if("fieldRef") {
            text(field, "apiVersion", "v1");
        }
    }
}
