//! ResourceSlices.

use machinery::field::{Path, go_quote};
use machinery::{Get, Value};

use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, generation_by_spec};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "ResourceSlice",
    default: |obj, context| {
        let Some(spec) = obj.child_if("spec") else { return };
        for device in spec.list_mut("devices") {
            let device = match context.version {
                "v1beta1" => device.child_if("basic"),
                _ => Some(device),
            };
            for taint in device.map(|d| d.list_mut("taints")).into_iter().flatten() {
                super::default_taint(taint, context.now);
            }
        }
    },
    prepare_create: |obj, context| {
        obj.child("metadata").set("generation", 1);
        drop_disabled(obj, &Value::Null, context);
    },
    prepare_update: |new, old, context| {
        generation_by_spec(new, old);
        drop_disabled(new, old, context);
    },
    validate: |obj, context| {
        let obj = super::as_v1(obj, context, convert);
        let mut errors = objectmeta::validate(&obj, false, names::subdomain_name);
        super::devices::spec(obj.at("spec"), &Value::Null, &Path::new("spec"), &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let (new, old) = (super::as_v1(new, context, convert), super::as_v1(old, context, convert));
        let mut errors = objectmeta::validate_update(&new, &old);
        super::devices::spec(new.at("spec"), old.at("spec"), &Path::new("spec"), &mut errors);
        errors
    },
    warnings: |obj, _, _| {
        let driver = obj.at("spec").text("driver");
        if driver == driver.to_lowercase() {
            return Vec::new();
        }
        let driver = go_quote(driver);
        vec![format!("spec.driver: driver names should be lowercase; {driver} contains uppercase characters")]
    },
    selectable: &["spec.nodeName", "spec.driver"],
    select: |obj, field| obj.at("spec").text(field.trim_start_matches("spec.")).to_owned(),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let spec = obj.at("spec");
            vec![
                name(obj),
                spec.text("nodeName").into(),
                spec.text("driver").into(),
                spec.at("pool").text("name").into(),
                age(obj, now),
            ]
        },
        conditions: no_conditions,
    }),
    storage: "v1",
    convert,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Node",
        "string",
        "",
        0,
        "NodeName identifies the node which provides the resources in this pool. A field selector can be used to list only ResourceSlice objects belonging to a certain node.\n\nThis field can be used to limit access from nodes to ResourceSlices with the same node name. It also indicates to autoscalers that adding new nodes of the same type as some old node might also make new resources available.\n\nExactly one of NodeName, NodeSelector, AllNodes, and PerDeviceNodeSelection must be set. This field is immutable.",
    ),
    (
        "Driver",
        "string",
        "",
        0,
        "Driver identifies the DRA driver providing the capacity information. A field selector can be used to list only ResourceSlice objects with a certain driver name.\n\nMust be a DNS subdomain and should end with a DNS domain owned by the vendor of the driver. It should use only lower case characters. This field is immutable.",
    ),
    (
        "Pool",
        "string",
        "",
        0,
        "Name is used to identify the pool. For node-local devices, this is often the node name, but this is not required.\n\nIt must not be longer than 253 characters and must consist of one or more DNS sub-domains separated by slashes. This field is immutable.",
    ),
    ("Age", "string", "", 0, CREATED),
];

/// v1beta1 has a device's properties one level deeper.
fn convert(obj: &mut Value, from: &str, to: &str) {
    if (from == "v1beta1") == (to == "v1beta1") || !obj.at("spec").has("devices") {
        return;
    }
    for device in obj.child("spec").list_mut("devices") {
        if to == "v1beta1" {
            super::wrap_part(device, "basic", &["name"]);
        } else {
            super::unwrap_part(device, "basic");
        }
    }
}

/// Takes out what the features that are off would bring, unless the slice had it before.
fn drop_disabled(obj: &mut Value, old: &Value, context: &Context) {
    let basic = context.version == "v1beta1";
    let inner = |device: &Value| if basic { device.at("basic").clone() } else { device.clone() };
    let before: Vec<Value> = old.at("spec").list("devices").iter().map(inner).collect();
    let had_lists = before.iter().any(|device| {
        let attributes = device.map("attributes").into_iter().flatten();
        attributes.into_iter().any(|(_, a)| LISTS.iter().any(|field| a.has(field)))
    });
    let had_mappings = before.iter().any(|d| d.has("nodeAllocatableResourceMappings"));
    let Some(spec) = obj.child_if("spec") else { return };
    for device in spec.list_mut("devices") {
        let Some(device) = (if basic { device.child_if("basic") } else { Some(device) }) else { continue };
        if !had_mappings && !context.enabled("DRANodeAllocatableResources") {
            device.unset("nodeAllocatableResourceMappings");
        }
        if had_lists || context.enabled("DRAListTypeAttributes") {
            continue;
        }
        if let Some(Value::Object(attributes)) = device.get_mut("attributes") {
            for attribute in attributes.values_mut() {
                for field in LISTS {
                    attribute.unset(field);
                }
            }
        }
    }
}

/// Attributes with more than one value.
const LISTS: &[&str] = &["bools", "ints", "strings", "versions"];
