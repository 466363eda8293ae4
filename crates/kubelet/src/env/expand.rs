//! `$(NAME)` in values, commands, arguments and subPathExpr; `$$` is a literal `$`.
//!
//! Source: <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>.

/// Replaces references; those that `lookup` does not know stay as they are written.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('(') {
            match inner.find(')') {
                Some(end) => {
                    let name = &inner[..end];
                    match lookup(name) {
                        Some(value) => out.push_str(&value),
                        None => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    rest = &inner[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = inner;
                }
            }
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands every word of a command with the container's environment.
pub fn expand_command(words: Option<&Vec<String>>, env: &[(String, String)]) -> Vec<String> {
    let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    words.into_iter().flatten().map(|word| expand(word, lookup)).collect()
}

/// Expands where every reference has to be known: `Err` with the first unknown name.
pub fn expand_strictly(text: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let expanded = expand(text, |name| {
        let value = env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(name),
        None => Ok(expanded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$(EMPTY)|", "|"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("end$", "end$"),
            ("$(A)$", "1$"),
            ("é$(A)ü", "é1ü"),
            ("$($(A))", "$($(A))"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
        let env = [("A".to_owned(), "1".to_owned())];
        assert_eq!(expand_strictly("x/$(A)", &env), Ok("x/1".into()));
        assert_eq!(expand_strictly("x/$(B)", &env), Err("B".into()));
    }
}
