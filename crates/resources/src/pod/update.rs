//! What may change in a pod: its few mutable fields, ephemeral containers, resources.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use super::spec::{Options, annotations, is_mirror, metadata_and_spec};
use super::{qos, resources, scheduling};
use crate::check::{Errors, same};
use crate::{names, objectmeta};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A plain update.
pub(crate) fn update(new: &Value, old: &Value, options: Options) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    metadata_and_spec(new, options, &mut errors);
    annotation_updates(new, old, options, &mut errors);
    let at = Path::new("spec");
    let (spec, before) = (new.at("spec"), old.at("spec"));
    for list in ["containers", "initContainers"] {
        let at = at.child(list);
        if spec.list(list).len() != before.list(list).len() {
            errors.forbidden(&at, "pod updates may not add or remove containers");
            return errors;
        }
        for (i, container) in spec.list(list).iter().enumerate() {
            let image = container.text("image");
            if image.is_empty() {
                errors.required(&at.index(i).child("image"), "");
            }
            if image.trim() != image {
                let detail = "must not have leading or trailing whitespace";
                errors.invalid(&at.index(i).child("image"), image, detail);
            }
        }
    }
    if !deadline(spec, before, &at, &mut errors) {
        return errors;
    }
    added_tolerations(spec, before, options, &at.child("tolerations"), &mut errors);
    deleted_gates(spec, before, &at.child("schedulingGates"), &mut errors);
    if !same(spec, before) {
        only_mutable(spec, before, &at, &mut errors);
    }
    errors
}

/// False if nothing more is to be looked at.
fn deadline(spec: &Value, before: &Value, at: &Path, errors: &mut ErrorList) -> bool {
    let at = at.child("activeDeadlineSeconds");
    let old = before.int("activeDeadlineSeconds");
    match spec.int("activeDeadlineSeconds") {
        Some(new) => {
            let max = i64::from(i32::MAX);
            if !(0..=max).contains(&new) {
                errors.invalid(&at, new, names::range_error(0, max));
                return false;
            }
            if old.is_some_and(|old| old < new) {
                errors.invalid(&at, new, "must be less than or equal to previous value");
                return false;
            }
        }
        None if old.is_some() => {
            errors.invalid(&at, Value::Null, "must not update from a positive integer to nil value");
        }
        None => {}
    }
    true
}

fn added_tolerations(spec: &Value, before: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    let plain = |t: &Value| {
        let mut t = t.clone();
        t.unset("tolerationSeconds");
        t
    };
    let new = spec.list("tolerations");
    for old in before.list("tolerations") {
        if !new.iter().any(|t| same(&plain(t), &plain(old))) {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            return errors.forbidden(at, detail);
        }
    }
    scheduling::tolerations(new, options.lt_gt_tolerations, at, errors);
}

fn deleted_gates(spec: &Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    for (i, gate) in spec.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !before.list("schedulingGates").iter().any(|g| g.text("name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&at.index(i).child("name"), detail);
        }
    }
}

/// Everything but the mutable fields must be as it was.
fn only_mutable(spec: &Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    let mut munged = spec.clone();
    for list in ["containers", "initContainers"] {
        for (container, old) in munged.list_mut(list).iter_mut().zip(before.list(list)) {
            container.set("image", old.at("image").clone());
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        objectmeta::keep(&mut munged, before, field);
    }
    let grace = |spec: &Value| spec.int("terminationGracePeriodSeconds");
    if grace(before).is_some_and(|g| g < 0) && grace(&munged) == Some(1) {
        objectmeta::keep(&mut munged, before, "terminationGracePeriodSeconds");
    }
    if !before.list("schedulingGates").is_empty() {
        gated(&mut munged, before, at, errors);
    }
    if !same(&munged, before) {
        let diff = crate::godiff::pod_specs(before, &munged);
        errors.forbidden(at, format!("pod updates may not change fields other than {UPDATABLE}\n{diff}"));
    }
}

/// A pod that waits at gates may still be narrowed down.
fn gated(munged: &mut Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    if !same(munged.at("nodeSelector"), before.at("nodeSelector")) {
        let new = munged.at("nodeSelector").clone();
        let kept = before.map("nodeSelector").into_iter().flatten().all(|(k, v)| new.get(k) == Some(v));
        if !kept {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&at.child("nodeSelector"), new, detail);
        }
        objectmeta::keep(munged, before, "nodeSelector");
    }
    let old = before.at("affinity").at("nodeAffinity").clone();
    let new = munged.at("affinity").at("nodeAffinity").clone();
    if same(&new, &old) {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let at = at.child("affinity").child("nodeAffinity").child(required).child("nodeSelectorTerms");
    let terms = |affinity: &Value| affinity.at(required).list("nodeSelectorTerms").to_vec();
    let (new_terms, old_terms) = (terms(&new), terms(&old));
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&at, new_terms, detail);
    } else {
        for (i, (new, old)) in new_terms.iter().zip(&old_terms).enumerate() {
            if !only_additions(new, old) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.invalid(&at.index(i), new.clone(), detail);
            }
        }
    }
    if before.at("affinity").is_null() && munged.at("affinity").as_object().is_some_and(|a| a.len() == 1) {
        munged.unset("affinity");
    } else if munged.has("affinity") || !old.is_null() {
        let affinity = munged.child("affinity");
        if old.is_null() {
            affinity.unset("nodeAffinity");
        } else {
            affinity.set("nodeAffinity", old);
        }
    }
}

fn only_additions(new: &Value, old: &Value) -> bool {
    let parts = ["matchExpressions", "matchFields"];
    let empty = |term: &Value| parts.iter().all(|p| term.list(p).is_empty());
    if empty(old) && !empty(new) {
        return false;
    }
    parts.iter().all(|p| new.list(p).starts_with(old.list(p)))
}

/// Annotations that pods give a meaning to and that may not change.
pub(crate) fn annotation_updates(new: &Value, old: &Value, options: Options, errors: &mut ErrorList) {
    let at = Path::new("metadata").child("annotations");
    let (after, before) = (new.at("metadata").at("annotations"), old.at("metadata").at("annotations"));
    for (key, value) in before.as_object().into_iter().flatten() {
        if after.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APPARMOR) {
            errors.forbidden(&at.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&at.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for key in after.as_object().into_iter().flatten().map(|(k, _)| k).filter(|k| before.get(k).is_none()) {
        if key.starts_with(APPARMOR) {
            errors.forbidden(&at.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&at.key(key), "may not add mirror pod annotation");
        }
    }
    annotations(after, new.at("spec"), options, &at, errors);
}

/// The `ephemeralcontainers` subresource: containers may be added.
pub(crate) fn ephemeral_containers(new: &Value, old: &Value, options: Options) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    metadata_and_spec(new, options, &mut errors);
    annotation_updates(new, old, options, &mut errors);
    if is_mirror(old.at("metadata")) {
        let mut errors = ErrorList::new();
        errors.forbidden(&Path::root(), "static pods do not support ephemeral containers");
        return errors;
    }
    let at = Path::new("spec").child("ephemeralContainers");
    let list = |pod: &'_ Value| pod.at("spec").list("ephemeralContainers").to_vec();
    let after = list(new);
    for before in list(old) {
        let name = before.text("name");
        match after.iter().rev().find(|c| c.text("name") == name) {
            None => {
                errors.forbidden(&at, format!("existing ephemeral containers {name:?} may not be removed\n"))
            }
            Some(now) if !same(now, &before) => {
                let diff = crate::godiff::ephemeral_containers(&before, now);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(&at, detail);
            }
            Some(_) => {}
        }
    }
    errors
}

/// The `resize` subresource: cpu and memory may change.
pub(crate) fn resize(new: &Value, old: &Value, options: Options) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    metadata_and_spec(new, options, &mut errors);
    let only = |detail: &str| {
        let mut errors = ErrorList::new();
        errors.forbidden(&Path::root(), detail);
        errors
    };
    if is_mirror(old.at("metadata")) {
        return only("static pods cannot be resized");
    }
    let (spec, before) = (new.at("spec"), old.at("spec"));
    if before.at("os").text("name") == "windows" {
        return only("windows pods cannot be resized");
    }
    let at = Path::new("spec");
    if old.at("status").text("qosClass") != qos::class(spec) {
        let class = new.at("status").text("qosClass");
        errors.invalid(&at, class, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.at("status").list("containerStatuses").iter().find(|c| c.at("state").has("running"));
    if running.is_some_and(|c| !c.has("resources")) {
        errors.forbidden(&at, "Pod running on node without support for resize");
    }
    let mut munged = spec.clone();
    let pod_level = |spec: &Value| {
        ["requests", "limits"].iter().any(|f| spec.at("resources").map(f).is_some_and(|m| !m.is_empty()))
    };
    if pod_level(before) || pod_level(spec) {
        pod_level_resize(&mut munged, before, &at, &mut errors);
    }
    if !old.at("status").list("nodeAllocatableResourceClaimStatuses").is_empty() {
        errors.forbidden(&at, "pods with node allocatable resource claims cannot be resized");
    }
    if !same_containers(spec, before, &at, &mut errors) {
        return errors;
    }
    for list in ["initContainers", "containers"] {
        for (i, (now, was)) in spec.list(list).iter().zip(before.list(list)).enumerate() {
            let at = at.child(list).index(i).child("resources");
            removed(now.at("resources"), was.at("resources"), "resource", &at, &mut errors);
        }
    }
    munged_containers(&mut munged, before, &at, &mut errors);
    if errors.is_empty() && !same(&munged, before) {
        errors.forbidden(&at, "only cpu and memory resources are mutable");
    }
    errors
}

fn pod_level_resize(munged: &mut Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    let old = before.at("resources").clone();
    let at_resources = at.child("resources");
    if !old.is_null() && !munged.has("resources") {
        return errors.forbidden(&at_resources, "pod-level resources cannot be removed");
    }
    if !old.is_null() {
        removed(munged.at("resources"), &old, "pod-level resource", &at_resources, errors);
    }
    drop_compute(munged.child("resources"), &old);
    if old.is_null() && munged.at("resources").as_object().is_some_and(|m| m.is_empty()) {
        munged.unset("resources");
    }
    if !same(munged.at("resources"), &old) {
        errors.forbidden(at, "only cpu and memory resources are mutable at pod-level");
    }
}

fn removed(new: &Value, old: &Value, what: &str, at: &Path, errors: &mut ErrorList) {
    for (field, word) in [("requests", "requests"), ("limits", "limits")] {
        if old.map(field).into_iter().flatten().any(|(name, _)| !new.at(field).has(name)) {
            errors.forbidden(&at.child(field), format!("{what} {word} cannot be removed"));
        }
    }
}

/// Makes cpu and memory what they were.
fn drop_compute(resources: &mut Value, old: &Value) {
    for field in ["requests", "limits"] {
        if !resources.has(field) && !old.has(field) {
            continue;
        }
        for name in ["cpu", "memory"] {
            objectmeta::keep(resources.child(field), old.at(field), name);
        }
        if resources.map(field).is_some_and(|m| m.is_empty()) && !old.has(field) {
            resources.unset(field);
        }
    }
}

fn same_containers(spec: &Value, before: &Value, at: &Path, errors: &mut ErrorList) -> bool {
    let count = errors.len();
    for list in ["containers", "initContainers"] {
        let (now, was) = (spec.list(list), before.list(list));
        let at = at.child(list);
        if now.len() != was.len() {
            errors.forbidden(&at, format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (i, (now, was)) in now.iter().zip(was).enumerate() {
            if now.text("name") != was.text("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&at.index(i).child("name"), detail);
            }
        }
    }
    errors.len() == count
}

fn munged_containers(munged: &mut Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    let reset = |container: &mut Value, old: &Value| {
        drop_compute(container.child("resources"), old.at("resources"));
        container.child("resources").unset("claims");
        let empty = json!({});
        if container.at("resources") == &empty && !old.has("resources") {
            container.unset("resources");
        }
        !same(container, old)
    };
    for (container, old) in munged.list_mut("containers").iter_mut().zip(before.list("containers")) {
        if reset(container, old) {
            errors.forbidden(at, "only cpu and memory resources are mutable");
        }
    }
    let pairs = munged.list_mut("initContainers").iter_mut().zip(before.list("initContainers"));
    for (i, (container, old)) in pairs.enumerate() {
        let at = at.child("initContainers").index(i);
        let modified = !same(container, old);
        if reset(container, old) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(&at, detail);
        }
        if modified && !resources::is_sidecar(container) {
            let restarts = |p: &&Value| p.text("restartPolicy") == "RestartContainer";
            for _ in container.list("resizePolicy").iter().filter(restarts) {
                let detail =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                errors.forbidden(&at, detail);
            }
        }
    }
}
