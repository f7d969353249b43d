//! What a client asks for.

use super::protocol::Reason;
use raven_model::diag::bw::{BandwidthTest, Direction, Limits, Transport};
use serde::{Deserialize, Deserializer, Serialize};

/// Bytes that are written to TCP at once, iperf3's as well.
pub const TCP_BLOCK: usize = 128 * 1024;
/// Longest block of TCP, bytes, iperf3's as well.
const TCP_MAX: usize = 1 << 20;
/// Shortest datagram: its header; and the longest that UDP over IPv4 has.
const UDP_RANGE: std::ops::RangeInclusive<usize> = 16..=65_507;
/// Bytes of a datagram where nothing says what a packet takes, iperf3's as well.
const UDP_BLOCK: usize = 1460;
/// Bits a second of UDP where nobody says how fast, iperf3's as well.
const UDP_RATE: u64 = 1 << 20;
/// Longest test of iperf3, seconds.
const TIME_MAX: i64 = 86_400;
/// A sender that is to be slow writes about so often a second, so that it is not fast for moments.
const WRITES: u64 = 100;

/// Parameters as they travel. Numbers that C takes from whatever is there may be fractions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Params {
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sctp: Option<bool>,
    #[serde(deserialize_with = "whole")]
    omit: i64,
    #[serde(deserialize_with = "whole")]
    time: i64,
    #[serde(deserialize_with = "whole")]
    num: i64,
    #[serde(deserialize_with = "whole")]
    blockcount: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodelay: Option<bool>,
    #[serde(deserialize_with = "whole")]
    parallel: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bidirectional: Option<bool>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "whole")]
    window: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "whole")]
    len: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "whole")]
    bandwidth: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "whole")]
    pacing_timer: i64,
    #[serde(rename = "TOS", skip_serializing_if = "is_zero", deserialize_with = "whole")]
    tos: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "whole")]
    udp_counters_64bit: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_version: Option<String>,
}

/// A number, cut off at the point and at the ends of what 64 bits hold.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    Ok(number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64))
}

/// A count as it travels.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What both ends do: checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What carries the bytes.
    pub transport: Transport,
    /// Where they go, as the client sees it.
    pub direction: Direction,
    /// Streams in each direction, 1 to [`BandwidthTest::STREAMS`].
    pub streams: usize,
    /// Seconds that are not counted.
    pub omit: u32,
    /// Seconds that are; of a server 0 when the client ends by itself.
    pub seconds: u32,
    /// Bytes that are written at once.
    pub length: usize,
    /// Bits a second of each stream.
    pub rate: Option<u64>,
    /// Datagrams are counted with 64 bits.
    pub wide: bool,
    /// Small segments leave at once.
    pub no_delay: bool,
    /// Bytes of a socket's buffer.
    pub window: Option<usize>,
    /// The byte of DSCP and ECN.
    pub tos: u8,
}

impl Plan {
    /// Of an order that is within its bounds. `mss`: what a packet of the control connection takes, bytes.
    pub fn of(test: &BandwidthTest, mss: Option<usize>) -> Self {
        let rate = match (test.transport, test.rate) {
            (Transport::Udp, None) => Some(UDP_RATE),
            (_, rate) => rate.filter(|rate| *rate > 0),
        };
        let length = match (test.length, test.transport) {
            (Some(length), _) => length as usize,
            (None, Transport::Udp) => mss.unwrap_or(UDP_BLOCK).clamp(512, UDP_BLOCK),
            (None, Transport::Tcp) => {
                rate.map_or(TCP_BLOCK, |rate| ((rate / 8 / WRITES) as usize).clamp(UDP_BLOCK, TCP_BLOCK))
            }
        };
        Self {
            transport: test.transport,
            direction: test.direction,
            streams: test.streams.into(),
            omit: test.omit,
            seconds: test.seconds,
            length,
            rate,
            wide: true,
            no_delay: false,
            window: None,
            tos: 0,
        }
    }

    /// As they travel.
    pub fn params(&self) -> Params {
        let is_udp = self.transport == Transport::Udp;
        Params {
            tcp: (!is_udp).then_some(true),
            udp: is_udp.then_some(true),
            omit: self.omit.into(),
            time: self.seconds.into(),
            parallel: signed(self.streams as u64),
            reverse: (self.direction == Direction::Down).then_some(true),
            bidirectional: (self.direction == Direction::Both).then_some(true),
            len: signed(self.length as u64),
            bandwidth: signed(self.rate.unwrap_or_default()),
            pacing_timer: 1000,
            udp_counters_64bit: i64::from(is_udp && self.wide),
            client_version: Some("3.12".to_owned()),
            ..Params::default()
        }
    }

    /// How many streams carry bytes from the client, and how many to it.
    pub const fn counts(&self) -> (usize, usize) {
        match self.direction {
            Direction::Up => (self.streams, 0),
            Direction::Down => (0, self.streams),
            Direction::Both => (self.streams, self.streams),
        }
    }

    /// Whether a server with these limits does it.
    pub fn within(&self, limits: &Limits) -> Result<(), Reason> {
        let seconds = self.seconds.saturating_add(self.omit);
        // Without a time the client counts bytes: the server's own clock ends it.
        if seconds > limits.seconds {
            return Err(Reason::Longer);
        }
        let total = self.rate.map(|rate| rate.saturating_mul(self.streams as u64));
        match (limits.rate, total) {
            // What asks for no rate is as fast as can be: TCP can be slowed, UDP cannot.
            (Some(_), None) if self.transport == Transport::Udp && self.direction != Direction::Down => {
                Err(Reason::Rate)
            }
            (Some(most), Some(total)) if total > most && self.transport == Transport::Udp => Err(Reason::Rate),
            _ => Ok(()),
        }
    }
}

impl Params {
    /// What they ask for, where it makes sense.
    pub fn plan(&self) -> Result<Plan, Reason> {
        let transport = match (self.tcp, self.udp, self.sctp) {
            (_, Some(true), _) => Transport::Udp,
            (Some(true), ..) => Transport::Tcp,
            (.., Some(true)) => return Err(Reason::Unknown),
            _ => return Err(Reason::Params),
        };
        let direction = match (self.reverse, self.bidirectional) {
            (_, Some(true)) => Direction::Both,
            (Some(true), _) => Direction::Down,
            _ => Direction::Up,
        };
        let bounded = |value: i64, least: i64, most: i64, reason| {
            if (least..=most).contains(&value) { Ok(value) } else { Err(reason) }
        };
        let length = match (transport, self.len) {
            (Transport::Tcp, 0) => TCP_BLOCK,
            (Transport::Udp, 0) => UDP_BLOCK,
            (_, length) => usize::try_from(length).map_err(|_| Reason::Block)?,
        };
        let fits = if transport == Transport::Udp { UDP_RANGE.contains(&length) } else { length <= TCP_MAX };
        if !fits {
            return Err(Reason::Block);
        }
        bounded(self.num, 0, i64::MAX, Reason::Params)?;
        bounded(self.blockcount, 0, i64::MAX, Reason::Params)?;
        Ok(Plan {
            transport,
            direction,
            streams: bounded(self.parallel, 1, BandwidthTest::STREAMS.into(), Reason::Streams)? as usize,
            omit: bounded(self.omit, 0, BandwidthTest::OMIT.into(), Reason::Duration)? as u32,
            seconds: bounded(self.time, 0, TIME_MAX, Reason::Duration)? as u32,
            length,
            rate: Some(bounded(self.bandwidth, 0, i64::MAX, Reason::Rate)? as u64).filter(|rate| *rate > 0),
            wide: self.udp_counters_64bit > 0,
            no_delay: self.nodelay == Some(true),
            window: Some(bounded(self.window, 0, 512 << 20, Reason::Params)? as usize).filter(|window| *window > 0),
            tos: bounded(self.tos, 0, 255, Reason::Params)? as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use raven_model::diag::Way;

    fn test(transport: Transport, direction: Direction) -> BandwidthTest {
        BandwidthTest {
            target: "noc".to_owned(),
            way: Way::default(),
            port: 5201,
            transport,
            direction,
            streams: 3,
            rate: None,
            seconds: 10,
            omit: 2,
            length: None,
        }
    }

    const LIMITS: Limits = Limits { rate: Some(10_000_000), seconds: 12, bytes: None, allowed: Vec::new() };

    #[test]
    fn iperf3s_own_parameters_are_understood() {
        // As iperf3 3.12 sends them for -u -b 100M -P 2 --bidir.
        let json = r#"{"udp":true,"omit":0,"time":2,"num":0,"blockcount":0,"parallel":2,"bidirectional":true,"len":1448,
            "bandwidth":1e8,"pacing_timer":1000,"udp_counters_64bit":1,"client_version":"3.12"}"#;
        let plan = serde_json::from_str::<Params>(json).unwrap().plan().unwrap();
        assert_eq!((plan.transport, plan.direction, plan.counts()), (Transport::Udp, Direction::Both, (2, 2)));
        assert_eq!((plan.rate, plan.length, plan.wide), (Some(100_000_000), 1448, true));
    }

    #[test]
    fn what_is_asked_for_comes_back_as_it_was() {
        for transport in [Transport::Tcp, Transport::Udp] {
            for direction in [Direction::Up, Direction::Down, Direction::Both] {
                let plan = Plan::of(&test(transport, direction), Some(1448));
                let text = serde_json::to_string(&plan.params()).unwrap();
                let mut back = serde_json::from_str::<Params>(&text).unwrap().plan().unwrap();
                back.wide = plan.wide;
                assert_eq!(back, plan, "{text}");
            }
        }
    }

    #[test]
    fn slow_senders_write_little_and_datagrams_fit_into_packets() {
        let slow = BandwidthTest { rate: Some(8_000_000), ..test(Transport::Tcp, Direction::Up) };
        assert_eq!(Plan::of(&slow, None).length, 10_000);
        assert_eq!(Plan::of(&test(Transport::Udp, Direction::Up), Some(1220)).length, 1220);
        assert_eq!(Plan::of(&test(Transport::Udp, Direction::Up), Some(65_483)).length, 1460);
        assert_eq!(Plan::of(&test(Transport::Tcp, Direction::Up), None).length, TCP_BLOCK);
    }

    #[test]
    fn what_goes_beyond_a_bound_is_refused_with_iperf3s_reason() {
        for (json, reason) in [
            ("{}", Reason::Params),
            (r#"{"sctp":true,"parallel":1}"#, Reason::Unknown),
            (r#"{"tcp":true}"#, Reason::Streams),
            (r#"{"tcp":true,"parallel":33}"#, Reason::Streams),
            (r#"{"tcp":true,"parallel":1,"time":-1}"#, Reason::Duration),
            (r#"{"tcp":true,"parallel":1,"omit":61}"#, Reason::Duration),
            (r#"{"tcp":true,"parallel":1,"len":1048577}"#, Reason::Block),
            (r#"{"tcp":true,"parallel":1,"len":-1}"#, Reason::Block),
            (r#"{"udp":true,"parallel":1,"len":15}"#, Reason::Block),
            (r#"{"tcp":true,"parallel":1,"bandwidth":-5}"#, Reason::Rate),
            (r#"{"tcp":true,"parallel":1,"TOS":256}"#, Reason::Params),
            (r#"{"tcp":true,"parallel":1,"window":1e300}"#, Reason::Params),
        ] {
            assert_eq!(serde_json::from_str::<Params>(json).unwrap().plan(), Err(reason), "{json}");
        }
    }

    #[test]
    fn a_server_lets_nobody_be_longer_or_faster_than_its_limits() {
        let udp = |direction, rate| {
            let order = BandwidthTest { rate: Some(rate), ..test(Transport::Udp, direction) };
            Plan::of(&order, None).within(&LIMITS)
        };
        assert_eq!(udp(Direction::Up, 3_000_000), Ok(()));
        assert_eq!(udp(Direction::Up, 4_000_000), Err(Reason::Rate));
        // As fast as can be: the server sends no faster than it may, but cannot slow down who sends to it.
        assert_eq!((udp(Direction::Up, 0), udp(Direction::Down, 0)), (Err(Reason::Rate), Ok(())));
        let tcp = Plan::of(&test(Transport::Tcp, Direction::Up), None);
        assert_eq!(tcp.within(&LIMITS), Ok(()));
        assert_eq!(Plan { seconds: 11, ..tcp }.within(&LIMITS), Err(Reason::Longer));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_is_within_bounds_or_refused(
            numbers in prop::array::uniform7(prop_oneof![any::<i64>(), -2_i64..200]),
            (udp, reverse, both) in any::<(bool, bool, bool)>(),
        ) {
            let [omit, time, parallel, len, bandwidth, window, tos] = numbers;
            let params = Params {
                tcp: Some(!udp), udp: Some(udp), reverse: Some(reverse), bidirectional: Some(both),
                omit, time, parallel, len, bandwidth, window, tos, ..Params::default()
            };
            if let Ok(plan) = params.plan() {
                prop_assert!((1..=32).contains(&plan.streams) && plan.length > 0 && plan.length <= TCP_MAX);
                prop_assert!(plan.omit <= 60 && plan.seconds <= 86_400);
            }
        }

        #[test]
        fn text_of_any_kind_ends_nothing(text in "\\PC{0,200}") {
            let _ = serde_json::from_str::<Params>(&text).map(|params| params.plan());
        }
    }
}
