//! `rbac.authorization.k8s.io`: who may do what.

use machinery::field::{ErrorList, Path};
use machinery::names::path_segment;
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{age, name};
use crate::gostruct::{Field, Zero, show};
use crate::pod::defaults::text;
use crate::{names, objectmeta};

pub(crate) mod clusterrole;
pub(crate) mod clusterrolebinding;
pub(crate) mod role;
pub(crate) mod rolebinding;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Names need only fit into a path.
fn rbac_name(name: &str, _: bool) -> Vec<String> {
    path_segment(name)
}

fn rules(rules: &[Value], namespaced: bool, errors: &mut ErrorList) {
    for (i, rule) in rules.iter().enumerate() {
        let at = Path::new("rules").index(i);
        let empty = |field: &str| rule.list(field).is_empty();
        if empty("verbs") {
            errors.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        let urls = rule.list("nonResourceURLs");
        if !urls.is_empty() {
            let at = at.child("nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&at, urls.to_vec(), detail);
            }
            if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at, urls.to_vec(), detail);
            }
            continue;
        }
        if empty("apiGroups") {
            errors.required(&at.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if empty("resources") {
            errors.required(&at.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

/// Groups of the role and the subjects.
fn default_binding(obj: &mut Value, version: &str) {
    text(obj.child("roleRef"), "apiGroup", GROUP);
    for subject in obj.list_mut("subjects") {
        if version == "v1alpha1" {
            continue;
        }
        if matches!(subject.text("kind"), "User" | "Group") {
            text(subject, "apiGroup", GROUP);
        }
    }
}

fn binding(obj: &Value, namespaced: bool) -> ErrorList {
    let mut errors = objectmeta::validate(obj, namespaced, rbac_name);
    let role = obj.at("roleRef");
    let at = Path::new("roleRef");
    errors.one_of(&at.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    errors.one_of(&at.child("kind"), role.text("kind"), kinds);
    match role.text("name") {
        "" => errors.required(&at.child("name"), ""),
        name => errors.each(&at.child("name"), name, path_segment(name)),
    }
    for (i, subject) in obj.list("subjects").iter().enumerate() {
        self::subject(subject, namespaced, &Path::new("subjects").index(i), &mut errors);
    }
    errors
}

fn subject(subject: &Value, namespaced: bool, at: &Path, errors: &mut ErrorList) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.each(&at.child("name"), name, names::subdomain_name(name, false));
            }
            if !group.is_empty() {
                errors.unsupported(&at.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.text("namespace").is_empty() {
                errors.required(&at.child("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&at.child("apiGroup"), group, &[GROUP]),
        other => errors.unsupported(&at.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

fn binding_update(new: &Value, old: &Value, namespaced: bool) -> ErrorList {
    const REF: &[Field] =
        &[("APIGroup", "apiGroup", Zero::Text), ("Kind", "kind", Zero::Text), ("Name", "name", Zero::Text)];
    let mut errors = binding(new, namespaced);
    errors.extend(objectmeta::validate_update(new, old));
    if new.at("roleRef") != old.at("roleRef") {
        errors.invalid_shown(&Path::new("roleRef"), show(new.at("roleRef"), REF), "cannot change roleRef");
    }
    errors
}

fn binding_cells(obj: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let role = obj.at("roleRef");
    let list = |kind: &str| {
        let all: Vec<String> = obj
            .list("subjects")
            .iter()
            .filter(|s| s.text("kind") == kind)
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", s.text("namespace"), s.text("name")),
                _ => s.text("name").to_owned(),
            })
            .collect();
        all.join(", ")
    };
    vec![
        name(obj),
        format!("{}/{}", role.text("kind"), role.text("name")).into(),
        age(obj, now),
        list("User").into(),
        list("Group").into(),
        list("ServiceAccount").into(),
    ]
}
