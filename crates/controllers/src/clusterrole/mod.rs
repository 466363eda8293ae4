//! ClusterRole aggregation: a role with an aggregation rule has the rules of all roles that this selects.

use std::sync::Arc;

use client::write::{Part, ignore_not_found};
use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use serde_json::json;

use crate::common::{Context, matches, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    service_account: "clusterrole-aggregation-controller",
    component: "clusterrole-aggregation-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

async fn run(context: Context) {
    let roles = context.informers.of::<ClusterRole>();
    roles.synced().await;
    let queue = Queue::named("ClusterRoleAggregator");
    let (added, all) = (queue.clone(), roles.clone());
    let _roles = roles.on_change(move |change| {
        // Any role may be selected by any aggregated one; there are few of those.
        all.for_each(|key, role| {
            if role.aggregation_rule.is_some() {
                added.add(key.clone());
            }
        });
        if change.new.is_some_and(|role| role.aggregation_rule.is_some()) {
            added.add(change.key.clone());
        }
    });
    let api: Api<ClusterRole> = Api::all(context.client.clone());
    let reconcile = |key: Key| {
        let (roles, api) = (&roles, &api);
        async move {
            let Some(role) = roles.get(&key) else { return Ok(Outcome::Done) };
            let Some(rules) = decide(&role, &roles.list()) else { return Ok(Outcome::Done) };
            let body = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": key.name()}, "rules": rules,
            });
            const MANAGER: &str = "clusterrole-aggregation-controller";
            let written = client::write::apply(api, key.name(), Part::Main, MANAGER, &body).await;
            if let Some(role) = ignore_not_found::<ClusterRole>(written)? {
                seen(roles, &role).await;
            }
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

/// The rules the role should have, if it has others: those of the selected roles by name, each once.
fn decide(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.clone().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut chosen: Vec<&Arc<ClusterRole>> = Vec::new();
    for selector in &selectors {
        let selected = all.iter().filter(|other| {
            other.metadata.name != role.metadata.name && matches(selector, other.metadata.labels.as_ref())
        });
        let before = chosen.len();
        chosen.extend(selected);
        chosen[before..].sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    }
    for rule in chosen.iter().flat_map(|role| role.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::AggregationRule;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;
    use crate::common::test::{labels, meta};

    fn role(name: &str, resource: &str) -> Arc<ClusterRole> {
        let mut role = ClusterRole { metadata: meta(name), ..Default::default() };
        role.metadata.labels = Some(labels(&[("to", "admin")]));
        let rule = PolicyRule {
            verbs: vec!["get".into()],
            resources: Some(vec![resource.into()]),
            ..Default::default()
        };
        role.rules = Some(vec![rule]);
        Arc::new(role)
    }

    #[test]
    fn gathers_each_rule_once_and_then_rests() {
        let selector =
            LabelSelector { match_labels: Some(labels(&[("to", "admin")])), match_expressions: None };
        let mut admin = ClusterRole {
            metadata: meta("admin"),
            aggregation_rule: Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) }),
            rules: None,
        };
        let mut all = vec![role("b", "pods"), role("a", "secrets"), role("c", "pods")];
        let rules = decide(&admin, &all).unwrap();
        let resources: Vec<_> = rules.iter().map(|rule| rule.resources.clone().unwrap()[0].clone()).collect();
        assert_eq!(resources, ["secrets", "pods"]);
        admin.rules = Some(rules);
        assert_eq!(decide(&admin, &all), None);
        all.clear();
        assert_eq!(decide(&admin, &all), Some(vec![]));
    }
}
