//! Label selectors against labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// True if `labels` satisfy every requirement. An empty selector matches everything; whoever may not select
/// everything asks [`is_empty`] first. An unknown operator matches nothing.
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let get = |key: &str| labels.and_then(|labels| labels.get(key));
    let pairs = selector.match_labels.iter().flatten().all(|(key, value)| get(key) == Some(value));
    pairs
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = get(&requirement.key);
            let among = || value.is_some_and(|v| requirement.values.iter().flatten().any(|other| other == v));
            match requirement.operator.as_str() {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// True if `labels` hold every pair of `wanted`.
pub fn matches_labels(wanted: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn operators() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let check = |key: &str, operator: &str, values: &[&str]| {
            let requirement = LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| v.to_string()).collect()),
            };
            let selector = LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None };
            matches(&selector, Some(&labels))
        };
        assert!(check("a", "In", &["1", "2"]) && !check("a", "In", &["2"]) && !check("b", "In", &["1"]));
        assert!(!check("a", "NotIn", &["1"]) && check("b", "NotIn", &["1"]));
        assert!(check("a", "Exists", &[]) && !check("b", "Exists", &[]));
        assert!(check("b", "DoesNotExist", &[]) && !check("a", "DoesNotExist", &[]));
        assert!(!check("a", "Like", &["1"]));
        assert!(matches(&LabelSelector::default(), None));
    }
}
