//! The published description of the API: `/openapi/v3` per group-version, and `/openapi/v2`.
//!
//! Types and parameters come from a deflated table (`cargo xtask codegen` writes it) that is inflated for the time of
//! one request; paths are derived from [`crate::schema::resources`]. [`v3`] and [`v2`] give JSON text, [`proto`] turns
//! it into the protobuf form. Nothing is kept between calls.

mod custom;
mod operations;
mod paths;
pub mod proto;
mod table;
mod v2;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::schema::resources::group_versions;
pub use custom::Custom;
pub use table::Table;

/// What a server serves, and what its documents say of it.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// `info.version`: `1.36`.
    pub version: &'a str,
    /// Group, version and (plural) resource.
    pub served: &'a dyn Fn(&str, &str, &str) -> bool,
    /// CBOR is among the encodings (feature gate `CBORServingAndStorage`).
    pub cbor: bool,
    /// `/logs` is served (`--enable-logs-handler`).
    pub logs: bool,
    /// The served versions of custom resources.
    pub custom: &'a [Custom<'a>],
}

impl Options<'_> {
    /// Is this media type one of those that are served?
    fn cbor(&self, media: &str) -> bool {
        self.cbor || !media.contains("cbor")
    }

    fn has_version(&self, group: &str, version: &str) -> bool {
        crate::schema::resources::of(group, version)
            .is_some_and(|all| all.iter().any(|r| (self.served)(group, version, r.name)))
    }

    fn has_group(&self, group: &str) -> bool {
        group_versions().iter().any(|v| v.group == group && self.has_version(v.group, v.version))
    }
}

/// The documents there are, as the paths below `/openapi/v3/`, sorted.
pub fn v3_paths(options: &Options) -> Vec<String> {
    let mut paths: Vec<String> =
        ["api", "apis", "openid/v1/jwks", "version", ".well-known/openid-configuration"]
            .map(str::to_owned)
            .to_vec();
    if options.logs {
        paths.push("logs".to_owned());
    }
    for served in group_versions().iter().filter(|v| options.has_version(v.group, v.version)) {
        if served.group.is_empty() {
            paths.push(format!("api/{}", served.version));
        } else {
            paths.push(format!("apis/{}", served.group));
            paths.push(format!("apis/{}/{}", served.group, served.version));
        }
    }
    paths.extend(options.custom.iter().map(|c| format!("apis/{}/{}", c.group, c.version)));
    paths.sort();
    paths.dedup();
    paths
}

/// One document, `None` if there is none of that path (see [`v3_paths`]).
pub fn v3(path: &str, options: &Options) -> Option<String> {
    let table = Table::load();
    if let Some((paths, schemas)) = custom::document(&table, path, options) {
        let info = json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"});
        return Some(assemble(&table, &paths, &schemas, &info, custom::narrow));
    }
    let (group_version, paths) = paths::document(&table, path, options)?;
    let info = json!({"title": "Kubernetes", "version": options.version});
    Some(assemble(&table, &paths, &BTreeMap::new(), &info, |schema| narrow(schema, group_version)))
}

/// The whole API in one OpenAPI v2 document.
pub fn v2(options: &Options) -> String {
    v2::document(&Table::load(), options)
}

/// Paths with all the types they refer to, those in `own` and those of the table.
fn assemble(
    table: &Table,
    paths: &Map<String, Value>,
    own: &BTreeMap<String, String>,
    info: &Value,
    narrow: impl Fn(&str) -> String,
) -> String {
    let paths = Value::Object(paths.clone()).to_string();
    let wanted = closure(table, own, &paths, "\"#/components/schemas/");
    let schemas: Vec<String> = wanted
        .iter()
        .filter_map(|name| {
            let schema = match own.get(*name) {
                Some(own) => own.clone(),
                None => narrow(table.schema(name)?),
            };
            Some(format!("{}:{schema}", Value::from(*name)))
        })
        .collect();
    let schemas =
        if schemas.is_empty() { String::new() } else { format!("\"schemas\":{{{}}}", schemas.join(",")) };
    // custom resources say nothing of security
    let security = json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    }});
    let security = if own.is_empty() { format!("\"securitySchemes\":{security}") } else { String::new() };
    let comma = if schemas.is_empty() || security.is_empty() { "" } else { "," };
    format!(
        "{{\"components\":{{{schemas}{comma}{security}}},\"info\":{info},\"openapi\":\"3.0.0\",\"paths\":{paths}}}"
    )
}

/// The names of all types that a text refers to, by itself or through other types.
fn closure<'a>(
    table: &'a Table,
    own: &'a BTreeMap<String, String>,
    text: &str,
    prefix: &str,
) -> BTreeSet<&'a str> {
    let mut wanted = BTreeSet::new();
    let mut pending: Vec<&str> = references(text, prefix);
    while let Some(name) = pending.pop() {
        let known = own.get_key_value(name).map(|(name, schema)| (name.as_str(), schema.as_str()));
        if let Some((name, schema)) = known.or_else(|| table.entry(name))
            && wanted.insert(name)
        {
            pending.extend(references(schema, "\"#/components/schemas/"));
        }
    }
    wanted
}

fn references<'a>(json: &'a str, prefix: &str) -> Vec<&'a str> {
    json.match_indices(prefix).filter_map(|(at, _)| json[at + prefix.len()..].split('"').next()).collect()
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
