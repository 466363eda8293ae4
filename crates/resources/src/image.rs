//! Image references: just enough to know the tag that decides the pull policy.

/// The tag that will be pulled: `latest` if there is neither tag nor digest, "" with a digest only and for names that
/// are no image references.
pub(crate) fn tag(image: &str) -> &str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    if !good_path(path) || !tag.is_none_or(good_tag) || !digest.is_none_or(good_digest) {
        return "";
    }
    tag.unwrap_or(if digest.is_some() { "" } else { "latest" })
}

fn good_path(path: &str) -> bool {
    let hex = path.len() == 64 && path.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let rest = match path.split_once('/') {
        Some((host, rest))
            if host.contains(['.', ':']) || host == "localhost" || host.to_lowercase() != host =>
        {
            if !good_host(host) {
                return false;
            }
            rest
        }
        _ => path,
    };
    !hex && path.len() <= 255 && rest.split('/').all(good_component)
}

fn good_host(host: &str) -> bool {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    if let Some(address) = host.strip_prefix('[') {
        return address.ends_with(']');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// Words of a-z and 0-9, joined by one dot, one or two underscores, or dashes.
fn good_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !(bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b))) {
        return false;
    }
    part.split(|c: char| c.is_ascii() && word(c as u8))
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn good_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn good_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn tags() {
        let digest = "a".repeat(64);
        let check = |image: &str, want: &str| assert_eq!(tag(image), want, "{image}");
        check("nginx", "latest");
        check("nginx:latest", "latest");
        check("nginx:1.2", "1.2");
        check("localhost:5000/a/b", "latest");
        check("localhost:5000/a/b:x", "x");
        check(&format!("a@sha256:{digest}"), "");
        check("UPPER", "");
        check("REG.example/a", "latest");
        check("", "");
        check("a b", "");
    }
}
