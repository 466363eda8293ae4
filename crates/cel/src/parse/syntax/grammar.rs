//! The grammar as a tree of steps, and as the network of states that prediction and recovery walk.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::super::lexer::Tok;
use super::Set;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum RuleId {
    Start,
    Expr,
    Or,
    And,
    Relation,
    Calc,
    Unary,
    Member,
    Primary,
    ExprList,
    ListInit,
    FieldInit,
    OptField,
    MapInit,
    EscapeIdent,
    OptExpr,
    Literal,
}

use RuleId as R;

/// A step, with the state before it.
#[derive(Debug)]
pub(super) struct Part {
    pub state: usize,
    pub step: Step,
}

/// `adaptive`: one token does not decide it.
#[derive(Debug)]
pub(super) enum Step {
    Token(Set),
    Rule(RuleId, u8),
    /// Nothing to read: prediction has looked at the precedence.
    Precedence,
    Sequence(Vec<Part>),
    Optional {
        body: Box<Part>,
        adaptive: bool,
    },
    /// `back`: the state behind the body.
    Star {
        body: Box<Part>,
        back: usize,
        adaptive: bool,
    },
    Plus {
        body: Box<Part>,
        back: usize,
        adaptive: bool,
    },
    Choice {
        parts: Vec<Part>,
        adaptive: bool,
    },
}

impl Part {
    /// Does it begin with a precedence: is it what follows a rule within itself?
    pub fn is_recursive(&self) -> bool {
        match &self.step {
            Step::Precedence => true,
            Step::Sequence(parts) | Step::Choice { parts, .. } => {
                parts.first().is_some_and(Part::is_recursive)
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Edge {
    Empty(usize),
    /// Only if the rule was called with no more than this precedence.
    Precedence(u8, usize),
    Token(Set, usize),
    Rule {
        rule: RuleId,
        follow: usize,
    },
}

#[derive(Debug, Default)]
struct State {
    edges: Vec<Edge>,
    loop_back: bool,
    /// The rule that ends here.
    ends: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub body: Part,
    pub start: usize,
}

#[derive(Debug)]
pub(super) struct Atn {
    states: Vec<State>,
    pub rules: Vec<Rule>,
    /// By rule: the states behind its calls, and with which precedence it is called.
    callers: Vec<Vec<(usize, u8)>>,
}

/// Tokens that may come next.
#[derive(Clone, Debug, Default)]
pub(super) struct Next {
    pub tokens: Set,
    /// The rule may end.
    pub ends: bool,
}

/// The grammar as it is written down.
enum G {
    T(Tok),
    OneOf(&'static [Tok]),
    R(RuleId, u8),
    P(u8),
    Seq(Vec<G>),
    Opt(Box<G>),
    Star(Box<G>, bool),
    Plus(Box<G>, bool),
    Alt(Vec<G>, bool),
}

fn seq<const N: usize>(parts: [G; N]) -> G {
    G::Seq(parts.into())
}

fn opt(part: G) -> G {
    G::Opt(part.into())
}

fn rules() -> Vec<G> {
    use G::{OneOf, P, T};
    use Tok as K;
    let r = |rule: RuleId| G::R(rule, 0);
    let star = |part: G| G::Star(part.into(), false);
    let adaptive_star = |part: G| G::Star(part.into(), true);
    vec![
        seq([r(R::Expr), T(K::Eof)]),
        seq([r(R::Or), opt(seq([T(K::Question), r(R::Or), T(K::Colon), r(R::Expr)]))]),
        seq([r(R::And), star(seq([T(K::Or), r(R::And)]))]),
        seq([r(R::Relation), star(seq([T(K::And), r(R::Relation)]))]),
        seq([
            r(R::Calc),
            adaptive_star(seq([
                P(1),
                OneOf(&[
                    K::Equals,
                    K::NotEquals,
                    K::In,
                    K::Less,
                    K::LessEquals,
                    K::GreaterEquals,
                    K::Greater,
                ]),
                G::R(R::Relation, 2),
            ])),
        ]),
        seq([
            r(R::Unary),
            adaptive_star(G::Alt(
                vec![
                    seq([P(2), OneOf(&[K::Star, K::Slash, K::Percent]), G::R(R::Calc, 3)]),
                    seq([P(1), OneOf(&[K::Minus, K::Plus]), G::R(R::Calc, 2)]),
                ],
                true,
            )),
        ]),
        G::Alt(
            vec![
                r(R::Member),
                seq([G::Plus(T(K::Exclam).into(), false), r(R::Member)]),
                seq([G::Plus(T(K::Minus).into(), true), r(R::Member)]),
            ],
            true,
        ),
        seq([
            r(R::Primary),
            adaptive_star(G::Alt(
                vec![
                    seq([P(3), T(K::Dot), opt(T(K::Question)), r(R::EscapeIdent)]),
                    seq([P(2), T(K::Dot), T(K::Ident), T(K::LParen), opt(r(R::ExprList)), T(K::RParen)]),
                    seq([P(1), T(K::LBracket), opt(T(K::Question)), r(R::Expr), T(K::RBracket)]),
                ],
                true,
            )),
        ]),
        G::Alt(
            vec![
                seq([opt(T(K::Dot)), T(K::Ident)]),
                seq([opt(T(K::Dot)), T(K::Ident), T(K::LParen), opt(r(R::ExprList)), T(K::RParen)]),
                seq([T(K::LParen), r(R::Expr), T(K::RParen)]),
                seq([T(K::LBracket), opt(r(R::ListInit)), opt(T(K::Comma)), T(K::RBracket)]),
                seq([T(K::LBrace), opt(r(R::MapInit)), opt(T(K::Comma)), T(K::RBrace)]),
                seq([
                    opt(T(K::Dot)),
                    T(K::Ident),
                    star(seq([T(K::Dot), T(K::Ident)])),
                    T(K::LBrace),
                    opt(r(R::FieldInit)),
                    opt(T(K::Comma)),
                    T(K::RBrace),
                ]),
                r(R::Literal),
            ],
            true,
        ),
        seq([r(R::Expr), star(seq([T(K::Comma), r(R::Expr)]))]),
        seq([r(R::OptExpr), adaptive_star(seq([T(K::Comma), r(R::OptExpr)]))]),
        seq([
            r(R::OptField),
            T(K::Colon),
            r(R::Expr),
            adaptive_star(seq([T(K::Comma), r(R::OptField), T(K::Colon), r(R::Expr)])),
        ]),
        seq([opt(T(K::Question)), r(R::EscapeIdent)]),
        seq([
            r(R::OptExpr),
            T(K::Colon),
            r(R::Expr),
            adaptive_star(seq([T(K::Comma), r(R::OptExpr), T(K::Colon), r(R::Expr)])),
        ]),
        G::Alt(vec![T(K::Ident), T(K::EscIdent)], false),
        seq([opt(T(K::Question)), r(R::Expr)]),
        G::Alt(
            vec![
                seq([opt(T(K::Minus)), T(K::Int)]),
                T(K::Uint),
                seq([opt(T(K::Minus)), T(K::Float)]),
                T(K::String),
                T(K::Bytes),
                T(K::True),
                T(K::False),
                T(K::Null),
            ],
            true,
        ),
    ]
}

impl Atn {
    pub fn get() -> &'static Atn {
        static ATN: OnceLock<Atn> = OnceLock::new();
        ATN.get_or_init(|| {
            let grammar = rules();
            let mut atn =
                Atn { states: Vec::new(), rules: Vec::new(), callers: vec![Vec::new(); grammar.len()] };
            for (number, body) in grammar.into_iter().enumerate() {
                let end = atn.state();
                atn.states[end].ends = Some(number);
                let body = atn.build(body, end);
                let start = body.state;
                atn.rules.push(Rule { body, start });
            }
            atn
        })
    }

    fn state(&mut self) -> usize {
        self.states.push(State::default());
        self.states.len() - 1
    }

    /// Makes the states of a part that ends in `end`.
    fn build(&mut self, part: G, end: usize) -> Part {
        let state = self.state();
        let step = match part {
            G::T(token) => self.token(BTreeSet::from([token]), state, end),
            G::OneOf(tokens) => self.token(tokens.iter().copied().collect(), state, end),
            G::R(rule, precedence) => {
                self.callers[rule as usize].push((end, precedence));
                self.states[state].edges.push(Edge::Rule { rule, follow: end });
                Step::Rule(rule, precedence)
            }
            G::P(precedence) => {
                self.states[state].edges.push(Edge::Precedence(precedence, end));
                Step::Precedence
            }
            G::Seq(parts) => {
                let mut built = Vec::with_capacity(parts.len());
                let mut end = end;
                for part in parts.into_iter().rev() {
                    let part = self.build(part, end);
                    end = part.state;
                    built.push(part);
                }
                built.reverse();
                self.states[state].edges.push(Edge::Empty(end));
                Step::Sequence(built)
            }
            G::Opt(body) => {
                let body = self.build(*body, end);
                self.states[state].edges.extend([Edge::Empty(body.state), Edge::Empty(end)]);
                Step::Optional { body: body.into(), adaptive: false }
            }
            G::Star(body, adaptive) => {
                let back = self.state();
                self.states[back].loop_back = true;
                self.states[back].edges.push(Edge::Empty(state));
                let body = self.build(*body, back);
                self.states[state].edges.extend([Edge::Empty(body.state), Edge::Empty(end)]);
                Step::Star { body: body.into(), back, adaptive }
            }
            G::Plus(body, adaptive) => {
                let back = self.state();
                self.states[back].loop_back = true;
                let body = self.build(*body, back);
                self.states[state].edges.push(Edge::Empty(body.state));
                self.states[back].edges.extend([Edge::Empty(state), Edge::Empty(end)]);
                Step::Plus { body: body.into(), back, adaptive }
            }
            G::Alt(parts, adaptive) => {
                let parts: Vec<Part> = parts.into_iter().map(|part| self.build(part, end)).collect();
                let edges = parts.iter().map(|part| Edge::Empty(part.state));
                let edges: Vec<Edge> = edges.collect();
                self.states[state].edges.extend(edges);
                Step::Choice { parts, adaptive }
            }
        };
        Part { state, step }
    }

    fn token(&mut self, tokens: Set, state: usize, end: usize) -> Step {
        self.states[state].edges.push(Edge::Token(tokens.clone(), end));
        Step::Token(tokens)
    }

    pub fn edges(&self, state: usize) -> &[Edge] {
        &self.states[state].edges
    }

    /// The rule that ends in the state.
    pub fn ends(&self, state: usize) -> Option<usize> {
        self.states[state].ends
    }

    pub fn callers(&self, rule: usize) -> &[(usize, u8)] {
        &self.callers[rule]
    }

    pub fn is_loop_back(&self, state: usize) -> bool {
        self.states[state].loop_back
    }

    /// The state behind a token or a call.
    pub fn behind(&self, state: usize) -> usize {
        match self.states[state].edges.first() {
            Some(
                Edge::Empty(to)
                | Edge::Precedence(_, to)
                | Edge::Token(_, to)
                | Edge::Rule { follow: to, .. },
            ) => *to,
            None => state,
        }
    }

    /// The state behind the call that is made in it.
    pub fn follow(&self, call: usize) -> usize {
        self.behind(call)
    }

    /// What may come next in a state, within its rule.
    pub fn next(&self, state: usize) -> Next {
        let mut out = Next::default();
        let mut seen = BTreeSet::new();
        self.look(state, &mut Vec::new(), &mut seen, &mut out);
        out
    }

    pub fn first(&self, part: &Part) -> Set {
        self.next(part.state).tokens
    }

    /// `calls`: where to go on when the rules that were entered on the way end.
    fn look(
        &self,
        state: usize,
        calls: &mut Vec<usize>,
        seen: &mut BTreeSet<(usize, Vec<usize>)>,
        out: &mut Next,
    ) {
        if !seen.insert((state, calls.clone())) {
            return;
        }
        if self.ends(state).is_some() {
            match calls.pop() {
                Some(back) => {
                    self.look(back, calls, seen, out);
                    calls.push(back);
                }
                None => out.ends = true,
            }
            return;
        }
        for edge in self.edges(state) {
            match edge {
                Edge::Empty(to) | Edge::Precedence(_, to) => self.look(*to, calls, seen, out),
                Edge::Token(tokens, _) => out.tokens.extend(tokens.iter().copied()),
                Edge::Rule { rule, follow } => {
                    calls.push(*follow);
                    self.look(self.rules[*rule as usize].start, calls, seen, out);
                    calls.pop();
                }
            }
        }
    }
}
