//! Defaults must be values that their own schema takes, and hold nothing that it would prune.

use machinery::crd::{self, Validator};
use machinery::field::{ErrorList, Path};
use machinery::schema;
use machinery::{Get, Value};

use super::structural;
use crate::check::Errors;
use crate::{names, objectmeta};

/// Checks all defaults of a structural schema.
pub(super) fn check(schema: &Value, pruned: bool, at: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    walk(schema, pruned, false, true, at, &mut errors);
    errors
}

/// Is there a default that pruning would change?
pub(super) fn has_unpruned(root: &Value) -> bool {
    let readable =
        structural::unreadable(root).is_none() && structural::check(root, &Path::root()).is_empty();
    readable && super::schema::has(root, &|s| s.has("default") && !is_pruned(s))
}

fn is_pruned(schema: &Value) -> bool {
    let mut value = schema.at("default").clone();
    schema::prune(&schema::structural::node(schema), &mut value);
    value == *schema.at("default")
}

fn walk(schema: &Value, pruned: bool, in_meta: bool, root: bool, at: &Path, errors: &mut ErrorList) {
    let embedded = root || schema.flag("x-kubernetes-embedded-resource") == Some(true);
    let in_meta = in_meta && !embedded;
    if schema.has("default") {
        let (value, at) = (schema.at("default"), at.child("default"));
        if !in_meta && pruned && !is_pruned(schema) {
            errors.invalid(&at, value.clone(), "must not have unknown fields");
        }
        let mut found = crd::embedded_below(schema, value, &at, &|meta, path| {
            let mut out = ErrorList::new();
            let namespaced = !meta.text("namespace").is_empty();
            objectmeta::validate_at(meta, namespaced, names::path_segment, path, &mut out);
            out
        });
        if found.is_empty() {
            found = Validator::new(schema).value(value, &at);
        }
        errors.extend(found);
    }
    if schema.at("items").is_object() {
        walk(schema.at("items"), pruned, in_meta, false, &at.child("items"), errors);
    }
    let mut all: Vec<(&String, &Value)> = schema.map("properties").into_iter().flatten().collect();
    all.sort_by_key(|(name, _)| *name);
    for (name, below) in all {
        let meta = in_meta || embedded && matches!(name.as_str(), "metadata" | "apiVersion" | "kind");
        walk(below, pruned, meta, false, &at.child("properties").key(name), errors);
    }
}
