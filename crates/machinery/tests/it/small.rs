use machinery::quantity::{self, Quantity};
use machinery::select::{FieldSelector, LabelSelector};
use machinery::{json, names, schema};
use proptest::prelude::*;

fn quantity() -> impl Strategy<Value = String> {
    let number = prop_oneof!["-?[0-9]{1,6}", "-?[0-9]{1,4}\\.[0-9]{1,6}", "[0-9]{10,19}"];
    let suffix = prop_oneof![
        Just(""),
        Just("n"),
        Just("u"),
        Just("m"),
        Just("k"),
        Just("M"),
        Just("Ki"),
        Just("Mi"),
        Just("Gi"),
        Just("e3"),
        Just("E-2")
    ];
    (number, suffix).prop_map(|(n, s)| format!("{n}{s}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantities_print_what_they_are(text in quantity()) {
        let q: Quantity = text.parse().unwrap();
        let printed = q.to_string();
        let again: Quantity = printed.parse().unwrap();
        prop_assert_eq!(&again, &q, "{} {}", text, printed);
        prop_assert_eq!(again.to_string(), printed.clone(), "canonical is final");
        prop_assert_eq!(quantity::canonical(&json!(text)).unwrap(), printed);
    }

    #[test]
    fn quantities_add_up(a in quantity(), b in quantity()) {
        let (a, b): (Quantity, Quantity) = (a.parse().unwrap(), b.parse().unwrap());
        prop_assert_eq!(a.add(&b), b.add(&a));
        prop_assert_eq!(a.add(&b).sub(&b), a.clone());
        prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
        prop_assert!(a.sub(&a).is_zero());
        prop_assert_eq!(a.compare(&b), a.sub(&b).compare(&Quantity::ZERO));
    }

    #[test]
    fn odd_quantities_do_no_harm(text in "\\PC{0,30}") {
        let _ = text.parse::<Quantity>();
        let _ = "9".repeat(50).parse::<Quantity>();
    }

    #[test]
    fn selectors_print_what_they_are(text in "[a-c!=<>(), ]{0,24}( in | notin )?[a-c(),]{0,8}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let printed = selector.to_string();
            // an empty value prints as one that is read as a mere key
            if let Ok(again) = LabelSelector::parse(&printed) {
                prop_assert_eq!(again.to_string(), printed);
            }
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            // the order is that of the terms as written, and `==` is shown as `=`: the same terms, not the same text
            let again = FieldSelector::parse(&selector.to_string()).unwrap();
            prop_assert_eq!(terms(&again), terms(&selector));
        }
    }

    #[test]
    fn names_of_any_sort_are_judged(text in "\\PC{0,70}") {
        let label = names::dns1123_label(&text).is_empty();
        prop_assert!(!label || names::dns1123_subdomain(&text).is_empty(), "a label is a subdomain");
        prop_assert!(!names::dns1035_label(&text).is_empty() || label);
        names::qualified_name(&text);
        names::ip::legacy_cidr(&text, true);
        names::ip::canonical_ip(&text);
    }
}

/// A selector's conditions in an order of their own.
fn terms(selector: &FieldSelector) -> Vec<(&str, bool, &str)> {
    let mut terms: Vec<_> =
        selector.terms.iter().map(|t| (t.field.as_str(), t.equal, t.value.as_str())).collect();
    terms.sort_unstable();
    terms
}

#[test]
fn the_order_of_field_terms_is_that_of_their_text() {
    let selector = FieldSelector::parse("==,= ").unwrap();
    assert_eq!(selector.to_string(), "= ,=");
    assert_eq!(terms(&FieldSelector::parse("= ,=").unwrap()), terms(&selector));
}

#[test]
fn every_served_kind_has_a_schema_that_walks() {
    for (gvk, schema) in schema::kinds() {
        let mut value = json!({});
        schema::normalize(schema, &mut value);
        let pruned = schema::prune(schema, &mut value);
        assert!(pruned.is_empty(), "{gvk}: {pruned:?}");
    }
}
