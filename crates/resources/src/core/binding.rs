//! Bindings of pods to nodes.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::Strategy;
use crate::check::Errors;

pub(crate) static STRATEGY: Strategy =
    Strategy { group: "", kind: "Binding", validate: |obj, _| validate(obj), ..Strategy::BASE };

fn validate(obj: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let target = obj.at("target");
    let at = Path::new("target");
    let kind = target.text("kind");
    if !matches!(kind, "" | "Node") {
        errors.unsupported(&at.child("kind"), kind, &["Node", "<empty>"]);
    }
    if target.text("name").is_empty() {
        errors.required(&at.child("name"), "");
    }
    errors
}
