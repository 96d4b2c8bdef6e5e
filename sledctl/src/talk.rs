//! Standard error: everything that is said besides the data.
//!
//! Nobody may be listening there; that never fails a command.

use crate::render::{Look, Tone, words::printable};
use std::{io, io::Write};

/// Says things on standard error.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    look: Look,
    /// Whether a person sees it, so that a progress bar makes sense.
    pub terminal: bool,
}

impl Talk {
    /// Talk that looks like this.
    #[must_use]
    pub fn new(look: Look, terminal: bool) -> Talk {
        Talk { look, terminal }
    }

    /// Something worth knowing.
    pub fn note(&self, what: &str) {
        self.line(&format!("note: {}", printable(what)));
    }

    /// Something odd that was not refused.
    pub fn warning(&self, what: &str) {
        self.line(&format!("{} {}", self.look.paint(Tone::Busy, "warning:"), printable(what)));
    }

    /// A line of progress.
    pub fn progress(&self, what: &str) {
        self.line(&printable(what));
    }

    /// Lines that are complete as they are.
    pub fn text(&self, text: &str) {
        // Where standard error is closed there is nobody left to tell.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// How it looks.
    #[must_use]
    pub fn look(&self) -> &Look {
        &self.look
    }

    fn line(&self, line: &str) {
        self.text(&format!("{line}\n"));
    }
}
