//! One line of a CRI log: `TIME STREAM TAGS CONTENT`.
//!
//! Source: the CRI log format, design-proposals-archive/node/kubelet-cri-logging.md.

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A line, borrowed from the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written: RFC 3339 with nanoseconds.
    pub time: &'a [u8],
    pub stream: Stream,
    /// The container's line goes on in the next one.
    pub partial: bool,
    /// Without the line's end.
    pub content: &'a [u8],
}

impl Line<'_> {
    pub fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

/// Reads one line (with or without its newline); `None` for what is not a CRI log line.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut rest = line;
    let mut word = || {
        let at = rest.iter().position(|b| *b == b' ')?;
        let (word, tail) = rest.split_at(at);
        rest = &tail[1..];
        Some(word)
    };
    let time = word()?;
    let stream = match word()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let (tags, content) = match word() {
        Some(tags) => (tags, rest),
        None => (rest, &b""[..]),
    };
    let partial = match tags.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    if !time.first()?.is_ascii_digit() {
        return None;
    }
    Some(Line { time, stream, partial, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = parse(b"2024-01-02T03:04:05.000000006Z stderr F a b\n").unwrap();
        assert_eq!((line.stream, line.partial, line.content), (Stream::Stderr, false, &b"a b"[..]));
        assert_eq!(line.timestamp().unwrap().subsec_nanosecond(), 6);
        assert!(parse(b"2024-01-02T03:04:05Z stdout P x").unwrap().partial);
        assert_eq!(parse(b"2024-01-02T03:04:05Z stdout F ").unwrap().content, b"");
        assert_eq!(parse(b"2024-01-02T03:04:05Z stdout F").unwrap().content, b"");
        for bad in [&b"x"[..], b"", b"2024 stdout Q x", b"2024 both F x", b"t stdout F x"] {
            assert_eq!(parse(bad), None);
        }
    }
}
