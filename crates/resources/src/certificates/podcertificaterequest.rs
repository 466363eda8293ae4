//! PodCertificateRequests.

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;
use crate::columns::{NAME, labels, name};
use crate::objectmeta::{self, keep};
use crate::{Column, Columns, Strategy, check, names, signer};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "certificates.k8s.io",
    kind: "PodCertificateRequest",
    default: |obj, _| obj.child("spec").set_default("maxExpirationSeconds", 86_400),
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        keep(new, old, if context.subresource == "status" { "spec" } else { "status" });
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            let at = Path::new("status").child("conditions");
            check::conditions(new.at("status").list("conditions"), &at, &mut errors);
        } else {
            let kind = "certificates.PodCertificateRequestSpec";
            errors.immutable_as(kind, &Path::new("spec"), new.at("spec"), old.at("spec"));
        }
        errors
    },
    unconditional_update: false,
    selectable: &["spec.signerName", "spec.podName", "spec.nodeName"],
    select: |obj, field| obj.at("spec").text(field.trim_start_matches("spec.")).to_owned(),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, _| {
            let (spec, conditions) = (obj.at("spec"), obj.at("status").list("conditions"));
            let known = ["Issued", "Denied", "Failed"];
            let state = conditions.iter().map(|c| c.text("type")).rfind(|t| known.contains(t));
            vec![
                name(obj),
                spec.text("podName").into(),
                spec.text("serviceAccountName").into(),
                spec.text("nodeName").into(),
                spec.text("signerName").into(),
                state.unwrap_or("Pending").into(),
                labels(spec.at("unverifiedUserAnnotations")).into(),
            ]
        },
        conditions: crate::strategy::no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "PodName",
        "string",
        "",
        0,
        "podName is the name of the pod into which the certificate will be mounted.",
    ),
    (
        "ServiceAccountName",
        "string",
        "",
        0,
        "serviceAccountName is the name of the service account the pod is running as.",
    ),
    ("NodeName", "string", "", 0, "nodeName is the name of the node the pod is assigned to."),
    (
        "SignerName",
        "string",
        "",
        0,
        "signerName indicates the requested signer.\n\nAll signer names beginning with `kubernetes.io` are reserved for use by the Kubernetes project.  There is currently one well-known signer documented by the Kubernetes project, `kubernetes.io/kube-apiserver-client-pod`, which will issue client certificates understood by kube-apiserver.  It is currently unimplemented.",
    ),
    ("State", "string", "", 0, "Is the request Pending, Issued, Denied, or Failed?"),
    (
        "UnverifiedUserAnnotations",
        "string",
        "",
        0,
        "unverifiedUserAnnotations allow pod authors to pass additional information to the signer implementation.  Kubernetes does not restrict or validate this metadata in any way.\n\nEntries are subject to the same validation as object metadata annotations, with the addition that all keys must be domain-prefixed. No restrictions are placed on values, except an overall size limitation on the entire field.\n\nSigners should document the keys and values they support.  Signers should deny requests that contain keys they do not recognize.",
    ),
];

fn validate(obj: &Value) -> ErrorList {
    const UID_MAX: usize = 128;
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let own = spec.text("signerName");
    signer::name(own, &at.child("signerName"), &mut errors);
    for (field, uid) in
        [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")]
    {
        let name = spec.text(field);
        errors.each(&at.child(field), name, names::subdomain_name(name, false));
        let text = spec.text(uid);
        if text.is_empty() {
            errors.invalid(&at.child(uid), "", "must not be empty");
        }
        if text.len() > UID_MAX {
            errors.too_long(&at.child(uid), UID_MAX);
        }
    }
    let Some(seconds) = spec.int("maxExpirationSeconds") else {
        errors.required(&at.child("maxExpirationSeconds"), "must be set");
        return errors;
    };
    let max = if signer::is_kubernetes(own) { 86_400 } else { 91 * 86_400 };
    if !(3600..=max).contains(&seconds) {
        let detail = format!("must be in the range [3600, {max}]");
        errors.invalid(&at.child("maxExpirationSeconds"), seconds, detail);
    }
    let given = |field: &str| !spec.text(field).is_empty();
    if given("stubPKCS10Request") == (given("pkixPublicKey") && given("proofOfPossession"))
        || given("pkixPublicKey") != given("proofOfPossession")
    {
        let detail = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        errors.push(Error { value: None, ..Error::invalid(&at, "", detail) });
    }
    errors
}
