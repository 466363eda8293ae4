//! Rules in CEL of custom resources (`x-kubernetes-validations`): compiled once by schema, then asked of objects.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{DeclType, Env, EvalError, Program, Schema, Type, Variables, Version};
use machinery::field::{Error, ErrorList, Kind, Path};
use machinery::{Get, Value};

use super::fieldpath;

/// Bytes that an evaluated message may have.
const MAX_MESSAGE: usize = 5 * 1024;

/// Why an expression is not taken, in upstream's words.
pub(super) struct RuleError(pub String);

/// A rule made ready.
pub(super) struct Compiled {
    pub rule: Result<Program, RuleError>,
    pub uses_old: bool,
    /// The worst cost of one evaluation.
    pub cost: u64,
    pub message: Option<Result<Program, RuleError>>,
    pub message_cost: u64,
}

/// What the rules at one place of a schema are about.
pub(super) struct Scope {
    this: DeclType,
}

impl Scope {
    /// None: rules can't see such data. `root`: a whole resource, with metadata.
    pub fn new(schema: &Value, root: bool) -> Option<Self> {
        let this = DeclType::from_schema(&Schema::new(schema), root, "selfType")?;
        Some(Self { this })
    }

    /// How often such data can stand in one request.
    pub fn cardinality(&self) -> u64 {
        self.this.max_cardinality()
    }

    fn env(&self, optional: bool, version: Version) -> Env {
        let env = Env::builder(version).typed_variable("self", &self.this);
        let env = match optional {
            true => env.optional_variable("oldSelf", &self.this),
            false => env.typed_variable("oldSelf", &self.this),
        };
        env.build()
    }

    pub fn compile(&self, rule: &Value, version: Version, message_version: Version) -> Compiled {
        let optional = rule.flag("optionalOldSelf") == Some(true);
        let found = compile(&self.env(optional, version), rule.text("rule"), &Type::Bool, "");
        let good = found.as_ref().ok();
        let uses_old = good.is_some_and(|p| p.uses("oldSelf"));
        let cost = good.map_or(0, |p| p.estimated_cost().max);
        let expression = rule.text("messageExpression");
        let message = (good.is_some() && !expression.is_empty()).then(|| {
            compile(&self.env(optional, message_version), expression, &Type::String, "messageExpression ")
        });
        let message_cost =
            message.as_ref().and_then(|m| m.as_ref().ok()).map_or(0, |p| p.estimated_cost().max);
        Compiled { rule: found, uses_old, cost, message, message_cost }
    }
}

fn compile(env: &Env, source: &str, wanted: &Type, what: &str) -> Result<Program, RuleError> {
    let program =
        env.compile(source).map_err(|issues| RuleError(format!("{what}compilation failed: {issues}")))?;
    if program.output_type() == wanted {
        return match program.defect() {
            Some(why) => {
                let what = if what.is_empty() { "program " } else { what };
                Err(RuleError(format!("{what}instantiation failed: {why}")))
            }
            None => Ok(program),
        };
    }
    Err(RuleError(match wanted {
        Type::String => "messageExpression must evaluate to a string".into(),
        _ => "cel expression must evaluate to a bool".into(),
    }))
}

/// All rules of a schema.
pub struct Rules {
    root: Option<Node>,
}

struct Node {
    /// The root of a resource has metadata.
    schema: Arc<Schema>,
    kind: String,
    rules: Vec<Rule>,
    /// Of a keyed list: items of two versions are told by these.
    keys: Option<Vec<String>>,
    atomic_map: bool,
    correlated_map: bool,
    items: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    all_of: Vec<Node>,
}

struct Rule {
    source: String,
    message: String,
    reason: String,
    optional: bool,
    path: String,
    compiled: Compiled,
}

/// What was found by rules.
#[derive(Default)]
pub struct Findings {
    pub errors: ErrorList,
    /// Broken by what an update did not touch.
    pub warnings: Vec<String>,
}

/// A value and what it was before an update.
#[derive(Clone, Copy)]
struct Pair<'a> {
    now: &'a Value,
    before: &'a Value,
}

/// For ratcheting: the pair here, if the two can be told to belong together, and the nearest one above.
#[derive(Clone, Copy, Default)]
struct Correlation<'a> {
    here: Option<Pair<'a>>,
    above: Option<Pair<'a>>,
}

struct Run {
    findings: Findings,
    /// None: the budget is spent.
    budget: Option<u64>,
}

static NULL: Value = Value::Null;

impl Rules {
    /// Of a structural schema; `root`: of whole resources.
    pub fn new(open_api: &Value, root: bool) -> Self {
        Self { root: node(open_api, open_api, root) }
    }

    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Asks all rules. `ratchet`: what an update left as it was is only warned of.
    pub fn check(&self, at: &Path, object: &Value, old: Option<&Value>, ratchet: bool) -> Findings {
        let mut run = Run { findings: Findings::default(), budget: Some(cel::RUNTIME_BUDGET) };
        if let Some(node) = &self.root {
            let here = old.filter(|_| ratchet).map(|before| Pair { now: object, before });
            node.check(at, object, old.unwrap_or(&NULL), Correlation { here, above: None }, &mut run);
        }
        run.findings
    }

    /// The rules below a property of the root.
    pub fn check_property(&self, name: &str, object: &Value, old: Option<&Value>) -> Findings {
        let mut run = Run { findings: Findings::default(), budget: Some(cel::RUNTIME_BUDGET) };
        if let Some(node) = self.root.as_ref().and_then(|n| n.properties.get(name)) {
            let before = old.map_or(&NULL, |o| o.at(name));
            let here = old.map(|_| Pair { now: object.at(name), before });
            node.check(
                &Path::new(name),
                object.at(name),
                before,
                Correlation { here, above: None },
                &mut run,
            );
        }
        run.findings
    }
}

/// `rules_of`: the schema that has the rules (the same, or a part of an `allOf`).
fn node(rules_of: &Value, schema: &Value, root: bool) -> Option<Node> {
    if !has_rules(rules_of) {
        return None;
    }
    let embedded = |s: &Value| s.flag("x-kubernetes-embedded-resource") == Some(true);
    let both = |name: &str| {
        let (rules, own) = (rules_of.at(name), schema.at(name));
        (rules.is_object() && own.is_object())
            .then(|| node(rules, own, embedded(own)))
            .flatten()
            .map(Box::new)
    };
    let mut properties = BTreeMap::new();
    for (name, rules) in rules_of.map("properties").into_iter().flatten() {
        let Some(own) = schema.at("properties").get(name) else { continue };
        if let Some(below) = node(rules, own, embedded(own)) {
            properties.insert(name.clone(), below);
        }
    }
    let all_of = rules_of.list("allOf").iter().filter_map(|part| node(part, schema, root)).collect();
    let keys = schema.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
    let map_type = schema.text("x-kubernetes-map-type");
    let scope = Scope::new(schema, root);
    let parsed = Schema::new(schema);
    Some(Node {
        schema: if root { parsed.with_object_meta() } else { parsed },
        kind: schema.text("type").to_owned(),
        rules: scope.map(|scope| rules(rules_of, schema, &scope)).unwrap_or_default(),
        keys: (schema.text("x-kubernetes-list-type") == "map").then(|| keys.map(str::to_owned).collect()),
        atomic_map: map_type == "atomic",
        correlated_map: matches!(map_type, "" | "granular" | "atomic"),
        items: both("items"),
        properties,
        additional: both("additionalProperties"),
        all_of,
    })
}

fn has_rules(schema: &Value) -> bool {
    let below = |name: &str| schema.get(name).is_some_and(has_rules);
    !schema.list("x-kubernetes-validations").is_empty()
        || below("items")
        || below("additionalProperties")
        || schema.map("properties").is_some_and(|p| p.values().any(has_rules))
        || schema.list("allOf").iter().any(has_rules)
}

fn rules(rules_of: &Value, schema: &Value, scope: &Scope) -> Vec<Rule> {
    let rule = |rule: &Value| {
        let path = fieldpath::field_path(rule.text("fieldPath"), schema, true).ok().map(|f| f.path);
        Rule {
            source: rule.text("rule").to_owned(),
            message: rule.text("message").to_owned(),
            reason: rule.text("reason").to_owned(),
            optional: rule.flag("optionalOldSelf") == Some(true),
            path: path.map(|p| p.as_str().to_owned()).unwrap_or_default(),
            compiled: scope.compile(rule, Version::CURRENT, Version::CURRENT),
        }
    };
    rules_of.list("x-kubernetes-validations").iter().map(rule).collect()
}

impl<'a> Correlation<'a> {
    fn ratchets(self) -> bool {
        self.here.or(self.above).is_some_and(|pair| pair.now == pair.before)
    }

    fn key(self, name: &str, atomic: bool) -> Self {
        let Some(pair) = self.here else { return self };
        if self.above.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self::default();
        }
        let child = (!atomic).then(|| Pair { now: pair.now.at(name), before: pair.before.at(name) });
        Self { here: child, above: Some(pair) }
    }

    fn item(self, now: &'a Value, before: Option<&'a Value>) -> Self {
        let Some(pair) = self.here else { return self };
        Self { here: before.map(|before| Pair { now, before }), above: Some(pair) }
    }
}

impl Node {
    fn check(&self, at: &Path, value: &Value, old: &Value, correlation: Correlation<'_>, run: &mut Run) {
        if value.is_null() {
            return;
        }
        self.expressions(at, value, old, correlation, run);
        let apart = Correlation { here: None, above: correlation.above };
        for part in &self.all_of {
            if run.budget.is_none() {
                return;
            }
            part.check(at, value, old, apart, run);
        }
        if run.budget.is_none() {
            return;
        }
        match value {
            Value::Array(items) => self.items(at, items, old, correlation, run),
            Value::Object(map) => {
                for (name, value) in map {
                    let old = if self.correlated_map { old.at(name) } else { &NULL };
                    let below = correlation.key(name, self.atomic_map);
                    if let Some(node) = &self.additional {
                        node.check(&at.key(name), value, old, below, run);
                    }
                    if let Some(node) = self.properties.get(name) {
                        node.check(&at.child(name), value, old, below, run);
                    }
                    if run.budget.is_none() {
                        return;
                    }
                }
            }
            _ => {}
        }
    }

    fn items(&self, at: &Path, items: &[Value], old: &Value, correlation: Correlation<'_>, run: &mut Run) {
        let Some(node) = &self.items else { return };
        for (i, item) in items.iter().enumerate() {
            let before = self.keys.as_ref().and_then(|keys| {
                let same = |other: &&Value| keys.iter().all(|k| other.at(k) == item.at(k));
                old.as_array().into_iter().flatten().find(same)
            });
            let below = correlation.item(item, before);
            node.check(&at.index(i), item, before.unwrap_or(&NULL), below, run);
            if run.budget.is_none() {
                return;
            }
        }
    }

    fn expressions(
        &self,
        at: &Path,
        value: &Value,
        old: &Value,
        correlation: Correlation<'_>,
        run: &mut Run,
    ) {
        if self.rules.is_empty() {
            return;
        }
        let wrong = |run: &mut Run, why: String| {
            run.findings.errors.push(Error::invalid(at, self.kind.as_str(), why));
        };
        if run.budget == Some(0) {
            run.budget = None;
            return wrong(run, OUT_OF_BUDGET.into());
        }
        for rule in &self.rules {
            let program = match &rule.compiled.rule {
                Ok(program) => program,
                Err(RuleError(why)) => {
                    wrong(run, format!("rule compile error: {why}"));
                    continue;
                }
            };
            if rule.compiled.uses_old && old.is_null() && !rule.optional {
                continue;
            }
            let variables = match self.variables(value, old, rule.optional) {
                Ok(variables) => variables,
                Err(error) => {
                    wrong(run, format!("{error} evaluating rule: {}", rule.shown()));
                    continue;
                }
            };
            let outcome = program.eval(&variables, cel::PER_CALL_LIMIT);
            let Some(rest) = run.budget.and_then(|b| b.checked_sub(outcome.cost)) else {
                run.budget = None;
                return wrong(run, OUT_OF_BUDGET.into());
            };
            run.budget = Some(rest);
            match outcome.value {
                Ok(cel::Value::Bool(true)) => {}
                Ok(_) => {
                    let place = if rule.path.is_empty() { at.clone() } else { join(at, &rule.path) };
                    let message = rule.message(&variables, run);
                    let error = match message {
                        Ok(detail) => rule.error(&place, value, &self.kind, detail),
                        Err(why) => Error::invalid(&place, self.kind.as_str(), why),
                    };
                    if !rule.compiled.uses_old && correlation.ratchets() {
                        run.findings.warnings.push(error.to_string());
                    } else {
                        run.findings.errors.push(error);
                    }
                    if run.budget.is_none() {
                        return;
                    }
                }
                Err(EvalError::CostExceeded) => {
                    let why = "operation cancelled: actual cost limit exceeded";
                    wrong(
                        run,
                        format!(
                            "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                            rule.shown()
                        ),
                    );
                    run.budget = None;
                    return;
                }
                Err(error) => {
                    let error = error.to_string();
                    let shown = rule.shown();
                    wrong(
                        run,
                        if error.starts_with("no such overload") {
                            format!(
                                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                            )
                        } else {
                            format!("{error} evaluating rule: {shown}")
                        },
                    );
                }
            }
        }
    }

    fn variables<'a>(
        &'a self,
        value: &'a Value,
        old: &'a Value,
        optional: bool,
    ) -> Result<Variables<'a>, EvalError> {
        let out = Variables::new().with("self", cel::Value::from_json(value, &self.schema)?);
        let before = match old {
            Value::Null => None,
            old => Some(cel::Value::from_json(old, &self.schema)?),
        };
        Ok(match (before, optional) {
            (before, true) => out.with("oldSelf", cel::Value::Optional(before.map(Arc::new))),
            (Some(before), false) => out.with("oldSelf", before),
            (None, false) => out,
        })
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

fn join(at: &Path, path: &str) -> Path {
    at.child(path)
}

impl Rule {
    fn shown(&self) -> &str {
        if self.message.is_empty() { self.source.trim() } else { self.message.trim() }
    }

    fn default_message(&self) -> String {
        match self.message.as_str() {
            "" => format!("failed rule: {}", self.source.trim()),
            message => message.trim().to_owned(),
        }
    }

    /// The message of a broken rule; an error ends all checking.
    fn message(&self, variables: &Variables<'_>, run: &mut Run) -> Result<String, String> {
        let Some(Ok(program)) = &self.compiled.message else { return Ok(self.default_message()) };
        let outcome = program.eval(variables, cel::PER_CALL_LIMIT);
        let rest = run.budget.and_then(|b| b.checked_sub(outcome.cost));
        run.budget = rest;
        if rest.is_none() {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".into());
        }
        let text = match outcome.value {
            Ok(cel::Value::String(text)) => text,
            Err(EvalError::CostExceeded) => {
                run.budget = None;
                let source = machinery::field::go_quote(self.source.as_str());
                return Err(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source}"
                ));
            }
            _ => return Ok(self.default_message()),
        };
        let text = text.trim();
        let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
        Ok(if usable { text.to_owned() } else { self.default_message() })
    }

    fn error(&self, at: &Path, value: &Value, kind: &str, detail: String) -> Error {
        let shows = !matches!(kind, "object" | "array");
        let of = |error: Error| if shows { error } else { Error { value: None, ..error } };
        match self.reason.as_str() {
            "FieldValueForbidden" => Error::forbidden(at, detail),
            "FieldValueRequired" => Error::required(at, detail),
            "FieldValueDuplicate" => of(Error::duplicate(at, value.clone())),
            _ => of(Error { kind: Kind::Invalid, ..Error::invalid(at, value.clone(), detail) }),
        }
    }
}
