//! What a plain scalar means, by the rules of YAML 1.1 as `go-yaml` v2 has them.

/// The meaning of a plain scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond an int64.
    Uint(u64),
    Float(f64),
    Merge,
    /// Looks like a time; upstream keeps the text.
    Timestamp,
    Text,
}

pub(super) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Plain::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Plain::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        "<<" => return Plain::Merge,
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => go_float(text).map_or(Plain::Text, Plain::Float),
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => Plain::Text,
    }
}

fn number(text: &str) -> Plain {
    if is_timestamp(text) {
        return Plain::Timestamp;
    }
    let plain = text.replace('_', "");
    if let Some(int) = integer(&plain) {
        return int;
    }
    if is_float(&plain) { go_float(&plain).map_or(Plain::Text, Plain::Float) } else { Plain::Text }
}

/// Go's `ParseInt` and `ParseUint` with base 0.
fn integer(text: &str) -> Option<Plain> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(hex) = lower.strip_prefix("0x") {
        (hex, 16)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (octal, 8)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (binary, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (&*lower, 10)
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    match (negative, i64::try_from(size)) {
        (false, Ok(int)) => Some(Plain::Int(int)),
        (false, Err(_)) if !text.starts_with('+') => Some(Plain::Uint(size)),
        (true, Ok(int)) => Some(Plain::Int(-int)),
        (true, Err(_)) if size == 1 << 63 => Some(Plain::Int(i64::MIN)),
        _ => None,
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let good = digits(whole)
        && digits(fraction)
        && (!whole.is_empty() || (mantissa.contains('.') && !fraction.is_empty()));
    let exponent_good = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    good && exponent_good
}

/// What is out of range is no number for Go.
fn go_float(text: &str) -> Option<f64> {
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|f| numeric && f.is_finite())
}

/// `2006-1-2`, with `T`, `t` or a blank and a time of day behind.
fn is_timestamp(text: &str) -> bool {
    let number = |t: &str, max: usize, top: u32| {
        let good = !t.is_empty() && t.len() <= max && t.bytes().all(|b| b.is_ascii_digit());
        good && t.parse::<u32>().is_ok_and(|n| n <= top)
    };
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((&text[at..=at], &text[at + 1..]))),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = parts.next().is_some_and(|y| y.len() == 4 && number(y, 4, 9999));
    let date_good = year
        && parts.next().is_some_and(|m| number(m, 2, 12))
        && parts.next().is_some_and(|d| number(d, 2, 31))
        && parts.next().is_none();
    let Some((separator, time)) = time else { return date_good };
    let (time, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], &time[at..]),
        None => (time, ""),
    };
    let zone_good = if separator == " " {
        zone.is_empty()
    } else {
        zone == "Z"
            || (zone.len() == 6
                && zone.as_bytes()[3] == b':'
                && number(&zone[1..3], 2, 24)
                && number(&zone[4..], 2, 60))
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.split(':');
    date_good
        && zone_good
        && parts.next().is_some_and(|h| number(h, 2, 23))
        && parts.next().is_some_and(|m| number(m, 2, 59))
        && parts.next().is_some_and(|s| number(s, 2, 59))
        && parts.next().is_none()
        && number(fraction, 9, u32::MAX)
}
