//! An SNMP notification: its name, by what right it was sent, and what it says.

use super::plain;
use serde::Deserialize;
use serde_json::Value;

/// What version 2 says in front of every notification; shown otherwise.
const IN_FRONT: [&str; 2] = ["1.3.6.1.2.1.1.3.0", "1.3.6.1.6.3.1.1.4.1.0"];

/// What is shown of a notification.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Trap {
    version: String,
    community: Option<String>,
    user: Option<String>,
    engine_id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "trap_oid")]
    oid: Option<String>,
    #[serde(rename = "trap_name")]
    name: Option<String>,
    agent_addr: Option<String>,
    #[serde(default)]
    varbinds: Vec<Varbind>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Varbind {
    oid: String,
    name: Option<String>,
    value: Value,
    label: Option<String>,
}

impl Trap {
    /// One line.
    pub fn line(&self) -> String {
        let name = self.name.as_ref().or(self.oid.as_ref());
        let name = name.map_or_else(|| format!("version {}", plain(&self.version)), |name| plain(name));
        // A notification is a trap unless it says so.
        let inform = self.kind.as_deref().filter(|kind| *kind != "trap").map(|kind| format!(" {}", plain(kind)));
        let agent = self.agent_addr.as_deref().map(|agent| format!(" agent {}", plain(agent)));
        let who = match (&self.user, &self.community) {
            (Some(user), _) => {
                let engine = self.engine_id.as_deref().map(|id| format!("@{}", plain(id))).unwrap_or_default();
                format!(" {}{engine}", word(user))
            }
            (None, Some(community)) => format!(" {}", word(community)),
            (None, None) => String::new(),
        };
        let varbinds = self.varbinds.iter().filter(|varbind| !IN_FRONT.contains(&varbind.oid.as_str()));
        let front = format!("{name}{}{who}{}", inform.unwrap_or_default(), agent.unwrap_or_default());
        std::iter::once(front).chain(varbinds.map(Varbind::told)).collect::<Vec<_>>().join(" ")
    }
}

impl Varbind {
    fn told(&self) -> String {
        let name = plain(self.name.as_ref().unwrap_or(&self.oid));
        let value = match &self.value {
            Value::String(text) => word(text),
            other => plain(&other.to_string()),
        };
        match &self.label {
            Some(label) => format!("{name}={}({value})", plain(label)),
            None => format!("{name}={value}"),
        }
    }
}

/// In quotes where it would not be one word.
fn word(text: &str) -> String {
    let shown = plain(text);
    if shown.is_empty() || shown.contains([' ', '=', '"']) {
        format!("\"{}\"", shown.replace('"', "\\\""))
    } else {
        shown
    }
}

/// True for the notification that an operator means: its name, in any case; its OID, or one above it.
pub fn is_named(trap: &Trap, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches('.');
    let above = |oid: &String| oid == wanted || oid.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
    trap.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(wanted)) || trap.oid.as_ref().is_some_and(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_meant_by_its_name_or_an_oid_above_it() {
        let trap = Trap { oid: Some("1.3.6.1.6.3.1.1.5.3".into()), name: Some("linkDown".into()), ..Trap::default() };
        for wanted in ["linkDown", "LINKDOWN", "1.3.6.1.6.3.1.1.5.3", ".1.3.6.1.6.3.1.1.5"] {
            assert!(is_named(&trap, wanted), "{wanted}");
        }
        for wanted in [
            "linkUp",
            "link",
            "1.3.6.1.6.3.1.1.5.4",
            "1.3.6.1.6.3.1.1.5.3.1",
            "1.3.6.1.6.3.1.1.5.30",
            "1.3.6.1.6.3.1.1.50",
        ] {
            assert!(!is_named(&trap, wanted), "{wanted}");
        }
    }
}
