//! A Windows event.

use super::plain;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is shown of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    provider: Option<String>,
    #[serde(rename = "event_id")]
    id: Option<u32>,
    channel: Option<String>,
    level: Option<u8>,
    computer: Option<String>,
    time: Option<String>,
    data: BTreeMap<String, String>,
    message: Option<String>,
}

/// `time computer channel provider id level: message`, or its values where the agent sends no text.
pub fn line(event: &Event) -> String {
    let field = |field: &Option<String>| field.as_deref().map_or_else(|| "-".to_owned(), plain);
    let id = event.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let text = event.message.as_deref().map_or_else(|| data(&event.data), plain);
    let [time, computer, channel, provider] =
        [&event.time, &event.computer, &event.channel, &event.provider].map(field);
    format!("{time} {computer} {channel} {provider} {id} {}: {text}", level(event.level))
}

fn data(data: &BTreeMap<String, String>) -> String {
    let value = |text: &str| if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text.to_owned() };
    let values: Vec<String> = data.iter().map(|(name, text)| format!("{name}={}", value(text))).collect();
    plain(&values.join(" "))
}

/// As Windows calls them; 0 is for audits, which are always logged.
fn level(number: Option<u8>) -> &'static str {
    const NAMES: [&str; 6] = ["always", "critical", "error", "warning", "information", "verbose"];
    number.and_then(|n| NAMES.get(usize::from(n))).copied().unwrap_or("-")
}
