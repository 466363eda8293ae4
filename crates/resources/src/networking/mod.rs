//! networking.k8s.io.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::names;
use crate::objectmeta::generation_by_spec;

pub(crate) mod ingress;
pub(crate) mod ingressclass;
pub(crate) mod ipaddress;
pub(crate) mod networkpolicy;
pub(crate) mod servicecidr;

fn first_generation(obj: &mut Value) {
    obj.child("metadata").set("generation", 1);
}

/// A part of a reference that has to be there and to stand in a URL's path.
fn segment(reference: &Value, field: &str, at: &Path, errors: &mut ErrorList) {
    match reference.text(field) {
        "" => errors.required(&at.child(field), ""),
        text => errors.each(&at.child(field), text, names::path_segment(text, false)),
    }
}

/// Kind and name of what is meant, and maybe its group.
fn typed_reference(reference: &Value, at: &Path, errors: &mut ErrorList) {
    if let Some(group) = reference.at("apiGroup").as_str() {
        errors.each(&at.child("apiGroup"), group, names::dns1123_subdomain(group));
    }
    segment(reference, "kind", at, errors);
    segment(reference, "name", at, errors);
}
