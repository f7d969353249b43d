//! What was measured, beside what shall be reached.

use serde_json::{Value, json};

/// What shall be reached.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At most so many times the reference.
    RatioAtMost(f64),
    /// At least so many times the reference.
    RatioAtLeast(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// Nothing: shown for comparison.
    None,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// The benchmark.
    pub bench: &'static str,
    /// What was measured.
    pub what: String,
    /// Unit of both figures.
    pub unit: &'static str,
    /// Who the reference is, and its figure.
    pub reference: Option<(String, f64)>,
    /// Raven's figure.
    pub raven: f64,
    /// What shall be reached.
    pub target: Target,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.reference.as_ref().filter(|(_, figure)| *figure > 0.0).map(|(_, figure)| self.raven / figure)
    }

    /// Whether the target is reached; `None` without a target or without its reference.
    fn reached(&self) -> Option<bool> {
        match self.target {
            Target::RatioAtMost(limit) => self.ratio().map(|ratio| ratio <= limit),
            Target::RatioAtLeast(limit) => self.ratio().map(|ratio| ratio >= limit),
            Target::AtLeast(limit) => Some(self.raven >= limit),
            Target::AtMost(limit) => Some(self.raven <= limit),
            Target::None => None,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.reached(), self.target) {
            (Some(true), _) => "PASS",
            (Some(false), _) => "MISS",
            (None, Target::None) => "-",
            (None, _) => "no reference",
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::RatioAtMost(limit) => format!("≤ {limit} ×"),
            Target::RatioAtLeast(limit) => format!("≥ {limit} ×"),
            Target::AtLeast(limit) => format!("≥ {limit}"),
            Target::AtMost(limit) => format!("≤ {limit}"),
            Target::None => "-".to_owned(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let reference =
            self.reference.as_ref().map_or("-".to_owned(), |(who, figure)| format!("{who}: {}", short(*figure)));
        let ratio = self.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2} ×"));
        [
            self.what.clone(),
            self.unit.to_owned(),
            reference,
            short(self.raven),
            ratio,
            self.target_text(),
            self.verdict().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "bench": self.bench,
            "what": self.what,
            "unit": self.unit,
            "reference": self.reference.as_ref().map(|(who, figure)| json!({ "who": who, "value": figure })),
            "raven": self.raven,
            "ratio": self.ratio(),
            "target": self.target_text(),
            "verdict": self.verdict(),
        })
    }
}

/// Three significant digits, with `,` between thousands.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1000.0 => thousands(figure.round() as i64),
        medium if medium >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits")).collect();
    format!("{}{}", if number < 0 { "-" } else { "" }, groups.join(","))
}

/// A table for people (and for Markdown).
pub fn print(rows: &[Row]) {
    let head = ["what", "unit", "reference", "Raven", "ratio", "target", ""].map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    for (n, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        if n == 0 {
            println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
        }
    }
}

/// One array, for programs.
pub fn print_json(rows: &[Row]) {
    println!("{}", Value::Array(rows.iter().map(Row::json).collect()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reference: Option<f64>, raven: f64, target: Target) -> Row {
        let reference = reference.map(|figure| ("rsyslog".to_owned(), figure));
        Row { bench: "b", what: "w".to_owned(), unit: "u", reference, raven, target }
    }

    #[test]
    fn a_ratio_is_held_against_its_target() {
        assert_eq!(row(Some(4.0), 1.6, Target::RatioAtMost(0.5)).verdict(), "PASS");
        assert_eq!(row(Some(4.0), 2.1, Target::RatioAtMost(0.5)).verdict(), "MISS");
        assert_eq!(row(Some(4.0), 3.9, Target::RatioAtLeast(1.0)).verdict(), "MISS");
        assert_eq!(row(None, 40.0, Target::AtMost(40.0)).verdict(), "PASS");
        assert_eq!(row(None, 40.0, Target::AtLeast(41.0)).verdict(), "MISS");
        assert_eq!(row(None, 1.0, Target::RatioAtMost(0.5)).verdict(), "no reference");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([short(1_234_567.4), short(45.67), short(0.456), short(0.0)], ["1,234,567", "45.7", "0.46", "0"]);
    }
}
