//! The appliance's own telemetry: how busy it is, in brief, and what happened to it.

use super::plain;
use crate::status::screen::size;
use serde_json::Value;

/// A sample or an event; `None` for what is neither.
pub fn line(record: &Value) -> Option<String> {
    match record.get("event").and_then(Value::as_str) {
        Some(event) => Some(self::event(event, record)),
        None => record.get("cpu").is_some().then(|| sample(record)),
    }
}

fn event(event: &str, record: &Value) -> String {
    let facts = record.as_object().into_iter().flatten().filter(|(name, _)| !["t", "event"].contains(&name.as_str()));
    let fact = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!(" {}={}", plain(name), plain(&value))
    };
    format!("event {}{}", plain(&event.replace('_', " ")), facts.map(fact).collect::<String>())
}

fn sample(record: &Value) -> String {
    let parts = [Some(cpu(record)), memory(record), disk(record), devices(record), network(record)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn cpu(record: &Value) -> String {
    let busy = number(record, "/cpu/busy").map(|busy| format!(" {}", percent(busy))).unwrap_or_default();
    format!("cpu{busy} load {:.2}", number(record, "/cpu/load_1").unwrap_or_default())
}

fn memory(record: &Value) -> Option<String> {
    let (total, available) = (bytes(record, "/memory/total_bytes")?, bytes(record, "/memory/available_bytes")?);
    Some(format!("mem {} of {}", used(total, available)?, size(total)))
}

/// The file system of the data directory: that is the one which fills.
fn disk(record: &Value) -> Option<String> {
    let (total, available) = (bytes(record, "/data/size_bytes")?, bytes(record, "/data/available_bytes")?);
    let locked = record.pointer("/data/read_only").and_then(Value::as_bool) == Some(true);
    let locked = if locked { " read-only" } else { "" };
    Some(format!("disk {} of {}{locked}", used(total, available)?, size(total)))
}

fn devices(record: &Value) -> Option<String> {
    let busy = |disk: &Value| Some(format!("{} {} busy", name(disk)?, percent(number(disk, "/busy")?)));
    let told: Vec<String> = record.get("disks")?.as_array()?.iter().filter_map(busy).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn network(record: &Value) -> Option<String> {
    let all = record.get("interfaces")?.as_array()?;
    let told: Vec<String> = all.iter().filter_map(interface).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn interface(interface: &Value) -> Option<String> {
    let name = name(interface).filter(|name| name != "lo")?;
    let count = |field: &str| bytes(interface, field).unwrap_or_default();
    let carrier = match interface.get("carrier").and_then(Value::as_bool) {
        Some(false) => " no carrier",
        _ => "",
    };
    let wrong = count("/rx_errors") + count("/tx_errors") + count("/rx_dropped") + count("/tx_dropped");
    let wrong = if wrong > 0 { format!(" {wrong} errors") } else { String::new() };
    Some(format!("{name}{carrier} rx {} tx {}{wrong}", size(count("/rx_bytes")), size(count("/tx_bytes"))))
}

fn name(part: &Value) -> Option<String> {
    part.get("name")?.as_str().map(plain)
}

fn number(record: &Value, pointer: &str) -> Option<f64> {
    record.pointer(pointer)?.as_f64()
}

fn bytes(record: &Value, pointer: &str) -> Option<u64> {
    record.pointer(pointer)?.as_u64()
}

fn used(total: u64, available: u64) -> Option<String> {
    (total > 0).then(|| percent(total.saturating_sub(available) as f64 / total as f64))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}
