//! Laws that hold for all inputs.

mod apply;
mod codecs;
mod fuzz;
mod generate;
mod patches;
mod small;
