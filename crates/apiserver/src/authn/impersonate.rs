//! Acting as somebody else.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use machinery::{GroupResource, Status};

use super::User;
use super::user::{AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::{self, Attributes};
use crate::server::Core;

/// The user asked for by `Impersonate-*` headers, if the real one may; else the real one.
pub async fn impersonate(
    core: &Arc<Core>,
    user: Arc<User>,
    headers: &HeaderMap,
) -> Result<Arc<User>, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut groups = all("impersonate-group");
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let (Some(key), Ok(value)) = (key.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_ascii_lowercase();
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request(incomplete(&uid, &groups, &extra)));
    }
    let check = |group: &str, resource: &str, sub: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            verb: "impersonate",
            group,
            version: if group.is_empty() { "v1" } else { "v1" },
            resource,
            subresource: sub,
            namespace,
            name,
            path: "",
            is_resource: true,
        };
        authz::check(core, &user, &attributes).map_err(|why| {
            let gr = GroupResource::new(group, resource);
            let named =
                if sub.is_empty() { gr } else { GroupResource::new(group, format!("{resource}/{sub}")) };
            authz::forbidden(&user, &attributes, &named, &why)
        })
    };
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => check("", "serviceaccounts", "", namespace, account)?,
        None => check("", "users", "", "", &name)?,
    }
    for group in &groups {
        check("", "groups", "", "", group)?;
    }
    if !uid.is_empty() {
        check("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    for (key, values) in &extra {
        for value in values {
            check("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let known = groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED);
    if !known {
        let group = if name == "system:anonymous" { UNAUTHENTICATED } else { AUTHENTICATED };
        groups.push(group.to_owned());
    }
    Ok(Arc::new(User { name, uid, groups, ..User::default() }.with_extra(extra)))
}

/// Upstream prints the Go value of what was asked for.
fn incomplete(uid: &str, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> String {
    let quote = machinery::field::go_quote;
    let list = |items: &[String]| {
        let items: Vec<String> = items.iter().map(|i| quote(i)).collect();
        format!("[]string{{{}}}", items.join(", "))
    };
    let groups = if groups.is_empty() { "[]string(nil)".to_owned() } else { list(groups) };
    let extra = if extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs: Vec<String> = extra.iter().map(|(k, v)| format!("{}:{}", quote(k), list(v))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{groups}, Extra:{extra}}} without impersonating a user name",
        quote(uid)
    )
}
