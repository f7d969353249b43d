//! Echo requests and their answers (RFC 792; RFC 4443, 4.1 and 4.2) as datagram sockets of ICMP take and give them (icmp(7)): the
//! kernel fills in checksum and identifier.

use crate::diag::Family;

/// Bytes of type, code, checksum, identifier and sequence.
pub const HEADER: usize = 8;

/// Type of a request.
const fn request_type(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 8,
        Family::Ipv6 => 128,
    }
}

/// Type of an answer.
const fn reply_type(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 129,
    }
}

/// What stands before the data of a request.
pub const fn request(family: Family, sequence: u16) -> [u8; HEADER] {
    let [high, low] = sequence.to_be_bytes();
    [request_type(family), 0, 0, 0, 0, 0, high, low]
}

/// Sequence and data of an answer; nothing where it is none.
pub fn reply(family: Family, packet: &[u8]) -> Option<(u16, &[u8])> {
    let (header, data) = packet.split_first_chunk::<HEADER>()?;
    (header[0] == reply_type(family) && header[1] == 0).then(|| (sequence_of(*header), data))
}

/// Sequence and data of any message with a header like that of echo, such as a request that an error gives back; nothing of a
/// header that is cut.
pub fn parts(packet: &[u8]) -> Option<(u16, &[u8])> {
    packet.split_first_chunk::<HEADER>().map(|(header, data)| (sequence_of(*header), data))
}

const fn sequence_of(header: [u8; HEADER]) -> u16 {
    u16::from_be_bytes([header[6], header[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_kernel_wants_them_and_only_answers_are_answers() {
        assert_eq!(request(Family::Ipv4, 0x1234), [8, 0, 0, 0, 0, 0, 0x12, 0x34]);
        assert_eq!(request(Family::Ipv6, 1), [128, 0, 0, 0, 0, 0, 0, 1]);
        let answer = [0, 0, 9, 9, 7, 7, 0, 5, b'x'];
        assert_eq!(reply(Family::Ipv4, &answer), Some((5, &b"x"[..])));
        assert_eq!(reply(Family::Ipv6, &answer), None);
        assert_eq!(reply(Family::Ipv4, &request(Family::Ipv4, 5)), None);
        assert_eq!(reply(Family::Ipv4, &[0, 1, 0, 0, 0, 0, 0, 5]), None);
        for n in 0..HEADER {
            assert_eq!((reply(Family::Ipv4, &answer[..n]), parts(&answer[..n])), (None, None));
        }
        assert_eq!(parts(&request(Family::Ipv6, 7)), Some((7, &[][..])));
    }
}
