//! Named formats (`format.named("dns1123Label")`).

use base64::Engine;
use machinery::names;

use super::url::Url;
use crate::env::Activation;
use crate::lib_std::{Res, no_overload};
use crate::value::{Timestamp, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;
type Messages = Vec<String>;

/// One of them, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(u8);

struct Row {
    name: &'static str,
    check: fn(&str) -> Messages,
    /// What its pattern is taken to have, for the cost.
    size: u64,
}

static TABLE: [Row; 13] = [
    Row { name: "dns1123Label", check: |s| names::is_dns_label_name(s, false), size: 30 },
    Row { name: "dns1123Subdomain", check: |s| names::is_dns_subdomain_name(s, false), size: 60 },
    Row { name: "dns1035Label", check: |s| names::is_dns1035_label_name(s, false), size: 30 },
    Row { name: "qualifiedName", check: names::qualified_name, size: 60 },
    Row { name: "dns1123LabelPrefix", check: |s| names::is_dns_label_name(s, true), size: 30 },
    Row { name: "dns1123SubdomainPrefix", check: |s| names::is_dns_subdomain_name(s, true), size: 60 },
    Row { name: "dns1035LabelPrefix", check: |s| names::is_dns1035_label_name(s, true), size: 30 },
    Row { name: "labelValue", check: names::label_value, size: 40 },
    Row { name: "uri", check: |s| Url::parse(s).err().into_iter().collect(), size: 1103 },
    Row { name: "uuid", check: |s| unless(is_uuid(s), "does not match the UUID format"), size: 70 },
    Row { name: "byte", check: |s| unless(is_base64(s), "invalid base64"), size: 84 },
    Row { name: "date", check: |s| unless(Timestamp::parse_date(s).is_some(), "invalid date"), size: 71 },
    Row { name: "datetime", check: |s| unless(is_date_time(s), "invalid datetime"), size: 71 },
];

impl Format {
    pub(crate) fn named(name: &str) -> Option<Format> {
        TABLE.iter().position(|row| row.name == name).and_then(|n| u8::try_from(n).ok()).map(Format)
    }

    fn row(self) -> &'static Row {
        &TABLE[usize::from(self.0)]
    }

    pub(crate) fn pattern_size(self) -> u64 {
        self.row().size
    }
}

fn unless(good: bool, message: &str) -> Messages {
    if good { Vec::new() } else { vec![message.into()] }
}

fn is_uuid(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let dashes = [8, 13, 18, 23];
    let placed = !text.contains('-') || {
        // each dash may be left out
        let mut rest = text;
        [8, 4, 4, 4, 12].iter().enumerate().all(|(n, digits)| {
            let Some((part, after)) = rest.split_at_checked(*digits) else { return false };
            rest = if n < dashes.len() { after.strip_prefix('-').unwrap_or(after) } else { after };
            !part.contains('-')
        }) && rest.is_empty()
    };
    placed && plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_date_time(text: &str) -> bool {
    text.len() > 10 && Timestamp::parse(&text.to_uppercase()).is_some()
}

pub(crate) fn named<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(name)] = args else { return no_overload("format.named", args) };
    Ok(Format::named(name).map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
}

pub(crate) fn validate<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::Format(format), Value::String(text)] = args else { return no_overload("validate", args) };
    let messages = (format.row().check)(text);
    if messages.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(messages.into_iter().map(Value::text).collect())))
}

macro_rules! constants {
    ($($function:ident $name:literal)*) => {
        $(pub(crate) fn $function<'a>(_: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
            Format::named($name).map(Value::Format).ok_or_else(|| "no such format".into())
        })*
    };
}

constants! {
    dns1123_label "dns1123Label"
    dns1123_subdomain "dns1123Subdomain"
    dns1035_label "dns1035Label"
    qualified_name "qualifiedName"
    dns1123_label_prefix "dns1123LabelPrefix"
    dns1123_subdomain_prefix "dns1123SubdomainPrefix"
    dns1035_label_prefix "dns1035LabelPrefix"
    label_value "labelValue"
    uri "uri"
    uuid "uuid"
    byte "byte"
    date "date"
    datetime "datetime"
}
