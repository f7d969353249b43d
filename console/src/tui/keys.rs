//! Bytes of a terminal as keys. Takes any bytes: what makes no sense is counted, and a line that makes none at all (noise
//! on a cable, a file sent by mistake) presses no key until it is quiet.

use std::time::{Duration, Instant};

/// An ESC that nothing follows for so long was the key; a sequence that does not go on is given up.
pub const ESCAPE: Duration = Duration::from_millis(50);
/// Without input for so long, a noisy line counts as quiet again.
pub const QUIET: Duration = Duration::from_secs(1);
/// Senseless bytes without such a pause that make a line noisy.
const NOISE: u32 = 4;
/// Bytes without such a pause that nobody types or pastes: a long SSH key has 800.
const FLOOD: usize = 4096;
/// Longest sequence that is held: longer ones are no key.
const SEQUENCE_MAX: usize = 32;

/// A key, or what the terminal answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A printable character.
    Char(char),
    /// CR, LF or both.
    Enter,
    /// Forwards.
    Tab,
    /// Backwards.
    BackTab,
    /// By itself.
    Esc,
    /// BS or DEL.
    Backspace,
    /// Cursor.
    Up,
    /// Cursor.
    Down,
    /// Cursor.
    Left,
    /// Cursor.
    Right,
    /// To the start.
    Home,
    /// To the end.
    End,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// Ctrl-U: empty the line.
    Clear,
    /// Ctrl-L: draw all of it again.
    Redraw,
    /// Ctrl-C or Ctrl-D.
    Leave,
    /// Where the cursor is: the answer to a probe of the size.
    Cursor {
        /// From 1.
        row: u16,
        /// From 1.
        column: u16,
    },
}

/// What was begun.
#[derive(Debug, Default)]
enum Begun {
    #[default]
    Nothing,
    Escape,
    /// Behind `ESC [`.
    Csi(Vec<u8>),
    /// Behind `ESC O`.
    Ss3,
    /// Bytes of a character, and how many it has.
    Utf8(Vec<u8>, usize),
}

/// Reads keys out of bytes.
#[derive(Debug, Default)]
pub struct Keys {
    begun: Begun,
    after_cr: bool,
    senseless: u32,
    heard: usize,
    last: Option<Instant>,
}

impl Keys {
    /// What was pressed; nothing of it while the line is noisy.
    pub fn read(&mut self, bytes: &[u8], now: Instant) -> Vec<Key> {
        if self.last.is_none_or(|last| now.duration_since(last) >= QUIET) {
            (self.senseless, self.heard) = (0, 0);
        }
        self.last = Some(now);
        self.heard = self.heard.saturating_add(bytes.len());
        let mut keys = Vec::new();
        for byte in bytes {
            self.byte(*byte, &mut keys);
        }
        if self.is_noisy() {
            keys.clear();
        }
        keys
    }

    /// Whether keys are withheld.
    pub fn is_noisy(&self) -> bool {
        self.senseless >= NOISE || self.heard > FLOOD
    }

    /// Whether a sequence was begun, so that [`Keys::lapse`] is to be called after [`ESCAPE`] without input.
    pub fn is_waiting(&self) -> bool {
        !matches!(self.begun, Begun::Nothing)
    }

    /// Nothing came for [`ESCAPE`].
    pub fn lapse(&mut self) -> Option<Key> {
        match std::mem::take(&mut self.begun) {
            Begun::Nothing => None,
            Begun::Escape => (!self.is_noisy()).then_some(Key::Esc),
            _ => {
                self.senseless += 1;
                None
            }
        }
    }

    fn byte(&mut self, byte: u8, keys: &mut Vec<Key>) {
        let begun = std::mem::take(&mut self.begun);
        let key = match begun {
            Begun::Nothing => self.plain(byte),
            Begun::Escape => self.escaped(byte, keys),
            Begun::Csi(held) => self.csi(held, byte),
            Begun::Ss3 => self.known(cursor_key(byte)),
            Begun::Utf8(held, length) => self.utf8(held, length, byte, keys),
        };
        keys.extend(key);
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if follows_cr => None,
            b'\r' | b'\n' => Some(Key::Enter),
            b'\t' => Some(Key::Tab),
            0x08 | 0x7f => Some(Key::Backspace),
            0x03 | 0x04 => Some(Key::Leave),
            0x0c => Some(Key::Redraw),
            0x15 => Some(Key::Clear),
            0x1b => self.begin(Begun::Escape),
            0x20..0x7f => Some(Key::Char(char::from(byte))),
            0xc2..0xe0 => self.begin(Begun::Utf8(vec![byte], 2)),
            0xe0..0xf0 => self.begin(Begun::Utf8(vec![byte], 3)),
            0xf0..0xf5 => self.begin(Begun::Utf8(vec![byte], 4)),
            // XON and XOFF, which a line may send by itself.
            0x11 | 0x13 => None,
            _ => self.known(None),
        }
    }

    fn begin(&mut self, begun: Begun) -> Option<Key> {
        self.begun = begun;
        None
    }

    fn known(&mut self, key: Option<Key>) -> Option<Key> {
        self.senseless = self.senseless.saturating_add(u32::from(key.is_none()));
        key
    }

    fn escaped(&mut self, byte: u8, keys: &mut Vec<Key>) -> Option<Key> {
        match byte {
            b'[' => self.begin(Begun::Csi(Vec::new())),
            b'O' => self.begin(Begun::Ss3),
            0x1b => {
                keys.push(Key::Esc);
                self.begin(Begun::Escape)
            }
            _ => self.known(None),
        }
    }

    fn csi(&mut self, mut held: Vec<u8>, byte: u8) -> Option<Key> {
        match byte {
            0x40..0x7f => self.known(csi_key(&held, byte)),
            0x20..0x40 if held.len() < SEQUENCE_MAX => {
                held.push(byte);
                self.begin(Begun::Csi(held))
            }
            _ => self.known(None),
        }
    }

    fn utf8(&mut self, mut held: Vec<u8>, length: usize, byte: u8, keys: &mut Vec<Key>) -> Option<Key> {
        if !(0x80..0xc0).contains(&byte) {
            // The character was cut: this byte begins something else.
            self.known(None);
            keys.extend(self.plain(byte));
            return None;
        }
        held.push(byte);
        if held.len() < length {
            return self.begin(Begun::Utf8(held, length));
        }
        let character = std::str::from_utf8(&held).ok().and_then(|text| text.chars().next());
        self.known(character.filter(|c| !c.is_control()).map(Key::Char))
    }
}

const fn cursor_key(byte: u8) -> Option<Key> {
    Some(match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

fn csi_key(held: &[u8], last: u8) -> Option<Key> {
    let text = std::str::from_utf8(held).ok()?;
    match (text, last) {
        (_, b'R') => {
            let (row, column) = text.split_once(';')?;
            Some(Key::Cursor { row: row.parse().ok()?, column: column.parse().ok()? })
        }
        ("", b'Z') => Some(Key::BackTab),
        ("1" | "7", b'~') => Some(Key::Home),
        ("4" | "8", b'~') => Some(Key::End),
        ("5", b'~') => Some(Key::PageUp),
        ("6", b'~') => Some(Key::PageDown),
        ("3", b'~') => Some(Key::Backspace),
        ("", _) => cursor_key(last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Vec<Key> {
        Keys::default().read(bytes, Instant::now())
    }

    #[test]
    fn keys_of_a_vt220_and_of_the_linux_console_are_known() {
        let all = b"a\r\n\n\t\x1b[A\x1bOB\x1b[1~\x1b[6~\x1b[Z\x7f\x0c\xc3\xbc";
        let expected = [
            Key::Char('a'),
            Key::Enter,
            Key::Enter,
            Key::Tab,
            Key::Up,
            Key::Down,
            Key::Home,
            Key::PageDown,
            Key::BackTab,
            Key::Backspace,
            Key::Redraw,
            Key::Char('ü'),
        ];
        assert_eq!(read(all), expected);
        assert_eq!(read(b"\x1b[24;80R"), [Key::Cursor { row: 24, column: 80 }]);
    }

    #[test]
    fn an_escape_that_nothing_follows_is_the_key() {
        let mut keys = Keys::default();
        assert!(keys.read(b"\x1b", Instant::now()).is_empty() && keys.is_waiting());
        assert_eq!(keys.lapse(), Some(Key::Esc));
        assert!(keys.read(b"[A", Instant::now()).len() == 2, "what comes later is no sequence");
    }

    #[test]
    fn a_noisy_line_presses_no_key_until_it_is_quiet() {
        let (mut keys, start) = (Keys::default(), Instant::now());
        assert!(keys.read(b"1\r\xff\xfe\x80\x00y\r", start).is_empty());
        assert!(keys.read(b"\r", start + QUIET / 2).is_empty());
        assert_eq!(keys.read(b"\r", start + QUIET * 2), [Key::Enter]);
    }

    #[test]
    fn a_file_that_is_sent_by_mistake_is_heard_no_longer_than_anybody_types() {
        let (mut keys, start) = (Keys::default(), Instant::now());
        let pressed: usize = (0..1000).map(|_| keys.read(&[b'1'; 64], start).len()).sum();
        assert_eq!(pressed, FLOOD);
        assert_eq!(keys.read(b"1", start + QUIET), [Key::Char('1')]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_keys_and_hold_little(
            bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400,
        ) {
            let now = Instant::now();
            let (mut whole, mut pieces) = (Keys::default(), Keys::default());
            let cut = cut.min(bytes.len());
            let mut read = pieces.read(&bytes[..cut], now);
            read.extend(pieces.read(&bytes[cut..], now));
            let all = whole.read(&bytes, now);
            prop_assert!(whole.is_noisy() || all == read);
            if let Begun::Csi(held) = &whole.begun {
                prop_assert!(held.len() <= SEQUENCE_MAX);
            }
        }
    }

    #[test]
    fn a_megabyte_of_noise_presses_few_keys_and_then_none() {
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let (mut keys, now) = (Keys::default(), Instant::now());
        let pressed: usize = noise.chunks(64).map(|chunk| keys.read(chunk, now).len()).sum();
        assert_eq!(pressed, 0);
        assert_eq!(keys.read(b"\r\r", now + QUIET).last(), Some(&Key::Enter));
    }
}
