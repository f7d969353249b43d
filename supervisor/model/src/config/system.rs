//! `[system]` and `[access]`: the clock of the box, and whose SSH keys it takes. Only the image puts them into force.

use super::check::host_name;
use super::error::Flaw;
use crate::table::OperatorRole;
use serde::{Deserialize, Serialize};

/// `[system]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// Name in the time zone database (RFC 6557): `Europe/Berlin`.
    pub timezone: String,
    /// Time servers; without any those that DHCP names, or else Debian's.
    pub ntp: Vec<String>,
}

impl Default for System {
    fn default() -> Self {
        Self { timezone: "UTC".to_owned(), ntp: Vec::new() }
    }
}

impl System {
    /// What the types cannot say. Whether there is such a time zone, the box knows.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if !is_timezone(&self.timezone) {
            let message = format!("`{}` is no time zone", self.timezone.escape_debug());
            flaws.push(Flaw::new(&["system", "timezone"], message, "`\"UTC\"` or a name such as `\"Europe/Berlin\"`"));
        }
        for (index, server) in self.ntp.iter().enumerate() {
            // Without brackets here: there is no port.
            let fine = server.parse::<std::net::IpAddr>().is_ok() || host_name(server).is_ok();
            if !fine {
                let message = format!("`{}` is no time server", server.escape_debug());
                flaws.push(Flaw::new(&["system", "ntp", &index.to_string()], message, "a host name or an address"));
            }
        }
        flaws
    }
}

fn is_timezone(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b));
    name.len() <= 64 && name.split('/').all(part)
}

/// `[access]`: who may come by SSH, and as what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Those who look.
    pub viewer: Keys,
    /// Those who also act on what is under way.
    pub operator: Keys,
    /// Those who also change the box.
    pub admin: Keys,
}

/// `[access.ROLE]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Public keys as in `authorized_keys` of OpenSSH, without options.
    pub ssh_keys: Vec<String>,
}

impl Access {
    /// The keys of a role.
    pub const fn of(&self, role: OperatorRole) -> &Keys {
        match role {
            OperatorRole::Viewer => &self.viewer,
            OperatorRole::Operator => &self.operator,
            OperatorRole::Admin => &self.admin,
        }
    }

    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        for role in OperatorRole::ALL {
            for (index, key) in self.of(role).ssh_keys.iter().enumerate().filter(|(_, key)| !is_ssh_key(key)) {
                let shown: String = key.chars().take(24).collect();
                let message = format!("`{}…` is no public key", shown.escape_debug());
                let path = ["access", role.name(), "ssh_keys", &index.to_string()];
                flaws.push(Flaw::new(&path, message, "a line such as `\"ssh-ed25519 AAAA… name\"`, without options"));
            }
        }
        flaws
    }
}

/// The types that OpenSSH 9 takes by default.
const KEY_TYPES: [&str; 6] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A type, its key in base64 that begins with the length of the type's name (RFC 4253, 6.6), and perhaps a comment.
fn is_ssh_key(line: &str) -> bool {
    let mut parts = line.splitn(3, ' ');
    let (kind, key, comment) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    line.len() <= 8192
        && KEY_TYPES.contains(&kind)
        && key.starts_with("AAAA")
        && key.len() >= 68
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        && !comment.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_time_zones() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(is_timezone(name), "{name}");
        }
        for wrong in ["", "/etc/passwd", "../x", "Europe//Berlin", "a b", "Europe/"] {
            assert!(!is_timezone(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_has_no_options_and_one_line() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T";
        assert!(is_ssh_key(key) && is_ssh_key(&format!("{key} ann@example")));
        let cut = &key[..60];
        for wrong in
            [format!("command=\"x\" {key}"), format!("{key} a\n{key}"), cut.to_owned(), key.replace("ed25519 ", "dss ")]
        {
            assert!(!is_ssh_key(&wrong), "{wrong}");
        }
    }
}
