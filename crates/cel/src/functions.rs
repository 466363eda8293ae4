//! The table of functions and their overloads, with the ids that cel-go gives them: the checker, the costs and the
//! interpreter all go by it. The table is `functions.txt`: a function's name, below it its overloads as
//! `ID (TYPES) RESULT`, `.(…)` where the first type is the receiver's, ` @MINOR` for the version that brought it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::env::{Activation, EvalError, Version};
use crate::eval::plan::Node;
use crate::types::Type;
use crate::value::Value;

static TABLE: &str = include_str!("functions.txt");

#[derive(Debug)]
pub(crate) struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
}

#[derive(Debug)]
pub(crate) struct Overload {
    pub id: &'static str,
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
    /// Names of the type variables in it.
    pub params: Vec<Arc<str>>,
    since: Since,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Since {
    Version(u16),
    /// Only where patches are made.
    Patch,
}

impl Overload {
    pub fn available(&self, version: Version, patches: bool) -> bool {
        match self.since {
            Since::Version(since) => since <= version.0,
            Since::Patch => patches,
        }
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Function> {
    static FUNCTIONS: OnceLock<HashMap<&'static str, Function>> = OnceLock::new();
    FUNCTIONS.get_or_init(read).get(name)
}

fn read() -> HashMap<&'static str, Function> {
    let mut out: HashMap<&'static str, Function> = HashMap::new();
    let mut name = "";
    for line in TABLE.lines() {
        let Some(overload) = line.strip_prefix("  ") else {
            name = line;
            continue;
        };
        let Some(overload) = read_overload(overload) else { continue };
        out.entry(name).or_insert(Function { name, overloads: Vec::new() }).overloads.push(overload);
    }
    out
}

fn read_overload(line: &'static str) -> Option<Overload> {
    let mut words = line.split(' ');
    let id = words.next()?;
    let args = words.next()?;
    let member = args.starts_with('.');
    let args = args.trim_start_matches('.').strip_prefix('(')?.strip_suffix(')')?;
    let args = split(args).into_iter().map(read_type).collect();
    let result = read_type(words.next()?);
    let since = match words.next() {
        None => Since::Version(0),
        Some("@patch") => Since::Patch,
        Some(version) => Since::Version(version.strip_prefix('@')?.parse().ok()?),
    };
    let mut out = Overload { id, member, args, result, params: Vec::new(), since };
    for ty in out.args.iter().chain([&out.result]) {
        collect_params(ty, &mut out.params);
    }
    Some(out)
}

fn collect_params(ty: &Type, into: &mut Vec<Arc<str>>) {
    match ty {
        Type::Param(name) if !into.contains(name) => into.push(name.clone()),
        Type::Map(both) => {
            collect_params(&both.0, into);
            collect_params(&both.1, into);
        }
        other => other.params().iter().for_each(|p| collect_params(p, into)),
    }
}

/// At the commas that are in no bracket.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut out, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

fn read_type(text: &'static str) -> Type {
    let (name, params) = match text.split_once('(') {
        Some((name, rest)) => (name, split(rest.strip_suffix(')').unwrap_or(rest))),
        None => (text, Vec::new()),
    };
    let mut params = params.into_iter().map(read_type);
    let mut param = || params.next().unwrap_or(Type::Dyn);
    match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "dyn" => Type::Dyn,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "list" => Type::list(param()),
        "map" => {
            let key = param();
            Type::map(key, param())
        }
        "optional_type" => Type::optional(param()),
        "type" => Type::Type(Some(Arc::new(param()))),
        "net.IP" | "net.CIDR" => Type::opaque(name),
        // one capital letter
        _ if name.len() == 1 => Type::param(name),
        _ => Type::object(name),
    }
}

/// What a function does.
pub(crate) type Body =
    for<'a, 'h> fn(&[Value<'a>], &'h (dyn Activation<'a> + 'h)) -> Result<Value<'a>, EvalError>;

/// The function's name as the table has it, and what it does. None for what the planner does itself.
pub(crate) fn body(name: &str) -> Option<(&'static str, Body)> {
    use crate::lib_k8s::{authz, cidr, format as formats, quantity, semver, url};
    use crate::lib_std::{convert, format, lists, ops, regex, strings, times};
    let body: Body = match name {
        "!_" => ops::not,
        "-_" => ops::negate,
        "@in" | "_in_" | "in" => ops::is_in,
        "@not_strictly_false" | "__not_strictly_false__" => ops::not_strictly_false,
        "_==_" => ops::eq,
        "_!=_" => ops::ne,
        "_+_" => ops::add,
        "_-_" => ops::sub,
        "_*_" => ops::mul,
        "_/_" => ops::div,
        "_%_" => ops::rem,
        "_<_" => ops::lt,
        "_<=_" => ops::le,
        "_>_" => ops::gt,
        "_>=_" => ops::ge,
        "size" => ops::size,
        "optional.of" => ops::optional_of,
        "optional.ofNonZeroValue" => ops::optional_of_non_zero,
        "optional.none" => ops::optional_none,
        "optional.unwrap" | "unwrapOpt" => ops::unwrap,
        "value" => ops::value,
        "hasValue" => ops::has_value,
        "cel.@mapInsert" => ops::map_insert,
        "bool" => convert::to_bool,
        "bytes" => convert::to_bytes,
        "double" => convert::to_double,
        "duration" => convert::to_duration,
        "dyn" => convert::to_dyn,
        "int" => convert::to_int,
        "string" => convert::to_string,
        "timestamp" => convert::to_timestamp,
        "type" => convert::to_type,
        "uint" => convert::to_uint,
        "contains" => strings::contains,
        "startsWith" => strings::starts_with,
        "endsWith" => strings::ends_with,
        "charAt" => strings::char_at,
        "indexOf" => strings::index_of,
        "lastIndexOf" => strings::last_index_of,
        "lowerAscii" => strings::lower_ascii,
        "upperAscii" => strings::upper_ascii,
        "trim" => strings::trim,
        "replace" => strings::replace,
        "split" => strings::split,
        "substring" => strings::substring,
        "join" => strings::join,
        "strings.quote" => strings::quote,
        "jsonpatch.escapeKey" => strings::escape_key,
        "format" => format::format,
        "matches" => regex::matches,
        "find" => regex::find,
        "findAll" => regex::find_all,
        "isSorted" => lists::is_sorted,
        "sum" => lists::sum,
        "min" => lists::min,
        "max" => lists::max,
        "first" => lists::first,
        "last" => lists::last,
        "slice" => lists::slice,
        "flatten" => lists::flatten,
        "reverse" => lists::reverse,
        "distinct" => lists::distinct,
        "lists.range" => lists::range,
        "sort" => lists::sort,
        "@sortByAssociatedKeys" => lists::sort_by_keys,
        "sets.contains" => lists::sets_contains,
        "sets.equivalent" => lists::sets_equivalent,
        "sets.intersects" => lists::sets_intersects,
        "getFullYear" => times::full_year,
        "getMonth" => times::month,
        "getDayOfYear" => times::day_of_year,
        "getDayOfMonth" => times::day_of_month,
        "getDate" => times::date,
        "getDayOfWeek" => times::day_of_week,
        "getHours" => times::hours,
        "getMinutes" => times::minutes,
        "getSeconds" => times::seconds,
        "getMilliseconds" => times::milliseconds,
        "url" => url::url,
        "isURL" => url::is_url,
        "getScheme" => url::scheme_of,
        "getHost" => url::host,
        "getHostname" => url::hostname,
        "getPort" => url::port,
        "getEscapedPath" => url::escaped_path,
        "getQuery" => url::query,
        "ip" => cidr::ip,
        "isIP" => cidr::is_ip,
        "ip.isCanonical" => cidr::is_canonical,
        "family" => cidr::family,
        "isUnspecified" => cidr::is_unspecified,
        "isLoopback" => cidr::is_loopback,
        "isLinkLocalMulticast" => cidr::is_link_local_multicast,
        "isLinkLocalUnicast" => cidr::is_link_local_unicast,
        "isGlobalUnicast" => cidr::is_global_unicast,
        "cidr" => cidr::cidr,
        "isCIDR" => cidr::is_cidr,
        "containsIP" => cidr::contains_ip,
        "containsCIDR" => cidr::contains_cidr,
        "prefixLength" => cidr::prefix_length,
        "masked" => cidr::masked,
        "quantity" => quantity::quantity,
        "isQuantity" => quantity::is_quantity,
        "isInteger" => quantity::is_integer,
        "asInteger" => quantity::as_integer,
        "asApproximateFloat" => quantity::as_float,
        "sign" => quantity::sign,
        "add" => quantity::add,
        "sub" => quantity::sub,
        "isGreaterThan" => quantity::is_greater_than,
        "isLessThan" => quantity::is_less_than,
        "compareTo" => quantity::compare_to,
        "semver" => semver::semver,
        "isSemver" => semver::is_semver,
        "major" => semver::major,
        "minor" => semver::minor,
        "patch" => semver::patch,
        "format.named" => formats::named,
        "validate" => formats::validate,
        "format.dns1123Label" => formats::dns1123_label,
        "format.dns1123Subdomain" => formats::dns1123_subdomain,
        "format.dns1035Label" => formats::dns1035_label,
        "format.qualifiedName" => formats::qualified_name,
        "format.dns1123LabelPrefix" => formats::dns1123_label_prefix,
        "format.dns1123SubdomainPrefix" => formats::dns1123_subdomain_prefix,
        "format.dns1035LabelPrefix" => formats::dns1035_label_prefix,
        "format.labelValue" => formats::label_value,
        "format.uri" => formats::uri,
        "format.uuid" => formats::uuid,
        "format.byte" => formats::byte,
        "format.date" => formats::date,
        "format.datetime" => formats::datetime,
        "path" => authz::path,
        "group" => authz::group,
        "serviceAccount" => authz::service_account,
        "resource" => authz::resource,
        "subresource" => authz::subresource,
        "namespace" => authz::namespace,
        "name" => authz::name,
        "fieldSelector" => authz::field_selector,
        "labelSelector" => authz::label_selector,
        "check" => authz::check,
        "allowed" => authz::allowed,
        "reason" => authz::reason,
        "errored" => authz::errored,
        "error" => authz::error,
        _ => return None,
    };
    find(name).map(|function| (function.name, body))
}

/// Is an overload of it looked for at each call, where the checker did not find the one? (Operators and some others do
/// all that they do in one place.)
pub(crate) fn is_dispatched(name: &str) -> bool {
    matches!(
        name,
        "containsIP"
            | "containsCIDR"
            | "indexOf"
            | "lastIndexOf"
            | "join"
            | "split"
            | "substring"
            | "findAll"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "semver"
            | "isSemver"
            | "flatten"
            | "check"
    ) || name.starts_with("get")
}

/// The constant pattern of a call that matches by one: it is to be valid before anything is evaluated.
pub(crate) fn pattern_of<'n>(function: &str, args: &'n [Node]) -> Option<&'n str> {
    match (function, args.get(1)) {
        ("matches" | "find" | "findAll", Some(Node::Const(Value::String(pattern)))) => Some(pattern),
        _ => None,
    }
}
