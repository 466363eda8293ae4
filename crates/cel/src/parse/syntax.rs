//! Says what is wrong with a text that is not of the grammar, in ANTLR's words: it reads the tokens again as ANTLR's
//! generated parsers do, with their prediction and their recovery (Terence Parr, The Definitive ANTLR 4 Reference,
//! chapter 9). Slow, and only asked when the fast parser gave up.

mod grammar;
mod predict;

use std::collections::BTreeSet;

use self::grammar::{Atn, Part, RuleId, Step};
use super::lexer::{Skipped, Tok, Token};
use super::parser::MAX_DEPTH;
use crate::issues::{Report, Source};

/// How often errors are recovered from, and how many tokens one recovery may pass over.
const MAX_RECOVERIES: usize = 30;
const MAX_PASSED: usize = 256;
/// Longer texts get one error only: reading ahead takes its time.
const MAX_TOKENS: usize = 4000;

type Set = BTreeSet<Tok>;

/// What a rule ends with when it fails.
enum Fault {
    /// `mismatched input`
    Mismatch { offending: usize, expected: Set },
    /// `no viable alternative`
    NoViable { start: usize, offending: usize },
    /// All is over.
    Stop,
}

type Done = Result<(), Fault>;

struct Reader<'s> {
    source: &'s Source,
    tokens: &'s [Token],
    skipped: &'s [Skipped],
    at: usize,
    atn: &'static Atn,
    report: &'s mut Report,
    state: usize,
    /// The states from which the open rules were called.
    calls: Vec<usize>,
    recovering: bool,
    last_error: Option<(usize, BTreeSet<usize>)>,
    recoveries: usize,
    depth: Vec<usize>,
}

/// `skipped`: what the lexer could not read.
pub(super) fn explain(source: &Source, tokens: &[Token], skipped: &[Skipped], report: &mut Report) {
    for part in skipped {
        report.at(source, part.start, part.message());
    }
    let before = report.count();
    if tokens.len() <= MAX_TOKENS {
        let atn = Atn::get();
        let mut reader = Reader {
            source,
            tokens,
            skipped,
            at: 0,
            atn,
            report,
            state: 0,
            calls: Vec::new(),
            recovering: false,
            last_error: None,
            recoveries: 0,
            depth: vec![0; atn.rules.len()],
        };
        // an error that is not recovered from has been reported
        let _ = reader.rule(RuleId::Start, 0, None);
    }
    if report.count() == before {
        let at = tokens.last().map_or(0, |t| t.start);
        report.at(source, at, "Syntax error: invalid expression".into());
    }
}

impl Reader<'_> {
    fn la(&self, ahead: usize) -> Tok {
        self.tokens.get(self.at + ahead - 1).map_or(Tok::Eof, |t| t.kind)
    }

    fn consume(&mut self) {
        if self.la(1) != Tok::Eof {
            self.at += 1;
        }
    }

    fn notify(&mut self, token: usize, message: String) {
        let at = self.tokens.get(token).or(self.tokens.last()).map_or(0, |t| t.start);
        self.report.at(self.source, at, format!("Syntax error: {message}"));
    }

    fn rule(&mut self, rule: RuleId, precedence: u8, from: Option<usize>) -> Done {
        self.depth[rule as usize] += 1;
        if self.depth[rule as usize] > MAX_DEPTH {
            self.report.nowhere(format!("expression recursion limit exceeded: {MAX_DEPTH}"));
            return Err(Fault::Stop);
        }
        self.calls.extend(from);
        let start = self.at;
        let atn = self.atn;
        match self.part(&atn.rules[rule as usize].body, precedence) {
            Ok(()) => {}
            Err(Fault::Stop) => return Err(Fault::Stop),
            Err(fault) => {
                self.report_fault(fault);
                if rule == RuleId::EscapeIdent {
                    // of the tree that is left, not of the text
                    let at = self.tokens[start].start;
                    self.report.at(self.source, at, "unsupported ident kind".into());
                }
                self.recover()?;
            }
        }
        if from.is_some() {
            self.calls.pop();
        }
        self.depth[rule as usize] -= 1;
        Ok(())
    }

    fn part(&mut self, part: &'static Part, precedence: u8) -> Done {
        match &part.step {
            Step::Token(set) => {
                self.state = part.state;
                if set.contains(&self.la(1)) {
                    self.matched();
                    self.consume();
                    Ok(())
                } else {
                    self.recover_inline()
                }
            }
            Step::Rule(rule, inner) => {
                self.state = part.state;
                self.rule(*rule, *inner, Some(part.state))
            }
            Step::Precedence => Ok(()),
            Step::Sequence(parts) => parts.iter().try_for_each(|part| self.part(part, precedence)),
            Step::Optional { body, adaptive } => {
                self.state = part.state;
                self.sync()?;
                let enters = if *adaptive {
                    self.predict(part.state, precedence, false)? == 1
                } else {
                    self.atn.first(body).contains(&self.la(1))
                };
                if enters { self.part(body, precedence) } else { Ok(()) }
            }
            Step::Star { body, back, adaptive } => {
                self.state = part.state;
                self.sync()?;
                loop {
                    let enters = if *adaptive {
                        self.predict(part.state, precedence, body.is_recursive())? == 1
                    } else {
                        self.atn.first(body).contains(&self.la(1))
                    };
                    if !enters {
                        return Ok(());
                    }
                    self.part(body, precedence)?;
                    self.state = *back;
                    self.sync()?;
                }
            }
            Step::Plus { body, back, adaptive } => {
                self.state = part.state;
                self.sync()?;
                loop {
                    self.part(body, precedence)?;
                    self.state = *back;
                    self.sync()?;
                    let again = if *adaptive {
                        self.predict(*back, precedence, false)? == 1
                    } else {
                        self.atn.first(body).contains(&self.la(1))
                    };
                    if !again {
                        return Ok(());
                    }
                }
            }
            Step::Choice { parts, adaptive } => {
                self.state = part.state;
                self.sync()?;
                let chosen = if *adaptive {
                    self.predict(part.state, precedence, false)?
                } else {
                    let la = self.la(1);
                    match parts.iter().position(|p| self.atn.first(p).contains(&la)) {
                        Some(n) => n + 1,
                        None => return Err(Fault::NoViable { start: self.at, offending: self.at }),
                    }
                };
                self.part(&parts[chosen - 1], precedence)
            }
        }
    }

    fn predict(&mut self, state: usize, precedence: u8, recursive: bool) -> Result<usize, Fault> {
        predict::predict(self.atn, state, precedence, recursive, &self.tokens[self.at..])
            .map_err(|ahead| Fault::NoViable { start: self.at, offending: self.at + ahead })
    }

    fn matched(&mut self) {
        self.recovering = false;
        self.last_error = None;
    }

    /// Before a decision: a token that fits nowhere is dealt with here.
    fn sync(&mut self) -> Done {
        if self.recovering {
            return Ok(());
        }
        let next = self.atn.next(self.state);
        if next.ends || next.tokens.contains(&self.la(1)) {
            return Ok(());
        }
        if self.atn.is_loop_back(self.state) {
            self.report_unwanted();
            let mut until = self.expected();
            until.extend(self.recovery_set());
            return self.consume_until(&until, &mut 0, usize::MAX);
        }
        if self.delete_one() { Ok(()) } else { Err(self.mismatch()) }
    }

    fn mismatch(&self) -> Fault {
        Fault::Mismatch { offending: self.at, expected: self.expected() }
    }

    /// What may stand here, with what may follow the open rules.
    fn expected(&self) -> Set {
        let mut next = self.atn.next(self.state);
        let mut out = next.tokens.clone();
        let mut calls = self.calls.iter().rev();
        while next.ends {
            let Some(call) = calls.next() else {
                out.insert(Tok::Eof);
                break;
            };
            next = self.atn.next(self.atn.follow(*call));
            out.extend(next.tokens.iter().copied());
        }
        out
    }

    /// What may follow any of the open rules.
    fn recovery_set(&self) -> Set {
        self.calls.iter().flat_map(|call| self.atn.next(self.atn.follow(*call)).tokens).collect()
    }

    fn consume_until(&mut self, set: &Set, passed: &mut usize, limit: usize) -> Done {
        while self.la(1) != Tok::Eof && !set.contains(&self.la(1)) {
            if *passed >= limit {
                self.report.nowhere(format!("error recovery token lookahead limit exceeded: {limit}"));
                return Err(Fault::Stop);
            }
            *passed += 1;
            self.consume();
        }
        Ok(())
    }

    fn attempt(&mut self) -> Done {
        if self.recoveries == MAX_RECOVERIES {
            self.notify(self.at, format!("error recovery attempt limit exceeded: {MAX_RECOVERIES}"));
            return Err(Fault::Stop);
        }
        self.recoveries += 1;
        Ok(())
    }

    fn recover(&mut self) -> Done {
        self.attempt()?;
        let mut passed = 0;
        let again = self
            .last_error
            .as_ref()
            .is_some_and(|(at, states)| *at == self.at && states.contains(&self.state));
        if again {
            passed += 1;
            self.consume();
        }
        let (at, state) = (self.at, self.state);
        let known = self.last_error.get_or_insert_with(|| (at, BTreeSet::new()));
        known.0 = at;
        known.1.insert(state);
        let set = self.recovery_set();
        self.consume_until(&set, &mut passed, MAX_PASSED)
    }

    /// A token that does not fit: is it one too many, or is one missing?
    fn recover_inline(&mut self) -> Done {
        self.attempt()?;
        if self.delete_one() {
            self.consume();
            return Ok(());
        }
        let behind = self.atn.behind(self.state);
        if self.following(behind).contains(&self.la(1)) {
            if !self.recovering {
                self.recovering = true;
                let message = format!("missing {} at {}", names(&self.expected()), self.shown(self.at));
                self.notify(self.at, message);
            }
            return Ok(());
        }
        Err(self.mismatch())
    }

    /// As [`Reader::expected`], at another state.
    fn following(&self, state: usize) -> Set {
        let mut next = self.atn.next(state);
        let mut out = next.tokens.clone();
        let mut calls = self.calls.iter().rev();
        while next.ends {
            let Some(call) = calls.next() else {
                out.insert(Tok::Eof);
                break;
            };
            next = self.atn.next(self.atn.follow(*call));
            out.extend(next.tokens.iter().copied());
        }
        out
    }

    fn delete_one(&mut self) -> bool {
        if !self.expected().contains(&self.la(2)) || self.at + 1 >= self.tokens.len() {
            return false;
        }
        self.report_unwanted();
        self.consume();
        self.matched();
        true
    }

    fn report_unwanted(&mut self) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        let message =
            format!("extraneous input {} expecting {}", self.shown(self.at), names(&self.expected()));
        self.notify(self.at, message);
    }

    fn report_fault(&mut self, fault: Fault) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        match fault {
            Fault::Mismatch { offending, expected } => {
                let message =
                    format!("mismatched input {} expecting {}", self.shown(offending), names(&expected));
                self.notify(offending, message);
            }
            Fault::NoViable { start, offending } => {
                let text: String = if self.tokens[start].kind == Tok::Eof {
                    "<EOF>".into()
                } else {
                    let read = |at: &u32| !self.skipped.iter().any(|s| (s.start..s.end).contains(at));
                    let places = (self.tokens[start].start..self.tokens[offending].end).filter(read);
                    places.map(|at| self.source.chars[at as usize]).collect()
                };
                // words of the language where a name is wanted
                let word = text.chars().next().map_or("", |c| &text[c.len_utf8()..]);
                let message = match word {
                    "true" | "false" | "null" => format!("mismatched input '{word}' expecting IDENTIFIER"),
                    _ => format!("no viable alternative at input {}", quoted(&text)),
                };
                self.notify(offending, message);
            }
            Fault::Stop => {}
        }
    }

    fn shown(&self, token: usize) -> String {
        match self.tokens.get(token) {
            Some(token) if token.kind != Tok::Eof => {
                let text: String =
                    self.source.chars[token.start as usize..token.end as usize].iter().collect();
                quoted(&text)
            }
            _ => "'<EOF>'".into(),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"))
}

fn names(set: &Set) -> String {
    let end = set.contains(&Tok::Eof).then_some("<EOF>");
    let all: Vec<&str> =
        end.into_iter().chain(set.iter().filter(|t| **t != Tok::Eof).map(|t| name(*t))).collect();
    match all.as_slice() {
        [one] => (*one).to_owned(),
        all => format!("{{{}}}", all.join(", ")),
    }
}

fn name(token: Tok) -> &'static str {
    match token {
        Tok::Equals => "'=='",
        Tok::NotEquals => "'!='",
        Tok::In => "'in'",
        Tok::Less => "'<'",
        Tok::LessEquals => "'<='",
        Tok::GreaterEquals => "'>='",
        Tok::Greater => "'>'",
        Tok::And => "'&&'",
        Tok::Or => "'||'",
        Tok::LBracket => "'['",
        Tok::RBracket => "']'",
        Tok::LBrace => "'{'",
        Tok::RBrace => "'}'",
        Tok::LParen => "'('",
        Tok::RParen => "')'",
        Tok::Dot => "'.'",
        Tok::Comma => "','",
        Tok::Minus => "'-'",
        Tok::Exclam => "'!'",
        Tok::Question => "'?'",
        Tok::Colon => "':'",
        Tok::Plus => "'+'",
        Tok::Star => "'*'",
        Tok::Slash => "'/'",
        Tok::Percent => "'%'",
        Tok::True => "'true'",
        Tok::False => "'false'",
        Tok::Null => "'null'",
        Tok::Whitespace => "WHITESPACE",
        Tok::Comment => "COMMENT",
        Tok::Float => "NUM_FLOAT",
        Tok::Int => "NUM_INT",
        Tok::Uint => "NUM_UINT",
        Tok::String => "STRING",
        Tok::Bytes => "BYTES",
        Tok::Ident => "IDENTIFIER",
        Tok::EscIdent => "ESC_IDENTIFIER",
        Tok::Eof => "<EOF>",
    }
}
