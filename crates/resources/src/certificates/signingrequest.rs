//! CertificateSigningRequests.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::pem_blocks;
use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, human, name, or_none};
use crate::objectmeta::{self, keep};
use crate::{Column, Columns, Context, Strategy, signer};

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

const LEGACY: &str = "kubernetes.io/legacy-unknown";

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    prepare_create,
    prepare_update,
    validate: |obj, _| validate(obj, None),
    validate_update,
    selectable: &["spec.signerName"],
    select: |obj, _| obj.at("spec").text("signerName").to_owned(),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: crate::strategy::no_conditions }),
    resets: &[
        ("", &[&["spec"], &["status"]]),
        ("status", &[&["spec"], &["status", "conditions"]]),
        ("approval", &[&["spec"], &["status", "certificate"]]),
    ],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Age", "string", "", 0, CREATED),
    (
        "SignerName",
        "string",
        "",
        0,
        "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n    \"kubernetes.io/kube-apiserver-client-kubelet\".\n 2. If it's a kubelet serving certificate, it is assigned\n    \"kubernetes.io/kubelet-serving\".\n 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".\nDistribution of trust for signers happens out of band. You can select on this field using `spec.signerName`.",
    ),
    ("Requestor", "string", "", 0, "Base64-encoded PKCS#10 CSR data"),
    (
        "RequestedDuration",
        "string",
        "",
        0,
        "expirationSeconds is the requested duration of validity of the issued certificate. The certificate signer may issue a certificate with a different validity duration so a client must check the delta between the notBefore and and notAfter fields in the issued certificate to determine the actual duration.\n\nThe v1.22+ in-tree implementations of the well-known Kubernetes signers will honor this field as long as the requested duration is not greater than the maximum duration they will honor per the --cluster-signing-duration CLI flag to the Kubernetes controller manager.\n\nCertificate signers may not honor this field for various reasons:\n\n  1. Old signer that is unaware of the field (such as the in-tree\n     implementations prior to v1.22)\n  2. Signer whose configured maximum is shorter than the requested duration\n  3. Signer whose configured minimum is longer than the requested duration\n\nThe minimum valid value for expirationSeconds is 600, i.e. 10 minutes.",
    ),
    ("Condition", "string", "", 0, "Conditions applied to the request, such as approval or denial."),
];

/// Who asks is the server's to say.
fn prepare_create(obj: &mut Value, context: &Context) {
    let spec = obj.child("spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.unset(field);
    }
    let user = &context.user;
    for (field, value) in [("username", user.name), ("uid", user.uid)] {
        if !value.is_empty() {
            spec.set(field, value);
        }
    }
    if !user.groups.is_empty() {
        spec.set("groups", user.groups.to_vec());
    }
    if let Some(extra) = user.extra {
        spec.set("extra", extra.clone());
    }
    obj.set("status", json!({}));
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    keep(new, old, "spec");
    match context.subresource {
        "status" => {
            for kind in ["Approved", "Denied"] {
                keep_conditions(new, old, kind);
            }
            condition_times(new, old, context);
        }
        "approval" => {
            condition_times(new, old, context);
            let conditions = new.at("status").at("conditions").clone();
            keep(new, old, "status");
            new.child("status").set("conditions", conditions);
        }
        _ => keep(new, old, "status"),
    }
}

fn of_type<'a>(obj: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    obj.at("status").list("conditions").iter().filter(move |c| c.text("type") == kind)
}

/// Conditions of this type stay as they were, if there are as many.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    if of_type(new, kind).count() != of_type(old, kind).count() {
        return;
    }
    let conditions = new.child("status").list_mut("conditions");
    for (now, before) in conditions.iter_mut().filter(|c| c.text("type") == kind).zip(of_type(old, kind)) {
        *now = before.clone();
    }
}

fn condition_times(new: &mut Value, old: &Value, context: &Context) {
    let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let old = old.at("status").list("conditions");
    for condition in new.child("status").list_mut("conditions") {
        condition.set_default("lastUpdateTime", now.as_str());
        let like = |c: &&Value| ["type", "status"].iter().all(|f| c.text(f) == condition.text(f));
        let before = old.iter().filter(like).map(|c| c.text("lastTransitionTime")).find(|t| !t.is_empty());
        condition.set_default("lastTransitionTime", before.unwrap_or(&now));
    }
}

fn certificate(obj: &Value) -> &str {
    obj.at("status").text("certificate")
}

fn unknown(usages: &[Value]) -> bool {
    usages.iter().any(|u| u.as_str().is_none_or(|u| !USAGES.contains(&u)))
}

fn twice<'a>(mut all: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    !all.all(|item| seen.insert(item))
}

fn types(obj: &Value) -> impl Iterator<Item = &str> {
    obj.at("status").list("conditions").iter().map(|c| c.text("type"))
}

/// What was wrong in the old object may stay so.
fn validate(obj: &Value, old: Option<&Value>) -> ErrorList {
    const SECONDS_MIN: i64 = 600;
    let mut errors = objectmeta::validate(obj, false, |_, _| Vec::new());
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let text = BASE64_STANDARD.decode(spec.text("request")).unwrap_or_default();
    let blocks = pem_blocks(std::str::from_utf8(&text).unwrap_or_default());
    if blocks.first().is_none_or(|(kind, _)| *kind != "CERTIFICATE REQUEST") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        errors.invalid(&at.child("request"), spec.at("request").clone(), detail);
    }
    let usages = spec.list("usages");
    if usages.is_empty() {
        errors.required(&at.child("usages"), "");
    }
    let before = old.map_or(&[][..], |o| o.at("spec").list("usages"));
    if !unknown(before) {
        for (i, usage) in usages.iter().filter_map(Value::as_str).enumerate() {
            errors.one_of(&at.child("usages").index(i), usage, USAGES);
        }
    }
    if !twice(before.iter().filter_map(Value::as_str)) {
        let mut seen = BTreeSet::new();
        for (i, usage) in usages.iter().filter_map(Value::as_str).enumerate() {
            if !seen.insert(usage) {
                errors.duplicate(&at.child("usages").index(i), usage);
            }
        }
    }
    let own = spec.text("signerName");
    if own == LEGACY && old.is_none_or(|o| o.at("spec").text("signerName") != LEGACY) {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.invalid(&at.child("signerName"), own, detail);
    } else {
        signer::name(own, &at.child("signerName"), &mut errors);
    }
    if let Some(seconds) = spec.int("expirationSeconds").filter(|s| *s < SECONDS_MIN) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&at.child("expirationSeconds"), seconds, detail);
    }
    conditions(obj, old, &mut errors);
    let same_as_before =
        old.is_some_and(|o| certificate(o) == certificate(obj) || bad_certificate(o).is_some());
    if !same_as_before && let Some(message) = bad_certificate(obj) {
        errors.invalid(&Path::new("status").child("certificate"), "<certificate data>", message);
    }
    errors
}

fn bad_certificate(obj: &Value) -> Option<String> {
    let coded = certificate(obj);
    if coded.is_empty() {
        return None;
    }
    let text = BASE64_STANDARD.decode(coded).unwrap_or_default();
    let blocks = pem_blocks(std::str::from_utf8(&text).unwrap_or_default());
    if blocks.is_empty() {
        return Some("must contain at least one CERTIFICATE PEM block".into());
    }
    let (kind, _) = blocks.iter().find(|(kind, _)| *kind != "CERTIFICATE")?;
    Some(format!("only CERTIFICATE PEM blocks are allowed, found {}", json!(kind)))
}

fn conditions(obj: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let has = |o: &Value, kind: &str| of_type(o, kind).next().is_some();
    let both = old.is_some_and(|o| has(o, "Approved") && has(o, "Denied"));
    let no_type = old.is_some_and(|o| types(o).any(str::is_empty));
    let doubles = old.is_some_and(|o| twice(types(o)));
    let at = Path::new("status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in obj.at("status").list("conditions").iter().enumerate() {
        let (kind, own) = (condition.text("type"), at.index(i));
        if !no_type && kind.is_empty() {
            errors.required(&own.child("type"), "");
        }
        let only_true = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed = if only_true { &["True"][..] } else { &["False", "True", "Unknown"] };
        match condition.text("status") {
            "" => errors.required(&own.child("status"), ""),
            status => errors.one_of(&own.child("status"), status, allowed),
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "-",
        };
        if !both && seen.contains(&other) {
            errors.invalid(&at, kind, "Approved and Denied conditions are mutually exclusive");
        }
        if !doubles && seen.contains(&kind) {
            errors.duplicate(&own.child("type"), kind);
        }
        seen.push(kind);
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = validate(new, Some(old));
    let at = Path::new("status").child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if of_type(new, kind).count() < of_type(old, kind).count() {
            errors.forbidden(&at, format!("updates may not remove a condition of type \"{kind}\""));
        }
    }
    if context.subresource != "approval" {
        for kind in ["Approved", "Denied"] {
            let (now, before): (Vec<_>, Vec<_>) =
                (of_type(new, kind).collect(), of_type(old, kind).collect());
            if now.len() > before.len() {
                errors.forbidden(&at, format!("updates may not add a condition of type \"{kind}\""));
            } else if now.len() == before.len() && !now.iter().zip(&before).all(|(a, b)| same(a, b)) {
                errors.forbidden(&at, format!("updates may not modify a condition of type \"{kind}\"\n"));
            }
        }
    }
    if certificate(new) != certificate(old) {
        let at = Path::new("status").child("certificate");
        if context.subresource != "status" {
            errors.forbidden(&at, "updates may not set certificate content");
        } else if !certificate(old).is_empty() {
            errors.forbidden(&at, "updates may not modify existing certificate content");
        }
    }
    errors.extend(objectmeta::validate_update(new, old));
    errors
}

fn cells(request: &Value, now: Timestamp) -> Vec<Value> {
    let spec = request.at("spec");
    let has = |kind: &str| of_type(request, kind).next().is_some();
    let mut state = String::from(match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    });
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !certificate(request).is_empty() {
        state.push_str(",Issued");
    }
    vec![
        name(request),
        age(request, now),
        or_none(spec.text("signerName")),
        spec.text("username").into(),
        spec.int("expirationSeconds").map_or("<none>".to_owned(), human).into(),
        state.into(),
    ]
}
