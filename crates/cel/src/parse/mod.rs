//! From text to syntax tree.

pub(crate) mod ast;
mod lexer;
mod macros;
mod parser;
mod syntax;
mod unescape;

pub(crate) use macros::Features;
pub(crate) use parser::parse;
