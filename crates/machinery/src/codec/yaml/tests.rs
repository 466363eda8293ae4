use serde_json::{Value, json};

use super::*;
use crate::codec::json::decode_any;
use crate::testdata;

fn read(text: &str) -> Value {
    decode_any(&to_json(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}")).text).unwrap()
}

fn write(value: &Value) -> String {
    let mut out = String::new();
    encode(value, &mut out);
    out
}

#[test]
fn published_objects_convert_both_ways() {
    let mut count = 0;
    testdata::round_trips(|name, _, json, path| {
        let text = std::fs::read_to_string(path.with_extension("yaml")).unwrap();
        assert_eq!(&read(&text), json, "{name}");
        let got = write(json);
        for (got, want) in got.lines().zip(text.lines()) {
            assert_eq!(got, want, "{name}");
        }
        assert_eq!(got, text, "{name}");
        count += 1;
    });
    assert!(count == 0 || count == 185);
}

#[test]
fn scalars_mean_what_yaml_1_1_says() {
    for (text, want) in [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("y", json!(true)),
        ("~", json!(null)),
        ("", json!(null)),
        ("0777", json!(511)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("1_000", json!(1000)),
        ("08", json!(8.0)),
        ("1.5e3", json!(1500.0)),
        (".5", json!(0.5)),
        ("2001-01-01", json!("2001-01-01")),
        ("'yes'", json!("yes")),
        ("\"1\"", json!("1")),
        ("!!str 1", json!("1")),
        ("1:30", json!("1:30")),
        ("18446744073709551615", json!(18446744073709551615u64)),
        ("+1", json!(1)),
        ("-0b11", json!(-3)),
        ("1.2.3", json!("1.2.3")),
        ("=", json!("=")),
        ("!!float 1", json!(1)),
        ("!!binary aGk=", json!("hi")),
    ] {
        let got = read(&format!("a: {text}"));
        let same = got["a"] == want || (got["a"].as_f64().is_some() && got["a"].as_f64() == want.as_f64());
        assert!(same, "{text}: {got} {want}");
    }
    assert_eq!(read("{1: a, true: b, 1.5: c}"), json!({"1": "a", "true": "b", "1.5": "c"}));
    assert_eq!(
        read("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x"),
        json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": {"b": 1, "c": 2}})
    );
    assert_eq!(read("# nothing\n"), Value::Null);
    assert_eq!(read("a: 1\n---\nb: 2\n"), json!({"a": 1}));
    assert_eq!(read("{\"a\": [1, \"x\"]}"), json!({"a": [1, "x"]}));
}

#[test]
fn errors_read_as_upstream() {
    let bad = |text: &str| to_json(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        bad("apiVersion: v1\n\tkind: ConfigMap\n"),
        "yaml: line 2: found a tab character that violates indentation"
    );
    assert_eq!(bad("{: ["), "yaml: did not find expected node content");
    assert_eq!(bad("a: b: c"), "yaml: mapping values are not allowed in this context");
    assert_eq!(bad("x: 1\na: b: c"), "yaml: line 2: mapping values are not allowed in this context");
    assert_eq!(bad("a: *x"), "yaml: unknown anchor 'x' referenced");
    assert_eq!(bad("a: .nan"), "json: unsupported value: NaN");
    assert_eq!(bad("a: \u{1}"), "yaml: control characters are not allowed");
    assert!(bad(&"[".repeat(2000)).starts_with("yaml: "), "deep nesting ends");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &('b'..='j')
            .map(|c| {
                let before = char::from(c as u8 - 1);
                format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 10].join(","))
            })
            .collect::<String>();
    assert_eq!(bad(&bomb), "yaml: document contains excessive aliasing");
    let twice =
        to_json(b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y4}\nmetadata: {name: y5}\n").unwrap();
    assert_eq!(
        twice.duplicates.unwrap(),
        "yaml: unmarshal errors:\n  line 4: key \"metadata\" already set in map"
    );
}

#[test]
fn texts_are_quoted_where_they_must_be() {
    for (text, want) in [
        ("a", "a"),
        ("", "\"\""),
        ("yes", "\"yes\""),
        ("1", "\"1\""),
        ("1.0", "\"1.0\""),
        ("1:30", "\"1:30\""),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("- a", "'- a'"),
        ("-a", "-a"),
        ("#a", "'#a'"),
        ("a #b", "'a #b'"),
        ("a#b", "a#b"),
        (" a", "' a'"),
        ("a ", "'a '"),
        ("it's", "it's"),
        ("'a", "'''a'"),
        ("{a}", "'{a}'"),
        ("a,b", "a,b"),
        ("*", "'*'"),
        ("a\tb", "\"a\\tb\""),
        ("é", "é"),
        ("😀", "\"\\U0001F600\""),
        ("2001-01-01", "\"2001-01-01\""),
        ("null", "\"null\""),
        ("a\nb", "|-\n  a\n  b"),
        ("a\nb\n", "|\n  a\n  b"),
        ("a\n\n", "|+\n  a\n"),
        (" a\nb", "|2-\n   a\n  b"),
        ("a \nb", "\"a \\nb\""),
        ("%", "'%'"),
        ("---", "'---'"),
        ("a\r", "\"a\\r\""),
        ("=", "="),
        ("\\", "\\"),
        ("\"", "'\"'"),
    ] {
        let got = write(&json!({"k": text}));
        assert_eq!(got, format!("k: {want}\n"), "{text:?}");
        assert_eq!(read(&got), json!({"k": text}));
    }
    let words = "word ".repeat(40);
    let long = write(&json!({"k": words.trim_end()}));
    assert!(long.lines().all(|l| l.len() < 90) && long.lines().count() == 3, "{long}");
    assert_eq!(read(&long), json!({"k": words.trim_end()}));
}

#[test]
fn blocks_are_laid_out_as_upstream_does() {
    let value = json!({"list": [{"b": 1, "a": [1, [2, 3], []]}, [], {}, null, "x"], "empty": {}, "k10": 1, "k9": 2, "K": {"deep": {"er": true}},
        "text": "a\nb\n", "after": 1.5, "x".repeat(130): "v"});
    let want = format!(
        "K:\n  deep:\n    er: true\nafter: 1.5\nempty: {{}}\nk9: 2\nk10: 1\nlist:\n- a:\n  - 1\n  - - 2\n    - 3\n  - []\n  b: 1\n- []\n- {{}}\n- null\n- x\ntext: |\n  a\n  b\n? {}\n: v\n",
        "x".repeat(130)
    );
    assert_eq!(write(&value), want);
    assert_eq!(read(&want), value);
}
