//! Asks the server for kinds and their schemas.

use std::collections::HashMap;

use cel::{DeclType, Schema};
use client::ErrorKind;
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicy as Policy};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::check;
use super::kinds::{self, Kind, Served};

/// What the types of the policy's expressions give reason to say.
pub async fn warnings(client: &kube::Client, policy: &Policy) -> Result<Vec<ExpressionWarning>, kube::Error> {
    let kinds = kinds::kinds(policy, &served(client).await?);
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let mut schemas =
        Schemas { client, documents: HashMap::new(), nonce: Timestamp::now().subsec_nanosecond() };
    let mut objects = Vec::new();
    for kind in kinds {
        if let Some(schema) = schemas.of(&kind).await? {
            let ty = schemas.declare(&schema, &kind);
            objects.push((kind, ty));
        }
    }
    let params = match kinds::params(policy) {
        None => None,
        Some(kind) => Some(schemas.of(&kind).await?.and_then(|schema| schemas.declare(&schema, &kind))),
    };
    Ok(check(policy, objects, params))
}

/// Every resource in every version.
async fn served(client: &kube::Client) -> Result<Vec<Served>, kube::Error> {
    let core = client.list_core_api_versions_aggregated().await?;
    let groups = client.list_api_groups_aggregated().await?;
    let mut out = Vec::new();
    for group in core.items.into_iter().chain(groups.items) {
        let name = group.metadata.and_then(|meta| meta.name).unwrap_or_default();
        for version in group.versions {
            for resource in version.resources {
                let kind = resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default();
                let singular = resource.singular_resource.filter(|s| !s.is_empty());
                out.push(Served {
                    plural: resource.resource.unwrap_or_default(),
                    singular: singular.unwrap_or_else(|| kind.to_lowercase()),
                    of: Kind {
                        group: name.clone(),
                        version: version.version.clone().unwrap_or_default(),
                        kind,
                    },
                });
            }
        }
    }
    Ok(out)
}

const PREFIX: &str = "#/components/schemas/";

/// A document of `/openapi/v3`, as far as it is needed.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    components: Components,
}

#[derive(Default, Deserialize)]
struct Components {
    #[serde(default)]
    schemas: HashMap<String, Value>,
}

/// Schemas by kind. Documents are kept for one policy only: they are large, and policies change seldom.
struct Schemas<'a> {
    client: &'a kube::Client,
    /// By group and version.
    documents: HashMap<(String, String), Document>,
    nonce: i32,
}

impl Schemas<'_> {
    async fn of(&mut self, kind: &Kind) -> Result<Option<std::sync::Arc<Schema>>, kube::Error> {
        let key = (kind.group.clone(), kind.version.clone());
        if !self.documents.contains_key(&key) {
            let document = self.fetch(&key.0, &key.1).await?;
            self.documents.insert(key.clone(), document);
        }
        let schemas = &self.documents[&key].components.schemas;
        let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let is = |schema: &Value| {
            let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
            kinds.is_some_and(|kinds| kinds.contains(&own))
        };
        let Some(name) = schemas.iter().find(|(_, schema)| is(schema)).map(|(name, _)| name) else {
            return Ok(None);
        };
        let root = json!({"$ref": format!("{PREFIX}{name}")});
        let resolve = |name: &str| schemas.get(name.strip_prefix(PREFIX)?);
        Ok(Some(Schema::with_references(&root, &resolve)))
    }

    async fn fetch(&self, group: &str, version: &str) -> Result<Document, kube::Error> {
        let path = match group {
            "" => format!("/openapi/v3/api/{version}"),
            group => format!("/openapi/v3/apis/{group}/{version}"),
        };
        match client::raw::get(self.client, &path).await {
            Err(error) if ErrorKind::of(&error) == ErrorKind::NotFound => Ok(Document::default()),
            answer => answer,
        }
    }

    /// The kind's type by a name of its own, so that objects and parameters of one kind are not of one type.
    fn declare(&mut self, schema: &Schema, kind: &Kind) -> Option<DeclType> {
        self.nonce = self.nonce.wrapping_add(1);
        DeclType::from_schema(schema, true, &format!("{}{}", kind.kind, self.nonce))
    }
}
