//! Semantic versions.

/// A version as <https://semver.org> has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub numbers: [u64; 3],
    pub pre: Vec<String>,
    pub build: Vec<String>,
}
