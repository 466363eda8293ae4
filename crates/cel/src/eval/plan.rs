//! The plan of an evaluation, made once.
//!
//! As in cel-go, accesses that follow each other (`a.b[0].?c`) are one [`Attr`] with its qualifiers, literals of
//! constants are constants (and cost nothing), and so are conversions of constants.

use std::collections::HashSet;
use std::sync::Arc;

use crate::check::{Checked, Reference};
use crate::env::EvalError;
use crate::functions::{self, Body};
use crate::parse::ast::{Comprehension, Expr, Kind, Literal, op};
use crate::types::Type;
use crate::value::{Entries, Key, Map, Value};

#[derive(Debug)]
pub(crate) enum Node {
    Const(Value<'static>),
    Attr(Attr),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Call(Box<Call>),
    /// `x in [constants]`
    Member(Box<Node>, HashSet<Key>),
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Node, bool)>,
    },
    Fold(Box<Fold>),
    /// `.or(…)`; with the value only for `.orValue(…)`.
    OptionalOr {
        left: Box<Node>,
        right: Box<Node>,
        value: bool,
    },
    /// `@result + [item]`
    Append {
        fold: usize,
        items: Vec<(Node, bool)>,
    },
    /// `@mapInsert(@result, …)`: key and value, or a map.
    Insert {
        fold: usize,
        args: Vec<Node>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Attr {
    pub root: Root,
    pub qualifiers: Vec<Qualifier>,
    /// `has(…)`
    pub test: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Root {
    Variable(Arc<str>),
    Local {
        fold: usize,
        which: Which,
    },
    /// Any expression.
    Node(Arc<Node>),
    /// Condition and branches.
    Either(Arc<Node>, Box<Attr>, Box<Attr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Accu,
    First,
    Second,
}

#[derive(Clone, Debug)]
pub(crate) struct Qualifier {
    pub of: QualifierOf,
    pub optional: bool,
    pub test: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum QualifierOf {
    Const(Value<'static>),
    Attr(Box<Attr>),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub function: &'static str,
    /// "" if several may be meant.
    pub overload: &'static str,
    pub body: Body,
    pub args: Vec<Node>,
    /// The first argument that fails ends it: the others are not looked at.
    pub hasty: bool,
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub id: usize,
    pub range: Node,
    pub two: bool,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub root: Node,
    /// What each fold's accumulator starts with, by the fold's number.
    pub inits: Vec<Arc<Node>>,
}

struct Planner<'c> {
    checked: &'c Checked,
    inits: Vec<Arc<Node>>,
    scopes: Vec<(Arc<str>, usize, Which)>,
}

/// # Errors
/// What cannot be evaluated at all (`int("x")`).
pub(crate) fn plan(checked: &Checked) -> Result<Plan, EvalError> {
    let mut planner = Planner { checked, inits: Vec::new(), scopes: Vec::new() };
    let root = planner.node(&checked.expr)?;
    Ok(Plan { root, inits: planner.inits })
}

const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

impl Planner<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, EvalError> {
        Ok(match &expr.kind {
            Kind::Unspecified => return Err("unsupported expression".into()),
            Kind::Literal(value) => Node::Const(literal(value)),
            Kind::Ident(name) => self.ident(expr, name)?,
            Kind::Select { operand, field, test } => {
                let operand = self.node(operand)?;
                let mut attr = into_attr(operand);
                attr.qualify(Qualifier {
                    of: QualifierOf::Const(Value::text(field.clone())),
                    optional: false,
                    test: *test,
                });
                attr.test = *test;
                Node::Attr(attr)
            }
            Kind::Call(call) => {
                let mut args = Vec::with_capacity(call.args.len() + 1);
                for arg in call.target.iter().chain(&call.args) {
                    args.push(self.node(arg)?);
                }
                self.call(expr, &call.function, args)?
            }
            Kind::List { items, optional } => {
                let mut nodes = Vec::with_capacity(items.len());
                for (item, optional) in items.iter().zip(optional) {
                    nodes.push((self.node(item)?, *optional));
                }
                fold_list(nodes)
            }
            Kind::Map(entries) => {
                let mut nodes = Vec::with_capacity(entries.len());
                for entry in entries {
                    nodes.push((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional));
                }
                fold_map(nodes)?
            }
            Kind::Struct { name, fields } => {
                let mut nodes = Vec::with_capacity(fields.len());
                for field in fields {
                    nodes.push((field.name.clone(), self.node(&field.value)?, field.optional));
                }
                Node::Struct { name: name.clone(), fields: nodes }
            }
            Kind::Comprehension(parts) => self.fold(parts)?,
        })
    }

    fn ident(&self, expr: &Expr, name: &Arc<str>) -> Result<Node, EvalError> {
        if let Some(Reference::Type(ty)) = &self.checked.references[expr.id as usize] {
            return match ty {
                Type::Struct(name) => Err(format!("reference to undefined type: {name}").into()),
                _ => Ok(Node::Const(Value::Type(ty.clone()))),
            };
        }
        let root = match self.scopes.iter().rev().find(|(known, ..)| known == name) {
            Some((_, fold, which)) => Root::Local { fold: *fold, which: *which },
            None => Root::Variable(name.clone()),
        };
        Ok(Node::Attr(Attr { root, qualifiers: Vec::new(), test: false }))
    }

    fn overload(&self, expr: &Expr) -> &'static str {
        match &self.checked.references[expr.id as usize] {
            Some(Reference::Function(ids)) if ids.len() == 1 => ids[0],
            _ => "",
        }
    }

    fn call(&self, expr: &Expr, function: &str, mut args: Vec<Node>) -> Result<Node, EvalError> {
        let pair = |args: Vec<Node>| <[Node; 2]>::try_from(args).ok();
        match function {
            op::AND | op::OR => {
                let [left, right] = pair(args).ok_or("no such overload")?;
                let (left, right) = (Box::new(left), Box::new(right));
                return Ok(if function == op::AND { Node::And(left, right) } else { Node::Or(left, right) });
            }
            op::CONDITIONAL => {
                let [condition, yes, no] = <[Node; 3]>::try_from(args).map_err(|_| "no such overload")?;
                let root =
                    Root::Either(Arc::new(condition), Box::new(into_attr(yes)), Box::new(into_attr(no)));
                return Ok(Node::Attr(Attr { root, qualifiers: Vec::new(), test: false }));
            }
            op::INDEX | op::OPT_INDEX | op::OPT_SELECT => {
                let [operand, index] = pair(args).ok_or("no such overload")?;
                let mut attr = into_attr(operand);
                let of = match index {
                    Node::Const(value) => QualifierOf::Const(value),
                    other => QualifierOf::Attr(Box::new(into_attr(other))),
                };
                attr.qualify(Qualifier { of, optional: function != op::INDEX, test: false });
                return Ok(Node::Attr(attr));
            }
            "or" | "orValue" if args.len() == 2 => {
                let [left, right] = pair(args).ok_or("no such overload")?;
                let value = function == "orValue";
                return Ok(Node::OptionalOr { left: Box::new(left), right: Box::new(right), value });
            }
            _ => {}
        }
        if let Some(fold) = accu_of(args.first()) {
            match function {
                op::ADD => match args.pop() {
                    Some(Node::List(items)) => return Ok(Node::Append { fold, items }),
                    // a list of constants
                    Some(other) => args.push(other),
                    None => {}
                },
                "cel.@mapInsert" => return Ok(Node::Insert { fold, args: args.split_off(1) }),
                _ => {}
            }
        }
        let overload = match function {
            op::EQ => "equals",
            op::NE => "not_equals",
            _ => self.overload(expr),
        };
        if overload == "in_list"
            && let Some(Node::Const(Value::List(list))) = args.last()
        {
            if list.is_empty() {
                return Ok(Node::Const(Value::Bool(false)));
            }
            let known: Option<HashSet<Key>> = list.iter().map(|item| item.ok()?.key()).collect();
            if let Some(known) = known {
                args.pop();
                let arg = args.pop().ok_or("no such overload")?;
                return Ok(Node::Member(Box::new(arg), known));
            }
        }
        let (function, body) =
            functions::body(function).ok_or_else(|| format!("no such overload: {function}"))?;
        let pattern = functions::pattern_of(function, &args);
        let hasty = args.len() > 2
            || pattern.is_some()
            || (overload.is_empty() && functions::is_dispatched(function));
        if let Some(pattern) = pattern {
            crate::lib_std::regex::compile(pattern)?;
        }
        let call = Call { function, overload, body, args, hasty };
        if CONVERSIONS.contains(&function)
            && let [Node::Const(arg)] = call.args.as_slice()
        {
            return (call.body)(std::slice::from_ref(arg), &crate::env::Variables::new()).map(Node::Const);
        }
        Ok(Node::Call(Box::new(call)))
    }

    fn fold(&mut self, parts: &Comprehension) -> Result<Node, EvalError> {
        let init = self.node(&parts.init)?;
        let range = self.node(&parts.range)?;
        let id = self.inits.len();
        self.inits.push(Arc::new(init));
        let outer = self.scopes.len();
        self.scopes.push((parts.accu.clone(), id, Which::Accu));
        self.scopes.push((parts.var.clone(), id, Which::First));
        if let Some(var2) = &parts.var2 {
            self.scopes.push((var2.clone(), id, Which::Second));
        }
        let condition = self.node(&parts.condition)?;
        let step = self.node(&parts.step)?;
        self.scopes.truncate(outer + 1);
        let result = self.node(&parts.result)?;
        self.scopes.truncate(outer);
        let two = parts.var2.is_some();
        Ok(Node::Fold(Box::new(Fold { id, range, two, condition, step, result })))
    }
}

impl Attr {
    /// Accesses behind a conditional are accesses behind each of its branches.
    fn qualify(&mut self, qualifier: Qualifier) {
        match &mut self.root {
            Root::Either(_, yes, no) => {
                yes.qualify(qualifier.clone());
                no.qualify(qualifier);
            }
            _ => self.qualifiers.push(qualifier),
        }
    }
}

fn into_attr(node: Node) -> Attr {
    match node {
        Node::Attr(attr) => attr,
        other => Attr { root: Root::Node(Arc::new(other)), qualifiers: Vec::new(), test: false },
    }
}

fn accu_of(node: Option<&Node>) -> Option<usize> {
    match node {
        Some(Node::Attr(Attr { root: Root::Local { fold, which: Which::Accu }, qualifiers, .. }))
            if qualifiers.is_empty() =>
        {
            Some(*fold)
        }
        _ => None,
    }
}

fn literal(value: &Literal) -> Value<'static> {
    match value {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::String(text) => Value::text(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

fn fold_list(items: Vec<(Node, bool)>) -> Node {
    if items.iter().any(|(node, optional)| *optional || !matches!(node, Node::Const(_))) {
        return Node::List(items);
    }
    let values = items.into_iter().filter_map(|(node, _)| match node {
        Node::Const(value) => Some(value),
        _ => None,
    });
    Node::Const(Value::list(values.collect()))
}

fn fold_map(entries: Vec<(Node, Node, bool)>) -> Result<Node, EvalError> {
    let constant = |n: &Node| matches!(n, Node::Const(_));
    if entries.iter().any(|(key, value, optional)| *optional || !constant(key) || !constant(value)) {
        return Ok(Node::Map(entries));
    }
    let mut out = Entries::default();
    for entry in entries {
        if let (Node::Const(key), Node::Const(value), _) = entry
            && !out.insert(key.clone(), value)
        {
            return Err(format!("unsupported key type: {}", key.type_name()).into());
        }
    }
    Ok(Node::Const(Value::Map(Map::Entries(Arc::new(out)))))
}
