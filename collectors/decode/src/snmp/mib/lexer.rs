//! The words of a MIB module (X.208, as RFC 2578, section 3, narrows it).

/// What kind of word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Word,
    /// Digits, perhaps with a minus.
    Number,
    /// Text in quotes, without them.
    Text,
    /// `'1f'h` or `'0101'b`.
    Bits,
    /// `::=`, `..`, or one character.
    Sign,
}

/// One word and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What kind.
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
    /// From 1.
    pub line: u32,
}

/// All words of a text. A comment runs from `--` to the end of its line: that is how people write them.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1_u32);
    while let Some(first) = rest.chars().next() {
        let length = length(rest, first);
        let (word, behind) = rest.split_at(length);
        if let Some((kind, text)) = kind(word, first) {
            tokens.push(Token { kind, text, line });
        }
        line = line.saturating_add(word.bytes().filter(|byte| *byte == b'\n').count() as u32);
        rest = behind;
    }
    tokens
}

/// Bytes of the word, space or comment that starts here; at least one character.
fn length(rest: &str, first: char) -> usize {
    let run = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    let quoted = |quote| rest[1..].find(quote).map_or(rest.len(), |at| at + 2);
    match first {
        _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        '"' => quoted('"'),
        '\'' => quoted('\'') + usize::from(rest[quoted('\'')..].starts_with(['h', 'H', 'b', 'B'])),
        '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1)
        }
        _ if first.is_alphanumeric() => {
            let all = run(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
            // `name--comment` is a name and a comment.
            rest[..all].find("--").unwrap_or(all)
        }
        _ if first.is_whitespace() => run(char::is_whitespace),
        _ if rest.starts_with("::=") => 3,
        _ if rest.starts_with("..") => 2,
        _ => first.len_utf8(),
    }
}

fn kind(word: &str, first: char) -> Option<(Kind, &str)> {
    Some(match first {
        _ if word.starts_with("--") || first.is_whitespace() => return None,
        '"' => (Kind::Text, word[1..].trim_end_matches('"')),
        '\'' => (Kind::Bits, word),
        _ if word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
            && word.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (Kind::Number, word)
        }
        _ if first.is_alphanumeric() => (Kind::Word, word),
        _ => (Kind::Sign, word),
    })
}

#[cfg(test)]
mod tests {
    use super::Kind::{Bits, Number, Sign, Text, Word};
    use super::*;

    #[test]
    fn words_keep_their_lines() {
        let text =
            "foo-Bar ::= { iso 3 } -- a comment -- and more\n\"two\nlines\" 'ff'H -5 (0..9)\n802dot1--x\n\u{fc}\"open";
        let found: Vec<(Kind, &str, u32)> =
            tokens(text).iter().map(|token| (token.kind, token.text, token.line)).collect();
        assert_eq!(
            found,
            [
                (Word, "foo-Bar", 1),
                (Sign, "::=", 1),
                (Sign, "{", 1),
                (Word, "iso", 1),
                (Number, "3", 1),
                (Sign, "}", 1),
                (Text, "two\nlines", 2),
                (Bits, "'ff'H", 3),
                (Number, "-5", 3),
                (Sign, "(", 3),
                (Number, "0", 3),
                (Sign, "..", 3),
                (Number, "9", 3),
                (Sign, ")", 3),
                (Word, "802dot1", 4),
                (Word, "\u{fc}", 5),
                (Text, "open", 5),
            ]
        );
    }
}
