//! Every flow of a datagram as typed fields, with its sampling rate: for those who count and do not show.

use super::decode::{Item, TemplateSource, walk};
use super::fields::Flow;
use super::sampling::{Rate, SamplingSource};
use super::scan::Scan;
use super::sflow::{Interface, SampleKind};
use super::show::{View, rate, samples};
use super::template::{Record, TemplateKind};

/// A flow record, or a flow sample of sFlow.
#[derive(Debug)]
pub struct Seen<'r, 't, 'a> {
    /// Its fields. Counters are as sent; a sample counts as one packet of the length that it had.
    pub flow: Flow,
    /// Packets per sampled packet, and who says so.
    pub rate: Rate,
    /// The record, for elements that [`Flow`] does not have; none of a sample.
    pub record: Option<&'r Record<'t, 'a>>,
}

/// What else a datagram holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// Data sets without a template and samples of unknown formats.
    pub undescribed: u64,
    /// What could not be read.
    pub faults: u64,
}

/// Hands out the flows of a datagram, and the records of options to `options`.
pub fn flows(
    scan: &Scan<'_>,
    view: &View<'_>,
    templates: &dyn TemplateSource,
    take: &mut dyn FnMut(&Seen<'_, '_, '_>),
    options: &mut dyn FnMut(&Record<'_, '_>),
) -> Rest {
    let (header, mut rest) = (scan.header(), Rest::default());
    walk(scan, templates, &mut |item| match item {
        Item::Set { template, body, .. } => {
            for record in template.records(body) {
                match template.kind() {
                    TemplateKind::Data => {
                        let flow = Flow::read(&record, header);
                        let rate = rate(&flow, header, view);
                        take(&Seen { flow, rate, record: Some(&record) });
                    }
                    TemplateKind::Options => options(&record),
                }
            }
        }
        Item::Sample(sample) => {
            let SampleKind::Flow { sampling, input, output, .. } = sample.kind else { return };
            let index = |interface| match interface {
                Interface::Index(index) => Some(u64::from(index)),
                _ => None,
            };
            let mut flow = Flow { packets: Some(1), ..samples::flow_of(&sample) };
            (flow.in_if, flow.out_if) = (index(input), index(output));
            let source = if sampling > 0 { SamplingSource::Header } else { SamplingSource::Unknown };
            take(&Seen { flow, rate: Rate { rate: Some(sampling.into()), source }, record: None });
        }
        Item::Undescribed(_) | Item::UnknownSample(..) => rest.undescribed += 1,
        Item::Fault(_) => rest.faults += 1,
    });
    rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::decode::NoTemplates;
    use super::super::scan::scan;
    use super::*;

    #[test]
    fn a_record_and_a_sample_are_both_flows() {
        // NetFlow 5: one record, sampling 1 in 100.
        let mut v5 = vec![0; 72];
        (v5[1], v5[3], v5[23]) = (5, 1, 100);
        (v5[27], v5[24 + 23], v5[24 + 38]) = (9, 77, 17);
        // sFlow 5: one sample of 1 in 256, whose packet was 1500 bytes long.
        let words: [u32; 23] = [5, 1, 0x0a00_0001, 0, 1, 9, 1, 1, 56, 1, 3, 256, 7, 0, 2, 4, 1, 1, 16, 99, 1500, 0, 0];
        let sflow: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let seen = |raw: &[u8]| {
            let mut all = Vec::new();
            let view = View::default();
            let rest = flows(
                &scan(raw).unwrap(),
                &view,
                &NoTemplates,
                &mut |seen| all.push((seen.flow.bytes, seen.flow.packets, seen.rate.rate, seen.rate.source)),
                &mut |_| {},
            );
            (all, rest)
        };
        let (all, rest) = seen(&v5);
        assert_eq!(all, [(Some(77), Some(0), Some(100), SamplingSource::Header)]);
        assert_eq!(rest, Rest::default());
        assert_eq!(seen(&sflow).0, [(Some(1500), Some(1), Some(256), SamplingSource::Header)]);
    }
}
