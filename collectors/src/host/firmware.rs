//! Firmware that the kernel looked for and did not find: what it said of that, and whose interface it was for.
//!
//! `raven-firmware.service` leaves the kernel's messages with that word at [`SAID`]; this role may not read the kernel's log.

use super::source::Source;
use super::text::{name, path};
use raven_model::host::MissingFirmware;

/// Where the messages lie, one a line, without their time.
const SAID: &str = "/run/raven/kernel/firmware";
/// Most files that are told of.
const MOST: usize = 16;

/// What network interfaces lack.
pub fn missing(source: &impl Source) -> Vec<MissingFirmware> {
    let said = source.text(SAID).unwrap_or_default();
    let mut missing: Vec<MissingFirmware> = Vec::new();
    for (device, file) in said.lines().filter_map(failed) {
        let bus = ["pci", "usb"].iter().find_map(|bus| {
            let names = source.names(&format!("/sys/bus/{bus}/devices/{device}/net"));
            (!names.is_empty()).then_some(names)
        });
        for interface in bus.unwrap_or_default() {
            let lacks = MissingFirmware { interface: name(&interface), file: path(file) };
            if missing.len() < MOST && !missing.contains(&lacks) {
                missing.push(lacks);
            }
        }
    }
    missing
}

/// `DRIVER DEVICE: Direct firmware load for FILE failed with error -2`, as the kernel says it, or `DRIVER DEVICE: firmware:
/// failed to load FILE (-2)`, as Debian's does. Behind the device may stand an interface's name.
fn failed(line: &str) -> Option<(&str, &str)> {
    let (who, what) = line.split_once(": ")?;
    let file = match what.split_once("Direct firmware load for ") {
        Some((_, rest)) => rest.split_once(" failed with error")?.0,
        None => what.split_once("firmware: failed to load ")?.1.split(" (").next()?,
    };
    let device = who.split(' ').nth(1)?;
    let is_device =
        device.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-".contains(&b)) && !device.starts_with('.');
    (is_device && !file.is_empty() && !file.contains(' ')).then_some((device, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::Scripted;
    use proptest::prelude::*;

    const MESSAGES: &str = "r8169 0000:01:00.0: firmware: failed to load rtl_nic/rtl8168h-2.fw (-2)
r8169 0000:01:00.0: Direct firmware load for rtl_nic/rtl8168h-2.fw failed with error -2
r8169 0000:01:00.0: Unable to load firmware rtl_nic/rtl8168h-2.fw (-2)
ice 0000:b1:00.1: Direct firmware load for intel/ice/ddp/ice.pkg failed with error -2
r8152 1-2:1.0: Direct firmware load for rtl_nic/rtl8156b-2.fw failed with error -2
i915 0000:00:02.0: firmware: failed to load i915/tgl_dmc_ver2_12.bin (-2)
evil ../../../etc: Direct firmware load for x failed with error -2
tg3 0000:02:00.0 eth2: no firmware: failed to load
-- No entries --
";

    #[test]
    fn each_interface_is_told_once_what_it_lacks() {
        let mut source = Scripted::default();
        source
            .set(SAID, MESSAGES)
            .set("/sys/bus/pci/devices/0000:01:00.0/net/eth0/mtu", "1500")
            .set("/sys/bus/pci/devices/0000:b1:00.1/net/eth1/mtu", "1500")
            .set("/sys/bus/usb/devices/1-2:1.0/net/eth3/mtu", "1500")
            .set("/sys/bus/pci/devices/0000:00:02.0/drm/card0", "");
        let lacks = missing(&source);
        let told: Vec<_> = lacks.iter().map(|lack| (lack.interface.as_str(), lack.file.as_str())).collect();
        let expected =
            [("eth0", "rtl_nic/rtl8168h-2.fw"), ("eth1", "intel/ice/ddp/ice.pkg"), ("eth3", "rtl_nic/rtl8156b-2.fw")];
        assert_eq!(told, expected);
        assert_eq!(missing(&Scripted::default()), []);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(r8169 0000:01:00.0|: |Direct firmware load for |firmware: failed to load | failed with error|[a-z/. \n]|\\PC){0,40}") {
            for (device, file) in text.lines().filter_map(failed) {
                prop_assert!(!device.contains('/') && !device.starts_with('.') && !file.is_empty());
            }
        }
    }
}
