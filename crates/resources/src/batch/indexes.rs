//! Index lists of Indexed Jobs: `1,3-5`.

use machinery::field::go_quote;

/// How many indexes the list names, all below `completions`.
pub(super) fn count(list: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last: Option<i64> = None;
    if list.is_empty() {
        return Ok(0);
    }
    for part in list.split(',') {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// What is wrong with these two lists together: they share an index.
pub(super) fn overlap(completed: &str, failed: &str, completions: i64) -> Option<String> {
    let good = |list: &str| -> Vec<(i64, i64)> {
        list.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    for (c, d) in good(completed) {
        for (f, g) in good(failed) {
            if c <= g && f <= d {
                return Some(format!("failedIndexes and completedIndexes overlap at index: {}", c.max(f)));
            }
        }
    }
    None
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(part)
        ));
    }
    let number = |text: &str| -> Result<i64, String> {
        let n: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", go_quote(text)))?;
        if n >= completions { Err(format!("too large index: {}", go_quote(text))) } else { Ok(n) }
    };
    let from = number(limits[0])?;
    let Some(to) = limits.get(1) else { return Ok((from, from)) };
    let to = number(to)?;
    if from >= to {
        return Err(format!("non-increasing order, previous: {from}, current: {to}"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(count("1,3-5,7", 10), Ok(5));
        assert_eq!(count("", 10), Ok(0));
        assert!(count("3,1", 10).unwrap_err().starts_with("non-increasing order"));
        assert_eq!(count("x", 10).unwrap_err(), "cannot convert string to integer for index: \"x\"");
        assert_eq!(count("10", 10).unwrap_err(), "too large index: \"10\"");
        assert!(overlap("1-3", "3", 5).is_some() && overlap("1-3", "4", 5).is_none());
    }
}
