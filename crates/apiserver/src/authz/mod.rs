//! May they: `system:masters`, then the configured authorizers in order, each of which allows, denies or has no opinion.

mod config;
mod node;
pub mod rbac;
mod rules;
mod webhook;

pub use config::Chain;
pub use rules::{Grant, Rule};

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::select::{FieldSelector, FieldTerm, LabelSelector, Requirement};
use machinery::{GroupResource, Status};
use parking_lot::{Mutex, RwLock};

use crate::authn::User;
use crate::authn::user::MASTERS;
use crate::front::{Query, RequestInfo};
use crate::server::Core;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    pub is_resource: bool,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// For what is not a resource.
    pub path: &'a str,
    /// What a list, watch or deletecollection is narrowed to.
    pub selectors: Option<&'a Selectors>,
}

/// The parts of selectors that could be read; they only narrow, so what could not be read may be left out.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    pub fields: Vec<FieldTerm>,
    pub labels: Vec<Requirement>,
    pub field_error: bool,
    pub label_error: bool,
}

impl Selectors {
    fn of(info: &RequestInfo, query: &Query) -> Option<Self> {
        if !info.is_resource || !matches!(&*info.verb, "list" | "watch" | "deletecollection") {
            return None;
        }
        let (fields, labels) = (query.text("fieldSelector"), query.text("labelSelector"));
        let given = !fields.is_empty() || !labels.is_empty();
        given.then(|| Self {
            fields: FieldSelector::parse(fields).map(|s| s.terms).unwrap_or_default(),
            labels: LabelSelector::parse(labels).map(|s| s.requirements().to_vec()).unwrap_or_default(),
            ..Self::default()
        })
    }
}

impl<'a> Attributes<'a> {
    pub fn of(info: &'a RequestInfo) -> Self {
        Self {
            is_resource: info.is_resource,
            verb: &info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            selectors: None,
        }
    }

    /// Is the request narrowed to objects whose field has this value?
    pub fn selects(&self, field: &str, value: &str) -> bool {
        let terms = self.selectors.map_or(&[][..], |s| &s.fields);
        terms.iter().any(|t| t.equal && t.field == field && t.value == value)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
    #[default]
    NoOpinion,
}

/// What the authorizers say.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub verdict: Verdict,
    /// Why; often empty.
    pub reason: String,
    /// What went wrong on the way; it need not have changed the verdict.
    pub error: String,
}

impl Decision {
    fn allow(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Allow, reason: reason.into(), error: String::new() }
    }

    fn no_opinion(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    pub fn allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// One way to decide.
pub enum Authorizer {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(webhook::Webhook),
}

/// The configured chain, and compiled rules, renewed when the RBAC objects have changed.
pub struct Authz {
    /// That of the start.
    first: Arc<Chain>,
    chain: RwLock<Arc<Chain>>,
    index: Mutex<Option<Arc<rbac::Index>>>,
    uses: node::Uses,
}

impl Authz {
    pub fn new(chain: Chain) -> Self {
        let first = Arc::new(chain);
        Self {
            chain: RwLock::new(first.clone()),
            first,
            index: Mutex::default(),
            uses: node::Uses::default(),
        }
    }

    pub fn chain(&self) -> Arc<Chain> {
        self.chain.read().clone()
    }

    /// Decides by the chain of a changed `AuthorizationConfiguration` from now on.
    pub fn reread(&self, text: &str) -> Result<(), String> {
        *self.chain.write() = Arc::new(self.first.again(text)?);
        Ok(())
    }
}

/// Ok, or why not (the authorizers' reasons, often empty).
pub async fn check(core: &Core, user: &User, attributes: &Attributes<'_>) -> Result<(), String> {
    let decision = decide(core, user, attributes).await;
    if decision.allowed() { Ok(()) } else { Err(decision.reason) }
}

/// Asks the authorizers in order; the first that allows or denies decides.
pub async fn decide(core: &Core, user: &User, attributes: &Attributes<'_>) -> Decision {
    if user.is_in(MASTERS) {
        return Decision::allow("");
    }
    let (mut reasons, mut errors) = (Vec::new(), Vec::new());
    for authorizer in &core.authz.chain().0 {
        let decision = match authorizer {
            Authorizer::AlwaysAllow => Decision::allow(""),
            Authorizer::AlwaysDeny => Decision::no_opinion("Everything is forbidden."),
            Authorizer::Node => node::decide(core, user, attributes),
            Authorizer::Rbac => index(core).decide(user, attributes),
            Authorizer::Webhook(webhook) => webhook.decide(user, attributes).await,
        };
        if decision.verdict != Verdict::NoOpinion {
            return decision;
        }
        reasons.extend(Some(decision.reason).filter(|r| !r.is_empty()));
        errors.extend(Some(decision.error).filter(|e| !e.is_empty()));
    }
    Decision { verdict: Verdict::NoOpinion, reason: reasons.join("\n"), error: aggregate(&errors) }
}

/// The same where nobody can wait. Webhooks are asked only where the runtime has other threads for what waits.
pub fn decide_now(core: &Core, user: &User, attributes: &Attributes<'_>) -> Decision {
    if let Some(decision) = decide(core, user, attributes).now_or_never() {
        return decision;
    }
    let runtime = tokio::runtime::Handle::current();
    if runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
        return Decision {
            error: "an authorization webhook can't be asked here".to_owned(),
            ..Decision::default()
        };
    }
    tokio::task::block_in_place(|| runtime.block_on(decide(core, user, attributes)))
}

/// What a user may do in a namespace, as far as it can be listed.
#[derive(Default)]
pub struct Listing {
    pub rules: Vec<Rule>,
    pub incomplete: bool,
    pub error: String,
}

pub fn rules_for(core: &Core, user: &User, namespace: &str) -> Listing {
    let mut out = Listing::default();
    let mut errors = Vec::new();
    let everything = |out: &mut Listing| {
        let all = || vec!["*".to_owned()];
        out.rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
        out.rules.push(Rule { verbs: all(), urls: all(), ..Rule::default() });
    };
    for authorizer in &core.authz.chain().0 {
        match authorizer {
            Authorizer::AlwaysAllow => everything(&mut out),
            Authorizer::AlwaysDeny => {}
            Authorizer::Node if user.node().is_some() => {
                out.incomplete = true;
                errors.push("node authorizer does not support user rule resolution".to_owned());
            }
            Authorizer::Node => {}
            Authorizer::Rbac => {
                let index = index(core);
                out.rules.extend(index.grants(user, namespace).flat_map(|g| g.rules.iter().cloned()));
                errors.extend(Some(index.unresolved(user, namespace)).filter(|e| !e.is_empty()));
            }
            Authorizer::Webhook(_) => {
                out.incomplete = true;
                errors.push("webhook authorizer does not support user rule resolution".to_owned());
            }
        }
    }
    out.error = aggregate(&errors);
    out
}

/// Several errors as upstream prints them together.
pub fn aggregate(errors: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for error in errors {
        if !seen.contains(&error.as_str()) {
            seen.push(error);
        }
    }
    match seen[..] {
        [] => String::new(),
        [one] => one.to_owned(),
        _ => format!("[{}]", seen.join(", ")),
    }
}

pub fn index(core: &Core) -> Arc<rbac::Index> {
    let mut slot = core.authz.index.lock();
    let version = rbac::version(core);
    if let Some(index) = slot.as_ref().filter(|i| i.version == version) {
        return index.clone();
    }
    let index = Arc::new(rbac::Index::build(core, version, slot.as_deref()));
    *slot = Some(index.clone());
    index
}

/// Authorizes a request; the reason of the decision is for the audit log.
pub async fn permit(
    core: &Core,
    user: &User,
    info: &RequestInfo,
    query: &Query,
    audit: &crate::audit::Audit,
) -> Result<(), Status> {
    let selectors = if user.is_in(MASTERS) { None } else { Selectors::of(info, query) };
    let attributes = Attributes { selectors: selectors.as_ref(), ..Attributes::of(info) };
    let began = Instant::now();
    let decision = decide(core, user, &attributes).await;
    core.metrics.access.authorized(&decision, began.elapsed());
    audit.decision(decision.allowed(), &decision.reason, &decision.error);
    if decision.allowed() {
        return Ok(());
    }
    if !decision.error.is_empty() && decision.verdict == Verdict::NoOpinion && decision.reason.is_empty() {
        return Err(Status::internal(decision.error));
    }
    let about = GroupResource::new(attributes.group, attributes.resource);
    Err(forbidden(user, &attributes, &about, &decision.reason))
}

/// Upstream's words for a refusal.
pub fn forbidden(user: &User, attributes: &Attributes, about: &GroupResource, why: &str) -> Status {
    let mut text = describe(user, attributes);
    if !why.is_empty() {
        text.push_str(&format!(": {why}"));
    }
    if !attributes.is_resource {
        return Status::forbidden(&GroupResource::default(), "", &text);
    }
    Status::forbidden(about, attributes.name, &text)
}

fn describe(user: &User, a: &Attributes) -> String {
    let name = go_quote(&user.name);
    if !a.is_resource {
        return format!("User {name} cannot {} path {}", a.verb, go_quote(a.path));
    }
    let resource = if a.subresource.is_empty() {
        a.resource.to_owned()
    } else {
        format!("{}/{}", a.resource, a.subresource)
    };
    let place = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {}", go_quote(a.namespace))
    };
    format!(
        "User {name} cannot {} resource {} in API group {} {place}",
        a.verb,
        go_quote(&resource),
        go_quote(a.group)
    )
}
