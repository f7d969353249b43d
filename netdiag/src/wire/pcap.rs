//! A capture file, as tcpdump and Wireshark read it: the classic format, with nanoseconds.
//!
//! ```text
//! file    magic=a1b23c4d version=2.4 zone=0 accuracy=0 most-bytes link-type       little-endian
//! packet  seconds nanoseconds held length | frame
//! ```
//!
//! The VLAN tag that the kernel took out of a frame is put back where it was.

use super::decode::Framing;

/// With nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Bytes of the head of a packet.
pub const HEAD: usize = 16;
/// Where a tag stands: behind both hardware addresses.
const TAG_AT: usize = 12;
/// Bytes of a tag.
pub const TAG: u32 = 4;

/// The beginning of a file whose frames have at most so many bytes.
pub fn file_header(framing: Framing, most: u32) -> Vec<u8> {
    let link_type = match framing {
        Framing::Ethernet => 1,
        Framing::Ip => 101,
    };
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend([2_u16, 4].iter().flat_map(|n| n.to_le_bytes()));
    out.extend([0, 0, most, link_type].iter().flat_map(|n: &u32| n.to_le_bytes()));
    out
}

/// A frame of which `bytes` are held, `len` bytes long on the wire; true when it is cut.
pub fn packet(out: &mut Vec<u8>, at_ns: u64, bytes: &[u8], len: u32, vlan: Option<(u16, u16)>) -> bool {
    let vlan = vlan.filter(|_| bytes.len() >= TAG_AT);
    let tag = if vlan.is_some() { TAG } else { 0 };
    let held = bytes.len() as u32 + tag;
    let len = len.saturating_add(tag).max(held);
    let head = [(at_ns / 1_000_000_000) as u32, (at_ns % 1_000_000_000) as u32, held, len];
    out.extend(head.iter().flat_map(|n| n.to_le_bytes()));
    let (addresses, rest) = bytes.split_at(if vlan.is_some() { TAG_AT } else { 0 });
    out.extend_from_slice(addresses);
    if let Some((protocol, content)) = vlan {
        out.extend(protocol.to_be_bytes());
        out.extend(content.to_be_bytes());
    }
    out.extend_from_slice(rest);
    held < len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_back_and_counted() {
        let mut out = Vec::new();
        let frame: Vec<u8> = (0..20).collect();
        assert!(packet(&mut out, 3_000_000_007, &frame, 100, Some((0x88a8, 0x2064))));
        assert_eq!(out[..16], [3, 0, 0, 0, 7, 0, 0, 0, 24, 0, 0, 0, 104, 0, 0, 0]);
        assert_eq!(out[16..], [&frame[..12], &[0x88, 0xa8, 0x20, 0x64], &frame[12..]].concat());
        // One too short for a tag has none.
        out.clear();
        assert!(!packet(&mut out, 0, &frame[..11], 11, Some((0x8100, 1))));
        assert_eq!(out.len(), HEAD + 11);
    }
}
