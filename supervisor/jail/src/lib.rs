//! What keeps a worker in its place, and the system calls that Raven makes by hand.
//!
//! The only crate of the supervisor that holds `unsafe`: users, capabilities, namespaces, seccomp, Landlock, passing of
//! descriptors, sockets, shared memory. It decides nothing: what a role may do is in the process table of
//! `raven-model`.
//!
//! Start with [`spawn`] (what `ravend` does between fork and exec), then [`sandbox`] (what the worker then does to
//! itself). [`channel`] is how they talk.

#![allow(unsafe_code)] // the home of it; each block says why it holds
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod caps;
pub mod channel;
pub mod device_mapper;
pub mod memory;
pub mod packet;
pub mod receive;
pub mod sandbox;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod tun;

mod error;

pub use error::JailError;
