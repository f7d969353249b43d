//! What the records of samples hold: sFlow's own structures (enterprise 0), field by field.
//!
//! One flat table for flow records, one for counters. The fields of a format that is not here are shown as bytes.

use Kind::{Addr, AsPath, Bytes, F32, List, Mac, Text, U32, U64, Uuid, V4, V6};

/// How a field is written (XDR, RFC 4506).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum Kind {
    /// unsigned int.
    U32,
    /// unsigned hyper.
    U64,
    /// float.
    F32,
    /// string.
    Text,
    /// opaque.
    Bytes,
    /// Six bytes, filled up to eight.
    Mac,
    /// Sixteen bytes.
    Uuid,
    /// Four bytes.
    V4,
    /// Sixteen bytes.
    V6,
    /// Type and address.
    Addr,
    /// unsigned int<>.
    List,
    /// Segments, each a type and AS numbers (RFC 4271, section 4.3).
    AsPath,
}

/// A structure: its name and its fields in order.
#[derive(Debug)]
pub(in crate::flow) struct Layout {
    pub(in crate::flow) format: u32,
    pub(in crate::flow) name: &'static str,
    pub(in crate::flow) fields: &'static [(&'static str, Kind)],
}

/// The structure of a flow record.
pub(in crate::flow) fn of_flow(format: u32) -> Option<&'static Layout> {
    find(FLOW, format)
}

/// The structure of a counter record.
pub(in crate::flow) fn of_counters(format: u32) -> Option<&'static Layout> {
    find(COUNTERS, format)
}

fn find(layouts: &'static [Layout], format: u32) -> Option<&'static Layout> {
    layouts.binary_search_by_key(&format, |layout| layout.format).ok().and_then(|at| layouts.get(at))
}

/// Flow records.
#[rustfmt::skip] // one structure a line
const FLOW: &[Layout] = &[
    Layout { format: 1, name: "sampled_header", fields: &[("protocol", U32), ("frame_length", U32), ("stripped", U32), ("header", Bytes)] },
    Layout { format: 2, name: "sampled_ethernet", fields: &[("length", U32), ("src_mac", Mac), ("dst_mac", Mac), ("ether_type", U32)] },
    Layout { format: 3, name: "sampled_ipv4", fields: &[("length", U32), ("protocol", U32), ("src_addr", V4), ("dst_addr", V4), ("src_port", U32), ("dst_port", U32), ("tcp_flags", U32), ("tos", U32)] },
    Layout { format: 4, name: "sampled_ipv6", fields: &[("length", U32), ("protocol", U32), ("src_addr", V6), ("dst_addr", V6), ("src_port", U32), ("dst_port", U32), ("tcp_flags", U32), ("priority", U32)] },
    Layout { format: 1001, name: "extended_switch", fields: &[("src_vlan", U32), ("src_priority", U32), ("dst_vlan", U32), ("dst_priority", U32)] },
    Layout { format: 1002, name: "extended_router", fields: &[("next_hop", Addr), ("src_mask", U32), ("dst_mask", U32)] },
    Layout { format: 1003, name: "extended_gateway", fields: &[("next_hop", Addr), ("as", U32), ("src_as", U32), ("src_peer_as", U32), ("dst_as_path", AsPath), ("communities", List), ("local_pref", U32)] },
    Layout { format: 1004, name: "extended_user", fields: &[("src_charset", U32), ("src_user", Text), ("dst_charset", U32), ("dst_user", Text)] },
    Layout { format: 1005, name: "extended_url", fields: &[("direction", U32), ("url", Text), ("host", Text)] },
    Layout { format: 1006, name: "extended_mpls", fields: &[("next_hop", Addr), ("in_stack", List), ("out_stack", List)] },
    Layout { format: 1007, name: "extended_nat", fields: &[("src_addr", Addr), ("dst_addr", Addr)] },
    Layout { format: 1008, name: "extended_mpls_tunnel", fields: &[("tunnel_name", Text), ("tunnel_id", U32), ("tunnel_cos", U32)] },
    Layout { format: 1009, name: "extended_mpls_vc", fields: &[("vc_instance_name", Text), ("vll_vc_id", U32), ("vc_label_cos", U32)] },
    Layout { format: 1010, name: "extended_mpls_ftn", fields: &[("ftn_descr", Text), ("ftn_mask", U32)] },
    Layout { format: 1011, name: "extended_mpls_ldp_fec", fields: &[("fec_addr_prefix_len", U32)] },
    Layout { format: 1012, name: "extended_vlantunnel", fields: &[("stack", List)] },
    Layout { format: 1013, name: "extended_80211_payload", fields: &[("cipher_suite", U32), ("data", Bytes)] },
    Layout { format: 1020, name: "extended_nat_port", fields: &[("src_port", U32), ("dst_port", U32)] },
    Layout { format: 1021, name: "extended_l2_tunnel_egress", fields: &[("length", U32), ("src_mac", Mac), ("dst_mac", Mac), ("ether_type", U32)] },
    Layout { format: 1022, name: "extended_l2_tunnel_ingress", fields: &[("length", U32), ("src_mac", Mac), ("dst_mac", Mac), ("ether_type", U32)] },
    Layout { format: 1023, name: "extended_ipv4_tunnel_egress", fields: &[("length", U32), ("protocol", U32), ("src_addr", V4), ("dst_addr", V4), ("src_port", U32), ("dst_port", U32), ("tcp_flags", U32), ("tos", U32)] },
    Layout { format: 1024, name: "extended_ipv4_tunnel_ingress", fields: &[("length", U32), ("protocol", U32), ("src_addr", V4), ("dst_addr", V4), ("src_port", U32), ("dst_port", U32), ("tcp_flags", U32), ("tos", U32)] },
    Layout { format: 1025, name: "extended_ipv6_tunnel_egress", fields: &[("length", U32), ("protocol", U32), ("src_addr", V6), ("dst_addr", V6), ("src_port", U32), ("dst_port", U32), ("tcp_flags", U32), ("priority", U32)] },
    Layout { format: 1026, name: "extended_ipv6_tunnel_ingress", fields: &[("length", U32), ("protocol", U32), ("src_addr", V6), ("dst_addr", V6), ("src_port", U32), ("dst_port", U32), ("tcp_flags", U32), ("priority", U32)] },
    Layout { format: 1027, name: "extended_decapsulate_egress", fields: &[("inner_header_offset", U32)] },
    Layout { format: 1028, name: "extended_decapsulate_ingress", fields: &[("inner_header_offset", U32)] },
    Layout { format: 1029, name: "extended_vni_egress", fields: &[("vni", U32)] },
    Layout { format: 1030, name: "extended_vni_ingress", fields: &[("vni", U32)] },
    Layout { format: 1036, name: "extended_egress_queue", fields: &[("queue", U32)] },
    Layout { format: 1037, name: "extended_acl", fields: &[("number", U32), ("name", Text), ("direction", U32)] },
    Layout { format: 1038, name: "extended_function", fields: &[("symbol", Text)] },
    Layout { format: 1039, name: "extended_transit", fields: &[("delay", U32)] },
    Layout { format: 1040, name: "extended_queue", fields: &[("depth", U32)] },
    Layout { format: 1041, name: "extended_hw_trap", fields: &[("group", Text), ("trap", Text)] },
    Layout { format: 1042, name: "extended_linux_drop_reason", fields: &[("reason", Text)] },
    Layout { format: 2100, name: "extended_socket_ipv4", fields: &[("protocol", U32), ("local_addr", V4), ("remote_addr", V4), ("local_port", U32), ("remote_port", U32)] },
    Layout { format: 2101, name: "extended_socket_ipv6", fields: &[("protocol", U32), ("local_addr", V6), ("remote_addr", V6), ("local_port", U32), ("remote_port", U32)] },
];

/// Counter records.
#[rustfmt::skip] // one structure a line
const COUNTERS: &[Layout] = &[
    Layout { format: 1, name: "if_counters", fields: &[("if_index", U32), ("if_type", U32), ("if_speed", U64), ("if_direction", U32), ("if_status", U32), ("if_in_octets", U64), ("if_in_ucast_pkts", U32), ("if_in_multicast_pkts", U32), ("if_in_broadcast_pkts", U32), ("if_in_discards", U32), ("if_in_errors", U32), ("if_in_unknown_protos", U32), ("if_out_octets", U64), ("if_out_ucast_pkts", U32), ("if_out_multicast_pkts", U32), ("if_out_broadcast_pkts", U32), ("if_out_discards", U32), ("if_out_errors", U32), ("if_promiscuous_mode", U32)] },
    Layout { format: 2, name: "ethernet_counters", fields: &[("alignment_errors", U32), ("fcs_errors", U32), ("single_collision_frames", U32), ("multiple_collision_frames", U32), ("sqe_test_errors", U32), ("deferred_transmissions", U32), ("late_collisions", U32), ("excessive_collisions", U32), ("internal_mac_transmit_errors", U32), ("carrier_sense_errors", U32), ("frame_too_longs", U32), ("internal_mac_receive_errors", U32), ("symbol_errors", U32)] },
    Layout { format: 3, name: "tokenring_counters", fields: &[("line_errors", U32), ("burst_errors", U32), ("ac_errors", U32), ("abort_trans_errors", U32), ("internal_errors", U32), ("lost_frame_errors", U32), ("receive_congestions", U32), ("frame_copied_errors", U32), ("token_errors", U32), ("soft_errors", U32), ("hard_errors", U32), ("signal_loss", U32), ("transmit_beacons", U32), ("recoverys", U32), ("lobe_wires", U32), ("removes", U32), ("singles", U32), ("freq_errors", U32)] },
    Layout { format: 4, name: "vg_counters", fields: &[("in_high_priority_frames", U32), ("in_high_priority_octets", U64), ("in_norm_priority_frames", U32), ("in_norm_priority_octets", U64), ("in_ipm_errors", U32), ("in_oversize_frame_errors", U32), ("in_data_errors", U32), ("in_null_addressed_frames", U32), ("out_high_priority_frames", U32), ("out_high_priority_octets", U64), ("transition_into_trainings", U32), ("hc_in_high_priority_octets", U64), ("hc_in_norm_priority_octets", U64), ("hc_out_high_priority_octets", U64)] },
    Layout { format: 5, name: "vlan_counters", fields: &[("vlan_id", U32), ("octets", U64), ("ucast_pkts", U32), ("multicast_pkts", U32), ("broadcast_pkts", U32), ("discards", U32)] },
    Layout { format: 6, name: "ieee80211_counters", fields: &[("transmitted_fragments", U32), ("multicast_transmitted_frames", U32), ("failures", U32), ("retries", U32), ("multiple_retries", U32), ("frame_duplicates", U32), ("rts_successes", U32), ("rts_failures", U32), ("ack_failures", U32), ("received_fragments", U32), ("multicast_received_frames", U32), ("fcs_errors", U32), ("transmitted_frames", U32), ("wep_undecryptables", U32), ("qos_discarded_fragments", U32), ("associated_stations", U32), ("qos_cf_polls_received", U32), ("qos_cf_polls_unused", U32), ("qos_cf_polls_unusable", U32), ("qos_cf_polls_lost", U32)] },
    Layout { format: 7, name: "lag_counters", fields: &[("actor_system_id", Mac), ("partner_oper_system_id", Mac), ("attached_agg_id", U32), ("port_state", U32), ("lacpdus_rx", U32), ("marker_pdus_rx", U32), ("marker_response_pdus_rx", U32), ("unknown_rx", U32), ("illegal_rx", U32), ("lacpdus_tx", U32), ("marker_pdus_tx", U32), ("marker_response_pdus_tx", U32)] },
    Layout { format: 1001, name: "processor", fields: &[("cpu_5s", U32), ("cpu_1m", U32), ("cpu_5m", U32), ("total_memory", U64), ("free_memory", U64)] },
    Layout { format: 1002, name: "radio_utilization", fields: &[("elapsed_time", U32), ("on_channel_time", U32), ("on_channel_busy_time", U32)] },
    Layout { format: 1004, name: "of_port", fields: &[("datapath_id", U64), ("port_no", U32)] },
    Layout { format: 1005, name: "port_name", fields: &[("name", Text)] },
    Layout { format: 2000, name: "host_descr", fields: &[("hostname", Text), ("uuid", Uuid), ("machine_type", U32), ("os_name", U32), ("os_release", Text)] },
    Layout { format: 2002, name: "host_parent", fields: &[("container_type", U32), ("container_index", U32)] },
    Layout { format: 2003, name: "host_cpu", fields: &[("load_one", F32), ("load_five", F32), ("load_fifteen", F32), ("proc_run", U32), ("proc_total", U32), ("cpu_num", U32), ("cpu_speed", U32), ("uptime", U32), ("cpu_user", U32), ("cpu_nice", U32), ("cpu_system", U32), ("cpu_idle", U32), ("cpu_wio", U32), ("cpu_intr", U32), ("cpu_sintr", U32), ("interrupts", U32), ("contexts", U32), ("cpu_steal", U32), ("cpu_guest", U32), ("cpu_guest_nice", U32)] },
    Layout { format: 2004, name: "host_memory", fields: &[("mem_total", U64), ("mem_free", U64), ("mem_shared", U64), ("mem_buffers", U64), ("mem_cached", U64), ("swap_total", U64), ("swap_free", U64), ("page_in", U32), ("page_out", U32), ("swap_in", U32), ("swap_out", U32)] },
    Layout { format: 2005, name: "host_disk_io", fields: &[("disk_total", U64), ("disk_free", U64), ("part_max_used", U32), ("reads", U32), ("bytes_read", U64), ("read_time", U32), ("writes", U32), ("bytes_written", U64), ("write_time", U32)] },
    Layout { format: 2006, name: "host_net_io", fields: &[("bytes_in", U64), ("pkts_in", U32), ("errs_in", U32), ("drops_in", U32), ("bytes_out", U64), ("pkts_out", U32), ("errs_out", U32), ("drops_out", U32)] },
    Layout { format: 2007, name: "mib2_ip", fields: &[("ip_forwarding", U32), ("ip_default_ttl", U32), ("ip_in_receives", U32), ("ip_in_hdr_errors", U32), ("ip_in_addr_errors", U32), ("ip_forw_datagrams", U32), ("ip_in_unknown_protos", U32), ("ip_in_discards", U32), ("ip_in_delivers", U32), ("ip_out_requests", U32), ("ip_out_discards", U32), ("ip_out_no_routes", U32), ("ip_reasm_timeout", U32), ("ip_reasm_reqds", U32), ("ip_reasm_oks", U32), ("ip_reasm_fails", U32), ("ip_frag_oks", U32), ("ip_frag_fails", U32), ("ip_frag_creates", U32)] },
    Layout { format: 2008, name: "mib2_icmp", fields: &[("icmp_in_msgs", U32), ("icmp_in_errors", U32), ("icmp_in_dest_unreachs", U32), ("icmp_in_time_excds", U32), ("icmp_in_parm_probs", U32), ("icmp_in_src_quenchs", U32), ("icmp_in_redirects", U32), ("icmp_in_echos", U32), ("icmp_in_echo_reps", U32), ("icmp_in_timestamps", U32), ("icmp_in_addr_masks", U32), ("icmp_in_addr_mask_reps", U32), ("icmp_out_msgs", U32), ("icmp_out_errors", U32), ("icmp_out_dest_unreachs", U32), ("icmp_out_time_excds", U32), ("icmp_out_parm_probs", U32), ("icmp_out_src_quenchs", U32), ("icmp_out_redirects", U32), ("icmp_out_echos", U32), ("icmp_out_echo_reps", U32), ("icmp_out_timestamps", U32), ("icmp_out_timestamp_reps", U32), ("icmp_out_addr_masks", U32), ("icmp_out_addr_mask_reps", U32)] },
    Layout { format: 2009, name: "mib2_tcp", fields: &[("tcp_rto_algorithm", U32), ("tcp_rto_min", U32), ("tcp_rto_max", U32), ("tcp_max_conn", U32), ("tcp_active_opens", U32), ("tcp_passive_opens", U32), ("tcp_attempt_fails", U32), ("tcp_estab_resets", U32), ("tcp_curr_estab", U32), ("tcp_in_segs", U32), ("tcp_out_segs", U32), ("tcp_retrans_segs", U32), ("tcp_in_errs", U32), ("tcp_out_rsts", U32), ("tcp_in_csum_errs", U32)] },
    Layout { format: 2010, name: "mib2_udp", fields: &[("udp_in_datagrams", U32), ("udp_no_ports", U32), ("udp_in_errors", U32), ("udp_out_datagrams", U32), ("udp_rcvbuf_errors", U32), ("udp_sndbuf_errors", U32), ("udp_in_csum_errors", U32)] },
    Layout { format: 2100, name: "virt_node", fields: &[("mhz", U32), ("cpus", U32), ("memory", U64), ("memory_free", U64), ("num_domains", U32)] },
    Layout { format: 2101, name: "virt_cpu", fields: &[("state", U32), ("cpu_time", U32), ("virtual_cpus", U32)] },
    Layout { format: 2102, name: "virt_memory", fields: &[("memory", U64), ("max_memory", U64)] },
    Layout { format: 2103, name: "virt_disk_io", fields: &[("capacity", U64), ("allocation", U64), ("available", U64), ("rd_req", U32), ("rd_bytes", U64), ("wr_req", U32), ("wr_bytes", U64), ("errs", U32)] },
    Layout { format: 2104, name: "virt_net_io", fields: &[("rx_bytes", U64), ("rx_packets", U32), ("rx_errs", U32), ("rx_drop", U32), ("tx_bytes", U64), ("tx_packets", U32), ("tx_errs", U32), ("tx_drop", U32)] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order() {
        assert!([FLOW, COUNTERS].iter().all(|table| table.is_sorted_by(|a, b| a.format < b.format)));
        assert_eq!(of_counters(2003).map(|layout| layout.fields.len()), Some(20));
        assert!(of_flow(999).is_none());
    }
}
