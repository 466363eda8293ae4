//! Bootstrap tokens: `ID.SECRET` of a Secret in kube-system.
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

use base64::Engine;
use jiff::Timestamp;
use machinery::Get;

use super::User;
use crate::server::Core;

pub fn authenticate(core: &Core, token: &str) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let good =
        |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !good(id, 6) || !good(secret, 16) {
        return None;
    }
    let secrets = core.kinds.now().find("", "v1", "secrets")?;
    let entry = secrets.home.as_ref()?.cache.get(&format!("kube-system/bootstrap-token-{id}"))?;
    let object = entry.parse();
    if object.text("type") != "bootstrap.kubernetes.io/token" || machinery::meta::is_deleting(&object) {
        return None;
    }
    let data = |key: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(object.at("data").text(key)).ok()?;
        String::from_utf8(bytes).ok()
    };
    let stored = data("token-secret")?;
    if !same(stored.as_bytes(), secret.as_bytes()) || data("token-id")? != id {
        return None;
    }
    if let Some(until) = data("expiration").filter(|t| !t.is_empty())
        && until.parse::<Timestamp>().ok().is_none_or(|until| until <= Timestamp::now())
    {
        return None;
    }
    if data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in data("auth-extra-groups").unwrap_or_default().split(',').map(str::trim) {
        if group.starts_with("system:bootstrappers:") {
            groups.push(group.to_owned());
        }
    }
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Takes the same time wherever the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}
