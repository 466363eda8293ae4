//! Nobody grants what they do not have: writes of roles need all their rules (or `escalate`), writes of bindings all rules
//! of the bound role (or `bind`).
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::{Get, Status, Value, meta};

use super::{Attributes, Operation, Plugin};
use crate::authn::user::MASTERS;
use crate::authz::{self, Rule};
use crate::registry::Call;

/// Not one of upstream's plugins (there it stands in the storage of these kinds), so it can't be switched off. It comes
/// after all that changes objects, and before their validation.
pub static PLUGIN: Plugin = Plugin {
    name: "RBAC escalation",
    mutate: Some(|call, attributes| check(call, attributes).boxed()),
    validate: None,
};

const GROUP: &str = "rbac.authorization.k8s.io";

async fn check(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    let write = matches!(a.operation, Operation::Create | Operation::Update);
    if a.resource.group != GROUP || !write || call.user.is_in(MASTERS) {
        return Ok(());
    }
    if a.operation == Operation::Update && only_garbage_fields(a.object(), a.old()) {
        return Ok(());
    }
    match a.resource.name.as_str() {
        "roles" | "clusterroles" => role(call, a).await,
        _ => binding(call, a).await,
    }
}

/// Is it nothing but what the garbage collector needs to change: finalizers and owners?
pub fn only_garbage_fields(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut rest = object.clone();
        for key in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            rest.child("metadata").unset(key);
        }
        rest
    };
    rest(new) == rest(old)
}

async fn may(call: &Call, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let ask = authz::Attributes {
        is_resource: true,
        verb,
        group: GROUP,
        version: "*",
        resource,
        namespace,
        name,
        ..authz::Attributes::default()
    };
    authz::check(&call.core, &call.user, &ask).await.is_ok()
}

fn forbidden(a: &Attributes, name: &str, why: &str) -> Status {
    Status::forbidden(&a.resource.group_resource(), name, why)
}

async fn role(call: &Call, a: &Attributes) -> Result<(), Status> {
    // the name in the path, which a create does not have
    if may(call, "escalate", &a.resource.name, &a.namespace, call.name()).await {
        return Ok(());
    }
    let (new, old) = (a.object(), a.old());
    let name = meta::name(new);
    covered(call, a, &Rule::parse_all(new)).map_err(|why| forbidden(a, name, &why))?;
    let aggregates = |o: &Value| !o.at("aggregationRule").list("clusterRoleSelectors").is_empty();
    if aggregates(new) || aggregates(old) {
        // what will be aggregated is not known: it takes everything
        let all = || vec!["*".to_owned()];
        let everything = [
            Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), urls: all(), ..Rule::default() },
        ];
        let why = "must have cluster-admin privileges to use the aggregationRule";
        covered(call, a, &everything).map_err(|_| forbidden(a, name, why))?;
    }
    Ok(())
}

async fn binding(call: &Call, a: &Attributes) -> Result<(), Status> {
    let reference = a.object().at("roleRef");
    let (kind, name) = (reference.text("kind"), reference.text("name"));
    let resource = match kind {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        other => {
            let why = format!("unsupported role reference kind: {}", go_quote(other));
            return Err(Status::new(500, "", why));
        }
    };
    if may(call, "bind", resource, &a.namespace, name).await {
        return Ok(());
    }
    let index = authz::index(&call.core);
    let Some(rules) = index.role(kind, &a.namespace, name) else {
        // upstream's error names the resource of the request
        return Err(Status::not_found(&a.resource.group_resource(), name));
    };
    covered(call, a, &rules).map_err(|why| forbidden(a, meta::name(a.object()), &why))
}

/// Has the user all of these rules in the namespace of the request?
fn covered(call: &Call, a: &Attributes, rules: &[Rule]) -> Result<(), String> {
    let index = authz::index(&call.core);
    let held: Vec<Rule> =
        index.grants(&call.user, &a.namespace).flat_map(|g| g.rules.iter().cloned()).collect();
    let missing: Vec<Rule> = rules
        .iter()
        .flat_map(Rule::broken_down)
        .filter(|one| !held.iter().any(|have| have.covers_rule(one)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |items: &[String]| items.iter().map(|i| go_quote(i)).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = compact(missing).iter().map(shown).collect();
    lines.sort();
    lines.dedup();
    let mut why = format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        go_quote(&call.user.name),
        list(&call.user.groups),
        lines.join("\n")
    );
    let unresolved = index.unresolved(&call.user, &a.namespace);
    if !unresolved.is_empty() {
        why.push_str(&format!("; resolution errors: [{unresolved}]"));
    }
    Err(why)
}

/// Rules that differ by their verb only become one.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = out.iter_mut().find(|known| {
            rule.urls.is_empty()
                && known.groups == rule.groups
                && known.resources == rule.resources
                && known.names == rule.names
                && known.urls.is_empty()
        });
        match same {
            Some(known) => known.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}

/// A rule as upstream prints it.
fn shown(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (name, items) in [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.urls),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            let items: Vec<String> = items.iter().map(|i| go_quote(i)).collect();
            parts.push(format!("{name}:[{}]", items.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use machinery::json;

    use super::*;

    #[test]
    fn missing_rules_read_as_upstreams() {
        let rule = Rule::parse(
            &json!({"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"],
            "resourceNames": ["a"]}),
        );
        let lines: Vec<String> = compact(rule.broken_down()).iter().map(shown).collect();
        assert_eq!(
            lines[0],
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}"#
        );
        assert_eq!(lines.len(), 2);
        let url = Rule::parse(&json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}));
        assert_eq!(shown(&url), r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#);
    }

    #[test]
    fn owners_and_finalizers_grant_nothing() {
        let old = json!({"metadata": {"name": "a", "finalizers": ["x"]}, "rules": [1]});
        let new = json!({"metadata": {"name": "a", "ownerReferences": [1]}, "rules": [1]});
        assert!(only_garbage_fields(&new, &old));
        assert!(!only_garbage_fields(&json!({"metadata": {"name": "a"}, "rules": [2]}), &old));
    }
}
