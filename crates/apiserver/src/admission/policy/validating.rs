//! ValidatingAdmissionPolicies: expressions that must hold, with what happens when they do not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use machinery::status::Cause;
use machinery::{Status, Value, json};

use super::{Invocation, Policy, Validation, select};
use crate::admission::expressions::{
    Evaluation, Expression, Inputs, Met, OUT_OF_BUDGET, OutOfBudget, conditions, namespace_object,
};
use crate::admission::seen::{Seen, request};
use crate::admission::{Attributes, Plugin, forbidden};
use crate::metrics::Conditions;
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "ValidatingAdmissionPolicy",
    mutate: None,
    validate: Some(|call, attributes| validate(call, attributes).boxed()),
};

/// Bytes that an evaluated message may have.
const MAX_MESSAGE: usize = 5 * 1024;
/// Bytes of an audit annotation; the rest is cut off.
const MAX_ANNOTATION: usize = 10 * 1024;

/// What one expression comes to.
#[derive(Default)]
struct Denial {
    message: String,
    /// "" for Invalid.
    reason: String,
}

/// What all expressions of a policy with one parameter come to.
#[derive(Default)]
struct Decision {
    /// With the position of the validation.
    denials: Vec<(usize, Denial)>,
    annotations: Vec<(String, String)>,
    /// Denials whatever the binding's actions are.
    broken: Vec<String>,
    /// Errors that the failure policy overlooks.
    overlooked: Vec<String>,
}

async fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    let core = call.core.clone();
    let hooks = &core.hooks;
    let selection = select(
        call,
        a,
        (&hooks.validating_policies, "validatingadmissionpolicies"),
        (&hooks.validating_bindings, "validatingadmissionpolicybindings"),
    );
    let mut denied: Vec<(String, Option<String>, Denial)> = Vec::new();
    for wrong in selection.wrong.into_iter().filter(|w| !w.ignores) {
        denied.push((wrong.policy, wrong.binding, Denial { message: wrong.why, reason: String::new() }));
    }
    let namespace = match selection.invocations.is_empty() {
        true => Value::Null,
        false => namespace_object(call, a),
    };
    let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for invocation in &selection.invocations {
        let (policy, binding) = (invocation.policy(), invocation.binding());
        if invocation.params.is_empty() {
            continue;
        }
        let seen = match Seen::new(call, a, &invocation.matched).await {
            Ok(seen) => seen,
            Err(_) if policy.ignores => continue,
            Err(status) => {
                let why = format!(
                    "failed to configure binding: failed to convert object version: {}",
                    status.message
                );
                let denial = Denial { message: why, reason: String::new() };
                denied.push((policy.name.clone(), Some(binding.name.clone()), denial));
                continue;
            }
        };
        for params in &invocation.params {
            let began = Instant::now();
            let decision = decide(call, a, invocation, &seen, params, &namespace);
            let took = began.elapsed();
            for message in decision.overlooked {
                core.metrics.admission.policy(&policy.name, &binding.name, &message, "allow", took);
            }
            for (at, denial) in decision.denials {
                act(call, invocation, at, denial, took, &mut denied);
            }
            for message in decision.broken {
                let denial = Denial { message, reason: String::new() };
                denied.push((policy.name.clone(), Some(binding.name.clone()), denial));
            }
            for (key, value) in decision.annotations {
                let all = notes.entry(format!("{}/{key}", policy.name)).or_default();
                if !all.contains(&value) {
                    all.push(value);
                }
            }
        }
    }
    for (key, values) in notes {
        call.annotate(&key, &values.join(", "));
    }
    match denied.into_iter().next() {
        None => Ok(()),
        Some((policy, binding, denial)) => Err(refusal(a, &policy, binding.as_deref(), denial)),
    }
}

fn refusal(a: &Attributes, policy: &str, binding: Option<&str>, denial: Denial) -> Status {
    let with = binding.map(|b| format!(" with binding '{b}'")).unwrap_or_default();
    let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {}", denial.message);
    let mut status = forbidden(a, &message);
    let (code, reason) = match denial.reason.as_str() {
        "" => (422, "Invalid"),
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.code = code;
    status.reason = reason.into();
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: String::new(), message, field: String::new() });
    }
    status
}

/// Does what the binding says is to be done about a validation that does not hold.
fn act(
    call: &mut Call,
    invocation: &Invocation,
    at: usize,
    denial: Denial,
    took: Duration,
    denied: &mut Vec<(String, Option<String>, Denial)>,
) {
    let (policy, binding) = (invocation.policy(), invocation.binding());
    let metrics = call.core.metrics.clone();
    let told = |action| metrics.admission.policy(&policy.name, &binding.name, &denial.message, action, took);
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                told("deny");
                let again = Denial { message: denial.message.clone(), reason: denial.reason.clone() };
                denied.push((policy.name.clone(), Some(binding.name.clone()), again));
            }
            "Warn" => {
                told("warn");
                call.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, denial.message
                ));
            }
            "Audit" => {
                told("audit");
                let failure = json!([{"message": denial.message, "policy": binding.policy, "binding": binding.name,
                    "expressionIndex": at, "validationActions": binding.actions}]);
                call.annotate("validation.policy.admission.k8s.io/validation_failure", &failure.to_string());
            }
            _ => {}
        }
    }
}

fn decide(
    call: &Call,
    a: &Attributes,
    invocation: &Invocation,
    seen: &Seen,
    params: &Value,
    namespace: &Value,
) -> Decision {
    let policy = invocation.policy();
    let review = request(call, a, &invocation.matched);
    let inputs = Inputs {
        call,
        attributes: a,
        object: seen.object(),
        old: seen.old(),
        params,
        request: &review,
        namespace,
        variables: &policy.variables,
        group: &invocation.matched.resource.group,
        version: &invocation.matched.resource.version,
    };
    let mut out = Decision::default();
    let error = |out: &mut Decision, at: usize, message: String| match policy.ignores {
        true => out.overlooked.push(message),
        false => out.denials.push((at, Denial { message, reason: String::new() })),
    };
    let of = Conditions { name: &policy.name, webhook: None, operation: a.operation };
    match conditions(&Inputs { namespace: &Value::Null, ..inputs }, &policy.conditions, policy.ignores, &of) {
        Met::Yes => {}
        Met::No => return out,
        Met::Error(why) => {
            error(&mut out, 0, why);
            return out;
        }
    }
    let evaluation = Evaluation::new(&inputs, cel::RUNTIME_BUDGET);
    let mut results = Vec::new();
    for validation in &policy.validations {
        match evaluation.run(&validation.expression) {
            Ok(result) => results.push(result),
            Err(OutOfBudget) => {
                error(&mut out, 0, OUT_OF_BUDGET.into());
                return out;
            }
        }
    }
    let messages = messages(&inputs, policy, evaluation.budget());
    for (at, (validation, result)) in policy.validations.iter().zip(results).enumerate() {
        match (result, &messages) {
            (Err(why), _) => error(&mut out, at, why),
            (Ok(_), Err(OutOfBudget)) => {
                error(&mut out, at, format!("failed messageExpression: {OUT_OF_BUDGET}"));
            }
            (Ok(cel::Value::Bool(true)), _) => {}
            (Ok(_), Ok(messages)) => {
                let message = message(validation, messages.get(at).and_then(Option::as_deref));
                out.denials.push((at, Denial { message, reason: validation.reason.clone() }));
            }
        }
    }
    annotations(&inputs, policy, &mut out);
    out
}

/// The evaluated messages, where they are usable.
fn messages(inputs: &Inputs<'_>, policy: &Policy, budget: u64) -> Result<Vec<Option<String>>, OutOfBudget> {
    let evaluation = Evaluation::new(inputs, budget);
    let mut out = Vec::new();
    for validation in &policy.validations {
        let Some(expression) = &validation.message_expression else {
            out.push(None);
            continue;
        };
        out.push(match evaluation.run(expression)? {
            Ok(cel::Value::String(text)) => {
                let text = text.trim();
                (text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
            }
            _ => None,
        });
    }
    Ok(out)
}

fn message(validation: &Validation, evaluated: Option<&str>) -> String {
    match (evaluated.unwrap_or(""), validation.message.trim()) {
        ("", "") => format!("failed expression: {}", validation.expression.source.trim()),
        ("", message) => message.to_owned(),
        (evaluated, _) => evaluated.to_owned(),
    }
}

fn annotations(inputs: &Inputs<'_>, policy: &Policy, out: &mut Decision) {
    let evaluation = Evaluation::new(inputs, cel::RUNTIME_BUDGET);
    for named in &policy.annotations {
        let expression: &Expression = &named.expression;
        match evaluation.run(expression) {
            Err(OutOfBudget) => {
                out.denials.clear();
                if !policy.ignores {
                    out.denials.push((0, Denial { message: OUT_OF_BUDGET.into(), reason: String::new() }));
                }
                return;
            }
            Ok(Err(why)) if !policy.ignores => out.broken.push(why),
            Ok(Err(_)) => {}
            Ok(Ok(cel::Value::String(text))) => {
                let text = text.trim();
                if !text.is_empty() {
                    let end = text.floor_char_boundary(MAX_ANNOTATION.min(text.len()));
                    out.annotations.push((named.name.clone(), text[..end].to_owned()));
                }
            }
            Ok(Ok(_)) => {}
        }
    }
}
