//! MutatingAdmissionPolicies: apply configurations and JSON patches that expressions make.
//! <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>

use futures_util::FutureExt;
use machinery::schema::{self, Schema};
use machinery::status::Cause;
use machinery::{Get, Status, Value, meta};

use super::{Invocation, Mutation, select};
use crate::admission::expressions::{
    Evaluation, Inputs, Met, OUT_OF_BUDGET, OutOfBudget, conditions, namespace_object,
};
use crate::admission::seen::{Seen, request};
use crate::admission::{Attributes, Operation, Plugin, forbidden};
use crate::metrics::Conditions;
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "MutatingAdmissionPolicy",
    mutate: Some(|call, attributes| mutate(call, attributes).boxed()),
    validate: None,
};

/// A policy that failed: the text of its refusal, and its reason.
struct Failure {
    policy: String,
    binding: Option<String>,
    why: String,
    reason: &'static str,
}

async fn mutate(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if a.operation == Operation::Delete {
        return Ok(());
    }
    let core = call.core.clone();
    let hooks = &core.hooks;
    let selection = select(
        call,
        a,
        (&hooks.mutating_policies, "mutatingadmissionpolicies"),
        (&hooks.mutating_bindings, "mutatingadmissionpolicybindings"),
    );
    let mut failures: Vec<Failure> = Vec::new();
    for wrong in selection.wrong.into_iter().filter(|w| !w.ignores) {
        failures.push(Failure { policy: wrong.policy, binding: wrong.binding, why: wrong.why, reason: "" });
    }
    if !selection.invocations.is_empty() {
        let namespace = namespace_object(call, a);
        let second = a.reinvocation.second;
        let before = a.object.take();
        a.reinvocation.policies.begin(second, before.as_ref());
        a.object = before;
        for invocation in &selection.invocations {
            for params in &invocation.params {
                invoke(call, a, invocation, params, &namespace, &mut failures).await?;
            }
        }
        let after = a.object.take();
        a.reinvocation.policies.end(after.as_ref());
        a.object = after;
    }
    refuse(a, failures)
}

fn refuse(a: &Attributes, failures: Vec<Failure>) -> Result<(), Status> {
    let Some(first) = failures.first() else { return Ok(()) };
    let mut status = forbidden(a, "admission request denied by policy");
    let text = |f: &Failure| match &f.binding {
        Some(binding) => {
            format!("policy '{}' with binding '{binding}' denied request: {}", f.policy, f.why)
        }
        None => format!("policy {} denied request: {}", machinery::field::go_quote(&f.policy), f.why),
    };
    status.message = text(first);
    if !first.reason.is_empty() {
        status.reason = first.reason.into();
    }
    if let Some(details) = &mut status.details {
        for failure in &failures {
            let message = text(failure);
            details.causes.push(Cause { reason: String::new(), message, field: String::new() });
        }
    }
    Err(status)
}

async fn invoke(
    call: &mut Call,
    a: &mut Attributes,
    invocation: &Invocation,
    params: &Value,
    namespace: &Value,
    failures: &mut Vec<Failure>,
) -> Result<(), Status> {
    let (policy, binding) = (invocation.policy(), invocation.binding());
    let fail = |failures: &mut Vec<Failure>, why: String| {
        if !policy.ignores {
            let (policy, binding) = (policy.name.clone(), Some(binding.name.clone()));
            failures.push(Failure { policy, binding, why, reason: "Invalid" });
        }
    };
    let mut seen = Seen::new(call, a, &invocation.matched).await?;
    let review = request(call, a, &invocation.matched);
    match ask(call, a, invocation, &seen, params, &Value::Null, &review, None) {
        Ok(_) => {}
        Err(Stop::Skip) => return Ok(()),
        Err(Stop::Failed(why)) => {
            fail(failures, why);
            return Ok(());
        }
    }
    let key = format!("{}/{}/{}/{}", policy.name, binding.name, meta::namespace(params), meta::name(params));
    if a.reinvocation.second && !a.reinvocation.policies.is_to_be_asked(&key) {
        return Ok(());
    }
    let mut changed = false;
    // a connection, say, brings no object to change
    let some = seen.object.is_some();
    for mutation in policy.mutations.iter().filter(|_| some) {
        let result = ask(call, a, invocation, &seen, params, namespace, &review, Some(mutation));
        match result {
            Ok(Some(new)) => {
                let new = match seen.as_sent(call, new) {
                    Ok(new) => new,
                    Err(why) => {
                        fail(failures, why);
                        continue;
                    }
                };
                changed |= Some(&new) != seen.object.as_ref();
                seen.object = Some(new);
            }
            Ok(None) | Err(Stop::Skip) => {}
            Err(Stop::Failed(why)) => fail(failures, why),
        }
    }
    if changed {
        a.reinvocation.policies.changed();
        a.reinvocation.wanted = true;
        let object = seen.object.take().unwrap_or_default();
        seen.take_back(call, a, object).await?;
    }
    if policy.reinvokes {
        a.reinvocation.policies.asked(&key);
    }
    Ok(())
}

enum Stop {
    Skip,
    Failed(String),
}

/// Without a mutation: asks the match conditions only.
#[allow(clippy::too_many_arguments)]
fn ask(
    call: &Call,
    a: &Attributes,
    invocation: &Invocation,
    seen: &Seen,
    params: &Value,
    namespace: &Value,
    review: &Value,
    mutation: Option<&Mutation>,
) -> Result<Option<Value>, Stop> {
    let policy = invocation.policy();
    let inputs = Inputs {
        call,
        attributes: a,
        object: seen.object(),
        old: seen.old(),
        params,
        request: review,
        namespace,
        variables: &policy.variables,
        group: &invocation.matched.resource.group,
        version: &invocation.matched.resource.version,
    };
    let Some(mutation) = mutation else {
        let of = Conditions { name: &policy.name, webhook: None, operation: a.operation };
        return match conditions(&inputs, &policy.conditions, policy.ignores, &of) {
            Met::Yes => Ok(None),
            Met::No => Err(Stop::Skip),
            Met::Error(why) => Err(Stop::Failed(why)),
        };
    };
    if let Err(why) = &mutation.expression.program {
        return Err(Stop::Failed(why.clone()));
    }
    let evaluation = Evaluation::new(&inputs, cel::RUNTIME_BUDGET);
    let value = match evaluation.run(&mutation.expression) {
        Ok(Ok(value)) => value,
        Ok(Err(why)) => return Err(Stop::Failed(why)),
        Err(OutOfBudget) => return Err(Stop::Failed(OUT_OF_BUDGET.into())),
    };
    let new = match mutation.is_json_patch {
        true => patch(seen.object(), &value),
        false => apply(call, seen, &value),
    };
    new.map_err(Stop::Failed)
}

/// The object with a JSON patch; none if a test of the patch failed.
fn patch(object: &Value, value: &cel::Value<'_>) -> Result<Option<Value>, String> {
    let patch = value.to_json().map_err(|e| {
        format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {e}")
    })?;
    let text = patch.to_string();
    let patch = machinery::patch::json::Patch::decode(text.as_bytes(), false);
    let (patch, _) = patch.map_err(|e| format!("JSON Patch: {e}"))?;
    match patch.apply(object) {
        Ok(new) => Ok(Some(new)),
        Err(error) if error.to_string().contains("test failed") => Ok(None),
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}

fn apply(call: &Call, seen: &Seen, value: &cel::Value<'_>) -> Result<Option<Value>, String> {
    check_names(value)?;
    let mut configuration = value.to_json().map_err(|e| e.to_string())?;
    let object = seen.object();
    for key in ["apiVersion", "kind"] {
        configuration.set(key, object.text(key));
    }
    let custom = seen.matched.resource.custom.as_ref();
    let merged = match custom.map_or_else(|| schema::of_kind(&seen.matched.kind), |c| c.schema.as_ref()) {
        Some(schema) => merge(schema, object, &configuration),
        None => {
            let kind = &seen.matched.kind;
            return Err(format!(
                "Resource kind {kind} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available."
            ));
        }
    };
    let _ = call;
    merged.map(Some)
}

fn merge(schema: &Schema, object: &Value, configuration: &Value) -> Result<Value, String> {
    machinery::apply::merge_unowned(schema, object, configuration)
        .map_err(|why| format!("error applying patch: {why}"))
}

/// `Object.spec{…}` may stand in the field `spec` of `Object` only.
fn check_names(value: &cel::Value<'_>) -> Result<(), String> {
    fn walk(value: &cel::Value<'_>, want: Option<&str>) -> Result<(), String> {
        let cel::Value::Object(object) = value else { return Ok(()) };
        if let Some(want) = want
            && *object.name != *want
        {
            return Err(format!(
                "unexpected type name {:?}, expected {want:?}, which matches field name path from root Object type",
                object.name
            ));
        }
        for (field, value) in &object.fields {
            walk(value, Some(&format!("{}.{field}", object.name)))?;
        }
        Ok(())
    }
    walk(value, None).map_err(|why| format!("type mismatch: {why}"))
}
