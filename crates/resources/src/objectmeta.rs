//! Object metadata: what it must be, and what an update may not change
//! (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value, field::go_quote};

use crate::check::{self, Errors};
use crate::names::{self, NameRule};

/// Bytes of all annotations' keys and values.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What the metadata of any object must be, built-in or not: the last check of a create, and all that upstream's
/// younger groups check.
pub fn validate_generic(obj: &Value, namespaced: bool, rule: NameRule) -> ErrorList {
    let mut errors = ErrorList::new();
    generic_at(obj.at("metadata"), namespaced, rule, &Path::new("metadata"), &mut errors);
    errors
}

/// For kinds whose name follows from what they say: `name` and `generateName` that pass `also` must be the wanted one.
/// The errors stand behind those that the field has already.
pub(crate) fn exact_name(
    obj: &Value,
    wanted: &str,
    why: &str,
    also: fn(&str) -> bool,
    errors: &mut ErrorList,
) {
    let mut next = 0;
    for field in ["generateName", "name"] {
        let (given, at) = (obj.at("metadata").text(field), Path::new("metadata").child(field));
        next = errors.iter().rposition(|e| e.field == at).map_or(next, |i| i + 1);
        if !given.is_empty() && given != wanted && also(given) {
            errors.insert(next, Error::invalid(&at, given, why));
            next += 1;
        }
    }
}

/// The metadata of a built-in kind of this scope, whose names follow this rule.
pub(crate) fn validate(obj: &Value, namespaced: bool, rule: NameRule) -> ErrorList {
    let mut errors = ErrorList::new();
    validate_at(obj.at("metadata"), namespaced, rule, &Path::new("metadata"), &mut errors);
    errors
}

/// As [`validate`], for metadata at any place.
pub(crate) fn validate_at(meta: &Value, namespaced: bool, rule: NameRule, at: &Path, errors: &mut ErrorList) {
    generic_at(meta, namespaced, rule, at, errors);
    kube_finalizers(meta, at, errors);
}

/// Finalizers without a domain must be ones that Kubernetes knows.
fn kube_finalizers(meta: &Value, at: &Path, errors: &mut ErrorList) {
    for (i, finalizer) in meta.list("finalizers").iter().filter_map(Value::as_str).enumerate() {
        kube_finalizer(finalizer, &at.child("finalizers").index(i), errors);
    }
}

pub(crate) fn kube_finalizer(name: &str, at: &Path, errors: &mut ErrorList) {
    let standard = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
    if !name.contains('/') && !standard {
        errors.invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn generic_at(meta: &Value, namespaced: bool, rule: NameRule, at: &Path, errors: &mut ErrorList) {
    let prefix = meta.text("generateName");
    if !prefix.is_empty() {
        errors.each(&at.child("generateName"), prefix, rule(prefix, true));
    }
    let name = meta.text("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "name or generateName is required");
    } else {
        errors.each(&at.child("name"), name, rule(name, false));
    }
    let namespace = meta.text("namespace");
    match (namespaced, namespace) {
        (true, "") => errors.required(&at.child("namespace"), ""),
        (true, ns) => errors.each(&at.child("namespace"), ns, names::label_name(ns, false)),
        (false, "") => {}
        (false, _) => errors.forbidden(&at.child("namespace"), "not allowed on this type"),
    }
    errors.not_negative(&at.child("generation"), meta.int("generation"));
    common(meta, at, errors, true);
}

fn common(meta: &Value, at: &Path, errors: &mut ErrorList, with_finalizers: bool) {
    check::labels(meta.at("labels"), &at.child("labels"), errors);
    annotations(meta.at("annotations"), &at.child("annotations"), errors);
    owners(meta.list("ownerReferences"), &at.child("ownerReferences"), errors);
    if with_finalizers {
        finalizers(meta.list("finalizers"), &at.child("finalizers"), errors);
    }
    managed_fields(meta.list("managedFields"), &at.child("managedFields"), errors);
}

/// What every update is checked for before its kind's own rules: the metadata alone, then against the old one.
pub fn validate_any_update(new: &Value, old: &Value, namespaced: bool) -> ErrorList {
    let mut errors = validate_generic(new, namespaced, names::path_segment);
    errors.extend(generic_update(new, old));
    errors
}

/// The metadata of an update of a built-in kind against the old object's.
pub(crate) fn validate_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = generic_update(new, old);
    kube_finalizers(new.at("metadata"), &Path::new("metadata"), &mut errors);
    errors
}

/// The same for the kinds whose finalizers need no domain.
pub(crate) fn generic_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let at = Path::new("metadata");
    let (new, old) = (new.at("metadata"), old.at("metadata"));
    if old.has("deletionTimestamp") {
        no_new_finalizers(new, old, &at.child("finalizers"), &mut errors);
    }
    if new.text("resourceVersion").is_empty() {
        errors.invalid(&at.child("resourceVersion"), "", "must be specified for an update");
    }
    let generation = new.int("generation").unwrap_or(0);
    if generation < old.int("generation").unwrap_or(0) {
        errors.invalid(&at.child("generation"), generation, "must not be decremented");
    }
    for name in ["name", "namespace", "uid"] {
        if new.text(name) != old.text(name) {
            errors.invalid(&at.child(name), new.text(name), check::IMMUTABLE);
        }
    }
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        errors.immutable(&at.child(name), new.at(name), old.at(name));
    }
    common(new, &at, &mut errors, false);
    errors
}

fn no_new_finalizers(new: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    let before = old.list("finalizers");
    let mut extra: Vec<&str> =
        new.list("finalizers").iter().filter(|f| !before.contains(f)).filter_map(Value::as_str).collect();
    if extra.is_empty() {
        return;
    }
    extra.sort_unstable();
    extra.dedup();
    let shown: Vec<String> = extra.iter().map(|f| go_quote(f)).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        shown.join(", ")
    );
    errors.forbidden(at, detail);
}

/// Annotation keys, and the size of all.
pub fn annotations(annotations: &Value, at: &Path, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.each(at, key.as_str(), names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(at, ANNOTATIONS_MAX);
    }
}

fn owners(owners: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut controller = String::new();
    for owner in owners {
        let (api_version, kind, name) = (owner.text("apiVersion"), owner.text("kind"), owner.text("name"));
        let (group, version) = match api_version.split('/').collect::<Vec<_>>()[..] {
            [version] => ("", version),
            [group, version] => (group, version),
            _ => ("", ""),
        };
        if version.is_empty() {
            errors.invalid(&at.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if owner.text(field).is_empty() {
                errors.invalid(&at.child(field), "", "must not be empty");
            }
        }
        if (group, version, kind) == ("", "v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid_shown(at, owner_shown(owner), detail);
        }
        if owner.flag("controller") == Some(true) {
            let this = format!("{kind}/{name}");
            if controller.is_empty() {
                controller = this;
            } else {
                let all: Vec<String> = owners.iter().map(owner_shown).collect();
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {controller} and {this}"
                );
                errors.invalid_shown(at, format!("[{}]", all.join(",")), &detail);
            }
        }
    }
}

/// As upstream shows it, in the order of its struct.
fn owner_shown(owner: &Value) -> String {
    let mut parts = Vec::new();
    for field in ["apiVersion", "kind", "name", "uid"] {
        parts.push(format!("\"{field}\":{}", Value::from(owner.text(field))));
    }
    for field in ["controller", "blockOwnerDeletion"] {
        if owner.has(field) {
            parts.push(format!("\"{field}\":{}", owner.at(field)));
        }
    }
    format!("{{{}}}", parts.join(","))
}

fn finalizers(finalizers: &[Value], at: &Path, errors: &mut ErrorList) {
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        errors.each(at, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(at, finalizers.to_vec(), detail);
    }
}

fn managed_fields(entries: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, entry) in entries.iter().enumerate() {
        let at = at.index(i);
        let operation = entry.text("operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.invalid(&at.child("operation"), operation, "must be `Apply` or `Update`");
        }
        let kind = entry.text("fieldsType");
        if !kind.is_empty() && kind != "FieldsV1" {
            errors.invalid(&at.child("fieldsType"), kind, "must be `FieldsV1`");
        }
        field_manager(entry.text("manager"), &at.child("manager"), errors);
        if entry.text("subresource").len() > 256 {
            errors.too_long(&at.child("subresource"), 256);
        }
    }
}

/// A field manager's name: at most 128 bytes, printable.
pub fn field_manager(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.len() > 128 {
        errors.too_long(at, 128);
    }
    if name.chars().any(char::is_control) {
        errors.invalid(at, name, "should only contain printable characters");
    }
}

/// Keeps of new metadata only what a status update may change (upstream's `ResetObjectMetaForStatus`).
pub(crate) fn reset_for_status(new: &mut Value, old: &Value) {
    let before = old.at("metadata");
    let meta = new.child("metadata");
    let kept = [
        "deletionTimestamp",
        "generation",
        "selfLink",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ];
    for name in kept {
        keep(meta, before, name);
    }
}

/// Makes a field of `new` what it is in `old`.
pub(crate) fn keep(new: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        // most often it is, and looking is cheaper than making
        Some(value) if new.get(name) == Some(value) => {}
        Some(value) => new.set(name, value.clone()),
        None => {
            new.unset(name);
        }
    }
}

/// Counts `metadata.generation` up from the old object's.
pub(crate) fn next_generation(new: &mut Value, old: &Value) {
    let generation = old.at("metadata").int("generation").unwrap_or(0) + 1;
    new.child("metadata").set("generation", generation);
}

/// Counts up if `spec` changed.
pub(crate) fn generation_by_spec(new: &mut Value, old: &Value) {
    if !check::same(new.at("spec"), old.at("spec")) {
        next_generation(new, old);
    }
}

/// Labels of an object.
pub fn labels(labels: &Value, at: &Path, errors: &mut ErrorList) {
    crate::check::labels(labels, at, errors);
}
