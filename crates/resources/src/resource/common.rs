//! Names in resource.k8s.io: pools, attributes, share ids; and opaque parameters.

use machinery::Value;
use machinery::field::{ErrorList, Path};

use crate::check::Errors;
use crate::names;

/// The name of a pool: DNS subdomains separated by slashes.
pub(super) fn pool(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    if name.len() > 253 {
        errors.too_long(at, 253);
    }
    for part in name.split('/') {
        errors.each(at, part, names::dns1123_subdomain(part));
    }
}

pub(super) fn label(name: &str, at: &Path, errors: &mut ErrorList) {
    errors.each(at, name, names::dns1123_label(name));
}

/// `name` or `domain/name`.
pub(super) fn qualified(name: &str, at: &Path, errors: &mut ErrorList) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, at, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(at, "", "the domain must not be empty"),
                _ => crate::pod::plugins::csi_driver(domain, at, errors),
            }
            match id {
                "" => errors.invalid(at, "", "the name must not be empty"),
                _ => identifier(id, at, errors),
            }
        }
        _ => {}
    }
}

pub(super) fn fully_qualified(name: &str, at: &Path, errors: &mut ErrorList) {
    qualified(name, at, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(at, name, detail);
    }
}

fn identifier(id: &str, at: &Path, errors: &mut ErrorList) {
    if id.len() > 32 {
        errors.too_long(at, 32);
    }
    errors.each(at, id, names::c_identifier(id));
}

/// A UUID in its normal form.
pub(super) fn share_id(id: &str, at: &Path, errors: &mut ErrorList) {
    if let Some(why) = uuid_error(id) {
        errors.invalid(at, id, format!("error validating uid: {why}"));
    } else if id.len() != 36 || id != id.to_lowercase() {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        errors.invalid(at, id, detail);
    }
}

/// What upstream's library says of a text that is no UUID in any of the forms it knows.
fn uuid_error(id: &str) -> Option<String> {
    let hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
    let dashed = match id.len() {
        36 => id,
        32 => return (!hex(id)).then(|| "invalid UUID format".into()),
        45 => match id.get(..9) {
            Some(prefix) if prefix.eq_ignore_ascii_case("urn:uuid:") => &id[9..],
            Some(prefix) => {
                return Some(format!("invalid urn prefix: {}", machinery::field::go_quote(prefix)));
            }
            None => return Some("invalid UUID format".into()),
        },
        38 => match id.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            Some(inner) => inner,
            None => return Some("invalid bracketed UUID format".into()),
        },
        n => return Some(format!("invalid UUID length: {n}")),
    };
    let good = dashed.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    (!good).then(|| "invalid UUID format".into())
}

/// Parameters or data of a driver: a JSON object of limited size.
pub(super) fn raw(value: &Value, stored: bool, at: &Path, errors: &mut ErrorList) {
    const MAX: usize = 10 * 1024;
    match value {
        Value::Null => errors.required(at, ""),
        value if !stored && value.to_string().len() > MAX => errors.too_long(at, MAX),
        Value::Object(_) => {}
        _ => errors.invalid(at, "<value omitted>", "must be a valid JSON object"),
    }
}

/// At most `max` items (if that is a limit), each good, and no two with the same key.
pub(super) fn set<'v>(
    items: &'v [Value],
    max: Option<usize>,
    key: impl Fn(&'v Value) -> Value,
    at: &Path,
    errors: &mut ErrorList,
    mut check: impl FnMut(&'v Value, &Path, &mut ErrorList),
) {
    if let Some(max) = max.filter(|max| items.len() > *max) {
        return errors.too_many(at, items.len(), max);
    }
    for (i, item) in items.iter().enumerate() {
        check(item, &at.index(i), errors);
    }
    let mut seen: Vec<Value> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.duplicate(&at.index(i), key);
        } else {
            seen.push(key);
        }
    }
}

/// At most `max` items, each good.
pub(super) fn list(
    items: &[Value],
    max: usize,
    at: &Path,
    errors: &mut ErrorList,
    mut check: impl FnMut(&Value, &Path, &mut ErrorList),
) {
    if items.len() > max {
        return errors.too_many(at, items.len(), max);
    }
    for (i, item) in items.iter().enumerate() {
        check(item, &at.index(i), errors);
    }
}

/// A key in a path: long ones lose their middle.
pub(super) fn shortened(key: &str, max: usize) -> String {
    if key.len() <= max {
        return key.to_owned();
    }
    let rest = max - 3;
    let (head, tail) = (rest.div_ceil(2), key.len() - rest / 2);
    format!("{}...{}", key.get(..head).unwrap_or(""), key.get(tail..).unwrap_or(""))
}
