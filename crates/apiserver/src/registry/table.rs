//! Tables: the columns of `kubectl get`, computed by the server.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use jiff::Timestamp;
use machinery::{Get, Status, Value, json};

use super::{Call, encode};
use crate::front::Query;
use crate::kinds::Resource;

/// Can a resource or subresource be shown as a table? Upstream has none for what is only sent, and for the status of a
/// few kinds.
pub fn has(group: &str, resource: &str, subresource: &str) -> bool {
    match subresource {
        "" => {
            !matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
                && (group, resource) != ("", "bindings")
        }
        "status" => !matches!(
            resource,
            "podgroups"
                | "resourceclaims"
                | "devicetaintrules"
                | "resourcepoolstatusrequests"
                | "customresourcedefinitions"
                | "apiservices"
        ),
        other => other == "scale",
    }
}

/// What a row carries of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub fn parse(query: &Query) -> Result<Self, Status> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::None),
            "Object" => Ok(Include::Object),
            other => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                machinery::field::go_quote(other)
            ))),
        }
    }
}

pub fn make(
    call: &Call,
    version: &str,
    objects: &[Value],
    metadata: Value,
    include: Include,
    columns: bool,
) -> Value {
    of(&call.resource, version, objects, metadata, include, columns, call.now)
}

pub fn of(
    resource: &Resource,
    version: &str,
    objects: &[Value],
    metadata: Value,
    include: Include,
    columns: bool,
    now: Timestamp,
) -> Value {
    let definitions = definitions(resource);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let (cells, conditions) = cells(resource, object, now);
            let mut row = json!({"cells": cells});
            if !conditions.is_empty() {
                row["conditions"] = conditions.into();
            }
            match include {
                Include::None => row["object"] = Value::Null,
                Include::Metadata => row["object"] = encode::partial(object.clone(), version),
                Include::Object => row["object"] = object.clone(),
            }
            row
        })
        .collect();
    let rows = if rows.is_empty() && !has_columns(resource) { Value::Null } else { rows.into() };
    let definitions = if columns { Value::Array(definitions) } else { Value::Null };
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows})
}

/// Kinds without columns of their own have no rows rather than an empty list of them.
fn has_columns(resource: &Resource) -> bool {
    resource.custom.is_some() || resource.strategy.columns.is_some()
}

fn definitions(resource: &Resource) -> Vec<Value> {
    if let Some(custom) = &resource.custom {
        return custom.column_definitions();
    }
    match &resource.strategy.columns {
        Some(columns) => columns
            .definitions
            .iter()
            .map(|(name, kind, format, priority, description)| {
                json!({"name": name, "type": kind, "format": format, "priority": priority,
                    "description": description})
            })
            .collect(),
        None => default_definitions(),
    }
}

/// The two columns of kinds that have none of their own.
pub fn default_definitions() -> Vec<Value> {
    let about = |field: &str| crate::discovery::describe(field);
    vec![
        json!({"name": "Name", "type": "string", "format": "name", "priority": 0, "description": about("name")}),
        json!({"name": "Created At", "type": "date", "format": "", "priority": 0,
            "description": about("creationTimestamp")}),
    ]
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    if let Some(custom) = &resource.custom {
        return (custom.cells(object, now), Vec::new());
    }
    match &resource.strategy.columns {
        Some(columns) => ((columns.cells)(object, now), (columns.conditions)(object)),
        None => {
            let name = machinery::meta::name(object).into();
            (vec![name, object.at("metadata").at("creationTimestamp").clone()], Vec::new())
        }
    }
}

/// The table of one Scale.
pub fn of_scale(version: &str, scale: Value, metadata: Value, now: Timestamp) -> Value {
    let about = |field: &str| crate::discovery::describe(field);
    let column = |name: &str, kind: &str, description: &str| json!({"name": name, "type": kind, "format": "", "priority": 0, "description": description});
    let created = scale.at("metadata").at("creationTimestamp").as_str().unwrap_or("");
    let cells = json!([
        machinery::meta::name(&scale),
        scale.at("spec").int("replicas").unwrap_or(0),
        scale.at("status").int("replicas").unwrap_or(0),
        crate::crd::age(created, now)
    ]);
    let columns = json!([
        column("Name", "string", about("name")),
        column("Desired", "integer", "replicas is the desired number of instances for the scaled object."),
        column(
            "Available",
            "integer",
            "replicas is the actual number of observed instances of the scaled object."
        ),
        column("Age", "string", about("creationTimestamp")),
    ]);
    let row = json!({"cells": cells, "object": encode::partial(scale, version)});
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": columns, "rows": [row]})
}
