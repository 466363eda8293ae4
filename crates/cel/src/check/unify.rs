//! Which type may stand for which, and what type variables stand for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::Type;

/// What type variables stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping(HashMap<Arc<str>, Type>);

impl Mapping {
    pub fn add(&mut self, name: Arc<str>, ty: Type) {
        self.0.insert(name, ty);
    }

    fn find(&self, ty: &Type) -> Option<&Type> {
        match ty {
            Type::Param(name) => self.0.get(name),
            _ => None,
        }
    }

    /// May `from` stand where `to` is wanted? What that says of type variables is kept if so.
    pub fn assign(&mut self, to: &Type, from: &Type) -> bool {
        let mut copy = self.clone();
        let fits = copy.fits(to, from);
        if fits {
            *self = copy;
        }
        fits
    }

    pub fn assign_all(&mut self, to: &[Type], from: &[Type]) -> bool {
        if to.len() != from.len() {
            return false;
        }
        let mut copy = self.clone();
        let fits = to.iter().zip(from).all(|(to, from)| copy.fits(to, from));
        if fits {
            *self = copy;
        }
        fits
    }

    fn fits(&mut self, t1: &Type, t2: &Type) -> bool {
        if let Type::Param(name) = t2 {
            let (valid, known) = self.substitutes(t1, t2, name);
            if valid {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Param(name) = t1 {
            return self.substitutes(t2, t1, name).0;
        }
        if t1.is_dyn() || t2.is_dyn() || *t1 == Type::Error || *t2 == Type::Error {
            return true;
        }
        let nullable = |t: &Type| {
            matches!(
                t,
                Type::Null
                    | Type::Opaque(..)
                    | Type::Struct(_)
                    | Type::Duration
                    | Type::Timestamp
                    | Type::Wrapper(_)
            )
        };
        if *t1 == Type::Null {
            return nullable(t2);
        }
        if *t2 == Type::Null {
            return nullable(t1);
        }
        match (t1, t2) {
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Opaque(a, ap), Type::Opaque(b, bp)) => {
                a == b && ap.len() == bp.len() && ap.iter().zip(bp.iter()).all(|(a, b)| self.fits(a, b))
            }
            (a, Type::Wrapper(b)) => *a == **b || matches!(a, Type::Wrapper(a) if a == b),
            (Type::Wrapper(a), b) => **a == *b,
            (a, b) => a == b,
        }
    }

    /// May `t1` stand for the variable `t2`? And does the variable stand for something already?
    fn substitutes(&mut self, t1: &Type, t2: &Type, name: &Arc<str>) -> (bool, bool) {
        if t1 == t2 {
            return (true, true);
        }
        if let Some(known) = self.find(t2).cloned() {
            if *t1 == known {
                return (true, true);
            }
            if self.fits(t1, &known) {
                let general = most_general(t1, &known).clone();
                if self.not_within(t2, &general) {
                    self.add(name.clone(), general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.not_within(t2, t1) {
            self.add(name.clone(), t1.clone());
            return (true, false);
        }
        (false, false)
    }

    fn not_within(&self, t: &Type, within: &Type) -> bool {
        if t == within {
            return false;
        }
        match within {
            Type::Param(_) => self.find(within).is_none_or(|known| self.not_within(t, known)),
            Type::Map(both) => self.not_within(t, &both.0) && self.not_within(t, &both.1),
            other => other.params().iter().all(|p| self.not_within(t, p)),
        }
    }

    /// With variables replaced by what they stand for; the rest by dyn, if `to_dyn`.
    pub fn substitute(&self, ty: &Type, to_dyn: bool) -> Type {
        if let Some(known) = self.find(ty) {
            return self.substitute(known, to_dyn);
        }
        match ty {
            Type::Param(_) if to_dyn => Type::Dyn,
            Type::Opaque(name, params) => {
                Type::Opaque(name.clone(), params.iter().map(|p| self.substitute(p, to_dyn)).collect())
            }
            Type::List(item) => Type::list(self.substitute(item, to_dyn)),
            Type::Map(both) => Type::map(self.substitute(&both.0, to_dyn), self.substitute(&both.1, to_dyn)),
            Type::Type(Some(of)) => Type::Type(Some(Arc::new(self.substitute(of, to_dyn)))),
            other => other.clone(),
        }
    }
}

pub(super) fn most_general<'t>(t1: &'t Type, t2: &'t Type) -> &'t Type {
    if less_specific(t1, t2) { t1 } else { t2 }
}

fn less_specific(t1: &Type, t2: &Type) -> bool {
    let open = |t: &Type| t.is_dyn() || matches!(t, Type::Param(_));
    if open(t1) {
        return true;
    }
    if open(t2) {
        return false;
    }
    match (t1, t2) {
        (Type::Opaque(a, ap), Type::Opaque(b, bp)) => {
            a == b && ap.len() == bp.len() && ap.iter().zip(bp.iter()).all(|(a, b)| less_specific(a, b))
        }
        (Type::List(a), Type::List(b)) => less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
