//! String formats. Those that upstream knows but hardly anybody uses (ISBN, credit cards, RGB colours) are taken as
//! good here.

use std::sync::OnceLock;

use base64::Engine;
use regex::Regex;

use crate::codec::time;
use crate::names;

/// Is the text of the format? None: an unknown format, which is not checked.
pub(super) fn check(format: &str, text: &str) -> Option<bool> {
    Some(match &*format.replace('-', "") {
        "ipv4" => text.contains('.') && names::ip::parse_sloppy(text).is_some(),
        "ipv6" => text.contains(':') && names::ip::parse_sloppy(text).is_some(),
        "cidr" => names::ip::parse_cidr_sloppy(text).is_some(),
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => time::parse_duration(text).is_ok() || is_worded_duration(text),
        "email" => is_email(text),
        "uri" => is_uri(text),
        "hostname" => is_hostname(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "byte" => is_base64(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "ssn" => {
            static SSN: OnceLock<Option<Regex>> = OnceLock::new();
            matches(&SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text)
        }
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        "password" | "bsonobjectid" | "isbn" | "isbn10" | "isbn13" | "creditcard" | "rgbcolor" => true,
        _ => return None,
    })
}

fn matches(cell: &OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(pattern).ok()).as_ref().is_some_and(|r| r.is_match(text))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && time::parse(&format!("{text}T00:00:00Z"), time::Precision::Seconds).is_ok()
}

fn is_date_time(text: &str) -> bool {
    static TIME: OnceLock<Option<Regex>> = OnceLock::new();
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let number = |range: std::ops::Range<usize>| time.get(range).and_then(|t| t.parse::<u8>().ok());
    is_date(date)
        && matches(&TIME, r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$", time)
        && number(0..2).is_some_and(|h| h < 24)
        && number(3..5).is_some_and(|m| m < 60)
        && number(6..8).is_some_and(|s| s < 60)
}

/// `3 days`, `1 hour`.
fn is_worded_duration(text: &str) -> bool {
    static WORDS: OnceLock<Option<Regex>> = OnceLock::new();
    let units = r"(?i)\d+\s*(ns|nanos?|us|µs|micros?|ms|millis?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)";
    matches(&WORDS, units, text)
}

fn is_email(text: &str) -> bool {
    static EMAIL: OnceLock<Option<Regex>> = OnceLock::new();
    let address = match (text.find('<'), text.ends_with('>')) {
        (Some(at), true) => &text[at + 1..text.len() - 1],
        _ => text,
    };
    let atom = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\x{10ffff}-]+";
    let pattern = format!(r#"^({atom}(\.{atom})*|"[^"\r\n]*")@({atom}(\.{atom})*|\[[^\]]*\])$"#);
    matches(&EMAIL, &pattern, address)
}

/// What an HTTP request line may hold: an absolute URI, or a path.
fn is_uri(text: &str) -> bool {
    let printable = !text.is_empty() && !text.chars().any(|c| c.is_ascii_control() || c == ' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        good && (!rest.is_empty() || !scheme.is_empty())
    });
    printable && (text.starts_with('/') || scheme)
}

fn is_hostname(text: &str) -> bool {
    static HOST: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    text.len() <= 255 && text.split('.').all(|p| p.len() <= 63) && matches(&HOST, pattern, text)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    static UUID: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let good = matches(&UUID, pattern, text);
    let variant = |c: char| matches!(c.to_ascii_lowercase(), '8' | '9' | 'a' | 'b');
    good && match version {
        None => true,
        Some('3') => digits[12] == '3',
        Some(version) => digits[12] == version && variant(digits[16]),
    }
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}
