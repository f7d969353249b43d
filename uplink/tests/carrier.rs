//! What happens to what is under way when the tunnel that carries a destination changes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_model::tunnel::Carrier;
use raven_model::units::Seq;
use raven_uplink::feed::{Ended, Feed, Speak, told};
use raven_uplink::fleet::{Base, Fleet};
use raven_uplink::lanes::{JUMP_MIN, LIVE_LAG, Lane};
use raven_uplink::reader::More;
use raven_uplink::sim::SimRing;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use support::{MemoryCursors, PACE, SimFleet, run, store_numbered, until, uplinks};

fn carrier(tunnel: &str, works: bool) -> Carrier {
    Carrier { tunnel: Some(tunnel.parse().unwrap()), works }
}

/// A fleet whose one destination is spoken to so.
fn fleet(ring: &Rc<SimRing>, dir: &Path, speak: Speak<SimRing>) -> SimFleet {
    let (device, source) = ("arena".to_owned(), Rc::clone(ring));
    let base = Base { device, cursors: dir.to_owned(), pace: PACE, source, speak: Some(speak) };
    let mut fleet = Fleet::new(base, MemoryCursors::default());
    fleet.carrier(carrier("noc", true));
    fleet.configure("arena", &uplinks("noc kind=relp to=10.20.0.1:514 via=vpn"));
    fleet
}

#[test]
fn what_is_under_way_is_waited_for_where_the_tunnel_works_and_not_where_it_died() {
    let ring = SimRing::new();
    store_numbered(&ring, 10);
    let dir = tempfile::tempdir().unwrap();
    let (begun, graces) = (Rc::<RefCell<u32>>::default(), Rc::<RefCell<Vec<Duration>>>::default());
    let seen = (Rc::clone(&begun), Rc::clone(&graces));
    let speak: Speak<SimRing> = Rc::new(move |feed| {
        let (begun, graces) = seen.clone();
        Box::pin(async move {
            *begun.borrow_mut() += 1;
            let grace = told(&mut feed.stop).await;
            graces.borrow_mut().push(grace);
            Ended::Stopped
        })
    });
    run(async move {
        let mut fleet = fleet(&ring, dir.path(), speak);
        until("it delivers", || *begun.borrow() == 1).await;
        // It dies: destinations are not disturbed, since the word of it may be wrong.
        fleet.carrier(carrier("noc", false));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(*begun.borrow(), 1);
        // It works again: whatever stood in it is not waited for.
        fleet.carrier(carrier("noc", true));
        until("it begins anew", || *begun.borrow() == 2).await;
        // Another takes over while it works.
        fleet.carrier(carrier("backup", true));
        until("it begins anew in the other", || *begun.borrow() == 3).await;
        assert_eq!(*graces.borrow(), [Duration::ZERO, Duration::from_secs(2)]);
    });
}

/// Takes what there is, and never hears of it.
async fn take_all(feed: &mut Feed<SimRing>) -> Vec<u64> {
    let mut taken = Vec::new();
    feed.reader.load().await.unwrap();
    feed.reader.take(|seq, _, _| {
        taken.push(seq.0);
        More::Yes
    });
    taken
}

#[test]
fn what_was_left_behind_and_is_not_acknowledged_is_sent_again_by_the_next_tunnel() {
    let ring = SimRing::new();
    store_numbered(&ring, 1);
    let dir = tempfile::tempdir().unwrap();
    let backfilled = Rc::<RefCell<Vec<Vec<u64>>>>::default();
    let seen = Rc::clone(&backfilled);
    let speak: Speak<SimRing> = Rc::new(move |feed| {
        let backfilled = Rc::clone(&seen);
        Box::pin(async move {
            let taken = take_all(feed).await;
            if feed.lane == Lane::Backfill {
                backfilled.borrow_mut().push(taken);
            } else {
                // It is late, and jumps.
                feed.standing.borrow_mut().acked(taken.into_iter().map(Seq));
                tokio::time::sleep(LIVE_LAG * 2).await;
                take_all(feed).await;
            }
            told(&mut feed.stop).await;
            Ended::Stopped
        })
    });
    run(async move {
        let mut fleet = fleet(&ring, dir.path(), speak);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // One block: all of it is under way.
        store_numbered(&ring, JUMP_MIN + 10);
        until("it is sent", || {
            // As the uplink does each second: it notes how far the stream is.
            fleet.save();
            backfilled.borrow().len() == 1
        })
        .await;
        fleet.carrier(carrier("backup", true));
        until("it is sent again", || backfilled.borrow().len() == 2).await;
        let backfilled = backfilled.borrow();
        assert!(backfilled[0].len() as u64 >= JUMP_MIN, "{:?}", backfilled[0].len());
        assert_eq!(backfilled[0], backfilled[1]);
    });
}
