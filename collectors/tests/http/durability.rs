//! An answer follows durability.

use crate::support::{Mode, Rig, event, eventually, request};
use std::collections::HashMap;
use std::time::{Duration, Instant};

crate::tests!(
    the_jail_is_whole_and_the_role_works_in_it,
    nothing_is_answered_before_it_is_durable,
    bulk_is_answered_only_when_durable_too,
    a_killed_role_has_answered_nothing_that_is_not_kept_and_the_next_one_goes_on,
    a_stop_finishes_what_is_under_way,
    a_stop_waits_ten_seconds_for_a_store_that_does_not_come,
    reports_tell_of_connections_and_batches,
);

fn the_jail_is_whole_and_the_role_works_in_it() {
    let rig = Rig::new();
    let mut client = rig.connect();
    assert_eq!(client.post("/", "", b"{\"EventID\":1}").status, 200);
    // What this kernel does not offer is not the role's fault; that nothing killed it is what is looked at.
    assert!(rig.missing().len() < 3);
    let kept = rig.kept();
    assert_eq!((kept.len(), kept[0].listener, kept[0].source), (1, 1, client.socket().local_addr().unwrap()));
}

fn nothing_is_answered_before_it_is_durable() {
    let rig = Rig::new();
    rig.set(Mode::Hold);
    let mut clients: Vec<_> = (0..5).map(|_| rig.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(request("/", "", event(n, 10).as_bytes()));
    }
    eventually("five events", || (rig.kept().len() == 5).then_some(()));
    for client in &mut clients {
        assert!(client.is_silent_for(Duration::from_millis(200)));
    }
    rig.set(Mode::Commit);
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
}

fn bulk_is_answered_only_when_durable_too() {
    let rig = Rig::new();
    rig.set(Mode::Hold);
    let mut client = rig.connect();
    client.send(request("/_bulk", "", b"{\"create\":{}}\n{\"EventID\":1}\n"));
    assert!(client.is_silent_for(Duration::from_millis(300)));
    rig.set(Mode::Commit);
    assert_eq!(client.answer().body, "{\"took\":0,\"errors\":false,\"items\":[{\"create\":{\"status\":201}}]}");
}

fn a_killed_role_has_answered_nothing_that_is_not_kept_and_the_next_one_goes_on() {
    let mut rig = Rig::new();
    let (mut answered, mut sent) = (Vec::new(), 0);
    for life in 0..4 {
        let mut clients: Vec<_> = (0..8).map(|_| rig.connect()).collect();
        let until = Instant::now() + Duration::from_millis(100 + life * 37);
        let mut open = Vec::new();
        while Instant::now() < until {
            for client in &mut clients {
                sent += 1;
                client.send(request("/", "", event(sent, 300).as_bytes()));
                open.push(sent);
            }
            for client in &mut clients {
                assert_eq!(client.answer().status, 200);
            }
            answered.append(&mut open);
        }
        // In the middle of a body, and of a request that is being stored.
        clients[0].send(&request("/", "", &[b'x'; 1000])[..200]);
        clients[1].send(request("/", "", event(1_000_000, 10).as_bytes()));
        rig.kill_and_restart(&[]);
    }
    assert_eq!(rig.connect().post("/", "", b"{\"EventID\":2000000}").status, 200);
    let mut times = HashMap::new();
    for text in rig.texts() {
        let number: usize = text[11..text.find(',').unwrap_or(text.len() - 1)].parse().unwrap();
        *times.entry(number).or_insert(0) += 1;
    }
    for number in answered {
        assert_eq!(times.get(&number), Some(&1), "event {number}");
    }
}

fn a_stop_finishes_what_is_under_way() {
    let rig = Rig::new();
    rig.set(Mode::Hold);
    let (mut waits, mut idle) = (rig.connect(), rig.connect());
    assert_eq!(rig.report(|report| report.connections.values().sum::<u32>() == 2).connections.len(), 1);
    waits.send(request("/", "", b"{\"EventID\":1}"));
    eventually("an event", || (rig.kept().len() == 1).then_some(()));
    rig.tell(&raven_model::control::ToWorker::Stop);
    assert!(waits.is_silent_for(Duration::from_millis(300)));
    assert_eq!(idle.try_answer(), None, "an idle connection is closed");
    rig.set(Mode::Commit);
    let answer = waits.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let begun = Instant::now();
    assert!(rig.stop_status().success());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn a_stop_waits_ten_seconds_for_a_store_that_does_not_come() {
    let rig = Rig::new();
    rig.set(Mode::Hold);
    let mut client = rig.connect();
    client.send(request("/", "", b"{\"EventID\":1}"));
    eventually("an event", || (rig.kept().len() == 1).then_some(()));
    let begun = Instant::now();
    assert!(rig.stop().success());
    assert!(begun.elapsed().as_secs() >= 9, "{:?}", begun.elapsed());
    assert!(client.try_answer().is_none_or(|answer| answer.status == 503));
}

fn reports_tell_of_connections_and_batches() {
    let rig = Rig::new();
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.post("/", "", b"{\"EventID\":1}").status, 200);
    }
    let name = format!("http:{}", rig.http);
    let report = rig.report(|report| report.published > 0 && report.connections.get(&name) == Some(&3));
    assert!(report.dropped.is_empty() && report.inbox.is_empty(), "{report:?}");
    drop(clients);
    rig.report(|report| report.connections.is_empty());
}
