//! `volume look`: an export's own word on all states; once, or as they change. Owns the loop of the live view.

use super::{
    control::{Which, status},
    view::{Rates, line, page},
};
use camino::Utf8Path;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    error::Error,
    io::{self, IsTerminal, Write},
};
use volume_export::ExportStatus;

/// How often a live view looks.
const INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// From the upper left corner, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) json: bool,
    pub(super) watch: bool,
}

pub(super) fn look(which: &Which, form: Form) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    if form.watch {
        return match watch(&socket, form.json) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            ended => Ok(ended?),
        };
    }
    let status = status(&socket)?;
    if form.json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        say!("{}", page(&status, None).trim_end());
    }
    Ok(())
}

/// Until somebody ends it: an export that is not there now may be in a moment.
fn watch(socket: &Utf8Path, json: bool) -> io::Result<()> {
    let mut out = io::stdout();
    let is_terminal = out.is_terminal() && !json;
    let (mut before, mut said): (Option<Box<ExportStatus>>, String) = (None, String::new());
    loop {
        let status = status(socket).map_err(|error| problem::chain(error.as_ref()));
        let text = match &status {
            Ok(status) if json => serde_json::to_string(status)?,
            Ok(status) if is_terminal => {
                page(status, before.as_ref().and_then(|before| Rates::since(before, status)))
            }
            Ok(status) => line(status),
            Err(error) if json => serde_json::json!({ "error": error }).to_string(),
            Err(error) => error.clone(),
        };
        if is_terminal {
            write!(out, "{CLEAR}{text}")?;
        } else if json || text != said {
            writeln!(out, "{text}")?;
        }
        out.flush()?;
        said = text;
        before = status.ok();
        // What is said next may be a long time off: whoever reads need not wait for that.
        if reader_goes(&out)? {
            return Ok(());
        }
    }
}

/// Waits for as long as there is between two looks; whether whoever reads has gone meanwhile.
fn reader_goes(out: &io::Stdout) -> io::Result<bool> {
    // Of a pipe that nobody reads an error is told, whatever is asked.
    match poll(&mut [PollFd::new(out, PollFlags::empty())], Some(&INTERVAL)) {
        Ok(told) => Ok(told > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
