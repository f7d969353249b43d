//! The collector of Windows events: HTTP/1.1 and HTTPS, as agents send them.
//!
//! [`crate::http`] has all that is not about events; here `raven_decode` finds the events in a body, and each is
//! appended as it came. `request.rs` has the way of a request.

mod elastic;
mod items;
mod request;

use crate::http::answer::Answer;
use crate::http::shared::{Peer, Shared};
use crate::http::{Failed, Http, Intake, Settings};
use hyper::Request;
use hyper::body::Incoming;
use raven_model::config::Config;
use raven_model::stream::Stream;
use std::rc::Rc;

/// The collector.
pub type Winevent = Http<Events>;

/// Bodies that hold Windows events.
pub struct Events;

impl Intake for Events {
    const STREAM: Stream = Stream::Winevent;

    fn settings(config: &Config) -> Settings {
        let winevent = &config.collect.winevent;
        Settings {
            body: winevent.body_limit.0 as usize,
            record: winevent.event_limit.0 as usize,
            guarded: winevent.credentials.is_some(),
            asks: winevent.client_ca.is_some(),
            speaks_tls: !winevent.https.is_empty(),
        }
    }

    async fn serve(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Result<Answer, Failed> {
        request::serve(shared, peer, request).await.map_err(|(refused, whole)| Failed::lost(refused, whole))
    }
}
