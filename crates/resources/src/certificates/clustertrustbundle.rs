//! ClusterTrustBundles.

use std::collections::BTreeMap;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::pem_blocks;
use crate::check::Errors;
use crate::columns::{NAME, name, or_none};
use crate::objectmeta;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, signer};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "certificates.k8s.io",
    kind: "ClusterTrustBundle",
    validate: |obj, _| validate(obj, true),
    validate_update: |new, old, _| {
        let (now, before) = (new.at("spec"), old.at("spec"));
        let mut errors = validate(new, now.text("trustBundle") != before.text("trustBundle"));
        errors.extend(objectmeta::validate_update(new, old));
        let at = Path::new("spec").child("signerName");
        errors.immutable(&at, &now.text("signerName").into(), &before.text("signerName").into());
        errors
    },
    unconditional_update: false,
    selectable: &["spec.signerName"],
    select: |obj, _| obj.at("spec").text("signerName").to_owned(),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, _| vec![name(obj), or_none(obj.at("spec").text("signerName"))],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "SignerName",
        "string",
        "",
        0,
        "signerName indicates the associated signer, if any.\n\nIn order to create or update a ClusterTrustBundle that sets signerName, you must have the following cluster-scoped permission: group=certificates.k8s.io resource=signers resourceName=<the signer name> verb=attest.\n\nIf signerName is not empty, then the ClusterTrustBundle object must be named with the signer name as a prefix (translating slashes to colons). For example, for the signer name `example.com/foo`, valid ClusterTrustBundle object names include `example.com:foo:abc` and `example.com:foo:v1`.\n\nIf signerName is empty, then the ClusterTrustBundle object's name must not have such a prefix.\n\nList/watch requests for ClusterTrustBundles can filter on this field using a `spec.signerName=NAME` field selector.",
    ),
];

fn validate(obj: &Value, new_bundle: bool) -> ErrorList {
    let own = obj.at("spec").text("signerName");
    let mut errors = objectmeta::validate(obj, false, |_, _| Vec::new());
    let name = obj.at("metadata").text("name");
    if !name.is_empty() {
        let mut first = ErrorList::new();
        first.each(&Path::new("metadata").child("name"), name, signer::bundle_name(name, own));
        errors.splice(0..0, first);
    }
    if !own.is_empty() {
        signer::name(own, &Path::new("spec").child("signerName"), &mut errors);
    }
    if new_bundle {
        let at = Path::new("spec").child("trustBundle");
        bundle(obj.at("spec").text("trustBundle"), &at, &mut errors);
    }
    errors
}

fn bundle(text: &str, at: &Path, errors: &mut ErrorList) {
    const MAX: usize = 1 << 20;
    if text.len() > MAX {
        return errors.too_long(at, MAX);
    }
    let shown = "<value omitted>";
    let before = errors.len();
    let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (i, (kind, bytes)) in pem_blocks(text).into_iter().enumerate() {
        if kind != "CERTIFICATE" {
            errors.invalid(at, shown, format!("entry {i} has bad block type: {kind}"));
        } else if bytes.first() != Some(&0x30) {
            errors.invalid(at, shown, format!("entry {i} does not parse as X.509"));
        } else {
            places.entry(bytes).or_default().push(i);
        }
    }
    if errors.len() > before {
        return;
    }
    if places.is_empty() {
        errors.invalid(at, shown, "at least one trust anchor must be provided");
    }
    for places in places.values().filter(|p| p.len() > 1) {
        let places: Vec<String> = places.iter().map(usize::to_string).collect();
        errors.invalid(at, shown, format!("duplicate trust anchor (indices [{}])", places.join(" ")));
    }
}
