//! The configuration in force: schemas in order, each bound to its level, and how the server's seats are divided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use machinery::{Get, Value, meta};

use super::level::{Level, Settings};
use super::queues::Limit;
use super::rules::Schema;
use super::shares::{Claim, Limits, divide};
use crate::authn::User;
use crate::bootstrap::flow as defaults;
use crate::front::RequestInfo;

/// A schema and its level.
pub struct Bound {
    pub schema: SchemaRef,
    pub schema_uid: HeaderValue,
    pub level: Arc<Level>,
    pub level_uid: HeaderValue,
}

/// A schema whose name is cheap to hand on.
pub struct SchemaRef {
    pub name: Arc<str>,
    rules: Schema,
}

impl std::ops::Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        &self.rules
    }
}

pub struct State {
    /// Seats of the server.
    total: u64,
    /// By rising precedence, then by name; the last one takes what no other does.
    bound: Vec<Bound>,
    pub levels: BTreeMap<String, Arc<Level>>,
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

impl Settings {
    /// None if the object contradicts itself.
    pub fn new(object: &Value) -> Option<Self> {
        let spec = object.at("spec");
        let exempt = spec.text("type") == "Exempt";
        if exempt != (meta::name(object) == "exempt") {
            return None;
        }
        let part = spec.at(if exempt { "exempt" } else { "limited" });
        let limit = if exempt {
            Limit::Exempt
        } else {
            let response = part.get("limitResponse")?;
            match (response.text("type"), response.get("queuing")) {
                ("Queue", Some(queuing)) => {
                    let number = |field: &str, or: i64| {
                        usize::try_from(queuing.int(field).filter(|n| *n > 0).unwrap_or(or)).unwrap_or(1)
                    };
                    Limit::Queue {
                        queues: number("queues", 64),
                        hand: number("handSize", 8),
                        length: number("queueLengthLimit", 50),
                    }
                }
                ("Reject", None) => Limit::Reject,
                _ => return None,
            }
        };
        let shares = part.int("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 });
        Some(Self {
            limit,
            shares: shares as f64,
            lendable: part.int("lendablePercent").unwrap_or(0),
            borrowing: part.int("borrowingLimitPercent"),
        })
    }
}

/// A schema whose level is there, or is not.
pub struct Reference {
    pub schema: Value,
    pub level: String,
    pub found: bool,
}

impl State {
    /// What holds before any object is known.
    pub fn mandatory(total: u64) -> Self {
        let none = Self { total, bound: Vec::new(), levels: BTreeMap::new() };
        none.next(&[], &[], Duration::ZERO).0
    }

    /// The state that follows from what the objects say now; levels keep their queues. Also says of each schema whether
    /// its level is there.
    pub fn next(&self, levels: &[Value], schemas: &[Value], now: Duration) -> (Self, Vec<Reference>) {
        let mut wanted: BTreeMap<String, (Settings, HeaderValue)> = BTreeMap::new();
        for object in levels {
            if let Some(settings) = Settings::new(object) {
                wanted.insert(meta::name(object).to_owned(), (settings, header(meta::uid(object))));
            }
        }
        let references = references(schemas, &wanted);
        let mut in_force: Vec<Schema> =
            references.iter().filter(|r| r.found).map(|r| Schema::new(&r.schema)).collect();
        in_force.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        supply_mandatory(&mut wanted, &mut in_force);

        let mut kept = BTreeMap::new();
        for (name, (settings, _)) in &wanted {
            let level = match self.levels.get(name) {
                Some(level) => level.clone(),
                None => Arc::new(Level::new(name, *settings, now)),
            };
            kept.insert(name.clone(), (level, *settings));
        }
        // what is no longer wanted lingers while it has requests, with the seats it had
        for (name, level) in self.levels.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            let mut inner = level.inner.lock();
            if !inner.queues.is_unused() {
                inner.quiescing = true;
                kept.insert(name.clone(), (level.clone(), inner.settings));
            }
        }
        let sum: f64 = kept.values().map(|(_, settings)| settings.shares).sum();
        for (name, (level, settings)) in &kept {
            let limits = Limits::new(self.total, settings.shares, sum, settings.lendable, settings.borrowing);
            let quiescing = !wanted.contains_key(name);
            level.set(*settings, limits, now);
            level.inner.lock().quiescing = quiescing;
        }
        let levels: BTreeMap<String, Arc<Level>> =
            kept.into_iter().map(|(name, (level, _))| (name, level)).collect();
        let bound = in_force
            .into_iter()
            .filter_map(|rules| {
                let level = levels.get(&rules.level)?.clone();
                let level_uid = wanted.get(&rules.level)?.1.clone();
                let (schema_uid, name) = (header(&rules.uid), Arc::from(rules.name.as_str()));
                Some(Bound { schema: SchemaRef { name, rules }, schema_uid, level, level_uid })
            })
            .collect();
        let state = Self { total: self.total, bound, levels };
        state.adapt(now, 1);
        (state, references)
    }

    /// Which schema matches first; everything is caught by the last.
    pub fn classify(&self, info: &RequestInfo, user: &User) -> usize {
        let matches = self.bound.iter().position(|bound| bound.schema.matches(info, user));
        matches.unwrap_or_else(|| {
            let is_last = |bound: &Bound| &*bound.schema.name == "catch-all";
            self.bound.iter().position(is_last).unwrap_or(0)
        })
    }

    pub fn bound(&self, at: usize) -> &Bound {
        &self.bound[at]
    }

    /// Divides the seats by what the levels have wanted in these periods.
    pub fn adapt(&self, now: Duration, periods: i32) {
        let mut inners: Vec<_> = self.levels.values().map(|level| level.inner.lock()).collect();
        let total: u64 = inners.iter().map(|inner| inner.limits.nominal).sum();
        let (mut left, mut least_sum, mut wanted_sum) = (total as f64, 0.0, 0.0);
        let mut claims = Vec::new();
        for inner in &mut inners {
            let mut stats = inner.stats;
            inner.queues.demand.take(now, periods, &mut stats);
            inner.stats = stats;
            let least = inner.limits.least as f64;
            if inner.settings.limit == Limit::Exempt {
                left -= least.max(stats.peak);
                continue;
            }
            let wanted = least.max(stats.peak.min(inner.limits.nominal as f64));
            least_sum += least;
            wanted_sum += wanted;
            claims.push(Claim {
                target: wanted.max(stats.smoothed),
                least: wanted,
                most: inner.limits.most as f64,
            });
        }
        let divided = if left > wanted_sum { divide(total as f64, &claims) } else { None };
        let mut parts = divided.map(|(parts, _)| parts.into_iter());
        let mut wants = claims.iter().map(|claim| claim.least);
        for inner in &mut inners {
            let least = inner.limits.least as f64;
            let seats = if inner.settings.limit == Limit::Exempt {
                least.max(inner.stats.peak)
            } else {
                let wanted = wants.next().unwrap_or(least);
                match &mut parts {
                    Some(parts) => parts.next().unwrap_or(least).round(),
                    None if left > wanted_sum => inner.seats as f64,
                    None if left <= least_sum => least,
                    None => {
                        let share = (left - least_sum) / (wanted_sum - least_sum);
                        least + ((wanted - least) * share).round()
                    }
                }
            };
            inner.configure(seats as u64, now);
        }
    }
}

fn references(schemas: &[Value], levels: &BTreeMap<String, (Settings, HeaderValue)>) -> Vec<Reference> {
    schemas
        .iter()
        .map(|schema| {
            let level = schema.at("spec").at("priorityLevelConfiguration").text("name").to_owned();
            Reference { found: levels.contains_key(&level), schema: schema.clone(), level }
        })
        .collect()
}

/// The mandatory objects hold even where the API has none.
fn supply_mandatory(levels: &mut BTreeMap<String, (Settings, HeaderValue)>, schemas: &mut Vec<Schema>) {
    for object in defaults::mandatory() {
        let name = meta::name(&object);
        if object.text("kind") == "FlowSchema" {
            if schemas.iter().any(|schema| schema.name == name) {
                continue;
            }
            let at = if name == "exempt" { 0 } else { schemas.len() };
            schemas.insert(at, Schema::new(&object));
        } else if !levels.contains_key(name)
            && let Some(settings) = Settings::new(&object)
        {
            levels.insert(name.to_owned(), (settings, header("")));
        }
    }
}
