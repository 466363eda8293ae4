//! The paths of a group-version, and of the few documents that are none.

use serde_json::{Map, Value, json};

use super::Options;
use super::operations::{About, Action, OBJECTS, Operation, Subject, capital, reference, responses};
use super::table::Table;
use crate::schema::resources;

/// The group and version of a document that has one, and its paths.
pub fn document<'a>(
    table: &Table,
    path: &'a str,
    options: &Options,
) -> Option<(Option<(&'a str, &'a str)>, Map<String, Value>)> {
    if let Some(item) = special(path, options) {
        return Some((None, item));
    }
    let (group, version) = match path.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => ("", version),
        ["apis", group] => return Some((None, group_information(group, options)?)),
        ["apis", group, version] => (group, version),
        _ => return None,
    };
    let served: Vec<About> = resources::of(group, version)?
        .iter()
        .filter(|resource| (options.served)(group, version, resource.name))
        .map(About::from)
        .collect();
    if served.is_empty() {
        return None;
    }
    Some((Some((group, version)), group_version(table, options, group, version, &served)))
}

/// Documents that are not of a group.
fn special(path: &str, options: &Options) -> Option<Map<String, Value>> {
    let plain = json!({"type": "string"});
    let meta = |kind: &str| reference(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
    let versions = "get available API versions";
    let item = |path: &str, description: &str, id: &str, tag: &str, media: &[&str], schema: &Value| {
        let operation = operation(description, id, tag, media, schema);
        Map::from_iter([(path.to_owned(), json!({"get": operation}))])
    };
    Some(match path {
        "api" => item("/api/", versions, "getCoreAPIVersions", "core", &OBJECTS[..3], &meta("APIVersions")),
        "apis" => item("/apis/", versions, "getAPIVersions", "apis", &OBJECTS[..3], &meta("APIGroupList")),
        "version" => item(
            "/version/",
            "get the version information for this server",
            "getCodeVersion",
            "version",
            &OBJECTS[..1],
            &reference("io.k8s.apimachinery.pkg.version.Info"),
        ),
        "openid/v1/jwks" => item(
            "/openid/v1/jwks/",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            &["application/jwk-set+json"],
            &plain,
        ),
        ".well-known/openid-configuration" => item(
            "/.well-known/openid-configuration/",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            &OBJECTS[..1],
            &plain,
        ),
        "logs" if options.logs => logs(),
        _ => return None,
    })
}

fn logs() -> Map<String, Value> {
    let answers = json!({"401": {"description": "Unauthorized"}});
    let list = json!({"get": {"operationId": "logFileListHandler", "responses": answers, "tags": ["logs"]}});
    let one = json!({
        "get": {"operationId": "logFileHandler", "responses": answers, "tags": ["logs"]},
        "parameters": [{
            "description": "path to the log", "in": "path", "name": "logpath", "required": true,
            "schema": {"type": "string", "uniqueItems": true},
        }],
    });
    Map::from_iter([("/logs/".to_owned(), list), ("/logs/{logpath}".to_owned(), one)])
}

fn operation(description: &str, id: &str, tag: &str, media: &[&str], schema: &Value) -> Value {
    json!({
        "description": description, "operationId": id, "tags": [tag],
        "responses": responses(media, schema, &["200"]),
    })
}

fn group_information(group: &str, options: &Options) -> Option<Map<String, Value>> {
    options.has_group(group).then_some(())?;
    let (camel, tag) = group_names(group);
    let operation = operation(
        "get information of a group",
        &format!("get{camel}APIGroup"),
        &tag,
        &OBJECTS[..3],
        &reference("io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup"),
    );
    Some(Map::from_iter([(format!("/apis/{group}/"), json!({"get": operation}))]))
}

/// `RbacAuthorization` for operation ids and `rbacAuthorization` for tags.
fn group_names(group: &str) -> (String, String) {
    let group = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    let camel: String = group.split('.').map(capital).collect();
    let mut chars = camel.chars();
    let lower = chars.next().map(|c| c.to_ascii_lowercase().to_string() + chars.as_str());
    (camel.clone(), lower.unwrap_or_default())
}

pub fn group_version(
    table: &Table,
    options: &Options,
    group: &str,
    version: &str,
    served: &[About],
) -> Map<String, Value> {
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let (camel, tag) = group_names(group);
    let tag = format!("{tag}_{version}");
    let mut paths = Map::new();
    let media: Vec<&str> = OBJECTS.iter().copied().filter(|media| options.cbor(media)).collect();
    let discovery = operation(
        "get available resources",
        &format!("get{camel}{}APIResources", capital(version)),
        &tag,
        &media,
        &reference("io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList"),
    );
    if !served.iter().any(|resource| resource.custom) {
        paths.insert(format!("{root}/"), json!({"get": discovery}));
    }
    for resource in served {
        let parent = served.iter().find(|r| r.name == resource.name && r.subresource.is_empty());
        let subject = |all_namespaces: bool, with_path: bool| Subject {
            table,
            options,
            group,
            version,
            resource,
            parent_kind: parent.map_or(resource.kind, |parent| parent.kind),
            camel: camel.clone(),
            tag: tag.clone(),
            namespaced: resource.namespaced && !all_namespaces,
            all_namespaces,
            with_path,
        };
        resource_paths(&root, resource, &subject, &mut paths);
    }
    paths
}

fn resource_paths<'a>(
    root: &str,
    resource: &About,
    subject: &dyn Fn(bool, bool) -> Subject<'a>,
    paths: &mut Map<String, Value>,
) {
    let verbs = &resource.verbs;
    let has = |verb: &str| verbs.contains(&verb);
    let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{namespace}/{}", resource.name);
    let one = subject(false, false);
    let operations = |subject: &Subject, wanted: &[(&str, Action, bool)]| -> Vec<(String, Operation)> {
        let served = wanted.iter().filter(|(_, _, served)| *served);
        served.map(|(method, action, _)| ((*method).to_owned(), subject.operation(*action, method))).collect()
    };
    let mut add = |path: String, operations: Vec<(String, Operation)>| {
        if !operations.is_empty() {
            paths.insert(path, path_item(operations));
        }
    };
    if matches!(resource.subresource, "attach" | "exec" | "portforward" | "proxy") {
        let methods: &[&str] = match resource.subresource {
            "proxy" => &["delete", "get", "head", "options", "patch", "post", "put"],
            _ => &["get", "post"],
        };
        let all: Vec<_> = methods.iter().map(|method| (*method, Action::Connect, true)).collect();
        let path = format!("{root}{collection}/{{name}}/{}", resource.subresource);
        add(path.clone(), operations(&one, &all));
        if resource.subresource == "proxy" {
            add(format!("{path}/{{path}}"), operations(&subject(false, true), &all));
        }
        return;
    }
    let changes = [
        ("get", Action::Get, has("get")),
        ("put", Action::Put, has("update")),
        ("patch", Action::Patch, has("patch")),
    ];
    if !resource.subresource.is_empty() {
        let mut all = changes.to_vec();
        all.push(("post", Action::Post, has("create")));
        add(format!("{root}{collection}/{{name}}/{}", resource.subresource), operations(&one, &all));
        return;
    }
    let mut all = changes.to_vec();
    all.push(("delete", Action::Delete, has("delete")));
    add(format!("{root}{collection}/{{name}}"), operations(&one, &all));
    let of_collection = [
        ("get", Action::List, has("list")),
        ("post", Action::Post, has("create")),
        ("delete", Action::DeleteCollection, has("deletecollection")),
    ];
    add(format!("{root}{collection}"), operations(&one, &of_collection));
    if has("watch") && !resource.custom {
        add(format!("{root}/watch{collection}"), operations(&one, &[("get", Action::WatchList, true)]));
        add(format!("{root}/watch{collection}/{{name}}"), operations(&one, &[("get", Action::Watch, true)]));
    }
    if resource.namespaced {
        let everywhere = subject(true, false);
        let name = resource.name;
        add(format!("{root}/{name}"), operations(&everywhere, &[("get", Action::List, has("list"))]));
        let watch = [("get", Action::WatchList, has("watch") && !resource.custom)];
        add(format!("{root}/watch/{name}"), operations(&everywhere, &watch));
    }
}

/// The operations of one path; parameters that all of them have stand at the path.
fn path_item(operations: Vec<(String, Operation)>) -> Value {
    let shared: Vec<Value> = operations
        .first()
        .map(|(_, first)| first.parameters.clone())
        .unwrap_or_default()
        .into_iter()
        .filter(|parameter| operations.iter().all(|(_, other)| other.parameters.contains(parameter)))
        .collect();
    let mut item = Map::new();
    for (method, Operation { mut body, parameters }) in operations {
        let own: Vec<Value> = parameters.into_iter().filter(|p| !shared.contains(p)).collect();
        if !own.is_empty() {
            body["parameters"] = own.into();
        }
        item.insert(method, body);
    }
    if !shared.is_empty() {
        item.insert("parameters".into(), shared.into());
    }
    Value::Object(item)
}
