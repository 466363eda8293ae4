//! What many tables' cells have in common.

use jiff::Timestamp;
use machinery::{Get, Value};

pub(crate) const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
pub(crate) const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

pub(crate) fn name(obj: &Value) -> Value {
    obj.at("metadata").text("name").into()
}

/// How long ago the object was created.
pub(crate) fn age(obj: &Value, now: Timestamp) -> Value {
    since(obj.at("metadata").text("creationTimestamp"), now).into()
}

/// How long ago an RFC 3339 time was: `5m`, or `<unknown>`.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human(now.as_second() - time.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

/// A duration in at most two units of about three digits (`k8s.io/apimachinery/pkg/util/duration`).
pub(crate) fn human(seconds: i64) -> String {
    let two = |major: i64, unit: &str, minor: i64, small: &str| {
        if minor == 0 { format!("{major}{unit}") } else { format!("{major}{unit}{minor}{small}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        i64::MIN..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// A label selector as one line: `a=b,c in (d,e)`; `<none>` if absent or empty, `<error>` if bad.
pub(crate) fn selector(selector: &Value) -> String {
    let mut terms: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.map("matchLabels").into_iter().flatten() {
        terms.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for term in selector.list("matchExpressions") {
        let key = term.text("key");
        let mut values: Vec<&str> = term.list("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let text = match term.text("operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".into(),
        };
        terms.push((key.to_owned(), text));
    }
    if terms.is_empty() {
        return "<none>".into();
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// A map of labels as one line, sorted; `<none>` if empty.
pub(crate) fn labels(labels: &Value) -> String {
    let mut pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    if pairs.is_empty() {
        return "<none>".into();
    }
    pairs.sort_unstable();
    pairs.join(",")
}

/// The names and the images of a pod spec's containers, comma separated.
pub(crate) fn containers(spec: &Value) -> (String, String) {
    let join =
        |field: &str| spec.list("containers").iter().map(|c| c.text(field)).collect::<Vec<_>>().join(",");
    (join("name"), join("image"))
}

/// `<none>` for "".
pub(crate) fn or_none(text: &str) -> Value {
    (if text.is_empty() { "<none>" } else { text }).into()
}

/// A number, 0 if absent.
pub(crate) fn number(obj: &Value, field: &str) -> Value {
    obj.int(field).unwrap_or(0).into()
}

/// A label selector as clients write it in a query: "" if it is empty, `<invalid>` if it is bad.
pub(crate) fn query(selector: &Value) -> String {
    match self::selector(selector).as_str() {
        "<none>" => String::new(),
        "<error>" => "<invalid>".into(),
        text => text.into(),
    }
}

/// The first three, and how many more there are; `<unset>` for none.
pub(crate) fn more(items: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = items.collect();
    let list = all.iter().take(3).cloned().collect::<Vec<_>>().join(",");
    match all.len() {
        n if n > 3 => format!("{list} + {} more...", n - 3),
        _ if list.is_empty() => "<unset>".into(),
        _ => list,
    }
}
