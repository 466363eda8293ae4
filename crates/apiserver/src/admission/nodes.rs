//! TaintNodesByCondition (a new node is not ready until it says so) and NodeRestriction (a kubelet changes only what is
//! its own). <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::{Get, Status, Value, json, meta};

use super::serviceaccount::MIRROR;
use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static TAINTS: Plugin = Plugin {
    name: "TaintNodesByCondition",
    mutate: Some(|_, attributes| async move { taint(attributes) }.boxed()),
    validate: None,
};

pub static RESTRICTION: Plugin = Plugin {
    name: "NodeRestriction",
    mutate: Some(|call, attributes| restrict(call, attributes).boxed()),
    validate: None,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

fn taint(a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "nodes") || a.operation != Operation::Create {
        return Ok(());
    }
    let Some(node) = &mut a.object else { return Ok(()) };
    let mut taints = node.at("spec").list("taints").to_vec();
    let has = taints.iter().any(|t| t.text("key") == NOT_READY && t.text("effect") == "NoSchedule");
    if !has {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        node.child("spec").set("taints", taints);
    }
    Ok(())
}

async fn restrict(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    let user = call.user.clone();
    let Some(node) = user.node() else { return Ok(()) };
    if node.is_empty() {
        let why = format!("could not determine node from user {}", go_quote(&user.name));
        return Err(forbidden(a, &why));
    }
    match (a.resource.group.as_str(), a.resource.name.as_str(), a.subresource.as_str()) {
        ("", "pods", "") => pod(call, a, node),
        ("", "pods", "status") => pod_status(a, node),
        ("", "pods", "eviction") => eviction(call, a, node),
        ("", "pods", other) => Err(forbidden(
            a,
            &format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                go_quote(other)
            ),
        )),
        ("", "nodes", _) => own_node(a, node),
        ("", "persistentvolumeclaims", "status") => claim_status(a, node),
        ("", "persistentvolumeclaims", _) => Err(forbidden(a, "may only update PVC status")),
        ("", "serviceaccounts", "token") => token(call, a, node).await,
        ("certificates.k8s.io", "podcertificaterequests", "") => {
            super::nodes_certificates::request(call, a, node)
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            super::nodes_certificates::signing(a, node)
        }
        ("resource.k8s.io", "resourceslices", _) => slice(a, node),
        ("coordination.k8s.io", "leases", _) => lease(a, node),
        ("storage.k8s.io", "csinodes", _) => {
            let name = if a.name.is_empty() { meta::name(a.object()) } else { &a.name };
            if name == node {
                return Ok(());
            }
            Err(forbidden(a, "can only access CSINode with the same name as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn pod(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    let refuse = |why: String| Err(forbidden(a, &why));
    let quoted = go_quote(node);
    match a.operation {
        Operation::Create => {
            let pod = a.object();
            if !meta::annotations(pod).is_some_and(|m| m.contains_key(MIRROR)) {
                return refuse(format!(
                    "pod does not have {} annotation, node {quoted} can only create mirror pods",
                    go_quote(MIRROR)
                ));
            }
            if pod.at("spec").text("nodeName") != node {
                return refuse(format!(
                    "node {quoted} can only create pods with spec.nodeName set to itself"
                ));
            }
            let owners = pod.at("metadata").list("ownerReferences");
            let [owner] = owners else {
                return if owners.is_empty() {
                    refuse(format!(
                        "node {quoted} can only create pods with an owner reference set to itself"
                    ))
                } else {
                    refuse(format!(
                        "node {quoted} can only create pods with a single owner reference set to itself"
                    ))
                };
            };
            if owner.text("kind") != "Node" || owner.text("name") != node || owner.text("apiVersion") != "v1"
            {
                return refuse(format!(
                    "node {quoted} can only create pods with an owner reference set to itself"
                ));
            }
            if owner.flag("controller") != Some(true) {
                return refuse(format!(
                    "node {quoted} can only create pods with a controller owner reference set to itself"
                ));
            }
            if owner.flag("blockOwnerDeletion") == Some(true) {
                return refuse(format!(
                    "node {quoted} must not set blockOwnerDeletion on an owner reference"
                ));
            }
            let live = cached(call, "", "nodes", node).unwrap_or_default();
            if meta::uid(&live) != owner.text("uid") {
                return refuse(format!(
                    "node {node} UID mismatch: expected {} got {}",
                    owner.text("uid"),
                    meta::uid(&live)
                ));
            }
            match referred(pod) {
                Some(kind) => refuse(format!("node {quoted} can not create pods that reference {kind}")),
                None => Ok(()),
            }
        }
        Operation::Delete if a.old().at("spec").text("nodeName") != node => {
            refuse(format!("node {quoted} can only delete pods with spec.nodeName set to itself"))
        }
        Operation::Delete | Operation::Connect => Ok(()),
        other => refuse(format!(
            "unexpected operation {}, node {quoted} can only create and delete mirror pods",
            go_quote(other.name())
        )),
    }
}

fn pod_status(a: &Attributes, node: &str) -> Result<(), Status> {
    let quoted = go_quote(node);
    if a.old().at("spec").text("nodeName") != node {
        return Err(forbidden(
            a,
            &format!("node {quoted} can only update pod status for pods with spec.nodeName set to itself"),
        ));
    }
    if a.old().at("metadata").at("labels") != a.object().at("metadata").at("labels") {
        return Err(forbidden(a, &format!("node {quoted} cannot update labels through pod status")));
    }
    let claims = |pod: &Value| -> Vec<(String, String)> {
        let list = pod.at("status").list("resourceClaimStatuses");
        list.iter().map(|c| (c.text("name").to_owned(), c.text("resourceClaimName").to_owned())).collect()
    };
    if claims(a.old()) != claims(a.object()) {
        return Err(forbidden(a, &format!("node {quoted} cannot update resource claim statues")));
    }
    let extended = |pod: &Value| pod.at("status").at("extendedResourceClaimStatus").clone();
    if extended(a.old()) != extended(a.object()) {
        return Err(forbidden(a, &format!("node {quoted} cannot update extended resource claim status")));
    }
    Ok(())
}

fn eviction(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    let name = if a.name.is_empty() { meta::name(a.object()) } else { &a.name };
    if name.is_empty() {
        return Err(forbidden(a, "could not determine pod from request data"));
    }
    match cached(call, "", "pods", &format!("{}/{name}", a.namespace)) {
        Some(pod) if pod.at("spec").text("nodeName") != node => {
            Err(forbidden(a, &format!("node {node} can only evict pods with spec.nodeName set to itself")))
        }
        Some(_) => Ok(()),
        None => Err(no_pod(name)),
    }
}

/// Labels under kubernetes.io and k8s.io that a kubelet may set on its node.
fn may_label(key: &str) -> bool {
    const NAMED: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    ];
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let under = |root: &str| domain == root || domain.ends_with(&format!(".{root}"));
    if NAMED.contains(&key) || under("kubelet.kubernetes.io") || under("node.kubernetes.io") {
        return true;
    }
    !under("kubernetes.io") && !under("k8s.io")
}

fn own_node(a: &Attributes, node: &str) -> Result<(), Status> {
    let quoted = go_quote(node);
    let name = if a.name.is_empty() { meta::name(a.object()).to_owned() } else { a.name.clone() };
    if name != node {
        return Err(forbidden(
            a,
            &format!("node {quoted} is not allowed to modify node {}", go_quote(&name)),
        ));
    }
    let labels = |o: &Value| meta::labels(o).cloned().unwrap_or_default();
    let source = |o: &Value| o.at("spec").at("configSource").clone();
    match a.operation {
        Operation::Create => {
            if !source(a.object()).is_null() {
                let why = format!("node {quoted} is not allowed to create pods with a non-nil configSource");
                return Err(forbidden(a, &why));
            }
            let bad: Vec<String> = labels(a.object()).keys().filter(|k| !may_label(k)).cloned().collect();
            if !bad.is_empty() {
                return Err(forbidden(
                    a,
                    &format!("node {quoted} is not allowed to set the following labels: {}", bad.join(", ")),
                ));
            }
        }
        Operation::Update => {
            let (new, old) = (a.object(), a.old());
            if !source(new).is_null() && source(new) != source(old) {
                let why = format!(
                    "node {quoted} is not allowed to update configSource to a new non-nil configSource"
                );
                return Err(forbidden(a, &why));
            }
            if new.at("spec").list("taints") != old.at("spec").list("taints") {
                return Err(forbidden(a, &format!("node {quoted} is not allowed to modify taints")));
            }
            if new.at("metadata").list("ownerReferences") != old.at("metadata").list("ownerReferences") {
                return Err(forbidden(a, &format!("node {quoted} is not allowed to modify ownerReferences")));
            }
            let (now, before) = (labels(new), labels(old));
            let mut bad: Vec<&String> = now
                .keys()
                .chain(before.keys())
                .filter(|k| now.get(*k) != before.get(*k) && !may_label(k))
                .collect();
            bad.sort();
            bad.dedup();
            if !bad.is_empty() {
                let bad: Vec<&str> = bad.iter().map(|s| s.as_str()).collect();
                return Err(forbidden(a, &format!("is not allowed to modify labels: {}", bad.join(", "))));
            }
        }
        _ => {}
    }
    Ok(())
}

fn lease(a: &Attributes, node: &str) -> Result<(), Status> {
    if a.namespace != "kube-node-lease" {
        return Err(forbidden(a, "can only access leases in the \"kube-node-lease\" system namespace"));
    }
    let name = if a.name.is_empty() { meta::name(a.object()) } else { &a.name };
    if name != node {
        return Err(forbidden(a, "can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

/// As upstream's lister calls it.
fn no_pod(name: &str) -> Status {
    Status::not_found(&machinery::GroupResource::new("", "pod"), name)
}

async fn token(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    let reference = a.object().at("spec").at("boundObjectRef");
    let to_pod = reference.text("apiVersion") == "v1" && reference.text("kind") == "Pod";
    if !to_pod || reference.text("name").is_empty() {
        return Err(forbidden(a, "node requested token not bound to a pod"));
    }
    if reference.text("uid").is_empty() {
        return Err(forbidden(a, "node requested token with a pod binding without a uid"));
    }
    let key = format!("{}/{}", a.namespace, reference.text("name"));
    let Some(pod) = cached(call, "", "pods", &key) else {
        return Err(no_pod(reference.text("name")));
    };
    if meta::uid(&pod) != reference.text("uid") {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            reference.text("uid")
        );
        return Err(forbidden(a, &why));
    }
    if pod.at("spec").text("nodeName") != node {
        return Err(forbidden(a, "node requested token bound to a pod scheduled on a different node"));
    }
    let audience = match a.object().at("spec").list("audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(forbidden(a, "node may only request 0 or 1 audiences")),
    };
    match pod_wants(call, &pod, audience) {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(why) => {
            return Err(forbidden(a, &format!("error validating audience {}: {why}", go_quote(audience))));
        }
    }
    let ask = crate::authz::Attributes {
        is_resource: true,
        verb: "request-serviceaccounts-token-audience",
        version: "v1",
        resource: audience,
        namespace: &a.namespace,
        name: &a.name,
        ..crate::authz::Attributes::default()
    };
    if crate::authz::check(&call.core, &call.user, &ask).await.is_ok() {
        return Ok(());
    }
    let why = format!(
        "audience {} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        go_quote(audience),
        call.user.name
    );
    Err(forbidden(a, &why))
}

/// Does the pod mount a token for the audience, or does a CSI driver of its volumes want one? An error if none of them is
/// known to, and one can't be looked up.
fn pod_wants(call: &Call, pod: &Value, audience: &str) -> Result<bool, String> {
    // "" is the API server's own
    let same = |wanted: &str| wanted == audience;
    let find = |group: &str, resource: &str, kind: &str, key: &str| {
        let name = key.rsplit('/').next().unwrap_or_default();
        let missing = || Status::not_found(&machinery::GroupResource::new(group, kind), name).message;
        cached(call, group, resource, key).ok_or_else(missing)
    };
    let by_claim = |name: &str| -> Result<String, String> {
        let key = format!("{}/{name}", meta::namespace(pod));
        let claim = find("", "persistentvolumeclaims", "persistentvolumeclaim", &key)?;
        let volume = claim.at("spec").text("volumeName");
        let volume = find("", "persistentvolumes", "persistentvolume", volume)?;
        Ok(volume.at("spec").at("csi").text("driver").to_owned())
    };
    let wants = |volume: &Value| {
        let projected = volume.at("projected").list("sources").iter().any(|source| {
            let token = source.at("serviceAccountToken");
            token.is_object() && same(token.text("audience"))
        });
        if projected {
            return Ok(true);
        }
        let driver = if volume.at("ephemeral").is_object() {
            by_claim(&format!("{}-{}", meta::name(pod), volume.text("name")))?
        } else if volume.at("persistentVolumeClaim").is_object() {
            by_claim(volume.at("persistentVolumeClaim").text("claimName"))?
        } else {
            volume.at("csi").text("driver").to_owned()
        };
        if driver.is_empty() {
            return Ok(false);
        }
        let driver = find("storage.k8s.io", "csidrivers", "csidriver", &driver)?;
        Ok(driver.at("spec").list("tokenRequests").iter().any(|t| same(t.text("audience"))))
    };
    let mut errors = Vec::new();
    for volume in pod.at("spec").list("volumes") {
        match wants(volume) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => errors.push(why),
        }
    }
    if errors.is_empty() { Ok(false) } else { Err(crate::authz::aggregate(&errors)) }
}

/// What a pod's spec refers to.
struct References<'a>(&'a Value);

impl References<'_> {
    fn env(&self, from: &str, reference: &str) -> bool {
        let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
        lists.flat_map(|list| self.0.list(list)).any(|c| {
            c.list("envFrom").iter().any(|e| e.at(from).is_object())
                || c.list("env").iter().any(|e| e.at("valueFrom").at(reference).is_object())
        })
    }

    fn volumes(&self) -> &[Value] {
        self.0.list("volumes")
    }

    fn has(&self, kind: &str) -> bool {
        self.volumes().iter().any(|v| v.at(kind).is_object())
    }

    fn projects(&self, kind: &str) -> bool {
        let mut sources = self.volumes().iter().flat_map(|v| v.at("projected").list("sources"));
        sources.any(|s| s.at(kind).is_object())
    }
}

/// Does a pod's spec name a secret, anywhere?
pub fn names_secrets(spec: &Value) -> bool {
    let references = References(spec);
    references.has("secret")
        || references.projects("secret")
        || !spec.list("imagePullSecrets").is_empty()
        || references.env("secretRef", "secretKeyRef")
        || references.volumes().iter().any(|v| {
            v.as_object()
                .into_iter()
                .flatten()
                .any(|(_, s)| s.at("secretRef").is_object() || s.at("nodePublishSecretRef").is_object())
        })
}

/// What a pod refers to that a node must not open for itself by a pod of its own making.
fn referred(pod: &Value) -> Option<&'static str> {
    let spec = pod.at("spec");
    if !spec.text("serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let references = References(spec);
    if names_secrets(spec) {
        return Some("secrets");
    }
    if references.has("configMap")
        || references.projects("configMap")
        || references.env("configMapRef", "configMapKeyRef")
    {
        return Some("configmaps");
    }
    if references.projects("serviceAccountToken") {
        return Some("serviceaccounts (via projected volumes)");
    }
    if references.projects("clusterTrustBundle") {
        return Some("clustertrustbundles");
    }
    if !spec.list("resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    (references.has("persistentVolumeClaim") || references.has("ephemeral"))
        .then_some("persistentvolumeclaims")
}

/// Sizes and conditions are the kubelet's to say, nothing else.
fn claim_status(a: &Attributes, node: &str) -> Result<(), Status> {
    if a.operation != Operation::Update {
        return Err(forbidden(a, &format!("unexpected operation {}", go_quote(a.operation.name()))));
    }
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        for key in ["resourceVersion", "managedFields"] {
            rest.child("metadata").unset(key);
        }
        for key in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            rest.child("status").unset(key);
        }
        rest
    };
    if rest(a.object()) == rest(a.old()) {
        return Ok(());
    }
    let node = go_quote(node);
    Err(forbidden(
        a,
        &format!(
            "node {node} is not allowed to update fields other than status.quantity and status.conditions"
        ),
    ))
}

fn slice(a: &Attributes, node: &str) -> Result<(), Status> {
    let (object, verb) = match a.operation {
        Operation::Create => (a.object(), "create"),
        Operation::Delete => (a.old(), "delete"),
        _ => return Ok(()),
    };
    if object.at("spec").text("nodeName") == node {
        return Ok(());
    }
    Err(forbidden(a, &format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")))
}
