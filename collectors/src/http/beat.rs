//! What is done once a second.

use super::control::Connected;
use super::outbox::Outbox;
use super::reason::Reason;
use super::shared::Shared;
use super::stream::Phase;
use raven_jail::receive::Blind;
use raven_model::control::FromWorker;
use raven_model::report::CollectorReport;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Calm after which the ring's growth is given back.
const CALM: Duration = Duration::from_mins(1);

/// Once a second: says that it is alive, ends what takes too long, gives back what a calm minute does not need.
pub async fn beat(shared: Rc<Shared>, connected: Connected, outbox: Rc<Outbox>) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut published, mut grown) = (0, Instant::now());
    loop {
        tick.tick().await;
        end_slow(&shared, &connected);
        {
            let mut memory = shared.memory.borrow_mut();
            memory.recall(&mut Blind);
            if memory.published() != published {
                (published, grown) = (memory.published(), Instant::now());
            } else if grown.elapsed() > CALM {
                // Memory that is not given back is no reason to stop receiving.
                let _ = memory.shrink();
                grown = Instant::now();
            }
        }
        let report = report(&shared, &connected);
        let Ok(report) = serde_json::value::to_raw_value(&report) else { continue };
        outbox.say(FromWorker::Heartbeat { report });
    }
}

fn end_slow(shared: &Shared, connected: &Connected) {
    let now = Instant::now();
    for task in connected.borrow().values().filter(|task| task.peer.pulse.is_over(now)) {
        if task.peer.pulse.phase() != Phase::Idle {
            shared.refuse(Reason::Slow, &task.peer, &[]);
        }
        task.abort.abort();
    }
}

fn report(shared: &Shared, connected: &Connected) -> CollectorReport {
    let memory = shared.memory.borrow();
    let mut connections = BTreeMap::new();
    for task in connected.borrow().values() {
        *connections.entry(task.peer.listener.name()).or_insert(0) += 1;
    }
    let dropped = Reason::ALL.into_iter().map(|reason| (reason.name().to_owned(), memory.dropped(reason as u8)));
    CollectorReport {
        published: memory.published(),
        stalls: memory.stalls(),
        connections,
        recovered: memory.recovered(),
        unparsed: memory.unparsed(),
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
        inbox: shared.inbox.borrow().items(),
        ..CollectorReport::default()
    }
}
