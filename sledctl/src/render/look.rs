//! How text is to look: width, colour, headers.

use anstyle::{AnsiColor, Style};

/// How text is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns that a line may take; none means as many as it needs.
    pub width: Option<usize>,
    /// Whether words are coloured. A colour only repeats what the word says.
    pub color: bool,
    /// Whether tables have headers and footers.
    pub headers: bool,
    /// Whether everything is shown in full.
    pub wide: bool,
}

/// What a word says about the thing it describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// It is as it should be.
    Good,
    /// It is on its way.
    Busy,
    /// It is not as it should be.
    Bad,
    /// It does not matter much.
    Dim,
}

impl Look {
    /// The text in the colour of its tone.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Busy => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Dim => Style::new().dimmed(),
        };
        if self.color && tone != Tone::Plain { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}
