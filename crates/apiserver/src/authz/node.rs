//! What a kubelet may do: its own node and lease, its pods, and only those secrets, config maps, accounts and volumes that
//! pods on its node use. <https://kubernetes.io/docs/reference/access-authn-authz/node/>

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use machinery::field::go_quote;
use machinery::{Get, Value, meta};
use parking_lot::Mutex;

use super::{Attributes, Decision, Rule};
use crate::authn::User;
use crate::cache::Entry;
use crate::server::Core;

/// Allows, or has no opinion and says why.
pub fn decide(core: &Core, user: &User, a: &Attributes) -> Decision {
    let Some(node) = user.node() else { return Decision::default() };
    if node.is_empty() {
        return Decision::no_opinion(format!("unknown node for user {}", go_quote(&user.name)));
    }
    let world = World { core, node };
    match judge(&world, node, a) {
        Ok(()) => Decision::allow(""),
        Err(why) => Decision::no_opinion(why),
    }
}

/// What the decision must know of the cluster.
trait Relations {
    /// Is the object related to the node?
    fn related(&self, kind: Kind, namespace: &str, name: &str) -> bool;
    /// Do the uniform rules of nodes allow it?
    fn uniform(&self, a: &Attributes) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    Account,
    Slice,
    CertificateRequest,
}

fn judge(world: &impl Relations, node: &str, a: &Attributes) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    let related = |kind| {
        if a.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        if world.related(kind, a.namespace, a.name) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    };
    let get = |kind| match (a.verb, a.subresource) {
        ("get", "") => related(kind),
        ("get", _) => refuse("cannot get subresource"),
        _ => refuse("can only get individual resources of this type"),
    };
    let read = |kind| match (a.verb, a.subresource, a.namespace) {
        ("get" | "list" | "watch", "", "") => refuse("can only read namespaced object of this type"),
        ("get" | "list" | "watch", "", _) => related(kind),
        ("get" | "list" | "watch", ..) => refuse("cannot read subresource"),
        _ => refuse("can only read resources of this type"),
    };
    if !a.is_resource {
        return if world.uniform(a) { Ok(()) } else { refuse("") };
    }
    match (a.group, a.resource) {
        ("", "secrets") => read(Kind::Secret),
        ("", "configmaps") => read(Kind::ConfigMap),
        ("", "persistentvolumeclaims") if a.subresource == "status" => match a.verb {
            "update" | "patch" => related(Kind::Claim),
            _ => refuse("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims") => get(Kind::Claim),
        ("", "persistentvolumes") => get(Kind::Volume),
        ("resource.k8s.io", "resourceclaims") => get(Kind::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => get(Kind::Attachment),
        ("", "serviceaccounts") => match (a.verb, a.subresource) {
            ("get", "") => read(Kind::Account),
            ("create", "token") if !a.name.is_empty() => related(Kind::Account),
            ("create", _) if !a.name.is_empty() => {
                refuse("can only create token subresource of serviceaccount")
            }
            _ => refuse("can only create tokens for individual service accounts"),
        },
        ("coordination.k8s.io", "leases") => own(a, node, "a node lease", "node lease", true),
        ("storage.k8s.io", "csinodes") => own(a, node, "a CSINode", "CSINode", false),
        ("resource.k8s.io", "resourceslices") => match (a.subresource, a.verb) {
            ("", "create") => Ok(()),
            ("", "get" | "update" | "patch" | "delete") => related(Kind::Slice),
            ("", "watch" | "list" | "deletecollection") if a.selects("spec.nodeName", node) => Ok(()),
            ("", "watch" | "list" | "deletecollection") => {
                refuse("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            ("", _) => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
            _ => refuse("cannot authorize ResourceSlice subresources"),
        },
        ("", "nodes") => match (a.subresource, a.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") if a.name == node => Ok(()),
            ("", "get" | "list" | "watch") if a.name.is_empty() => {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
            }
            _ => refuse(""),
        },
        ("", "pods") => match (a.subresource, a.verb) {
            ("", "get") => related(Kind::Pod),
            ("", "list" | "watch") if a.selects("spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !a.name.is_empty() => related(Kind::Pod),
            ("", "list" | "watch") => refuse("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => refuse(""),
        },
        ("certificates.k8s.io", "podcertificaterequests") => match (a.subresource, a.verb) {
            ("", "create") => Ok(()),
            ("", "get") => related(Kind::CertificateRequest),
            ("", "list" | "watch") if a.selects("spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") => {
                refuse("can only list/watch podcertificaterequests with nodeName field selector")
            }
            ("", verb) => Err(format!("nodes may not {verb} podcertificaterequests")),
            _ => refuse("nodes may not access the status subresource of PodCertificateRequests"),
        },
        _ if world.uniform(a) => Ok(()),
        _ => refuse(""),
    }
}

/// Objects that bear the node's name. What is created gets its name later: admission checks it then.
fn own(a: &Attributes, node: &str, article: &str, kind: &str, lease: bool) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err(format!("can only get, create, update, patch, or delete {article}"));
    }
    if lease && a.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if !lease && !a.subresource.is_empty() {
        return Err(format!("cannot authorize {kind} subresources"));
    }
    if a.verb != "create" && a.name != node {
        return Err(format!("can only access {kind} with the same name as the requesting node"));
    }
    Ok(())
}

/// What a pod refers to.
type References = HashSet<(Kind, Box<str>)>;

/// Parsed references of pods, by key and revision.
#[derive(Default)]
pub struct Uses(Mutex<HashMap<Arc<str>, (i64, Arc<References>)>>);

/// Forgets parsed references of pods that are gone, when there are this many.
const KEPT: usize = 8192;

impl Uses {
    fn of(&self, entry: &Entry) -> Arc<References> {
        let mut known = self.0.lock();
        if let Some((revision, found)) = known.get(&entry.key)
            && *revision == entry.revision
        {
            return found.clone();
        }
        if known.len() > KEPT {
            known.clear();
        }
        let found = Arc::new(references(&entry.parse()));
        known.insert(entry.key.clone(), (entry.revision, found.clone()));
        found
    }
}

/// The objects that a pod on a node opens to the node. A mirror pod opens none: the node made it itself.
fn references(pod: &Value) -> References {
    let mut out = References::new();
    let mirror = meta::annotations(pod).is_some_and(|m| m.contains_key(crate::admission::MIRROR_ANNOTATION));
    if mirror {
        return out;
    }
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            out.insert((kind, Box::from(name)));
        }
    };
    let spec = pod.at("spec");
    add(Kind::Account, spec.text("serviceAccountName"));
    for secret in spec.list("imagePullSecrets") {
        add(Kind::Secret, secret.text("name"));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.list(list) {
            for source in container.list("envFrom") {
                add(Kind::Secret, source.at("secretRef").text("name"));
                add(Kind::ConfigMap, source.at("configMapRef").text("name"));
            }
            for variable in container.list("env") {
                let from = variable.at("valueFrom");
                add(Kind::Secret, from.at("secretKeyRef").text("name"));
                add(Kind::ConfigMap, from.at("configMapKeyRef").text("name"));
            }
        }
    }
    for volume in spec.list("volumes") {
        for secret in volume_secrets(volume) {
            add(Kind::Secret, secret);
        }
        add(Kind::Secret, volume.at("secret").text("secretName"));
        add(Kind::ConfigMap, volume.at("configMap").text("name"));
        for source in volume.at("projected").list("sources") {
            add(Kind::Secret, source.at("secret").text("name"));
            add(Kind::ConfigMap, source.at("configMap").text("name"));
        }
        add(Kind::Claim, volume.at("persistentVolumeClaim").text("claimName"));
        if volume.at("ephemeral").is_object() {
            add(Kind::Claim, &format!("{}-{}", meta::name(pod), volume.text("name")));
        }
    }
    let statuses = pod.at("status").list("resourceClaimStatuses");
    for claim in spec.list("resourceClaims") {
        add(Kind::ResourceClaim, claim.text("resourceClaimName"));
        let made = statuses.iter().find(|s| s.text("name") == claim.text("name"));
        add(Kind::ResourceClaim, made.map_or("", |s| s.text("resourceClaimName")));
    }
    add(Kind::ResourceClaim, pod.at("status").at("extendedResourceClaimStatus").text("resourceClaimName"));
    out
}

/// Secrets that drivers of a volume (of a pod or a persistent one) are given on the node.
fn volume_secrets(volume: &Value) -> impl Iterator<Item = &str> {
    let by_reference =
        ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"].map(|kind| {
            // the older fields say only a name, the newer ones name and namespace
            volume.at(kind).at("secretRef").text("name")
        });
    let csi = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"]
        .map(|key| volume.at("csi").at(key).text("name"));
    by_reference.into_iter().chain(csi).chain([volume.at("azureFile").text("secretName")])
}

/// The cluster as the caches have it.
struct World<'a> {
    core: &'a Core,
    node: &'a str,
}

impl World<'_> {
    fn home(&self, group: &str, resource: &str) -> Option<Arc<crate::kinds::Home>> {
        self.core.kinds.now().preferred(group, resource)?.home.clone()
    }

    fn object(&self, group: &str, resource: &str, key: &str) -> Option<Value> {
        Some(self.home(group, resource)?.cache.get(key)?.parse())
    }

    /// Does a pod on the node refer to the object?
    fn by_pods(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(home) = self.home("", "pods") else { return false };
        let at = home.cache.fields.position("spec.nodeName");
        let prefix = format!("{namespace}/");
        let (snapshot, _) = home.cache.snapshot();
        let wanted = (kind, Box::from(name));
        snapshot
            .range::<_, str>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(_, e)| at.is_some_and(|at| &*e.fields[at] == self.node))
            .any(|(_, e)| self.core.authz.uses.of(e).contains(&wanted))
    }

    /// Does a volume whose claim a pod on the node uses need the secret?
    fn by_volumes(&self, namespace: &str, secret: &str) -> bool {
        let Some(home) = self.home("", "persistentvolumes").filter(|h| !h.cache.is_empty()) else {
            return false;
        };
        let (snapshot, _) = home.cache.snapshot();
        snapshot.values().map(|e| e.parse()).any(|volume| {
            let spec = volume.at("spec");
            let claim = spec.at("claimRef");
            let home = match spec.at("azureFile").text("secretNamespace") {
                "" => claim.text("namespace"),
                other => other,
            };
            home == namespace
                && volume_secrets(spec).any(|name| name == secret)
                && self.by_pods(Kind::Claim, claim.text("namespace"), claim.text("name"))
        })
    }
}

impl Relations for World<'_> {
    fn related(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        let key = format!("{namespace}/{name}");
        let says = |object: Option<Value>, field: &str| {
            object.is_some_and(|o| o.at("spec").text(field) == self.node)
        };
        match kind {
            // other than upstream, a pod that is not there may be asked for: it gives nothing away, and the kubelet
            // sees that it is gone
            Kind::Pod => match self.object("", "pods", &key) {
                None => true,
                found => says(found, "nodeName"),
            },
            Kind::Attachment => says(self.object("storage.k8s.io", "volumeattachments", name), "nodeName"),
            Kind::Slice => says(self.object("resource.k8s.io", "resourceslices", name), "nodeName"),
            Kind::CertificateRequest => {
                says(self.object("certificates.k8s.io", "podcertificaterequests", &key), "nodeName")
            }
            Kind::Volume => self.object("", "persistentvolumes", name).is_some_and(|volume| {
                let claim = volume.at("spec").at("claimRef");
                self.by_pods(Kind::Claim, claim.text("namespace"), claim.text("name"))
            }),
            Kind::Secret => self.by_pods(kind, namespace, name) || self.by_volumes(namespace, name),
            _ => self.by_pods(kind, namespace, name),
        }
    }

    fn uniform(&self, a: &Attributes) -> bool {
        static RULES: OnceLock<Arc<[Rule]>> = OnceLock::new();
        let rules = RULES.get_or_init(|| crate::bootstrap::roles::cluster_role("system:node"));
        rules.iter().any(|r| r.allows(a))
    }
}

#[cfg(test)]
mod tests {
    use machinery::json;

    use super::*;
    use crate::authz::Selectors;

    struct Only(&'static [(Kind, &'static str)]);

    impl Relations for Only {
        fn related(&self, kind: Kind, namespace: &str, name: &str) -> bool {
            let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
            self.0.iter().any(|(k, n)| *k == kind && *n == key)
        }

        fn uniform(&self, a: &Attributes) -> bool {
            a.resource == "services"
        }
    }

    #[test]
    fn nodes_reach_their_own_things_only() {
        let world = Only(&[(Kind::Secret, "a/s"), (Kind::Pod, "a/p"), (Kind::Account, "a/default")]);
        let check = |line: &str, want: &str| {
            let w: Vec<&str> = line.split(' ').map(|w| if w == "-" { "" } else { w }).collect();
            let selectors = Selectors {
                fields: FieldSelectorTerms::of(w.get(6).copied().unwrap_or("")),
                ..Selectors::default()
            };
            let a = Attributes {
                is_resource: true,
                verb: w[0],
                group: w[1],
                resource: w[2],
                subresource: w[3],
                namespace: w[4],
                name: w[5],
                selectors: Some(&selectors),
                ..Attributes::default()
            };
            assert_eq!(judge(&world, "n", &a).err().unwrap_or("yes".into()), want, "{line}");
        };
        let none = "no relationship found between node 'n' and this object";
        check("get - secrets - a s", "yes");
        check("list - secrets - a s", "yes");
        check("get - secrets - a t", none);
        check("list - secrets - a -", "No Object name found");
        check("update - secrets - a s", "can only read resources of this type");
        check("list - secrets - - s", "can only read namespaced object of this type");
        check("list - pods - - -", "can only list/watch pods with spec.nodeName field selector");
        check("list - pods - - - spec.nodeName=n", "yes");
        check(
            "watch - pods - - - spec.nodeName=m",
            "can only list/watch pods with spec.nodeName field selector",
        );
        check("get - pods - a p", "yes");
        check("get - pods log a p", "");
        check("get - nodes - - n", "yes");
        check("list - nodes - - -", "node 'n' cannot read all nodes, only its own Node object");
        check("create - serviceaccounts token a default", "yes");
        check("create - serviceaccounts token a other", none);
        check("create - serviceaccounts - a default", "can only create token subresource of serviceaccount");
        check(
            "get coordination.k8s.io leases - default n",
            "can only access leases in the \"kube-node-lease\" system namespace",
        );
        check("get coordination.k8s.io leases - kube-node-lease n", "yes");
        check("create coordination.k8s.io leases - kube-node-lease -", "yes");
        check("list - services - - -", "yes");
        check("list - endpoints - - -", "");
    }

    struct FieldSelectorTerms;

    impl FieldSelectorTerms {
        fn of(text: &str) -> Vec<machinery::select::FieldTerm> {
            machinery::select::FieldSelector::parse(text).unwrap().terms
        }
    }

    #[test]
    fn pods_open_what_they_use() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "acc",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}],
                "envFrom": [{"configMapRef": {"name": "from"}}]}],
            "volumes": [{"name": "v", "ephemeral": {}},
                {"csi": {"nodePublishSecretRef": {"name": "csi"}}},
                {"projected": {"sources": [{"secret": {"name": "projected"}}]}}]}});
        let found = references(&pod);
        for (kind, name) in [
            (Kind::Account, "acc"),
            (Kind::Secret, "pull"),
            (Kind::Secret, "key"),
            (Kind::ConfigMap, "from"),
            (Kind::Claim, "p-v"),
            (Kind::Secret, "csi"),
            (Kind::Secret, "projected"),
        ] {
            assert!(found.contains(&(kind, name.into())), "{kind:?} {name}");
        }
        assert_eq!(found.len(), 7);
    }
}
