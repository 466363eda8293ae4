//! Tokens. What is no token is reported and passed over as ANTLR's lexers do.

/// Its order is that of the grammar: sets of expected tokens are listed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Tok {
    Equals = 1,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LBracket,
    RBracket,
    LBrace,
    RBrace,
    LParen,
    RParen,
    Dot,
    Comma,
    Minus,
    Exclam,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Whitespace,
    Comment,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Ident,
    EscIdent,
    Eof,
}

/// `start..end` in code points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Tok,
    pub start: u32,
    pub end: u32,
}

pub(super) struct Lexed {
    /// The last is [`Tok::Eof`].
    pub tokens: Vec<Token>,
    pub errors: Vec<Skipped>,
}

/// What is no token.
pub(super) struct Skipped {
    pub start: u32,
    pub end: u32,
    text: String,
}

impl Skipped {
    pub fn message(&self) -> String {
        format!("Syntax error: token recognition error at: '{}'", self.text)
    }
}

pub(super) fn lex(chars: &[char]) -> Lexed {
    let mut out = Lexed { tokens: Vec::new(), errors: Vec::new() };
    let mut at = 0;
    while at < chars.len() {
        match token(&chars[at..]) {
            Ok((kind, length)) => {
                if !matches!(kind, Tok::Whitespace | Tok::Comment) {
                    out.tokens.push(Token { kind, start: at as u32, end: (at + length) as u32 });
                }
                at += length;
            }
            Err(read) => {
                // the character that fitted nowhere is part of the text, and skipped
                let end = (at + read + 1).min(chars.len());
                let text: String = chars[at..end].iter().collect();
                out.errors.push(Skipped { start: at as u32, end: end as u32, text });
                at = end;
            }
        }
    }
    let end = chars.len() as u32;
    out.tokens.push(Token { kind: Tok::Eof, start: end, end });
    out
}

/// The token that stands at the start; or how many characters could be read until none was possible.
fn token(s: &[char]) -> Result<(Tok, usize), usize> {
    let at = |n: usize| s.get(n).copied().unwrap_or('\0');
    let one = |kind| Ok((kind, 1));
    match s[0] {
        '\t' | ' ' | '\r' | '\n' | '\u{c}' => {
            Ok((Tok::Whitespace, count(s, |c| matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}'))))
        }
        '/' if at(1) == '/' => Ok((Tok::Comment, count(s, |c| c != '\n'))),
        '=' if at(1) == '=' => Ok((Tok::Equals, 2)),
        '!' if at(1) == '=' => Ok((Tok::NotEquals, 2)),
        '<' if at(1) == '=' => Ok((Tok::LessEquals, 2)),
        '>' if at(1) == '=' => Ok((Tok::GreaterEquals, 2)),
        '&' if at(1) == '&' => Ok((Tok::And, 2)),
        '|' if at(1) == '|' => Ok((Tok::Or, 2)),
        '=' | '&' | '|' => Err(1),
        '<' => one(Tok::Less),
        '>' => one(Tok::Greater),
        '[' => one(Tok::LBracket),
        ']' => one(Tok::RBracket),
        '{' => one(Tok::LBrace),
        '}' => one(Tok::RBrace),
        '(' => one(Tok::LParen),
        ')' => one(Tok::RParen),
        '.' if at(1).is_ascii_digit() => Ok(number(s)),
        '.' => one(Tok::Dot),
        ',' => one(Tok::Comma),
        '-' => one(Tok::Minus),
        '!' => one(Tok::Exclam),
        '?' => one(Tok::Question),
        ':' => one(Tok::Colon),
        '+' => one(Tok::Plus),
        '*' => one(Tok::Star),
        '/' => one(Tok::Slash),
        '%' => one(Tok::Percent),
        '0'..='9' => Ok(number(s)),
        '"' | '\'' => quoted(s, false).map(|length| (Tok::String, length)),
        '`' => {
            let inner =
                count(&s[1..], |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
            if inner > 0 && at(inner + 1) == '`' { Ok((Tok::EscIdent, inner + 2)) } else { Err(inner + 1) }
        }
        'r' | 'R' if matches!(at(1), '"' | '\'') && quoted(&s[1..], true).is_ok() => {
            quoted(&s[1..], true).map(|length| (Tok::String, length + 1))
        }
        'b' | 'B' if matches!(at(1), '"' | '\'') && quoted(&s[1..], false).is_ok() => {
            quoted(&s[1..], false).map(|length| (Tok::Bytes, length + 1))
        }
        'b' | 'B'
            if matches!(at(1), 'r' | 'R') && matches!(at(2), '"' | '\'') && quoted(&s[2..], true).is_ok() =>
        {
            quoted(&s[2..], true).map(|length| (Tok::Bytes, length + 2))
        }
        c if c == '_' || c.is_ascii_alphabetic() => {
            let length = count(s, |c| c == '_' || c.is_ascii_alphanumeric());
            let word: String = s[..length.min(6)].iter().collect();
            let kind = match word.as_str() {
                "in" => Tok::In,
                "true" => Tok::True,
                "false" => Tok::False,
                "null" => Tok::Null,
                _ => Tok::Ident,
            };
            Ok((kind, length))
        }
        _ => Err(0),
    }
}

fn count(s: &[char], takes: impl Fn(char) -> bool) -> usize {
    s.iter().take_while(|c| takes(**c)).count()
}

fn number(s: &[char]) -> (Tok, usize) {
    let at = |n: usize| s.get(n).copied().unwrap_or('\0');
    if s[0] == '0' && at(1) == 'x' && at(2).is_ascii_hexdigit() {
        let length = 2 + count(&s[2..], |c| c.is_ascii_hexdigit());
        return if matches!(at(length), 'u' | 'U') { (Tok::Uint, length + 1) } else { (Tok::Int, length) };
    }
    let digits = |from: usize| count(&s[from.min(s.len())..], |c| c.is_ascii_digit());
    let mut length = digits(0);
    let mut kind = Tok::Int;
    if at(length) == '.' && at(length + 1).is_ascii_digit() {
        kind = Tok::Float;
        length += 1 + digits(length + 1);
    }
    if matches!(at(length), 'e' | 'E') {
        let sign = usize::from(matches!(at(length + 1), '+' | '-'));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            kind = Tok::Float;
            length += 1 + sign + exponent;
        }
    }
    if kind == Tok::Int && matches!(at(length), 'u' | 'U') { (Tok::Uint, length + 1) } else { (kind, length) }
}

/// The length of the quoted text at the start; or how far it could be read.
fn quoted(s: &[char], raw: bool) -> Result<usize, usize> {
    let quote = s[0];
    let triple = s.len() >= 3 && s[1] == quote && s[2] == quote;
    if triple {
        let mut at = 3;
        while at < s.len() {
            if s[at..].starts_with(&[quote; 3]) {
                return Ok(at + 3);
            }
            match s[at] {
                '\\' if !raw => match escape(&s[at..]) {
                    Ok(length) => at += length,
                    Err(_) => break,
                },
                _ => at += 1,
            }
        }
        // two quotes: the empty text
        return Ok(2);
    }
    let mut at = 1;
    while at < s.len() {
        match s[at] {
            c if c == quote => return Ok(at + 1),
            '\n' | '\r' => return Err(at),
            '\\' if !raw => match escape(&s[at..]) {
                Ok(length) => at += length,
                Err(read) => return Err(at + read),
            },
            _ => at += 1,
        }
    }
    Err(s.len())
}

fn escape(s: &[char]) -> Result<usize, usize> {
    let hex = |digits: usize| match count(&s[2..], |c| c.is_ascii_hexdigit()).min(digits) {
        n if n == digits => Ok(2 + digits),
        n => Err(2 + n),
    };
    match s.get(1) {
        Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => Ok(2),
        Some('x' | 'X') => hex(2),
        Some('u') => hex(4),
        Some('U') => hex(8),
        Some('0'..='3') => match count(&s[2..], |c| matches!(c, '0'..='7')).min(2) {
            2 => Ok(4),
            n => Err(2 + n),
        },
        _ => Err(1),
    }
}
