//! Strategies against recorded answers of the real API server.

mod golden;
