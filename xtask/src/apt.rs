//! What tests and measurements need of the machine beyond Rust: Debian packages, installed when we may.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// A program or file, and the package that brings it.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    what: &'static str,
    package: &'static str,
}

/// rsyslog: destination of the delivery tests, reference of the measurements.
pub const RSYSLOG: Need = Need { what: "rsyslogd", package: "rsyslog" };
const IMRELP: Need = Need { what: "imrelp.so", package: "rsyslog-relp" };
const IP: Need = Need { what: "ip", package: "iproute2" };
const SNMPTRAP: Need = Need { what: "snmptrap", package: "snmp" };
const CURL: Need = Need { what: "curl", package: "curl" };
const OPENVPN: Need = Need { what: "openvpn", package: "openvpn" };
const WIREGUARD_GO: Need = Need { what: "wireguard-go", package: "wireguard-go" };
const OPENSSL: Need = Need { what: "openssl", package: "openssl" };
const KMOD: Need = Need { what: "modinfo", package: "kmod" };
const CPIO: Need = Need { what: "cpio", package: "cpio" };

/// nfcapd: reference for NetFlow.
pub const NFCAPD: Need = Need { what: "nfcapd", package: "nfdump" };

/// sfcapd: reference for sFlow.
pub const SFCAPD: Need = Need { what: "sfcapd", package: "nfdump-sflow" };

/// snmptrapd: reference for SNMP notifications.
pub const SNMPTRAPD: Need = Need { what: "snmptrapd", package: "snmptrapd" };

/// What the measurements are held against.
pub const REFERENCES: [Need; 8] =
    [RSYSLOG, NFCAPD, SFCAPD, SNMPTRAPD, Need { what: "zstdcat", package: "zstd" }, FPING, MTR, IPERF3];
const FPING: Need = Need { what: "fping", package: "fping" };
const MTR: Need = Need { what: "mtr", package: "mtr-tiny" };
const IPERF3: Need = Need { what: "iperf3", package: "iperf3" };

/// All that the tests use.
pub const TESTS: &[Need] = &[
    RSYSLOG,
    Need { what: "lmnsd_gtls.so", package: "rsyslog-gnutls" },
    Need { what: "lmnsd_ossl.so", package: "rsyslog-openssl" },
    Need { what: "nats-server", package: "nats-server" },
    Need { what: "prometheus", package: "prometheus" },
    Need { what: "protoc", package: "protobuf-compiler" },
    OPENSSL,
    CURL,
    NFCAPD,
    SFCAPD,
    Need { what: "softflowd", package: "softflowd" },
    SNMPTRAP,
    SNMPTRAPD,
    Need { what: "tshark", package: "tshark" },
    Need { what: "tcpdump", package: "tcpdump" },
    Need { what: "arping", package: "arping" },
    Need { what: "pmacctd", package: "pmacct" },
    IMRELP,
    Need { what: "tinyproxy", package: "tinyproxy" },
    Need { what: "microsocks", package: "microsocks" },
    OPENVPN,
    WIREGUARD_GO,
    Need { what: "dnsmasq", package: "dnsmasq-base" },
    Need { what: "dig", package: "bind9-dnsutils" },
    FPING,
    IPERF3,
    MTR,
    Need { what: "traceroute", package: "traceroute" },
    Need { what: "tracepath", package: "iputils-tracepath" },
    Need { what: "ping", package: "iputils-ping" },
    Need { what: "wg", package: "wireguard-tools" },
    Need { what: "sysctl", package: "procps" },
    IP,
    Need { what: "nft", package: "nftables" },
    Need { what: "zoneinfo/Europe/Berlin", package: "tzdata" },
    Need { what: "ethtool", package: "ethtool" },
    Need { what: "python3", package: "python3" },
    Need { what: "setpriv", package: "util-linux" },
    Need { what: "logger", package: "bsdutils" },
    Need { what: "strace", package: "strace" },
    CPIO,
    KMOD,
    Need { what: "veritysetup", package: "cryptsetup-bin" },
    Need { what: "sgdisk", package: "gdisk" },
    Need { what: "grub-script-check", package: "grub-common" },
    Need { what: "systemd-analyze", package: "systemd" },
];

/// What building an image takes.
pub const IMAGE: [Need; 11] = [
    Need { what: "mmdebstrap", package: "mmdebstrap" },
    Need { what: "mksquashfs", package: "squashfs-tools" },
    Need { what: "xorriso", package: "xorriso" },
    Need { what: "grub-mkimage", package: "grub-common" },
    Need { what: "boot_hybrid.img", package: "grub-pc-bin" },
    Need { what: "moddep.lst", package: "grub-efi-amd64-bin" },
    Need { what: "mcopy", package: "mtools" },
    Need { what: "mkfs.vfat", package: "dosfstools" },
    KMOD,
    Need { what: "xz", package: "xz-utils" },
    Need { what: "readelf", package: "binutils" },
];

/// What starting an image takes.
pub const QEMU: [Need; 14] = [
    Need { what: "busybox", package: "busybox-static" },
    CPIO,
    RSYSLOG,
    IMRELP,
    IP,
    Need { what: "ssh-keygen", package: "openssh-client" },
    OPENVPN,
    OPENSSL,
    SNMPTRAP,
    CURL,
    Need { what: "e2fsck", package: "e2fsprogs" },
    Need { what: "losetup", package: "mount" },
    Need { what: "qemu-system-x86_64", package: "qemu-system-x86" },
    Need { what: "OVMF_CODE_4M.fd", package: "ovmf" },
];

/// Where packages are unpacked that may not be installed beside others.
const UNPACKED: &str = "/usr/local/lib/raven-tests";

/// loggen. Its package would remove rsyslog.
const LOGGEN: Need = Need { what: "syslog-ng-core/usr/bin/loggen", package: "syslog-ng-core" };

const FOLDERS: [&str; 11] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/bin",
    "/usr/lib/x86_64-linux-gnu/rsyslog",
    "/usr/lib/aarch64-linux-gnu/rsyslog",
    "/usr/lib/grub/i386-pc",
    "/usr/lib/grub/x86_64-efi",
    "/usr/share/OVMF",
    "/usr/share",
];

impl Need {
    /// Whether it is there.
    pub fn is_met(&self) -> bool {
        FOLDERS.iter().any(|folder| Path::new(folder).join(self.what).exists())
    }
}

/// Installs what is missing of `needs`; says what stays missing when that is not possible.
pub fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "missing: {}; as root: apt-get install {}",
            missing.iter().map(|n| n.what).collect::<Vec<_>>().join(", "),
            packages.join(" ")
        );
    }
    println!("installing {}", packages.join(" "));
    // A fresh machine has no package lists, or lists too old to fetch by; so update when the first try fails.
    if apt(&["install", "--yes", "--no-install-recommends"], &packages).is_err() {
        apt(&["update"], &[])?;
        apt(&["install", "--yes", "--no-install-recommends"], &packages)?;
    }
    match missing.iter().find(|need| !need.is_met()) {
        Some(need) => bail!("{} was installed and {} is still missing", need.package, need.what),
        None => Ok(()),
    }
}

/// Unpacks what cannot be installed, when it is not there yet. Its tests say so when it is missing.
pub fn unpack() -> Result<()> {
    if Path::new(UNPACKED).join(LOGGEN.what).exists() || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    println!("unpacking {}", LOGGEN.package);
    let folder = Path::new(UNPACKED).join(LOGGEN.package);
    std::fs::create_dir_all(&folder)?;
    let fetched =
        || crate::build::must(Command::new("apt-get").args(["-qq", "download", LOGGEN.package]).current_dir(&folder));
    if fetched().is_err() {
        apt(&["update"], &[])?;
        fetched()?;
    }
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            crate::build::must(Command::new("dpkg-deb").arg("--extract").args([&path, &folder]))?;
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let _quiet = NoDaemons::begin();
    crate::build::must(
        Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(verb).args(packages),
    )
}

/// Packages such as rsyslog and prometheus start their daemon when they are installed, which tests and measurements
/// would meet: as long as this lives, Debian's `policy-rc.d` says no, with systemd or without. One that is there already
/// stays.
struct NoDaemons(Option<&'static Path>);

impl NoDaemons {
    fn begin() -> Self {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() || std::fs::write(policy, "#!/bin/sh\nexit 101\n").is_err() {
            return Self(None);
        }
        let runs = std::fs::set_permissions(policy, std::os::unix::fs::PermissionsExt::from_mode(0o755));
        if let Err(error) = runs {
            println!("{}: {error}: what is installed may start its daemon", policy.display());
        }
        Self(Some(policy))
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(std::fs::remove_file) {
            println!("{error}: /usr/sbin/policy-rc.d stays");
        }
    }
}
