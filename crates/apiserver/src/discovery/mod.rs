//! What is served: `/`, `/api`, `/apis`, their groups and versions, legacy and aggregated.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

pub mod openapi;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use machinery::{Status, Value, json};
use parking_lot::Mutex;

use crate::aggregation::Routes;
use crate::front::negotiate::{Accepted, Offer, negotiate};
use crate::front::respond::{self, Answer, generic};
use crate::kinds::{GroupOrder, KindMap, Resource};
use crate::server::Core;

/// Documents that are made once for a map of kinds.
#[derive(Default)]
pub struct Cached(Mutex<Option<Documents>>);

struct Documents {
    of: Arc<KindMap>,
    routes: Arc<Routes>,
    core: (Bytes, String),
    groups: (Bytes, String),
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The description of a field of object metadata, for the default columns.
pub fn describe(field: &str) -> &'static str {
    match field {
        "name" => {
            "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
        }
        _ => {
            "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
        }
    }
}

/// All groups in the order of discovery: built-in, custom, remote and (if they are on) removed ones.
fn groups(core: &Core, map: &KindMap, routes: &Routes) -> Vec<GroupOrder> {
    let mut all = crate::aggregation::groups(map, routes);
    if core.config.serve_removed_apis {
        crate::removed::extend(map, &mut all);
    }
    all
}

/// The removed resources of a group-version, if they are served.
fn removed(core: &Core, map: &KindMap, group: &str, version: &str) -> Vec<Resource> {
    if core.config.serve_removed_apis { crate::removed::discovered(map, group, version) } else { Vec::new() }
}

fn plain(head: &http::request::Parts) -> Result<Accepted, Status> {
    negotiate(&head.headers, None, Offer::PLAIN)
}

/// Does the client want the aggregated form?
fn wants_aggregated(head: &http::request::Parts) -> bool {
    let accept = head.headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    for clause in accept.split(',').map(str::trim) {
        if clause.starts_with("application/json") {
            let has = |p: &str| clause.split(';').any(|part| part.trim() == p);
            if has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList") && has("v=v2") {
                return true;
            }
            if !clause.contains("g=") {
                return false;
            }
        }
    }
    false
}

pub fn root(core: &Core) -> Answer {
    respond::bytes(200, "application/json", respond::json(&json!({"paths": paths(core)}), true))
}

/// All paths that are served, in order; those of resources by their group and version.
pub fn paths(core: &Core) -> Vec<String> {
    let map = core.kinds.now();
    let mut paths: Vec<String> = vec![
        "/.well-known/openid-configuration".into(),
        "/api".into(),
        "/apis".into(),
        "/apis/".into(),
        "/metrics".into(),
        "/openapi/v2".into(),
        "/openapi/v3".into(),
        "/openapi/v3/".into(),
        "/openid/v1/jwks".into(),
        "/version".into(),
    ];
    for group in &groups(core, &map, &core.aggregator.now()) {
        if group.name.is_empty() {
            paths.extend(group.versions.iter().map(|v| format!("/api/{v}")));
        } else {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|v| format!("/apis/{}/{v}", group.name)));
        }
    }
    paths.push("/metrics/slis".into());
    paths.extend(crate::front::zpages::paths(core));
    paths.extend(crate::front::health::paths(core));
    paths.sort();
    paths
}

pub fn api(core: &Core, head: &http::request::Parts) -> Result<Answer, Status> {
    if wants_aggregated(head) {
        return Ok(aggregated(core, true, head));
    }
    let document = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs":
        [{"clientCIDR": "0.0.0.0/0", "serverAddress": core.config.external_address()}]});
    Ok(respond::value(200, &document, &plain(head)?))
}

pub fn apis(core: &Core, head: &http::request::Parts) -> Result<Answer, Status> {
    if wants_aggregated(head) {
        return Ok(aggregated(core, false, head));
    }
    let all = groups(core, &core.kinds.now(), &core.aggregator.now());
    let groups: Vec<Value> = all.iter().filter(|g| !g.name.is_empty()).map(describe_group).collect();
    let document = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
    Ok(respond::value(200, &document, &plain(head)?))
}

fn describe_group(group: &GroupOrder) -> Value {
    let entry =
        |version: &String| json!({"groupVersion": format!("{}/{version}", group.name), "version": version});
    let versions: Vec<Value> = group.versions.iter().map(entry).collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

pub fn group(core: &Core, name: &str, head: &http::request::Parts) -> Result<Answer, Status> {
    let all = groups(core, &core.kinds.now(), &core.aggregator.now());
    let Some(found) = all.iter().find(|g| g.name == name && !name.is_empty()) else {
        return Ok(respond::not_found_text());
    };
    let mut document = describe_group(found);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Ok(respond::value(200, &document, &plain(head)?))
}

pub fn version(
    core: &Core,
    group: &str,
    version: &str,
    head: &http::request::Parts,
) -> Result<Answer, Status> {
    let map = core.kinds.now();
    let removed = removed(core, &map, group, version);
    if !map.has_version(group, version) && removed.is_empty() {
        if map.has_group(group) {
            return Err(generic(404));
        }
        return Ok(respond::not_found_text());
    }
    if head.method != http::Method::GET {
        return Err(generic(405));
    }
    let mut resources = Vec::new();
    for resource in map.resources(group, version).iter().map(|r| &**r).chain(&removed) {
        resources.push(legacy(resource));
        for sub in &resource.subresources {
            let mut entry = json!({"name": format!("{}/{}", resource.name, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": sub.kind, "verbs": sub.verbs});
            if !sub.version.is_empty() {
                entry["group"] = sub.group.as_str().into();
                entry["version"] = sub.version.as_str().into();
            }
            resources.push(entry);
        }
    }
    let mut document = json!({"kind": "APIResourceList", "resources": resources,
        "groupVersion": machinery::GroupVersion::new(group, version).to_string()});
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Ok(respond::value(200, &document, &plain(head)?))
}

fn legacy(resource: &Resource) -> Value {
    let mut entry = json!({"name": resource.name, "singularName": resource.singular,
        "namespaced": resource.namespaced, "kind": resource.kind, "verbs": resource.verbs});
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.storage_hash.is_empty() {
        entry["storageVersionHash"] = resource.storage_hash.as_str().into();
    }
    entry
}

fn aggregated(core: &Core, legacy: bool, head: &http::request::Parts) -> Answer {
    let (map, routes) = (core.kinds.now(), core.aggregator.now());
    let (body, etag) = {
        let mut slot = core.discovery.0.lock();
        let same = |d: &Documents| Arc::ptr_eq(&d.of, &map) && Arc::ptr_eq(&d.routes, &routes);
        if !slot.as_ref().is_some_and(same) {
            let (legacy, groups) =
                (document(core, &map, &routes, true), document(core, &map, &routes, false));
            *slot = Some(Documents { core: legacy, groups, of: map, routes });
        }
        let documents = slot.as_ref().expect("just made");
        if legacy { documents.core.clone() } else { documents.groups.clone() }
    };
    let same =
        head.headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(&etag));
    let mut answer = if same {
        respond::bytes(304, AGGREGATED, Bytes::new())
    } else {
        respond::bytes(200, AGGREGATED, body)
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        answer.headers_mut().insert(ETAG, value);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

fn document(core: &Core, map: &KindMap, routes: &Routes, legacy: bool) -> (Bytes, String) {
    let items: Vec<Value> = groups(core, map, routes)
        .iter()
        .filter(|g| g.name.is_empty() == legacy)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    if let Some(remote) = routes.find(&group.name, version) {
                        let freshness = if remote.known.current { "Current" } else { "Stale" };
                        let mut described = json!({"version": version, "freshness": freshness});
                        if !remote.known.resources.is_empty() {
                            described["resources"] = remote.known.resources.clone().into();
                        }
                        return described;
                    }
                    let resources: Vec<Value> =
                        map.resources(&group.name, version).iter().map(|r| described(r)).collect();
                    let gone = removed(core, map, &group.name, version);
                    let resources: Vec<Value> =
                        resources.into_iter().chain(gone.iter().map(described)).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if legacy { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items});
    let body = respond::json(&list, false);
    let digest = ring::digest::digest(&ring::digest::SHA512, &body);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    (body, format!("\"{hex}\""))
}

fn described(resource: &Resource) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({"resource": resource.name, "responseKind": kind("", "", &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": resource.verbs});
    if resource.custom.is_some() {
        entry["responseKind"] = kind(&resource.group, &resource.version, &resource.kind);
    }
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subs: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            json!({"subresource": sub.name, "responseKind": kind(&sub.group, &sub.version, &sub.kind),
                "verbs": sub.verbs})
        })
        .collect();
    if !subs.is_empty() {
        entry["subresources"] = subs.into();
    }
    entry
}
