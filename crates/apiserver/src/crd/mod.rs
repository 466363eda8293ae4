//! Custom resources: definitions become served kinds.

mod columns;
mod definition;
mod publish;
mod version;

pub use columns::age;
pub use definition::{plan_delete, prepare};
pub use publish::start;
pub use version::CustomVersion;

use machinery::Status;

use crate::cache::Entry;
use crate::front::RequestInfo;
use crate::front::respond::Answer;
use crate::registry::Call;
use crate::server::Core;

/// The answer for a resource whose definition is there but not yet established.
pub fn not_yet(_core: &Core, _info: &RequestInfo) -> Option<Result<Answer, Status>> {
    None
}

/// A write went through: when a definition was written, the answer waits until what it says is served.
pub async fn after_write(call: &Call, entry: &Entry) {
    if call.resource.group == "apiextensions.k8s.io" {
        let _ = call.core.caught_up(entry.revision).await;
    }
}

/// OpenAPI documents of custom groups: path and what their hash is made of.
pub fn openapi_paths(core: &Core) -> Vec<(String, String)> {
    let map = core.kinds.now();
    let mut out = Vec::new();
    for group in map.groups.iter().filter(|g| g.custom) {
        for version in &group.versions {
            let path = format!("apis/{}/{version}", group.name);
            let Some(text) = openapi_document(core, &path) else { continue };
            out.push((path, text));
        }
    }
    out
}

/// The schemas of a custom group-version.
pub fn openapi_document(core: &Core, path: &str) -> Option<String> {
    let ["apis", group, version] = path.split('/').collect::<Vec<_>>()[..] else { return None };
    let map = core.kinds.now();
    let resources = map.resources(group, version);
    if resources.first().is_none_or(|r| r.custom.is_none()) {
        return None;
    }
    let mut schemas = machinery::Map::new();
    let mut paths = machinery::Map::new();
    let reversed: Vec<&str> = group.split('.').rev().collect();
    for resource in resources {
        let Some(custom) = &resource.custom else { continue };
        let gvk = machinery::json!([{"group": group, "version": version, "kind": resource.kind}]);
        let mut schema = custom.open_api.clone();
        if !schema.is_object() {
            schema = machinery::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        }
        schema["x-kubernetes-group-version-kind"] = gvk.clone();
        let name = format!("{}.{version}.{}", reversed.join("."), resource.kind);
        schemas.insert(name, schema);
        let scope = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
        let path = format!("/apis/{group}/{version}/{scope}{}/{{name}}", resource.name);
        let action =
            machinery::json!({"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": gvk[0]});
        paths.insert(path, machinery::json!({"get": action}));
    }
    let document = machinery::json!({"openapi": "3.0.0",
        "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "paths": paths, "components": {"schemas": schemas}});
    Some(document.to_string())
}
