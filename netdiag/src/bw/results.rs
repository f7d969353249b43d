//! What both ends say at the end, and what of it is told.

use super::meter::{Lane, Meter, Tally, percent, sum_of_datagrams};
use super::params::{signed, whole};
use raven_model::diag::bw::{Cpu, Datagrams, Direction, Transfer, Transport, Volume};
use serde::{Deserialize, Serialize};

/// Results as they travel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    cpu_util_total: f64,
    cpu_util_user: f64,
    cpu_util_system: f64,
    #[serde(deserialize_with = "whole")]
    sender_has_retransmits: i64,
    streams: Vec<Report>,
}

/// A stream as one end counted it. `errors` and `packets` hold what was omitted as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Report {
    #[serde(deserialize_with = "whole")]
    id: i64,
    #[serde(deserialize_with = "whole")]
    bytes: i64,
    #[serde(deserialize_with = "whole")]
    retransmits: i64,
    jitter: f64,
    #[serde(deserialize_with = "whole")]
    errors: i64,
    omitted_errors: Option<f64>,
    #[serde(deserialize_with = "whole")]
    packets: i64,
    omitted_packets: Option<f64>,
    start_time: f64,
    end_time: f64,
}

impl Results {
    /// This end's.
    pub fn of(meter: &Meter, cpu: Cpu) -> Self {
        let (seconds, counted) = meter.counted();
        let report = |(lane, (base, tally)): (&Lane, &(Tally, Tally))| Report {
            id: lane.id.into(),
            bytes: signed(tally.bytes),
            retransmits: tally.retransmits.map_or(-1, signed),
            jitter: tally.jitter,
            errors: signed(base.lost + tally.lost),
            omitted_errors: Some(base.lost as f64),
            packets: signed(base.packets + tally.packets),
            omitted_packets: Some(base.packets as f64),
            start_time: 0.0,
            end_time: seconds,
        };
        let sends = counted.iter().any(|(_, tally)| tally.retransmits.is_some());
        let is_receiver = meter.lanes().iter().all(|lane| lane.direction == Direction::Down);
        Self {
            cpu_util_total: cpu.total(),
            cpu_util_user: cpu.user,
            cpu_util_system: cpu.system,
            sender_has_retransmits: if is_receiver { -1 } else { sends.into() },
            streams: meter.lanes().iter().zip(&counted).map(report).collect(),
        }
    }

    /// What the other end says it took.
    pub fn cpu(&self) -> Cpu {
        let [user, system] = [self.cpu_util_user, self.cpu_util_system].map(|percent| sane(percent).min(100_000.0));
        Cpu { user, system }
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn sane(number: f64) -> f64 {
    if number.is_finite() { number.max(0.0) } else { 0.0 }
}

impl Report {
    fn volume(&self, seconds: f64) -> Volume {
        let theirs = sane(self.end_time - self.start_time);
        let is_likely = (0.001..1e6).contains(&theirs);
        Volume::new(unsigned(self.bytes), if is_likely { theirs } else { seconds })
    }

    /// Of a receiver. iperf3 before 3.13 does not say what was omitted: then what its sender knows stands in.
    fn datagrams(&self, omitted: u64) -> Datagrams {
        let omitted = self.omitted_packets.map_or(omitted, |packets| sane(packets) as u64);
        let sent = unsigned(self.packets).saturating_sub(omitted);
        let lost = unsigned(self.errors).saturating_sub(self.omitted_errors.map_or(0, |errors| sane(errors) as u64));
        Datagrams {
            sent,
            lost: lost.min(sent),
            loss: percent(lost.min(sent), sent),
            out_of_order: None,
            jitter_us: sane(self.jitter) * 1e6,
        }
    }
}

/// What both ends counted, stream by stream and of each direction; of a stream that the other end does not name, nothing is
/// known of that end.
pub fn join(meter: &Meter, theirs: &Results, transport: Transport) -> (Vec<Transfer>, Vec<Transfer>) {
    let (seconds, counted) = meter.counted();
    let is_udp = transport == Transport::Udp;
    let nothing = Report::default();
    let transfer = |(lane, (base, own)): (&Lane, &(Tally, Tally))| {
        let report = theirs.streams.iter().find(|report| report.id == i64::from(lane.id)).unwrap_or(&nothing);
        let (here, there) = (Volume::new(own.bytes, seconds), report.volume(seconds));
        let is_up = lane.direction == Direction::Up;
        let said = (report.retransmits >= 0 && theirs.sender_has_retransmits > 0).then(|| unsigned(report.retransmits));
        Transfer {
            stream: Some(lane.id),
            ends: None,
            direction: lane.direction,
            sent: if is_up { here } else { there },
            received: if is_up { there } else { here },
            retransmits: if is_udp { None } else { own.retransmits.filter(|_| is_up).or(said.filter(|_| !is_up)) },
            udp: is_udp.then(|| if is_up { report.datagrams(base.packets) } else { own.datagrams() }),
        }
    };
    let streams: Vec<Transfer> = meter.lanes().iter().zip(&counted).map(transfer).collect();
    let sums = [Direction::Up, Direction::Down].into_iter().filter_map(|way| sum(&streams, way)).collect();
    (streams, sums)
}

fn sum(streams: &[Transfer], direction: Direction) -> Option<Transfer> {
    let all: Vec<&Transfer> = streams.iter().filter(|transfer| transfer.direction == direction).collect();
    let volume = |of: fn(&Transfer) -> Volume| {
        let bytes = all.iter().fold(0_u64, |sum, transfer| sum.saturating_add(of(transfer).bytes));
        Volume::new(bytes, all.iter().map(|transfer| of(transfer).seconds).fold(0.0, f64::max))
    };
    (!all.is_empty()).then(|| Transfer {
        stream: None,
        ends: None,
        direction,
        sent: volume(|transfer| transfer.sent),
        received: volume(|transfer| transfer.received),
        retransmits: all.iter().try_fold(0_u64, |sum, transfer| Some(sum.saturating_add(transfer.retransmits?))),
        udp: sum_of_datagrams(all.iter().filter_map(|transfer| transfer.udp)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn meter(transport: Transport, (up, down): (usize, usize)) -> Meter {
        let mut meter = Meter::new(Lane::all((up, down), true), transport, true);
        let tally = |bytes, packets, lost| Tally { bytes, packets, lost, retransmits: Some(lost), ..Tally::default() };
        meter.interval(Duration::from_secs(1), vec![tally(100, 10, 1); up + down]);
        meter.count_from_here();
        meter.interval(Duration::from_secs(3), vec![tally(2100, 210, 5); up + down]);
        meter
    }

    #[test]
    fn results_of_iperf3_are_joined_with_ours() {
        // As iperf3 3.12 says it.
        let json = r#"{"cpu_util_total":12.5,"cpu_util_user":2.5,"cpu_util_system":10,"sender_has_retransmits":-1,
            "congestion_used":"cubic","streams":[{"id":1,"bytes":1900,"retransmits":-1,"jitter":2.5e-05,"errors":21,
            "packets":210,"start_time":0,"end_time":2.0}]}"#;
        let theirs: Results = serde_json::from_str(json).unwrap();
        let (streams, sums) = join(&meter(Transport::Udp, (1, 0)), &theirs, Transport::Udp);
        assert_eq!((streams[0].sent.bytes, streams[0].received.bytes), (2000, 1900));
        let udp = sums[0].udp.unwrap();
        assert_eq!((udp.sent, udp.lost, udp.out_of_order), (200, 21, None));
        assert!((udp.jitter_us - 25.0).abs() < 1e-9 && (theirs.cpu().total() - 12.5).abs() < 1e-9);
        let (_, sums) = join(&meter(Transport::Tcp, (1, 0)), &theirs, Transport::Tcp);
        assert_eq!((sums[0].retransmits, sums[0].udp), (Some(4), None));
        assert!((sums[0].sent.bits_per_second - 8000.0).abs() < 1e-9, "{sums:?}");
    }

    #[test]
    fn ours_say_what_was_omitted_and_read_back() {
        let ours = Results::of(&meter(Transport::Udp, (1, 1)), Cpu { user: 1.0, system: 2.0 });
        let text = serde_json::to_string(&ours).unwrap();
        assert!(text.contains(r#""omitted_packets":10.0"#) && text.contains(r#""packets":210"#), "{text}");
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), ours);
    }

    #[test]
    fn many_streams_stay_within_what_is_read() {
        let ours = Results::of(&meter(Transport::Udp, (128, 128)), Cpu::default());
        assert!(serde_json::to_vec(&ours).unwrap().len() < super::super::protocol::JSON_MAX);
    }

    proptest! {
        #[test]
        fn whatever_the_other_end_says_ends_nothing(
            ids in prop::collection::vec(0_i64..6, 0..4), numbers in any::<[i64; 4]>(), times in any::<[f64; 4]>(),
        ) {
            let report = |id: &i64| Report {
                id: *id, bytes: numbers[0], retransmits: numbers[1], errors: numbers[2], packets: numbers[3],
                jitter: times[0], start_time: times[1], end_time: times[2], omitted_packets: Some(times[3]),
                omitted_errors: None,
            };
            let theirs = Results { streams: ids.iter().map(report).collect(), sender_has_retransmits: 1, ..Results::default() };
            for transport in [Transport::Tcp, Transport::Udp] {
                let (streams, sums) = join(&meter(transport, (2, 2)), &theirs, transport);
                prop_assert_eq!((streams.len(), sums.len()), (4, 2));
                for transfer in streams.iter().chain(&sums) {
                    let loss = transfer.udp.map_or(0.0, |udp| udp.loss);
                    prop_assert!(transfer.received.bits_per_second.is_finite() && (0.0..=100.0).contains(&loss));
                }
            }
        }
    }
}
