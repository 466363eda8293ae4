//! kubectl's JSONPath templates: `{.items[*].metadata.name}` between literal text, with `range` and filters.
//!
//! Source: <https://kubernetes.io/docs/reference/kubectl/jsonpath/>. Fields that are missing print nothing, as kubectl
//! has it; an index outside of its list is an error.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Node>),
}

type Path = Vec<Step>;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Back to the whole object (`$`).
    Root,
    Field(String),
    /// `*`, of a list or of an object.
    All,
    /// `..`: this value and all below it.
    Deep,
    /// `['a','b']`.
    Fields(Vec<String>),
    /// `[1]`, `[0:2]`, `[1,-1]`.
    Items(Vec<Slice>),
    Filter(Operand, Option<(Compare, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Slice {
    One(i64),
    Part { from: Option<i64>, to: Option<i64>, step: i64 },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        // As kubectl: a path may come without its braces and its first dot.
        let text = match text {
            bare if !bare.contains('{') && bare.starts_with(['.', '[', '$', '@']) => format!("{{{bare}}}"),
            whole => whole.to_owned(),
        };
        let mut parser = Parser { chars: text.chars().peekable() };
        let (nodes, ended) = parser.nodes()?;
        if ended { Err("not in range, nothing to end".into()) } else { Ok(Self(nodes)) }
    }

    pub fn render(&self, object: &Value) -> Result<String, String> {
        let mut out = String::new();
        render(&self.0, object, object, &mut out)?;
        Ok(out)
    }
}

fn render(nodes: &[Node], root: &Value, at: &Value, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let found: Vec<String> = follow(path, root, at)?.into_iter().map(text).collect();
                out.push_str(&found.join(" "));
            }
            Node::Range(path, body) => {
                for item in follow(path, root, at)? {
                    render(body, root, item, out)?;
                }
            }
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn follow<'a>(path: &[Step], root: &'a Value, at: &'a Value) -> Result<Vec<&'a Value>, String> {
    let mut found = vec![at];
    for step in path {
        let mut next = Vec::new();
        for value in found {
            take(step, root, value, &mut next)?;
        }
        found = next;
    }
    Ok(found)
}

fn take<'a>(step: &Step, root: &'a Value, value: &'a Value, out: &mut Vec<&'a Value>) -> Result<(), String> {
    match step {
        Step::Root => out.push(root),
        Step::Field(name) => out.extend(value.get(name)),
        Step::Fields(names) => out.extend(names.iter().filter_map(|name| value.get(name))),
        Step::All => out.extend(children(value)),
        Step::Deep => deep(value, out),
        Step::Items(slices) => {
            // Missing is nothing; anything else that has no items is an error, as upstream has it.
            if value.is_null() {
                return Ok(());
            }
            let items = value.as_array().ok_or_else(|| format!("{value} is not array or slice"))?;
            for slice in slices {
                cut(slice, items, out)?;
            }
        }
        Step::Filter(left, test) => {
            for item in value.as_array().into_iter().flatten() {
                if holds(left, test.as_ref(), root, item)? {
                    out.push(item);
                }
            }
        }
    }
    Ok(())
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn deep<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    out.push(value);
    for child in children(value) {
        deep(child, out);
    }
}

fn cut<'a>(slice: &Slice, items: &'a [Value], out: &mut Vec<&'a Value>) -> Result<(), String> {
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let outside = |index: i64| format!("array index out of bounds: index {index}, length {len}");
    match slice {
        Slice::One(index) => {
            let at = if *index < 0 { len.saturating_add(*index) } else { *index };
            let item = usize::try_from(at).ok().and_then(|at| items.get(at));
            out.push(item.ok_or_else(|| outside(at))?);
        }
        Slice::Part { from, to, step } => {
            let end = |bound: i64| if bound < 0 { len.saturating_add(bound) } else { bound };
            let (from, to) = (end(from.unwrap_or(0)), end(to.unwrap_or(len)));
            if from < 0 || from > len || to < 0 || to > len {
                return Err(outside(if from < 0 || from > len { from } else { to }));
            }
            let part = items.iter().take(usize::try_from(to).unwrap_or(0));
            let step = usize::try_from(*step).unwrap_or(1).max(1);
            out.extend(part.skip(usize::try_from(from).unwrap_or(0)).step_by(step));
        }
    }
    Ok(())
}

fn holds(
    left: &Operand,
    test: Option<&(Compare, Operand)>,
    root: &Value,
    item: &Value,
) -> Result<bool, String> {
    let value = |operand: &Operand| -> Result<Option<Value>, String> {
        match operand {
            Operand::Literal(value) => Ok(Some(value.clone())),
            Operand::Path(path) => Ok(follow(path, root, item)?.first().map(|v| (*v).clone())),
        }
    };
    let left = value(left)?;
    let Some((compare, right)) = test else { return Ok(left.is_some()) };
    let (Some(left), Some(right)) = (left, value(right)?) else { return Ok(false) };
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => Some(text(&left).cmp(&text(&right))),
    };
    let Some(order) = order else { return Ok(false) };
    Ok(match compare {
        Compare::Equal => order.is_eq(),
        Compare::Unequal => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::LessOrEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterOrEqual => order.is_ge(),
    })
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
}

impl Parser<'_> {
    /// Nodes up to the end of the template or (then true) an `{end}`.
    fn nodes(&mut self) -> Result<(Vec<Node>, bool), String> {
        let mut nodes = Vec::new();
        let mut literal = String::new();
        while let Some(c) = self.chars.next() {
            if c != '{' {
                literal.push(c);
                continue;
            }
            if !literal.is_empty() {
                nodes.push(Node::Text(std::mem::take(&mut literal)));
            }
            loop {
                self.blanks();
                match self.chars.peek() {
                    None => return Err("unclosed action".into()),
                    Some('}') => {
                        self.chars.next();
                        break;
                    }
                    Some('\'' | '"') => nodes.push(Node::Text(self.quoted()?)),
                    Some(c) if c.is_alphabetic() => match self.word().as_str() {
                        "end" => {
                            self.blanks();
                            if self.chars.next_if_eq(&'}').is_none() {
                                return Err("unclosed action".into());
                            }
                            return Ok((nodes, true));
                        }
                        "range" => {
                            self.blanks();
                            let path = self.path()?;
                            self.blanks();
                            if self.chars.next_if_eq(&'}').is_none() {
                                return Err("unclosed action".into());
                            }
                            let (body, ended) = self.nodes()?;
                            if !ended {
                                return Err("unexpected end of template: {range} without {end}".into());
                            }
                            nodes.push(Node::Range(path, body));
                            break;
                        }
                        other => return Err(format!("unrecognized identifier {other}")),
                    },
                    Some(_) => nodes.push(Node::Path(self.path()?)),
                }
            }
        }
        if !literal.is_empty() {
            nodes.push(Node::Text(literal));
        }
        Ok((nodes, false))
    }

    fn blanks(&mut self) {
        while self.chars.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
        }
        word
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.chars.next().unwrap_or('"');
        let mut out = String::new();
        loop {
            match self.chars.next().ok_or("unterminated quoted string")? {
                '\\' => match self.chars.next().ok_or("unterminated quoted string")? {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    other => out.push(other),
                },
                c if c == quote => return Ok(out),
                c => out.push(c),
            }
        }
    }

    fn path(&mut self) -> Result<Path, String> {
        let mut path = Vec::new();
        let mut first = true;
        loop {
            match self.chars.peek() {
                Some('$') if first => {
                    self.chars.next();
                    path.push(Step::Root);
                }
                Some('@') if first => {
                    self.chars.next();
                }
                Some('.') => {
                    self.chars.next();
                    if self.chars.next_if_eq(&'.').is_some() {
                        path.push(Step::Deep);
                    }
                    let name = self.name();
                    match name.as_str() {
                        // `.[0]` and `.['a']` are `[0]` and `['a']`; a dot alone is the object.
                        "" => {}
                        "*" => path.push(Step::All),
                        _ => path.push(Step::Field(name)),
                    }
                }
                Some('[') => {
                    self.chars.next();
                    let step = self.bracket()?;
                    path.push(step);
                }
                Some(c) if first => return Err(format!("unrecognized character in action: {c:?}")),
                _ => return Ok(path),
            }
            first = false;
        }
    }

    /// A field's name; `\` takes the next character as it is.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let ends = |c: &char| matches!(c, '.' | '[' | ']' | '}' | ')' | '=' | '!' | '<' | '>' | ',');
        while let Some(c) = self.chars.next_if(|c| !ends(c) && !c.is_whitespace()) {
            name.push(if c == '\\' { self.chars.next().unwrap_or(c) } else { c });
        }
        name
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.blanks();
        let step = match self.chars.peek() {
            Some('*') => {
                self.chars.next();
                Step::All
            }
            Some('?') => {
                self.chars.next();
                self.blanks();
                if self.chars.next_if_eq(&'(').is_none() {
                    return Err("unterminated filter".into());
                }
                let filter = self.filter()?;
                if self.chars.next_if_eq(&')').is_none() {
                    return Err("unterminated filter".into());
                }
                filter
            }
            Some('\'' | '"') => {
                let mut names = vec![self.quoted()?];
                self.blanks();
                while self.chars.next_if_eq(&',').is_some() {
                    self.blanks();
                    names.push(self.quoted()?);
                    self.blanks();
                }
                Step::Fields(names)
            }
            _ => Step::Items(self.slices()?),
        };
        self.blanks();
        match self.chars.next() {
            Some(']') => Ok(step),
            _ => Err("unterminated array".into()),
        }
    }

    fn slices(&mut self) -> Result<Vec<Slice>, String> {
        let mut written = String::new();
        while let Some(c) = self.chars.next_if(|c| *c != ']' && *c != '}') {
            written.push(c);
        }
        let invalid = || format!("invalid array index {written}");
        let number = |part: &str| match part.trim() {
            "" => Ok(None),
            digits => digits.parse::<i64>().map(Some).map_err(|_| invalid()),
        };
        let slice = |part: &str| -> Result<Slice, String> {
            let bounds: Vec<Option<i64>> = part.split(':').map(number).collect::<Result<_, _>>()?;
            match bounds[..] {
                [Some(index)] => Ok(Slice::One(index)),
                [from, to] => Ok(Slice::Part { from, to, step: 1 }),
                [from, to, step] if step.is_none_or(|step| step > 0) => {
                    Ok(Slice::Part { from, to, step: step.unwrap_or(1) })
                }
                _ => Err(invalid()),
            }
        };
        written.split(',').map(slice).collect()
    }

    fn filter(&mut self) -> Result<Step, String> {
        let left = self.operand()?;
        self.blanks();
        let compare = match self.chars.peek() {
            Some(')') => return Ok(Step::Filter(left, None)),
            Some('=' | '!' | '<' | '>') => {
                let first = self.chars.next().unwrap_or('=');
                let equal = self.chars.next_if_eq(&'=').is_some();
                match (first, equal) {
                    ('=', _) => Compare::Equal,
                    ('!', true) => Compare::Unequal,
                    ('<', true) => Compare::LessOrEqual,
                    ('<', false) => Compare::Less,
                    ('>', true) => Compare::GreaterOrEqual,
                    ('>', false) => Compare::Greater,
                    _ => return Err("unrecognized filter operator".into()),
                }
            }
            _ => return Err("unrecognized filter operator".into()),
        };
        self.blanks();
        let right = self.operand()?;
        self.blanks();
        Ok(Step::Filter(left, Some((compare, right))))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.blanks();
        match self.chars.peek() {
            Some('\'' | '"') => Ok(Operand::Literal(self.quoted()?.into())),
            Some('@' | '$' | '.') => Ok(Operand::Path(self.path()?)),
            _ => {
                let mut word = String::new();
                while let Some(c) =
                    self.chars.next_if(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '.'))
                {
                    word.push(c);
                }
                serde_json::from_str(&word)
                    .map(Operand::Literal)
                    .map_err(|_| format!("unrecognized value {word:?} in a filter"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(template: &str) -> Result<String, String> {
        let object = json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"app.x/y": "1"}}, "n": 1, "ok": true,
             "addresses": [{"type": "Hostname", "address": "h"}, {"type": "IP", "address": "10.0.0.1"}]},
            {"metadata": {"name": "b"}, "n": 2.5},
            {"metadata": {"name": "c"}, "n": 30}],
            "empty": [], "null": null});
        Template::parse(template)?.render(&object)
    }

    #[test]
    fn templates_print_what_kubectl_prints() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{.kind}", "List"),
            (".kind", "List"),
            ("{$.kind}-{@.kind}", "List-List"),
            ("{.items[*].metadata.name}", "a b c"),
            ("{.items..name}", "a b c"),
            ("{..metadata.name}", "a b c"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].n} {.items[1].n}", "30 2.5"),
            ("{.items[0:2].metadata.name}", "a b"),
            ("{.items[::2].metadata.name}", "a c"),
            ("{.items[0,2].metadata.name}", "a c"),
            ("{.items[*]['n','ok']}", "1 true 2.5 30"),
            ("{.items[0].metadata.labels.app\\.x/y}", "1"),
            ("{.items[0].metadata.labels['app.x/y']}", "1"),
            ("{.items[0].addresses[?(@.type==\"IP\")].address}", "10.0.0.1"),
            ("{.items[?(@.n>1)].metadata.name}", "b c"),
            ("{.items[?(@.n<=2.5)].metadata.name}", "a b"),
            ("{.items[?(@.ok)].metadata.name}", "a"),
            ("{.items[?(@.ok==true)].metadata.name}", "a"),
            ("{.items[?(@.metadata.name!='b')].n}", "1 30"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.n}{'\\n'}{end}", "a\t1\nb\t2.5\nc\t30\n"),
            ("{range .items[*]}[{.metadata.name}, {.n}] {end}", "[a, 1] [b, 2.5] [c, 30] "),
            ("{range .items[0:1]}{range .addresses[*]}{.type};{end}{end}", "Hostname;IP;"),
            ("{.missing.field}", ""),
            ("{.missing[0]}", ""),
            ("{.null}", ""),
            ("{.items[0].metadata}", r#"{"labels":{"app.x/y":"1"},"name":"a"}"#),
            ("{.empty}", "[]"),
        ] {
            assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (template, why) in [
            ("{.items", "unclosed action"),
            ("{range .items[*]}x", "without {end}"),
            ("{end}", "nothing to end"),
            ("{.items[x]}", "invalid array index x"),
            ("{.items[9]}", "array index out of bounds: index 9, length 3"),
            ("{.items[0}", "unterminated array"),
            ("{.items[?(@.n & 1)]}", "unrecognized filter operator"),
            ("{\"x}", "unterminated quoted string"),
            ("{foo}", "unrecognized identifier foo"),
            ("{.kind[0]}", "is not array or slice"),
        ] {
            let error = run(template).expect_err(template);
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
