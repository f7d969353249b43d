//! Scenarios at the whole box: the image that is flashed or burnt, started in a virtual machine, seen and worked by its
//! serial line and its screen, as by a person. Start with [`scenarios`]; [`machine`] is the box, [`serial`] its line,
//! [`monitor`] what QEMU is asked for;
//! [`network`] what it is plugged into, with [`noc`]; [`variants`] makes systems that are not well out of the built one.
//!
//! `RAVEN_HW_SERIAL=/dev/ttyUSB0` takes a real box instead: what a person has to do there is said. `RAVEN_HW_DISK` names the
//! disk in it that may be overwritten (`sda`), `RAVEN_HW_LINK` the interface of this machine that its cable is in.
//!
//! QEMU emulates (TCG) unless `RAVEN_QEMU_ACCEL` says something else: where these run, KVM accepts kernels and hangs.
//! So time-outs are generous, and no scenario asserts how long something takes.

mod cuts;
mod figures;
mod health;
mod judge;
mod machine;
mod monitor;
mod network;
mod noc;
mod pki;
mod qemu;
mod relp;
mod rescue;
mod reset;
mod scan;
mod scenarios;
mod serial;
mod ssh;
mod stick;
mod tunnel;
mod updates;
mod variants;
mod venue;
mod volatile;
mod wg;

pub use scenarios::{Outcome, run};
pub use serial::PATIENCE;
