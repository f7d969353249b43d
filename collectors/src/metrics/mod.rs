//! The collector of metrics and log lines that are pushed: Prometheus remote write 1.0 and Loki's push, as Grafana
//! Alloy and Prometheus send them.
//!
//! [`crate::http`] has all that is not about them. Here a body is unpacked and `raven_decode` looks at the whole of it;
//! then each series and each log line is appended as it came (`raven_decode::metrics` has the form of a record). What
//! can never be understood is kept as well, marked as refused, and answered with 400: the sender throws it away.
//! `request.rs` has the way of a request, `form.rs` what its head says.

mod form;
mod request;

use crate::http::answer::Answer;
use crate::http::shared::{Peer, Shared};
use crate::http::{Failed, Http, Intake, Settings};
use hyper::Request;
use hyper::body::Incoming;
use raven_model::config::Config;
use raven_model::record::RAW_MAX;
use raven_model::stream::Stream;
use std::rc::Rc;

/// The collector.
pub type Metrics = Http<Pushes>;

/// Bodies that hold series or log lines.
pub struct Pushes;

impl Intake for Pushes {
    const STREAM: Stream = Stream::Metrics;

    fn settings(config: &Config) -> Settings {
        let metrics = &config.collect.metrics;
        Settings {
            body: metrics.body_limit.0 as usize,
            record: RAW_MAX,
            guarded: metrics.credentials.is_some(),
            asks: metrics.client_ca.is_some(),
            speaks_tls: !metrics.https.is_empty(),
        }
    }

    async fn serve(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Result<Answer, Failed> {
        request::serve(shared, peer, request).await
    }
}
