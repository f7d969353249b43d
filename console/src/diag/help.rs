//! Examples that stand below the help of each test.

/// `raven ping --help`.
pub const PING: &str = "\
Examples:
  raven ping 192.0.2.1                    whether the gateway answers
  raven ping -c 100 -i 200ms 192.0.2.1    how many are lost
  raven ping -T noc 10.8.0.1              through a tunnel
  raven ping -s 1472 --df noc.example     whether long packets get there whole";

/// `raven trace --help`.
pub const TRACE: &str = "\
Examples:
  raven trace noc.example                 the routers on the way
  raven trace --icmp -I eth0 192.0.2.9    by echo requests, out of one interface
  raven trace -f 16 noc.example           all ways, where routers choose among several";

/// `raven mtu --help`.
pub const MTU: &str = "\
Examples:
  raven mtu noc.example                   the longest packet, and the MSS that fits
  raven mtu -T noc 10.8.0.1               inside a tunnel";

/// `raven bw --help`.
pub const BW: &str = "\
Examples:
  raven bw noc.example                    TCP from this box for 10 s
  raven bw -R -t 30s noc.example          to this box
  raven bw -u -b 50M noc.example          UDP at 50 Mbit/s: what is lost
  raven bw --server --for 30m             this box as the other end of iperf3";

/// `raven dns --help`.
pub const DNS: &str = "\
Examples:
  raven dns noc.example                   what each name server of this box says
  raven dns noc.example -s 192.0.2.53     what that one says
  raven dns 192.0.2.7 -t ptr              the name of an address";

/// `raven tcp --help`.
pub const TCP: &str = "\
Examples:
  raven tcp noc.example:2514              whether somebody listens, and who says no
  raven tcp [2001:db8::1]:443             an IPv6 address stands in brackets";

/// `raven tls --help`.
pub const TLS: &str = "\
Examples:
  raven tls noc.example:6514              times, version, certificates
  raven tls 192.0.2.9:443 -n noc.example  by address, with the name that it must have";

/// `raven http --help`.
pub const HTTP: &str = "\
Examples:
  raven http https://noc.example/health   phase by phase
  raven http -m 5s http://192.0.2.1/      given up after 5 s";

/// `raven ntp --help`.
pub const NTP: &str = "\
Examples:
  raven ntp 192.0.2.1                     how far this box's clock is off
  raven ntp -c 8 ntp1.example ntp2.example";

/// All of them.
pub const ALL: [&str; 9] = [PING, TRACE, MTU, BW, DNS, TCP, TLS, HTTP, NTP];
