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

/// (resource, object) of all of them.
pub fn all() -> Vec<(&'static str, Value)> {
    let mut out: Vec<(&'static str, Value)> = Vec::new();
    for line in TABLE.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        if line.starts_with(' ') {
            let Some((_, role)) = out.last_mut() else { continue };
            if let Some(Value::Array(rules)) = role.get_mut("rules") {
                rules.push(rule(line));
            }
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
    let found = all().into_iter().find(|(r, o)| *r == "clusterroles" && meta::name(o) == name);
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
    let additions = missing(&live, &want);
    if additions.is_empty() {
        return Ok(());
    }
    let list = if resource.ends_with("bindings") { "subjects" } else { "rules" };
    let mut call = core.internal_call(served, "update", &namespace, &name);
    let options = super::options();
    let request = UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| {
            let mut new = old.clone();
            let mut all = new.list(list).to_vec();
            all.extend(additions.iter().cloned());
            new.set(list, all);
            Ok(new)
        },
    };
    update_object(&mut call, request).await.map(|_| ())
}

/// Rules or subjects that the live object does not cover.
fn missing(live: &Value, want: &Value) -> Vec<Value> {
    if want.has("subjects") {
        let have = live.list("subjects");
        return want.list("subjects").iter().filter(|s| !have.contains(s)).cloned().collect();
    }
    let have = Rule::parse_all(live);
    want.list("rules")
        .iter()
        .filter(|rule| {
            Rule::parse(rule).broken_down().iter().any(|one| !have.iter().any(|h| h.covers_rule(one)))
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let all = all();
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
