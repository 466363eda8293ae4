//! The default roles and bindings, and how a changed one is mended: missing permissions and subjects are added, added
//! ones stay. <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation>

use std::sync::Arc;

use machinery::{Get, Status, Value, json, meta};

use crate::authz::Rule;
use crate::registry::{UpdateRequest, update_object};
use crate::server::Core;

const GROUP: &str = "rbac.authorization.k8s.io";
const TABLE: &str = include_str!("roles.txt");
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// (resource, object) of all of them, in upstream's order; `features` are those switched on.
pub fn all(features: &[String]) -> Vec<(&'static str, Value)> {
    let mut out: Vec<(&'static str, Value)> = Vec::new();
    let mut left_out = false;
    for line in TABLE.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let is_rule = line.starts_with(' ');
        let (on, line) = match line.trim_start().strip_prefix('?') {
            Some(gated) => {
                let (gate, rest) = gated.split_once(' ').unwrap_or((gated, ""));
                (features.iter().any(|f| f == gate), rest)
            }
            None => (true, line),
        };
        if is_rule {
            let Some((_, role)) = out.last_mut().filter(|_| on && !left_out) else { continue };
            if let Some(Value::Array(rules)) = role.get_mut("rules") {
                rules.push(rule(line));
            }
            continue;
        }
        left_out = !on;
        if left_out {
            continue;
        }
        let mut words = line.split(' ');
        let (kind, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {AUTOUPDATE: "true"}}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let resource = match kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            "ClusterRoleBinding" => "clusterrolebindings",
            _ => "rolebindings",
        };
        if kind.ends_with("Binding") {
            fill_binding(&mut object, words);
        } else {
            object["rules"] = json!([]);
            for word in words {
                fill_role(&mut object, word);
            }
        }
        out.push((resource, object));
    }
    out
}

fn fill_role(object: &mut Value, word: &str) {
    if let Some(label) = word.strip_prefix("label=") {
        object["metadata"]["labels"][label] = "true".into();
    } else if let Some(label) = word.strip_prefix("aggregate=") {
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        // the aggregation controller fills them
        object["rules"] = Value::Null;
    }
}

fn fill_binding<'a>(object: &mut Value, mut words: impl Iterator<Item = &'a str>) {
    let (kind, role) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": role});
    let subjects: Vec<Value> = words
        .filter_map(|word| word.split_once(':'))
        .map(|(kind, name)| match (kind, name.split_once('/')) {
            ("ServiceAccount", Some((namespace, name))) => {
                json!({"kind": kind, "name": name, "namespace": namespace})
            }
            _ => json!({"apiGroup": GROUP, "kind": kind, "name": name}),
        })
        .collect();
    object["subjects"] = subjects.into();
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(|w| if w == "-" { "" } else { w }).collect()
}

fn rule(line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["url", verbs, ref paths @ ..] => json!({"verbs": list(verbs), "nonResourceURLs": paths}),
        [verbs, groups, resources] => {
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)})
        }
        [verbs, groups, resources, names] => json!({"verbs": list(verbs), "apiGroups": list(groups),
            "resources": list(resources), "resourceNames": list(names)}),
        _ => Value::Null,
    }
}

/// The rules of a default cluster role.
pub fn cluster_role(name: &str) -> Arc<[Rule]> {
    // nodes get what gates add too: what they lead to is not served without its gate
    let gates = ["ClusterTrustBundle", "PodCertificateRequest"].map(str::to_owned);
    let found = all(&gates).into_iter().find(|(r, o)| *r == "clusterroles" && meta::name(o) == name);
    found.map_or_else(|| Arc::from(Vec::new()), |(_, object)| Rule::parse_all(&object))
}

/// Makes the object, or adds what it lacks.
pub async fn reconcile(core: &Arc<Core>, resource: &'static str, want: Value) -> Result<(), Status> {
    let Some(served) = core.kinds.now().preferred(GROUP, resource) else { return Ok(()) };
    let Some(home) = served.home.clone() else { return Ok(()) };
    let (namespace, name) = (meta::namespace(&want).to_owned(), meta::name(&want).to_owned());
    let Some(entry) = home.cache.get(&home.local_key(&namespace, &name)) else {
        return super::ensure(core, GROUP, resource, want).await;
    };
    let live = entry.parse();
    if meta::annotations(&live).and_then(|a| a.get(AUTOUPDATE)).and_then(Value::as_str) == Some("false") {
        return Ok(());
    }
    if want.has("roleRef") && !same_role(&live, &want) {
        // what a binding leads to can't be changed: it is made anew, with whom it has
        let mut anew = want.clone();
        anew.set(
            "subjects",
            mended(&live, &want).map_or_else(|| live.at("subjects").clone(), |m| m.at("subjects").clone()),
        );
        let mut call = core.internal_call(served, "delete", &namespace, &name);
        crate::registry::delete_object(&mut call, &crate::registry::DeleteOptions::default()).await?;
        return super::ensure(core, GROUP, resource, anew).await;
    }
    if mended(&live, &want).is_none() {
        return Ok(());
    }
    let mut call = core.internal_call(served, "update", &namespace, &name);
    let options = super::options();
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| Ok(mended(old, &want).unwrap_or_else(|| old.clone())),
    };
    update_object(&mut call, request).await.map(|_| ())
}

fn same_role(live: &Value, want: &Value) -> bool {
    let of = |o: &Value| {
        let reference = o.at("roleRef");
        ["apiGroup", "kind", "name"].map(|key| reference.text(key).to_owned())
    };
    of(live) == of(want)
}

/// The live object with all that it lacks; none if it lacks nothing.
fn mended(live: &Value, want: &Value) -> Option<Value> {
    let mut new = live.clone();
    for key in ["labels", "annotations"] {
        for (name, value) in want.at("metadata").map(key).into_iter().flatten() {
            if !live.at("metadata").at(key).has(name) {
                let metadata = new.child("metadata");
                if !metadata.at(key).is_object() {
                    metadata.set(key, json!({}));
                }
                metadata.child(key).set(name, value.clone());
            }
        }
    }
    let list = if want.has("roleRef") { "subjects" } else { "rules" };
    let additions = missing(live, want);
    if !additions.is_empty() {
        let mut all = live.list(list).to_vec();
        all.extend(additions);
        new.set(list, all);
    }
    let selectors = |o: &Value| o.at("aggregationRule").list("clusterRoleSelectors").to_vec();
    let lacking: Vec<Value> = selectors(want).into_iter().filter(|s| !selectors(live).contains(s)).collect();
    if !lacking.is_empty() {
        let mut all = selectors(live);
        all.extend(lacking);
        new.set("aggregationRule", json!({"clusterRoleSelectors": all}));
    }
    (new != *live).then_some(new)
}

/// Subjects that the live object does not have, or rules, one by one, that it does not cover.
fn missing(live: &Value, want: &Value) -> Vec<Value> {
    if want.has("roleRef") {
        let have = live.list("subjects");
        return want.list("subjects").iter().filter(|s| !have.contains(s)).cloned().collect();
    }
    let have = Rule::parse_all(live);
    want.list("rules")
        .iter()
        .flat_map(|rule| Rule::parse(rule).broken_down())
        .filter(|one| !have.iter().any(|h| h.covers_rule(one)))
        .map(|one| one.to_value())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let all = all(&[]);
        let more = super::all(&["PodCertificateRequest".to_owned()]);
        assert_eq!(more.len(), all.len() + 2);
        let count = |r: &str| all.iter().filter(|(resource, _)| *resource == r).count();
        assert!(count("clusterroles") > 60 && count("clusterrolebindings") > 50, "{}", all.len());
        assert!(count("roles") >= 5 && count("rolebindings") >= 5);
        let node = cluster_role("system:node");
        assert!(node.iter().any(|r| r.resources.contains(&"leases".to_owned())));
        let (_, admin) = all.iter().find(|(_, o)| meta::name(o) == "cluster-admin").unwrap();
        assert_eq!(admin["rules"][0]["apiGroups"][0], "*");
        assert!(missing(admin, admin).is_empty());
        assert_eq!(missing(&json!({"rules": []}), admin).len(), 2);
    }
}
