//! ResourceSlices.

use machinery::Get;
use machinery::field::Path;

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, generation_by_spec};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "ResourceSlice",
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| objectmeta::validate(obj, false, names::subdomain_name),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        let (now, before) = (new.at("spec"), old.at("spec"));
        let pool = |spec: &machinery::Value| spec.at("pool").text("name").into();
        let at = Path::new("spec");
        errors.immutable(&at.child("pool").child("name"), &pool(now), &pool(before));
        errors.immutable(&at.child("driver"), now.at("driver"), before.at("driver"));
        errors.immutable(&at.child("nodeName"), now.at("nodeName"), before.at("nodeName"));
        errors
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
    // v1beta1 has a device's properties one level deeper
    convert: |obj, from, to| {
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
    },
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
