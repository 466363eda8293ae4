//! Which names are good, and upstream's words for those that are not (`k8s.io/apimachinery/pkg/util/validation`).
//!
//! Every function gives the messages; none means good.

/// Checks a name; the flag says that it is a `generateName` prefix.
pub type NameRule = fn(&str, bool) -> Vec<String>;

fn max_len(len: usize) -> String {
    format!("must be no more than {len} characters")
}

fn max_bytes(len: usize) -> String {
    format!("must be no more than {len} bytes")
}

/// A message that names the pattern, with examples.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let shown: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", shown.join("or "))
}

pub fn range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// Non-empty, `inner` throughout, `edge` at both ends.
fn shaped(value: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match value.as_bytes() {
        [] => false,
        all @ [first, .., last] => edge(*first) && edge(*last) && all.iter().all(|b| inner(*b)),
        [one] => edge(*one),
    }
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(value: &str) -> bool {
    shaped(value, lower, |b| lower(b) || b == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

/// At most 63 of a-z, 0-9 and inner '-' (RFC 1123).
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_len(63));
    }
    if !is_label(value) {
        out.push(if is_subdomain(value) {
            "must not contain dots".into()
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            regex_error(message, LABEL, &["my-name", "123-abc"])
        });
    }
    out
}

/// Labels with dots between, at most 253 in all.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    if !is_subdomain(value) {
        out.push(regex_error(SUBDOMAIN_MESSAGE, SUBDOMAIN, &["example.com"]));
    }
    out
}

/// As [`dns1123_subdomain`], with '_' allowed, for host names in Windows and DNS search paths.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    let label =
        |l: &str| shaped(l.strip_prefix('_').unwrap_or(l), lower, |b| lower(b) || b == b'-' || b == b'_');
    if !value.split('.').all(label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let pattern = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        out.push(regex_error(message, pattern, &["example.com"]));
    }
    out
}

/// At most 63, starting with a letter (RFC 1035).
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_len(63));
    }
    if !(is_label(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        out.push(regex_error(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    out
}

/// `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        let pattern = format!(r"\*\.{SUBDOMAIN}");
        out.push(regex_error(message, &pattern, &["*.example.com"]));
    }
    out
}

/// Hides the trailing dash of a `generateName` prefix.
fn masked(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(rest) if prefix && name.len() > 1 => {
            let cut = rest.char_indices().last().map_or(0, |(at, _)| at);
            format!("{}a", &rest[..cut])
        }
        _ => name.to_owned(),
    }
}

pub fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    dns1123_subdomain(&masked(name, prefix))
}

pub fn label_name(name: &str, prefix: bool) -> Vec<String> {
    dns1123_label(&masked(name, prefix))
}

pub fn dns1035_name(name: &str, prefix: bool) -> Vec<String> {
    dns1035_label(&masked(name, prefix))
}

/// What any name must be so that it can stand in a URL path.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn label_edge(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn label_inner(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A label key, annotation key, finalizer, resource name: `name` or `subdomain/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > 253 {
                    out.push(format!("prefix part {}", max_bytes(253)));
                }
                if !is_subdomain(prefix) {
                    let message = regex_error(SUBDOMAIN_MESSAGE, SUBDOMAIN, &["example.com"]);
                    out.push(format!("prefix part {message}"));
                }
            }
            name
        }
        _ => {
            let message = regex_error(LABEL_KEY_MESSAGE, LABEL_KEY, &examples);
            return vec![format!(
                "a valid label key {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !shaped(name, label_edge, label_inner) {
        out.push(format!("name part {}", regex_error(LABEL_KEY_MESSAGE, LABEL_KEY, &examples)));
    }
    out
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_bytes(63));
    }
    if !value.is_empty() && !shaped(value, label_edge, label_inner) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        let pattern = format!("({LABEL_KEY})?");
        out.push(regex_error(message, &pattern, &["MyValue", "my_value", "12345"]));
    }
    out
}

pub fn c_identifier(value: &str) -> Vec<String> {
    let good = value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && value.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if good {
        return Vec::new();
    }
    let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    vec![regex_error(message, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) { Vec::new() } else { vec![range_error(low, high)] }
}

/// A user or group id: 0 to 2^31-1.
pub fn unix_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// An IANA service name of at most 15.
pub fn port_name(port: &str) -> Vec<String> {
    let mut out = Vec::new();
    if port.len() > 15 {
        out.push(max_len(15));
    }
    if port.is_empty() || !port.bytes().all(|b| lower(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !port.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if port.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if port.starts_with('-') || port.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

/// `10%`.
pub fn is_percent(value: &str) -> bool {
    value.strip_suffix('%').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

pub fn percent(value: &str) -> Vec<String> {
    if is_percent(value) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error(message, "[0-9]+%", &["1%", "93%"])]
}

pub fn http_header(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

fn dots_ahead(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        v if v.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// An environment variable's name: printable ASCII without '='.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.is_empty() {
        out.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        let message = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        out.push(message.into());
    }
    out
}

/// A key in a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    if value.is_empty() || !value.bytes().all(label_inner) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        out.push(regex_error(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    out.extend(dots_ahead(value));
    out
}
