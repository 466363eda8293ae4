//! The fuzz targets' checks with a fixed seed: seeds of each form, torn, flipped and glued.

#[path = "../../../../fuzz/checks.rs"]
mod checks;

use crate::generate::Dice;

const FORMS: &[&str] = &[
    r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"k":"v"},"annotations":null},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1500m","memory":"1Gi"}},"ports":[{"containerPort":80}]}],"terminationGracePeriodSeconds":30}}"#,
    r#"{"a":[1,-2.5e10,99999999999999999999,"\u00e9\ud83d\ude00",true,null,{}],"b":{"c":[[[]]]}}"#,
    "apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: a\n  labels: {k: 'v', \"x\": \"y\\n\"}\nspec:\n  containers:\n  - name: c\n    image: >-\n      folded\n      text\n  x: *m\n---\n",
    "- 0x1f\n- 0b11\n- 1_000\n- .inf\n- ~\n- 2001-01-01\n- !!str 5\n- |\n  a\n  b\n",
    r#"[{"op":"add","path":"/metadata/labels/x","value":"y"},{"op":"test","path":"/spec/containers/0/name","value":"c"},{"op":"move","from":"/metadata/finalizers/0","path":"/metadata/finalizers/-"},{"op":"remove","path":"/a~1b"}]"#,
    r#"{"metadata":{"finalizers":["a"],"$deleteFromPrimitiveList/finalizers":["x/y"],"$setElementOrder/finalizers":["z/w","a"]},"spec":{"containers":[{"name":"c","$patch":"delete"},{"name":"d","env":[{"name":"A","$patch":"replace"}]}],"$retainKeys":["containers"]}}"#,
    r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}},"v:\"x\"":{},"i:0":{}}}}"#,
    r#"{"schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer","minimum":1,"default":3},"s":{"type":"string","pattern":"^a+$","format":"date-time","enum":["a"]},"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"}}}},"m":{"type":"object","additionalProperties":{"x-kubernetes-int-or-string":true}}},"x-kubernetes-preserve-unknown-fields":true}}},"object":{"spec":{"n":0,"s":"b","l":[{"k":"a"},{"k":"a"}],"m":{"x":1},"zz":{}}}}"#,
    "a in (b, c),!d,e notin (f),g=h,i!=j,k>5",
    "metadata.name=a\\,b,spec.nodeName!=x,status.phase==Running",
    "1500m",
    "-1.5e3",
    "9223372036854775807Ki",
    "k8s\0\n\t\n\x02v1\x12\x03Pod\x12\x0e\n\x03\n\x01a\x12\x07\x12\x05\n\x01c\x12\0",
];

/// A variant of one or two forms.
fn variant(dice: &mut Dice) -> Vec<u8> {
    let pick = |dice: &mut Dice| FORMS[dice.roll(FORMS.len())].as_bytes().to_vec();
    let mut bytes = pick(dice);
    for _ in 0..dice.roll(6) {
        let at = dice.roll(bytes.len().max(1));
        match dice.roll(7) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            2 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            3 => bytes.insert(at, b"{}[]\",:\\-0e\n \xff"[dice.roll(14)]),
            4 => {
                let other = pick(dice);
                let cut = dice.roll(other.len() + 1);
                bytes.splice(at..at, other[..cut].iter().copied());
            }
            5 => {
                let end = (at + dice.roll(40)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            _ => {
                let end = (at + dice.roll(40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

fn run(check: fn(&[u8]), seed: u64) {
    for form in FORMS {
        check(form.as_bytes());
    }
    let mut dice = Dice(seed);
    for _ in 0..2000 {
        let bytes = variant(&mut dice);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let failed = std::panic::catch_unwind(|| check(&bytes)).is_err();
        assert!(!failed, "these bytes break it: {bytes:?}\n{shown}");
    }
}

#[test]
fn decoders() {
    run(checks::decoders, 1);
}

#[test]
fn patches() {
    run(checks::patches, 2);
}

#[test]
fn selectors() {
    run(checks::selectors, 3);
}

#[test]
fn schemas() {
    run(checks::schemas, 4);
}
