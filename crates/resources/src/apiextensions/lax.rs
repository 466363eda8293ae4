//! What is asked of a definition: everything of a new one; of a changed one nothing that its old form already got wrong.

use std::collections::BTreeSet;

use machinery::{Get, Value};

use super::{defaults, schema, structural, version};
use crate::check::same;

/// What the checks ask for. [`Asked::everything`] is for new definitions.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// One of the conversion review versions must be known.
    pub known_review: bool,
    /// Scope and kind may not change.
    pub fixed_names: bool,
    /// Every version has a schema.
    pub schemas: bool,
    /// Types are OpenAPI's.
    pub types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub map_keys: bool,
    /// Expressions that the old definition has: they may use what only stored expressions may.
    pub old_rules: BTreeSet<String>,
    pub old_messages: BTreeSet<String>,
    /// Versions whose schema did not change: the cost of single rules is not looked at.
    pub unchanged: BTreeSet<String>,
    pub costs: bool,
    /// The CA bundle of the conversion webhook must be one.
    pub ca_bundle: bool,
    /// Versions ("" for all) that may keep too many selectable fields.
    pub many_selectable: BTreeSet<String>,
}

impl Asked {
    pub fn everything() -> Self {
        Self {
            known_review: true,
            fixed_names: false,
            schemas: true,
            types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            map_keys: true,
            old_rules: BTreeSet::new(),
            old_messages: BTreeSet::new(),
            unchanged: BTreeSet::new(),
            costs: true,
            ca_bundle: false,
            many_selectable: BTreeSet::new(),
        }
    }

    /// Of an update.
    pub fn of(new: &Value, old: &Value) -> Self {
        let spec = old.at("spec");
        let established = is_established(old);
        let schemas = || version::schemas(spec);
        let any = |wrong: &dyn Fn(&Value) -> bool| schemas().any(|s| schema::has(s, wrong));
        let conversion = spec.at("conversion").at("webhook");
        let bundle = conversion.at("clientConfig").text("caBundle");
        let mut asked = Self {
            known_review: super::spec::has_known_review_or_none(conversion.list("conversionReviewVersions")),
            fixed_names: established,
            schemas: spec.list("versions").iter().all(|v| v.at("schema").has("openAPIV3Schema")),
            types: !any(&schema::has_odd_type),
            structural: !schemas().any(|s| {
                structural::unreadable(s).is_some()
                    || !structural::check(s, &machinery::field::Path::root()).is_empty()
            }),
            pruned_defaults: !schemas().any(defaults::has_unpruned),
            atomic_sets: !any(&schema::is_odd_set),
            map_keys: !any(&schema::has_odd_keys),
            ca_bundle: established && (bundle.is_empty() || super::spec::is_ca_bundle(bundle)),
            ..Self::everything()
        };
        for found in schemas() {
            schema::visit(found, &mut |s| {
                for rule in s.list("x-kubernetes-validations") {
                    asked.old_rules.insert(rule.text("rule").to_owned());
                    asked.old_messages.insert(rule.text("messageExpression").to_owned());
                }
            });
        }
        asked.compare(new, old);
        asked
    }

    fn compare(&mut self, new: &Value, old: &Value) {
        let (versions, before) = (new.at("spec").list("versions"), old.at("spec").list("versions"));
        let of = |name: &str| before.iter().find(|v| v.text("name") == name);
        for version in versions {
            let name = version.text("name");
            let Some(old) = of(name) else { continue };
            if same(version.at("schema"), old.at("schema")) {
                self.unchanged.insert(name.to_owned());
            }
            let fields = old.list("selectableFields");
            if fields.len() > version::MAX_SELECTABLE && version.list("selectableFields") == fields {
                self.many_selectable.insert(name.to_owned());
            }
        }
        let all_many = !versions.is_empty() && self.many_selectable.len() == versions.len();
        if all_many && version::Common::of(old.at("spec")).selectable {
            self.many_selectable.insert(String::new());
        }
    }

    /// The same for one version ("" for what all versions share: judged by the first).
    pub fn for_version(&self, name: &str) -> Self {
        Self { costs: self.costs && !self.unchanged.contains(name), ..self.clone() }
    }
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition.at("status").list("conditions");
    conditions.iter().any(|c| c.text("type") == "Established" && c.text("status") == "True")
}
