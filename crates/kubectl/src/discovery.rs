//! Which resource a user means by `po`, `pods`, `deployment.apps` or `Deployment`.

use kube::Client;
use serde_json::Value;

use crate::api;
use crate::error::{Error, Result};

/// One resource the server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub name: String,
    pub singular: String,
    pub kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
    pub namespaced: bool,
}

impl Resource {
    /// `deployments.apps`, as `kubectl get` names things.
    pub fn qualified(&self) -> String {
        self.qualify(&self.name)
    }

    /// `deployment.apps`.
    pub fn qualified_singular(&self) -> String {
        self.qualify(&self.singular)
    }

    fn qualify(&self, name: &str) -> String {
        if self.group.is_empty() { name.to_owned() } else { format!("{name}.{}", self.group) }
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Everything the server serves, in its order, by aggregated discovery (two requests).
pub async fn all(client: &Client) -> Result<Vec<Resource>> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let mut found = Vec::new();
    for root in ["/api", "/apis"] {
        collect(&api::get(client, root, accept).await?, &mut found);
    }
    Ok(found)
}

/// Of one group-versions document; every group's versions come in order of preference.
fn collect(document: &Value, found: &mut Vec<Resource>) {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    for group in document["items"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            for resource in version["resources"].as_array().into_iter().flatten() {
                let name = text(&resource["resource"]);
                let singular = Some(text(&resource["singularResource"])).filter(|s| !s.is_empty());
                let kind = text(&resource["responseKind"]["kind"]);
                found.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    singular: singular.unwrap_or_else(|| kind.to_lowercase()),
                    kind,
                    name,
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    verbs: texts(&resource["verbs"]),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
}

/// The resource of that name: plural, singular, short name or kind, with `.group` or `.version.group` behind it.
pub fn find<'a>(all: &'a [Resource], wanted: &str) -> Result<&'a Resource> {
    let lower = wanted.to_lowercase();
    let named = |r: &Resource, name: &str| {
        r.name == name
            || r.singular == name
            || r.kind.to_lowercase() == name
            || r.short_names.iter().any(|s| s == name)
    };
    let found = all.iter().find(|r| named(r, &lower)).or_else(|| {
        let (name, rest) = lower.split_once('.')?;
        all.iter()
            .find(|r| named(r, name) && (r.group == rest || format!("{}.{}", r.version, r.group) == rest))
    });
    found.ok_or_else(|| Error::NoSuchResource(wanted.to_owned()))
}

/// Several, separated by commas; `all` is the category.
pub fn find_many<'a>(all: &'a [Resource], wanted: &str) -> Result<Vec<&'a Resource>> {
    let mut found: Vec<&Resource> = Vec::new();
    for name in wanted.split(',') {
        let category: Vec<&Resource> =
            all.iter().filter(|r| r.categories.iter().any(|category| category == name)).collect();
        if category.is_empty() {
            found.push(find(all, name)?);
        } else {
            for resource in category {
                let same = |r: &&Resource| r.group == resource.group && r.name == resource.name;
                if !found.iter().any(same) {
                    found.push(resource);
                }
            }
        }
    }
    Ok(found)
}

/// The resource that serves objects of this apiVersion and kind.
pub fn of_object<'a>(all: &'a [Resource], object: &Value) -> Result<&'a Resource> {
    let (version, kind) =
        (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
    all.iter().find(|r| r.kind == kind && r.api_version() == version).ok_or_else(|| {
        Error::Usage(format!(
            "resource mapping not found: no matches for kind \"{kind}\" in version \"{version}\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_find_their_resources() {
        let mut all = Vec::new();
        let resource = |resource: &str, kind: &str, short: &[&str]| {
            json!({"resource": resource, "responseKind": {"kind": kind}, "scope": "Namespaced",
                   "singularResource": kind.to_lowercase(), "shortNames": short, "categories": ["all"], "verbs": ["get"]})
        };
        collect(
            &json!({"items": [
                {"metadata": {}, "versions": [{"version": "v1", "resources": [resource("pods", "Pod", &["po"]), resource("events", "Event", &["ev"])]}]},
                {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [resource("deployments", "Deployment", &["deploy"])]}]},
                {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [resource("events", "Event", &["ev"])]}]},
            ]}),
            &mut all,
        );
        for (wanted, qualified) in [
            ("po", "pods"),
            ("Pod", "pods"),
            ("deploy", "deployments.apps"),
            ("deployments.apps", "deployments.apps"),
            ("deployments.v1.apps", "deployments.apps"),
            ("events", "events"),
            ("events.events.k8s.io", "events.events.k8s.io"),
        ] {
            assert_eq!(find(&all, wanted).unwrap().qualified(), qualified, "{wanted}");
        }
        assert!(find(&all, "nothing").is_err());
        assert_eq!(find_many(&all, "po,deploy").unwrap().len(), 2);
        assert_eq!(find_many(&all, "all").unwrap().len(), 4);
    }
}
