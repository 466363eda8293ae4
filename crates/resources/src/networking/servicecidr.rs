//! ServiceCIDRs.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::{Errors, IMMUTABLE};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::keep;
use crate::{Column, Columns, Context, Strategy, ip, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
        }
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
        spec(&cidrs(obj), &mut errors);
        errors
    },
    validate_update,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), cidrs(obj).join(",").into(), age(obj, now)],
        conditions: crate::strategy::no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["metadata"], &["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "CIDRs",
        "string",
        "",
        0,
        "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn cidrs(obj: &Value) -> Vec<&str> {
    obj.at("spec").list("cidrs").iter().filter_map(Value::as_str).collect()
}

fn spec(cidrs: &[&str], errors: &mut ErrorList) {
    let at = Path::new("spec").child("cidrs");
    if cidrs.is_empty() {
        return errors.required(&at, "at least one CIDR required");
    }
    if cidrs.len() > 2 {
        return errors.invalid_shown(&at, json!({"CIDRs": cidrs}), "may only hold up to 2 values");
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        ip::strict_cidr(&at.index(i), cidr, errors);
    }
    let v4: Vec<bool> = cidrs.iter().filter_map(|c| ip::cidr(c)).map(|c| c.address.is_ipv4()).collect();
    if v4.len() == 2 && v4[0] == v4[1] {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&at, cidrs.to_vec(), detail);
    }
}

/// The one change is from one family to two.
fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        return errors;
    }
    let at = Path::new("spec").child("cidrs");
    let (now, before) = (cidrs(new), cidrs(old));
    match (before.len(), now.len()) {
        (a, b) if a == b || (a, b) == (1, 2) => {
            for (i, (now, before)) in now.iter().zip(&before).enumerate() {
                if now != before {
                    errors.invalid(&at.index(i), *now, IMMUTABLE);
                }
            }
            if a != b {
                spec(&now, &mut errors);
            }
        }
        _ if now.is_empty() => errors.invalid(&at, Value::Null, IMMUTABLE),
        _ => errors.invalid(&at, now, IMMUTABLE),
    }
    errors
}
