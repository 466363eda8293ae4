//! Quantities: exact decimal numbers with a suffix (`500m`, `1536Mi`, `1e3`), `k8s.io/apimachinery/pkg/api/resource`.
//!
//! A [`Quantity`] is parsed with [`str::parse`], printed in canonical form (no fraction, the largest suffix that loses
//! nothing, of the family it was written with), compared by value ([`Quantity::compare`]; equality too is by value) and
//! added exactly. Finer than nano rounds away from zero. More than 38 significant digits do not parse.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// The family of suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `1e3`
    DecimalExponent,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `n`, `u`, `m`, "", `k`, `M`, …
    DecimalSi,
}

/// `mantissa * 10^exponent`.
#[derive(Clone, Debug)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// As it was written, where upstream keeps that.
    text: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The canonical text of a quantity in an object: a string, or a number.
pub fn canonical(value: &Value) -> Result<String, ParseError> {
    match value {
        Value::String(text) => Ok(text.trim().parse::<Quantity>()?.to_string()),
        Value::Null => Ok("0".into()),
        other => Ok(other.to_string().parse::<Quantity>()?.to_string()),
    }
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { mantissa: 0, exponent: 0, format: Format::DecimalSi, text: None };

    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), exponent: 0, format, text: None }
    }

    pub fn milli(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), exponent: -3, format, text: None }
    }

    /// Of a field of an object: a string or a number; anything else is zero.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::String(text) => text.trim().parse().unwrap_or(Self::ZERO),
            Value::Number(number) => number.to_string().parse().unwrap_or(Self::ZERO),
            _ => Self::ZERO,
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    pub fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Whole units, rounded away from zero; saturates.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// Thousandths, rounded away from zero; saturates.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The value if it is a whole number of units that fits.
    pub fn as_i64(&self) -> Option<i64> {
        let (whole, exact) = round_up(self.mantissa, self.exponent, 0)?;
        exact.then(|| i64::try_from(whole).ok()).flatten()
    }

    pub fn as_f64(&self) -> f64 {
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    fn scaled(&self, exponent: i32) -> i64 {
        let saturated = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        let rounded = round_up(self.mantissa, self.exponent, exponent);
        rounded.and_then(|(v, _)| i64::try_from(v).ok()).unwrap_or(saturated)
    }

    /// By value, whatever the suffix.
    pub fn compare(&self, other: &Self) -> Ordering {
        let sign = self.mantissa.signum().cmp(&other.mantissa.signum());
        if sign != Ordering::Equal || self.mantissa == 0 {
            return sign;
        }
        let exponent = self.exponent.min(other.exponent);
        match (shift(self, exponent), shift(other, exponent)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // only the one with the larger exponent can overflow: it is the larger in magnitude
            (None, _) => {
                if self.mantissa > 0 {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (_, None) => {
                if self.mantissa > 0 {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }

    /// The sum; zero takes on the other's family of suffixes. Saturates beyond 38 digits.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let exponent = match (self.mantissa, other.mantissa) {
            (_, 0) => self.exponent,
            (0, _) => other.exponent,
            _ => self.exponent.min(other.exponent),
        };
        let saturated = |q: &Self| if q.mantissa < 0 { i128::MIN } else { i128::MAX };
        let a = shift(self, exponent).unwrap_or_else(|| saturated(self));
        let b = shift(other, exponent).unwrap_or_else(|| saturated(other));
        Self { mantissa: a.saturating_add(b), exponent, format, text: None }
    }

    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        self.add(&other.neg())
    }

    #[must_use]
    pub fn neg(&self) -> Self {
        Self { mantissa: self.mantissa.saturating_neg(), text: None, ..*self }
    }

    #[must_use]
    pub fn mul(&self, by: i64) -> Self {
        Self { mantissa: self.mantissa.saturating_mul(by.into()), text: None, ..*self }
    }

    fn write_canonical(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mantissa == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi {
            let small = self.compare(&Self::new(1024, Format::BinarySi)) == Ordering::Less
                && self.compare(&Self::new(-1024, Format::BinarySi)) == Ordering::Greater;
            if let (false, Some((mut whole, true))) = (small, round_up(self.mantissa, self.exponent, 0)) {
                let mut times = 0;
                while whole % 1024 == 0 {
                    whole /= 1024;
                    times += 1;
                }
                return write!(f, "{whole}{}", BINARY.get(times).copied().unwrap_or(""));
            }
        }
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        let zeros = usize::try_from(exponent.rem_euclid(3)).unwrap_or(0);
        exponent -= exponent.rem_euclid(3);
        write!(f, "{mantissa}{}", &"00"[..zeros])?;
        match self.format {
            Format::DecimalExponent if exponent == 0 => Ok(()),
            Format::DecimalExponent => write!(f, "e{exponent}"),
            _ => f.write_str(DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| s)),
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.write_canonical(f),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let parts = split(text)?;
        let (format, exponent) = interpret(parts.suffix)?;
        let digits = format!("{}{}", parts.whole, parts.fraction);
        let fraction = i32::try_from(parts.fraction.len()).map_err(|_| ParseError::Numeric)?;
        let mantissa: i128 = digits.parse().map_err(|_| ParseError::Numeric)?;
        if parts.numeric.ends_with('.')
            && parts.whole == "0"
            && !parts.numeric.contains(|c: char| c.is_ascii_digit())
        {
            return Err(ParseError::Numeric);
        }
        let mut out = Self { mantissa, exponent: 0, format, text: None };
        match format {
            Format::BinarySi => {
                let factor = 1i128 << exponent;
                out.mantissa = mantissa.checked_mul(factor).ok_or(ParseError::Numeric)?;
                out.exponent = -fraction;
                out.limit_binary();
                let short = digits.len() + usize::try_from(exponent * 3 / 10).unwrap_or(0) < 15;
                if short && fraction == 0 && exponent % 10 == 0 && mantissa & 7 != 0 {
                    out.text = Some(text.into());
                }
            }
            _ => {
                out.exponent = exponent.saturating_sub(fraction);
                let plain = digits.len() <= 18 && out.exponent >= -9 && out.exponent % 3 == 0;
                if text == "0" || (plain && !digits.ends_with("000") && !digits.starts_with('0')) {
                    out.text = Some(text.into());
                }
            }
        }
        if out.exponent < -9 {
            let (rounded, _) = round_up(out.mantissa, out.exponent, -9).ok_or(ParseError::Numeric)?;
            (out.mantissa, out.exponent) = (rounded, -9);
        }
        if parts.negative {
            out.mantissa = -out.mantissa;
        }
        Ok(out)
    }
}

impl Quantity {
    /// Binary suffixes stop at the largest int64; below one they turn decimal.
    fn limit_binary(&mut self) {
        let one = Self::new(1, Format::BinarySi);
        if self.compare(&Self::new(i64::MAX, Format::BinarySi)) == Ordering::Greater {
            (self.mantissa, self.exponent) = (i64::MAX.into(), 0);
        } else if !self.is_zero() && self.compare(&one) == Ordering::Less {
            self.format = Format::DecimalSi;
        }
    }
}

struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros, `0` if none are left.
    whole: &'a str,
    fraction: &'a str,
    /// Sign, digits and point as written.
    numeric: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let negative = text.starts_with('-');
    let trimmed = unsigned.trim_start_matches('0');
    let count = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = trimmed.split_at(count(trimmed));
    let whole = if whole.is_empty() { "0" } else { whole };
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(count(rest)),
        None => ("", rest),
    };
    let numeric = &text[..text.len() - suffix.len()];
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = &suffix[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if count(tail) != tail.len() {
        return Err(ParseError::Format);
    }
    Ok(Parts { negative, whole, fraction, numeric, suffix })
}

/// The family of a suffix, and its power of ten (of two for binary suffixes).
fn interpret(suffix: &str) -> Result<(Format, i32), ParseError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, *exponent));
    }
    if let Some(times) = BINARY.iter().skip(1).position(|s| *s == suffix) {
        return Ok((Format::BinarySi, 10 * (i32::try_from(times).unwrap_or(0) + 1)));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    let exponent: i64 = exponent.parse().map_err(|_| ParseError::Suffix)?;
    let exponent = i32::try_from(exponent).map_err(|_| ParseError::Suffix)?;
    Ok((Format::DecimalExponent, exponent))
}

/// The mantissa at a smaller exponent; None if it does not fit.
fn shift(q: &Quantity, exponent: i32) -> Option<i128> {
    if q.mantissa == 0 {
        return Some(0);
    }
    let by = u32::try_from(q.exponent.checked_sub(exponent)?).ok()?;
    q.mantissa.checked_mul(10i128.checked_pow(by)?)
}

/// The mantissa at another exponent, rounded away from zero; and whether that was exact.
fn round_up(mantissa: i128, from: i32, to: i32) -> Option<(i128, bool)> {
    if mantissa == 0 {
        return Some((0, true));
    }
    if from >= to {
        let factor = 10i128.checked_pow(u32::try_from(from.checked_sub(to)?).ok()?)?;
        return Some((mantissa.checked_mul(factor)?, true));
    }
    let by = u32::try_from(to.checked_sub(from)?).ok()?;
    let Some(divisor) = 10i128.checked_pow(by) else {
        return Some((mantissa.signum(), false));
    };
    let (whole, rest) = (mantissa / divisor, mantissa % divisor);
    Some(if rest == 0 { (whole, true) } else { (whole + mantissa.signum(), false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canon(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|e| format!("{e:?}"), |q| q.to_string())
    }

    #[test]
    fn canonical_forms() {
        for (from, to) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1e3"),
            ("1000e0", "1e3"),
            ("1E3", "1E3"),
            ("1000Ki", "1000Ki"),
            ("1000k", "1M"),
            ("0.1Ki", "102400m"),
            ("128Mi", "128Mi"),
            ("01Mi", "01Mi"),
            ("+1", "+1"),
            ("-1.5", "-1500m"),
            ("1.500", "1.500"),
            ("0.0000000001", "1n"),
            ("1000000000000000000000", "1"),
            ("16Ei", "9223372036854775807"),
            ("0Gi", "0"),
            ("512", "512"),
            ("2048", "2048"),
            ("0.5Mi", "512Ki"),
            ("1.0", "1"),
            ("00", "0"),
            ("1e-3", "1e-3"),
            ("1100Mi", "1100Mi"),
        ] {
            assert_eq!(canon(from), to, "{from}");
        }
        for (from, error) in [
            ("", "Format"),
            ("x", "Format"),
            ("1x", "Format"),
            ("1 ", "Format"),
            ("1kk", "Suffix"),
            ("1mi", "Suffix"),
            ("1e", "Suffix"),
            ("1Gi3", "Suffix"),
            (" 1", "Format"),
            ("{}", "Format"),
            ("1.2.3", "Format"),
            ("é", "Format"),
        ] {
            assert_eq!(canon(from), error, "{from}");
        }
    }

    #[test]
    fn arithmetic() {
        let q = |t: &str| t.parse::<Quantity>().unwrap();
        assert_eq!(q("1Gi"), q("1024Mi"));
        assert_eq!(q("100m").add(&q("0.9")).to_string(), "1");
        assert_eq!(q("0").add(&q("1Gi")).to_string(), "1Gi");
        assert_eq!(q("1Gi").sub(&q("1Mi")).to_string(), "1023Mi");
        assert_eq!((q("1m").value(), q("-1m").value(), q("1500u").milli_value()), (1, -1, 2));
        assert_eq!(q("9e999").compare(&q("1")), Ordering::Greater);
        assert_eq!((q("100E").value(), q("1Gi").value()), (i64::MAX, 1 << 30));
        assert_eq!((q("1.5").as_i64(), q("2k").as_i64()), (None, Some(2000)));
        assert_eq!(Quantity::milli(1500, Format::DecimalSi).to_string(), "1500m");
    }
}
