//! What senders expect that take this for Elasticsearch: Winlogbeat, Logstash, and the like.

use super::answer::{self, Answer};
use hyper::StatusCode;
use raven_decode::winevent::{Shape, Split};
use serde_json::json;
use std::fmt::Write as _;

/// Beats of a later major version than the server refuse to send; 8.x is understood by 7.17 to 9.x with
/// `allow_older_versions`, which is the default.
const VERSION: &str = "8.19.0";

/// What a GET of this path gives.
pub fn get(path: &str) -> Option<Answer> {
    let text = match path {
        "/" => json!({
            "name": "raven", "cluster_name": "raven", "cluster_uuid": "raven",
            "version": {
                "number": VERSION, "build_flavor": "default", "build_type": "tar", "build_snapshot": false,
                "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "You Know, for Search",
        }),
        "/_license" => json!({"license": {"uid": "raven", "type": "basic", "mode": "basic", "status": "active"}}),
        "/_xpack" => json!({"license": {"uid": "raven", "type": "basic", "mode": "basic", "status": "active"},
            "features": {"ilm": {"available": true, "enabled": true}}}),
        _ => return None,
    };
    Some(answer::json(StatusCode::OK, text.to_string()))
}

/// What a request to this path is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Events.
    Events,
    /// Events, and an answer for each.
    Bulk,
    /// Templates, policies, pipelines: no events.
    Setup,
}

/// By the parts that begin with `_`, as no index does.
pub fn purpose(path: &str) -> Purpose {
    let mut purpose = Purpose::Events;
    for part in path.split('/').filter(|part| part.starts_with('_')) {
        match part {
            "_bulk" => purpose = Purpose::Bulk,
            "_doc" | "_create" | "_update" => {}
            _ => return Purpose::Setup,
        }
    }
    purpose
}

/// To [`Purpose::Setup`].
pub fn acknowledged() -> Answer {
    answer::json(StatusCode::OK, "{\"acknowledged\":true}")
}

/// An item for each action, in order; for each event where there are no actions.
pub fn bulk(body: &[u8], split: &Split) -> Answer {
    let mut items = Items { text: String::with_capacity(32 + 40 * split.events.len()), errors: false };
    if split.shape == Shape::Bulk {
        let mut at = 0;
        for event in &split.events {
            items.actions(&body[at..event.start], true);
            at = event.end;
        }
        items.actions(&body[at..], false);
    } else {
        split.events.iter().for_each(|_| items.push("create", Outcome::Stored));
    }
    let Items { text, errors } = items;
    answer::json(StatusCode::OK, format!("{{\"took\":0,\"errors\":{errors},\"items\":[{text}]}}"))
}

#[derive(Clone, Copy)]
enum Outcome {
    Stored,
    NothingToDelete,
    NoDocument,
}

struct Items {
    text: String,
    errors: bool,
}

impl Items {
    /// The actions between two events. The last one's document is the event behind it, if there is one.
    fn actions(&mut self, between: &[u8], event_follows: bool) {
        let mut rest = between;
        while let Some((name, behind)) = next_action(rest) {
            rest = behind;
            let outcome = match name {
                "delete" => Outcome::NothingToDelete,
                _ if event_follows && next_action(rest).is_none() => Outcome::Stored,
                _ => Outcome::NoDocument,
            };
            self.push(name, outcome);
        }
    }

    fn push(&mut self, name: &str, outcome: Outcome) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let _ = match outcome {
            Outcome::Stored => write!(self.text, "{{\"{name}\":{{\"status\":201}}}}"),
            Outcome::NothingToDelete => {
                write!(self.text, "{{\"{name}\":{{\"status\":404,\"result\":\"not_found\"}}}}")
            }
            Outcome::NoDocument => {
                self.errors = true;
                write!(
                    self.text,
                    "{{\"{name}\":{{\"status\":400,\"error\":{{\"type\":\"not_events\",\"reason\":\"an action without a document\"}}}}}}"
                )
            }
        };
    }
}

/// The next action in bytes that hold nothing but actions: `split` has looked at them.
fn next_action(bytes: &[u8]) -> Option<(&'static str, &[u8])> {
    let open = memchr::memchr(b'{', bytes)?;
    let mut depth = 0_usize;
    let mut at = open;
    let (mut in_string, mut escaped) = (false, false);
    let end = loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    break at;
                }
            }
            _ => {}
        }
    };
    let key = bytes[open + 1..end].trim_ascii_start();
    let name = ["index", "create", "update", "delete"]
        .into_iter()
        .find(|name| key.get(1..).is_some_and(|key| key.starts_with(name.as_bytes())))
        .unwrap_or("create");
    Some((name, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_decode::winevent::split;

    fn items(body: &str) -> String {
        let split = split(body.as_bytes()).unwrap();
        let mut whole = Items { text: String::new(), errors: false };
        let mut at = 0;
        for event in &split.events {
            whole.actions(&body.as_bytes()[at..event.start], true);
            at = event.end;
        }
        whole.actions(&body.as_bytes()[at..], false);
        format!("{} {}", whole.errors, whole.text)
    }

    #[test]
    fn there_is_an_item_for_each_action() {
        assert_eq!(
            items("{\"create\":{\"_index\":\"a{b\"}}\n{\"EventID\":1}\n{ \"index\" : {}}\n{\"EventID\":2}\n"),
            "false {\"create\":{\"status\":201}},{\"index\":{\"status\":201}}"
        );
        assert_eq!(
            items("{\"delete\":{\"_id\":\"1\"}}\n{\"index\":{}}\n{\"EventID\":2}\n"),
            "false {\"delete\":{\"status\":404,\"result\":\"not_found\"}},{\"index\":{\"status\":201}}"
        );
    }

    #[test]
    fn an_action_without_its_document_is_not_said_to_be_stored() {
        let cut = items("{\"index\":{}}\n{\"EventID\":2}\n{\"index\":{}}\n");
        assert!(cut.starts_with("true {\"index\":{\"status\":201}},{\"index\":{\"status\":400"), "{cut}");
    }

    #[test]
    fn setup_is_told_from_events() {
        for (path, expected) in [
            ("/", Purpose::Events),
            ("/api/data/windows", Purpose::Events),
            ("/_bulk", Purpose::Bulk),
            ("/winlogbeat-8.1/_bulk", Purpose::Bulk),
            ("/index/_doc/_bulk", Purpose::Bulk),
            ("/index/_doc/1", Purpose::Events),
            ("/_ilm/policy/winlogbeat", Purpose::Setup),
            ("/_index_template/winlogbeat", Purpose::Setup),
        ] {
            assert_eq!(purpose(path), expected, "{path}");
        }
    }
}
