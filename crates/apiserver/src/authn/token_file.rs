//! `--token-auth-file`: lines of CSV, `token,user,uid` and optionally `"group1,group2"`.

use std::collections::HashMap;

use super::User;

#[derive(Debug, Default)]
pub struct Tokens(HashMap<String, User>);

impl Tokens {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut out = HashMap::new();
        for (n, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let record = record(line).map_err(|e| format!("line {}: {e}", n + 1))?;
            let [token, name, uid, rest @ ..] = &record[..] else {
                return Err(format!(
                    "line {}: a token file must have at least 3 columns (token, user name, user uid), found {}",
                    n + 1,
                    record.len()
                ));
            };
            if token.is_empty() {
                tracing::warn!(line = n + 1, "an empty token in the token file is ignored");
                continue;
            }
            let groups = rest.first().map_or("", |g| g).split(',').map(str::trim);
            let user = User {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.filter(|g| !g.is_empty()).map(str::to_owned).collect(),
                ..User::default()
            };
            out.insert(token.clone(), user);
        }
        Ok(Self(out))
    }

    pub fn get(&self, token: &str) -> Option<User> {
        self.0.get(token).cloned()
    }
}

/// Fields of a line; those with commas stand in quotes, a quote within is doubled.
fn record(line: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let field;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next() {
                    Some((_, '"')) if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                        text.push('"');
                    }
                    Some((at, '"')) => break at + 1,
                    Some((_, c)) => text.push(c),
                    None => return Err("a quote is not closed".to_owned()),
                }
            };
            field = text;
            rest = quoted[end..].trim_start();
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("there is text after a closing quote".to_owned());
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field = rest[..end].to_owned();
            rest = &rest[end..];
        }
        out.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines() {
        let tokens = Tokens::parse("t1,jane,u1,\"dev,ops\"\n# no\n\nt2,joe,u2\n").unwrap();
        assert_eq!(tokens.get("t1").unwrap().groups, ["dev", "ops"]);
        assert_eq!(tokens.get("t2").unwrap().uid, "u2");
        assert!(tokens.get("t3").is_none());
        assert!(Tokens::parse("a,b").unwrap_err().contains("at least 3 columns"));
        assert!(Tokens::parse("a,b,c,\"d").unwrap_err().contains("not closed"));
    }
}
