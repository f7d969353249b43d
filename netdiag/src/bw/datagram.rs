//! The head of iperf3's datagrams, and what a receiver learns of them.

use std::time::Duration;

/// Longest head: seconds and microseconds of 32 bits, the number of 64, big endian.
pub const HEAD: usize = 16;

/// When a datagram left, by its sender's clock, and its number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Since anything.
    pub at: Duration,
    /// From 1.
    pub number: u64,
}

impl Head {
    /// At the beginning of `datagram`, which has room.
    pub fn write(self, datagram: &mut [u8], wide: bool) {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&(self.at.as_secs() as u32).to_be_bytes());
        head[4..8].copy_from_slice(&self.at.subsec_micros().to_be_bytes());
        let length = if wide {
            head[8..].copy_from_slice(&self.number.to_be_bytes());
            HEAD
        } else {
            head[8..12].copy_from_slice(&(self.number as u32).to_be_bytes());
            12
        };
        if let Some(place) = datagram.get_mut(..length) {
            place.copy_from_slice(&head[..length]);
        }
    }

    /// Of a datagram; nothing where it is too short.
    pub fn read(datagram: &[u8], wide: bool) -> Option<Self> {
        let word = |at: usize| datagram.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let at = Duration::from_secs(word(0)?.into()) + Duration::from_micros(word(4)?.into());
        let number = if wide { u64::from(word(8)?) << 32 | u64::from(word(12)?) } else { word(8)?.into() };
        Some(Self { at, number })
    }
}

/// What a receiver counts, as iperf3 does: a number that is left out is lost until it comes after all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Arrivals {
    /// Highest number.
    pub highest: u64,
    /// Numbers that are missing.
    pub lost: u64,
    /// Came after a higher one.
    pub out_of_order: u64,
    /// Interarrival jitter, seconds (RFC 3550, 6.4.1).
    pub jitter: f64,
    transit: Option<f64>,
}

impl Arrivals {
    /// Farthest that a number may jump: a sender that says more says nonsense, and one datagram must not make
    /// billions lost.
    const JUMP: u64 = 1 << 28;

    /// One came, `at` by this end's clock. False: its number makes no sense, and it is not counted.
    pub fn came(&mut self, head: Head, at: Duration) -> bool {
        if head.number == 0 || head.number.saturating_sub(self.highest) > Self::JUMP {
            return false;
        }
        if head.number > self.highest {
            self.lost += head.number - self.highest - 1;
            self.highest = head.number;
        } else {
            self.out_of_order += 1;
            self.lost = self.lost.saturating_sub(1);
        }
        let transit = at.as_secs_f64() - head.at.as_secs_f64();
        let difference = (transit - self.transit.unwrap_or(transit)).abs();
        self.transit = Some(transit);
        self.jitter += (difference - self.jitter) / 16.0;
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn came(numbers: &[u64]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for number in numbers {
            let at = Duration::from_millis(*number);
            assert!(arrivals.came(Head { at, number: *number }, at + Duration::from_secs(7)));
        }
        arrivals
    }

    #[test]
    fn a_head_is_big_endian_with_either_number() {
        let head = Head { at: Duration::from_micros(3_000_005), number: 0x0102_0304_0506 };
        let mut bytes = [0xee; 18];
        head.write(&mut bytes, true);
        assert_eq!(bytes, *b"\0\0\0\x03\0\0\0\x05\0\0\x01\x02\x03\x04\x05\x06\xee\xee");
        assert_eq!(Head::read(&bytes, true), Some(head));
        head.write(&mut bytes, false);
        assert_eq!(Head::read(&bytes, false), Some(Head { number: 0x0304_0506, ..head }));
        assert_eq!((Head::read(&bytes[..15], true), Head::read(&bytes[..11], false)), (None, None));
        head.write(&mut bytes[..3], true);
    }

    #[test]
    fn what_is_missing_is_lost_until_it_comes_after_all() {
        let arrivals = came(&[1, 2, 5, 6]);
        assert_eq!((arrivals.highest, arrivals.lost, arrivals.out_of_order), (6, 2, 0));
        let arrivals = came(&[1, 2, 5, 3, 6]);
        assert_eq!((arrivals.highest, arrivals.lost, arrivals.out_of_order), (6, 1, 1));
        // The clocks of both ends stand apart, and nothing trembles.
        assert!(arrivals.jitter < 1e-9, "{arrivals:?}");
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        let mut arrivals = Arrivals::default();
        let ms = Duration::from_millis;
        arrivals.came(Head { at: ms(0), number: 1 }, ms(10));
        arrivals.came(Head { at: ms(20), number: 2 }, ms(46));
        assert!((arrivals.jitter - 0.001).abs() < 1e-9, "{arrivals:?}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_not_counted() {
        let mut arrivals = came(&[1, 2]);
        let before = arrivals;
        for number in [0, u64::MAX, 3 + (1 << 28)] {
            assert!(!arrivals.came(Head { at: Duration::ZERO, number }, Duration::ZERO));
        }
        assert_eq!(arrivals, before);
    }

    proptest! {
        #[test]
        fn any_order_of_any_numbers_keeps_the_sums(
            numbers in prop::collection::vec(prop_oneof![1_u64..50, any::<u64>()], 0..100),
        ) {
            let mut arrivals = Arrivals::default();
            for number in numbers {
                arrivals.came(Head { at: Duration::from_secs(number & 7), number }, Duration::from_secs(1));
                prop_assert!(arrivals.lost <= arrivals.highest && arrivals.jitter.is_finite());
            }
        }

        #[test]
        fn a_head_comes_back_as_it_was(secs in any::<u32>(), micros in 0_u32..1_000_000, number in any::<u64>()) {
            let head = Head { at: Duration::new(secs.into(), micros * 1000), number };
            let mut bytes = [0; HEAD];
            head.write(&mut bytes, true);
            prop_assert_eq!(Head::read(&bytes, true), Some(head));
        }
    }
}
