//! Templates, sampling options and records of NetFlow 9 (RFC 3954) and IPFIX (RFC 7011, elements of IANA's registry).

use super::Version;
use super::venue::Flow;
use crate::load::bytes::{Put as _, set_length};

/// Template of flows over IPv4.
pub const IPV4: u16 = 256;
/// Template of flows over IPv6.
pub const IPV6: u16 = 257;
/// Template of what is said about sampling.
const SAMPLING: u16 = 512;
/// The sampler that every record names.
const SAMPLER: u8 = 1;

/// When records lie in time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Uptime of the device, ms.
    pub uptime: u32,
    /// Unix time, ms.
    pub millis: u64,
}

/// Element and its length. Bytes in 8, packets in 4, interfaces in 2 (reduced-size encoding): 24 records fit 1400 bytes.
const COMMON: [(u16, u16); 10] = [
    (1, 8),  // octetDeltaCount
    (2, 4),  // packetDeltaCount
    (4, 1),  // protocolIdentifier
    (5, 1),  // ipClassOfService
    (6, 1),  // tcpControlBits
    (7, 2),  // sourceTransportPort
    (10, 2), // ingressInterface
    (11, 2), // destinationTransportPort
    (14, 2), // egressInterface
    (48, 1), // samplerId
];
/// flowId: the number of the record, in full.
const FLOW_ID: (u16, u16) = (148, 8);
const V4_ADDRESSES: [(u16, u16); 2] = [(8, 4), (12, 4)];
const V6_ADDRESSES: [(u16, u16); 2] = [(27, 16), (28, 16)];
/// flowEndSysUpTime, flowStartSysUpTime.
const V9_TIMES: [(u16, u16); 2] = [(21, 4), (22, 4)];
/// flowStartMilliseconds, flowEndMilliseconds.
const IPFIX_TIMES: [(u16, u16); 2] = [(152, 8), (153, 8)];

/// Elements of a template, in order.
fn elements(version: Version, template: u16) -> impl Iterator<Item = (u16, u16)> {
    let addresses = if template == IPV6 { V6_ADDRESSES } else { V4_ADDRESSES };
    let times = if version == Version::Ipfix { IPFIX_TIMES } else { V9_TIMES };
    addresses.into_iter().chain(COMMON).chain(times).chain([FLOW_ID])
}

/// Bytes of a record.
pub fn record_len(version: Version, template: u16) -> usize {
    elements(version, template).map(|(_, len)| usize::from(len)).sum()
}

/// Appends the set of all flow templates: 1 set.
pub fn write_templates(out: &mut Vec<u8>, version: Version) {
    let start = out.len();
    out.u16(if version == Version::Ipfix { 2 } else { 0 });
    out.u16(0);
    for template in [IPV4, IPV6] {
        out.u16(template);
        out.u16(elements(version, template).count() as u16);
        for (id, len) in elements(version, template) {
            out.u16(id);
            out.u16(len);
        }
    }
    set_length(out, start);
}

/// Appends the options template of the sampler, and its record.
pub fn write_sampling(out: &mut Vec<u8>, version: Version, interval: u32) {
    let start = out.len();
    if version == Version::Ipfix {
        // Options template set 3: four elements, one of them the scope.
        for word in [3, 0, SAMPLING, 4, 1, 302, 8, 304, 2, 305, 4, 306, 4] {
            out.u16(word);
        }
    } else {
        // Options flowset 1: 4 bytes of scopes (1: system), 12 bytes of options (48 to 50: sampler, mode, interval).
        for word in [1, 0, SAMPLING, 4, 12, 1, 4, 48, 1, 49, 1, 50, 4] {
            out.u16(word);
        }
    }
    out.u16(0); // fills up to four bytes
    set_length(out, start);
    let start = out.len();
    out.u16(SAMPLING);
    out.u16(0);
    if version == Version::Ipfix {
        out.u64(u64::from(SAMPLER)); // selectorId
        out.u16(1); // selectorAlgorithm: systematic, count-based
        out.u32(1); // samplingPacketInterval: look at one
        out.u32(interval - 1); // samplingPacketSpace: and pass over these
        out.u16(0);
    } else {
        out.u32(0); // system
        out.u8(SAMPLER);
        out.u8(1); // deterministic
        out.u32(interval);
        out.u16(0);
    }
    set_length(out, start);
}

/// Appends a record.
pub fn record(out: &mut Vec<u8>, version: Version, template: u16, flow: &Flow, clock: Clock) {
    if template == IPV6 {
        let (source, destination) = flow.ends.v6();
        out.extend_from_slice(&source);
        out.extend_from_slice(&destination);
    } else {
        let (source, destination) = flow.ends.v4();
        out.extend_from_slice(&source);
        out.extend_from_slice(&destination);
    }
    out.u64(flow.bytes);
    out.u32(flow.packets);
    out.u8(flow.proto);
    out.u8(flow.tos);
    out.u8(flow.tcp_flags);
    out.u16(flow.ends.port);
    out.u16(flow.input);
    out.u16(flow.port);
    out.u16(flow.output);
    out.u8(SAMPLER);
    if version == Version::Ipfix {
        out.u64(clock.millis - u64::from(flow.began));
        out.u64(clock.millis - u64::from(flow.ended));
    } else {
        out.u32(clock.uptime.saturating_sub(flow.ended));
        out.u32(clock.uptime.saturating_sub(flow.began));
    }
    out.u64(flow.n);
}
