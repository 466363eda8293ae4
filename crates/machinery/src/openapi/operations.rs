//! One operation: its words, parameters, bodies and answers, as upstream's API installer documents them.

use serde_json::{Value, json};

use super::Options;
use super::table::Table;
use crate::schema::resources::Resource;

/// Media types of objects, of watches on top, and of patches.
pub const OBJECTS: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];
pub const STREAMS: &[&str] = &[
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/cbor-seq",
];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "patch/fieldManager", "fieldValidation", "force"];

/// What an operation does to what; enough to document it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    List,
    Get,
    Post,
    Put,
    Patch,
    Delete,
    DeleteCollection,
    Watch,
    WatchList,
    Connect,
}

/// What operations say of a resource or subresource.
#[derive(Clone)]
pub struct About<'a> {
    pub name: &'a str,
    /// "" for the resource itself.
    pub subresource: &'a str,
    /// The kind of the bodies, and its group and version.
    pub kind: &'a str,
    pub kind_group: &'a str,
    pub kind_version: &'a str,
    pub list_kind: String,
    pub namespaced: bool,
    pub verbs: Vec<&'a str>,
    /// Of a CustomResourceDefinition: JSON and YAML only, no strategic merge, no separate watch paths.
    pub custom: bool,
}

impl<'a> From<&'a Resource> for About<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self {
            name: resource.name,
            subresource: resource.subresource,
            kind: resource.kind,
            kind_group: resource.kind_group,
            kind_version: resource.kind_version,
            list_kind: format!("{}List", resource.kind),
            namespaced: resource.namespaced,
            verbs: resource.verbs.clone(),
            custom: false,
        }
    }
}

impl About<'_> {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

/// The resource that an operation is about.
pub struct Subject<'a> {
    pub table: &'a Table,
    pub options: &'a Options<'a>,
    pub group: &'a str,
    pub version: &'a str,
    /// The subresource, or the resource itself.
    pub resource: &'a About<'a>,
    /// The kind of the resource that the subresource is of.
    pub parent_kind: &'a str,
    /// `Core`, `RbacAuthorization`.
    pub camel: String,
    /// `core_v1`.
    pub tag: String,
    pub namespaced: bool,
    /// Without a namespace in the path, though the resource has one.
    pub all_namespaces: bool,
    /// `…/proxy/{path}`.
    pub with_path: bool,
}

/// An operation, and all its parameters before those that a path's operations share are moved to the path.
pub struct Operation {
    pub body: Value,
    pub parameters: Vec<Value>,
}

impl Subject<'_> {
    pub fn operation(&self, action: Action, method: &str) -> Operation {
        let mut body = json!({
            "description": self.description(action, method),
            "operationId": self.id(action, method),
            "responses": self.responses(action),
            "tags": [self.tag],
            "x-kubernetes-action": action.name(),
            "x-kubernetes-group-version-kind": self.kind(),
        });
        if let Some(request) = self.request(action) {
            body["requestBody"] = request;
        }
        Operation { body, parameters: self.parameters(action) }
    }

    fn kind(&self) -> Value {
        let about = self.resource;
        match about.custom {
            true => json!({"group": self.group, "kind": self.parent_kind, "version": self.version}),
            false => json!({"group": about.kind_group, "kind": about.kind, "version": about.kind_version}),
        }
    }

    fn description(&self, action: Action, method: &str) -> String {
        let (kind, sub) = (self.parent_kind, self.resource.subresource);
        let of_sub = |verb: &str| match sub {
            "" => format!("{verb} the specified {kind}"),
            sub => format!("{verb} {sub} of the specified {kind}"),
        };
        match action {
            Action::List if self.resource.custom || !self.resource.can("watch") => {
                format!("list objects of kind {kind}")
            }
            Action::List => format!("list or watch objects of kind {kind}"),
            Action::Get => of_sub("read"),
            Action::Put => of_sub("replace"),
            Action::Patch => of_sub("partially update"),
            Action::Post if sub.is_empty() => format!("create {}", with_article(kind)),
            Action::Post => format!("create {sub} of {}", with_article(kind)),
            Action::Delete => format!("delete {}", with_article(kind)),
            Action::DeleteCollection => format!("delete collection of {kind}"),
            Action::Watch => format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
            ),
            Action::WatchList => format!(
                "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
            ),
            Action::Connect => format!("connect {} requests to {sub} of {kind}", method.to_uppercase()),
        }
    }

    fn id(&self, action: Action, method: &str) -> String {
        let verb = match action {
            Action::List => "list",
            Action::Get => "read",
            Action::Post => "create",
            Action::Put => "replace",
            Action::Patch => "patch",
            Action::Delete | Action::DeleteCollection => "delete",
            Action::Watch | Action::WatchList => "watch",
            Action::Connect => "connect",
        };
        let mut id = format!("{verb}{}{}", self.camel, capital(self.version));
        if action == Action::Connect {
            id.push_str(&capital(method));
        }
        if action == Action::DeleteCollection {
            id.push_str("Collection");
        }
        if self.namespaced {
            id.push_str("Namespaced");
        }
        id.push_str(self.parent_kind);
        id.push_str(&match self.resource.subresource {
            "ephemeralcontainers" => "Ephemeralcontainers".to_owned(),
            sub => capital(sub),
        });
        if action == Action::WatchList {
            id.push_str("List");
        }
        if self.all_namespaces {
            id.push_str("ForAllNamespaces");
        }
        if self.with_path {
            id.push_str("WithPath");
        }
        id
    }

    fn type_ref(&self, kind: &str, group: &str, version: &str) -> Value {
        if self.resource.custom && group == self.group {
            return reference(&super::custom::type_name(group, version, kind));
        }
        reference(self.table.type_of(group, version, kind).unwrap_or(kind))
    }

    fn own_type(&self) -> Value {
        let resource = self.resource;
        self.type_ref(resource.kind, resource.kind_group, resource.kind_version)
    }

    fn request(&self, action: Action) -> Option<Value> {
        let meta = |kind: &str| reference(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
        Some(match action {
            Action::Post | Action::Put => {
                json!({"content": content(self.taken(), &self.own_type()), "required": true})
            }
            Action::Patch => {
                let custom = self.resource.custom;
                let taken = |media: &&str| {
                    self.options.cbor(media) && !(custom && media.starts_with("application/strategic"))
                };
                let media: Vec<&str> = PATCHES.iter().copied().filter(taken).collect();
                json!({"content": content(&media, &meta("Patch")), "required": true})
            }
            Action::DeleteCollection if self.resource.custom => return None,
            Action::Delete | Action::DeleteCollection => {
                json!({"content": content(self.taken(), &meta("DeleteOptions"))})
            }
            _ => return None,
        })
    }

    /// What bodies may be, other than patches.
    fn taken(&self) -> &'static [&'static str] {
        if self.resource.custom { &OBJECTS[..2] } else { &["*/*"] }
    }

    fn responses(&self, action: Action) -> Value {
        if self.resource.custom {
            let (answer, codes): (Value, &[&str]) = match action {
                Action::List => (self.type_ref(&self.resource.list_kind, self.group, self.version), &["200"]),
                Action::DeleteCollection => (self.deleted_type(), &["200"]),
                Action::Delete => (self.deleted_type(), &["200", "202"]),
                Action::Post => (self.own_type(), &["200", "201", "202"]),
                Action::Put => (self.own_type(), &["200", "201"]),
                _ => (self.own_type(), &["200"]),
            };
            return responses(&OBJECTS[..2], &answer, codes);
        }
        let objects: Vec<&str> = OBJECTS.iter().copied().filter(|m| self.options.cbor(m)).collect();
        let mut streaming = objects.clone();
        streaming.extend(STREAMS.iter().filter(|m| self.options.cbor(m)));
        let status = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
        let (media, answer, codes): (&[&str], Value, &[&str]) = match action {
            Action::List => {
                (&streaming, self.type_ref(&self.resource.list_kind, self.group, self.version), &["200"])
            }
            Action::Watch | Action::WatchList => {
                (&streaming, reference("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"), &["200"])
            }
            Action::Get if self.resource.subresource == "log" => {
                let media: Vec<&str> = std::iter::once("text/plain").chain(objects).collect();
                return responses(&media, &json!({"type": "string"}), &["200"]);
            }
            Action::Get => (&objects, self.own_type(), &["200"]),
            Action::Post => (&objects, self.own_type(), &["200", "201", "202"]),
            Action::Put | Action::Patch => (&objects, self.own_type(), &["200", "201"]),
            Action::Delete => (&objects, self.deleted_type(), &["200", "202"]),
            Action::DeleteCollection => (&objects, reference(status), &["200"]),
            Action::Connect => (&["*/*"], json!({"type": "string"}), &["200"]),
        };
        responses(media, &answer, codes)
    }

    /// A few storages answer a deletion with the object, all others with a Status.
    fn deleted_type(&self) -> Value {
        const WITH_OBJECT: &[(&str, &str)] = &[
            ("", "persistentvolumeclaims"),
            ("", "persistentvolumes"),
            ("", "pods"),
            ("", "podtemplates"),
            ("", "resourcequotas"),
            ("", "serviceaccounts"),
            ("", "services"),
            ("resource.k8s.io", "deviceclasses"),
            ("resource.k8s.io", "devicetaintrules"),
            ("resource.k8s.io", "resourceclaims"),
            ("resource.k8s.io", "resourceclaimtemplates"),
            ("resource.k8s.io", "resourcepoolstatusrequests"),
            ("resource.k8s.io", "resourceslices"),
            ("storage.k8s.io", "csidrivers"),
            ("storage.k8s.io", "csinodes"),
            ("storage.k8s.io", "storageclasses"),
            ("storage.k8s.io", "volumeattachments"),
            ("storage.k8s.io", "volumeattributesclasses"),
        ];
        if WITH_OBJECT.contains(&(self.group, self.resource.name)) {
            return self.own_type();
        }
        reference("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
    }

    fn parameters(&self, action: Action) -> Vec<Value> {
        let resource = self.resource;
        let mut names: Vec<&str> = match action {
            Action::List | Action::Watch | Action::WatchList => LIST.to_vec(),
            Action::Get if resource.custom => vec!["resourceVersion"],
            Action::Get | Action::Connect => Vec::new(),
            Action::Post | Action::Put => WRITE.to_vec(),
            Action::Patch => PATCH.to_vec(),
            Action::Delete => DELETE.to_vec(),
            Action::DeleteCollection if resource.custom => LIST.to_vec(),
            Action::DeleteCollection => [DELETE_COLLECTION, DELETE].concat(),
        };
        if action != Action::Connect {
            names.push("pretty");
        }
        if self.namespaced && !self.all_namespaces {
            names.push("namespace");
        }
        if self.with_path {
            names.push("path");
        }
        let mut parameters: Vec<Value> =
            names.into_iter().filter_map(|name| self.table.parameter(name)).collect();
        let own = match resource.subresource {
            "proxy" => format!("{}/proxy", resource.name),
            sub => sub.to_owned(),
        };
        if action == Action::Connect || resource.subresource == "log" {
            parameters.extend(self.table.parameters_of(&own));
        }
        let of_one = match action {
            Action::List | Action::DeleteCollection | Action::WatchList => false,
            Action::Post => !resource.subresource.is_empty(),
            _ => true,
        };
        if of_one {
            let kind = if resource.custom { self.parent_kind } else { resource.kind };
            parameters.push(json!({
                "description": format!("name of the {kind}"), "in": "path", "name": "name", "required": true,
                "schema": {"type": "string", "uniqueItems": true},
            }));
        }
        parameters.sort_by(|a, b| order(a).cmp(&order(b)));
        parameters
    }
}

fn order(parameter: &Value) -> (String, String) {
    let text = |key: &str| parameter[key].as_str().unwrap_or("").to_owned();
    (text("name"), text("in"))
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Get => "get",
            Action::Post => "post",
            Action::Put => "put",
            Action::Patch => "patch",
            Action::Delete => "delete",
            Action::DeleteCollection => "deletecollection",
            Action::Watch => "watch",
            Action::WatchList => "watchlist",
            Action::Connect => "connect",
        }
    }
}

pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn content(media: &[&str], schema: &Value) -> Value {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect()
}

/// Answers of these codes, and the 401 that all have.
pub fn responses(media: &[&str], schema: &Value, codes: &[&str]) -> Value {
    let mut out = json!({"401": {"description": "Unauthorized"}});
    for code in codes {
        let words = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        out[*code] = json!({"content": content(media, schema), "description": words});
    }
    out
}

fn with_article(kind: &str) -> String {
    // The one kind that is a plural.
    if kind == "Endpoints" {
        return kind.to_owned();
    }
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

pub fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
