//! What the update role hands over so that it is started: the bundle's header, its kernel and its initramfs, one behind
//! the other. It comes out of a jail that foreign bytes went into, so nothing of it is believed: the signature is checked
//! once more before the manifest is read, and each file is held against its digest.

use crate::verity::{BLOCK, Verity};
use raven_model::hex::hex;
use raven_model::update::{BundleError, Formats, Header, Manifest, PartName, Version};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// A system that is to be started, and may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed<'a> {
    /// What the builder says of it.
    pub manifest: Manifest,
    /// What the root must be.
    pub verity: Verity,
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initramfs.
    pub initramfs: &'a [u8],
}

/// Whether one of `keys` signed it.
///
/// # Errors
/// None did.
pub fn vouched(header: &Header<'_>, keys: &[Vec<u8>]) -> Result<(), BundleError> {
    let signed = header.signed();
    let right = |key: &Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(&signed, header.signature).is_ok();
    if keys.iter().any(right) { Ok(()) } else { Err(BundleError::Signature) }
}

impl<'a> Handed<'a> {
    /// Takes what was handed over apart.
    ///
    /// # Errors
    /// It is not signed, not for this box, older than ever allowed, cut, or a file is another one than was signed.
    pub fn read(bytes: &'a [u8], keys: &[Vec<u8>], here: Formats) -> Result<Self, BundleError> {
        let header = Header::cut(bytes)?;
        vouched(&header, keys)?;
        let manifest = header.read()?;
        // Whether older ones are taken was decided before; what is never taken is not taken here either.
        manifest.taken_by(Version(0, 0, 0), here, true)?;
        let mut rest = &bytes[Header::len(bytes)?.unwrap_or_default()..];
        let mut file = |name: PartName| {
            let part = manifest.part(name);
            let cut = BundleError::Cut { has: rest.len() as u64, of: part.bytes };
            let (file, behind) = rest.split_at_checked(part.bytes as usize).ok_or(cut)?;
            rest = behind;
            let right = hex(&Sha256::digest(file)) == part.sha256;
            if right { Ok(file) } else { Err(BundleError::Digest(name.name())) }
        };
        let (kernel, initramfs) = (file(PartName::Kernel)?, file(PartName::Initramfs)?);
        let wrong = |what: String| BundleError::Manifest(what);
        let verity: Verity = manifest.verity.parse().map_err(|e| wrong(format!("verity: {e}")))?;
        if verity.blocks != manifest.root.bytes.div_ceil(BLOCK as u64) {
            return Err(wrong("verity: another number of blocks than the root has".to_owned()));
        }
        Ok(Self { manifest, verity, kernel, initramfs })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::update::{FLOOR, FORMATS, Part, header};
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    fn manifest() -> Manifest {
        let part = |content: &[u8]| Part { bytes: content.len() as u64, sha256: hex(&Sha256::digest(content)) };
        Manifest {
            product: "raven".to_owned(),
            machine: "x86-64".to_owned(),
            version: Version(1, 0, 0),
            made_s: 0,
            floor: FLOOR,
            reads_from: FORMATS,
            reads_to: FORMATS,
            verity: format!("{}.2.aa", "11".repeat(32)),
            arguments: "quiet".to_owned(),
            root: Part { bytes: 5000, sha256: "0".repeat(64) },
            hashes: Part { bytes: 4096, sha256: "0".repeat(64) },
            kernel: part(b"kernel"),
            initramfs: part(b"initramfs"),
        }
    }

    fn handed(manifest: &Manifest) -> (Vec<u8>, Vec<Vec<u8>>) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let head = header(manifest, |text| pair.sign(text).as_ref().try_into().unwrap()).unwrap();
        ([&head[..], b"kernel", b"initramfs"].concat(), vec![pair.public_key().as_ref().to_vec()])
    }

    #[test]
    fn what_was_signed_is_taken() {
        let (bytes, keys) = handed(&manifest());
        let handed = Handed::read(&bytes, &keys, FORMATS).unwrap();
        assert_eq!((handed.kernel, handed.initramfs, handed.verity.blocks), (&b"kernel"[..], &b"initramfs"[..], 2));
    }

    #[test]
    fn no_single_changed_byte_and_no_cut_is_taken() {
        let (bytes, keys) = handed(&manifest());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Handed::read(&changed, &keys, FORMATS).is_err(), "byte {at}");
            assert!(Handed::read(&bytes[..at], &keys, FORMATS).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_nobody_known_signed_or_would_not_read_the_ring_is_not_taken() {
        let (bytes, _) = handed(&manifest());
        assert_eq!(Handed::read(&bytes, &[], FORMATS), Err(BundleError::Signature));
        assert_eq!(Handed::read(&bytes, &[vec![1; 32]], FORMATS), Err(BundleError::Signature));
        let (bytes, keys) = handed(&Manifest { version: Version(0, 0, 0), ..manifest() });
        assert!(matches!(Handed::read(&bytes, &keys, FORMATS), Err(BundleError::Floor { .. })));
        let (bytes, keys) = handed(&manifest());
        let newer = Formats { ring: FORMATS.ring + 1, ..FORMATS };
        assert!(matches!(Handed::read(&bytes, &keys, newer), Err(BundleError::Format { .. })));
        let (bytes, keys) = handed(&Manifest { verity: format!("{}.3.aa", "11".repeat(32)), ..manifest() });
        assert!(matches!(Handed::read(&bytes, &keys, FORMATS), Err(BundleError::Manifest(_))));
    }
}
