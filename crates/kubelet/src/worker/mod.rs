//! One worker per pod: it alone decides about the pod, from its first sight to its last trace.

pub mod lifecycle;
