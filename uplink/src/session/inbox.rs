//! Bytes read from a far end and not yet taken apart.

use super::IN_MAX;
use crate::attempt::Failure;
use crate::link::Link;
use crate::tls;
use tokio::io::AsyncReadExt as _;

/// Holds [`IN_MAX`] bytes, or the greeting where that is longer: more than the longest thing that a far end may say, so
/// a full one always yields something.
#[derive(Debug)]
pub struct Inbox {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// With what has come already.
    pub fn with(bytes: &[u8]) -> Self {
        let mut buf = vec![0; IN_MAX.max(bytes.len())];
        buf[..bytes.len()].copy_from_slice(bytes);
        Self { buf, start: 0, end: bytes.len() }
    }

    /// Where the next bytes go. Never empty once all that was said is taken.
    pub fn room(&mut self) -> &mut [u8] {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buf[self.end..]
    }

    /// So many bytes were read into the room.
    pub const fn came(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next thing that `parse` finds at the front, of the length that it says.
    #[inline]
    pub fn next<T>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> Result<Option<(T, usize)>, Failure>,
    ) -> Result<Option<T>, Failure> {
        Ok(parse(&self.buf[self.start..self.end])?.map(|(said, len)| {
            self.start += len;
            said
        }))
    }

    /// As [`next`](Self::next), waiting for it. `instead` is what the far end does not do when it closes, in words.
    pub async fn wait<T>(
        &mut self,
        link: &mut Link,
        instead: &str,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, Failure>,
    ) -> Result<T, Failure> {
        loop {
            if let Some(said) = self.next(&mut parse)? {
                return Ok(said);
            }
            let read = link.read(self.room()).await.map_err(|error| tls::broken(link.peer, &error, ""))?;
            if read == 0 {
                return Err(Failure::retry(format!("{} closed the connection instead of {instead}", link.peer)));
            }
            self.came(read);
        }
    }
}
