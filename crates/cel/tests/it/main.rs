//! The language against recorded answers of upstream's, and against nonsense.

mod libraries;
mod nonsense;
mod recorded;
