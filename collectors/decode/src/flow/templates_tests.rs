//! What happens to templates over time.

#![allow(clippy::unwrap_used)]

use super::super::sets::SetKind;
use super::*;

const NOW: Duration = Duration::from_secs(1_000);

fn scope(domain: u32) -> Scope {
    Scope { exporter: Exporter::new(IpAddr::from([192, 0, 2, 1])), family: Family::Ipfix, domain }
}

fn set(id: u16, body: &[u8]) -> Set<'_> {
    Set { id, kind: if id == 2 { SetKind::Templates } else { SetKind::OptionsTemplates }, family: Family::Ipfix, body }
}

/// A template of one field.
fn template(id: u16, element: u16) -> Vec<u8> {
    [id, 1, element, 4].map(u16::to_be_bytes).concat()
}

/// What happened, in words.
fn learn(templates: &mut Templates, scope: Scope, set: &Set<'_>, now: Duration) -> Vec<String> {
    let mut events = Vec::new();
    let say = |event: Event<'_>| {
        events.push(match event {
            Event::Learned(key, _) => format!("learned {}", key.id),
            Event::Changed { key, old, new } => {
                format!("changed {} from {} to {}", key.id, old.fields()[0].name, new.fields()[0].name)
            }
            Event::Withdrawn(key, _) => format!("withdrawn {}", key.id),
            Event::Expired(key, _) => format!("expired {}", key.id),
            Event::Evicted(key, _) => format!("evicted {}", key.id),
        });
    };
    templates.learn(scope, set, now, say).unwrap();
    events
}

#[test]
fn a_template_is_learned_once_and_refreshed_after() {
    let mut templates = Templates::default();
    let body = template(256, 8);
    assert_eq!(learn(&mut templates, scope(1), &set(2, &body), NOW), ["learned 256"]);
    assert_eq!(learn(&mut templates, scope(1), &set(2, &body), NOW * 2), [""; 0]);
    let entry = templates.peek(&TemplateKey { scope: scope(1), id: 256 }).unwrap();
    assert_eq!((entry.first_seen, entry.last_seen, entry.refresh), (NOW, NOW * 2, Some(NOW)));
    assert_eq!(templates.counters(), Counters { learned: 1, refreshed: 1, ..Counters::default() });
}

#[test]
fn domains_and_exporters_are_apart() {
    let mut templates = Templates::default();
    let body = template(256, 8);
    learn(&mut templates, scope(1), &set(2, &body), NOW);
    assert!(templates.find(scope(1), 256, NOW).is_some());
    assert!(templates.find(scope(2), 256, NOW).is_none());
    assert!(templates.find(Scope { family: Family::V9, ..scope(1) }, 256, NOW).is_none());
    let by_port = Exporter::with_port(IpAddr::from([192, 0, 2, 1]), 2055);
    assert!(templates.find(Scope { exporter: by_port, ..scope(1) }, 256, NOW).is_none());
}

#[test]
fn a_template_that_changes_its_meaning_is_told_with_both() {
    let mut templates = Templates::default();
    learn(&mut templates, scope(1), &set(2, &template(256, 8)), NOW);
    let events = learn(&mut templates, scope(1), &set(2, &template(256, 12)), NOW);
    assert_eq!(events, ["changed 256 from sourceIPv4Address to destinationIPv4Address"]);
    assert_eq!(templates.counters().changed, 1);
    assert_eq!(templates.len(), 1);
}

#[test]
fn withdrawals_take_one_or_all_of_a_kind() {
    let mut templates = Templates::default();
    for id in [256, 257, 258] {
        learn(&mut templates, scope(1), &set(2, &template(id, 8)), NOW);
        learn(&mut templates, scope(2), &set(2, &template(id, 8)), NOW);
    }
    let options = [300, 1, 1, 149, 4].map(u16::to_be_bytes).concat();
    learn(&mut templates, scope(1), &set(3, &options), NOW);
    assert_eq!(learn(&mut templates, scope(1), &set(2, &[1, 1, 0, 0]), NOW), ["withdrawn 257"]);
    let mut all = learn(&mut templates, scope(1), &set(2, &[0, 2, 0, 0]), NOW);
    all.sort_unstable();
    assert_eq!(all, ["withdrawn 256", "withdrawn 258"]);
    assert_eq!(learn(&mut templates, scope(1), &set(3, &[0, 3, 0, 0]), NOW), ["withdrawn 300"]);
    assert_eq!(templates.len(), 3, "those of the other domain stay");
    assert_eq!(learn(&mut templates, scope(1), &set(2, &[1, 1, 0, 0]), NOW), [""; 0], "nothing to take back");
}

#[test]
fn a_template_not_sent_for_its_lifetime_is_gone() {
    let mut templates = Templates::new(Config { lifetime: NOW, ..Config::default() });
    let body = template(256, 8);
    learn(&mut templates, scope(1), &set(2, &body), NOW);
    assert!(templates.find(scope(1), 256, NOW * 2).is_some());
    let late = NOW * 2 + Duration::from_nanos(1);
    assert!(templates.find(scope(1), 256, late).is_none());
    assert_eq!(learn(&mut templates, scope(1), &set(2, &body), late), ["expired 256", "learned 256"]);
    let mut expired = 0;
    templates.expire(late * 3, |_| expired += 1);
    assert_eq!((expired, templates.len(), templates.counters().expired), (1, 0, 2));
}

#[test]
fn a_full_exporter_loses_what_it_used_longest_ago() {
    let limits = Limits { per_exporter: 2, ..Config::default().limits };
    let mut templates = Templates::new(Config { limits, ..Config::default() });
    for id in [256, 257] {
        learn(&mut templates, scope(1), &set(2, &template(id, 8)), NOW);
    }
    assert!(templates.find(scope(1), 256, NOW).is_some());
    let events = learn(&mut templates, scope(1), &set(2, &template(258, 8)), NOW);
    assert_eq!(events, ["learned 258", "evicted 257"]);
    assert_eq!(templates.least_used().map(|key| key.id), Some(256));
}

#[test]
fn a_flood_of_large_templates_stays_within_its_memory() {
    let mut templates = Templates::default();
    let fields: Vec<u8> = (0..1_000_u16).flat_map(|id| [id.to_be_bytes(), [0, 1]].concat()).collect();
    for id in 256..2_000_u16 {
        let body = [&[id, 1_000].map(u16::to_be_bytes).concat()[..], &fields].concat();
        templates.learn(scope(1), &set(2, &body), NOW, |_| {}).unwrap();
    }
    let weight: usize = templates.iter().map(|(_, entry)| entry.template.weight()).sum();
    assert!(weight <= Config::default().limits.bytes_per_exporter, "{weight} bytes");
    assert!(templates.counters().evicted > 0);
}

#[test]
fn keys_and_definitions_come_back() {
    let mut templates = Templates::default();
    learn(&mut templates, scope(7), &set(2, &template(256, 8)), NOW);
    let v6 = Scope { exporter: Exporter::with_port("2001:db8::1".parse().unwrap(), 99), ..scope(9) };
    learn(&mut templates, v6, &set(3, &[300, 1, 1, 149, 4].map(u16::to_be_bytes).concat()), NOW);
    let stored: Vec<_> =
        templates.iter().map(|(key, entry)| (key.to_bytes(), entry.template.definition().to_vec())).collect();
    let mut restored = Templates::default();
    for (key, definition) in &stored {
        restored.restore(TemplateKey::from_bytes(key).unwrap(), definition, NOW).unwrap();
    }
    let keys = |templates: &Templates| {
        let mut keys: Vec<_> = templates.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys(&restored), keys(&templates));
    let wrong = TemplateKey { id: 999, ..TemplateKey::from_bytes(&stored[0].0).unwrap() };
    assert_eq!(restored.restore(wrong, &stored[0].1, NOW), Err(Reject::Template { id: 999 }));
    assert_eq!(TemplateKey::from_bytes(&[0; 3]), None);
    assert_eq!(TemplateKey::from_bytes(&[0; TemplateKey::LEN]), None, "no such protocol");
}
