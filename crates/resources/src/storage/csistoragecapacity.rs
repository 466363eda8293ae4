//! CSIStorageCapacities.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors, IMMUTABLE, same};
use crate::pod::requirements::not_negative;
use crate::pod::warnings;
use crate::{Strategy, gostruct, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storage.k8s.io",
    kind: "CSIStorageCapacity",
    validate: |obj, _| validate(obj, false),
    validate_update: |new, old, _| {
        let mut before = ErrorList::new();
        check::label_selector(old.at("nodeTopology"), &Path::new("nodeTopology"), &mut before);
        let mut errors = validate(new, !before.is_empty());
        errors.extend(objectmeta::validate_update(new, old));
        let topology = new.at("nodeTopology");
        if !same(topology, old.at("nodeTopology")) {
            errors.invalid_shown(&Path::new("nodeTopology"), gostruct::label_selector(topology), IMMUTABLE);
        }
        let class = new.text("storageClassName");
        if class != old.text("storageClassName") {
            errors.invalid(&Path::new("storageClassName"), class, IMMUTABLE);
        }
        errors
    },
    warnings: |new, _, _| old_labels(new.at("nodeTopology")),
    unconditional_update: false,
    ..Strategy::BASE
};

fn validate(obj: &Value, lax: bool) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    check::label_selector_with(obj.at("nodeTopology"), &Path::new("nodeTopology"), lax, &mut errors);
    let class = obj.text("storageClassName");
    errors.each(&Path::new("storageClassName"), class, names::subdomain_name(class, false));
    if obj.has("capacity") {
        not_negative(obj.at("capacity"), &Path::new("capacity"), &mut errors);
    }
    errors
}

fn old_labels(selector: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (i, term) in selector.list("matchExpressions").iter().enumerate() {
        let key = term.text("key");
        if let Some(message) = warnings::node_label(key) {
            out.push(format!("nodeTopology.matchExpressions[{i}].key: {key} is {message}"));
        }
    }
    for (key, _) in selector.map("matchLabels").into_iter().flatten() {
        if let Some(message) = warnings::node_label(key) {
            out.push(format!("nodeTopology.matchLabels.{key}: {message}"));
        }
    }
    out
}
