//! Is this a good name? Each check gives the messages upstream would give, none if the value is good
//! (`k8s.io/apimachinery/pkg/util/validation`, `pkg/api/validate/content`). Lengths are in bytes.
//!
//! [`ip`] holds the checks of addresses, networks and the forms they should be written in.

pub mod ip;

/// What a check has to say; empty: good.
pub type Messages = Vec<String>;

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

pub fn max_len(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// As in the checks of label keys and values.
fn max_bytes(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The message of a value that does not match a regular expression.
pub fn regex_message(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

/// A name that is a DNS subdomain; `prefix`: a `generateName` prefix, which may end in a dash.
pub fn is_dns_subdomain_name(name: &str, prefix: bool) -> Messages {
    dns1123_subdomain(&mask_trailing_dash(name, prefix))
}

pub fn is_dns_label_name(name: &str, prefix: bool) -> Messages {
    dns1123_label(&mask_trailing_dash(name, prefix))
}

pub fn is_dns1035_label_name(name: &str, prefix: bool) -> Messages {
    dns1035_label(&mask_trailing_dash(name, prefix))
}

/// A name that can be a path segment (RBAC's and others' that take nearly anything).
pub fn is_path_segment_name(name: &str, prefix: bool) -> Messages {
    if prefix { path_segment_prefix(name) } else { path_segment(name) }
}

/// The two last bytes become `a`, as upstream does it: the name is one shorter.
fn mask_trailing_dash(name: &str, prefix: bool) -> String {
    if prefix && name.len() > 1 && name.ends_with('-') {
        let mut bytes = name.as_bytes()[..name.len() - 2].to_vec();
        bytes.push(b'a');
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    name.to_owned()
}

pub fn dns1123_label(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_len(63));
    }
    if !is_dns1123_label(value) {
        if is_dns1123_subdomain(value) {
            out.push("must not contain dots".into());
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            out.push(regex_message(message, DNS1123_LABEL, &["my-name", "123-abc"]));
        }
    }
    out
}

pub fn dns1123_subdomain(value: &str) -> Messages {
    subdomain(value, max_len(253))
}

fn subdomain(value: &str, too_long: String) -> Messages {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(too_long);
    }
    if !is_dns1123_subdomain(value) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        out.push(regex_message(message, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    out
}

pub fn dns1123_subdomain_with_underscore(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    let label = |l: &str| {
        let l = l.strip_prefix('_').unwrap_or(l).as_bytes();
        matches!(l, [a, .., z] if lower_alnum(*a) && lower_alnum(*z))
            && l.iter().all(|b| lower_alnum(*b) || matches!(b, b'-' | b'_'))
            || matches!(l, [a] if lower_alnum(*a))
    };
    if !value.split('.').all(label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let regex = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        out.push(regex_message(message, regex, &["example.com"]));
    }
    out
}

pub fn wildcard_dns1123_subdomain(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_dns1123_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        out.push(regex_message(message, &format!(r"\*\.{DNS1123_SUBDOMAIN}"), &["*.example.com"]));
    }
    out
}

pub fn dns1035_label(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_len(63));
    }
    if !(is_dns1123_label(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        out.push(regex_message(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    out
}

/// A label key, annotation key, finalizer, taint key, …: `name` or `prefix/name`.
pub fn qualified_name(value: &str) -> Messages {
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = &["MyName", "my.name", "123-abc"];
    let mut out = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".into());
            } else {
                out.extend(subdomain(prefix, max_bytes(253)).iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        _ => {
            let what = regex_message(message, LABEL_KEY, examples);
            return vec![format!(
                "a valid label key {what} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !is_label_name(name) {
        out.push(format!("name part {}", regex_message(message, LABEL_KEY, examples)));
    }
    out
}

pub fn label_value(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_bytes(63));
    }
    if !value.is_empty() && !is_label_name(value) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        out.push(regex_message(message, &format!("({LABEL_KEY})?"), &["MyValue", "my_value", "12345"]));
    }
    out
}

pub fn c_identifier(value: &str) -> Messages {
    let good = value.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    unless(good, || regex_message(message, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"]))
}

pub fn port_number(port: i64) -> Messages {
    unless((1..=65535).contains(&port), || inclusive_range(1, 65535))
}

pub fn in_range(value: i64, low: i64, high: i64) -> Messages {
    unless((low..=high).contains(&value), || inclusive_range(low, high))
}

/// A user or group id.
pub fn user_id(id: i64) -> Messages {
    in_range(id, 0, i64::from(i32::MAX))
}

pub fn port_name(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 15 {
        out.push(max_len(15));
    }
    if value.is_empty() || !value.bytes().all(|b| lower_alnum(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

pub fn percent(value: &str) -> Messages {
    let digits = value.strip_suffix('%').unwrap_or("");
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    unless(good, || regex_message(message, "[0-9]+%", &["1%", "93%"]))
}

pub fn http_header_name(value: &str) -> Messages {
    let good = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    unless(good, || regex_message(message, "[-A-Za-z0-9]+", &["X-Header-Name"]))
}

pub fn env_var_name(value: &str) -> Messages {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let good =
        value.bytes().next().is_some_and(|b| word(b) && !b.is_ascii_digit()) && value.bytes().all(word);
    let message = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
    let examples = &["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
    let mut out = unless(good, || regex_message(message, "[-._a-zA-Z][-._a-zA-Z0-9]*", examples));
    out.extend(dot_names(value));
    out
}

pub fn relaxed_env_var_name(value: &str) -> Messages {
    let mut out = unless(!value.is_empty(), || "environment variable name must be non-empty".into());
    if !value.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b'=') {
        out.push("a valid environment variable name must consist only of printable ASCII characters other than '='".into());
    }
    out
}

pub fn config_map_key(value: &str) -> Messages {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_len(253));
    }
    if value.is_empty()
        || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        out.push(regex_message(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    out.extend(dot_names(value));
    out
}

/// At least three segments; the messages of a subdomain are joined by upstream with `,`.
pub fn fully_qualified_name(value: &str) -> Messages {
    let found = dns1123_subdomain(value);
    if !found.is_empty() {
        return vec![found.join(",")];
    }
    unless(value.split('.').count() >= 3, || {
        "should be a domain with at least three segments separated by dots".into()
    })
}

pub fn path_segment(value: &str) -> Messages {
    match value {
        "." | ".." => vec![format!("may not be '{value}'")],
        _ => path_segment_prefix(value),
    }
}

fn path_segment_prefix(value: &str) -> Messages {
    let found = ["/", "%"].into_iter().filter(|c| value.contains(c));
    found.map(|c| format!("may not contain '{c}'")).collect()
}

/// An integer in canonical decimal form.
pub fn decimal_integer(value: &str) -> Messages {
    if value.is_empty() {
        return vec!["must be non-empty".into()];
    }
    let digits = value.strip_prefix('-').unwrap_or(value);
    let good = value == "0"
        || (digits.starts_with(|c: char| matches!(c, '1'..='9'))
            && digits.bytes().all(|b| b.is_ascii_digit()));
    unless(good, || "must be a valid decimal integer in canonical form".into())
}

fn dot_names(value: &str) -> Messages {
    match value {
        "." => vec!["must not be '.'".into()],
        ".." => vec!["must not be '..'".into()],
        _ => unless(!value.starts_with(".."), || "must not start with '..'".into()),
    }
}

fn unless(good: bool, message: impl FnOnce() -> String) -> Messages {
    if good { Vec::new() } else { vec![message()] }
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Of the right characters; whatever its length.
fn is_dns1123_label(value: &str) -> bool {
    let b = value.as_bytes();
    let ends = b.first().is_some_and(|b| lower_alnum(*b)) && b.last().is_some_and(|b| lower_alnum(*b));
    ends && b.iter().all(|b| lower_alnum(*b) || *b == b'-')
}

fn is_dns1123_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns1123_label)
}

fn is_label_name(value: &str) -> bool {
    let b = value.as_bytes();
    let ends =
        b.first().is_some_and(u8::is_ascii_alphanumeric) && b.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && b.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;
