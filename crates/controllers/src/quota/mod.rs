//! ResourceQuota: counts what a namespace uses. The server charges what is created at once; this gives back what has
//! gone, and tells the server what is allowed.

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
