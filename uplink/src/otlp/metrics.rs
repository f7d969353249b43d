//! Samples of the host as metrics of OpenTelemetry (OTLP 1, `ExportMetricsServiceRequest`).

use super::{Origin, Value, attribute};
use crate::metrics::{Family, Numbers, Point};
use crate::proto::{field_bytes, field_double, field_fixed, field_number};
use raven_model::units::UnixNanos;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// Writes the samples of one device.
pub struct OtlpMetrics {
    origin: Origin,
    metric: Vec<u8>,
    data: Vec<u8>,
    point: Vec<u8>,
    part: Vec<u8>,
}

impl OtlpMetrics {
    /// For the samples of `stream`, taken by `device`.
    pub fn new(device: &str, stream: &str) -> Self {
        let [metric, data, point, part] = [(); 4].map(|()| Vec::new());
        Self { origin: Origin::new(device, stream), metric, data, point, part }
    }

    /// Appends a sample, as elements of `ScopeMetrics.metrics`.
    pub fn sample(&mut self, out: &mut Vec<u8>, sample: &Numbers) {
        for family in sample.families() {
            self.family(out, &family, sample.at());
        }
    }

    fn family(&mut self, out: &mut Vec<u8>, family: &Family<'_>, at: UnixNanos) {
        self.data.clear();
        for point in &family.points {
            self.point(point, at);
        }
        if family.counter {
            field_number(&mut self.data, 2, CUMULATIVE);
            // is_monotonic
            field_number(&mut self.data, 3, 1);
        }
        let metric = &mut self.metric;
        metric.clear();
        field_bytes(metric, 1, family.name.as_bytes());
        field_bytes(metric, 3, family.unit().as_bytes());
        field_bytes(metric, if family.counter { 7 } else { 5 }, &self.data);
        field_bytes(out, 2, metric);
    }

    /// Appends a `NumberDataPoint`.
    fn point(&mut self, point: &Point<'_>, at: UnixNanos) {
        let bytes = &mut self.point;
        bytes.clear();
        for (name, value) in &point.labels {
            attribute(bytes, &mut self.part, 7, name, &Value::Text(value));
        }
        field_fixed(bytes, 3, at.0);
        field_double(bytes, 4, point.value);
        field_bytes(&mut self.data, 1, bytes);
    }

    /// Puts the samples of a body into their request.
    pub fn close(&self, metrics: &mut Vec<u8>) {
        self.origin.close(metrics);
    }
}
