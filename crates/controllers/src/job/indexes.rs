//! Sets of completion indexes, as the text `1,3-5,7` in a Job's status.

use std::collections::BTreeSet;

pub type Indexes = BTreeSet<i32>;

/// Indexes below `completions`; what is no index is left out.
pub fn parse(text: &str, completions: i32) -> Indexes {
    let mut indexes = Indexes::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
        indexes.extend(first.max(0)..=last.min(completions - 1));
    }
    indexes
}

/// Runs of three and more as `FIRST-LAST`, of two as both.
pub fn show(indexes: &Indexes) -> String {
    let mut text = String::new();
    let mut rest = indexes.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text += &first.to_string();
        if last > first {
            text.push(if last == first + 1 { ',' } else { '-' });
            text += &last.to_string();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for text in ["", "0", "0,1", "0-2", "1,3-5,7", "0,2,3,9-11"] {
            assert_eq!(show(&parse(text, 100)), text);
        }
        assert_eq!(show(&parse("1-9,x,12", 5)), "1-4");
    }
}
