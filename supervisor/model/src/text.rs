//! Text that strangers wrote.

/// Characters that must not reach a terminal as they are: controls (C0, DEL, C1), and the invisible ones that turn
/// or hide text (bidirectional marks and overrides, line separators, zero-width, byte order mark).
pub const fn is_unsafe(c: char) -> bool {
    c.is_ascii_control()
        || matches!(c,
            '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
