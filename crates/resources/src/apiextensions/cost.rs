//! Rules of a definition: they compile, and can't cost too much by what the schema says of sizes.
//! <https://kubernetes.io/docs/reference/using-api/cel/#estimated-cost>

use std::cell::RefCell;

use cel::Version;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::lax::Asked;
use super::rules::{Compiled, RuleError, Scope};
use super::shown;
use crate::check::Errors;

const RULE_LIMIT: u64 = 10_000_000;
const TOTAL_LIMIT: u64 = 100_000_000;

/// What all rules of a version cost together, and the dearest of them.
#[derive(Default)]
pub(super) struct Total(RefCell<(u64, Vec<(Path, u64)>)>);

/// How often a place in the schema can be there in one object (None: there is no bound).
pub(super) struct Context<'a> {
    schema: &'a Value,
    root: bool,
    times: Option<u64>,
    total: &'a Total,
}

impl Total {
    fn observe(&self, at: Path, cost: u64) {
        const SHOWN: usize = 4;
        let (total, dearest) = &mut *self.0.borrow_mut();
        *total = total.saturating_add(cost);
        if cost >= TOTAL_LIMIT / 100 {
            dearest.push((at, cost));
            dearest.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            dearest.truncate(SHOWN);
        }
    }

    pub fn check(&self, at: &Path, errors: &mut ErrorList) {
        let (total, dearest) = &*self.0.borrow();
        if *total <= TOTAL_LIMIT {
            return;
        }
        for (at, _) in dearest {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(at, why);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(at, too_dear(what, *total, TOTAL_LIMIT));
    }
}

fn too_dear(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

impl<'a> Context<'a> {
    pub fn total() -> Total {
        Total::default()
    }

    pub fn root(schema: &'a Value, total: &'a Total) -> Self {
        Self { schema, root: true, times: Some(1), total }
    }

    pub fn child(&self, schema: &'a Value) -> Self {
        let bound = |name: &str| self.schema.int(name).map(|n| n.max(0) as u64);
        let factor = match self.schema.text("type") {
            "object" if self.schema.has("additionalProperties") => bound("maxProperties"),
            "array" => bound("maxItems"),
            _ => Some(1),
        };
        let times = self.times.zip(factor).map(|(times, factor)| times.saturating_mul(factor));
        let root = schema.flag("x-kubernetes-embedded-resource") == Some(true);
        Self { schema, root, times, total: self.total }
    }

    /// Checks the rules of a schema. `uncorrelated`: within this place old values can't be told.
    pub fn rules(
        &self,
        schema: &Value,
        at: &Path,
        uncorrelated: Option<&Path>,
        asked: &Asked,
        errors: &mut ErrorList,
    ) {
        let Some(scope) = Scope::new(schema, self.root) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            errors.push(machinery::field::Error::internal(at, why));
            return;
        };
        for (i, rule) in schema.list("x-kubernetes-validations").iter().enumerate() {
            let stored = |known: bool| if known { Version::CURRENT } else { Version::COMPATIBLE };
            let compiled = scope.compile(
                rule,
                stored(asked.old_rules.contains(rule.text("rule"))),
                stored(asked.old_messages.contains(rule.text("messageExpression"))),
            );
            self.rule(rule, &compiled, &scope, &at.index(i), asked, errors);
            let optional = rule.at("optionalOldSelf");
            match uncorrelated {
                Some(place) if compiled.uses_old => {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                    );
                    errors.invalid(&at.index(i).child("rule"), rule.text("rule"), why);
                }
                _ if !compiled.uses_old && !optional.is_null() => {
                    let why = "may not be set if oldSelf is not used in rule";
                    errors.invalid(&at.index(i).child("optionalOldSelf"), optional.clone(), why);
                }
                _ => {}
            }
        }
    }

    fn rule(
        &self,
        rule: &Value,
        compiled: &Compiled,
        scope: &Scope,
        at: &Path,
        asked: &Asked,
        errors: &mut ErrorList,
    ) {
        let cost = compiled.cost.saturating_mul(self.times.unwrap_or_else(|| scope.cardinality()));
        let rule_at = at.child("rule");
        if asked.costs && cost > RULE_LIMIT {
            errors.forbidden(&rule_at, too_dear("estimated rule cost", cost, RULE_LIMIT));
        }
        self.total.observe(rule_at.clone(), cost);
        if let Some(RuleError(why)) = compiled.rule.as_ref().err() {
            errors.invalid_shown(&rule_at, shown::rule(rule), why);
        }
        let at = at.child("messageExpression");
        match &compiled.message {
            Some(Err(RuleError(why))) => errors.invalid_shown(&at, shown::rule(rule), why),
            Some(Ok(_)) => {
                let cost = compiled.message_cost;
                if asked.costs && cost > RULE_LIMIT {
                    errors.forbidden(&at, too_dear("estimated messageExpression cost", cost, RULE_LIMIT));
                }
                self.total.observe(at, cost);
            }
            None => {}
        }
    }
}
