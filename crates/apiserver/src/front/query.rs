//! The query string, and what Go's conversions make of its values.

use std::time::Duration;

use machinery::Status;
use machinery::field::go_quote;
use percent_encoding::percent_decode_str;

/// Decoded pairs in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let decode = |s: &str| {
            let s = s.replace('+', " ");
            percent_decode_str(&s).decode_utf8_lossy().into_owned()
        };
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty() && !pair.contains(';') && is_encoded(pair))
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or("")
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean as conversions read it: absent, `0` and `false` are false, all else is true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    pub fn flag_opt(&self, key: &str) -> Option<bool> {
        self.get(key)?;
        Some(self.flag(key))
    }

    pub fn int(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(n) => Ok(Some(n)),
            Err(e) => {
                let why = match e.kind() {
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                        "value out of range"
                    }
                    _ => "invalid syntax",
                };
                Err(Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", go_quote(text))))
            }
        }
    }

    /// `?timeout=34s`, of any request.
    pub fn timeout(&self) -> Result<Option<Duration>, Status> {
        match self.get("timeout") {
            None | Some("") => Ok(None),
            Some(text) => match go_duration(text) {
                Ok(duration) => Ok(Some(duration)),
                Err(why) => Err(Status::bad_request(format!(
                    "invalid timeout specified in the request URL - time: {why} {}",
                    go_quote(text)
                ))),
            },
        }
    }
}

/// Is every `%` followed by two hexadecimal digits?
pub fn is_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

/// `1h2m3.5s`, as Go's `time.ParseDuration`; what is below zero is zero. The error is Go's, but for the text itself.
pub fn go_duration(text: &str) -> Result<Duration, String> {
    const INVALID: &str = "invalid duration";
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(INVALID.to_owned());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| INVALID.to_owned())?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit_len] {
            "" => return Err("missing unit in duration".to_owned()),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => return Err(format!("unknown unit {} in duration", go_quote(unit))),
        };
        total += number * scale;
        rest = &rest[unit_len..];
    }
    // Go counts nanoseconds in 63 bits
    if total > 9_223_372_036.0 {
        return Err(INVALID.to_owned());
    }
    if negative {
        Ok(Duration::ZERO)
    } else {
        Duration::try_from_secs_f64(total).map_err(|_| INVALID.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_as_go() {
        let q = Query::parse("a=1&b=x%2Fy&c&d=false&e=0&f=a+b");
        assert_eq!((q.text("b"), q.text("f")), ("x/y", "a b"));
        assert!(q.flag("a") && q.flag("c") && !q.flag("d") && !q.flag("e") && !q.flag("z"));
        assert!(q.int("b").unwrap_err().message.contains("invalid syntax"));
        assert_eq!(go_duration("1m1.5s"), Ok(Duration::from_millis(61_500)));
        assert_eq!((go_duration("0"), go_duration("-1s")), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        let bad = |text: &str| go_duration(text).unwrap_err();
        assert_eq!((&*bad("x"), &*bad("5")), ("invalid duration", "missing unit in duration"));
        assert_eq!(bad("1x"), "unknown unit \"x\" in duration");
    }
}
