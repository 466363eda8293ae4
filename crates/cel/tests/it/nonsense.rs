//! Whatever the text, there is an answer.

use cel::{Env, PER_CALL_LIMIT, Type, Value, Variables, Version};
use proptest::prelude::*;

fn answer(expression: &str) {
    let object = serde_json::json!({"a": [1, 2.5, "x", null, {"b": true}], "s": "text"});
    let env = Env::builder(Version::CURRENT).variable("object", Type::Dyn).patch_types().build();
    if let Ok(program) = env.compile(expression) {
        let variables = Variables::new().with("object", Value::from_dynamic(&object));
        let outcome = program.eval(&variables, PER_CALL_LIMIT);
        if let Ok(value) = outcome.value {
            let _ = value.to_json();
        }
    }
}

#[test]
fn what_stands_too_deep_is_refused() {
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let limit = "expression recursion limit exceeded: 250";
    let env = Env::builder(Version::CURRENT).build();
    assert!(env.compile(&deep("(", ")", 249)).is_ok());
    let issues = env.compile(&deep("(", ")", 250)).unwrap_err();
    assert_eq!(issues.to_string(), format!("ERROR: <input>:-1:0: {limit}"));
    let issues = env.compile(&format!("1{}", "+1".repeat(300))).unwrap_err();
    assert_eq!(issues.to_string(), "ERROR: <input>:-1:0: max recursion depth exceeded");
    for text in [
        deep("[", "]", 240),
        deep("(", "", 3000),
        deep("a.b(", "", 500),
        "-".repeat(2000),
        deep("{1:", "}", 240),
    ] {
        answer(&text);
    }
    answer(&"a ? b : ".repeat(2000));
    answer(&format!("[1]{}", ".map(x, [x, x])".repeat(60)));
    answer(&format!("[[1]]{}", ".map(x, x + x)".repeat(60)));
}

const WORDS: [&str; 48] = [
    "object",
    ".a",
    ".s",
    "[0]",
    "[?9]",
    ".?b",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "<",
    "in",
    "&&",
    "||",
    "!",
    "'s'",
    "b'x'",
    "1",
    "2u",
    "1.5",
    "true",
    "null",
    "has(object.a)",
    ".all(x, x)",
    ".map(x, x)",
    ".filter(x, true)",
    ".size()",
    "size(",
    "int(",
    "string(",
    "duration('1s')",
    "optional.of(",
    ".orValue(",
    "quantity('1k')",
    ".contains(",
    "Object{",
    "JSONPatch{op: ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn words_in_any_order(words in prop::collection::vec(0..WORDS.len(), 0..14)) {
        answer(&words.iter().map(|n| WORDS[*n]).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn any_text(text in "\\PC{0,40}") {
        answer(&text);
    }

    #[test]
    fn names_are_escaped_and_back(name in "[a-z_./-]{1,20}") {
        if let Some(escaped) = cel::escape(&name) {
            prop_assert_eq!(cel::unescape(&escaped), Some(name));
        }
    }
}
