//! Updates: the bundle that brings a new system into the other slot, and what is said about slots.
//!
//! ```text
//! RAVENUP1 │ len u32 │ signature 64 │ manifest, JSON, len bytes │ root │ hashes │ kernel │ initramfs
//! ```
//! Little-endian. The signature is Ed25519 over [`SIGNED`] and the manifest; everything else is held against digests in
//! the manifest. Nothing of the manifest is read before the signature was found right: [`Header`] is all that is parsed
//! of bytes that nobody vouches for. The parts lie in this order without anything between, so that a bundle can be
//! taken as a stream and gone on with from any offset.

mod slots;

pub use slots::{SlotView, Slots, UpdateLine};

use crate::hex::unhex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How a bundle begins.
pub const MAGIC: [u8; 8] = *b"RAVENUP1";
/// Bytes before the manifest.
pub const FIXED: usize = 8 + 4 + 64;
/// Longest manifest, bytes.
pub const MANIFEST_MAX: usize = 16 << 10;
/// Stands before the manifest when it is signed: a signature of something else is none of a bundle.
pub const SIGNED: &[u8] = b"raven update bundle 1\n";
/// Largest root, bytes: what a slot holds.
pub const ROOT_MAX: u64 = 192 << 20;
/// Largest hash tree, bytes: the last block of its partition holds [`PROGRESS`].
pub const HASHES_MAX: u64 = (4 << 20) - PROGRESS;
/// Bytes at the end of the hash tree's partition in which an update notes how far it is.
pub const PROGRESS: u64 = 4096;
/// Largest kernel and largest initramfs together, bytes: both slots' must fit the EFI system partition, and a new one
/// beside an old one.
pub const BOOT_MAX: u64 = 30 << 20;

/// What this Raven writes and reads on disk. The ring's is that of its blocks.
pub const FORMATS: Formats = Formats { ring: 2, config: 1, state: 1 };
/// What an update by this Raven never goes below, whoever orders it. Raised when a release closes a hole that must stay
/// closed.
pub const FLOOR: Version = Version(0, 0, 1);

/// A release: three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Of the program that asks.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn own() -> Self {
        env!("CARGO_PKG_VERSION").parse().expect("a test reads it")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = BundleError;

    fn try_from(text: String) -> Result<Self, BundleError> {
        text.parse()
    }
}

impl FromStr for Version {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        };
        let parts: Option<Vec<u32>> = text.split('.').map(number).collect();
        match parts.as_deref() {
            Some([major, minor, patch]) => Ok(Self(*major, *minor, *patch)),
            _ => Err(BundleError::Version(text.chars().take(40).collect())),
        }
    }
}

/// Versions of what lies on the data partition, which both slots use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formats {
    /// Blocks of the ring.
    pub ring: u32,
    /// `schema` of the configuration.
    pub config: u32,
    /// Cursors, secrets, identity.
    pub state: u32,
}

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its length.
    pub bytes: u64,
    /// SHA-256, 64 lower-case hex digits.
    pub sha256: String,
}

/// Which file of the bundle, in the order in which they lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartName {
    /// The root file system.
    Root,
    /// Its hash tree.
    Hashes,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
}

impl PartName {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Root, Self::Hashes, Self::Kernel, Self::Initramfs];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Hashes => "hashes",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
        }
    }
}

/// What a bundle holds and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `raven`.
    pub product: String,
    /// `x86-64`.
    pub machine: String,
    /// Its release.
    pub version: Version,
    /// When its sources were written, in seconds since 1970.
    pub made_s: u64,
    /// Once it runs, it takes no bundle below this one.
    pub floor: Version,
    /// The oldest formats that it reads.
    pub reads_from: Formats,
    /// The newest formats that it reads, and those that it writes.
    pub reads_to: Formats,
    /// `ROOT.BLOCKS.SALT`: what the kernel holds the root against.
    pub verity: String,
    /// Further words of the kernel's command line.
    pub arguments: String,
    /// The root file system, a squashfs.
    pub root: Part,
    /// Its hash tree.
    pub hashes: Part,
    /// The kernel.
    pub kernel: Part,
    /// The initramfs.
    pub initramfs: Part,
}

/// A bundle that is not taken, in operators' words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Something else.
    #[error("this is no update bundle of Raven: it does not begin with RAVENUP1")]
    Magic,
    /// It ends too early.
    #[error("the bundle is cut: {has} bytes of {of} that are needed")]
    Cut {
        /// Bytes there.
        has: u64,
        /// Bytes needed.
        of: u64,
    },
    /// A length that no bundle has.
    #[error("the bundle is damaged: its manifest would have {0} bytes; {MANIFEST_MAX} are the most")]
    Length(u32),
    /// No key of this box made the signature.
    #[error("the bundle is not signed by a key that this box trusts, or its manifest was altered")]
    Signature,
    /// Signed, but by a newer or other builder.
    #[error("the bundle's manifest cannot be read by this Raven: {0}")]
    Manifest(String),
    /// Three numbers were expected.
    #[error("`{0}` is no version; it looks like 1.2.3")]
    Version(String),
    /// For another machine.
    #[error("the bundle is for {product} on {machine}; this box is raven on x86-64")]
    Product {
        /// Of the bundle.
        product: String,
        /// Of the bundle.
        machine: String,
    },
    /// Older than what runs.
    #[error("the bundle has {bundle}, older than {running}, which runs here; --allow-downgrade takes it all the same")]
    Downgrade {
        /// Of the bundle.
        bundle: Version,
        /// Of this box.
        running: Version,
    },
    /// Older than ever allowed.
    #[error("the bundle has {bundle}; {running}, which runs here, takes none below {floor}")]
    Floor {
        /// Of the bundle.
        bundle: Version,
        /// Of this box.
        running: Version,
        /// Its limit.
        floor: Version,
    },
    /// It could not read what is kept.
    #[error("{version} reads {what} of the formats {from} to {to}, and this box has {here}: it would not read it")]
    Format {
        /// Of the bundle.
        version: Version,
        /// Ring, config or state.
        what: &'static str,
        /// Oldest that it reads.
        from: u32,
        /// Newest that it reads.
        to: u32,
        /// What lies here.
        here: u32,
    },
    /// A part is not what the manifest says.
    #[error("the bundle was altered or damaged: its {0} has another SHA-256 than its manifest says")]
    Digest(&'static str),
}

/// The beginning of a bundle, cut into its fields and not yet vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Over [`SIGNED`] and the manifest.
    pub signature: &'a [u8; 64],
    /// JSON, not read yet.
    pub manifest: &'a [u8],
}

impl<'a> Header<'a> {
    /// How many bytes the header has; `None` while the bytes do not say so yet.
    ///
    /// # Errors
    /// It is no bundle, or has an impossible length.
    pub fn len(bytes: &[u8]) -> Result<Option<usize>, BundleError> {
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            return Err(BundleError::Magic);
        }
        let Some(len) = bytes.get(8..12).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes) else {
            return Ok(None);
        };
        if len == 0 || len as usize > MANIFEST_MAX {
            return Err(BundleError::Length(len));
        }
        Ok(Some(FIXED + len as usize))
    }

    /// Cuts the beginning of `bytes` into fields.
    ///
    /// # Errors
    /// It is no bundle, or not all of the header is there.
    pub fn cut(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let cut = |of: usize| BundleError::Cut { has: bytes.len() as u64, of: of as u64 };
        let len = Self::len(bytes)?.ok_or_else(|| cut(FIXED))?;
        let signature = bytes.get(12..FIXED).and_then(|s| s.first_chunk()).ok_or_else(|| cut(len))?;
        let manifest = bytes.get(FIXED..len).ok_or_else(|| cut(len))?;
        Ok(Self { signature, manifest })
    }

    /// What must have been signed.
    pub fn signed(&self) -> Vec<u8> {
        [SIGNED, self.manifest].concat()
    }

    /// Reads the manifest. Only of one whose signature was found right.
    ///
    /// # Errors
    /// It does not say what a manifest says.
    pub fn read(&self) -> Result<Manifest, BundleError> {
        let manifest: Manifest =
            serde_json::from_slice(self.manifest).map_err(|error| BundleError::Manifest(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }
}

/// Keys that a box trusts: 64 hex digits each, a line each; `#` begins a remark.
pub fn keys(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter_map(unhex).filter(|key| key.len() == 32).collect()
}

/// A header with this manifest, for the builder.
///
/// # Errors
/// The manifest is longer than [`MANIFEST_MAX`] or wrong.
pub fn header(manifest: &Manifest, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Vec<u8>, BundleError> {
    manifest.check()?;
    let text = serde_json::to_vec(manifest).map_err(|error| BundleError::Manifest(error.to_string()))?;
    let len = text.len() as u32;
    if text.len() > MANIFEST_MAX {
        return Err(BundleError::Length(len));
    }
    let signature = sign(&[SIGNED, &text].concat());
    Ok([&MAGIC[..], &len.to_le_bytes(), &signature, &text].concat())
}

impl Manifest {
    /// A part.
    pub const fn part(&self, name: PartName) -> &Part {
        match name {
            PartName::Root => &self.root,
            PartName::Hashes => &self.hashes,
            PartName::Kernel => &self.kernel,
            PartName::Initramfs => &self.initramfs,
        }
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        PartName::ALL.map(|name| self.part(name).bytes).iter().sum()
    }

    /// Where a part begins, in bytes behind the header.
    pub fn offset(&self, name: PartName) -> u64 {
        PartName::ALL.iter().take_while(|other| **other != name).map(|other| self.part(*other).bytes).sum()
    }

    /// Which part the byte at `offset` behind the header is in, and how many of it come before and from there on; `None`
    /// at the end.
    pub fn at(&self, offset: u64) -> Option<(PartName, u64, u64)> {
        let mut before = 0;
        for name in PartName::ALL {
            let bytes = self.part(name).bytes;
            if offset < before + bytes {
                return Some((name, offset - before, before + bytes - offset));
            }
            before += bytes;
        }
        None
    }

    /// What no order can change: product, sizes, forms.
    fn check(&self) -> Result<(), BundleError> {
        let wrong = |what: &str| Err(BundleError::Manifest(what.to_owned()));
        if self.product != "raven" || self.machine != "x86-64" {
            let short = |text: &str| text.chars().take(40).collect();
            return Err(BundleError::Product { product: short(&self.product), machine: short(&self.machine) });
        }
        for name in PartName::ALL {
            let digest = &self.part(name).sha256;
            let hex = digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if digest.len() != 64 || !hex || self.part(name).bytes == 0 {
                return wrong("a part without a length or a SHA-256");
            }
        }
        let boot = self.kernel.bytes.saturating_add(self.initramfs.bytes);
        if self.root.bytes > ROOT_MAX || self.hashes.bytes > HASHES_MAX || boot > BOOT_MAX {
            return wrong("a part is larger than its place on the disk");
        }
        // They go into a file that GRUB reads as a script.
        let word = |b: u8| b.is_ascii_alphanumeric() || b" =,.:/_-".contains(&b);
        if self.arguments.len() > 1024 || !self.arguments.bytes().all(word) {
            return wrong("words of the kernel's command line that are none");
        }
        Ok(())
    }

    /// Whether a box on which `running` runs takes it.
    ///
    /// # Errors
    /// Why not.
    pub fn taken_by(&self, running: Version, here: Formats, downgrade: bool) -> Result<(), BundleError> {
        let bundle = self.version;
        if bundle < FLOOR {
            return Err(BundleError::Floor { bundle, running, floor: FLOOR });
        }
        if bundle < running && !downgrade {
            return Err(BundleError::Downgrade { bundle, running });
        }
        let formats = [
            ("the ring", self.reads_from.ring, self.reads_to.ring, here.ring),
            ("the configuration", self.reads_from.config, self.reads_to.config, here.config),
            ("the state", self.reads_from.state, self.reads_to.state, here.state),
        ];
        for (what, from, to, here) in formats {
            if here < from || here > to {
                return Err(BundleError::Format { version: bundle, what, from, to, here });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
