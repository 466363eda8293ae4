//! Label selectors, node selectors and tolerations against what they select.

use k8s_openapi::api::core::v1::{NodeSelectorTerm, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::objects::{Labels, Node, Pod};

/// No selector selects nothing, an empty one everything.
pub fn labels_match(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values: Vec<&str> = requirement.values.iter().flatten().map(String::as_str).collect();
            requirement_holds(
                &requirement.operator,
                &values,
                labels.get(&requirement.key).map(String::as_str),
            )
        })
}

fn requirement_holds(operator: &str, values: &[&str], value: Option<&str>) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    match operator {
        "In" => value.is_some_and(|value| values.contains(&value)),
        "NotIn" => !value.is_some_and(|value| values.contains(&value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" | "Lt" => {
            let (Some(value), Some(bound)) = (value.and_then(number), values.first().and_then(|v| number(v)))
            else {
                return false;
            };
            if operator == "Gt" { value > bound } else { value < bound }
        }
        _ => false,
    }
}

/// An empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let holds = |operator: &str, values: &Option<Vec<String>>, value: Option<&str>| {
        let values: Vec<&str> = values.iter().flatten().map(String::as_str).collect();
        requirement_holds(operator, &values, value)
    };
    expressions
        .iter()
        .all(|r| holds(&r.operator, &r.values, node.metadata.labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| {
            let value = (r.key == "metadata.name").then_some(node.metadata.name.as_str());
            holds(&r.operator, &r.values, value)
        })
}

/// The pod's node selector and required node affinity.
pub fn node_wanted(pod: &Pod, node: &Node) -> bool {
    let selected =
        pod.spec.node_selector.iter().all(|(key, value)| node.metadata.labels.get(key) == Some(value));
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required
            .is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates_one(toleration, taint))
}

fn tolerates_one(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    let effect = text(&toleration.effect);
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = text(&toleration.key);
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}
