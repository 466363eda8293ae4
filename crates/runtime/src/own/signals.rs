//! Signals by name, as images and CRI write them.

use crate::cri::v1;

/// Linux's number of `SIGTERM`, `SIGRTMIN+3`, `SIGRTMINPLUS3` or `15`.
pub fn number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.strip_prefix("SIG")?;
    let offset = |rest: &str, word: char, spelled: &str| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(word).or_else(|| rest.strip_prefix(spelled))?.parse::<i32>().ok(),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(34 + offset(rest, '+', "PLUS")?).filter(|n| *n <= 64);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return Some(64 - offset(rest, '-', "MINUS")?).filter(|n| *n >= 34);
    }
    let name = match name {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    NAMES.iter().position(|have| *have == name).and_then(|at| i32::try_from(at + 1).ok())
}

pub fn of_number(wanted: i32) -> v1::Signal {
    let all = (1..=65).filter_map(|value| v1::Signal::try_from(value).ok());
    let mut fitting = all.filter(|signal| number(signal.as_str_name()) == Some(wanted));
    fitting.next().unwrap_or(v1::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers() {
        for (name, expected) in [
            ("SIGTERM", 15),
            ("SIGKILL", 9),
            ("SIGRTMIN+3", 37),
            ("SIGRTMINPLUS3", 37),
            ("SIGRTMAXMINUS1", 63),
            ("15", 15),
            ("SIGPOLL", 29),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        for bad in ["", "TERM", "SIGNONE", "0", "99", "SIGRTMIN+x"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(of_number(15), v1::Signal::Sigterm);
    }
}
