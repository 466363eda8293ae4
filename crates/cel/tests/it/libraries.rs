//! Which library came with which version, and that each function of the table has an expression that uses it.

use cel::{DeclType, Env, PER_CALL_LIMIT, Type, Value, Variables, Version};
use serde_json::Value as Json;

/// (version that brought it, expressions); 0: always there.
const LIBRARIES: &[(u16, &[&str])] = &[
    (
        0,
        &[
            "url('https://a/b').getHost() == 'a' && isURL('x')",
            "'abc'.find('b') == 'b' && 'abc'.findAll('[a-z]', 2).size() == 2",
            "[1, 2].sum() == 3 && [1].max() == 1 && [1].min() == 1 && [1, 2].isSorted()",
            "[1].indexOf(1) == [1].lastIndexOf(1)",
            "'a'.charAt(0).lowerAscii().upperAscii().trim().replace('A', 'b').substring(0).indexOf('b') == 0",
            "['a'].join(',').split(',').exists(x, x == 'a')",
            "timestamp('2020-01-01T00:00:00Z').getFullYear() == 2020 && duration('1h').getMinutes() == 60",
        ],
    ),
    (
        27,
        &[
            "authorizer.path('/x').check('get').allowed()",
            "authorizer.group('').resource('r').subresource('s').namespace('n').name('m').check('get').reason() == ''",
            "authorizer.serviceAccount('a', 'b').group('').resource('r').check('get').errored()",
        ],
    ),
    (
        28,
        &[
            "1 < 2.0",
            "optional.of(1).orValue(2) == 1 && [1][?0].hasValue() && {'a': 1}.?a.value() == 1",
            "optional.none().optMap(x, 1).orValue(1) == 1",
            "quantity('1Gi').add(1).compareTo(quantity('1Gi')) == 1 && isQuantity('1')",
            "quantity('5').asInteger() == 5 && quantity('5').isInteger() && quantity('5').asApproximateFloat() > 4.0",
            "quantity('1').isLessThan(quantity('2')) && quantity('2').isGreaterThan(quantity('1'))",
            "quantity('5').sub(2).sub(quantity('3')).add(quantity('1')) == quantity('1') && sign(quantity('1')) == 1",
        ],
    ),
    (
        29,
        &[
            "sets.contains([1], [1]) && sets.intersects([1], [1])",
            "'%s'.format(['a']) == 'a'",
            "strings.quote('a') != ''",
        ],
    ),
    (
        30,
        &[
            "ip('::1').isLoopback() && isIP('1.2.3.4') && ip.isCanonical('::1') && ip('1.2.3.4').family() == 4",
            "cidr('10.0.0.0/8').containsIP('10.0.0.1') && isCIDR('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
        ],
    ),
    (
        31,
        &[
            "!format.dns1035Label().validate('a1').hasValue() && format.dns1035Label().validate('1a').hasValue()",
            "!format.dns1035LabelPrefix().validate('a-').hasValue() && !format.dns1123LabelPrefix().validate('1-').hasValue()",
            "!format.dns1123SubdomainPrefix().validate('a.b-').hasValue()",
            "format.named('uuid').hasValue() && !format.named('x').hasValue()",
        ],
    ),
    (
        32,
        &[
            "[1].all(i, v, i < v) && {'a': 1}.existsOne(k, v, k == 'a')",
            "[1].transformMap(i, v, v + 1)[0] == 2 && [1].transformList(i, v, v)[0] == 1",
        ],
    ),
    (
        33,
        &[
            "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
            "semver('1.0.0').isLessThan(semver('1.1.0')) && isSemver('v1.0', true)",
        ],
    ),
    (
        34,
        &[
            "[3, 1].sort()[0] == 1 && [1, 1].distinct().size() == 1 && [1, 2].reverse()[0] == 2",
            "[[1], [2]].flatten().slice(0, 1) == [1] && lists.range(2) == [0, 1]",
            "[2, 1].sortBy(x, x)[0] == 1",
        ],
    ),
];

fn env(version: u16) -> Env {
    let authorizer = Type::object("kubernetes.authorization.Authorizer");
    Env::builder(Version(version)).variable("authorizer", authorizer).build()
}

#[test]
fn each_comes_with_its_version() {
    for (since, expressions) in LIBRARIES {
        for expression in *expressions {
            for version in [25, *since, 35, 36].into_iter().filter(|version| version >= since) {
                let program = env(version).compile(expression);
                let program = program.unwrap_or_else(|e| panic!("{expression} with {version}: {e}"));
                if !program.uses("authorizer") {
                    let outcome = program.eval(&Variables::new(), PER_CALL_LIMIT);
                    let held = matches!(outcome.value, Ok(Value::Bool(true)));
                    // a text that is no URL
                    assert!(held || expression.contains("isURL('x')"), "{expression}: {:?}", outcome.value);
                }
            }
            if *since > 0 {
                let before = env(since - 1).compile(expression);
                assert!(before.is_err(), "{expression} is there before {since}");
            }
        }
    }
}

#[test]
fn each_function_is_used() {
    let recorded =
        include_str!("recorded.jsonl").lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let good = recorded.filter(|case| case["want"].get("value").is_some());
    let mut used: Vec<String> = good.filter_map(|case| Some(case["expr"].as_str()?.to_owned())).collect();
    used.extend(LIBRARIES.iter().flat_map(|(_, expressions)| expressions.iter().map(ToString::to_string)));
    let names = include_str!("../../src/functions.txt").lines().filter(|line| !line.starts_with(' '));
    // operators, and what only macros call
    let named =
        names.filter(|name| name.starts_with(char::is_alphabetic) && !name.contains('@') && *name != "in");
    for name in named {
        let call = format!("{name}(");
        let calls = |expression: &String| {
            expression.match_indices(&call).any(|(at, _)| {
                at == 0 || !expression[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        };
        assert!(used.iter().any(calls), "{name}");
    }
}

#[test]
fn bindings_are_offered_where_asked_for() {
    let device = DeclType::object("D", [("n", DeclType::simple(Type::Int))]);
    let env = Env::builder(Version::CURRENT).typed_variable("device", &device);
    let expression = "cel.bind(x, device.n, x + x == 4)";
    assert!(env.clone().build().compile(expression).is_err());
    let env = env.bindings().build();
    let program = env.compile(expression).unwrap();
    let json = serde_json::json!({"n": 2});
    let outcome = program.eval(&Variables::new().with("device", Value::from_dynamic(&json)), PER_CALL_LIMIT);
    assert!(matches!(outcome.value, Ok(Value::Bool(true))), "{:?}", outcome.value);
    for (wrong, why) in [
        ("cel.bind(1, 2, true)", "cel.bind() variable names must be simple identifiers"),
        (
            "cel.bind(x, device.n, x == 'a')",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("cel.bind(x, 1)", "undeclared reference to 'cel'"),
    ] {
        let issues = env.compile(wrong).unwrap_err().to_string();
        assert!(issues.contains(why), "{wrong}: {issues}");
    }
}
