//! Admission policies: which of them, through which bindings and with which parameters, a request is for.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

mod mutating;
mod params;
mod validating;

pub use mutating::PLUGIN as MUTATING;
pub use validating::PLUGIN as VALIDATING;

use std::sync::Arc;

use cel::{Type, Version};
use machinery::{Get, Status, Value};
use resources::admissionregistration::expressions::{Compiler, Use, json_patch_type, object_type};

use super::Attributes;
use super::expressions::{Expression, Named};
use super::hooks::{GROUP, Slot};
use super::matching::{Matched, Selectors, matching};
use crate::registry::Call;

/// A policy, compiled.
pub struct Policy {
    pub name: String,
    /// Failures are overlooked.
    pub ignores: bool,
    pub param_kind: Value,
    constraints: Option<Constraints>,
    pub conditions: Vec<Named>,
    pub variables: Vec<Named>,
    pub validations: Vec<Validation>,
    pub annotations: Vec<Named>,
    pub mutations: Vec<Mutation>,
    pub reinvokes: bool,
}

pub struct Validation {
    pub expression: Expression,
    pub message: String,
    pub reason: String,
    pub message_expression: Option<Expression>,
}

pub struct Mutation {
    pub is_json_patch: bool,
    pub expression: Expression,
}

/// What ties a policy to what it is for.
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub param_ref: Value,
    pub actions: Vec<String>,
    constraints: Option<Constraints>,
}

/// `matchConstraints`, `matchResources`.
struct Constraints {
    selectors: Selectors,
    rules: Vec<Value>,
    excluded: Vec<Value>,
    equivalent: bool,
}

impl Constraints {
    fn of(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self {
            selectors: Selectors::of(value),
            rules: value.list("resourceRules").to_vec(),
            excluded: value.list("excludeResourceRules").to_vec(),
            equivalent: value.text("matchPolicy") == "Equivalent",
        })
    }

    fn matches(&self, call: &Call, a: &Attributes) -> Result<Option<Matched>, Status> {
        // errors of selectors count only if the rules match
        let selected = self.selectors.matches(call, a);
        if matches!(selected, Ok(false)) || matching(call, a, &self.excluded, self.equivalent).is_some() {
            return Ok(None);
        }
        let matched = match self.rules.is_empty() {
            true => Some(Matched { resource: a.resource.clone(), kind: a.kind() }),
            false => matching(call, a, &self.rules, self.equivalent),
        };
        if matched.is_some() {
            selected?;
        }
        Ok(matched)
    }
}

impl Policy {
    pub fn new(policy: &Value) -> Self {
        let spec = policy.at("spec");
        let mut compiler = Compiler::with_variables(spec.has("paramKind"));
        let source = |value: &Value, name: &str| value.text(name).to_owned();
        let named = |value: &Value, name: &str, program| Named {
            name: source(value, name),
            expression: Expression { source: source(value, "expression"), program },
        };
        let variables = spec
            .list("variables")
            .iter()
            .map(|v| {
                let program = compiler.variable(v.text("name"), v.text("expression"), Version::CURRENT);
                named(v, "name", program)
            })
            .collect();
        let compile = |text: &str, wanted: &[Type], use_: Use| Expression {
            source: text.to_owned(),
            program: compiler.compile(text, wanted, use_, Version::CURRENT),
        };
        let conditions = spec.list("matchConditions").iter().map(|c| Named {
            name: source(c, "name"),
            expression: compile(c.text("expression"), &[Type::Bool], Use::Condition),
        });
        let validations = spec.list("validations").iter().map(|v| {
            let message = v.text("messageExpression");
            Validation {
                expression: compile(v.text("expression"), &[Type::Bool], Use::Condition),
                message: source(v, "message"),
                reason: source(v, "reason"),
                message_expression: (!message.is_empty())
                    .then(|| compile(message, &[Type::String], Use::Message)),
            }
        });
        let annotations = spec.list("auditAnnotations").iter().map(|n| Named {
            name: source(n, "key"),
            expression: compile(n.text("valueExpression"), &[Type::String, Type::Null], Use::Condition),
        });
        let mutations = spec.list("mutations").iter().map(|m| {
            let is_json_patch = m.text("patchType") == "JSONPatch";
            let (own, wanted) = match is_json_patch {
                true => ("jsonPatch", json_patch_type()),
                false => ("applyConfiguration", object_type()),
            };
            let expression = compile(m.at(own).text("expression"), &[wanted], Use::Patch);
            Mutation { is_json_patch, expression }
        });
        Self {
            name: machinery::meta::name(policy).to_owned(),
            ignores: spec.text("failurePolicy") == "Ignore",
            param_kind: spec.at("paramKind").clone(),
            constraints: Constraints::of(spec.at("matchConstraints")),
            conditions: conditions.collect(),
            validations: validations.collect(),
            annotations: annotations.collect(),
            mutations: mutations.collect(),
            variables,
            reinvokes: spec.text("reinvocationPolicy") == "IfNeeded",
        }
    }
}

impl Binding {
    pub fn new(binding: &Value) -> Self {
        let spec = binding.at("spec");
        let actions = spec.list("validationActions").iter().filter_map(Value::as_str);
        Self {
            name: machinery::meta::name(binding).to_owned(),
            policy: spec.text("policyName").to_owned(),
            param_ref: spec.at("paramRef").clone(),
            actions: actions.map(str::to_owned).collect(),
            constraints: Constraints::of(spec.at("matchResources")),
        }
    }
}

/// One policy with one binding of it, and the parameters to ask it with.
pub struct Invocation {
    pub policy: Arc<Vec<Policy>>,
    pub binding: Arc<Vec<Binding>>,
    pub matched: Matched,
    /// Null: without parameters.
    pub params: Vec<Value>,
}

impl Invocation {
    pub fn policy(&self) -> &Policy {
        &self.policy[0]
    }

    pub fn binding(&self) -> &Binding {
        &self.binding[0]
    }
}

/// A policy that can't be asked as it is set up: its name, the binding's, and why.
pub struct Misconfigured {
    pub policy: String,
    pub binding: Option<String>,
    pub ignores: bool,
    pub why: String,
}

/// What a request is to be asked of.
#[derive(Default)]
pub struct Selection {
    pub invocations: Vec<Invocation>,
    pub wrong: Vec<Misconfigured>,
}

/// Are requests for this resource never looked at?
fn is_exempt(a: &Attributes) -> bool {
    const REVIEWS: [(&str, &str); 7] = [
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("", "bindings"),
    ];
    let own = a.resource.group == GROUP && a.resource.name.contains("admissionpolic");
    own || a.resource.group == GROUP && a.resource.name.ends_with("webhookconfigurations")
        || REVIEWS[..6].contains(&(a.resource.group.as_str(), a.resource.name.as_str()))
}

fn select(
    call: &Call,
    a: &Attributes,
    (policies, policy_resource): (&Slot<Policy>, &str),
    (bindings, binding_resource): (&Slot<Binding>, &str),
) -> Selection {
    let mut out = Selection::default();
    if is_exempt(a) {
        return out;
    }
    let bindings = bindings.now(&call.core, binding_resource, |v| vec![Binding::new(v)]);
    if bindings.is_empty() {
        return out;
    }
    for policy in policies.now(&call.core, policy_resource, |v| vec![Policy::new(v)]) {
        let bound: Vec<_> = bindings.iter().filter(|b| b[0].policy == policy[0].name).collect();
        if !bound.is_empty() {
            select_policy(call, a, &policy, &bound, &mut out);
        }
    }
    out
}

fn select_policy(
    call: &Call,
    a: &Attributes,
    shared: &Arc<Vec<Policy>>,
    bindings: &[&Arc<Vec<Binding>>],
    out: &mut Selection,
) {
    let policy = &shared[0];
    let wrong = |binding: Option<&Binding>, why: String| Misconfigured {
        policy: policy.name.clone(),
        ignores: policy.ignores,
        why: match binding {
            Some(_) => format!("failed to configure binding: {why}"),
            None => format!("failed to configure policy: {why}"),
        },
        binding: binding.map(|b| b.name.clone()),
    };
    let matched = match &policy.constraints {
        None => {
            let why = "policy contained no match constraints, a required field";
            return out.wrong.push(wrong(None, why.into()));
        }
        Some(constraints) => match constraints.matches(call, a) {
            Ok(None) => return,
            Ok(Some(matched)) => matched,
            Err(status) => return out.wrong.push(wrong(None, status.message)),
        },
    };
    let kind = match params::kind(call, &policy.param_kind) {
        Ok(kind) => kind,
        Err(why) => return out.wrong.push(wrong(None, why)),
    };
    for shared_binding in bindings {
        let binding = &shared_binding[0];
        match binding.constraints.as_ref().map(|c| c.matches(call, a)).transpose() {
            Ok(Some(None)) => continue,
            Ok(_) => {}
            Err(status) => {
                out.wrong.push(wrong(Some(binding), status.message));
                continue;
            }
        }
        match params::collect(kind.as_deref(), &binding.param_ref, a.hook_namespace()) {
            Err(why) => out.wrong.push(wrong(Some(binding), why)),
            Ok(params) => out.invocations.push(Invocation {
                policy: shared.clone(),
                binding: (*shared_binding).clone(),
                matched: matched.clone(),
                params,
            }),
        }
    }
}
