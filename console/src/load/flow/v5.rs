//! NetFlow 5: a header of 24 bytes and up to 30 records of 48, all fields in fixed places.

use super::venue::Flow;
use crate::load::bytes::Put as _;

/// Bytes of a header.
pub const HEADER: usize = 24;
/// Bytes of a record.
pub const RECORD: usize = 48;
/// Most records in a datagram.
pub const RECORDS_MAX: u16 = 30;

/// What a header says.
pub struct Header {
    /// Records that follow.
    pub count: u16,
    /// Uptime of the device, ms.
    pub uptime: u32,
    /// Unix time, seconds.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanos: u32,
    /// Flows of this engine before this datagram.
    pub sequence: u32,
    /// The sender.
    pub engine: u8,
    /// One packet in so many was looked at.
    pub sampling: u16,
}

impl Header {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.u16(5);
        out.u16(self.count);
        out.u32(self.uptime);
        out.u32(self.seconds);
        out.u32(self.nanos);
        out.u32(self.sequence);
        out.u8(0); // engine type
        out.u8(self.engine);
        let mode = if self.sampling > 1 { 0x4000 } else { 0 }; // 1: every nth packet
        out.u16(mode | if self.sampling > 1 { self.sampling } else { 0 });
    }
}

/// Appends a record.
pub fn record(out: &mut Vec<u8>, flow: &Flow, uptime: u32) {
    let (source, destination) = flow.ends.v4();
    out.extend_from_slice(&source);
    out.extend_from_slice(&destination);
    out.extend_from_slice(&[10, 20, 0, 1]); // next hop
    out.u16(flow.input);
    out.u16(flow.output);
    out.u32(flow.packets);
    out.u32(flow.bytes as u32);
    out.u32(uptime.saturating_sub(flow.began));
    out.u32(uptime.saturating_sub(flow.ended));
    out.u16(flow.ends.port);
    out.u16(flow.port);
    out.u8(0);
    out.u8(flow.tcp_flags);
    out.u8(flow.proto);
    out.u8(flow.tos);
    out.u16(64_512 + (flow.input & 1)); // source AS
    out.u16(u16::from(destination[0]) << 6); // destination AS
    out.u8(16);
    out.u8(24);
    out.u16(0);
}
