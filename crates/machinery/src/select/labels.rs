//! Label selectors: requirements, the query-string form (`a=b,c in (d,e),!f,g>1`) and the object form.

use std::fmt;

use serde_json::{Map, Value};

use crate::field::{Error, Path, go_quote};
use crate::names;
use crate::value::Get;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label. Made checked, by [`Requirement::new`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    /// Ordered, no doubles.
    values: Vec<String>,
}

/// All requirements must hold. The default one, without requirements, matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    nothing: bool,
    /// Ordered by key.
    requirements: Vec<Requirement>,
}

impl Requirement {
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, String> {
        use Operator::*;
        let mut errors: Vec<Error> = invalid_key(key, &Path::new("key")).into_iter().collect();
        let at = Path::new("values");
        let shown = || Value::from(values.clone());
        let detail = match operator {
            In | NotIn if values.is_empty() => "for 'in', 'notin' operators, values set can't be empty",
            Equals | DoubleEquals | NotEquals if values.len() != 1 => {
                "exact-match compatibility requires one single value"
            }
            Exists | DoesNotExist if !values.is_empty() => {
                "values set must be empty for exists and does not exist"
            }
            GreaterThan | LessThan if values.len() != 1 => {
                "for 'Gt', 'Lt' operators, exactly one value is required"
            }
            _ => "",
        };
        if !detail.is_empty() {
            errors.push(Error::invalid(&at, shown(), detail));
        }
        if matches!(operator, GreaterThan | LessThan) {
            for (n, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(Error::invalid(&at.index(n), value.as_str(), detail));
            }
        }
        for (n, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(Error::invalid(&at.index(n).key(key), value.as_str(), messages.join("; ")));
            }
        }
        match aggregate(&errors) {
            Some(message) => Err(message),
            None => Ok(Self::unchecked(key, operator, values)),
        }
    }

    fn unchecked(key: &str, operator: Operator, mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self { key: key.into(), operator, values }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let among = |label: &str| self.values.iter().any(|v| v == label);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(among),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(among),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let number = |text: &str| text.parse::<i64>().ok();
                match (label.and_then(number), self.values.first().and_then(|v| number(v))) {
                    (Some(a), Some(b)) if self.operator == Operator::GreaterThan => a > b,
                    (Some(a), Some(b)) => a < b,
                    _ => false,
                }
            }
        }
    }
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self { nothing: true, requirements: Vec::new() }
    }

    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { nothing: false, requirements }
    }

    /// Reads the query-string form.
    pub fn parse(text: &str) -> Result<Self, String> {
        Parser { tokens: lex(text), at: 0 }.parse().map(Self::new)
    }

    /// Of a `LabelSelector` object: null matches nothing, an empty one everything.
    pub fn from_object(object: &Value) -> Result<Self, String> {
        if object.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in object.map("matchLabels").into_iter().flatten() {
            let value = value.as_str().unwrap_or("").to_owned();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value])?);
        }
        for expression in object.list("matchExpressions") {
            let operator = match expression.text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{} is not a valid label selector operator", go_quote(other))),
            };
            let values = expression.list("values").iter().filter_map(Value::as_str).map(str::to_owned);
            requirements.push(Requirement::new(expression.text("key"), operator, values.collect())?);
        }
        Ok(Self::new(requirements))
    }

    /// Of a plain map of labels (`spec.selector` of Services and ReplicationControllers); every label must be there.
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let each = labels.iter().map(|(key, value)| {
            Requirement::unchecked(key, Operator::Equals, vec![value.as_str().unwrap_or("").to_owned()])
        });
        Self::new(each.collect())
    }

    /// No conditions: matches everything.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Does an object with these labels match?
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// `label`: the value of a label, if there is one.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// The value that a label must have, if there is only one that will do.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let found = self.requirements.iter().find(|r| r.key == key)?;
        match (found.operator, &*found.values) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

/// In the form that [`LabelSelector::parse`] reads.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if n > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

fn invalid_key(key: &str, at: &Path) -> Option<Error> {
    let messages = names::qualified_name(key);
    (!messages.is_empty()).then(|| Error::invalid(at, key, messages.join("; ")))
}

/// Several errors as upstream's aggregate prints them; doubles once.
fn aggregate(errors: &[Error]) -> Option<String> {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match &texts[..] {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

struct Token {
    kind: Kind,
    text: String,
}

fn keyword(text: &str) -> Option<Kind> {
    Some(match text {
        ")" => Kind::Close,
        "," => Kind::Comma,
        "!" => Kind::Not,
        "==" => Kind::DoubleEquals,
        "=" => Kind::Equals,
        ">" => Kind::Greater,
        "in" => Kind::In,
        "<" => Kind::Less,
        "!=" => Kind::NotEquals,
        "notin" => Kind::NotIn,
        "(" => Kind::Open,
        _ => return None,
    })
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Ends with [`Kind::End`]; a NUL ends the text, as upstream has it.
fn lex(text: &str) -> Vec<Token> {
    let mut rest = text.split('\0').next().unwrap_or("");
    let mut out = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_blank);
        let Some(first) = rest.chars().next() else {
            out.push(Token { kind: Kind::End, text: String::new() });
            return out;
        };
        let end = if is_symbol(first) {
            let run = rest.find(|c| !is_symbol(c)).unwrap_or(rest.len());
            // the longest prefix up to which every further symbol still made a keyword
            let mut end = 0;
            for len in 1..=run {
                if keyword(&rest[..len]).is_some() {
                    end = len;
                } else if end > 0 {
                    break;
                }
            }
            if end == 0 {
                let text = format!("error expected: keyword found '{}'", &rest[..run]);
                out.push(Token { kind: Kind::Error, text });
                rest = &rest[run..];
                continue;
            }
            end
        } else {
            rest.find(|c| is_symbol(c) || is_blank(c)).unwrap_or(rest.len())
        };
        let text = rest[..end].to_owned();
        out.push(Token { kind: keyword(&text).unwrap_or(Kind::Identifier), text });
        rest = &rest[end..];
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn raw(&self) -> (Kind, String) {
        self.tokens.get(self.at).map_or((Kind::End, String::new()), |t| (t.kind, t.text.clone()))
    }

    /// `in` and `notin` are names here.
    fn peek(&self) -> (Kind, String) {
        match self.raw() {
            (Kind::In | Kind::NotIn, text) => (Kind::Identifier, text),
            other => other,
        }
    }

    fn take(&mut self) -> (Kind, String) {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                (Kind::Identifier | Kind::Not, _) => {
                    let requirement = self.requirement();
                    out.push(requirement.map_err(|e| format!("unable to parse requirement: {e}"))?);
                    match self.take() {
                        (Kind::End, _) => return Ok(out),
                        (Kind::Comma, _) => match self.peek() {
                            (Kind::Identifier | Kind::Not, _) => {}
                            (_, text) => {
                                return Err(format!("found '{text}', expected: identifier after ','"));
                            }
                        },
                        (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Kind::End, _) => return Ok(out),
                (_, text) => {
                    return Err(format!("found '{text}', expected: !, identifier, or 'end of string'"));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut kind, mut key) = self.take();
        let negated = kind == Kind::Not;
        if negated {
            (kind, key) = self.take();
        }
        if kind != Kind::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if let Some(error) = invalid_key(&key, &Path::root()) {
            return Err(error.to_string());
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if let (Kind::End | Kind::Comma, _) = self.peek() {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort_unstable();
        values.dedup();
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let (kind, text) = self.raw();
        self.at += 1;
        Ok(match kind {
            Kind::In => Operator::In,
            Kind::NotIn => Operator::NotIn,
            Kind::Equals => Operator::Equals,
            Kind::DoubleEquals => Operator::DoubleEquals,
            Kind::NotEquals => Operator::NotEquals,
            Kind::Greater => Operator::GreaterThan,
            Kind::Less => Operator::LessThan,
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let (kind, text) = self.take();
        if kind != Kind::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        match self.peek() {
            (Kind::Identifier | Kind::Comma, first) => {
                let list = self.list()?;
                match self.take() {
                    (Kind::Close, _) => Ok(list),
                    _ => Err(format!("found '{first}', expected: ')'")),
                }
            }
            (Kind::Close, _) => {
                self.at += 1;
                Ok(vec![String::new()])
            }
            (_, text) => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        let mut out: Vec<String> = Vec::new();
        loop {
            match self.take() {
                (Kind::Identifier, text) => {
                    out.push(text);
                    match self.peek() {
                        (Kind::Comma, _) => {}
                        (Kind::Close, _) => return Ok(out),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Kind::Comma, _) => {
                    if out.is_empty() {
                        out.push(String::new());
                    }
                    match self.peek() {
                        (Kind::Close, _) => {
                            out.push(String::new());
                            return Ok(out);
                        }
                        (Kind::Comma, _) => out.push(String::new()),
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if let (Kind::End | Kind::Comma, _) = self.peek() {
            return Ok(String::new());
        }
        match self.take() {
            (Kind::Identifier, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}
