//! Pages of proxied servers know nothing of the path they are seen under: their links and redirects get it prepended.
//!
//! Only values of attributes that are URLs change; everything else of a page stays byte for byte.

/// Where a proxied page came from and where it is seen.
pub struct Rewriter {
    /// The path up to what is handed on, without a slash at its end.
    pub prefix: String,
    /// `host:port` of the server.
    pub backend: String,
    /// The host that the client asked for.
    pub host: String,
}

/// A reference (RFC 3986) in its parts, as they stand.
struct Reference<'a> {
    scheme: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    /// Query and fragment with their marks.
    rest: &'a str,
}

impl<'a> Reference<'a> {
    /// None for what is no reference at all.
    fn parse(text: &'a str) -> Option<Reference<'a>> {
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return None;
        }
        let (main, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        let (scheme, main) = match main.find([':', '/']) {
            Some(at) if at > 0 && main.as_bytes()[at] == b':' => (&main[..at], &main[at + 1..]),
            _ => ("", main),
        };
        let (authority, path) = match main.strip_prefix("//") {
            Some(main) => {
                let (authority, path) = main.split_at(main.find('/').unwrap_or(main.len()));
                (Some(authority), path)
            }
            None => (None, main),
        };
        Some(Reference { scheme, authority, path, rest })
    }
}

impl Rewriter {
    /// A link to the same server, seen through us; None for all others, which stay as they are.
    pub fn url(&self, text: &str) -> Option<String> {
        let url = Reference::parse(text)?;
        let host = url.authority.unwrap_or("");
        if !url.path.starts_with('/') || ![self.backend.as_str(), self.host.as_str(), ""].contains(&host) {
            return None;
        }
        let origin = match host == self.host {
            true if !host.is_empty() && !url.scheme.is_empty() => format!("{}://{host}", url.scheme),
            true if !host.is_empty() => format!("//{host}"),
            _ => String::new(),
        };
        if url.path.starts_with(&self.prefix) {
            return Some(format!("{origin}{}{}", url.path, url.rest));
        }
        let path = join(&self.prefix, url.path);
        Some(format!("{origin}{path}{}", url.rest))
    }

    /// What `X-Forwarded-Uri` says of a request for `path` (without query).
    pub fn forwarded_uri(&self, path: &str) -> String {
        join(&self.prefix, path)
    }

    pub fn html(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + page.len() / 16);
        let mut at = 0;
        while let Some(tag) = next_tag(page, at) {
            for value in &tag.urls {
                let url = std::str::from_utf8(&page[value.clone()]).ok().and_then(|url| self.url(url));
                if let Some(url) = url {
                    out.extend_from_slice(&page[at..value.start]);
                    out.extend_from_slice(url.as_bytes());
                    at = value.end;
                }
            }
            out.extend_from_slice(&page[at..tag.end]);
            at = tag.end;
        }
        out.extend_from_slice(&page[at..]);
        out
    }
}

/// Two paths as one, without `.`, `..` and doubled slashes; a slash at the end stays.
fn join(prefix: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in prefix.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

/// The attributes of an element that are URLs (HTML 4.01 and HTML 5, index of attributes).
fn url_attributes(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 9] =
    ["iframe", "noembed", "noframes", "plaintext", "script", "style", "textarea", "title", "xmp"];

type Range = std::ops::Range<usize>;

/// A start tag, with the content that is text only.
struct Tag {
    end: usize,
    /// Where the values of its URL attributes stand, in order.
    urls: Vec<Range>,
}

fn find(page: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = page.get(from..)?;
    rest.windows(what.len()).position(|w| w.eq_ignore_ascii_case(what)).map(|n| from + n)
}

/// The next whole start tag from `at` on; comments and declarations are passed over.
fn next_tag(page: &[u8], mut at: usize) -> Option<Tag> {
    loop {
        let start = find(page, at, b"<")?;
        at = match page.get(start + 1)? {
            b'!' if page[start..].starts_with(b"<!--") => find(page, start + 4, b"-->")? + 3,
            b'!' | b'?' | b'/' => find(page, start + 2, b">")? + 1,
            first if first.is_ascii_alphabetic() => return start_tag(page, start),
            _ => start + 1,
        };
    }
}

fn start_tag(page: &[u8], start: usize) -> Option<Tag> {
    let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'>');
    let until = |from: usize, stop: &dyn Fn(&u8) -> bool| -> Option<usize> {
        page.get(from..)?.iter().position(stop).map(|n| from + n)
    };
    let mut at = until(start + 1, &is_end)?;
    let name = String::from_utf8_lossy(&page[start + 1..at]).to_ascii_lowercase();
    let wanted = url_attributes(&name);
    let mut urls = Vec::new();
    loop {
        at = until(at, &|b| !b.is_ascii_whitespace() && *b != b'/')?;
        if page[at] == b'>' {
            break;
        }
        let key_end = until(at + 1, &|b| is_end(b) || *b == b'=')?;
        let key = String::from_utf8_lossy(&page[at..key_end]).to_ascii_lowercase();
        at = until(key_end, &|b| !b.is_ascii_whitespace())?;
        if page[at] != b'=' {
            continue;
        }
        at = until(at + 1, &|b| !b.is_ascii_whitespace())?;
        let value = match page[at] {
            b'>' => break,
            quote @ (b'"' | b'\'') => {
                let end = until(at + 1, &|b| *b == quote)?;
                let value = at + 1..end;
                at = end + 1;
                value
            }
            _ => {
                let end = until(at, &|b| b.is_ascii_whitespace() || *b == b'>')?;
                let value = at..end;
                at = end;
                value
            }
        };
        if wanted.contains(&key.as_str()) {
            urls.push(value);
        }
    }
    let mut end = at + 1;
    if RAW.contains(&name.as_str()) && page[at - 1] != b'/' {
        end = find(page, end, format!("</{name}").as_bytes()).unwrap_or(page.len());
    }
    Some(Tag { end, urls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriter() -> Rewriter {
        Rewriter {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".into(),
            backend: "10.0.0.1:80".into(),
            host: "cluster:6443".into(),
        }
    }

    #[test]
    fn urls() {
        let check = |text: &str, wanted: &str| {
            assert_eq!(rewriter().url(text).as_deref().unwrap_or(text), wanted, "{text}");
        };
        check("/x", "/api/v1/namespaces/n/pods/p/proxy/x");
        check("/", "/api/v1/namespaces/n/pods/p/proxy/");
        check("/a/../b//c/?q=/d#e", "/api/v1/namespaces/n/pods/p/proxy/b/c/?q=/d#e");
        check("http://10.0.0.1:80/x", "/api/v1/namespaces/n/pods/p/proxy/x");
        check("https://cluster:6443/x", "https://cluster:6443/api/v1/namespaces/n/pods/p/proxy/x");
        check("//cluster:6443/x", "//cluster:6443/api/v1/namespaces/n/pods/p/proxy/x");
        check("/api/v1/namespaces/n/pods/p/proxy/x", "/api/v1/namespaces/n/pods/p/proxy/x");
        for other in
            ["x", "./x", "", "?a=/b", "#a", "http://elsewhere/x", "//elsewhere/x", "mailto:a@b", "a:/b\n"]
        {
            check(other, other);
        }
        assert_eq!(rewriter().forwarded_uri("/a/b/"), "/api/v1/namespaces/n/pods/p/proxy/a/b/");
        assert_eq!(rewriter().forwarded_uri("/"), "/api/v1/namespaces/n/pods/p/proxy/");
    }

    #[test]
    fn pages() {
        let check = |page: &str, wanted: &str| {
            let out = rewriter().html(page.as_bytes());
            let wanted = wanted.replace('@', &rewriter().prefix);
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "{page}");
        };
        check(r#"<a href="/rewriteme">test</a>"#, r#"<a href="@/rewriteme">test</a>"#);
        check(
            "<p>a < b<IMG ALT='/x' Src = '/y'/><a href=/z>c</a>",
            "<p>a < b<IMG ALT='/x' Src = '@/y'/><a href=@/z>c</a>",
        );
        check(r#"<video src="/a" poster="/b" title="/c">"#, r#"<video src="@/a" poster="@/b" title="/c">"#);
        check("<a href='x'><a\nhref=\"http://e/\">", "<a href='x'><a\nhref=\"http://e/\">");
        check(
            r#"<!-- <a href="/x"> --><!doctype html><a href="/y">"#,
            r#"<!-- <a href="/x"> --><!doctype html><a href="@/y">"#,
        );
        check(
            r#"<script src="/s">"<a href='/x'>"</SCRIPT><a href="/y">"#,
            r#"<script src="@/s">"<a href='/x'>"</SCRIPT><a href="@/y">"#,
        );
        for as_it_is in ["", "plain", "<a href=\"/x", "<", "<a", "<a href", "<a href=", "<!-- ", "</a"] {
            check(as_it_is, as_it_is);
        }
    }
}
