//! The published description of the API: `/openapi/v3` per group-version, and `/openapi/v2`.
//!
//! Types and parameters come from a deflated table (`cargo xtask codegen` writes it) that is inflated for the time of
//! one request; paths are derived from [`crate::schema::resources`]. [`v3`] and [`v2`] give JSON text.

mod operations;
mod paths;
mod table;
mod v2;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::schema::resources::group_versions;
pub use table::Table;

/// The documents there are, as the paths below `/openapi/v3/`.
pub fn v3_paths() -> Vec<String> {
    let mut paths: Vec<String> =
        ["api", "apis", "logs", "openid/v1/jwks", "version", ".well-known/openid-configuration"]
            .map(str::to_owned)
            .to_vec();
    for served in group_versions() {
        if served.group.is_empty() {
            paths.push(format!("api/{}", served.version));
        } else {
            paths.push(format!("apis/{}", served.group));
            paths.push(format!("apis/{}/{}", served.group, served.version));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// One document, `None` if there is none of that path (see [`v3_paths`]).
pub fn v3(path: &str) -> Option<String> {
    let table = Table::load();
    let (group_version, paths) = paths::document(&table, path)?;
    Some(assemble(&table, &paths, group_version))
}

/// The whole API in one OpenAPI v2 document.
pub fn v2() -> String {
    v2::document(&Table::load()).to_string()
}

/// Paths with all the types they refer to. Types that are of every group-version (DeleteOptions, WatchEvent) name only
/// this one.
fn assemble(table: &Table, paths: &Map<String, Value>, group_version: Option<(&str, &str)>) -> String {
    let paths = Value::Object(paths.clone()).to_string();
    let mut wanted = BTreeSet::new();
    let mut pending = references(&paths);
    while let Some(name) = pending.pop() {
        if let Some(schema) = table.schema(name)
            && wanted.insert(name)
        {
            pending.extend(references(schema));
        }
    }
    let schemas: Vec<String> = wanted
        .iter()
        .filter_map(|name| {
            let schema = table.schema(name)?;
            Some(format!("{}:{}", Value::from(*name), narrow(schema, group_version)))
        })
        .collect();
    let security = json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    }});
    let info = json!({"title": "Kubernetes", "version": "unversioned"});
    let schemas =
        if schemas.is_empty() { String::new() } else { format!("\"schemas\":{{{}}},", schemas.join(",")) };
    format!(
        "{{\"components\":{{{schemas}\"securitySchemes\":{security}}},\"info\":{info},\"openapi\":\"3.0.0\",\"paths\":{paths}}}"
    )
}

fn references(json: &str) -> Vec<&str> {
    const PREFIX: &str = "\"#/components/schemas/";
    json.match_indices(PREFIX).filter_map(|(at, _)| json[at + PREFIX.len()..].split('"').next()).collect()
}

/// A schema as one group-version's document shows it: what every group-version has (DeleteOptions, WatchEvent) is of the
/// core and of this one.
fn narrow(schema: &str, group_version: Option<(&str, &str)>) -> String {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    if !schema.contains(KINDS) {
        return schema.to_owned();
    }
    let Ok(mut value) = serde_json::from_str::<Value>(schema) else { return schema.to_owned() };
    if let Some(kinds) = value.get_mut(KINDS).and_then(Value::as_array_mut)
        && kinds.len() > 1
    {
        kinds.truncate(1);
        let kind = kinds[0]["kind"].clone();
        if let Some((group, version)) = group_version.filter(|gv| *gv != ("", "v1")) {
            kinds.push(json!({"group": group, "kind": kind, "version": version}));
        }
    }
    value.to_string()
}
