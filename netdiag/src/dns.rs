//! Questions to name servers, as a conversation that owns no socket: which answer is one, and what is counted.

pub mod message;
pub mod run;

use message::{answers, head, query};
use raven_model::diag::services::{DnsServer, RecordType};
use std::net::IpAddr;
use std::time::Instant;

/// Longest `/etc/resolv.conf` that is read.
const CONF_MAX: usize = 64 * 1024;

/// Questions to one server, all of them the same.
#[derive(Debug)]
pub struct Talk<'a> {
    name: &'a str,
    record: RecordType,
    asked: Vec<(u16, Instant)>,
    /// What is known.
    pub told: DnsServer,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer.
    Answer,
    /// The answer, cut: it is to be asked for by TCP.
    Truncated,
    /// Counted, and nothing else.
    Ignored,
}

impl<'a> Talk<'a> {
    /// About a name of [`message::question_name`].
    pub const fn new(name: &'a str, record: RecordType, told: DnsServer) -> Self {
        Self { name, record, asked: Vec::new(), told }
    }

    /// A question of this number, which leaves now.
    pub fn ask(&mut self, id: u16, now: Instant) -> Vec<u8> {
        self.asked.push((id, now));
        self.told.sent += 1;
        query(id, self.name, self.record)
    }

    /// Something came from somewhere else.
    pub const fn stranger(&mut self) {
        let count = &mut self.told.ignored.wrong_address;
        *count = count.saturating_add(1);
    }

    /// Something came from the server.
    pub fn heard(&mut self, bytes: &[u8], at: Instant) -> Verdict {
        let ignored = &mut self.told.ignored;
        let count = |count: &mut u32| {
            *count = count.saturating_add(1);
            Verdict::Ignored
        };
        let Ok((header, question, begin)) = head(bytes) else { return count(&mut ignored.malformed) };
        if !header.is_answer() {
            return count(&mut ignored.malformed);
        }
        let Some((_, asked)) = self.asked.iter().find(|(id, _)| *id == header.id) else {
            return count(&mut ignored.wrong_id);
        };
        // A server that could not read the question need not repeat it.
        let fits = question.map_or(header.rcode() != 0, |question| question.is(self.name, self.record));
        if !fits {
            return count(&mut ignored.wrong_question);
        }
        if header.is_truncated() && !self.told.truncated {
            self.told.truncated = true;
            return Verdict::Truncated;
        }
        let Ok((records, more)) = answers(bytes, header, begin) else { return count(&mut ignored.malformed) };
        self.told.time_us = Some(crate::rtt::micros(at.saturating_duration_since(*asked)));
        self.told.rcode = Some(header.rcode_name());
        self.told.flags = header.flag_names();
        self.told.bytes = bytes.len() as u32;
        (self.told.answers, self.told.more) = (records, more);
        Verdict::Answer
    }
}

/// Servers of a resolv.conf(5), as many as libc asks.
pub fn servers(conf: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        let (literal, _) = address.split_once('%').unwrap_or((address, ""));
        literal.parse::<IpAddr>().ok().map(|_| address.to_owned())
    };
    conf.lines().filter_map(line).take(3).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn answered(query: &[u8], flags: u16) -> Vec<u8> {
        let mut bytes = query.to_vec();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let now = Instant::now();
        let mut talk = Talk::new("noc.example", RecordType::A, DnsServer::default());
        let (first, second) = (talk.ask(1, now), talk.ask(2, now + Duration::from_secs(1)));
        let other = query(1, "noc.invalid", RecordType::A);
        let aaaa = query(2, "noc.example", RecordType::Aaaa);
        let unasked = query(3, "noc.example", RecordType::A);
        for lie in
            [answered(&other, 0x8180), answered(&aaaa, 0x8180), answered(&unasked, 0x8180), first.clone(), vec![0; 11]]
        {
            assert_eq!(talk.heard(&lie, now), Verdict::Ignored);
        }
        // Another operation than a query is no answer; no question is one only with an error.
        assert_eq!(talk.heard(&answered(&first, 0xa180), now), Verdict::Ignored);
        let mut none = answered(&first, 0x8180);
        none[4..6].copy_from_slice(&[0, 0]);
        assert_eq!(talk.heard(&none[..12], now), Verdict::Ignored);
        talk.stranger();
        let ignored = talk.told.ignored;
        assert_eq!((ignored.wrong_question, ignored.wrong_id, ignored.wrong_address, ignored.malformed), (3, 1, 1, 3));
        assert_eq!(ignored.sum(), 8);
        // A late answer to the first question is an answer, with its own time.
        let late = now + Duration::from_millis(1500);
        assert_eq!(talk.heard(&answered(&first, 0x8180), late), Verdict::Answer);
        assert_eq!(
            (talk.told.time_us, talk.told.sent, talk.told.rcode.as_deref()),
            (Some(1_500_000), 2, Some("NOERROR"))
        );
        assert_eq!(talk.heard(&answered(&second, 0x8183), late), Verdict::Answer);
        assert_eq!((talk.told.time_us, talk.told.rcode.as_deref()), (Some(500_000), Some("NXDOMAIN")));
        none[3] = 0x81;
        assert_eq!(talk.heard(&none[..12], now), Verdict::Answer);
    }

    #[test]
    fn a_cut_answer_is_asked_for_once_more_and_then_taken() {
        let now = Instant::now();
        let mut talk = Talk::new("noc.example", RecordType::A, DnsServer::default());
        let cut = answered(&talk.ask(1, now), 0x8380);
        assert_eq!((talk.heard(&cut, now), talk.heard(&cut, now)), (Verdict::Truncated, Verdict::Answer));
        assert_eq!(talk.told.flags, ["tc", "rd", "ra"]);
    }

    #[test]
    fn servers_of_this_box_are_read() {
        let conf = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.53\nnameserver fe80::1%eth0 \nnameserver x\n nameserver ::1\nnameserver 9.9.9.9";
        assert_eq!(servers(conf), ["192.0.2.53", "fe80::1%eth0", "::1"]);
        assert!(servers("").is_empty());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged(id: u16, bytes in proptest::collection::vec(any::<u8>(), 0..200), keep in 0_usize..29) {
            let now = Instant::now();
            let mut talk = Talk::new("noc.example", RecordType::A, DnsServer::default());
            let mut message = answered(&talk.ask(id, now), 0x8180);
            message.truncate(keep);
            message.extend(&bytes);
            let verdict = talk.heard(&message, now);
            prop_assert_eq!(talk.told.ignored.sum(), u32::from(verdict == Verdict::Ignored));
        }
    }
}
