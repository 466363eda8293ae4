//! Gives each node its type, resolves names and overloads, and says what does not fit, in cel-go's words.

use std::sync::Arc;

use super::unify::{Mapping, most_general};
use crate::env::EnvBuilder;
use crate::functions::{self, Function};
use crate::issues::{Report, Source};
use crate::parse::ast::{Call, Comprehension, Expr, Field, Kind, Literal, op};
use crate::types::Type;

/// What a node refers to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reference {
    Variable(Arc<str>),
    /// A type as a value.
    Type(Type),
    /// Overload ids that fit.
    Function(Vec<&'static str>),
}

/// A checked tree.
#[derive(Debug)]
pub(crate) struct Checked {
    pub expr: Expr,
    /// By node id.
    pub types: Vec<Type>,
    pub references: Vec<Option<Reference>>,
}

struct Checker<'e> {
    env: &'e EnvBuilder,
    source: &'e Source,
    report: &'e mut Report,
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
    mapping: Mapping,
    variables: u32,
    /// Variables of comprehensions, innermost last.
    scopes: Vec<(Arc<str>, Type)>,
}

/// `nodes` is the number of ids. Errors are in the report.
pub(crate) fn check(
    mut expr: Expr,
    nodes: u32,
    env: &EnvBuilder,
    source: &Source,
    report: &mut Report,
) -> Checked {
    let nodes = nodes as usize;
    let mut checker = Checker {
        env,
        source,
        report,
        types: vec![None; nodes],
        references: vec![None; nodes],
        mapping: Mapping::default(),
        variables: 0,
        scopes: Vec::new(),
    };
    checker.check(&mut expr);
    let Checker { types, references, mapping, .. } = checker;
    let types = types.into_iter().map(|t| t.map_or(Type::Dyn, |t| mapping.substitute(&t, true))).collect();
    Checked { expr, types, references }
}

impl Checker<'_> {
    fn error(&mut self, at: u32, message: String) {
        self.report.at(self.source, at, message);
    }

    fn undeclared(&mut self, at: u32, name: &str) {
        self.error(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn mismatch(&mut self, at: u32, expected: &Type, actual: &Type) {
        let (expected, actual) = (expected.checker_name(), actual.checker_name());
        self.error(at, format!("expected type '{expected}' but found '{actual}'"));
    }

    fn set(&mut self, expr: &Expr, ty: Type) {
        self.types[expr.id as usize] = Some(ty);
    }

    fn get(&self, expr: &Expr) -> Type {
        self.types[expr.id as usize].clone().unwrap_or(Type::Error)
    }

    fn new_variable(&mut self) -> Type {
        self.variables += 1;
        Type::Param(format!("_var{}", self.variables - 1).into())
    }

    fn check(&mut self, expr: &mut Expr) {
        match &mut expr.kind {
            Kind::Unspecified => self.set(expr, Type::Error),
            Kind::Literal(value) => {
                let ty = match value {
                    Literal::Null => Type::Null,
                    Literal::Bool(_) => Type::Bool,
                    Literal::Int(_) => Type::Int,
                    Literal::Uint(_) => Type::Uint,
                    Literal::Double(_) => Type::Double,
                    Literal::String(_) => Type::String,
                    Literal::Bytes(_) => Type::Bytes,
                };
                self.set(expr, ty);
            }
            Kind::Ident(name) => {
                let name = name.clone();
                if !self.resolve(expr, &name) {
                    self.set(expr, Type::Error);
                    self.undeclared(expr.at, &name);
                }
            }
            Kind::Select { .. } => self.select(expr),
            Kind::Call(_) => self.call(expr),
            Kind::List { .. } => self.list(expr),
            Kind::Map(_) => self.map(expr),
            Kind::Struct { .. } => self.structure(expr),
            Kind::Comprehension(_) => self.comprehension(expr),
        }
    }

    /// Is it the name of a variable or a type?
    fn look_up(&self, name: &str) -> Option<(Arc<str>, Type, Reference)> {
        let absolute = name.strip_prefix('.');
        let plain = absolute.unwrap_or(name);
        if let Some((name, ty)) = self.scopes.iter().rev().find(|(n, _)| **n == *plain) {
            return Some((name.clone(), ty.clone(), Reference::Variable(name.clone())));
        }
        if let Some(ty) = self.env.variables.get(plain) {
            let name: Arc<str> = plain.into();
            return Some((name.clone(), ty.clone(), Reference::Variable(name)));
        }
        let ty = self.env.type_named(plain)?;
        let reference = Reference::Type(ty.clone());
        Some((plain.into(), Type::Type(Some(Arc::new(ty))), reference))
    }

    /// Makes the node a reference if it is one.
    fn resolve(&mut self, expr: &mut Expr, name: &str) -> bool {
        let Some((name, ty, reference)) = self.look_up(name) else { return false };
        expr.kind = Kind::Ident(name);
        self.set(expr, ty);
        self.references[expr.id as usize] = Some(reference);
        true
    }

    fn select(&mut self, expr: &mut Expr) {
        if let Some(name) = expr.qualified_name()
            && self.resolve(expr, &name)
        {
            return;
        }
        let at = expr.at;
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        let (field, test) = (field.clone(), *test);
        let ty = self.field_of(at, operand, &field, false);
        let ty = if test { Type::Bool } else { self.mapping.substitute(&ty, false) };
        self.set(expr, ty);
    }

    /// The type of a field; `optional`: by `.?`.
    fn field_of(&mut self, at: u32, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let of = self.mapping.substitute(&self.get(operand), false);
        let target = of.optional_of().unwrap_or(&of);
        let result = match target {
            Type::Map(both) => both.1.clone(),
            Type::Struct(name) => self.struct_field(at, name, field).unwrap_or(Type::Error),
            Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, target);
                Type::Dyn
            }
            _ => {
                if !target.is_dyn() && *target != Type::Error {
                    let name = target.checker_name();
                    self.error(at, format!("type '{name}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if optional || of.optional_of().is_some() { Type::optional(result) } else { result }
    }

    fn struct_field(&mut self, at: u32, name: &str, field: &str) -> Option<Type> {
        match self.env.field_type(name, field) {
            Ok(Some(ty)) => return Some(ty),
            Ok(None) => self.error(at, format!("undefined field '{field}'")),
            Err(()) => self.error(at, format!("unexpected failed resolution of '{name}'")),
        }
        None
    }

    fn call(&mut self, expr: &mut Expr) {
        let Kind::Call(call) = &mut expr.kind else { return };
        let at = expr.at;
        if &*call.function == op::OPT_SELECT {
            if let Some((operand, field)) = split_select(call) {
                let ty = self.field_of(at, operand, &field, true);
                let ty = self.mapping.substitute(&ty, false);
                self.set(expr, ty);
                self.references[expr.id as usize] = Some(Reference::Function(vec!["select_optional_field"]));
            }
            return;
        }
        for arg in &mut call.args {
            self.check(arg);
        }
        let Some(target) = &mut call.target else {
            let name = call.function.trim_start_matches('.').to_owned();
            let found = self.function(&name);
            match found {
                Some(function) => {
                    call.function = function.name.into();
                    let resolved = self.overload(at, function, None, &call.args);
                    self.resolved(expr, resolved);
                }
                None => {
                    let name = call.function.clone();
                    self.set(expr, Type::Error);
                    self.undeclared(at, &name);
                }
            }
            return;
        };
        // the target may be the first part of the function's name
        if let Some(prefix) = target.qualified_name() {
            let name = format!("{prefix}.{}", call.function);
            if let Some(function) = self.function(name.trim_start_matches('.')) {
                call.function = function.name.into();
                call.target = None;
                let resolved = self.overload(at, function, None, &call.args);
                self.resolved(expr, resolved);
                return;
            }
        }
        self.check(target);
        match self.function(&call.function) {
            Some(function) => {
                let target = self.get(target);
                let resolved = self.overload(at, function, Some(target), &call.args);
                self.resolved(expr, resolved);
            }
            None => {
                let name = call.function.clone();
                self.set(expr, Type::Error);
                self.undeclared(at, &name);
            }
        }
    }

    fn resolved(&mut self, expr: &Expr, resolved: Option<(Type, Vec<&'static str>)>) {
        match resolved {
            Some((ty, ids)) => {
                self.set(expr, ty);
                self.references[expr.id as usize] = Some(Reference::Function(ids));
            }
            None => self.set(expr, Type::Error),
        }
    }

    /// The function, if the environment has any overload of it.
    fn function(&self, name: &str) -> Option<&'static Function> {
        let function = functions::find(name)?;
        let (version, patches) = (self.env.version, self.env.patches);
        function.overloads.iter().any(|o| o.available(version, patches)).then_some(function)
    }

    fn overload(
        &mut self,
        at: u32,
        function: &'static Function,
        target: Option<Type>,
        args: &[Expr],
    ) -> Option<(Type, Vec<&'static str>)> {
        let member = target.is_some();
        let mut types: Vec<Type> = target.into_iter().collect();
        types.extend(args.iter().map(|a| self.get(a)));
        if matches!(function.name, op::AND | op::OR) {
            let mut good = true;
            for (arg, ty) in args.iter().zip(&types) {
                if !self.mapping.assign(ty, &Type::Bool) {
                    self.mismatch(arg.at, &Type::Bool, ty);
                    good = false;
                }
            }
            return good.then(|| (Type::Bool, vec![function.overloads[0].id]));
        }
        let mut result: Option<Type> = None;
        let mut ids = Vec::new();
        for overload in &function.overloads {
            let known = overload.available(self.env.version, self.env.patches);
            if !known
                || overload.member != member
                || !self.env.numbers_mix(overload.id, !self.scopes.is_empty())
            {
                continue;
            }
            let mut fresh = Mapping::default();
            for param in &overload.params {
                let variable = self.new_variable();
                fresh.add(param.clone(), variable);
            }
            let wanted: Vec<Type> = overload.args.iter().map(|t| fresh.substitute(t, false)).collect();
            if self.mapping.assign_all(&types, &wanted) {
                ids.push(overload.id);
                let own = self.mapping.substitute(&fresh.substitute(&overload.result, false), false);
                match &result {
                    None => result = Some(own),
                    Some(known) if !known.is_dyn() && *known != own => result = Some(Type::Dyn),
                    Some(_) => {}
                }
            }
        }
        if let Some(result) = result {
            return Some((result, ids));
        }
        let names: Vec<String> =
            types.iter().map(|t| self.mapping.substitute(t, true).checker_name()).collect();
        let signature = match names.split_first() {
            Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
            _ => format!("({})", names.join(", ")),
        };
        self.error(
            at,
            format!("found no matching overload for '{}' applied to '{signature}'", function.name),
        );
        None
    }

    fn list(&mut self, expr: &mut Expr) {
        let Kind::List { items, optional } = &mut expr.kind else { return };
        let mut joined: Option<Type> = None;
        for (item, optional) in items.iter_mut().zip(optional.iter()) {
            self.check(item);
            let ty = self.unwrapped(item, *optional);
            joined = Some(self.join(joined, ty));
        }
        let item = joined.unwrap_or_else(|| self.new_variable());
        self.set(expr, Type::list(item));
    }

    /// The type of an element, of what is in it if it is marked as optional.
    fn unwrapped(&mut self, element: &Expr, optional: bool) -> Type {
        let ty = self.get(element);
        if !optional {
            return ty;
        }
        match ty.optional_of() {
            Some(of) => of.clone(),
            None => {
                if !ty.is_dyn() {
                    self.mismatch(element.at, &Type::optional(ty.clone()), &ty);
                }
                ty
            }
        }
    }

    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.mapping.assign(&previous, &current) {
            return most_general(&previous, &current).clone();
        }
        // that they differ is said by the validation of literals
        Type::Dyn
    }

    fn map(&mut self, expr: &mut Expr) {
        let Kind::Map(entries) = &mut expr.kind else { return };
        let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let key = self.get(&entry.key);
            keys = Some(self.join(keys, key));
            self.check(&mut entry.value);
            let value = self.unwrapped(&entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.new_variable());
        let value = values.unwrap_or_else(|| self.new_variable());
        self.set(expr, Type::map(key, value));
    }

    fn structure(&mut self, expr: &mut Expr) {
        let at = expr.at;
        let Kind::Struct { name, fields } = &mut expr.kind else { return };
        let Some((known, ty, _)) = self.look_up(name) else {
            let name = name.clone();
            self.undeclared(at, &name);
            self.set(expr, Type::Error);
            return;
        };
        *name = known.clone();
        let result = match &ty {
            Type::Type(Some(of)) if matches!(**of, Type::Struct(_)) => Type::clone(of),
            Type::Type(Some(of)) => {
                let of = of.name().to_owned();
                self.error(at, format!("'{of}' is not a message type"));
                Type::Error
            }
            Type::Error => Type::Error,
            other => {
                let other = other.name().to_owned();
                self.error(at, format!("'{other}' is not a type"));
                Type::Error
            }
        };
        for field in fields.iter_mut() {
            self.field(&known, field);
        }
        self.set(expr, result);
    }

    fn field(&mut self, of: &str, field: &mut Field) {
        self.check(&mut field.value);
        if of == "JSONPatch" && !matches!(&*field.name, "op" | "path" | "from" | "value") {
            let (name, ty) = (&field.name, self.get(&field.value).checker_name());
            let message = format!("expected type of field '{name}' is '' but provided type is '{ty}'");
            return self.error(field.at, message);
        }
        let wanted = self.struct_field(field.at, of, &field.name).unwrap_or(Type::Error);
        let ty = self.unwrapped(&field.value, field.optional);
        if !self.mapping.assign(&wanted, &ty) {
            let (wanted, ty) = (wanted.checker_name(), ty.checker_name());
            let name = &field.name;
            let message =
                format!("expected type of field '{name}' is '{wanted}' but provided type is '{ty}'");
            self.error(field.at, message);
        }
    }

    fn comprehension(&mut self, expr: &mut Expr) {
        let Kind::Comprehension(parts) = &mut expr.kind else { return };
        let Comprehension { range, var, var2, accu, init, condition, step, result } = &mut **parts;
        self.check(range);
        self.check(init);
        let over = self.mapping.substitute(&self.get(range), false);
        let accu_type = self.get(init);
        let outer = self.scopes.len();
        self.scopes.push((accu.clone(), accu_type.clone()));
        let both = var2.is_some();
        let (first, second) = match &over {
            Type::List(item) if both => (Type::Int, Type::clone(item)),
            Type::List(item) => (Type::clone(item), Type::Error),
            Type::Map(entry) => (entry.0.clone(), entry.1.clone()),
            Type::Dyn | Type::Any | Type::Error | Type::Param(_) => {
                // what it is an element of is not to become something narrower
                if !matches!(over, Type::Any) {
                    self.mapping.assign(&Type::Dyn, &over);
                }
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let name = other.checker_name();
                let message = format!(
                    "expression of type '{name}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.error(range.at, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((var.clone(), first));
        if let Some(var2) = var2 {
            self.scopes.push((var2.clone(), second));
        }
        self.check(condition);
        self.assert(condition, &Type::Bool);
        self.check(step);
        self.assert(step, &accu_type);
        self.scopes.truncate(outer + 1);
        self.check(result);
        self.scopes.truncate(outer);
        let ty = self.mapping.substitute(&self.get(result), false);
        self.set(expr, ty);
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let ty = self.get(expr);
        if !self.mapping.assign(wanted, &ty) {
            self.mismatch(expr.at, wanted, &ty);
        }
    }
}

/// Operand and field name of `operand.?field`.
fn split_select(call: &mut Call) -> Option<(&mut Expr, Arc<str>)> {
    let [operand, field] = call.args.as_mut_slice() else { return None };
    match &field.kind {
        Kind::Literal(Literal::String(name)) => Some((operand, name.clone())),
        _ => None,
    }
}
