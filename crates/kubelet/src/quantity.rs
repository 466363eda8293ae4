//! Reading resource quantities as numbers: whole units and thousandths, both rounded up as Kubernetes does.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// A `requests`, `limits`, `capacity` or `allocatable` map.
pub type ResourceList = BTreeMap<String, Quantity>;

/// The value in units of 10⁻⁹, exact for everything the API accepts; `None` for text that is not a quantity.
pub fn nano(text: &str) -> Option<i128> {
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty())
        || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let (numerator, denominator): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            if !(-18..=18).contains(&power) {
                return None;
            }
            let scale = 10_i128.pow(power.unsigned_abs());
            if power < 0 { (1, scale) } else { (scale, 1) }
        }
    };
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
    let scaled = mantissa.checked_mul(numerator)?.checked_mul(1_000_000_000)?;
    let value = ceil(scaled, scale);
    Some(if negative { -value } else { value })
}

fn ceil(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by > 0 { quotient + 1 } else { quotient }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Whole units (bytes, pieces), rounded up; 0 for text that is not a quantity.
pub fn value(quantity: &Quantity) -> i64 {
    clamp(ceil(nano(&quantity.0).unwrap_or(0), 1_000_000_000))
}

/// Thousandths (millicores), rounded up; 0 for text that is not a quantity.
pub fn milli(quantity: &Quantity) -> i64 {
    clamp(ceil(nano(&quantity.0).unwrap_or(0), 1_000_000))
}

/// `value` of one entry of a list, where present.
pub fn value_of(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list.and_then(|l| l.get(name)).map(value)
}

/// `milli` of one entry of a list, where present.
pub fn milli_of(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list.and_then(|l| l.get(name)).map(milli)
}

/// Millicores as a quantity, in the canonical form (`1500m`, `2`).
pub fn from_milli(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

/// Bytes as a quantity, in the canonical binary form (`64Mi`, `1000`).
pub fn from_bytes(bytes: i64) -> Quantity {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut number, mut unit) = (bytes, 0);
    while number != 0 && number % 1024 == 0 && unit + 1 < UNITS.len() {
        number /= 1024;
        unit += 1;
    }
    Quantity(format!("{number}{}", UNITS[unit]))
}

/// Adds every entry of `other` to `list`.
pub fn add(list: &mut BTreeMap<String, i128>, other: Option<&ResourceList>) {
    for (name, quantity) in other.into_iter().flatten() {
        *list.entry(name.clone()).or_default() += nano(&quantity.0).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_up() {
        for (text, units, thousandths) in [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1.5", 2, 1500),
            ("64Mi", 64 << 20, (64 << 20) * 1000),
            ("1e3", 1000, 1_000_000),
            ("1E", 1_000_000_000_000_000_000, i64::MAX),
            ("0.0001", 1, 1),
            ("-1", -1, -1000),
            (".5k", 500, 500_000),
        ] {
            let quantity = Quantity(text.into());
            assert_eq!((value(&quantity), milli(&quantity)), (units, thousandths), "{text}");
        }
        for bad in ["", "x", "1x", ".", "1..2", "--1", "1e99"] {
            assert_eq!(nano(bad), None, "{bad}");
        }
    }

    #[test]
    fn writing_is_canonical() {
        assert_eq!(from_milli(2000).0, "2");
        assert_eq!(from_milli(250).0, "250m");
        assert_eq!(from_bytes(64 << 20).0, "64Mi");
        assert_eq!(from_bytes(1000).0, "1000");
        assert_eq!(from_bytes(0).0, "0");
    }
}
