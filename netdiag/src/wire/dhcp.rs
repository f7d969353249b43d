//! DHCP (RFC 2131, options of RFC 2132): the question that every server answers, and what they offer. An offer that nobody takes is
//! forgotten by its server.

use raven_model::diag::wire::{Mac, Offer};
use std::net::Ipv4Addr;

const IP: usize = 14;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const UDP: u8 = 17;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Bytes before the cookie.
const HEAD: usize = 236;
/// Shortest message that every server takes (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// Addresses of a list that are kept.
const LIST: usize = 8;
/// Options of a message that are looked at.
const OPTIONS: usize = 128;

const MASK: u8 = 1;
const ROUTERS: u8 = 3;
const DNS: u8 = 6;
const LEASE: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const END: u8 = 255;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;

/// The question for an address, to be answered to all since we have none.
pub fn discover(mac: Mac, number: u32) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0];
    message.extend(number.to_be_bytes());
    message.extend([0, 0, 0x80, 0]);
    message.resize(28, 0);
    message.extend(mac.0);
    message.resize(HEAD, 0);
    message.extend(COOKIE);
    message.extend([KIND, 1, DISCOVER, WANTED, 5, MASK, ROUTERS, DNS, LEASE, SERVER, END]);
    message.resize(SHORTEST, 0);
    let udp_len = message.len() as u16 + 8;
    let mut ip = vec![0x45, 0];
    ip.extend((udp_len + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, UDP, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    // No checksum of UDP: that is allowed over IPv4 (RFC 768).
    let udp: Vec<u8> = [CLIENT_PORT, SERVER_PORT, udp_len, 0].iter().flat_map(|n| n.to_be_bytes()).collect();
    [&[0xff; 6][..], &mac.0, &[8, 0], &ip, &udp, &message].concat()
}

/// An offer to the question of that number and hardware address, in a frame without a VLAN; `rtt_us` is left 0.
pub fn read(frame: &[u8], mac: Mac, number: u32) -> Option<Offer> {
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let sender = Mac(frame.get(6..12)?.try_into().ok()?);
    let header = usize::from(frame.get(IP)? & 0xf) * 4;
    let is_ours = frame.get(IP)? >> 4 == 4 && header >= 20 && *frame.get(IP + 9)? == UDP;
    let udp = frame.get(IP + header..)?;
    let port = |at: usize| Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?));
    if !is_ours || (port(0)?, port(2)?) != (SERVER_PORT, CLIENT_PORT) {
        return None;
    }
    let message = udp.get(8..usize::from(port(4)?))?;
    let is_answer = message.first() == Some(&2) && message.get(4..8)? == number.to_be_bytes();
    if !is_answer || message.get(28..34)? != mac.0 || message.get(HEAD..HEAD + 4)? != COOKIE {
        return None;
    }
    let options = Options(message.get(HEAD + 4..)?);
    if options.of(KIND)? != [OFFER] {
        return None;
    }
    let v4 = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?));
    let list = |kind| options.of(kind).unwrap_or_default().chunks_exact(4).take(LIST).filter_map(v4).collect();
    Some(Offer {
        server: options.of(SERVER).and_then(v4).or_else(|| v4(frame.get(IP + 12..)?))?,
        mac: sender,
        address: v4(message.get(16..)?)?,
        mask: options.of(MASK).and_then(v4),
        gateways: list(ROUTERS),
        dns: list(DNS),
        lease_s: options.of(LEASE).and_then(v4).map(u32::from),
        relay: v4(message.get(24..)?).filter(|relay| !relay.is_unspecified()),
        rtt_us: 0,
    })
}

/// `{ kind, length, … }`; 0 is a byte of padding (RFC 2132, 2).
struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// The first of a kind.
    fn of(&self, wanted: u8) -> Option<&'a [u8]> {
        let mut rest = self.0;
        let mut looked = 0;
        while looked < OPTIONS {
            let (kind, behind) = rest.split_first()?;
            match *kind {
                0 => rest = behind,
                END => return None,
                kind => {
                    let (len, behind) = behind.split_first()?;
                    let (content, behind) = behind.split_at_checked(usize::from(*len))?;
                    if kind == wanted {
                        return Some(content);
                    }
                    (rest, looked) = (behind, looked + 1);
                }
            }
        }
        None
    }
}

/// RFC 791, 3.1.
fn checksum(header: &[u8]) -> u16 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = header.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use proptest::prelude::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEM: Mac = Mac([2, 0, 0, 0, 0, 9]);

    /// What a server says to a question.
    pub fn answer(question: &[u8], server: Ipv4Addr, mac: Mac, kind: u8) -> Vec<u8> {
        let mut message = question[IP + 28..].to_vec();
        message[0] = 2;
        message[16..20].copy_from_slice(&[192, 0, 2, 77]);
        message.truncate(HEAD + 4);
        message.extend([0, 0, KIND, 1, kind, SERVER, 4]);
        message.extend(server.octets());
        message.extend([
            MASK, 4, 255, 255, 255, 0, ROUTERS, 8, 192, 0, 2, 254, 192, 0, 2, 253, LEASE, 4, 0, 0, 14, 16, END,
        ]);
        let udp_len = message.len() as u16 + 8;
        let mut ip = question[IP..IP + 20].to_vec();
        ip[2..4].copy_from_slice(&(udp_len + 20).to_be_bytes());
        ip[12..16].copy_from_slice(&server.octets());
        let udp: Vec<u8> = [SERVER_PORT, CLIENT_PORT, udp_len, 0].iter().flat_map(|n| n.to_be_bytes()).collect();
        [&[0xff; 6][..], &mac.0, &[8, 0], &ip, &udp, &message].concat()
    }

    #[test]
    fn an_offer_says_who_offers_what_for_how_long() {
        let question = discover(US, 0xdead_beef);
        assert_eq!((question.len(), checksum(&question[IP..IP + 20])), (14 + 28 + 300, 0));
        let offer = read(&answer(&question, [192, 0, 2, 5].into(), THEM, OFFER), US, 0xdead_beef).unwrap();
        assert_eq!((offer.server, offer.address, offer.mac), ([192, 0, 2, 5].into(), [192, 0, 2, 77].into(), THEM));
        assert_eq!((offer.mask, offer.lease_s, offer.relay), (Some([255, 255, 255, 0].into()), Some(3600), None));
        assert_eq!((offer.gateways.len(), offer.dns.len()), (2, 0));
    }

    #[test]
    fn what_is_no_offer_to_us_does_not_count() {
        let question = discover(US, 7);
        let whole = answer(&question, [192, 0, 2, 5].into(), THEM, OFFER);
        assert!(read(&whole, US, 7).is_some());
        assert_eq!(read(&whole, US, 8), None);
        assert_eq!(read(&whole, THEM, 7), None);
        assert_eq!(read(&answer(&question, [192, 0, 2, 5].into(), THEM, 5), US, 7), None);
        assert_eq!(read(&question, US, 7), None);
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in prop::collection::vec(any::<u8>(), 0..400), wanted in any::<u8>()) {
            let _ = read(&bytes, US, 7);
            let _ = Options(&bytes).of(wanted);
        }

        #[test]
        fn no_change_of_an_offer_ends_it(at in 0_usize..310, byte in any::<u8>(), end in 0_usize..=340) {
            let mut frame = answer(&discover(US, 7), [192, 0, 2, 5].into(), THEM, OFFER);
            if let Some(changed) = frame.get_mut(at) {
                *changed = byte;
            }
            frame.truncate(end);
            let _ = read(&frame, US, 7);
        }
    }
}
