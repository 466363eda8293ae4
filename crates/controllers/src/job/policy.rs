//! What a failed pod means, and when some successes are enough.

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, SuccessPolicy};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::{Indexes, parse};

/// What the failure policy says of a failed pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Count,
    Ignore,
    FailIndex,
    /// The message of the Job's condition.
    FailJob(String),
}

pub fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let status = pod.status.clone().unwrap_or_default();
    let (namespace, name) = (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    for (index, rule) in policy.iter().flat_map(|policy| policy.rules.iter()).enumerate() {
        let why = if let Some(codes) = &rule.on_exit_codes {
            let mut all = status
                .container_statuses
                .iter()
                .flatten()
                .chain(status.init_container_statuses.iter().flatten());
            all.find_map(|container| Some((container, exit_code(container, codes)?))).map(|(container, code)| {
                format!(
                    "Container {} for pod {namespace}/{name} failed with exit code {code} matching {} rule at index {index}",
                    container.name, rule.action
                )
            })
        } else {
            let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
            let mut conditions = status.conditions.iter().flatten();
            let found = conditions.find(|condition| {
                patterns.iter().any(|pattern| {
                    let wanted = pattern.status.as_deref().unwrap_or("True");
                    pattern.type_ == condition.type_ && wanted == condition.status
                })
            });
            found.map(|condition| {
                format!(
                    "Pod {namespace}/{name} has condition {} matching {} rule at index {index}",
                    condition.type_, rule.action
                )
            })
        };
        match (why, rule.action.as_str()) {
            (None, _) => {}
            (Some(_), "Ignore") => return Verdict::Ignore,
            (Some(_), "FailIndex") => return Verdict::FailIndex,
            (Some(_), "Count") => return Verdict::Count,
            (Some(why), "FailJob") => return Verdict::FailJob(why),
            (Some(_), _) => {}
        }
    }
    Verdict::Count
}

fn exit_code(container: &ContainerStatus, rule: &PodFailurePolicyOnExitCodesRequirement) -> Option<i32> {
    if rule.container_name.as_ref().is_some_and(|name| *name != container.name) {
        return None;
    }
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = rule.values.contains(&code);
    let wanted = match rule.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (code != 0 && wanted).then_some(code)
}

/// The message of the condition, if the indexes that have succeeded are enough.
pub fn succeeded(policy: &SuccessPolicy, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let met = policy.rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(wanted) => {
            let wanted = parse(wanted, completions);
            let have = wanted.intersection(succeeded).count();
            !wanted.is_empty()
                && (have == wanted.len() || rule.succeeded_count.is_some_and(|count| have >= count as usize))
        }
        None => rule.succeeded_count.is_some_and(|count| succeeded.len() >= count as usize),
    });
    met.map(|index| format!("Matched rules at index {index}"))
}
