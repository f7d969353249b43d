//! What a template and a sampling rate are called among the contexts of a stream.
//!
//! | key | value |
//! |---|---|
//! | `t`, then [`TemplateKey::to_bytes`] | the template's definition; empty when it was withdrawn |
//! | `s`, then [`SamplerKey::to_bytes`] | packets per sampled packet, u64, little-endian |

use raven_decode::flow::sampling::SamplerKey;
use raven_decode::flow::templates::TemplateKey;

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'a> {
    /// A template and its definition; an empty one is of a template that was withdrawn.
    Template(TemplateKey, &'a [u8]),
    /// A sampler and its rate.
    Rate(SamplerKey, u64),
}

impl<'a> Known<'a> {
    /// What a context says, if it is one of these.
    pub fn read(key: &[u8], value: &'a [u8]) -> Option<Self> {
        match key.split_first()? {
            (b't', key) => Some(Self::Template(TemplateKey::from_bytes(key)?, value)),
            (b's', key) => Some(Self::Rate(SamplerKey::from_bytes(key)?, u64::from_le_bytes(value.try_into().ok()?))),
            _ => None,
        }
    }
}

/// Key of a template.
pub fn template_key(key: &TemplateKey) -> [u8; 1 + TemplateKey::LEN] {
    let mut bytes = [b't'; 1 + TemplateKey::LEN];
    bytes[1..].copy_from_slice(&key.to_bytes());
    bytes
}

/// Key of a sampling rate.
pub fn sampler_key(key: &SamplerKey) -> [u8; 1 + SamplerKey::LEN] {
    let mut bytes = [b's'; 1 + SamplerKey::LEN];
    bytes[1..].copy_from_slice(&key.to_bytes());
    bytes
}
