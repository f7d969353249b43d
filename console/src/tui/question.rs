//! A question and its answer: what the full screen and the plain dialog have in common.

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// In a few words; names the step.
    pub title: String,
    /// What one should know to answer.
    pub text: Vec<String>,
    /// How it is answered.
    pub kind: Kind,
    /// What was wrong with the last answer.
    pub error: Option<String>,
}

/// How a question is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One of several, by its number.
    Choice {
        /// In order; the first has number 1.
        options: Vec<String>,
        /// The one that Enter takes.
        preferred: usize,
    },
    /// A line of text.
    Line {
        /// What Enter alone takes.
        preset: String,
        /// Not to be shown.
        is_secret: bool,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An option, from 0.
    Option(usize),
    /// A line, without spaces around it.
    Line(String),
    /// Back to the question before.
    Back,
}

impl Question {
    /// A choice of which Enter takes the first.
    pub fn choice(title: &str, text: &[&str], options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::of(title, text, Kind::Choice { options, preferred: 0 })
    }

    /// A line of text.
    pub fn line(title: &str, text: &[&str], preset: &str) -> Self {
        Self::of(title, text, Kind::Line { preset: preset.to_owned(), is_secret: false })
    }

    /// A line that is not shown.
    pub fn secret(title: &str, text: &[&str]) -> Self {
        Self::of(title, text, Kind::Line { preset: String::new(), is_secret: true })
    }

    fn of(title: &str, text: &[&str], kind: Kind) -> Self {
        let text = text.iter().map(|line| (*line).to_owned()).collect();
        Self { title: title.to_owned(), text, kind, error: None }
    }

    /// The same, of which Enter takes another option.
    #[must_use]
    pub fn preferring(mut self, option: usize) -> Self {
        if let Kind::Choice { preferred, .. } = &mut self.kind {
            *preferred = option;
        }
        self
    }

    /// The same, after an answer that was no good.
    #[must_use]
    pub fn with_error(mut self, error: Option<String>) -> Self {
        self.error = error;
        self
    }

    /// What a typed line means; an error says what was expected. `<` goes back, nothing takes what Enter takes.
    ///
    /// # Errors
    /// It is no number of an option.
    pub fn answer(&self, typed: &str) -> Result<Answer, String> {
        let typed = typed.trim();
        match &self.kind {
            _ if typed == "<" => Ok(Answer::Back),
            Kind::Choice { preferred, .. } if typed.is_empty() => Ok(Answer::Option(*preferred)),
            Kind::Choice { options, .. } => {
                let number = typed.parse().ok().filter(|number| (1..=options.len()).contains(number));
                number
                    .map(|number| Answer::Option(number - 1))
                    .ok_or_else(|| format!("`{typed}` is none of these; type a number from 1 to {}", options.len()))
            }
            Kind::Line { preset, .. } if typed.is_empty() => Ok(Answer::Line(preset.clone())),
            Kind::Line { .. } => Ok(Answer::Line(typed.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_number_a_text_or_the_way_back() {
        let choice = Question::choice("which", &[], &["one", "two"]);
        assert_eq!(choice.answer(" 2 "), Ok(Answer::Option(1)));
        assert_eq!(choice.answer(""), Ok(Answer::Option(0)));
        assert_eq!(choice.answer("<"), Ok(Answer::Back));
        assert!(choice.answer("3").is_err_and(|why| why.contains("from 1 to 2")));
        assert!(choice.answer("0").is_err());
        let line = Question::line("name", &[], "raven");
        assert_eq!(line.answer(""), Ok(Answer::Line("raven".to_owned())));
        assert_eq!(line.answer("x y"), Ok(Answer::Line("x y".to_owned())));
    }
}
