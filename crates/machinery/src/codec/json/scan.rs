//! The syntax check, with the words of Go's `encoding/json`.

/// Go's limit on nesting.
const MAX_DEPTH: usize = 10_000;

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Object,
    Array,
}

/// Is this one JSON value and nothing else?
pub(super) fn check(data: &[u8]) -> Result<(), String> {
    let mut scan = Scan { data, at: 0 };
    let mut stack: Vec<Inside> = Vec::new();
    loop {
        // a value begins here
        scan.blanks();
        let c = scan.peek()?;
        match c {
            b'{' | b'[' => {
                scan.at += 1;
                if stack.len() >= MAX_DEPTH {
                    return Err(format!("invalid character '{}' exceeded max depth", char::from(c)));
                }
                scan.blanks();
                let next = scan.peek()?;
                if c == b'{' {
                    stack.push(Inside::Object);
                    if next == b'}' {
                        scan.at += 1;
                        stack.pop();
                    } else {
                        scan.key()?;
                        continue;
                    }
                } else {
                    stack.push(Inside::Array);
                    if next != b']' {
                        continue;
                    }
                    scan.at += 1;
                    stack.pop();
                }
            }
            b'"' => scan.string()?,
            b't' => scan.literal("true")?,
            b'f' => scan.literal("false")?,
            b'n' => scan.literal("null")?,
            b'-' | b'0'..=b'9' => scan.number()?,
            _ => return Err(scan.unexpected("looking for beginning of value")),
        }
        // a value has ended
        loop {
            scan.blanks();
            let Some(inside) = stack.last() else {
                return match scan.data.get(scan.at) {
                    None => Ok(()),
                    Some(_) => Err(scan.unexpected("after top-level value")),
                };
            };
            match (scan.peek()?, inside) {
                (b',', Inside::Object) => {
                    scan.at += 1;
                    scan.blanks();
                    scan.peek()?;
                    scan.key()?;
                    break;
                }
                (b',', Inside::Array) => {
                    scan.at += 1;
                    break;
                }
                (b'}', Inside::Object) | (b']', Inside::Array) => {
                    scan.at += 1;
                    stack.pop();
                }
                (_, Inside::Object) => return Err(scan.unexpected("after object key:value pair")),
                (_, Inside::Array) => return Err(scan.unexpected("after array element")),
            }
        }
    }
}

/// As Go: every byte that is not part of valid UTF-8 becomes U+FFFD.
pub(super) fn replace_invalid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('\u{fffd}', chunk.invalid().len()));
    }
    out
}

struct Scan<'a> {
    data: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.data.get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, String> {
        self.data.get(self.at).copied().ok_or_else(|| "unexpected end of JSON input".into())
    }

    fn unexpected(&self, context: &str) -> String {
        let c = self.data.get(self.at).copied().unwrap_or(0);
        let shown = match c {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            c => {
                let quoted = crate::field::go_quote(&char::from(c).to_string());
                format!("'{}'", &quoted[1..quoted.len() - 1])
            }
        };
        format!("invalid character {shown} {context}")
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), String> {
        if self.peek()? != b'"' {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        self.string()?;
        self.blanks();
        if self.peek()? != b':' {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                        b'u' => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek()?.is_ascii_hexdigit() {
                                    return Err(self.unexpected("in \\u hexadecimal character escape"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(self.unexpected("in string escape code")),
                    }
                }
                0..0x20 => return Err(self.unexpected("in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.peek()? != expected {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.data.get(self.at) == Some(&b'.') {
            self.at += 1;
            if !self.peek()?.is_ascii_digit() {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.data.get(self.at) {
            self.at += 1;
            if let b'+' | b'-' = self.peek()? {
                self.at += 1;
            }
            if !self.peek()?.is_ascii_digit() {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.data.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }
}
