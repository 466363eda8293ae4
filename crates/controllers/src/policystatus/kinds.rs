//! Which kinds a policy is about.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ValidatingAdmissionPolicy as Policy,
};

/// Group, version, kind, in the order that warnings have. Displayed as `apps/v1, Kind=Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// A resource as discovery has it.
#[derive(Clone, Debug)]
pub struct Served {
    pub of: Kind,
    pub plural: String,
    pub singular: String,
}

/// No more kinds than this are looked at.
const MOST: usize = 10;

/// The kinds that `matchConstraints` names one by one: rules with a wildcard in groups or versions name none, nor do
/// wildcards of resources and subresources.
pub fn kinds(policy: &Policy, served: &[Served]) -> BTreeSet<Kind> {
    let mut found = BTreeSet::new();
    let constraints = policy.spec.as_ref().and_then(|spec| spec.match_constraints.as_ref());
    for rule in constraints.and_then(|c| c.resource_rules.as_ref()).into_iter().flatten() {
        // kinds are counted by rule, and the first rule that reaches the limit ends it all
        let mut count = 0;
        for (group, version, resource) in named(rule) {
            for kind in resolve(group, version, resource, served) {
                found.insert(kind);
                count += 1;
                if count == MOST {
                    return found;
                }
            }
        }
    }
    found
}

/// All combinations that a rule names, sorted.
fn named(rule: &NamedRuleWithOperations) -> Vec<(&str, &str, &str)> {
    fn sorted(of: &Option<Vec<String>>) -> Vec<&str> {
        let mut of: Vec<&str> = of.iter().flatten().map(String::as_str).collect();
        of.sort_unstable();
        of
    }
    let (groups, versions) = (sorted(&rule.api_groups), sorted(&rule.api_versions));
    if groups.iter().chain(&versions).any(|name| name.contains('*')) {
        return Vec::new();
    }
    let resources = sorted(&rule.resources);
    let resources: Vec<&str> = resources.into_iter().filter(|name| !name.contains(['*', '/'])).collect();
    let mut out = Vec::new();
    for group in groups {
        for version in &versions {
            out.extend(resources.iter().map(|resource| (group, *version, *resource)));
        }
    }
    out
}

/// As a REST mapper resolves a resource: an empty group is any group; a singular or the name of a list will do.
fn resolve(group: &str, version: &str, resource: &str, served: &[Served]) -> Vec<Kind> {
    let resource = resource.to_lowercase();
    let mut out = Vec::new();
    for each in served {
        let of = &each.of;
        if (!group.is_empty() && of.group != group) || of.version != version {
            continue;
        }
        let kind = if each.plural == resource || each.singular == resource {
            of.kind.clone()
        } else if let lower = of.kind.to_lowercase() + "list"
            && (resource == lower || resource.strip_suffix('s') == Some(&lower))
        {
            format!("{}List", of.kind)
        } else {
            continue;
        };
        let kind = Kind { kind, ..of.clone() };
        if !out.contains(&kind) {
            out.push(kind);
        }
    }
    out
}

/// `paramKind`.
pub fn params(policy: &Policy) -> Option<Kind> {
    let kind = policy.spec.as_ref()?.param_kind.as_ref()?;
    let api_version = kind.api_version.as_deref().unwrap_or("");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if version.contains('/') {
        return None;
    }
    let (group, version, kind) = (group.into(), version.into(), kind.kind.clone().unwrap_or_default());
    Some(Kind { group, version, kind })
}
