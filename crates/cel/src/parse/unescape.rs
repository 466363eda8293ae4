//! What quoted text means.

/// `token` with its quotes and prefix (`r`, but not `b`).
pub(super) fn unescape(token: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let token = token.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, text) = match token.strip_prefix(['r', 'R']) {
        Some(text) => (true, text),
        None => (false, token.as_str()),
    };
    let triple = text.len() >= 6 && (text.starts_with("'''") || text.starts_with("\"\"\""));
    let quotes = if triple { 3 } else { 1 };
    let text = text.get(quotes..text.len().saturating_sub(quotes)).ok_or("unable to unescape string")?;
    if raw || !text.contains('\\') {
        return Ok(text.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let code = match chars.next().ok_or("unable to unescape string, found '\\' as last character")? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            c @ ('\\' | '\'' | '"' | '`' | '?') => c as u32,
            'x' | 'X' => number(&mut chars, 2, 16)?,
            'u' | 'U' if bytes => return Err("unable to unescape string"),
            'u' => number(&mut chars, 4, 16)?,
            'U' => number(&mut chars, 8, 16)?,
            c @ '0'..='3' => (c as u32 - 48) * 64 + number(&mut chars, 2, 8)?,
            _ => return Err("unable to unescape string"),
        };
        if bytes {
            out.push(code as u8);
        } else {
            let c = char::from_u32(code).ok_or("invalid unicode code point")?;
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    Ok(out)
}

fn number(chars: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Result<u32, &'static str> {
    let mut out: u32 = 0;
    for _ in 0..digits {
        let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or("unable to unescape string")?;
        out = out.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(out)
}
