//! What calls cost at most, and how large their results are.

use super::{Estimator, Node, Range, UNKNOWN, sum_of};
use crate::eval::cost::{CHECK, LIST, PATTERN, STRUCT, TRAVERSAL};
use crate::parse::ast::{Expr, Kind, Literal, op};
use crate::types::Type;

/// Longest pattern of a named format, and longest name of one.
const FORMAT_PATTERN: f64 = 128.0;
const FORMAT_NAME: u64 = 64;

type Estimate = (Range, Option<Range>);

impl<'e> Estimator<'e> {
    /// Cost with that of the arguments (without the target's), and the result's size if it is known.
    pub(super) fn function(
        &mut self,
        expr: &'e Expr,
        function: &str,
        overload: &str,
        target: Option<&Node<'e>>,
        args: &[Node<'e>],
        costs: &[Range],
    ) -> Estimate {
        let arguments = sum_of(costs);
        let known = self
            .of_lists(overload, target, args)
            .or_else(|| self.of_library(function, overload, target, args));
        if let Some((cost, size)) = known {
            return (cost.plus(arguments), size);
        }
        let plain = |cost: Range| (cost.plus(arguments), None);
        let size = |n: usize| args.get(n).and_then(|a| a.size).unwrap_or(UNKNOWN);
        let target_size = target.map(|t| t.size.unwrap_or(UNKNOWN));
        match (overload, args.len()) {
            ("string_format", _) if target.is_some() => plain(target_size.unwrap_or(UNKNOWN).by(TRAVERSAL)),
            ("string_to_bytes", 1) => {
                let sz = size(0);
                let made = Range { min: sz.min, max: sz.max.wrapping_mul(4) };
                (sz.by(TRAVERSAL).plus(arguments), Some(made))
            }
            ("bytes_to_string", 1) => {
                let sz = size(0);
                (sz.by(TRAVERSAL).plus(arguments), Some(Range { min: sz.min / 4, max: sz.max }))
            }
            ("strings_quote", 1) => {
                let sz = size(0);
                let made = Range { min: sz.min.wrapping_add(2), max: sz.max.wrapping_mul(2).wrapping_add(2) };
                (sz.by(TRAVERSAL).plus(arguments), Some(made))
            }
            ("starts_with_string" | "ends_with_string", 1) => plain(size(0).by(TRAVERSAL)),
            ("in_list", 2) => plain(size(1).by(1.0)),
            ("matches_string", 1) if target.is_some() => {
                let text = target_size.unwrap_or(UNKNOWN).plus(Range::fixed(1)).by(TRAVERSAL);
                plain(text.times(size(0).by(PATTERN)))
            }
            ("contains_string", 1) if target.is_some() => {
                plain(target_size.unwrap_or(UNKNOWN).by(TRAVERSAL).times(size(0).by(TRAVERSAL)))
            }
            ("logical_or" | "logical_and", 2) => {
                let (left, right) = (costs[0], costs[1]);
                (Range { min: left.min, max: left.plus(right).max }, None)
            }
            ("conditional", 3) => {
                let made = size(1).or(size(2));
                let inner = |n: usize| args[n].expr.and_then(|e| self.entry_sizes(e));
                if let (Some(a), Some(b)) = (inner(1), inner(2)) {
                    let joined =
                        super::Entries { list: a.list, key: a.key.or(b.key), value: a.value.or(b.value) };
                    self.entries.insert(expr.id, joined);
                }
                (costs[0].plus(costs[1].or(costs[2])), Some(made))
            }
            ("add_string" | "add_bytes" | "add_list", 2) => {
                let made = size(0).plus(size(1));
                let inner = |n: usize| args[n].expr.and_then(|e| self.entry_sizes(e));
                if let (Some(a), Some(b)) = (inner(0), inner(1)) {
                    let joined =
                        super::Entries { list: a.list, key: a.key.or(b.key), value: a.value.or(b.value) };
                    self.entries.insert(expr.id, joined);
                }
                let cost = if overload == "add_list" { Range::fixed(1) } else { made.by(TRAVERSAL) };
                (cost.plus(arguments), Some(made))
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                2,
            ) => {
                let most = size(0).max.min(size(1).max);
                plain(Range { min: most.min(1), max: most }.by(TRAVERSAL))
            }
            _ => plain(Range::fixed(1)),
        }
    }

    /// What the extensions for lists and sets say.
    fn of_lists(&self, overload: &str, target: Option<&Node<'e>>, args: &[Node<'e>]) -> Option<Estimate> {
        let made = |factor: f64, size: Range| {
            (size.by(factor).plus(Range::fixed(1)).plus(Range::fixed(LIST)), Some(size))
        };
        let squared =
            |size: Range, text: bool| made(if text { 2.0 + TRAVERSAL } else { 2.0 }, size.times(size));
        let number = |n: usize, otherwise: u64| match args.get(n).and_then(|a| a.expr).map(|e| &e.kind) {
            Some(Kind::Literal(Literal::Int(n))) => (*n).max(0) as u64,
            _ => otherwise,
        };
        let size = |node: Option<&Node<'e>>| node.map(|n| self.node_size(n));
        let text = || overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
        Some(match overload {
            "list_slice" => {
                let (start, end) = (number(0, 0), number(1, size(target)?.max));
                made(1.0, Range::fixed(end.wrapping_sub(start)))
            }
            "lists_range" => made(1.0, Range::fixed(number(0, u64::MAX))),
            "list_reverse" => made(1.0, size(target)?),
            "list_flatten" => made(1.0, size(target)?),
            "list_flatten_int" => made(number(0, u64::MAX) as f64, size(target)?),
            "list_distinct" => squared(size(target)?, false),
            "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list" => {
                let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
                let pairs = size(args.first())?.times(size(args.get(1))?);
                (pairs.by(factor).plus(Range::fixed(1)), None)
            }
            _ if overload.ends_with("_sortByAssociatedKeys") => squared(size(args.first())?, text()),
            _ if overload.starts_with("list_") && overload.ends_with("_sort") => {
                squared(size(target)?, text())
            }
            _ => return None,
        })
    }

    /// What Kubernetes' libraries say, by the function's name.
    fn of_library(
        &self,
        function: &str,
        overload: &str,
        target: Option<&Node<'e>>,
        args: &[Node<'e>],
    ) -> Option<Estimate> {
        let size = |n: usize| args.get(n).map(|node| self.node_size(node));
        let own = || target.map(|node| self.node_size(node));
        let plain = |cost: Range| Some((cost, None));
        match function {
            "check" => plain(Range::fixed(CHECK)),
            "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => plain(Range::fixed(1)),
            "fieldSelector" | "labelSelector" => {
                let length = size(0)?;
                let requirements = length.by(0.5).by((LIST + STRUCT) as f64);
                plain(Range::fixed(LIST).plus(length.by(TRAVERSAL)).plus(requirements))
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let target = target?;
                let Some(item) = self.item(target) else {
                    return plain(self.node_size(target).by(TRAVERSAL));
                };
                let mut each = Range::fixed(1);
                if matches!(item.ty, Type::String | Type::Bytes) {
                    each = each.plus(self.node_size(&item).by(TRAVERSAL));
                }
                plain(self.node_size(target).times(each))
            }
            "url" | "jsonpatch.escapeKey" => size(0).map(|sz| (sz.by(TRAVERSAL), Some(sz))),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                own().map(|sz| (sz.by(TRAVERSAL), Some(sz)))
            }
            "replace" => Some((own()?.by(2.0 * TRAVERSAL), Some(replaced(own()?, size(0)?, size(1)?)))),
            "split" => {
                let sz = own()?;
                let max = match args.get(1).and_then(|a| a.expr).map(|e| &e.kind) {
                    Some(Kind::Literal(Literal::Int(n))) => *n as u64,
                    _ => sz.max,
                };
                Some((sz.by(2.0 * TRAVERSAL), Some(Range { min: 0, max })))
            }
            "join" => {
                let target = target?;
                let count = self.node_size(target);
                let mut sz = Range::fixed(0);
                if let Some(item) = self.item(target) {
                    sz = count.times(self.node_size(&item));
                }
                if let Some(between) = size(0) {
                    let times = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
                    sz = sz.plus(between.times(times));
                }
                Some((sz.by(TRAVERSAL), Some(sz)))
            }
            "find" | "findAll" => {
                let sz = own()?;
                let text = sz.plus(Range::fixed(1)).by(TRAVERSAL);
                Some((text.times(size(0)?.by(PATTERN)), Some(Range { min: 0, max: sz.max })))
            }
            "ip" if overload == "cidr_ip" => plain(Range::fixed(1)),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                plain(size(0)?.by(TRAVERSAL))
            }
            "ip.isCanonical" => plain(size(0)?.by(2.0 * TRAVERSAL)),
            "containsIP" | "containsCIDR" => {
                let other = size(0)?;
                // the bytes of an address
                let bytes = Range { min: 4, max: 16 };
                let mut cost = bytes.plus(bytes).by(TRAVERSAL);
                if function == "containsCIDR" {
                    cost = cost.plus(bytes.by(TRAVERSAL)).plus(Range::fixed(1));
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(other.by(TRAVERSAL));
                }
                plain(cost)
            }
            "validate" => plain(size(0)?.by(TRAVERSAL).by(FORMAT_PATTERN * PATTERN)),
            op::EQ => self.equality(args),
            _ => None,
        }
    }

    fn equality(&self, args: &[Node<'e>]) -> Option<Estimate> {
        let [left, right] = args else { return None };
        if left.ty.name() != right.ty.name() {
            return None;
        }
        let cost = match left.ty.name() {
            "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => Range::fixed(1),
            name if name.starts_with("kubernetes.authorization.") => Range::fixed(1),
            "kubernetes.NamedFormat" => Range { min: 1, max: FORMAT_NAME }.by(TRAVERSAL),
            "kubernetes.URL" => {
                let max = right.size.map_or(1, |size| size.max);
                Range { min: 1, max }.by(TRAVERSAL)
            }
            _ => return None,
        };
        Some((cost, None))
    }

    /// The items of a list (and the keys of a map, as upstream has it).
    fn item(&self, node: &Node<'e>) -> Option<Node<'e>> {
        let ty = match node.ty {
            Type::List(item) => item,
            Type::Map(both) => &both.0,
            Type::Opaque(_, params) => params.first()?,
            _ => return None,
        };
        let path = node.path.clone().map(|mut path| {
            path.push("@items".into());
            path
        });
        Some(Node { ty, path, size: None, expr: None })
    }
}

/// How large a text may become by replacing.
fn replaced(sz: Range, old: Range, new: Range) -> Range {
    let (mut times, mut kept) = (Range::fixed(0), Range::fixed(0));
    let parts = |all: u64, part: u64| (all as f64 / part as f64).ceil() as u64;
    if old.min == 0 {
        times.max = sz.max.saturating_add(1);
        kept.max = sz.max;
    } else if new.max <= old.min {
        kept.max = sz.max;
    } else {
        times.max = parts(sz.max, old.min);
    }
    if old.max == 0 {
        times.min = sz.min.saturating_add(1);
        kept.min = sz.min;
    } else if old.max <= new.min {
        kept.min = sz.min;
    } else {
        times.min = parts(sz.min, old.max);
    }
    times.times(new).plus(kept)
}
