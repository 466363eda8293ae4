//! Expressions of webhooks and policies, asked of a request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Instant;

use cel::{Activation, Authz, Check, Decision, EvalError, Program};
use machinery::{Get, Value, meta};
use resources::admissionregistration::expressions::VARIABLES;

use super::{Attributes, cached};
use crate::authn::User;
use crate::authz;
use crate::metrics::{Came, Conditions};
use crate::registry::Call;

/// An expression with what became of it.
pub struct Expression {
    pub source: String,
    pub program: Result<Program, String>,
}

/// An expression that has a name: a variable, a match condition.
pub struct Named {
    pub name: String,
    pub expression: Expression,
}

/// The budget is spent: nothing more is evaluated.
pub struct OutOfBudget;

pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What expressions of one policy, binding and parameter are asked of.
pub struct Inputs<'a> {
    pub call: &'a Call,
    pub attributes: &'a Attributes,
    pub object: &'a Value,
    pub old: &'a Value,
    pub params: &'a Value,
    /// As [`super::seen::request`] makes it.
    pub request: &'a Value,
    pub namespace: &'a Value,
    pub variables: &'a [Named],
    /// Of `authorizer.requestResource`: group and version of what matched.
    pub group: &'a str,
    pub version: &'a str,
}

/// Evaluates one set of expressions: variables are worked out once, answers of the authorizer kept.
pub struct Evaluation<'a> {
    inputs: &'a Inputs<'a>,
    known: RefCell<HashMap<String, Result<cel::Value<'a>, EvalError>>>,
    /// Cost of variables since the last expression ended.
    spent: Cell<u64>,
    budget: Cell<u64>,
}

impl<'a> Evaluation<'a> {
    pub fn new(inputs: &'a Inputs<'a>, budget: u64) -> Self {
        Self { inputs, known: RefCell::default(), spent: Cell::new(0), budget: Cell::new(budget) }
    }

    pub fn budget(&self) -> u64 {
        self.budget.get()
    }

    /// The value, or upstream's words for why there is none.
    pub fn run(&self, expression: &'a Expression) -> Result<Result<cel::Value<'a>, String>, OutOfBudget> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let outcome = program.eval(self, cel::PER_CALL_LIMIT);
        let cost = self.spent.take().saturating_add(outcome.cost);
        let rest = self.budget.get().checked_sub(cost).ok_or(OutOfBudget)?;
        self.budget.set(rest);
        let source = &expression.source;
        Ok(outcome.value.map_err(|e| format!("expression '{source}' resulted in error: {e}")))
    }

    fn compute(&self, name: &str) -> Option<Result<cel::Value<'a>, EvalError>> {
        let named = self.inputs.variables.iter().find(|v| v.name == name)?;
        let failed = |why: String| Err(EvalError::Failed(why.into()));
        Some(match &named.expression.program {
            Err(why) => failed(format!("composited variable {name:?} fails to compile: {why}")),
            Ok(program) => {
                let outcome = program.eval(self, cel::PER_CALL_LIMIT);
                self.spent.set(self.spent.get().saturating_add(outcome.cost));
                match outcome.value {
                    Ok(value) => Ok(value),
                    Err(why) => failed(format!("composited variable {name:?} fails to evaluate: {why}")),
                }
            }
        })
    }
}

impl<'a> Activation<'a> for Evaluation<'a> {
    fn variable(&self, name: &str) -> Option<Result<cel::Value<'a>, EvalError>> {
        let inputs = self.inputs;
        let data = |value: &'a Value| match value {
            Value::Null => cel::Value::Null,
            value => cel::Value::from_dynamic(value),
        };
        Some(Ok(match name {
            "object" => data(inputs.object),
            "oldObject" => data(inputs.old),
            "params" => data(inputs.params),
            "request" => data(inputs.request),
            "namespaceObject" => data(inputs.namespace),
            "variables" => cel::Value::Lazy(VARIABLES.into()),
            "authorizer" => cel::Value::Authz(Authz::Authorizer { service_account: None }.into()),
            "authorizer.requestResource" => {
                let a = inputs.attributes;
                let check = Check {
                    group: inputs.group.to_owned(),
                    version: inputs.version.to_owned(),
                    resource: a.resource.name.clone(),
                    subresource: a.subresource.clone(),
                    namespace: a.hook_namespace().to_owned(),
                    name: a.name.clone(),
                    ..Check::default()
                };
                cel::Value::Authz(Authz::Resource(Box::new(check)).into())
            }
            _ => return None,
        }))
    }

    fn field(&self, _type_name: &str, field: &str) -> Option<Result<cel::Value<'a>, EvalError>> {
        if let Some(known) = self.known.borrow().get(field) {
            return Some(known.clone());
        }
        let value = self.compute(field)?;
        self.known.borrow_mut().insert(field.to_owned(), value.clone());
        Some(value)
    }

    fn authorize(&self, check: &Check) -> Decision {
        let call = self.inputs.call;
        let service_account = check.service_account.as_ref().map(|(namespace, name)| {
            let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            User::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
        });
        let user = service_account.as_ref().unwrap_or(&call.user);
        let attributes = authz::Attributes {
            is_resource: check.path.is_empty(),
            verb: &check.verb,
            group: &check.group,
            version: &check.version,
            resource: &check.resource,
            subresource: &check.subresource,
            namespace: &check.namespace,
            name: &check.name,
            path: &check.path,
            selectors: None,
        };
        let decision = authz::decide_now(&call.core, user, &attributes);
        let error = Some(decision.error.clone()).filter(|e| !e.is_empty());
        Decision { allowed: decision.allowed(), reason: decision.reason, error: error.map(Into::into) }
    }
}

/// `namespaceObject`: null for what is in no namespace.
pub fn namespace_object(call: &Call, a: &Attributes) -> Value {
    const KEPT: [&str; 12] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    if a.namespace.is_empty() || a.is_namespace() {
        return Value::Null;
    }
    let Some(mut namespace) = cached(call, "", "namespaces", &a.namespace) else { return Value::Null };
    namespace.unset("kind");
    namespace.unset("apiVersion");
    if let Some(metadata) = meta::of(&mut namespace).as_object_mut() {
        metadata.retain(|key, _| KEPT.contains(&key.as_str()));
    }
    namespace
}

/// What match conditions come to.
pub enum Met {
    Yes,
    /// One is false.
    No,
    /// None is false, but some could not be evaluated.
    Error(String),
}

/// Asks match conditions. `ignore`: the failure policy; `of`: whose they are, for the metrics.
pub fn conditions<'a>(inputs: &'a Inputs<'a>, all: &'a [Named], ignore: bool, of: &Conditions<'_>) -> Met {
    if all.is_empty() {
        return Met::Yes;
    }
    let began = Instant::now();
    let (met, failed) = judge(inputs, all, ignore);
    let came = match met {
        _ if failed => Came::Error,
        Met::Yes => Came::True,
        _ => Came::False,
    };
    inputs.call.core.metrics.admission.conditions(of, began.elapsed(), came);
    met
}

/// And whether that is for an error.
fn judge<'a>(inputs: &'a Inputs<'a>, all: &'a [Named], ignore: bool) -> (Met, bool) {
    let failed = |why: String| (if ignore { Met::No } else { Met::Error(why) }, true);
    let evaluation = Evaluation::new(inputs, cel::MATCH_CONDITIONS_BUDGET);
    let mut results = Vec::new();
    for condition in all {
        match evaluation.run(&condition.expression) {
            Ok(result) => results.push(result),
            Err(OutOfBudget) => return failed(OUT_OF_BUDGET.into()),
        }
    }
    let mut errors: Vec<String> = Vec::new();
    for result in results {
        match result {
            Ok(cel::Value::Bool(false)) => return (Met::No, false),
            Ok(_) => {}
            Err(why) if !errors.contains(&why) => errors.push(why),
            Err(_) => {}
        }
    }
    match errors.len() {
        0 => (Met::Yes, false),
        1 => failed(errors.remove(0)),
        _ => failed(format!("[{}]", errors.join(", "))),
    }
}
