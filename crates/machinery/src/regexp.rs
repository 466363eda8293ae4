//! Regular expressions as Go reads them (RE2): what is wrong with one, in the words of Go's `regexp`.
//! <https://pkg.go.dev/regexp/syntax>

use regex_syntax::ast::{self, ErrorKind};

/// Go's message, or nothing if the expression is good.
pub fn error(pattern: &str) -> Option<String> {
    if let Some(at) = lookaround(pattern) {
        return Some(message("invalid or unsupported Perl syntax", at));
    }
    let error = match ast::parse::Parser::new().parse(pattern) {
        Ok(_) => return regex_syntax::parse(pattern).err().map(|e| other(pattern, &e.to_string())),
        Err(error) => error,
    };
    let span = error.span();
    let (start, end) = (span.start.offset, span.end.offset);
    let at = pattern.get(start..end).unwrap_or("");
    let rest = pattern.get(start..).unwrap_or("");
    Some(match error.kind() {
        ErrorKind::ClassUnclosed => message("missing closing ]", rest),
        ErrorKind::ClassRangeInvalid => message("invalid character class range", at),
        ErrorKind::GroupUnclosed => message("missing closing )", pattern),
        ErrorKind::GroupUnopened => message("unexpected )", pattern),
        ErrorKind::RepetitionMissing => {
            let sign: String = rest.chars().take(1).collect();
            message("missing argument to repetition operator", &sign)
        }
        ErrorKind::EscapeUnexpectedEof => message("trailing backslash at end of expression", ""),
        ErrorKind::EscapeUnrecognized => message("invalid escape sequence", at),
        ErrorKind::RepetitionCountInvalid => message("invalid repeat count", at),
        ErrorKind::FlagUnrecognized | ErrorKind::GroupNameInvalid => {
            let from = pattern[..start].rfind("(?").unwrap_or(start);
            message("invalid or unsupported Perl syntax", pattern.get(from..end).unwrap_or(""))
        }
        ErrorKind::GroupNameDuplicate { .. } => message("duplicate capture group name", at),
        ErrorKind::NestLimitExceeded(_) => message("expression nests too deeply", pattern),
        kind => other(pattern, &kind.to_string()),
    })
}

fn message(what: &str, at: &str) -> String {
    format!("error parsing regexp: {what}: `{at}`")
}

fn other(pattern: &str, why: &str) -> String {
    let line = why.lines().last().unwrap_or(why);
    format!("error parsing regexp: {}: `{pattern}`", line.trim_start_matches("error: "))
}

/// Look-ahead and look-behind, which RE2 does not have: the sign as Go shows it.
fn lookaround(pattern: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        if !escaped && c == '(' {
            let rest = &pattern[at..];
            let found = ["(?=", "(?!", "(?<=", "(?<!"].iter().find(|sign| rest.starts_with(**sign));
            if let Some(sign) = found {
                // Go stops at the third character, unless it reads a name
                return Some(&rest[..sign.len()]);
            }
        }
        escaped = !escaped && c == '\\';
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_go() {
        let check = |pattern: &str, want: &str| {
            assert_eq!(error(pattern).unwrap_or_default(), want, "{pattern}");
        };
        check("^[a-z]+$", "");
        check("[", "error parsing regexp: missing closing ]: `[`");
        check("a(b", "error parsing regexp: missing closing ): `a(b`");
        check("a)", "error parsing regexp: unexpected ): `a)`");
        check("*a", "error parsing regexp: missing argument to repetition operator: `*`");
        check("a(?=b)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`");
        check("[z-a]", "error parsing regexp: invalid character class range: `z-a`");
    }
}
