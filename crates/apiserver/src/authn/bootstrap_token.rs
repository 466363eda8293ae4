//! Bootstrap tokens: `ID.SECRET` of a Secret in kube-system.
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

use std::collections::BTreeSet;

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
    let groups = groups(&data("auth-extra-groups").unwrap_or_default())?;
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Sorted; none if one of the further groups may not be given.
fn groups(further: &str) -> Option<Vec<String>> {
    let mut out = BTreeSet::from(["system:bootstrappers".to_owned()]);
    for group in further.split(',').filter(|_| !further.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if rest.is_empty()
            || rest.len() > 256
            || rest.ends_with([':', '-'])
            || !rest.bytes().all(|b| plain(b) || b":-".contains(&b))
        {
            return None;
        }
        out.insert(group.to_owned());
    }
    Some(out.into_iter().collect())
}

/// Takes the same time wherever the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn further_groups_are_all_right_or_there_is_no_user() {
        let check = |further: &str, want: Option<&[&str]>| {
            assert_eq!(
                groups(further).as_deref(),
                want.map(|w| w.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()).as_deref(),
                "{further}"
            );
        };
        check("", Some(&["system:bootstrappers"]));
        check(
            "system:bootstrappers:b,system:bootstrappers:a:1-2,system:bootstrappers:b",
            Some(&["system:bootstrappers", "system:bootstrappers:a:1-2", "system:bootstrappers:b"]),
        );
        for bad in [
            "system:masters",
            "system:bootstrappers:",
            "system:bootstrappers:A",
            "system:bootstrappers:a-",
            "system:bootstrappers:a, system:bootstrappers:b",
            "system:bootstrappers:a,",
        ] {
            check(bad, None);
        }
    }
}
