//! Who is at the other end of a cable, as that says of itself (LLDP, IEEE 802.1AB).

use serde::{Deserialize, Serialize};

/// Who is at the other end of a cable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Neighbour {
    /// Nobody says so.
    #[default]
    Nobody,
    /// This one does.
    Heard(Heard),
    /// Why it is not known.
    Unknown(String),
}

/// What a neighbour says of itself: text from the network, without control characters, at most 100 characters each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Its name.
    pub system: Option<String>,
    /// What it is known by besides, mostly a hardware address.
    pub chassis: Option<String>,
    /// Its port.
    pub port: Option<String>,
    /// What its operator wrote at the port.
    pub description: Option<String>,
    /// How many more are heard on this cable.
    pub others: usize,
}

impl Neighbour {
    /// In a few words: `sw-core-1 Gi1/0/7 (to the telemetry box)`; `None` where nobody says anything.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Heard(heard) => Some(heard.words()),
            Self::Unknown(why) => Some(format!("not known: {why}")),
        }
    }
}

impl Heard {
    fn words(&self) -> String {
        let who = self.system.as_deref().or(self.chassis.as_deref()).unwrap_or("unnamed");
        let port = self.port.as_ref().map_or_else(String::new, |port| format!(" {port}"));
        // Many switches repeat the port here.
        let description = self.description.as_ref().filter(|text| self.port.as_ref() != Some(*text));
        let description = description.map_or_else(String::new, |text| format!(" ({text})"));
        let others = if self.others > 0 { format!(", and {} more", self.others) } else { String::new() };
        format!("{who}{port}{description}{others}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn heard(system: Option<&str>, port: Option<&str>, description: Option<&str>, others: usize) -> Neighbour {
        let [system, port, description] = [system, port, description].map(|text| text.map(str::to_owned));
        Neighbour::Heard(Heard { system, chassis: Some("02:00:5e:10:00:01".to_owned()), port, description, others })
    }

    #[test]
    fn a_neighbour_in_words() {
        let words = |neighbour: Neighbour| neighbour.words().unwrap();
        assert_eq!(words(heard(Some("sw-1"), Some("Gi1/0/7"), Some("to the box"), 0)), "sw-1 Gi1/0/7 (to the box)");
        assert_eq!(words(heard(Some("sw-1"), Some("7"), Some("7"), 2)), "sw-1 7, and 2 more");
        assert_eq!(words(heard(None, None, None, 0)), "02:00:5e:10:00:01");
        assert_eq!(words(Neighbour::Unknown("no answer in 3 s".to_owned())), "not known: no answer in 3 s");
        assert_eq!(Neighbour::Nobody.words(), None);
    }

    #[test]
    fn as_json() {
        let json = |neighbour: &Neighbour| serde_json::to_value(neighbour).unwrap();
        assert_eq!(json(&Neighbour::Nobody), "nobody");
        assert_eq!(json(&Neighbour::Unknown("why".to_owned()))["unknown"], "why");
        assert_eq!(json(&heard(Some("sw-1"), None, None, 0))["heard"]["system"], "sw-1");
    }
}
