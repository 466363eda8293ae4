//! What is checked of literals in expressions that are otherwise right.

use crate::check::{Checked, Reference};
use crate::issues::{Report, Source};
use crate::lib_std::format::{Clause, walk};
use crate::lib_std::regex;
use crate::parse::ast::{Call, Expr, Kind, Literal};
use crate::types::Type;
use crate::value::{Timestamp, time};

/// `all`: not only that aggregates are of one type.
pub(crate) fn validate(checked: &Checked, all: bool, source: &Source, report: &mut Report) {
    let mut validator = Validator { checked, all, source, report };
    validator.visit(&checked.expr, false);
}

struct Validator<'v> {
    checked: &'v Checked,
    all: bool,
    source: &'v Source,
    report: &'v mut Report,
}

impl Validator<'_> {
    fn error(&mut self, at: u32, message: String) {
        self.report.at(self.source, at, message);
    }

    fn ty(&self, expr: &Expr) -> &Type {
        &self.checked.types[expr.id as usize]
    }

    /// `formatted`: within the arguments of `format`, where lists may mix types.
    fn visit(&mut self, expr: &Expr, formatted: bool) {
        match &expr.kind {
            Kind::Unspecified | Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => self.visit(operand, formatted),
            Kind::Call(call) => {
                if self.all {
                    self.literal(call);
                    self.format(expr, call);
                }
                let formatted = formatted || &*call.function == "format";
                for part in call.target.iter().chain(&call.args) {
                    self.visit(part, formatted);
                }
            }
            Kind::List { items, optional } => {
                if !formatted {
                    self.same_types(items, optional);
                }
                items.iter().for_each(|item| self.visit(item, formatted));
            }
            Kind::Map(entries) => {
                let mut known: Option<(Type, Type)> = None;
                for entry in entries {
                    if !formatted {
                        let key = self.ty(&entry.key).clone();
                        let value = self.element(&entry.value, entry.optional);
                        match &known {
                            None => known = Some((key, value)),
                            Some((k, v)) => {
                                let (k, v) = (k.clone(), v.clone());
                                self.same(entry.key.at, &k, &key);
                                self.same(entry.value.at, &v, &value);
                            }
                        }
                    }
                    self.visit(&entry.key, formatted);
                    self.visit(&entry.value, formatted);
                }
            }
            Kind::Struct { fields, .. } => fields.iter().for_each(|f| self.visit(&f.value, formatted)),
            Kind::Comprehension(parts) => {
                for part in [&parts.range, &parts.init, &parts.condition, &parts.step, &parts.result] {
                    self.visit(part, formatted);
                }
            }
        }
    }

    fn element(&self, expr: &Expr, optional: bool) -> Type {
        let ty = self.ty(expr);
        ty.optional_of().filter(|_| optional).unwrap_or(ty).clone()
    }

    fn same_types(&mut self, items: &[Expr], optional: &[bool]) {
        let mut known: Option<Type> = None;
        for (item, optional) in items.iter().zip(optional) {
            let ty = self.element(item, *optional);
            match &known {
                None => known = Some(ty),
                Some(first) => {
                    let first = first.clone();
                    if !self.same(item.at, &first, &ty) {
                        break;
                    }
                }
            }
        }
    }

    fn same(&mut self, at: u32, wanted: &Type, found: &Type) -> bool {
        if wanted != found {
            let (wanted, found) = (wanted.checker_name(), found.checker_name());
            self.error(at, format!("expected type '{wanted}' but found '{found}'"));
            return false;
        }
        true
    }

    /// Durations, timestamps and patterns.
    fn literal(&mut self, call: &Call) {
        let Some(Expr { at, kind: Kind::Literal(value), .. }) = call.args.first() else { return };
        let good = match (&*call.function, value) {
            ("duration", Literal::String(text)) => time::parse_duration(text).is_some(),
            ("duration", _) => false,
            ("timestamp", Literal::String(text)) => Timestamp::parse(text)
                .is_some_and(|at| (time::MIN_SECONDS..=time::MAX_SECONDS).contains(&at.seconds)),
            ("timestamp", Literal::Int(n)) => (time::MIN_SECONDS..=time::MAX_SECONDS).contains(n),
            ("timestamp", _) => false,
            ("matches", Literal::String(pattern)) => regex::compile(pattern).is_ok(),
            _ => true,
        };
        if !good {
            self.error(*at, format!("invalid {} argument", call.function));
        }
    }

    fn format(&mut self, expr: &Expr, call: &Call) {
        let Some(Reference::Function(ids)) = &self.checked.references[expr.id as usize] else { return };
        if !ids.contains(&"string_format") {
            return;
        }
        let (Some(target), [Expr { kind: Kind::List { items, .. }, .. }]) =
            (&call.target, call.args.as_slice())
        else {
            return;
        };
        let Kind::Literal(Literal::String(text)) = &target.kind else { return };
        let mut seen = 0;
        let result = walk::<Bad>(
            text,
            items.len(),
            |_| {},
            |n, clause| {
                seen += 1;
                self.clause(&items[n], clause)
            },
        );
        match result {
            Err(bad) => self.error(bad.at.unwrap_or(expr.at), bad.message),
            Ok(()) if items.len() > seen => {
                let given = items.len();
                let message =
                    format!("too many arguments supplied to string.format (expected {seen}, got {given})");
                self.error(expr.at, message);
            }
            Ok(()) => {}
        }
    }

    fn clause(&self, arg: &Expr, clause: Clause) -> Result<(), Bad> {
        let ty = self.ty(arg);
        let good = match clause {
            _ if *ty == Type::Dyn => true,
            Clause::Text => {
                return match self.not_shown(arg) {
                    Some(bad) => Err(Bad::of(bad, clause, self.ty(bad))),
                    None => Ok(()),
                };
            }
            Clause::Decimal | Clause::Octal => matches!(ty, Type::Int | Type::Uint),
            Clause::Fixed(_) | Clause::Scientific(_) => matches!(ty, Type::Double | Type::String),
            Clause::Binary => matches!(ty, Type::Int | Type::Uint | Type::Bool),
            Clause::Hex { .. } => matches!(ty, Type::Int | Type::Uint | Type::String | Type::Bytes),
        };
        if good { Ok(()) } else { Err(Bad::of(arg, clause, ty)) }
    }

    /// What in it `%s` does not show.
    fn not_shown<'x>(&self, expr: &'x Expr) -> Option<&'x Expr> {
        let ty = self.ty(expr);
        if matches!(ty, Type::Any | Type::Struct(_) | Type::Opaque(..) | Type::Param(_) | Type::Error) {
            return Some(expr);
        }
        match &expr.kind {
            Kind::List { items, .. } => items.iter().find_map(|item| self.not_shown(item)),
            Kind::Map(entries) => {
                entries.iter().find_map(|e| self.not_shown(&e.key).or_else(|| self.not_shown(&e.value)))
            }
            _ => None,
        }
    }
}

struct Bad {
    at: Option<u32>,
    message: String,
}

impl Bad {
    fn of(expr: &Expr, clause: Clause, ty: &Type) -> Bad {
        Bad { at: Some(expr.at), message: format!("error during formatting: {}", clause.refusal(ty.name())) }
    }
}

impl From<String> for Bad {
    fn from(message: String) -> Self {
        Bad { at: None, message }
    }
}
