//! One served version of a custom resource.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use machinery::crd::{self, Validator};
use machinery::field::{Error, ErrorList, Path};
use machinery::schema::Schema;
use machinery::{Get, Value, json};
use resources::apiextensions::{Findings, Rules};

use super::columns::Column;
use super::conversion::{Conversion, schema_of};
use crate::cache::Fields;

pub struct CustomVersion {
    /// `None`: anything goes (`x-kubernetes-preserve-unknown-fields` at the root).
    pub schema: Option<Schema>,
    pub conversion: Arc<Conversion>,
    rules: OnceLock<Rules>,
    pub columns: Vec<Column>,
    /// The fields that this version is selected by.
    pub selectable: Fields,
    /// The schema as the definition has it, for OpenAPI and validation.
    pub open_api: Value,
    validator: Validator,
    api_version: String,
    kind: String,
    pub has_status: bool,
    /// Nothing new is made: the definition is going.
    pub terminating: bool,
    /// What every answer of this version warns of.
    pub deprecation: Option<String>,
    /// `subresources.scale` of the definition, paths without the leading dot.
    pub scale: Option<ScalePaths>,
}

pub struct ScalePaths {
    pub replicas: String,
    pub status_replicas: String,
    pub selector: String,
}

/// `selectableFields` of one version, without the leading dots.
pub fn selectable_paths(version: &Value) -> Vec<String> {
    let fields = version.list("selectableFields");
    fields.iter().map(|field| field.text("jsonPath").trim_start_matches('.').to_owned()).collect()
}

fn find<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |at, name| at.at(name))
}

impl CustomVersion {
    /// From a definition and one of its versions.
    pub fn new(definition: &Value, version: &Value, conversion: Arc<Conversion>) -> Self {
        let open_api = version.at("schema").at("openAPIV3Schema").clone();
        let spec = definition.at("spec");
        let deprecation = (version.flag("deprecated") == Some(true)).then(|| {
            let given = version.text("deprecationWarning");
            if given.is_empty() {
                let (group, kind) = (spec.text("group"), spec.at("names").text("kind"));
                format!("{group}/{} {kind} is deprecated", version.text("name"))
            } else {
                given.to_owned()
            }
        });
        Self {
            schema: Some(schema_of(definition, version)),
            conversion,
            rules: OnceLock::new(),
            columns: Column::all(version),
            selectable: Fields::paths(selectable_paths(version)),
            validator: Validator::new(&open_api),
            open_api,
            api_version: format!("{}/{}", spec.text("group"), version.text("name")),
            kind: spec.at("names").text("kind").to_owned(),
            terminating: machinery::meta::is_deleting(definition),
            has_status: version.at("subresources").has("status"),
            deprecation,
            scale: super::publish::scale_paths(version),
        }
    }

    pub fn column_definitions(&self) -> Vec<Value> {
        self.columns.iter().map(Column::definition).collect()
    }

    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.columns.iter().map(|c| c.cell(object, now)).collect()
    }

    /// Drops what the schema does not know, below the metadata.
    pub fn prune(&self, object: &mut Value) {
        if let Some(schema) = &self.schema {
            super::prune::keeping_meta(object, |object| drop(machinery::schema::prune(schema, object)));
        }
    }

    /// Fills in what the schema gives as defaults.
    pub fn default(&self, object: &mut Value) {
        if let Some(schema) = &self.schema {
            super::prune::keeping_meta(object, |object| machinery::schema::apply_defaults(schema, object));
        }
    }

    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_status {
            object.unset("status");
        }
        object.child("metadata").set("generation", 1);
    }

    /// Status through its subresource only, all else through the resource only; a change of the latter counts.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        if subresource == "status" {
            let status = new.unset("status");
            let metadata = new.at("metadata").clone();
            *new = old.clone();
            let fields = metadata.at("managedFields").clone();
            if !fields.is_null() {
                new.child("metadata").set("managedFields", fields);
            }
            match status {
                Some(status) => new.set("status", status),
                None => drop(new.unset("status")),
            }
            return;
        }
        if self.has_status {
            match old.get("status") {
                Some(status) => new.set("status", status.clone()),
                None => drop(new.unset("status")),
            }
        }
        let without = |v: &Value| {
            let mut v = v.clone();
            v.unset("metadata");
            if self.has_status {
                v.unset("status");
            }
            v
        };
        if without(new) != without(old) {
            let generation = old.at("metadata").int("generation").unwrap_or(0);
            new.child("metadata").set("generation", generation + 1);
        }
    }

    pub fn scale(&self, object: &Value) -> Value {
        let metadata = object.at("metadata");
        let mut about = json!({"name": metadata.text("name"), "namespace": metadata.text("namespace")});
        for key in ["uid", "resourceVersion", "creationTimestamp"] {
            about[key] = metadata.at(key).clone();
        }
        let (mut spec, mut status) = (json!({}), json!({"replicas": 0}));
        if let Some(paths) = &self.scale {
            if let Some(n) = find(object, &paths.replicas).as_i64().filter(|n| *n != 0) {
                spec["replicas"] = n.into();
            }
            status["replicas"] = find(object, &paths.status_replicas).as_i64().unwrap_or(0).into();
            if let Some(text) = find(object, &paths.selector).as_str().filter(|t| !t.is_empty()) {
                status["selector"] = text.into();
            }
        }
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": about, "spec": spec, "status": status})
    }

    pub fn replicas_path(&self) -> Vec<&str> {
        self.scale.as_ref().map(|s| s.replicas.split('.').collect()).unwrap_or_default()
    }

    pub fn set_replicas(&self, object: &mut Value, replicas: i64) {
        let Some(paths) = &self.scale else { return };
        let mut at = object;
        let (parents, last) = paths.replicas.rsplit_once('.').unwrap_or(("", &paths.replicas));
        for name in parents.split('.').filter(|n| !n.is_empty()) {
            at = at.child(name);
        }
        at.set(last, replicas);
    }

    /// To another served version; with a conversion webhook only the name of the version changes.
    pub fn convert(&self, object: &mut Value, api_version: &str) {
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        self.conversion.by_name(object, version);
    }

    /// All findings but those about metadata, in upstream's order. `old`: before an update through `subresource`.
    pub fn validate(&self, object: &Value, old: Option<&Value>, subresource: &str) -> Findings {
        let mut errors = ErrorList::new();
        for (name, want) in [("kind", &self.kind), ("apiVersion", &self.api_version)] {
            let got = object.text(name);
            if got != want {
                errors.push(Error::invalid(&Path::new(name), got, format!("must be {want}")));
            }
        }
        let status = subresource == "status";
        if errors.is_empty() {
            errors = match status {
                true => self.validator.status(object, old),
                false => self.validator.object(object, old),
            };
            if let Some(paths) = &self.scale {
                let dotted = |path: &str| if path.is_empty() { String::new() } else { format!(".{path}") };
                let spec = if status { String::new() } else { dotted(&paths.replicas) };
                let (replicas, selector) = (dotted(&paths.status_replicas), dotted(&paths.selector));
                errors.extend(crd::scale(object, &spec, &replicas, &selector));
            }
        }
        let metadata = |meta: &Value, path: &Path| {
            let embedded = json!({"metadata": meta});
            let namespaced = !meta.text("namespace").is_empty();
            let found = resources::objectmeta::validate_generic(
                &embedded,
                namespaced,
                resources::names::path_segment,
            );
            found.into_iter().map(|e| below(e, path)).collect()
        };
        errors.extend(crd::embedded(&self.open_api, object, &metadata));
        errors.extend(self.validator.lists(object, old));
        let rules = self.rules.get_or_init(|| Rules::new(&self.open_api, true));
        let mut findings = Findings { errors, warnings: Vec::new() };
        if rules.is_empty() {
            return findings;
        }
        match crd::blocks_rules(&findings.errors) {
            Some(error) => findings.errors.push(error),
            None => {
                let found = rules.check(&Path::root(), object, old, true);
                findings.errors.extend(found.errors);
                findings.warnings = found.warnings;
            }
        }
        findings
    }
}

/// An error at `metadata.x` as one at `path.x`.
fn below(error: Error, path: &Path) -> Error {
    let rest = error.field.as_str().trim_start_matches("metadata").trim_start_matches('.');
    let field = if rest.is_empty() { path.clone() } else { path.child(rest) };
    Error { field, ..error }
}
