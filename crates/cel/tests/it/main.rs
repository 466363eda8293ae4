//! The language against recorded answers of upstream's, and against nonsense.

mod nonsense;
mod recorded;
