//! Semantic versions, <https://semver.org>.

use std::cmp::Ordering;

use crate::env::{Activation, EvalError};
use crate::lib_std::{Res, no_overload};
use crate::value::Value;

type Host<'h, 'a> = &'h dyn Activation<'a>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub numbers: [u64; 3],
    pub pre: Vec<String>,
    pub build: Vec<String>,
}

impl Semver {
    fn parse(text: &str) -> Result<Semver, String> {
        if text.is_empty() {
            return Err("Version string empty".into());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".into());
        };
        let (patch, build) = patch.split_once('+').map_or((*patch, None), |(p, b)| (p, Some(b)));
        let (patch, pre) = patch.split_once('-').map_or((patch, None), |(p, b)| (p, Some(b)));
        let major = number(major, "major")?;
        let minor = number(minor, "minor")?;
        let patch = number(patch, "patch")?;
        let mut out = Semver { numbers: [major, minor, patch], pre: Vec::new(), build: Vec::new() };
        for part in pre.iter().flat_map(|p| p.split('.')) {
            if part.is_empty() {
                return Err("Prerelease is empty".into());
            }
            if !part.bytes().all(valid) {
                return Err(format!(
                    "Invalid character(s) found in prerelease {}",
                    machinery::field::go_quote(part)
                ));
            }
            if part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()) {
                let quoted = machinery::field::go_quote(part);
                return Err(format!("Numeric PreRelease version must not contain leading zeroes {quoted}"));
            }
            out.pre.push(part.into());
        }
        for part in build.iter().flat_map(|b| b.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".into());
            }
            if !part.bytes().all(valid) {
                let quoted = machinery::field::go_quote(part);
                return Err(format!("Invalid character(s) found in build meta data {quoted}"));
            }
            out.build.push(part.into());
        }
        Ok(out)
    }

    /// Of `v1.2` and the like: without leading zeros, three numbers.
    fn parse_loose(text: &str) -> Result<Semver, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(String::from).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let trimmed = part.trim_start_matches('0');
                let digit = trimmed.bytes().next().is_some_and(|b| b.is_ascii_digit());
                *part = if digit { trimmed.into() } else { format!("0{trimmed}") };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|p| p.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".into());
            }
            parts.resize(3, "0".into());
        }
        Self::parse(&parts.join("."))
    }

    /// Build data does not count.
    pub fn compare(&self, other: &Semver) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        if numbers.is_ne() {
            return numbers;
        }
        match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        for (a, b) in self.pre.iter().zip(&other.pre) {
            let order = match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            };
            if order.is_ne() {
                return order;
            }
        }
        self.pre.len().cmp(&other.pre.len())
    }
}

fn valid(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

fn number(text: &str, which: &str) -> Result<u64, String> {
    let quoted = || machinery::field::go_quote(text);
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {which} number {}", quoted()));
    }
    if text.len() > 1 && text.starts_with('0') {
        let which = format!("{}{}", which[..1].to_uppercase(), &which[1..]);
        return Err(format!("{which} number must not contain leading zeroes {}", quoted()));
    }
    let why = if text.is_empty() { "invalid syntax" } else { "value out of range" };
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {}: {why}", quoted()))
}

fn read(args: &[Value<'_>]) -> Option<Result<Semver, String>> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Some(Semver::parse(text)),
        [Value::String(text), Value::Bool(true)] => Some(Semver::parse_loose(text)),
        _ => None,
    }
}

pub(crate) fn semver<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match read(args) {
        Some(Ok(version)) => Ok(Value::Semver(version.into())),
        Some(Err(error)) => Err(EvalError::from(error)),
        None => no_overload("semver", args),
    }
}

pub(crate) fn is_semver<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    read(args).map_or_else(|| no_overload("isSemver", args), |read| Ok(Value::Bool(read.is_ok())))
}

fn part<'a>(args: &[Value<'a>], name: &str, which: usize) -> Res<'a> {
    match args {
        [Value::Semver(version)] => Ok(Value::Int(version.numbers[which] as i64)),
        _ => no_overload(name, args),
    }
}

pub(crate) fn major<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "major", 0)
}

pub(crate) fn minor<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "minor", 1)
}

pub(crate) fn patch<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "patch", 2)
}
