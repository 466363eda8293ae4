//! What is wrong with an expression: positioned errors in cel-go's form.

use std::fmt;

/// Lines longer than this are not shown below an error.
const MAX_SNIPPET: usize = 16384;
/// More errors than this are only counted.
const MAX_ERRORS: usize = 100;

/// The text of an expression by code points, with its line starts.
#[derive(Debug)]
pub(crate) struct Source {
    pub chars: Vec<char>,
    /// Offsets at which the second and later lines start.
    lines: Vec<u32>,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let starts = chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(at, _)| at as u32 + 1);
        let lines = starts.collect();
        Self { chars, lines }
    }

    /// Line from 1, column from 0.
    pub fn position(&self, offset: u32) -> (u32, u32) {
        let before = self.lines.partition_point(|start| *start <= offset);
        let start = before.checked_sub(1).map_or(0, |n| self.lines[n]);
        (before as u32 + 1, offset - start)
    }

    fn line(&self, line: i64) -> Option<&[char]> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        if index > self.lines.len() || self.chars.is_empty() {
            return None;
        }
        let start = if index == 0 { 0 } else { self.lines[index - 1] as usize };
        let end = self.lines.get(index).map_or(self.chars.len(), |next| *next as usize - 1);
        Some(&self.chars[start..end])
    }
}

/// One error: `ERROR: <input>:LINE:COLUMN: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// From 1; -1, and a column of -1, if it has no place.
    pub line: i64,
    /// From 0, in code points.
    pub column: i64,
    pub message: String,
}

/// Why an expression does not compile. [`fmt::Display`] is cel-go's text, errors ordered by place:
///
/// ```text
/// ERROR: <input>:1:5: undeclared reference to 'x' (in container '')
///  | 1 + x
///  | ....^
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Issues {
    /// Ordered by place.
    pub errors: Vec<Issue>,
    text: String,
}

/// Collects errors.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<Issue>,
    count: usize,
}

impl Report {
    pub fn at(&mut self, source: &Source, offset: u32, message: String) {
        let (line, column) = source.position(offset);
        let (line, mut column) = (i64::from(line), i64::from(column));
        if source.chars.is_empty() {
            column = -1;
        }
        self.push(Issue { line, column, message });
    }

    /// An error of no place.
    pub fn nowhere(&mut self, message: String) {
        self.push(Issue { line: -1, column: -1, message });
    }

    pub fn push(&mut self, issue: Issue) {
        self.count += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(issue);
        }
    }

    /// Adds another's errors.
    pub fn absorb(&mut self, other: Report) {
        self.count += other.count - other.errors.len();
        for issue in other.errors {
            self.push(issue);
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn finish(mut self, source: &Source) -> Issues {
        self.errors.sort_by_key(|e| (e.line, e.column));
        let mut lines: Vec<String> = self.errors.iter().map(|e| display(e, source)).collect();
        if self.count > MAX_ERRORS {
            lines.push(format!("{} more errors were truncated", self.count - MAX_ERRORS));
        }
        Issues { errors: self.errors, text: lines.join("\n") }
    }
}

fn display(issue: &Issue, source: &Source) -> String {
    let mut out = format!("ERROR: <input>:{}:{}: {}", issue.line, issue.column + 1, issue.message);
    let Some(line) =
        source.line(issue.line).filter(|l| l.iter().map(|c| c.len_utf8()).sum::<usize>() <= MAX_SNIPPET)
    else {
        return out;
    };
    out.push_str("\n | ");
    out.extend(line.iter().map(|c| if *c == '\t' { ' ' } else { *c }));
    out.push_str("\n | ");
    let column = usize::try_from(issue.column).unwrap_or(0);
    out.extend(line.iter().take(column).map(|c| if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' }));
    out.push(if line.get(column).is_some_and(|c| c.len_utf8() > 1) { '\u{ff3e}' } else { '^' });
    out
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<input>:{}:{}: {}", self.line, self.column + 1, self.message)
    }
}
