//! Mutating and validating admission webhooks.
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

mod ask;
mod call;
mod mutating;
mod review;
mod validating;

pub use call::{Client, post};
pub use mutating::PLUGIN as MUTATING;
pub use validating::PLUGIN as VALIDATING;

use cel::{Type, Version};
use machinery::field::go_quote;
use machinery::{Get, GroupResource, Status, Value};
use resources::admissionregistration::expressions::{Compiler, Use};

use super::Attributes;
use super::expressions::{Expression, Inputs, Met, Named, conditions};
use super::hooks::GROUP;
use super::matching::{Matched, Selectors, matching};
use super::seen::{Seen, request};
use crate::metrics::{Conditions, Half};
use crate::registry::Call;

/// One webhook of a configuration.
pub struct Webhook {
    pub name: String,
    pub configuration: String,
    /// Unique among all webhooks.
    pub id: String,
    pub client: Value,
    /// `v1` or `v1beta1`: the first of its versions that is known.
    pub review: &'static str,
    pub timeout: u64,
    /// Failures to call it are overlooked.
    pub ignores: bool,
    pub dry_runs: bool,
    pub reinvokes: bool,
    equivalent: bool,
    rules: Vec<Value>,
    selectors: Selectors,
    conditions: Vec<Named>,
}

/// All webhooks of a configuration, in their order.
pub fn webhooks(configuration: &Value) -> Vec<Webhook> {
    let name = machinery::meta::name(configuration);
    let compiler = Compiler::new(false);
    let hook = |(at, hook): (usize, &Value)| {
        let conditions = hook.list("matchConditions").iter().map(|c| Named {
            name: c.text("name").to_owned(),
            expression: Expression {
                source: c.text("expression").to_owned(),
                program: compiler.compile(
                    c.text("expression"),
                    &[Type::Bool],
                    Use::Condition,
                    Version::CURRENT,
                ),
            },
        });
        let versions = hook.list("admissionReviewVersions").iter().filter_map(Value::as_str);
        let known = |v: &str| match v {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        };
        Webhook {
            name: hook.text("name").to_owned(),
            configuration: name.to_owned(),
            id: format!("{name}/{}/{at}", hook.text("name")),
            client: hook.at("clientConfig").clone(),
            review: versions.filter_map(known).next().unwrap_or(""),
            timeout: hook.int("timeoutSeconds").unwrap_or(10).clamp(1, 30) as u64,
            ignores: hook.text("failurePolicy") == "Ignore",
            dry_runs: matches!(hook.text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvokes: hook.text("reinvocationPolicy") == "IfNeeded",
            equivalent: hook.text("matchPolicy") == "Equivalent",
            rules: hook.list("rules").to_vec(),
            selectors: Selectors::of(hook),
            conditions: conditions.collect(),
        }
    };
    configuration.list("webhooks").iter().enumerate().map(hook).collect()
}

/// Configurations of admission are never subject to it themselves.
fn is_exempt(a: &Attributes) -> bool {
    a.resource.group == GROUP
        && (a.resource.name.ends_with("webhookconfigurations") || a.resource.name.contains("admissionpolic"))
}

impl Webhook {
    /// What is to be sent to it; none if the request is nothing to it.
    async fn wants(&self, call: &Call, a: &Attributes, half: Half) -> Result<Option<Seen>, Status> {
        let selected = self.selectors.matches(call, a);
        if matches!(selected, Ok(false)) {
            return Ok(None);
        }
        let Some(matched) = matching(call, a, &self.rules, self.equivalent) else { return Ok(None) };
        selected?;
        let seen = Seen::new(call, a, &matched).await?;
        match self.conditions_met(call, a, &matched, &seen, half) {
            Met::Yes => Ok(Some(seen)),
            Met::No => Ok(None),
            Met::Error(why) => {
                let about = GroupResource::new(&*a.resource.group, &*a.resource.name);
                Err(Status::forbidden(&about, &a.name, &why))
            }
        }
    }

    fn conditions_met(&self, call: &Call, a: &Attributes, matched: &Matched, seen: &Seen, half: Half) -> Met {
        if self.conditions.is_empty() {
            return Met::Yes;
        }
        let review = request(call, a, matched);
        let inputs = Inputs {
            call,
            attributes: a,
            object: seen.object(),
            old: seen.old(),
            params: &Value::Null,
            request: &review,
            namespace: &Value::Null,
            variables: &[],
            group: &matched.resource.group,
            version: &matched.resource.version,
        };
        let of = Conditions { name: &self.name, webhook: Some(half), operation: a.operation };
        conditions(&inputs, &self.conditions, self.ignores, &of)
    }

    /// It could not be asked.
    fn failed(&self, why: &str) -> Status {
        Status::internal(format!("failed calling webhook {}: {why}", go_quote(&self.name)))
    }

    fn no_dry_run(&self) -> Status {
        Status::bad_request(format!("admission webhook {} does not support dry run", go_quote(&self.name)))
    }

    /// Its refusal, in upstream's words.
    fn refusal(&self, result: &Value) -> Status {
        let by = format!("admission webhook {} denied the request", go_quote(&self.name));
        let (message, reason) = (result.text("message"), result.text("reason"));
        let text = match (message, reason) {
            ("", "") => format!("{by} without explanation"),
            ("", reason) => format!("{by}: {reason}"),
            (message, _) => format!("{by}: {message}"),
        };
        let code = result.int("code").and_then(|c| u16::try_from(c).ok()).filter(|c| *c >= 400);
        let mut status = Status::from_value(result);
        status.code = code.unwrap_or(400);
        status.message = text;
        status
    }
}

#[cfg(test)]
mod tests {
    use machinery::json;

    use super::*;

    #[test]
    fn refusals_read_as_upstream() {
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [{"name": "a.example.com"}]});
        let hook = webhooks(&configuration).remove(0);
        let check = |result: Value, code: u16, reason: &str, text: &str| {
            let status = hook.refusal(&result);
            let got = (status.code, &*status.reason, status.message.as_str());
            assert_eq!(got, (code, reason, text));
        };
        let bare = "admission webhook \"a.example.com\" denied the request without explanation";
        check(Value::Null, 400, "", bare);
        let no = "admission webhook \"a.example.com\" denied the request: no";
        check(json!({"message": "no", "code": 403, "reason": "Forbidden"}), 403, "Forbidden", no);
        check(json!({"reason": "no", "code": 200}), 400, "no", no);
    }
}
