//! Samples of the host for Prometheus and those who take its remote write, version 1.0: a `WriteRequest` in protobuf,
//! packed by snappy. `docs/formats.md` has the names.

use crate::metrics::Numbers;
use crate::proto::{field_bytes, field_double, field_number};

/// Writes the samples of one device.
pub struct RemoteWrite {
    device: String,
    series: Vec<u8>,
    part: Vec<u8>,
}

impl RemoteWrite {
    /// For the samples of `device`.
    pub fn new(device: &str) -> Self {
        Self { device: device.to_owned(), series: Vec::new(), part: Vec::new() }
    }

    /// Appends a sample, as elements of `WriteRequest.timeseries`, each with one value.
    pub fn sample(&mut self, out: &mut Vec<u8>, sample: &Numbers) {
        let Self { device, series, part } = self;
        for family in sample.families() {
            for point in &family.points {
                let ours = [("__name__", family.name), ("dev", device), ("instance", device), ("job", "raven")];
                let mut labels: Vec<(&str, &str)> = ours.into_iter().chain(point.labels.iter().copied()).collect();
                // The protocol wants them in the order of their names.
                labels.sort_unstable();
                series.clear();
                for (name, value) in labels {
                    part.clear();
                    field_bytes(part, 1, name.as_bytes());
                    field_bytes(part, 2, value.as_bytes());
                    field_bytes(series, 1, part);
                }
                part.clear();
                field_double(part, 1, point.value);
                field_number(part, 2, sample.at().0 / 1_000_000);
                field_bytes(series, 2, part);
                field_bytes(out, 1, series);
            }
        }
    }
}

/// Whether a receiver refuses samples for their time alone, in the words of Prometheus: it has newer ones of the
/// series, or takes none so old. The same again would never be taken.
pub fn is_of_time(says: &str) -> bool {
    ["out of order", "out of bounds", "duplicate sample", "too old"].iter().any(|words| says.contains(words))
}
