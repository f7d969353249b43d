//! The `host` stream: what the appliance says of itself. Its records are JSON by Raven's own hand, and are read back as
//! what they were written from; a record that is not that (of another version, or not by the collector) is refused.

use raven_model::host::HostRecord;

/// Reads a record, or says why it cannot be read. Bounded by the length of a record.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode(raw: &[u8]) -> Result<HostRecord, String> {
    HostRecord::read(raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use raven_model::host::Change;

    const SAMPLE: &[u8] = include_bytes!("../tests/host/sample.json");

    #[test]
    fn a_sample_of_a_real_machine_is_shown_as_it_was_written() {
        let record = decode(SAMPLE.trim_ascii()).unwrap();
        let HostRecord::Sample(sample) = &record else { panic!("a sample") };
        assert_eq!(sample.cpu.cpus, 2);
        assert!(sample.interfaces.iter().any(|interface| interface.name == "eth0"));
        assert_eq!(serde_json::to_string(&record).unwrap().as_bytes(), SAMPLE.trim_ascii());
    }

    #[test]
    fn an_event_is_read() {
        let record = decode(br#"{"t":7,"event":"oom_kill","count":2}"#).unwrap();
        assert!(matches!(record, HostRecord::Event(event) if event.what == Change::OomKill { count: 2 }));
    }

    #[test]
    fn a_record_cut_at_any_byte_is_refused() {
        let sample = SAMPLE.trim_ascii();
        for end in 0..sample.len() {
            assert!(decode(&sample[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            raw in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0..SAMPLE.len(),
            byte in any::<u8>(),
        ) {
            let _ = decode(&raw);
            let mut sample = SAMPLE.to_vec();
            sample[at] = byte;
            if let Ok(record) = decode(&sample) {
                prop_assert!(serde_json::to_string(&record).unwrap().len() <= 2 * sample.len());
            }
        }
    }
}
