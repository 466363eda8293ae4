//! The table of all strategies, one constant per kind's file.

use crate::Strategy;

pub(crate) static STRATEGIES: &[&Strategy] = &[
    &crate::core::configmap::STRATEGY,
    &crate::core::namespace::STRATEGY,
    &crate::core::pod::STRATEGY,
    &crate::core::secret::STRATEGY,
    &crate::core::serviceaccount::STRATEGY,
];
