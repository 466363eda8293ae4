//! Preemption: which pods of lower priority to remove from which node, so that a pod fits there.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Cached, Key};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use crate::framework::{Cycle, Refusals, summary};
use crate::node::{NodeInfo, PodInfo, Snapshot};
use crate::objects::{Meta, Pod};
use crate::select::labels_match;

/// A PodDisruptionBudget, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Budget {
    pub metadata: Meta,
    pub spec: BudgetSpec,
    pub status: BudgetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BudgetSpec {
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    pub disruptions_allowed: i32,
    pub disrupted_pods: BTreeMap<String, serde::de::IgnoredAny>,
}

impl Cached for Budget {
    fn key(&self) -> Key {
        Key::new(&self.metadata.namespace, &self.metadata.name)
    }
    fn object_uid(&self) -> &str {
        &self.metadata.uid
    }
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// A node and the pods to remove from it, most important first.
#[derive(Debug)]
pub struct Candidate {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// The best candidate, or why there is none (a part of the FailedScheduling message).
pub fn decide(
    pod: &PodInfo,
    snapshot: &Snapshot,
    refusals: &Refusals,
    budgets: &[Arc<Budget>],
) -> Result<Candidate, String> {
    if pod.pod.spec.preemption_policy.as_deref() == Some("Never") {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let nominated = &pod.pod.status.nominated_node_name;
    let hopeless = refusals.by_node.get(nominated).is_some_and(|reject| !reject.by_pods);
    if !hopeless
        && let Some(node) = snapshot.get(nominated)
        && node.pods.iter().any(|other| is_lower(other, pod) && leaves_for_another(&other.pod))
    {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let mut candidates = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for (place, node) in snapshot.nodes.iter().enumerate() {
        match refusals.by_node.get(node.name()) {
            Some(reject) if reject.by_pods => match victims(pod, snapshot, place, node, budgets) {
                Ok(candidate) => candidates.push(candidate),
                Err(why) => reasons.extend(why),
            },
            _ => reasons.push("Preemption is not helpful for scheduling".to_owned()),
        }
    }
    best(candidates).ok_or_else(|| summary(snapshot.nodes.len(), reasons.iter().map(String::as_str)))
}

fn is_lower(victim: &PodInfo, pod: &PodInfo) -> bool {
    victim.pod.spec.priority < pod.pod.spec.priority
}

fn leaves_for_another(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && pod
            .condition("DisruptionTarget")
            .is_some_and(|c| c.status == "True" && c.reason == "PreemptionByScheduler")
}

/// The fewest and least important pods of one node whose removal lets the pod in.
fn victims(
    pod: &PodInfo,
    snapshot: &Snapshot,
    place: usize,
    node: &Arc<NodeInfo>,
    budgets: &[Arc<Budget>],
) -> Result<Candidate, Vec<String>> {
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|other| is_lower(other, pod)).cloned().collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    let mut world = snapshot.clone();
    let mut trial = (**node).clone();
    for other in &lower {
        trial.remove(&other.pod.metadata.uid);
    }
    let mut fits = |trial: &NodeInfo| {
        world.nodes[place] = Arc::new(trial.clone());
        Cycle::new(pod, &world).filter(trial).map_err(|(_, reject)| reject.reasons)
    };
    fits(&trial)?;
    // Spare as many as possible, the most important first; those a budget protects before the others.
    lower.sort_by_key(|other| importance(&other.pod));
    let (protected, free) = by_budget(lower, budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (others, violating) in [(protected, true), (free, false)] {
        for other in others {
            trial.add(other.clone());
            if fits(&trial).is_err() {
                trial.remove(&other.pod.metadata.uid);
                violations += usize::from(violating);
                victims.push(other);
            }
        }
    }
    victims.sort_by_key(|other| importance(&other.pod));
    Ok(Candidate { node: node.name().to_owned(), victims, violations })
}

/// Sorts the more important first: of higher priority, then running for longer.
fn importance(pod: &Pod) -> (Reverse<i32>, Option<k8s_openapi::jiff::Timestamp>) {
    (Reverse(pod.spec.priority), pod.status.start_time.as_ref().map(|time| time.0))
}

/// Splits off the pods whose removal their budgets do not allow.
fn by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[Arc<Budget>]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.status.disruptions_allowed).collect();
    pods.into_iter().partition(|info| {
        let meta = &info.pod.metadata;
        if meta.labels.is_empty() {
            return false;
        }
        let mut violates = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let selector = budget.spec.selector.as_ref().filter(|s| {
                s.match_labels.iter().flatten().next().is_some()
                    || s.match_expressions.iter().flatten().next().is_some()
            });
            let covers = budget.metadata.namespace == meta.namespace
                && selector.is_some()
                && labels_match(selector, &meta.labels)
                && !budget.status.disrupted_pods.contains_key(&meta.name);
            if covers {
                *allowed -= 1;
                violates |= *allowed < 0;
            }
        }
        violates
    })
}

/// Fewest violations, then the least important highest victim, then the smallest sum of priorities, then the fewest
/// victims, then the latest start of the most important ones.
fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let priorities = candidate.victims.iter().map(|victim| i64::from(victim.pod.spec.priority));
        let highest = priorities.clone().max().unwrap_or(i64::MIN);
        // Shifted, so that more victims of negative priority do not look cheaper.
        let sum: i64 = priorities.map(|p| p + i64::from(i32::MAX) + 1).sum();
        let top = candidate.victims.iter().filter(|victim| i64::from(victim.pod.spec.priority) == highest);
        let earliest = top.filter_map(|victim| victim.pod.status.start_time.as_ref().map(|t| t.0)).min();
        (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::framework::Verdict;
    use crate::test::{node, pod};

    fn placed(name: &str, node: &str, priority: i32, cpu: &str) -> Arc<Pod> {
        Arc::new(pod(&format!(
            r#"{{"metadata":{{"name":"{name}","uid":"{name}","namespace":"x","labels":{{"app":"{name}"}}}},
            "spec":{{"nodeName":"{node}","priority":{priority},
            "containers":[{{"resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}"#
        )))
    }

    fn outcome(
        cache: &mut Cache,
        priority: i32,
        cpu: &str,
        budgets: &[Arc<Budget>],
    ) -> Result<(String, Vec<String>), String> {
        let info = PodInfo::new(placed("new", "", priority, cpu));
        let snapshot = cache.snapshot();
        let Verdict::Nowhere(refusals) = Cycle::new(&info, &snapshot).decide(0, 0.0) else { panic!("fits") };
        let candidate = decide(&info, &snapshot, &refusals, budgets)?;
        Ok((candidate.node, candidate.victims.iter().map(|v| v.pod.metadata.name.clone()).collect()))
    }

    fn world() -> Cache {
        let mut cache = Cache::default();
        for name in ["n1", "n2"] {
            cache.set_node(Arc::new(node(name, "4")));
        }
        for (name, node, priority, cpu) in
            [("a", "n1", 1, "2"), ("b", "n1", 2, "1"), ("c", "n1", 1, "1"), ("d", "n2", 3, "4")]
        {
            cache.set_pod(placed(name, node, priority, cpu));
        }
        cache
    }

    #[test]
    fn the_least_important_go_and_no_more_than_needed() {
        assert_eq!(outcome(&mut world(), 5, "1", &[]).unwrap(), ("n1".into(), vec!["c".into()]));
        assert_eq!(outcome(&mut world(), 5, "2", &[]).unwrap(), ("n1".into(), vec!["a".into()]));
    }

    #[test]
    fn budgets_are_kept_where_possible() {
        let budget: Budget = serde_json::from_str(
            r#"{"metadata":{"name":"p","namespace":"x"},"spec":{"selector":{"matchLabels":{"app":"c"}}}}"#,
        )
        .unwrap();
        assert_eq!(outcome(&mut world(), 5, "1", &[Arc::new(budget)]).unwrap().1, ["a"]);
    }

    #[test]
    fn says_why_not() {
        let none = "0/2 nodes are available: 2 No preemption victims found for incoming pod.";
        assert_eq!(outcome(&mut world(), 0, "1", &[]).unwrap_err(), none);
        let hopeless = "0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
        assert_eq!(outcome(&mut world(), 5, "9", &[]).unwrap_err(), hopeless);
    }
}
