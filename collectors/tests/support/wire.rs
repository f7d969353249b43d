//! Datagrams as exporters send them.

/// A set.
pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

/// A template of these elements and lengths.
pub fn template(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let fields_bytes = fields.iter().flat_map(|(id, len)| [*id, *len].map(u16::to_be_bytes).concat());
    [id, fields.len() as u16].map(u16::to_be_bytes).concat().into_iter().chain(fields_bytes).collect()
}

/// NetFlow 9.
pub fn v9(domain: u32, sequence: u32, uptime: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let words = [uptime, 1_700_000_000, sequence, domain].map(u32::to_be_bytes).concat();
    [&[0, 9, 0, sets.len() as u8][..], &words, &sets.concat()].concat()
}

/// IPFIX.
pub fn ipfix(domain: u32, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let sets = sets.concat();
    let words = [1_700_000_000, sequence, domain].map(u32::to_be_bytes).concat();
    [&[0, 10][..], &(sets.len() as u16 + 16).to_be_bytes(), &words, &sets].concat()
}

/// NetFlow 5 with so many records.
pub fn v5(sequence: u32, count: u16, uptime: u32, sampling: u16) -> Vec<u8> {
    let words = [uptime, 1_700_000_000, 0, sequence].map(u32::to_be_bytes).concat();
    let records = vec![1; usize::from(count) * 48];
    [&[0, 5][..], &count.to_be_bytes(), &words, &[0, 1], &sampling.to_be_bytes(), &records].concat()
}

/// sFlow 5: flow samples of these interfaces and sequence numbers.
pub fn sflow(sequence: u32, uptime: u32, samples: &[(u32, u32)]) -> Vec<u8> {
    let head = [5, 1, 0x0a00_0001, 0, sequence, uptime, samples.len() as u32].map(u32::to_be_bytes).concat();
    let samples = samples.iter().flat_map(|&(interface, sequence)| {
        [1, 32, sequence, interface, 512, sequence * 512, 0, interface, 0, 0].map(u32::to_be_bytes).concat()
    });
    head.into_iter().chain(samples).collect()
}

/// Options of NetFlow 9: scope 1 (system), samplerId 48, interval 50.
pub fn v9_sampler_template(id: u16) -> Vec<u8> {
    [id, 4, 8, 1, 4, 48, 1, 50, 4].map(u16::to_be_bytes).concat()
}

/// A record of it.
pub fn v9_sampler(sampler: u8, rate: u32) -> Vec<u8> {
    [&[0, 0, 0, 1, sampler][..], &rate.to_be_bytes()].concat()
}
