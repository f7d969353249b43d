//! Every test against a chain of network namespaces that does what a scenario says, beside the programs of others.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod chain;

use chain::made::{WAY, measured, ping_test, pings, trace_test, traced, way};
use chain::{Chain, is_possible};
use raven_model::diag::{Method, PingTest};
use raven_netdiag::failure::Failure;
use raven_netdiag::ping;
use raven_netdiag::session::Session;
use std::os::unix::net::UnixStream;

#[test]
fn pings_of_both_families_are_answered_and_timed() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("ping", "plain");
    let (v4, v6) = (chain.target(), chain.target_v6());
    let results = pings(&chain, &ping_test(&[&v4, &v6, "nobody.invalid", "10.10.1.77"], 20, 50));
    for result in &results[..2] {
        assert_eq!((result.sent, result.received, result.loss), (20, 20, 0.0), "{result:?}");
        assert!(result.rtt.unwrap().p50_us < 100_000 && result.errors.is_empty(), "{result:?}");
    }
    assert!(results[2].address.is_none() && results[2].errors.keys().any(|why| why.contains("does not resolve")));
    // Nobody has that address on the first link: this box says so itself after its own three tries.
    assert_eq!((results[3].received, results[3].loss), (0, 100.0), "{:?}", results[3]);
    if let Some(text) = chain.others("fping", &format!("-q -C 20 -p 50 {v4}")) {
        let times: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let (mut sorted, ours) = (times, results[0].rtt.unwrap().p50_us);
        sorted.sort_by(f64::total_cmp);
        println!("ping: ours p50 {ours} us, fping's {:.0} us", sorted[sorted.len() / 2] * 1000.0);
    }
}

#[test]
fn loss_is_counted_exactly_and_a_size_that_does_not_fit_is_told() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("loss", "loss");
    let target = chain.target();
    let results = pings(&chain, &ping_test(&[&target], 100, 10));
    assert_eq!((results[0].sent, results[0].received), (100, 80), "{results:?}");
    if let Some(text) = chain.others("fping", &format!("-q -c 100 -p 10 {target}")) {
        assert!(text.contains("100/80/20%"), "{text}");
    }
    let too_long = PingTest { size: 2000, dont_fragment: true, ..ping_test(&[&target], 2, 10) };
    let results = pings(&chain, &too_long);
    assert_eq!(results[0].errors.get("longer than the interface takes"), Some(&2), "{results:?}");
}

#[test]
fn a_way_is_traced_by_datagrams_and_by_echo_requests_in_both_families() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("trace", "plain");
    let (v4, v6) = (chain.target(), chain.target_v6());
    let mut hashes = Vec::new();
    for method in [Method::Udp, Method::Icmp] {
        let result = traced(&chain, &trace_test(&v4, method, 3, 1));
        assert_eq!(way(&result), WAY, "{method:?} {result:?}");
        assert!(result.reached && !result.changed && result.paths == 1, "{result:?}");
        assert!(result.hops.iter().all(|hop| hop.received == 3), "{result:?}");
        hashes.push(result.path_hash);
        let result = traced(&chain, &trace_test(&v6, method, 1, 1));
        assert_eq!((result.reached, result.hops.len()), (true, 5), "{method:?} {result:?}");
        assert_eq!(way(&result)[4], v6.parse::<std::net::IpAddr>().unwrap().to_string());
    }
    assert_eq!(hashes[0], hashes[1]);
    if let Some(text) = chain.others("traceroute", &format!("-n -q 1 {v4}")) {
        assert!(WAY.iter().all(|hop| text.contains(hop)), "{text}");
    }
}

#[test]
fn a_hop_that_answers_few_probes_is_not_said_to_lose_packets() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("limit", "limited");
    let target = chain.target();
    let result = traced(&chain, &trace_test(&target, Method::Udp, 20, 1));
    let hop = &result.hops[1];
    assert!(hop.received < 12 && hop.rate_limited, "{result:?}");
    assert!(result.hops[2..].iter().all(|hop| hop.received == 20 && !hop.rate_limited), "{result:?}");
    if let Some(text) = chain.others("mtr", &format!("-n -r -c 10 -i 0.1 {target}")) {
        println!("mtr calls that loss:\n{text}");
    }
}

#[test]
fn loss_that_begins_at_a_hop_goes_on_behind_it() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("lossy", "loss");
    let result = traced(&chain, &trace_test(&chain.target(), Method::Icmp, 20, 1));
    let lost = |n: usize| result.hops[n].sent - result.hops[n].received;
    assert_eq!((lost(0), lost(2), result.hops[3].received), (0, 0, 0), "{result:?}");
    assert!(lost(4) >= 2 && !result.hops[4].rate_limited && result.reached, "{result:?}");
}

#[test]
fn several_flows_show_several_ways() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("ecmp", "two-ways");
    let target = chain.target();
    let one = traced(&chain, &trace_test(&target, Method::Udp, 3, 1));
    assert!(one.reached && one.hops.iter().all(|hop| hop.routers.len() == 1) && !one.changed, "{one:?}");
    let many = traced(&chain, &trace_test(&target, Method::Udp, 2, 16));
    let routers: Vec<String> = many.hops[1].routers.iter().map(|router| router.address.to_string()).collect();
    assert_eq!(routers, ["10.11.2.2", "10.21.2.2"], "{many:?}");
    assert!(many.paths >= 2 && !many.changed && many.reached, "{many:?}");
}

#[test]
fn who_forbids_the_way_is_named() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("forbid", "forbidden");
    let target = chain.target();
    let result = traced(&chain, &trace_test(&target, Method::Udp, 2, 1));
    let last = result.hops.last().unwrap();
    let said: Vec<_> = last.routers.iter().map(|router| (router.address.to_string(), router.said.clone())).collect();
    assert_eq!(
        (result.reached, said),
        (false, vec![("10.12.3.2".to_owned(), Some("administratively prohibited".to_owned()))])
    );
    let results = pings(&chain, &ping_test(&[&target], 3, 20));
    assert_eq!(results[0].errors.get("administratively prohibited"), Some(&3), "{results:?}");
}

#[test]
fn the_longest_packet_is_found_where_routers_say_so_and_where_they_do_not() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("mtu", "narrow");
    let result = measured(&chain, &chain.target());
    assert_eq!(
        (result.mtu, result.link_mtu, result.mss, result.black_hole),
        (Some(1300), Some(1500), Some(1260), false)
    );
    assert_eq!(
        result.limit.map(|limit| (limit.by.unwrap().to_string(), limit.mtu)),
        Some(("10.12.3.2".to_owned(), 1300))
    );
    let result = measured(&chain, &chain.target_v6());
    assert_eq!((result.mtu, result.mss, result.black_hole), (Some(1300), Some(1240), false), "{result:?}");
    if let Some(text) = chain.others("tracepath", &format!("-n {}", chain.target())) {
        assert!(text.contains("pmtu 1300"), "{text}");
    }
    let chain = Chain::new("hole", "black-hole");
    let result = measured(&chain, &chain.target());
    assert_eq!((result.mtu, result.link_mtu, result.limit, result.black_hole), (Some(1337), Some(1500), None, true));
}

#[test]
fn whoever_goes_away_ends_the_test() {
    if !is_possible() {
        return;
    }
    let chain = Chain::new("gone", "plain");
    let target = chain.target();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(theirs);
        });
        let outcome = chain.inside(move || {
            let mut session = Session::new(ours).unwrap();
            ping::run::run(&ping_test(&[&target], 1000, 100), &mut session)
        });
        assert_eq!(outcome, Err(Failure::Gone));
    });
    assert!(began.elapsed().as_secs() < 20);
}
