//! Times and durations, read and printed as Go does, with its messages.

/// How fine a time is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Seconds,
    Micros,
}

impl Precision {
    fn layout(self) -> &'static str {
        match self {
            Precision::Seconds => "2006-01-02T15:04:05Z07:00",
            Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// Seconds since the epoch, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    pub seconds: i64,
    pub nanos: u32,
}

/// Go's zero time, which is written as null.
pub(crate) const ZERO: Instant = Instant { seconds: -62_135_596_800, nanos: 0 };

/// A time in canonical form; None for Go's zero time.
pub(crate) fn canonical(text: &str, precision: Precision) -> Result<Option<String>, String> {
    let instant = parse(text, precision)?;
    Ok((instant != ZERO).then(|| print(instant, precision)))
}

/// In UTC.
pub(crate) fn print(instant: Instant, precision: Precision) -> String {
    let (days, rest) = (instant.seconds.div_euclid(86_400), instant.seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let fraction = match precision {
        Precision::Seconds => String::new(),
        Precision::Micros => format!(".{:06}", instant.nanos / 1000),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

pub(crate) fn parse(text: &str, precision: Precision) -> Result<Instant, String> {
    let mut at = Cursor { text, rest: text, layout: precision.layout() };
    let year = at.digits(4, "2006")?;
    at.skip("-")?;
    let month = at.digits(2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(at.out_of_range("month"));
    }
    at.skip("-")?;
    let day = at.digits(2, "02")?;
    at.skip("T")?;
    let hour = at.hour()?;
    if hour >= 24 {
        return Err(at.out_of_range("hour"));
    }
    at.skip(":")?;
    let minute = at.digits(2, "04")?;
    if minute >= 60 {
        return Err(at.out_of_range("minute"));
    }
    at.skip(":")?;
    let second = at.digits(2, "05")?;
    if second >= 60 {
        return Err(at.out_of_range("second"));
    }
    let nanos = at.fraction(precision)?;
    let offset = at.zone()?;
    if !at.rest.is_empty() {
        return Err(format!("parsing time {}: extra text: {}", quote(text), quote(at.rest)));
    }
    if day < 1 || day > days_in(year, month) {
        return Err(at.out_of_range("day"));
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Ok(Instant { seconds, nanos })
}

struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Cursor<'_> {
    fn bad(&self, element: &str) -> String {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(self.text),
            quote(self.layout),
            quote(self.rest),
            quote(element)
        )
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", quote(self.text))
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i64, String> {
        let digits = self.rest.get(..count).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let value = digits.and_then(|d| d.parse().ok()).ok_or_else(|| self.bad(element))?;
        self.rest = &self.rest[count..];
        Ok(value)
    }

    /// One digit will do.
    fn hour(&mut self) -> Result<i64, String> {
        let two = self.rest.bytes().take(2).filter(u8::is_ascii_digit).count();
        self.digits(two.max(1), "15")
    }

    fn skip(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.bad(literal))?;
        Ok(())
    }

    fn fraction(&mut self, precision: Precision) -> Result<u32, String> {
        let digits = match self.rest.strip_prefix(['.', ',']) {
            Some(rest) => rest.bytes().take_while(u8::is_ascii_digit).count(),
            None => 0,
        };
        let digits = match precision {
            Precision::Micros if digits < 6 => return Err(self.bad(".000000")),
            Precision::Micros => 6,
            Precision::Seconds if digits == 0 => return Ok(0),
            Precision::Seconds => digits,
        };
        let kept = &self.rest[1..=digits.min(9)];
        let nanos = format!("{kept:0<9}").parse().unwrap_or(0);
        self.rest = &self.rest[digits + 1..];
        Ok(nanos)
    }

    /// Seconds east of UTC.
    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let bad = self.bad("Z07:00");
        let zone =
            self.rest.get(..6).filter(|z| z.is_ascii() && z.as_bytes()[3] == b':').ok_or(bad.clone())?;
        let two = |d: &str| d.bytes().all(|b| b.is_ascii_digit()).then(|| d.parse::<i64>().ok()).flatten();
        let (hours, minutes) = two(&zone[1..3]).zip(two(&zone[4..6])).ok_or(bad.clone())?;
        let sign = match zone.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return Err(bad),
        };
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch; years begin in March so that the leap day is their last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of a duration such as `1h15m30.918s`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    let mut rest = unsigned;
    let mut total: i128 = 0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (digits, tail) = rest.split_at(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let unit = tail.bytes().take_while(|b| *b != b'.' && !b.is_ascii_digit()).count();
        let (unit, next) = tail.split_at(unit);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let fraction = &fraction[..fraction.len().min(18)];
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
        let power = 10i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let scale = i128::from(*scale);
        total = whole.checked_mul(scale).and_then(|w| total.checked_add(w)).ok_or_else(invalid)?;
        total += part * scale / power;
        rest = next;
    }
    let signed = if text.starts_with('-') { -total } else { total };
    i64::try_from(signed).map_err(|_| invalid())
}

/// As Go prints a duration.
pub(crate) fn print_duration(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let width = unit.ilog10() as usize;
        let text = format!("{whole}.{rest:0width$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match size {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(size, 1_000_000)),
        _ => {
            let seconds = decimal(size % 60_000_000_000, 1_000_000_000);
            let minutes = size / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// As Go's `time` quotes: whatever is not plain ASCII byte by byte.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..0x80 => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let s = |t| canonical(t, Precision::Seconds);
        assert_eq!(s("2024-02-29T23:59:59.7+01:00"), Ok(Some("2024-02-29T22:59:59Z".into())));
        assert_eq!(s("0001-01-01T00:00:00Z"), Ok(None));
        assert_eq!(s("1969-12-31T23:00:00-02:00"), Ok(Some("1970-01-01T01:00:00Z".into())));
        let layout = "\"2006-01-02T15:04:05Z07:00\"";
        assert_eq!(s("x"), Err(format!("parsing time \"x\" as {layout}: cannot parse \"x\" as \"2006\"")));
        assert_eq!(
            s("2024-01-01"),
            Err(format!("parsing time \"2024-01-01\" as {layout}: cannot parse \"\" as \"T\""))
        );
        assert_eq!(s("2024-13-01T"), Err("parsing time \"2024-13-01T\": month out of range".into()));
        assert_eq!(
            s("2023-02-29T00:00:00Z"),
            Err("parsing time \"2023-02-29T00:00:00Z\": day out of range".into())
        );
        let m = |t| canonical(t, Precision::Micros);
        assert_eq!(m("2024-01-01T00:00:00.123456+00:30"), Ok(Some("2023-12-31T23:30:00.123456Z".into())));
        assert!(m("2024-01-01T00:00:00Z").unwrap_err().ends_with("cannot parse \"Z\" as \".000000\""));
    }

    #[test]
    fn durations() {
        for (text, out) in [
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5ms", "1.5ms"),
            ("-1m0.25s", "-1m0.25s"),
            ("0", "0s"),
            ("1us", "1µs"),
        ] {
            assert_eq!(print_duration(parse_duration(text).unwrap()), out);
        }
        assert_eq!(parse_duration("1"), Err("time: missing unit in duration \"1\"".into()));
        assert_eq!(parse_duration("x"), Err("time: invalid duration \"x\"".into()));
        assert_eq!(parse_duration("1x"), Err("time: unknown unit \"x\" in duration \"1x\"".into()));
    }
}
