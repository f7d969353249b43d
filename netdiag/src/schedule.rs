//! Tests that are made by themselves: when ([`plan`]), what they come to in numbers ([`figures`]), from when on that is told as
//! an alert ([`judge`]), and what is kept of it ([`history`]). All of it is pure but the history, which is a file, and
//! [`quiet`], which has the engines of this crate make a test for nobody. The role that joins them is in `raven-worker`.

pub mod figures;
pub mod history;
pub mod judge;
pub mod plan;
pub mod quiet;
