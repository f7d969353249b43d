//! Levels: Windows's numbers, and the words for them.

/// Windows's own scale: 0 (always logged: audits), 1 (critical) to 5 (verbose). Above stand the providers' own.
const MAX: u8 = 5;

/// As Windows 10 and Server 2019 show them in the languages of the sites; English also as Elastic and NXLog write it.
const WORDS: [(u8, &[&str]); 6] = [
    (0, &["logalways", "log always", "audit_success", "audit_failure"]),
    (1, &["critical", "kritisch", "critique", "crítico", "critico", "重大", "关键", "위험"]),
    (2, &["error", "fehler", "erreur", "errore", "erro", "エラー", "错误", "오류"]),
    (3, &["warning", "warn", "warnung", "avertissement", "advertencia", "avviso", "aviso", "警告", "경고"]),
    (
        4,
        &[
            "information",
            "info",
            "informational",
            "notice",
            "informationen",
            "información",
            "informazioni",
            "informações",
            "情報",
            "信息",
            "정보",
        ],
    ),
    (5, &["verbose", "debug", "trace", "ausführlich", "detallado", "dettagliato", "détaillé", "詳細", "详细"]),
];

/// From a number 0 to 5 or a word.
pub fn of(text: &str) -> Option<u8> {
    let text = text.trim();
    if let Ok(number) = text.parse::<u8>() {
        return (number <= MAX).then_some(number);
    }
    if text.len() > 32 {
        return None;
    }
    let text = text.to_lowercase();
    WORDS.iter().find_map(|(level, words)| words.contains(&&*text).then_some(*level)).or_else(|| of_audit(&text))
}

/// From the type of an entry in the logs of before Vista: a word, or 1, 2, 4, 8, 16.
pub fn of_entry_type(text: &str) -> Option<u8> {
    match text.trim() {
        "1" => Some(2),
        "2" => Some(3),
        "4" | "0" => Some(4),
        "8" | "16" => Some(0),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => None,
        text => of(text),
    }
}

/// From NXLog's `SeverityValue`: 1 (debug) to 5 (critical).
pub fn of_severity(text: &str) -> Option<u8> {
    let severity: u8 = text.trim().parse().ok()?;
    (1..=5).contains(&severity).then(|| 6 - severity)
}

/// `Success Audit`, `SuccessAudit`, `Audit Failure`: what the Security log holds, at level 0.
fn of_audit(text: &str) -> Option<u8> {
    let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    matches!(&*letters, "successaudit" | "failureaudit" | "auditsuccess" | "auditfailure").then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words() {
        for (text, level) in [("0", 0), ("5", 5), (" Error ", 2), ("Warnung", 3), ("情報", 4), ("Audit Success", 0)] {
            assert_eq!(of(text), Some(level), "{text}");
        }
        for text in ["", "6", "-1", "255", "CreateKey", "Informationer and more words that make it too long"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn older_scales() {
        assert_eq!(
            ["1", "2", "4", "8", "16", "3"].map(of_entry_type),
            [Some(2), Some(3), Some(4), Some(0), Some(0), None]
        );
        assert_eq!(["1", "2", "5", "6"].map(of_severity), [Some(5), Some(4), Some(1), None]);
        assert_eq!(of_entry_type("AUDIT_SUCCESS"), Some(0));
    }
}
