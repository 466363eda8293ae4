//! The objects that hold whatever the API says: their specs are fixed.
//! <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#mandatory-configuration-objects>

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;
use crate::internal::compact;

/// The fixed spec of a mandatory PriorityLevelConfiguration.
pub fn level(name: &str) -> Option<Value> {
    Some(match name {
        "exempt" => {
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
        }
        "catch-all" => {
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
            "limitResponse": {"type": "Reject"}}})
        }
        _ => return None,
    })
}

/// The fixed spec of a mandatory FlowSchema.
pub fn schema(name: &str) -> Option<Value> {
    let groups = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
    };
    let (precedence, subjects) = match name {
        "exempt" => (1, groups(&["system:masters"])),
        "catch-all" => (10_000, groups(&["system:unauthenticated", "system:authenticated"])),
        _ => return None,
    };
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": name}, "matchingPrecedence": precedence,
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true,
                "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    });
    if name == "catch-all" {
        spec.set("distinguisherMethod", json!({"type": "ByUser"}));
    }
    Some(spec)
}

pub(super) fn validate_schema(obj: &Value, errors: &mut ErrorList) {
    let (name, spec) = (obj.at("metadata").text("name"), obj.at("spec"));
    if schema(name).is_some_and(|fixed| plain(&fixed) != plain(spec)) {
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.invalid_shown(&Path::new("spec"), compact("flowcontrol.FlowSchemaSpec", spec), &detail);
    }
}

/// Of the level `exempt`, what it may lend is its owner's business.
pub(super) fn validate_level(obj: &Value, errors: &mut ErrorList) {
    let (name, spec) = (obj.at("metadata").text("name"), obj.at("spec"));
    let Some(fixed) = level(name) else { return };
    let exempt = name == "exempt";
    let compared = |spec: &Value| {
        let mut spec = plain(spec);
        if let Some(fields) = spec.as_object_mut().filter(|_| exempt) {
            fields.remove("exempt");
        }
        spec
    };
    if compared(&fixed) != compared(spec) {
        let but = if exempt { " except the 'spec.exempt' field" } else { "" };
        let detail = format!("spec of '{name}'{but} must equal the fixed value");
        let shown = compact("flowcontrol.PriorityLevelConfigurationSpec", spec);
        errors.invalid_shown(&Path::new("spec"), shown, &detail);
    }
}

/// Without what says no more than its absence.
fn plain(value: &Value) -> Value {
    let is_nothing = |v: &Value| matches!(v, Value::Null | Value::Bool(false)) || v == "" || *v == json!([]);
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, v)| !is_nothing(v));
            Value::Object(kept.map(|(name, v)| (name.clone(), plain(v))).collect())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validate: fn(&Value, &mut ErrorList), name: &str, spec: Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        validate(&json!({"metadata": {"name": name}, "spec": spec}), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fixed_specs_stay() {
        for name in ["exempt", "catch-all"] {
            assert!(check(validate_schema, name, schema(name).unwrap()).is_empty());
            assert!(check(validate_level, name, level(name).unwrap()).is_empty());
        }
        assert!(check(validate_schema, "other", json!({})).is_empty());
        let mut spec = level("exempt").unwrap();
        spec["exempt"] = json!({"lendablePercent": 50});
        assert!(check(validate_level, "exempt", spec).is_empty());
        let mut spec = schema("catch-all").unwrap();
        spec["rules"][0]["resourceRules"][0]["namespaces"] = json!([]);
        spec["rules"][0]["nonResourceRules"] = Value::Null;
        spec["distinguisherMethod"] = Value::Null;
        let subject = |name: &str| {
            format!(
                "{{\"Kind\":\"Group\",\"User\":null,\"Group\":{{\"Name\":\"{name}\"}},\"ServiceAccount\":null}}"
            )
        };
        let subjects = [subject("system:unauthenticated"), subject("system:authenticated")].join(",");
        let wanted = format!(
            "spec: Invalid value: {{\"PriorityLevelConfiguration\":{{\"Name\":\"catch-all\"}},\
             \"MatchingPrecedence\":10000,\"DistinguisherMethod\":null,\"Rules\":[{{\"Subjects\":[{subjects}],\
             \"ResourceRules\":[{{\"Verbs\":[\"*\"],\"APIGroups\":[\"*\"],\"Resources\":[\"*\"],\
             \"ClusterScope\":true,\"Namespaces\":[]}}],\"NonResourceRules\":null}}]}}: \
             spec of 'catch-all' must equal the fixed value"
        );
        assert_eq!(check(validate_schema, "catch-all", spec), [wanted]);
        let spec = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
            "limited": {"nominalConcurrencyShares": 7, "lendablePercent": 0}});
        let wanted = "spec: Invalid value: {\"Type\":\"Exempt\",\"Limited\":{\"NominalConcurrencyShares\":7,\
            \"LimitResponse\":{\"Type\":\"\",\"Queuing\":null},\"LendablePercent\":0,\"BorrowingLimitPercent\":null},\
            \"Exempt\":{\"NominalConcurrencyShares\":0,\"LendablePercent\":0}}: spec of 'exempt' except the \
            'spec.exempt' field must equal the fixed value";
        assert_eq!(check(validate_level, "exempt", spec), [wanted]);
    }
}
