//! Is a request one that a webhook or policy asks for: rules, equivalent resources, selectors.

use std::sync::Arc;

use machinery::select::LabelSelector;
use machinery::{Get, GroupResource, GroupVersionKind, Status, Value};

use super::{Attributes, Operation, cached};
use crate::kinds::Resource;
use crate::registry::Call;

/// What a rule matched: the resource of the request, or one in another version.
#[derive(Clone)]
pub struct Matched {
    pub resource: Arc<Resource>,
    pub kind: GroupVersionKind,
}

/// `namespaceSelector` and `objectSelector`.
pub struct Selectors {
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

impl Selectors {
    pub fn of(value: &Value) -> Self {
        let parse = |name: &str| match value.at(name) {
            Value::Null => Ok(LabelSelector::everything()),
            selector => LabelSelector::from_object(selector),
        };
        Self { namespaces: parse("namespaceSelector"), objects: parse("objectSelector") }
    }

    /// An error counts only if everything else matches.
    pub fn matches(&self, call: &Call, a: &Attributes) -> Result<bool, Status> {
        let namespace = self.namespace(call, a);
        if matches!(namespace, Ok(false)) {
            return Ok(false);
        }
        if !self.objects.as_ref().map_err(Status::internal)?.is_empty() && !self.object(a)? {
            return Ok(false);
        }
        namespace
    }

    fn namespace(&self, call: &Call, a: &Attributes) -> Result<bool, Status> {
        let name = a.hook_namespace();
        if name.is_empty() && a.resource.name != "namespaces" {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let written = matches!(a.operation, Operation::Create | Operation::Update);
        if a.is("", "namespaces") && written {
            return Ok(selector.matches(machinery::meta::labels(a.object())));
        }
        let namespace = cached(call, "", "namespaces", name)
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "namespaces"), name))?;
        Ok(selector.matches(machinery::meta::labels(&namespace)))
    }

    fn object(&self, a: &Attributes) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        let matches = |object: &Option<Value>| {
            object.as_ref().is_some_and(|o| o.has("metadata") && selector.matches(machinery::meta::labels(o)))
        };
        Ok(matches(&a.object) || matches(&a.old))
    }
}

/// The first rule that matches; rules that match as they stand go before those for equivalent resources.
pub fn matching(call: &Call, a: &Attributes, rules: &[Value], equivalent: bool) -> Option<Matched> {
    let named = |rule: &Value| {
        let names = rule.list("resourceNames");
        names.is_empty() || names.iter().any(|n| *n == a.name)
    };
    if rules.iter().any(|rule| rule_matches(rule, a, &a.resource) && named(rule)) {
        return Some(Matched { resource: a.resource.clone(), kind: a.kind() });
    }
    if !equivalent {
        return None;
    }
    let others = equivalents(call, a);
    for rule in rules.iter().filter(|rule| named(rule)) {
        if let Some(resource) = others.iter().find(|other| rule_matches(rule, a, other)) {
            let kind = kind_of(resource, &a.subresource);
            return Some(Matched { resource: resource.clone(), kind });
        }
    }
    None
}

/// What a subresource speaks.
pub fn kind_of(resource: &Resource, subresource: &str) -> GroupVersionKind {
    resource.subresource(subresource).map_or_else(|| resource.gvk(), |sub| sub.gvk(resource))
}

/// The same objects behind other groups and versions.
fn equivalents(call: &Call, a: &Attributes) -> Vec<Arc<Resource>> {
    let Some(home) = &a.resource.home else { return Vec::new() };
    let map = call.core.kinds.now();
    map.all()
        .filter(|r| r.home.as_ref().is_some_and(|h| h.prefix == home.prefix))
        .filter(|r| r.group != a.resource.group || r.version != a.resource.version)
        .filter(|r| a.subresource.is_empty() || r.subresource(&a.subresource).is_some())
        .cloned()
        .collect()
}

fn rule_matches(rule: &Value, a: &Attributes, resource: &Resource) -> bool {
    let has = |key: &str, want: &str| rule.list(key).iter().any(|v| v == "*" || v == want);
    let about = |pattern: &str| {
        let (name, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
        (name == "*" || name == resource.name) && (sub == "*" || sub == a.subresource)
    };
    let is_namespace = resource.group.is_empty() && resource.name == "namespaces";
    let namespaced = !is_namespace && !a.hook_namespace().is_empty();
    let scope = match rule.text("scope") {
        "Namespaced" => namespaced,
        "Cluster" => !namespaced,
        _ => true,
    };
    scope
        && has("operations", a.operation.name())
        && has("apiGroups", &resource.group)
        && has("apiVersions", &resource.version)
        && rule.list("resources").iter().filter_map(Value::as_str).any(about)
}
