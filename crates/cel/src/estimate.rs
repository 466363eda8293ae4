//! The worst cost of an expression, from the sizes that declarations give. The figures are part of the API: they decide
//! which rules a CRD may have.

mod calls;

use std::collections::HashMap;
use std::sync::Arc;

use crate::check::{Checked, Reference};
use crate::decl::DeclType;
use crate::env::{CostRange, EnvBuilder};
use crate::eval::cost;
use crate::parse::ast::{Call, Comprehension, Expr, Kind, Literal};
use crate::types::Type;

/// From least to most; both costs and sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    min: u64,
    max: u64,
}

const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

impl Range {
    const fn fixed(n: u64) -> Range {
        Range { min: n, max: n }
    }

    fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn by(self, factor: f64) -> Range {
        let one = |n: u64| {
            let product = (n as f64 * factor).ceil();
            if product >= 18_446_744_073_709_551_616.0 { u64::MAX } else { product as u64 }
        };
        Range { min: one(self.min), max: one(self.max) }
    }

    fn or(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Sizes of a container's keys (or indices) and values.
#[derive(Clone, Copy, Debug)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

type Path = Option<Vec<Arc<str>>>;

#[derive(Clone, Debug)]
struct Local {
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'e> {
    checked: &'e Checked,
    env: &'e EnvBuilder,
    paths: HashMap<u32, Vec<Arc<str>>>,
    sizes: HashMap<u32, Range>,
    entries: HashMap<u32, Entries>,
    locals: Vec<(Arc<str>, Local)>,
}

/// An argument, as it was when its own cost was known.
#[derive(Clone, Debug)]
struct Node<'e> {
    ty: &'e Type,
    path: Path,
    size: Option<Range>,
    expr: Option<&'e Expr>,
}

pub(crate) fn estimate(checked: &Checked, env: &EnvBuilder) -> CostRange {
    let mut estimator = Estimator {
        checked,
        env,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    let Range { min, max } = estimator.cost(&checked.expr);
    CostRange { min, max }
}

impl<'e> Estimator<'e> {
    fn cost(&mut self, expr: &'e Expr) -> Range {
        match &expr.kind {
            Kind::Unspecified | Kind::Literal(_) => Range::fixed(0),
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => Some(vec![name.clone()]),
                };
                self.set_path(expr, path);
                Range::fixed(1)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut sum = self.cost(operand);
                if matches!(self.ty(operand), Type::Map(_) | Type::Struct(_) | Type::Param(_)) {
                    sum = sum.plus(Range::fixed(1));
                }
                let path = extended(self.path(operand), field);
                self.set_path(expr, path);
                sum
            }
            Kind::Call(call) => self.call(expr, call),
            Kind::List { items, .. } => {
                let mut sum = Range::fixed(cost::LIST);
                let mut size = Range { min: if items.is_empty() { 0 } else { u64::MAX }, max: 0 };
                for item in items {
                    sum = sum.plus(self.cost(item));
                    size = size.or(self.size_or_unknown(item));
                }
                self.entries.insert(expr.id, Entries { list: true, key: Range::fixed(1), value: size });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Range::fixed(cost::MAP);
                let start = Range { min: if entries.is_empty() { 0 } else { u64::MAX }, max: 0 };
                let (mut keys, mut values) = (start, start);
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key));
                    sum = sum.plus(self.cost(&entry.value));
                    keys = keys.or(self.size_or_unknown(&entry.key));
                    values = values.or(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, Entries { list: false, key: keys, value: values });
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Range::fixed(cost::STRUCT), |sum, f| sum.plus(self.cost(&f.value)))
            }
            Kind::Comprehension(parts) => self.comprehension(expr, parts),
        }
    }

    fn call(&mut self, expr: &'e Expr, call: &'e Call) -> Range {
        if &*call.function == "dyn"
            && let Some(arg) = call.args.first()
        {
            let cost = self.cost(arg).plus(Range::fixed(1));
            self.copy_sizes(expr, arg);
            return cost;
        }
        let mut costs = Vec::with_capacity(call.args.len());
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            costs.push(self.cost(arg));
            args.push(self.node(arg));
        }
        let checked = self.checked;
        let Some(Reference::Function(overloads)) = &checked.references[expr.id as usize] else {
            return Range::fixed(0);
        };
        let mut sum = Range::fixed(0);
        let target = match &call.target {
            Some(target) => {
                sum = self.cost(target);
                Some(self.node(target))
            }
            None => None,
        };
        let mut all = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in overloads {
            let (own, result) = self.function(expr, &call.function, overload, target.as_ref(), &args, &costs);
            all = all.or(own);
            if let Some(result) = result {
                size = Some(size.map_or(result, |size| size.or(result)));
            }
            let step = match *overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(container)) = (step, call.args.first()) {
                size = self.entry_sizes(container).map(|e| e.value);
                let path = extended(self.path(container), step);
                self.set_path(expr, path);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.plus(all)
    }

    fn comprehension(&mut self, expr: &'e Expr, parts: &'e Comprehension) -> Range {
        let mut sum = self.cost(&parts.range);
        sum = sum.plus(self.cost(&parts.init));
        let bound = matches!(&parts.range.kind, Kind::List { items, .. } if items.is_empty())
            && matches!(parts.condition.kind, Kind::Literal(Literal::Bool(false)));
        let accu = Local {
            path: self.path(&parts.init),
            size: self.size(&parts.init),
            entries: self.entry_sizes(&parts.init),
        };
        self.locals.push((parts.accu.clone(), accu));
        if bound {
            sum = sum.plus(self.cost(&parts.result));
            self.locals.pop();
            self.copy_sizes(expr, &parts.result);
            return sum;
        }
        let entries = self.entry_sizes(&parts.range);
        let list = entries.map_or(matches!(self.ty(&parts.range), Type::List(_)), |e| e.list);
        let path = self.path(&parts.range);
        let mut variable = |name: &Arc<str>, step: &str, size: Option<Range>| {
            let local = Local { path: extended(path.clone(), step), size, entries: None };
            self.locals.push((name.clone(), local));
        };
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        match &parts.var2 {
            Some(var2) => {
                variable(&parts.var, if list { "@indices" } else { "@keys" }, key);
                variable(var2, if list { "@items" } else { "@values" }, value);
            }
            None if list => variable(&parts.var, "@items", value),
            None => variable(&parts.var, "@keys", key),
        }
        let condition = self.cost(&parts.condition);
        let step = self.cost(&parts.step);
        for _ in 0..1 + usize::from(parts.var2.is_some()) {
            self.locals.pop();
        }
        sum = sum.plus(self.cost(&parts.result));
        self.locals.pop();
        let count = self.size_or_unknown(&parts.range);
        sum = sum.plus(count.times(step.plus(condition)));
        match &parts.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&parts.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = self.entry_sizes(&parts.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|(known, _)| **known == *name).map(|(_, local)| local)
    }

    fn ty(&self, expr: &Expr) -> &'e Type {
        &self.checked.types[expr.id as usize]
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Some(name) = expr.as_ident()
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned()
    }

    fn set_path(&mut self, expr: &Expr, path: Path) {
        match path {
            Some(path) => self.paths.insert(expr.id, path),
            None => self.paths.remove(&expr.id),
        };
    }

    fn node(&mut self, expr: &'e Expr) -> Node<'e> {
        let path =
            self.path(expr).filter(|p| !matches!(p.first().map(|s| &**s), Some("__result__" | "@result")));
        let size = self.size(expr);
        Node { ty: self.ty(expr), path, size, expr: Some(expr) }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(UNKNOWN)
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entry_sizes(from) {
            self.entries.insert(to.id, entries);
        }
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let own = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List { items, .. } => Some(items.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = own {
            return Some(Range::fixed(size as u64));
        }
        let path = self.path(expr);
        if let Some(size) = self.declared(&path) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.ty(expr)) {
            return Some(Range::fixed(1));
        }
        self.local(expr.as_ident()?)?.size
    }

    fn entry_sizes(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        self.local(expr.as_ident()?)?.entries
    }

    /// What the declarations say of the size of what stands at a path. As upstream's estimator of rules has it, paths
    /// from elsewhere are taken as if they began at `self`.
    fn declared(&self, path: &Path) -> Option<Range> {
        let (first, rest) = path.as_ref()?.split_first()?;
        let root = self.env.sizes.get(&**first).or_else(|| self.env.sizes.get("self"))?;
        let mut at: &DeclType = root;
        for step in rest {
            at = match &**step {
                "@items" | "@values" => at.elem.as_ref()?,
                "@keys" => at.key.as_ref()?,
                name => at.fields.get(name)?,
            };
        }
        // what is unbounded is -1
        Some(Range { min: 0, max: at.max_elements as u64 })
    }

    /// For the library's estimates.
    fn node_size(&self, node: &Node<'_>) -> Range {
        node.size.or_else(|| self.declared(&node.path)).unwrap_or(UNKNOWN)
    }
}

fn extended(path: Path, step: &str) -> Path {
    let mut path = path.unwrap_or_default();
    path.push(step.into());
    Some(path)
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Wrapper(of) => is_scalar(of),
        other => other.optional_of().is_some_and(is_scalar),
    }
}

fn sum_of(costs: &[Range]) -> Range {
    costs.iter().fold(Range::fixed(0), |sum, cost| sum.plus(*cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overflow() {
        assert_eq!(UNKNOWN.plus(Range::fixed(1)), Range { min: 1, max: u64::MAX });
        assert_eq!(UNKNOWN.by(0.1).max, 1_844_674_407_370_955_264);
        assert_eq!(UNKNOWN.by(2.0).max, u64::MAX);
    }
}
