//! Which way a decision goes: all ways are followed through the tokens at once until one is left.

use std::collections::BTreeSet;

use super::super::lexer::{Tok, Token};
use super::grammar::{Atn, Edge};

/// More ways at once are not followed.
const MAX_WAYS: usize = 20_000;

/// One way: where it is, which alternative it began with, and where it goes on when rules end. `outside`: it left the
/// rule of the decision; `kept`: to where the rule does not call itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    state: usize,
    alternative: usize,
    calls: Vec<usize>,
    outside: bool,
    kept: bool,
}

/// The number of the alternative, from 1. `recursive`: the decision is whether a rule that begins with itself goes on.
///
/// # Errors
/// How many tokens fit before none was possible.
pub(super) fn predict(
    atn: &Atn,
    decision: usize,
    precedence: u8,
    recursive: bool,
    tokens: &[Token],
) -> Result<usize, usize> {
    let mut ways = BTreeSet::new();
    for (n, edge) in atn.edges(decision).iter().enumerate() {
        if let Edge::Empty(to) = edge {
            let way = Way { state: *to, alternative: n + 1, calls: Vec::new(), outside: false, kept: false };
            close(atn, way, Some(precedence), &mut ways);
        }
    }
    if recursive {
        // the rule within itself may go on as well: then it is this one that goes on
        let first: BTreeSet<(usize, Vec<usize>)> =
            ways.iter().filter(|w| w.alternative == 1).map(|w| (w.state, w.calls.clone())).collect();
        ways.retain(|w| w.alternative == 1 || w.kept || !first.contains(&(w.state, w.calls.clone())));
    }
    for (read, token) in tokens.iter().enumerate() {
        let mut next = BTreeSet::new();
        for way in &ways {
            for edge in atn.edges(way.state) {
                if let Edge::Token(set, to) = edge
                    && set.contains(&token.kind)
                {
                    close(atn, Way { state: *to, ..way.clone() }, None, &mut next);
                }
            }
        }
        if next.is_empty() {
            // a way that was complete before the token that fits nowhere is taken: others will say what is wrong
            let done =
                ways.iter().filter(|w| w.outside || (atn.ends(w.state).is_some() && w.calls.is_empty()));
            return done.map(|w| w.alternative).min().ok_or(read);
        }
        let mut alternatives: Vec<usize> = next.iter().map(|w| w.alternative).collect();
        alternatives.sort_unstable();
        alternatives.dedup();
        if let [only] = alternatives.as_slice() {
            return Ok(*only);
        }
        if token.kind == Tok::Eof || next.len() > MAX_WAYS || same_for_all(&next, &alternatives) {
            return Ok(alternatives[0]);
        }
        ways = next;
    }
    ways.iter().map(|w| w.alternative).min().ok_or(0)
}

/// All alternatives are in the same places: no token can tell them apart any more.
fn same_for_all(ways: &BTreeSet<Way>, alternatives: &[usize]) -> bool {
    let places = |alternative: usize| -> Vec<(usize, &[usize], bool)> {
        let own = ways.iter().filter(|w| w.alternative == alternative);
        own.map(|w| (w.state, w.calls.as_slice(), w.outside)).collect()
    };
    let first = places(alternatives[0]);
    alternatives[1..].iter().all(|alternative| places(*alternative) == first)
}

/// Goes on without reading. `precedence`: with which the rule of the decision was called, at its beginning.
fn close(atn: &Atn, way: Way, precedence: Option<u8>, into: &mut BTreeSet<Way>) {
    if into.len() > MAX_WAYS || !into.insert(way.clone()) {
        return;
    }
    if let Some(rule) = atn.ends(way.state) {
        let mut calls = way.calls.clone();
        match calls.pop() {
            Some(state) => close(atn, Way { state, calls, ..way }, precedence, into),
            None => {
                for (state, called) in atn.callers(rule) {
                    let kept = way.kept || (!way.outside && *called == 0);
                    close(atn, Way { state: *state, outside: true, kept, ..way.clone() }, precedence, into);
                }
            }
        }
        return;
    }
    for edge in atn.edges(way.state) {
        match edge {
            Edge::Empty(to) => close(atn, Way { state: *to, ..way.clone() }, precedence, into),
            Edge::Precedence(needed, to) => {
                let own = way.calls.is_empty() && !way.outside;
                if !own || precedence.is_none_or(|p| *needed >= p) {
                    close(atn, Way { state: *to, ..way.clone() }, precedence, into);
                }
            }
            Edge::Token(..) => {}
            Edge::Rule { rule, follow } => {
                let mut calls = way.calls.clone();
                calls.push(*follow);
                close(
                    atn,
                    Way { state: atn.rules[*rule as usize].start, calls, ..way.clone() },
                    precedence,
                    into,
                );
            }
        }
    }
}
