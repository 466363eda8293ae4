//! Pod templates (`PodTemplateSpec`), alone and in workloads.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::security;
use super::spec::{self, Options};
use crate::check::{self, Errors, selector_matches};
use crate::objectmeta;

/// A template wherever it stands.
pub(crate) fn template(template: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    let spec = template.at("spec");
    metadata(template, options, at, errors);
    let spec_at = at.child("spec");
    spec::spec(spec, None, options, &spec_at, errors);
    security::annotations_match(template.at("metadata").at("annotations"), spec, &spec_at, errors);
    if !spec.list("ephemeralContainers").is_empty() {
        let at = spec_at.child("ephemeralContainers");
        errors.forbidden(&at, "ephemeral containers not allowed in pod template");
    }
}

/// Labels and annotations of a template; upstream names them without `metadata`.
pub(crate) fn metadata(template: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    let meta = template.at("metadata");
    let annotations_at = at.child("annotations");
    check::labels(meta.at("labels"), &at.child("labels"), errors);
    objectmeta::annotations(meta.at("annotations"), &annotations_at, errors);
    spec::annotations(meta.at("annotations"), template.at("spec"), options, &annotations_at, errors);
}

/// A workload's selector: there, not empty, and well-formed. True if it can be matched.
pub(crate) fn selector(selector: &Value, workload: &str, at: &Path, errors: &mut ErrorList) -> bool {
    if !selector.is_object() {
        errors.required(at, "");
        return true;
    }
    let before = errors.len();
    check::label_selector(selector, at, errors);
    let good = errors.len() == before;
    if check::selector_is_empty(selector) {
        errors.invalid(at, selector.clone(), format!("empty selector is invalid for {workload}"));
    }
    good
}

/// A non-empty selector must select the template's labels. The absent selector selects nothing, and says so.
pub(crate) fn selected(template: &Value, selector: &Value, at: &Path, errors: &mut ErrorList) {
    let labels = template.at("metadata").at("labels");
    let nothing = !selector.is_object();
    if nothing || (!check::selector_is_empty(selector) && !selector_matches(selector, labels)) {
        let at = at.child("metadata").child("labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
}

/// Restarts always, has no deadline.
pub(crate) fn runs_always(template: &Value, workload: &str, at: &Path, errors: &mut ErrorList) {
    let spec = template.at("spec");
    let at = at.child("spec");
    errors.one_of(&at.child("restartPolicy"), spec.text("restartPolicy"), &["Always"]);
    if spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {workload} is not Supported");
        errors.forbidden(&at.child("activeDeadlineSeconds"), detail);
    }
}
