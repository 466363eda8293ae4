//! Services to packet rules.
