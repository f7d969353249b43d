//! The first bytes of a packet, as a switch samples them: Ethernet, IPv4, TCP or UDP.

use crate::load::bytes::Put as _;
use crate::load::flow::Flow;

/// Bytes of a packet that are sampled.
pub const SAMPLED: usize = 64;
const TCP: u8 = 6;

/// Appends [`SAMPLED`] bytes of a packet whose frame is `frame` bytes long.
pub fn write(out: &mut Vec<u8>, flow: &Flow, frame: u32) {
    let start = out.len();
    let (source, destination) = flow.ends.v4();
    out.extend_from_slice(&[0x00, 0x1b, 0x21, 0x0a, 0x00, 0x01]); // to the router
    out.extend_from_slice(&[0xa4, 0x83, 0xe7, 0x20, source[2], source[3]]);
    out.u16(0x0800);
    let ip = out.len();
    out.u8(0x45);
    out.u8(flow.tos);
    out.u16((frame - 18) as u16); // without Ethernet's header and checksum
    out.u16(flow.n as u16);
    out.u16(0x4000); // not to be fragmented
    out.u8(63);
    out.u8(flow.proto);
    out.u16(0);
    out.extend_from_slice(&source);
    out.extend_from_slice(&destination);
    let sum = checksum(&out[ip..ip + 20]);
    out[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    out.u16(flow.ends.port);
    out.u16(flow.port);
    if flow.proto == TCP {
        out.u32(flow.n.wrapping_mul(1460) as u32);
        out.u32(flow.bytes as u32);
        out.u8(0x50);
        out.u8(0x10 | flow.tcp_flags & 0x08);
        out.u32(0xfaf0_0000 | u32::from(flow.input)); // window, and a checksum that nobody can check
        out.u16(0);
    } else {
        out.u16((frame - 38) as u16);
        out.u16(flow.output);
    }
    let mut fill = flow.n ^ flow.bytes << 17;
    while out.len() < start + SAMPLED {
        out.u64(fill);
        fill = fill.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(23);
    }
    out.truncate(start + SAMPLED);
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
