#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn manifest() -> Manifest {
    let part = |bytes| Part { bytes, sha256: "ab".repeat(32) };
    Manifest {
        product: "raven".to_owned(),
        machine: "x86-64".to_owned(),
        version: Version(1, 2, 3),
        made_s: 1_700_000_000,
        floor: FLOOR,
        reads_from: FORMATS,
        reads_to: FORMATS,
        verity: format!("{}.5.aa", "11".repeat(32)),
        arguments: "console=tty1 panic=10".to_owned(),
        root: part(100),
        hashes: part(10),
        kernel: part(30),
        initramfs: part(7),
    }
}

/// Stands in for Ed25519: each byte and its place counts (FNV-1a from eight beginnings).
fn sign(bytes: &[u8]) -> [u8; 64] {
    let sum = |seed: u64| {
        let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ seed, add).to_le_bytes()
    };
    let sums: Vec<u8> = (0..8).flat_map(sum).collect();
    sums.try_into().unwrap()
}

fn is_signed(bytes: &[u8]) -> bool {
    Header::cut(bytes).is_ok_and(|header| sign(&header.signed()) == *header.signature)
}

#[test]
fn a_header_is_read_as_it_was_written_and_what_follows_is_not_looked_at() {
    let mut bytes = header(&manifest(), sign).unwrap();
    let len = bytes.len();
    bytes.extend(b"root");
    assert_eq!(Header::len(&bytes), Ok(Some(len)));
    assert!(is_signed(&bytes));
    assert_eq!(Header::cut(&bytes).unwrap().read(), Ok(manifest()));
}

#[test]
fn a_header_that_is_cut_anywhere_is_told() {
    let bytes = header(&manifest(), sign).unwrap();
    for end in 0..bytes.len() {
        assert!(matches!(Header::cut(&bytes[..end]), Err(BundleError::Cut { .. })), "{end}");
    }
}

#[test]
fn parts_are_found_by_offset_and_follow_one_another() {
    let manifest = manifest();
    assert_eq!(manifest.bytes(), 147);
    assert_eq!(manifest.at(0), Some((PartName::Root, 0, 100)));
    assert_eq!(manifest.at(99), Some((PartName::Root, 99, 1)));
    assert_eq!(manifest.at(100), Some((PartName::Hashes, 0, 10)));
    assert_eq!(manifest.at(146), Some((PartName::Initramfs, 6, 1)));
    assert_eq!(manifest.at(147), None);
    assert_eq!(manifest.offset(PartName::Kernel), 110);
}

#[test]
fn older_is_refused_unless_it_is_ordered_and_never_below_the_floor() {
    let older = Manifest { version: Version(1, 0, 0), ..manifest() };
    let running = Version(1, 2, 0);
    assert_eq!(manifest().taken_by(running, FORMATS, false), Ok(()));
    assert_eq!(manifest().taken_by(Version(1, 2, 3), FORMATS, false), Ok(()));
    assert!(matches!(older.taken_by(running, FORMATS, false), Err(BundleError::Downgrade { .. })));
    assert_eq!(older.taken_by(running, FORMATS, true), Ok(()));
    let ancient = Manifest { version: Version(0, 0, 0), ..manifest() };
    assert!(matches!(ancient.taken_by(running, FORMATS, true), Err(BundleError::Floor { .. })));
}

#[test]
fn a_system_that_could_not_read_what_lies_here_is_refused_also_by_order() {
    let newer = Formats { ring: FORMATS.ring + 1, ..FORMATS };
    let error = manifest().taken_by(Version(1, 0, 0), newer, true).unwrap_err().to_string();
    assert!(error.contains("the ring") && error.contains(&newer.ring.to_string()), "{error}");
    let wide = Manifest { reads_to: newer, ..manifest() };
    assert_eq!(wide.taken_by(Version(1, 0, 0), FORMATS, false), Ok(()));
}

#[test]
fn other_products_and_impossible_parts_are_refused() {
    let text = |manifest: &Manifest| serde_json::to_vec(manifest).unwrap();
    let read = |manifest: Manifest| Header { signature: &[0; 64], manifest: &text(&manifest) }.read();
    assert!(matches!(read(Manifest { product: "crow".into(), ..manifest() }), Err(BundleError::Product { .. })));
    let part = |bytes, sha256: &str| Part { bytes, sha256: sha256.to_owned() };
    let digest = "0".repeat(64);
    for wrong in [
        Manifest { root: part(ROOT_MAX + 1, &digest), ..manifest() },
        Manifest { kernel: part(u64::MAX, &digest), ..manifest() },
        Manifest { root: part(0, &digest), ..manifest() },
        Manifest { hashes: part(1, &"G".repeat(64)), ..manifest() },
        Manifest { arguments: "x\nreboot".to_owned(), ..manifest() },
    ] {
        assert!(matches!(read(wrong.clone()), Err(BundleError::Manifest(_))), "{wrong:?}");
        assert!(header(&wrong, sign).is_err());
    }
}

#[test]
fn versions_are_three_numbers() {
    assert_eq!("1.20.3".parse(), Ok(Version(1, 20, 3)));
    assert!(Version(1, 9, 0) < Version(1, 10, 0) && Version::own() >= FLOOR);
    for wrong in ["", "1.2", "1.2.3.4", "1.2.x", "1.2.-3", "1.2.+3", "1.2.3-rc1", "1.2.99999999999"] {
        assert!(wrong.parse::<Version>().is_err(), "{wrong}");
    }
}

#[test]
fn keys_are_lines_of_digits() {
    let key = "ab".repeat(32);
    assert_eq!(keys(&format!("# ours\n{key} # 2026\n\nnot a key\nabcd\n{key}\n")), vec![vec![0xab; 32]; 2]);
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(header) = Header::cut(&bytes) {
            let _ = header.read();
        }
        let behind = [&MAGIC[..], &bytes].concat();
        if let Ok(header) = Header::cut(&behind) {
            let _ = header.read();
        }
    }

    #[test]
    fn a_flipped_bit_is_never_signed(at in 0_usize..10_000, bit in 0_u32..8) {
        let mut bytes = header(&manifest(), sign).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(!is_signed(&bytes), "byte {at}");
    }

    #[test]
    fn bytes_that_changed_places_are_never_signed(a in 0_usize..10_000, b in 0_usize..10_000) {
        let mut bytes = header(&manifest(), sign).unwrap();
        let (a, b) = (a % bytes.len(), b % bytes.len());
        prop_assume!(bytes[a] != bytes[b]);
        bytes.swap(a, b);
        prop_assert!(!is_signed(&bytes), "bytes {a} and {b}");
    }
}
