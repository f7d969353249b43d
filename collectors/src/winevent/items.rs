//! The answer to `_bulk`: an item per action. A million of them are 30 MB of text, and a sender may read it as slowly
//! as it likes, so that it is written as it is taken.

use crate::http::shared::Room;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes written at a time.
const PART: usize = 16 * 1024;

/// What becomes of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `create`, and its document is kept.
    Create,
    /// `index`, likewise.
    Index,
    /// `update`, likewise.
    Update,
    /// `delete`: there is nothing to delete.
    Delete,
    /// An action without its document.
    Alone,
}

impl Item {
    const fn text(self) -> &'static str {
        match self {
            Self::Create => r#"{"create":{"status":201}}"#,
            Self::Index => r#"{"index":{"status":201}}"#,
            Self::Update => r#"{"update":{"status":201}}"#,
            Self::Delete => r#"{"delete":{"status":404,"result":"not_found"}}"#,
            Self::Alone => {
                r#"{"index":{"status":400,"error":{"type":"not_events","reason":"an action without a document"}}}"#
            }
        }
    }
}

/// All of them, in order.
#[derive(Default)]
pub struct Items {
    list: Vec<Item>,
    written: usize,
    done: bool,
    /// The memory that they count for, until they are written.
    room: Option<Room>,
}

impl Items {
    /// One more.
    pub fn push(&mut self, item: Item) {
        self.list.push(item);
    }

    /// All of them.
    #[cfg(test)]
    pub fn all(&self) -> &[Item] {
        &self.list
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.list.capacity()
    }

    /// Holds `room` until all is written.
    pub fn hold(&mut self, room: Room) {
        self.room = Some(room);
    }

    fn head(&self) -> String {
        let errors = self.list.contains(&Item::Alone);
        format!("{{\"took\":0,\"errors\":{errors},\"items\":[")
    }

    /// The next part of the text.
    fn part(&mut self) -> Option<String> {
        if self.done {
            return None;
        }
        let mut text = if self.written == 0 { self.head() } else { String::new() };
        while let Some(item) = self.list.get(self.written).filter(|_| text.len() < PART) {
            if self.written > 0 {
                text.push(',');
            }
            text.push_str(item.text());
            self.written += 1;
        }
        if self.written == self.list.len() {
            text.push_str("]}");
            self.done = true;
        }
        Some(text)
    }

    fn len(&self) -> usize {
        let items: usize = self.list.iter().map(|item| item.text().len() + 1).sum();
        self.head().len() + items.saturating_sub(1) + 2
    }
}

impl Body for Items {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().part().map(|text| Ok(Frame::data(Bytes::from(text)))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    /// Asked once, before the first part.
    fn size_hint(&self) -> SizeHint {
        if self.written == 0 && !self.done { SizeHint::with_exact(self.len() as u64) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_text_is_as_long_as_was_said_and_json() {
        for count in [0, 1, 2, 5000] {
            let mut items = Items::default();
            let kinds = [Item::Create, Item::Index, Item::Update, Item::Delete, Item::Alone];
            (0..count).for_each(|n| items.push(kinds[n % 5]));
            let len = items.size_hint().exact().unwrap() as usize;
            let mut text = String::new();
            while let Some(part) = items.part() {
                assert!(part.len() < PART + 200);
                text.push_str(&part);
            }
            assert_eq!(text.len(), len, "{count}");
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((read["items"].as_array().unwrap().len(), &read["errors"]), (count, &(count > 4).into()));
        }
    }
}
