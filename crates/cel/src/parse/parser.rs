//! The parser: recursive descent over the grammar of <https://github.com/google/cel-spec>, with cel-go's limits.
//!
//! What is not of the grammar is not explained here: [`super::syntax`] then reads the tokens again, slowly, to say it in
//! ANTLR's words.

use std::sync::Arc;

use super::ast::{Call, Entry, Expr, Field, Kind, Literal, op};
use super::lexer::{Tok, Token, lex};
use super::macros::{self, Features};
use super::unescape::unescape;
use crate::escape::RESERVED;
use crate::issues::{Report, Source};

/// Code points of an expression.
const MAX_SIZE: usize = 100_000;
/// Depth of any rule of the grammar within itself, and of the tree.
pub(super) const MAX_DEPTH: usize = 250;

/// The parser cannot go on.
enum Stop {
    Syntax,
    /// A rule within itself too often.
    Depth,
}

type Parsed<T> = Result<T, Stop>;

/// The rules that may stand within themselves.
#[derive(Clone, Copy)]
enum Rule {
    Expr,
    Relation,
    Calc,
    Member,
}

pub(super) struct Parser<'s> {
    source: &'s Source,
    tokens: Vec<Token>,
    at: usize,
    pub(super) features: Features,
    pub(super) report: &'s mut Report,
    next_id: u32,
    depth: [usize; 4],
}

/// An expression, and how deep selects, operators and the like stand within each other.
struct Node {
    expr: Expr,
    height: usize,
}

/// The tree and the number of its ids; None: the report says why.
pub(crate) fn parse(source: &Source, features: Features, report: &mut Report) -> Option<(Expr, u32)> {
    let before = report.count();
    if source.chars.len() > MAX_SIZE {
        let size = source.chars.len();
        report.nowhere(format!("expression code point size exceeds limit: size: {size}, limit {MAX_SIZE}"));
        return None;
    }
    let lexed = lex(&source.chars);
    let mut own = Report::default();
    let mut parser =
        Parser { source, tokens: lexed.tokens, at: 0, features, report: &mut own, next_id: 0, depth: [0; 4] };
    let result = parser.start();
    let (next_id, tokens) = (parser.next_id, parser.tokens);
    match result {
        Ok(_) | Err(Stop::Depth) => {
            for skipped in &lexed.errors {
                report.at(source, skipped.start, skipped.message());
            }
            if matches!(result, Err(Stop::Depth)) {
                report.nowhere(format!("expression recursion limit exceeded: {MAX_DEPTH}"));
                return None;
            }
        }
        Err(Stop::Syntax) => {
            super::syntax::explain(source, &tokens, &lexed.errors, report);
            report.absorb(own);
            return None;
        }
    }
    report.absorb(own);
    let node = result.ok()?;
    if node.height > MAX_DEPTH {
        report.nowhere("max recursion depth exceeded".into());
    }
    (report.count() == before).then_some((node.expr, next_id))
}

impl Parser<'_> {
    pub(super) fn node(&mut self, at: u32, kind: Kind) -> Expr {
        let id = self.next_id;
        self.next_id += 1;
        Expr { id, at, kind }
    }

    pub(super) fn error(&mut self, at: u32, message: impl Into<String>) -> Expr {
        self.report.at(self.source, at, message.into());
        self.node(at, Kind::Unspecified)
    }

    fn peek(&self) -> Tok {
        self.tokens[self.at].kind
    }

    fn peek_at(&self, ahead: usize) -> Tok {
        self.tokens.get(self.at + ahead).map_or(Tok::Eof, |t| t.kind)
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at];
        if token.kind != Tok::Eof {
            self.at += 1;
        }
        token
    }

    fn eat(&mut self, kind: Tok) -> Option<Token> {
        (self.peek() == kind).then(|| self.next())
    }

    fn expect(&mut self, kind: Tok) -> Parsed<Token> {
        self.eat(kind).ok_or(Stop::Syntax)
    }

    fn text(&self, token: Token) -> String {
        self.source.chars[token.start as usize..token.end as usize].iter().collect()
    }

    fn enter(&mut self, rule: Rule) -> Parsed<()> {
        self.depth[rule as usize] += 1;
        if self.depth[rule as usize] > MAX_DEPTH { Err(Stop::Depth) } else { Ok(()) }
    }

    fn leave(&mut self, rule: Rule) {
        self.depth[rule as usize] -= 1;
    }

    fn start(&mut self) -> Parsed<Node> {
        let node = self.expr()?;
        self.expect(Tok::Eof)?;
        Ok(node)
    }

    fn expr(&mut self) -> Parsed<Node> {
        self.enter(Rule::Expr)?;
        let condition = self.or()?;
        let out = match self.eat(Tok::Question) {
            None => condition,
            Some(question) => {
                let yes = self.or()?;
                self.expect(Tok::Colon)?;
                let no = self.expr()?;
                let height = 1 + condition.height.max(yes.height).max(no.height);
                let args = vec![condition.expr, yes.expr, no.expr];
                Node { expr: self.call(question.start, op::CONDITIONAL, args), height }
            }
        };
        self.leave(Rule::Expr);
        Ok(out)
    }

    fn or(&mut self) -> Parsed<Node> {
        let first = self.and()?;
        self.logic(first, Tok::Or, op::OR, Self::and)
    }

    fn and(&mut self) -> Parsed<Node> {
        let first = self.relation()?;
        self.logic(first, Tok::And, op::AND, Self::relation)
    }

    /// Terms of a logical operator, as a balanced tree.
    fn logic(
        &mut self,
        first: Node,
        operator: Tok,
        function: &str,
        term: fn(&mut Self) -> Parsed<Node>,
    ) -> Parsed<Node> {
        let mut height = first.height;
        let mut terms = vec![Some(first.expr)];
        let mut places = Vec::new();
        while let Some(token) = self.eat(operator) {
            let next = term(self)?;
            height = height.max(next.height);
            terms.push(Some(next.expr));
            places.push(token.start);
        }
        if places.is_empty() {
            let expr = terms.pop().flatten().ok_or(Stop::Syntax)?;
            return Ok(Node { expr, height });
        }
        let last = places.len() - 1;
        let expr = self.balance(&mut terms, &places, function, 0, last).ok_or(Stop::Syntax)?;
        Ok(Node { expr, height })
    }

    fn balance(
        &mut self,
        terms: &mut [Option<Expr>],
        places: &[u32],
        function: &str,
        low: usize,
        high: usize,
    ) -> Option<Expr> {
        let middle = (low + high).div_ceil(2);
        let left = if middle == low {
            terms[middle].take()?
        } else {
            self.balance(terms, places, function, low, middle - 1)?
        };
        let right = if middle == high {
            terms[middle + 1].take()?
        } else {
            self.balance(terms, places, function, middle + 1, high)?
        };
        Some(self.call(places[middle], function, vec![left, right]))
    }

    fn relation(&mut self) -> Parsed<Node> {
        self.enter(Rule::Relation)?;
        let mut left = self.calc(1)?;
        loop {
            let function = match self.peek() {
                Tok::Less => op::LT,
                Tok::LessEquals => op::LE,
                Tok::GreaterEquals => op::GE,
                Tok::Greater => op::GT,
                Tok::Equals => op::EQ,
                Tok::NotEquals => op::NE,
                Tok::In => op::IN,
                _ => break,
            };
            let at = self.next().start;
            // the right side is a relation too
            self.enter(Rule::Relation)?;
            let right = self.calc(1)?;
            self.leave(Rule::Relation);
            let height = 1 + left.height.max(right.height);
            left = Node { expr: self.call(at, function, vec![left.expr, right.expr]), height };
        }
        self.leave(Rule::Relation);
        Ok(left)
    }

    /// `strength` 1: sums, 2: products only.
    fn calc(&mut self, strength: u8) -> Parsed<Node> {
        self.enter(Rule::Calc)?;
        let mut left = self.unary()?;
        loop {
            let (function, strong) = match self.peek() {
                Tok::Star => (op::MUL, 2),
                Tok::Slash => (op::DIV, 2),
                Tok::Percent => (op::REM, 2),
                Tok::Plus => (op::ADD, 1),
                Tok::Minus => (op::SUB, 1),
                _ => break,
            };
            if strong < strength {
                break;
            }
            let at = self.next().start;
            let right = self.calc(strong + 1)?;
            let height = 1 + left.height.max(right.height);
            left = Node { expr: self.call(at, function, vec![left.expr, right.expr]), height };
        }
        self.leave(Rule::Calc);
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Node> {
        let number = matches!(self.peek_at(1), Tok::Int | Tok::Float);
        let (operator, function) = match self.peek() {
            Tok::Exclam => (Tok::Exclam, op::NOT),
            Tok::Minus if !number => (Tok::Minus, op::NEGATE),
            _ => return self.member(),
        };
        let at = self.next().start;
        let mut count = 1;
        while self.eat(operator).is_some() {
            count += 1;
        }
        let member = self.member()?;
        if count % 2 == 0 {
            return Ok(member);
        }
        Ok(Node { expr: self.call(at, function, vec![member.expr]), height: member.height })
    }

    fn member(&mut self) -> Parsed<Node> {
        self.enter(Rule::Member)?;
        let mut out = self.primary()?;
        loop {
            if let Some(dot) = self.eat(Tok::Dot) {
                let optional = self.eat(Tok::Question).is_some();
                let id = self.next();
                let name: Arc<str> = match id.kind {
                    Tok::Ident => self.text(id).into(),
                    Tok::EscIdent => {
                        self.report.at(self.source, id.start, "unsupported syntax: '`'".into());
                        "".into()
                    }
                    _ => return Err(Stop::Syntax),
                };
                let open = if optional || id.kind == Tok::EscIdent { None } else { self.eat(Tok::LParen) };
                out = if let Some(open) = open {
                    let (args, inner) = self.arguments()?;
                    let height = 1 + out.height.max(inner);
                    Node { expr: macros::receiver_call(self, open.start, name, out.expr, args), height }
                } else if optional && !self.features.optionals {
                    Node { expr: self.error(dot.start, "unsupported syntax '.?'"), height: out.height }
                } else if optional {
                    let field = self.node(id.start, Kind::Literal(Literal::String(name)));
                    let height = out.height + 1;
                    Node { expr: self.call(dot.start, op::OPT_SELECT, vec![out.expr, field]), height }
                } else {
                    let kind = Kind::Select { operand: Box::new(out.expr), field: name, test: false };
                    Node { expr: self.node(dot.start, kind), height: out.height + 1 }
                };
            } else if let Some(bracket) = self.eat(Tok::LBracket) {
                let optional = self.eat(Tok::Question).is_some();
                let index = self.expr()?;
                self.expect(Tok::RBracket)?;
                let height = 1 + out.height.max(index.height);
                let function = if optional { op::OPT_INDEX } else { op::INDEX };
                let expr = if optional && !self.features.optionals {
                    self.error(bracket.start, "unsupported syntax '[?'")
                } else {
                    self.call(bracket.start, function, vec![out.expr, index.expr])
                };
                out = Node { expr, height };
            } else {
                break;
            }
        }
        self.leave(Rule::Member);
        Ok(out)
    }

    fn primary(&mut self) -> Parsed<Node> {
        let first = self.tokens[self.at];
        match first.kind {
            Tok::Dot | Tok::Ident if self.is_message() => self.message(),
            Tok::Dot | Tok::Ident => {
                let dot = self.eat(Tok::Dot).is_some();
                let id = self.expect(Tok::Ident)?;
                let word = self.text(id);
                let name: Arc<str> = if dot { format!(".{word}").into() } else { word.as_str().into() };
                let open = self.eat(Tok::LParen);
                let (args, height) = if open.is_some() { self.arguments()? } else { (Vec::new(), 0) };
                let expr = if RESERVED.contains(&word.as_str()) {
                    self.error(first.start, format!("reserved identifier: {word}"))
                } else if let Some(open) = open {
                    macros::global_call(self, open.start, name, args)
                } else {
                    self.node(id.start, Kind::Ident(name))
                };
                Ok(Node { expr, height })
            }
            Tok::LParen => {
                self.next();
                let inner = self.expr()?;
                self.expect(Tok::RParen)?;
                Ok(inner)
            }
            Tok::LBracket => self.list(),
            Tok::LBrace => self.map(),
            _ => self.literal(),
        }
    }

    /// Names with dots, then `{`.
    fn is_message(&self) -> bool {
        let mut ahead = usize::from(self.peek() == Tok::Dot);
        while self.peek_at(ahead) == Tok::Ident {
            match self.peek_at(ahead + 1) {
                Tok::LBrace => return true,
                Tok::Dot => ahead += 2,
                _ => return false,
            }
        }
        false
    }

    /// Behind `(`, up to `)`.
    fn arguments(&mut self) -> Parsed<(Vec<Expr>, usize)> {
        let (mut args, mut height) = (Vec::new(), 0);
        if self.eat(Tok::RParen).is_some() {
            return Ok((args, height));
        }
        loop {
            let arg = self.expr()?;
            height = height.max(arg.height);
            args.push(arg.expr);
            if self.eat(Tok::Comma).is_none() {
                self.expect(Tok::RParen)?;
                return Ok((args, height));
            }
        }
    }

    /// `?` before an item, a key or a field.
    fn optional(&mut self) -> bool {
        let Some(mark) = self.eat(Tok::Question) else { return false };
        if !self.features.optionals {
            self.report.at(self.source, mark.start, "unsupported syntax '?'".into());
        }
        true
    }

    /// Behind an item: is there another one?
    fn another(&mut self, end: Tok) -> Parsed<bool> {
        if self.eat(Tok::Comma).is_none() {
            self.expect(end)?;
            return Ok(false);
        }
        Ok(self.eat(end).is_none())
    }

    /// `{` or `[` is behind us: is there an item?
    fn begins(&mut self, end: Tok) -> Parsed<bool> {
        if self.eat(end).is_some() {
            return Ok(false);
        }
        if self.eat(Tok::Comma).is_some() {
            self.expect(end)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn list(&mut self) -> Parsed<Node> {
        let open = self.next();
        let (mut items, mut marks, mut height) = (Vec::new(), Vec::new(), 0);
        let mut more = self.begins(Tok::RBracket)?;
        while more {
            marks.push(self.optional());
            let item = self.expr()?;
            height = height.max(item.height);
            items.push(item.expr);
            more = self.another(Tok::RBracket)?;
        }
        Ok(Node { expr: self.node(open.start, Kind::List { items, optional: marks }), height })
    }

    fn map(&mut self) -> Parsed<Node> {
        let open = self.next();
        let (mut entries, mut height) = (Vec::new(), 0);
        let mut more = self.begins(Tok::RBrace)?;
        while more {
            let optional = self.optional();
            let key = self.expr()?;
            self.expect(Tok::Colon)?;
            let value = self.expr()?;
            height = height.max(key.height).max(value.height);
            entries.push(Entry { key: key.expr, value: value.expr, optional });
            more = self.another(Tok::RBrace)?;
        }
        Ok(Node { expr: self.node(open.start, Kind::Map(entries)), height })
    }

    fn message(&mut self) -> Parsed<Node> {
        let mut name = String::new();
        let open = loop {
            let token = self.next();
            match token.kind {
                Tok::LBrace => break token,
                _ => name.push_str(&self.text(token)),
            }
        };
        let (mut fields, mut height) = (Vec::new(), 0);
        let mut more = self.begins(Tok::RBrace)?;
        while more {
            let optional = self.optional();
            let id = self.next();
            let field = match id.kind {
                Tok::Ident => self.text(id),
                Tok::EscIdent => {
                    self.report.at(self.source, id.start, "unsupported syntax: '`'".into());
                    String::new()
                }
                _ => return Err(Stop::Syntax),
            };
            let colon = self.expect(Tok::Colon)?;
            let value = self.expr()?;
            height = height.max(value.height);
            fields.push(Field { at: colon.start, name: field.into(), value: value.expr, optional });
            more = self.another(Tok::RBrace)?;
        }
        Ok(Node { expr: self.node(open.start, Kind::Struct { name: name.into(), fields }), height })
    }

    fn literal(&mut self) -> Parsed<Node> {
        let at = self.tokens[self.at].start;
        let minus = self.eat(Tok::Minus).is_some();
        let token = self.next();
        if minus && !matches!(token.kind, Tok::Int | Tok::Float) {
            return Err(Stop::Syntax);
        }
        let text = self.text(token);
        let sign = if minus { "-" } else { "" };
        let value = match token.kind {
            Tok::Int => integer(&text, sign).map(Literal::Int).ok_or("invalid int literal"),
            Tok::Uint => {
                let digits = &text[..text.len() - 1];
                let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |hex| (hex, 16));
                u64::from_str_radix(digits, radix).map(Literal::Uint).map_err(|_| "invalid uint literal")
            }
            Tok::Float => match format!("{sign}{text}").parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Literal::Double(number)),
                _ => Err("invalid double literal"),
            },
            Tok::String => unescape(&text, false)
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "invalid unicode code point"))
                .map(|text| Literal::String(text.into())),
            Tok::Bytes => unescape(&text[1..], true).map(|bytes| Literal::Bytes(bytes.into())),
            Tok::True => Ok(Literal::Bool(true)),
            Tok::False => Ok(Literal::Bool(false)),
            Tok::Null => Ok(Literal::Null),
            _ => return Err(Stop::Syntax),
        };
        let expr = match value {
            Ok(value) => self.node(at, Kind::Literal(value)),
            Err(message) => self.error(at, message),
        };
        Ok(Node { expr, height: 0 })
    }

    pub(super) fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Expr {
        let call = Call { function: function.into(), target: None, args };
        self.node(at, Kind::Call(Box::new(call)))
    }
}

fn integer(text: &str, sign: &str) -> Option<i64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}
