//! Groups of the community (`k8s.io`, `kubernetes.io`) need a word on their approval.
//! <https://github.com/kubernetes/enhancements/pull/1111>

use machinery::field::{ErrorList, Path, go_quote};
use machinery::{Get, Value};

use crate::check::Errors;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    Invalid,
    Approved,
    Bypassed,
    Missing,
}

/// Is it a group that the community owns?
pub fn is_protected(group: &str) -> bool {
    let within = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    within("k8s.io") || within("kubernetes.io")
}

/// What the annotation says, and that in upstream's words.
pub fn state(definition: &Value) -> (Approval, String) {
    let said = definition.at("metadata").at("annotations").text(ANNOTATION);
    let name = go_quote(ANNOTATION);
    if said.is_empty() {
        return (Approval::Missing, format!("protected groups must have approval annotation {name}, {SEE}"));
    }
    if said.starts_with("unapproved") {
        return (Approval::Bypassed, format!("not approved: {}", go_quote(said)));
    }
    if is_url(said) {
        return (Approval::Approved, format!("approved in {said}"));
    }
    let why = format!(
        "protected groups must have approval annotation {name} with either a URL or a reason starting with \"unapproved\", {SEE}"
    );
    (Approval::Invalid, why)
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let good_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    good_scheme && !host.is_empty() && !text.contains([' ', '\u{7f}'])
}

/// An approval that did not change is never wrong.
pub(super) fn check(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if !is_protected(new.at("spec").text("group")) {
        return;
    }
    let (now, why) = state(new);
    if old.is_some_and(|old| state(old).0 == now) {
        return;
    }
    let metadata = new.at("metadata").at("annotations");
    let at = Path::new("metadata").child("annotations").key(ANNOTATION);
    match now {
        Approval::Invalid => errors.invalid(&at, metadata.text(ANNOTATION), why),
        Approval::Missing => errors.required(&at, why),
        Approval::Approved | Approval::Bypassed => {}
    }
}
