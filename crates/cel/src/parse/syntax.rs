//! Says what is wrong with a text that is not of the grammar.

use super::lexer::Token;
use crate::issues::{Report, Source};

pub(super) fn explain(source: &Source, tokens: &[Token], errors: Vec<(u32, String)>, report: &mut Report) {
    for (at, message) in errors {
        report.at(source, at, format!("Syntax error: {message}"));
    }
    let at = tokens.last().map_or(0, |t| t.start);
    report.at(source, at, "Syntax error".into());
}
