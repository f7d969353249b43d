//! The `host` stream: what the appliance says of itself. One JSON object per record, on one line: a [`HostSample`] at
//! each interval, and a [`HostEvent`] when something changed between two of them. The collector writes these types and
//! the decoder reads them back.
//!
//! Counters are those of the kernel: since boot, and not reset by Raven. Field names carry their unit: `_bytes`, `_s`
//! (seconds), `_celsius`; shares are 0 to 1. What this machine does not have is left out.

mod health;
mod sample;

pub use health::{Complaint, DiskHealth, MissingFirmware, StartedBy, WORN};
pub use sample::{
    Conntrack, Cpu, Disk, Fan, FileSystem, HostSample, Interface, Memory, Power, Pressure, RavenProcess, Space, Stall,
    Temperature, Tunnel, Udp,
};

use crate::record::RAW_MAX;
use crate::units::UnixNanos;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A record of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HostRecord {
    /// Something changed. Goes first: a sample has no `event`.
    Event(HostEvent),
    /// How things stood.
    Sample(Box<HostSample>),
}

impl HostRecord {
    /// Reads a record back.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(raw: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Which {
            event: Option<IgnoredAny>,
        }
        fn parse<T: DeserializeOwned>(raw: &[u8], what: &str) -> Result<T, String> {
            serde_json::from_slice(raw).map_err(|error| format!("not {what} of the host: {error}"))
        }
        if raw.len() > RAW_MAX {
            return Err(format!("{} bytes, more than the {RAW_MAX} of a record", raw.len()));
        }
        let which: Which = parse(raw, "a record")?;
        match which.event {
            Some(_) => parse(raw, "an event").map(Self::Event),
            None => parse(raw, "a sample").map(|sample| Self::Sample(Box::new(sample))),
        }
    }
}

/// Something that changed: between two samples, or as the roles `net` and `vpn` tell of it ([`crate::news`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostEvent {
    /// When it happened, where a role tells of it; else when it was noticed, at the sample after.
    pub t: UnixNanos,
    /// What.
    #[serde(flatten)]
    pub what: Change,
}

/// What can change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Change {
    /// An interface has a carrier that had none.
    CarrierUp {
        /// Its name.
        interface: String,
    },
    /// An interface lost its carrier, was set down, or is gone.
    CarrierDown {
        /// Its name.
        interface: String,
    },
    /// The carrier went and came back between two samples.
    CarrierFlapped {
        /// Its name.
        interface: String,
        /// Times that it went or came.
        changes: u64,
    },
    /// A file system takes no more writes.
    FilesystemReadOnly {
        /// Where it is mounted.
        mount: String,
    },
    /// It takes writes again.
    FilesystemWritable {
        /// Where it is mounted.
        mount: String,
    },
    /// A sensor has reached its own critical mark.
    TemperatureCritical {
        /// Which sensor.
        sensor: String,
        /// Now.
        celsius: f64,
        /// Its mark.
        critical_celsius: f64,
    },
    /// It is below the mark again.
    TemperatureNormal {
        /// Which sensor.
        sensor: String,
        /// Now.
        celsius: f64,
    },
    /// The kernel killed processes for want of memory.
    OomKill {
        /// So many.
        count: u64,
    },
    /// A process of Raven was started anew.
    ProcessRestarted {
        /// As in `ps`: `raven:store`.
        process: String,
        /// Now.
        pid: u32,
        /// Before.
        previous_pid: u32,
    },
    /// The wall clock was set.
    ClockStepped {
        /// By so much; negative = back.
        step_s: f64,
    },
    /// An interface is there that was not.
    InterfaceAdded {
        /// Its name.
        interface: String,
    },
    /// An interface is gone.
    InterfaceGone {
        /// Its name.
        interface: String,
    },
    /// What an interface is in, in a word.
    LinkState {
        /// Its name.
        interface: String,
        /// As [`crate::report::LinkState::name`].
        state: String,
        /// Why; empty when all is well.
        cause: String,
    },
    /// An interface has an address that it had not.
    AddressAdded {
        /// Its name.
        interface: String,
        /// With the length of its prefix.
        address: String,
    },
    /// An interface lost an address.
    AddressGone {
        /// Its name.
        interface: String,
        /// With the length of its prefix.
        address: String,
    },
    /// A default route leads there now.
    GatewayAdded {
        /// Over which interface.
        interface: String,
        /// Its address.
        gateway: String,
    },
    /// No default route leads there any more.
    GatewayGone {
        /// Over which interface.
        interface: String,
        /// Its address.
        gateway: String,
    },
    /// Somebody else is at the other end of a cable (LLDP).
    NeighbourChanged {
        /// The interface.
        interface: String,
        /// Who, in words of its own; nothing when nobody says so any more.
        neighbour: Option<String>,
    },
    /// One of `vpn.networks` is led elsewhere.
    NetworkLed {
        /// Which.
        network: String,
        /// The tunnel's device; nothing: it cannot be reached until there is one.
        into: Option<String>,
    },
    /// A tunnel is in another state, or for another cause.
    TunnelState {
        /// Which.
        tunnel: String,
        /// `up`, `degraded`, `half-open`, `connecting`, `down` or `off`.
        state: String,
        /// Why.
        cause: String,
    },
    /// An operator's command came over SSH, or has ended.
    OperatorCommand {
        /// Tells this command from others.
        session: u64,
        /// As which role.
        role: String,
        /// What stands behind the key in the configuration: a name, mostly.
        who: Option<String>,
        /// Fingerprint of the key.
        key: Option<String>,
        /// From where.
        from: Option<String>,
        /// What was said; `console` without a command.
        words: String,
        /// Its exit code, 141 where the connection was cut off; none: it begins.
        code: Option<u8>,
        /// How long it took, milliseconds.
        ms: Option<u64>,
    },
    /// More happened at once than a role could tell of: so many events have no record.
    EventsMissed {
        /// `net`, `vpn` or `ravend`.
        role: String,
        /// How many.
        count: u64,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(record: &HostRecord) -> String {
        serde_json::to_string(record).unwrap()
    }

    #[test]
    fn an_event_is_flat_and_reads_back() {
        let what = Change::CarrierDown { interface: "eth0".to_owned() };
        let event = HostRecord::Event(HostEvent { t: UnixNanos(7), what });
        assert_eq!(text(&event), r#"{"t":7,"event":"carrier_down","interface":"eth0"}"#);
        assert_eq!(HostRecord::read(text(&event).as_bytes()), Ok(event.clone()));
        assert_eq!(serde_json::from_str::<HostRecord>(&text(&event)).unwrap(), event);
    }

    #[test]
    fn a_sample_reads_back_with_and_without_its_optional_parts() {
        let disks = vec![Disk { name: "sda".to_owned(), busy: Some(0.5), ..Disk::default() }];
        let reachable = FileSystem { mount: "/".to_owned(), space: Some(Space::default()), ..FileSystem::default() };
        let filesystems = vec![reachable, FileSystem { mount: "/x".to_owned(), ..FileSystem::default() }];
        let sample = HostSample { t: UnixNanos(u64::MAX), disks, filesystems, ..HostSample::default() };
        for sample in [sample, HostSample::default()] {
            let record = HostRecord::Sample(Box::new(sample));
            assert_eq!(HostRecord::read(text(&record).as_bytes()), Ok(record));
        }
    }

    #[test]
    fn what_is_neither_is_named() {
        assert!(HostRecord::read(b"").unwrap_err().starts_with("not a record of the host"));
        assert!(HostRecord::read(br#"{"t":1}"#).unwrap_err().contains("monotonic_ns"));
        assert!(HostRecord::read(br#"{"t":1,"event":"party"}"#).unwrap_err().starts_with("not an event"));
        assert!(HostRecord::read(&"[".repeat(RAW_MAX).into_bytes()).is_err());
        assert!(HostRecord::read(&vec![b' '; RAW_MAX + 1]).unwrap_err().contains("65537 bytes"));
    }
}
