//! The receive memory under test: real sockets on loopback, a store that keeps what it takes, collectors that die.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hostile;
mod inspect;
mod kills;
mod order;
mod poison;
mod protocol;
mod small;
mod support;
