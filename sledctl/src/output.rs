//! Standard output: data, and nothing else.
//!
//! A reader that has gone away (`sledctl … | head -1`) has what it wanted: that is no failure, and nothing is said
//! about it. Any other error is one, so that a full disk does not pass for success.

use crate::failure::Failure;
use std::{io, io::Write};

/// Writes text to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    quiet_when_closed(write_all(&mut io::stdout().lock(), text))
}

fn write_all(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Turns "nobody reads any more" into success.
pub fn quiet_when_closed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::Stdout),
    }
}
