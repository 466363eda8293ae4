//! Quantities as numbers: exact in billionths, enough for every comparison and sum here.

use machinery::{Get, Value};

/// A quantity in billionths; None if it is no quantity. Beyond 10^29 it saturates.
pub(crate) fn nanos(value: &Value) -> Option<i128> {
    match value {
        Value::Number(n) => parse(&n.to_string()),
        Value::String(s) => parse(s),
        _ => None,
    }
}

/// As [`nanos`], absent and bad as 0.
pub(crate) fn of(value: &Value) -> i128 {
    nanos(value).unwrap_or(0)
}

pub(crate) const ONE: i128 = 1_000_000_000;

pub(crate) fn parse(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let (binary, power) = scale(suffix)?;
    // digits * 10^exponent * 2^binary, in billionths
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let mut value: i128 =
        if digits.is_empty() { 0 } else { digits.get(..30.min(digits.len()))?.parse().ok()? };
    let mut exponent = power + 9 - fraction.len() as i32 + (digits.len() as i32 - 30).max(0);
    value = value.saturating_mul(1_i128 << binary);
    while exponent > 0 && value != 0 {
        value = value.saturating_mul(10);
        exponent -= 1;
    }
    let mut lost = false;
    while exponent < 0 && value != 0 {
        lost |= value % 10 != 0;
        value /= 10;
        exponent += 1;
    }
    // what is smaller than a billionth is rounded away from zero, as upstream does
    value = value.saturating_add(i128::from(lost));
    Some(if negative { -value } else { value })
}

/// A suffix as powers of two and ten.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        other => (0, other.strip_prefix(['e', 'E'])?.parse::<i32>().ok().filter(|e| e.abs() < 100)?),
    })
}

/// Fills what a resource list lacks from another.
pub(crate) fn fill(list: &mut Value, name: &str, from: &Value) {
    if let Value::Object(from) = from {
        let into = list.child(name);
        for (key, quantity) in from {
            into.set_default(key, quantity.clone());
        }
    }
}

/// Rounds the quantities of a resource list up to thousandths.
pub(crate) fn round_up(obj: &mut Value, name: &str) {
    const MILLI: i128 = ONE / 1000;
    let Some(list) = obj.child_if(name).and_then(Value::as_object_mut) else { return };
    for quantity in list.values_mut() {
        let exact = of(quantity);
        if exact % MILLI != 0 {
            *quantity = format((exact.div_euclid(MILLI) + 1) * MILLI, false).into();
        }
    }
}

/// The canonical text of a quantity: with powers of two if asked for and it divides.
pub(crate) fn format(value: i128, binary: bool) -> String {
    if value == 0 {
        return "0".into();
    }
    if binary && value % ONE == 0 && (value / ONE).abs() >= 1024 {
        let mut number = value / ONE;
        let mut suffix = "";
        for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
            if number % 1024 != 0 {
                break;
            }
            (number, suffix) = (number / 1024, next);
        }
        return format!("{number}{suffix}");
    }
    let (mut number, mut at) = (value, 0);
    let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    while number % 1000 == 0 && at + 1 < suffixes.len() {
        (number, at) = (number / 1000, at + 1);
    }
    format!("{number}{}", suffixes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_in_billionths() {
        let check = |text: &str, want: Option<i128>| assert_eq!(parse(text), want, "{text}");
        check("1", Some(ONE));
        check("100m", Some(ONE / 10));
        check("1Ki", Some(1024 * ONE));
        check("-1.5k", Some(-1500 * ONE));
        check("1e3", Some(1000 * ONE));
        check("0.1n", Some(1));
        check(".5", Some(ONE / 2));
        check("1E", Some(ONE * 1_000_000_000_000_000_000));
        check("", None);
        check("abc", None);
        check("1.2.3", None);
        check("1ki", None);
    }
}
