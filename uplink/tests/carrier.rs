//! What happens to what is under way when the tunnel that carries a destination changes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_model::tunnel::Carrier;
use raven_uplink::feed::{Ended, Speak, told};
use raven_uplink::fleet::{Base, Fleet};
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
