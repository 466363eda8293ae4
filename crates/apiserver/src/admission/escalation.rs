//! Nobody grants what they do not have: writes of roles need all their rules (or `escalate`), writes of bindings all rules
//! of the bound role (or `bind`).
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::{Get, Status, meta};

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz::{self, Rule};
use crate::registry::Call;

/// Not one of upstream's plugins (there it stands in the storage of these kinds), so it can't be switched off.
pub static PLUGIN: Plugin = Plugin {
    name: "RBAC escalation",
    mutate: None,
    validate: Some(|call, attributes| async move { validate(call, attributes) }.boxed()),
};

const GROUP: &str = "rbac.authorization.k8s.io";

fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    let write = matches!(a.operation, Operation::Create | Operation::Update);
    if a.resource.group != GROUP || !write || call.user.is_in("system:masters") {
        return Ok(());
    }
    match a.resource.name.as_str() {
        "roles" | "clusterroles" => role(call, a),
        _ => binding(call, a),
    }
}

fn may(call: &Call, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
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
    authz::check(&call.core, &call.user, &ask).is_ok()
}

fn role(call: &Call, a: &Attributes) -> Result<(), Status> {
    let (new, old) = (a.object(), a.old());
    let same = a.operation == Operation::Update
        && new.list("rules") == old.list("rules")
        && new.at("aggregationRule") == old.at("aggregationRule");
    if same || may(call, "escalate", &a.resource.name, &a.namespace, meta::name(new)) {
        return Ok(());
    }
    let rules = Rule::parse_all(new);
    covered(call, a, &rules)?;
    if new.at("aggregationRule").is_object() {
        // what will be aggregated is not known: it takes everything
        let all = || vec!["*".to_owned()];
        let everything = [
            Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), urls: all(), ..Rule::default() },
        ];
        let index = authz::index(&call.core);
        let has =
            |rule: &Rule| index.grants(&call.user, "").any(|g| g.rules.iter().any(|r| r.covers_rule(rule)));
        if !everything.iter().all(has) {
            return Err(forbidden(a, "must have cluster-admin privileges to use the aggregationRule"));
        }
    }
    Ok(())
}

fn binding(call: &Call, a: &Attributes) -> Result<(), Status> {
    let (new, old) = (a.object(), a.old());
    let same = a.operation == Operation::Update
        && new.at("roleRef") == old.at("roleRef")
        && new.list("subjects") == old.list("subjects");
    if same {
        return Ok(());
    }
    let reference = new.at("roleRef");
    let (kind, name) = (reference.text("kind"), reference.text("name"));
    let resource = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if may(call, "bind", resource, &a.namespace, name) {
        return Ok(());
    }
    let index = authz::index(&call.core);
    let Some(rules) = index.role(kind, &a.namespace, name) else {
        let about = machinery::GroupResource::new(GROUP, resource);
        return Err(Status::not_found(&about, name));
    };
    covered(call, a, &rules)
}

fn covered(call: &Call, a: &Attributes, rules: &[Rule]) -> Result<(), Status> {
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
    let mut lines: Vec<String> = missing.iter().map(|rule| shown(rule)).collect();
    lines.sort();
    lines.dedup();
    let why = format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        go_quote(&call.user.name),
        list(&call.user.groups),
        lines.join("\n")
    );
    Err(forbidden(a, &why))
}

/// A rule as upstream prints it.
fn shown(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (name, items) in [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.urls),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            let items: Vec<String> = items.iter().map(|i| go_quote(i)).collect();
            parts.push(format!("{name}:[{}]", items.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}
