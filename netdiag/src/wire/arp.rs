//! ARP over Ethernet (RFC 826), and its probes (RFC 5227): questions that nobody's table changes by, since nobody is said to have sent them.

use raven_model::diag::wire::Mac;
use std::net::Ipv4Addr;

/// Shortest frame of Ethernet, bytes, without its checksum.
const SHORTEST: usize = 60;
const TYPE: [u8; 2] = [8, 6];
/// Ethernet, IPv4, lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What somebody says by ARP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// It answers a question.
    pub is_reply: bool,
    /// Who says it.
    pub mac: Mac,
    /// Whose address is whose: the sender's. 0.0.0.0 in probes.
    pub sender: Ipv4Addr,
    /// Who is asked for.
    pub target: Ipv4Addr,
}

/// The question whether anybody has this address (RFC 5227, 2.1.1).
pub fn probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame =
        [&[0xff; 6][..], &mac.0, &TYPE, &KIND, &[0, 1], &mac.0, &[0; 4], &[0; 6], &address.octets()].concat();
    frame.resize(SHORTEST, 0);
    frame
}

/// Reads a frame without a VLAN.
pub fn read(frame: &[u8]) -> Option<Arp> {
    let (head, said) = frame.split_at_checked(14)?;
    if head.get(12..)? != TYPE || said.get(..6)? != KIND {
        return None;
    }
    let is_reply = match said.get(6..8)? {
        [0, 1] => false,
        [0, 2] => true,
        _ => return None,
    };
    let v4 = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(said.get(at..at + 4)?).ok()?));
    let mac = Mac(said.get(8..14)?.try_into().ok()?);
    Some(Arp { is_reply, mac, sender: v4(14)?, target: v4(24)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_probe_names_no_sender() {
        let frame = probe(US, [192, 0, 2, 1].into());
        assert_eq!((frame.len(), &frame[..6]), (60, &[0xff; 6][..]));
        let wanted = Arp { is_reply: false, mac: US, sender: Ipv4Addr::UNSPECIFIED, target: [192, 0, 2, 1].into() };
        assert_eq!(read(&frame), Some(wanted));
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_change_of_a_probe_ends_it(at in 0_usize..60, byte in any::<u8>(), end in 0_usize..=60) {
            let mut frame = probe(US, [192, 0, 2, 1].into());
            frame[at] = byte;
            let _ = read(&frame[..end]);
        }
    }
}
