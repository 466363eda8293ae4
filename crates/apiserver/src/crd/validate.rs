//! OpenAPI validation of custom resources, with the words of upstream's validator. Rules in CEL are not evaluated here.

use std::cmp::Ordering;

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value, json};

/// All errors of an object against its schema.
pub fn check(schema: &Value, object: &Value) -> ErrorList {
    let mut errors = Vec::new();
    if schema.is_object() {
        node(schema, object, &Path::root(), &mut errors);
        lists(schema, object, &Path::root(), &mut errors);
    }
    errors
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(at: &Path, value: &Value, want: &str) -> Error {
    let got = kind_of(value);
    Error::type_invalid(at, got, format!("{} in body must be of type {want}: \"{got}\"", at.as_str()))
}

fn node(schema: &Value, value: &Value, at: &Path, errors: &mut ErrorList) {
    if value.is_null() && schema.flag("nullable") == Some(true) {
        return;
    }
    let want = schema.text("type");
    let got = kind_of(value);
    if schema.flag("x-kubernetes-int-or-string") == Some(true) {
        if !matches!(got, "integer" | "string") {
            errors.push(wrong_type(at, value, "integer,string"));
            return;
        }
    } else if !want.is_empty() && got != want && !(want == "number" && got == "integer") {
        errors.push(wrong_type(at, value, want));
        return;
    }
    enumerated(schema, value, at, errors);
    match value {
        Value::Object(_) => object(schema, value, at, errors),
        Value::Array(items) => array(schema, items, at, errors),
        Value::String(text) => string(schema, text, at, errors),
        Value::Number(_) => number(schema, value, at, errors),
        _ => {}
    }
    combinations(schema, value, at, errors);
}

fn enumerated(schema: &Value, value: &Value, at: &Path, errors: &mut ErrorList) {
    let allowed = schema.list("enum");
    if allowed.is_empty() || allowed.contains(value) {
        return;
    }
    let names: Vec<String> =
        allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
    errors.push(Error::not_supported(at, value.clone(), &names));
}

fn object(schema: &Value, value: &Value, at: &Path, errors: &mut ErrorList) {
    let Some(map) = value.as_object() else { return };
    if let Some(max) = schema.int("maxProperties").filter(|max| map.len() as i64 > *max) {
        errors.push(Error::too_many(at, map.len(), usize::try_from(max).unwrap_or(0)));
    }
    if let Some(min) = schema.int("minProperties").filter(|min| (map.len() as i64) < *min) {
        let detail = format!("{} in body should have at least {min} properties", at.as_str());
        errors.push(Error::invalid(at, map.len(), detail));
    }
    for required in schema.list("required").iter().filter_map(Value::as_str) {
        if !map.contains_key(required) {
            errors.push(Error::required(&at.child(required), ""));
        }
    }
    if schema.flag("x-kubernetes-embedded-resource") == Some(true) {
        for key in ["apiVersion", "kind"] {
            if value.text(key).is_empty() {
                errors.push(Error::required(&at.child(key), "must not be empty"));
            }
        }
    }
    let properties = schema.at("properties");
    let additional = schema.at("additionalProperties");
    for (key, item) in map {
        let root_meta = at.as_str().is_empty() && matches!(key.as_str(), "metadata" | "kind" | "apiVersion");
        match properties.get(key) {
            Some(below) if !root_meta => node(below, item, &at.child(key), errors),
            None if additional.is_object() => node(additional, item, &at.child(key), errors),
            _ => {}
        }
    }
}

fn array(schema: &Value, items: &[Value], at: &Path, errors: &mut ErrorList) {
    let below = schema.at("items");
    if below.is_object() {
        for (index, item) in items.iter().enumerate() {
            node(below, item, &at.index(index), errors);
        }
    }
    if let Some(max) = schema.int("maxItems").filter(|max| items.len() as i64 > *max) {
        errors.push(Error::too_many(at, items.len(), usize::try_from(max).unwrap_or(0)));
    }
    if let Some(min) = schema.int("minItems").filter(|min| (items.len() as i64) < *min) {
        let detail = format!("{} in body should have at least {min} items", at.as_str());
        errors.push(Error::invalid(at, items.len(), detail));
    }
}

fn string(schema: &Value, text: &str, at: &Path, errors: &mut ErrorList) {
    let place = at.as_str();
    let length = text.chars().count() as i64;
    if let Some(max) = schema.int("maxLength").filter(|max| length > *max) {
        errors.push(Error::too_long(at, usize::try_from(max).unwrap_or(0)));
    }
    if let Some(min) = schema.int("minLength").filter(|min| length < *min) {
        errors.push(Error::invalid(at, text, format!("{place} in body should be at least {min} chars long")));
    }
    let pattern = schema.text("pattern");
    if !pattern.is_empty() {
        // patterns are the definition's: one that does not compile was refused there
        let matches = regex::Regex::new(pattern).map_or(true, |re| re.is_match(text));
        let too_long = schema.int("maxLength").is_some_and(|max| length > max);
        if !matches && !too_long {
            errors.push(Error::invalid(at, text, format!("{place} in body should match '{pattern}'")));
        }
    }
    let format = schema.text("format");
    if !format.is_empty() && !has_format(format, text) {
        errors.push(Error::invalid(
            at,
            text,
            format!("{place} in body must be of type {format}: \"{text}\""),
        ));
    }
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => {
            let plain: String = text.chars().filter(|c| *c != '-').collect();
            plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "email" => text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()),
        "byte" => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "duration" => crate::front::query::go_duration(text).is_some(),
        _ => true,
    }
}

fn number(schema: &Value, value: &Value, at: &Path, errors: &mut ErrorList) {
    let place = at.as_str();
    let order = |bound: &Value| value.as_f64()?.partial_cmp(&bound.as_f64()?);
    let exclusive = |key: &str| schema.flag(key) == Some(true);
    let minimum = schema.at("minimum");
    match order(minimum) {
        Some(Ordering::Less) if !exclusive("exclusiveMinimum") => {
            let detail = format!("{place} in body should be greater than or equal to {minimum}");
            errors.push(Error::invalid(at, value.clone(), detail));
        }
        Some(Ordering::Less | Ordering::Equal) if exclusive("exclusiveMinimum") => {
            errors.push(Error::invalid(
                at,
                value.clone(),
                format!("{place} in body should be greater than {minimum}"),
            ));
        }
        _ => {}
    }
    let maximum = schema.at("maximum");
    match order(maximum) {
        Some(Ordering::Greater) if !exclusive("exclusiveMaximum") => {
            let detail = format!("{place} in body should be less than or equal to {maximum}");
            errors.push(Error::invalid(at, value.clone(), detail));
        }
        Some(Ordering::Greater | Ordering::Equal) if exclusive("exclusiveMaximum") => {
            errors.push(Error::invalid(
                at,
                value.clone(),
                format!("{place} in body should be less than {maximum}"),
            ));
        }
        _ => {}
    }
    if let (Some(of), Some(n)) = (schema.at("multipleOf").as_f64(), value.as_f64())
        && of > 0.0
        && (n / of).fract() != 0.0
    {
        let of = schema.at("multipleOf");
        errors.push(Error::invalid(
            at,
            value.clone(),
            format!("{place} in body should be a multiple of {of}"),
        ));
    }
}

fn combinations(schema: &Value, value: &Value, at: &Path, errors: &mut ErrorList) {
    let fits = |sub: &Value| {
        let mut inner = Vec::new();
        node(sub, value, at, &mut inner);
        inner.is_empty()
    };
    let wrong = |detail: String| Error::invalid(&Path::root(), "", detail);
    let place = at.as_str();
    let all = schema.list("allOf");
    for sub in all {
        node(sub, value, at, errors);
    }
    let any = schema.list("anyOf");
    if !any.is_empty() && !any.iter().any(fits) {
        errors.push(wrong(format!("\"{place}\" must validate at least one schema (anyOf)")));
    }
    let one = schema.list("oneOf");
    if !one.is_empty() {
        match one.iter().filter(|s| fits(s)).count() {
            1 => {}
            0 => errors.push(wrong(format!(
                "\"{place}\" must validate one and only one schema (oneOf). Found none valid"
            ))),
            n => errors.push(wrong(format!(
                "\"{place}\" must validate one and only one schema (oneOf). Found {n} valid alternatives"
            ))),
        }
    }
    let not = schema.at("not");
    if not.is_object() && fits(not) {
        errors.push(wrong(format!("\"{place}\" must not validate the schema (not)")));
    }
}

/// Sets and keyed lists hold nothing twice.
fn lists(schema: &Value, value: &Value, at: &Path, errors: &mut ErrorList) {
    match value {
        Value::Array(items) => {
            let keys: Vec<&str> =
                schema.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
            let identity = |item: &Value| match schema.text("x-kubernetes-list-type") {
                "set" => Some(item.clone()),
                "map" => {
                    let mut key = json!({});
                    for name in &keys {
                        if let Some(part) = item.get(name) {
                            key.set(name, part.clone());
                        }
                    }
                    Some(key)
                }
                _ => None,
            };
            let mut seen: Vec<Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let Some(id) = identity(item) else { break };
                if seen.contains(&id) {
                    errors.push(Error::duplicate(&at.index(index), id));
                } else {
                    seen.push(id);
                }
            }
            for (index, item) in items.iter().enumerate() {
                lists(schema.at("items"), item, &at.index(index), errors);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                let below = schema.at("properties").get(key).unwrap_or(schema.at("additionalProperties"));
                if below.is_object() {
                    lists(below, item, &at.child(key), errors);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object",
            "properties": {"n": {"type": "integer", "maximum": 10}, "c": {"type": "string", "enum": ["a", "b"]},
                "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}}});
        let check = |object: Value, want: &str| {
            let errors: Vec<String> =
                super::check(&schema, &object).iter().map(ToString::to_string).collect();
            assert_eq!(errors.join("; "), want);
        };
        check(json!({"spec": {"n": 3, "c": "a", "s": ["x", "y"]}}), "");
        check(json!({}), "spec: Required value");
        check(
            json!({"spec": {"n": 11}}),
            "spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10",
        );
        check(
            json!({"spec": {"n": "3"}}),
            "spec.n: Invalid value: \"string\": spec.n in body must be of type integer: \"string\"",
        );
        check(
            json!({"spec": {"c": "z"}}),
            "spec.c: Unsupported value: \"z\": supported values: \"a\", \"b\"",
        );
        check(json!({"spec": {"s": ["x", "x"]}}), "spec.s[1]: Duplicate value: \"x\"");
    }
}
