//! IPFIX over TCP (RFC 7011, 10.4): messages follow each other, each with its length in its header.
//!
//! Where no header stands, the bytes are kept in pieces, as records that the inbox will show, and the next place that
//! looks like a message and its first set is where it goes on. A sender that is no exporter at all (HTTP, TLS) is
//! thus kept as it came, and costs one search of its bytes.

use raven_jail::receive::Framing;

const VERSION: [u8; 2] = [0, 10];
const HEADER: usize = 16;
/// Header of a message and of its first set: what is looked at to find a message again.
const FOUND: usize = HEADER + 4;
/// Bytes without a message that are collected before they are kept.
const PIECE: usize = 2048;

/// Framing of IPFIX over TCP.
#[derive(Debug, Clone, Copy)]
pub struct IpfixFraming;

/// One step at the start of the bytes.
enum Step {
    /// So many bytes are a message, or a piece of what is none.
    Take { len: usize, lost: bool },
    /// More must arrive first.
    Wait,
}

impl Framing for IpfixFraming {
    /// `mode` is 1 inside bytes that are no message.
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Step::Take { len, lost } = step(*mode != 0, rest, end) else { break };
            let Some(raw) = rest.get(..len).filter(|raw| emit(raw, lost)) else { break };
            *mode = lost.into();
            at += raw.len();
        }
        at
    }
}

fn step(lost: bool, bytes: &[u8], end: bool) -> Step {
    if !lost {
        match length(bytes) {
            Some(len) if len <= bytes.len() => return Step::Take { len, lost: false },
            // The stream ended inside the message: what came of it is kept.
            Some(_) if end => return Step::Take { len: bytes.len(), lost: false },
            Some(_) => return Step::Wait,
            None if bytes.len() < 4 && VERSION.starts_with(&bytes[..bytes.len().min(2)]) && !end => return Step::Wait,
            None => {}
        }
    }
    search(lost, bytes, end)
}

/// Length of the message whose header begins here.
fn length(bytes: &[u8]) -> Option<usize> {
    let [v0, v1, high, low] = *bytes.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    ([v0, v1] == VERSION && len >= HEADER).then_some(len)
}

/// From bytes that are no message to where one begins.
fn search(lost: bool, bytes: &[u8], end: bool) -> Step {
    // Where the search has already been is not a message; where it has not been it may begin at once.
    let first = usize::from(!lost);
    let found = memchr::memmem::find_iter(bytes, &VERSION).find(|&at| at >= first && is_message(&bytes[at..]));
    match found {
        // The next step takes it as a message.
        Some(0) => length(bytes).map_or(Step::Wait, |len| {
            if len <= bytes.len() || end { Step::Take { len: len.min(bytes.len()), lost: false } } else { Step::Wait }
        }),
        Some(at) => Step::Take { len: at.min(PIECE), lost: at > PIECE },
        None if end => Step::Take { len: bytes.len().min(PIECE), lost: bytes.len() > PIECE },
        // What is behind may be the beginning of a message.
        None if bytes.len() >= PIECE + FOUND => Step::Take { len: PIECE, lost: true },
        None => Step::Wait,
    }
}

/// True when a message and its first set begin here, as far as that can be seen.
fn is_message(bytes: &[u8]) -> bool {
    let Some((len, set)) = length(bytes).zip(bytes.get(HEADER..FOUND)) else { return false };
    let id = u16::from_be_bytes([set[0], set[1]]);
    let set = usize::from(u16::from_be_bytes([set[2], set[3]]));
    (matches!(id, 2 | 3) || id >= 256) && set >= 4 && HEADER + set <= len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(number: u8, body: usize) -> Vec<u8> {
        let len = (HEADER + 4 + body) as u16;
        let set = [1, 0, ((body + 4) >> 8) as u8, (body + 4) as u8];
        [&[0, 10], &len.to_be_bytes()[..], &[0x66, 0, 0, 0, 0, 0, 0, number, 0, 0, 0, 1], &set, &vec![number; body]]
            .concat()
    }

    /// Feeds `reads` one by one; gives the messages and whether they go on.
    fn take_in(reads: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut mode, mut buffer, mut out) = (0, Vec::new(), Vec::new());
        for (n, read) in reads.iter().enumerate() {
            buffer.extend_from_slice(read);
            let used = IpfixFraming.take(&mut mode, &buffer, n + 1 == reads.len(), &mut |raw, piece| {
                out.push((raw.to_vec(), piece));
                true
            });
            buffer.drain(..used);
        }
        assert!(buffer.is_empty(), "left over: {buffer:?}");
        out
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let messages = [message(1, 40), message(2, 0), message(3, 300)];
        let stream = messages.concat();
        for at in 0..=stream.len() {
            let (before, behind) = stream.split_at(at);
            let got = take_in(&[before, behind]);
            assert_eq!(got, messages.clone().map(|raw| (raw, false)), "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(take_in(&bytes).len(), 3);
    }

    #[test]
    fn a_message_cut_off_by_the_end_is_kept() {
        let whole = message(1, 40);
        assert_eq!(take_in(&[&whole[..30]]), [(whole[..30].to_vec(), false)]);
        assert_eq!(take_in(&[&[0]]), [(vec![0], false)]);
    }

    #[test]
    fn garbage_is_kept_and_the_next_message_found() {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 10, 0, 3, 9, 9], &[0, 10, 0, 15], &[0, 9], &[0; 9]] {
            let stream = [&message(1, 40)[..], garbage, &message(2, 40), &message(3, 0)].concat();
            for at in 0..=stream.len() {
                let (before, behind) = stream.split_at(at);
                let got = take_in(&[before, behind]);
                let raws: Vec<&[u8]> = got.iter().map(|(raw, _)| &raw[..]).collect();
                assert_eq!(raws, [&message(1, 40)[..], garbage, &message(2, 40), &message(3, 0)], "cut at {at}");
            }
        }
    }

    #[test]
    fn a_stream_of_something_else_is_kept_in_pieces() {
        let text = b"POST /events HTTP/1.1 ".repeat(400);
        let got = take_in(&[&text]);
        assert_eq!(got.iter().map(|(raw, _)| raw.len()).sum::<usize>(), text.len());
        assert!(got.iter().all(|(raw, _)| raw.len() <= PIECE) && got.len() < 8);
        assert!(got.iter().rev().skip(1).all(|(_, goes_on)| *goes_on) && !got[got.len() - 1].1);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(stream in prop::collection::vec(prop_oneof![Just(0), Just(10), Just(1), Just(16), any::<u8>()], 1..6000), step in 1..700_usize) {
            let reads: Vec<&[u8]> = stream.chunks(step).collect();
            let kept: Vec<u8> = take_in(&reads).into_iter().flat_map(|(raw, _)| raw).collect();
            prop_assert_eq!(kept, stream);
        }
    }
}
