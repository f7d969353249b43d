//! Where a value stands in an event: the names on the way to it, as they were written and as they are compared.

/// Longest path that is kept, of either kind; longer ones are cut.
const PATH_MAX: usize = 256;

/// Objects around an event that say nothing about it: HTTP event collectors, Elasticsearch's answers, Wazuh.
const WRAPPERS: [&str; 6] = ["event.", "source.", "body.", "data.", "fields.", "win."];

/// Whose children are the event's own data.
const CONTAINERS: [&str; 10] = [
    "eventdata",
    "userdata",
    "processingerrordata",
    "winlog.eventdata",
    "winlog.userdata",
    "stringinserts",
    "replacementstrings",
    "messageinserts",
    "properties",
    "winlog.messageinserts",
];

/// A path, as it grows and shrinks on the way through an event.
#[derive(Debug, Default)]
pub struct Path {
    name: String,
    folded: String,
    /// Where the names of the event's own data begin in `name`.
    data: Option<usize>,
}

/// What [`Path::pop`] goes back to.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    name: usize,
    folded: usize,
    data: Option<usize>,
}

impl Path {
    /// Goes down by a key. A key with dots in it is as many names.
    pub fn push(&mut self, key: &str) -> Before {
        let before = Before { name: self.name.len(), folded: self.folded.len(), data: self.data };
        for segment in key.split('.') {
            self.push_segment(segment);
        }
        before
    }

    /// Goes up again.
    pub fn pop(&mut self, before: Before) {
        self.name.truncate(before.name);
        self.folded.truncate(before.folded);
        self.data = before.data;
    }

    fn push_segment(&mut self, segment: &str) {
        let room = |path: &String| path.is_empty() || path.len() + segment.len() < PATH_MAX;
        if !room(&self.name) || !room(&self.folded) {
            return;
        }
        let cut = segment.char_indices().nth(PATH_MAX / 4).map_or(segment, |(end, _)| &segment[..end]);
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(cut);
        self.push_folded(cut);
        if self.data.is_none() && CONTAINERS.contains(&self.unwrapped()) {
            self.data = Some(self.name.len());
        }
    }

    /// Case, `_`, `-`, spaces and signs do not count; neither do the names that converters give to what XML leaves
    /// unnamed.
    fn push_folded(&mut self, segment: &str) {
        let segment = segment.strip_suffix("_attributes").unwrap_or(segment);
        let start = self.folded.len();
        if start > 0 {
            self.folded.push('.');
        }
        let named = self.folded.len();
        self.folded.extend(segment.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()));
        if matches!(&self.folded[named..], "" | "attributes" | "text" | "value") {
            self.folded.truncate(start);
        }
    }

    /// The names as they were written, with dots between them.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names as they are compared.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// [`Self::folded`] without what is around the event.
    pub fn unwrapped(&self) -> &str {
        let mut rest = &*self.folded;
        while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| rest.strip_prefix(wrapper)) {
            rest = inner;
        }
        rest
    }

    /// The names inside the event's own data; `None` outside of it.
    pub fn data(&self) -> Option<&str> {
        self.name.get(self.data?..).map(|rest| rest.strip_prefix('.').unwrap_or(rest))
    }

    /// True inside `UserData`, whose only child names no field.
    pub fn in_user_data(&self) -> bool {
        self.unwrapped().starts_with("userdata.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Path {
        let mut path = Path::default();
        for key in keys {
            path.push(key);
        }
        path
    }

    #[test]
    fn writers_differ_in_what_does_not_count() {
        for keys in [
            &["Event", "System", "Provider", "#attributes", "Name"][..],
            &["Event", "System", "Provider_attributes", "Name"],
            &["Event", "System", "Provider", "@Name"],
            &["event.system.provider.name"],
            &["data", "win", "system", "provider", "Name"],
        ] {
            assert_eq!(path(keys).unwrapped(), "system.provider.name", "{keys:?}");
        }
        assert_eq!(path(&["winlog", "provider_name"]).unwrapped(), path(&["winlog.ProviderName"]).unwrapped());
    }

    #[test]
    fn the_events_own_data_keeps_its_names() {
        assert_eq!(path(&["Event", "EventData", "Value"]).data(), Some("Value"));
        assert_eq!(path(&["winlog", "event_data", "Target.User"]).data(), Some("Target.User"));
        assert_eq!(path(&["StringInserts"]).data(), Some(""));
        assert_eq!(path(&["Message"]).data(), None);
    }

    #[test]
    fn going_up_forgets() {
        let mut path = path(&["Event"]);
        let before = path.push("EventData");
        path.push("a");
        path.pop(before);
        assert_eq!((path.name(), path.folded(), path.data()), ("Event", "event", None));
    }

    #[test]
    fn a_path_has_an_end() {
        let long = "k".repeat(10_000);
        let path = path(&[&*long; 100]);
        assert!(path.name().len() <= PATH_MAX && path.folded().len() <= PATH_MAX);
    }
}
