//! The interpreter. What a step costs is paid when it ends, errors or not; beyond the limit all ends.

use std::sync::Arc;

use super::cost;
use super::plan::{Attr, Call, Fold, Node, Plan, Qualifier, QualifierOf, Root, Which};
use crate::env::{Activation, EvalError, Outcome};
use crate::value::{Entries, List, Map, Object, Value};

type Res<'a> = Result<Value<'a>, EvalError>;

const NO_OVERLOAD: &str = "no such overload";

/// Is it the end of all, and no value that an expression may deal with?
fn cut<T>(value: &Result<T, EvalError>) -> bool {
    matches!(value, Err(EvalError::CostExceeded))
}

struct Interpreter<'a, 'v> {
    activation: &'v dyn Activation<'a>,
    cost: u64,
    limit: u64,
    frames: Vec<Frame<'a>>,
}

/// The variables of a running fold.
#[derive(Clone, Default)]
struct Frame<'a> {
    /// None: not asked for yet.
    accu: Option<Res<'a>>,
    first: Option<Res<'a>>,
    second: Option<Res<'a>>,
}

pub(crate) fn run<'a>(plan: &'a Plan, activation: &dyn Activation<'a>, limit: u64) -> Outcome<'a> {
    let frames = vec![Frame::default(); plan.inits.len()];
    let mut interpreter = Interpreter { activation, cost: 0, limit, frames };
    let value = interpreter.eval(&plan.root, plan);
    Outcome { value, cost: interpreter.cost }
}

impl<'a> Interpreter<'a, '_> {
    fn pay(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    fn eval(&mut self, node: &'a Node, plan: &'a Plan) -> Res<'a> {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Attr(attr) => {
                let value = self.attr(attr, plan);
                let own = u64::from(!attr.test && !matches!(attr.root, Root::Either(..)));
                if !cut(&value) {
                    self.pay(own)?;
                }
                let value = value?;
                Ok(match value {
                    Value::Optional(inner) if attr.test => Value::Bool(inner.is_some()),
                    other => other,
                })
            }
            Node::And(left, right) => self.logic(left, right, false, plan),
            Node::Or(left, right) => self.logic(left, right, true, plan),
            Node::Call(call) => self.call(call, plan),
            Node::Member(arg, known) => {
                let value = self.eval(arg, plan)?;
                Ok(Value::Bool(value.key().is_some_and(|key| known.contains(&key))))
            }
            Node::List(items) => {
                let items = self.items(items, plan);
                self.built(items.map(Value::list), cost::LIST)
            }
            Node::Map(entries) => {
                let map = self.entries(entries, plan);
                self.built(map, cost::MAP)
            }
            Node::Struct { name, fields } => {
                let object = self.object(name, fields, plan);
                self.built(object, cost::STRUCT)
            }
            Node::Fold(fold) => self.fold(fold, plan),
            Node::OptionalOr { left, right, value } => match self.eval(left, plan)? {
                Value::Optional(Some(inner)) if *value => Ok(Value::clone(&inner)),
                Value::Optional(None) => self.eval(right, plan),
                other => Ok(other),
            },
            Node::Append { fold, items } => self.append(*fold, items, plan),
            Node::Insert { fold, args } => self.insert(*fold, args, plan),
        }
    }

    fn built(&mut self, value: Res<'a>, cost: u64) -> Res<'a> {
        if !cut(&value) {
            self.pay(cost)?;
        }
        value
    }

    /// `&&` (`winner` false) and `||` (true): one side that decides makes the other side's error unimportant.
    fn logic(&mut self, left: &'a Node, right: &'a Node, winner: bool, plan: &'a Plan) -> Res<'a> {
        let mut error = None;
        for side in [left, right] {
            match self.eval(side, plan) {
                Ok(Value::Bool(b)) if b == winner => return Ok(Value::Bool(winner)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or(Some(NO_OVERLOAD.into())),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Err(other) => error = error.or(Some(other)),
            }
        }
        error.map_or(Ok(Value::Bool(!winner)), Err)
    }

    fn call(&mut self, call: &'a Call, plan: &'a Plan) -> Res<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut error: Option<EvalError> = None;
        let lenient = call.function == crate::parse::ast::op::NOT_STRICTLY_FALSE;
        for arg in &call.args {
            match self.eval(arg, plan) {
                Ok(value) => args.push(value),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Err(other) => {
                    if call.hasty && args.len() + 1 < call.args.len() {
                        return Err(other);
                    }
                    args.push(Value::Null);
                    error = error.or(Some(other));
                }
            }
        }
        let value = match error {
            Some(_) if lenient => Ok(Value::Bool(true)),
            Some(error) => Err(error),
            None => (call.body)(&args, self.activation),
        };
        let cost = cost::call(call.function, call.overload, &args, value.as_ref().ok());
        self.pay(cost)?;
        value
    }

    fn items(&mut self, items: &'a [(Node, bool)], plan: &'a Plan) -> Result<Vec<Value<'a>>, EvalError> {
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let value = self.eval(item, plan)?;
            match value {
                Value::Optional(inner) if *optional => out.extend(inner.map(|v| Value::clone(&v))),
                other if *optional => {
                    let shown = other.shown();
                    let message = "cannot initialize optional list element from non-optional value";
                    return Err(format!("{message} {shown}").into());
                }
                other => out.push(other),
            }
        }
        Ok(out)
    }

    fn entries(&mut self, entries: &'a [(Node, Node, bool)], plan: &'a Plan) -> Res<'a> {
        let mut out = Entries::default();
        for (key, value, optional) in entries {
            let key = self.eval(key, plan)?;
            let value = match self.eval(value, plan)? {
                Value::Optional(Some(inner)) if *optional => Value::clone(&inner),
                Value::Optional(None) if *optional => {
                    out.remove(&key);
                    continue;
                }
                other if *optional => return Err(not_optional(&key.shown(), &other)),
                other => other,
            };
            let ty = key.type_name().to_owned();
            if !out.insert(key, value) {
                return Err(format!("unsupported key type: {ty}").into());
            }
        }
        Ok(Value::Map(Map::Entries(Arc::new(out))))
    }

    fn object(&mut self, name: &Arc<str>, fields: &'a [(Arc<str>, Node, bool)], plan: &'a Plan) -> Res<'a> {
        let mut out: Vec<(Arc<str>, Value<'a>)> = Vec::with_capacity(fields.len());
        for (field, value, optional) in fields {
            let value = match self.eval(value, plan)? {
                Value::Optional(Some(inner)) if *optional => Value::clone(&inner),
                Value::Optional(None) if *optional => {
                    out.retain(|(known, _)| known != field);
                    continue;
                }
                other if *optional => return Err(not_optional(field, &other)),
                other => other,
            };
            out.retain(|(known, _)| known != field);
            out.push((field.clone(), value));
        }
        if &**name == "JSONPatch" {
            for (field, value) in &out {
                if matches!(&**field, "op" | "path" | "from") && !matches!(value, Value::String(_)) {
                    let ty = value.type_name();
                    return Err(format!("unexpected type {ty} for JSONPatchType '{field}' field").into());
                }
            }
        }
        Ok(Value::Object(Arc::new(Object { name: name.clone(), fields: out })))
    }

    /// The value of a fold's variable.
    fn local(&mut self, fold: usize, which: Which, plan: &'a Plan) -> Res<'a> {
        let frame = &self.frames[fold];
        let value = match which {
            Which::Accu => &frame.accu,
            Which::First => &frame.first,
            Which::Second => &frame.second,
        };
        if let Some(value) = value {
            return value.clone();
        }
        let init = plan.inits[fold].as_ref();
        let value = self.eval(init, plan);
        if cut(&value) {
            return value;
        }
        self.frames[fold].accu = Some(value.clone());
        value
    }

    /// Without the cost of the attribute itself.
    fn attr(&mut self, attr: &'a Attr, plan: &'a Plan) -> Res<'a> {
        let value = match &attr.root {
            Root::Variable(name) => match self.activation.variable(name) {
                Some(value) => value?,
                None => return Err(format!("no such attribute(s): {name}").into()),
            },
            Root::Local { fold, which } => self.local(*fold, *which, plan)?,
            Root::Node(node) => self.eval(node, plan)?,
            Root::Either(condition, yes, no) => {
                return match self.eval(condition, plan)? {
                    Value::Bool(true) => self.attr(yes, plan),
                    Value::Bool(false) => self.attr(no, plan),
                    _ => Err(NO_OVERLOAD.into()),
                };
            }
        };
        if attr.qualifiers.is_empty() {
            return Ok(value);
        }
        let (mut value, mut optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (inner.native(), true),
            other => (other, false),
        };
        for qualifier in &attr.qualifiers {
            optional |= qualifier.optional;
            match self.qualify(&value, qualifier, optional, plan)? {
                Some(found) => value = found,
                None => return Ok(Value::Optional(None)),
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    /// None: it is optional, and not there.
    fn qualify(
        &mut self,
        value: &Value<'a>,
        qualifier: &'a Qualifier,
        optional: bool,
        plan: &'a Plan,
    ) -> Result<Option<Value<'a>>, EvalError> {
        let key = match &qualifier.of {
            QualifierOf::Const(key) => Ok(key.clone()),
            QualifierOf::Attr(attr) => self.attr(attr, plan),
        };
        if cut(&key) {
            return Err(EvalError::CostExceeded);
        }
        let found = key.and_then(|key| self.access(value, &key, optional || qualifier.test));
        if cut(&found) {
            return Err(EvalError::CostExceeded);
        }
        // what is absent and optional was not looked at
        if !optional || matches!(found, Ok(Some(_))) {
            self.pay(1)?;
        }
        let found = found?;
        if qualifier.test {
            return Ok(match found {
                Some(_) if optional => Some(Value::Bool(true)),
                None if optional => None,
                found => Some(Value::Bool(found.is_some())),
            });
        }
        Ok(found)
    }

    /// `quiet`: what is not there is None, not an error.
    fn access(
        &self,
        value: &Value<'a>,
        key: &Value<'a>,
        quiet: bool,
    ) -> Result<Option<Value<'a>>, EvalError> {
        let missing =
            |what: &str| if quiet { Ok(None) } else { Err(format!("{what}: {}", key.shown()).into()) };
        match value {
            Value::Map(map) => match map.find(key)? {
                Some(found) => Ok(Some(found)),
                None => missing("no such key"),
            },
            Value::List(list) => {
                let index = match key {
                    Value::Int(n) => Some(*n),
                    Value::Uint(n) => i64::try_from(*n).ok(),
                    Value::Double(n) if n.fract() == 0.0 => Some(*n as i64),
                    _ => None,
                };
                let Some(index) = index else {
                    return Err(match key {
                        Value::Double(n) => {
                            format!("unsupported index value {} in list", crate::value::go_double(*n))
                        }
                        _ => format!("unsupported index type '{}' in list", key.type_name()),
                    }
                    .into());
                };
                match usize::try_from(index).ok().and_then(|n| list.get(n)) {
                    Some(item) => item.map(Some),
                    None => missing("index out of bounds"),
                }
            }
            Value::Lazy(name) => match key {
                Value::String(field) => match self.activation.field(name, field) {
                    Some(found) => found.map(Some),
                    None => missing("no such key"),
                },
                _ => missing("no such key"),
            },
            Value::Object(object) => {
                let Value::String(field) = key else { return missing("no such key") };
                let found = object.fields.iter().find(|(name, _)| **name == **field);
                match found {
                    Some((_, found)) => Ok(Some(found.clone())),
                    None if &*object.name == "JSONPatch" && !quiet && &**field != "value" => {
                        Ok(Some(Value::text("")))
                    }
                    None => missing("no such key"),
                }
            }
            _ => missing("no such key"),
        }
    }

    fn fold(&mut self, fold: &'a Fold, plan: &'a Plan) -> Res<'a> {
        let range = self.eval(&fold.range, plan)?;
        let outer = std::mem::take(&mut self.frames[fold.id]);
        let done = self.each(fold, range, plan);
        let value = match done {
            Ok(()) => {
                self.frames[fold.id].first = None;
                self.frames[fold.id].second = None;
                self.eval(&fold.result, plan)
            }
            Err(error) => Err(error),
        };
        self.frames[fold.id] = outer;
        value
    }

    fn each(&mut self, fold: &'a Fold, range: Value<'a>, plan: &'a Plan) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for n in 0..list.len() {
                    let item = list.get(n).unwrap_or(Err(NO_OVERLOAD.into()));
                    let more = if fold.two {
                        self.turn(fold, Ok(Value::Int(n as i64)), Some(item), plan)?
                    } else {
                        self.turn(fold, item, None, plan)?
                    };
                    if !more {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = if fold.two {
                        Some(map.find(&key).and_then(|found| found.ok_or_else(|| NO_OVERLOAD.into())))
                    } else {
                        None
                    };
                    if !self.turn(fold, Ok(key), value, plan)? {
                        break;
                    }
                }
            }
            other => {
                let ty = go_type(&other);
                return Err(match fold.two {
                    true => format!("unsupported comprehension range type: {ty}"),
                    false => format!("got '{ty}', expected iterable type"),
                }
                .into());
            }
        }
        Ok(())
    }

    fn turn(
        &mut self,
        fold: &'a Fold,
        first: Res<'a>,
        second: Option<Res<'a>>,
        plan: &'a Plan,
    ) -> Result<bool, EvalError> {
        self.frames[fold.id].first = Some(first);
        self.frames[fold.id].second = second;
        match self.eval(&fold.condition, plan) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
            _ => {}
        }
        let value = self.eval(&fold.step, plan);
        if cut(&value) {
            return Err(EvalError::CostExceeded);
        }
        self.frames[fold.id].accu = Some(value);
        Ok(true)
    }

    /// In place: nobody else holds the list.
    fn append(&mut self, fold: usize, items: &'a [(Node, bool)], plan: &'a Plan) -> Res<'a> {
        let accu = self.local(fold, Which::Accu, plan);
        if cut(&accu) {
            return Err(EvalError::CostExceeded);
        }
        self.pay(1)?;
        let failed = accu.err();
        let items = self.items(items, plan);
        if cut(&items) {
            return Err(EvalError::CostExceeded);
        }
        self.pay(cost::LIST)?;
        self.pay(1)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let items = items?;
        match self.frames[fold].accu.take() {
            Some(Ok(Value::List(List::Items(mut list)))) => {
                match Arc::get_mut(&mut list) {
                    Some(own) => own.extend(items),
                    None => list = Arc::new(list.iter().cloned().chain(items).collect()),
                }
                Ok(Value::List(List::Items(list)))
            }
            Some(Ok(Value::List(list))) => list.plus(&List::Items(Arc::new(items))).map(Value::List),
            _ => Err(NO_OVERLOAD.into()),
        }
    }

    fn insert(&mut self, fold: usize, args: &'a [Node], plan: &'a Plan) -> Res<'a> {
        let accu = self.local(fold, Which::Accu, plan);
        if cut(&accu) {
            return Err(EvalError::CostExceeded);
        }
        self.pay(1)?;
        if args.len() > 1 {
            accu?;
        } else if let Err(error) = accu {
            self.eval(&args[0], plan)?;
            self.pay(1)?;
            return Err(error);
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            match self.eval(arg, plan) {
                Err(error) if error != EvalError::CostExceeded => {
                    self.pay(1)?;
                    return Err(error);
                }
                value => values.push(value?),
            }
        }
        self.pay(1)?;
        let Some(Ok(Value::Map(Map::Entries(mut map)))) = self.frames[fold].accu.take() else {
            return Err(NO_OVERLOAD.into());
        };
        let own = Arc::make_mut(&mut map);
        let mut put = |key: Value<'a>, value: Value<'a>| -> Result<(), EvalError> {
            let shown = key.shown();
            match key.key() {
                Some(index) if own.get(&index).is_none() => {
                    own.insert(key, value);
                    Ok(())
                }
                Some(_) => Err(format!("insert failed: key {shown} already exists").into()),
                None => Err(format!("unsupported key type: {}", key.type_name()).into()),
            }
        };
        match <[Value<'a>; 2]>::try_from(values) {
            Ok([key, value]) => put(key, value)?,
            Err(values) => {
                let Some(Value::Map(other)) = values.into_iter().next() else {
                    return Err(NO_OVERLOAD.into());
                };
                for key in other.keys() {
                    let value = other.find(&key)?.ok_or(NO_OVERLOAD)?;
                    put(key, value)?;
                }
            }
        }
        Ok(Value::Map(Map::Entries(map)))
    }
}

/// What Go calls the value.
fn go_type(value: &Value<'_>) -> String {
    match value {
        Value::Null => "types.Null".into(),
        Value::Bool(_) => "types.Bool".into(),
        Value::Int(_) => "types.Int".into(),
        Value::Uint(_) => "types.Uint".into(),
        Value::Double(_) => "types.Double".into(),
        Value::String(_) => "types.String".into(),
        Value::Bytes(_) => "types.Bytes".into(),
        Value::Timestamp(_) => "types.Timestamp".into(),
        Value::Duration(_) => "types.Duration".into(),
        Value::Optional(_) => "*types.Optional".into(),
        Value::Type(_) => "*types.Type".into(),
        other => other.type_name().to_owned(),
    }
}

fn not_optional(field: &str, value: &Value<'_>) -> EvalError {
    let shown = value.shown();
    format!("cannot initialize optional entry '{field}' from non-optional value {shown}").into()
}
