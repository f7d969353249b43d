//! The words of a line, as a shell would take them apart, without anything else that a shell does: no variables, no
//! patterns, no second command.

/// Words with spaces between; `'…'`, `"…"` and `\\` hold spaces together.
///
/// # Errors
/// A quotation mark has no partner, in words.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (_, Some(end)) if letter == end => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(letters.next()),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    match quote {
        None => Ok(words),
        Some(quote) => Err(format!("a {quote} has no partner")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotation_marks_and_backslashes_hold_words_together() {
        let words = |line| split(line).unwrap_or_default();
        assert_eq!(
            words("  raven tail  --grep 'a  b' \"c\\\"d\" e\\ f '' "),
            ["raven", "tail", "--grep", "a  b", "c\"d", "e f", ""]
        );
        assert_eq!(words(""), [""; 0]);
        assert!(split("tail 'x").is_err_and(|why| why.contains("no partner")));
    }
}
