//! What calls cost when they are made.

use crate::parse::ast::op;
use crate::value::Value;

/// Base costs of making a list, a map, an object.
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Of reading a text once, per code point.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Of a pattern, per code point.
pub(crate) const PATTERN: f64 = 0.25;
/// Allows two questions to the authorizer in an expression.
pub(crate) const CHECK: u64 = 350_000;

fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(inner)) => size(inner),
        other => other.size().unwrap_or(1),
    }
}

fn ceil(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn regex(text: u64, pattern: u64) -> u64 {
    let text = ((1.0 + text as f64) * TRAVERSAL).ceil() as u64;
    text.saturating_mul(ceil(pattern, PATTERN))
}

/// `overload`: "" if several were possible. An argument that failed is given as null.
pub(crate) fn call(function: &str, overload: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let arg = |n: usize| args.get(n).map_or(1, size);
    // what lists' library says comes first
    if let Some(cost) = of_lists(overload, args, result) {
        return cost;
    }
    match function {
        "check" => return CHECK,
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name"
        | "allowed" | "reason" | "error" | "errored" => return 1,
        "fieldSelector" | "labelSelector" => return selector(arg(1)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            return args.first().map_or(0, traversal);
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => return ceil(arg(0), TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => return ceil(arg(0), 2.0 * TRAVERSAL),
        "join" => return ceil(result.map_or(1, size), 2.0 * TRAVERSAL),
        "find" | "findAll" => return regex(arg(0), arg(1)),
        "ip" if overload == "cidr_ip" => return 1,
        "ip" => return ceil(arg(0), TRAVERSAL),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => return 1,
        "containsIP" => {
            let parse = if overload == "cidr_contains_ip_string" { ceil(arg(1), TRAVERSAL) } else { 0 };
            return ceil(arg(0) * 2, TRAVERSAL) + parse;
        }
        "containsCIDR" => {
            let parse = if overload == "cidr_contains_cidr_string" { ceil(arg(1), TRAVERSAL) } else { 0 };
            return ceil(arg(0) * 2, TRAVERSAL) + ceil(arg(0), TRAVERSAL) + 1 + parse;
        }
        "validate" => {
            if let Some(Value::Format(format)) = args.first() {
                return regex(arg(1), format.pattern_size());
            }
        }
        op::EQ => {
            let fixed = matches!(
                args.first(),
                Some(
                    Value::Quantity(_)
                        | Value::Ip(_)
                        | Value::Cidr(_)
                        | Value::Format(_)
                        | Value::Url(_)
                        | Value::Semver(_)
                        | Value::Authz(_)
                )
            );
            if fixed {
                return 1;
            }
        }
        _ => {}
    }
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => ceil(arg(0), TRAVERSAL),
        "in_list" => arg(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => ceil(arg(0).min(arg(1)), TRAVERSAL),
        "add_string" | "add_bytes" => ceil(arg(0).saturating_add(arg(1)), TRAVERSAL),
        "matches_string" => regex(arg(0), arg(1)),
        "contains_string" => ceil(arg(0), TRAVERSAL).saturating_mul(ceil(arg(1), TRAVERSAL)),
        _ => 1,
    }
}

/// A selector is a list of requirements, each of two characters at least.
fn selector(length: u64) -> u64 {
    let requirements = ceil(length, 0.5);
    LIST + ceil(length, TRAVERSAL) + requirements * (LIST + STRUCT)
}

fn of_lists(overload: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> Option<u64> {
    let made = |factor: f64, size: u64| (size as f64 * factor) as u64 + 1 + LIST;
    let compared = |list: Option<&Value<'_>>| {
        let Some(Value::List(list)) = list else { return made(2.0, 1) };
        let text = matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))));
        let size = list.len() as u64;
        made(if text { 2.0 + TRAVERSAL } else { 2.0 }, size.saturating_mul(size))
    };
    let (a, b) = (args.first().map_or(1, size), args.get(1).map_or(1, size));
    Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => made(1.0, result.map_or(1, size)),
        "list_flatten" => made(1.0, a),
        "list_flatten_int" => match args.get(1) {
            // Go's conversion of a negative number
            Some(Value::Int(depth)) if *depth < 0 => {
                let cost = depth.saturating_mul(i64::try_from(a).unwrap_or(i64::MAX));
                (cost as u64).wrapping_add(1 + LIST)
            }
            Some(Value::Int(depth)) => made(*depth as f64, a),
            _ => made(1.0, a),
        },
        "list_distinct" => compared(args.first()),
        "list_sets_contains_list" | "list_sets_intersects_list" => a.saturating_mul(b) + 1,
        "list_sets_equivalent_list" => a.saturating_mul(b).saturating_mul(2) + 1,
        _ if overload.ends_with("_sortByAssociatedKeys") => compared(args.get(1)),
        _ if overload.starts_with("list_") && overload.ends_with("_sort") => compared(args.first()),
        _ => return None,
    })
}

/// What shares its parts may be larger than anything that could be looked at; so much is beyond any budget.
const MAX_TRAVERSAL: u64 = 1 << 24;

/// The cost of looking at everything in a value.
fn traversal(value: &Value<'_>) -> u64 {
    let mut seen = 0;
    traverse(value, &mut seen)
}

fn traverse(value: &Value<'_>, seen: &mut u64) -> u64 {
    *seen += 1;
    if *seen > MAX_TRAVERSAL {
        return MAX_TRAVERSAL;
    }
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => {
            let each = |total: u64, item: Result<Value<'_>, _>| {
                total.saturating_add(item.map_or(1, |item| traverse(&item, seen)))
            };
            list.iter().fold(0, each)
        }
        Value::Map(map) => {
            let entry = |total: u64, key: Value<'_>| {
                let own = traverse(&key, seen);
                let value = map.find(&key).ok().flatten().map_or(1, |v| traverse(&v, seen));
                total.saturating_add(own).saturating_add(value)
            };
            map.keys().into_iter().fold(0, entry)
        }
        _ => 1,
    }
}
