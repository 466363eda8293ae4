//! Acting as somebody else: constrained (KEP-5284), where both the identity and what is done with it must be permitted, or
//! as it always was, where the identity alone must be.
//! <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use machinery::{GroupResource, Status};

use super::User;
use super::user::{AUTHENTICATED, MASTERS, UNAUTHENTICATED};
use crate::authz::{self, Attributes};
use crate::front::RequestInfo;
use crate::server::Core;

/// Who is asked for.
#[derive(Clone, Debug, Default)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn only_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    fn account(&self) -> Option<(&str, &str)> {
        let pair = self.name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (!pair.0.is_empty() && !pair.1.is_empty() && !pair.1.contains(':')).then_some(pair)
    }

    fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        machinery::names::is_dns_subdomain_name(name, false).is_empty().then_some(name)
    }
}

/// The ways to act as somebody, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    Account,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::Account, Mode::UserInfo, Mode::Legacy];

/// From this many values on, the permission for all values is tried first.
const MANY: usize = 4;

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::Account => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "",
        }
    }

    /// Of a constrained one.
    fn verb(self) -> Option<String> {
        (self != Mode::Legacy).then(|| format!("impersonate:{}", self.name()))
    }

    /// Is it a way to become this user at all?
    fn fits(self, wanted: &Wanted, requestor: &User) -> bool {
        match self {
            Mode::AssociatedNode => {
                let associated = requestor
                    .extra_value()
                    .and_then(|e| e.get("authentication.kubernetes.io/node-name"))
                    .and_then(|v| v.get(0))
                    .and_then(|v| v.as_str());
                wanted.only_name()
                    && requestor.service_account().is_some()
                    && wanted.node().is_some_and(|node| associated == Some(node))
            }
            Mode::ArbitraryNode => wanted.only_name() && wanted.node().is_some(),
            Mode::Account => wanted.only_name() && wanted.account().is_some(),
            Mode::UserInfo => wanted.node().is_none() && wanted.account().is_none(),
            Mode::Legacy => true,
        }
    }
}

/// The user asked for by `Impersonate-*` headers, which are taken out, if the real one may; else the real one.
pub async fn impersonate(
    core: &Arc<Core>,
    user: Arc<User>,
    headers: &mut HeaderMap,
    info: &RequestInfo,
    audit: &crate::audit::Audit,
) -> Result<Arc<User>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    let mut first = None;
    for mode in MODES {
        if !mode.fits(&wanted, &user) {
            continue;
        }
        match become_user(core, mode, &wanted, &user, info).await {
            Ok(actual) => {
                let actual = Arc::new(actual);
                audit.impersonated(&actual, &mode.verb().unwrap_or_default());
                return Ok(actual);
            }
            Err(status) => first = first.or(Some(status)),
        }
    }
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

fn wanted(headers: &mut HeaderMap) -> Result<Option<Wanted>, Status> {
    const EXTRA: &str = "impersonate-extra-";
    let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let first = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut wanted = Wanted {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: headers.get_all("impersonate-group").iter().map(text).collect(),
        extra: BTreeMap::new(),
    };
    let mut spent: Vec<HeaderName> = Vec::new();
    for (key, value) in headers.iter() {
        if let Some(rest) = key.as_str().strip_prefix(EXTRA) {
            let decoded = percent_encoding::percent_decode_str(rest).decode_utf8_lossy().into_owned();
            wanted.extra.entry(decoded).or_default().push(text(value));
            spent.push(key.clone());
        }
    }
    if wanted.name.is_empty() {
        return if wanted.only_name() { Ok(None) } else { Err(Status::bad_request(incomplete(&wanted))) };
    }
    for name in ["impersonate-user", "impersonate-uid", "impersonate-group"] {
        headers.remove(name);
    }
    for name in spent {
        headers.remove(name);
    }
    Ok(Some(wanted))
}

/// The checks of one mode, and who comes out of them.
async fn become_user(
    core: &Core,
    mode: Mode,
    wanted: &Wanted,
    requestor: &User,
    info: &RequestInfo,
) -> Result<User, Status> {
    let constrained = mode != Mode::Legacy;
    // what makes one pod's token differ from another's must not matter for becoming its node
    let asker = if mode == Mode::AssociatedNode { &without_extra(requestor) } else { requestor };
    let verb = mode.verb().unwrap_or_else(|| "impersonate".to_owned());
    if constrained {
        let on = format!("impersonate-on:{}:{}", mode.name(), info.verb);
        let attributes = Attributes { verb: &on, ..Attributes::of(info) };
        permit(core, asker, &attributes).await?;
    }
    let (group, version) = if constrained { ("authentication.k8s.io", "v1") } else { ("", "v1") };
    let base = Attributes { is_resource: true, verb: &verb, group, version, ..Attributes::default() };
    let own = Attributes { group: "authentication.k8s.io", ..base };
    let mut actual = User {
        name: wanted.name.clone(),
        uid: wanted.uid.clone(),
        groups: wanted.groups.clone(),
        ..User::default()
    };
    let mut about = Attributes { resource: "users", name: &wanted.name, ..base };
    if let Some(node) = wanted.node().filter(|_| constrained) {
        let name = if mode == Mode::AssociatedNode { "*" } else { node };
        about = Attributes { resource: "nodes", name, ..base };
        actual.groups = vec!["system:nodes".to_owned()];
    }
    if let Some((namespace, name)) = wanted.account() {
        about = Attributes { resource: "serviceaccounts", namespace, name, ..base };
        if wanted.groups.is_empty() {
            actual.groups =
                vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        }
    }
    permit(core, asker, &about).await?;
    if !wanted.uid.is_empty() {
        permit(core, asker, &Attributes { resource: "uids", name: &wanted.uid, ..own }).await?;
    }
    groups(core, asker, &wanted.groups, Attributes { resource: "groups", ..base }, constrained).await?;
    extra(core, asker, &wanted.extra, Attributes { resource: "userextras", ..own }, constrained).await?;
    let group = if actual.name == "system:anonymous" { UNAUTHENTICATED } else { AUTHENTICATED };
    if !actual.is_in(group) && (group == UNAUTHENTICATED || !actual.is_in(UNAUTHENTICATED)) {
        actual.groups.push(group.to_owned());
    }
    Ok(actual.with_extra(wanted.extra.clone()))
}

async fn groups(
    core: &Core,
    asker: &User,
    groups: &[String],
    about: Attributes<'_>,
    constrained: bool,
) -> Result<(), Status> {
    if constrained && groups.iter().any(String::is_empty) {
        return Err(refuse(asker, &about, "impersonating the empty string group is not allowed"));
    }
    if constrained && groups.iter().any(|g| g == MASTERS) {
        let about = Attributes { name: MASTERS, ..about };
        return Err(refuse(asker, &about, "impersonating the system:masters group is not allowed"));
    }
    let all = Attributes { name: "*", ..about };
    if constrained && groups.len() >= MANY && permit(core, asker, &all).await.is_ok() {
        return Ok(());
    }
    for group in groups {
        permit(core, asker, &Attributes { name: group, ..about }).await?;
    }
    Ok(())
}

async fn extra(
    core: &Core,
    asker: &User,
    extra: &BTreeMap<String, Vec<String>>,
    about: Attributes<'_>,
    constrained: bool,
) -> Result<(), Status> {
    if constrained && let Some(why) = wrong_extra(extra) {
        return Err(refuse(asker, &about, &why));
    }
    let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
    let all = Attributes { subresource: "*", name: "*", ..about };
    if constrained && many && permit(core, asker, &all).await.is_ok() {
        return Ok(());
    }
    for (key, values) in extra {
        for value in values {
            permit(core, asker, &Attributes { subresource: key, name: value, ..about }).await?;
        }
    }
    Ok(())
}

fn wrong_extra(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".to_owned());
        }
        if values.iter().any(String::is_empty) {
            return Some("impersonating the empty string value in extra is not allowed".to_owned());
        }
        if !key.contains('/') {
            let why = format!(
                "extra.key: Invalid value: {}: must be a domain-prefixed path (such as \"acme.io/foo\")",
                machinery::field::go_quote(key)
            );
            return Some(format!("impersonating an invalid key in extra is not allowed: {why}"));
        }
    }
    None
}

async fn permit(core: &Core, user: &User, about: &Attributes<'_>) -> Result<(), Status> {
    let decision = authz::decide(core, user, about).await;
    if decision.allowed() {
        return Ok(());
    }
    let why = match (decision.error.is_empty(), decision.reason.is_empty()) {
        (true, _) => decision.reason,
        (false, true) => decision.error,
        (false, false) => format!("{}: {}", decision.error, decision.reason),
    };
    Err(refuse(user, about, &why))
}

fn refuse(user: &User, about: &Attributes, why: &str) -> Status {
    authz::forbidden(user, about, &GroupResource::new(about.group, about.resource), why)
}

/// The asker without the values of its extra fields, but with their names.
fn without_extra(user: &User) -> User {
    let keys = user.extra_value().and_then(|e| e.as_object()).into_iter().flatten();
    let keys: Vec<String> = keys.map(|(k, _)| k.clone()).collect();
    let key = "authentication.kubernetes.io/associated-node-keys".to_owned();
    user.clone().with_extra(BTreeMap::from([(key, keys)]))
}

/// Upstream prints the Go value of what was asked for.
fn incomplete(wanted: &Wanted) -> String {
    let quote = machinery::field::go_quote;
    let list = |items: &[String]| {
        let items: Vec<String> = items.iter().map(|i| quote(i)).collect();
        format!("[]string{{{}}}", items.join(", "))
    };
    let groups = if wanted.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&wanted.groups) };
    let extra = if wanted.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs: Vec<String> =
            wanted.extra.iter().map(|(k, v)| format!("{}:{}", quote(k), list(v))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{groups}, Extra:{extra}}} without impersonating a user name",
        quote(&wanted.uid)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_fit_whom_they_are_for() {
        let check = |name: &str, groups: &[&str], want: &[Mode]| {
            let groups = groups.iter().map(|g| (*g).to_owned()).collect();
            let wanted = Wanted { name: name.into(), groups, ..Wanted::default() };
            let asker = User::new("jane", &[]);
            let fitting: Vec<Mode> = MODES.into_iter().filter(|m| m.fits(&wanted, &asker)).collect();
            assert_eq!(fitting, want, "{name}");
        };
        check("bob", &["g"], &[Mode::UserInfo, Mode::Legacy]);
        check("system:node:n", &[], &[Mode::ArbitraryNode, Mode::Legacy]);
        check("system:node:n", &["g"], &[Mode::Legacy]);
        check("system:serviceaccount:a:b", &[], &[Mode::Account, Mode::Legacy]);
        let node = Wanted { name: "system:node:n".into(), ..Wanted::default() };
        let extra = BTreeMap::from([("authentication.kubernetes.io/node-name".into(), vec!["n".into()])]);
        let pod = User::new("system:serviceaccount:a:b", &[]).with_extra(extra);
        assert!(Mode::AssociatedNode.fits(&node, &pod));
    }

    #[test]
    fn headers_are_taken_out() {
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", "bob".parse().unwrap());
        headers.insert("impersonate-extra-a.io%2Fb", "c".parse().unwrap());
        let found = wanted(&mut headers).unwrap().unwrap();
        assert_eq!(found.extra["a.io/b"], ["c"]);
        assert!(headers.is_empty());
        headers.insert("impersonate-group", "g".parse().unwrap());
        assert!(wanted(&mut headers).unwrap_err().message.contains("without impersonating a user name"));
    }
}
