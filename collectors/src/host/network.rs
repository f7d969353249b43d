//! `/proc/net/dev`, `/proc/net/snmp`, `/proc/net/snmp6`.

use super::text::{name, nth};
use raven_model::host::{Interface, Udp};

/// Counters per interface; what `/sys` knows of each is added later.
pub fn interfaces(dev: &str) -> Vec<Interface> {
    let read = |line: &str| {
        let (interface, counts) = line.split_once(':')?;
        let words: Vec<&str> = counts.split_whitespace().collect();
        let n = |at: usize| nth(&words, at);
        (words.len() >= 16).then(|| Interface {
            name: name(interface),
            rx_bytes: n(0),
            rx_packets: n(1),
            rx_errors: n(2),
            rx_dropped: n(3),
            tx_bytes: n(8),
            tx_packets: n(9),
            tx_errors: n(10),
            tx_dropped: n(11),
            ..Interface::default()
        })
    };
    dev.lines().skip(2).filter_map(read).collect()
}

/// UDP over IPv4: a line of names, and a line of numbers under them.
pub fn udp(snmp: &str) -> Udp {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let pairs: Vec<(&str, &str)> = names.split_whitespace().zip(numbers.split_whitespace()).collect();
    counters(|key| pairs.iter().find(|(name, _)| *name == key).map(|(_, number)| *number))
}

/// UDP over IPv6: `Udp6InDatagrams 7`.
pub fn udp6<'a>(snmp6: &'a str) -> Udp {
    counters(|key| {
        let behind = |line: &'a str| line.strip_prefix("Udp6")?.strip_prefix(key)?.strip_prefix([' ', '\t']);
        snmp6.lines().find_map(behind)
    })
}

fn counters<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Udp {
    let n = |key| text(key).map_or(0, super::text::count);
    Udp {
        in_datagrams: n("InDatagrams"),
        no_ports: n("NoPorts"),
        in_errors: n("InErrors"),
        out_datagrams: n("OutDatagrams"),
        rcvbuf_errors: n("RcvbufErrors"),
        sndbuf_errors: n("SndbufErrors"),
        csum_errors: n("InCsumErrors"),
        mem_errors: n("MemErrors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEV: &str =
        "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 3027265191921 63025328    0    0    0     0          0         0 3027265191921 63025328    0    0    0     0       0          0
  eth0:218451459   11989    1    2    3     0          0         0   863813    7832    4    5    0     0       0          0
enp0s31f6: 1 2
";
    const SNMP: &str = "Tcp: RtoAlgorithm RtoMin
Tcp: 1 200
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 150099 212 39350079 62181297 39350079 0 0 0 9
UdpLite: InDatagrams NoPorts
UdpLite: 5 6
";

    #[test]
    fn interfaces_are_read_with_and_without_a_space_behind_the_colon() {
        let interfaces = interfaces(DEV);
        assert_eq!(interfaces.len(), 2, "a line cut short is left out");
        assert_eq!((interfaces[0].name.as_str(), interfaces[0].rx_bytes), ("lo", 3_027_265_191_921));
        let eth0 = &interfaces[1];
        assert_eq!((eth0.rx_bytes, eth0.rx_errors, eth0.rx_dropped), (218_451_459, 1, 2));
        assert_eq!((eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped), (863_813, 7832, 4, 5));
    }

    #[test]
    fn udp_is_found_by_the_names_of_its_counters() {
        let udp = udp(SNMP);
        assert_eq!((udp.in_datagrams, udp.rcvbuf_errors, udp.mem_errors), (150_099, 39_350_079, 9));
        assert_eq!(super::udp("Udp: InDatagrams NoPorts\nUdp: 7\n"), Udp { in_datagrams: 7, ..Udp::default() });
        let udp6 = udp6("Udp6InDatagrams                 \t2\nUdp6InErrorsOfAnotherKind 3\nUdp6InErrors 4\n");
        assert_eq!((udp6.in_datagrams, udp6.in_errors), (2, 4), "not the first that begins so");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(Udp: |Udp6|InErrors|eth0:|[0-9 \n]|\\PC){0,80}") {
            prop_assert!(interfaces(&text).len() <= text.lines().count());
            let _ = (udp(&text), udp6(&text));
        }
    }
}
