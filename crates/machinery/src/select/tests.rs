use serde_json::{Map, Value, json};

use super::*;

fn labels(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}

#[test]
fn selectors_match() {
    let object = json!({"app": "web", "tier": "front", "n": "5", "in": "x"});
    for (text, matches) in [
        ("", true),
        ("app=web", true),
        ("app==web,tier!=back", true),
        ("app!=web", false),
        ("app in (web,db)", true),
        ("app notin (db)", true),
        ("missing notin (a)", true),
        ("missing!=a", true),
        ("missing=a", false),
        ("app", true),
        ("!app", false),
        ("!missing", true),
        ("n>4,n<6", true),
        ("n>5", false),
        ("app>1", false),
        ("app in ()", false),
        ("in=x", true),
        ("in in (x)", true),
        ("app in (,web)", true),
        (" app = web , tier ", true),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(labels(&object)), matches, "{text}");
    }
    let selector = LabelSelector::parse("b in (y,x,x),a=1,!c,d notin (q),e,f>3").unwrap();
    assert_eq!(selector.to_string(), "a=1,b in (x,y),!c,d notin (q),e,f>3");
    assert_eq!((selector.exact("a"), selector.exact("b")), (Some("1"), None));
}

#[test]
fn selector_errors_read_as_upstream() {
    for (text, want) in [
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a==(", "unable to parse requirement: found '(', expected: identifier"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("!=a", "found '!=', expected: !, identifier, or 'end of string'"),
        ("!=", "found '!=', expected: !, identifier, or 'end of string'"),
        ("!,a", "unable to parse requirement: found ',', expected: identifier"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap_err(), want, "{text}");
    }
    let error = LabelSelector::parse("a/b/c=d").unwrap_err();
    assert!(
        error.starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must"
        ),
        "{error}"
    );
    let error = LabelSelector::parse("a=-").unwrap_err();
    assert!(
        error.starts_with(
            "unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must be"
        ),
        "{error}"
    );
}

#[test]
fn object_selectors() {
    let parse = |v: Value| LabelSelector::from_object(&v);
    assert!(!parse(Value::Null).unwrap().matches(None) && parse(json!({})).unwrap().matches(None));
    let selector = parse(json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]})).unwrap();
    assert_eq!(selector.to_string(), "a=b,c in (d,e)");
    assert_eq!(
        parse(json!({"matchExpressions": [{"key": "c", "operator": "Is"}]})).unwrap_err(),
        "\"Is\" is not a valid label selector operator"
    );
    assert_eq!(
        parse(json!({"matchExpressions": [{"key": "c", "operator": "In"}]})).unwrap_err(),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}

#[test]
fn field_selectors() {
    let selector = FieldSelector::parse(r"status.phase!=Running,metadata.name=a\,b\=c\\").unwrap();
    assert_eq!(selector.to_string(), r"metadata.name=a\,b\=c\\,status.phase!=Running");
    assert_eq!(selector.exact("metadata.name"), Some(r"a,b=c\"));
    let get = |field: &str| if field == "metadata.name" { r"a,b=c\".into() } else { "Failed".into() };
    assert!(selector.matches(get) && !selector.matches(|_| "".into()));
    assert!(FieldSelector::parse("").unwrap().is_empty());
    for (text, want) in [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap_err(), want);
    }
}
