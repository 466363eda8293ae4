//! ServiceAccount: every pod has one, with its token mounted, unless it is a mirror pod or does not want it.

use futures_util::FutureExt;
use machinery::{Get, Status, Value, json, meta};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::{Call, fields};

pub static PLUGIN: Plugin = Plugin {
    name: "ServiceAccount",
    mutate: Some(|call, attributes| async move { admit(call, attributes) }.boxed()),
    validate: Some(|_, attributes| async move { validate(attributes) }.boxed()),
};

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_SECONDS: i64 = 3607;

fn ours(a: &Attributes) -> bool {
    a.is("", "pods") && a.operation == Operation::Create
}

fn is_mirror(pod: &Value) -> bool {
    meta::annotations(pod).is_some_and(|m| m.contains_key(MIRROR))
}

fn admit(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !ours(a) {
        return Ok(());
    }
    let pod = a.object();
    if is_mirror(pod) {
        return validate(a);
    }
    let mut name = pod.at("spec").text("serviceAccountName").to_owned();
    if name.is_empty() {
        name = "default".to_owned();
    }
    let Some(account) = cached(call, "", "serviceaccounts", &format!("{}/{name}", a.namespace)) else {
        return Err(forbidden(
            a,
            &format!(
                "error looking up service account {}/{name}: serviceaccount {} not found",
                a.namespace,
                machinery::field::go_quote(&name)
            ),
        ));
    };
    let Some(pod) = &mut a.object else { return Ok(()) };
    let spec = pod.child("spec");
    spec.set("serviceAccountName", name.as_str());
    // the old name of the field, kept for old clients
    spec.set("serviceAccount", name.as_str());
    let wanted = spec.flag("automountServiceAccountToken").or(account.flag("automountServiceAccountToken"));
    if wanted.unwrap_or(true) {
        mount_token(spec);
    }
    if spec.list("imagePullSecrets").is_empty() && !account.list("imagePullSecrets").is_empty() {
        spec.set("imagePullSecrets", account.at("imagePullSecrets").clone());
    }
    validate(a)
}

fn mount_token(spec: &mut Value) {
    // a volume that is there already (a pod made from another one) is used again
    let existing = spec
        .list("volumes")
        .iter()
        .map(|v| v.text("name").to_owned())
        .find(|name| name.starts_with("kube-api-access-"));
    let has_volume = existing.is_some();
    let name = existing.unwrap_or_else(|| format!("kube-api-access-{}", fields::random_suffix(5)));
    let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT});
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.list_mut(list) {
            let taken = container.list("volumeMounts").iter().any(|m| m.text("mountPath") == MOUNT);
            if taken {
                continue;
            }
            used = true;
            if !container.at("volumeMounts").is_array() {
                container.set("volumeMounts", Value::Array(Vec::new()));
            }
            if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
                mounts.push(mount.clone());
            }
        }
    }
    if has_volume || !used {
        return;
    }
    let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    if !spec.at("volumes").is_array() {
        spec.set("volumes", Value::Array(Vec::new()));
    }
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        volumes.push(volume);
    }
}

fn validate(a: &Attributes) -> Result<(), Status> {
    if !ours(a) {
        return Ok(());
    }
    let pod = a.object();
    let spec = pod.at("spec");
    if is_mirror(pod) {
        if !spec.text("serviceAccountName").is_empty() {
            return Err(forbidden(a, "a mirror pod may not reference service accounts"));
        }
        if super::nodes::names_secrets(spec) {
            return Err(forbidden(a, "a mirror pod may not reference secrets"));
        }
        let projects = spec.list("volumes").iter().any(|v| {
            v.at("projected").list("sources").iter().any(|s| s.at("serviceAccountToken").is_object())
        });
        if projects {
            return Err(forbidden(a, "a mirror pod may not use ServiceAccountToken volume projections"));
        }
    }
    Ok(())
}
