//! What kinds of objects the server has.

/// One kind, in the version the server prefers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    pub group: String,
    pub version: String,
    /// The plural that stands in paths.
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// The path of the collection; an empty namespace is all of them.
    pub fn path(&self, namespace: &str) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            "" => format!("{root}/{}", self.plural),
            namespace => format!("{root}/namespaces/{namespace}/{}", self.plural),
        }
    }

    pub fn object_path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.path(if self.namespaced { namespace } else { "" }))
    }
}

/// Every resource once, and the groups whose server does not answer.
#[derive(Debug, Default)]
pub struct Discovered {
    pub resources: Vec<Resource>,
    pub stale: Vec<String>,
}

/// Asks the server for all it has, by aggregated discovery.
pub async fn discover(client: &kube::Client) -> Result<Discovered, kube::Error> {
    let mut found = Discovered::default();
    let core = client.list_core_api_versions_aggregated().await?;
    let groups = client.list_api_groups_aggregated().await?;
    for group in core.items.into_iter().chain(groups.items) {
        let name = group.metadata.and_then(|meta| meta.name).unwrap_or_default();
        let mut seen = std::collections::HashSet::new();
        for version in group.versions {
            let version_name = version.version.unwrap_or_default();
            if version.freshness.as_deref() == Some("Stale") {
                found.stale.push(format!("{name}/{version_name}"));
            }
            for resource in version.resources {
                let plural = resource.resource.unwrap_or_default();
                if !seen.insert(plural.clone()) {
                    continue;
                }
                found.resources.push(Resource {
                    group: name.clone(),
                    version: version_name.clone(),
                    plural,
                    kind: resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default(),
                    namespaced: resource.scope.as_deref() == Some("Namespaced"),
                    verbs: resource.verbs,
                });
            }
        }
    }
    Ok(found)
}
