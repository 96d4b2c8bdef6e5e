//! What is said while a cluster comes up: facts, one line each with the time since the programs were compiled, and on a
//! terminal one more line that is rewritten while something is under way. Behind a fact there may be commands: how to do the same by hand.
//! Owns the form; decides nothing.

use std::{
    cell::Cell,
    io::{IsTerminal, Write},
    time::Instant,
};
use testbed::ReleaseProgress;

const MIB: f64 = 1024.0 * 1024.0;

/// Cells of the bar.
const BAR_CELLS: u64 = 24;

/// Tells the story on stdout, also of things that go on side by side. A stdout that is gone does not end the cluster.
pub(crate) struct Narrator {
    started: Instant,
    terminal: bool,
    /// Whether the last line is one to be rewritten.
    live: Cell<bool>,
}

impl Narrator {
    /// Time is counted from here.
    pub(crate) fn start() -> Narrator {
        Narrator {
            started: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            live: Cell::new(false),
        }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// A fact, with its time.
    pub(crate) fn fact(&self, text: &str) {
        self.line(&format!("{:>6.1} s  {text}", self.seconds()));
    }

    /// A line, as it is.
    pub(crate) fn line(&self, text: &str) {
        self.clear();
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// A command with which a person does by hand what was told last; on a terminal it stands back.
    pub(crate) fn command(&self, command: &str) {
        let (dim, plain) = if self.terminal { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("          {dim}$ {command}{plain}"));
    }

    /// How far a release is; only on a terminal, and overwritten by whatever comes next.
    pub(crate) fn progress(&self, progress: ReleaseProgress) {
        self.under_way(&describe(progress));
    }

    /// How far a member of a volume is filled; as above.
    pub(crate) fn filling(&self, what: &str, bytes: u64, bytes_total: u64) {
        self.under_way(&format!(
            "filling    {} {}, {what}",
            bar(bytes, bytes_total),
            mib(bytes, bytes_total)
        ));
    }

    fn under_way(&self, text: &str) {
        if !self.terminal {
            return;
        }
        let line = format!("\r\x1b[2K{:>6.1} s  {text}", self.seconds());
        let mut out = std::io::stdout();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        self.live.set(true);
    }

    fn clear(&self) {
        if self.live.take() {
            let _ = write!(std::io::stdout(), "\r\x1b[2K");
        }
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.clear();
        let _ = std::io::stdout().flush();
    }
}

fn describe(progress: ReleaseProgress) -> String {
    match progress {
        ReleaseProgress::Uploading { bytes, bytes_total } => {
            format!("upload     {} {}", bar(bytes, bytes_total), mib(bytes, bytes_total))
        }
        ReleaseProgress::Examining => {
            "upload     done; signatures and every target's bytes are checked".to_owned()
        }
        ReleaseProgress::Replicating { bytes, bytes_total, sleds_complete, sleds } => format!(
            "replicate  {} {}, {sleds_complete}/{sleds} sleds complete",
            bar(bytes, bytes_total),
            mib(bytes, bytes_total)
        ),
    }
}

fn mib(bytes: u64, bytes_total: u64) -> String {
    format!("{:.0}/{:.0} MiB", bytes as f64 / MIB, bytes_total as f64 / MIB)
}

fn bar(done: u64, total: u64) -> String {
    let full = (done.min(total) * BAR_CELLS).checked_div(total).unwrap_or(BAR_CELLS);
    let full = usize::try_from(full).unwrap_or(0);
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR_CELLS as usize - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_full_exactly_at_the_end_and_never_longer() {
        assert_eq!(bar(0, 100), format!("[{}]", ".".repeat(24)));
        assert_eq!(bar(99, 100), format!("[{}.]", "#".repeat(23)));
        for (done, total) in [(100, 100), (200, 100), (0, 0)] {
            assert_eq!(bar(done, total), format!("[{}]", "#".repeat(24)));
        }
    }

    #[test]
    fn progress_says_what_it_counts() {
        let replicating = ReleaseProgress::Replicating {
            bytes: 100 << 20,
            bytes_total: 200 << 20,
            sleds_complete: 1,
            sleds: 4,
        };
        assert!(describe(replicating).ends_with("100/200 MiB, 1/4 sleds complete"));
    }
}
