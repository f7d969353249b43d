//! What senders expect that take this for Elasticsearch: Winlogbeat, Logstash, and the like.

use super::items::{Item, Items};
use crate::http::answer::{self, Answer};
use hyper::StatusCode;
use raven_decode::winevent::{Shape, Split};
use serde_json::json;

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
pub fn bulk(body: &[u8], split: &Split) -> Items {
    let mut items = Items::default();
    if split.shape == Shape::Bulk {
        let mut at = 0;
        for event in &split.events {
            actions(&mut items, &body[at..event.start], true);
            at = event.end;
        }
        actions(&mut items, &body[at..], false);
    } else {
        split.events.iter().for_each(|_| items.push(Item::Create));
    }
    items
}

/// The actions between two events. The last one's document is the event behind it, if there is one.
fn actions(items: &mut Items, between: &[u8], event_follows: bool) {
    let mut rest = between;
    while let Some((item, behind)) = next_action(rest) {
        rest = behind;
        let alone = item != Item::Delete && !(event_follows && next_action(rest).is_none());
        items.push(if alone { Item::Alone } else { item });
    }
}

/// The next action in bytes that hold nothing but actions: `split` has looked at them.
fn next_action(bytes: &[u8]) -> Option<(Item, &[u8])> {
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
    let name = key.get(1..).unwrap_or_default();
    let item = match name {
        _ if name.starts_with(b"index") => Item::Index,
        _ if name.starts_with(b"update") => Item::Update,
        _ if name.starts_with(b"delete") => Item::Delete,
        _ => Item::Create,
    };
    Some((item, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_decode::winevent::split;

    fn items(body: &str) -> Vec<Item> {
        bulk(body.as_bytes(), &split(body.as_bytes()).unwrap()).all().to_vec()
    }

    #[test]
    fn there_is_an_item_for_each_action() {
        assert_eq!(
            items("{\"create\":{\"_index\":\"a{b\"}}\n{\"EventID\":1}\n{ \"index\" : {}}\n{\"EventID\":2}\n"),
            [Item::Create, Item::Index]
        );
        assert_eq!(
            items("{\"delete\":{\"_id\":\"1\"}}\n{\"index\":{}}\n{\"EventID\":2}\n"),
            [Item::Delete, Item::Index]
        );
        assert_eq!(items("[{\"EventID\":1},{\"EventID\":2}]"), [Item::Create, Item::Create]);
    }

    #[test]
    fn an_action_without_its_document_is_not_said_to_be_stored() {
        assert_eq!(items("{\"index\":{}}\n{\"EventID\":2}\n{\"index\":{}}\n"), [Item::Index, Item::Alone]);
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
