//! Macros: calls that stand for other expressions.

use std::sync::Arc;

use super::ast::{ACCU, Call, Comprehension, Entry, Expr, Field, Kind, Literal, op};
use super::parser::Parser;

/// What the environment's version has of syntax and macros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// `?.`, `[?]`, optMap and optFlatMap.
    pub optionals: bool,
    /// all, exists, existsOne, transformList, transformMap and transformMapEntry with key and value.
    pub two_variables: bool,
    /// sortBy
    pub lists: bool,
    /// cel.bind
    pub bindings: bool,
}

/// What a macro is about to make: all its nodes stand at the call's bracket.
struct Make<'p, 's> {
    parser: &'p mut Parser<'s>,
    at: u32,
}

/// Place and message.
type Failed = (u32, String);

pub(super) fn global_call(parser: &mut Parser<'_>, at: u32, function: Arc<str>, mut args: Vec<Expr>) -> Expr {
    if &*function == "has" && args.len() == 1 {
        return match args.pop().map(|arg| (arg.at, arg.kind)) {
            Some((_, Kind::Select { operand, field, .. })) => {
                parser.node(at, Kind::Select { operand, field, test: true })
            }
            other => parser.error(other.map_or(at, |(at, _)| at), "invalid argument to has() macro"),
        };
    }
    parser.call(at, &function, args)
}

pub(super) fn receiver_call(
    parser: &mut Parser<'_>,
    at: u32,
    function: Arc<str>,
    target: Expr,
    args: Vec<Expr>,
) -> Expr {
    let features = parser.features;
    let mut make = Make { parser, at };
    let made = match (&*function, args.len()) {
        ("all" | "exists" | "exists_one", 2) => one(&args, "argument must be a simple name")
            .map(|var| make.quantifier(&function, target, var, None, args)),
        ("map", 2 | 3) => {
            one(&args, "argument is not an identifier").map(|var| make.map(target, var, None, args))
        }
        ("filter", 2) => {
            one(&args, "argument is not an identifier").map(|var| make.filter(target, var, args))
        }
        ("all" | "exists" | "exists_one" | "existsOne", 3) if features.two_variables => {
            two(&args).map(|(var, var2)| make.quantifier(&function, target, var, Some(var2), args))
        }
        ("transformList", 3 | 4) if features.two_variables => {
            two(&args).map(|(var, var2)| make.map(target, var, Some(var2), args))
        }
        ("transformMap" | "transformMapEntry", 3 | 4) if features.two_variables => {
            let entry = &*function == "transformMapEntry";
            two(&args).map(|vars| make.transform_map(target, vars, args, entry))
        }
        ("optMap" | "optFlatMap", 2) if features.optionals => match args[0].as_ident().cloned() {
            Some(var) => Ok(make.opt_map(&function, target, var, args)),
            None => Err((args[0].at, format!("{function}() variable name must be a simple identifier"))),
        },
        ("sortBy", 2) if features.lists => make.sort_by(target, args),
        ("bind", 3) if features.bindings && target.as_ident().is_some_and(|name| **name == *"cel") => {
            match args[0].as_ident().cloned() {
                Some(var) => Ok(make.bind(var, args)),
                None => Err((args[0].at, "cel.bind() variable names must be simple identifiers".into())),
            }
        }
        _ => {
            let call = Call { function, target: Some(target), args };
            return parser.node(at, Kind::Call(Box::new(call)));
        }
    };
    match made {
        Ok(expr) => expr,
        Err((at, message)) => parser.error(at, message),
    }
}

fn check(name: &Arc<str>, at: u32) -> Result<(), Failed> {
    match &**name {
        ACCU | "__result__" => Err((at, "iteration variable overwrites accumulator variable".into())),
        _ => Ok(()),
    }
}

fn one(args: &[Expr], otherwise: &str) -> Result<Arc<str>, Failed> {
    let name = args[0].as_ident().cloned().ok_or_else(|| (args[0].at, otherwise.to_owned()))?;
    check(&name, args[0].at)?;
    Ok(name)
}

fn two(args: &[Expr]) -> Result<(Arc<str>, Arc<str>), Failed> {
    let name = |n: usize| {
        args[n].as_ident().cloned().ok_or((args[n].at, "argument must be a simple name".to_owned()))
    };
    let (first, second) = (name(0)?, name(1)?);
    if first == second {
        return Err((args[1].at, format!("duplicate variable name: {first}")));
    }
    check(&first, args[0].at)?;
    check(&second, args[1].at)?;
    Ok((first, second))
}

impl Make<'_, '_> {
    fn node(&mut self, kind: Kind) -> Expr {
        self.parser.node(self.at, kind)
    }

    fn literal(&mut self, value: Literal) -> Expr {
        self.node(Kind::Literal(value))
    }

    fn accu(&mut self) -> Expr {
        self.node(Kind::Ident(ACCU.into()))
    }

    fn list(&mut self, items: Vec<Expr>) -> Expr {
        let optional = vec![false; items.len()];
        self.node(Kind::List { items, optional })
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.parser.call(self.at, function, args)
    }

    fn member_call(&mut self, function: &str, target: Expr) -> Expr {
        let call = Call { function: function.into(), target: Some(target), args: Vec::new() };
        self.node(Kind::Call(Box::new(call)))
    }

    fn quantifier(
        &mut self,
        function: &str,
        range: Expr,
        var: Arc<str>,
        var2: Option<Arc<str>>,
        mut args: Vec<Expr>,
    ) -> Expr {
        let Some(test) = args.pop() else { return self.node(Kind::Unspecified) };
        let (init, condition, step, result) = match function {
            "all" => {
                let init = self.literal(Literal::Bool(true));
                let accu = self.accu();
                let condition = self.call(op::NOT_STRICTLY_FALSE, vec![accu]);
                let accu = self.accu();
                let step = self.call(op::AND, vec![accu, test]);
                (init, condition, step, self.accu())
            }
            "exists" => {
                let init = self.literal(Literal::Bool(false));
                let accu = self.accu();
                let not = self.call(op::NOT, vec![accu]);
                let condition = self.call(op::NOT_STRICTLY_FALSE, vec![not]);
                let accu = self.accu();
                let step = self.call(op::OR, vec![accu, test]);
                (init, condition, step, self.accu())
            }
            _ => {
                let init = self.literal(Literal::Int(0));
                let condition = self.literal(Literal::Bool(true));
                let sum = vec![self.accu(), self.literal(Literal::Int(1))];
                let sum = self.call(op::ADD, sum);
                let accu = self.accu();
                let step = self.call(op::CONDITIONAL, vec![test, sum, accu]);
                let both = vec![self.accu(), self.literal(Literal::Int(1))];
                (init, condition, step, self.call(op::EQ, both))
            }
        };
        let parts = Comprehension { range, var, var2, accu: ACCU.into(), init, condition, step, result };
        self.node(Kind::Comprehension(Box::new(parts)))
    }

    /// Collects by `step`, where the filter (if any) holds.
    fn collect(
        &mut self,
        range: Expr,
        vars: (Arc<str>, Option<Arc<str>>),
        init: Expr,
        filter: Option<Expr>,
        mut step: Expr,
    ) -> Expr {
        let condition = self.literal(Literal::Bool(true));
        if let Some(filter) = filter {
            let accu = self.accu();
            step = self.call(op::CONDITIONAL, vec![filter, step, accu]);
        }
        let result = self.accu();
        let (var, var2) = vars;
        let parts = Comprehension { range, var, var2, accu: ACCU.into(), init, condition, step, result };
        self.node(Kind::Comprehension(Box::new(parts)))
    }

    fn map(&mut self, range: Expr, var: Arc<str>, var2: Option<Arc<str>>, mut args: Vec<Expr>) -> Expr {
        let names = if var2.is_some() { 2 } else { 1 };
        let Some(transform) = args.pop() else { return self.node(Kind::Unspecified) };
        let filter = if args.len() > names { args.pop() } else { None };
        let init = self.list(Vec::new());
        let sum = vec![self.accu(), self.list(vec![transform])];
        let step = self.call(op::ADD, sum);
        self.collect(range, (var, var2), init, filter, step)
    }

    fn filter(&mut self, range: Expr, var: Arc<str>, mut args: Vec<Expr>) -> Expr {
        let filter = args.pop();
        let init = self.list(Vec::new());
        let sum = vec![self.accu(), self.list(args)];
        let step = self.call(op::ADD, sum);
        self.collect(range, (var, None), init, filter, step)
    }

    fn transform_map(
        &mut self,
        range: Expr,
        (var, var2): (Arc<str>, Arc<str>),
        mut args: Vec<Expr>,
        entry: bool,
    ) -> Expr {
        let Some(transform) = args.pop() else { return self.node(Kind::Unspecified) };
        let filter = if args.len() > 2 { args.pop() } else { None };
        let init = self.node(Kind::Map(Vec::new()));
        let mut inserted = vec![self.accu()];
        if !entry {
            inserted.push(self.node(Kind::Ident(var.clone())));
        }
        inserted.push(transform);
        let step = self.call("cel.@mapInsert", inserted);
        self.collect(range, (var, Some(var2)), init, filter, step)
    }

    fn opt_map(&mut self, function: &str, target: Expr, var: Arc<str>, mut args: Vec<Expr>) -> Expr {
        let Some(transform) = args.pop() else { return self.node(Kind::Unspecified) };
        let copy = self.copy(&target);
        let has = self.member_call("hasValue", target);
        let range = self.list(Vec::new());
        let init = self.member_call("value", copy);
        let condition = self.literal(Literal::Bool(false));
        let step = self.node(Kind::Ident(var.clone()));
        let parts = Comprehension {
            range,
            var: "#unused".into(),
            var2: None,
            accu: var,
            init,
            condition,
            step,
            result: transform,
        };
        let mut value = self.node(Kind::Comprehension(Box::new(parts)));
        if function == "optMap" {
            value = self.call("optional.of", vec![value]);
        }
        let none = self.call("optional.none", Vec::new());
        self.call(op::CONDITIONAL, vec![has, value, none])
    }

    /// `cel.bind(x, value, result)`: the accumulator of a loop over nothing is the variable.
    fn bind(&mut self, var: Arc<str>, mut args: Vec<Expr>) -> Expr {
        let result = args.pop();
        let init = args.pop();
        let (Some(init), Some(result)) = (init, result) else { return self.node(Kind::Unspecified) };
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.node(Kind::Ident(var.clone()));
        let var = (Arc::from("#unused"), var);
        let parts =
            Comprehension { range, var: var.0, var2: None, accu: var.1, init, condition, step, result };
        self.node(Kind::Comprehension(Box::new(parts)))
    }

    /// `list.sortBy(x, key)`: the keys are computed first, then the list is sorted by them.
    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr, Failed> {
        match &target.kind {
            Kind::List { .. }
            | Kind::Select { .. }
            | Kind::Ident(_)
            | Kind::Comprehension(_)
            | Kind::Call(_) => {}
            _ => {
                let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
                return Err((target.at, message.into()));
            }
        }
        const SORTED: &str = "@__sortBy_input__";
        let input = self.node(Kind::Ident(SORTED.into()));
        let var = one(&args, "argument is not an identifier")?;
        let keys = self.map(input, var, None, args);
        let input = self.node(Kind::Ident(SORTED.into()));
        let call = Call { function: "@sortByAssociatedKeys".into(), target: Some(input), args: vec![keys] };
        let sorted = self.node(Kind::Call(Box::new(call)));
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.node(Kind::Ident(SORTED.into()));
        let parts = Comprehension {
            range,
            var: "#unused".into(),
            var2: None,
            accu: SORTED.into(),
            init: target,
            condition,
            step,
            result: sorted,
        };
        Ok(self.node(Kind::Comprehension(Box::new(parts))))
    }

    /// The same with ids of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let kind = match &expr.kind {
            Kind::Unspecified => Kind::Unspecified,
            Kind::Literal(value) => Kind::Literal(value.clone()),
            Kind::Ident(name) => Kind::Ident(name.clone()),
            Kind::Select { operand, field, test } => {
                Kind::Select { operand: Box::new(self.copy(operand)), field: field.clone(), test: *test }
            }
            Kind::Call(call) => Kind::Call(Box::new(Call {
                function: call.function.clone(),
                target: call.target.as_ref().map(|t| self.copy(t)),
                args: call.args.iter().map(|a| self.copy(a)).collect(),
            })),
            Kind::List { items, optional } => {
                Kind::List { items: items.iter().map(|i| self.copy(i)).collect(), optional: optional.clone() }
            }
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|e| Entry {
                        key: self.copy(&e.key),
                        value: self.copy(&e.value),
                        optional: e.optional,
                    })
                    .collect(),
            ),
            Kind::Struct { name, fields } => Kind::Struct {
                name: name.clone(),
                fields: fields.iter().map(|f| Field { value: self.copy(&f.value), ..f.clone() }).collect(),
            },
            Kind::Comprehension(c) => Kind::Comprehension(Box::new(Comprehension {
                range: self.copy(&c.range),
                var: c.var.clone(),
                var2: c.var2.clone(),
                accu: c.accu.clone(),
                init: self.copy(&c.init),
                condition: self.copy(&c.condition),
                step: self.copy(&c.step),
                result: self.copy(&c.result),
            })),
        };
        self.parser.node(expr.at, kind)
    }
}
