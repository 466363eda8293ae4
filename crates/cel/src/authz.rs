//! The authorizer library's values: a question put together step by step, and its answer.
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library>

/// `authorizer` and what its functions make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authz {
    /// `authorizer`, `authorizer.serviceAccount(namespace, name)`
    Authorizer { service_account: Option<(String, String)> },
    /// `.path(path)`
    Path { service_account: Option<(String, String)>, path: String },
    /// `.group(group)`
    Group { service_account: Option<(String, String)>, group: String },
    /// `.resource(resource)` and what narrows it; `authorizer.requestResource`
    Resource(Box<Check>),
    /// `.check(verb)`
    Decision(Decision),
}

/// A question to the authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Ask for this service account (namespace, name) and not for the user of the request.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    /// Not empty: a request for no resource; the fields below are empty.
    pub path: String,
    pub group: String,
    /// `*` unless of a request.
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

/// The authorizer's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why there is no answer.
    pub error: Option<String>,
}

impl Authz {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Authz::Authorizer { .. } => "kubernetes.authorization.Authorizer",
            Authz::Path { .. } => "kubernetes.authorization.PathCheck",
            Authz::Group { .. } => "kubernetes.authorization.GroupCheck",
            Authz::Resource(_) => "kubernetes.authorization.ResourceCheck",
            Authz::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}
