//! What a record needs to be read stands in its batch, or stood in an earlier one.

#![allow(clippy::unwrap_used)]

mod support;

use raven_collectors::flow::inspect::FlowInspect;
use raven_jail::receive::{Arrived, CONTEXT_MAX, Contexts, Inspect};
use raven_model::config::CollectFlow;
use raven_model::units::{Span, UnixNanos};
use std::time::Duration;
use support::wire::{ipfix, set, template, v9, v9_sampler, v9_sampler_template};
use support::{Rig, read_batches};

const A: &str = "192.0.2.1:2000";
const B: &str = "192.0.2.2:2000";

/// Source, destination.
fn one(id: u16) -> Vec<u8> {
    template(id, &[(8, 4), (12, 4)])
}

/// Bytes, packets: as long as the other.
fn other(id: u16) -> Vec<u8> {
    template(id, &[(1, 4), (2, 4)])
}

fn data(id: u16) -> Vec<u8> {
    set(id, &[7; 16])
}

#[test]
fn a_template_stands_once_in_each_batch_that_needs_it() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.send(A, &v9(1, 1, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # #");
    rig.send(A, &v9(1, 2, 0, &[]));
    rig.send(A, &v9(1, 3, 0, &[data(256)]));
    rig.send(A, &v9(1, 4, 0, &[data(256), data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "# t256 # #");
    rig.send(A, &v9(1, 5, 0, &[set(0, &one(256))]));
    rig.batch();
    assert_eq!(rig.newest(), "#", "a refresh says nothing new");
}

#[test]
fn a_template_that_changes_stands_between_the_old_and_the_new() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.send(A, &v9(1, 1, 0, &[set(0, &other(256)), data(256)]));
    rig.send(A, &v9(1, 2, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # t256 # #");
    // The old meaning ahead of the change, in one datagram.
    rig.send(A, &v9(1, 3, 0, &[data(256), set(0, &one(256)), data(256)]));
    rig.send(A, &v9(1, 4, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # t256 #");
    let read = read_batches(&rig.batches);
    let of = |n: usize| (read[n].0.matches("srcAddr").count(), read[n].0.matches("src_addr").count());
    assert_eq!((of(0).1, of(1).1, of(2).1, of(3).1, of(4).1), (2, 0, 0, 2, 2));
    assert!(read.iter().all(|(_, shown)| shown.is_some_and(|shown| shown.undescribed == 0 && shown.flows > 1)));
}

#[test]
fn data_before_its_template_in_a_datagram_has_it() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[data(256)]));
    rig.send(A, &v9(1, 1, 0, &[data(256), set(0, &one(256))]));
    rig.batch();
    assert_eq!(rig.newest(), "# t256 #");
    assert_eq!(rig.report().exporters[0].undescribed, 1);
}

#[test]
fn a_withdrawal_ends_a_template() {
    let mut rig = Rig::new();
    let withdrawal = set(2, &[1, 0, 0, 0]);
    rig.send(A, &ipfix(1, 0, &[set(2, &one(256)), data(256)]));
    rig.send(A, &ipfix(1, 2, std::slice::from_ref(&withdrawal)));
    rig.send(A, &ipfix(1, 2, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # -256 # #");
    // The store is behind and still tells of it.
    let withdrawn = rig.table.clone();
    rig.table.values_mut().for_each(|value| *value = [&[0, 2, 0, 16][..], &one(256)].concat());
    rig.tell();
    rig.send(A, &ipfix(1, 2, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "#", "what was withdrawn does not come back");
    rig.table = withdrawn;
    // Used and withdrawn in one message: it ends behind it.
    rig.send(A, &ipfix(1, 2, &[set(2, &one(256))]));
    rig.send(A, &ipfix(1, 2, &[data(256), withdrawal, data(256)]));
    rig.send(A, &ipfix(1, 6, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # # -256 #");
}

#[test]
fn exporters_do_not_share_numbers() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.send(B, &v9(1, 0, 0, &[set(0, &other(256)), data(256)]));
    rig.send(A, &v9(2, 0, 0, &[data(256)]));
    rig.send(A, &v9(1, 0, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # t256 # # #");
    rig.send("192.0.2.1:999", &v9(1, 0, 0, &[data(256)]));
    rig.send(B, &v9(1, 0, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 # t256 #", "another port is the same exporter");
    rig.configure(CollectFlow { exporter_port: true, ..CollectFlow::default() });
    rig.send(A, &v9(1, 0, 0, &[data(256)]));
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256))]));
    rig.send("192.0.2.1:999", &v9(1, 0, 0, &[data(256)]));
    rig.send(A, &v9(1, 0, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "# t256 # # #", "now it is not");
    assert_eq!(rig.report().exporters[0].source, A);
}

#[test]
fn sampling_rates_stand_before_flows() {
    let mut rig = Rig::new();
    let options = [set(1, &v9_sampler_template(300)), set(300, &v9_sampler(7, 1000))];
    rig.send(A, &v9(1, 0, 0, &options));
    rig.send(A, &v9(1, 1, 0, &[set(0, &one(256)), data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t300 s1000 # t256 #");
    rig.send(A, &v9(1, 2, 0, &[data(256)]));
    rig.send(A, &v9(1, 3, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 s1000 # #");
    rig.send(A, &v9(1, 4, 0, &[set(300, &v9_sampler(7, 500))]));
    rig.send(A, &v9(1, 5, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t300 s500 # t256 #");
    let exporter = rig.report().exporters.remove(0);
    assert_eq!((exporter.sampling, exporter.sampling_source.as_str()), (Some(500), "options"));
    rig.tell();
    rig.restart();
    rig.send(A, &v9(1, 6, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 s500 #", "a new collector knows it from the store");
}

#[test]
fn a_new_collector_goes_on_with_what_the_store_knows() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.batch();
    // Killed before the store told anything: the template was in an earlier batch.
    rig.restart();
    rig.send(A, &v9(1, 1, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "#");
    // Then the store tells.
    rig.tell();
    rig.send(A, &v9(1, 2, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 #");
    rig.restart();
    rig.send(A, &v9(1, 3, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "t256 #");
}

#[test]
fn what_was_learned_wins_over_what_the_store_tells() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.batch();
    let before = rig.table.clone();
    rig.send(A, &v9(1, 1, 0, &[set(0, &other(256)), data(256)]));
    rig.batch();
    let changed = rig.table.values().next().unwrap().clone();
    for restart in [false, true] {
        if restart {
            rig.restart();
            rig.send(A, &v9(1, 2, 0, &[set(0, &other(256))]));
        }
        rig.table = before.clone();
        rig.tell();
        rig.send(A, &v9(1, 3, 0, &[data(256)]));
        rig.batch();
        assert_eq!(rig.table.values().next().unwrap(), &changed, "restart: {restart}");
    }
}

#[test]
fn an_expired_template_does_not_come_back_from_the_store() {
    let config = CollectFlow { template_lifetime: Span(Duration::from_mins(10)), ..CollectFlow::default() };
    let mut rig = Rig::with(config.clone());
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.batch();
    rig.tell();
    rig.wait(Duration::from_mins(11));
    rig.table.insert(b"x".to_vec(), b"something new".to_vec());
    rig.tell();
    rig.send(A, &v9(1, 1, 0, &[data(256)]));
    rig.batch();
    assert_eq!(rig.newest(), "#");
    rig.send(A, &v9(1, 2, 0, &[set(0, &one(256))]));
    rig.configure(CollectFlow { templates: 1, ..config });
    rig.send(B, &v9(1, 0, 0, &[set(0, &one(256))]));
    assert_eq!(rig.inspect.templates().len(), 1, "a new limit holds at once");
}

#[test]
fn a_flood_of_templates_leaves_room_for_those_in_use() {
    let mut rig = Rig::new();
    rig.send(A, &v9(1, 0, 0, &[set(0, &one(256)), data(256)]));
    rig.batch();
    let look = |inspect: &mut FlowInspect, contexts: &mut Contexts, source: [u8; 4], raw: &[u8]| {
        let before = contexts.frames().len();
        inspect.inspect(&Arrived { source: (source, 5).into(), listener: 1, wall: UnixNanos(0), raw }, contexts);
        contexts.frames().len() - before
    };
    // One batch of datagrams.
    let mut contexts = Contexts::default();
    rig.inspect.begin();
    for n in 0..40_u8 {
        let flood: Vec<u8> = (0..300_u16).flat_map(|id| template(256 + id, &[(n.into(), 4); 30])).collect();
        look(&mut rig.inspect, &mut contexts, [10, 0, 0, n], &v9(1, 0, 0, &[set(0, &flood)]));
    }
    assert!(contexts.frames().len() < CONTEXT_MAX / 2 + 1000);
    assert!(look(&mut rig.inspect, &mut contexts, [192, 0, 2, 1], &v9(1, 1, 0, &[data(256)])) > 0);
    // What found no room goes with the data that need it.
    assert!(look(&mut rig.inspect, &mut contexts, [10, 0, 0, 39], &v9(1, 1, 0, &[set(555, &[0; 120])])) > 100);
}
