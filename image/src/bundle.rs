//! `raven.bundle`: a system on its way to a box that runs another one. `docs/formats.md` has the form.

use crate::key::Key;
use crate::recipe::BUNDLE_BUDGET;
use crate::{System, bytes};
use anyhow::{Context, Result, ensure};
use raven_boot::slot_file::KERNEL_ARGUMENTS;
use raven_model::hex::hex;
use raven_model::update::{FLOOR, FORMATS, Formats, Manifest, Part, header};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// The oldest formats that this Raven reads.
const READS_FROM: Formats = Formats { ring: 1, config: 1, state: 1 };

/// Writes it.
pub fn build(system: &System, key: &Key, epoch: u64, to: &Path) -> Result<()> {
    let files = [&system.root, &system.hashes, &system.kernel, &system.initramfs];
    let [root, hashes, kernel, initramfs] = files.map(|path| part(path));
    let manifest = Manifest {
        product: "raven".to_owned(),
        machine: "x86-64".to_owned(),
        version: system.version,
        made_s: epoch,
        floor: FLOOR,
        reads_from: READS_FROM,
        reads_to: FORMATS,
        verity: system.verity.to_string(),
        arguments: KERNEL_ARGUMENTS.to_owned(),
        root: root?,
        hashes: hashes?,
        kernel: kernel?,
        initramfs: initramfs?,
    };
    let mut bundle = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    bundle.write_all(&header(&manifest, |text| key.sign(text))?)?;
    for path in files {
        io::copy(&mut File::open(path)?, &mut bundle)?;
    }
    bundle.sync_all()?;
    within(bytes(to)?)
}

fn part(path: &Path) -> Result<Part> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Part { bytes: content.len() as u64, sha256: hex(&Sha256::digest(&content)) })
}

fn within(size: u64) -> Result<()> {
    ensure!(size <= BUNDLE_BUDGET, "raven.bundle has {size} bytes; its budget is {BUNDLE_BUDGET}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::update::{Header, PartName};
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_bundle_is_signed_and_holds_its_parts_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            std::fs::write(dir.path().join(name), content).unwrap();
            dir.path().join(name)
        };
        let system = System {
            version: "1.2.3".parse().unwrap(),
            root: file("root", &[1; 5000]),
            hashes: file("hashes", &[2; 100]),
            verity: raven_boot::verity::Verity { root: [3; 32], blocks: 2, salt: vec![] },
            kernel: file("kernel", b"kernel"),
            initramfs: file("initramfs", b"init"),
        };
        let key = Key::make(&dir.path().join("key")).unwrap();
        let to = dir.path().join("raven.bundle");
        build(&system, &key, 7, &to).unwrap();
        let bundle = std::fs::read(&to).unwrap();
        let head = Header::cut(&bundle).unwrap();
        let public = raven_model::hex::unhex(key.public_text().trim()).unwrap();
        UnparsedPublicKey::new(&ED25519, public).verify(&head.signed(), head.signature).unwrap();
        let manifest = head.read().unwrap();
        let start = Header::len(&bundle).unwrap().unwrap();
        for (name, path) in [(PartName::Root, &system.root), (PartName::Initramfs, &system.initramfs)] {
            let at = start + manifest.offset(name) as usize;
            assert_eq!(bundle[at..at + manifest.part(name).bytes as usize], std::fs::read(path).unwrap());
            assert_eq!(*manifest.part(name), part(path).unwrap());
        }
        assert_eq!(bundle.len() as u64, start as u64 + manifest.bytes());
        assert!(within(BUNDLE_BUDGET).is_ok() && within(BUNDLE_BUDGET + 1).is_err());
    }
}
