//! The controllers of the controller manager, one module each.
