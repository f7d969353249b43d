//! Scenarios at the whole box: the image that is flashed or burnt, started in a virtual machine, seen and worked by its
//! serial line and its screen, as by a person. Start with [`scenarios`]; [`machine`] is the box, [`serial`] its line,
//! [`monitor`] what QEMU is asked for; [`variants`] makes systems that are not well out of the built one.
//!
//! QEMU emulates (TCG) unless `RAVEN_QEMU_ACCEL` says something else: where these run, KVM accepts kernels and hangs.
//! So time-outs are generous, and no scenario asserts how long something takes.

mod machine;
mod monitor;
mod rescue;
mod scenarios;
mod serial;
mod updates;
mod variants;

pub use scenarios::{Outcome, run};
pub use serial::PATIENCE;
