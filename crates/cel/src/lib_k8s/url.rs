//! URLs, read as Go's `net/url` does.

use std::sync::Arc;

use machinery::field::go_quote;

use crate::env::Activation;
use crate::lib_std::{Res, no_overload};
use crate::value::{Entries, Map, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: String,
    /// With the port.
    host: String,
    /// As it was written, where that is valid.
    path: String,
    query: String,
    fragment: String,
}

impl Url {
    /// An absolute URL or an absolute path, as in a request.
    ///
    /// # Errors
    /// In Go's words.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let quoted = go_quote(text);
        let parsed = Self::parts(text, true).map_err(|why| format!("parse {quoted}: {why}"))?;
        if text.contains('#') {
            return Self::parts(text, false).map_err(|why| format!("parse {quoted}: {why}"));
        }
        Ok(parsed)
    }

    fn parts(text: &str, request: bool) -> Result<Url, String> {
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".into());
        }
        if text.is_empty() && request {
            return Err("empty url".into());
        }
        let (text, fragment) = match text.split_once('#').filter(|_| !request) {
            Some((text, fragment)) => (text, fragment),
            None => (text, ""),
        };
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut out = Url {
            scheme: scheme.to_lowercase(),
            user: String::new(),
            host: String::new(),
            path: String::new(),
            query: query.into(),
            fragment: fragment.into(),
        };
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                // opaque
                return Ok(out);
            }
            if request {
                return Err("invalid URI for request".into());
            }
            let segment = rest.split('/').next().unwrap_or("");
            if segment.contains(':') {
                return Err("first path segment in URL cannot contain colon".into());
            }
        }
        let mut path = rest;
        let authority = !scheme.is_empty() || (!request && !rest.starts_with("///"));
        if let Some(after) = rest.strip_prefix("//").filter(|_| authority) {
            let (authority, after) = after.find('/').map_or((after, ""), |at| after.split_at(at));
            path = after;
            let host = match authority.rsplit_once('@') {
                Some((user, host)) => {
                    if !user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)) {
                        return Err("net/url: invalid userinfo".into());
                    }
                    unescape(user, false)?;
                    out.user = user.into();
                    host
                }
                None => authority,
            };
            out.host = parse_host(host)?;
        }
        unescape(path, false)?;
        out.path = path.into();
        Ok(out)
    }

    fn hostname(&self) -> &str {
        let host = self.without_port();
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    fn without_port(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((host, port))
                if port.bytes().all(|b| b.is_ascii_digit())
                    && !(host.contains(':') && !host.ends_with(']')) =>
            {
                host
            }
            _ => &self.host,
        }
    }

    fn port(&self) -> &str {
        self.host[self.without_port().len()..].trim_start_matches(':')
    }

    /// The path as it was written if that is a valid way to write it.
    fn escaped_path(&self) -> String {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]/%".contains(&b);
        if self.path.bytes().all(valid) {
            return self.path.clone();
        }
        let bytes = unescape(&self.path, false).unwrap_or_default();
        let mut out = String::new();
        for b in bytes {
            if b.is_ascii_alphanumeric() || b"-_.~$&+/:=@,;!'()*".contains(&b) && !b"!'()*".contains(&b) {
                out.push(char::from(b));
            } else {
                out.push_str(&format!("%{b:02X}"));
            }
        }
        out
    }

    fn values(&self) -> Vec<(String, Vec<String>)> {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        for part in self.query.split('&') {
            if part.is_empty() || part.contains(';') {
                continue;
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (Ok(key), Ok(value)) = (unescape(key, true), unescape(value, true)) else { continue };
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let (key, value) = (text(key), text(value));
            match out.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => out.push((key, vec![value])),
            }
        }
        out
    }
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".into()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn parse_host(host: &str) -> Result<String, String> {
    let port = |colon: &str| {
        let good =
            colon.is_empty() || (colon.starts_with(':') && colon[1..].bytes().all(|b| b.is_ascii_digit()));
        if good { Ok(()) } else { Err(format!("invalid port {} after host", go_quote(colon))) }
    };
    if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".into()) };
        port(&host[end + 1..])?;
    } else if let Some(at) = host.rfind(':') {
        port(&host[at..])?;
    }
    for (at, b) in host.bytes().enumerate() {
        if b == b'%' {
            let shown: String = host[at..].chars().take(3).collect();
            let octet = host.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match octet {
                Some(octet) if octet >= 0x80 || (host.starts_with('[') && octet == b'%') => {}
                _ => return Err(format!("invalid URL escape {}", go_quote(&shown))),
            }
        } else if b < 0x80 && !(b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&b)) {
            let c = host[at..].chars().next().map(String::from).unwrap_or_default();
            return Err(format!("invalid character {} in host name", go_quote(&c)));
        }
    }
    String::from_utf8(unescape(host, false)?).map_err(|_| "invalid host".into())
}

fn unescape(text: &str, plus: bool) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let hex = text.get(at + 1..at + 3).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(octet) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
                    let shown: String = text[at..].chars().take(3).collect();
                    return Err(format!("invalid URL escape {}", go_quote(&shown)));
                };
                out.push(octet);
                at += 3;
            }
            b'+' if plus => {
                out.push(b' ');
                at += 1;
            }
            b => {
                out.push(b);
                at += 1;
            }
        }
    }
    Ok(out)
}

pub(crate) fn url<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("url", args) };
    match Url::parse(text) {
        Ok(url) => Ok(Value::Url(url.into())),
        Err(error) => Err(format!("URL parse error during conversion from string: {error}").into()),
    }
}

pub(crate) fn is_url<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("isURL", args) };
    Ok(Value::Bool(Url::parts(text, true).is_ok()))
}

fn part<'a>(args: &[Value<'a>], name: &str, of: fn(&Url) -> String) -> Res<'a> {
    match args {
        [Value::Url(url)] => Ok(Value::text(of(url))),
        _ => no_overload(name, args),
    }
}

pub(crate) fn scheme_of<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getScheme", |url| url.scheme.clone())
}

pub(crate) fn host<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getHost", |url| url.host.clone())
}

pub(crate) fn hostname<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getHostname", |url| url.hostname().to_owned())
}

pub(crate) fn port<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getPort", |url| url.port().to_owned())
}

pub(crate) fn escaped_path<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    part(args, "getEscapedPath", Url::escaped_path)
}

pub(crate) fn query<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::Url(url)] = args else { return no_overload("getQuery", args) };
    let mut out = Entries::default();
    for (key, values) in url.values() {
        out.insert(Value::text(key), Value::list(values.into_iter().map(Value::text).collect()));
    }
    Ok(Value::Map(Map::Entries(Arc::new(out))))
}
