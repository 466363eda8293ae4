//! The status of a claim: what was allocated, for whom, and what drivers say of it.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::claims::{configuration, request_ref, request_refs};
use super::common::{self as own, list, set};
use crate::check::{self, Errors, IMMUTABLE, label_name, same};
use crate::internal;
use crate::names;
use crate::pod::plugins::csi_driver;
use crate::pod::scheduling::node_selector;

/// (new, old): claims in the shape of v1.
pub(super) fn status(claim: &Value, old: &Value, errors: &mut ErrorList) {
    let (status, before, at) = (claim.at("status"), old.at("status"), Path::new("status"));
    let devices = claim.at("spec").at("devices");
    let users = status.list("reservedFor");
    set(
        users,
        Some(256),
        |u| u.text("uid").into(),
        &at.child("reservedFor"),
        errors,
        |user, at, errors| {
            for field in ["resource", "name", "uid"] {
                if user.text(field).is_empty() {
                    errors.required(&at.child(field), "");
                }
            }
        },
    );
    let allocation = status.at("allocation");
    let allocated: Vec<String> = results(status).iter().map(device_id).collect();
    reports(status.list("devices"), &allocated, &at.child("devices"), errors);
    if !users.is_empty() {
        let at = at.child("reservedFor");
        if allocation.is_null() {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if claim.at("metadata").has("deletionTimestamp")
            && users.iter().any(|user| !before.list("reservedFor").contains(user))
        {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&at, detail);
        }
    }
    let at = at.child("allocation");
    if allocation.is_null() {
        return;
    }
    if before.has("allocation") {
        if !same(allocation, before.at("allocation")) {
            let shown = internal::compact("resource.AllocationResult", allocation);
            errors.invalid_shown(&at, shown, IMMUTABLE);
        }
        return;
    }
    result(allocation.at("devices"), devices, &at.child("devices"), errors);
    if allocation.has("nodeSelector") {
        node_selector(allocation.at("nodeSelector"), false, &at.child("nodeSelector"), errors);
    }
}

/// Reports on devices that are no longer allocated go with the allocation.
pub(super) fn drop_reports(claim: &mut Value, old: &Value) {
    let before: Vec<String> = results(old.at("status")).iter().map(device_id).collect();
    let now: Vec<String> = results(claim.at("status")).iter().map(device_id).collect();
    let Some(status) = claim.child_if("status") else { return };
    let Some(Value::Array(reports)) = status.get_mut("devices") else { return };
    reports.retain(|report| {
        let id = device_id(report);
        !before.contains(&id) || now.contains(&id)
    });
    if reports.is_empty() {
        status.unset("devices");
    }
}

fn results(status: &Value) -> &[Value] {
    status.at("allocation").at("devices").list("results")
}

/// As upstream shows it.
fn device_id(device: &Value) -> String {
    let show = |field: &str| Value::from(device.text(field)).to_string();
    format!(
        r#"{{"Driver":{},"Pool":{},"Device":{},"ShareID":{}}}"#,
        show("driver"),
        show("pool"),
        show("device"),
        show("shareID")
    )
}

fn result(result: &Value, devices: &Value, at: &Path, errors: &mut ErrorList) {
    list(result.list("results"), 32, &at.child("results"), errors, |result, at, errors| {
        request_ref(result.text("request"), devices, &at.child("request"), errors);
        csi_driver(result.text("driver"), &at.child("driver"), errors);
        own::pool(result.text("pool"), &at.child("pool"), errors);
        own::label(result.text("device"), &at.child("device"), errors);
        binding_conditions(result, at, errors);
        if let Some(id) = result.at("shareID").as_str() {
            own::share_id(id, &at.child("shareID"), errors);
        }
    });
    list(result.list("config"), 64, &at.child("config"), errors, |config, at, errors| {
        match config.text("source") {
            "" => errors.required(&at.child("source"), ""),
            source => errors.one_of(&at.child("source"), source, &["FromClaim", "FromClass"]),
        }
        request_refs(config.list("requests"), devices, &at.child("requests"), errors);
        configuration(config, false, at, errors);
    });
}

/// The conditions that must hold before a pod is bound, and those that end the wait: both or none.
pub(super) fn binding_conditions(device: &Value, at: &Path, errors: &mut ErrorList) {
    let wanted = device.list("bindingConditions");
    let failures = device.list("bindingFailureConditions");
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    for (field, items) in [("bindingConditions", wanted), ("bindingFailureConditions", failures)] {
        list(items, 4, &at.child(field), errors, |name, at, errors| label_name(&text(name), at, errors));
    }
    for (field, items) in [("bindingConditions", wanted), ("bindingFailureConditions", failures)] {
        for (i, name) in items.iter().enumerate() {
            let at = at.child(field).index(i);
            if items[..i].contains(name) {
                errors.duplicate(&at, name.clone());
            }
            if field == "bindingFailureConditions" && wanted.contains(name) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.invalid(&at, name.clone(), detail);
            }
        }
    }
    let missing = |errors: &mut ErrorList, field: &str, other: &str| {
        let detail = format!("{field} are required to use {other}");
        errors.invalid(&at.child(field), device.at(field).clone(), detail);
    };
    match (wanted.is_empty(), failures.is_empty()) {
        (true, false) => missing(errors, "bindingConditions", "bindingFailureConditions"),
        (false, true) => missing(errors, "bindingFailureConditions", "bindingConditions"),
        _ => {}
    }
}

fn reports(reports: &[Value], allocated: &[String], at: &Path, errors: &mut ErrorList) {
    for (i, report) in reports.iter().enumerate() {
        let at = at.index(i);
        csi_driver(report.text("driver"), &at.child("driver"), errors);
        own::pool(report.text("pool"), &at.child("pool"), errors);
        own::label(report.text("device"), &at.child("device"), errors);
        if let Some(id) = report.at("shareID").as_str() {
            own::share_id(id, &at.child("shareID"), errors);
        }
        let id = device_id(report);
        if !allocated.contains(&id) {
            errors.invalid_shown(&at, id, "must be an allocated device in the claim");
        }
        let conditions = report.list("conditions");
        if conditions.len() > 8 {
            errors.too_many(&at.child("conditions"), conditions.len(), 8);
        }
        check::conditions(conditions, &at.child("conditions"), errors);
        if report.has("data") {
            own::raw(report.at("data"), false, &at.child("data"), errors);
        }
        network(report.at("networkData"), &at.child("networkData"), errors);
    }
    let ids: Vec<String> = reports.iter().map(device_id).collect();
    for (i, id) in ids.iter().enumerate() {
        if ids[..i].contains(id) {
            errors.duplicate_shown(&at.index(i), id);
        }
    }
}

fn network(data: &Value, at: &Path, errors: &mut ErrorList) {
    for (field, max) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if data.text(field).len() > max {
            errors.too_long(&at.child(field), max);
        }
    }
    set(data.list("ips"), Some(16), Value::clone, &at.child("ips"), errors, |ip, at, errors| {
        let ip = ip.as_str().unwrap_or("");
        errors.each(at, ip, names::interface_address(ip));
    });
}
