//! x
crate::tests!();
